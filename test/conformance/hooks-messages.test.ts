import { describe, expect, test } from "vitest";
import type { HookError, Plugin, PluginHooks } from "../../core/hooks/types.ts";
import { startBroker, waitOffline } from "../support/broker.ts";
import { pluginWith, recordingPlugin } from "../support/plugins.ts";
import { connectClient, openClient, type Version } from "../support/raw-client.ts";
import { persistent } from "../support/sessions.ts";

/** Checks of PUBLISH, SUBSCRIBE, delivery and the events of a session (H-17 … H-33, H-46). */

const BARE = { acceptAll: false };
const ABC = [
  { filter: "a", qos: 0 },
  { filter: "b", qos: 1 },
  { filter: "c", qos: 2 },
];

/** A plugin that answers a 3.x hook and its MQTT 5 form alike. */
function both(hook: "auth_on_publish" | "on_deliver", answer: (args: never) => unknown): Plugin {
  return pluginWith({ [hook]: answer, [`${hook}_m5`]: answer } as PluginHooks);
}

describe("SUBSCRIBE", () => {
  test("H-17 a list of three with one refusal: only the others are subscribed and told", async () => {
    const recorder = recordingPlugin();
    const list = [
      { topic: "a", qos: 0 },
      { topic: "b", qos: "not_allowed" },
      { topic: "c", qos: 2 },
    ];
    const broker = await startBroker({}, [
      recorder.plugin,
      pluginWith({ auth_on_subscribe: () => ({ ok: list }) }),
    ]);
    const client = await connectClient(broker, 4, { clientId: "c" });
    // Packet order; that Lua scripts and webhooks see and answer the reverse is theirs to do.
    expect(await client.subscribed(ABC)).toEqual([0, 0x80, 2]);
    expect((await recorder.wait("on_subscribe")).topics).toEqual([
      { topic: "a", qos: 0 },
      { topic: "c", qos: 2 },
    ]);
    expect(broker.sessions()[0]?.subscriptions.map(({ topic }) => topic)).toEqual(["a", "c"]);
  });

  test("H-18 an error refuses all", async () => {
    const broker = await startBroker({}, [
      pluginWith({ auth_on_subscribe: () => ({ error: "not_allowed" }) }),
    ]);
    const client = await connectClient(broker, 4);
    expect(await client.subscribed(ABC)).toEqual([0x80, 0x80, 0x80]);
  });

  test.each([4, 5] as const)(
    "H-19 v%i a rewritten filter: delivered from there, found again by UNSUBSCRIBE",
    async (version) => {
      const ok = [{ topic: "sub/rewrite/topic", qos: 0 }];
      const broker = await startBroker({}, [
        pluginWith({
          auth_on_subscribe: () => ({ ok }),
          auth_on_subscribe_m5: () => ({ ok: { topics: ok } }),
        }),
      ]);
      const client = await connectClient(broker, version, { clientId: "c" });
      expect(await client.subscribed("sub/rewrite/me", { qos: 1 })).toEqual([0]);
      const publisher = await connectClient(broker, 4);
      await publisher.published({ topic: "sub/rewrite/topic", payload: "x", qos: 1 });
      await client.delivered({ topic: "sub/rewrite/topic", payload: "x", qos: 0 });
      await client.unsubscribed("sub/rewrite/me");
      await publisher.published({ topic: "sub/rewrite/topic" });
      await client.expectNothing();
      expect(broker.sessions()[0]?.subscriptions).toEqual([]);
    },
  );

  test("H-20 v5 reason numbers and names in place", async () => {
    const topics = [
      { topic: "r", qos: 1 },
      { topic: "f", qos: 135 },
      { topic: "g", qos: "quota_exceeded" },
    ];
    const broker = await startBroker({}, [
      pluginWith({ auth_on_subscribe_m5: () => ({ ok: { topics } }) }),
    ]);
    const client = await connectClient(broker, 5);
    expect(await client.subscribed(["r", "f", "g"], { qos: 2 })).toEqual([1, 0x87, 0x97]);
  });

  test("H-21 v5 quota_exceeded for all, anything else 0x87 for all", async () => {
    const errors: HookError[] = ["quota_exceeded", "whatever"];
    const broker = await startBroker({}, [
      pluginWith({ auth_on_subscribe_m5: () => ({ error: errors.shift() as HookError }) }),
    ]);
    const client = await connectClient(broker, 5);
    expect(await client.subscribed(["a", "b"])).toEqual([0x97, 0x97]);
    expect(await client.subscribed(["a", "b"])).toEqual([0x87, 0x87]);
  });

  test("an empty list subscribes nothing; a short one refuses the rest [MQTT-3.9.3-1]", async () => {
    const lists = [[], [{ topic: "a", qos: 1 }]];
    const broker = await startBroker({}, [
      pluginWith({ auth_on_subscribe: () => ({ ok: lists.shift() ?? [] }) }),
    ]);
    const client = await connectClient(broker, 4);
    expect(await client.subscribed(ABC)).toEqual([0x80, 0x80, 0x80]);
    expect(await client.subscribed(ABC)).toEqual([1, 0x80, 0x80]);
    expect(broker.sessions()[0]?.subscriptions).toEqual([{ topic: "a", qos: 1 }]);
  });

  test("a longer list subscribes more; SUBACK has the codes of the request [MQTT-3.9.3-1]", async () => {
    const ok = ["a", "more/#"].map((topic) => ({ topic, qos: 1 }));
    const broker = await startBroker({}, [pluginWith({ auth_on_subscribe: () => ({ ok }) })]);
    const client = await connectClient(broker, 4);
    expect(await client.subscribed("a")).toEqual([1]);
    client.publish({ topic: "more/x", payload: "p" });
    await client.delivered({ topic: "more/x", payload: "p" });
  });

  test("options of an entry take effect; what it leaves out stays as requested", async () => {
    const broker = await startBroker({}, [
      pluginWith({
        auth_on_subscribe_m5: ({ topics }) => ({
          ok: {
            topics: topics.map(({ topic }) =>
              topic === "set"
                ? { topic, qos: 0, no_local: true, rap: true, sub_id: 7 }
                : { topic, qos: 0 },
            ),
          },
        }),
      }),
    ]);
    const client = await connectClient(broker, 5, { clientId: "c" });
    await client.subscribed([{ filter: "set" }, { filter: "own", noLocal: true }], {
      properties: { subscriptionIdentifiers: [3] },
    });
    for (const topic of ["set", "own"]) await client.published({ topic });
    await client.expectNothing();
    const other = await connectClient(broker, 5);
    await other.published({ topic: "set", retain: true });
    await client.delivered({ retain: true, properties: { subscriptionIdentifiers: [7] } });
    await other.published({ topic: "own", retain: true });
    await client.delivered({ retain: false, properties: { subscriptionIdentifiers: [3] } });
  });

  test("H-29 on_unsubscribe cannot refuse", async () => {
    const broker = await startBroker({}, [pluginWith({ on_unsubscribe: () => ({ error: "x" }) })]);
    for (const version of [4, 5] as const) {
      const client = await connectClient(broker, version, { clientId: `c${version}` });
      await client.subscribed("a");
      const unsuback = await client.unsubscribed("a");
      expect(unsuback.codes).toEqual(version === 5 ? [0] : undefined);
      await client.published({ topic: "a" });
      await client.expectNothing();
    }
  });
});

describe("PUBLISH", () => {
  const deny = both("auth_on_publish", () => ({ error: "not_authorized" }));

  test("H-22 refused: 3.1.1 is closed, 3.1 is answered as if accepted unless told to close", async () => {
    const broker = await startBroker({}, [deny]);
    for (const qos of [0, 1, 2]) {
      const client = await connectClient(broker, 4);
      client.publish({ topic: "a", qos });
      await client.closed();
    }
    const reader = await connectClient(broker, 4);
    await reader.subscribed("a");
    const old = await connectClient(broker, 3, { clientId: "old" });
    await old.published({ topic: "a", qos: 1 });
    await reader.expectNothing();
    const strict = await startBroker({ disconnect_on_unauthorized_publish_v3: "on" }, [deny]);
    const closed = await connectClient(strict, 3, { clientId: "old" });
    closed.publish({ topic: "a", qos: 1 });
    await closed.closed();
  });

  test("H-23 v5 a reason by name and by number, with text; the session lives on", async () => {
    const reasons: HookError[] = [
      { reason_code: "topic_name_invalid", reason_string: "Invalid topic name" },
      { reason_code: 0x90, reason_string: "Invalid topic name" },
    ];
    const broker = await startBroker({}, [
      pluginWith({ auth_on_publish_m5: () => ({ error: reasons.shift() ?? "no" }) }),
    ]);
    const client = await connectClient(broker, 5);
    for (let i = 0; i < 2; i++) {
      const packetId = client.publish({ topic: "a", qos: 1 });
      const exactProperties = { reasonString: "Invalid topic name" };
      await client.expect("puback", { packetId, code: 0x90, exactProperties });
    }
    await client.ping();
  });

  test("a reason code that PUBACK may not carry becomes 0x87 [MQTT-3.4.2-1]", async () => {
    const broker = await startBroker({}, [
      pluginWith({ auth_on_publish_m5: () => ({ error: { reason_code: "banned" } }) }),
    ]);
    const client = await connectClient(broker, 5);
    const packetId = client.publish({ topic: "a", qos: 1 });
    await client.expect("puback", { packetId, code: 0x87 });
  });

  test.each([4, 5] as const)(
    "H-24 v%i topic and payload rewritten: receivers and on_publish get the new ones",
    async (version) => {
      const recorder = recordingPlugin();
      const answers = [
        { ok: { payload: "rewritten", topic: "pub/rewrite/topic" } },
        { ok: "payload alone" },
      ];
      const broker = await startBroker({}, [
        recorder.plugin,
        both("auth_on_publish", () => answers.shift() ?? "ok"),
      ]);
      const reader = await connectClient(broker, 4);
      await reader.subscribed("#");
      const client = await connectClient(broker, version);
      for (const [topic, payload] of [
        ["pub/rewrite/topic", "rewritten"],
        ["a", "payload alone"],
      ] as const) {
        recorder.clear();
        await client.published({ topic: "a", payload: "old", qos: 1 });
        await reader.delivered({ topic, payload });
        const told = await recorder.wait(version === 5 ? "on_publish_m5" : "on_publish");
        expect([told.topic, told.payload.toString()]).toEqual([topic, payload]);
      }
    },
  );

  test("H-25 v5 empty properties replace all of them", async () => {
    const broker = await startBroker({}, [
      pluginWith({ auth_on_publish_m5: () => ({ ok: { properties: {} } }) }),
    ]);
    const client = await connectClient(broker, 5);
    await client.subscribed("a");
    client.publish({
      topic: "a",
      properties: {
        userProperties: [["k", "v"]],
        correlationData: Buffer.from("x"),
        responseTopic: "r",
      },
    });
    await client.delivered({ topic: "a", exactProperties: {} });
  });

  test.each([4, 5] as const)(
    "H-26 v%i throttle 500: nothing of the client is handled for 500 ms",
    async (version) => {
      const broker = await startBroker({}, [
        both("auth_on_publish", () => ({ ok: { throttle: 500 } })),
      ]);
      const client = await connectClient(broker, version);
      const other = await connectClient(broker, version, { clientId: "other" });
      client.publish({ topic: "a" });
      const sentMs = performance.now();
      await other.ping();
      expect(performance.now() - sentMs).toBeLessThan(400);
      await client.ping();
      expect(performance.now() - sentMs).toBeGreaterThanOrEqual(490);
    },
  );

  test("throttle of a will: nothing is handled for 500 ms after CONNACK", async () => {
    const broker = await startBroker({}, [
      both("auth_on_publish", () => ({ ok: { throttle: 500 } })),
    ]);
    const client = await connectClient(broker, 4, { will: { topic: "w" } });
    const sentMs = performance.now();
    await client.ping();
    expect(performance.now() - sentMs).toBeGreaterThanOrEqual(450);
  });

  test("the longer of throttle and rate limit counts", async () => {
    const throttles = [600];
    const broker = await startBroker({ max_message_rate: "100" }, [
      both("auth_on_publish", () => ({ ok: { throttle: throttles.shift() ?? 0 } })),
    ]);
    const client = await connectClient(broker, 4);
    for (let i = 0; i < 3; i++) client.publish({ topic: "a" });
    const sentMs = performance.now();
    await client.ping();
    expect(performance.now() - sentMs).toBeGreaterThanOrEqual(590);
  });

  test("mountpoint, qos and retain of a publish", async () => {
    const broker = await startBroker(
      { "listener.tcp.other": "127.0.0.1:0", "listener.tcp.other.mountpoint": "mp" },
      [both("auth_on_publish", () => ({ ok: { mountpoint: "mp", qos: 2, retain: true } }))],
    );
    const reader = await connectClient(broker.port("tcp", "other"), 4);
    await reader.subscribed("a", { qos: 2 });
    const client = await connectClient(broker.port("tcp", "default"), 4);
    await client.published({ topic: "a", payload: "x", qos: 1 });
    await reader.delivered({ topic: "a", qos: 2 });
    expect(broker.retained("mp")).toMatchObject([{ topic: "a", qos: 2 }]);
    expect(broker.retained("")).toEqual([]);
  });

  test("a will's delay and expiry can be changed; a PUBLISH has no delay", async () => {
    const broker = await startBroker({}, [
      pluginWith({
        auth_on_publish_m5: () => ({
          ok: { properties: { p_will_delay_interval: 0, p_message_expiry_interval: 77 } },
        }),
      }),
    ]);
    const reader = await connectClient(broker, 5, { clientId: "r" });
    await reader.subscribed("w");
    const client = await connectClient(broker, 5, {
      ...persistent(5, "c"),
      will: { topic: "w", properties: { willDelayInterval: 600 } },
    });
    const packetId = client.publish({ topic: "a", qos: 1 });
    await client.expect("puback", { packetId, code: 0x83 });
    client.cut();
    await reader.delivered({ topic: "w", properties: { messageExpiryInterval: 77 } });
  });
});

describe("delivery", () => {
  test.each([4, 5] as const)(
    "H-27 v%i on_deliver may give a payload alone; error and next change nothing",
    async (version) => {
      const answers = [{ ok: "deliver rewritten" }, { error: "no" }, "next"];
      const broker = await startBroker({}, [both("on_deliver", () => answers.shift())]);
      const client = await connectClient(broker, version);
      await client.subscribed("a");
      for (const payload of ["deliver rewritten", "old", "old"]) {
        client.publish({ topic: "a", payload: "old" });
        await client.delivered({ topic: "a", payload });
      }
    },
  );

  test("H-28 a retransmission carries what the hook made of the message", async () => {
    let calls = 0;
    const broker = await startBroker({ retry_interval: "1" }, [
      both("on_deliver", () => ({ ok: { topic: "new", payload: `call ${++calls}` } })),
    ]);
    const client = await connectClient(broker, 4);
    await client.subscribed("a", { qos: 1 });
    await (await connectClient(broker, 4)).published({ topic: "a", payload: "old", qos: 1 });
    for (const dup of [false, true]) {
      await client.expect("publish", { topic: "new", payload: "call 1", dup });
    }
  });

  test("a bad modifier of on_deliver leaves the message as it is", async () => {
    const broker = await startBroker({}, [both("on_deliver", () => ({ ok: { topic: "a/#" } }))]);
    const client = await connectClient(broker, 5);
    await client.subscribed("a");
    client.publish({ topic: "a", payload: "x" });
    await client.delivered({ topic: "a", payload: "x" });
  });
});

describe("events", () => {
  test("H-30 a clean client leaves: on_topic_unsubscribed(all_topics), on_client_gone; a persistent one: on_client_offline", async () => {
    const recorder = recordingPlugin();
    const broker = await startBroker({}, [recorder.plugin]);
    const events = () =>
      recorder.names(
        "on_topic_unsubscribed",
        "on_client_gone",
        "on_client_offline",
        "on_session_expired",
      );
    const clean = await connectClient(broker, 4, { clientId: "clean" });
    await clean.subscribed("a");
    await clean.disconnected();
    await recorder.wait("on_client_gone");
    expect(events()).toEqual(["on_topic_unsubscribed", "on_client_gone"]);
    expect(recorder.of("on_topic_unsubscribed")[0]?.topics).toBe("all_topics");
    recorder.clear();
    const kept = await connectClient(broker, 4, persistent(4, "kept"));
    await kept.subscribed("a");
    await kept.disconnected();
    expect((await recorder.wait("on_client_offline")).subscriber_id.client_id).toBe("kept");
    expect(events()).toEqual(["on_client_offline"]);
  });

  test("H-31 an expired session: on_topic_unsubscribed(all_topics), on_session_expired", async () => {
    const recorder = recordingPlugin();
    const broker = await startBroker({}, [recorder.plugin]);
    const client = await connectClient(broker, 5, {
      clientId: "c",
      properties: { sessionExpiryInterval: 1 },
    });
    await client.subscribed("a");
    await client.disconnected(0);
    await recorder.wait("on_session_expired");
    expect(
      recorder.names(
        "on_topic_unsubscribed",
        "on_client_gone",
        "on_client_offline",
        "on_session_expired",
      ),
    ).toEqual(["on_client_offline", "on_topic_unsubscribed", "on_session_expired"]);
    expect(recorder.of("on_topic_unsubscribed")[0]?.topics).toBe("all_topics");
  });

  test("H-32 a message for an absent client: on_offline_message", async () => {
    const recorder = recordingPlugin();
    const broker = await startBroker({}, [recorder.plugin]);
    const client = await connectClient(broker, 4, persistent(4, "c"));
    await client.subscribed("a", { qos: 1 });
    await client.disconnected();
    await waitOffline(broker, "c");
    await (await connectClient(broker, 4)).published({ topic: "a", payload: "x", qos: 1 });
    expect(await recorder.wait("on_offline_message")).toEqual({
      subscriber_id: { mountpoint: "", client_id: "c" },
      qos: 1,
      topic: "a",
      payload: Buffer.from("x"),
      retain: false,
    });
  });

  test.each([
    ["fifo", "2"],
    ["lifo", "1"],
  ])("H-33 a full %s queue drops message %s with queue_full", async (type, dropped) => {
    const recorder = recordingPlugin();
    const settings = { max_offline_messages: "1", queue_type: type };
    const broker = await startBroker(settings, [recorder.plugin]);
    const client = await connectClient(broker, 4, persistent(4, "c"));
    await client.subscribed("a", { qos: 1 });
    await client.disconnected();
    await waitOffline(broker, "c");
    const publisher = await connectClient(broker, 4);
    for (const payload of ["1", "2"]) await publisher.published({ topic: "a", payload, qos: 1 });
    const drop = await recorder.wait("on_message_drop");
    expect([drop.reason, drop.payload.toString()]).toEqual(["queue_full", dropped]);
  });
});

describe("reauthorisation", () => {
  test.each([4, 5] as Version[])(
    "H-46 v%i the refused subscription goes, the other stays",
    async (version) => {
      let isRefusing = false;
      const judge: PluginHooks["auth_on_subscribe"] = ({ topics }) =>
        isRefusing && topics[0]?.topic === "first" ? { error: "no" } : "ok";
      const broker = await startBroker({}, [pluginWith({ auth_on_subscribe: judge })]);
      const client = await connectClient(broker, version, { clientId: "c" });
      await client.subscribed(["first", "second"]);
      expect(await broker.reauthorize("c")).toEqual({ removed: [], added: [] });
      isRefusing = true;
      expect(await broker.reauthorize("c")).toEqual({ removed: ["first"], added: [] });
      await client.published({ topic: "first" });
      client.publish({ topic: "second" });
      await client.delivered({ topic: "second" });
    },
  );

  test("the chain of the client's listener is asked; an entry that refuses removes", async () => {
    let code: number | string = 0;
    const judge = pluginWith(
      {
        auth_on_subscribe: ({ topics }) => ({
          ok: topics.map(({ topic }) => ({ topic, qos: code })),
        }),
      },
      "A",
    );
    const other = pluginWith({ auth_on_subscribe: () => ({ error: "B was asked" }) }, "B");
    const broker = await startBroker(
      { "listener.tcp.default.authz_plugins": "[A]" },
      [other, judge],
      BARE,
    );
    const client = await connectClient(broker, 4, { clientId: "c" });
    await client.subscribed("a");
    expect(await broker.reauthorize("c")).toEqual({ removed: [], added: [] });
    code = "not_allowed";
    expect(await broker.reauthorize("c")).toEqual({ removed: ["a"], added: [] });
  });
});

describe("3.x plugins and MQTT 5 clients", () => {
  test("a plugin with 3.x hooks only decides for MQTT 5 clients, unless v5Compat is off", async () => {
    const hooks: PluginHooks = {
      auth_on_register: ({ username, clean_session }) =>
        username === "u" && clean_session
          ? { ok: { clean_session: true } }
          : { error: "invalid_credentials" },
      auth_on_publish: ({ topic }) => (topic === "no" ? { error: "no" } : { ok: "changed" }),
      auth_on_subscribe: ({ topics }) => ({
        ok: topics.map(({ topic }) => ({ topic, qos: topic === "no" ? "not_allowed" : 1 })),
      }),
    };
    const settings = { allow_anonymous: "off" };
    const broker = await startBroker(settings, [{ name: "v3", hooks }], BARE);
    await (await openClient(broker, 5)).refused({ clientId: "x", username: "w" }, 0x86);
    const client = await connectClient(broker, 5, { clientId: "c", username: "u" });
    const own = [{ filter: "a", retainAsPublished: true, noLocal: false }, { filter: "no" }];
    expect(await client.subscribed(own, { qos: 2 })).toEqual([1, 0x87]);
    const refused = client.publish({ topic: "no", qos: 1 });
    await client.expect("puback", { packetId: refused, code: 0x87 });
    client.publish({ topic: "a", payload: "old", retain: true });
    await client.delivered({ topic: "a", payload: "changed", retain: true });
    const off = await startBroker(settings, [{ name: "v3", hooks, v5Compat: false }], BARE);
    await (await openClient(off, 5)).refused({ clientId: "c", username: "u" }, 0x86);
    await connectClient(off, 4, { clientId: "c", username: "u" });
  });
});
