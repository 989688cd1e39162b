import { describe, expect, test } from "vitest";
import type { Broker } from "../../core/broker-types.ts";
import { startBroker, tempDir, waitFor } from "../support/broker.ts";
import { hourglass } from "../support/hourglass.ts";
import { connectClient, type RawClient, type Version } from "../support/raw-client.ts";
import { payloads } from "../support/series.ts";
import { persistent } from "../support/sessions.ts";

/** Checks M-66 to M-71: retained messages. */

const VERSIONS = [3, 4, 5] as const;

async function retaining(version: Version = 4): Promise<{ broker: Broker; p: RawClient }> {
  const broker = await startBroker();
  const p = await connectClient(broker, version, { clientId: "p" });
  return { broker, p };
}

async function keep(p: RawClient, topic: string, payload: string, qos = 1): Promise<void> {
  await p.published({ topic, payload, qos, retain: true });
}

describe("M-66 retained, then subscribed", () => {
  test.each(VERSIONS)(
    "M-66 v%i SUBACK, then PUBLISH RETAIN 1; after unsubscribe and subscribe again",
    async (version) => {
      const { broker, p } = await retaining(version);
      await keep(p, "a", "kept");
      const s = await connectClient(broker, version, { clientId: "s" });
      for (let i = 0; i < 2; i++) {
        // `subscribed` takes the SUBACK first: a PUBLISH before it would fail.
        await s.subscribed("a", { qos: 1 });
        await s.delivered({ topic: "a", payload: "kept", qos: 1, retain: true, dup: false });
        await s.expectNothing();
        await s.unsubscribed("a");
      }
    },
  );

  test.each([3, 4] as const)(
    "M-66 v%i subscribing again without unsubscribe, too",
    async (version) => {
      const { broker, p } = await retaining(version);
      await keep(p, "a", "kept");
      const s = await connectClient(broker, version, { clientId: "s" });
      for (let i = 0; i < 2; i++) {
        await s.subscribed("a");
        await s.delivered({ payload: "kept", retain: true });
      }
    },
  );

  test("M-66 the newest message of a topic is the retained one", async () => {
    const { broker, p } = await retaining();
    for (const payload of ["1", "2", "3"]) await keep(p, "a", payload);
    const s = await connectClient(broker, 4);
    await s.subscribed("a");
    await s.delivered({ payload: "3", retain: true });
    await s.expectNothing();
    expect(broker.retained()).toMatchObject([{ topic: "a", qos: 1 }]);
  });

  test("M-66 every matching message comes once, [W] oldest first", async () => {
    const { broker, p } = await retaining();
    const stored = ["a/3", "a/1", "b/1", "a/2", "a"];
    for (const topic of stored) {
      await keep(p, topic, topic);
      // The time of storing counts, in milliseconds.
      const storedAtMs = Date.now();
      await waitFor("the next millisecond", () => Date.now() > storedAtMs);
    }
    const s = await connectClient(broker, 4);
    await s.subscribed("a/#");
    expect(payloads(await s.receive(4))).toEqual(stored.filter((topic) => topic !== "b/1"));
    await s.expectNothing();
  });

  test("M-66 retained messages come before live ones that wait", async () => {
    const { broker, p } = await retaining(5);
    await keep(p, "kept", "retained");
    const s = await connectClient(broker, 5, { properties: { receiveMaximum: 1 } });
    await s.subscribed("live", { qos: 1 });
    for (const payload of ["1", "2", "3"]) await p.published({ topic: "live", payload, qos: 1 });
    const first = await s.expect("publish", { payload: "1" });
    await s.subscribed("kept", { qos: 1 });
    s.puback(first.packetId);
    for (const payload of ["retained", "2", "3"]) await s.delivered({ payload });
  });

  test("M-66 several filters in one SUBSCRIBE: each sends what it matches", async () => {
    const { broker, p } = await retaining();
    await keep(p, "a", "kept");
    const s = await connectClient(broker, 4);
    await s.subscribed(["a", "+", "none"]);
    expect(payloads(await s.receive(2))).toEqual(["kept", "kept"]);
    await s.expectNothing();
  });

  test("M-66 retained messages belong to their mountpoint", async () => {
    const broker = await startBroker({
      "listener.tcp.other": "127.0.0.1:0",
      "listener.tcp.other.mountpoint": "tenant",
    });
    const p = await connectClient(broker, 4);
    await keep(p, "a", "mine");
    const other = await connectClient({ port: broker.port("tcp", "other") }, 4);
    await other.subscribed("#");
    await other.expectNothing();
    const publisher = await connectClient({ port: broker.port("tcp", "other") }, 4);
    await keep(publisher, "b", "theirs");
    await other.delivered({ topic: "b", payload: "theirs", retain: false });
    expect(broker.retained("tenant").map((one) => one.topic)).toEqual(["b"]);
    expect(broker.retained().map((one) => one.topic)).toEqual(["a"]);
  });

  test("M-66 retained messages survive a restart", async () => {
    const dataDir = tempDir();
    const before = await startBroker({}, [], { dataDir });
    const p = await connectClient(before, 5);
    const properties = {
      contentType: "text/plain",
      userProperties: [["k", "v"]] as [string, string][],
    };
    await p.published({ topic: "a", payload: "kept", qos: 1, retain: true, properties });
    await keep(p, "b", "cleared");
    await keep(p, "b", "");
    await before.close();
    const after = await startBroker({}, [], { dataDir });
    const s = await connectClient(after, 5);
    await s.subscribed("#", { qos: 2 });
    await s.delivered({ topic: "a", payload: "kept", qos: 1, exactProperties: properties });
    await s.expectNothing();
  });
});

describe("M-67 live copies and clearing", () => {
  test.each(VERSIONS)(
    "M-67 v%i subscribed first → live copy RETAIN 0; empty payload → empty copy, nothing later",
    async (version) => {
      const { broker, p } = await retaining(version);
      const s = await connectClient(broker, version, { clientId: "s" });
      await s.subscribed("a", { qos: 1 });
      await keep(p, "a", "live");
      await s.delivered({ payload: "live", retain: false });
      await keep(p, "a", "");
      await s.delivered({ payload: "", retain: false });
      const late = await connectClient(broker, version, { clientId: "late" });
      await late.subscribed("a");
      await late.expectNothing();
      expect(broker.retained()).toEqual([]);
      expect(broker.metrics().retain_messages).toBe(0);
    },
  );

  test("M-67 PUBLISH without RETAIN leaves the retained message alone", async () => {
    const { broker, p } = await retaining();
    await keep(p, "a", "kept");
    await p.published({ topic: "a", payload: "passing", qos: 1 });
    await p.published({ topic: "a", payload: "", qos: 1 });
    const s = await connectClient(broker, 4);
    await s.subscribed("a");
    await s.delivered({ payload: "kept", retain: true });
  });

  test("M-67 deleting by the operator → nothing", async () => {
    const { broker, p } = await retaining();
    await keep(p, "a", "kept");
    expect(broker.metrics().retain_messages).toBe(1);
    expect(broker.deleteRetained("a")).toBe(true);
    expect(broker.deleteRetained("a")).toBe(false);
    const s = await connectClient(broker, 4);
    await s.subscribed("#");
    await s.expectNothing();
  });
});

describe("M-68 QoS and filters", () => {
  test.each([
    { stored: 1, granted: 0, sent: 0 },
    { stored: 2, granted: 1, sent: 1 },
    { stored: 0, granted: 1, sent: 0, note: "[W] " },
    { stored: 1, granted: 2, sent: 1, note: "[W] " },
    { stored: 2, granted: 2, sent: 2 },
  ])("M-68 $note retained QoS $stored, subscribed QoS $granted → QoS $sent", async (row) => {
    const { broker, p } = await retaining();
    await keep(p, "a", "kept", row.stored);
    const s = await connectClient(broker, 4);
    await s.subscribed("a", { qos: row.granted });
    await s.delivered({ payload: "kept", qos: row.sent, retain: true });
  });

  test.each(["x/+/#", "x/#", "+/y/z", "#", "x/y/z", "x/y/z/#"])(
    "M-68 filter %s finds x/y/z",
    async (filter) => {
      const { broker, p } = await retaining();
      await keep(p, "x/y/z", "kept");
      await keep(p, "w", "other");
      const s = await connectClient(broker, 4);
      await s.subscribed(filter);
      const found = filter === "#" ? await s.receive(2) : await s.receive(1);
      expect(payloads(found)).toContain("kept");
      await s.expectNothing();
    },
  );
});

describe("M-69 Retain Handling and Retain As Published", () => {
  test.each([
    { handling: 0, times: [true, true] },
    { handling: 1, times: [true, false] },
    { handling: 2, times: [false, false] },
  ])("M-69 Retain Handling $handling → sent $times", async ({ handling, times }) => {
    const { broker, p } = await retaining(5);
    await keep(p, "a", "kept");
    const s = await connectClient(broker, 5);
    for (const isSent of times) {
      await s.subscribed([{ filter: "a", retainHandling: handling }]);
      if (isSent) await s.delivered({ payload: "kept", retain: true });
      await s.expectNothing();
    }
  });

  test("M-69 Retain Handling 1 knows the stored subscriptions of the session", async () => {
    const { broker, p } = await retaining(5);
    await keep(p, "a", "kept");
    const filter = { filter: "a", retainHandling: 1, qos: 1 };
    const first = await connectClient(broker, 5, persistent(5, "s"));
    await first.subscribed([filter]);
    await first.delivered({ payload: "kept" });
    await first.disconnected();
    const second = await connectClient(broker, 5, persistent(5, "s"));
    await second.subscribed([filter]);
    await second.expectNothing();
    await second.unsubscribed("a");
    await second.subscribed([filter]);
    await second.delivered({ payload: "kept" });
  });

  test("M-69 Retain Handling 3 → malformed", async () => {
    const { broker } = await retaining(5);
    const s = await connectClient(broker, 5);
    s.subscribe([{ filter: "a", retainHandling: 3 }]);
    const { code } = await s.expect("disconnect");
    expect([0x81, 0x82]).toContain(code);
    await s.closed();
  });

  test("M-69 Retain As Published 1 → live flag as published; 0 → 0", async () => {
    const { broker, p } = await retaining(5);
    const rap = await connectClient(broker, 5);
    const plain = await connectClient(broker, 5);
    await rap.subscribed([{ filter: "a", retainAsPublished: true, qos: 1 }]);
    await plain.subscribed([{ filter: "a", retainAsPublished: false, qos: 1 }]);
    for (const retain of [true, false]) {
      for (const qos of [0, 1]) {
        await p.published({ topic: "a", payload: "live", qos, retain });
        await rap.delivered({ payload: "live", retain });
        await plain.delivered({ payload: "live", retain: false });
      }
    }
  });

  test("M-69 Retain As Published also for queued messages", async () => {
    const { broker, p } = await retaining(5);
    const first = await connectClient(broker, 5, persistent(5, "s"));
    await first.subscribed([{ filter: "a", retainAsPublished: true, qos: 1 }]);
    await first.disconnected();
    await keep(p, "a", "flagged");
    await p.published({ topic: "a", payload: "plain", qos: 1 });
    const second = await connectClient(broker, 5, persistent(5, "s"));
    await second.delivered({ payload: "flagged", retain: true });
    await second.delivered({ payload: "plain", retain: false });
  });
});

describe("M-70 expiry of retained messages", () => {
  test("M-70 expiry 60 and 1, subscribe after 1.1 s → only the first, with the seconds left", async () => {
    const { broker, p } = await retaining(5);
    for (const [topic, messageExpiryInterval] of [
      ["long", 60],
      ["short", 1],
    ] as const) {
      const properties = { messageExpiryInterval };
      await p.published({ topic, payload: "x", qos: 1, retain: true, properties });
    }
    await hourglass();
    const s = await connectClient(broker, 5);
    await s.subscribed("#", { qos: 1 });
    const got = await s.delivered({ topic: "long", retain: true });
    const left = got.properties?.messageExpiryInterval ?? 0;
    expect(left).toBeGreaterThan(50);
    expect(left).toBeLessThan(60);
    await s.expectNothing();
    const old = await connectClient(broker, 4);
    await old.subscribed("short");
    await old.expectNothing();
  });

  test("M-70 the absolute time survives a restart", async () => {
    const dataDir = tempDir();
    const before = await startBroker({}, [], { dataDir });
    const p = await connectClient(before, 5);
    const properties = { messageExpiryInterval: 1 };
    await p.published({ topic: "a", payload: "x", qos: 1, retain: true, properties });
    await before.close();
    await hourglass();
    const after = await startBroker({}, [], { dataDir });
    const s = await connectClient(after, 5);
    await s.subscribed("a");
    await s.expectNothing();
  });

  test("M-70 a newer message without expiry takes the old one's place for good", async () => {
    const { broker, p } = await retaining(5);
    const properties = { messageExpiryInterval: 1 };
    await p.published({ topic: "a", payload: "short", qos: 1, retain: true, properties });
    await keep(p, "a", "long");
    await hourglass();
    const s = await connectClient(broker, 5);
    await s.subscribed("a");
    await s.delivered({ payload: "long", exactProperties: {} });
  });
});

describe("M-71 shared subscriptions and retained messages", () => {
  test.each([4, 5] as const)(
    "M-71 v%i a shared filter gets no retained message",
    async (version) => {
      const { broker, p } = await retaining();
      await keep(p, "a", "kept");
      const s = await connectClient(broker, version);
      await s.subscribed(["$share/g/a", "$share/g/#"], { qos: 1 });
      await s.expectNothing();
    },
  );

  test("M-71 [W] a live retained publish has RETAIN 0 for a shared member, 1 with RAP", async () => {
    const { broker, p } = await retaining();
    const old = await connectClient(broker, 4);
    await old.subscribed("$share/one/a", { qos: 1 });
    const plain = await connectClient(broker, 5);
    await plain.subscribed("$share/two/a", { qos: 1 });
    const rap = await connectClient(broker, 5);
    await rap.subscribed([{ filter: "$share/three/a", retainAsPublished: true, qos: 1 }]);
    await keep(p, "a", "live");
    await old.delivered({ payload: "live", retain: false });
    await plain.delivered({ payload: "live", retain: false });
    await rap.delivered({ payload: "live", retain: true });
  });
});
