import { NautilusError } from "../errors.ts";
import type { ProtocolVersion } from "./connect-codec.ts";
import { PacketReader } from "./packet-reader.ts";
import {
  type AckPacket,
  AUTH,
  type AuthPacket,
  CONNECT,
  type ControlPacket,
  DISCONNECT,
  type DisconnectPacket,
  MqttError,
  PINGREQ,
  PUBACK,
  PUBCOMP,
  PUBLISH,
  PUBREC,
  PUBREL,
  SUBSCRIBE,
  type SubscribePacket,
  type SubscriptionRequest,
  UNSUBSCRIBE,
  type UnsubscribePacket,
} from "./packets.ts";
import { readProperties } from "./properties.ts";
import { checkReasonCode, malformed, protocolError, RC_SUCCESS } from "./reason-codes.ts";
import { parseShared, validateFilter } from "./topics.ts";

/**
 * Decodes the control packets a client sends, strictly: what MQTT does not allow is an MqttError with
 * the MQTT 5 reason code. Not mqtt-packet, because it loses the order of user properties, accepts
 * ill-formed strings and knows no reason codes (test/core/mqtt/mqtt-packet-gaps.test.ts); it is the
 * oracle of the tests instead.
 */

export {
  type ConnectAnswer,
  ConnectError,
  type ConnectProtocol,
  decodeConnect,
  detectConnect,
  type ProtocolVersion,
} from "./connect-codec.ts";
export {
  type AckType,
  type EncodeLimits,
  encodeAck,
  encodeAuth,
  encodeConnack,
  encodeDisconnect,
  encodeSuback,
  encodeUnsuback,
  PINGRESP_FRAME,
} from "./control-encoder.ts";

/**
 * Flags of the fixed header by packet type, undefined for PUBLISH whose flags carry values.
 * MQTT 5.0, 2.1.3 Table 2-2 [MQTT-2.1.3-1]
 */
export const REQUIRED_FLAGS: readonly (number | undefined)[] = Array.from(
  { length: 16 },
  (_, type) => {
    if (type === PUBLISH) return undefined;
    return type === PUBREL || type === SUBSCRIBE || type === UNSUBSCRIBE ? 0x02 : 0;
  },
);

/** MQTT 3.1, 2.1: SUBSCRIBE, UNSUBSCRIBE and PUBREL are QoS 1 messages, repeated with DUP set. */
const DUP_FLAG = 0x08;

/** Are these the flags that `type` must have? MQTT 5.0, 2.1.3 [MQTT-2.1.3-1]; MQTT 3.1, 2.1. */
export function hasRequiredFlags(type: number, flags: number, version: ProtocolVersion): boolean {
  const required = REQUIRED_FLAGS[type];
  if (required === undefined || flags === required) return true;
  return version === 3 && required === 0x02 && flags === (0x02 | DUP_FLAG);
}

/**
 * Decodes the body `start`..`end` of a control packet from a client that has sent CONNECT: SUBSCRIBE,
 * UNSUBSCRIBE, DISCONNECT, AUTH and the four acknowledgements. Filters are checked, with `maxDepth`
 * levels (`topic_max_depth`). Throws MqttError: 0x81 malformed, 0x82 protocol error (packet id 0,
 * second CONNECT, packets only a server sends), 0x8F bad filter. MQTT 5.0, 3.4 to 3.15, 4.13.
 */
export function decodeControl(
  type: number,
  flags: number,
  buf: Buffer,
  start: number,
  end: number,
  version: ProtocolVersion,
  maxDepth: number = Number.POSITIVE_INFINITY,
): ControlPacket {
  if (!hasRequiredFlags(type, flags, version)) {
    throw malformed(`packet type ${type} with flags ${flags}`, "MQTT-2.1.3-1");
  }
  const reader = new PacketReader(buf, start, end);
  switch (type) {
    case PUBACK:
    case PUBREC:
    case PUBREL:
    case PUBCOMP:
      return decodeAck(reader, type, version, "client");
    case SUBSCRIBE:
      return decodeSubscribe(reader, version, maxDepth);
    case UNSUBSCRIBE:
      return decodeUnsubscribe(reader, version, maxDepth);
    case DISCONNECT:
      return decodeDisconnect(reader, version, "client");
    case AUTH:
      return decodeAuth(reader, version, "client");
    case CONNECT:
      throw protocolError("second CONNECT on a connection", "MQTT-3.1.0-2");
    case 0:
      throw malformed("packet type 0 is reserved", "2.1.2");
    case PUBLISH:
    case PINGREQ:
      throw new NautilusError("INTERNAL", {
        where: "core/mqtt decodeControl",
        reason: `packet type ${type} belongs to hot-codec`,
      });
    default:
      throw protocolError(`packet type ${type} is only sent by a server`, "2.1.2");
  }
}

const ACK_NAMES: Readonly<Record<number, AckPacket["type"]>> = {
  [PUBACK]: "puback",
  [PUBREC]: "pubrec",
  [PUBREL]: "pubrel",
  [PUBCOMP]: "pubcomp",
};

/**
 * Decodes PUBACK, PUBREC, PUBREL or PUBCOMP: packet id; in MQTT 5 then nothing (= success), a reason
 * code, or a reason code and properties. MQTT 5.0, 3.4.2, 3.5.2, 3.6.2, 3.7.2.
 */
export function decodeAck(
  reader: PacketReader,
  type: number,
  version: ProtocolVersion,
  sender: "client" | "server",
): AckPacket {
  const name = ACK_NAMES[type];
  const packetId = readPacketId(reader);
  if (version < 5 || reader.pos === reader.end) {
    reader.finish(name);
    return { type: name, packetId, reasonCode: RC_SUCCESS, properties: undefined };
  }
  const reasonCode = reader.byte("reason code");
  checkReasonCode(type, reasonCode, sender);
  const properties = reader.pos < reader.end ? readProperties(reader, type) : undefined;
  reader.finish(name);
  return { type: name, packetId, reasonCode, properties };
}

/** Decodes DISCONNECT; without a body the reason code is 0x00. MQTT 5.0, 3.14.2; 3.1.1, 3.14. */
export function decodeDisconnect(
  reader: PacketReader,
  version: ProtocolVersion,
  sender: "client" | "server",
): DisconnectPacket {
  let reasonCode = RC_SUCCESS;
  let properties: DisconnectPacket["properties"];
  if (version === 5 && reader.pos < reader.end) {
    reasonCode = reader.byte("reason code");
    checkReasonCode(DISCONNECT, reasonCode, sender);
    if (reader.pos < reader.end) properties = readProperties(reader, DISCONNECT);
  }
  reader.finish("DISCONNECT");
  return { type: "disconnect", reasonCode, properties };
}

/** Decodes AUTH; the authentication method must be there. MQTT 5.0, 3.15.2 [MQTT-3.15.2-1] */
export function decodeAuth(
  reader: PacketReader,
  version: ProtocolVersion,
  sender: "client" | "server",
): AuthPacket {
  if (version < 5) throw malformed("packet type 15 is reserved before MQTT 5", "3.1.1: 2.2.1");
  const isShort = reader.pos === reader.end;
  const reasonCode = isShort ? RC_SUCCESS : reader.byte("reason code");
  checkReasonCode(AUTH, reasonCode, sender);
  const properties = isShort ? undefined : readProperties(reader, AUTH);
  reader.finish("AUTH");
  // "It is a Protocol Error to omit the Authentication Method", yet the short form has none.
  if (!isShort && properties?.authenticationMethod === undefined) {
    throw protocolError("AUTH without authentication method", "3.15.2.2.2");
  }
  return { type: "auth", reasonCode, properties };
}

/** MQTT 5.0, 3.8; 3.1.1, 3.8. */
function decodeSubscribe(
  reader: PacketReader,
  version: ProtocolVersion,
  maxDepth: number,
): SubscribePacket {
  const packetId = readPacketId(reader);
  const properties = version === 5 ? readProperties(reader, SUBSCRIBE) : undefined;
  const subscriptions: SubscriptionRequest[] = [];
  while (reader.pos < reader.end) {
    const filter = readFilter(reader, maxDepth);
    subscriptions.push(readOptions(reader, filter, version));
  }
  // 3.8.3 calls this a protocol error; VerneMQ's 0x81 (recorded) stands.
  if (subscriptions.length === 0) throw malformed("SUBSCRIBE without a filter", "MQTT-3.8.3-2");
  return { type: "subscribe", packetId, subscriptions, properties };
}

/** MQTT 5.0, 3.10; 3.1.1, 3.10. */
function decodeUnsubscribe(
  reader: PacketReader,
  version: ProtocolVersion,
  maxDepth: number,
): UnsubscribePacket {
  const packetId = readPacketId(reader);
  const properties = version === 5 ? readProperties(reader, UNSUBSCRIBE) : undefined;
  const filters: string[] = [];
  while (reader.pos < reader.end) filters.push(readFilter(reader, maxDepth));
  if (filters.length === 0) throw malformed("UNSUBSCRIBE without a filter", "MQTT-3.10.3-2");
  return { type: "unsubscribe", packetId, filters, properties };
}

/** [MQTT-2.2.1-3] */
function readPacketId(reader: PacketReader): number {
  const packetId = reader.uint16("packet identifier");
  if (packetId === 0) throw protocolError("packet identifier is 0", "MQTT-2.2.1-3");
  return packetId;
}

function readFilter(reader: PacketReader, maxDepth: number): string {
  const filter = reader.string("topic filter");
  const fault = validateFilter(filter, maxDepth);
  if (fault !== undefined) throw new MqttError(fault.reasonCode, fault.message, "4.7, 4.8.2");
  return filter;
}

/**
 * Subscription options: bits 0-1 QoS, 2 No Local, 3 Retain As Published, 4-5 Retain Handling. 3.x has
 * the QoS only. MQTT 5.0, 3.8.3.1 [MQTT-3.8.3-5]; 3.1.1, 3.8.3 [MQTT-3.8.3-4]
 */
function readOptions(
  reader: PacketReader,
  filter: string,
  version: ProtocolVersion,
): SubscriptionRequest {
  const options = reader.byte("subscription options");
  const reserved = version === 5 ? 0xc0 : 0xfc;
  if ((options & reserved) !== 0)
    throw malformed("reserved subscription option is set", "MQTT-3.8.3-5");
  const qos = options & 0x03;
  const retainHandling = (options >> 4) & 0x03;
  // 3.8.3.1 calls both a protocol error; VerneMQ's 0x81 (recorded) stands.
  if (qos === 3) throw malformed("subscription with QoS 3", "3.8.3.1");
  if (retainHandling === 3) throw malformed("subscription with retain handling 3", "3.8.3.1");
  const noLocal = (options & 0x04) !== 0;
  // Differs from VerneMQ: it accepts this.
  if (noLocal && parseShared(filter) !== undefined) {
    throw protocolError("No Local on a shared subscription", "MQTT-3.8.3-4");
  }
  return { filter, qos, noLocal, retainAsPublished: (options & 0x08) !== 0, retainHandling };
}
