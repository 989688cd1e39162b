import { decodeAck, decodeAuth, decodeDisconnect, hasRequiredFlags } from "./codec.ts";
import type { ProtocolVersion } from "./connect-codec.ts";
import { PacketReader } from "./packet-reader.ts";
import { PacketWriter } from "./packet-writer.ts";
import {
  type AckPacket,
  AUTH,
  type AuthPacket,
  CONNACK,
  CONNECT,
  type ConnectPacket,
  DISCONNECT,
  type DisconnectPacket,
  MqttError,
  PINGREQ,
  PINGRESP,
  type Properties,
  PUBACK,
  PUBCOMP,
  PUBLISH,
  PUBREC,
  PUBREL,
  SUBACK,
  SUBSCRIBE,
  type SubscribePacket,
  UNSUBACK,
  UNSUBSCRIBE,
  type UnsubscribePacket,
} from "./packets.ts";
import { readProperties, writeProperties } from "./properties.ts";
import {
  checkReasonCode,
  malformed,
  protocolError,
  RC_GRANTED_QOS2,
  SUBACK_FAILURE,
} from "./reason-codes.ts";
import { validateTopic } from "./topics.ts";

/** The client's half of the codec: for bridges and tests. */

export interface ConnackPacket {
  type: "connack";
  sessionPresent: boolean;
  /** Return code in 3.x, reason code in MQTT 5. */
  code: number;
  properties: Properties | undefined;
}

export interface SubackPacket {
  type: "suback" | "unsuback";
  packetId: number;
  /** Empty for a 3.x UNSUBACK. */
  codes: number[];
  properties: Properties | undefined;
}

export interface PublishPacket {
  type: "publish";
  /** Empty if MQTT 5 properties hold a topic alias. */
  topic: string;
  payload: Buffer;
  qos: number;
  retain: boolean;
  dup: boolean;
  /** 0 for QoS 0. */
  packetId: number;
  properties: Properties | undefined;
}

/** Packets a server may send. MQTT 5.0, 2.1.2. */
export type ServerPacket =
  | ConnackPacket
  | PublishPacket
  | AckPacket
  | SubackPacket
  | { type: "pingresp" }
  | DisconnectPacket
  | AuthPacket;

/** The only PINGREQ there is. MQTT 5.0, 3.12. */
export const PINGREQ_FRAME: Buffer = Buffer.from([PINGREQ << 4, 0]);
/** DISCONNECT of 3.x, and of MQTT 5 with 0x00. MQTT 5.0, 3.14. */
export const DISCONNECT_FRAME: Buffer = Buffer.from([DISCONNECT << 4, 0]);

/** CONNECT; `level` decides the protocol name and, with 131 or 132, tells that a bridge connects. MQTT 5.0, 3.1. */
export function encodeConnect(connect: ConnectPacket): Buffer {
  const { version, level, will, username, password } = connect;
  const writer = new PacketWriter()
    .string(version === 3 ? "MQIsdp" : "MQTT")
    .byte(level)
    .byte(connectFlags(connect))
    .uint16(connect.keepAliveS);
  if (version === 5) writeProperties(writer, connect.properties);
  writer.string(connect.clientId);
  if (will !== undefined) {
    if (version === 5) writeProperties(writer, will.properties);
    writer.string(will.topic).binary(will.payload);
  }
  if (username !== undefined) writer.string(username);
  if (password !== undefined) writer.binary(password);
  return writer.frame(CONNECT << 4);
}

/** SUBSCRIBE; 3.x sends the QoS of each request only. MQTT 5.0, 3.8. */
export function encodeSubscribe(
  version: ProtocolVersion,
  packet: Omit<SubscribePacket, "type">,
): Buffer {
  const writer = new PacketWriter().uint16(packet.packetId);
  if (version === 5) writeProperties(writer, packet.properties);
  for (const { filter, qos, noLocal, retainAsPublished, retainHandling } of packet.subscriptions) {
    const more = (noLocal ? 0x04 : 0) | (retainAsPublished ? 0x08 : 0) | (retainHandling << 4);
    writer.string(filter).byte(version === 5 ? qos | more : qos);
  }
  return writer.frame((SUBSCRIBE << 4) | 0x02);
}

/** UNSUBSCRIBE. MQTT 5.0, 3.10. */
export function encodeUnsubscribe(
  version: ProtocolVersion,
  packet: Omit<UnsubscribePacket, "type">,
): Buffer {
  const writer = new PacketWriter().uint16(packet.packetId);
  if (version === 5) writeProperties(writer, packet.properties);
  for (const filter of packet.filters) writer.string(filter);
  return writer.frame((UNSUBSCRIBE << 4) | 0x02);
}

/** PUBLISH; `packetId` is left out for QoS 0, `properties` for 3.x. MQTT 5.0, 3.3. */
export function encodePublish(
  version: ProtocolVersion,
  packet: Omit<PublishPacket, "type">,
): Buffer {
  const { topic, payload, qos, retain, dup, packetId, properties } = packet;
  const writer = new PacketWriter().string(topic);
  if (qos > 0) writer.uint16(packetId);
  if (version === 5) writeProperties(writer, properties);
  const flags = (dup ? 0x08 : 0) | (qos << 1) | (retain ? 0x01 : 0);
  return writer.bytes(payload).frame((PUBLISH << 4) | flags);
}

/**
 * Decodes the body `start`..`end` of a packet from a server. Throws MqttError 0x81 or 0x82, 0x90 for a
 * bad topic. MQTT 5.0, 3.2 to 3.15.
 */
export function decodeServerPacket(
  type: number,
  flags: number,
  buf: Buffer,
  start: number,
  end: number,
  version: ProtocolVersion,
): ServerPacket {
  if (!hasRequiredFlags(type, flags, version)) {
    throw malformed(`packet type ${type} with flags ${flags}`, "MQTT-2.1.3-1");
  }
  const reader = new PacketReader(buf, start, end);
  switch (type) {
    case CONNACK:
      return decodeConnack(reader, version);
    case PUBLISH:
      return decodePublish(reader, flags, version);
    case PUBACK:
    case PUBREC:
    case PUBREL:
    case PUBCOMP:
      return decodeAck(reader, type, version, "server");
    case SUBACK:
    case UNSUBACK:
      return decodeSubscriptionAck(reader, type, version);
    case PINGRESP:
      reader.finish("PINGRESP");
      return { type: "pingresp" };
    case DISCONNECT:
      if (version < 5) throw protocolError("DISCONNECT from a 3.x server", "3.1.1: 3.14");
      return decodeDisconnect(reader, version, "server");
    case AUTH:
      return decodeAuth(reader, version, "server");
    case 0:
      throw malformed("packet type 0 is reserved", "2.1.2");
    default:
      throw protocolError(`packet type ${type} is only sent by a client`, "2.1.2");
  }
}

function connectFlags(connect: ConnectPacket): number {
  const { will } = connect;
  let flags = connect.clean ? 0x02 : 0;
  if (will !== undefined) flags |= 0x04 | (will.qos << 3) | (will.retain ? 0x20 : 0);
  if (connect.password !== undefined) flags |= 0x40;
  if (connect.username !== undefined) flags |= 0x80;
  return flags;
}

/** MQTT 5.0, 3.2; [MQTT-3.2.2-1] */
function decodeConnack(reader: PacketReader, version: ProtocolVersion): ConnackPacket {
  const flags = reader.byte("connect acknowledge flags");
  if (flags > 1) throw malformed("reserved connect acknowledge flag is set", "MQTT-3.2.2-1");
  const code = reader.byte("code");
  if (version === 5) checkReasonCode(CONNACK, code, "server");
  const properties = version === 5 ? readProperties(reader, CONNACK) : undefined;
  reader.finish("CONNACK");
  return { type: "connack", sessionPresent: flags === 1, code, properties };
}

/** MQTT 5.0, 3.3 */
function decodePublish(
  reader: PacketReader,
  flags: number,
  version: ProtocolVersion,
): PublishPacket {
  const qos = (flags >> 1) & 0x03;
  if (qos === 3) throw malformed("PUBLISH with QoS 3", "MQTT-3.3.1-4");
  const topic = reader.string("topic");
  const packetId = qos > 0 ? reader.uint16("packet identifier") : 0;
  if (qos > 0 && packetId === 0) throw protocolError("packet identifier is 0", "MQTT-2.2.1-3");
  const properties = version === 5 ? readProperties(reader, PUBLISH) : undefined;
  if (topic !== "" || properties?.topicAlias === undefined) {
    const fault = validateTopic(topic, Number.POSITIVE_INFINITY);
    if (fault !== undefined) throw new MqttError(fault.reasonCode, fault.message, "4.7");
  }
  const payload = Buffer.from(reader.buf.subarray(reader.pos, reader.end));
  const retain = (flags & 0x01) !== 0;
  const dup = (flags & 0x08) !== 0;
  return { type: "publish", topic, payload, qos, retain, dup, packetId, properties };
}

/** MQTT 5.0, 3.9 and 3.11; 3.1.1, 3.9 and 3.11. */
function decodeSubscriptionAck(
  reader: PacketReader,
  type: typeof SUBACK | typeof UNSUBACK,
  version: ProtocolVersion,
): SubackPacket {
  const packetId = reader.uint16("packet identifier");
  if (packetId === 0) throw protocolError("packet identifier is 0", "MQTT-2.2.1-3");
  const properties = version === 5 ? readProperties(reader, type) : undefined;
  const codes: number[] = [];
  while (reader.pos < reader.end && !(version < 5 && type === UNSUBACK)) {
    const code = reader.byte("code");
    if (version === 5) checkReasonCode(type, code, "server");
    else if (code > RC_GRANTED_QOS2 && code !== SUBACK_FAILURE) {
      throw malformed(`SUBACK code ${code}`, "3.1.1: MQTT-3.9.3-2");
    }
    codes.push(code);
  }
  reader.finish(type === SUBACK ? "SUBACK" : "UNSUBACK");
  return { type: type === SUBACK ? "suback" : "unsuback", packetId, codes, properties };
}
