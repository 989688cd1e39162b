import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, writeFileSync } from "node:fs";
import { type AddressInfo, connect as connectTcp, createServer, type Socket } from "node:net";
import { join } from "node:path";
import mqtt, { type IClientOptions, type MqttClient } from "mqtt";
import mqttPacket, { type Packet } from "mqtt-packet";
import type { Broker } from "../../../core/broker-types.ts";
import { freePort, startBroker, tempDir, waitFor } from "../../support/broker.ts";
import { atEnd } from "../../support/cleanup.ts";
import { requireTool } from "../../support/tools.ts";

const MOSQUITTO = existsSync("/usr/sbin/mosquitto") ? "/usr/sbin/mosquitto" : "mosquitto";

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
    const child = spawn(MOSQUITTO, ["-c", this.config, "-v"], {
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
  const text = [...listener, ...access, ...user, "log_dest stderr", "log_type all", ...lines];
  writeFileSync(config, `${text.join("\n").replaceAll("PORT", String(port))}\n`);
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
  const { stdout } = await broker.control("bridge", ["show", `--name=${name}`]);
  const [head = [], row = []] = stdout
    .split("\n")
    .filter((line) => line.startsWith("│"))
    .map((line) =>
      line
        .split("│")
        .slice(1, -1)
        .map((cell) => cell.trim()),
    );
  return Object.fromEntries(head.map((column, at) => [column, row[at] ?? ""]));
}

export async function state(broker: Broker, wanted: string, name = "br0"): Promise<void> {
  await waitFor(
    `bridge ${name} is ${wanted}`,
    async () => (await show(broker, name)).state === wanted,
    20_000,
  );
}

// ---- a remote broker that does what the test says

/** One connection to the scripted remote. */
export class RemoteConnection {
  readonly packets: Packet[] = [];
  isClosed = false;
  /** The protocol level as on the wire. */
  level = 0;
  private readonly socket: Socket;
  private version = 4;
  private taken = 0;

  constructor(socket: Socket) {
    this.socket = socket;
    const parser = mqttPacket.parser();
    parser.on("packet", (packet: Packet) => {
      if (packet.cmd === "connect") this.version = packet.protocolVersion ?? 4;
      this.packets.push(packet);
    });
    socket.once("data", (bytes: Buffer) => {
      this.level = bytes[4 + bytes.readUInt16BE(2)] ?? 0;
    });
    socket.on("data", (bytes: Buffer) => parser.parse(bytes));
    socket.on("error", () => {});
    socket.once("close", () => {
      this.isClosed = true;
    });
  }

  /** The next packet that was not taken, which must be of this kind; PINGREQ is skipped. */
  async next<C extends Packet["cmd"]>(
    cmd: C,
    timeoutMs = 10_000,
  ): Promise<Extract<Packet, { cmd: C }>> {
    const found = await waitFor(
      `${cmd} at the remote (has ${this.packets.map((packet) => packet.cmd).join(" ")})`,
      () => {
        while (this.packets[this.taken]?.cmd === "pingreq" && cmd !== "pingreq") this.taken++;
        return this.packets[this.taken];
      },
      timeoutMs,
    );
    this.taken++;
    if (found.cmd !== cmd)
      throw new Error(`${found.cmd} instead of ${cmd}: ${JSON.stringify(found)}`);
    return found as Extract<Packet, { cmd: C }>;
  }

  /** Packets of a kind so far. */
  all<C extends Packet["cmd"]>(cmd: C): Extract<Packet, { cmd: C }>[] {
    return this.packets.filter((packet) => packet.cmd === cmd) as Extract<Packet, { cmd: C }>[];
  }

  send(packet: Packet): void {
    this.socket.write(mqttPacket.generate(packet, { protocolVersion: this.version }));
  }

  /** Takes CONNECT and answers it. */
  async accept(code = 0, sessionPresent = false, properties?: object): Promise<Packet> {
    const connect = await this.next("connect");
    const codes = this.version === 5 ? { reasonCode: code } : { returnCode: code };
    this.send({
      cmd: "connack",
      sessionPresent,
      ...codes,
      ...(this.version === 5 && properties !== undefined ? { properties } : {}),
    } as Packet);
    return connect;
  }

  /** Takes a SUBSCRIBE and grants it. */
  async grant(code?: number): Promise<Extract<Packet, { cmd: "subscribe" }>> {
    const packet = await this.next("subscribe");
    const granted = packet.subscriptions.map(({ qos }) => code ?? qos);
    this.send({ cmd: "suback", messageId: packet.messageId ?? 0, granted });
    return packet;
  }

  close(): void {
    this.socket.destroy();
  }

  pause(): void {
    this.socket.pause();
  }
}

/** A server that accepts connections and leaves the rest to the test. */
export class ScriptedRemote {
  port = 0;
  readonly connections: RemoteConnection[] = [];
  private taken = 0;

  async start(host = "127.0.0.1"): Promise<this> {
    const sockets = new Set<Socket>();
    const server = createServer((socket) => {
      sockets.add(socket);
      this.connections.push(new RemoteConnection(socket));
    });
    server.listen(this.port, host);
    await once(server, "listening");
    this.port = (server.address() as AddressInfo).port;
    atEnd(() => {
      server.close();
      for (const socket of sockets) socket.destroy();
    });
    return this;
  }

  /** The next connection that was not taken. */
  async next(timeoutMs = 10_000): Promise<RemoteConnection> {
    const found = await waitFor(
      "a connection to the remote",
      () => this.connections[this.taken],
      timeoutMs,
    );
    this.taken++;
    return found;
  }
}

export function scripted(): Promise<ScriptedRemote> {
  return new ScriptedRemote().start();
}
