import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import { describe, expect, it } from "vitest";
import { waitFor } from "../../support/broker.ts";
import { atEnd } from "../../support/cleanup.ts";
import { startProcess } from "../../support/process.ts";
import { Traffic } from "./traffic.ts";
import { bridged, bridgeTo, client, hasMosquitto, startMosquitto, state } from "./world.ts";

/**
 * What of an outage takes at least ten seconds: at a port that is closed each try of the bridge comes half a
 * second after the last (`restart_timeout = 1`); one that is silent is found by the keep-alive of 2 s, then
 * every try takes a second more (`connect_timeout = 1`).
 */
const TRIES = { cut: 21, silent: 6 };
/** What Mosquitto tells once a second. */
const UPTIMES = 10;
const OUTAGE_MAX_MS = 60_000;
const UNBOUNDED = { max_online_messages: "-1", max_offline_messages: "-1" };
const RULES = {
  max_outgoing_buffered_messages: "1000000",
  "topic.1": "out/1 out 1",
  "topic.2": "out/2 out 2",
  "topic.3": "in/1 in 1",
  "topic.4": "in/2 in 2",
};

/** A TCP connection in between that can be cut, or swallow all that is sent. */
async function cable(port: number) {
  const sockets = new Set<Socket>();
  let mode: "through" | "cut" | "silent" = "through";
  let inVain = 0;
  const server = createServer((near) => {
    if (mode !== "through") inVain++;
    if (mode === "cut") {
      near.destroy();
      return;
    }
    const far = connect({ port, host: "127.0.0.1" });
    for (const [from, to] of [
      [near, far],
      [far, near],
    ] as const) {
      sockets.add(from);
      from.on("data", (bytes) => {
        if (mode !== "silent") to.write(bytes);
      });
      from.on("error", () => {});
      from.once("close", () => to.destroy());
    }
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const end = () => {
    for (const socket of sockets) socket.destroy();
    sockets.clear();
  };
  atEnd(() => {
    server.close();
    end();
  });
  return {
    port: (server.address() as AddressInfo).port,
    /** Connections that were tried while it was cut or silent. */
    inVain: () => inVain,
    set(next: "through" | "cut" | "silent"): void {
      mode = next;
      if (next !== "silent") end();
    },
  };
}

describe("ten seconds of outage in traffic", () => {
  for (const version of ["4", "5"]) {
    for (const kind of ["cut", "silent"] as const) {
      it(`of the network (${kind}), MQTT level ${version}: nothing is lost, nothing repeated at QoS 2`, async () => {
        const far = await bridged(UNBOUNDED);
        const between = await cable(far.port());
        const near = await bridged({
          ...UNBOUNDED,
          ...bridgeTo(between.port, {
            ...RULES,
            mqtt_version: version,
            keepalive_interval: "2",
            connect_timeout: "1",
          }),
        });
        await state(near, "connected");
        const all = [
          new Traffic("out", near.port(), far.port()),
          new Traffic("in", far.port(), near.port()),
        ];
        for (const traffic of all) await traffic.start();
        await Promise.all(all.map((traffic) => traffic.arrives(50)));
        between.set(kind);
        for (let tries = 1; tries <= TRIES[kind]; tries++) {
          await Promise.all(all.map((traffic) => traffic.goesOn(10)));
          await waitFor(`${tries} tries`, () => between.inVain() >= tries, OUTAGE_MAX_MS);
        }
        expect(near.metrics().vmq_bridge_connected).toBe(0);
        between.set("through");
        await Promise.all(all.map((traffic) => traffic.arrives(50)));
        for (const traffic of all) await traffic.check();
        expect(near.metrics().vmq_bridge_dropped_msgs).toBe(0);
      }, 120_000);
    }
  }

  it.skipIf(!hasMosquitto)(
    "of Mosquitto, which is stopped, and of this broker, which is killed",
    async () => {
      const far = await startMosquitto([
        ...["persistence true", "persistence_location FOLDER/", "max_queued_messages 0"],
        "sys_interval 1",
      ]);
      const near = await startProcess({
        settings: { ...UNBOUNDED, ...bridgeTo(far.port, { ...RULES, mqtt_version: "4" }) },
      });
      await waitFor("connected", async () =>
        (await near.control("bridge", "show")).includes("| connected"),
      );
      const all = [new Traffic("out", near.port, far.port), new Traffic("in", far.port, near.port)];
      const [out, into] = all as [Traffic, Traffic];
      for (const traffic of all) await traffic.start();
      await Promise.all(all.map((traffic) => traffic.arrives(50)));
      const tries = () => near.output.split("bridge not connected").length;
      const before = tries();
      await far.kill("SIGTERM");
      await out.goesOn(100);
      await waitFor("tries", () => tries() >= before + TRIES.cut, OUTAGE_MAX_MS);
      await far.start();
      await Promise.all(all.map((traffic) => traffic.arrives(50)));
      await near.kill();
      await into.goesOn(100);
      const clock = await client(far.port, "$SYS/broker/uptime");
      await clock.got(1 + UPTIMES, OUTAGE_MAX_MS);
      await near.start();
      await Promise.all(all.map((traffic) => traffic.arrives(50)));
      for (const traffic of all) await traffic.check({ isInOrder: false });
    },
    180_000,
  );
});
