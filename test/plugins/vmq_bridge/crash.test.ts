import { describe, expect, it } from "vitest";
import { waitFor } from "../../support/broker.ts";
import { type BrokerProcess, startProcess } from "../../support/process.ts";
import { Traffic } from "./traffic.ts";
import { bridgeTo, hasMosquitto, startMosquitto } from "./world.ts";

/** Everything that waits is kept, whatever its number: what is lost or repeated is the bridge's fault. */
const UNBOUNDED = { max_online_messages: "-1", max_offline_messages: "-1" };
const BUFFERED = { max_outgoing_buffered_messages: "1000000", restart_timeout: "1" };

async function connected(broker: BrokerProcess): Promise<void> {
  await waitFor(
    "the bridge is connected",
    async () => (await broker.control("bridge", "show")).includes("| connected"),
    20_000,
  );
}

describe("kill -9 in traffic", () => {
  for (const version of [4, 5] as const) {
    it(`of either Nautilus: nothing is lost at QoS 1, nothing repeated at QoS 2, MQTT level ${version}`, async () => {
      const far = await startProcess({ settings: UNBOUNDED });
      const near = await startProcess({
        settings: {
          ...UNBOUNDED,
          ...bridgeTo(far.port, {
            ...BUFFERED,
            mqtt_version: String(version),
            "topic.1": "out/1 out 1",
            "topic.2": "out/2 out 2",
            "topic.3": "in/1 in 1",
            "topic.4": "in/2 in 2",
          }),
        },
      });
      await connected(near);
      const all = [
        new Traffic("out", near.port, far.port, { version }),
        new Traffic("in", far.port, near.port, { version }),
      ];
      for (const traffic of all) await traffic.start();
      for (const victim of [near, far, near, far]) {
        await Promise.all(all.map((traffic) => traffic.arrives(150)));
        await victim.kill();
        await victim.start();
      }
      await Promise.all(all.map((traffic) => traffic.arrives(50)));
      for (const traffic of all) await traffic.check();
    }, 180_000);
  }

  it.skipIf(!hasMosquitto)(
    "of Mosquitto: nothing is lost at QoS 1",
    async () => {
      // What Mosquitto acknowledges it has sent to its subscriber; all other state is saved in time.
      const far = await startMosquitto([
        "persistence true",
        "persistence_location FOLDER/",
        "autosave_on_changes true",
        "autosave_interval 1",
        "max_inflight_messages 0",
        "max_queued_messages 0",
      ]);
      const near = await startProcess({
        settings: {
          ...UNBOUNDED,
          ...bridgeTo(far.port, { ...BUFFERED, mqtt_version: "4", "topic.1": "out/1 out 1" }),
        },
      });
      await connected(near);
      const traffic = new Traffic("out", near.port, far.port, { levels: [1] });
      await traffic.start();
      for (let round = 0; round < 3; round++) {
        await traffic.arrives(100);
        await far.kill();
        await traffic.goesOn(100);
        await far.start();
      }
      await traffic.arrives(50);
      await traffic.check();
    },
    120_000,
  );

  it.skipIf(!hasMosquitto)(
    "of this broker beside Mosquitto: nothing is lost at QoS 1, nothing repeated at QoS 2",
    async () => {
      const far = await startMosquitto(["max_queued_messages 0"]);
      const near = await startProcess({
        settings: {
          ...UNBOUNDED,
          ...bridgeTo(far.port, {
            ...BUFFERED,
            mqtt_version: "4",
            "topic.1": "out/1 out 1",
            "topic.2": "out/2 out 2",
            "topic.3": "in/* in 2",
          }),
        },
      });
      await connected(near);
      const all = [new Traffic("out", near.port, far.port), new Traffic("in", far.port, near.port)];
      for (const traffic of all) await traffic.start();
      for (let round = 0; round < 3; round++) {
        await Promise.all(all.map((traffic) => traffic.arrives(150)));
        await near.kill();
        await near.start();
      }
      await Promise.all(all.map((traffic) => traffic.arrives(50)));
      for (const traffic of all) await traffic.check({ isInOrder: false });
      expect(far.log).toContain("br0");
    },
    120_000,
  );
});
