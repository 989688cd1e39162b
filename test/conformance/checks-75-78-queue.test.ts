import { describe, expect, test } from "vitest";
import type { Broker } from "../../core/broker-types.ts";
import { startBroker, tempDir, waitFor, waitOffline } from "../support/broker.ts";
import { recordingPlugin } from "../support/plugins.ts";
import { startProcess } from "../support/process.ts";
import { connectClient, type RawClient, type Version } from "../support/raw-client.ts";
import { numbers, payloads, publishSeries } from "../support/series.ts";
import { persistent } from "../support/sessions.ts";

/** Checks M-75 to M-78: queue limits, drop policy, restarts and kill -9. */

const VERSIONS = [3, 4, 5] as const;

/** A persistent subscriber of `a` with QoS 1 that has left. */
async function offline(broker: Broker, version: Version = 4, qos = 1): Promise<void> {
  const s = await connectClient(broker, version, persistent(version, "s"));
  await s.subscribed("a", { qos });
  await s.disconnected();
}

function queueSize(broker: Broker): number {
  return broker.sessions().find((one) => one.client_id === "s")?.queue_size ?? -1;
}

async function back(broker: Broker, version: Version = 4): Promise<RawClient> {
  const s = await connectClient(broker, version, persistent(version, "s"));
  expect(s.connack?.sessionPresent).toBe(true);
  return s;
}

describe("M-75 offline limit 10, 100 messages", () => {
  test.each([
    { type: "fifo", kept: numbers(1, 10), dropped: numbers(11, 100) },
    { type: "lifo", kept: numbers(100, 91), dropped: numbers(1, 90) },
  ])("M-75 $type keeps the right 10 in the right order, 90 drops", async (row) => {
    for (const version of VERSIONS) {
      const recorder = recordingPlugin();
      const settings = { max_offline_messages: "10", queue_type: row.type };
      const broker = await startBroker(settings, [recorder.plugin]);
      await offline(broker, version);
      const p = await connectClient(broker, version, { clientId: "p" });
      await publishSeries(p, 100, { topic: "a", qos: 1 });
      expect(queueSize(broker)).toBe(10);
      const s = await back(broker, version);
      expect(payloads(await s.receive(10))).toEqual(row.kept);
      await s.expectNothing();
      expect(broker.metrics().queue_message_drop).toBe(90);
      const drops = recorder.of("on_message_drop");
      expect(drops.map(({ payload }) => payload.toString())).toEqual(row.dropped);
      expect(drops[0]).toMatchObject({
        subscriber_id: { mountpoint: "", client_id: "s" },
        topic: "a",
        qos: 1,
        reason: "queue_full",
      });
    }
  });

  test.each([
    { type: "fifo", kept: numbers(1, 10) },
    { type: "lifo", kept: numbers(100, 91) },
  ])(
    "M-75 $type the stored queue obeys the same limits after a restart",
    async ({ type, kept }) => {
      // What is dropped is removed from the store a little later: several tries to stop in between.
      for (let round = 0; round < 5; round++) {
        const dataDir = tempDir();
        const settings = { max_offline_messages: "10", queue_type: type };
        const before = await startBroker(settings, [], { dataDir });
        await offline(before);
        const p = await connectClient(before, 4, { clientId: "p" });
        await publishSeries(p, 100, { topic: "a", qos: 1 });
        await before.close();
        const after = await startBroker(settings, [], { dataDir });
        expect(queueSize(after), `round ${round}`).toBe(10);
        const s = await back(after);
        expect(payloads(await s.receive(10))).toEqual(kept);
        await s.expectNothing();
      }
    },
  );

  test("M-75 max_offline_messages = 0 stores nothing, -1 everything", async () => {
    for (const [limit, count] of [
      ["0", 0],
      ["-1", 1500],
    ] as const) {
      const broker = await startBroker({ max_offline_messages: limit, max_online_messages: "-1" });
      await offline(broker);
      const p = await connectClient(broker, 4, { clientId: "p" });
      await publishSeries(p, 1500, { topic: "a", qos: 1 });
      const s = await back(broker);
      expect(payloads(await s.receive(count))).toEqual(count === 0 ? [] : numbers(1, count));
      await s.expectNothing();
    }
  });

  test("M-75 online: messages beyond the window count against max_online_messages", async () => {
    const broker = await startBroker({ max_inflight_messages: "1", max_online_messages: "3" });
    const s = await connectClient(broker, 4, { clientId: "s" });
    await s.subscribed("a", { qos: 1 });
    const p = await connectClient(broker, 4, { clientId: "p" });
    await publishSeries(p, 10, { topic: "a", qos: 1 });
    expect(payloads(await s.receive(4))).toEqual(numbers(1, 4));
    await s.expectNothing();
    expect(broker.metrics().queue_message_drop).toBe(6);
  });

  test("M-75 max_online_messages = 0: nothing is ever delivered", async () => {
    const broker = await startBroker({ max_online_messages: "0" });
    const s = await connectClient(broker, 4, { clientId: "s" });
    await s.subscribed("a", { qos: 1 });
    const p = await connectClient(broker, 4, { clientId: "p" });
    for (const qos of [0, 1, 2]) await p.published({ topic: "a", payload: "x", qos });
    await s.expectNothing();
  });

  test("M-75 QoS 0 to an offline session is never stored, but counted", async () => {
    const broker = await startBroker();
    await offline(broker, 4, 1);
    const p = await connectClient(broker, 4, { clientId: "p" });
    await publishSeries(p, 3, { topic: "a", qos: 0 });
    expect(queueSize(broker)).toBe(0);
    expect(broker.metrics().queue_message_unhandled).toBe(3);
    const s = await back(broker);
    await s.expectNothing();
  });

  test("M-75 limits from the register hook win over the settings", async () => {
    const limits = { max_offline_messages: 2, queue_type: "lifo" as const };
    const broker = await startBroker({ allow_anonymous: "off" }, [
      { name: "limits", hooks: { auth_on_register: () => ({ ok: limits }) } },
    ]);
    await offline(broker);
    const p = await connectClient(broker, 4, { clientId: "p" });
    await publishSeries(p, 5, { topic: "a", qos: 1 });
    const s = await back(broker);
    expect(payloads(await s.receive(2))).toEqual(["5", "4"]);
    await s.expectNothing();
  });
});

describe("M-76 offline 100, online limit 10", () => {
  const LIMITS = { max_offline_messages: "100", max_online_messages: "10" };

  async function hundredWaiting(settings: Record<string, string>): Promise<Broker> {
    const broker = await startBroker({ ...LIMITS, ...settings });
    await offline(broker);
    const p = await connectClient(broker, 4, { clientId: "p" });
    await publishSeries(p, 100, { topic: "a", qos: 1 });
    expect(queueSize(broker)).toBe(100);
    return broker;
  }

  test("M-76 default → the first 10, the rest is dropped", async () => {
    const broker = await hundredWaiting({});
    const s = await back(broker);
    expect(payloads(await s.receive(10))).toEqual(numbers(1, 10));
    await s.expectNothing();
    expect(broker.metrics().queue_message_drop).toBe(90);
  });

  test("M-76 default with lifo → the newest 10", async () => {
    const broker = await hundredWaiting({ queue_type: "lifo" });
    const s = await back(broker);
    expect(payloads(await s.receive(10))).toEqual(numbers(100, 91));
    await s.expectNothing();
  });

  test.each([
    { type: "fifo", order: numbers(1, 100) },
    { type: "lifo", order: numbers(100, 1) },
  ])("M-76 override_max_online_messages = on, $type → all 100", async ({ type, order }) => {
    const broker = await hundredWaiting({ override_max_online_messages: "on", queue_type: type });
    const s = await back(broker);
    expect(payloads(await s.receive(100))).toEqual(order);
    await s.expectNothing();
    expect(broker.metrics().queue_message_drop).toBe(0);
  });

  test("M-76 override also on takeover: nothing is lost", async () => {
    const broker = await hundredWaiting({ override_max_online_messages: "on" });
    const first = await back(broker);
    for (let i = 0; i < 20; i++) await first.expect("publish");
    const second = await back(broker);
    expect(payloads(await second.receive(100))).toEqual(numbers(1, 100));
    await second.expectNothing();
    await first.closed();
  });
});

describe("M-76 queues longer than what memory holds", () => {
  const UNLIMITED = {
    max_offline_messages: "-1",
    max_online_messages: "-1",
    max_inflight_messages: "100",
  };

  test.each([
    { type: "fifo", order: numbers(1, 4000) },
    { type: "lifo", order: numbers(4000, 1) },
  ])("M-76 $type 4000 offline messages arrive in order, also after a restart", async (row) => {
    const dataDir = tempDir();
    const settings = { ...UNLIMITED, queue_type: row.type };
    const before = await startBroker(settings, [], { dataDir });
    await offline(before);
    const p = await connectClient(before, 4, { clientId: "p" });
    await publishSeries(p, 4000, { topic: "a", qos: 1 });
    await before.close();
    const after = await startBroker(settings, [], { dataDir });
    expect(queueSize(after)).toBe(4000);
    const s = await back(after);
    expect(payloads(await s.receive(4000))).toEqual(row.order);
    await s.expectNothing();
    expect(queueSize(after)).toBe(0);
  });

  test("M-76 messages that come while the backlog is read keep their place", async () => {
    const dataDir = tempDir();
    const broker = await startBroker(UNLIMITED, [], { dataDir });
    await offline(broker);
    const p = await connectClient(broker, 4, { clientId: "p" });
    await publishSeries(p, 3000, { topic: "a", qos: 1 });
    const s = await back(broker);
    const receiving = s.receive(6000, 20_000);
    await publishSeries(p, 6000, { topic: "a", qos: 1 }, 3001);
    expect(payloads(await receiving)).toEqual(numbers(1, 6000));
    await s.expectNothing();
  });

  test("M-76 a takeover in the middle of the backlog loses and repeats nothing acknowledged", async () => {
    const dataDir = tempDir();
    const broker = await startBroker(UNLIMITED, [], { dataDir });
    await offline(broker);
    const p = await connectClient(broker, 4, { clientId: "p" });
    await publishSeries(p, 3000, { topic: "a", qos: 1 });
    let next = 1;
    while (next <= 3000) {
      const s = await back(broker);
      const count = Math.min(700, 3001 - next);
      const got = await s.receive(count);
      expect(payloads(got)).toEqual(numbers(next, next + count - 1));
      // What was acknowledged before the answer to this is done with.
      await s.ping().catch(() => undefined);
      next += count;
    }
    const s = await back(broker);
    await s.expectNothing();
  });
});

describe("M-77 a broker that is killed", () => {
  test("M-77 one stored message: delivered once after the restart, the store is empty then", async () => {
    const broker = await startProcess();
    const first = await connectClient(broker.port, 5, persistent(5, "s"));
    await first.subscribed("a", { qos: 1 });
    await first.disconnected();
    const p = await connectClient(broker.port, 5, { clientId: "p" });
    await p.published({ topic: "a", payload: "kept", qos: 1 });
    await broker.kill();

    await broker.start();
    const s = await connectClient(broker.port, 5, persistent(5, "s"));
    expect(s.connack?.sessionPresent).toBe(true);
    await s.delivered({ topic: "a", payload: "kept", qos: 1 });
    await s.expectNothing();
    await s.disconnected();
    // Orderly: a PUBACK is not answered, so after kill -9 the message might come again with DUP.
    await broker.stop();

    await broker.start();
    const again = await connectClient(broker.port, 5, persistent(5, "s"));
    expect(again.connack?.sessionPresent).toBe(true);
    await again.expectNothing();
  });

  test.each([1, 2])(
    "M-77 [W] kill -9 with 20 QoS %i messages in flight → all 20 redelivered with DUP",
    async (qos) => {
      const broker = await startProcess();
      const first = await connectClient(broker.port, 4, persistent(4, "s"));
      await first.subscribed("a", { qos });
      const p = await connectClient(broker.port, 4, { clientId: "p" });
      // The publisher's acknowledgements say that all 25 are safe.
      await publishSeries(p, 25, { topic: "a", qos });
      const sent = [];
      for (let i = 0; i < 20; i++) sent.push(await first.expect("publish", { qos, dup: false }));
      await broker.kill();

      await broker.start();
      const s = await connectClient(broker.port, 4, persistent(4, "s"));
      expect(s.connack?.sessionPresent).toBe(true);
      const got = await s.receive(25);
      expect(payloads(got)).toEqual(numbers(1, 25));
      expect(got.slice(0, 20).every((one) => one.dup)).toBe(true);
      expect(got.slice(0, 20).map((one) => one.packetId)).toEqual(sent.map((one) => one.packetId));
      await s.expectNothing();
    },
  );

  test("M-77 [W] the exactly-once state of both directions survives kill -9", async () => {
    const broker = await startProcess();
    const first = await connectClient(broker.port, 5, persistent(5, "s"));
    await first.subscribed("a", { qos: 2 });
    const p = await connectClient(broker.port, 5, persistent(5, "p"));
    p.publish({ topic: "a", payload: "in", qos: 2, packetId: 77 });
    await p.expect("pubrec", { packetId: 77 });
    const out = await first.expect("publish", { payload: "in", qos: 2 });
    first.pubrec(out.packetId);
    await first.expect("pubrel", { packetId: out.packetId ?? 0 });
    await broker.kill();

    await broker.start();
    // Outbound: only PUBREL is left. Inbound: the repeated PUBLISH is not routed again.
    const s = await connectClient(broker.port, 5, persistent(5, "s"));
    await s.expect("pubrel", { packetId: out.packetId ?? 0 });
    const again = await connectClient(broker.port, 5, persistent(5, "p"));
    again.publish({ topic: "a", payload: "in", qos: 2, packetId: 77, dup: true });
    await again.expect("pubrec", { packetId: 77 });
    again.pubrel(77);
    await again.expect("pubcomp", { packetId: 77, code: 0 });
    await s.expectNothing();
    s.pubcomp(out.packetId);
    await s.expectNothing();
  });

  test("M-77 acknowledged subscriptions and retained messages survive kill -9", async () => {
    const broker = await startProcess();
    const first = await connectClient(broker.port, 4, persistent(4, "s"));
    await first.subscribed(["a", "b/#"], { qos: 1 });
    await first.unsubscribed("a");
    const p = await connectClient(broker.port, 4, { clientId: "p" });
    await p.published({ topic: "kept", payload: "x", qos: 1, retain: true });
    await p.published({ topic: "cleared", payload: "x", qos: 1, retain: true });
    await p.published({ topic: "cleared", payload: "", qos: 1, retain: true });
    await broker.kill();

    await broker.start();
    const late = await connectClient(broker.port, 4, { clientId: "late" });
    await late.subscribed(["kept", "cleared"], { qos: 1 });
    await late.delivered({ topic: "kept", payload: "x", retain: true });
    await late.expectNothing();
    await late.published({ topic: "a", qos: 1 });
    await late.published({ topic: "b/c", qos: 1 });
    const s = await connectClient(broker.port, 4, persistent(4, "s"));
    await s.delivered({ topic: "b/c" });
    await s.expectNothing();
  });

  test("M-77 a client that was connected when the broker died is offline afterwards", async () => {
    const dataDir = tempDir();
    const broker = await startProcess({ dataDir });
    const first = await connectClient(broker.port, 4, persistent(4, "s"));
    await first.subscribed("a", { qos: 1 });
    await broker.kill();
    const after = await startBroker({}, [], { dataDir });
    expect(after.sessions()).toMatchObject([{ client_id: "s", is_online: false }]);
    const p = await connectClient(after, 4, { clientId: "p" });
    await p.published({ topic: "a", payload: "later", qos: 1 });
    const s = await back(after);
    await s.delivered({ payload: "later" });
  });

  test("M-77 the will of a client that was connected is published after the restart", async () => {
    const broker = await startProcess();
    const first = await connectClient(broker.port, 4, persistent(4, "s"));
    await first.subscribed("will", { qos: 1 });
    await first.disconnected();
    const will = { topic: "will", payload: "gone", qos: 1 };
    const connect = { ...persistent(5, "dying"), will };
    await connectClient(broker.port, 5, connect);
    await broker.kill();
    await broker.start();
    const s = await connectClient(broker.port, 4, persistent(4, "s"));
    await s.delivered({ topic: "will", payload: "gone" });
    await s.expectNothing();
  });

  test("M-77 an orderly stop ends with 0 and keeps everything", async () => {
    const broker = await startProcess();
    const first = await connectClient(broker.port, 5, persistent(5, "s"));
    await first.subscribed("a", { qos: 1 });
    const p = await connectClient(broker.port, 4, { clientId: "p" });
    await publishSeries(p, 3, { topic: "a", qos: 1 });
    for (let i = 0; i < 3; i++) await first.expect("publish");
    expect(await broker.stop()).toBe(0);
    await first.ended(0x8b);
    await broker.start();
    const s = await connectClient(broker.port, 5, persistent(5, "s"));
    const got = await s.receive(3);
    expect(payloads(got)).toEqual(numbers(1, 3));
    expect(got.every((one) => one.dup)).toBe(true);
  });
});

describe("M-78 delivery QoS is stored", () => {
  test.each([
    { published: 2, granted: 1 },
    { published: 1, granted: 2 },
    { published: 2, granted: 2 },
  ])(
    "M-78 [W] publish QoS $published, subscription QoS $granted, restart → the smaller",
    async ({ published, granted }) => {
      const dataDir = tempDir();
      const before = await startBroker({}, [], { dataDir });
      await offline(before, 5, granted);
      const p = await connectClient(before, 5, { clientId: "p" });
      await p.published({ topic: "a", payload: "x", qos: published });
      await before.close();
      const after = await startBroker({}, [], { dataDir });
      const s = await back(after, 5);
      await s.delivered({ payload: "x", qos: Math.min(published, granted), dup: false });
      await s.expectNothing();
    },
  );

  test("M-78 RETAIN, identifiers and properties are stored with it", async () => {
    const dataDir = tempDir();
    const before = await startBroker({}, [], { dataDir });
    const first = await connectClient(before, 5, persistent(5, "s"));
    await first.subscribed([{ filter: "a", qos: 1, retainAsPublished: true }], {
      properties: { subscriptionIdentifiers: [7] },
    });
    first.cut();
    await waitOffline(before, "s");
    const p = await connectClient(before, 5, { clientId: "p" });
    const properties = { contentType: "c", correlationData: Buffer.from([0, 255]) };
    await p.published({ topic: "a", payload: "x", qos: 2, retain: true, properties });
    await before.close();
    const after = await startBroker({}, [], { dataDir });
    await waitFor("the session is loaded", () => after.sessions().length === 1);
    const s = await back(after, 5);
    await s.delivered({
      payload: "x",
      qos: 1,
      retain: true,
      exactProperties: { ...properties, subscriptionIdentifiers: [7] },
    });
  });
});
