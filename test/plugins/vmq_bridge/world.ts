import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, writeFileSync } from "node:fs";
import { connect as connectTcp } from "node:net";
import { join } from "node:path";
import mqtt, { type IClientOptions, type MqttClient } from "mqtt";
import type { Packet } from "mqtt-packet";
import type { Broker } from "../../../core/broker-types.ts";
import { freePort, startBroker, tempDir, waitFor } from "../../support/broker.ts";
import { atEnd } from "../../support/cleanup.ts";
import { requireTool } from "../../support/tools.ts";

const MOSQUITTO = existsSync("/usr/sbin/mosquitto") ? "/usr/sbin/mosquitto" : "mosquitto";

/** Not every packet: it would wait for its log to be read. */
const LOG_TYPES = ["error", "warning", "notice", "information"].map((type) => `log_type ${type}`);

/** The broker; its help ends with status 3. */
export const hasMosquitto = requireTool(MOSQUITTO, "mosquitto", ["--help"]);

/** A Mosquitto that can be killed and started again on the same port. */
export class Mosquitto {
  readonly port: number;
  log = "";
  private readonly config: string;
  private child: ChildProcess | undefined;

  constructor(port: number, config: string) {
    this.port = port;
    this.config = config;
  }

  async start(): Promise<void> {
    const child = spawn(MOSQUITTO, ["-c", this.config], {
      stdio: ["ignore", "pipe", "pipe"],
    });
    this.child = child;
    for (const stream of [child.stdout, child.stderr]) {
      stream?.on("data", (data: Buffer) => {
        this.log += data.toString();
      });
    }
    await waitFor(`mosquitto accepts: ${this.log}`, () => accepts(this.port), 10_000);
  }

  async kill(signal: NodeJS.Signals = "SIGKILL"): Promise<void> {
    const child = this.child;
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return;
    const ended = once(child, "exit");
    child.kill(signal);
    await ended;
  }
}

export async function startMosquitto(lines: readonly string[] = []): Promise<Mosquitto> {
  const folder = tempDir();
  const port = await freePort();
  const config = join(folder, "mosquitto.conf");
  const listener = lines.some((line) => line.startsWith("listener "))
    ? []
    : [`listener ${port} 127.0.0.1`];
  const access = lines.some((line) => line.startsWith("allow_anonymous"))
    ? []
    : ["allow_anonymous true"];
  const user = process.getuid?.() === 0 ? ["user root"] : [];
  const text = [...listener, ...access, ...user, "log_dest stderr", ...LOG_TYPES, ...lines];
  writeFileSync(
    config,
    `${text.join("\n").replaceAll("PORT", String(port)).replaceAll("FOLDER", folder)}\n`,
  );
  const mosquitto = new Mosquitto(port, config);
  atEnd(() => mosquitto.kill());
  await mosquitto.start();
  return mosquitto;
}

function accepts(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connectTcp({ port, host: "127.0.0.1" });
    socket.once("connect", () => {
      socket.destroy();
      resolve(true);
    });
    socket.once("error", () => resolve(false));
  });
}

export interface Received {
  topic: string;
  payload: string;
  qos: number;
  retain: boolean;
  properties: NonNullable<Extract<Packet, { cmd: "publish" }>["properties"]> | undefined;
}

/** A client of a broker with what it received. */
export class TestClient {
  readonly mqtt: MqttClient;
  readonly received: Received[] = [];

  constructor(client: MqttClient) {
    this.mqtt = client;
    client.on("message", (topic, payload, packet) => {
      const { qos, retain, properties } = packet;
      this.received.push({ topic, payload: payload.toString(), qos, retain, properties });
    });
  }

  payloads(topic?: string): string[] {
    return this.received
      .filter((message) => topic === undefined || message.topic === topic)
      .map(({ payload }) => payload);
  }

  async publish(
    topic: string,
    payload: string,
    options: { qos?: 0 | 1 | 2; retain?: boolean; properties?: object } = {},
  ): Promise<void> {
    await this.mqtt.publishAsync(topic, payload, options);
  }

  /** Waits for so many messages. */
  async got(count: number, timeoutMs = 10_000): Promise<Received[]> {
    await waitFor(
      `${count} messages, has ${this.received.length}: ${JSON.stringify(this.received.slice(-3))}`,
      () => this.received.length >= count,
      timeoutMs,
    );
    return this.received;
  }
}

/** Connects to a port and subscribes. */
export async function client(
  port: number,
  filter?: string,
  options: IClientOptions & { qos?: 0 | 1 | 2; rap?: boolean } = {},
): Promise<TestClient> {
  const { qos = 2, rap = false, ...rest } = options;
  const connected = await mqtt.connectAsync({
    host: "127.0.0.1",
    port,
    reconnectPeriod: 200,
    ...rest,
  });
  connected.on("error", () => {});
  atEnd(async () => {
    await connected.endAsync(true);
  });
  const made = new TestClient(connected);
  if (filter !== undefined) await connected.subscribeAsync(filter, { qos, rap });
  return made;
}

/** Settings of a bridge `br0` to a port on this machine, quick to try again. */
export function bridgeTo(
  port: number,
  options: Readonly<Record<string, string>> = {},
  name = "br0",
  transport = "tcp",
): Record<string, string> {
  const head = `vmq_bridge.${transport}.${name}`;
  const all = { restart_timeout: "1", ...options };
  return {
    "plugins.vmq_bridge": "on",
    [head]: `127.0.0.1:${port}`,
    ...Object.fromEntries(Object.entries(all).map(([key, value]) => [`${head}.${key}`, value])),
  };
}

/** A broker of this process with bridges. */
export function bridged(
  settings: Readonly<Record<string, string>>,
  options: Parameters<typeof startBroker>[2] = {},
): Promise<Broker> {
  return startBroker(settings, [], options);
}

/** `bridge show` as rows by column. */
export async function show(broker: Broker, name = "br0"): Promise<Record<string, string>> {
  const { stdout } = await broker.control("bridge", ["show", `--name=${name}`, "--format=json"]);
  const { table } = JSON.parse(stdout) as { table: Record<string, unknown>[] };
  return Object.fromEntries(
    Object.entries(table[0] ?? {}).map(([column, value]) => [column, String(value)]),
  );
}

export async function state(broker: Broker, wanted: string, name = "br0"): Promise<void> {
  await waitFor(
    `bridge ${name} is ${wanted}`,
    async () => (await show(broker, name)).state === wanted,
    20_000,
  );
}
