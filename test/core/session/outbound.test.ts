import { describe, expect, it } from "vitest";
import type { Plugin } from "../../../core/hooks/types.ts";
import { DEFERRED_MAX } from "../../../core/session/answers.ts";
import { EmbeddedStore } from "../../../core/store/embedded/embedded-store.ts";
import { MemoryStore } from "../../../core/store/memory/memory-store.ts";
import type { Store } from "../../../core/store/types.ts";
import { tempDir } from "../../support/broker.ts";
import { atEnd } from "../../support/cleanup.ts";
import { encodePublish } from "../../support/wire.ts";
import { series, settle, staying, texts, turn, until, World, type WorldOptions } from "./world.ts";

async function openWorld(
  options: WorldOptions = {},
  store: Store = new MemoryStore(),
): Promise<World> {
  const world = await new World({ ...options, store }).start();
  atEnd(() => store.close());
  return world;
}

/** A store that commits when the test says so. */
class HeldStore extends EmbeddedStore {
  private held: number[] | undefined;

  /** From now on commits are kept back. */
  hold(): void {
    const tell = this.onCommit;
    const held: number[] = [];
    this.held = held;
    const committed = super.committedBatch;
    this.shown = committed;
    this.onCommit = (batch) => held.push(batch);
    this.letGo = () => {
      this.held = undefined;
      this.shown = Number.POSITIVE_INFINITY;
      this.onCommit = tell;
      for (const batch of held) tell?.(batch);
    };
  }

  letGo: () => void = () => undefined;
  private shown = Number.POSITIVE_INFINITY;

  get heldBatches(): number {
    return this.held?.length ?? 0;
  }

  override get committedBatch(): number {
    return Math.min(super.committedBatch, this.shown);
  }
}

describe("acknowledgements", () => {
  it("wait for the store and leave in the order of the packets, PUBACK and PUBREC alike", async () => {
    const store = new HeldStore({ folder: tempDir() });
    const world = await openWorld({}, store);
    const keeper = await world.connect("keeper", staying());
    await keeper.subscribe("kept");
    keeper.drop();
    const publisher = await world.connect("p", { clean: true });
    await store.flush();
    store.hold();
    publisher.take();
    const send = (packetId: number, qos: number, topic: string) =>
      publisher.publish({ topic, qos, packetId, payload: "x" });
    send(1, 1, "nobody");
    await turn();
    expect(publisher.take()).toMatchObject([{ type: "puback", packetId: 1, code: 0x10 }]);
    send(2, 1, "kept");
    send(3, 1, "nobody");
    send(4, 2, "kept");
    publisher.ack("pubrel", 4);
    await until("written", () => store.heldBatches > 0);
    await settle();
    expect(publisher.take()).toEqual([]);
    store.letGo();
    await turn();
    expect(publisher.take().map(({ type, packetId }) => [type, packetId])).toEqual([
      ["puback", 2],
      ["puback", 3],
      ["pubrec", 4],
      ["pubcomp", 4],
    ]);
  });

  it("stop the reading of a client who has too many outstanding, until half are out", async () => {
    const store = new HeldStore({ folder: tempDir() });
    const settings = { maxOfflineMessages: -1 };
    const world = await openWorld({ settings }, store);
    const keeper = await world.connect("keeper", staying());
    await keeper.subscribe("t");
    keeper.drop();
    const publisher = await world.connect("p");
    await store.flush();
    store.hold();
    const count = DEFERRED_MAX + 500;
    for (let i = 1; i <= count; i++) {
      publisher.publish({ topic: "t", qos: 1, packetId: i, payload: "x".repeat(300) });
    }
    expect(publisher.session.out.answers.count).toBe(DEFERRED_MAX + 1);
    expect(publisher.transport.isPaused).toBe(true);
    await settle();
    store.letGo();
    await until("all out", () => publisher.count("puback") === count);
    expect(publisher.transport.isPaused).toBe(false);
    expect(publisher.packets.slice(1).map(({ packetId }) => packetId)).toEqual(
      Array.from({ length: count }, (_, i) => i + 1),
    );
  });

  it("of a session that ended are not sent, and those of others are", async () => {
    const store = new HeldStore({ folder: tempDir() });
    const world = await openWorld({}, store);
    const keeper = await world.connect("keeper", staying());
    await keeper.subscribe("t");
    keeper.drop();
    const [one, two] = [await world.connect("1"), await world.connect("2")];
    await store.flush();
    store.hold();
    for (const client of [one, two]) {
      client.publish({ topic: "t", qos: 1, packetId: 9, payload: "x" });
    }
    one.drop();
    await until("written", () => store.heldBatches > 0);
    store.letGo();
    await until("PUBACK", () => two.count("puback") === 1);
    expect(one.count("puback")).toBe(0);
  });
});

describe("deliveries", () => {
  it("of QoS 2 to a stored session wait until their packet id is durable; QoS 1 does not", async () => {
    const store = new HeldStore({ folder: tempDir() });
    const world = await openWorld({}, store);
    const client = await world.connect("c", staying());
    await client.subscribe("t");
    await store.flush();
    store.hold();
    client.take();
    world.publish("t", "1", { qos: 1 });
    world.publish("t", "2", { qos: 2 });
    await until("written", () => store.heldBatches > 0);
    await turn();
    expect(texts(client.take("publish"))).toEqual(["1"]);
    store.letGo();
    await turn();
    expect(texts(client.take("publish"))).toEqual(["2"]);
  });

  it("number from 1 to 65535 and again, leaving out what is still in flight", async () => {
    const world = await openWorld({ settings: { maxOnlineMessages: -1 } });
    const client = await world.connect("c", { properties: { receiveMaximum: 100 } });
    await client.subscribe("t");
    world.publish("t", "kept", { qos: 1 });
    await turn();
    const [kept] = client.take("publish");
    expect(kept?.packetId).toBe(1);
    world.find("c").nextPacketId = 65_530;
    world.publishSeries("t", 1, 20, { qos: 1 });
    const ids = (await client.receive(20)).map(({ packetId }) => packetId);
    expect(ids).toEqual([
      ...Array.from({ length: 6 }, (_, i) => 65_530 + i),
      ...Array.from({ length: 14 }, (_, i) => 2 + i),
    ]);
  });

  it("above the client's maximum packet size are dropped whole and their credit returns", async () => {
    const world = await openWorld();
    const client = await world.connect("c", {
      properties: { receiveMaximum: 1, maximumPacketSize: 50 },
    });
    await client.subscribe("t");
    for (const qos of [0, 1, 2]) world.publish("t", "x".repeat(100), { qos });
    world.publish("t", "fits", { qos: 1 });
    expect(texts(await client.receive(1))).toEqual(["fits"]);
    expect(world.hooksNamed("on_message_drop").map(({ reason, qos }) => [reason, qos])).toEqual([
      ["max_packet_size_exceeded", 0],
      ["max_packet_size_exceeded", 1],
      ["max_packet_size_exceeded", 2],
    ]);
    expect(world.core.counters.queueMessageDrop).toBe(3);
  });

  it("use a topic alias once the whole topic was sent with it, up to the maximum", async () => {
    const world = await openWorld({ settings: { topicAliasMaxBroker: 10 } });
    const client = await world.connect("c", { properties: { topicAliasMaximum: 2 } });
    await client.subscribe("#");
    for (const topic of ["a", "b", "c", "a", "b", "c"]) world.publish(topic, topic, { qos: 1 });
    const got = await client.receive(6);
    expect(got.map(({ topic, properties }) => [topic, properties?.topicAlias])).toEqual([
      ["a", 1],
      ["b", 2],
      ["c", undefined],
      ["", 1],
      ["", 2],
      ["c", undefined],
    ]);
  });

  it("do not teach an alias with a message that was too large to send", async () => {
    const world = await openWorld({ settings: { topicAliasMaxBroker: 10 } });
    const properties = { topicAliasMaximum: 2, maximumPacketSize: 50 };
    const client = await world.connect("c", { properties });
    await client.subscribe("#");
    world.publish("a", "x".repeat(100));
    world.publish("a", "small");
    const [packet] = await client.receive(1);
    expect(packet).toMatchObject({ topic: "a", properties: { topicAlias: 1 } });
  });

  it.each([0, 1, 2])("of any size arrive whole to both versions (QoS %i)", async (qos) => {
    const sizes = [0, 1, 120, 127, 128, 200, 201, 16_370, 16_383, 16_384, 16_385, 2_097_152];
    const world = await openWorld();
    const topic = "grüße/🐙";
    const receivers = [
      await world.connect("five"),
      await world.connect("four", { version: 4, clean: true }),
      await world.connect("id"),
    ];
    const [five, four, id] = receivers;
    await five?.subscribe({ filter: "#", qos });
    await four?.subscribe({ filter: "#", qos });
    await id?.subscribeWith({ subscriptionIdentifiers: [3] }, { filter: "#", qos });
    for (const size of sizes) {
      const payload = Buffer.alloc(size, size % 251);
      world.publish(topic, payload, { qos });
      for (const receiver of receivers) {
        const [packet] = await receiver.receive(1);
        expect(packet?.payload?.equals(payload)).toBe(true);
        expect(packet?.topic).toBe(topic);
      }
      await settle(3);
      for (const receiver of receivers) await settleQos2(receiver);
    }
  });

  async function settleQos2(client: Awaited<ReturnType<World["connect"]>>): Promise<void> {
    await turn();
    for (const packet of client.take("pubrel")) client.ack("pubcomp", packet.packetId ?? 0);
    await turn();
  }

  it("share the payload of a large message instead of copying it for each receiver", async () => {
    const world = await openWorld();
    const receivers = [await world.connect("a"), await world.connect("b")];
    for (const receiver of receivers) await receiver.subscribe("t");
    world.publish("t", Buffer.alloc(100_000, 1), { qos: 1 });
    await turn();
    const [a, b] = receivers.map(({ transport }) =>
      transport.given.find((buffer) => buffer.length === 100_000),
    );
    expect(a?.buffer).toBe(b?.buffer);
    expect(a?.byteOffset).toBe(b?.byteOffset);
  });

  it("stop while the socket is full and go on in order when it is empty", async () => {
    const world = await openWorld({ settings: { maxOnlineMessages: -1 } });
    const client = await world.connect("c");
    await client.subscribe("t");
    await settle();
    client.transport.isStuck = true;
    for (let i = 1; i <= 40; i++) {
      world.publish("t", String(i).padEnd(20_000, "-"), { qos: i % 2 });
    }
    await settle();
    expect(client.transport.bufferedBytes).toBeLessThan(262_144 + 2 * 20_100);
    const rounds: number[] = [];
    for (let round = 0; client.count("publish") < 40 && round < 10; round++) {
      rounds.push(client.count("publish"));
      client.transport.unstick(true);
      await settle();
    }
    expect(rounds.length).toBeGreaterThan(1);
    const got = client.packets.filter(({ type }) => type === "publish");
    expect(texts(got).map((text) => text.replaceAll("-", ""))).toEqual(series(1, 40));
  });
});

describe("retry_interval", () => {
  it("sends unacknowledged messages again with DUP and PUBREL without, for 3.x only", async () => {
    for (const version of [4, 5] as const) {
      const world = await openWorld({ settings: { retryIntervalMs: 10_000 } });
      const client = await world.connect("c", { version });
      await client.subscribe("t");
      world.publish("t", "1", { qos: 1 });
      world.publish("t", "2", { qos: 2 });
      world.publish("t", "3", { qos: 2 });
      await turn();
      const first = client.take("publish");
      client.ack("pubrec", first[2]?.packetId ?? 0);
      await turn();
      client.take();
      world.advance(9_900);
      await turn();
      expect(client.take()).toEqual([]);
      world.advance(200);
      await turn();
      const again = client.take();
      if (version === 5) {
        expect(again).toEqual([]);
        continue;
      }
      expect(again.map(({ type, packetId, dup }) => [type, packetId, dup])).toEqual([
        ["publish", first[0]?.packetId, true],
        ["publish", first[1]?.packetId, true],
        ["pubrel", first[2]?.packetId, undefined],
      ]);
      client.ack("puback", first[0]?.packetId ?? 0);
      world.advance(10_100);
      await turn();
      expect(client.take().map(({ type }) => type)).toEqual(["publish", "pubrel"]);
    }
  });
});

describe("on_deliver", () => {
  it("changes topic and payload; the same change is sent again after a retry", async () => {
    let calls = 0;
    const plugin: Plugin = {
      name: "p",
      hooks: {
        on_deliver: ({ topic, payload }) => {
          calls++;
          return { ok: { topic: `${topic}/x`, payload: `${payload} ${calls}` } };
        },
      },
    };
    const world = await openWorld({ plugins: [plugin], settings: { retryIntervalMs: 10_000 } });
    const client = await world.connect("c", { version: 4 });
    await client.subscribe("t");
    world.publish("t", "a", { qos: 1 });
    world.publish("t", "b");
    await turn();
    world.advance(11_000);
    await turn();
    expect(
      client.take("publish").map(({ topic, payload, dup }) => [topic, String(payload), dup]),
    ).toEqual([
      ["t/x", "a 1", false],
      ["t/x", "b 2", false],
      ["t/x", "a 1", true],
    ]);
  });

  it("that answers later keeps the order of the messages, also of those sent again", async () => {
    const answers: { text: string; answer: () => void }[] = [];
    const plugin: Plugin = {
      name: "p",
      hooks: {
        on_deliver_m5: ({ payload }) =>
          new Promise((done) => {
            answers.push({ text: String(payload), answer: () => done("ok") });
          }),
      },
    };
    const world = await openWorld({});
    const first = await world.connect("c", staying());
    await first.subscribe("t");
    world.publishSeries("t", 1, 3, { qos: 1 });
    await turn();
    first.drop();
    world.publish("t", "4", { qos: 1 });
    world.core.hooks.enable(plugin);
    const second = await world.connect("c", staying());
    await settle();
    for (let round = 0; round < 10; round++) {
      // The latest question is answered first.
      answers.pop()?.answer();
      await settle(3);
    }
    expect(texts(second.take("publish"))).toEqual(series(1, 4));
  });

  it("cannot refuse: an error or a failure delivers the message as it is", async () => {
    const answers = [
      () => ({ error: "no" }),
      () => "next",
      () => {
        throw new Error("x");
      },
      () => Promise.reject(new Error("y")),
    ];
    for (const answer of answers) {
      const plugin = { name: "p", hooks: { on_deliver_m5: answer } } as unknown as Plugin;
      const world = await openWorld({ plugins: [plugin] });
      const client = await world.connect("c");
      await client.subscribe("t");
      world.publish("t", "x", { qos: 1 });
      expect(texts(await client.receive(1))).toEqual(["x"]);
    }
  });
});

describe("frames that keep what the publisher sent", () => {
  it("forward properties in order and leave out alias, expiry and identifiers of the publisher", async () => {
    const world = await openWorld({ settings: { topicAliasMaxClient: 5 } });
    const client = await world.connect("c");
    await client.subscribe("t");
    const publisher = await world.connect("p");
    publisher.send(
      encodePublish(5, {
        topic: "t",
        payload: "x",
        properties: {
          userProperties: [
            ["b", "1"],
            ["a", "2"],
            ["b", "3"],
          ],
          topicAlias: 4,
          contentType: "text/plain",
          messageExpiryInterval: 100,
          correlationData: Buffer.from([1, 2]),
          responseTopic: "r",
          payloadFormatIndicator: 1,
        },
      }),
    );
    const [packet] = await client.receive(1);
    expect(packet?.properties).toEqual({
      userProperties: [
        ["b", "1"],
        ["a", "2"],
        ["b", "3"],
      ],
      contentType: "text/plain",
      messageExpiryInterval: 100,
      correlationData: Buffer.from([1, 2]),
      responseTopic: "r",
      payloadFormatIndicator: 1,
    });
  });
});
