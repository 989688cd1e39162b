import { Message } from "../../mqtt/message.ts";
import type {
  EntryState,
  StoredRetained,
  StoredSession,
  StoredSubscription,
  StoreEntry,
  StoreQueue,
} from "../types.ts";
import { ENTRY_RELEASED, STORED_YES } from "../types.ts";
import { seqOf } from "./keys.ts";
import { DamagedRecord, RecordReader, type RecordWriter, textBytesMax } from "./record-format.ts";

/** Fields of each record, in order. The key is not repeated. Framing: record-format.ts. */

/** Fixed fields of the longest record (session with will), rounded up. */
const FIXED_BYTES_MAX = 96;

// Where an entry keeps its message, bits 5-6 of its flags.
const BODY_NONE = 0;
const BODY_INSIDE = 1;
const BODY_SHARED = 2;

/** An entry as stored: without its shared message, which the caller finds by `ref`. */
export interface EntryRecord {
  /** `message` is set when it was inside; `sharedRef` stays 0 until the body is found. */
  entry: StoreEntry;
  /** Shared body, 0 = none. */
  ref: number;
  /** Payload bytes, of an inside or a shared message. */
  payloadBytes: number;
}

/** The shared message of several entries, with the count of entries when it was first written. */
export interface BodyRecord {
  message: Message;
  count: number;
}

// Message: flags (QoS, 4 retain, 8 properties, 16 expiry), expiry?, mountpoint, topic, properties?,
// payload.

function messageBytesMax(message: Message): number {
  return (
    textBytesMax(message.mountpoint) +
    textBytesMax(message.topic) +
    (message.properties?.length ?? 0) +
    message.payloadBytes +
    20
  );
}

function writeMessage(out: RecordWriter, message: Message): void {
  const properties = message.properties;
  const expires = message.expiresAtMs !== 0;
  const flags = message.qos | (message.retain ? 4 : 0) | (properties ? 8 : 0) | (expires ? 16 : 0);
  out.u8(flags);
  if (expires) out.f64(message.expiresAtMs);
  out.text(message.mountpoint);
  out.text(message.topic);
  if (properties !== undefined) out.bytes(properties);
  out.bytes(message.payload);
}

/** Payload and properties are views into the record, which the database copied for us. */
function readMessage(record: RecordReader): Message {
  const flags = record.u8();
  const expiresAtMs = flags & 16 ? record.f64() : 0;
  const mountpoint = record.text();
  const topic = record.text();
  const properties = flags & 8 ? record.bytes() : undefined;
  const payload = record.bytes();
  const retain = (flags & 4) !== 0;
  return new Message(mountpoint, topic, payload, flags & 3, retain, properties, expiresAtMs);
}

/**
 * Entry: flags (QoS, 4 retain, state << 3, body << 5, 128 subscription ids), packet id, subscription
 * ids?, then the message, or the reference and payload length of a shared one.
 */
export function encodeEntry(out: RecordWriter, entry: StoreEntry): Buffer {
  const { message, subscriptionIds } = entry;
  const inside = entry.state === ENTRY_RELEASED ? undefined : message;
  const ref = inside === undefined ? 0 : (entry.sharedRef ?? 0);
  const body = inside === undefined ? BODY_NONE : ref === 0 ? BODY_INSIDE : BODY_SHARED;
  const ids = subscriptionIds !== undefined && subscriptionIds.length > 0;
  const messageBytes = body === BODY_INSIDE && inside ? messageBytesMax(inside) : 0;
  out.begin(FIXED_BYTES_MAX + messageBytes + (ids ? 4 * subscriptionIds.length : 0));
  out.u8(entry.qos | (entry.retain ? 4 : 0) | (entry.state << 3) | (body << 5) | (ids ? 128 : 0));
  out.u16(entry.packetId);
  if (ids) {
    out.u16(subscriptionIds.length);
    for (const id of subscriptionIds) out.u32(id);
  }
  if (inside !== undefined) {
    if (body === BODY_SHARED) {
      out.u48(ref);
      out.u32(inside.payloadBytes);
    } else {
      writeMessage(out, inside);
    }
  }
  return out.end();
}

export function decodeEntry(key: Buffer, value: Buffer): EntryRecord {
  const seq = seqOf(key);
  if (seq === 0) throw new DamagedRecord("the key has no sequence number");
  const record = new RecordReader(value);
  const flags = record.u8();
  const state = (flags >> 3) & 3;
  const body = (flags >> 5) & 3;
  const packetId = record.u16();
  let subscriptionIds: number[] | undefined;
  if (flags & 128) {
    const count = record.u16();
    subscriptionIds = [];
    for (let i = 0; i < count; i++) subscriptionIds.push(record.u32());
  }
  const ref = body === BODY_SHARED ? record.u48() : 0;
  const sharedBytes = body === BODY_SHARED ? record.u32() : 0;
  const message = body === BODY_INSIDE ? readMessage(record) : undefined;
  const entry: StoreEntry = {
    seq,
    message,
    qos: flags & 3,
    retain: (flags & 4) !== 0,
    subscriptionIds,
    packetId,
    state: entryState(state),
    stored: STORED_YES,
    sharedRef: 0,
  };
  return { entry, ref, payloadBytes: message?.payloadBytes ?? sharedBytes };
}

function entryState(state: number): EntryState {
  if (state === 0 || state === 1 || state === 2) return state;
  throw new DamagedRecord(`unknown entry state ${state}`);
}

/** Shared body: count of entries when first written, message. */
export function encodeBody(out: RecordWriter, body: BodyRecord): Buffer {
  out.begin(FIXED_BYTES_MAX + messageBytesMax(body.message));
  out.u32(body.count);
  writeMessage(out, body.message);
  return out.end();
}

export function decodeBody(value: Buffer): BodyRecord {
  const record = new RecordReader(value);
  const count = record.u32();
  return { count, message: readMessage(record) };
}

/** A single number: the count of a shared body, the reserve of a number. */
export function encodeNumber(out: RecordWriter, value: number): Buffer {
  out.begin(6);
  out.u48(value);
  return out.end();
}

export function decodeNumber(value: Buffer): number {
  return new RecordReader(value).u48();
}

/** Queue counters: stored entries, next sequence number, next packet identifier. */
export function encodeCounters(out: RecordWriter, queue: StoreQueue): Buffer {
  out.begin(16);
  out.u48(queue.storedCount);
  out.u48(queue.nextSeq);
  out.u32(queue.nextPacketId);
  return out.end();
}

export function decodeCounters(id: number, value: Buffer): StoreQueue {
  const record = new RecordReader(value);
  const storedCount = record.u48();
  const nextSeq = record.u48();
  return { id, storedCount, nextSeq, nextPacketId: record.u32() };
}

/**
 * Session: flags (1 online, 2 username, 4 will), protocol level, expiry interval, expires at, will
 * at, mountpoint, client id, username?, will delay, expiry and message?
 */
export function encodeSession(out: RecordWriter, session: StoredSession): Buffer {
  const { username, will } = session;
  const texts = [session.mountpoint, session.clientId, username ?? ""];
  const textsMax = texts.reduce((sum, text) => sum + textBytesMax(text), 0);
  out.begin(FIXED_BYTES_MAX + textsMax + (will ? messageBytesMax(will.message) : 0));
  out.u8((session.online ? 1 : 0) | (username === undefined ? 0 : 2) | (will ? 4 : 0));
  out.u8(session.protocolLevel);
  out.u32(session.sessionExpiryS);
  out.f64(session.expiresAtMs);
  out.f64(session.willAtMs);
  out.text(session.mountpoint);
  out.text(session.clientId);
  if (username !== undefined) out.text(username);
  if (will !== undefined) {
    out.u32(will.delayS);
    out.f64(will.expiryS);
    writeMessage(out, will.message);
  }
  return out.end();
}

export function decodeSession(queueId: number, value: Buffer): StoredSession {
  const record = new RecordReader(value);
  const flags = record.u8();
  const protocolLevel = record.u8();
  const sessionExpiryS = record.u32();
  const expiresAtMs = record.f64();
  const willAtMs = record.f64();
  const mountpoint = record.text();
  const clientId = record.text();
  const username = flags & 2 ? record.text() : undefined;
  const will =
    flags & 4
      ? { delayS: record.u32(), expiryS: record.f64(), message: readMessage(record) }
      : undefined;
  return {
    queueId,
    mountpoint,
    clientId,
    username,
    protocolLevel,
    sessionExpiryS,
    expiresAtMs,
    online: (flags & 1) !== 0,
    will,
    willAtMs,
  };
}

/** Subscription: flags (QoS, 4 no local, 8 as published, handling << 4, 64 rewritten), id, asked for? */
export function encodeSubscription(out: RecordWriter, subscription: StoredSubscription): Buffer {
  const asked = subscription.requestedFilter;
  out.begin(FIXED_BYTES_MAX + textBytesMax(asked ?? ""));
  out.u8(
    subscription.qos |
      (subscription.noLocal ? 4 : 0) |
      (subscription.retainAsPublished ? 8 : 0) |
      (subscription.retainHandling << 4) |
      (asked === undefined ? 0 : 64),
  );
  out.u32(subscription.subscriptionId);
  if (asked !== undefined) out.text(asked);
  return out.end();
}

export function decodeSubscription(filter: string, value: Buffer): StoredSubscription {
  const record = new RecordReader(value);
  const flags = record.u8();
  const subscription: StoredSubscription = {
    filter,
    qos: flags & 3,
    noLocal: (flags & 4) !== 0,
    retainAsPublished: (flags & 8) !== 0,
    retainHandling: (flags >> 4) & 3,
    subscriptionId: record.u32(),
  };
  if (flags & 64) subscription.requestedFilter = record.text();
  return subscription;
}

/** Retained: stored at, message. */
export function encodeRetained(out: RecordWriter, retained: StoredRetained): Buffer {
  out.begin(FIXED_BYTES_MAX + messageBytesMax(retained.message));
  out.f64(retained.storedAtMs);
  writeMessage(out, retained.message);
  return out.end();
}

export function decodeRetained(value: Buffer): StoredRetained {
  const record = new RecordReader(value);
  const storedAtMs = record.f64();
  return { storedAtMs, message: readMessage(record) };
}

/** Setting: its text. */
export function encodeText(out: RecordWriter, text: string): Buffer {
  out.begin(textBytesMax(text));
  out.text(text);
  return out.end();
}

export function decodeText(value: Buffer): string {
  return new RecordReader(value).text();
}
