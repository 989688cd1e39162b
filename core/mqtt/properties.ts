import { PacketReader } from "./packet-reader.ts";
import { PacketWriter } from "./packet-writer.ts";
import {
  AUTH,
  CONNACK,
  CONNECT,
  DISCONNECT,
  MqttError,
  type Properties,
  PUBACK,
  PUBCOMP,
  PUBLISH,
  PUBREC,
  PUBREL,
  SUBACK,
  SUBSCRIBE,
  UNSUBACK,
  UNSUBSCRIBE,
  type UserProperty,
} from "./packets.ts";
import {
  malformed,
  protocolError,
  RC_MALFORMED_PACKET,
  RC_PROTOCOL_ERROR,
  RC_TOPIC_ALIAS_INVALID,
} from "./reason-codes.ts";

/** The place of Will Properties where others are named by their packet type. MQTT 5.0, 3.1.3.2. */
export const WILL = 0;

/** `bit` is a byte of 0 or 1 kept as a number. */
type PropertyKind =
  | "bit"
  | "boolean"
  | "uint16"
  | "uint32"
  | "varInt"
  | "string"
  | "binary"
  | "pair";

/** One property: MQTT 5.0, 2.2.2.2 Table 2-4 with the rules of its section. */
export interface PropertyRow {
  readonly id: number;
  readonly name: keyof Properties;
  readonly kind: PropertyKind;
  /** Packet types that may carry it, WILL included. */
  readonly places: readonly number[];
  /** Places where it may appear more than once. */
  readonly repeatable: readonly number[];
  /** Section of MQTT 5.0. */
  readonly section: string;
  /** Smallest legal number, 0 if all are. */
  readonly min: number;
  /** Reason code for a number below `min`, or a bit that is neither 0 nor 1. */
  readonly badValue: number;
}

const ACKS = [PUBACK, PUBREC, PUBREL, PUBCOMP];
const ANSWERS = [CONNACK, ...ACKS, SUBACK, UNSUBACK];
const MESSAGE = [PUBLISH, WILL];
const EVERYWHERE = [CONNECT, WILL, PUBLISH, SUBSCRIBE, UNSUBSCRIBE, ...ANSWERS, DISCONNECT, AUTH];

function row(
  id: number,
  name: keyof Properties,
  kind: PropertyKind,
  places: readonly number[],
  section: string,
  rules: Partial<Pick<PropertyRow, "repeatable" | "min" | "badValue">> = {},
): PropertyRow {
  return {
    id,
    name,
    kind,
    places,
    section,
    repeatable: [],
    min: 0,
    badValue: RC_PROTOCOL_ERROR,
    ...rules,
  };
}

/** All properties in the order in which we write them. MQTT 5.0, 2.2.2.2 Table 2-4. */
export const PROPERTY_TABLE: readonly PropertyRow[] = [
  // 3.3.2.3.2 names no code for other values; VerneMQ's 0x81 (recorded) stands.
  row(0x01, "payloadFormatIndicator", "bit", MESSAGE, "3.3.2.3.2", {
    badValue: RC_MALFORMED_PACKET,
  }),
  row(0x02, "messageExpiryInterval", "uint32", MESSAGE, "3.3.2.3.3"),
  row(0x03, "contentType", "string", MESSAGE, "3.3.2.3.9"),
  row(0x08, "responseTopic", "string", MESSAGE, "3.3.2.3.5"),
  row(0x09, "correlationData", "binary", MESSAGE, "3.3.2.3.6"),
  // Several only from a server that merges overlapping subscriptions, 3.3.4.
  row(0x0b, "subscriptionIdentifiers", "varInt", [PUBLISH, SUBSCRIBE], "3.8.2.1.2", {
    repeatable: [PUBLISH],
    min: 1,
  }),
  row(0x11, "sessionExpiryInterval", "uint32", [CONNECT, CONNACK, DISCONNECT], "3.1.2.11.2"),
  row(0x12, "assignedClientIdentifier", "string", [CONNACK], "3.2.2.3.7"),
  row(0x13, "serverKeepAlive", "uint16", [CONNACK], "3.2.2.3.14"),
  row(0x15, "authenticationMethod", "string", [CONNECT, CONNACK, AUTH], "3.1.2.11.9"),
  row(0x16, "authenticationData", "binary", [CONNECT, CONNACK, AUTH], "3.1.2.11.10"),
  row(0x17, "requestProblemInformation", "boolean", [CONNECT], "3.1.2.11.7"),
  row(0x18, "willDelayInterval", "uint32", [WILL], "3.1.3.2.2"),
  row(0x19, "requestResponseInformation", "boolean", [CONNECT], "3.1.2.11.6"),
  row(0x1a, "responseInformation", "string", [CONNACK], "3.2.2.3.15"),
  row(0x1c, "serverReference", "string", [CONNACK, DISCONNECT], "3.2.2.3.16"),
  row(0x1f, "reasonString", "string", [...ANSWERS, DISCONNECT, AUTH], "3.2.2.3.9"),
  row(0x21, "receiveMaximum", "uint16", [CONNECT, CONNACK], "3.1.2.11.3", { min: 1 }),
  row(0x22, "topicAliasMaximum", "uint16", [CONNECT, CONNACK], "3.1.2.11.5"),
  row(0x23, "topicAlias", "uint16", [PUBLISH], "3.3.2.3.4", {
    min: 1,
    badValue: RC_TOPIC_ALIAS_INVALID,
  }),
  row(0x24, "maximumQoS", "bit", [CONNACK], "3.2.2.3.4"),
  row(0x25, "retainAvailable", "boolean", [CONNACK], "3.2.2.3.5"),
  row(0x26, "userProperties", "pair", EVERYWHERE, "3.1.2.11.8", { repeatable: EVERYWHERE }),
  row(0x27, "maximumPacketSize", "uint32", [CONNECT, CONNACK], "3.1.2.11.4", { min: 1 }),
  row(0x28, "wildcardSubscriptionAvailable", "boolean", [CONNACK], "3.2.2.3.11"),
  row(0x29, "subscriptionIdentifiersAvailable", "boolean", [CONNACK], "3.2.2.3.12"),
  row(0x2a, "sharedSubscriptionAvailable", "boolean", [CONNACK], "3.2.2.3.13"),
];

/** Row by identifier: a byte indexes it. */
const BY_ID: readonly (PropertyRow | undefined)[] = Array.from({ length: 256 }, (_, id) =>
  PROPERTY_TABLE.find((entry) => entry.id === id),
);

/**
 * Decodes the property block `start`..`end` (without its length prefix) of packet type `where`, or
 * WILL. Returns undefined for an empty block. User properties keep their order. MQTT 5.0, 2.2.2.2.
 *
 * Throws MqttError 0x81 for an unknown or misplaced identifier, bad UTF-8 and a block that ends
 * inside a value; 0x82 for a repeated property and for values the standard forbids; 0x94 for topic
 * alias 0.
 */
export function decodeProperties(
  buf: Buffer,
  start: number,
  end: number,
  where: number,
): Properties | undefined {
  if (start === end) return undefined;
  const reader = new PacketReader(buf, start, end);
  const values: Record<string, unknown> = {};
  while (reader.pos < end) {
    const entry = findRow(reader.byte("property identifier"), where);
    const value = readValue(reader, entry);
    const before = values[entry.name];
    if (Array.isArray(before)) {
      if (!entry.repeatable.includes(where)) throw repeated(entry);
      before.push(value);
    } else if (before !== undefined) {
      throw repeated(entry);
    } else {
      values[entry.name] = isList(entry) ? [value] : value;
    }
  }
  // Keys and value types come from the table.
  const properties = values as Properties;
  checkTogether(properties);
  return properties;
}

/** Reads a property block with its length prefix, see decodeProperties. MQTT 5.0, 2.2.2.1. */
export function readProperties(reader: PacketReader, where: number): Properties | undefined {
  const length = reader.varInt("property length");
  const end = reader.pos + length;
  if (end > reader.end) throw malformed("property length passes the end of the packet", "2.2.2.1");
  const properties = decodeProperties(reader.buf, reader.pos, end, where);
  reader.pos = end;
  return properties;
}

/**
 * Encodes properties WITHOUT the length prefix, in the order of PROPERTY_TABLE; undefined or nothing
 * set gives an empty buffer. Values are trusted: validated by decodeProperties or fromHookProperties.
 * MQTT 5.0, 2.2.2.2.
 */
export function encodeProperties(properties: Properties | undefined): Buffer {
  const writer = new PacketWriter();
  if (properties === undefined) return writer.take();
  for (const entry of PROPERTY_TABLE) {
    const value = properties[entry.name];
    if (value === undefined) continue;
    for (const one of isList(entry) && Array.isArray(value) ? value : [value]) {
      writeValue(writer.byte(entry.id), entry, one);
    }
  }
  return writer.take();
}

/** Writes a property block with its length prefix. MQTT 5.0, 2.2.2.1 [MQTT-2.2.2-1] */
export function writeProperties(
  writer: PacketWriter,
  properties: Properties | undefined,
): PacketWriter {
  if (properties === undefined) return writer.byte(0);
  const block = encodeProperties(properties);
  return writer.varInt(block.length).bytes(block);
}

function findRow(id: number, where: number): PropertyRow {
  const entry = BY_ID[id];
  const hex = `0x${id.toString(16).padStart(2, "0")}`;
  // "an Identifier which is not valid for its packet type ... is a Malformed Packet", 2.2.2.2
  if (entry === undefined) throw malformed(`unknown property ${hex}`, "2.2.2.2");
  if (entry.places.includes(where)) return entry;
  const place = where === WILL ? "a will" : `packet type ${where}`;
  throw malformed(`property ${hex} ${entry.name} is not allowed in ${place}`, "2.2.2.2");
}

/** Kept as a list even when it appears once. */
function isList(entry: PropertyRow): boolean {
  return entry.repeatable.length > 0;
}

function readValue(reader: PacketReader, entry: PropertyRow): unknown {
  const { name } = entry;
  switch (entry.kind) {
    case "bit":
      return readBit(reader, entry);
    case "boolean":
      return readBit(reader, entry) === 1;
    case "uint16":
      return atLeastMin(reader.uint16(name), entry);
    case "uint32":
      return atLeastMin(reader.uint32(name), entry);
    case "varInt":
      return atLeastMin(reader.varInt(name), entry);
    case "string":
      return reader.string(name);
    case "binary":
      return reader.binary(name);
    case "pair": {
      const key = reader.string("user property name");
      const pair: UserProperty = [key, reader.string("user property value")];
      return pair;
    }
    default:
      return entry.kind satisfies never;
  }
}

function readBit(reader: PacketReader, entry: PropertyRow): number {
  const value = reader.byte(entry.name);
  if (value > 1)
    throw new MqttError(entry.badValue, `${entry.name} is ${value}, not 0 or 1`, entry.section);
  return value;
}

function atLeastMin(value: number, entry: PropertyRow): number {
  if (value >= entry.min) return value;
  throw new MqttError(entry.badValue, `${entry.name} must not be ${value}`, entry.section);
}

function repeated(entry: PropertyRow): MqttError {
  return protocolError(`${entry.name} appears more than once`, entry.section);
}

/** Rules about a value or a pair of properties that the table cannot say. */
function checkTogether(properties: Properties): void {
  if (
    properties.authenticationData !== undefined &&
    properties.authenticationMethod === undefined
  ) {
    throw protocolError("authentication data without authentication method", "3.1.2.11.10");
  }
  if (properties.responseTopic !== undefined && /[+#]/.test(properties.responseTopic)) {
    throw protocolError("response topic contains a wildcard", "MQTT-3.3.2-14");
  }
}

function writeValue(writer: PacketWriter, entry: PropertyRow, value: unknown): void {
  // The table says which type `name` has in Properties; each cast repeats that.
  switch (entry.kind) {
    case "bit":
    case "boolean":
      writer.byte(Number(value));
      return;
    case "uint16":
      writer.uint16(value as number);
      return;
    case "uint32":
      writer.uint32(value as number);
      return;
    case "varInt":
      writer.varInt(value as number);
      return;
    case "string":
      writer.string(value as string);
      return;
    case "binary":
      writer.binary(value as Buffer);
      return;
    case "pair": {
      const [key, text] = value as UserProperty;
      writer.string(key).string(text);
      return;
    }
    default:
      entry.kind satisfies never;
  }
}
