import { createServer, type Socket } from "node:net";
import { connectAsync } from "mqtt";
import { describe, expect, it } from "vitest";
import { startBroker, waitFor } from "../../support/broker.ts";
import { atEnd } from "../../support/cleanup.ts";

/** A server that keeps what it gets. */
async function sink(): Promise<{ port: number; lines: string[]; sockets: Socket[] }> {
  const lines: string[] = [];
  const sockets: Socket[] = [];
  const server = createServer((socket) => {
    sockets.push(socket);
    let rest = "";
    socket.setEncoding("utf8").on("error", () => undefined);
    socket.on("data", (text: string) => {
      const all = (rest + text).split("\n");
      rest = all.pop() ?? "";
      lines.push(...all);
    });
  });
  await new Promise<void>((done) => server.listen(0, "127.0.0.1", done));
  atEnd(async () => {
    for (const socket of sockets) socket.destroy();
    await new Promise((done) => server.close(done));
  });
  const address = server.address();
  return { port: typeof address === "object" ? (address?.port ?? 0) : 0, lines, sockets };
}

const SETTINGS = {
  graphite_enabled: "on",
  graphite_host: "127.0.0.1",
  graphite_interval: "50",
  graphite_reconnect_timeout: "20",
};

describe("Graphite", () => {
  it("gets every series as path, value and time, key and prefix in front (checks 23, 24)", async () => {
    const { port, lines } = await sink();
    const broker = await startBroker({
      ...SETTINGS,
      graphite_port: String(port),
      graphite_api_key: "key",
      graphite_prefix: "mine",
      graphite_include_labels: "on",
    });
    const client = await connectAsync(`mqtt://127.0.0.1:${broker.port()}`);
    atEnd(() => client.endAsync(true));
    await client.subscribeAsync("a");
    const last = (path: string) => lines.findLast((line) => line.startsWith(`${path} `));
    await waitFor("the subscription is counted", () =>
      last("key.mine.mqtt.subscribe.received.mqtt_version_4")?.includes(" 1 "),
    );
    const nowS = Date.now() / 1000;
    for (const line of lines) {
      expect(line).toMatch(/^key\.mine\.[\w.@-]+ -?\d+ \d{10}$/);
      expect(Math.abs(Number(line.split(" ")[2]) - nowS)).toBeLessThan(60);
    }
    expect(last("key.mine.mqtt.subscribe.received")).toBeDefined();
    expect(last("key.mine.publish.latency.microseconds.bucket.inf")).toBeDefined();
  });

  it("gets a new connection when one breaks, and none when it is switched off", async () => {
    const { port, lines, sockets } = await sink();
    const broker = await startBroker({ ...SETTINGS, graphite_port: String(port) });
    await waitFor("lines come", () => lines.length > 0);
    expect(lines.some((line) => line.startsWith("mqtt.subscribe.received "))).toBe(true);
    expect(lines.some((line) => line.includes("mqtt_version"))).toBe(false);
    sockets[0]?.destroy();
    await waitFor("it connects again", () => sockets.length === 2);
    lines.length = 0;
    await waitFor("lines come again", () => lines.length > 0);
    const ended = new Promise<void>((done) => {
      sockets[1]?.once("close", () => done());
    });
    broker.set("graphite_enabled", "off");
    await ended;
    broker.set("graphite_enabled", "on");
    await waitFor("it connects again", () => sockets.length === 3);
  });
});
