declare global {
  // Present in every Node version; missing in the type declarations.
  interface Buffer {
    latin1Slice(start: number, end: number): string;
    utf8Write(text: string, offset: number, length: number): number;
  }
}

/** Layout of an encoded PUBLISH frame: by protocol (3.x or 5) and by the presence of a packet id. */
export const FRAME_V4 = 0;
export const FRAME_V4_ID = 1;
export const FRAME_V5 = 2;
export const FRAME_V5_ID = 3;
/** The message was not read as a frame that any receiver could take as it is. */
export const FRAME_NONE = -1;

/**
 * Small messages share slabs, as Node's own small buffers do, but without an object each. A slab lives as
 * long as one of its messages.
 */
const SLAB_BYTES = 8192;
const SLAB_MESSAGE_MAX = 1024;
let slab = Buffer.allocUnsafeSlow(SLAB_BYTES);
let slabUsed = 0;

/** An acknowledgement that waits until every persistent receiver's copy is safe. */
export interface WaitingAnswer {
  /** No copy needs the store any more: the receivers have acknowledged before it was written. */
  settle(): void;
}

/**
 * One published message, shared by all its receivers. It refers to the bytes where they were read until
 * someone has to keep it (`own`), and holds at most one encoded frame per layout.
 */
export class Message {
  readonly mountpoint: string;
  readonly topic: string;
  /** QoS of the PUBLISH. */
  readonly qos: number;
  /** RETAIN flag of the PUBLISH. */
  readonly retain: boolean;
  /**
   * Forwarded MQTT 5 properties exactly as on the wire, in order, without the length prefix and
   * without Topic Alias, Message Expiry Interval and Subscription Identifier; undefined = none.
   */
  properties: Buffer | undefined;
  /** Absolute time (ms since the epoch) when it expires, 0 = never. MQTT 5.0, 3.3.2.3.3. */
  readonly expiresAtMs: number;
  /** Store number of a message kept once for several queues; 0 = not shared. Set by the store. */
  storeRef = 0;
  /** How many stored queue entries refer to `storeRef`. Kept by the store. */
  storeCount = 0;
  /** More than one receiver: worth storing once. */
  shared = false;

  /** Copies noted for the store that are neither written nor acknowledged by their receiver. */
  unsafeCopies = 0;
  /** The publisher's acknowledgement, while it waits for those copies alone. */
  answer: WaitingAnswer | undefined;

  /** Bytes that hold the payload, and the whole frame when `sourceLayout` is not FRAME_NONE. */
  source: Buffer;
  sourceStart = 0;
  sourceEnd: number;
  sourceLayout = FRAME_NONE;
  payloadStart = 0;
  /** Bytes of the topic on the wire; 0 = not counted yet. */
  topicBytes = 0;
  private owned = true;
  private frames: (Buffer | undefined)[] | undefined;

  constructor(
    mountpoint: string,
    topic: string,
    payload: Buffer,
    qos: number,
    retain: boolean,
    properties: Buffer | undefined,
    expiresAtMs: number,
  ) {
    this.mountpoint = mountpoint;
    this.topic = topic;
    this.source = payload;
    this.sourceEnd = payload.length;
    this.qos = qos;
    this.retain = retain;
    this.properties = properties;
    this.expiresAtMs = expiresAtMs;
  }

  /**
   * Points the message at a frame that was just read. `layout` is FRAME_NONE when the frame has
   * properties that must not be forwarded. The bytes are borrowed: they change after this turn.
   */
  borrow(
    source: Buffer,
    start: number,
    end: number,
    payloadStart: number,
    layout: number,
    topicBytes: number,
  ): void {
    this.source = source;
    this.sourceStart = start;
    this.sourceEnd = end;
    this.payloadStart = payloadStart;
    this.sourceLayout = layout;
    this.topicBytes = topicBytes;
    this.owned = false;
  }

  /** Copies borrowed bytes: called by whoever keeps the message beyond the current call. */
  own(): void {
    if (this.owned) return;
    this.owned = true;
    const from = this.sourceLayout === FRAME_NONE ? this.payloadStart : this.sourceStart;
    const size = this.sourceEnd - from;
    let copy: Buffer;
    let at = 0;
    if (size <= SLAB_MESSAGE_MAX) {
      if (slabUsed + size > SLAB_BYTES) {
        slab = Buffer.allocUnsafeSlow(SLAB_BYTES);
        slabUsed = 0;
      }
      copy = slab;
      at = slabUsed;
      slabUsed += size;
    } else {
      copy = Buffer.allocUnsafeSlow(size);
    }
    copyBytes(this.source, from, this.sourceEnd, copy, at);
    this.source = copy;
    this.payloadStart += at - from;
    this.sourceStart = at;
    this.sourceEnd = at + size;
  }

  /** View of the payload; borrowed bytes are copied first so that a hook may keep it. */
  get payload(): Buffer {
    this.own();
    return this.source.subarray(this.payloadStart, this.sourceEnd);
  }

  get payloadBytes(): number {
    return this.sourceEnd - this.payloadStart;
  }

  /** Frame in a layout the source does not have; built once, whatever the number of receivers. */
  frame(layout: number): Buffer {
    this.frames ??= [undefined, undefined, undefined, undefined];
    const known = this.frames[layout];
    if (known !== undefined) return known;
    const built = encodeFrame(this, layout);
    this.frames[layout] = built;
    return built;
  }

  topicLength(): number {
    if (this.topicBytes === 0) this.topicBytes = Buffer.byteLength(this.topic);
    return this.topicBytes;
  }
}

function encodeFrame(message: Message, layout: number): Buffer {
  const topicBytes = message.topicLength();
  const hasId = layout === FRAME_V4_ID || layout === FRAME_V5_ID;
  const isV5 = layout >= FRAME_V5;
  const propertyBytes = isV5 ? (message.properties?.length ?? 0) : 0;
  const propertyHead = isV5 ? lengthBytes(propertyBytes) : 0;
  const remaining =
    2 + topicBytes + (hasId ? 2 : 0) + propertyHead + propertyBytes + message.payloadBytes;
  const head = 1 + lengthBytes(remaining);
  const frame = Buffer.allocUnsafe(head + remaining);
  frame[0] = 0x30;
  let at = writeLength(frame, 1, remaining);
  frame[at++] = topicBytes >>> 8;
  frame[at++] = topicBytes & 0xff;
  at += frame.utf8Write(message.topic, at, topicBytes);
  if (hasId) at += 2;
  if (isV5) {
    at = writeLength(frame, at, propertyBytes);
    if (message.properties !== undefined) at += message.properties.copy(frame, at);
  }
  copyBytes(message.source, message.payloadStart, message.sourceEnd, frame, at);
  return frame;
}

/** Bytes of a variable byte integer. MQTT 5.0, 1.5.5. */
export function lengthBytes(value: number): number {
  return value < 128 ? 1 : value < 16_384 ? 2 : value < 2_097_152 ? 3 : 4;
}

/** Writes a variable byte integer; returns the offset behind it. */
export function writeLength(buffer: Buffer, at: number, value: number): number {
  let offset = at;
  let rest = value;
  while (rest > 127) {
    buffer[offset++] = (rest & 0x7f) | 0x80;
    rest >>>= 7;
  }
  buffer[offset++] = rest;
  return offset;
}

/** Small copies cost less as a loop than as a call with two views. Measured: break-even near 200 bytes. */
const COPY_LOOP_MAX = 200;

/** Copies `from[start, end)` to `to` at `at`. */
export function copyBytes(from: Buffer, start: number, end: number, to: Buffer, at: number): void {
  if (end - start <= COPY_LOOP_MAX) {
    for (let i = start, j = at; i < end; i++, j++) to[j] = from[i] as number;
  } else {
    to.set(from.subarray(start, end), at);
  }
}
