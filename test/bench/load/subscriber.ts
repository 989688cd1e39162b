// One subscriber: checks every delivery and acknowledges it.
import { HEAD, readVarint, TYPE, varintLength } from "./codec.ts";
import type { Connection } from "./connection.ts";
import type { Histogram } from "./histogram.ts";
import { PAYLOAD_BYTES_MIN } from "./options.ts";
import { filler, type Now } from "./publisher.ts";
import { type RunPlan, topicOf } from "./run-state.ts";
import { SEEN, type SequenceTrack } from "./track.ts";

/** Filters per SUBSCRIBE. */
const FILTERS_PER_SUBSCRIBE = 64;

/** What the subscribers of a shard count together. */
export interface SubscriberFigures {
  received: number;
  dups: number;
  misordered: number;
  misrouted: number;
  bad: number;
  foreign: number;
  redelivered: number;
  oddReleases: number;
  lastReceiveMs: number;
  readonly latencyUs: Histogram;
}

/** Where the parts of a PUBLISH are. */
interface Packet {
  bytes: Buffer;
  topicAt: number;
  topicEnd: number;
  payloadAt: number;
  end: number;
}

/** What all subscribers of a shard check against. */
export class DeliveryCheck {
  readonly figures: SubscriberFigures;
  readonly #plan: RunPlan;
  readonly #sequences: Uint32Array;
  readonly #topics: readonly Buffer[];
  readonly #filler: Buffer;

  constructor(plan: RunPlan, figures: SubscriberFigures) {
    const { options } = plan;
    this.figures = figures;
    this.#plan = plan;
    this.#sequences = new Uint32Array(plan.sequences);
    this.#topics = Array.from({ length: options.pubs }, (_, i) => Buffer.from(topicOf(options, i)));
    this.#filler = filler(options.size).subarray(PAYLOAD_BYTES_MIN);
  }

  /** Checks one delivery to the subscriber of publishers `base .. base + count - 1`. */
  deliver(
    packet: Packet,
    qos: number,
    wants: { base: number; count: number; track: SequenceTrack },
    now: Now,
  ): void {
    const { figures } = this;
    const { options, magic } = this.#plan;
    const { bytes, payloadAt, end } = packet;
    const length = end - payloadAt;
    if (length < PAYLOAD_BYTES_MIN || uint32(bytes, payloadAt) !== magic) {
      figures.foreign++;
      return;
    }
    const publisher = uint32(bytes, payloadAt + 4);
    const sequence = uint32(bytes, payloadAt + 8);
    const known = this.#sequences[publisher] ?? 0;
    if (length !== options.size || qos !== options.qos || sequence >= known) {
      figures.bad++;
      return;
    }
    if (options.verify && this.#filler.compare(bytes, payloadAt + PAYLOAD_BYTES_MIN, end) !== 0) {
      figures.bad++;
      return;
    }
    const slot = publisher - wants.base;
    const topic = this.#topics[publisher];
    if (slot < 0 || slot >= wants.count || !topic || !isTopic(topic, packet)) {
      figures.misrouted++;
      return;
    }
    const seen = wants.track.record(slot, sequence);
    if (seen === SEEN.already) {
      figures.dups++;
      return;
    }
    // members of a shared subscription have no common order
    if (seen === SEEN.late && options.pattern !== "shared") figures.misordered++;
    figures.received++;
    figures.latencyUs.add(now.us - uint32(bytes, payloadAt + 16));
  }
}

/** State of one subscriber. */
export class Subscriber {
  connection: Connection | undefined;
  /** SUBACKs still to come. */
  awaitedSubacks = 0;
  readonly index: number;
  readonly #plan: RunPlan;
  readonly #check: DeliveryCheck;
  readonly #wants: { base: number; count: number; track: SequenceTrack };
  /** QoS 2 packet identifiers that had a PUBREC and wait for their PUBREL. */
  readonly #unreleased: Uint8Array;
  readonly #packet: Packet = {
    bytes: Buffer.alloc(0),
    topicAt: 0,
    topicEnd: 0,
    payloadAt: 0,
    end: 0,
  };

  constructor(plan: RunPlan, index: number, check: DeliveryCheck, track: SequenceTrack) {
    const { options } = plan;
    this.index = index;
    this.#plan = plan;
    this.#check = check;
    const isPair = options.pattern === "pairs";
    this.#wants = { base: isPair ? index : 0, count: isPair ? 1 : options.pubs, track };
    this.#unreleased = new Uint8Array(options.qos === 2 ? 65536 : 0);
  }

  /** The filters to subscribe to, one list per SUBSCRIBE. */
  filters(): string[][] {
    const { options } = this.#plan;
    if (options.pattern === "fanin") return [[`${options.topicPrefix}/#`]];
    if (options.pattern === "shared") return [[`$share/g/${options.topicPrefix}/#`]];
    const { base, count } = this.#wants;
    const lists: string[][] = [];
    for (let i = 0; i < count; i += FILTERS_PER_SUBSCRIBE) {
      const length = Math.min(FILTERS_PER_SUBSCRIBE, count - i);
      lists.push(Array.from({ length }, (_, k) => topicOf(options, base + i + k)));
    }
    return lists;
  }

  /** One packet from the broker; gives what is wrong with it. */
  onPacket(header: number, bytes: Buffer, start: number, end: number, now: Now) {
    const type = header >> 4;
    if (type === TYPE.publish) return this.#onPublish((header >> 1) & 3, bytes, start, end, now);
    if (type !== TYPE.pubrel || this.#unreleased.length === 0)
      return `protocol error: packet type ${type} for a subscriber`;
    if ((header & 15) !== 2 || end - start < 2) return "protocol error: malformed PUBREL";
    const id = ((bytes[start] ?? 0) << 8) | (bytes[start + 1] ?? 0);
    if (!this.#unreleased[id]) this.#check.figures.oddReleases++;
    this.#unreleased[id] = 0;
    this.connection?.sendAck(HEAD.pubcomp, id);
    return undefined;
  }

  #onPublish(qos: number, bytes: Buffer, start: number, end: number, now: Now) {
    const packet = this.#packet; // one object for all deliveries: this is the hot path
    packet.bytes = bytes;
    packet.end = end;
    packet.topicAt = start + 2;
    packet.topicEnd = packet.topicAt + (((bytes[start] ?? 0) << 8) | (bytes[start + 1] ?? 0));
    let at = packet.topicEnd;
    let id = 0;
    if (qos) {
      id = ((bytes[at] ?? 0) << 8) | (bytes[at + 1] ?? 0);
      at += 2;
    }
    if (this.#plan.options.version === 5) {
      const propertyBytes = readVarint(bytes, at);
      if (propertyBytes < 0) return "protocol error: malformed PUBLISH";
      at += varintLength(bytes, at) + propertyBytes;
    }
    if (at > end || qos === 3 || (qos > 0 && id === 0)) return "protocol error: malformed PUBLISH";
    packet.payloadAt = at;
    if (qos === 2 && this.#unreleased[id]) this.#check.figures.redelivered++;
    else this.#check.deliver(packet, qos, this.#wants, now);
    this.#check.figures.lastReceiveMs = now.ms;
    if (qos === 2) this.#unreleased[id] = 1;
    if (qos) this.connection?.sendAck(qos === 1 ? HEAD.puback : HEAD.pubrec, id);
    return undefined;
  }
}

function isTopic(topic: Buffer, packet: Packet): boolean {
  const { bytes, topicAt } = packet;
  if (packet.topicEnd - topicAt !== topic.length) return false;
  for (let i = topic.length - 1; i >= 0; i--) if (bytes[topicAt + i] !== topic[i]) return false;
  return true;
}

function uint32(bytes: Buffer, at: number): number {
  const low = (bytes[at] ?? 0) | ((bytes[at + 1] ?? 0) << 8) | ((bytes[at + 2] ?? 0) << 16);
  return (low | ((bytes[at + 3] ?? 0) << 24)) >>> 0;
}
