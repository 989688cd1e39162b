import { describe, expect, it } from "vitest";
import type { Plugin } from "../../../core/hooks/types.ts";
import { NEVER_EXPIRES } from "../../../core/session/subscriber.ts";
import { EmbeddedStore } from "../../../core/store/embedded/embedded-store.ts";
import { MemoryStore } from "../../../core/store/memory/memory-store.ts";
import type { Store } from "../../../core/store/types.ts";
import { tempDir } from "../../support/broker.ts";
import { atEnd } from "../../support/cleanup.ts";
import { encodeConnect } from "../../support/wire.ts";
import { series, settle, staying, texts, until, World, type WorldOptions } from "./world.ts";

async function openWorld(
  options: WorldOptions = {},
  store: Store = new MemoryStore(),
): Promise<World> {
  const world = await new World({ ...options, store }).start();
  atEnd(() => store.close());
  return world;
}

/** The same clients and messages in a process started later. */
async function restart(before: World, folder: string, options: WorldOptions = {}): Promise<World> {
  await before.core.store.flush();
  // The process dies here: sessions do not end.
  await before.core.store.close();
  const store = new EmbeddedStore({ folder });
  atEnd(() => store.close());
  const world = new World({ ...options, store });
  world.wallMs = before.wallMs;
  return world;
}

function durableWorld(folder: string, options: WorldOptions = {}): Promise<World> {
  return openWorld(options, new EmbeddedStore({ folder }));
}

describe("takeover", () => {
  it("ends the running session with 0x8E and hands its state to the new one", async () => {
    const world = await openWorld();
    const first = await world.connect("c", staying());
    await first.subscribe("t");
    const second = await world.connect("c", staying());
    expect(first.isEnded).toBe(true);
    expect(first.packets.at(-1)).toMatchObject({ type: "disconnect", code: 0x8e });
    expect(second.packets[0]).toMatchObject({ type: "connack", sessionPresent: true, code: 0 });
    world.publish("t", "x", { qos: 1 });
    expect(texts(await second.receive(1))).toEqual(["x"]);
    expect([...world.core.manager.sessions()]).toEqual([second.session]);
  });

  it("passes on what is in flight, then what waits", async () => {
    const world = await openWorld();
    const options = staying(3600, { receiveMaximum: 2 });
    const first = await world.connect("c", options);
    await first.subscribe("t");
    world.publishSeries("t", 1, 6, { qos: 1 });
    const second = await world.connect("c", options);
    const got = await second.receive(6);
    expect(texts(got)).toEqual(series(1, 6));
    expect(got.map(({ dup }) => dup)).toEqual([true, true, false, false, false, false]);
  });

  it("begins anew when the running session ends with its connection", async () => {
    const world = await openWorld();
    const first = await world.connect("c", staying(0));
    await first.subscribe("t");
    const second = await world.connect("c", staying(0));
    expect(second.packets[0]).toMatchObject({ sessionPresent: false });
    expect(world.core.router.subscriptions).toBe(0);
  });

  it("keeps clients of different mountpoints apart", async () => {
    const world = await openWorld();
    const one = await world.connect("c", { listener: { mountpoint: "one" } });
    const two = await world.connect("c", { listener: { mountpoint: "two" } });
    await one.subscribe("t");
    await two.subscribe("t");
    expect(one.isEnded).toBe(false);
    world.publish("t", "x", { mountpoint: "one" });
    expect(texts(await one.receive(1))).toEqual(["x"]);
    expect(two.take("publish")).toEqual([]);
  });

  it("drops everything of the client on a clean start, and says so", async () => {
    const world = await openWorld();
    const first = await world.connect("c", staying());
    await first.subscribe("t");
    first.drop();
    world.publish("t", "x", { qos: 1 });
    const second = await world.connect("c", { clean: true });
    expect(second.packets[0]).toMatchObject({ type: "connack", sessionPresent: false });
    await settle();
    expect(second.take("publish")).toEqual([]);
    world.publish("t", "y", { qos: 1 });
    await settle();
    expect(second.take("publish")).toEqual([]);
    expect(world.core.router.subscriptions).toBe(0);
    expect(world.core.counters.queueTeardown).toBe(1);
    expect(world.core.counters.queueMessageUnhandled).toBe(1);
  });

  it("publishes the will of the session that is taken over, unless the setting suppresses it", async () => {
    for (const suppressLwtOnTakeover of [false, true]) {
      const world = await openWorld({ settings: { suppressLwtOnTakeover } });
      const witness = await world.connect("w");
      await witness.subscribe("will");
      await world.connect("c", { ...staying(), will: { topic: "will", payload: "gone" } });
      await world.connect("c", staying());
      await settle();
      expect(texts(witness.take("publish"))).toEqual(suppressLwtOnTakeover ? [] : ["gone"]);
    }
  });

  it("lets the last of several simultaneous connects win", async () => {
    const store = new EmbeddedStore({ folder: tempDir() });
    const world = await openWorld({}, store);
    const clients = [1, 2, 3].map(() => world.open(5));
    for (const client of clients) {
      client.send(encodeConnect(5, { clientId: "c", keepAlive: 0, ...staying() }));
    }
    await until("the last is in", () => clients[2]?.count("connack") === 1);
    await settle(50);
    expect(clients.map(({ isEnded }) => isEnded)).toEqual([true, true, false]);
    // Nobody who lost was told that he is in.
    expect(clients.slice(0, 2).map((client) => client.count("connack"))).toEqual([0, 0]);
  });
});

describe("session expiry", () => {
  it("forgets the client at its deadline, not before", async () => {
    const world = await openWorld();
    const client = await world.connect("c", staying(60));
    await client.subscribe("t");
    world.advance(3_600_000);
    client.drop();
    world.publish("t", "x", { qos: 1 });
    world.advance(59_000);
    expect(world.has("c")).toBe(true);
    world.advance(1_100);
    expect(world.has("c")).toBe(false);
    expect(world.core.router.subscriptions).toBe(0);
    expect(world.hooksNamed("on_session_expired")).toMatchObject([
      { subscriber_id: { client_id: "c", mountpoint: "" } },
    ]);
    expect(world.core.counters.queueMessageUnhandled).toBe(1);
  });

  it("does not expire while the client is back", async () => {
    const world = await openWorld();
    const first = await world.connect("c", staying(60));
    first.drop();
    world.advance(30_000);
    await world.connect("c", staying(60));
    world.advance(120_000);
    expect(world.has("c")).toBe(true);
  });

  it("is over at its deadline for a client that connects before the wheel turns", async () => {
    const world = await openWorld();
    const first = await world.connect("c", staying(60));
    first.drop();
    world.wallMs += 61_000;
    const second = await world.connect("c", staying(60));
    expect(second.packets[0]).toMatchObject({ sessionPresent: false });
    expect(world.hooksNamed("on_session_expired")).toHaveLength(1);
  });

  it("never expires with the largest interval, nor for 3.1.1 without a configured limit", async () => {
    const world = await openWorld();
    const five = await world.connect("five", staying(NEVER_EXPIRES));
    const four = await world.connect("four", { version: 4, clean: false });
    five.drop();
    four.drop();
    for (let days = 0; days < 400; days++) world.advance(86_400_000);
    expect(world.has("five")).toBe(true);
    expect(world.has("four")).toBe(true);
  });

  it("follows persistent_client_expiration for 3.1.1 and the DISCONNECT of a v5 client", async () => {
    const world = await openWorld({ settings: { persistentClientExpirationS: 100 } });
    const four = await world.connect("four", { version: 4, clean: false });
    const five = await world.connect("five", staying(100));
    four.drop();
    five.send(Buffer.from("e007000511000003e8", "hex"));
    world.advance(101_000);
    expect(world.has("four")).toBe(false);
    expect(world.has("five")).toBe(true);
    world.advance(900_000);
    expect(world.has("five")).toBe(false);
  });

  it("tells on_client_gone at once without an expiry, on_client_offline with one", async () => {
    const world = await openWorld();
    const brief = await world.connect("brief");
    const lasting = await world.connect("lasting", staying());
    brief.drop();
    lasting.drop();
    expect(world.hooksNamed("on_client_gone")).toMatchObject([
      { subscriber_id: { client_id: "brief" } },
    ]);
    expect(world.hooksNamed("on_client_offline")).toMatchObject([
      { subscriber_id: { client_id: "lasting" } },
    ]);
    expect(world.hooksNamed("on_client_wakeup")).toHaveLength(2);
  });
});

describe("delayed will", () => {
  const delayed = (delayS: number, expiryS = 3600, payload = "gone") => ({
    ...staying(expiryS),
    will: { topic: "will", payload, qos: 1, properties: { willDelayInterval: delayS } },
  });

  async function withWitness(options: WorldOptions = {}) {
    const world = await openWorld(options);
    const witness = await world.connect("w");
    await witness.subscribe("will");
    const wills = async () => {
      await settle();
      return texts(witness.packets.filter(({ type }) => type === "publish"));
    };
    return { world, wills };
  }

  it("comes after its delay", async () => {
    const { world, wills } = await withWitness();
    const client = await world.connect("c", delayed(30));
    client.drop();
    world.advance(29_000);
    expect(await wills()).toEqual([]);
    world.advance(1_100);
    expect(await wills()).toEqual(["gone"]);
    world.advance(3_600_000);
    expect(await wills()).toEqual(["gone"]);
  });

  it("is cancelled for good by a reconnect in time", async () => {
    const { world, wills } = await withWitness();
    (await world.connect("c", delayed(30))).drop();
    world.advance(10_000);
    const second = await world.connect("c", staying());
    world.advance(60_000);
    // A normal DISCONNECT must not bring the old will back (W-23).
    second.send(Buffer.from([0xe0, 0]));
    world.advance(60_000);
    expect(await wills()).toEqual([]);
  });

  it("comes at the end of the session at the latest", async () => {
    const { world, wills } = await withWitness();
    (await world.connect("c", delayed(100, 20))).drop();
    world.advance(20_100);
    expect(await wills()).toEqual(["gone"]);
    expect(world.has("c")).toBe(false);
  });

  it("comes at once without a session to come back to, and when clean start ends the session", async () => {
    const { world, wills } = await withWitness();
    (await world.connect("a", delayed(100, 0, "a"))).drop();
    expect(await wills()).toEqual(["a"]);
    (await world.connect("b", delayed(100, 3600, "b"))).drop();
    expect(await wills()).toEqual(["a"]);
    await world.connect("b", { clean: true });
    expect(await wills()).toEqual(["a", "b"]);
  });

  it("is capped by max_last_will_delay", async () => {
    const { world, wills } = await withWitness({ settings: { maxLastWillDelayS: 5 } });
    (await world.connect("c", delayed(1000))).drop();
    world.advance(5_100);
    expect(await wills()).toEqual(["gone"]);
  });

  it("is not published after DISCONNECT, but is after DISCONNECT with will message", async () => {
    const { world, wills } = await withWitness();
    (await world.connect("a", delayed(0, 0, "a"))).send(Buffer.from([0xe0, 0]));
    expect(await wills()).toEqual([]);
    (await world.connect("b", delayed(0, 0, "b"))).send(Buffer.from([0xe0, 1, 4]));
    expect(await wills()).toEqual(["b"]);
  });

  it("has its Message Expiry Interval counted from its publication", async () => {
    const world = await openWorld();
    const witness = await world.connect("w");
    await witness.subscribe("will");
    const properties = { willDelayInterval: 50, messageExpiryInterval: 40 };
    const client = await world.connect("c", {
      ...staying(),
      will: { topic: "will", payload: "x", properties },
    });
    client.drop();
    world.advance(50_100);
    const [packet] = await witness.receive(1);
    expect(packet?.properties?.messageExpiryInterval).toBe(40);
  });

  it("is told to on_publish_m5 like any publish", async () => {
    const topics: string[] = [];
    const plugin: Plugin = {
      name: "p",
      hooks: { on_publish_m5: ({ topic }) => void topics.push(topic) },
    };
    const world = await openWorld({ plugins: [plugin] });
    (await world.connect("c", delayed(0))).drop();
    expect(topics).toEqual(["will"]);
  });
});

describe("members of shared subscriptions that leave", () => {
  it("give unacknowledged and waiting messages back to their group", async () => {
    const world = await openWorld();
    const leaving = await world.connect("a", { properties: { receiveMaximum: 2 } });
    await leaving.subscribe("$share/g/t");
    world.publishSeries("t", 1, 5, { qos: 1 });
    const other = await world.connect("b");
    await other.subscribe("$share/g/t");
    leaving.drop();
    expect(texts(await other.receive(5))).toEqual(series(1, 5));
    expect(world.core.counters.queueMessageUnhandled).toBe(0);
  });

  it("count them as unhandled when nobody else is there", async () => {
    const world = await openWorld();
    const leaving = await world.connect("a", { properties: { receiveMaximum: 2 } });
    await leaving.subscribe("$share/g/t", "own");
    world.publishSeries("t", 1, 2, { qos: 1 });
    world.publish("own", "x", { qos: 1 });
    leaving.drop();
    expect(world.core.counters.queueMessageUnhandled).toBe(3);
  });
});

describe("session disconnect", () => {
  it("ends the connection with 0x98 and keeps the state; with cleanup the state goes", async () => {
    const world = await openWorld();
    const client = await world.connect("c", staying());
    await client.subscribe("t");
    expect(world.core.manager.disconnect("", "c", false)).toBe(true);
    expect(client.packets.at(-1)).toMatchObject({ type: "disconnect", code: 0x98 });
    expect(world.has("c")).toBe(true);
    expect(world.core.manager.disconnect("", "c", false)).toBe(false);
    expect(world.core.manager.disconnect("", "c", true)).toBe(true);
    expect(world.has("c")).toBe(false);
    expect(world.core.router.subscriptions).toBe(0);
    expect(world.core.manager.disconnect("", "c", true)).toBe(false);
    const again = await world.connect("c", staying());
    expect(again.packets[0]).toMatchObject({ sessionPresent: false });
    world.core.manager.disconnect("", "c", true);
    expect(world.has("c")).toBe(false);
  });

  it("ends all sessions of the client", async () => {
    const world = await openWorld({ settings: { allowMultipleSessions: true } });
    const both = [await world.connect("c", staying()), await world.connect("c", staying())];
    world.core.manager.disconnect("", "c", true);
    expect(both.map(({ isEnded }) => isEnded)).toEqual([true, true]);
    expect(world.has("c")).toBe(false);
  });
});

describe("restart", () => {
  it("brings subscriptions, messages, packet ids and counters back", async () => {
    const folder = tempDir();
    const before = await durableWorld(folder);
    const client = await before.connect("c", staying(3600, { receiveMaximum: 2 }));
    await client.subscribeWith(
      { subscriptionIdentifiers: [9] },
      { filter: "t", qos: 1, retainAsPublished: true },
    );
    client.drop();
    before.publishSeries("t", 1, 3, { qos: 1 });
    const after = await restart(before, folder);
    await after.start();
    expect(after.find("c").storedCount).toBe(3);
    after.publish("t", "4", { qos: 1, retain: true });
    const back = await after.connect("c", staying());
    expect(back.packets[0]).toMatchObject({ type: "connack", sessionPresent: true });
    const got = await back.receive(4);
    expect(texts(got)).toEqual(series(1, 4));
    expect(got.map(({ retain }) => retain)).toEqual([false, false, false, true]);
    expect(got.every(({ properties }) => properties?.subscriptionIdentifiers?.[0] === 9)).toBe(
      true,
    );
    expect(new Set(got.map(({ packetId }) => packetId)).size).toBe(4);
  });

  it("keeps the deadline of an absent client", async () => {
    const folder = tempDir();
    const before = await durableWorld(folder);
    for (const [clientId, expiryS] of [
      ["soon", 60],
      ["later", 600],
      ["past", 30],
    ] as const) {
      const client = await before.connect(clientId, staying(expiryS));
      await client.subscribe("t");
      client.drop();
    }
    before.advance(20_000);
    const after = await restart(before, folder);
    after.wallMs += 20_000;
    await after.start();
    expect(after.has("past")).toBe(false);
    expect(after.has("soon")).toBe(true);
    after.advance(20_500);
    expect(after.has("soon")).toBe(false);
    expect(after.has("later")).toBe(true);
    expect(after.core.router.subscriptions).toBe(1);
    after.advance(541_000);
    expect(after.has("later")).toBe(false);
  });

  it("starts the deadline of a client that was connected when the broker died", async () => {
    const folder = tempDir();
    const before = await durableWorld(folder);
    await before.connect("c", staying(60));
    before.advance(1_000_000);
    const after = await restart(before, folder);
    after.wallMs += 50_000;
    await after.start();
    after.advance(59_000);
    expect(after.has("c")).toBe(true);
    after.advance(2_000);
    expect(after.has("c")).toBe(false);
  });

  it("publishes the wills of interrupted sessions, delayed ones later or never", async () => {
    const folder = tempDir();
    const before = await durableWorld(folder);
    const witness = await before.connect("w", staying());
    await witness.subscribe("will");
    const options = (payload: string, willDelayInterval: number) => ({
      ...staying(),
      will: { topic: "will", payload, qos: 1, properties: { willDelayInterval } },
    });
    await before.connect("at once", options("at once", 0));
    await before.connect("later", options("later", 30));
    await before.connect("back", options("back", 30));
    const left = await before.connect("left", options("left", 100));
    left.drop();
    const after = await restart(before, folder);
    await after.start();
    const again = await after.connect("w", staying());
    expect(texts(await again.receive(1))).toEqual(["at once"]);
    await after.connect("back", staying());
    after.advance(30_100);
    expect(texts(await again.receive(1))).toEqual(["later"]);
    after.advance(70_000);
    expect(texts(await again.receive(1))).toEqual(["left"]);
    after.advance(600_000);
    await settle();
    expect(again.take("publish")).toEqual([]);
  });

  it("publishes an interrupted session's will to subscribers that are restored after it", async () => {
    const folder = tempDir();
    const before = await durableWorld(folder);
    await before.connect("a", { ...staying(), will: { topic: "will", payload: "x", qos: 1 } });
    const witness = await before.connect("w", staying());
    await witness.subscribe("will");
    const after = await restart(before, folder);
    await after.start();
    expect(after.find("w").storedCount).toBe(1);
  });

  it("keeps the Message Expiry Interval of a will", async () => {
    const folder = tempDir();
    const before = await durableWorld(folder);
    const witness = await before.connect("w", staying());
    await witness.subscribe("will");
    await before.connect("c", {
      ...staying(),
      will: { topic: "will", payload: "x", qos: 1, properties: { messageExpiryInterval: 40 } },
    });
    const after = await restart(before, folder);
    await after.start();
    const again = await after.connect("w", staying());
    const [packet] = await again.receive(1);
    expect(packet?.properties?.messageExpiryInterval).toBe(40);
  });

  it("never routes a QoS 2 message again whose PUBREC was sent before", async () => {
    const folder = tempDir();
    const before = await durableWorld(folder);
    const publisher = await before.connect("p", staying());
    const witness = await before.connect("w", staying());
    await witness.subscribe({ filter: "t", qos: 1 });
    publisher.publish({ topic: "t", payload: "x", qos: 2, packetId: 5 });
    await until("PUBREC", () => publisher.count("pubrec") === 1);
    await witness.receive(1);
    await until("done", () => before.find("w").storedCount === 0);
    const after = await restart(before, folder);
    await after.start();
    const again = await after.connect("p", staying());
    again.publish({ topic: "t", payload: "x", qos: 2, packetId: 5, dup: true });
    await until("PUBREC", () => again.count("pubrec") === 1);
    expect(after.find("w").storedCount).toBe(0);
    again.ack("pubrel", 5);
    await until("PUBCOMP", () => again.count("pubcomp") === 1);
    again.publish({ topic: "t", payload: "y", qos: 2, packetId: 5 });
    await until("routed", () => after.find("w").storedCount === 1);
  });

  it("leaves nothing of a client that is gone", async () => {
    const folder = tempDir();
    const before = await durableWorld(folder);
    const client = await before.connect("c", staying());
    await client.subscribe("t");
    client.drop();
    before.publishSeries("t", 1, 20, { qos: 1 });
    before.core.manager.disconnect("", "c", true);
    const after = await restart(before, folder);
    await after.start();
    expect(after.core.manager.subscribers.size).toBe(0);
    expect(after.core.router.subscriptions).toBe(0);
  });

  it("counts a client that ends after a clean start as a new one in the store", async () => {
    const folder = tempDir();
    const before = await durableWorld(folder);
    const first = await before.connect("c", staying());
    await first.subscribe("t");
    first.drop();
    before.publish("t", "old", { qos: 1 });
    const second = await before.connect("c", { ...staying(), clean: true });
    await second.subscribe("u");
    second.drop();
    before.publish("u", "new", { qos: 1 });
    const after = await restart(before, folder);
    await after.start();
    const back = await after.connect("c", staying());
    expect(texts(await back.receive(1))).toEqual(["new"]);
    expect([...(after.find("c").subscriptions?.keys() ?? [])]).toEqual(["u"]);
  });
});

describe("shutdown", () => {
  it("tells v5 clients 0x8B, closes the others, and keeps stored sessions", async () => {
    const world = await openWorld();
    const five = await world.connect("five", staying());
    const four = await world.connect("four", { version: 4 });
    world.core.manager.stop();
    expect(five.packets.at(-1)).toMatchObject({ type: "disconnect", code: 0x8b });
    expect(four.isEnded).toBe(true);
    expect(world.has("five")).toBe(true);
    expect(world.has("four")).toBe(false);
  });
});
