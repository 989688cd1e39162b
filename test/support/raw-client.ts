import { isDeepStrictEqual } from "node:util";
import { atEnd, type Scope } from "./cleanup.ts";
import { type ByteStream, openStream, type Target } from "./streams.ts";
import {
  type AckType,
  bytes,
  type ConnectOptions,
  cutPacket,
  decode,
  describe,
  encodeAck,
  encodeCoded,
  encodeConnect,
  encodePublish,
  encodeSubscribe,
  encodeUnsubscribe,
  type Filter,
  type Packet,
  type PacketType,
  type Properties,
  type PublishOptions,
  type Version,
} from "./wire.ts";

export type { Target } from "./streams.ts";
export * from "./wire.ts";

/** A test that waits longer than this for a packet has failed. */
const WAIT_MS = 5000;

/** A port, an address, or a broker (its first TCP listener). */
export type Where = number | Target | { port(): number };

/**
 * What `expect` compares: only the keys given; `undefined` = must be absent. Payloads may be text.
 * `properties` are compared key by key, too; `exactProperties` wants these and no others.
 */
export type Expected = Partial<Omit<Packet, "payload" | "properties" | "raw" | "type">> & {
  payload?: string | Buffer;
  properties?: { [K in keyof Properties]?: Properties[K] | undefined };
  exactProperties?: Properties;
};

export interface ClientOptions {
  /** Default: closed when the running test ends. */
  scope?: Scope;
  /** In error messages. */
  name?: string;
}

/** Opens a connection and sends nothing. */
export async function openClient(
  where: Where,
  version: Version = 4,
  options: ClientOptions = {},
): Promise<RawClient> {
  const target: Target =
    typeof where === "number"
      ? { port: where }
      : typeof where.port === "function"
        ? { port: where.port() }
        : (where as Target);
  const client = new RawClient(version, options.name ?? "client");
  await client.open(target);
  atEnd(() => client.cut(), options.scope);
  return client;
}

/** Opens a connection and connects with success; `client.connack` is the answer. */
export async function connectClient(
  where: Where,
  version: Version = 4,
  connect: ConnectOptions = {},
  options: ClientOptions = {},
): Promise<RawClient> {
  const name = options.name ?? `v${version} ${String(connect.clientId ?? "client")}`;
  const client = await openClient(where, version, { ...options, name });
  await client.connected(connect);
  return client;
}

/**
 * An MQTT client that does only what it is told: it sends any bytes and gives what it receives packet
 * by packet. It never acknowledges by itself, except in `receive`.
 */
export class RawClient {
  readonly version: Version;
  readonly name: string;
  /** Every packet received, also those taken with `next`. */
  readonly received: Packet[] = [];
  /** Every byte received. */
  rawBytes: Buffer[] = [];
  /** Answer to `connected()`. */
  connack: Packet | undefined;
  isClosed = false;
  private stream: ByteStream | undefined;
  private partial: Buffer = Buffer.alloc(0);
  private unread = 0;
  /** Why bytes from the broker were no packet. */
  fault: Error | undefined;
  private wake: (() => void) | undefined;
  private lastPacketId = 0;

  constructor(version: Version, name: string) {
    this.version = version;
    this.name = name;
  }

  async open(target: Target): Promise<void> {
    this.stream = await openStream(target, {
      onData: (data) => this.onData(data),
      onClose: () => {
        this.isClosed = true;
        this.wake?.();
      },
    });
  }

  get subprotocol(): string | undefined {
    return this.stream?.subprotocol;
  }

  get localPort(): number {
    return this.stream?.socket?.localPort ?? 0;
  }

  /** Packets received and not yet taken. */
  get waiting(): readonly Packet[] {
    return this.received.slice(this.unread);
  }

  // Sending

  send(data: Buffer | string): void {
    this.stream?.write(typeof data === "string" ? bytes(data) : data);
  }

  /** Several packets in one write. */
  sendTogether(...packets: readonly Buffer[]): void {
    this.send(Buffer.concat(packets));
  }

  connect(options: ConnectOptions = {}): void {
    this.send(encodeConnect(this.version, options));
  }

  /** `packetId` is chosen when the QoS needs one and none is given; returns it. */
  publish(options: PublishOptions): number {
    const packetId = options.packetId ?? ((options.qos ?? 0) > 0 ? this.nextPacketId() : undefined);
    this.send(
      encodePublish(this.version, packetId === undefined ? options : { ...options, packetId }),
    );
    return packetId ?? 0;
  }

  subscribe(
    filters: string | readonly (Filter | string)[],
    options: { qos?: number; packetId?: number; properties?: Properties } = {},
  ): number {
    const packetId = options.packetId ?? this.nextPacketId();
    const list = typeof filters === "string" ? [filters] : filters;
    const entries = list.map((one) =>
      typeof one === "string" ? { filter: one, qos: options.qos ?? 0 } : one,
    );
    this.send(encodeSubscribe(this.version, packetId, entries, options.properties));
    return packetId;
  }

  unsubscribe(
    filters: string | readonly string[],
    options: { packetId?: number; properties?: Properties } = {},
  ): number {
    const packetId = options.packetId ?? this.nextPacketId();
    const list = typeof filters === "string" ? [filters] : filters;
    this.send(encodeUnsubscribe(this.version, packetId, list, options.properties));
    return packetId;
  }

  puback(packetId: number | undefined, code?: number, properties?: Properties): void {
    this.acknowledge("puback", packetId, code, properties);
  }

  pubrec(packetId: number | undefined, code?: number, properties?: Properties): void {
    this.acknowledge("pubrec", packetId, code, properties);
  }

  pubrel(packetId: number | undefined, code?: number, properties?: Properties): void {
    this.acknowledge("pubrel", packetId, code, properties);
  }

  pubcomp(packetId: number | undefined, code?: number, properties?: Properties): void {
    this.acknowledge("pubcomp", packetId, code, properties);
  }

  pingreq(): void {
    this.send(Buffer.from([0xc0, 0]));
  }

  disconnect(code?: number, properties?: Properties): void {
    this.send(encodeCoded("disconnect", code, properties));
  }

  auth(code: number, properties?: Properties): void {
    this.send(encodeCoded("auth", code, properties));
  }

  // Whole exchanges

  /** CONNECT that must succeed. */
  async connected(options: ConnectOptions = {}): Promise<Packet> {
    this.connect(options);
    this.connack = await this.expect("connack", { code: 0 });
    return this.connack;
  }

  /** CONNECT that must be refused with this code, followed by a close. */
  async refused(options: ConnectOptions, code: number, fields: Expected = {}): Promise<Packet> {
    this.connect(options);
    const connack = await this.expect("connack", { code, sessionPresent: false, ...fields });
    await this.closed();
    return connack;
  }

  /** SUBSCRIBE and its SUBACK; returns the codes. Retained messages that follow are left unread. */
  async subscribed(
    filters: string | readonly (Filter | string)[],
    options: { qos?: number; properties?: Properties } = {},
  ): Promise<number[]> {
    const packetId = this.subscribe(filters, options);
    const suback = await this.expect("suback", { packetId });
    return suback.codes ?? [];
  }

  async unsubscribed(filters: string | readonly string[]): Promise<Packet> {
    const packetId = this.unsubscribe(filters);
    return this.expect("unsuback", { packetId });
  }

  /** PUBLISH with all its acknowledgements; for QoS 0 a ping, so that the broker has handled it. */
  async published(options: PublishOptions): Promise<Packet> {
    const packetId = this.publish(options);
    if ((options.qos ?? 0) === 0) return this.ping();
    if (options.qos === 1) return this.expectAccepted("puback", packetId);
    await this.expectAccepted("pubrec", packetId);
    this.pubrel(packetId);
    return this.expect("pubcomp", { packetId });
  }

  async ping(): Promise<Packet> {
    this.pingreq();
    return this.expect("pingresp");
  }

  /** DISCONNECT and wait until the broker has closed. */
  async disconnected(code?: number, properties?: Properties): Promise<void> {
    this.disconnect(code, properties);
    await this.closed();
  }

  /** Next packet is a PUBLISH that matches; it is acknowledged in full. */
  async delivered(fields: Expected = {}): Promise<Packet> {
    const publish = await this.expect("publish", fields);
    await this.acknowledged(publish);
    return publish;
  }

  /** All steps that a received PUBLISH still needs. */
  async acknowledged(publish: Packet): Promise<void> {
    if (publish.qos === 1) this.puback(publish.packetId);
    if (publish.qos !== 2) return;
    this.pubrec(publish.packetId);
    await this.expect("pubrel", { packetId: publish.packetId ?? 0 });
    this.pubcomp(publish.packetId);
  }

  /**
   * Takes packets until `count` PUBLISH have come and all QoS 2 exchanges are over, acknowledging each
   * as it comes; fails on any other packet.
   */
  async receive(count: number, timeoutMs = WAIT_MS): Promise<Packet[]> {
    const publishes: Packet[] = [];
    let releasesOpen = 0;
    while (publishes.length < count || releasesOpen > 0) {
      const one = await this.next(timeoutMs);
      if (one.type === "pubrel") {
        this.pubcomp(one.packetId);
        releasesOpen--;
      } else if (one.type === "publish") {
        publishes.push(one);
        if (one.qos === 1) this.puback(one.packetId);
        if (one.qos === 2) {
          this.pubrec(one.packetId);
          releasesOpen++;
        }
      } else {
        throw this.error(
          `expected PUBLISH ${publishes.length + 1} of ${count}, got ${describe(one)}`,
        );
      }
    }
    return publishes;
  }

  // Receiving

  /** Takes the next packet; fails after the time or when the connection ends without one. */
  async next(timeoutMs = WAIT_MS): Promise<Packet> {
    const found = await this.take(timeoutMs);
    if (found === "closed") throw this.error("expected a packet, but the broker closed");
    if (found === "timeout") throw this.error(`no packet within ${timeoutMs} ms`);
    return found;
  }

  /** Takes the next packet, which must be of this type and have these fields. */
  async expect(type: PacketType, fields: Expected = {}, timeoutMs = WAIT_MS): Promise<Packet> {
    const wanted = `${type.toUpperCase()} ${show(fields)}`;
    const found = await this.take(timeoutMs);
    if (found === "closed") throw this.error(`expected ${wanted}, but the broker closed`);
    if (found === "timeout") throw this.error(`expected ${wanted}, nothing within ${timeoutMs} ms`);
    const wrong = found.type === type ? differences(found, fields) : ["type"];
    if (wrong.length > 0) {
      throw this.error(
        `expected ${wanted}, got ${describe(found)} (differs in ${wrong.join(", ")})`,
      );
    }
    return found;
  }

  /** The broker closes without sending another packet. */
  async closed(timeoutMs = WAIT_MS): Promise<void> {
    const found = await this.take(timeoutMs);
    if (found === "timeout") throw this.error(`not closed within ${timeoutMs} ms`);
    if (found !== "closed") throw this.error(`expected a close, got ${describe(found)}`);
  }

  /** MQTT 5: DISCONNECT with this code, then a close. MQTT 3.x: only a close. */
  async ended(code: number, fields: Expected = {}): Promise<void> {
    if (this.version === 5) await this.expect("disconnect", { code, ...fields });
    await this.closed();
  }

  /** Nothing was sent before the answer to a PINGREQ, so the connection is alive, too. */
  async expectNothing(): Promise<void> {
    await this.ping();
  }

  /** Nothing comes for a while. Only for what can not answer a ping, such as before CONNACK. */
  async expectSilence(ms: number): Promise<void> {
    const found = await this.take(ms);
    if (found === "closed") throw this.error("expected silence, but the broker closed");
    if (found !== "timeout") throw this.error(`expected silence, got ${describe(found)}`);
  }

  // The connection

  /** Forgets everything received so far, for tests with very many packets. */
  forget(): void {
    this.received.splice(0, this.unread);
    this.unread = 0;
    this.rawBytes = [];
  }

  /** Orderly end of the TCP connection (FIN) without DISCONNECT. */
  end(): void {
    this.stream?.end();
  }

  /** Drops the connection at once; with `reset` by RST. */
  cut(reset = false): void {
    this.stream?.destroy(reset);
  }

  pause(): void {
    this.stream?.pause();
  }

  resume(): void {
    this.stream?.resume();
  }

  nextPacketId(): number {
    this.lastPacketId = (this.lastPacketId % 65_535) + 1;
    return this.lastPacketId;
  }

  /** An error that shows what this client has seen. */
  error(message: string): Error {
    const shown = this.received.slice(-20);
    const lines = shown.map((one, index) => {
      const position = this.received.length - shown.length + index;
      return `  ${position < this.unread ? " " : "*"} ${describe(one)}`;
    });
    const end = this.isClosed ? "\n    (closed)" : "";
    return new Error(
      `${this.name}: ${message}\n  received (* = not taken, ${this.received.length} in all):\n` +
        `${lines.join("\n") || "    nothing"}${end}`,
    );
  }

  private acknowledge(
    type: AckType,
    packetId: number | undefined,
    code: number | undefined,
    properties: Properties | undefined,
  ): void {
    if (packetId === undefined) throw this.error(`${type} needs a packet identifier`);
    this.send(encodeAck(type, packetId, code, properties));
  }

  /** An acknowledgement below 0x80: with MQTT 5 it may say that nobody is subscribed (0x10). */
  private async expectAccepted(type: "puback" | "pubrec", packetId: number): Promise<Packet> {
    const found = await this.expect(type, { packetId });
    if ((found.code ?? 0) >= 0x80) throw this.error(`refused: ${describe(found)}`);
    return found;
  }

  private onData(data: Buffer): void {
    this.rawBytes.push(data);
    this.partial = this.partial.length === 0 ? data : Buffer.concat([this.partial, data]);
    try {
      for (let cut = cutPacket(this.partial); cut !== undefined; cut = cutPacket(this.partial)) {
        this.partial = cut.rest;
        this.received.push(decode(cut.raw, this.version));
      }
    } catch (error) {
      this.fault ??= error instanceof Error ? error : new Error(String(error));
    }
    this.wake?.();
  }

  private async take(timeoutMs: number): Promise<Packet | "closed" | "timeout"> {
    let isLate = false;
    const timer = setTimeout(() => {
      isLate = true;
      this.wake?.();
    }, timeoutMs);
    try {
      for (;;) {
        const found = this.received[this.unread];
        if (found !== undefined) {
          this.unread++;
          return found;
        }
        if (this.fault !== undefined) {
          throw this.error(`the broker sent bytes that are no packet: ${this.fault.message}`);
        }
        if (this.isClosed) return "closed";
        if (isLate) return "timeout";
        await new Promise<void>((resolve) => {
          this.wake = resolve;
        });
      }
    } finally {
      clearTimeout(timer);
      this.wake = undefined;
    }
  }
}

/** Names of the fields in which a packet is not as expected. */
export function differences(found: Packet, fields: Expected): string[] {
  const wrong: string[] = [];
  for (const [name, wanted] of Object.entries(fields)) {
    if (name === "exactProperties") {
      if (!isSame(found.properties ?? {}, wanted)) wrong.push("properties");
    } else if (name === "properties") {
      const have: Properties = found.properties ?? {};
      for (const [key, value] of Object.entries(wanted as Properties)) {
        if (!isSame(have[key as keyof Properties], value)) wrong.push(key);
      }
    } else if (!isSame(found[name as keyof Packet], wanted)) {
      wrong.push(name);
    }
  }
  return wrong;
}

/** Deep equality in which text and the bytes of that text are the same. */
function isSame(found: unknown, wanted: unknown): boolean {
  if (Buffer.isBuffer(found)) {
    return (
      (typeof wanted === "string" || Buffer.isBuffer(wanted)) && found.equals(Buffer.from(wanted))
    );
  }
  if (isObject(found) && isObject(wanted)) {
    const keys = new Set([...Object.keys(found), ...Object.keys(wanted)]);
    return [...keys].every((key) => isSame(found[key], wanted[key]));
  }
  return isDeepStrictEqual(found, wanted);
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function show(fields: Expected): string {
  return JSON.stringify(fields, (_key, value: unknown) => (value === undefined ? "absent" : value));
}
