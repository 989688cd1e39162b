import { singleNode } from "../../../core/cluster/single.ts";
import { loadConfig } from "../../../core/config/load.ts";
import { Counters } from "../../../core/counters.ts";
import { HookRegistry } from "../../../core/hooks/registry.ts";
import type { Plugin } from "../../../core/hooks/types.ts";
import type {
  ListenerSettings,
  Peer,
  Transport,
  TransportHandler,
} from "../../../core/listeners/types.ts";
import { createLogger } from "../../../core/logger.ts";
import { Message } from "../../../core/mqtt/message.ts";
import { Router } from "../../../core/routing/router.ts";
import { Commits } from "../../../core/session/commits.ts";
import type { Core } from "../../../core/session/core.ts";
import { listenerOf } from "../../../core/session/link-transport.ts";
import { SessionManager } from "../../../core/session/manager.ts";
import { Flusher } from "../../../core/session/outbox.ts";
import { PublishTimer } from "../../../core/session/publish-timer.ts";
import { Session } from "../../../core/session/session.ts";
import { type SessionSettings, sessionSettings } from "../../../core/session/settings.ts";
import type { Subscriber } from "../../../core/session/subscriber.ts";
import { MemoryStore } from "../../../core/store/memory/memory-store.ts";
import type { Store } from "../../../core/store/types.ts";
import { TimerWheel } from "../../../core/timers.ts";
import {
  type ConnectOptions,
  cutPacket,
  decode,
  encodeAck,
  encodeConnect,
  encodePublish,
  encodeSubscribe,
  type Filter,
  type Packet,
  type Properties,
  type PublishOptions,
  type Version,
} from "../../support/wire.ts";

/** The session part with everything around it real but sockets and clocks, which the test moves. */

/** A wheel whose clock only `advance` moves. */
class ManualWheel extends TimerWheel {
  override refresh(): number {
    return this.nowMs;
  }
}

export const LISTENER: ListenerSettings = {
  ...listenerOf("test", ""),
  address: "127.0.0.1",
  port: 1883,
  allowedProtocolVersions: [3, 4, 5, 131, 132],
  allowAnonymousOverride: false,
};

/** What a session does to its socket, without one. */
export class FakeTransport implements Transport {
  readonly peer: Peer = { address: "127.0.0.1", port: 40_000 };
  readonly preAuthUsername = undefined;
  readonly clientCert = undefined;
  readonly listener: ListenerSettings;
  bufferedBytes = 0;
  /** Every buffer given to `write`, itself and a copy of what was in it. */
  readonly given: Buffer[] = [];
  readonly writes: Buffer[] = [];
  /** The peer does not read: `write` keeps what it gets. */
  isStuck = false;
  isPaused = false;
  isEnded = false;
  isDestroyed = false;
  private handler: TransportHandler | undefined;
  private kept: { buffer: Buffer; copy: Buffer }[] = [];

  constructor(listener: Partial<ListenerSettings> = {}) {
    this.listener = { ...LISTENER, ...listener };
  }

  start(handler: TransportHandler): void {
    this.handler = handler;
  }

  write(data: Buffer): boolean {
    if (this.isEnded) throw new Error("write after end");
    this.given.push(data);
    const copy = Buffer.from(data);
    this.writes.push(copy);
    if (!this.isStuck) return true;
    this.bufferedBytes += data.length;
    this.kept.push({ buffer: data, copy });
    return false;
  }

  /**
   * The peer takes everything (and, unless `onlyNow`, all that comes later); fails when a buffer was
   * changed while the transport kept it.
   */
  unstick(onlyNow = false): void {
    this.isStuck = onlyNow;
    this.bufferedBytes = 0;
    const kept = this.kept;
    this.kept = [];
    for (const { buffer, copy } of kept) {
      if (!buffer.equals(copy)) throw new Error("a kept buffer was changed");
    }
    this.handler?.onDrain();
  }

  /** Bytes from the peer. */
  feed(bytes: Buffer): void {
    this.handler?.onData(bytes, bytes.length);
  }

  /** The peer is gone. */
  drop(error?: Error): void {
    this.handler?.onClose(error);
  }

  pause(): void {
    this.isPaused = true;
  }

  resume(): void {
    this.isPaused = false;
  }

  end(): void {
    this.isEnded = true;
  }

  destroy(): void {
    this.isEnded = true;
    this.isDestroyed = true;
  }
}

/** One turn of the event loop: what was appended is written. */
export function turn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

/** Turns the event loop until something holds; fails naming it. */
export async function until(what: string, holds: () => boolean): Promise<void> {
  const deadline = performance.now() + 10_000;
  while (!holds()) {
    if (performance.now() > deadline) throw new Error(`did not happen: ${what}`);
    await turn();
  }
}

/** Some turns, after which nothing is left to happen with a memory store. */
export async function settle(turns = 20): Promise<void> {
  for (let i = 0; i < turns; i++) await turn();
}

export interface WorldOptions {
  settings?: Partial<SessionSettings>;
  store?: Store;
  plugins?: readonly Plugin[];
  random?: () => number;
  overlappingOnce?: boolean;
}

export interface HookEvent {
  hook: string;
  args: Record<string, unknown>;
}

const EVENTS = [
  "on_client_wakeup",
  "on_client_offline",
  "on_client_gone",
  "on_session_expired",
  "on_message_drop",
  "on_offline_message",
  "on_topic_unsubscribed",
] as const;

export interface SendOptions {
  qos?: number;
  retain?: boolean;
  /** Seconds from now. */
  expiryS?: number;
  mountpoint?: string;
}

export class World {
  readonly core: Core;
  readonly events: HookEvent[] = [];
  readonly logLines: Record<string, unknown>[] = [];
  wallMs = 1_700_000_000_000;

  constructor(options: WorldOptions = {}) {
    const store = options.store ?? new MemoryStore();
    const counters = new Counters();
    const random = options.random ?? (() => 0);
    const hooks = new HookRegistry((plugin, hook, failure) => {
      this.events.push({ hook: "failure", args: { plugin, hook, failure } });
    });
    const router = new Router(store, counters, {
      topicDepthMax: 10,
      overlappingOnce: options.overlappingOnce === true,
      random,
    });
    const wheel = new ManualWheel();
    const core = {
      store,
      cluster: singleNode("test@127.0.0.1"),
      router,
      hooks,
      counters,
      wheel,
      publishTimer: new PublishTimer(counters.publishLatency, wheel.nowMs),
      early: new Set<Session>(),
      flusher: new Flusher(),
      commits: new Commits(store),
      log: createLogger({
        level: "debug",
        format: "json",
        destination: { write: (line) => this.logLines.push(JSON.parse(line)) },
      }),
      tracer: undefined,
      topicCounts: undefined,
      settings: { ...defaultSettings(), ...options.settings },
      random,
      wallMs: () => this.wallMs,
    };
    this.core = Object.assign(core, { manager: undefined as unknown as SessionManager });
    Object.assign(this.core, { manager: new SessionManager(this.core) });
    const recorder = {
      name: "recorder",
      hooks: Object.fromEntries(
        EVENTS.map((hook) => [
          hook,
          (args: object) => void this.events.push({ hook, args: { ...args } }),
        ]),
      ),
    };
    hooks.enableAll([recorder as Plugin, ...(options.plugins ?? [])]);
  }

  /** Opens the store and brings back what is in it. */
  async start(): Promise<this> {
    await this.core.store.open();
    await this.core.manager.restore();
    await this.core.router.retained.load();
    return this;
  }

  /** Both clocks go on. */
  advance(ms: number): void {
    this.wallMs += ms;
    this.core.wheel.advance(this.core.wheel.nowMs + ms);
  }

  /** A message from nobody in particular; returns what the router returns. */
  publish(topic: string, payload: string | Buffer, options: SendOptions = {}): number {
    const { qos = 0, retain = false, expiryS, mountpoint = "" } = options;
    const message = new Message(
      mountpoint,
      topic,
      Buffer.from(payload),
      qos,
      retain,
      undefined,
      expiryS === undefined ? 0 : this.wallMs + expiryS * 1000,
    );
    const { router } = this.core;
    const route = router.mount(mountpoint).lookupText(topic);
    return retain
      ? router.publishRetained(route, message, undefined, this.wallMs)
      : router.publish(route, message, undefined);
  }

  publishSeries(topic: string, from: number, to: number, options: SendOptions = {}): void {
    for (let i = from; i <= to; i++) this.publish(topic, String(i), options);
  }

  find(clientId: string, mountpoint = ""): Subscriber {
    const found = this.core.manager.find(mountpoint, clientId);
    if (found === undefined) throw new Error(`no subscriber ${clientId}`);
    return found;
  }

  has(clientId: string, mountpoint = ""): boolean {
    return this.core.manager.find(mountpoint, clientId) !== undefined;
  }

  hooksNamed(hook: string): Record<string, unknown>[] {
    return this.events.filter((event) => event.hook === hook).map(({ args }) => args);
  }

  /** A connection that has sent nothing yet. */
  open(version: Version, listener: Partial<ListenerSettings> = {}): TestClient {
    return new TestClient(this, version, listener);
  }

  /** A connected client. */
  async connect(
    clientId: string,
    options: ConnectOptions & { version?: Version; listener?: Partial<ListenerSettings> } = {},
  ): Promise<TestClient> {
    const { version = 5, listener, ...rest } = options;
    const client = this.open(version, listener);
    client.send(encodeConnect(version, { clientId, keepAlive: 0, ...rest }));
    await until(`${clientId} has an answer`, () => client.count("connack") > 0 || client.isEnded);
    return client;
  }
}

let cachedSettings: SessionSettings | undefined;

/** What a broker has without a configuration file, open to all. */
export function defaultSettings(): SessionSettings {
  if (cachedSettings !== undefined) return cachedSettings;
  const { config, errors } = loadConfig({ isEmbedded: true, values: { allow_anonymous: "on" } });
  if (config === undefined) throw new Error(errors.join("\n"));
  cachedSettings = sessionSettings(config);
  return cachedSettings;
}

/** CONNECT options of a client whose session stays. */
export function staying(expiryS = 3600, more: Properties = {}): ConnectOptions {
  return { clean: false, properties: { sessionExpiryInterval: expiryS, ...more } };
}

/** The far end of one session. */
export class TestClient {
  readonly transport: FakeTransport;
  readonly session: Session;
  readonly version: Version;
  private seen = 0;
  private rest: Buffer = Buffer.alloc(0);
  private readonly all: Packet[] = [];
  private taken = 0;

  constructor(world: World, version: Version, listener: Partial<ListenerSettings>) {
    this.version = version;
    this.transport = new FakeTransport(listener);
    this.session = new Session(world.core, this.transport);
    this.transport.start(this.session);
  }

  get isEnded(): boolean {
    return this.transport.isEnded;
  }

  /** Bytes that come in one read. */
  send(...frames: Buffer[]): void {
    this.transport.feed(Buffer.concat(frames));
  }

  publish(options: PublishOptions): void {
    this.send(encodePublish(this.version, options));
  }

  async subscribe(...filters: (Filter | string)[]): Promise<Packet> {
    const asked = filters.map((one) => (typeof one === "string" ? { filter: one, qos: 2 } : one));
    return this.subscribeWith({}, ...asked);
  }

  async subscribeWith(properties: Properties, ...filters: Filter[]): Promise<Packet> {
    const before = this.count("suback");
    this.send(encodeSubscribe(this.version, 1, filters, properties));
    await until("SUBACK", () => this.count("suback") > before || this.isEnded);
    const found = this.packets.filter(({ type }) => type === "suback").at(-1);
    if (found === undefined) throw new Error("no SUBACK");
    return found;
  }

  ack(type: "puback" | "pubrec" | "pubrel" | "pubcomp", packetId: number, code = 0): void {
    this.send(encodeAck(type, packetId, code === 0 ? undefined : code));
  }

  /** Everything received so far. */
  get packets(): readonly Packet[] {
    const { writes } = this.transport;
    if (this.seen < writes.length) {
      this.rest = Buffer.concat([this.rest, ...writes.slice(this.seen)]);
      this.seen = writes.length;
    }
    for (let cut = cutPacket(this.rest); cut !== undefined; cut = cutPacket(this.rest)) {
      this.all.push(decode(cut.raw, this.version));
      this.rest = cut.rest;
    }
    return this.all;
  }

  count(type: Packet["type"]): number {
    return this.packets.filter((packet) => packet.type === type).length;
  }

  /** What came since the last call. */
  take(type?: Packet["type"]): Packet[] {
    const fresh = this.packets.slice(this.taken);
    this.taken = this.packets.length;
    return type === undefined ? fresh : fresh.filter((packet) => packet.type === type);
  }

  /** Receives and acknowledges PUBLISH packets until there are `count` of them. */
  async receive(count: number): Promise<Packet[]> {
    const got: Packet[] = [];
    await until(`${count} messages (${this.session.clientId})`, () => {
      for (const packet of this.take()) {
        if (packet.type === "publish") {
          got.push(packet);
          if (packet.qos === 1) this.ack("puback", packet.packetId ?? 0);
          if (packet.qos === 2) this.ack("pubrec", packet.packetId ?? 0);
        } else if (packet.type === "pubrel") this.ack("pubcomp", packet.packetId ?? 0);
      }
      return got.length >= count;
    });
    return got;
  }

  /** Closes the connection without DISCONNECT. */
  drop(): void {
    this.transport.drop();
  }
}

export function texts(packets: readonly Packet[]): string[] {
  return packets.map((packet) => packet.payload?.toString() ?? "");
}

export function series(from: number, to: number): string[] {
  const step = from <= to ? 1 : -1;
  return Array.from({ length: Math.abs(to - from) + 1 }, (_, i) => String(from + i * step));
}
