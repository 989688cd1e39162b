import { describe, expect, test } from "vitest";
import type { HookError, PluginHooks } from "../../core/hooks/types.ts";
import { startBroker } from "../support/broker.ts";
import { pair } from "../support/pair.ts";
import { pluginWith, recordingPlugin } from "../support/plugins.ts";
import { type ConnectOptions, connectClient, type Filter } from "../support/raw-client.ts";
import { persistent } from "../support/sessions.ts";

/** Checks M-57 to M-60: SUBSCRIBE, its limits and options. */

const VERSIONS = [3, 4, 5] as const;

describe("M-57 granted and refused", () => {
  test.each(VERSIONS)("M-57 v%i QoS 0/1/2 → SUBACK 0/1/2", async (version) => {
    const { broker, s } = await pair(version);
    for (const qos of [0, 1, 2]) expect(await s.subscribed(`a/${qos}`, { qos })).toEqual([qos]);
    const filters = [2, 0, 1].map((qos) => ({ filter: `b/${qos}`, qos }));
    expect(await s.subscribed(filters)).toEqual([2, 0, 1]);
    const own = broker.sessions().find((session) => session.client_id === "s");
    expect(own?.subscriptions).toHaveLength(6);
    expect(own?.subscriptions).toContainEqual({ topic: "b/2", qos: 2 });
  });

  const THREE: Filter[] = [
    { filter: "a", qos: 0 },
    { filter: "b", qos: 1 },
    { filter: "c", qos: 2 },
  ];

  test.each([
    { version: 3 as const, codes: [0, 0x80, 2] },
    { version: 4 as const, codes: [0, 0x80, 2] },
    { version: 5 as const, codes: [0, 0x87, 2] },
  ])("M-57 v$version hook refuses the second of three → $codes", async ({ version, codes }) => {
    const recorder = recordingPlugin();
    const answer = [
      { topic: "a", qos: 0 },
      { topic: "b", qos: "not_allowed" as const },
      { topic: "c", qos: 2 },
    ];
    const broker = await startBroker({}, [
      recorder.plugin,
      pluginWith({
        auth_on_subscribe: () => ({ ok: answer }),
        auth_on_subscribe_m5: () => ({ ok: { topics: answer } }),
      }),
    ]);
    const s = await connectClient(broker, version, { clientId: "s" });
    expect(await s.subscribed(THREE)).toEqual(codes);
    // The hook was asked once, for all, in packet order; the event names what was stored.
    const asked = recorder.of(version === 5 ? "auth_on_subscribe_m5" : "auth_on_subscribe");
    expect(asked.map(({ topics }) => topics.map((one) => one.topic))).toEqual([["a", "b", "c"]]);
    const told = await recorder.wait(version === 5 ? "on_subscribe_m5" : "on_subscribe");
    expect(told.topics.map(({ topic, qos }) => ({ topic, qos }))).toEqual([
      { topic: "a", qos: 0 },
      { topic: "c", qos: 2 },
    ]);
    const p = await connectClient(broker, 4);
    for (const topic of ["a", "b", "c"]) await p.published({ topic, qos: 2 });
    await s.delivered({ topic: "a", qos: 0 });
    await s.delivered({ topic: "c", qos: 2 });
    await s.expectNothing();
  });

  const REFUSALS: { error: HookError; v5: number }[] = [
    { error: "not_authorized", v5: 0x87 },
    { error: "client_identifier_not_valid", v5: 0x85 },
    { error: "unspecified_error", v5: 0x80 },
    { error: "quota_exceeded", v5: 0x97 },
    { error: "whatever", v5: 0x87 },
    { error: 0x97, v5: 0x97 },
  ];

  test.each(REFUSALS)("M-57 hook refuses all with $error → three 0x80, v5 $v5", async (row) => {
    const refuse = () => ({ error: row.error });
    const broker = await startBroker({}, [
      pluginWith({ auth_on_subscribe: refuse, auth_on_subscribe_m5: refuse }),
    ]);
    for (const version of VERSIONS) {
      const s = await connectClient(broker, version, { clientId: `s${version}` });
      const code = version === 5 ? row.v5 : 0x80;
      expect(await s.subscribed(THREE)).toEqual([code, code, code]);
      await s.expectNothing();
    }
    expect(broker.sessions().every((one) => one.subscriptions.length === 0)).toBe(true);
  });

  test("M-57 the hook may change filter and QoS; numbers above 2 are refusals", async () => {
    const rewrite: PluginHooks = {
      auth_on_subscribe: () => ({
        ok: [
          { topic: "new", qos: 0 },
          { topic: "b", qos: 128 },
        ],
      }),
      auth_on_subscribe_m5: () => ({
        ok: {
          topics: [
            { topic: "new", qos: 0 },
            { topic: "b", qos: 0x97 },
          ],
        },
      }),
    };
    const broker = await startBroker({}, [pluginWith(rewrite)]);
    const p = await connectClient(broker, 4);
    for (const version of [4, 5] as const) {
      const s = await connectClient(broker, version, { clientId: `s${version}` });
      const codes = await s.subscribed(["old", "b"], { qos: 2 });
      expect(codes).toEqual([0, version === 5 ? 0x97 : 0x80]);
      await p.published({ topic: "old", qos: 2 });
      await p.published({ topic: "new", qos: 2 });
      await s.delivered({ topic: "new", qos: 0 });
      await s.expectNothing();
    }
  });
});

describe("M-58 max_subscriptions_per_client", () => {
  test.each([
    { version: 4 as const, full: 0x80 },
    { version: 5 as const, full: 0x97 },
  ])("M-58 v$version [W] limit 2, three filters → the last is refused", async (row) => {
    const { s } = await pair(row.version, { max_subscriptions_per_client: "2" });
    const three = ["a", "b", "c"].map((filter, qos) => ({ filter, qos }));
    expect(await s.subscribed(three)).toEqual([0, 1, row.full]);
    // Replacing a stored one is always allowed.
    expect(await s.subscribed("a", { qos: 2 })).toEqual([2]);
    expect(await s.subscribed("d")).toEqual([row.full]);
    await s.unsubscribed("b");
    expect(await s.subscribed("d")).toEqual([0]);
  });

  test("M-58 v5 limit 1, two filters → [0, 0x97]", async () => {
    const { s } = await pair(5, { max_subscriptions_per_client: "1" });
    expect(await s.subscribed(["a", "b"])).toEqual([0, 0x97]);
  });

  test("M-58 filters repeated in one packet count once", async () => {
    const { s } = await pair(4, { max_subscriptions_per_client: "2" });
    expect(await s.subscribed(["a", "a", "a", "b"], { qos: 1 })).toEqual([1, 1, 1, 1]);
  });

  test("M-58 [W] five new filters with limit 3 → the first three are kept", async () => {
    for (const version of [4, 5] as const) {
      const { s } = await pair(version, { max_subscriptions_per_client: "3" });
      const full = version === 5 ? 0x97 : 0x80;
      const codes = await s.subscribed(["a", "b", "c", "d", "e"], { qos: 1 });
      expect(codes).toEqual([1, 1, 1, full, full]);
    }
  });
});

describe("M-59 subscribing again", () => {
  test.each(VERSIONS)("M-59 v%i the newer QoS counts, one copy", async (version) => {
    const { s, p } = await pair(version);
    await s.subscribed("a", { qos: 0 });
    await p.published({ topic: "a", payload: "1", qos: 1 });
    await s.delivered({ payload: "1", qos: 0 });
    await s.subscribed("a", { qos: 1 });
    await p.published({ topic: "a", payload: "2", qos: 1 });
    await s.delivered({ payload: "2", qos: 1 });
    await s.expectNothing();
  });

  test("M-59 [W] the same filter twice in one packet: the last one wins", async () => {
    const { s, p } = await pair(4);
    const twice = [
      { filter: "a", qos: 2 },
      { filter: "a", qos: 0 },
    ];
    expect(await s.subscribed(twice)).toEqual([2, 0]);
    await p.published({ topic: "a", qos: 2 });
    await s.delivered({ qos: 0 });
    await s.expectNothing();
  });

  test("M-59 v5 subscribing again replaces options and identifier", async () => {
    const { s, p } = await pair(5);
    await s.subscribed([{ filter: "a", retainAsPublished: true }], {
      properties: { subscriptionIdentifiers: [1] },
    });
    await s.subscribed([{ filter: "a", retainAsPublished: false, retainHandling: 2 }]);
    await p.published({ topic: "a", retain: true });
    await s.delivered({ retain: false, exactProperties: {} });
    await s.expectNothing();
  });

  test.each([
    { published: 0, granted: 2, delivered: 0 },
    { published: 1, granted: 2, delivered: 1 },
    { published: 2, granted: 1, delivered: 1 },
    { published: 2, granted: 0, delivered: 0 },
    { published: 2, granted: 2, delivered: 2 },
  ])("M-59 published $published, granted $granted → delivered $delivered", async (row) => {
    const { s, p } = await pair(4);
    await s.subscribed("a", { qos: row.granted });
    await p.published({ topic: "a", qos: row.published });
    await s.delivered({ qos: row.delivered });
  });
});

describe("M-60 No Local and bridges", () => {
  test("M-60 No Local 1 → own message not received; 0 → received", async () => {
    const { s, p } = await pair(5);
    await s.subscribed([{ filter: "a", noLocal: true }, { filter: "b" }]);
    for (const topic of ["a", "b"]) await s.publish({ topic, payload: "own" });
    await s.delivered({ topic: "b", payload: "own" });
    await p.published({ topic: "a", payload: "other's" });
    await s.delivered({ topic: "a", payload: "other's" });
    await s.expectNothing();
  });

  test("M-60 No Local is about the client id, also over a reconnect", async () => {
    const { broker } = await pair(5);
    const first = await connectClient(broker, 5, persistent(5, "x"));
    await first.subscribed([{ filter: "a", noLocal: true, qos: 1 }]);
    await first.published({ topic: "a", qos: 1 });
    await first.disconnected();
    const second = await connectClient(broker, 5, persistent(5, "x"));
    await second.published({ topic: "a", qos: 1 });
    await second.expectNothing();
  });

  test("M-60 [W] No Local on a shared subscription → DISCONNECT 0x82", async () => {
    const { s } = await pair(5);
    s.subscribe([{ filter: "$share/g/a", noLocal: true }]);
    await s.ended(0x82);
  });

  test.each([
    { level: 131, version: 3 as const, protocolName: "MQIsdp" },
    { level: 131, version: 3 as const, protocolName: "MQTT" },
    { level: 132, version: 4 as const, protocolName: "MQTT" },
  ])("M-60 $protocolName level $level: No Local and Retain As Published", async (row) => {
    const { version, ...bridge } = row;
    const broker = await startBroker({
      "listener.tcp.default.allowed_protocol_versions": "3,4,5,131,132",
    });
    const options: ConnectOptions = { clientId: "bridge", ...bridge };
    const b = await connectClient(broker, version, options);
    await b.subscribed("a", { qos: 1 });
    await b.published({ topic: "a", payload: "own", qos: 1 });
    const p = await connectClient(broker, 4);
    await p.published({ topic: "a", payload: "kept", qos: 1, retain: true });
    await p.published({ topic: "a", payload: "live", qos: 1 });
    await b.delivered({ payload: "kept", retain: true });
    await b.delivered({ payload: "live", retain: false });
    await b.expectNothing();
  });
});
