/** Messages that come around: found by the brokers they passed (MQTT 5), or by what they say (MQTT 3). */
import { createHash } from "node:crypto";
import { encodeProperties, type HookProperties, type MessageView } from "../../core/plugin-api.ts";
import { type PublishFrame, propertiesOf } from "./frames.ts";
import type { BridgeSettings } from "./settings.ts";

/** User property with the id of a broker that a message passed; one for each, in order. */
const PATH_PROPERTY = "nautilus-bridge-path";
/** A broker with bridges tells its id here, retained. */
export const IDENTITY_TOPIC = "$SYS/bridge/broker";
/** A message that passed more brokers is taken for one that circulates. */
const HOPS_MAX = 10;
/** Payloads above are compared by their hash. */
const TEXT_BYTES_MAX = 64;

/** What the guard asks a bridge. */
export type GuardedBridge = Pick<BridgeSettings, "name" | "version" | "loopProtection">;

export interface LoopGuardOptions {
  /** Unique among the brokers that are bridged. */
  readonly brokerId: string;
  nowMs(): number;
}

/** One per broker: all its bridges see the same messages. */
export class LoopGuard {
  readonly brokerId: string;
  /** This broker's user property, as on the wire: what goes out by MQTT 5 has it behind the others. */
  readonly own: Buffer;
  private readonly arrivals: Recent<Arrival>;
  private readonly passed: Recent<true>;

  constructor({ brokerId, nowMs }: LoopGuardOptions) {
    this.brokerId = brokerId;
    this.own = encodePath(brokerId);
    this.arrivals = new Recent(60_000, nowMs);
    this.passed = new Recent(10_000, nowMs);
  }

  /** A message of this broker may go out: it does not come around. */
  outgoing(settings: GuardedBridge, message: MessageView): boolean {
    const { loopProtection, version, name } = settings;
    if (loopProtection === "off") return true;
    if (version < 5) {
      return loopProtection === "auto" || this.passes(name, message.topic, message.payload);
    }
    const path = pathOf(message.properties);
    return !path.includes(this.brokerId) && path.length < HOPS_MAX;
  }

  /** A message of the remote broker that would come in as `topic`. Gives the property to add. */
  incoming(
    settings: GuardedBridge,
    frame: PublishFrame,
    topic: string,
    remoteId: string | undefined,
  ): "loop" | Buffer | undefined {
    const { loopProtection, version, name } = settings;
    if (loopProtection === "off") return undefined;
    const payload = frame.bytes.subarray(frame.propertiesEnd, frame.end);
    if (version < 5) {
      if (loopProtection === "auto") return undefined;
      return this.passes(name, topic, payload) ? undefined : "loop";
    }
    const path = pathOf(propertiesOf(frame));
    const isNew = remoteId !== undefined && path.at(-1) !== remoteId;
    if (isNew) path.push(remoteId);
    if (!this.arrives(path, `bridge ${name}`, topic, payload)) return "loop";
    return isNew ? encodePath(remoteId) : undefined;
  }

  /** A message that another broker's bridge publishes here; false = it was here already. */
  pushed(
    clientId: string,
    topic: string,
    message: { readonly properties: HookProperties; readonly payload: Buffer },
  ): boolean {
    const path = pathOf(message.properties);
    return path.length === 0 || this.arrives(path, `client ${clientId}`, topic, message.payload);
  }

  /**
   * A message that passed other brokers may come by several ways. The n-th time that one of them brings
   * it, it is new if no other one brought it n times: so repeated messages are not lost.
   */
  private arrives(path: readonly string[], way: string, topic: string, payload: Buffer): boolean {
    if (path.includes(this.brokerId) || path.length > HOPS_MAX) return false;
    const origin = path[0];
    if (origin === undefined) return true;
    const key = keyOf(origin, topic, payload);
    const arrival = this.arrivals.get(key) ?? { count: 0, byWay: new Map<string, number>() };
    const times = (arrival.byWay.get(way) ?? 0) + 1;
    arrival.byWay.set(way, times);
    this.arrivals.set(key, arrival);
    if (times <= arrival.count) return false;
    arrival.count = times;
    return true;
  }

  /** MQTT 3: true for the first of equal messages within some seconds. */
  private passes(bridge: string, topic: string, payload: Buffer): boolean {
    const key = keyOf(bridge, topic, payload);
    if (this.passed.get(key) === true) return false;
    this.passed.set(key, true);
    return true;
  }
}

/**
 * What a remote broker sends back because it takes us for a client like others (MQTT 3 without
 * `try_private`): it must, once for each message that one of our own subscriptions there matches. So as
 * many are dropped as were sent, and nothing else.
 */
export class Echoes {
  private readonly expected: Recent<number>;

  constructor(nowMs: () => number) {
    this.expected = new Recent(60_000, nowMs);
  }

  sent(frame: PublishFrame): void {
    const key = echoKey(frame);
    this.expected.set(key, (this.expected.get(key) ?? 0) + 1);
  }

  isEcho(frame: PublishFrame): boolean {
    const key = echoKey(frame);
    const count = this.expected.get(key) ?? 0;
    if (count === 0) return false;
    this.expected.set(key, count - 1);
    return true;
  }
}

function echoKey({ bytes, topic, propertiesEnd, end }: PublishFrame): string {
  return keyOf("", topic, bytes.subarray(propertiesEnd, end));
}

interface Arrival {
  count: number;
  readonly byWay: Map<string, number>;
}

function encodePath(brokerId: string): Buffer {
  return encodeProperties({ userProperties: [[PATH_PROPERTY, brokerId]] });
}

function pathOf(properties: HookProperties): string[] {
  const path: string[] = [];
  for (const { key, val } of properties.p_user_property ?? []) {
    if (key === PATH_PROPERTY) path.push(val);
  }
  return path;
}

function keyOf(scope: string, topic: string, payload: Buffer): string {
  const text =
    payload.length <= TEXT_BYTES_MAX
      ? payload.toString("latin1")
      : createHash("sha256").update(payload).digest("base64");
  return `${scope}\0${topic}\0${text}`;
}

const RECENT_MAX = 20_000;

/** What was used within some time, oldest first; the oldest goes when there is too much. */
class Recent<V> {
  private readonly keptMs: number;
  private readonly nowMs: () => number;
  private readonly entries = new Map<string, { value: V; atMs: number }>();

  constructor(keptMs: number, nowMs: () => number) {
    this.keptMs = keptMs;
    this.nowMs = nowMs;
  }

  get(key: string): V | undefined {
    const found = this.entries.get(key);
    if (found === undefined || found.atMs + this.keptMs < this.nowMs()) return undefined;
    return found.value;
  }

  set(key: string, value: V): void {
    this.entries.delete(key);
    this.entries.set(key, { value, atMs: this.nowMs() });
    for (const [oldest, { atMs }] of this.entries) {
      if (this.entries.size <= RECENT_MAX && atMs + this.keptMs >= this.nowMs()) break;
      this.entries.delete(oldest);
    }
  }
}
