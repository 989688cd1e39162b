import { describe, expect, it } from "vitest";
import { EmbeddedStore } from "../../../core/store/embedded/embedded-store.ts";
import { MemoryStore } from "../../../core/store/memory/memory-store.ts";
import type { Store } from "../../../core/store/types.ts";
import { tempDir } from "../../support/broker.ts";
import { atEnd } from "../../support/cleanup.ts";
import { encodeConnect } from "../../support/wire.ts";
import { series, settle, staying, type TestClient, texts, turn, until, World } from "./world.ts";

const STORES: [string, () => Store][] = [
  ["memory", () => new MemoryStore()],
  ["embedded", () => new EmbeddedStore({ folder: tempDir() })],
];

async function openWorld(
  options: ConstructorParameters<typeof World>[0] = {},
  store: Store = new MemoryStore(),
): Promise<World> {
  const world = await new World({ ...options, store }).start();
  atEnd(() => store.close());
  return world;
}

/** A client whose window is one message: everything after the first waits. */
async function oneAtATime(world: World): Promise<TestClient> {
  const client = await world.connect("c", { properties: { receiveMaximum: 1 } });
  await client.subscribe("t");
  return client;
}

/** The socket takes nothing more: everything waits. */
async function block(client: TestClient): Promise<void> {
  client.transport.isStuck = true;
  client.transport.bufferedBytes = 300_000;
  client.send(Buffer.from([0xc0, 0]));
  await turn();
}

/** A client with a stored session that is away. */
async function absent(world: World, clientId = "c", version: 4 | 5 = 5): Promise<void> {
  const client = await world.connect(clientId, { ...staying(), version });
  await client.subscribe("t");
  client.drop();
}

function droppedTexts(world: World, reason = "queue_full"): string[] {
  return world
    .hooksNamed("on_message_drop")
    .filter((args) => args.reason === reason)
    .map((args) => String(args.payload));
}

/** What is left of the client in the store. */
async function storedTexts(world: World, clientId = "c"): Promise<string[]> {
  const all = { limit: 100_000, bytesMax: 1e9 };
  const entries = await world.core.store.readEntries(world.find(clientId), 0, all);
  for (const entry of entries) world.core.store.forgetEntry(entry);
  return entries.map(({ message }) => message?.payload.toString() ?? "");
}

describe("messages waiting for a window", () => {
  it("keeps them in order and sends each as soon as an earlier one is acknowledged", async () => {
    const world = await openWorld();
    const client = await oneAtATime(world);
    world.publishSeries("t", 1, 20, { qos: 1 });
    await turn();
    expect(texts(client.packets.filter(({ type }) => type === "publish"))).toEqual(["1"]);
    expect(texts(await client.receive(20))).toEqual(series(1, 20));
  });

  it("sends the newest first with queue_type lifo", async () => {
    const world = await openWorld({ settings: { queueType: "lifo" } });
    const client = await oneAtATime(world);
    world.publishSeries("t", 1, 20, { qos: 1 });
    expect(texts(await client.receive(20))).toEqual(["1", ...series(20, 2)]);
  });

  it("lets QoS 0 pass: the window does not count it", async () => {
    const world = await openWorld();
    const client = await oneAtATime(world);
    world.publishSeries("t", 1, 3, { qos: 1 });
    world.publish("t", "zero");
    await turn();
    expect(texts(client.take("publish"))).toEqual(["1", "zero"]);
  });

  it("counts what waits without what is in flight", async () => {
    const world = await openWorld();
    await oneAtATime(world);
    world.publishSeries("t", 1, 5, { qos: 1 });
    expect(world.find("c").session?.out.queue.size).toBe(4);
  });
});

describe("messages waiting for a slow socket", () => {
  it.each(["fifo", "lifo"] as const)("sends QoS 0 and 1 in one common order (%s)", async (type) => {
    const world = await openWorld({ settings: { queueType: type } });
    const client = await world.connect("c");
    await client.subscribe("t");
    await block(client);
    for (let i = 1; i <= 9; i++) world.publish("t", String(i), { qos: i % 3 === 0 ? 0 : 1 });
    await turn();
    expect(client.count("publish")).toBe(0);
    client.transport.unstick();
    expect(texts(await client.receive(9))).toEqual(type === "fifo" ? series(1, 9) : series(9, 1));
  });

  it("gives up the newest QoS 0 message for one of QoS 1, whatever the policy", async () => {
    const world = await openWorld({ settings: { maxOnlineMessages: 3 } });
    const client = await world.connect("c");
    await client.subscribe("t");
    await block(client);
    world.publish("t", "a");
    world.publish("t", "b");
    world.publishSeries("t", 1, 4, { qos: 1 });
    expect(droppedTexts(world)).toEqual(["b", "a", "4"]);
    client.transport.unstick();
    expect(texts(await client.receive(3))).toEqual(series(1, 3));
  });

  it("drops a QoS 0 message, not one of QoS 1, when a full queue gets QoS 0", async () => {
    for (const queueDropPolicy of ["drop_new", "drop_old"] as const) {
      const world = await openWorld({ settings: { maxOnlineMessages: 3, queueDropPolicy } });
      const client = await world.connect("c");
      await client.subscribe("t");
      await block(client);
      world.publishSeries("t", 1, 2, { qos: 1 });
      world.publish("t", "a");
      world.publish("t", "b");
      expect(droppedTexts(world)).toEqual([queueDropPolicy === "drop_new" ? "b" : "a"]);
    }
  });

  it("bounds the bytes in memory by max_queue_bytes", async () => {
    const world = await openWorld({ settings: { maxQueueBytes: 100 } });
    const client = await world.connect("c");
    await client.subscribe("t");
    await block(client);
    for (const qos of [0, 1, 0, 1]) world.publish("t", "x".repeat(30), { qos });
    expect(droppedTexts(world)).toHaveLength(1);
    client.transport.unstick();
    await client.receive(3);
    await block(client);
    for (const qos of [0, 1, 0, 1]) world.publish("t", "y".repeat(30), { qos });
    expect(droppedTexts(world)).toHaveLength(2);
  });
});

describe("max_online_messages", () => {
  const LIMIT = 3;
  it.each([
    ["fifo", "auto", ["5", "6"], ["1", "2", "3", "4"]],
    ["fifo", "drop_old", ["2", "3"], ["1", "4", "5", "6"]],
    ["lifo", "auto", ["2", "3"], ["1", "6", "5", "4"]],
    ["lifo", "drop_new", ["5", "6"], ["1", "4", "3", "2"]],
  ] as const)("%s with policy %s drops %j", async (queueType, queueDropPolicy, dropped, got) => {
    for (const expiry of [0, 3600]) {
      const settings = { maxOnlineMessages: LIMIT, queueType, queueDropPolicy };
      const world = await openWorld({ settings });
      const properties = { receiveMaximum: 1, sessionExpiryInterval: expiry };
      const client = await world.connect("c", { properties });
      await client.subscribe("t");
      world.publishSeries("t", 1, 6, { qos: 1 });
      expect(droppedTexts(world)).toEqual(dropped);
      expect(world.core.counters.queueMessageDrop).toBe(2);
      expect(texts(await client.receive(4))).toEqual(got);
      await settle();
      expect(client.take("publish")).toEqual([]);
      expect(world.find("c").storedCount).toBe(0);
    }
  });

  it("delivers nothing at all when it is 0", async () => {
    const world = await openWorld({ settings: { maxOnlineMessages: 0 } });
    const client = await world.connect("c");
    world.publish("t", "retained", { retain: true, qos: 1 });
    await client.subscribe("t");
    for (const qos of [0, 1, 2]) world.publish("t", String(qos), { qos });
    await settle();
    expect(client.count("publish")).toBe(0);
    expect(droppedTexts(world)).toEqual(["retained", "0", "1", "2"]);
  });

  it("keeps everything when it is -1", async () => {
    const world = await openWorld({ settings: { maxOnlineMessages: -1 } });
    const client = await oneAtATime(world);
    world.publishSeries("t", 1, 3000, { qos: 1 });
    expect(texts(await client.receive(3000))).toEqual(series(1, 3000));
    expect(world.core.counters.queueMessageDrop).toBe(0);
  });

  it("logs a burst of drops, not each of them", async () => {
    const world = await openWorld({ settings: { maxOnlineMessages: 1 } });
    const client = await oneAtATime(world);
    world.publishSeries("t", 1, 500, { qos: 1 });
    await client.receive(2);
    const lines = world.logLines.filter(({ msg }) => String(msg).startsWith("messages dropped"));
    expect(lines).toMatchObject([
      { client_id: "c", dropped: 1, is_online: true },
      { client_id: "c", dropped: 497 },
    ]);
  });

  it("logs drops of a client that is away", async () => {
    const world = await openWorld({ settings: { maxOfflineMessages: 1 } });
    await absent(world);
    world.publishSeries("t", 1, 3, { qos: 1 });
    const lines = world.logLines.filter(({ msg }) => String(msg).startsWith("messages dropped"));
    expect(lines).toMatchObject([{ client_id: "c", dropped: 1, is_online: false }]);
  });
});

describe.each(STORES)("offline messages (%s store)", (_, newStore) => {
  it.each([
    ["fifo", series(1, 10)],
    ["lifo", series(100, 91)],
  ] as const)("%s keeps %j of 100 under a limit of 10", async (queueType, kept) => {
    const settings = { maxOfflineMessages: 10, queueType };
    const world = await openWorld({ settings }, newStore());
    await absent(world);
    world.publishSeries("t", 1, 100, { qos: 1 });
    const client = await world.connect("c", staying());
    expect(texts(await client.receive(10))).toEqual(kept);
    await settle();
    expect(client.take("publish")).toEqual([]);
    expect(world.core.counters.queueMessageDrop).toBe(90);
  });

  it("trims the oldest over time, too", async () => {
    const settings = { maxOfflineMessages: 10, queueDropPolicy: "drop_old" as const };
    const world = await openWorld({ settings }, newStore());
    await absent(world);
    for (let i = 1; i <= 60; i++) {
      world.publish("t", String(i), { qos: 1 });
      if (i % 7 === 0) await turn();
    }
    await until("trimmed", () => world.find("c").storedCount === 10);
    expect(await storedTexts(world)).toEqual(series(51, 60));
  });

  it("keeps nothing when max_offline_messages is 0 and everything when it is -1", async () => {
    const none = await openWorld({ settings: { maxOfflineMessages: 0 } }, newStore());
    await absent(none);
    none.publishSeries("t", 1, 3, { qos: 1 });
    expect(none.find("c").storedCount).toBe(0);
    expect(droppedTexts(none)).toEqual(series(1, 3));

    const all = await openWorld({ settings: { maxOfflineMessages: -1 } }, newStore());
    await absent(all);
    all.publishSeries("t", 1, 2500, { qos: 1 });
    expect(all.find("c").storedCount).toBe(2500);
  });

  it("does not keep QoS 0 and counts it as unhandled", async () => {
    const world = await openWorld({}, newStore());
    await absent(world);
    world.publish("t", "zero");
    expect(world.find("c").storedCount).toBe(0);
    expect(world.core.counters.queueMessageUnhandled).toBe(1);
    expect(world.hooksNamed("on_offline_message")).toEqual([]);
    world.publish("t", "one", { qos: 1 });
    expect(world.hooksNamed("on_offline_message")).toMatchObject([{ topic: "t", qos: 1 }]);
  });

  it("lets only max_online_messages of them in, unless overridden", async () => {
    for (const queueType of ["fifo", "lifo"] as const) {
      for (const override of [false, true]) {
        const settings = {
          maxOnlineMessages: 10,
          overrideMaxOnlineMessages: override,
          queueType,
        };
        const world = await openWorld({ settings }, newStore());
        await absent(world);
        world.publishSeries("t", 1, 100, { qos: 1 });
        const client = await world.connect("c", staying());
        const order = queueType === "fifo" ? series(1, 100) : series(100, 1);
        const expected = override ? order : order.slice(0, 10);
        expect(texts(await client.receive(expected.length))).toEqual(expected);
        await until("nothing is stored", () => world.find("c").storedCount === 0);
        expect(client.take("publish")).toEqual([]);
        expect(world.core.counters.queueMessageDrop).toBe(override ? 0 : 90);
      }
    }
  });

  it.each(["fifo", "lifo"] as const)("pages 5000 in order (%s)", async (queueType) => {
    const settings = { maxOfflineMessages: -1, maxOnlineMessages: -1, queueType };
    const world = await openWorld({ settings }, newStore());
    await absent(world);
    world.publishSeries("t", 1, 5000, { qos: 1 });
    const client = await world.connect("c", staying(3600, { receiveMaximum: 20 }));
    const expected = queueType === "fifo" ? series(1, 5000) : series(5000, 1);
    expect(texts(await client.receive(5000))).toEqual(expected);
    expect(await storedTexts(world)).toEqual([]);
    expect(world.find("c").storedCount).toBe(0);
  });

  it("puts new messages behind 5000 stored ones while these are paged in", async () => {
    const settings = { maxOfflineMessages: -1, maxOnlineMessages: -1 };
    const world = await openWorld({ settings }, newStore());
    await absent(world);
    world.publishSeries("t", 1, 5000, { qos: 1 });
    const client = await world.connect("c", staying(3600, { receiveMaximum: 20 }));
    const got: string[] = [];
    for (let next = 5001; next <= 7000; next += 100) {
      world.publishSeries("t", next, next + 99, { qos: 1 });
      got.push(...texts(await client.receive(100)));
    }
    got.push(...texts(await client.receive(7000 - got.length)));
    expect(got).toEqual(series(1, 7000));
    await until("nothing is stored", () => world.find("c").storedCount === 0);
  });

  it("sends new messages first while 5000 stored ones are paged in (lifo)", async () => {
    const settings = {
      maxOfflineMessages: -1,
      maxOnlineMessages: -1,
      queueType: "lifo" as const,
    };
    const world = await openWorld({ settings }, newStore());
    await absent(world);
    world.publishSeries("t", 1, 5000, { qos: 1 });
    const client = await world.connect("c", staying(3600, { receiveMaximum: 20 }));
    const got = texts(await client.receive(50));
    for (let next = 5001; next <= 7000; next += 100) {
      world.publishSeries("t", next, next + 99, { qos: 1 });
      got.push(...texts(await client.receive(60)));
    }
    got.push(...texts(await client.receive(7000 - got.length)));
    expect([...got].sort((a, b) => Number(a) - Number(b))).toEqual(series(1, 7000));
    const old = got.filter((text) => Number(text) <= 5000);
    expect(old).toEqual(series(5000, 1));
    await until("nothing is stored", () => world.find("c").storedCount === 0);
  });

  it.each(["fifo", "lifo"] as const)(
    "sends once what is published between CONNECT and the first page (%s)",
    async (queueType) => {
      const world = await openWorld({ settings: { queueType } }, newStore());
      await absent(world);
      world.publishSeries("t", 1, 3, { qos: 1 });
      const client = world.open(5);
      client.send(encodeConnect(5, { clientId: "c", keepAlive: 0, ...staying() }));
      world.publishSeries("t", 4, 5, { qos: 1 });
      const got = texts(await client.receive(5));
      await settle(50);
      got.push(...texts(client.take("publish")));
      expect([...got].sort()).toEqual(series(1, 5));
      if (queueType === "fifo") expect(got).toEqual(series(1, 5));
    },
  );

  it("loses and changes nothing when the client leaves in the middle of a page", async () => {
    const settings = { maxOfflineMessages: -1, maxOnlineMessages: -1 };
    const world = await openWorld({ settings }, newStore());
    await absent(world);
    world.publishSeries("t", 1, 1500, { qos: 1 });
    const got: string[] = [];
    for (let round = 0; round < 12; round++) {
      const client = await world.connect("c", staying(3600, { receiveMaximum: 10 }));
      if (round % 3 === 0) await settle(round);
      got.push(...texts(await client.receive(100)));
      client.drop();
    }
    const client = await world.connect("c", staying());
    got.push(...texts(await client.receive(1500 - got.length)));
    // What was in flight when the client left comes again; nothing else does.
    expect([...new Set(got)].map(Number).sort((a, b) => a - b)).toEqual(
      series(1, 1500).map(Number),
    );
    await until("nothing is stored", () => world.find("c").storedCount === 0);
  });

  it("sends in-flight messages again with their packet ids and DUP, before the others", async () => {
    const world = await openWorld({}, newStore());
    const first = await world.connect("c", staying(3600, { receiveMaximum: 3 }));
    await first.subscribe("t");
    for (let i = 1; i <= 6; i++) world.publish("t", String(i), { qos: 1 + (i % 2) });
    await until("window is full", () => first.count("publish") === 3);
    const before = first.take("publish");
    first.drop();
    const second = await world.connect("c", staying(3600, { receiveMaximum: 3 }));
    await until("again", () => second.count("publish") === 3);
    const again = second.packets.filter(({ type }) => type === "publish");
    const idsByText = (packets: typeof again) =>
      Object.fromEntries(packets.map(({ packetId, payload }) => [String(payload), packetId]));
    expect(idsByText(again)).toEqual(idsByText(before));
    expect(texts(again)).toEqual(series(1, 3));
    expect(again.every(({ dup }) => dup)).toBe(true);
    const all = await second.receive(6);
    // QoS 2 waits for the store before it is sent, so the two levels may overtake each other.
    for (const qos of [1, 2]) {
      const ofLevel = all.filter((packet) => packet.qos === qos);
      expect(texts(ofLevel)).toEqual(series(1, 6).filter((text) => 1 + (Number(text) % 2) === qos));
    }
    expect(all.slice(3).some(({ dup }) => dup)).toBe(false);
  });

  it("goes on with PUBREL after PUBREC, in the order of the messages", async () => {
    const world = await openWorld({}, newStore());
    const first = await world.connect("c", staying());
    await first.subscribe("t");
    world.publishSeries("t", 1, 3, { qos: 2 });
    await until("sent", () => first.count("publish") === 3);
    const ids = first.take("publish").map(({ packetId }) => packetId ?? 0);
    for (const id of ids.slice(0, 2)) first.ack("pubrec", id);
    await until("PUBREL", () => first.count("pubrel") === 2);
    first.drop();
    const second = await world.connect("c", staying());
    await until("again", () => second.packets.length >= 4);
    const again = second.packets.filter(({ type }) => type !== "connack");
    expect(again.map(({ type, packetId }) => [type, packetId])).toEqual([
      ["pubrel", ids[0]],
      ["pubrel", ids[1]],
      ["publish", ids[2]],
    ]);
    for (const id of ids.slice(0, 2)) second.ack("pubcomp", id);
    second.ack("pubrec", ids[2]);
    second.ack("pubcomp", ids[2]);
    await until("nothing is stored", () => world.find("c").storedCount === 0);
    expect(await storedTexts(world)).toEqual([]);
  });

  it("brings more in-flight messages back than one page holds", async () => {
    const world = await openWorld({}, newStore());
    const first = await world.connect("c", staying());
    await first.subscribe("t");
    world.publishSeries("t", 1, 700, { qos: 1 });
    await until("sent", () => first.count("publish") === 700);
    first.drop();
    world.publish("t", "701", { qos: 1 });
    const second = await world.connect("c", staying());
    await settle(50);
    world.publish("t", "702", { qos: 1 });
    await until("all of them", () => second.count("publish") >= 702);
    expect(texts(second.packets.filter(({ type }) => type === "publish"))).toEqual(series(1, 702));
  });

  it("forgets what it has read: the store holds no message body in memory at the end", async () => {
    const settings = { maxOfflineMessages: -1, maxOnlineMessages: -1 };
    const world = await openWorld({ settings }, newStore());
    await absent(world, "c");
    await absent(world, "d");
    world.publishSeries("t", 1, 1500, { qos: 1 });
    for (const clientId of ["c", "d", "c", "d"]) {
      const client = await world.connect(clientId, staying(3600, { receiveMaximum: 7 }));
      await client.receive(50);
      client.drop();
    }
    await world.core.store.flush();
    await settle(50);
    expect(world.core.store.status().sharedBodies).toBe(0);
  });
});

describe("expiry of waiting messages", () => {
  it("removes expired messages of an absent client in the background", async () => {
    const world = await openWorld();
    await absent(world);
    world.publish("t", "a", { qos: 1, expiryS: 10 });
    world.publish("t", "b", { qos: 1 });
    world.publish("t", "c", { qos: 1, expiryS: 30 });
    world.advance(9_000);
    await settle();
    expect(world.find("c").storedCount).toBe(3);
    world.advance(2_000);
    await settle();
    expect(droppedTexts(world, "expired")).toEqual(["a"]);
    expect(await storedTexts(world)).toEqual(["b", "c"]);
    world.advance(25_000);
    await settle();
    expect(await storedTexts(world)).toEqual(["b"]);
    expect(world.core.counters.queueMessageExpired).toBe(2);
    expect(world.core.counters.queueMessageDrop).toBe(0);
  });

  it("removes expired messages that wait for a window", async () => {
    const world = await openWorld();
    const client = await oneAtATime(world);
    world.publish("t", "1", { qos: 1 });
    world.publish("t", "2", { qos: 1, expiryS: 5 });
    world.publish("t", "3", { qos: 1 });
    world.advance(6_000);
    expect(droppedTexts(world, "expired")).toEqual(["2"]);
    expect(world.find("c").session?.out.queue.size).toBe(1);
    expect(texts(await client.receive(2))).toEqual(["1", "3"]);
  });

  it("sends no expired message, also not before the background has seen it", async () => {
    const world = await openWorld();
    await absent(world);
    world.publish("t", "a", { qos: 1, expiryS: 10 });
    world.publish("t", "b", { qos: 1, expiryS: 100 });
    world.wallMs += 11_000;
    const client = await world.connect("c", staying());
    const [packet] = await client.receive(1);
    expect(packet?.payload?.toString()).toBe("b");
    // [MQTT-3.3.2-6] what is left of it
    expect(packet?.properties?.messageExpiryInterval).toBe(89);
    await settle();
    expect(client.take("publish")).toEqual([]);
    expect(droppedTexts(world, "expired")).toEqual(["a"]);
  });

  it("frees the places of expired messages before a full online queue drops others", async () => {
    const world = await openWorld({ settings: { maxOnlineMessages: 3 } });
    const client = await oneAtATime(world);
    world.publish("t", "1", { qos: 1 });
    world.publishSeries("t", 2, 4, { qos: 1, expiryS: 5 });
    world.wallMs += 6_000;
    world.publishSeries("t", 5, 7, { qos: 1 });
    expect(droppedTexts(world)).toEqual([]);
    expect(texts(await client.receive(4))).toEqual(["1", "5", "6", "7"]);
  });

  it.each(["fifo", "lifo"] as const)(
    "frees the places of expired messages before a full offline queue drops others (%s)",
    async (queueType) => {
      const world = await openWorld({ settings: { maxOfflineMessages: 3, queueType } });
      await absent(world);
      world.publishSeries("t", 1, 3, { qos: 1, expiryS: 5 });
      world.wallMs += 6_000;
      world.publishSeries("t", 4, 6, { qos: 1 });
      await settle();
      expect(await storedTexts(world)).toEqual(series(4, 6));
      expect(droppedTexts(world)).toEqual([]);
    },
  );

  it("looks for expired messages after a restart, too", async () => {
    const folder = tempDir();
    const before = await openWorld({}, new EmbeddedStore({ folder }));
    await absent(before);
    before.publishSeries("t", 1, 3, { qos: 1, expiryS: 10 });
    await before.core.store.close();
    const after = await openWorld(
      { settings: { maxOfflineMessages: 3 } },
      new EmbeddedStore({ folder }),
    );
    after.advance(60_000);
    await settle(50);
    after.publish("t", "4", { qos: 1 });
    await settle(50);
    expect(await storedTexts(after)).toEqual(["4"]);
  });
});

describe("shared_requeue_offline_after", () => {
  it("gives what waits for an absent member of a group to another member", async () => {
    const world = await openWorld({ settings: { sharedRequeueOfflineAfterS: 60 } });
    const away = await world.connect("away", staying());
    await away.subscribe("$share/g/t", "own");
    away.drop();
    world.publishSeries("t", 1, 3, { qos: 1 });
    world.publish("own", "mine", { qos: 1 });
    const other = await world.connect("other");
    await other.subscribe("$share/g/t");
    world.advance(59_000);
    await settle();
    expect(other.take("publish")).toEqual([]);
    world.advance(2_000);
    await settle();
    expect(texts(await other.receive(3))).toEqual(series(1, 3));
    expect(await storedTexts(world, "away")).toEqual(["mine"]);
  });

  it("leaves messages alone that an own subscription asked for as well", async () => {
    const world = await openWorld({ settings: { sharedRequeueOfflineAfterS: 60 } });
    const away = await world.connect("away", staying());
    await away.subscribe("$share/g/t", "t");
    away.drop();
    world.publish("t", "1", { qos: 1 });
    const other = await world.connect("other");
    await other.subscribe("$share/g/t");
    world.advance(61_000);
    await settle();
    expect(other.take("publish")).toEqual([]);
    expect(await storedTexts(world, "away")).toEqual(["1", "1"]);
  });
});
