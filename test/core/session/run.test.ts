import { describe, expect, it } from "vitest";
import type { Plugin } from "../../../core/hooks/types.ts";
import { FRAME_V4, FRAME_V5 } from "../../../core/mqtt/message.ts";
import { Run } from "../../../core/session/run.ts";
import { encodePublish, type Packet, packet } from "../../support/wire.ts";
import { Random } from "../mqtt/random-packets.ts";
import { settle, type TestClient, texts, turn, World, type WorldOptions } from "./world.ts";

async function openWorld(options: WorldOptions = {}): Promise<World> {
  return new World(options).start();
}

const TEXTS = ["one", "", "three", "4".repeat(200), "last"];

/** QoS 0 PUBLISH frames of one topic. */
function frames(version: 4 | 5, payloads: readonly string[], topic = "t"): Buffer[] {
  return payloads.map((payload) => encodePublish(version, { topic, payload }));
}

function publishes(client: TestClient): Packet[] {
  return client.packets.filter(({ type }) => type === "publish");
}

describe("a run of frames", () => {
  it("grows by the frame right behind it in the same buffer only", () => {
    const mount = new World().core.router.mount("");
    const all = Buffer.concat(frames(4, ["a", "b", "c"]));
    const run = new Run(mount, mount.lookupText("t"), FRAME_V4, all, 0, 6);
    expect(run.extend(all, 6, 12)).toBe(true);
    expect(run.extend(all, 13, 18)).toBe(false);
    expect(run.extend(Buffer.from(all), 12, 18)).toBe(false);
    expect(run.count).toBe(2);
    expect(run.size).toBe(12);
    expect(run.frames()).toEqual(all.subarray(0, 12));
  });

  it("keeps its own copy: one for all, and safe from the next read", () => {
    const mount = new World().core.router.mount("");
    const read = Buffer.concat(frames(4, ["a", "b"]));
    const before = Buffer.from(read);
    const run = new Run(mount, mount.lookupText("t"), FRAME_V4, read, 0, 6);
    run.extend(read, 6, 12);
    const own = run.frames();
    read.fill(0xff);
    expect(run.frames()).toBe(own);
    expect(own).toEqual(before);
    expect(run.size).toBe(12);
  });

  it("gives its messages one by one, of any length, in both versions", () => {
    const random = new Random(11);
    const mount = new World().core.router.mount("m");
    for (const [version, layout] of [
      [4, FRAME_V4],
      [5, FRAME_V5],
    ] as const) {
      for (let round = 0; round < 60; round++) {
        const topic = random.topic();
        const sizes = [0, 1, 120, 127, 128, 129, 16_370, 16_383, 16_384];
        const payloads = random.list(1, 8, () => Buffer.alloc(random.pick(sizes), random.next()));
        const all = Buffer.concat([
          Buffer.alloc(3),
          ...payloads.map((payload) => encodePublish(version, { topic, payload })),
        ]);
        const run = new Run(mount, mount.lookupText(topic), layout, all, 3, all.length);
        const messages = [...run.messages()];
        all.fill(0);
        expect(messages.map(({ payload }, i) => payload.equals(payloads[i]))).toEqual(
          payloads.map(() => true),
        );
        for (const message of messages) {
          expect(message).toMatchObject({ topic, mountpoint: "m", qos: 0, retain: false });
          expect(message.properties).toBeUndefined();
        }
      }
    }
  });
});

describe("neighbouring QoS 0 messages", () => {
  it("reach every receiver of the same version unchanged, in order, in one write", async () => {
    for (const version of [4, 5] as const) {
      const world = await openWorld();
      const receivers = [
        await world.connect("a", { version }),
        await world.connect("b", { version }),
      ];
      for (const receiver of receivers) await receiver.subscribe("t");
      await settle();
      const publisher = await world.connect("p", { version });
      const before = receivers.map(({ transport }) => transport.writes.length);
      publisher.send(...frames(version, TEXTS));
      await turn();
      for (const [i, { transport }] of receivers.entries()) {
        expect(transport.writes.slice(before[i])).toEqual([Buffer.concat(frames(version, TEXTS))]);
      }
      expect(world.core.counters.publishSent[version === 5 ? 1 : 0]).toBe(10);
      expect(world.core.counters.publishReceived[version === 5 ? 1 : 0]).toBe(5);
      expect(world.core.counters.routerMatchesLocal).toBe(10);
    }
  });

  it("above 4 KB share one buffer between all receivers", async () => {
    const world = await openWorld();
    const receivers = [await world.connect("a"), await world.connect("b")];
    for (const receiver of receivers) await receiver.subscribe("t");
    await settle();
    const publisher = await world.connect("p");
    publisher.send(
      ...frames(
        5,
        Array.from({ length: 50 }, () => "x".repeat(100)),
      ),
    );
    await turn();
    const [one, two] = receivers.map(({ transport }) => transport.given.at(-1));
    expect(one).toBe(two);
    expect(one).toHaveLength(50 * 106);
  });

  it("never change after the read buffer is used again", async () => {
    const world = await openWorld();
    const slow = await world.connect("slow");
    await slow.subscribe("t");
    await settle();
    slow.transport.isStuck = true;
    const publisher = await world.connect("p");
    const expected: string[] = [];
    const read = Buffer.alloc(65_536);
    for (let round = 0; round < 20; round++) {
      const payloads = Array.from({ length: 100 }, (_, i) => `${round}.${i}`.padEnd(40, "-"));
      const bytes = Buffer.concat(frames(5, payloads));
      bytes.copy(read);
      publisher.session.onData(read, bytes.length);
      read.fill(0xaa);
      expected.push(...payloads);
      if (round % 3 === 0) await turn();
    }
    await turn();
    slow.transport.unstick();
    await settle();
    expect(texts(publishes(slow))).toEqual(expected);
  });

  it("reach receivers that cannot take the range one by one, each in its own form", async () => {
    const world = await openWorld({ settings: { topicAliasMaxBroker: 10 } });
    const same = await world.connect("same");
    const other = await world.connect("other", { version: 4 });
    const withId = await world.connect("with id");
    const small = await world.connect("small", { properties: { maximumPacketSize: 40 } });
    const alias = await world.connect("alias", { properties: { topicAliasMaximum: 5 } });
    for (const client of [same, other, small, alias]) await client.subscribe("t");
    await withId.subscribeWith({ subscriptionIdentifiers: [7] }, { filter: "t" });
    const publisher = await world.connect("p");
    publisher.send(...frames(5, TEXTS));
    await settle();
    for (const client of [same, other, withId, alias]) {
      expect(texts(publishes(client))).toEqual(TEXTS);
    }
    expect(publishes(withId).map(({ properties }) => properties?.subscriptionIdentifiers)).toEqual(
      TEXTS.map(() => [7]),
    );
    expect(publishes(alias).map(({ topic }) => topic)).toEqual(["t", "", "", "", ""]);
    expect(texts(publishes(small))).toEqual(TEXTS.filter((text) => text.length < 34));
    expect(world.hooksNamed("on_message_drop")).toMatchObject([
      { reason: "max_packet_size_exceeded", subscriber_id: { client_id: "small" } },
    ]);
  });

  it("from a 3.1.1 publisher reach v5 receivers with empty properties", async () => {
    const world = await openWorld();
    const receiver = await world.connect("r");
    await receiver.subscribe("t");
    const publisher = await world.connect("p", { version: 4 });
    publisher.send(...frames(4, TEXTS));
    await settle();
    expect(publishes(receiver).map(({ raw }) => raw)).toEqual(frames(5, TEXTS));
  });

  it("wait in order behind what waits already", async () => {
    const world = await openWorld();
    const slow = await world.connect("slow");
    await slow.subscribe("t");
    await settle();
    slow.transport.isStuck = true;
    slow.transport.bufferedBytes = 300_000;
    slow.send(Buffer.from([0xc0, 0]));
    await turn();
    const publisher = await world.connect("p");
    publisher.send(...frames(5, ["1", "2", "3"]));
    await turn();
    expect(publishes(slow)).toEqual([]);
    publisher.send(...frames(5, ["4", "5"]));
    slow.transport.unstick();
    publisher.send(...frames(5, ["6", "7"]));
    await settle();
    expect(texts(publishes(slow))).toEqual(["1", "2", "3", "4", "5", "6", "7"]);
  });

  it("do not come back to a publisher with No Local", async () => {
    const world = await openWorld();
    const publisher = await world.connect("p");
    await publisher.subscribe({ filter: "t", noLocal: true });
    const other = await world.connect("o");
    await other.subscribe({ filter: "t", noLocal: true });
    publisher.send(...frames(5, TEXTS));
    await settle();
    expect(publishes(publisher)).toEqual([]);
    expect(texts(publishes(other))).toEqual(TEXTS);
  });

  it("are shared out one by one between the members of a group", async () => {
    let next = 0;
    const world = await openWorld({ random: () => (next++ % 2 === 0 ? 0.1 : 0.9) });
    const members = [await world.connect("a"), await world.connect("b")];
    for (const member of members) await member.subscribe("$share/g/t");
    const publisher = await world.connect("p");
    publisher.send(...frames(5, ["1", "2", "3", "4"]));
    await settle();
    expect(members.map((member) => texts(publishes(member)))).toEqual([
      ["1", "3"],
      ["2", "4"],
    ]);
  });

  it("keep their order among packets of other kinds and topics", async () => {
    const world = await openWorld();
    const receiver = await world.connect("r");
    await receiver.subscribe({ filter: "#", qos: 2 });
    const publisher = await world.connect("p");
    const pub = (topic: string, payload: string, qos = 0, properties = {}) =>
      encodePublish(5, {
        topic,
        payload,
        qos,
        properties,
        ...(qos > 0 ? { packetId: Number(payload) } : {}),
      });
    publisher.send(
      pub("a", "1"),
      pub("a", "2"),
      pub("b", "3"),
      pub("a", "4"),
      pub("a", "5", 1),
      pub("a", "6"),
      Buffer.from([0xc0, 0]),
      pub("a", "7"),
      pub("a", "8", 0, { contentType: "x" }),
      pub("a", "9"),
      encodePublish(5, { topic: "a", payload: "10", retain: true }),
      pub("a", "11"),
      pub("a", "12", 2),
      pub("a", "13"),
    );
    await settle();
    expect(texts(publishes(receiver))).toEqual(Array.from({ length: 13 }, (_, i) => String(i + 1)));
    expect(publisher.take().map(({ type }) => type)).toEqual([
      "connack",
      "puback",
      "pingresp",
      "pubrec",
    ]);
  });

  it("that came before a broken packet are delivered, none behind it", async () => {
    const world = await openWorld();
    const receiver = await world.connect("r");
    await receiver.subscribe("t");
    const publisher = await world.connect("p");
    publisher.send(...frames(5, ["1", "2"]), packet(0x36), ...frames(5, ["3"]));
    await settle();
    expect(texts(publishes(receiver))).toEqual(["1", "2"]);
    expect(publisher.packets.at(-1)).toMatchObject({ type: "disconnect", code: 0x81 });
  });

  it("go to a client that subscribes or unsubscribes between them as the order says", async () => {
    const world = await openWorld();
    const client = await world.connect("c");
    const subscribe = Buffer.from("82070001000001" + "7400", "hex");
    const unsubscribe = Buffer.from("a20600020000" + "0174", "hex");
    client.send(
      ...frames(5, ["1", "2"]),
      subscribe,
      ...frames(5, ["3", "4"]),
      unsubscribe,
      ...frames(5, ["5"]),
    );
    await settle();
    expect(client.take().map(({ type }) => type)).toEqual([
      "connack",
      "suback",
      "publish",
      "publish",
      "unsuback",
    ]);
    expect(texts(publishes(client))).toEqual(["3", "4"]);
  });

  it("are asked about one by one; a refused one is left out and those around it stay", async () => {
    const plugin: Plugin = {
      name: "p",
      hooks: {
        auth_on_publish_m5: ({ payload }) =>
          String(payload) === "2" ? { error: "not_authorized" } : "ok",
      },
    };
    const world = await openWorld({ plugins: [plugin] });
    const receiver = await world.connect("r");
    await receiver.subscribe("t");
    const publisher = await world.connect("p");
    publisher.send(...frames(5, ["1", "2", "3", "4"]));
    await settle();
    expect(texts(publishes(receiver))).toEqual(["1", "3", "4"]);
    expect(world.core.counters.publishAuthError).toEqual([0, 1]);
  });

  it("wait in order for a hook that answers later", async () => {
    const answers: (() => void)[] = [];
    const plugin: Plugin = {
      name: "p",
      hooks: {
        auth_on_publish_m5: ({ payload }) =>
          String(payload) === "2" ? new Promise((done) => answers.push(() => done("ok"))) : "ok",
      },
    };
    const world = await openWorld({ plugins: [plugin] });
    const receiver = await world.connect("r");
    await receiver.subscribe("t");
    const publisher = await world.connect("p");
    publisher.send(...frames(5, ["1", "2", "3", "4"]));
    await settle();
    expect(texts(publishes(receiver))).toEqual(["1"]);
    publisher.send(...frames(5, ["5"]));
    answers[0]?.();
    await settle();
    expect(texts(publishes(receiver))).toEqual(["1", "2", "3", "4", "5"]);
  });
});
