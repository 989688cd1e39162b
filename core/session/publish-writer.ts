import { copyBytes, lengthBytes, type Message, writeLength } from "../mqtt/message.ts";
import type { Core } from "./core.ts";
import { COPY_MAX, type Outbox } from "./outbox.ts";

/** What a client takes. */
export interface FrameLimits {
  readonly isV5: boolean;
  /** Maximum Packet Size. */
  readonly packetBytesMax: number;
  /** Topic Alias Maximum. */
  readonly aliasMax: number;
}

const NO_LIMITS: FrameLimits = {
  isV5: false,
  packetBytesMax: Number.POSITIVE_INFINITY,
  aliasMax: 0,
};

/** Writes PUBLISH frames of one connection. */
export class PublishWriter {
  limits: FrameLimits = NO_LIMITS;
  /** PUBLISH packets sent. */
  sent = 0;
  private readonly core: Core;
  private readonly outbox: Outbox;
  private aliases: Map<string, number> | undefined;

  constructor(core: Core, outbox: Outbox) {
    this.core = core;
    this.outbox = outbox;
  }

  /** False when the frame exceeds the client's Maximum Packet Size: nothing was written. */
  write(
    message: Message,
    layout: number,
    first: number,
    packetId: number,
    ids: readonly number[] | undefined,
  ): boolean {
    if (
      this.limits.isV5 &&
      (ids !== undefined || message.expiresAtMs !== 0 || this.limits.aliasMax > 0)
    ) {
      return this.writeTailored(message, first, packetId, ids);
    }
    let buffer = message.source;
    let start = message.sourceStart;
    let end = message.sourceEnd;
    if (message.sourceLayout !== layout) {
      buffer = message.frame(layout);
      start = 0;
      end = buffer.length;
    }
    const size = end - start;
    if (size > this.limits.packetBytesMax) return false;
    if (size > COPY_MAX) {
      this.writeLarge(message, layout, first, packetId);
      return true;
    }
    const at = this.outbox.reserve(size);
    const chunk = this.outbox.chunk as Buffer;
    copyBytes(buffer, start, end, chunk, at);
    chunk[at] = first;
    if (packetId !== 0) {
      const idAt = at + headBytes(size) + 2 + message.topicLength();
      chunk[idAt] = packetId >>> 8;
      chunk[idAt + 1] = packetId & 0xff;
    }
    this.count(1);
    return true;
  }

  /** Head per receiver, payload shared by all. */
  private writeLarge(message: Message, layout: number, first: number, packetId: number): void {
    message.own();
    const whole = message.sourceLayout === layout ? message.source : message.frame(layout);
    const head = Buffer.from(whole.subarray(0, whole.length - message.payloadBytes));
    head[0] = first;
    if (packetId !== 0) {
      head.writeUInt16BE(packetId, headBytes(whole.length) + 2 + message.topicLength());
    }
    this.outbox.append(head);
    this.outbox.appendLarge(message.payload);
    this.count(1);
  }

  /** A frame of its own: subscription identifiers, remaining expiry, topic alias. */
  private writeTailored(
    message: Message,
    first: number,
    packetId: number,
    ids: readonly number[] | undefined,
  ): boolean {
    const known = this.aliases?.get(message.topic);
    const fresh =
      known === undefined && (this.aliases?.size ?? 0) < this.limits.aliasMax
        ? (this.aliases?.size ?? 0) + 1
        : 0;
    const alias = known ?? fresh;
    const topicBytes = known === undefined ? message.topicLength() : 0;
    const forwarded = message.properties?.length ?? 0;
    let propertyBytes = forwarded + (message.expiresAtMs !== 0 ? 5 : 0) + (alias !== 0 ? 3 : 0);
    for (const id of ids ?? []) propertyBytes += 1 + lengthBytes(id);
    const remaining =
      2 +
      topicBytes +
      (packetId !== 0 ? 2 : 0) +
      lengthBytes(propertyBytes) +
      propertyBytes +
      message.payloadBytes;
    const size = 1 + lengthBytes(remaining) + remaining;
    if (size > this.limits.packetBytesMax) return false;

    const head = Buffer.allocUnsafe(size - message.payloadBytes);
    head[0] = first;
    let at = writeLength(head, 1, remaining);
    at = head.writeUInt16BE(topicBytes, at);
    if (topicBytes > 0) at += head.utf8Write(message.topic, at, topicBytes);
    if (packetId !== 0) at = head.writeUInt16BE(packetId, at);
    at = writeLength(head, at, propertyBytes);
    if (message.properties !== undefined) at += message.properties.copy(head, at);
    if (message.expiresAtMs !== 0) {
      const leftMs = message.expiresAtMs - this.core.wallMs();
      head[at++] = 0x02; // Message Expiry Interval, remaining seconds [MQTT-3.3.2-6]
      at = head.writeUInt32BE(Math.max(1, Math.ceil(leftMs / 1000)), at);
    }
    for (const id of ids ?? []) {
      head[at++] = 0x0b; // Subscription Identifier
      at = writeLength(head, at, id);
    }
    if (alias !== 0) {
      head[at++] = 0x23; // Topic Alias
      at = head.writeUInt16BE(alias, at);
    }
    this.outbox.append(head);
    this.outbox.append(message.payload);
    if (fresh !== 0) {
      this.aliases ??= new Map();
      this.aliases.set(message.topic, fresh);
    }
    this.count(1);
    return true;
  }

  /** Counts frames that were written without `write`. */
  count(frames: number): void {
    this.core.counters.publishSent[this.limits.isV5 ? 1 : 0] += frames;
    this.sent += frames;
  }
}

/** Bytes of the fixed header of a frame of `size` bytes. */
function headBytes(size: number): number {
  return size <= 129 ? 2 : size <= 16_386 ? 3 : size <= 2_097_155 ? 4 : 5;
}
