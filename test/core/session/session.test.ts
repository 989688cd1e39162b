import { afterEach, describe, expect, it, vi } from "vitest";
import type { Plugin } from "../../../core/hooks/types.ts";
import { MqttError } from "../../../core/mqtt/packets.ts";
import { encodeConnect, encodePublish, packet } from "../../support/wire.ts";
import { series, settle, texts, turn, World, type WorldOptions } from "./world.ts";

async function openWorld(options: WorldOptions = {}): Promise<World> {
  return new World(options).start();
}

afterEach(() => {
  vi.useRealTimers();
});

describe("before CONNECT", () => {
  it("closes a connection that sends none within mqtt_connect_timeout", async () => {
    const world = await openWorld({ settings: { mqttConnectTimeoutMs: 5000 } });
    const client = world.open(4);
    world.advance(4900);
    expect(client.isEnded).toBe(false);
    world.advance(200);
    expect(client.isEnded).toBe(true);
    expect(world.core.counters.socketCloseTimeout).toBe(1);
  });

  it("closes without a word when the first packet is another one [MQTT-3.1.0-1]", async () => {
    const world = await openWorld();
    for (const bytes of [Buffer.from([0xc0, 0]), encodePublish(4, { topic: "t" })]) {
      const client = world.open(4);
      client.send(bytes);
      await turn();
      expect(client.isEnded).toBe(true);
      expect(client.packets).toEqual([]);
    }
  });

  it("refuses a CONNECT above 1 MB from its header", async () => {
    const world = await openWorld({ settings: { maxMessageSize: 0 } });
    const client = world.open(4);
    client.send(Buffer.from([0x10, 0xff, 0xff, 0xff, 0x7f]));
    expect(client.isEnded).toBe(true);
  });

  it("takes packets sent right behind CONNECT, in order", async () => {
    const world = await openWorld();
    const client = world.open(5);
    client.send(
      encodeConnect(5, { clientId: "c" }),
      Buffer.from([0xc0, 0]),
      encodePublish(5, { topic: "t", qos: 1, packetId: 1 }),
    );
    await settle();
    expect(client.packets.map(({ type }) => type)).toEqual(["connack", "pingresp", "puback"]);
  });
});

describe("keep alive", () => {
  it("ends a client with 0x8D after one and a half times of silence [MQTT-3.1.2-22]", async () => {
    const world = await openWorld();
    const client = await world.connect("c", { keepAlive: 10 });
    world.advance(14_900);
    expect(client.isEnded).toBe(false);
    world.advance(200);
    expect(client.packets.at(-1)).toMatchObject({ type: "disconnect", code: 0x8d });
    expect(world.core.counters.keepaliveExpired).toEqual([0, 1]);
  });

  it("counts from the last input of any kind", async () => {
    const world = await openWorld();
    const client = await world.connect("c", { keepAlive: 10, version: 4 });
    for (let i = 0; i < 20; i++) {
      world.advance(14_000);
      client.send(i % 2 === 0 ? Buffer.from([0xc0, 0]) : encodePublish(4, { topic: "t" }));
    }
    expect(client.isEnded).toBe(false);
    world.advance(15_100);
    expect(client.isEnded).toBe(true);
  });

  it("is not checked when it is 0", async () => {
    const world = await openWorld();
    const client = await world.connect("c", { keepAlive: 0 });
    world.advance(1e9);
    expect(client.isEnded).toBe(false);
  });

  it("does not end a client whose input waits for a hook", async () => {
    let answer = (): void => undefined;
    const plugin: Plugin = {
      name: "p",
      hooks: {
        auth_on_publish_m5: () =>
          new Promise((done) => {
            answer = () => done("ok");
          }),
      },
    };
    const world = await openWorld({ plugins: [plugin] });
    const client = await world.connect("c", { keepAlive: 10 });
    client.publish({ topic: "t", qos: 1, packetId: 1 });
    for (let i = 0; i < 10; i++) world.advance(5_000);
    expect(client.isEnded).toBe(false);
    answer();
    await settle();
    expect(client.count("puback")).toBe(1);
  });
});

describe("max_connection_lifetime", () => {
  it("ends a connection at the smaller of the listener's and the hook's limit", async () => {
    const plugin: Plugin = {
      name: "p",
      hooks: { auth_on_register_m5: () => ({ ok: { max_connection_lifetime: 50 } }) },
    };
    const world = await openWorld({ plugins: [plugin], settings: { allowAnonymous: "off" } });
    const short = await world.connect("a", { listener: { maxConnectionLifetimeS: 20 } });
    const long = await world.connect("b", { listener: { maxConnectionLifetimeS: 100 } });
    world.advance(20_100);
    expect([short.isEnded, long.isEnded]).toEqual([true, false]);
    expect(short.packets.at(-1)).toMatchObject({ type: "disconnect", code: 0x98 });
    world.advance(30_000);
    expect(long.isEnded).toBe(true);
  });
});

describe("waiting for a hook", () => {
  it("keeps the packets of one client in order and lets others go on", async () => {
    const answers: (() => void)[] = [];
    const plugin: Plugin = {
      name: "p",
      hooks: {
        auth_on_publish_m5: ({ subscriber_id }) =>
          subscriber_id.client_id === "slow"
            ? new Promise((done) => answers.push(() => done("ok")))
            : "ok",
      },
    };
    const world = await openWorld({ plugins: [plugin] });
    const receiver = await world.connect("r");
    await receiver.subscribe("#");
    const slow = await world.connect("slow");
    const fast = await world.connect("fast");
    for (let i = 1; i <= 5; i++)
      slow.publish({
        topic: "s",
        payload: String(i),
        qos: i % 3,
        ...(i % 3 ? { packetId: i } : {}),
      });
    fast.publish({ topic: "f", payload: "x" });
    await turn();
    expect(texts(receiver.take("publish"))).toEqual(["x"]);
    for (let i = 0; i < 5; i++) {
      expect(answers).toHaveLength(1);
      answers.pop()?.();
      await settle(5);
    }
    expect(texts(receiver.take("publish"))).toEqual(series(1, 5));
    expect(world.core.counters.publishReceived[1]).toBe(6);
  });

  it("stops the reading of its socket when more than 64 KB wait, and starts it again", async () => {
    let answer = (): void => undefined;
    const plugin: Plugin = {
      name: "p",
      hooks: {
        auth_on_publish_m5: ({ payload }) =>
          payload.length > 0
            ? "ok"
            : new Promise((done) => {
                answer = () => done("ok");
              }),
      },
    };
    const world = await openWorld({ plugins: [plugin] });
    const client = await world.connect("c");
    client.publish({ topic: "t" });
    client.publish({ topic: "t", payload: "x".repeat(40_000) });
    expect(client.transport.isPaused).toBe(false);
    client.publish({ topic: "t", payload: "x".repeat(40_000) });
    expect(client.transport.isPaused).toBe(true);
    answer();
    await settle();
    expect(client.transport.isPaused).toBe(false);
    expect(world.core.counters.publishReceived[1]).toBe(3);
  });

  it("handles what a client sent before it closed, then ends its session", async () => {
    const answers: (() => void)[] = [];
    const plugin: Plugin = {
      name: "p",
      hooks: {
        auth_on_publish_m5: () => new Promise((done) => answers.push(() => done("ok"))),
      },
    };
    const world = await openWorld({ plugins: [plugin] });
    const receiver = await world.connect("r");
    await receiver.subscribe("t");
    for (const payloads of [["alone"], ["first", "second"]]) {
      const client = await world.connect("c");
      for (const payload of payloads) client.publish({ topic: "t", payload });
      client.drop();
      for (let i = 0; i < 4; i++) {
        answers.pop()?.();
        await settle(5);
      }
      expect(world.has("c")).toBe(false);
      expect(texts(receiver.take("publish"))).toEqual(payloads);
    }
  });
});

describe("throttling", () => {
  const fakeTimers = { toFake: ["setTimeout" as const, "clearTimeout" as const] };

  it("reads nothing for as long as the hook says, also when the rate is exceeded", async () => {
    for (const maxMessageRate of [0, 2]) {
      const plugin: Plugin = {
        name: "p",
        hooks: {
          auth_on_publish_m5: ({ payload }) =>
            String(payload) === "2" ? { ok: { throttle: 5000 } } : "ok",
        },
      };
      const world = await openWorld({ plugins: [plugin], settings: { maxMessageRate } });
      const receiver = await world.connect("r");
      await receiver.subscribe("t");
      const client = await world.connect("c");
      vi.useFakeTimers(fakeTimers);
      for (const payload of ["1", "2", "3"]) client.publish({ topic: "t", payload });
      await turn();
      expect(texts(receiver.take("publish"))).toEqual(["1", "2"]);
      vi.advanceTimersByTime(4900);
      await turn();
      expect(texts(receiver.take("publish"))).toEqual([]);
      vi.advanceTimersByTime(200);
      await turn();
      expect(texts(receiver.take("publish"))).toEqual(["3"]);
      vi.useRealTimers();
    }
  });

  it("never loses a message above max_message_rate, it only waits", async () => {
    const world = await openWorld({ settings: { maxMessageRate: 5 } });
    const receiver = await world.connect("r");
    await receiver.subscribe("t");
    const client = await world.connect("c");
    vi.useFakeTimers(fakeTimers);
    client.send(...series(1, 20).map((payload) => encodePublish(5, { topic: "t", payload })));
    await turn();
    const first = texts(receiver.take("publish")).length;
    expect(first).toBeLessThanOrEqual(6);
    const got = series(1, first);
    for (let s = 0; s < 5; s++) {
      world.core.wheel.advance(world.core.wheel.nowMs + 1000);
      vi.advanceTimersByTime(1000);
      await turn();
      got.push(...texts(receiver.take("publish")));
    }
    expect(got).toEqual(series(1, 20));
  });
});

describe("faults", () => {
  it("answer a v5 client with the reason code and close a 3.x client silently", async () => {
    const world = await openWorld();
    const five = await world.connect("five");
    const four = await world.connect("four", { version: 4 });
    for (const client of [five, four]) client.send(packet(0x36));
    await turn();
    expect(five.packets.at(-1)).toMatchObject({ type: "disconnect", code: 0x81 });
    expect(four.packets.map(({ type }) => type)).toEqual(["connack"]);
    expect([five.isEnded, four.isEnded]).toEqual([true, true]);
  });

  it("count packets above max_message_size and end the client with 0x95", async () => {
    const world = await openWorld({ settings: { maxMessageSize: 1000 } });
    const client = await world.connect("c");
    client.send(encodePublish(5, { topic: "t", payload: "x".repeat(2000) }).subarray(0, 3));
    await turn();
    expect(client.packets.at(-1)).toMatchObject({ type: "disconnect", code: 0x95 });
    expect(world.core.counters.invalidMsgSizeError).toEqual([0, 1]);
  });

  it("of our own end that client alone, with 0x80 and an error in the log", async () => {
    const world = await openWorld();
    const other = await world.connect("other");
    const client = await world.connect("c");
    client.session.fault(new TypeError("a bug"));
    await turn();
    expect(client.packets.at(-1)).toMatchObject({ type: "disconnect", code: 0x80 });
    expect(world.logLines.filter(({ level }) => level === "critical")).toHaveLength(1);
    expect(other.isEnded).toBe(false);
  });

  it("publish the will, and end the session once", async () => {
    const world = await openWorld();
    const witness = await world.connect("w");
    await witness.subscribe("will");
    const client = await world.connect("c", { will: { topic: "will", payload: "gone" } });
    client.session.fault(new MqttError(0x82, "x", "y"));
    client.session.fault(new MqttError(0x81, "x", "y"));
    client.drop();
    await turn();
    expect(texts(witness.take("publish"))).toEqual(["gone"]);
    expect(client.count("disconnect")).toBe(1);
    expect(world.core.counters.disconnectSent.v5[0x82]).toBe(1);
    expect(world.core.counters.socketClose).toBe(1);
  });

  it("of a closed session are nobody's business: later bytes are ignored", async () => {
    const world = await openWorld();
    const client = await world.connect("c");
    client.send(Buffer.from([0xe0, 0]));
    expect(() => client.send(packet(0x36))).not.toThrow();
    expect(() => client.session.onDrain()).not.toThrow();
  });
});
