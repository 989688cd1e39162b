/** A remote broker that does what the test says. */
import { once } from "node:events";
import { type AddressInfo, createServer, type Socket } from "node:net";
import mqttPacket, { type Packet } from "mqtt-packet";
import { waitFor } from "../../support/broker.ts";
import { atEnd } from "../../support/cleanup.ts";
import { bridged, bridgeTo, state } from "./world.ts";

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

  /** Sends packets in one write. */
  sendTogether(...packets: Packet[]): void {
    const options = { protocolVersion: this.version };
    this.socket.write(Buffer.concat(packets.map((one) => mqttPacket.generate(one, options))));
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

/** As in all checks that say nothing else. */
export const PLAIN = { try_private: "off", mqtt_version: "4" };

/** A broker with a bridge that is connected to a scripted remote, which granted so many subscriptions. */
export async function linked(options: Readonly<Record<string, string>>, subscriptions = 0) {
  const remote = await scripted();
  const broker = await bridged(bridgeTo(remote.port, { ...PLAIN, ...options }));
  const link = await remote.next();
  const connect = await link.accept();
  for (let i = 0; i < subscriptions; i++) await link.grant();
  await state(broker, "connected");
  return { remote, broker, link, connect };
}

/** The remote publishes. */
export function publish(link: RemoteConnection, fields: object): void {
  link.send({
    cmd: "publish",
    topic: "t",
    payload: "p",
    qos: 0,
    dup: false,
    retain: false,
    ...fields,
  } as never);
}
