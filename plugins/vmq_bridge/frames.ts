/** MQTT frames on their way between the brokers: looked at, rewritten, collected. */
import {
  decodeProperties,
  type HookProperties,
  lengthBytes,
  PUBLISH,
  toHookProperties,
  writeLength,
} from "../../core/plugin-api.ts";

/** Frames up to this are collected in one buffer; larger ones get a buffer of their own. */
const BATCH_BYTES = 65_536;

interface VarInt {
  readonly value: number;
  /** Where what follows it begins. */
  readonly next: number;
}

/** A variable byte integer; undefined = not all of it is there. MQTT 5.0, 1.5.5 */
export function lengthAt(bytes: Buffer, at: number): VarInt | undefined {
  let value = 0;
  for (let i = 0; i < 4; i++) {
    const byte = bytes[at + i];
    if (byte === undefined) return undefined;
    value += (byte & 0x7f) << (7 * i);
    if (byte < 128) return { value, next: at + i + 1 };
  }
  throw new Error("malformed length of a packet");
}

/** What a PUBLISH says, as positions in its frame. */
export interface PublishFrame {
  readonly bytes: Buffer;
  readonly end: number;
  readonly qos: number;
  readonly retain: boolean;
  readonly dup: boolean;
  readonly topic: string;
  /** 0 for QoS 0. */
  readonly packetId: number;
  /** Properties without their length; equal for MQTT 3. */
  readonly propertiesStart: number;
  readonly propertiesEnd: number;
}

export function readPublish(
  bytes: Buffer,
  start: number,
  body: number,
  end: number,
  isV5: boolean,
): PublishFrame {
  const header = bytes[start] as number;
  const qos = (header >> 1) & 3;
  const topicEnd = body + 2 + bytes.readUInt16BE(body);
  const idEnd = topicEnd + (qos > 0 ? 2 : 0);
  if (qos > 2 || idEnd > end) throw new Error("malformed PUBLISH");
  let propertiesStart = idEnd;
  let propertiesEnd = idEnd;
  if (isV5) {
    const head = lengthAt(bytes, idEnd);
    if (head === undefined || head.next + head.value > end) throw new Error("malformed PUBLISH");
    propertiesStart = head.next;
    propertiesEnd = head.next + head.value;
  }
  return {
    bytes,
    end,
    qos,
    retain: (header & 1) === 1,
    dup: (header & 8) === 8,
    topic: bytes.toString("utf8", body + 2, topicEnd),
    packetId: qos > 0 ? bytes.readUInt16BE(topicEnd) : 0,
    propertiesStart,
    propertiesEnd,
  };
}

/** Properties of a PUBLISH under their plugin names. MQTT 5.0, 3.3.2.3 */
export function propertiesOf({
  bytes,
  propertiesStart,
  propertiesEnd,
}: PublishFrame): HookProperties {
  return toHookProperties(decodeProperties(bytes, propertiesStart, propertiesEnd, PUBLISH));
}

/** Most bytes by which a PUBLISH grows with `added`: each of its two lengths may need one more. */
export function growthBy(added: Buffer): number {
  return added.length + 2;
}

/** A copy of whole frames of MQTT 5, the `publishes` among them with `added` behind their properties. */
export function withAdded(frames: Buffer, publishes: number, added: Buffer): Buffer {
  const to = Buffer.allocUnsafe(frames.length + publishes * growthBy(added));
  let from = 0;
  let at = 0;
  while (from < frames.length) {
    const { value, next: body } = lengthAt(frames, from + 1) as VarInt;
    const end = body + value;
    const header = frames[from] as number;
    if (header >> 4 !== PUBLISH) {
      at += frames.copy(to, at, from, end);
    } else {
      const idEnd = body + 2 + frames.readUInt16BE(body) + ((header & 6) === 0 ? 0 : 2);
      const { value: size, next: properties } = lengthAt(frames, idEnd) as VarInt;
      const newSize = size + added.length;
      const growth = lengthBytes(newSize) + newSize - (properties - idEnd) - size;
      to[at] = header;
      at = writeLength(to, at + 1, value + growth);
      at += frames.copy(to, at, body, idEnd);
      at = writeLength(to, at, newSize);
      at += frames.copy(to, at, properties, properties + size);
      at += added.copy(to, at);
      at += frames.copy(to, at, properties + size, end);
    }
    from = end;
  }
  return to.subarray(0, at);
}

/** How a PUBLISH leaves this bridge. */
export interface Rewrite {
  /** The topic as on the wire. */
  readonly topic: Buffer;
  readonly retain: boolean;
  /** Added behind the message's properties; MQTT 5 only. */
  readonly added: Buffer | undefined;
}

/** Collects whole frames until they are handed on together. */
export class FrameBatch {
  private bytes = Buffer.allocUnsafe(BATCH_BYTES);
  private length = 0;
  private readonly take: (bytes: Buffer, length: number) => void;

  constructor(take: (bytes: Buffer, length: number) => void) {
    this.take = take;
  }

  /** A frame as it is. */
  add(bytes: Buffer, start: number, end: number): void {
    const at = this.reserve(end - start);
    bytes.copy(this.bytes, at, start, end);
  }

  addPublish(frame: PublishFrame, isV5: boolean, rewrite: Rewrite): void {
    const { bytes, end, qos, dup, packetId, propertiesStart, propertiesEnd } = frame;
    const { topic, retain, added } = rewrite;
    const propertyBytes = propertiesEnd - propertiesStart + (added?.length ?? 0);
    const remaining =
      2 +
      topic.length +
      (qos > 0 ? 2 : 0) +
      (isV5 ? lengthBytes(propertyBytes) + propertyBytes : 0) +
      (end - propertiesEnd);
    let at = this.reserve(1 + lengthBytes(remaining) + remaining);
    const to = this.bytes;
    to[at] = (PUBLISH << 4) | (dup ? 8 : 0) | (qos << 1) | (retain ? 1 : 0);
    at = writeLength(to, at + 1, remaining);
    at = to.writeUInt16BE(topic.length, at);
    at += topic.copy(to, at);
    if (qos > 0) at = to.writeUInt16BE(packetId, at);
    if (isV5) {
      at = writeLength(to, at, propertyBytes);
      at += bytes.copy(to, at, propertiesStart, propertiesEnd);
      if (added !== undefined) at += added.copy(to, at);
    }
    bytes.copy(to, at, propertiesEnd, end);
  }

  private reserve(size: number): number {
    if (this.length + size > this.bytes.length) {
      this.flush();
      if (size > this.bytes.length) this.bytes = Buffer.allocUnsafe(size);
    }
    const at = this.length;
    this.length += size;
    return at;
  }

  /** Hands on what there is. */
  flush(): void {
    const { bytes, length } = this;
    if (length === 0) return;
    this.length = 0;
    this.take(bytes, length);
    if (this.bytes.length > BATCH_BYTES) this.bytes = Buffer.allocUnsafe(BATCH_BYTES);
  }

  /** Forgets what there is. */
  clear(): void {
    this.length = 0;
  }
}

/** PUBACK or PUBREC with success. */
export function encodeAck(type: number, packetId: number): Buffer {
  return Buffer.from([type << 4, 2, packetId >>> 8, packetId & 0xff]);
}
