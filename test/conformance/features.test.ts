import { describe, expect, test } from "vitest";
import type { Broker } from "../../core/broker-types.ts";
import { startBroker, waitFor, waitGone, waitOffline } from "../support/broker.ts";
import { pluginWith, recordingPlugin } from "../support/plugins.ts";
import {
  connectClient,
  encodeCoded,
  encodePublish,
  type RawClient,
  type Version,
} from "../support/raw-client.ts";
import { numbers, payloads, publishSeries } from "../support/series.ts";
import { persistent } from "../support/sessions.ts";

/** Settings that change how clients are served, seen from the wire; hooks: features-hooks.test.ts. */

const VERSIONS = [4, 5] as const;

async function pair(
  settings: Record<string, string>,
  version: Version = 4,
): Promise<{ broker: Broker; s: RawClient; p: RawClient }> {
  const broker = await startBroker(settings);
  const s = await connectClient(broker, version, { clientId: "s" });
  const p = await connectClient(broker, version, { clientId: "p" });
  return { broker, s, p };
}

/** A client that is back after `count` QoS 1 messages to `a` came while it was away. */
async function backlog(
  broker: Broker,
  count: number,
  connect = persistent(4, "s"),
): Promise<RawClient> {
  const first = await connectClient(broker, 4, connect);
  await first.subscribed("a", { qos: 1 });
  await first.disconnected();
  const p = await connectClient(broker, 4, { clientId: "p" });
  await publishSeries(p, count, { topic: "a", qos: 1 });
  return connectClient(broker, 4, connect);
}

describe("allow_multiple_sessions", () => {
  const SHARED = { allow_multiple_sessions: "on" };

  async function twins(settings: Record<string, string>) {
    const broker = await startBroker({ ...SHARED, ...settings });
    const one = await connectClient(broker, 4, persistent(4, "twin"));
    const two = await connectClient(broker, 4, persistent(4, "twin"));
    await one.subscribed("a", { qos: 1 });
    const p = await connectClient(broker, 4, persistent(4, "p"));
    return { broker, one, two, p };
  }

  test("CONNECT with the same id does not disconnect the other", async () => {
    const { one, two } = await twins({});
    await one.ping();
    await two.ping();
    expect(two.connack?.sessionPresent).toBe(true);
  });

  test("fanout: each session gets each message", async () => {
    const { one, two, p } = await twins({ queue_deliver_mode: "fanout" });
    await publishSeries(p, 20, { topic: "a", qos: 1 });
    for (const session of [one, two]) {
      expect(payloads(await session.receive(20))).toEqual(numbers(1, 20));
    }
  });

  test("balance: each message goes to one session, all of them to someone", async () => {
    const { one, two, p } = await twins({ queue_deliver_mode: "balance" });
    await publishSeries(p, 100, { topic: "a", qos: 0 });
    const received = () =>
      [one, two].map((each) => each.received.filter(({ type }) => type === "publish"));
    const shares = await waitFor("all came", () => received().flat().length >= 100 && received());
    expect(shares.every((share) => share.length > 10)).toBe(true);
    const all = payloads(shares.flat()).sort((a, b) => Number(a) - Number(b));
    expect(all).toEqual(numbers(1, 100));
  });

  test("a session that leaves does not end the other; the last one leaves the queue", async () => {
    const { broker, one, two, p } = await twins({});
    await one.disconnected();
    await p.published({ topic: "a", payload: "to two", qos: 1 });
    await two.delivered({ payload: "to two" });
    await two.disconnected();
    await waitOffline(broker, "twin");
    await p.published({ topic: "a", payload: "kept", qos: 1 });
    const back = await connectClient(broker, 4, persistent(4, "twin"));
    await back.delivered({ payload: "kept" });
  });

  test("[W-09] balance: un-acknowledged messages of a session that leaves go to the others", async () => {
    const { one, two, p } = await twins({ queue_deliver_mode: "balance" });
    await publishSeries(p, 10, { topic: "a", qos: 1 });
    await one.ping().catch(() => undefined);
    one.cut();
    const mine = payloads(await two.receive(10));
    expect(mine.sort((a, b) => Number(a) - Number(b))).toEqual(numbers(1, 10));
  });
});

describe("queue order and drop policy", () => {
  test("queue_type = lifo: newest first, offline and online", async () => {
    const broker = await startBroker({ queue_type: "lifo", max_inflight_messages: "1" });
    const s = await backlog(broker, 5);
    expect(payloads(await s.receive(5))).toEqual(numbers(5, 1));
    const p = await connectClient(broker, 4, { clientId: "p2" });
    await publishSeries(p, 4, { topic: "a", qos: 1 });
    // The first was in flight before the others came.
    expect(payloads(await s.receive(4))).toEqual(["1", "4", "3", "2"]);
  });

  test.each([
    { queue: "fifo", policy: "drop_old", kept: numbers(6, 10) },
    { queue: "fifo", policy: "drop_new", kept: numbers(1, 5) },
    { queue: "fifo", policy: "auto", kept: numbers(1, 5) },
    { queue: "lifo", policy: "drop_new", kept: numbers(5, 1) },
    { queue: "lifo", policy: "drop_old", kept: numbers(10, 6) },
    { queue: "lifo", policy: "auto", kept: numbers(10, 6) },
  ])("queue_drop_policy = $policy with $queue, offline", async ({ queue, policy, kept }) => {
    const broker = await startBroker({
      queue_type: queue,
      queue_drop_policy: policy,
      max_offline_messages: "5",
    });
    const s = await backlog(broker, 10);
    expect(payloads(await s.receive(5))).toEqual(kept);
    await s.expectNothing();
    expect(broker.metrics().queue_message_drop).toBe(5);
  });

  test.each([
    { policy: "drop_old", kept: ["1", ...numbers(8, 10)] },
    { policy: "drop_new", kept: ["1", ...numbers(2, 4)] },
  ])("queue_drop_policy = $policy, online behind a full window", async ({ policy, kept }) => {
    const { s, p } = await pair({
      queue_drop_policy: policy,
      max_online_messages: "3",
      max_inflight_messages: "1",
    });
    await s.subscribed("a", { qos: 1 });
    await publishSeries(p, 10, { topic: "a", qos: 1 });
    expect(payloads(await s.receive(4))).toEqual(kept);
    await s.expectNothing();
  });

  test("[W-10] QoS 0 gives way first", async () => {
    const broker = await startBroker({ max_online_messages: "2", max_inflight_messages: "1" });
    const s = await connectClient(broker, 4, { clientId: "s" });
    await s.subscribed("a", { qos: 1 });
    // A socket that takes nothing more: QoS 0 has to wait, too.
    s.pause();
    const p = await connectClient(broker, 4, { clientId: "p" });
    const big = Buffer.alloc(200_000);
    for (let i = 0; i < 100; i++) await p.published({ topic: "a", payload: big });
    await publishSeries(p, 3, { topic: "a", qos: 1 });
    s.resume();
    const found: string[] = [];
    while (found.length < 2) {
      const one = await s.next(10_000);
      if (one.qos !== 1) continue;
      found.push(one.payload?.toString() ?? "");
      s.puback(one.packetId);
    }
    expect(found.slice(0, 2)).toEqual(["1", "2"]);
  });

  test("override_max_online_messages lets the backlog through", async () => {
    for (const [flag, count] of [
      ["on", 30],
      ["off", 5],
    ] as const) {
      const broker = await startBroker({
        max_online_messages: "5",
        override_max_online_messages: flag,
      });
      const s = await backlog(broker, 30);
      expect(payloads(await s.receive(count))).toEqual(numbers(1, count));
      await s.expectNothing();
    }
  });

  test("max_queue_bytes bounds what waits", async () => {
    const { broker, s, p } = await pair({ max_queue_bytes: "1000", max_inflight_messages: "1" });
    await s.subscribed("a", { qos: 1 });
    for (let i = 0; i < 10; i++) {
      await p.published({ topic: "a", payload: `${i}`.repeat(300), qos: 1 });
    }
    const got = await s.receive(4);
    expect(got.map((one) => one.payload?.toString()[0])).toEqual(["0", "1", "2", "3"]);
    await s.expectNothing();
    expect(broker.metrics().queue_message_drop).toBe(6);
  });
});

describe("upgrade_outgoing_qos", () => {
  test.each(VERSIONS)("v%i delivered QoS = granted QoS, even if it is higher", async (version) => {
    const { s, p } = await pair({ upgrade_outgoing_qos: "on" }, version);
    await s.subscribed("a", { qos: 2 });
    for (const qos of [0, 1, 2]) {
      await p.published({ topic: "a", payload: `${qos}`, qos });
      await s.delivered({ payload: `${qos}`, qos: 2 });
    }
    await s.subscribed("b", { qos: 0 });
    await p.published({ topic: "b", qos: 2 });
    await s.delivered({ qos: 0 });
  });

  test("QoS 0 to an offline QoS 1 subscriber is stored then", async () => {
    const broker = await startBroker({ upgrade_outgoing_qos: "on" });
    const first = await connectClient(broker, 4, persistent(4, "s"));
    await first.subscribed("a", { qos: 1 });
    await first.disconnected();
    const p = await connectClient(broker, 4, { clientId: "p" });
    await p.published({ topic: "a", payload: "kept", qos: 0 });
    const s = await connectClient(broker, 4, persistent(4, "s"));
    await s.delivered({ payload: "kept", qos: 1 });
  });

  test("the register hook turns it on for one client", async () => {
    const broker = await startBroker({ allow_anonymous: "off" }, [
      pluginWith({
        auth_on_register: ({ subscriber_id }) =>
          subscriber_id.client_id === "up" ? { ok: { upgrade_qos: true } } : "next",
      }),
    ]);
    const p = await connectClient(broker, 4, { clientId: "p" });
    for (const [clientId, qos] of [
      ["up", 1],
      ["plain", 0],
    ] as const) {
      const s = await connectClient(broker, 4, { clientId });
      await s.subscribed("a", { qos: 1 });
      await p.published({ topic: "a" });
      await s.delivered({ qos });
    }
  });
});

describe("max_connection_lifetime", () => {
  test.each(VERSIONS)(
    "v%i listener setting: 0x98 after its time, will published",
    async (version) => {
      const broker = await startBroker({
        "listener.tcp.short": "127.0.0.1:0",
        "listener.tcp.short.max_connection_lifetime": "1",
      });
      const s = await connectClient(broker, 4, { clientId: "s" });
      await s.subscribed("will");
      const short = { port: broker.port("tcp", "short") };
      const startedAt = performance.now();
      const client = await connectClient(short, version, {
        clientId: "c",
        will: { topic: "will", payload: "gone" },
      });
      await client.published({ topic: "a", qos: 1 });
      await client.ended(0x98);
      const tookMs = performance.now() - startedAt;
      expect(tookMs).toBeGreaterThanOrEqual(950);
      expect(tookMs).toBeLessThan(4000);
      await s.delivered({ payload: "gone" });
    },
  );

  test("the register hook may set it for one client", async () => {
    const broker = await startBroker({ allow_anonymous: "off" }, [
      pluginWith({
        auth_on_register_m5: ({ subscriber_id }) =>
          subscriber_id.client_id === "short" ? { ok: { max_connection_lifetime: 1 } } : "next",
      }),
    ]);
    const long = await connectClient(broker, 5, { clientId: "long" });
    const short = await connectClient(broker, 5, { clientId: "short" });
    await short.ended(0x98);
    await long.ping();
  });
});

describe("max_message_rate", () => {
  test("[W-16] on WebSocket: the client is slowed, nothing is lost, its own downlink goes on", async () => {
    const broker = await startBroker({
      max_message_rate: "2",
      "listener.ws.default": "127.0.0.1:0",
    });
    const target = { transport: "ws" as const, port: broker.port("ws") };
    const slow = await connectClient(target, 5, { clientId: "slow" });
    await slow.subscribed("down", { qos: 0 });
    const s = await connectClient(broker, 4, { clientId: "s" });
    await s.subscribed("up", { qos: 1 });
    const startedAt = performance.now();
    slow.sendTogether(
      ...numbers(1, 6).map((payload) =>
        encodePublish(5, { topic: "up", payload, qos: 1, packetId: Number(payload) }),
      ),
    );
    await s.delivered({ payload: "1" });
    const p = await connectClient(broker, 4, { clientId: "p" });
    await p.published({ topic: "down", payload: "meanwhile" });
    let acks = 0;
    let downAfterAcks = -1;
    while (acks < 6) {
      const one = await slow.next();
      if (one.type === "puback") acks++;
      else downAfterAcks = acks;
    }
    expect(downAfterAcks).toBeLessThan(6);
    const tookMs = performance.now() - startedAt;
    // 2 at once, then 2 per second.
    expect(tookMs).toBeGreaterThanOrEqual(1400);
    expect(tookMs).toBeLessThan(5000);
    for (const payload of numbers(2, 6)) await s.delivered({ payload });
  });

  test("a client that is not read because it is too fast has not gone silent", async () => {
    const broker = await startBroker({ max_message_rate: "1" });
    const client = await connectClient(broker, 4, { clientId: "c", keepAlive: 1 });
    const ids = [1, 2, 3, 4, 5].map(() => client.publish({ topic: "a", qos: 1 }));
    for (const packetId of ids) await client.expect("puback", { packetId });
    await client.closed();
  });

  test("nothing is dropped when the slowed client disconnects and closes", async () => {
    const broker = await startBroker({ max_message_rate: "2" });
    const s = await connectClient(broker, 4, { clientId: "s" });
    await s.subscribed(["a", "will"]);
    const will = { topic: "will", payload: "wrong" };
    const slow = await connectClient(broker, 4, { clientId: "slow", will });
    slow.sendTogether(
      ...numbers(1, 5).map((payload) => encodePublish(4, { topic: "a", payload })),
      encodeCoded("disconnect"),
    );
    slow.end();
    for (const payload of numbers(1, 5)) await s.delivered({ topic: "a", payload });
    await waitGone(broker, "slow");
    await s.expectNothing();
  });

  test("other sessions on the same listener are not slowed", async () => {
    const broker = await startBroker({
      max_message_rate: "1",
      "listener.ws.default": "127.0.0.1:0",
    });
    const target = { transport: "ws" as const, port: broker.port("ws") };
    const slow = await connectClient(target, 4, { clientId: "slow" });
    for (let i = 0; i < 5; i++) slow.publish({ topic: "a", qos: 1 });
    await slow.expect("puback");
    const other = await connectClient(target, 4, { clientId: "other" });
    await other.published({ topic: "a", qos: 1 });
    expect(slow.waiting.length).toBeLessThan(4);
  });
});

describe("overlapping_subscriptions", () => {
  test("each: one copy for each matching filter", async () => {
    const { s, p } = await pair({});
    await s.subscribed(["a/#", "a/+", "a/b"], { qos: 1 });
    await p.published({ topic: "a/b", qos: 1 });
    await s.receive(3);
    await s.expectNothing();
  });

  test("once: one copy with the highest QoS and all identifiers [MQTT-3.3.4-2] [MQTT-3.3.4-4]", async () => {
    const { s, p } = await pair({ overlapping_subscriptions: "once" }, 5);
    for (const [filter, qos, id] of [
      ["a/#", 0, 5],
      ["a/+", 2, 6],
      ["a/b", 1, 7],
    ] as const) {
      await s.subscribed(filter, { qos, properties: { subscriptionIdentifiers: [id] } });
    }
    await s.subscribed("#", { qos: 0 });
    await p.published({ topic: "a/b", payload: "x", qos: 2 });
    const got = await s.delivered({ payload: "x", qos: 2 });
    expect(got.properties?.subscriptionIdentifiers?.sort()).toEqual([5, 6, 7]);
    await s.expectNothing();
  });

  test("once: v4, offline, and other clients as before", async () => {
    const broker = await startBroker({ overlapping_subscriptions: "once" });
    const first = await connectClient(broker, 4, persistent(4, "s"));
    await first.subscribed(["a/#", "a/+"], { qos: 1 });
    await first.disconnected();
    const other = await connectClient(broker, 4, { clientId: "other" });
    await other.subscribed("a/#", { qos: 1 });
    const p = await connectClient(broker, 4, { clientId: "p" });
    await publishSeries(p, 3, { topic: "a/b", qos: 1 });
    expect(payloads(await other.receive(3))).toEqual(numbers(1, 3));
    await other.expectNothing();
    const s = await connectClient(broker, 4, persistent(4, "s"));
    expect(payloads(await s.receive(3))).toEqual(numbers(1, 3));
    await s.expectNothing();
  });

  test("once: a shared subscription is a delivery of its own", async () => {
    const { s, p } = await pair({ overlapping_subscriptions: "once" });
    await s.subscribed(["a/#", "a/+", "$share/g/a/b"], { qos: 1 });
    await p.published({ topic: "a/b", qos: 1 });
    await s.receive(2);
    await s.expectNothing();
  });
});

describe("mountpoints", () => {
  const TWO = {
    "listener.tcp.a": "127.0.0.1:0",
    "listener.tcp.a.mountpoint": "tenant/a/",
    "listener.tcp.b": "127.0.0.1:0",
    "listener.tcp.b.mountpoint": "tenant/b",
  };

  test("nothing passes between them, and clients never see them", async () => {
    const recorder = recordingPlugin();
    const broker = await startBroker(TWO, [recorder.plugin]);
    const a = { port: broker.port("tcp", "a") };
    const b = { port: broker.port("tcp", "b") };
    const inA = await connectClient(a, 5, { clientId: "same" });
    const inB = await connectClient(b, 5, { clientId: "same" });
    const plain = await connectClient(broker, 5, { clientId: "same" });
    for (const s of [inA, inB, plain]) await s.subscribed(["#", "$share/g/t"]);
    const p = await connectClient(a, 5, { clientId: "p" });
    await p.published({ topic: "t", payload: "x", retain: true });
    for (const one of await inA.receive(2)) expect(one.topic).toBe("t");
    for (const s of [inA, inB, plain]) await s.expectNothing();
    // The trailing slash is removed.
    expect(broker.retained("tenant/a")).toHaveLength(1);
    const mountpoints = broker.sessions().map((one) => one.mountpoint);
    expect(new Set(mountpoints)).toEqual(new Set(["tenant/a", "tenant/b", ""]));
    expect(recorder.of("auth_on_publish_m5")[0]?.subscriber_id.mountpoint).toBe("tenant/a");
  });

  test("the register hook moves a client, the publish hook one message", async () => {
    const broker = await startBroker({ ...TWO, allow_anonymous: "off" }, [
      pluginWith({
        auth_on_register: ({ subscriber_id }) =>
          subscriber_id.client_id === "mover"
            ? { ok: { subscriber_id: { mountpoint: "tenant/b", client_id: "moved" } } }
            : "next",
        auth_on_publish: ({ topic }) =>
          topic === "across" ? { ok: { mountpoint: "tenant/b" } } : "next",
      }),
    ]);
    const inB = await connectClient({ port: broker.port("tcp", "b") }, 4, { clientId: "s" });
    await inB.subscribed("#");
    const mover = await connectClient(broker, 4, { clientId: "mover" });
    expect(broker.sessions()).toMatchObject([
      { client_id: "s" },
      { client_id: "moved", mountpoint: "tenant/b" },
    ]);
    await mover.published({ topic: "one", payload: "moved" });
    await inB.delivered({ topic: "one" });
    const plain = await connectClient(broker, 4, { clientId: "plain" });
    await plain.published({ topic: "here" });
    await plain.published({ topic: "across", payload: "x" });
    await inB.delivered({ topic: "across" });
    await inB.expectNothing();
  });
});
