import { describe, expect, it } from "vitest";
import { publishSystree, type SystreeOptions, systreeValues } from "../../../core/admin/systree.ts";
import { settle, texts, World } from "../session/world.ts";

const OPTIONS: SystreeOptions = {
  nodeName: "VerneMQ@10.0.0.1",
  mountpoint: "",
  qos: 0,
  retain: false,
};

async function setUp(options: Partial<SystreeOptions> = {}) {
  const world = await new World().start();
  const round = (): void =>
    publishSystree(world.core.router, world.core, { ...OPTIONS, ...options });
  return { world, round };
}

describe("$SYS", () => {
  it("has a topic for every metric, each `_` a level, with a decimal value", async () => {
    const { world, round } = await setUp();
    const client = await world.connect("c");
    await client.subscribe({ filter: "$SYS/#", qos: 2 });
    const expected = [...systreeValues(world.core)];
    round();
    await settle();
    const got = client.take("publish");
    expect(got.map(({ topic }) => topic)).toEqual(
      expected.map(([name]) => `$SYS/VerneMQ@10.0.0.1/${name.replaceAll("_", "/")}`),
    );
    expect(texts(got).every((text) => /^\d+$/.test(text))).toBe(true);
    expect(got.every(({ qos, retain }) => qos === 0 && retain === false)).toBe(true);
    const connects = got.find(({ topic }) => topic?.endsWith("mqtt/connect/received"));
    expect(String(connects?.payload)).toBe("1");
    expect(world.core.router.retained.count).toBe(0);
  });

  it("does not reach `#` and `+/...` [MQTT-4.7.2-1]", async () => {
    const { world, round } = await setUp();
    const client = await world.connect("c");
    await client.subscribe("#", "+/#", "+/VerneMQ@10.0.0.1/#");
    round();
    await settle();
    expect(client.take("publish")).toEqual([]);
  });

  it("comes with systree_qos and is kept with systree_retain", async () => {
    const { world, round } = await setUp({ qos: 1, retain: true });
    round();
    const client = await world.connect("c");
    await client.subscribe({ filter: "$SYS/+/socket/open", qos: 2 });
    const [packet] = await client.receive(1);
    expect(packet).toMatchObject({ qos: 1, retain: true });
    expect(world.core.router.retained.count).toBeGreaterThan(50);
    round();
    const again = await client.receive(1);
    expect(texts(again)).toEqual(["1"]);
  });

  it("is published in systree_mountpoint only", async () => {
    const { world, round } = await setUp({ mountpoint: "m" });
    const inside = await world.connect("c", { listener: { mountpoint: "m" } });
    const outside = await world.connect("d");
    for (const client of [inside, outside]) await client.subscribe("$SYS/+/socket/open");
    round();
    await settle();
    expect(inside.take("publish")).toHaveLength(1);
    expect(outside.take("publish")).toEqual([]);
  });

  it("cannot be written by clients", async () => {
    const { world } = await setUp();
    const reader = await world.connect("r");
    await reader.subscribe("$SYS/#");
    const writer = await world.connect("w");
    writer.publish({ topic: "$SYS/VerneMQ@10.0.0.1/socket/open", payload: "9", retain: true });
    await settle();
    expect(reader.take("publish")).toEqual([]);
    expect(writer.isEnded).toBe(false);
    expect(world.core.router.retained.count).toBe(0);
  });
});
