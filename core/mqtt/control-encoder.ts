import type { ProtocolVersion } from "./connect-codec.ts";
import { PacketWriter } from "./packet-writer.ts";
import {
  AUTH,
  CONNACK,
  DISCONNECT,
  PINGRESP,
  type Properties,
  type PUBACK,
  type PUBCOMP,
  type PUBREC,
  PUBREL,
  SUBACK,
  UNSUBACK,
} from "./packets.ts";
import { writeProperties } from "./properties.ts";
import { RC_GRANTED_QOS2, RC_SUCCESS, SUBACK_FAILURE } from "./reason-codes.ts";

/** Encodes the control packets a broker sends, in the forms that VerneMQ uses where MQTT has several. */

/** PUBACK, PUBREC, PUBREL or PUBCOMP. */
export type AckType = typeof PUBACK | typeof PUBREC | typeof PUBREL | typeof PUBCOMP;

/** What the receiver of a packet asked for in its CONNECT. */
export interface EncodeLimits {
  /**
   * Bytes of the whole packet, undefined = no limit. A packet above it loses its Reason String, then
   * its User Properties; the encoder returns undefined if it is still too large, and nothing may be
   * sent. MQTT 5.0, 3.1.2.11.4 [MQTT-3.1.2-24]
   */
  maximumPacketSize?: number | undefined;
  /**
   * false: no Reason String and no User Properties except in CONNACK, DISCONNECT and PUBLISH.
   * MQTT 5.0, 3.1.2.11.7 [MQTT-3.1.2-29]
   */
  requestProblemInformation?: boolean | undefined;
}

const NO_LIMITS: EncodeLimits = {};

/** The only PINGRESP there is. MQTT 5.0, 3.13. */
export const PINGRESP_FRAME: Buffer = Buffer.from([PINGRESP << 4, 0]);

/**
 * CONNACK. `code` is a return code in 3.x and a reason code in MQTT 5. Session Present is 0 with any
 * code but success. MQTT 5.0, 3.2 [MQTT-3.2.2-6]; 3.1.1, 3.2 [MQTT-3.2.2-4]
 */
export function encodeConnack(
  version: ProtocolVersion,
  connack: { sessionPresent: boolean; code: number; properties?: Properties | undefined },
  limits: EncodeLimits = NO_LIMITS,
): Buffer | undefined {
  const { code, properties } = connack;
  const present = connack.sessionPresent && code === RC_SUCCESS ? 1 : 0;
  if (version < 5)
    return new PacketWriter()
      .byte(present)
      .byte(code)
      .frame(CONNACK << 4);
  return fitted(properties, limits, (kept) =>
    writeProperties(new PacketWriter().byte(present).byte(code), kept).frame(CONNACK << 4),
  );
}

/**
 * PUBACK, PUBREC, PUBREL or PUBCOMP. Two bytes for 3.x and for success without properties, else with
 * reason code and property length. MQTT 5.0, 3.4 to 3.7.
 */
export function encodeAck(
  type: AckType,
  version: ProtocolVersion,
  ack: { packetId: number; reasonCode?: number; properties?: Properties | undefined },
  limits: EncodeLimits = NO_LIMITS,
): Buffer | undefined {
  const { packetId, reasonCode = RC_SUCCESS, properties } = ack;
  // [MQTT-3.6.1-1] PUBREL has flags 0010
  const firstByte = (type << 4) | (type === PUBREL ? 0x02 : 0);
  return fitted(problemInformation(properties, limits), limits, (kept) => {
    const writer = new PacketWriter().uint16(packetId);
    const isShort = version < 5 || (reasonCode === RC_SUCCESS && isEmpty(kept));
    if (!isShort) writeProperties(writer.byte(reasonCode), kept);
    return writer.frame(firstByte);
  });
}

/**
 * SUBACK with one code per requested filter, in their order. 3.x knows 0, 1, 2 and 0x80, so every
 * refusal becomes 0x80. MQTT 5.0, 3.9 [MQTT-3.9.3-1]; 3.1.1, 3.9.3 [MQTT-3.9.3-2]
 */
export function encodeSuback(
  version: ProtocolVersion,
  suback: { packetId: number; codes: readonly number[]; properties?: Properties | undefined },
  limits: EncodeLimits = NO_LIMITS,
): Buffer | undefined {
  const { packetId, codes, properties } = suback;
  if (version < 5) {
    const old = codes.map((code) => (code > RC_GRANTED_QOS2 ? SUBACK_FAILURE : code));
    return new PacketWriter()
      .uint16(packetId)
      .bytes(Buffer.from(old))
      .frame(SUBACK << 4);
  }
  return fitted(problemInformation(properties, limits), limits, (kept) =>
    writeProperties(new PacketWriter().uint16(packetId), kept)
      .bytes(Buffer.from(codes))
      .frame(SUBACK << 4),
  );
}

/**
 * UNSUBACK with one code per filter in MQTT 5, only the packet id in 3.x.
 * MQTT 5.0, 3.11 [MQTT-3.11.3-1]; 3.1.1, 3.11.
 */
export function encodeUnsuback(
  version: ProtocolVersion,
  unsuback: { packetId: number; codes: readonly number[]; properties?: Properties | undefined },
  limits: EncodeLimits = NO_LIMITS,
): Buffer | undefined {
  const { packetId, codes, properties } = unsuback;
  if (version < 5) return new PacketWriter().uint16(packetId).frame(UNSUBACK << 4);
  return fitted(problemInformation(properties, limits), limits, (kept) =>
    writeProperties(new PacketWriter().uint16(packetId), kept)
      .bytes(Buffer.from(codes))
      .frame(UNSUBACK << 4),
  );
}

/**
 * DISCONNECT of MQTT 5 (a 3.x server has none); without a body for 0x00 without properties.
 * MQTT 5.0, 3.14.
 */
export function encodeDisconnect(
  reasonCode: number,
  properties?: Properties | undefined,
  limits: EncodeLimits = NO_LIMITS,
): Buffer | undefined {
  return fitted(properties, limits, (kept) => {
    const writer = new PacketWriter();
    const isShort = reasonCode === RC_SUCCESS && isEmpty(kept);
    if (!isShort) writeProperties(writer.byte(reasonCode), kept);
    return writer.frame(DISCONNECT << 4);
  });
}

/** AUTH of MQTT 5; `properties` must hold the authentication method. MQTT 5.0, 3.15. */
export function encodeAuth(
  reasonCode: number,
  properties: Properties,
  limits: EncodeLimits = NO_LIMITS,
): Buffer | undefined {
  return fitted(problemInformation(properties, limits), limits, (kept) =>
    writeProperties(new PacketWriter().byte(reasonCode), kept).frame(AUTH << 4),
  );
}

/** [MQTT-3.1.2-29] */
function problemInformation(
  properties: Properties | undefined,
  limits: EncodeLimits,
): Properties | undefined {
  if (properties === undefined || limits.requestProblemInformation !== false) return properties;
  return { ...properties, reasonString: undefined, userProperties: undefined };
}

/**
 * Encodes with as many properties as fit into the receiver's Maximum Packet Size; undefined if even
 * the rest does not. MQTT 5.0, 3.1.2.11.4, 3.2.2.3.9 [MQTT-3.2.2-19] [MQTT-3.2.2-20]
 */
function fitted(
  properties: Properties | undefined,
  limits: EncodeLimits,
  encode: (kept: Properties | undefined) => Buffer,
): Buffer | undefined {
  const bytesMax = limits.maximumPacketSize ?? Number.POSITIVE_INFINITY;
  const full = encode(properties);
  if (full.length <= bytesMax) return full;
  const noReason = encode({ ...properties, reasonString: undefined });
  if (noReason.length <= bytesMax) return noReason;
  const bare = encode({ ...properties, reasonString: undefined, userProperties: undefined });
  return bare.length <= bytesMax ? bare : undefined;
}

function isEmpty(properties: Properties | undefined): boolean {
  if (properties === undefined) return true;
  return Object.values(properties).every((value) => value === undefined);
}
