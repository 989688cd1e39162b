import {
  DISCONNECT_FRAME,
  encodeConnect,
  encodePublish,
  encodeSubscribe,
  encodeUnsubscribe,
  type ServerPacket,
} from "../../../core/mqtt/client-codec.ts";
import {
  encodeAck,
  encodeAuth,
  encodeConnack,
  encodeDisconnect,
  encodeSuback,
  encodeUnsuback,
  PINGRESP_FRAME,
} from "../../../core/mqtt/codec.ts";
import {
  type AckPacket,
  type ControlPacket,
  MqttError,
  PUBACK,
  PUBCOMP,
  PUBREC,
  PUBREL,
} from "../../../core/mqtt/packets.ts";
import type { Version } from "./random-packets.ts";

/** Whole packets from packet objects, for tests that go over all types. */

const ACK_NUMBERS = { puback: PUBACK, pubrec: PUBREC, pubrel: PUBREL, pubcomp: PUBCOMP } as const;

function must(frame: Buffer | undefined): Buffer {
  if (frame === undefined) throw new Error("packet was not encoded");
  return frame;
}

function encodeAnyAck(version: Version, packet: AckPacket): Buffer {
  return must(encodeAck(ACK_NUMBERS[packet.type], version, packet));
}

/** A packet of a client with our encoder. */
export function encodeControl(version: Version, packet: ControlPacket): Buffer {
  switch (packet.type) {
    case "connect":
      return encodeConnect(packet);
    case "subscribe":
      return encodeSubscribe(version, packet);
    case "unsubscribe":
      return encodeUnsubscribe(version, packet);
    case "disconnect":
      if (version < 5) return DISCONNECT_FRAME;
      return must(encodeDisconnect(packet.reasonCode, packet.properties));
    case "auth":
      return must(encodeAuth(packet.reasonCode, packet.properties ?? {}));
    default:
      return encodeAnyAck(version, packet);
  }
}

/** A packet of a server with our encoder. */
export function encodeServerPacket(version: Version, packet: ServerPacket): Buffer {
  switch (packet.type) {
    case "connack":
      return must(encodeConnack(version, packet));
    case "publish":
      return encodePublish(version, packet);
    case "suback":
      return must(encodeSuback(version, packet));
    case "unsuback":
      return must(encodeUnsuback(version, packet));
    case "pingresp":
      return PINGRESP_FRAME;
    case "disconnect":
      return must(encodeDisconnect(packet.reasonCode, packet.properties));
    case "auth":
      return must(encodeAuth(packet.reasonCode, packet.properties ?? {}));
    default:
      return encodeAnyAck(version, packet);
  }
}

/** The MqttError that `run` throws; fails if it throws nothing or something else. */
export function violation(run: () => unknown): MqttError {
  try {
    run();
  } catch (error) {
    if (error instanceof MqttError) return error;
    throw error;
  }
  throw new Error("no MqttError was thrown");
}

/** Bytes of an MQTT string. */
export function str(text: string | Buffer): Buffer {
  const bytes = Buffer.from(text);
  return Buffer.concat([Buffer.from([bytes.length >> 8, bytes.length & 0xff]), bytes]);
}

/** Joins bytes, texts (as latin1) and buffers. */
export function bytes(...parts: (number | string | Buffer)[]): Buffer {
  return Buffer.concat(
    parts.map((part) => {
      if (typeof part === "number") return Buffer.from([part]);
      return typeof part === "string" ? Buffer.from(part, "latin1") : part;
    }),
  );
}
