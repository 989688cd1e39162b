import { describe, expect, it } from "vitest";
import type { Broker } from "../../../core/broker-types.ts";
import { waitFor } from "../../support/broker.ts";
import { linked, publish, scripted } from "./scripted-remote.ts";
import {
  bridged,
  bridgeTo,
  client,
  hasMosquitto,
  show,
  startMosquitto,
  state,
  type TestClient,
} from "./world.ts";

/** Messages that could come around: each broker must see each of them once. */

const COUNT = 20;

/**
 * Publishes at each broker; all get all of it once. What circulates would come behind, so more is published
 * until markers have gone each way twice.
 */
async function onceEach(
  ports: readonly number[],
  topic: string,
  version: 4 | 5,
  timesMax = 1,
): Promise<void> {
  const clients: TestClient[] = [];
  for (const port of ports) {
    clients.push(await client(port, topic, { qos: 1, protocolVersion: version }));
  }
  const markers = () => clients.map((one) => new Set(one.payloads()).size);
  for (let i = 0; i < COUNT; i++) {
    for (const [at, one] of clients.entries()) {
      await one.publish(topic, `${at} ${i}`, { qos: 1 });
    }
  }
  const all = clients.length * COUNT;
  await waitFor("all everywhere", () => markers().every((count) => count >= all));
  for (let round = 1; round <= 4; round++) {
    for (const [at, one] of clients.entries()) {
      await one.publish(topic, `marker ${round} ${at}`, { qos: 1 });
    }
    const wanted = all + round * clients.length;
    await waitFor("markers everywhere", () => markers().every((count) => count >= wanted));
  }
  for (const one of clients) {
    const times = new Map<string, number>();
    for (const payload of one.payloads()) times.set(payload, (times.get(payload) ?? 0) + 1);
    expect(Math.max(...times.values())).toBeLessThanOrEqual(timesMax);
  }
}

function both(port: number, version: string, name = "br0", more: Record<string, string> = {}) {
  return bridgeTo(port, { mqtt_version: version, "topic.1": "ring/* both 1", ...more }, name);
}

async function live(broker: Broker, name = "br0"): Promise<void> {
  await state(broker, "connected", name);
}

describe("messages do not come around", () => {
  for (const version of ["3", "4", "5"]) {
    it(`with both, between two brokers, MQTT level ${version}`, async () => {
      const b = await bridged({});
      const a = await bridged(both(b.port(), version));
      await live(a);
      await onceEach([a.port(), b.port()], "ring/x", 4);
    });
  }

  it("with both and plain MQTT 3.1.1, where the remote sends everything back", async () => {
    const b = await bridged({});
    const a = await bridged(both(b.port(), "4", "br0", { try_private: "off" }));
    await live(a);
    await onceEach([a.port(), b.port()], "ring/x", 4);
    expect(a.metrics().vmq_bridge_loops_dropped).toBeGreaterThan(0);
  });

  it.skipIf(!hasMosquitto)("with both, beside Mosquitto, in every version", async () => {
    const all: Record<string, string>[] = [
      { mqtt_version: "3" },
      { mqtt_version: "4" },
      { mqtt_version: "4", try_private: "off" },
      { mqtt_version: "5" },
    ];
    for (const options of all) {
      const remote = await startMosquitto();
      const a = await bridged(bridgeTo(remote.port, { "topic.1": "ring/* both 1", ...options }));
      await live(a);
      await onceEach([a.port(), remote.port], "ring/x", 4);
    }
  });

  it("between two brokers that are bridged to each other, each to the other, MQTT 5", async () => {
    const a = await bridged({ "plugins.vmq_bridge": "on" });
    const b = await bridged(both(a.port(), "5"));
    await a.control("bridge", [
      "set",
      `tcp.br0=127.0.0.1:${b.port()}`,
      "tcp.br0.mqtt_version=5",
      "tcp.br0.topic.1=ring/* both 1",
    ]);
    await live(a);
    await live(b);
    await onceEach([a.port(), b.port()], "ring/x", 5);
  });

  it("between two brokers that are bridged to each other, each to the other, MQTT 3.1.1", async () => {
    const a = await bridged({ "plugins.vmq_bridge": "on" });
    const b = await bridged(both(a.port(), "4", "br0", { loop_protection: "on" }));
    await a.control("bridge", [
      "set",
      `tcp.br0=127.0.0.1:${b.port()}`,
      "tcp.br0.mqtt_version=4",
      "tcp.br0.loop_protection=on",
      "tcp.br0.topic.1=ring/* both 1",
    ]);
    await live(a);
    await live(b);
    // Nothing tells which broker a message comes from: each of the bridges brings it once.
    await onceEach([a.port(), b.port()], "ring/x", 4, 3);
  });

  for (const [version, more, timesMax] of [
    ["5", {}, 1],
    ["4", { loop_protection: "on" }, 4],
  ] as const) {
    it(`around a ring of three, MQTT level ${version} (B-21)`, async () => {
      const a = await bridged({ "plugins.vmq_bridge": "on" });
      const c = await bridged(both(a.port(), version, "br0", more));
      const b = await bridged(both(c.port(), version, "br0", more));
      await a.control("bridge", [
        "set",
        `tcp.br0=127.0.0.1:${b.port()}`,
        `tcp.br0.mqtt_version=${version}`,
        ...Object.entries(more).map(([key, value]) => `tcp.br0.${key}=${value}`),
        "tcp.br0.topic.1=ring/* both 1",
      ]);
      for (const broker of [a, b, c]) await live(broker);
      await onceEach([a.port(), b.port(), c.port()], "ring/x", version === "5" ? 5 : 4, timesMax);
    });
  }

  it("but equal messages, one after the other, are all forwarded", async () => {
    const b = await bridged({});
    const a = await bridged(both(b.port(), "5"));
    await live(a);
    const [near, far] = [
      await client(a.port(), "ring/x", { qos: 1 }),
      await client(b.port(), "ring/x", { qos: 1 }),
    ];
    for (let i = 0; i < 5; i++) await near.publish("ring/x", "same", { qos: 1 });
    for (let i = 0; i < 5; i++) await far.publish("ring/x", "same", { qos: 1 });
    await near.got(10);
    await far.got(10);
  });

  it("and one that passed too many brokers ends here", async () => {
    const remote = await scripted();
    const a = await bridged(bridgeTo(remote.port, { mqtt_version: "5", "topic.1": "x in 1" }));
    const link = await remote.next();
    await link.accept();
    await link.grant();
    await link.grant();
    await live(a);
    const near = await client(a.port(), "x", { qos: 1 });
    const path = (count: number) => ({
      userProperties: {
        "nautilus-bridge-path": Array.from({ length: count }, (_, i) => `broker ${i}`),
      },
    });
    publish(link, { topic: "x", qos: 1, messageId: 1, payload: "far", properties: path(11) });
    expect(await link.next("puback")).toMatchObject({ messageId: 1 });
    publish(link, { topic: "x", qos: 1, messageId: 2, payload: "near", properties: path(10) });
    await near.got(1);
    expect(near.payloads()).toEqual(["near"]);
    expect(a.metrics().vmq_bridge_loops_dropped).toBe(1);
  });

  it("unless loop_protection is off", async () => {
    const { link, broker } = await linked(
      { "topic.1": "ring/* both 1", loop_protection: "off" },
      1,
    );
    const near = await client(broker.port());
    await near.publish("ring/x", "ours", { qos: 1 });
    await link.next("publish");
    publish(link, { topic: "ring/x", payload: "ours" });
    const late = await client(broker.port(), "ring/#");
    publish(link, { topic: "ring/x", payload: "ours" });
    await late.got(1);
    expect((await show(broker)).state).toBe("connected");
  });
});
