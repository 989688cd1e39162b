/** MQTT frames on their way between the brokers: cut out of the stream, looked at, rewritten. */
import type { HookProperties } from "../../core/plugin-api.ts";

export const CONNECT = 1;
export const CONNACK = 2;
export const PUBLISH = 3;
export const PUBACK = 4;
export const PUBREC = 5;
export const PUBREL = 6;
export const PUBCOMP = 7;
export const DISCONNECT = 14;

/** Frames up to this are collected in one buffer; larger ones get a buffer of their own. */
const BATCH_BYTES = 65_536;

/** A frame at `start`..`end` of `bytes`; its content begins at `body`. */
export type FrameHandler = (bytes: Buffer, start: number, body: number, end: number) => void;

/**
 * Cuts a stream of bytes into frames. The handler may `stop` it: what follows is kept until `resume`.
 */
export class FrameReader {
  private readonly handle: FrameHandler;
  private kept: Buffer[] = [];
  private keptBytes = 0;
  /** Bytes that the frame at the head of `kept` needs, 0 = unknown. */
  private needed = 0;
  private isStopped = false;
  private isReading = false;

  constructor(handle: FrameHandler) {
    this.handle = handle;
  }

  push(chunk: Buffer): void {
    this.kept.push(chunk);
    this.keptBytes += chunk.length;
    if (!this.isStopped && this.keptBytes >= this.needed) this.read();
  }

  stop(): void {
    this.isStopped = true;
  }

  resume(): void {
    this.isStopped = false;
    if (!this.isReading && this.keptBytes > 0) this.read();
  }

  private read(): void {
    const bytes = this.kept.length === 1 ? (this.kept[0] as Buffer) : Buffer.concat(this.kept);
    this.kept = [];
    this.keptBytes = 0;
    this.needed = 0;
    this.isReading = true;
    let at = 0;
    while (!this.isStopped && at < bytes.length) {
      const head = lengthAt(bytes, at + 1);
      if (head === undefined) break;
      const end = head.next + head.value;
      if (end > bytes.length) {
        this.needed = end - at;
        break;
      }
      this.handle(bytes, at, head.next, end);
      at = end;
    }
    this.isReading = false;
    if (at === bytes.length) return;
    // The socket may use its memory again.
    const rest = Buffer.from(bytes.subarray(at));
    this.kept.unshift(rest);
    this.keptBytes += rest.length;
  }
}

/** A variable byte integer and what follows it; undefined = not all of it is there. MQTT 5.0, 1.5.5 */
export function lengthAt(bytes: Buffer, at: number): { value: number; next: number } | undefined {
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
export function propertiesOf(frame: PublishFrame): HookProperties {
  const { bytes, propertiesEnd: end } = frame;
  const properties: HookProperties = {};
  let at = frame.propertiesStart;
  const binary = (): Buffer => {
    const start = at + 2;
    at = start + bytes.readUInt16BE(at);
    if (at > end) throw new Error("malformed properties of a PUBLISH");
    return bytes.subarray(start, at);
  };
  while (at < end) {
    const id = bytes[at++] as number;
    switch (id) {
      case 0x01:
        properties.p_payload_format_indicator = bytes[at++] === 1 ? "utf8" : "unspecified";
        break;
      case 0x02:
        properties.p_message_expiry_interval = bytes.readUInt32BE(at);
        at += 4;
        break;
      case 0x03:
        properties.p_content_type = binary().toString();
        break;
      case 0x08:
        properties.p_response_topic = binary().toString();
        break;
      case 0x09:
        properties.p_correlation_data = Buffer.from(binary());
        break;
      case 0x0b: // Subscription Identifier: of our own connection only
        at = lengthAt(bytes, at)?.next ?? end;
        break;
      case USER_PROPERTY:
        properties.p_user_property ??= [];
        properties.p_user_property.push({ key: binary().toString(), val: binary().toString() });
        break;
      default:
        throw new Error(`PUBLISH with property ${id}`);
    }
  }
  return properties;
}

const USER_PROPERTY = 0x26;

/** One user property as on the wire. */
export function encodeUserProperty(key: string, value: string): Buffer {
  const [name, text] = [Buffer.from(key), Buffer.from(value)];
  const property = Buffer.allocUnsafe(5 + name.length + text.length);
  property[0] = USER_PROPERTY;
  property.writeUInt16BE(name.length, 1);
  name.copy(property, 3);
  property.writeUInt16BE(text.length, 3 + name.length);
  text.copy(property, 5 + name.length);
  return property;
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

function lengthBytes(value: number): number {
  return value < 128 ? 1 : value < 16_384 ? 2 : value < 2_097_152 ? 3 : 4;
}

function writeLength(to: Buffer, at: number, value: number): number {
  let next = at;
  let rest = value;
  while (rest > 127) {
    to[next++] = (rest & 0x7f) | 0x80;
    rest >>>= 7;
  }
  to[next++] = rest;
  return next;
}
