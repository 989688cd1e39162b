import { describe, expect, test } from "vitest";
import { startBroker, tempDir } from "../support/broker.ts";
import { watch } from "../support/pair.ts";
import { pluginWith, recordingPlugin } from "../support/plugins.ts";
import {
  connectClient,
  encodePublish,
  type RawClient,
  type Version,
} from "../support/raw-client.ts";
import { leave, persistent } from "../support/sessions.ts";

/** Checks M-28 to M-34: acknowledgements, reconnects and retries. Delivery: delivery.test.ts. */

const VERSIONS: readonly Version[] = [3, 4, 5];

describe("M-28 acknowledgements", () => {
  test.each(VERSIONS)("M-28 v%i QoS 1 id 19, QoS 2 id 312", async (version) => {
    const broker = await startBroker();
    const watcher = await watch(broker);
    const client = await connectClient(broker, version, { clientId: "p" });
    client.publish({ topic: "t", payload: "1", qos: 1, packetId: 19 });
    const ok = version === 5 ? { code: 0 } : {};
    await client.expect("puback", { packetId: 19, ...ok });
    client.publish({ topic: "t", payload: "2", qos: 2, packetId: 312 });
    await client.expect("pubrec", { packetId: 312, ...ok });
    client.pubrel(312);
    await client.expect("pubcomp", { packetId: 312, ...ok });
    await watcher.delivered({ payload: "1", qos: 1 });
    await watcher.delivered({ payload: "2", qos: 2 });
    for (const name of ["puback", "pubrec", "pubcomp"]) {
      expect(broker.metrics()[`mqtt_${name}_sent`]).toBe(1);
    }
  });

  test("M-28 [W] v5 without a matching subscription: 0x10", async () => {
    const broker = await startBroker();
    const client = await connectClient(broker, 5, { clientId: "p" });
    client.publish({ topic: "nobody", qos: 1, packetId: 1 });
    await client.expect("puback", { packetId: 1, code: 0x10 });
    client.publish({ topic: "nobody", qos: 2, packetId: 2 });
    await client.expect("pubrec", { packetId: 2, code: 0x10 });
    client.pubrel(2);
    await client.expect("pubcomp", { packetId: 2, code: 0 });
  });

  test("M-28 packets are acknowledged in the order in which they came", async () => {
    const dataDir = tempDir();
    const broker = await startBroker({}, [], { dataDir });
    const offline = await connectClient(broker, 4, persistent(4, "s"));
    await offline.subscribed("stored", { qos: 2 });
    await leave(broker, offline, "s");
    const client = await connectClient(broker, 5, { clientId: "p" });
    // Only some of them wait for the store.
    const order = Array.from({ length: 40 }, (_, i) => ({
      topic: i % 3 === 0 ? "stored" : "other",
      qos: (i % 2) + 1,
      packetId: 100 - i,
    }));
    client.sendTogether(...order.map((publish) => encodePublish(5, publish)));
    for (const { qos, packetId } of order) {
      await client.expect(qos === 1 ? "puback" : "pubrec", { packetId });
    }
  });
});

describe("M-29 repeated QoS 2 PUBLISH", () => {
  test.each(VERSIONS)(
    "M-29 v%i same id before PUBREL → two PUBREC, one delivery",
    async (version) => {
      const recorder = recordingPlugin();
      const broker = await startBroker({}, [recorder.plugin]);
      const watcher = await watch(broker);
      const client = await connectClient(broker, version, { clientId: "p" });
      client.publish({ topic: "t", payload: "x", qos: 2, packetId: 7 });
      client.publish({ topic: "t", payload: "x", qos: 2, packetId: 7, dup: true });
      for (let i = 0; i < 2; i++) {
        await client.expect("pubrec", { packetId: 7, ...(version === 5 ? { code: 0 } : {}) });
      }
      client.pubrel(7);
      await client.expect("pubcomp", { packetId: 7 });
      await watcher.delivered({ payload: "x" });
      await watcher.expectNothing();
      // Repeated ones skip the hooks.
      expect(recorder.of(version === 5 ? "auth_on_publish_m5" : "auth_on_publish")).toHaveLength(1);
      // The id is free again.
      await client.published({ topic: "t", payload: "y", qos: 2, packetId: 7 });
      await watcher.delivered({ payload: "y" });
    },
  );
});

describe("M-30 QoS 2 over a reconnect", () => {
  test.each(VERSIONS)(
    "M-30 [W] v%i the id is still known, nothing is routed twice",
    async (version) => {
      const broker = await startBroker();
      const watcher = await watch(broker);
      const first = await connectClient(broker, version, persistent(version, "p"));
      first.publish({ topic: "t", payload: "once", qos: 2, packetId: 5 });
      await first.expect("pubrec", { packetId: 5 });
      await leave(broker, first, "p");
      const second = await connectClient(broker, version, persistent(version, "p"));
      second.publish({ topic: "t", payload: "once", qos: 2, packetId: 5, dup: true });
      await second.expect("pubrec", { packetId: 5 });
      await watcher.delivered({ payload: "once" });
      await watcher.expectNothing();
      second.pubrel(5);
      await second.expect("pubcomp", { packetId: 5, ...(version === 5 ? { code: 0 } : {}) });
      await leave(broker, second, "p");
      const third = await connectClient(broker, version, persistent(version, "p"));
      third.pubrel(5);
      await third.expect("pubcomp", { packetId: 5, ...(version === 5 ? { code: 0x92 } : {}) });
      await third.expectNothing();
    },
  );

  test.each([4, 5] as const)("M-30 [W] v%i and over a restart of the broker", async (version) => {
    const dataDir = tempDir();
    const broker = await startBroker({}, [], { dataDir });
    const first = await connectClient(broker, version, persistent(version, "p"));
    first.publish({ topic: "t", payload: "once", qos: 2, packetId: 5 });
    await first.expect("pubrec", { packetId: 5 });
    await broker.close();
    const again = await startBroker({}, [], { dataDir });
    const watcher = await watch(again);
    const second = await connectClient(again, version, persistent(version, "p"));
    expect(second.connack?.sessionPresent).toBe(true);
    second.publish({ topic: "t", payload: "once", qos: 2, packetId: 5, dup: true });
    await second.expect("pubrec", { packetId: 5 });
    second.pubrel(5);
    await second.expect("pubcomp", { packetId: 5, ...(version === 5 ? { code: 0 } : {}) });
    await watcher.expectNothing();
  });

  test.each(VERSIONS)("M-30 v%i a clean session forgets its ids", async (version) => {
    const broker = await startBroker();
    const watcher = await watch(broker);
    for (const payload of ["1", "2"]) {
      const client = await connectClient(broker, version, { clientId: "p" });
      client.publish({ topic: "t", payload, qos: 2, packetId: 5 });
      await client.expect("pubrec", { packetId: 5 });
      await watcher.delivered({ payload });
    }
  });
});

describe("M-31 to M-33 delivery at QoS 2 and over reconnects", () => {
  test.each(VERSIONS)("M-31 v%i PUBREC twice → PUBREL twice, PUBCOMP ends it", async (version) => {
    const broker = await startBroker();
    const subscriber = await connectClient(broker, version, { clientId: "s" });
    await subscriber.subscribed("t", { qos: 2 });
    const publisher = await connectClient(broker, 4, { clientId: "p" });
    await publisher.published({ topic: "t", payload: "x", qos: 2 });
    const { packetId } = await subscriber.expect("publish", { qos: 2, dup: false });
    for (let i = 0; i < 2; i++) {
      subscriber.pubrec(packetId);
      const pubrel = await subscriber.expect("pubrel", { packetId: packetId ?? 0, flags: 2 });
      if (version === 5) expect(pubrel.code).toBe(0);
    }
    expect(broker.sessions().find((s) => s.client_id === "s")?.inflight).toBe(1);
    subscriber.pubcomp(packetId);
    await subscriber.expectNothing();
    expect(broker.sessions().find((s) => s.client_id === "s")?.inflight).toBe(0);
  });

  test.each(VERSIONS)("M-32 v%i QoS 1 not acked, cut → same id, DUP 1", async (version) => {
    const broker = await startBroker();
    const first = await connectClient(broker, version, persistent(version, "s"));
    await first.subscribed("t", { qos: 1 });
    const publisher = await connectClient(broker, 4, { clientId: "p" });
    await publisher.published({ topic: "t", payload: "x", qos: 1 });
    const { packetId = 0 } = await first.expect("publish", { dup: false });
    for (let i = 0; i < 2; i++) {
      await leave(broker, first, "s");
      const next = await connectClient(broker, version, persistent(version, "s"));
      await next.expect("publish", { packetId, dup: true, qos: 1, payload: "x" });
      await leave(broker, next, "s");
    }
    const last = await connectClient(broker, version, persistent(version, "s"));
    await last.expect("publish", { packetId, dup: true });
    last.puback(packetId);
    await last.ping();
    await leave(broker, last, "s");
    const empty = await connectClient(broker, version, persistent(version, "s"));
    await empty.expectNothing();
  });

  test.each(VERSIONS)("M-32 v%i QoS 2 after PUBREC and cut → PUBREL, same id", async (version) => {
    const broker = await startBroker();
    const first = await connectClient(broker, version, persistent(version, "s"));
    await first.subscribed("t", { qos: 2 });
    const publisher = await connectClient(broker, 4, { clientId: "p" });
    await publisher.published({ topic: "t", payload: "x", qos: 2 });
    const { packetId = 0 } = await first.expect("publish");
    // Before PUBREC: the message again.
    await leave(broker, first, "s");
    const second = await connectClient(broker, version, persistent(version, "s"));
    await second.expect("publish", { packetId, dup: true, qos: 2 });
    second.pubrec(packetId);
    await second.expect("pubrel", { packetId });
    // After it: only PUBREL.
    await leave(broker, second, "s");
    const third = await connectClient(broker, version, persistent(version, "s"));
    await third.expect("pubrel", { packetId, flags: 2 });
    third.pubcomp(packetId);
    await third.ping();
    await leave(broker, third, "s");
    await (await connectClient(broker, version, persistent(version, "s"))).expectNothing();
  });

  test.each(VERSIONS)("M-33 v%i the id of a stored PUBREL is not used again", async (version) => {
    const broker = await startBroker();
    const first = await connectClient(broker, version, persistent(version, "s"));
    await first.subscribed("t", { qos: 2 });
    const publisher = await connectClient(broker, 4, { clientId: "p" });
    await publisher.published({ topic: "t", payload: "1", qos: 2 });
    await first.expect("publish", { packetId: 1 });
    first.pubrec(1);
    await first.expect("pubrel", { packetId: 1 });
    await leave(broker, first, "s");
    const second = await connectClient(broker, version, persistent(version, "s"));
    await second.expect("pubrel", { packetId: 1 });
    await publisher.published({ topic: "t", payload: "2", qos: 2 });
    await second.expect("publish", { packetId: 2, payload: "2", dup: false });
    second.pubcomp(1);
    await second.ping();
  });

  test("M-33 and M-32 over a restart of the broker", async () => {
    const dataDir = tempDir();
    const broker = await startBroker({}, [], { dataDir });
    const first = await connectClient(broker, 4, persistent(4, "s"));
    await first.subscribed("t", { qos: 2 });
    const publisher = await connectClient(broker, 4, { clientId: "p" });
    await publisher.published({ topic: "t", payload: "released", qos: 2 });
    await publisher.published({ topic: "t", payload: "sent", qos: 2 });
    await publisher.published({ topic: "t", payload: "one", qos: 1 });
    for (const packetId of [1, 2, 3]) await first.expect("publish", { packetId });
    first.pubrec(1);
    await first.expect("pubrel", { packetId: 1 });
    await broker.close();
    const again = await startBroker({}, [], { dataDir });
    const other = await connectClient(again, 4, { clientId: "p" });
    await other.published({ topic: "t", payload: "new", qos: 1 });
    const second = await connectClient(again, 4, persistent(4, "s"));
    await second.expect("pubrel", { packetId: 1 });
    await second.expect("publish", { packetId: 2, dup: true, payload: "sent", qos: 2 });
    await second.expect("publish", { packetId: 3, dup: true, payload: "one", qos: 1 });
    await second.expect("publish", { packetId: 4, dup: false, payload: "new" });
  });
});

describe("M-34 retries on a live connection", () => {
  test.each([3, 4] as const)(
    "M-34 v%i PUBLISH again with DUP, then PUBREL again",
    async (version) => {
      const broker = await startBroker({ retry_interval: "1" });
      const subscriber = await connectClient(broker, version, { clientId: "s" });
      await subscriber.subscribed("t", { qos: 2 });
      const publisher = await connectClient(broker, 4, { clientId: "p" });
      await publisher.published({ topic: "t", payload: "1", qos: 1 });
      await publisher.published({ topic: "t", payload: "2", qos: 2 });
      await publisher.published({ topic: "t", payload: "0", qos: 0 });
      const seen = [await subscriber.next(), await subscriber.next(), await subscriber.next()];
      expect(seen.map((packet) => packet.payload?.toString())).toEqual(["1", "2", "0"]);
      const started = performance.now();
      await subscriber.expect("publish", { packetId: 1, dup: true, qos: 1, payload: "1" });
      const elapsed = performance.now() - started;
      expect(elapsed).toBeGreaterThan(850);
      expect(elapsed).toBeLessThan(2200);
      await subscriber.expect("publish", { packetId: 2, dup: true, qos: 2, payload: "2" });
      subscriber.puback(1);
      subscriber.pubrec(2);
      await subscriber.expect("pubrel", { packetId: 2, flags: 2 });
      await subscriber.expect("pubrel", { packetId: 2, flags: 2 });
      subscriber.pubcomp(2);
      await subscriber.expectSilence(1300);
    },
  );

  test("M-34 [W-11 f] a retry carries what the on_deliver hook made of it", async () => {
    let calls = 0;
    const rewrite = pluginWith({
      on_deliver: () => ({ ok: { topic: "rewritten", payload: `call ${++calls}` } }),
    });
    const broker = await startBroker({ retry_interval: "1" }, [rewrite]);
    const subscriber = await connectClient(broker, 4, { clientId: "s" });
    await subscriber.subscribed("t", { qos: 1 });
    const publisher = await connectClient(broker, 4, { clientId: "p" });
    await publisher.published({ topic: "t", payload: "x", qos: 1 });
    await subscriber.expect("publish", { topic: "rewritten", payload: "call 1", dup: false });
    await subscriber.expect("publish", { topic: "rewritten", payload: "call 1", dup: true });
  });

  test("M-34 v5 and retry_interval=0: nothing is re-sent", async () => {
    const broker = await startBroker({ retry_interval: "1" });
    const never = await startBroker({ retry_interval: "0" });
    const clients: RawClient[] = [];
    for (const [server, version] of [
      [broker, 5],
      [never, 4],
    ] as const) {
      const subscriber = await connectClient(server, version, { clientId: "s" });
      await subscriber.subscribed("t", { qos: 2 });
      const publisher = await connectClient(server, 4, { clientId: "p" });
      await publisher.published({ topic: "t", qos: 1 });
      await publisher.published({ topic: "t", qos: 2 });
      await subscriber.expect("publish");
      await subscriber.expect("publish");
      clients.push(subscriber);
    }
    await Promise.all(clients.map((client) => client.expectSilence(2300)));
    for (const client of clients) await client.expectNothing();
  });
});
