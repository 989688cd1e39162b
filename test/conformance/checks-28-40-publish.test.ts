import { describe, expect, test } from "vitest";
import type { Broker } from "../../core/broker-types.ts";
import { startBroker, tempDir, waitFor, waitOffline } from "../support/broker.ts";
import { pluginWith, recordingPlugin, refusing } from "../support/plugins.ts";
import {
  bytes,
  type ConnectOptions,
  connectClient,
  encodePublish,
  openClient,
  type RawClient,
  type Version,
} from "../support/raw-client.ts";

/** Checks M-28 to M-40: PUBLISH in both directions. Delivery: delivery.test.ts. */

const VERSIONS: readonly Version[] = [3, 4, 5];

function persistent(version: Version, clientId: string): ConnectOptions {
  const properties = { sessionExpiryInterval: 3600 };
  return { clientId, clean: false, ...(version === 5 ? { properties } : {}) };
}

async function leave(broker: Broker, client: RawClient, clientId: string): Promise<void> {
  client.cut();
  await waitOffline(broker, clientId);
}

/** A v4 client subscribed to everything with QoS 2. */
async function watch(broker: Broker, filter = "#"): Promise<RawClient> {
  const watcher = await connectClient(broker, 4, { clientId: "watcher" });
  await watcher.subscribed(filter, { qos: 2 });
  return watcher;
}

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

describe("M-35 to M-37 publishes that are not allowed", () => {
  const judge = refusing("auth_on_publish", (args) => "topic" in args && args.topic === "no");

  /** Rows of table 7.2: what a client sees for each QoS. */
  const ROWS: readonly [Version, number, number, "dropped" | "puback" | "pubrec" | "closed"][] = [
    [3, 3, 0, "dropped"],
    [3, 3, 1, "puback"],
    [3, 3, 2, "pubrec"],
    [3, 131, 0, "dropped"],
    [3, 131, 1, "puback"],
    [3, 131, 2, "pubrec"],
    [4, 4, 0, "closed"],
    [4, 4, 1, "closed"],
    [4, 4, 2, "closed"],
    [4, 132, 0, "closed"],
    [4, 132, 1, "closed"],
    [4, 132, 2, "closed"],
    [5, 5, 0, "dropped"],
    [5, 5, 1, "puback"],
    [5, 5, 2, "pubrec"],
  ];

  test.each(ROWS)("M-35 v%i (level %i) QoS %i → %s", async (version, level, qos, answer) => {
    const allowed = { "listener.tcp.default.allowed_protocol_versions": "3,4,5,131,132" };
    const broker = await startBroker(allowed, [judge]);
    const watcher = await watch(broker);
    const client = await connectClient(broker, version, {
      clientId: "p",
      level,
      will: { topic: "will", payload: "w" },
    });
    client.publish({ topic: "no", payload: "x", qos, ...(qos > 0 ? { packetId: 9 } : {}) });
    if (answer === "closed") {
      await client.closed();
      // The will is published when the connection is closed for it.
      await watcher.delivered({ topic: "will" });
    } else if (answer !== "dropped") {
      await client.expect(answer, { packetId: 9, ...(version === 5 ? { code: 0x87 } : {}) });
    }
    if (answer !== "closed") await client.expectNothing();
    await watcher.expectNothing();
    expect(broker.metrics().mqtt_publish_auth_error).toBe(1);
  });

  test.each([0, 1, 2])(
    "M-36 disconnect_on_unauthorized_publish_v3: v3 QoS %i → closed",
    async (qos) => {
      const broker = await startBroker({ disconnect_on_unauthorized_publish_v3: "on" }, [judge]);
      const client = await connectClient(broker, 3, { clientId: "p" });
      client.publish({ topic: "no", qos });
      await client.closed();
      // MQTT 5 is not concerned.
      const v5 = await connectClient(broker, 5, { clientId: "p5" });
      v5.publish({ topic: "no", qos });
      if (qos > 0) await v5.expect(qos === 1 ? "puback" : "pubrec", { code: 0x87 });
      await v5.expectNothing();
    },
  );

  test("M-37 code 0x90 and text from the hook → in PUBACK and PUBREC", async () => {
    const error = { reason_code: "topic_name_invalid", reason_string: "Invalid topic name" };
    const broker = await startBroker({}, [pluginWith({ auth_on_publish_m5: () => ({ error }) })]);
    const client = await connectClient(broker, 5, { clientId: "p" });
    const answer = { code: 0x90, exactProperties: { reasonString: "Invalid topic name" } };
    client.publish({ topic: "t", qos: 1, packetId: 1 });
    await client.expect("puback", { packetId: 1, ...answer });
    client.publish({ topic: "t", qos: 2, packetId: 2 });
    await client.expect("pubrec", { packetId: 2, ...answer });
    client.publish({ topic: "t", qos: 0 });
    await client.expectNothing();
    // PUBREC with an error ends the exchange: the id is free.
    client.pubrel(2);
    await client.expect("pubcomp", { packetId: 2, code: 0x92 });
  });

  test("M-37 Request Problem Information 0 keeps the text away, not the code", async () => {
    const error = { reason_code: 0x97, reason_string: "text" };
    const broker = await startBroker({}, [pluginWith({ auth_on_publish_m5: () => ({ error }) })]);
    const client = await connectClient(broker, 5, {
      clientId: "p",
      properties: { requestProblemInformation: false },
    });
    client.publish({ topic: "t", qos: 1 });
    await client.expect("puback", { code: 0x97, exactProperties: {} });
  });

  test("M-37 with no plugin left to say yes a publish is refused", async () => {
    const undecided = pluginWith({
      auth_on_publish: () => "next",
      auth_on_publish_m5: () => "next",
    });
    const broker = await startBroker({}, [undecided], { acceptAll: false });
    const client = await connectClient(broker, 5, { clientId: "p" });
    client.publish({ topic: "t", qos: 1 });
    await client.expect("puback", { code: 0x87 });
  });

  test("M-37 a plugin that throws refuses the packet and harms nobody else", async () => {
    const broken = pluginWith({
      auth_on_publish_m5: ({ topic }) => {
        if (topic === "boom") throw new Error("broken plugin");
        return "next";
      },
    });
    const broker = await startBroker({}, [broken]);
    const client = await connectClient(broker, 5, { clientId: "p" });
    client.publish({ topic: "boom", qos: 1 });
    await client.expect("puback", { code: 0x83 });
    await client.published({ topic: "fine", qos: 1 });
  });
});

describe("M-38 topics beginning with $", () => {
  test.each(VERSIONS)("M-38 [W] v%i not routed, acknowledged, connection open", async (version) => {
    const recorder = recordingPlugin();
    const broker = await startBroker({}, [recorder.plugin]);
    const watcher = await watch(broker, "$test/#");
    const client = await connectClient(broker, version, { clientId: "p" });
    const code = version === 5 ? { code: 0x90 } : {};
    client.publish({ topic: "$test/x", qos: 0 });
    client.publish({ topic: "$test/x", qos: 1, packetId: 1 });
    await client.expect("puback", { packetId: 1, ...code });
    client.publish({ topic: "$test/x", qos: 2, packetId: 2 });
    await client.expect("pubrec", { packetId: 2, ...code });
    if (version < 5) {
      client.pubrel(2);
      await client.expect("pubcomp", { packetId: 2 });
    }
    client.publish({ topic: "$SYS/x", qos: 1, packetId: 3, retain: true });
    await client.expect("puback", { packetId: 3, ...code });
    await client.expectNothing();
    await watcher.expectNothing();
    expect(broker.retained()).toEqual([]);
    expect(recorder.names("auth_on_publish", "auth_on_publish_m5")).toEqual([]);
  });
});

describe("M-39 max_message_size", () => {
  test.each(VERSIONS)("M-39 v%i 1024 bytes of payload → ended, counted, will", async (version) => {
    const broker = await startBroker({ max_message_size: "1024" });
    const watcher = await watch(broker);
    const client = await connectClient(broker, version, { clientId: "p", will: { topic: "will" } });
    client.publish({ topic: "t", payload: Buffer.alloc(1024), qos: 1 });
    await client.ended(0x95);
    await watcher.delivered({ topic: "will" });
    await watcher.expectNothing();
    expect(broker.metrics().mqtt_invalid_msg_size_error).toBe(1);
  });

  test.each(VERSIONS)("M-39 v%i the remaining length is what counts", async (version) => {
    const broker = await startBroker({ max_message_size: "1024" });
    const client = await connectClient(broker, version, { clientId: "p" });
    // Topic of 2 + 1 bytes, packet id of 2 and, in MQTT 5, one byte of properties.
    const overhead = version === 5 ? 6 : 5;
    await client.published({ topic: "t", payload: Buffer.alloc(1024 - overhead), qos: 1 });
    client.publish({ topic: "t", payload: Buffer.alloc(1025 - overhead), qos: 1 });
    await client.ended(0x95);
  });

  test.each(VERSIONS)(
    "M-39 [W-15] v%i ten packets of 200 bytes in one segment",
    async (version) => {
      const broker = await startBroker({ max_message_size: "1024" });
      const watcher = await watch(broker);
      const client = await connectClient(broker, version, { clientId: "p" });
      const packets = Array.from({ length: 10 }, (_, i) =>
        encodePublish(version, {
          topic: "t",
          payload: String(i).padEnd(200, "."),
          qos: 1,
          packetId: i + 1,
        }),
      );
      client.sendTogether(...packets);
      for (let i = 0; i < 10; i++) await client.expect("puback", { packetId: i + 1 });
      const got = await watcher.receive(10);
      expect(got.map((packet) => packet.payload?.toString()[0]).join("")).toBe("0123456789");
    },
  );

  test("M-39 only the header of a packet that is too large has come: already ended", async () => {
    const broker = await startBroker({ max_message_size: "1024" });
    const client = await connectClient(broker, 5, { clientId: "p" });
    client.send(bytes("30 ffffff7f 0001"));
    await client.ended(0x95);
  });

  test("M-39 the register hook may set the limit of one client", async () => {
    const hook = pluginWith({ auth_on_register: () => ({ ok: { max_message_size: 50 } }) });
    const broker = await startBroker({ allow_anonymous: "off" }, [hook]);
    const client = await connectClient(broker, 4, { clientId: "p" });
    await client.published({ topic: "t", payload: "x".repeat(40), qos: 1 });
    client.publish({ topic: "t", payload: "x".repeat(60), qos: 1 });
    await client.closed();
  });
});

describe("M-40 receive_max_broker", () => {
  test("M-40 one more than N unreleased QoS 2 → 0x93", async () => {
    const broker = await startBroker({ receive_max_broker: "3" });
    const client = await connectClient(broker, 5, { clientId: "p" });
    expect(client.connack?.properties?.receiveMaximum).toBe(3);
    for (const packetId of [1, 2, 3]) {
      client.publish({ topic: "t", qos: 2, packetId });
      await client.expect("pubrec", { packetId });
    }
    // [W] A DUP of an id already counted is no fourth message.
    client.publish({ topic: "t", qos: 2, packetId: 2, dup: true });
    await client.expect("pubrec", { packetId: 2 });
    // PUBREL frees a place.
    client.pubrel(1);
    await client.expect("pubcomp", { packetId: 1 });
    client.publish({ topic: "t", qos: 2, packetId: 4 });
    await client.expect("pubrec", { packetId: 4 });
    client.publish({ topic: "t", qos: 2, packetId: 5 });
    await client.ended(0x93);
  });

  test("M-40 QoS 1 is refused as well when the count is full", async () => {
    const broker = await startBroker({ receive_max_broker: "1" });
    const client = await connectClient(broker, 5, { clientId: "p" });
    for (let i = 0; i < 5; i++) await client.published({ topic: "t", qos: 1 });
    client.publish({ topic: "t", qos: 2, packetId: 100 });
    await client.expect("pubrec", { packetId: 100 });
    client.publish({ topic: "t", qos: 1, packetId: 101 });
    await client.ended(0x93);
  });

  test("M-40 a refused QoS 2 (PUBREC 0x80 and above) does not count", async () => {
    const judge = refusing("auth_on_publish", (args) => "topic" in args && args.topic === "no");
    const broker = await startBroker({ receive_max_broker: "1" }, [judge]);
    const client = await connectClient(broker, 5, { clientId: "p" });
    for (const packetId of [1, 2, 3]) {
      client.publish({ topic: "no", qos: 2, packetId });
      await client.expect("pubrec", { packetId, code: 0x87 });
    }
    await client.published({ topic: "t", qos: 2 });
  });

  test.each([3, 4] as const)("M-40 v%i has no such limit", async (version) => {
    const broker = await startBroker({ receive_max_broker: "1" });
    const client = await connectClient(broker, version, { clientId: "p" });
    for (const packetId of [1, 2, 3]) {
      client.publish({ topic: "t", qos: 2, packetId });
      await client.expect("pubrec", { packetId });
    }
  });
});

describe("malformed PUBLISH (14, 7.4)", () => {
  /** Name, bytes, the reason codes that are right. */
  const ROWS: readonly [string, string, readonly number[]][] = [
    ["QoS 3", "36 05 0001 74 0001", [0x81]],
    ["+ in the topic", "30 06 0003 612f2b 00", [0x90]],
    ["# in the topic", "30 06 0003 612f23 00", [0x90]],
    ["NUL in the topic", "30 06 0003 610062 00", [0x81, 0x90]],
    ["invalid UTF-8 in the topic", "30 05 0002 c080 00", [0x81, 0x90]],
    ["a topic longer than the packet", "30 04 0010 6162", [0x81]],
    ["packet id 0", "32 06 0001 74 0000 00", [0x81, 0x82]],
    ["no packet id", "32 03 0001 74", [0x81]],
  ];

  test.each(ROWS)("%s: v5 DISCONNECT, v4 closed, will published", async (_name, hex, codes) => {
    const broker = await startBroker();
    const watcher = await watch(broker, "will");
    for (const version of [4, 5] as const) {
      const client = await connectClient(broker, version, {
        clientId: `p${version}`,
        will: { topic: "will", payload: String(version) },
      });
      client.send(bytes(hex));
      if (version === 5) expect(codes).toContain((await client.expect("disconnect")).code);
      await client.closed();
      await watcher.delivered({ topic: "will", payload: String(version) });
    }
  });

  test("an empty topic: v4 closed, v5 without alias 0x82", async () => {
    const broker = await startBroker();
    const v4 = await connectClient(broker, 4, { clientId: "a" });
    v4.publish({ topic: "" });
    await v4.closed();
    const v5 = await connectClient(broker, 5, { clientId: "b" });
    v5.publish({ topic: "" });
    await v5.ended(0x82);
  });

  test("topics are compared byte by byte; empty levels count", async () => {
    const broker = await startBroker();
    const client = await connectClient(broker, 4, { clientId: "c" });
    const topics = ["finance", "/finance", "finance/", "Finance", "fin ance", "ﬁnance", "/"];
    for (const topic of topics) {
      const subscriber = await connectClient(broker, 4, { clientId: `s${topic}` });
      await subscriber.subscribed(topic);
      for (const other of topics) client.publish({ topic: other, payload: other });
      await client.ping();
      await subscriber.expect("publish", { topic, payload: topic });
      await subscriber.expectNothing();
    }
  });
});

test("waiting for a plugin stalls that client only, and in order", async () => {
  let release: () => void = () => undefined;
  const slow = pluginWith({
    auth_on_publish: ({ topic }) =>
      topic === "slow" ? new Promise((resolve) => (release = () => resolve("ok"))) : "next",
  });
  const broker = await startBroker({}, [slow]);
  const watcher = await watch(broker);
  const client = await connectClient(broker, 4, { clientId: "p" });
  client.publish({ topic: "slow", payload: "1", qos: 1, packetId: 1 });
  client.publish({ topic: "fast", payload: "2", qos: 1, packetId: 2 });
  await client.expectSilence(50);
  const other = await connectClient(broker, 4, { clientId: "o" });
  await other.published({ topic: "other", payload: "0", qos: 1 });
  await watcher.delivered({ payload: "0" });
  release();
  await client.expect("puback", { packetId: 1 });
  await client.expect("puback", { packetId: 2 });
  await watcher.delivered({ payload: "1" });
  await watcher.delivered({ payload: "2" });
  await waitFor("sessions are intact", () => broker.sessions().length === 3);
  await (await openClient(broker)).connected({ clientId: "n" });
});
