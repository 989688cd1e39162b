/**
 * Keys of the embedded store. The first byte says what the record is, numbers are big endian, so that
 * LevelDB's byte order is the order of queues and of entries within a queue.
 *
 *     s queueId(6)              session              b queueId(6) filter      subscription
 *     i queueId(6) packetId(2)  inbound QoS 2 id     n queueId(6)             queue counters
 *     e queueId(6) seq(6)       entry                d queueId(6)             removal not finished
 *     m ref(6)                  shared message body  c ref(6)                 its count, once changed
 *     r mountpoint 0 topic      retained message     k key                    setting
 *     h name                    numbers given out    v                        format version
 *     x key                     damaged record, set aside under its old key
 */
export const SESSION = 0x73;
export const SUBSCRIPTION = 0x62;
export const INBOUND_ID = 0x69;
export const ENTRY = 0x65;
export const COUNTERS = 0x6e;
export const REMOVAL = 0x64;
export const BODY = 0x6d;
export const BODY_COUNT = 0x63;
export const RETAINED = 0x72;
export const SETTING = 0x6b;
export const RESERVE = 0x68;
export const FORMAT = 0x76;
export const ASIDE = 0x78;

/** Keys from `gte` up to, without, `lt`. */
export interface KeyRange {
  gte: Buffer;
  lt: Buffer;
}

/** The largest number 6 bytes hold. */
export const SEQ_MAX: number = 2 ** 48 - 1;

export const FORMAT_KEY: Buffer = Buffer.of(FORMAT);

/** A key of one prefix and one 6 byte number: sessions, counters, removals, bodies and their counts. */
export function numberKey(prefix: number, id: number): Buffer {
  const key = Buffer.allocUnsafe(7);
  key[0] = prefix;
  key.writeUIntBE(id, 1, 6);
  return key;
}

export function entryKey(queueId: number, seq: number): Buffer {
  const key = Buffer.allocUnsafe(13);
  key[0] = ENTRY;
  key.writeUIntBE(queueId, 1, 6);
  key.writeUIntBE(seq, 7, 6);
  return key;
}

export function inboundIdKey(queueId: number, packetId: number): Buffer {
  const key = Buffer.allocUnsafe(9);
  key[0] = INBOUND_ID;
  key.writeUIntBE(queueId, 1, 6);
  key.writeUInt16BE(packetId, 7);
  return key;
}

export function subscriptionKey(queueId: number, filter: string): Buffer {
  return Buffer.concat([numberKey(SUBSCRIPTION, queueId), Buffer.from(filter)]);
}

/** A topic has no U+0000 [MQTT-4.7.3-2], so the last one ends the mountpoint: no two pairs collide. */
export function retainedText(mountpoint: string, topic: string): string {
  return `${mountpoint}\0${topic}`;
}

/** A key of one prefix and text: settings, number reserves, retained messages. */
export function textKey(prefix: number, text: string): Buffer {
  return Buffer.concat([Buffer.of(prefix), Buffer.from(text)]);
}

export function asideKey(key: Buffer): Buffer {
  return Buffer.concat([Buffer.of(ASIDE), key]);
}

/** All keys of one prefix. */
export function prefixRange(prefix: number): KeyRange {
  return { gte: Buffer.of(prefix), lt: Buffer.of(prefix + 1) };
}

/** All keys of one prefix that belong to one queue. */
export function queueRange(prefix: number, queueId: number): KeyRange {
  return { gte: numberKey(prefix, queueId), lt: numberKey(prefix, queueId + 1) };
}

/** The number after the prefix: queue id or body reference; -1 when the key is too short for one. */
export function numberOf(key: Buffer): number {
  return key.length < 7 ? -1 : key.readUIntBE(1, 6);
}

/** Sequence number of an entry key; 0 when the key has none. */
export function seqOf(key: Buffer): number {
  return key.length === 13 ? key.readUIntBE(7, 6) : 0;
}

/** Packet identifier of an inbound id's key; 0, which is none [MQTT-2.2.1-3], when the key has none. */
export function packetIdOf(key: Buffer): number {
  return key.length === 9 ? key.readUInt16BE(7) : 0;
}

/** The text behind a subscription key's queue id. */
export function filterOf(key: Buffer): string {
  return key.toString("utf8", 7);
}

/** The smallest key after `key`: where a scan continues. */
export function keyAfter(key: Buffer): Buffer {
  return Buffer.concat([key, Buffer.of(0)]);
}

/** A key for people: the prefix letter, then text as it is or bytes as hex. */
export function describeKey(key: Buffer): string {
  const prefix = String.fromCharCode(key[0] ?? 0);
  const isText = key[0] === RETAINED || key[0] === SETTING || key[0] === RESERVE;
  return `${prefix}:${isText ? JSON.stringify(key.toString("utf8", 1)) : key.toString("hex", 1)}`;
}
