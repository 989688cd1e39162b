import { describe, expect, test } from "vitest";
import type { Broker } from "../../core/broker-types.ts";
import type { RegisterModifiers } from "../../core/hooks/types.ts";
import { startBroker, waitFor, waitGone, waitOffline } from "../support/broker.ts";
import { pluginWith } from "../support/plugins.ts";
import {
  type ConnectOptions,
  connectClient,
  openClient,
  type RawClient,
} from "../support/raw-client.ts";
import { persistent } from "../support/sessions.ts";

/** Every modifier of registration has its full effect. */

/** A broker that gives these modifiers to clients of user `u`. */
function brokerWith(ok: RegisterModifiers, settings: Record<string, string> = {}): Promise<Broker> {
  const answer = ({ username }: { username: string | undefined }) =>
    username === "u" ? { ok } : ("ok" as const);
  const judge = pluginWith({ auth_on_register: answer, auth_on_register_m5: answer });
  return startBroker({ allow_anonymous: "off", ...settings }, [judge]);
}

/** The client that gets them. */
function connect(broker: Broker, version: 4 | 5, options: ConnectOptions = {}): Promise<RawClient> {
  return connectClient(broker, version, { clientId: "c", ...options, username: "u" });
}

async function publishTo(broker: Broker, topic: string, count: number, qos = 1): Promise<void> {
  const publisher = await connectClient(broker, 4);
  for (let i = 0; i < count; i++) await publisher.published({ topic, payload: `${i}`, qos });
}

describe("limits", () => {
  test.each([4, 5] as const)(
    "v%i max_message_size: larger packets end the session",
    async (version) => {
      const broker = await brokerWith({ max_message_size: 60 });
      const client = await connect(broker, version);
      if (version === 5) expect(client.connack?.properties?.maximumPacketSize).toBe(60);
      await client.published({ topic: "a", payload: Buffer.alloc(20), qos: 1 });
      client.publish({ topic: "a", payload: Buffer.alloc(100), qos: 1 });
      if (version === 5) await client.ended(0x95);
      else await client.closed();
    },
  );

  test("max_message_size = 0 takes the limit of the configuration away", async () => {
    const broker = await brokerWith({ max_message_size: 0 }, { max_message_size: "60" });
    const client = await connect(broker, 4);
    await client.published({ topic: "a", payload: Buffer.alloc(1000), qos: 1 });
  });

  test.each([4, 5] as const)(
    "v%i max_inflight_messages: no more unacknowledged than that",
    async (version) => {
      const broker = await brokerWith({ max_inflight_messages: 3 });
      const client = await connect(broker, version);
      await client.subscribed("a", { qos: 1 });
      await publishTo(broker, "a", 5);
      for (let i = 0; i < 3; i++) await client.expect("publish", { payload: `${i}` });
      await client.expectNothing();
      client.puback(1);
      await client.expect("publish", { payload: "3" });
      await client.expectNothing();
    },
  );

  test("v5 fc_receive_max_client and max_inflight_messages never exceed the Receive Maximum", async () => {
    for (const ok of [
      { fc_receive_max_client: 2 },
      { max_inflight_messages: 0 },
      { fc_receive_max_client: 100 },
    ]) {
      const broker = await brokerWith(ok);
      const client = await connect(broker, 5, { properties: { receiveMaximum: 3 } });
      await client.subscribed("a", { qos: 1 });
      await publishTo(broker, "a", 5);
      const expected = ok.fc_receive_max_client === 2 ? 2 : 3;
      for (let i = 0; i < expected; i++) await client.expect("publish");
      await client.expectNothing();
    }
  });

  test("v5 fc_receive_max_broker is told and obeyed [MQTT-3.3.4-7]", async () => {
    const broker = await brokerWith({ fc_receive_max_broker: 2 });
    const client = await connect(broker, 5);
    expect(client.connack?.properties?.receiveMaximum).toBe(2);
    for (let i = 0; i < 2; i++) {
      const packetId = client.publish({ topic: "a", qos: 2 });
      await client.expect("pubrec", { packetId });
    }
    client.publish({ topic: "a", qos: 2 });
    await client.ended(0x93);
  });

  test("v5 topic_alias_max is told and obeyed", async () => {
    for (const [max, code] of [
      [1, 0x94],
      [0, 0x94],
    ] as const) {
      const broker = await brokerWith({ topic_alias_max: max }, { topic_alias_max_client: "5" });
      const client = await connect(broker, 5);
      expect(client.connack?.properties?.topicAliasMaximum).toBe(max === 0 ? undefined : max);
      client.publish({ topic: "a", properties: { topicAlias: max + 1 } });
      await client.ended(code);
    }
  });

  test("v5 max_packet_size: larger messages are not sent; never above the client's own limit", async () => {
    const broker = await brokerWith({ max_packet_size: 40 });
    for (const properties of [{}, { maximumPacketSize: 1000 }, { maximumPacketSize: 30 }]) {
      const client = await connect(broker, 5, { properties });
      await client.subscribed("a");
      const publisher = await connectClient(broker, 4);
      const limit = properties.maximumPacketSize === 30 ? 30 : 40;
      // Fixed header 2, topic 3, property length 1.
      for (const size of [limit - 6, limit - 5]) {
        await publisher.published({ topic: "a", payload: Buffer.alloc(size) });
      }
      expect((await client.delivered()).payload).toHaveLength(limit - 6);
      await client.expectNothing();
    }
  });

  test.each([4, 5] as const)(
    "v%i max_message_rate slows the client down, nobody else",
    async (version) => {
      const broker = await brokerWith({ max_message_rate: 2 });
      const client = await connect(broker, version);
      const other = await connectClient(broker, 4, { clientId: "other" });
      const startMs = performance.now();
      for (let i = 0; i < 3; i++) await client.published({ topic: "a", qos: 1 });
      await client.ping();
      expect(performance.now() - startMs).toBeGreaterThan(400);
      const otherMs = performance.now();
      for (let i = 0; i < 20; i++) await other.published({ topic: "a", qos: 1 });
      expect(performance.now() - otherMs).toBeLessThan(1000);
    },
  );

  test("max_connection_lifetime: the shorter of listener and hook", async () => {
    const listener = { "listener.tcp.default.max_connection_lifetime": "1" };
    for (const [lifetime, settings] of [
      [1, {}],
      [600, listener],
    ] as const) {
      const broker = await brokerWith({ max_connection_lifetime: lifetime }, settings);
      const client = await connect(broker, 5);
      await client.expect("disconnect", { code: 0x98 }, 4000);
    }
  });
});

describe("the queue", () => {
  test("max_offline_messages and queue_type", async () => {
    for (const [queue_type, kept] of [
      ["fifo", ["0", "1"]],
      ["lifo", ["4", "3"]],
    ] as const) {
      const broker = await brokerWith({ max_offline_messages: 2, queue_type });
      const client = await connect(broker, 4, persistent(4, "c"));
      await client.subscribed("a", { qos: 1 });
      await client.disconnected();
      await waitOffline(broker, "c");
      await publishTo(broker, "a", 5);
      const back = await connect(broker, 4, persistent(4, "c"));
      const got = (await back.receive(2)).map(({ payload }) => String(payload));
      expect(got.sort()).toEqual([...kept].sort());
      await back.expectNothing();
    }
  });

  test("max_online_messages", async () => {
    const broker = await brokerWith({ max_online_messages: 2, max_inflight_messages: 1 });
    const client = await connect(broker, 4);
    await client.subscribed("a", { qos: 1 });
    await publishTo(broker, "a", 6);
    expect((await client.receive(3)).map(({ payload }) => String(payload))).toEqual([
      "0",
      "1",
      "2",
    ]);
    await client.expectNothing();
  });

  test("upgrade_qos: the QoS of the subscription", async () => {
    const broker = await brokerWith({ upgrade_qos: true });
    const client = await connect(broker, 4);
    await client.subscribed("a", { qos: 2 });
    await publishTo(broker, "a", 1, 0);
    await client.delivered({ qos: 2 });
  });

  test("retry_interval in milliseconds", async () => {
    const broker = await brokerWith({ retry_interval: 300 });
    const client = await connect(broker, 4);
    await client.subscribed("a", { qos: 1 });
    await publishTo(broker, "a", 1);
    await client.expect("publish", { dup: false });
    const startMs = performance.now();
    await client.expect("publish", { dup: true });
    expect(performance.now() - startMs).toBeLessThan(1500);
  });

  test("retry_interval for an MQTT 5 client is refused [MQTT-4.4.0-1]", async () => {
    const broker = await brokerWith({ retry_interval: 300 });
    const client = await openClient(broker, 5);
    await client.refused({ clientId: "c", username: "u" }, 0x86);
  });

  test.each([
    ["fanout", 4],
    ["balance", 2],
  ] as const)(
    "allow_multiple_sessions and queue_deliver_mode = %s",
    async (queue_deliver_mode, expected) => {
      const broker = await brokerWith({ allow_multiple_sessions: true, queue_deliver_mode });
      const both = [await connect(broker, 4), await connect(broker, 4)];
      for (const client of both) await client.subscribed("a");
      await publishTo(broker, "a", 2);
      for (const client of both) await waitPing(client);
      const got = both.flatMap(({ received }) => received.filter(({ type }) => type === "publish"));
      expect(got).toHaveLength(expected);
    },
  );

  /** Waits for PINGRESP whatever comes before it. */
  async function waitPing(client: RawClient): Promise<void> {
    client.pingreq();
    await waitFor("PINGRESP", () => client.received.some(({ type }) => type === "pingresp"));
  }
});

describe("the life of the session", () => {
  /** Whether the session outlives its connection. */
  async function survives(
    broker: Broker,
    version: 4 | 5,
    options: ConnectOptions,
  ): Promise<boolean> {
    const client = await connect(broker, version, { ...options, clientId: "c" });
    await client.subscribed("a");
    await client.disconnected();
    await waitFor("the end", () => !broker.sessions().some((one) => one.is_online));
    const isThere = broker.sessions().length > 0;
    broker.disconnectClient("c", { cleanup: true });
    return isThere;
  }

  test.each(["clean_session", "clean_start"] as const)(
    "v4 %s replaces the client's flag",
    async (name) => {
      expect(await survives(await brokerWith({ [name]: false }), 4, { clean: true })).toBe(true);
      expect(await survives(await brokerWith({ [name]: true }), 4, { clean: false })).toBe(false);
    },
  );

  test.each(["clean_session", "clean_start"] as const)(
    "v5 %s decides whether an old session goes on",
    async (name) => {
      for (const clean of [true, false]) {
        const broker = await brokerWith({ [name]: clean });
        const first = await connect(broker, 5, persistent(5, "c"));
        await first.disconnected();
        const client = await connect(broker, 5, { ...persistent(5, "c"), clean: !clean });
        expect(client.connack?.sessionPresent).toBe(!clean);
      }
    },
  );

  test.each([4, 5] as const)(
    "v%i cleanup_on_disconnect: forget or keep, whatever the client asks for",
    async (version) => {
      const kept = persistent(version, "c");
      expect(await survives(await brokerWith({ cleanup_on_disconnect: true }), version, kept)).toBe(
        false,
      );
      expect(
        await survives(await brokerWith({ cleanup_on_disconnect: false }), version, {
          clean: true,
        }),
      ).toBe(true);
    },
  );

  test("v5 session_expiry_interval and p_session_expiry_interval replace the client's and are told", async () => {
    for (const ok of [
      { session_expiry_interval: 1 },
      { properties: { p_session_expiry_interval: 1 } },
      { session_expiry_interval: 500, properties: { p_session_expiry_interval: 1 } },
    ]) {
      const broker = await brokerWith(ok);
      const client = await connect(broker, 5, persistent(5, "c"));
      expect(client.connack?.properties?.sessionExpiryInterval).toBe(1);
      await client.disconnected(0);
      await waitGone(broker, "c");
    }
  });
});

describe("what CONNACK tells is obeyed", () => {
  const REQUESTS: [
    string,
    RegisterModifiers["properties"],
    object,
    (client: RawClient) => void,
    number,
  ][] = [
    [
      "p_max_qos",
      { p_max_qos: 1 },
      { maximumQoS: 1 },
      (c) => void c.publish({ topic: "a", qos: 2 }),
      0x9b,
    ],
    [
      "p_retain_available",
      { p_retain_available: false },
      { retainAvailable: false },
      (c) => void c.publish({ topic: "a", retain: true }),
      0x9a,
    ],
    [
      "p_wildcard_subs_available",
      { p_wildcard_subs_available: false },
      { wildcardSubscriptionAvailable: false },
      (c) => void c.subscribe("a/#"),
      0xa2,
    ],
    [
      "p_shared_subs_available",
      { p_shared_subs_available: false },
      { sharedSubscriptionAvailable: false },
      (c) => void c.subscribe("$share/g/a"),
      0x9e,
    ],
    [
      "p_sub_ids_available",
      { p_sub_ids_available: false },
      { subscriptionIdentifiersAvailable: false },
      (c) => void c.subscribe("a", { properties: { subscriptionIdentifiers: [1] } }),
      0xa1,
    ],
  ];

  test.each(REQUESTS)("%s", async (_, properties, told, act, code) => {
    const broker = await brokerWith({ properties: properties ?? {} });
    const client = await connect(broker, 5);
    expect(client.connack?.properties).toMatchObject(told);
    act(client);
    await client.ended(code);
  });

  test("p_server_keep_alive, p_user_property; p_response_info only to who asked for it", async () => {
    const properties = {
      p_server_keep_alive: 17,
      p_user_property: [{ key: "k", val: "v" }],
      p_response_info: "reply/here",
    };
    const broker = await brokerWith({ properties });
    for (const requestResponseInformation of [true, false]) {
      const client = await connect(broker, 5, { properties: { requestResponseInformation } });
      expect(client.connack?.properties).toEqual(
        expect.objectContaining({ serverKeepAlive: 17, userProperties: [["k", "v"]] }),
      );
      const info = client.connack?.properties?.responseInformation;
      expect(info).toBe(requestResponseInformation ? "reply/here" : undefined);
    }
  });

  test("request_problem_info replaces the client's wish", async () => {
    const answer = { error: { reason_code: "quota_exceeded", reason_string: "full" } };
    for (const isWanted of [true, false]) {
      const broker = await startBroker({ allow_anonymous: "off" }, [
        pluginWith({
          auth_on_register_m5: () => ({ ok: { request_problem_info: isWanted } }),
          auth_on_publish_m5: () => answer,
        }),
      ]);
      const client = await connectClient(broker, 5, {
        properties: { requestProblemInformation: !isWanted },
      });
      const packetId = client.publish({ topic: "a", qos: 1 });
      const exactProperties = isWanted ? { reasonString: "full" } : {};
      await client.expect("puback", { packetId, code: 0x97, exactProperties });
    }
  });
});

test("modifiers that concern clusters are accepted: one node alone meets them all", async () => {
  const broker = await brokerWith({
    allow_register: false,
    allow_publish: false,
    allow_subscribe: false,
    allow_unsubscribe: false,
    max_drain_time: 1,
    max_msgs_per_drain_step: 1,
    shared_subscription_policy: "local_only",
    reg_view: "vmq_reg_trie",
  });
  for (const version of [4, 5] as const) {
    const client = await connect(broker, version);
    await client.subscribed("a");
    client.publish({ topic: "a" });
    await client.delivered();
    await client.disconnected();
  }
});
