import { describe, expect, test } from "vitest";
import type { Broker } from "../../core/broker-types.ts";
import type { PluginHooks } from "../../core/hooks/types.ts";
import { startBroker, tempDir, waitOffline } from "../support/broker.ts";
import { hourglass } from "../support/hourglass.ts";
import { pluginWith, recordingPlugin } from "../support/plugins.ts";
import {
  bytes,
  connectClient,
  encodePublish,
  field,
  type Properties,
  packet,
  propertyBlock,
  type RawClient,
  type Version,
} from "../support/raw-client.ts";
import { numbers, payloads, publishSeries, receiveInWindow } from "../support/series.ts";
import { persistent } from "../support/sessions.ts";

/** Checks M-41 to M-50: windows, rates, aliases, properties, sizes, expiry, rewrites. */

const VERSIONS = [4, 5] as const;
describe("M-41 window of unacknowledged messages", () => {
  const MESSAGES = 100;
  const WINDOWS = Array.from({ length: 30 }, (_, i) => i + 1);
  const CASES = VERSIONS.flatMap((version) => [1, 2].map((qos) => ({ version, qos })));

  /** Window of v4: `max_inflight_messages`; of v5: the client's Receive Maximum. */
  function windowed(broker: Broker, version: Version, window: number): Promise<RawClient> {
    if (version === 4) broker.set("max_inflight_messages", String(window));
    const limits = { receiveMaximum: window };
    return connectClient(broker, version, persistent(version, `s${window}`, limits));
  }

  test.each(CASES)(
    "M-41 v$version QoS $qos online: never more than the window, in order 1 to 100",
    async ({ version, qos }) => {
      const broker = await startBroker();
      const p = await connectClient(broker, version, { clientId: "p" });
      for (const window of WINDOWS) {
        const s = await windowed(broker, version, window);
        await s.subscribed(`w/${window}`, { qos });
        await publishSeries(p, MESSAGES, { topic: `w/${window}`, qos });
        const got = await receiveInWindow(s, window, MESSAGES);
        expect(payloads(got), `window ${window}`).toEqual(numbers(1, MESSAGES));
        expect(got.every((one) => one.qos === qos && one.dup === false)).toBe(true);
      }
    },
  );

  test.each(CASES)(
    "M-41 v$version QoS $qos after reconnect: unacknowledged first with DUP, then the rest",
    async ({ version, qos }) => {
      const broker = await startBroker();
      const p = await connectClient(broker, version, { clientId: "p" });
      for (const window of WINDOWS) {
        const first = await windowed(broker, version, window);
        await first.subscribed(`w/${window}`, { qos });
        await publishSeries(p, MESSAGES, { topic: `w/${window}`, qos });
        const unacked = [];
        for (let i = 0; i < window; i++) unacked.push(await first.expect("publish", { qos }));
        first.cut();
        await waitOffline(broker, `s${window}`);

        const second = await windowed(broker, version, window);
        const got = await receiveInWindow(second, window, MESSAGES);
        expect(payloads(got), `window ${window}`).toEqual(numbers(1, MESSAGES));
        expect(got.map((one) => one.dup)).toEqual(numbers(1, 100).map((_, i) => i < window));
        const ids = got.slice(0, window).map((one) => one.packetId);
        expect(ids).toEqual(unacked.map((one) => one.packetId));
      }
    },
  );

  test.each(CASES)(
    "M-41 v$version QoS $qos offline: a stored backlog keeps to the window",
    async ({ version, qos }) => {
      const broker = await startBroker();
      const p = await connectClient(broker, version, { clientId: "p" });
      for (const window of [1, 7, 30]) {
        const first = await windowed(broker, version, window);
        await first.subscribed(`w/${window}`, { qos });
        await first.disconnected();
        await publishSeries(p, MESSAGES, { topic: `w/${window}`, qos });
        const second = await windowed(broker, version, window);
        const got = await receiveInWindow(second, window, MESSAGES);
        expect(payloads(got)).toEqual(numbers(1, MESSAGES));
        expect(got.some((one) => one.dup)).toBe(false);
      }
    },
  );

  test("M-41 max_inflight_messages = 0 means no window for v4", async () => {
    const broker = await startBroker({ max_inflight_messages: "0" });
    const s = await connectClient(broker, 4, { clientId: "s" });
    await s.subscribed("a", { qos: 1 });
    const p = await connectClient(broker, 4, { clientId: "p" });
    await publishSeries(p, 500, { topic: "a", qos: 1 });
    for (const payload of numbers(1, 500)) await s.expect("publish", { payload });
  });

  test("M-41 v5 ignores max_inflight_messages; receive_max_client caps the client's window", async () => {
    const broker = await startBroker({ max_inflight_messages: "1", receive_max_client: "3" });
    const s = await connectClient(broker, 5, { properties: { receiveMaximum: 50 } });
    await s.subscribed("a", { qos: 1 });
    const p = await connectClient(broker, 5);
    await publishSeries(p, 10, { topic: "a", qos: 1 });
    expect(payloads(await receiveInWindow(s, 3, 10))).toEqual(numbers(1, 10));
  });

  test.each(VERSIONS)("M-41 v%i QoS 0 passes a full window", async (version) => {
    const broker = await startBroker({ max_inflight_messages: "1" });
    const s = await connectClient(broker, version, { properties: { receiveMaximum: 1 } });
    await s.subscribed("a", { qos: 1 });
    const p = await connectClient(broker, version);
    await publishSeries(p, 2, { topic: "a", qos: 1 });
    await p.published({ topic: "a", payload: "fast", qos: 0 });
    const held = await s.expect("publish", { payload: "1", qos: 1 });
    await s.expect("publish", { payload: "fast", qos: 0 });
    await s.expectNothing();
    s.puback(held.packetId);
    await s.delivered({ payload: "2", qos: 1 });
  });

  test("M-41 [W] inbound QoS 2 messages do not use up the v4 window of outgoing ones", async () => {
    const broker = await startBroker({ max_inflight_messages: "2" });
    const both = await connectClient(broker, 4);
    await both.subscribed("a", { qos: 1 });
    for (const packetId of [11, 12, 13]) {
      both.publish({ topic: "elsewhere", qos: 2, packetId });
      await both.expect("pubrec", { packetId });
    }
    const p = await connectClient(broker, 4);
    await publishSeries(p, 2, { topic: "a", qos: 1 });
    await both.expect("publish", { payload: "1" });
    await both.expect("publish", { payload: "2" });
  });
});

describe("M-42 PUBREC with an error", () => {
  test("M-42 [W] Receive Maximum 1: PUBREC 0x80 ends the exchange, the next message comes", async () => {
    const broker = await startBroker();
    const s = await connectClient(broker, 5, { properties: { receiveMaximum: 1 } });
    await s.subscribed("a", { qos: 2 });
    const p = await connectClient(broker, 5);
    await publishSeries(p, 3, { topic: "a", qos: 2 });
    for (const payload of ["1", "2"]) {
      const publish = await s.expect("publish", { payload, qos: 2 });
      s.pubrec(publish.packetId, 0x80);
    }
    await s.delivered({ payload: "3", qos: 2 });
    await s.expectNothing();
  });
});

describe("M-43 publish rates", () => {
  test.each(VERSIONS)(
    "M-43 v%i max_message_rate = 1: 10 messages take 8.5 s or more and all are acknowledged",
    async (version) => {
      const broker = await startBroker({ max_message_rate: "1" });
      const p = await connectClient(broker, version);
      const startedAt = performance.now();
      const ids = numbers(1, 10).map(() => p.publish({ topic: "a", qos: 1 }));
      for (const packetId of ids) await p.expect("puback", { packetId });
      const tookMs = performance.now() - startedAt;
      expect(tookMs).toBeGreaterThanOrEqual(8500 - 100);
      expect(tookMs).toBeLessThan(13_000);
    },
  );

  test("M-43 a slowed client does not slow others", async () => {
    const broker = await startBroker({ max_message_rate: "1" });
    const slow = await connectClient(broker, 4);
    for (let i = 0; i < 5; i++) slow.publish({ topic: "a", qos: 1 });
    await slow.expect("puback");
    const other = await connectClient(broker, 4);
    await other.published({ topic: "b", qos: 1 });
    // Its last acknowledgement is four seconds away.
    expect(slow.waiting.length).toBeLessThan(4);
  });

  test.each(VERSIONS)(
    "M-43 v%i publish hook throttle 100 ms twice: third PUBACK 200 ms later",
    async (version) => {
      const throttled = () => ({ ok: { throttle: 100 } });
      const broker = await startBroker({}, [
        pluginWith({ auth_on_publish: throttled, auth_on_publish_m5: throttled }),
      ]);
      const p = await connectClient(broker, version);
      const startedAt = performance.now();
      const ids = [1, 2, 3].map(() => p.publish({ topic: "a", qos: 1 }));
      for (const packetId of ids) await p.expect("puback", { packetId });
      const tookMs = performance.now() - startedAt;
      // Timers may fire up to a millisecond early.
      expect(tookMs).toBeGreaterThanOrEqual(198);
      expect(tookMs).toBeLessThan(2000);
    },
  );
});

describe("M-44 topic aliases of the client", () => {
  async function aliasing() {
    const broker = await startBroker({ topic_alias_max_client: "3" });
    const s = await connectClient(broker, 5, { clientId: "s" });
    await s.subscribed("#", { qos: 2 });
    const p = await connectClient(broker, 5, { clientId: "p" });
    expect(p.connack?.properties?.topicAliasMaximum).toBe(3);
    return { s, p };
  }

  test("M-44 alias 1 with a topic, then alone: both arrive with the full topic and no alias", async () => {
    const { s, p } = await aliasing();
    for (const qos of [0, 1, 2]) {
      const topic = `t/${qos}`;
      await p.published({ topic, payload: "with", qos, properties: { topicAlias: 1 } });
      await s.delivered({ topic, payload: "with", exactProperties: {} });
      await p.published({ topic: "", payload: "alone", qos, properties: { topicAlias: 1 } });
      await s.delivered({ topic, payload: "alone", exactProperties: {} });
    }
  });

  test("M-44 an alias may be given another topic; aliases are independent", async () => {
    const { s, p } = await aliasing();
    await p.published({ topic: "one", properties: { topicAlias: 1 } });
    await p.published({ topic: "three", properties: { topicAlias: 3 } });
    await p.published({ topic: "other", properties: { topicAlias: 1 } });
    await p.published({ topic: "", properties: { topicAlias: 3 } });
    await p.published({ topic: "", properties: { topicAlias: 1 } });
    for (const topic of ["one", "three", "other", "three", "other"]) await s.delivered({ topic });
  });

  test("M-44 an alias stands for the topic that the hook made of it", async () => {
    const broker = await startBroker({ topic_alias_max_client: "3" }, [
      pluginWith({
        auth_on_publish_m5: ({ topic }) =>
          topic === "raw" ? { ok: { topic: "rewritten" } } : "next",
      }),
    ]);
    const s = await connectClient(broker, 5);
    await s.subscribed("#");
    const p = await connectClient(broker, 5);
    await p.published({ topic: "raw", properties: { topicAlias: 2 } });
    await p.published({ topic: "", properties: { topicAlias: 2 } });
    await s.delivered({ topic: "rewritten" });
    await s.delivered({ topic: "rewritten" });
  });

  test("M-44 aliases are forgotten with the connection", async () => {
    const broker = await startBroker({ topic_alias_max_client: "3" });
    const first = await connectClient(broker, 5, persistent(5, "p"));
    await first.published({ topic: "t", properties: { topicAlias: 1 } });
    await first.disconnected();
    const second = await connectClient(broker, 5, persistent(5, "p"));
    second.publish({ topic: "", qos: 1, properties: { topicAlias: 1 } });
    await second.ended(0x94);
  });

  test.each([
    { what: "alias 4, above the maximum", topic: "t", properties: { topicAlias: 4 }, code: 0x94 },
    { what: "alias 0", topic: "t", properties: { topicAlias: 0 }, code: 0x94 },
    { what: "unknown alias", topic: "", properties: { topicAlias: 2 }, code: 0x94 },
    { what: "empty topic without alias", topic: "", properties: {}, code: 0x82 },
  ])("M-44 [W] $what → DISCONNECT", async ({ topic, properties, code }) => {
    for (const qos of [0, 1, 2]) {
      const { s, p } = await aliasing();
      p.publish({ topic, qos, properties });
      await p.ended(code);
      await s.expectNothing();
    }
  });

  test("M-44 [W] topic_alias_max_client = 0: none announced, alias 1 → DISCONNECT 0x94", async () => {
    const broker = await startBroker();
    const p = await connectClient(broker, 5);
    expect(p.connack?.properties?.topicAliasMaximum).toBeUndefined();
    p.publish({ topic: "t", properties: { topicAlias: 1 } });
    await p.ended(0x94);
  });
});

describe("M-45 topic aliases of the broker", () => {
  async function aliased(client: Properties) {
    const broker = await startBroker({ topic_alias_max_broker: "3" });
    const s = await connectClient(broker, 5, persistent(5, "s", client));
    await s.subscribed("#", { qos: 1 });
    const p = await connectClient(broker, 5, { clientId: "p" });
    return { broker, s, p };
  }

  test("M-45 client announces 3: topic and alias first, then the alias alone", async () => {
    const { s, p } = await aliased({ topicAliasMaximum: 3 });
    for (const [index, topic] of ["a", "b", "c"].entries()) {
      await p.published({ topic, qos: index % 2 });
      await s.delivered({ topic, exactProperties: { topicAlias: index + 1 } });
    }
    for (const [index] of ["a", "b", "c"].entries()) {
      await p.published({ topic: ["a", "b", "c"][index] ?? "", payload: "again" });
      await s.delivered({
        topic: "",
        payload: "again",
        exactProperties: { topicAlias: index + 1 },
      });
    }
    // First come, first served: the fourth topic gets none.
    await p.published({ topic: "d" });
    await p.published({ topic: "d" });
    await s.delivered({ topic: "d", exactProperties: {} });
    await s.delivered({ topic: "d", exactProperties: {} });
  });

  test("M-45 the smaller of both limits counts", async () => {
    const { s, p } = await aliased({ topicAliasMaximum: 1 });
    await p.published({ topic: "a" });
    await p.published({ topic: "b" });
    await s.delivered({ topic: "a", exactProperties: { topicAlias: 1 } });
    await s.delivered({ topic: "b", exactProperties: {} });
  });

  test.each([
    { what: "announces none", properties: {} },
    { what: "announces 0", properties: { topicAliasMaximum: 0 } },
  ])("M-45 [W] client $what: never an alias", async ({ properties }) => {
    const { s, p } = await aliased(properties);
    for (let i = 0; i < 3; i++) {
      await p.published({ topic: "a", qos: 1 });
      await s.delivered({ topic: "a", exactProperties: {} });
    }
  });

  test("M-45 aliases are forgotten at reconnect", async () => {
    const { broker, s, p } = await aliased({ topicAliasMaximum: 3 });
    await p.published({ topic: "a" });
    await s.delivered({ topic: "a", exactProperties: { topicAlias: 1 } });
    await s.disconnected();
    const again = await connectClient(broker, 5, persistent(5, "s", { topicAliasMaximum: 3 }));
    await p.published({ topic: "b" });
    await again.delivered({ topic: "b", exactProperties: { topicAlias: 1 } });
  });

  test("M-45 [W] an alias of a message that was too large to send is not known", async () => {
    const { s, p } = await aliased({ topicAliasMaximum: 3, maximumPacketSize: 60 });
    await p.published({ topic: "a", payload: "x".repeat(100), qos: 1 });
    await p.published({ topic: "a", payload: "small", qos: 1 });
    await s.delivered({ topic: "a", payload: "small", exactProperties: { topicAlias: 1 } });
  });

  test("M-45 a redelivered message carries its topic on the new connection", async () => {
    const { broker, s, p } = await aliased({ topicAliasMaximum: 3 });
    await p.published({ topic: "a", payload: "1" });
    await p.published({ topic: "a", payload: "2", qos: 1 });
    await s.expect("publish", { topic: "a", payload: "1" });
    await s.expect("publish", { topic: "", payload: "2" });
    s.cut();
    const again = await connectClient(broker, 5, persistent(5, "s", { topicAliasMaximum: 3 }));
    await again.delivered({ topic: "a", payload: "2", dup: true, properties: { topicAlias: 1 } });
  });
});

describe("M-46 forwarded properties", () => {
  const ALL: Properties = {
    payloadFormatIndicator: 1,
    contentType: "text/plain; charset=utf-8",
    responseTopic: "answers/to/me",
    correlationData: Buffer.from([0, 1, 254, 255]),
    userProperties: [
      ["key", "1"],
      ["other", "ä€😀"],
      ["key", "2"],
      ["", ""],
    ],
  };
  const CASES: { what: string; properties: Properties }[] = [
    { what: "all of them", properties: ALL },
    { what: "payload format 0", properties: { payloadFormatIndicator: 0 } },
    { what: "payload format 1", properties: { payloadFormatIndicator: 1 } },
    { what: "response topic", properties: { responseTopic: "r" } },
    { what: "empty correlation data", properties: { correlationData: Buffer.alloc(0) } },
    { what: "empty content type", properties: { contentType: "" } },
    { what: "user properties", properties: { userProperties: ALL.userProperties ?? [] } },
  ];

  test.each(CASES)("M-46 $what arrive unchanged, live and retained", async ({ properties }) => {
    const broker = await startBroker();
    const s = await connectClient(broker, 5, { clientId: "s" });
    const old = await connectClient(broker, 4, { clientId: "old" });
    await s.subscribed("a", { qos: 2 });
    await old.subscribed("a", { qos: 2 });
    const p = await connectClient(broker, 5, { clientId: "p" });
    for (const qos of [0, 1, 2]) {
      await p.published({ topic: "a", payload: "x", qos, retain: true, properties });
      await s.delivered({ topic: "a", payload: "x", qos, exactProperties: properties });
      // To 3.1.1 clients all properties are dropped: the payload is just the payload.
      await old.delivered({ topic: "a", payload: "x", qos });
    }
    const late = await connectClient(broker, 5, { clientId: "late" });
    await late.subscribed("a", { qos: 1 });
    await late.delivered({ retain: true, exactProperties: properties });
  });

  test("M-46 offline and with a subscription identifier they arrive, too", async () => {
    const broker = await startBroker();
    const first = await connectClient(broker, 5, persistent(5, "s"));
    await first.subscribed("a", { qos: 1, properties: { subscriptionIdentifiers: [9] } });
    await first.disconnected();
    const p = await connectClient(broker, 5);
    await p.published({ topic: "a", qos: 1, properties: ALL });
    const s = await connectClient(broker, 5, persistent(5, "s"));
    await s.delivered({ exactProperties: { ...ALL, subscriptionIdentifiers: [9] } });
  });

  test("M-46 properties of a will are forwarded, the delay is not", async () => {
    const broker = await startBroker();
    const s = await connectClient(broker, 5, { clientId: "s" });
    await s.subscribed("will", { qos: 2 });
    const dying = await connectClient(broker, 5, {
      clientId: "dying",
      will: { topic: "will", payload: "gone", properties: { ...ALL, willDelayInterval: 0 } },
    });
    dying.cut();
    await s.delivered({ payload: "gone", exactProperties: ALL });
  });

  test("M-46 user properties keep their order among other properties of the packet", async () => {
    const broker = await startBroker();
    const s = await connectClient(broker, 5);
    await s.subscribed("a");
    const p = await connectClient(broker, 5);
    // 0x26 a=1, 0x01 format 1, 0x26 b=2, 0x26 a=3
    const scattered = bytes("26 000161 000131  01 01  26 000162 000132  26 000161 000133");
    p.send(packet(0x30, field("a"), propertyBlock(5, scattered)));
    await s.delivered({
      properties: {
        payloadFormatIndicator: 1,
        userProperties: [
          ["a", "1"],
          ["b", "2"],
          ["a", "3"],
        ],
      },
    });
  });
});

describe("M-47 properties that a PUBLISH must not have", () => {
  /** 2.2.2.2 makes this malformed (0x81); the statements on single properties say 0x82. */
  const EITHER = [0x81, 0x82];
  const FORBIDDEN: Properties[] = [
    { serverReference: "elsewhere" },
    { reasonString: "because" },
    { receiveMaximum: 1 },
    { sessionExpiryInterval: 1 },
    { authenticationMethod: "m" },
    { willDelayInterval: 1 },
    { assignedClientIdentifier: "x" },
    { maximumQoS: 1 },
  ];

  test.each(FORBIDDEN)(
    "M-47 PUBLISH with %j → DISCONNECT, closed, not routed",
    async (properties) => {
      const broker = await startBroker();
      const s = await connectClient(broker, 5);
      await s.subscribed("a");
      const p = await connectClient(broker, 5);
      p.publish({ topic: "a", qos: 1, properties });
      const { code } = await p.expect("disconnect");
      expect(EITHER).toContain(code);
      await p.closed();
      await s.expectNothing();
    },
  );

  test("M-47 [W] PUBLISH of a client with a Subscription Identifier → 0x82", async () => {
    const broker = await startBroker();
    const p = await connectClient(broker, 5);
    p.publish({ topic: "a", properties: { subscriptionIdentifiers: [1] } });
    await p.ended(0x82);
  });
});

describe("M-48 Maximum Packet Size of the client", () => {
  const USER: [string, string][] = [["k", "v".repeat(40)]];

  async function limited(maximumPacketSize: number, more: Properties = {}) {
    const recorder = recordingPlugin();
    const broker = await startBroker({}, [recorder.plugin]);
    const properties = { maximumPacketSize, ...more };
    const s = await connectClient(broker, 5, { clientId: "s", properties });
    await s.subscribed("a", { qos: 2 });
    const p = await connectClient(broker, 5, { clientId: "p" });
    return { broker, recorder, s, p };
  }

  test.each([0, 1, 2])(
    "M-48 QoS %i: a larger message is dropped, hooked and counted; the connection stays",
    async (qos) => {
      const { broker, recorder, s, p } = await limited(50);
      await p.published({ topic: "a", payload: "x".repeat(60), qos });
      const drop = await recorder.wait("on_message_drop");
      expect(drop).toMatchObject({
        subscriber_id: { mountpoint: "", client_id: "s" },
        topic: "a",
        reason: "max_packet_size_exceeded",
      });
      expect(drop.payload.toString()).toBe("x".repeat(60));
      expect(broker.metrics().queue_message_drop).toBe(1);
      await p.published({ topic: "a", payload: "fits", qos });
      await s.delivered({ payload: "fits", qos });
      await s.expectNothing();
    },
  );

  test("M-48 the limit is the whole packet, to the byte", async () => {
    const topic = "a";
    const properties = { userProperties: USER };
    const exact = encodePublish(5, { topic, payload: "12345", properties }).length;
    const { recorder, s, p } = await limited(exact);
    await p.published({ topic, payload: "123456", properties });
    await recorder.wait("on_message_drop");
    await p.published({ topic, payload: "12345", properties });
    await s.delivered({ payload: "12345", exactProperties: properties });
  });

  test("M-48 [W] user properties are never cut from a PUBLISH to make it fit", async () => {
    const { recorder, s, p } = await limited(50);
    await p.published({ topic: "a", payload: "x", qos: 1, properties: { userProperties: USER } });
    const drop = await recorder.wait("on_message_drop");
    expect(drop.properties.p_user_property).toEqual([{ key: "k", val: "v".repeat(40) }]);
    await s.expectNothing();
  });

  test("M-48 [W] the window has its credit back", async () => {
    const { s, p } = await limited(50, { receiveMaximum: 1 });
    for (const qos of [1, 2]) {
      await p.published({ topic: "a", payload: "x".repeat(60), qos });
      await p.published({ topic: "a", payload: `small ${qos}`, qos });
      await s.delivered({ payload: `small ${qos}`, qos });
    }
  });

  test("M-48 other subscribers get the message, retained ones are checked, too", async () => {
    const { broker, recorder, s, p } = await limited(50);
    const roomy = await connectClient(broker, 5);
    await roomy.subscribed("a");
    await p.published({ topic: "a", payload: "x".repeat(60), retain: true });
    await roomy.delivered({ payload: "x".repeat(60) });
    await recorder.wait("on_message_drop");
    await s.subscribed("a", { qos: 1 });
    await recorder.wait("on_message_drop", 2);
    await s.expectNothing();
  });

  test("M-48 Reason String and User Properties leave other packets to make them fit", async () => {
    const broker = await startBroker({}, [
      pluginWith({
        auth_on_subscribe_m5: ({ topics }) => ({
          ok: {
            topics,
            properties: {
              p_reason_string: "r".repeat(100),
              p_user_property: [{ key: "k", val: "v".repeat(100) }],
            },
          },
        }),
      }),
    ]);
    const s = await connectClient(broker, 5, {
      clientId: "s",
      properties: { maximumPacketSize: 40 },
    });
    const packetId = s.subscribe("a");
    await s.expect("suback", { packetId, codes: [0], exactProperties: {} });
  });
});

describe("M-49 message expiry", () => {
  async function offlineWithTwo(broker: Broker): Promise<RawClient> {
    const s = await connectClient(broker, 5, persistent(5, "s"));
    await s.subscribed("a", { qos: 1 });
    await s.disconnected();
    const p = await connectClient(broker, 5, { clientId: "p" });
    for (const seconds of [60, 1]) {
      const properties = { messageExpiryInterval: seconds };
      await p.published({ topic: "a", payload: `lives ${seconds}`, qos: 1, properties });
    }
    return p;
  }

  async function onlyTheFirst(broker: Broker, recorder: ReturnType<typeof recordingPlugin>) {
    const s = await connectClient(broker, 5, persistent(5, "s"));
    const got = await s.delivered({ payload: "lives 60" });
    const left = got.properties?.messageExpiryInterval ?? 0;
    expect(left).toBeGreaterThan(50);
    expect(left).toBeLessThan(60);
    await s.expectNothing();
    expect(broker.metrics().queue_message_expired).toBe(1);
    const drop = await recorder.wait("on_message_drop");
    expect(drop).toMatchObject({ topic: "a", reason: "expired" });
    expect(drop.payload.toString()).toBe("lives 1");
  }

  test("M-49 offline: only the message that still lives comes, with the seconds left", async () => {
    const recorder = recordingPlugin();
    const broker = await startBroker({}, [recorder.plugin]);
    await offlineWithTwo(broker);
    await hourglass();
    await onlyTheFirst(broker, recorder);
  });

  test("M-49 [W] the same with a restart of the broker in between", async () => {
    const dataDir = tempDir();
    const before = await startBroker({}, [], { dataDir });
    await offlineWithTwo(before);
    await before.close();
    await hourglass();
    const recorder = recordingPlugin();
    const after = await startBroker({}, [recorder.plugin], { dataDir });
    await onlyTheFirst(after, recorder);
  });

  test("M-49 [W] expired messages leave their places in a full queue to new ones", async () => {
    const broker = await startBroker({ max_offline_messages: "1" });
    const s = await connectClient(broker, 5, persistent(5, "s"));
    await s.subscribed("a", { qos: 1 });
    await s.disconnected();
    const p = await connectClient(broker, 5);
    const properties = { messageExpiryInterval: 1 };
    await p.published({ topic: "a", payload: "dies", qos: 1, properties });
    await hourglass();
    await p.published({ topic: "a", payload: "stays", qos: 1 });
    const again = await connectClient(broker, 5, persistent(5, "s"));
    await again.delivered({ payload: "stays" });
    expect(broker.metrics().queue_message_drop).toBe(0);
  });

  test("M-49 [W] a message that expires while it waits for the window is not sent", async () => {
    const broker = await startBroker();
    const s = await connectClient(broker, 5, { properties: { receiveMaximum: 1 } });
    await s.subscribed("a", { qos: 1 });
    const p = await connectClient(broker, 5);
    await p.published({ topic: "a", payload: "first", qos: 1 });
    const properties = { messageExpiryInterval: 1 };
    await p.published({ topic: "a", payload: "dies", qos: 1, properties });
    await p.published({ topic: "a", payload: "last", qos: 1 });
    const first = await s.expect("publish", { payload: "first" });
    await hourglass();
    s.puback(first.packetId);
    await s.delivered({ payload: "last" });
  });

  test("M-49 online it passes with its interval; v4 subscribers get it without", async () => {
    const broker = await startBroker();
    const s = await connectClient(broker, 5);
    await s.subscribed("a");
    const old = await connectClient(broker, 4);
    await old.subscribed("a");
    const p = await connectClient(broker, 5);
    await p.published({ topic: "a", payload: "x", properties: { messageExpiryInterval: 1000 } });
    const got = await s.delivered({ payload: "x" });
    expect(got.properties?.messageExpiryInterval).toBeGreaterThanOrEqual(990);
    expect(got.properties?.messageExpiryInterval).toBeLessThanOrEqual(1000);
    await old.delivered({ payload: "x" });
  });
});

describe("M-50 hooks that rewrite", () => {
  const REWRITE: PluginHooks = {
    auth_on_publish: ({ topic }) =>
      topic === "in" ? { ok: { topic: "out", payload: "new", qos: 2, retain: true } } : "next",
    auth_on_publish_m5: ({ topic }) =>
      topic === "in" ? { ok: { topic: "out", payload: "new", qos: 2, retain: true } } : "next",
  };

  test.each(VERSIONS)(
    "M-50 v%i publish hook rewrites topic, payload, QoS and RETAIN",
    async (version) => {
      const recorder = recordingPlugin();
      const broker = await startBroker({}, [recorder.plugin, pluginWith(REWRITE)]);
      const s = await connectClient(broker, 4);
      await s.subscribed(["in", "out"], { qos: 2 });
      const p = await connectClient(broker, version);
      // The publisher is answered for the QoS it used.
      await p.published({ topic: "in", payload: "old", qos: 1 });
      await s.delivered({ topic: "out", payload: "new", qos: 2 });
      await s.expectNothing();
      expect(broker.retained().map((one) => one.topic)).toEqual(["out"]);
      const event = version === 5 ? "on_publish_m5" : "on_publish";
      const seen = await recorder.wait(event);
      expect(seen).toMatchObject({ topic: "out", qos: 2, retain: true });
      expect(seen.payload.toString()).toBe("new");
    },
  );

  test("M-50 v5 publish hook replaces the properties", async () => {
    const broker = await startBroker({}, [
      pluginWith({
        auth_on_publish_m5: ({ topic }) => ({
          ok: {
            properties: topic === "empty" ? {} : { p_user_property: [{ key: "a", val: "b" }] },
          },
        }),
      }),
    ]);
    const s = await connectClient(broker, 5);
    await s.subscribed("#");
    const p = await connectClient(broker, 5);
    const properties: Properties = {
      responseTopic: "r",
      correlationData: "c",
      userProperties: [["x", "y"]],
    };
    await p.published({ topic: "empty", properties });
    await s.delivered({ topic: "empty", exactProperties: {} });
    await p.published({ topic: "other", properties });
    await s.delivered({ topic: "other", exactProperties: { userProperties: [["a", "b"]] } });
  });

  test.each(VERSIONS)(
    "M-50 v%i on_deliver rewrites for one subscriber; others see the original",
    async (version) => {
      const rewrite: PluginHooks["on_deliver"] = ({ subscriber_id }) =>
        subscriber_id.client_id === "changed"
          ? { ok: { topic: "new/topic", payload: Buffer.from("new") } }
          : "next";
      const broker = await startBroker({}, [
        pluginWith({ on_deliver: rewrite, on_deliver_m5: rewrite }),
      ]);
      const changed = await connectClient(broker, version, { clientId: "changed" });
      const plain = await connectClient(broker, version, { clientId: "plain" });
      for (const s of [changed, plain]) await s.subscribed("a", { qos: 2 });
      const p = await connectClient(broker, version);
      for (const qos of [0, 1, 2]) {
        await p.published({ topic: "a", payload: "old", qos });
        await changed.delivered({ topic: "new/topic", payload: "new", qos });
        await plain.delivered({ topic: "a", payload: "old", qos });
      }
    },
  );

  test("M-50 v5 on_deliver_m5 replaces properties", async () => {
    const broker = await startBroker({}, [
      pluginWith({
        on_deliver_m5: () => ({ ok: { properties: { p_content_type: "changed" } } }),
      }),
    ]);
    const s = await connectClient(broker, 5);
    await s.subscribed("a");
    const p = await connectClient(broker, 5);
    await p.published({ topic: "a", properties: { contentType: "old", responseTopic: "r" } });
    await s.delivered({ exactProperties: { contentType: "changed" } });
  });

  test.each([{ error: "no" }, "next" as const])(
    "M-50 on_deliver answering %j changes nothing: delivery cannot be refused",
    async (answer) => {
      const broker = await startBroker({}, [
        pluginWith({ on_deliver: () => answer, on_deliver_m5: () => answer }),
      ]);
      const s = await connectClient(broker, 4);
      await s.subscribed("a", { qos: 1 });
      const p = await connectClient(broker, 5);
      await p.published({ topic: "a", payload: "x", qos: 1 });
      await s.delivered({ topic: "a", payload: "x" });
    },
  );

  test("M-50 [W] a v4 retry carries what the client saw first", async () => {
    let calls = 0;
    const broker = await startBroker({ retry_interval: "1" }, [
      pluginWith({ on_deliver: () => ({ ok: { payload: `call ${++calls}` } }) }),
    ]);
    const s = await connectClient(broker, 4);
    await s.subscribed("a", { qos: 1 });
    const p = await connectClient(broker, 4);
    await p.published({ topic: "a", payload: "old", qos: 1 });
    const first = await s.expect("publish", { payload: "call 1", dup: false });
    await s.expect("publish", {
      payload: "call 1",
      dup: true,
      packetId: first.packetId ?? 0,
    });
  });
});
