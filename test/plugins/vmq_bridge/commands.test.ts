import { execFileSync } from "node:child_process";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { tempDir, waitFor } from "../../support/broker.ts";
import { startProcess } from "../../support/process.ts";
import { requireTool } from "../../support/tools.ts";
import { linked, PLAIN, scripted } from "./scripted-remote.ts";
import { bridged, bridgeTo, client, hasMosquitto, show, startMosquitto, state } from "./world.ts";

const hasPasswd = requireTool("mosquitto_passwd", "mosquitto");

describe("vmq-admin bridge", () => {
  it("shows VerneMQ's columns first, and - for a bridge that is stopped", async () => {
    const { broker } = await linked({ "topic.1": "a 1", max_outgoing_buffered_messages: "7" });
    const row = await show(broker);
    expect(Object.keys(row).slice(0, 6)).toEqual([
      "name",
      "endpoint",
      "buffer size",
      "buffer max",
      "buffer dropped msgs",
      "MQTT process mailbox len",
    ]);
    expect(row).toMatchObject({ name: "br0", "buffer size": "0", "buffer max": "7" });
    await broker.control("bridge", ["stop"]);
    expect(await show(broker)).toMatchObject({ "buffer size": "-", state: "stopped" });
  });

  it("stops with DISCONNECT, keeps what waits, and starts", async () => {
    const { remote, broker, link } = await linked({
      "topic.1": "a 1",
      max_outgoing_buffered_messages: "10",
    });
    expect(await broker.control("bridge", ["stop", "--name=br0"])).toMatchObject({
      stdout: "Done\n",
    });
    await link.next("disconnect");
    await waitFor("closed", () => link.isClosed);
    const near = await client(broker.port());
    await near.publish("a", "waits", { qos: 1 });
    await broker.control("bridge", ["start", "--name=br0"]);
    const again = await remote.next();
    await again.accept(0, true);
    expect(String((await again.next("publish")).payload)).toBe("waits");
    expect(await broker.control("bridge", ["start"])).toMatchObject({
      stdout: "VerneMQ Bridges restarted.\n",
    });
    await again.next("disconnect");
    await (await remote.next()).accept(0, true);
    await state(broker, "connected");
    await broker.control("bridge", ["restart", "--name=br0"]);
    await (await remote.next()).accept(0, true);
  });

  it("names a bridge that is not there, and a key that is wrong", async () => {
    const { broker } = await linked({});
    expect((await broker.control("bridge", ["stop", "--name=nobody"])).stderr).toContain(
      "there is no bridge nobody, only: br0",
    );
    for (const [arg, fault] of [
      ["tcp.br0.keepalive_interval=soon", /keepalive_interval/],
      ["tcp.br0.nothing=1", /nothing/],
      ["tcp.br0.topic.1=a in 0 b c d", /topic\.1: "b c d" is left/],
      ["tcp.new.client_id=x", /there is no vmq_bridge\.tcp\.new = HOST:PORT/],
      ["other.br0=x", /a bridge is tcp\.NAME or ssl\.NAME/],
    ] as const) {
      const { exit, stderr } = await broker.control("bridge", ["set", arg]);
      expect([arg, exit]).toEqual([arg, 1]);
      expect(stderr).toMatch(fault);
    }
    expect((await show(broker)).state).toBe("connected");
  });

  it("adds a bridge, changes it and removes it with its queue", async () => {
    const remote = await scripted();
    const broker = await bridged({ "plugins.vmq_bridge": "on" });
    await broker.control("bridge", [
      "set",
      `tcp.new=127.0.0.1:${remote.port}`,
      "tcp.new.mqtt_version=4",
      "tcp.new.topic.1=a out 1",
      "tcp.new.max_outgoing_buffered_messages=5",
    ]);
    const link = await remote.next();
    await link.accept();
    const near = await client(broker.port());
    await waitFor("connected", async () => (await show(broker, "new")).state === "connected");
    await near.publish("a", "one", { qos: 1 });
    expect(await link.next("publish")).toMatchObject({ topic: "a", qos: 1 });
    await broker.control("bridge", ["set", "tcp.new.topic.1=a out 2 $empty far"]);
    const second = await remote.next();
    await second.accept(0, true);
    expect(await second.next("publish")).toMatchObject({ topic: "a", dup: true });
    await waitFor("connected", async () => (await show(broker, "new")).state === "connected");
    await near.publish("a", "two", { qos: 1 });
    expect(await second.next("publish")).toMatchObject({ topic: "far/a", qos: 2 });
    expect(broker.metrics()).toHaveProperty("new_vmq_bridge_publish_out_1");
    await broker.control("bridge", ["remove", "--name=new"]);
    await second.next("disconnect");
    expect(broker.metrics()).not.toHaveProperty("new_vmq_bridge_publish_out_1");
    expect(broker.sessions().map(({ client_id }) => client_id)).not.toContain("bridge.tcp.new");
  });

  it("is not needed for changes with set: several keys are one change", async () => {
    const { remote, broker, link } = await linked({ "topic.1": "a 1", client_id: "me" });
    await broker.control("set", [
      "vmq_bridge.tcp.br0.keepalive_interval=30",
      "vmq_bridge.tcp.br0.client_id=you",
      "vmq_bridge.tcp.br0.topic.2=b 1",
    ]);
    await link.next("disconnect");
    const again = await remote.next();
    expect(await again.accept()).toMatchObject({ clientId: "you", keepalive: 30 });
    await state(broker, "connected");
    const near = await client(broker.port());
    await near.publish("b", "x", { qos: 1 });
    expect(await again.next("publish")).toMatchObject({ topic: "b" });
    await broker.control("set", [
      `vmq_bridge.tcp.br1=127.0.0.1:${remote.port}`,
      "vmq_bridge.tcp.br1.mqtt_version=4",
      "vmq_bridge.tcp.br1.client_id=third",
    ]);
    expect(await (await remote.next()).accept()).toMatchObject({ clientId: "third" });
    expect(again.isClosed).toBe(false);
  });

  it("removes queues of bridges that the configuration no longer has", async () => {
    const dataDir = tempDir();
    const remote = await scripted();
    const first = await bridged(
      bridgeTo(remote.port, { ...PLAIN, "topic.1": "a 1", max_outgoing_buffered_messages: "5" }),
      { dataDir },
    );
    await first.close();
    const second = await bridged({ "plugins.vmq_bridge": "on" }, { dataDir });
    expect(second.sessions().map(({ client_id }) => client_id)).not.toContain("bridge.tcp.br0");
  });

  it("lets nobody connect with the client id of a bridge's session", async () => {
    const { broker } = await linked({});
    await expect(
      client(broker.port(), undefined, { clientId: "bridge.tcp.br0", reconnectPeriod: 0 }),
    ).rejects.toThrow();
    expect((await show(broker)).state).toBe("connected");
  });

  it("has metrics with the bridge as label", async () => {
    const { remote, broker, link } = await linked({
      "topic.1": "a 1",
      max_outgoing_buffered_messages: "9",
    });
    const of = (name: string) => broker.metricSeries()[`${name}{bridge="br0",transport="tcp"}`];
    expect(of("vmq_bridge_connected")).toBe(1);
    expect(of("vmq_bridge_queue_max")).toBe(9);
    const near = await client(broker.port());
    await near.publish("a", "x", { qos: 1 });
    await link.next("publish");
    expect(of("vmq_bridge_unacknowledged")).toBe(1);
    link.close();
    await waitFor("seen", () => of("vmq_bridge_connected") === 0);
    await near.publish("a", "y", { qos: 1 });
    await waitFor("waits", () => of("vmq_bridge_queue_size") === 2);
    await (await remote.next()).accept(0, true);
    await waitFor("again", () => of("vmq_bridge_connected") === 1);
    expect(of("vmq_bridge_connects")).toBe(2);
    expect(of("vmq_bridge_dropped")).toBe(0);
    expect(of("vmq_bridge_round_trip_ms")).toBeGreaterThanOrEqual(0);
  });
});

describe.skipIf(!hasMosquitto || !hasPasswd)("a bridge with a wrong password", () => {
  it("says so in the log without the password, and works once it is right", async () => {
    const file = join(tempDir(), "passwords");
    execFileSync("mosquitto_passwd", ["-b", "-c", file, "bridge", "right-secret"]);
    const remote = await startMosquitto(["allow_anonymous false", `password_file ${file}`]);
    const broker = await startProcess({
      settings: bridgeTo(remote.port, {
        mqtt_version: "4",
        username: "bridge",
        password: "wrong-secret",
        restart_timeout: "2",
      }),
    });
    await waitFor("a line in the log", () =>
      /bridge not connected.*br0.*Not authorized.*retry_in_ms=2\d\d\d/.test(broker.output),
    );
    const before = broker.output.split("bridge not connected").length;
    await waitFor(
      "the next try",
      () => broker.output.split("bridge not connected").length > before,
    );
    await broker.control("bridge", "set", "tcp.br0.password=right-secret");
    await waitFor("connected", async () =>
      (await broker.control("bridge", "show")).includes("| connected"),
    );
    expect(broker.output + (await broker.control("bridge", "show"))).not.toContain("secret");
  }, 60_000);
});
