import { waitFor } from "../support/broker.ts";
import type { Packet, RawClient, Version } from "../support/raw-client.ts";
import { connectClient, describe, encodeAck, encodePublish } from "../support/raw-client.ts";
import { accepts } from "../support/servers/service.ts";
import { persistent } from "../support/sessions.ts";

/**
 * Clients that do what the standard asks of a client with a persistent session while their broker is
 * killed again and again: they reconnect, repeat what is not acknowledged and forget nothing.
 */

/** A broker that was killed is back by then, or the test has failed. */
const BACK_MS = 60_000;
/** Messages a publisher has un-acknowledged at a time. */
const WINDOW = 20;

abstract class Stubborn {
  readonly clientId: string;
  protected readonly version: Version;
  protected client: RawClient | undefined;
  /** Reconnects that found no session: the broker has lost it. */
  sessionsLost = 0;
  private readonly port: number;
  private isStopped = false;
  private running: Promise<void> = Promise.resolve();
  private wasConnected = false;

  constructor(port: number, version: Version, clientId: string) {
    this.port = port;
    this.version = version;
    this.clientId = clientId;
  }

  toString(): string {
    const last = this.client?.received.slice(-3).map(describe).join("; ");
    return `${this.clientId}: ${this.client?.isClosed ? "closed" : "open"}, last received: ${last}`;
  }

  start(): void {
    this.isStopped = false;
    this.running = this.run();
  }

  /** Drops the connection and stays away. */
  async stop(): Promise<void> {
    this.isStopped = true;
    this.client?.cut();
    await this.running;
  }

  private async run(): Promise<void> {
    while (!this.isStopped) {
      try {
        const options = persistent(this.version, this.clientId);
        const client = await connectClient(this.port, this.version, options, { scope: "file" });
        if (this.wasConnected && client.connack?.sessionPresent !== true) this.sessionsLost++;
        this.wasConnected = true;
        this.client = client;
        await this.connected(client);
        while (!this.isStopped) {
          this.handle(client, await client.next(60_000));
          if (client.received.length > 1000) client.forget();
        }
      } catch {
        // The broker was killed, or is not up again yet.
        const isBack = (): boolean | Promise<boolean> => this.isStopped || accepts(this.port);
        await waitFor(`${this.clientId}: a broker`, isBack, BACK_MS).catch(() => undefined);
      }
      this.client?.cut();
    }
  }

  protected abstract connected(client: RawClient): void | Promise<void>;
  protected abstract handle(client: RawClient, packet: Packet): void;
}

/** Publishes 1, 2, 3, … at one QoS as fast as its window and `allowed` let it. */
export class StubbornPublisher extends Stubborn {
  readonly topic: string;
  readonly qos: 1 | 2;
  readonly retain: boolean;
  /** Last number given to the broker, and all numbers it took responsibility for. */
  lastSent = 0;
  readonly acknowledged = new Set<number>();
  private readonly open = new Map<number, { number: number; isReleased: boolean }>();
  /** Last number that may be sent. */
  private allowed = Number.POSITIVE_INFINITY;
  private isPublishing = true;
  private lastPacketId = 0;

  constructor(
    port: number,
    version: Version,
    how: { clientId: string; topic: string; qos: 1 | 2; retain?: boolean },
  ) {
    super(port, version, how.clientId);
    this.topic = how.topic;
    this.qos = how.qos;
    this.retain = how.retain === true;
  }

  /** Lets it publish up to this number. */
  allow(last: number): void {
    this.allowed = last;
    if (this.client?.isClosed === false) this.fill(this.client);
  }

  /** Publishes nothing new. */
  finish(): void {
    this.isPublishing = false;
  }

  get isDone(): boolean {
    return !this.isPublishing && this.open.size === 0;
  }

  override toString(): string {
    const open = [...this.open].map(([id, one]) => `${id}${one.isReleased ? "r" : ""}`);
    return `${super.toString()}; ${this.acknowledged.size} of ${this.lastSent}, open: ${open}`;
  }

  protected override connected(client: RawClient): void {
    // [MQTT-4.4.0-1] in the order in which they were sent, PUBREL where PUBREC had come
    for (const [packetId, { number, isReleased }] of this.open) {
      if (isReleased) client.pubrel(packetId);
      else client.send(this.encode(packetId, number, true));
    }
    this.fill(client);
  }

  protected override handle(client: RawClient, { type, packetId = 0, code = 0 }: Packet): void {
    const message = this.open.get(packetId);
    // 0x92 in PUBCOMP: the broker had released it before it was killed.
    if (code >= 0x80 && type !== "pubcomp")
      throw new Error(`${this.clientId}: ${type} with ${code}`);
    if (message === undefined) return;
    if (type === "puback") this.open.delete(packetId);
    if (type === "pubrec") {
      message.isReleased = true;
      client.pubrel(packetId);
    }
    if (type === "pubcomp") this.open.delete(packetId);
    // PUBREC: from here on the message is the broker's.
    if (type === "puback" || type === "pubrec") this.acknowledged.add(message.number);
    this.fill(client);
  }

  private fill(client: RawClient): void {
    const packets: Buffer[] = [];
    while (this.isPublishing && this.lastSent < this.allowed && this.open.size < WINDOW) {
      const packetId = this.freePacketId();
      const number = ++this.lastSent;
      this.open.set(packetId, { number, isReleased: false });
      packets.push(this.encode(packetId, number, false));
    }
    if (packets.length > 0) client.sendTogether(...packets);
  }

  private freePacketId(): number {
    do {
      this.lastPacketId = (this.lastPacketId % 65_535) + 1;
    } while (this.open.has(this.lastPacketId));
    return this.lastPacketId;
  }

  private encode(packetId: number, number: number, dup: boolean): Buffer {
    const { topic, qos, retain } = this;
    const payload = String(number);
    return encodePublish(this.version, { topic, payload, qos, retain, dup, packetId });
  }
}

/** Subscribes once, acknowledges everything and notes what it got. */
export class StubbornSubscriber extends Stubborn {
  /** Numbers by topic, in order of arrival. */
  readonly got = new Map<string, number[]>();
  private readonly filters: string[];
  private isSubscribed = false;
  /** QoS 2 identifiers received and not yet released: repeated ones are not new messages. */
  private readonly unreleased = new Set<number>();

  constructor(port: number, version: Version, clientId: string, filters: string[]) {
    super(port, version, clientId);
    this.filters = filters;
  }

  get hasSubscribed(): boolean {
    return this.isSubscribed;
  }

  protected override connected(client: RawClient): void {
    // Only once: a subscription must survive.
    if (!this.isSubscribed) client.subscribe(this.filters, { qos: 2 });
  }

  protected override handle(client: RawClient, packet: Packet): void {
    const { type, packetId = 0 } = packet;
    if (type === "suback") this.isSubscribed = true;
    else if (type === "pubrel") {
      this.unreleased.delete(packetId);
      client.send(encodeAck("pubcomp", packetId));
    } else if (type === "publish") {
      if (packet.qos === 2) {
        if (!this.unreleased.has(packetId)) this.note(packet);
        this.unreleased.add(packetId);
        client.pubrec(packetId);
      } else {
        this.note(packet);
        if (packet.qos === 1) client.puback(packetId);
      }
    }
  }

  private note({ topic = "", payload }: Packet): void {
    const list = this.got.get(topic) ?? [];
    list.push(Number(payload?.toString()));
    this.got.set(topic, list);
  }
}
