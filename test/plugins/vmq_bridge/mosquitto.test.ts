import { describe, expect, it } from "vitest";
import { waitFor } from "../../support/broker.ts";
import { bridged, bridgeTo, client, hasMosquitto, startMosquitto, state } from "./world.ts";

/** Against a real Mosquitto: directions, QoS, prefixes, retained messages. */
describe.skipIf(!hasMosquitto)("a bridge to Mosquitto", () => {
  for (const version of ["3", "4", "5"]) {
    for (const isPrivate of version === "5" ? ["off"] : ["on", "off"]) {
      it(`carries every QoS both ways with MQTT level ${version}, try_private ${isPrivate}`, async () => {
        const remote = await startMosquitto();
        const broker = await bridged(
          bridgeTo(remote.port, {
            mqtt_version: version,
            try_private: isPrivate,
            "topic.1": "out0/* out 0",
            "topic.2": "out1/* out 1",
            "topic.3": "out2/* out 2",
            "topic.4": "in/* in 2",
            "topic.5": "x both 1 here there",
          }),
        );
        await state(broker, "connected");
        const far = await client(remote.port, "#");
        const near = await client(broker.port(), "#");
        for (const qos of [0, 1, 2] as const) {
          for (const topic of ["out0/a", "out1/a", "out2/a"]) {
            await near.publish(topic, `${topic} ${qos}`, { qos });
          }
          await far.publish("in/b", `in ${qos}`, { qos });
        }
        await near.publish("here/x", "from near", { qos: 1 });
        await far.publish("there/x", "from far", { qos: 1 });
        // 9 + 3 + 2 everywhere, and nothing twice.
        await far.got(14);
        await near.got(14);
        expect(far.payloads("there/x").sort()).toEqual(["from far", "from near"]);
        expect(near.payloads("here/x").sort()).toEqual(["from far", "from near"]);
        for (const { topic, qos } of far.received) {
          if (topic.startsWith("out")) expect(`out${qos}/a`).toBe(topic);
        }
        expect(near.received.filter(({ topic }) => topic === "in/b").map(({ qos }) => qos)).toEqual(
          [0, 1, 2],
        );
        expect(far.received).toHaveLength(14);
        expect(near.received).toHaveLength(14);
      });
    }
  }

  it("carries properties of MQTT 5 both ways (B-43)", async () => {
    const remote = await startMosquitto();
    const broker = await bridged(
      bridgeTo(remote.port, { mqtt_version: "5", "topic.1": "a both 1", "topic.2": "b in 1" }),
    );
    await state(broker, "connected");
    const far = await client(remote.port, "a", { protocolVersion: 5 });
    const near = await client(broker.port(), "b", { protocolVersion: 5 });
    const properties = {
      userProperties: { k: "v" },
      contentType: "text/plain",
      responseTopic: "answers",
      correlationData: Buffer.from([1, 2]),
      payloadFormatIndicator: true,
      messageExpiryInterval: 1000,
    };
    await near.publish("a", "out", { qos: 1, properties });
    await far.publish("b", "in", { qos: 1, properties });
    for (const { got } of [{ got: (await far.got(1))[0] }, { got: (await near.got(1))[0] }]) {
      expect(got?.properties).toMatchObject({
        ...properties,
        userProperties: { k: "v" },
        messageExpiryInterval: expect.any(Number),
      });
    }
  });

  it("forwards retained messages of both sides when the rule says retain (B-17)", async () => {
    const remote = await startMosquitto();
    const before = await client(remote.port);
    await before.publish("in/kept", "far", { qos: 1, retain: true });
    const broker = await bridged(
      bridgeTo(remote.port, {
        mqtt_version: "4",
        "topic.1": "out/* out 1 retain",
        "topic.2": "in/* in 1 retain",
        "topic.3": "plain/* out 1",
      }),
    );
    const near = await client(broker.port());
    await near.publish("out/kept", "near", { qos: 1, retain: true });
    await near.publish("plain/kept", "near", { qos: 1, retain: true });
    await state(broker, "connected");
    await waitFor("the far message is retained here", () =>
      broker.retained().some(({ topic }) => topic === "in/kept"),
    );
    await waitFor("the near message is retained there", async () => {
      const late = await client(remote.port, "#");
      await late.got(1);
      await late.mqtt.endAsync();
      return late.received.some(({ topic, retain }) => topic === "out/kept" && retain);
    });
    const late = await client(remote.port, "plain/#");
    await near.publish("plain/live", "x", { qos: 1 });
    await late.got(1);
    expect(late.payloads("plain/kept")).toEqual([]);
    // An empty retained message clears the other side.
    await near.publish("out/kept", "", { qos: 1, retain: true });
    await before.publish("in/kept", "", { qos: 1, retain: true });
    await waitFor("it is cleared here", () =>
      broker.retained().every(({ topic }) => topic !== "in/kept"),
    );
    await near.publish("out/end", "end", { qos: 1 });
    const empty = await client(remote.port, "out/#");
    await near.publish("out/end", "end", { qos: 1 });
    await empty.got(1);
    expect(empty.received.filter(({ topic }) => topic === "out/kept")).toEqual([]);
  });

  it("sends retained messages that were there before it, with the flag when the rule says so (B-17)", async () => {
    const remote = await startMosquitto();
    const far = await client(remote.port, "#", { protocolVersion: 5, rap: true });
    const settings = bridgeTo(remote.port, {
      mqtt_version: "5",
      "topic.1": "with/* out 1 retain",
      "topic.2": "without/* out 1",
    });
    const broker = await bridged(settings);
    await state(broker, "connected");
    await broker.control("bridge", ["stop"]);
    const near = await client(broker.port());
    await near.publish("with/a", "1", { retain: true });
    await near.publish("without/a", "2", { retain: true });
    await broker.control("plugin", ["disable", "--name=vmq_bridge"]);
    await broker.control("plugin", ["enable", "--name=vmq_bridge"]);
    await far.got(2);
    const flags = far.received.map(({ topic, retain }) => [topic, retain]);
    expect(flags.sort()).toEqual([
      ["with/a", true],
      ["without/a", false],
    ]);
  });

  it("works with hundreds of rules", async () => {
    const remote = await startMosquitto();
    const rules: Record<string, string> = {};
    for (let i = 1; i <= 300; i++) {
      rules[`topic.${i}`] = i % 2 === 0 ? `t${i}/* in 1 l${i} r${i}` : `t${i}/* out 1 l${i} r${i}`;
    }
    const broker = await bridged(bridgeTo(remote.port, { mqtt_version: "4", ...rules }));
    await state(broker, "connected");
    const far = await client(remote.port, "#");
    const near = await client(broker.port(), "#");
    for (let i = 1; i <= 300; i++) {
      if (i % 2 === 0) await far.publish(`r${i}/t${i}/x`, String(i), { qos: 1 });
      else await near.publish(`l${i}/t${i}/x`, String(i), { qos: 1 });
    }
    await far.got(300);
    await near.got(300);
    for (let i = 1; i <= 300; i++) {
      expect(far.payloads(`r${i}/t${i}/x`)).toEqual([String(i)]);
      expect(near.payloads(`l${i}/t${i}/x`)).toEqual([String(i)]);
    }
  });
});
