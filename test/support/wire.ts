/**
 * Bytes of MQTT packets for tests, written apart from core/mqtt so that a fault there is seen. The
 * encoder checks nothing: it also builds what the standards forbid.
 */

/** Properties of MQTT 5.0, 2.2.2.2: identifier, name as in core/mqtt/packets.ts, type. */
const PROPERTIES = [
  [0x01, "payloadFormatIndicator", "byte"],
  [0x02, "messageExpiryInterval", "u32"],
  [0x03, "contentType", "text"],
  [0x08, "responseTopic", "text"],
  [0x09, "correlationData", "binary"],
  [0x0b, "subscriptionIdentifiers", "varint"],
  [0x11, "sessionExpiryInterval", "u32"],
  [0x12, "assignedClientIdentifier", "text"],
  [0x13, "serverKeepAlive", "u16"],
  [0x15, "authenticationMethod", "text"],
  [0x16, "authenticationData", "binary"],
  [0x17, "requestProblemInformation", "flag"],
  [0x18, "willDelayInterval", "u32"],
  [0x19, "requestResponseInformation", "flag"],
  [0x1a, "responseInformation", "text"],
  [0x1c, "serverReference", "text"],
  [0x1f, "reasonString", "text"],
  [0x21, "receiveMaximum", "u16"],
  [0x22, "topicAliasMaximum", "u16"],
  [0x23, "topicAlias", "u16"],
  [0x24, "maximumQoS", "byte"],
  [0x25, "retainAvailable", "flag"],
  [0x26, "userProperties", "pair"],
  [0x27, "maximumPacketSize", "u32"],
  [0x28, "wildcardSubscriptionAvailable", "flag"],
  [0x29, "subscriptionIdentifiersAvailable", "flag"],
  [0x2a, "sharedSubscriptionAvailable", "flag"],
] as const;

type PropertyType = (typeof PROPERTIES)[number][2];

export interface Properties {
  payloadFormatIndicator?: number;
  messageExpiryInterval?: number;
  contentType?: string;
  responseTopic?: string;
  correlationData?: Buffer | string;
  subscriptionIdentifiers?: number[];
  sessionExpiryInterval?: number;
  assignedClientIdentifier?: string;
  serverKeepAlive?: number;
  authenticationMethod?: string;
  authenticationData?: Buffer | string;
  requestProblemInformation?: boolean;
  willDelayInterval?: number;
  requestResponseInformation?: boolean;
  responseInformation?: string;
  serverReference?: string;
  reasonString?: string;
  receiveMaximum?: number;
  topicAliasMaximum?: number;
  topicAlias?: number;
  maximumQoS?: number;
  retainAvailable?: boolean;
  userProperties?: [name: string, value: string][];
  maximumPacketSize?: number;
  wildcardSubscriptionAvailable?: boolean;
  subscriptionIdentifiersAvailable?: boolean;
  sharedSubscriptionAvailable?: boolean;
}

export const PACKET_TYPES = [
  "reserved",
  "connect",
  "connack",
  "publish",
  "puback",
  "pubrec",
  "pubrel",
  "pubcomp",
  "subscribe",
  "suback",
  "unsubscribe",
  "unsuback",
  "pingreq",
  "pingresp",
  "disconnect",
  "auth",
] as const;

export type PacketType = (typeof PACKET_TYPES)[number];

/** 3 = MQTT 3.1, 4 = 3.1.1, 5 = 5.0. */
export type Version = 3 | 4 | 5;

/** One packet from the broker. Fields that the packet does not have are absent. */
export interface Packet {
  type: PacketType;
  raw: Buffer;
  /** Low four bits of the first byte. */
  flags: number;
  packetId?: number;
  /** Return or reason code; MQTT 5: 0 where the byte was left out. */
  code?: number;
  /** SUBACK, and UNSUBACK of MQTT 5. */
  codes?: number[];
  sessionPresent?: boolean;
  topic?: string;
  payload?: Buffer;
  qos?: number;
  retain?: boolean;
  dup?: boolean;
  /** MQTT 5; `{}` where there are none. */
  properties?: Properties;
}

export interface WillOptions {
  topic: string;
  payload?: string | Buffer;
  qos?: number;
  retain?: boolean;
  properties?: Properties;
}

export interface ConnectOptions {
  clientId?: string | Buffer;
  clean?: boolean;
  /** Seconds, default 60. */
  keepAlive?: number;
  username?: string | Buffer;
  password?: string | Buffer;
  will?: WillOptions;
  properties?: Properties;
  /** Level byte, default the version. */
  level?: number;
  /** Default `MQIsdp` for version 3, else `MQTT`. */
  protocolName?: string;
  /** Replaces the connect flags. */
  flags?: number;
  /** Ends the packet after its variable header. */
  withoutPayload?: boolean;
}

export interface PublishOptions {
  topic: string;
  payload?: string | Buffer;
  qos?: number;
  retain?: boolean;
  dup?: boolean;
  packetId?: number;
  properties?: Properties;
}

export interface Filter {
  filter: string;
  qos?: number;
  noLocal?: boolean;
  retainAsPublished?: boolean;
  retainHandling?: number;
  /** Replaces the options byte. */
  options?: number;
}

export function bytes(hex: string): Buffer {
  return Buffer.from(hex.replace(/\s+/g, ""), "hex");
}

export function u16(value: number): Buffer {
  return Buffer.from([(value >> 8) & 0xff, value & 0xff]);
}

function u32(value: number): Buffer {
  const buffer = Buffer.alloc(4);
  buffer.writeUInt32BE(value);
  return buffer;
}

export function varint(value: number): Buffer {
  const out: number[] = [];
  let rest = value;
  do {
    const low = rest % 128;
    rest = Math.floor(rest / 128);
    out.push(rest > 0 ? low | 0x80 : low);
  } while (rest > 0);
  return Buffer.from(out);
}

/** Two bytes of length, then the bytes. */
export function field(value: string | Buffer): Buffer {
  const body = typeof value === "string" ? Buffer.from(value) : value;
  return Buffer.concat([u16(body.length), body]);
}

/** A whole packet: first byte, remaining length, body. */
export function packet(first: number, ...body: readonly Buffer[]): Buffer {
  const rest = Buffer.concat(body);
  return Buffer.concat([Buffer.from([first]), varint(rest.length), rest]);
}

/** Properties without their length, in the order of the object's keys. */
export function encodeProperties(properties: Properties): Buffer {
  const out: Buffer[] = [];
  for (const [name, value] of Object.entries(properties)) {
    const row = PROPERTIES.find((one) => one[1] === name);
    if (row === undefined) throw new Error(`no such property: ${name}`);
    const repeated = row[2] === "pair" || row[2] === "varint";
    for (const one of repeated ? (value as unknown[]) : [value]) {
      out.push(Buffer.from([row[0]]), encodeValue(row[2], one));
    }
  }
  return Buffer.concat(out);
}

function encodeValue(type: PropertyType, value: unknown): Buffer {
  if (type === "text" || type === "binary") return field(value as string | Buffer);
  if (type === "pair") {
    const [name, text] = value as [string, string];
    return Buffer.concat([field(name), field(text)]);
  }
  const number = Number(value);
  if (type === "u16") return u16(number);
  if (type === "u32") return u32(number);
  return type === "varint" ? varint(number) : Buffer.from([number]);
}

/** Properties with their length; nothing for versions that have none. */
export function propertyBlock(version: Version, properties: Properties | Buffer = {}): Buffer {
  if (version !== 5) return Buffer.alloc(0);
  const body = Buffer.isBuffer(properties) ? properties : encodeProperties(properties);
  return Buffer.concat([varint(body.length), body]);
}

export function encodeConnect(version: Version, options: ConnectOptions = {}): Buffer {
  const { clientId = "", clean = true, keepAlive = 60, username, password, will } = options;
  let flags = clean ? 0x02 : 0;
  if (will !== undefined) flags |= 0x04 | ((will.qos ?? 0) << 3) | (will.retain ? 0x20 : 0);
  if (password !== undefined) flags |= 0x40;
  if (username !== undefined) flags |= 0x80;
  const head = [
    field(options.protocolName ?? (version === 3 ? "MQIsdp" : "MQTT")),
    Buffer.from([options.level ?? version, options.flags ?? flags]),
    u16(keepAlive),
    propertyBlock(version, options.properties),
  ];
  if (options.withoutPayload) return packet(0x10, ...head);
  const payload = [field(clientId)];
  if (will !== undefined) {
    payload.push(propertyBlock(version, will.properties), field(will.topic));
    payload.push(field(will.payload ?? ""));
  }
  if (username !== undefined) payload.push(field(username));
  if (password !== undefined) payload.push(field(password));
  return packet(0x10, ...head, ...payload);
}

export function encodePublish(version: Version, options: PublishOptions): Buffer {
  const { topic, payload = "", qos = 0, retain = false, dup = false, packetId } = options;
  return packet(
    0x30 | (dup ? 8 : 0) | (qos << 1) | (retain ? 1 : 0),
    field(topic),
    packetId === undefined ? Buffer.alloc(0) : u16(packetId),
    propertyBlock(version, options.properties),
    typeof payload === "string" ? Buffer.from(payload) : payload,
  );
}

export function encodeSubscribe(
  version: Version,
  packetId: number,
  filters: readonly Filter[],
  properties?: Properties,
): Buffer {
  const entries = filters.flatMap((one) => [
    field(one.filter),
    Buffer.from([
      one.options ??
        (one.qos ?? 0) |
          (one.noLocal ? 4 : 0) |
          (one.retainAsPublished ? 8 : 0) |
          ((one.retainHandling ?? 0) << 4),
    ]),
  ]);
  return packet(0x82, u16(packetId), propertyBlock(version, properties), ...entries);
}

export function encodeUnsubscribe(
  version: Version,
  packetId: number,
  filters: readonly string[],
  properties?: Properties,
): Buffer {
  const block = propertyBlock(version, properties);
  return packet(0xa2, u16(packetId), block, ...filters.map((one) => field(one)));
}

const ACK_FIRST = { puback: 0x40, pubrec: 0x50, pubrel: 0x62, pubcomp: 0x70 } as const;
export type AckType = keyof typeof ACK_FIRST;

/** Short form without code; with a code (MQTT 5) or properties the long one. */
export function encodeAck(
  type: AckType,
  packetId: number,
  code?: number,
  properties?: Properties,
): Buffer {
  const rest: Buffer[] = [];
  if (code !== undefined || properties !== undefined) rest.push(Buffer.from([code ?? 0]));
  if (properties !== undefined) rest.push(propertyBlock(5, properties));
  return packet(ACK_FIRST[type], u16(packetId), ...rest);
}

/** DISCONNECT and AUTH of MQTT 5; without a code the two-byte form. */
export function encodeCoded(
  type: "disconnect" | "auth",
  code?: number,
  properties?: Properties,
): Buffer {
  const rest: Buffer[] = [];
  if (code !== undefined) rest.push(Buffer.from([code]));
  if (properties !== undefined) rest.push(propertyBlock(5, properties));
  return packet(type === "disconnect" ? 0xe0 : 0xf0, ...rest);
}

/** Cuts the first packet off `data`; undefined while it is not complete. */
export function cutPacket(data: Buffer): { raw: Buffer; rest: Buffer } | undefined {
  let length = 0;
  for (let at = 1; at <= 4; at++) {
    const byte = data[at];
    if (byte === undefined) return undefined;
    length += (byte & 0x7f) * 128 ** (at - 1);
    if (byte < 0x80) {
      const end = at + 1 + length;
      if (data.length < end) return undefined;
      return { raw: data.subarray(0, end), rest: data.subarray(end) };
    }
  }
  throw new Error(`remaining length of five bytes: ${data.subarray(0, 8).toString("hex")}`);
}

/** Reads one whole packet; throws when it has bytes too few or too many. */
export function decode(raw: Buffer, version: Version): Packet {
  const first = raw[0] ?? 0;
  const type = PACKET_TYPES[first >> 4] ?? "reserved";
  const result: Packet = { type, raw, flags: first & 0x0f };
  const at = raw.findIndex((byte, index) => index > 0 && byte < 0x80) + 1;
  const reader = new Reader(raw.subarray(at));
  switch (type) {
    case "connack":
      result.sessionPresent = reader.byte() === 1;
      result.code = reader.byte();
      if (version === 5) result.properties = reader.left > 0 ? reader.properties() : {};
      break;
    case "publish":
      result.dup = (first & 8) !== 0;
      result.qos = (first >> 1) & 3;
      result.retain = (first & 1) !== 0;
      result.topic = reader.field().toString();
      if (result.qos > 0) result.packetId = reader.u16();
      if (version === 5) result.properties = reader.properties();
      result.payload = reader.take(reader.left);
      break;
    case "puback":
    case "pubrec":
    case "pubrel":
    case "pubcomp":
      result.packetId = reader.u16();
      if (version === 5) readCode(result, reader);
      break;
    case "suback":
    case "unsuback":
      result.packetId = reader.u16();
      if (version === 5) result.properties = reader.properties();
      if (type === "suback" || version === 5) result.codes = [...reader.take(reader.left)];
      break;
    case "disconnect":
    case "auth":
      readCode(result, reader);
      break;
    case "pingresp":
      break;
    default:
      throw new Error(`a broker must not send ${type}: ${raw.toString("hex")}`);
  }
  if (reader.left > 0) throw new Error(`bytes left in ${type}: ${raw.toString("hex")}`);
  return result;
}

function readCode(result: Packet, reader: Reader): void {
  result.code = reader.left > 0 ? reader.byte() : 0;
  result.properties = reader.left > 0 ? reader.properties() : {};
}

class Reader {
  private readonly data: Buffer;
  private at = 0;

  constructor(data: Buffer) {
    this.data = data;
  }

  get left(): number {
    return this.data.length - this.at;
  }

  take(length: number): Buffer {
    if (length > this.left) throw new Error(`packet ends too early: ${this.data.toString("hex")}`);
    this.at += length;
    return this.data.subarray(this.at - length, this.at);
  }

  byte(): number {
    return this.take(1).readUInt8();
  }

  u16(): number {
    return this.take(2).readUInt16BE();
  }

  field(): Buffer {
    return this.take(this.u16());
  }

  varint(): number {
    let value = 0;
    for (let power = 0; power < 4; power++) {
      const byte = this.byte();
      value += (byte & 0x7f) * 128 ** power;
      if (byte < 0x80) return value;
    }
    throw new Error("variable byte integer of more than four bytes");
  }

  properties(): Properties {
    const end = this.varint();
    const stop = this.at + end;
    const result: Record<string, unknown> = {};
    while (this.at < stop) {
      const id = this.byte();
      const row = PROPERTIES.find((one) => one[0] === id);
      if (row === undefined) throw new Error(`unknown property 0x${id.toString(16)}`);
      const [, name, type] = row;
      const value = this.value(type);
      if (type === "pair" || type === "varint") {
        const before = result[name];
        result[name] = [...(Array.isArray(before) ? before : []), value];
      } else {
        if (name in result) throw new Error(`property ${name} twice`);
        result[name] = value;
      }
    }
    if (this.at !== stop) throw new Error("properties longer than their length");
    return result;
  }

  private value(type: PropertyType): unknown {
    switch (type) {
      case "byte":
        return this.byte();
      case "flag":
        return this.byte() === 1;
      case "u16":
        return this.u16();
      case "u32":
        return this.take(4).readUInt32BE();
      case "varint":
        return this.varint();
      case "text":
        return this.field().toString();
      case "binary":
        return Buffer.from(this.field());
      case "pair":
        return [this.field().toString(), this.field().toString()];
    }
  }
}

/** A packet in one line, for error messages. */
export function describe(one: Packet): string {
  const words: string[] = [one.type.toUpperCase()];
  if (one.packetId !== undefined) words.push(`m${one.packetId}`);
  if (one.type === "publish") {
    words.push(`q${one.qos} r${one.retain ? 1 : 0} d${one.dup ? 1 : 0} "${one.topic}"`);
    const payload = one.payload ?? Buffer.alloc(0);
    words.push(`payload="${payload.toString().slice(0, 60)}"(${payload.length})`);
  }
  if (one.sessionPresent !== undefined) words.push(`sp=${one.sessionPresent ? 1 : 0}`);
  if (one.code !== undefined) words.push(`code=0x${one.code.toString(16).padStart(2, "0")}`);
  if (one.codes !== undefined) {
    words.push(`[${one.codes.map((code) => code.toString(16).padStart(2, "0")).join(" ")}]`);
  }
  if (one.properties !== undefined && Object.keys(one.properties).length > 0) {
    words.push(JSON.stringify(one.properties, showBuffer));
  }
  return words.join(" ");
}

function showBuffer(this: unknown, key: string, value: unknown): unknown {
  const original = (this as Record<string, unknown>)[key];
  return Buffer.isBuffer(original) ? `<${original.toString("hex")}>` : value;
}
