// The few MQTT 3.1.1 and 5 packets that the load generator sends and reads. Its own code, so that
// the broker under test is not checked with its own codec.

/** Packet types, in the upper four bits of a fixed header. MQTT 5.0, 2.1.2 */
export const TYPE = {
  connack: 2,
  publish: 3,
  puback: 4,
  pubrec: 5,
  pubrel: 6,
  pubcomp: 7,
  suback: 9,
  disconnect: 14,
} as const;

/** First bytes of the packets with nothing variable in them. */
export const HEAD = { puback: 0x40, pubrec: 0x50, pubrel: 0x62, pubcomp: 0x70 } as const;

/** DISCONNECT without properties. */
export const DISCONNECT_BYTES: Uint8Array = Uint8Array.of(0xe0, 0);

/** Longer than any run, so no PINGREQ is needed. */
const KEEP_ALIVE_S = 3600;

/** What a CONNECT says. `expiryS` and `receiveMaximum` are for MQTT 5; 0 leaves them out. */
export interface ConnectFields {
  readonly version: number;
  readonly clientId: string;
  readonly isClean: boolean;
  readonly username: string;
  readonly password: string;
  readonly expiryS: number;
  readonly receiveMaximum: number;
}

/** A CONNECT packet. */
export function encodeConnect(fields: ConnectFields): Buffer {
  const { version, username, password } = fields;
  const flags = (fields.isClean ? 2 : 0) | (username ? 128 : 0) | (password ? 64 : 0);
  const head = [...string("MQTT"), version, flags, KEEP_ALIVE_S >> 8, KEEP_ALIVE_S & 255];
  const properties: number[] = [];
  if (fields.expiryS) properties.push(0x11, 0, 0, fields.expiryS >> 8, fields.expiryS & 255);
  if (fields.receiveMaximum)
    properties.push(0x21, fields.receiveMaximum >> 8, fields.receiveMaximum & 255);
  const body = [
    ...head,
    ...(version === 5 ? [properties.length, ...properties] : []),
    ...string(fields.clientId),
    ...(username ? string(username) : []),
    ...(password ? string(password) : []),
  ];
  return Buffer.from([0x10, ...varint(body.length), ...body]);
}

/** A SUBSCRIBE packet for some filters at one QoS. */
export function encodeSubscribe(
  version: number,
  packetId: number,
  filters: readonly string[],
  qos: number,
): Buffer {
  const body = [packetId >> 8, packetId & 255, ...(version === 5 ? [0] : [])];
  for (const filter of filters) body.push(...string(filter), qos);
  return Buffer.from([0x82, ...varint(body.length), ...body]);
}

/** A PUBLISH to copy: the packet identifier goes to `idOffset`, the payload to `payloadOffset`. */
export interface PublishTemplate {
  readonly bytes: Buffer;
  readonly idOffset: number;
  readonly payloadOffset: number;
}

/** Builds a PUBLISH with an empty packet identifier and the payload given. */
export function encodePublish(
  version: number,
  qos: number,
  topic: string,
  payload: Uint8Array,
): PublishTemplate {
  const name = string(topic);
  const length = name.length + (qos ? 2 : 0) + (version === 5 ? 1 : 0) + payload.length;
  const head = [0x30 | (qos << 1), ...varint(length), ...name];
  const idOffset = head.length;
  if (qos) head.push(0, 0);
  if (version === 5) head.push(0);
  const bytes = Buffer.concat([Uint8Array.from(head), payload]);
  return { bytes, idOffset, payloadOffset: head.length };
}

/** What a CONNACK says; absent MQTT 5 properties have their defaults. */
export interface Connack {
  readonly code: number;
  readonly receiveMaximum: number;
  readonly maximumQos: number;
  /** 0: no limit. */
  readonly maximumPacketBytes: number;
}

/** Reads the body of a CONNACK; undefined when it is malformed. */
export function parseConnack(version: number, body: Buffer): Connack | undefined {
  const code = body[1];
  if (code === undefined) return undefined;
  const found = { code, receiveMaximum: 65535, maximumQos: 2, maximumPacketBytes: 0 };
  // a broker that refuses the version may answer in the shape of MQTT 3
  if (version !== 5 || body.length === 2) return body.length === 2 ? found : undefined;
  let at = 2 + varintLength(body, 2);
  while (at < body.length) {
    const id = body[at++] ?? 0;
    const size = propertyBytes(id, body, at);
    if (size < 0 || at + size > body.length) return undefined;
    if (id === 0x21) found.receiveMaximum = body.readUInt16BE(at);
    else if (id === 0x24) found.maximumQos = body[at] ?? 0;
    else if (id === 0x27) found.maximumPacketBytes = body.readUInt32BE(at);
    at += size;
  }
  return found.receiveMaximum === 0 ? undefined : found;
}

/** Counts the refusals in the body of a SUBACK; undefined when it is malformed. */
export function parseSuback(version: number, body: Buffer): number | undefined {
  let at = 2;
  if (version === 5) {
    const length = readVarint(body, at);
    if (length < 0) return undefined;
    at += varintLength(body, at) + length;
  }
  if (at >= body.length) return undefined;
  let refused = 0;
  for (; at < body.length; at++) refused += (body[at] ?? 0) >= 0x80 ? 1 : 0;
  return refused;
}

/** What a CONNACK code means, for the user. */
export function connackText(version: number, code: number): string {
  const mqtt3 = ["accepted", "version", "client id", "unavailable", "bad credentials"];
  if (version !== 5) return `${mqtt3[code] ?? "not authorized"} (${code})`;
  return `reason 0x${code.toString(16)}`;
}

/** Value of the variable byte integer at `at`; -1 when it is malformed or not whole. */
export function readVarint(bytes: Uint8Array, at: number): number {
  let value = 0;
  for (let i = 0; i < 4; i++) {
    const byte = bytes[at + i];
    if (byte === undefined) return -1;
    value += (byte & 127) * 128 ** i;
    if (byte < 128) return value;
  }
  return -1;
}

/** Bytes that the variable byte integer at `at` takes. */
export function varintLength(bytes: Uint8Array, at: number): number {
  let length = 1;
  while (length < 4 && (bytes[at + length - 1] ?? 0) >= 128) length++;
  return length;
}

function varint(value: number): number[] {
  const bytes: number[] = [];
  let rest = value;
  do {
    const low = rest & 127;
    rest >>>= 7;
    bytes.push(rest ? low | 128 : low);
  } while (rest);
  return bytes;
}

function string(value: string): number[] {
  const bytes = Buffer.from(value);
  return [bytes.length >> 8, bytes.length & 255, ...bytes];
}

/** Bytes of the value of a CONNACK property at `at`; -1 for one that does not belong there. */
function propertyBytes(id: number, body: Buffer, at: number): number {
  const length = () => (at + 2 <= body.length ? 2 + body.readUInt16BE(at) : -1);
  switch (id) {
    case 0x24: // maximum QoS, retain, wildcard, subscription id and shared available
    case 0x25:
    case 0x28:
    case 0x29:
    case 0x2a:
      return 1;
    case 0x13: // server keep alive, receive maximum, topic alias maximum
    case 0x21:
    case 0x22:
      return 2;
    case 0x11: // session expiry, maximum packet size
    case 0x27:
      return 4;
    case 0x12: // strings
    case 0x15:
    case 0x16:
    case 0x1a:
    case 0x1c:
    case 0x1f:
      return length();
    case 0x26: {
      const key = length();
      const value = at + key;
      return key < 0 || value + 2 > body.length ? -1 : key + 2 + body.readUInt16BE(value);
    }
    default:
      return -1;
  }
}
