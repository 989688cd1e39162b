import { describe, expect, it } from "vitest";
import {
  DISCONNECT_FRAME,
  decodeServerPacket,
  encodeConnect,
  encodePublish,
  encodeSubscribe,
  encodeUnsubscribe,
  PINGREQ_FRAME,
} from "../../../core/mqtt/client-codec.ts";
import { REQUIRED_FLAGS } from "../../../core/mqtt/codec.ts";
import {
  AUTH,
  CONNACK,
  CONNECT,
  DISCONNECT,
  PINGREQ,
  PINGRESP,
  PUBACK,
  PUBLISH,
  SUBACK,
  SUBSCRIBE,
  UNSUBACK,
} from "../../../core/mqtt/packets.ts";
import { bytes, str, violation } from "./frames.ts";
import type { Version } from "./random-packets.ts";

const hex = (frame: Buffer): string => frame.toString("hex");

describe("packets of a client", () => {
  it("CONNECT", () => {
    const connect = {
      type: "connect",
      version: 4,
      level: 4,
      bridge: false,
      clean: true,
      keepAliveS: 60,
      clientId: "c000",
      username: undefined,
      password: undefined,
      will: undefined,
      properties: undefined,
    } as const;
    expect(hex(encodeConnect(connect))).toBe("101000044d5154540402003c000463303030");
    expect(hex(encodeConnect({ ...connect, version: 5, level: 5 }))).toBe(
      "101100044d5154540502003c00000463303030",
    );
    expect(hex(encodeConnect({ ...connect, version: 3, level: 131, bridge: true }))).toBe(
      "101200064d51497364708302003c000463303030",
    );
  });

  it("SUBSCRIBE and UNSUBSCRIBE", () => {
    const options = { qos: 1, noLocal: true, retainAsPublished: true, retainHandling: 2 };
    const subscribe = {
      packetId: 5,
      subscriptions: [{ filter: "a", ...options }],
      properties: undefined,
    };
    expect(hex(encodeSubscribe(4, subscribe))).toBe("8206000500016101");
    expect(hex(encodeSubscribe(5, subscribe))).toBe("82070005000001612d");
    const unsubscribe = { packetId: 8, filters: ["a"], properties: undefined };
    expect(hex(encodeUnsubscribe(4, unsubscribe))).toBe("a2050008000161");
    expect(hex(encodeUnsubscribe(5, unsubscribe))).toBe("a206000800000161");
  });

  it("PUBLISH, PINGREQ, DISCONNECT", () => {
    const publish = {
      topic: "t",
      payload: Buffer.from("x"),
      qos: 1,
      retain: true,
      dup: true,
      packetId: 9,
      properties: { topicAlias: 1 },
    };
    expect(hex(encodePublish(4, publish))).toBe("3b06000174000978");
    expect(hex(encodePublish(5, publish))).toBe("3b0a00017400090323000178");
    expect(hex(encodePublish(4, { ...publish, qos: 0, dup: false }))).toBe("310400017478");
    expect(hex(PINGREQ_FRAME)).toBe("c000");
    expect(hex(DISCONNECT_FRAME)).toBe("e000");
  });
});

describe("packets of a server", () => {
  const codeOf = (type: number, body: Buffer, version: Version, flags?: number): number =>
    violation(() =>
      decodeServerPacket(type, flags ?? REQUIRED_FLAGS[type] ?? 0, body, 0, body.length, version),
    ).reasonCode;

  it.each([
    ["CONNACK with reserved flags [MQTT-3.2.2-1]", CONNACK, bytes(2, 0), 4, 0x81],
    ["CONNACK with an undefined code [MQTT-3.2.2-8]", CONNACK, bytes(0, 5, 0), 5, 0x82],
    ["CONNACK without properties in MQTT 5", CONNACK, bytes(0, 0), 5, 0x81],
    ["CONNACK with bytes left", CONNACK, bytes(0, 0, 0), 4, 0x81],
    ["SUBACK with packet id 0", SUBACK, bytes(0, 0, 0), 4, 0x82],
    ["SUBACK with an undefined code [MQTT-3.9.3-2]", SUBACK, bytes(0, 1, 0, 0x10), 5, 0x82],
    ["SUBACK of 3.1.1 with QoS 3 [3.1.1: MQTT-3.9.3-2]", SUBACK, bytes(0, 1, 3), 4, 0x81],
    ["UNSUBACK of 3.1.1 with codes", UNSUBACK, bytes(0, 1, 0), 4, 0x81],
    ["PINGRESP with a body", PINGRESP, bytes(0), 4, 0x81],
    ["DISCONNECT of 3.1.1", DISCONNECT, bytes(), 4, 0x82],
    ["DISCONNECT with a client's code", DISCONNECT, bytes(4), 5, 0x82],
    ["AUTH with a client's code [MQTT-3.15.2-1]", AUTH, bytes(0x19, 4, 0x15, str("M")), 5, 0x82],
    ["PUBACK with code 0x92", PUBACK, bytes(0, 1, 0x92), 5, 0x82],
    ["PUBLISH with an empty topic", PUBLISH, bytes(str("")), 4, 0x90],
    ["PUBLISH with an empty topic and no alias", PUBLISH, bytes(str(""), 0), 5, 0x90],
    ["PUBLISH with a wildcard [MQTT-3.3.2-2]", PUBLISH, bytes(str("a/+")), 4, 0x90],
    ["PUBLISH with a cut topic", PUBLISH, bytes(0, 9, "a"), 4, 0x81],
    ["CONNECT", CONNECT, bytes(), 5, 0x82],
    ["SUBSCRIBE", SUBSCRIBE, bytes(0, 1, 0, str("a"), 0), 5, 0x82],
    ["PINGREQ", PINGREQ, bytes(), 4, 0x82],
    ["type 0", 0, bytes(), 4, 0x81],
  ] satisfies [string, number, Buffer, Version, number][])(
    "%s is refused",
    (_, type, body, version, reasonCode) => {
      expect(codeOf(type, body, version)).toBe(reasonCode);
    },
  );

  it("PUBLISH with QoS 3 or packet id 0 is refused [MQTT-3.3.1-4] [MQTT-2.2.1-3]", () => {
    expect(codeOf(PUBLISH, bytes(str("a"), 0, 1), 4, 0x06)).toBe(0x81);
    expect(codeOf(PUBLISH, bytes(str("a"), 0, 0), 4, 0x02)).toBe(0x82);
  });

  it("PUBLISH may have an empty topic with an alias", () => {
    const body = bytes(str(""), 3, 0x23, 0, 7, "pay");
    expect(decodeServerPacket(PUBLISH, 1, body, 0, body.length, 5)).toEqual({
      type: "publish",
      topic: "",
      payload: Buffer.from("pay"),
      qos: 0,
      retain: true,
      dup: false,
      packetId: 0,
      properties: { topicAlias: 7 },
    });
  });

  it("with wrong flags are refused [MQTT-2.1.3-1]", () => {
    expect(codeOf(CONNACK, bytes(0, 0), 4, 1)).toBe(0x81);
  });
});
