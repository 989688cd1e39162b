// One publisher: numbered messages out, acknowledgements in.
import { encodePublish, HEAD, type PublishTemplate, TYPE } from "./codec.ts";
import type { Connection } from "./connection.ts";
import type { Histogram } from "./histogram.ts";
import { type RunPlan, topicOf } from "./run-state.ts";

/** Bytes of one publisher given to its connection before somebody else has a turn. */
const BATCH_BYTES = 256 << 10;

const FREE = 0;
const SENT = 1;
const RELEASED = 2; // PUBREL sent, PUBCOMP awaited

/** What the publishers of a shard count together. */
export interface PublisherFigures {
  sent: number;
  inflight: number;
  rejected: number;
  oddAcks: number;
  lastSendMs: number;
  lastAckMs: number;
  readonly ackUs: Histogram;
}

/** The rest of a payload after its stamp. */
export function filler(bytes: number): Buffer {
  const out = Buffer.allocUnsafe(bytes);
  for (let i = 0; i < bytes; i++) out[i] = 97 + (i % 26);
  return out;
}

/** State of one publisher. A payload begins with: run, publisher, sequence, 0, microseconds, 0. */
export class Publisher {
  connection: Connection | undefined;
  isReady = false;
  isQueued = false;
  /** Messages in flight at most; the broker's receive maximum may lower it. */
  window: number;
  inflight = 0;
  sequence = 0;
  readonly index: number;
  /** Messages that it has to send. */
  readonly quota: number;
  readonly template: PublishTemplate;
  readonly #qos: number;
  readonly #version: number;
  readonly #figures: PublisherFigures;
  readonly #sequences: Uint32Array;
  // free packet identifiers, oldest first: an early reuse would hide a late acknowledgement
  readonly #freeIds: Uint16Array;
  #firstFree = 0;
  readonly #states: Uint8Array;
  readonly #sentUs: Uint32Array;

  constructor(plan: RunPlan, index: number, figures: PublisherFigures) {
    const { options } = plan;
    const payload = filler(options.size);
    payload.fill(0, 0, 24);
    payload.writeUInt32LE(plan.magic, 0);
    payload.writeUInt32LE(index, 4);
    this.index = index;
    this.template = encodePublish(options.version, options.qos, topicOf(options, index), payload);
    this.window = options.window;
    this.#qos = options.qos;
    this.#version = options.version;
    this.#figures = figures;
    this.#sequences = new Uint32Array(plan.sequences);
    // the first publishers take what does not divide evenly
    const share = Math.floor(options.messages / options.pubs);
    this.quota = share + (index < options.messages % options.pubs ? 1 : 0);
    const ids = options.qos ? Math.min(65535, options.window * 4 + 64) : 0;
    this.#freeIds = Uint16Array.from({ length: ids }, (_, i) => i + 1);
    this.#states = new Uint8Array(ids + 1);
    this.#sentUs = new Uint32Array(ids + 1);
  }

  get maySend(): boolean {
    return (
      this.isReady &&
      this.sequence < this.quota &&
      this.connection?.isBlocked === false &&
      (this.#qos === 0 || this.inflight < this.window)
    );
  }

  /** Gives a big batch to the socket at once; it may say that it has enough. */
  flushIfFull(): void {
    const connection = this.connection;
    if (connection !== undefined && connection.pendingBytes >= BATCH_BYTES) connection.flush();
  }

  /** Sends up to `wanted` messages, stamped with one time; gives how many went. */
  fill(wanted: number, nowMs: number, nowUs: number): number {
    const connection = this.connection;
    if (connection === undefined) return 0;
    let count = Math.min(wanted, this.quota - this.sequence);
    if (this.#qos) count = Math.min(count, this.window - this.inflight);
    const { bytes } = this.template;
    count = Math.min(count, Math.ceil(BATCH_BYTES / bytes.length));
    let at = connection.reserve(bytes.length * count);
    for (let i = 0; i < count; i++, at += bytes.length) this.#put(connection.out, at, nowUs);
    this.#sequences[this.index] = this.sequence;
    const figures = this.#figures;
    figures.sent += count;
    if (this.#qos) figures.inflight += count;
    figures.lastSendMs = nowMs;
    return count;
  }

  #put(out: Buffer, at: number, nowUs: number): void {
    const { bytes, idOffset, payloadOffset } = this.template;
    out.set(bytes, at);
    putUint32(out, at + payloadOffset + 8, this.sequence++);
    putUint32(out, at + payloadOffset + 16, nowUs);
    if (this.#qos === 0) return;
    const id = this.#freeIds[this.#firstFree] ?? 0;
    if (++this.#firstFree === this.#freeIds.length) this.#firstFree = 0;
    out[at + idOffset] = id >> 8;
    out[at + idOffset + 1] = id & 255;
    this.#sentUs[id] = nowUs;
    this.#states[id] = SENT;
    this.inflight++;
  }

  /** One packet from the broker; gives what is wrong with it. */
  onPacket(header: number, bytes: Buffer, start: number, end: number, now: Now) {
    const type = header >> 4;
    if (type !== TYPE.puback && type !== TYPE.pubrec && type !== TYPE.pubcomp)
      return `protocol error: packet type ${type} for a publisher`;
    const length = end - start;
    if ((header & 15) !== 0 || length < 2 || (this.#version !== 5 && length !== 2))
      return "protocol error: malformed acknowledgement";
    const id = ((bytes[start] ?? 0) << 8) | (bytes[start + 1] ?? 0);
    this.#onAck(type, id, length > 2 ? (bytes[start + 2] ?? 0) : 0, now);
    return undefined;
  }

  #onAck(type: number, id: number, reason: number, now: Now): void {
    const state = this.#states[id] ?? FREE;
    const isRefused = reason >= 0x80;
    const isDone =
      (this.#qos === 1 && type === TYPE.puback && state === SENT) ||
      (this.#qos === 2 && type === TYPE.pubrec && state === SENT && isRefused) ||
      (this.#qos === 2 && type === TYPE.pubcomp && state === RELEASED);
    if (isDone) {
      if (isRefused) this.#figures.rejected++;
      this.#release(id, now);
    } else if (this.#qos === 2 && type === TYPE.pubrec && state !== FREE) {
      this.#states[id] = RELEASED;
      this.connection?.sendAck(HEAD.pubrel, id);
    } else {
      this.#figures.oddAcks++;
    }
  }

  #release(id: number, now: Now): void {
    const ids = this.#freeIds.length;
    this.#freeIds[(this.#firstFree + ids - this.inflight) % ids] = id;
    this.#states[id] = FREE;
    this.inflight--;
    this.#figures.inflight--;
    this.#figures.lastAckMs = now.ms;
    this.#figures.ackUs.add(now.us - (this.#sentUs[id] ?? 0));
  }
}

/** The time in both units that the flow needs: `ms` of the clock, `us` since the run was planned. */
export interface Now {
  readonly ms: number;
  readonly us: number;
}

function putUint32(out: Buffer, at: number, value: number): void {
  out[at] = value;
  out[at + 1] = value >>> 8;
  out[at + 2] = value >>> 16;
  out[at + 3] = value >>> 24;
}
