import { describe, expect, test } from "vitest";
import type { PluginHooks } from "../../core/hooks/types.ts";
import { startBroker } from "../support/broker.ts";
import { pair } from "../support/pair.ts";
import { pluginWith, recordingPlugin } from "../support/plugins.ts";
import { connectClient, type RawClient } from "../support/raw-client.ts";
import { payloads } from "../support/series.ts";
import { persistent } from "../support/sessions.ts";

/** Checks M-61 to M-65: subscription identifiers, filters and what they match. */

const VERSIONS = [3, 4, 5] as const;

describe("M-61 subscription identifiers", () => {
  function withId(s: RawClient, filters: string[], id: number, qos = 1): Promise<number[]> {
    return s.subscribed(filters, { qos, properties: { subscriptionIdentifiers: [id] } });
  }

  test("M-61 overlapping filters with ids 5 and 6 → two copies, one with each", async () => {
    const { s, p } = await pair(5);
    await withId(s, ["a/#"], 5);
    await withId(s, ["a/+"], 6);
    await p.published({ topic: "a/b", qos: 1 });
    const got = await s.receive(2);
    const ids = got.map((one) => one.properties?.subscriptionIdentifiers);
    expect(ids.sort()).toEqual([[5], [6]]);
    await s.expectNothing();
  });

  test("M-61 two filters with the same id 7 → two copies with 7", async () => {
    const { s, p } = await pair(5);
    await withId(s, ["a/#", "a/+"], 7);
    await p.published({ topic: "a/b", qos: 1 });
    for (const one of await s.receive(2)) {
      expect(one.properties?.subscriptionIdentifiers).toEqual([7]);
    }
    await s.expectNothing();
  });

  test("M-61 each copy has the QoS of its filter", async () => {
    const { s, p } = await pair(5);
    await withId(s, ["a/#"], 1, 0);
    await withId(s, ["a/+"], 2, 1);
    await withId(s, ["a/b"], 3, 2);
    await p.published({ topic: "a/b", qos: 2 });
    const got = await s.receive(3);
    const found = got.map((one) => [one.properties?.subscriptionIdentifiers?.[0], one.qos]);
    expect(found.sort()).toEqual([
      [1, 0],
      [2, 1],
      [3, 2],
    ]);
  });

  test("M-61 shared filter id 9 → 9", async () => {
    const { s, p } = await pair(5);
    await withId(s, ["$share/g/a"], 9);
    await p.published({ topic: "a", qos: 1 });
    await s.delivered({ properties: { subscriptionIdentifiers: [9] } });
    await s.expectNothing();
  });

  test("M-61 retained messages carry it, the largest identifier is 268435455", async () => {
    const { s, p } = await pair(5);
    await p.published({ topic: "a", payload: "x", qos: 1, retain: true });
    await withId(s, ["a"], 268_435_455);
    await s.delivered({ retain: true, properties: { subscriptionIdentifiers: [268_435_455] } });
  });

  test("M-61 [W] after storage every client sees its own identifier", async () => {
    const { broker, p } = await pair(5);
    for (const [name, id] of [
      ["one", 11],
      ["two", 22],
      ["none", 0],
    ] as const) {
      const s = await connectClient(broker, 5, persistent(5, name));
      if (id === 0) await s.subscribed("a", { qos: 1 });
      else await withId(s, ["a"], id);
      await s.disconnected();
    }
    await p.published({ topic: "a", qos: 1 });
    for (const [name, ids] of [
      ["one", [11]],
      ["two", [22]],
      ["none", undefined],
    ] as const) {
      const s = await connectClient(broker, 5, persistent(5, name));
      const got = await s.delivered({ topic: "a" });
      expect(got.properties?.subscriptionIdentifiers).toEqual(ids);
    }
  });

  test.each([
    { what: "[W] identifier 0", ids: [0] },
    { what: "[W] two identifiers", ids: [1, 2] },
  ])("M-61 $what → DISCONNECT 0x82", async ({ ids }) => {
    const { s } = await pair(5);
    s.subscribe("a", { properties: { subscriptionIdentifiers: ids } });
    await s.ended(0x82);
  });
});

describe("M-62 invalid filters, unknown filters", () => {
  const INVALID = ["a/#b", "a+/c", "+a", "#/a", "a/#/b", "a/+b/c"];

  test.each(INVALID)("M-62 filter %s: v3/4 closed, v5 DISCONNECT 0x8F", async (filter) => {
    for (const version of VERSIONS) {
      for (const request of ["subscribe", "unsubscribe"] as const) {
        const { s } = await pair(version);
        s[request](filter);
        await s.ended(0x8f);
      }
    }
  });

  test.each(["$share//a", "$share/+/a", "$share/#/a", "$share/g+/a", "$share/g/", "$share/g/a/#b"])(
    "M-62 [W] shared filter %s → 0x8F",
    async (filter) => {
      for (const version of [4, 5] as const) {
        const { s } = await pair(version);
        s.subscribe(filter);
        await s.ended(0x8f);
      }
    },
  );

  test("M-62 one invalid filter: nothing of the packet is subscribed", async () => {
    const { broker } = await pair(4);
    const s = await connectClient(broker, 4, persistent(4, "x"));
    s.subscribe(["good", "bad#"]);
    await s.closed();
    const found = broker.sessions().find((one) => one.client_id === "x");
    expect(found?.subscriptions).toEqual([]);
  });

  test("M-62 UNSUBSCRIBE of an unknown filter → UNSUBACK, [W] v5 0x11", async () => {
    for (const version of VERSIONS) {
      const { s, p } = await pair(version);
      await s.subscribed("a");
      const unsuback = await s.unsubscribed(["a", "unknown"]);
      expect(unsuback.codes).toEqual(version === 5 ? [0, 0x11] : undefined);
      await p.published({ topic: "a" });
      await s.expectNothing();
    }
  });

  test("M-62 UNSUBSCRIBE compares character by character, it does not match", async () => {
    const { s, p } = await pair(5);
    await s.subscribed("a/b");
    expect((await s.unsubscribed("a/+")).codes).toEqual([0x11]);
    expect((await s.unsubscribed("A/b")).codes).toEqual([0x11]);
    await p.published({ topic: "a/b" });
    await s.delivered({ topic: "a/b" });
  });

  test("M-62 UNSUBSCRIBE of a shared filter uses its full text", async () => {
    const { s, p } = await pair(5);
    await s.subscribed("$share/g/a");
    expect((await s.unsubscribed("a")).codes).toEqual([0x11]);
    await p.published({ topic: "a" });
    await s.delivered({ topic: "a" });
    expect((await s.unsubscribed("$share/g/a")).codes).toEqual([0]);
    await p.published({ topic: "a" });
    await s.expectNothing();
  });
});

describe("M-63 properties of SUBACK and UNSUBACK", () => {
  const PROPERTIES = {
    p_reason_string: "as you like",
    p_user_property: [
      { key: "k", val: "1" },
      { key: "k", val: "2" },
    ],
  };
  const ON_WIRE = {
    reasonString: "as you like",
    userProperties: [
      ["k", "1"],
      ["k", "2"],
    ] as [string, string][],
  };
  const hooks: PluginHooks = {
    auth_on_subscribe_m5: ({ topics }) => ({ ok: { topics, properties: PROPERTIES } }),
    on_unsubscribe_m5: ({ topics }) => ({ ok: { topics, properties: PROPERTIES } }),
  };

  test("M-63 Reason String and User Property of the hooks appear", async () => {
    const broker = await startBroker({}, [pluginWith(hooks)]);
    const s = await connectClient(broker, 5);
    const sent = s.subscribe("a", { qos: 1 });
    await s.expect("suback", { packetId: sent, codes: [1], exactProperties: ON_WIRE });
    const again = s.unsubscribe("a");
    await s.expect("unsuback", { packetId: again, codes: [0], exactProperties: ON_WIRE });
  });

  test("M-63 a client with Request Problem Information 0 gets them not", async () => {
    const broker = await startBroker({}, [
      pluginWith({
        auth_on_subscribe_m5: () => ({
          ok: { topics: [{ topic: "a", qos: 0x87 }], properties: PROPERTIES },
        }),
      }),
    ]);
    const s = await connectClient(broker, 5, { properties: { requestProblemInformation: false } });
    const packetId = s.subscribe("a");
    await s.expect("suback", { packetId, codes: [0x87], exactProperties: {} });
  });

  test("M-63 on_unsubscribe may rewrite the topics; an error changes nothing", async () => {
    for (const version of [4, 5] as const) {
      const recorder = recordingPlugin();
      const broker = await startBroker({}, [
        recorder.plugin,
        pluginWith({
          on_unsubscribe: ({ topics }) =>
            topics[0] === "alias" ? { ok: ["real"] } : { error: "no" },
          on_unsubscribe_m5: ({ topics }) =>
            topics[0] === "alias" ? { ok: { topics: ["real"] } } : { error: "no" },
        }),
      ]);
      const s = await connectClient(broker, version, { clientId: "s" });
      await s.subscribed(["real", "other"]);
      for (const filter of ["alias", "other"]) {
        const unsuback = await s.unsubscribed(filter);
        expect(unsuback.codes).toEqual(version === 5 ? [0] : undefined);
      }
      const p = await connectClient(broker, 4);
      for (const topic of ["real", "other"]) await p.published({ topic });
      await s.expectNothing();
      expect(recorder.of("on_topic_unsubscribed").map((one) => one.topics)).toEqual([
        ["real"],
        ["other"],
      ]);
    }
  });
});

describe("M-64 matching", () => {
  const TEN = "one/two/three/four/five/six/seven/eight/nine/test";
  const MATCHES: [filter: string, topic: string][] = [
    ["#", "test/topic"],
    ["#", "/test/topic"],
    ["foo/#", "foo"],
    ["foo/#", "foo/bar/baz"],
    ["foo/#", "foo/"],
    ["foo/+/baz", "foo//baz"],
    ["foo/+/baz/#", "foo/bar/baz"],
    ["foo/+/baz/#", "foo/bar/baz/bar"],
    [`${"+/".repeat(9)}test`, TEN],
    ["test/topic/+", "test/topic/"],
    ["/#", "////foo///bar"],
    ["#", "foo/bar/baz"],
    ["/#", "/foo"],
    ["+/+", "/finance"],
    ["/+", "/finance"],
    ["+", "finance"],
    ["+/", "finance/"],
    ["sport/tennis/+", "sport/tennis/player1"],
    ["finance", "finance"],
    ["a b/ä€😀", "a b/ä€😀"],
    ["$SYSTEM/#", "$SYSTEM"],
  ];
  const MISSES: [filter: string, topic: string][] = [
    ["foo/+", "foo/bar/baz"],
    ["foo/+/baz", "foo/bar/bar"],
    ["foo/+/#", "fo2/bar/baz"],
    ["/#", "foo/bar/baz"],
    ["+", "/finance"],
    ["+", "finance/"],
    ["finance", "/finance"],
    ["finance", "finance/"],
    ["finance", "Finance"],
    ["foo/#", "foobar"],
    ["sport/+", "sport"],
    ["test/topic", "test/topic/"],
    ["\u00e9", "e\u0301"],
  ];

  const live = MATCHES.filter(([, topic]) => !topic.startsWith("$"));

  test.each(live)("M-64 %s matches %s, live and retained", async (filter, topic) => {
    const { broker, s, p } = await pair(5);
    await s.subscribed(filter);
    await p.published({ topic, payload: "x", retain: true });
    await s.delivered({ topic, payload: "x" });
    const late = await connectClient(broker, 4);
    await late.subscribed(filter);
    await late.delivered({ topic, payload: "x", retain: true });
  });

  test.each(MISSES)("M-64 %s does not match %s, live or retained", async (filter, topic) => {
    const { broker, s, p } = await pair(5);
    await s.subscribed(filter);
    await p.published({ topic, payload: "x", retain: true });
    await s.expectNothing();
    const late = await connectClient(broker, 4);
    await late.subscribed(filter);
    await late.expectNothing();
  });

  test("M-64 # and +/x do not match $SYS/x, [W] also not for retained", async () => {
    // Clients cannot publish there, plugins can.
    const toSys: PluginHooks = {
      auth_on_publish: ({ topic }) => (topic === "x" ? { ok: { topic: "$SYS/x" } } : "next"),
    };
    const broker = await startBroker({}, [pluginWith(toSys)]);
    const p = await connectClient(broker, 4);
    await p.published({ topic: "x", payload: "kept", retain: true });
    expect(broker.retained().map((one) => one.topic)).toEqual(["$SYS/x"]);
    const wide = await connectClient(broker, 4);
    await wide.subscribed(["#", "+/#", "+/x", "$share/g/#", "$share/h/+/x"]);
    const sys = await connectClient(broker, 4);
    for (const filter of ["$SYS/#", "$SYS/x", "$SYS/+"]) {
      await sys.subscribed(filter);
      await sys.delivered({ topic: "$SYS/x", payload: "kept", retain: true });
    }
    await p.published({ topic: "x", payload: "live" });
    expect(payloads(await sys.receive(3))).toEqual(["live", "live", "live"]);
    await wide.expectNothing();
  });

  test("M-64 a client cannot publish to $SYS", async () => {
    const { s, p } = await pair(4);
    await s.subscribed(["$SYS/#", "#"]);
    await p.published({ topic: "$SYS/fake", qos: 1, retain: true });
    await s.expectNothing();
  });
});

describe("M-65 topic_max_depth", () => {
  const DEPTH = 4;
  const settings = { topic_max_depth: String(DEPTH) };
  const deep = Array.from({ length: DEPTH + 1 }, (_, i) => `l${i}`).join("/");
  const allowed = deep.slice(3);

  test.each(VERSIONS)(
    "M-65 v%i PUBLISH one level deeper → disconnected, v5 0x90",
    async (version) => {
      const { s, p } = await pair(version, settings);
      await s.subscribed("#");
      await p.published({ topic: allowed });
      await s.delivered({ topic: allowed });
      p.publish({ topic: deep });
      await p.ended(0x90);
      await s.expectNothing();
    },
  );

  test.each(VERSIONS)(
    "M-65 v%i SUBSCRIBE one level deeper → disconnected, v5 0x8F",
    async (version) => {
      const { s } = await pair(version, settings);
      expect(await s.subscribed([allowed, "+/+/+/#"])).toEqual([0, 0]);
      s.subscribe(deep);
      await s.ended(0x8f);
    },
  );

  test("M-65 empty levels count", async () => {
    const { p } = await pair(5, settings);
    await p.published({ topic: "///" });
    p.publish({ topic: "////" });
    await p.ended(0x90);
  });

  test("M-65 [W] $share and the group do not count", async () => {
    const { s } = await pair(5, settings);
    expect(await s.subscribed(`$share/group/${allowed}`)).toEqual([0]);
    s.subscribe(`$share/group/${deep}`);
    await s.ended(0x8f);
  });

  test("M-65 the default allows ten levels", async () => {
    const { p } = await pair(5);
    const ten = Array.from({ length: 10 }, () => "l").join("/");
    await p.published({ topic: ten });
    p.publish({ topic: `${ten}/l` });
    await p.ended(0x90);
  });
});
