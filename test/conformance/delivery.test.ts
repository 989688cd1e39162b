import { describe, expect, test } from "vitest";
import { startBroker, waitOffline } from "../support/broker.ts";
import { connectClient, encodePublish, type Packet, type Version } from "../support/raw-client.ts";
import { publishSeries } from "../support/series.ts";
import { persistent } from "../support/sessions.ts";

/** Delivery QoS, packet identifiers and stray acknowledgements. */

const VERSIONS: readonly Version[] = [3, 4, 5];

describe("delivered QoS (6)", () => {
  test.each(VERSIONS)("v%i is the minimum of published and granted", async (version) => {
    const broker = await startBroker();
    const publisher = await connectClient(broker, 4, { clientId: "p" });
    for (const granted of [0, 1, 2]) {
      const subscriber = await connectClient(broker, version, { clientId: `s${granted}` });
      await subscriber.subscribed("t", { qos: granted });
      for (const qos of [0, 1, 2]) {
        await publisher.published({ topic: "t", payload: String(qos), qos });
        const want = Math.min(qos, granted);
        await subscriber.delivered({ qos: want, payload: String(qos), dup: false, retain: false });
      }
      await subscriber.disconnected();
    }
  });

  test.each(VERSIONS)("v%i upgrade_outgoing_qos=on: the granted QoS", async (version) => {
    const broker = await startBroker({ upgrade_outgoing_qos: "on" });
    const publisher = await connectClient(broker, 4, { clientId: "p" });
    const subscriber = await connectClient(broker, version, { clientId: "s" });
    await subscriber.subscribed("t", { qos: 2 });
    for (const qos of [0, 1, 2]) {
      await publisher.published({ topic: "t", qos });
      await subscriber.delivered({ qos: 2 });
    }
  });

  test("upgrade_outgoing_qos=on stores QoS 0 for an offline client (5)", async () => {
    const broker = await startBroker({ upgrade_outgoing_qos: "on" });
    const publisher = await connectClient(broker, 4, { clientId: "p" });
    const subscriber = await connectClient(broker, 4, { clientId: "s", clean: false });
    await subscriber.subscribed("t", { qos: 1 });
    subscriber.cut();
    await waitOffline(broker, "s");
    await publisher.published({ topic: "t", payload: "x", qos: 0 });
    const back = await connectClient(broker, 4, { clientId: "s", clean: false });
    await back.delivered({ payload: "x", qos: 1 });
  });

  test("QoS 0 for an offline client is not stored and counted as unhandled (5)", async () => {
    const broker = await startBroker();
    const publisher = await connectClient(broker, 4, { clientId: "p" });
    const subscriber = await connectClient(broker, 4, { clientId: "s", clean: false });
    await subscriber.subscribed("t", { qos: 1 });
    subscriber.cut();
    await waitOffline(broker, "s");
    await publisher.published({ topic: "t", qos: 0 });
    expect(broker.metrics().queue_message_unhandled).toBe(1);
    const back = await connectClient(broker, 4, { clientId: "s", clean: false });
    await back.expectNothing();
  });
});

describe("stray acknowledgements (6, W-11 e)", () => {
  test.each(VERSIONS)(
    "v%i unknown PUBACK, PUBREC and PUBCOMP leave the connection open",
    async (version) => {
      const broker = await startBroker();
      const client = await connectClient(broker, version, { clientId: "c" });
      client.puback(77);
      await client.expectNothing();
      client.pubrec(78);
      await client.expect("pubrel", { packetId: 78, ...(version === 5 ? { code: 0x92 } : {}) });
      client.pubcomp(79);
      await client.expectNothing();
      client.pubrel(80);
      await client.expect("pubcomp", { packetId: 80, ...(version === 5 ? { code: 0x92 } : {}) });
      const metrics = broker.metrics();
      expect(metrics.mqtt_puback_invalid_error).toBe(1);
      // VerneMQ has this one for 3.x only.
      expect(metrics.mqtt_pubrec_invalid_error).toBe(version === 5 ? 0 : 1);
      expect(metrics.mqtt_pubcomp_invalid_error).toBe(1);
    },
  );

  test("v5 the wrong kind of acknowledgement is a protocol error", async () => {
    const broker = await startBroker();
    const publisher = await connectClient(broker, 5, { clientId: "p" });
    for (const [qos, answer] of [
      [2, "puback"],
      [1, "pubrec"],
      [1, "pubcomp"],
    ] as const) {
      const client = await connectClient(broker, 5, { clientId: `${qos}${answer}` });
      await client.subscribed("t", { qos });
      await publisher.published({ topic: "t", qos });
      const { packetId } = await client.expect("publish", { qos });
      client[answer](packetId);
      await client.ended(0x82);
    }
  });
});

test("W-11 a: an id in flight is not used again when the numbers wrap; 65535 is used", async () => {
  const count = 66_000;
  const broker = await startBroker({ max_online_messages: "-1" });
  const subscriber = await connectClient(broker, 5, { clientId: "s" });
  await subscriber.subscribed("t", { qos: 1 });
  const publisher = await connectClient(broker, 4, { clientId: "p" });
  const ids = new Set<number>();
  let held: Packet | undefined;
  for (let from = 0; from < count; from += 1000) {
    const batch = Array.from({ length: 1000 }, (_, i) =>
      encodePublish(4, { topic: "t", payload: String(from + i), qos: 1, packetId: i + 1 }),
    );
    publisher.sendTogether(...batch);
    for (let i = 0; i < 1000; i++) {
      await publisher.expect("puback", { packetId: i + 1 });
      const publish = await subscriber.expect("publish", { payload: String(from + i) });
      if (held === undefined) {
        held = publish;
        continue;
      }
      ids.add(publish.packetId ?? 0);
      subscriber.puback(publish.packetId);
    }
    publisher.forget();
    subscriber.forget();
  }
  expect(ids.has(held?.packetId ?? 0)).toBe(false);
  expect(ids.has(0)).toBe(false);
  expect(ids.has(65_535)).toBe(true);
  expect(ids.size).toBe(65_534);
});

describe("many unacknowledged messages over a reconnect (6, 16)", () => {
  test.each([
    ["all of them in flight", 1200, 0],
    ["some in flight, some waiting", 1200, 300],
    ["few in flight, many waiting", 3, 1500],
  ])("%s", async (_name, inFlight, waiting) => {
    const broker = await startBroker({ max_online_messages: "-1", max_offline_messages: "-1" });
    const first = await connectClient(broker, 5, persistent(5, "s"));
    await first.subscribed("t", { qos: 1 });
    const publisher = await connectClient(broker, 4, { clientId: "p" });
    await publishSeries(publisher, inFlight, { topic: "t", qos: 1 });
    for (let i = 1; i <= inFlight; i++) await first.expect("publish", { payload: String(i) });
    first.cut();
    await waitOffline(broker, "s");
    if (waiting > 0) {
      await publishSeries(publisher, inFlight + waiting, { topic: "t", qos: 1 }, inFlight + 1);
    }
    const second = await connectClient(broker, 5, persistent(5, "s"));
    for (let i = 1; i <= inFlight + waiting; i++) {
      await second.expect("publish", { payload: String(i), dup: i <= inFlight, packetId: i });
    }
    // And what is published now is not forgotten behind them.
    await publisher.published({ topic: "t", payload: "live", qos: 1 });
    await second.expect("publish", { payload: "live" });
    await second.expectNothing();
  });
});
