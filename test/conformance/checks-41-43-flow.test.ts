import { describe, expect, test } from "vitest";
import type { Broker } from "../../core/broker-types.ts";
import { startBroker, waitOffline } from "../support/broker.ts";
import { pluginWith } from "../support/plugins.ts";
import { connectClient, type RawClient, type Version } from "../support/raw-client.ts";
import { numbers, payloads, publishSeries, receiveInWindow } from "../support/series.ts";
import { persistent } from "../support/sessions.ts";

/** Checks M-41 to M-43: windows of unacknowledged messages and publish rates. */

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
