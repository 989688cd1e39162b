import { PacketReader } from "./packet-reader.ts";
import { CONNECT, type ConnectPacket, MqttError, type Will } from "./packets.ts";
import { readProperties, WILL } from "./properties.ts";
import {
  CONNACK_UNACCEPTABLE_VERSION,
  malformed,
  RC_UNSUPPORTED_PROTOCOL_VERSION,
} from "./reason-codes.ts";
import { hasWildcard } from "./topics.ts";

/** Version in which packets of a connection are encoded. */
export type ProtocolVersion = ConnectPacket["version"];

/** What to answer to a refused CONNECT before closing: nothing, or a CONNACK of this form and code. */
export type ConnectAnswer = "none" | { version: ProtocolVersion; returnCode: number };

/** A CONNECT that cannot be accepted, with its answer. MQTT 5.0, 3.1.4, 4.13; 3.1.1, 3.1.4. */
export class ConnectError extends MqttError {
  readonly answer: ConnectAnswer;

  constructor(reasonCode: number, message: string, statement: string, answer: ConnectAnswer) {
    super(reasonCode, message, statement);
    this.name = "ConnectError";
    this.answer = answer;
  }
}

/** Protocol of a CONNECT and where its connect flags stand. */
export interface ConnectProtocol {
  version: ProtocolVersion;
  /** Level byte as sent. */
  level: number;
  /** Level 131 or 132. */
  bridge: boolean;
  /** Position of the connect flags. */
  next: number;
}

/** Connect flags. MQTT 5.0, 3.1.2.3. */
const FLAG_RESERVED = 0x01;
const FLAG_CLEAN = 0x02;
const FLAG_WILL = 0x04;
const FLAG_WILL_RETAIN = 0x20;
const FLAG_PASSWORD = 0x40;
const FLAG_USERNAME = 0x80;

/** Set in the level by bridges (mosquitto's `try_private`), which VerneMQ accepts. */
const BRIDGE_BIT = 0x80;

/**
 * Reads protocol name and level of a CONNECT body `start`..`end`. Accepted: MQTT with 4, 5, 131, 132;
 * MQIsdp with 3 and 131. Throws ConnectError: unknown name or MQIsdp above 4 without an answer; a level
 * below 5 with CONNACK 1; an MQTT level above 5 with CONNACK 0x84 in MQTT 5 form.
 * MQTT 5.0, 3.1.2.1, 3.1.2.2 [MQTT-3.1.2-1] [MQTT-3.1.2-2]; 3.1.1, 3.1.2.2.
 */
export function detectConnect(buf: Buffer, start: number, end: number): ConnectProtocol {
  const name = protocolName(buf, start, end);
  const next = start + 2 + (name?.length ?? 0);
  if (name === undefined || next >= end) {
    throw new ConnectError(0x81, "unknown protocol name", "MQTT-3.1.2-1", "none");
  }
  const level = buf[next];
  const version = versionOf(name, level);
  if (version === undefined) throw unsupportedLevel(name, level);
  return { version, level, bridge: level >= BRIDGE_BIT, next: next + 1 };
}

/**
 * Decodes a CONNECT body `start`..`end`. An empty client id is passed on as "". Throws ConnectError:
 * MQTT 5 is answered with CONNACK 0x81 or 0x82, 3.x is closed without an answer.
 * MQTT 5.0, 3.1; 3.1.1, 3.1.
 */
export function decodeConnect(buf: Buffer, start: number, end: number): ConnectPacket {
  const protocol = detectConnect(buf, start, end);
  try {
    return decodeFields(new PacketReader(buf, protocol.next, end), protocol);
  } catch (error) {
    if (!(error instanceof MqttError)) throw error;
    const { reasonCode, message, statement } = error;
    const answer: ConnectAnswer =
      protocol.version === 5 ? { version: 5, returnCode: reasonCode } : "none";
    throw new ConnectError(reasonCode, message, statement, answer);
  }
}

function protocolName(buf: Buffer, start: number, end: number): "MQTT" | "MQIsdp" | undefined {
  const length = end - start < 2 ? 0 : buf.readUInt16BE(start);
  if (start + 2 + length > end || (length !== 4 && length !== 6)) return undefined;
  const name = buf.toString("latin1", start + 2, start + 2 + length);
  return name === "MQTT" || name === "MQIsdp" ? name : undefined;
}

function versionOf(name: "MQTT" | "MQIsdp", level: number): ProtocolVersion | undefined {
  if (level === (3 | BRIDGE_BIT)) return 3;
  // Differs from VerneMQ: it accepts MQIsdp with level 4, which is neither 3.1 nor 3.1.1.
  if (name === "MQIsdp") return level === 3 ? 3 : undefined;
  if (level === 5) return 5;
  return level === 4 || level === (4 | BRIDGE_BIT) ? 4 : undefined;
}

function unsupportedLevel(name: "MQTT" | "MQIsdp", level: number): ConnectError {
  let answer: ConnectAnswer = "none";
  if (level < 5) {
    const version = name === "MQIsdp" ? 3 : 4;
    answer = { version, returnCode: CONNACK_UNACCEPTABLE_VERSION };
  } else if (name === "MQTT") {
    answer = { version: 5, returnCode: RC_UNSUPPORTED_PROTOCOL_VERSION };
  }
  const message = `unsupported protocol ${name} level ${level}`;
  return new ConnectError(RC_UNSUPPORTED_PROTOCOL_VERSION, message, "MQTT-3.1.2-2", answer);
}

function decodeFields(reader: PacketReader, protocol: ConnectProtocol): ConnectPacket {
  const { version, level, bridge } = protocol;
  const flags = reader.byte("connect flags");
  checkFlags(flags, version);
  const keepAliveS = reader.uint16("keep alive");
  const properties = version === 5 ? readProperties(reader, CONNECT) : undefined;
  // [MQTT-3.1.3-1] the order of the payload, [MQTT-3.1.3-3] a client id is always there
  const clientId = reader.string("client identifier");
  const will = (flags & FLAG_WILL) !== 0 ? readWill(reader, flags, version) : undefined;
  const username = hasUsername(reader, flags, version) ? reader.string("user name") : undefined;
  const password = (flags & FLAG_PASSWORD) !== 0 ? reader.binary("password") : undefined;
  reader.finish("CONNECT");
  const clean = (flags & FLAG_CLEAN) !== 0;
  return {
    type: "connect",
    version,
    level,
    bridge,
    clean,
    keepAliveS,
    clientId,
    username,
    password,
    will,
    properties,
  };
}

/** MQTT 5.0, 3.1.2.3 to 3.1.2.9. */
function checkFlags(flags: number, version: ProtocolVersion): void {
  if ((flags & FLAG_RESERVED) !== 0)
    throw malformed("reserved connect flag is set", "MQTT-3.1.2-3");
  const hasWill = (flags & FLAG_WILL) !== 0;
  if (!hasWill && willQos(flags) !== 0) throw malformed("will QoS without will", "MQTT-3.1.2-11");
  if (!hasWill && (flags & FLAG_WILL_RETAIN) !== 0) {
    throw malformed("will retain without will", "MQTT-3.1.2-13");
  }
  // Differs from VerneMQ: it accepts will QoS 3.
  if (willQos(flags) === 3) throw malformed("will QoS is 3", "MQTT-3.1.2-12");
  const isPasswordAlone = (flags & FLAG_PASSWORD) !== 0 && (flags & FLAG_USERNAME) === 0;
  // MQTT 3.1.1, 3.1.2.9 [MQTT-3.1.2-22]; MQTT 5 allows it.
  if (isPasswordAlone && version < 5)
    throw malformed("password without user name", "3.1.1: MQTT-3.1.2-22");
}

function willQos(flags: number): number {
  return (flags >> 3) & 0x03;
}

/** MQTT 5.0, 3.1.3.2 to 3.1.3.4. */
function readWill(reader: PacketReader, flags: number, version: ProtocolVersion): Will {
  const properties = version === 5 ? readProperties(reader, WILL) : undefined;
  const topic = reader.string("will topic");
  if (topic === "") throw malformed("will topic is empty", "MQTT-4.7.3-1");
  if (hasWildcard(topic)) throw malformed("will topic contains a wildcard", "MQTT-4.7.0-1");
  const payload = reader.binary("will payload");
  return {
    topic,
    payload,
    qos: willQos(flags),
    retain: (flags & FLAG_WILL_RETAIN) !== 0,
    properties,
  };
}

/**
 * MQTT 3.1 lets a packet end before the user name that its flag announces ("the User Name flag is set,
 * but the User Name string is missing. This is valid"); later versions do not.
 */
function hasUsername(reader: PacketReader, flags: number, version: ProtocolVersion): boolean {
  if ((flags & FLAG_USERNAME) === 0) return false;
  const isMissing = version === 3 && reader.pos === reader.end && (flags & FLAG_PASSWORD) === 0;
  return !isMissing;
}
