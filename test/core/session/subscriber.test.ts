import { describe, expect, it } from "vitest";
import { EmbeddedStore } from "../../../core/store/embedded/embedded-store.ts";
import { MemoryStore } from "../../../core/store/memory/memory-store.ts";
import type { Store } from "../../../core/store/types.ts";
import { tempDir } from "../../support/broker.ts";
import { atEnd } from "../../support/cleanup.ts";
import { encodePublish } from "../../support/wire.ts";
import {
  series,
  settle,
  staying,
  type TestClient,
  texts,
  turn,
  until,
  World,
  type WorldOptions,
} from "./world.ts";

async function openWorld(
  options: WorldOptions = {},
  store: Store = new MemoryStore(),
): Promise<World> {
  const world = await new World({ ...options, store }).start();
  atEnd(() => store.close());
  return world;
}

const SEVERAL = { allowMultipleSessions: true };

/** Two connections of one client id. */
async function pair(world: World, receiveMaximum = 100): Promise<[TestClient, TestClient]> {
  const first = await world.connect("c", staying(3600, { receiveMaximum }));
  await first.subscribe("t");
  const second = await world.connect("c", staying(3600, { receiveMaximum }));
  return [first, second];
}

describe("shape of a delivery", () => {
  it.each([
    [0, 0, 0, 0],
    [1, 2, 1, 2],
    [2, 1, 1, 1],
    [2, 0, 0, 0],
    [0, 2, 0, 2],
  ])("published %i, granted %i: QoS %i, upgraded %i", async (qos, granted, plain, upgraded) => {
    for (const upgradeOutgoingQos of [false, true]) {
      const world = await openWorld({ settings: { upgradeOutgoingQos } });
      const client = await world.connect("c");
      await client.subscribe({ filter: "t", qos: granted });
      world.publish("t", "x", { qos });
      world.publish("t", "kept", { qos, retain: true });
      await client.subscribe({ filter: "t", qos: granted });
      const got = await client.receive(3);
      const expected = upgradeOutgoingQos ? upgraded : plain;
      expect(got.map((packet) => packet.qos)).toEqual([expected, expected, expected]);
    }
  });

  it("clears RETAIN unless asked to keep it, and sets it for retained messages", async () => {
    const world = await openWorld();
    const client = await world.connect("c");
    world.publish("t", "before", { retain: true, qos: 1 });
    await client.subscribe({ filter: "t", qos: 1 }, { filter: "+", retainAsPublished: true });
    const before = await client.receive(2);
    expect(before.map(({ retain, payload }) => [String(payload), retain])).toEqual([
      ["before", true],
      ["before", true],
    ]);
    world.publish("t", "after", { retain: true });
    const after = await client.receive(2);
    expect(after.map(({ retain }) => retain).sort()).toEqual([false, true]);
  });

  it("carries the subscription identifiers of the subscription", async () => {
    const world = await openWorld();
    const client = await world.connect("c");
    await client.subscribeWith({ subscriptionIdentifiers: [200] }, { filter: "t", qos: 2 });
    world.publish("t", "x", { qos: 1 });
    world.publish("t", "y");
    const got = await client.receive(2);
    expect(got.map(({ properties }) => properties?.subscriptionIdentifiers)).toEqual([
      [200],
      [200],
    ]);
  });

  it("sends one copy with all identifiers and the highest QoS when overlaps are merged", async () => {
    const world = await openWorld({ overlappingOnce: true });
    const client = await world.connect("c");
    await client.subscribeWith({ subscriptionIdentifiers: [1] }, { filter: "t/+", qos: 0 });
    await client.subscribeWith({ subscriptionIdentifiers: [2] }, { filter: "t/#", qos: 2 });
    world.publish("t/a", "x", { qos: 2 });
    const [packet] = await client.receive(1);
    expect(packet?.qos).toBe(2);
    expect(packet?.properties?.subscriptionIdentifiers?.sort()).toEqual([1, 2]);
    await settle();
    expect(client.take("publish")).toEqual([]);
  });

  it("counts every message in, and out when it is handed to the session", async () => {
    const world = await openWorld();
    const client = await world.connect("c", { properties: { receiveMaximum: 1 } });
    await client.subscribe("t");
    world.publishSeries("t", 1, 3, { qos: 1 });
    expect(world.core.counters.queueMessageIn).toBe(3);
    expect(world.core.counters.queueMessageOut).toBe(1);
    await client.receive(3);
    expect(world.core.counters.queueMessageOut).toBe(3);
    const publisher = await world.connect("p");
    publisher.send(
      encodePublish(5, { topic: "t", payload: "a" }),
      encodePublish(5, { topic: "t", payload: "b" }),
    );
    expect(world.core.counters.queueMessageIn).toBe(5);
    expect(world.core.counters.queueMessageOut).toBe(5);
  });
});

describe("several sessions of one client", () => {
  it("fanout: every session gets every message, each with its own window", async () => {
    const world = await openWorld({ settings: SEVERAL });
    const [first, second] = await pair(world, 2);
    world.publishSeries("t", 1, 10, { qos: 1 });
    world.publishSeries("t", 11, 12);
    const [a, b] = await Promise.all([first.receive(12), second.receive(12)]);
    const ordered = (packets: typeof a, qos: number) =>
      texts(packets.filter((packet) => packet.qos === qos));
    for (const got of [a, b]) {
      expect(ordered(got, 1)).toEqual(series(1, 10));
      expect(ordered(got, 0)).toEqual(series(11, 12));
    }
    await until("nothing is stored", () => world.find("c").storedCount === 0);
  });

  it("balance: every message goes to one session, chosen by chance", async () => {
    const turns = [0.1, 0.9, 0.9, 0.1, 0.6, 0.4];
    const world = await openWorld({
      settings: { ...SEVERAL, queueDeliverMode: "balance" },
      random: () => turns.shift() ?? 0,
    });
    const [first, second] = await pair(world);
    world.publishSeries("t", 1, 6, { qos: 1 });
    expect(texts(await first.receive(3))).toEqual(["1", "4", "6"]);
    expect(texts(await second.receive(3))).toEqual(["2", "3", "5"]);
  });

  it("fanout: QoS 0 reaches every session, also from neighbouring frames", async () => {
    const world = await openWorld({ settings: SEVERAL });
    const [first, second] = await pair(world);
    const publisher = await world.connect("p");
    publisher.send(...series(1, 5).map((payload) => encodePublish(5, { topic: "t", payload })));
    expect(texts(await first.receive(5))).toEqual(series(1, 5));
    expect(texts(await second.receive(5))).toEqual(series(1, 5));
  });

  it("balance: the others take over what a leaving session had not acknowledged", async () => {
    const world = await openWorld({
      settings: { ...SEVERAL, queueDeliverMode: "balance" },
      random: () => 0.9,
    });
    const [first, second] = await pair(world, 2);
    world.publishSeries("t", 1, 5, { qos: 1 });
    await turn();
    expect(texts(second.take("publish"))).toEqual(["1", "2"]);
    second.drop();
    expect(texts(await first.receive(5))).toEqual(series(1, 5));
    await until("nothing is stored", () => world.find("c").storedCount === 0);
  });

  it("fanout: what a leaving session had not acknowledged is not sent to the others", async () => {
    const world = await openWorld({ settings: SEVERAL });
    const [first, second] = await pair(world, 2);
    world.publishSeries("t", 1, 5, { qos: 1 });
    expect(texts(await first.receive(5))).toEqual(series(1, 5));
    second.drop();
    await settle();
    expect(first.take("publish")).toEqual([]);
    expect(world.find("c").storedCount).toBe(0);
  });

  it("fanout: the client is offline with the last session only, whichever it is", async () => {
    for (const order of [0, 1]) {
      const world = await openWorld({ settings: SEVERAL });
      const both = await pair(world);
      both[order]?.drop();
      expect(world.find("c").isOnline).toBe(true);
      expect(world.hooksNamed("on_client_offline")).toEqual([]);
      world.publish("t", "x", { qos: 1 });
      await both[1 - order]?.receive(1);
      both[1 - order]?.drop();
      expect(world.find("c").isOnline).toBe(false);
      expect(world.hooksNamed("on_client_offline")).toHaveLength(1);
      world.publish("t", "y", { qos: 1 });
      expect(world.find("c").storedCount).toBe(1);
    }
  });

  it("fanout: a slow session with a long queue gets each message once", async () => {
    const world = await openWorld({ settings: { ...SEVERAL, maxOnlineMessages: -1 } });
    const [slow, fast] = await pair(world, 1500);
    slow.transport.isStuck = true;
    slow.transport.bufferedBytes = 300_000;
    slow.send(Buffer.from([0xc0, 0]));
    await turn();
    world.publishSeries("t", 1, 1400, { qos: 1 });
    await until("fast has all", () => fast.count("publish") === 1400);
    slow.transport.unstick();
    expect(texts(await slow.receive(1400))).toEqual(series(1, 1400));
    await settle(50);
    expect(texts(slow.take("publish"))).toEqual([]);
  });

  it("fanout: nothing comes twice after the last session comes back", async () => {
    const world = await openWorld({ settings: { ...SEVERAL, maxOnlineMessages: -1 } });
    const [slow, fast] = await pair(world, 1);
    world.publishSeries("t", 1, 1400, { qos: 1 });
    expect(texts(await fast.receive(1400))).toEqual(series(1, 1400));
    slow.drop();
    fast.drop();
    const again = await world.connect("c", staying());
    await settle(100);
    expect(texts(again.take("publish"))).toEqual([]);
    expect(world.find("c").storedCount).toBe(0);
  });

  it("publishes the will of each session that ends abnormally", async () => {
    const world = await openWorld({ settings: SEVERAL });
    const witness = await world.connect("w");
    await witness.subscribe("will");
    const options = (payload: string) => ({ ...staying(), will: { topic: "will", payload } });
    const first = await world.connect("c", options("1"));
    const second = await world.connect("c", options("2"));
    first.drop();
    second.drop();
    expect(texts(await witness.receive(2))).toEqual(["1", "2"]);
  });
});

describe("subscriptions of a client", () => {
  it("replaces a subscription with the same filter instead of adding one", async () => {
    const world = await openWorld();
    const client = await world.connect("c");
    await client.subscribe({ filter: "t", qos: 0 });
    await client.subscribe({ filter: "t", qos: 1 });
    expect(world.core.router.subscriptions).toBe(1);
    world.publish("t", "x", { qos: 1 });
    const [packet] = await client.receive(1);
    expect(packet?.qos).toBe(1);
    await settle();
    expect(client.take("publish")).toEqual([]);
  });

  it("takes them all out of the router when the client is gone", async () => {
    const world = await openWorld();
    const client = await world.connect("c");
    await client.subscribe("a", "b/#", "$share/g/c");
    expect(world.core.router.subscriptions).toBe(3);
    client.drop();
    expect(world.core.router.subscriptions).toBe(0);
    expect(world.core.router.mount("").trie.size).toBe(0);
    expect(world.hooksNamed("on_topic_unsubscribed")).toMatchObject([{ topics: "all_topics" }]);
  });
});

describe("acknowledgement before the store has written", () => {
  it("lets the publisher's answer go when every receiver has acknowledged", async () => {
    const store = new EmbeddedStore({ folder: tempDir() });
    const world = await openWorld({}, store);
    const receiver = await world.connect("r", staying());
    await receiver.subscribe("t");
    await store.flush();
    const publisher = await world.connect("p");
    publisher.take();
    publisher.publish({ topic: "t", payload: "x", qos: 1, packetId: 7 });
    // Nothing was awaited: the batch is still open and no PUBACK is out.
    expect(publisher.session.out.answers.count).toBe(1);
    receiver.session.out.outbox.flush();
    const [delivered] = receiver.take("publish");
    receiver.ack("puback", delivered?.packetId ?? 0);
    expect(publisher.session.out.answers.count).toBe(0);
    await turn();
    expect(publisher.take()).toMatchObject([{ type: "puback", packetId: 7 }]);
    expect(world.find("r").storedCount).toBe(0);
  });

  it("waits for the slowest of several receivers", async () => {
    const store = new EmbeddedStore({ folder: tempDir() });
    const world = await openWorld({}, store);
    const receivers = [await world.connect("r1", staying()), await world.connect("r2", staying())];
    for (const receiver of receivers) await receiver.subscribe("t");
    await store.flush();
    const publisher = await world.connect("p");
    publisher.publish({ topic: "t", payload: "x", qos: 1, packetId: 7 });
    for (const receiver of receivers) {
      expect(publisher.session.out.answers.count).toBe(1);
      receiver.session.out.outbox.flush();
      const [delivered] = receiver.take("publish");
      receiver.ack("puback", delivered?.packetId ?? 0);
    }
    expect(publisher.session.out.answers.count).toBe(0);
  });
});
