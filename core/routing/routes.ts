import { isUtf8 } from "node:buffer";
import { MqttError } from "../mqtt/packets.ts";
import { validateTopic } from "../mqtt/topics.ts";
import type { Receiver, Subscription } from "./subscription.ts";
import { Trie } from "./trie.ts";

/** Members of one shared subscription that match a topic. */
export interface SharedGroup {
  readonly name: string;
  readonly members: Subscription[];
}

/** Topic and everyone who gets it: the cached answer of the tree. */
export class Route {
  readonly topic: string;
  /** The topic as on the wire. */
  readonly bytes: Buffer;
  /** First level is `$...`: clients may not publish here. */
  readonly isReserved: boolean;
  receivers: Subscription[];
  groups: SharedGroup[] | undefined;
  /** Generation of the tables it was computed from; stale when they moved on. */
  generation: number;

  constructor(topic: string, bytes: Buffer) {
    this.topic = topic;
    this.bytes = bytes;
    this.isReserved = topic.startsWith("$");
    this.receivers = [];
    this.groups = undefined;
    this.generation = -1;
  }
}

/** Topics kept per generation of the cache; two generations, so at most twice as many. */
const CACHE_TOPICS_MAX = 32_768;

/**
 * Subscriptions and cached routes of one mountpoint. A route is recomputed when a subscription that
 * could match it changed: one with the same first level, or one that begins with a wildcard.
 */
export class Mount {
  readonly name: string;
  readonly trie = new Trie();
  private readonly topicDepthMax: number;
  private readonly isOnce: boolean;
  /** Topic bytes as latin1 string -> route; the raw bytes are the key so that a hit decodes nothing. */
  private recent = new Map<string, Route>();
  private older = new Map<string, Route>();
  private generation = 0;

  constructor(name: string, topicDepthMax: number, overlappingOnce: boolean) {
    this.name = name;
    this.topicDepthMax = topicDepthMax;
    this.isOnce = overlappingOnce;
  }

  add(subscription: Subscription): void {
    this.trie.add(subscription);
    this.invalidate(subscription.match);
  }

  remove(subscription: Subscription): void {
    this.trie.remove(subscription);
    this.invalidate(subscription.match);
  }

  /** Route of a topic in a packet. Throws MqttError for a topic that is not allowed. */
  lookup(buffer: Buffer, start: number, end: number): Route {
    const key = buffer.latin1Slice(start, end);
    const known = this.recent.get(key) ?? this.revive(key);
    if (known !== undefined) return known.generation === this.generation ? known : this.fill(known);
    const bytes = Buffer.from(buffer.subarray(start, end));
    if (!isUtf8(bytes)) throw new MqttError(0x81, "topic is not UTF-8", "MQTT-3.3.2-1");
    return this.learn(key, bytes.toString("utf8"), bytes);
  }

  /**
   * Route of a topic given as text. `isOwn`: the broker's own messages and wills accepted before, which
   * `topic_max_depth` does not concern. Throws MqttError as `lookup` does.
   */
  lookupText(topic: string, isOwn = false): Route {
    const bytes = Buffer.from(topic);
    const key = bytes.latin1Slice(0, bytes.length);
    const known = this.recent.get(key) ?? this.revive(key);
    if (known !== undefined) return known.generation === this.generation ? known : this.fill(known);
    return this.learn(key, topic, bytes, isOwn);
  }

  /** The route is still right, or is made right (perhaps another object): for callers that kept one. */
  fresh(route: Route): Route {
    if (route.generation === this.generation) return route;
    const key = route.bytes.latin1Slice(0, route.bytes.length);
    const known = this.recent.get(key) ?? this.revive(key);
    if (known === undefined) this.remember(key, route);
    return this.fill(known ?? route);
  }

  isFresh(route: Route): boolean {
    return route.generation === this.generation;
  }

  private learn(key: string, topic: string, bytes: Buffer, isOwn = false): Route {
    const fault = validateTopic(topic, isOwn ? Number.POSITIVE_INFINITY : this.topicDepthMax);
    if (fault !== undefined) throw new MqttError(fault.reasonCode, fault.message, "MQTT-4.7.3-1");
    const route = new Route(topic, bytes);
    this.remember(key, route);
    return this.fill(route);
  }

  private revive(key: string): Route | undefined {
    const route = this.older.get(key);
    if (route !== undefined) this.remember(key, route);
    return route;
  }

  private remember(key: string, route: Route): void {
    if (this.recent.size >= CACHE_TOPICS_MAX) {
      // Whoever kept a route that leaves the cache must ask again: changes no longer reach it.
      for (const [old, gone] of this.older) if (this.recent.get(old) !== gone) gone.generation = -1;
      this.older = this.recent;
      this.recent = new Map();
    }
    this.recent.set(key, route);
  }

  private fill(route: Route): Route {
    const receivers: Subscription[] = [];
    let groups: Map<string, SharedGroup> | undefined;
    for (const subscription of this.trie.match(route.topic)) {
      if (subscription.group === "") {
        receivers.push(subscription);
        continue;
      }
      groups ??= new Map();
      // One group is one (name, filter) pair. MQTT 5.0, 4.8.2
      const group = groups.get(subscription.filter);
      if (group === undefined) {
        groups.set(subscription.filter, { name: subscription.filter, members: [subscription] });
      } else {
        group.members.push(subscription);
      }
    }
    route.receivers = this.isOnce ? mergeBySubscriber(receivers) : receivers;
    route.groups = groups === undefined ? undefined : [...groups.values()];
    route.generation = this.generation;
    return route;
  }

  private invalidate(match: string): void {
    const wild = match.includes("+") || match.includes("#");
    if (wild) {
      this.generation++;
      return;
    }
    const bytes = Buffer.from(match);
    const key = bytes.latin1Slice(0, bytes.length);
    for (const route of [this.recent.get(key), this.older.get(key)]) {
      if (route !== undefined) route.generation = -1;
    }
  }
}

/** `overlapping_subscriptions = once`: one copy per subscriber, highest QoS, all identifiers. */
function mergeBySubscriber(subscriptions: Subscription[]): Subscription[] {
  const merged = new Map<Receiver, Subscription>();
  for (const subscription of subscriptions) {
    const other = merged.get(subscription.receiver);
    if (other === undefined) {
      merged.set(subscription.receiver, subscription);
      continue;
    }
    const ids = [...(other.ids ?? []), ...(subscription.ids ?? [])];
    merged.set(subscription.receiver, {
      ...other,
      qos: Math.max(other.qos, subscription.qos),
      noLocal: other.noLocal && subscription.noLocal,
      retainAsPublished: other.retainAsPublished || subscription.retainAsPublished,
      ids: ids.length > 0 ? ids : undefined,
    });
  }
  return [...merged.values()];
}
