import { describe, expect, it } from "vitest";
import { decodeControl, hasRequiredFlags, REQUIRED_FLAGS } from "../../../core/mqtt/codec.ts";
import type { ControlPacket } from "../../../core/mqtt/packets.ts";
import {
  AUTH,
  CONNACK,
  CONNECT,
  DISCONNECT,
  PINGRESP,
  PUBACK,
  PUBCOMP,
  PUBLISH,
  PUBREC,
  PUBREL,
  SUBACK,
  SUBSCRIBE,
  UNSUBACK,
  UNSUBSCRIBE,
} from "../../../core/mqtt/packets.ts";
import { bytes, encodeControl, str, violation } from "./frames.ts";
import { open, Random, randomControl, type Version } from "./random-packets.ts";

function decode(type: number, body: Buffer, version: Version = 5, maxDepth = 10): ControlPacket {
  const flags = REQUIRED_FLAGS[type] ?? 0;
  // In the middle of a larger buffer: bytes around the body must not matter.
  const chunk = bytes(0xff, body, 0, 0, 0);
  return decodeControl(type, flags, chunk, 1, 1 + body.length, version, maxDepth);
}

const codeOf = (run: () => unknown): number => violation(run).reasonCode;

describe("fixed header flags", () => {
  it("are those of Table 2-2 [MQTT-2.1.3-1]", () => {
    const two = [PUBREL, SUBSCRIBE, UNSUBSCRIBE];
    for (let type = 0; type < 16; type++) {
      if (type === PUBLISH) continue;
      for (let flags = 0; flags < 16; flags++) {
        const isRight = flags === (two.includes(type) ? 2 : 0);
        expect(hasRequiredFlags(type, flags, 4)).toBe(isRight);
        expect(hasRequiredFlags(type, flags, 5)).toBe(isRight);
      }
    }
    expect(REQUIRED_FLAGS[PUBLISH]).toBeUndefined();
  });

  it("of MQTT 3.1 may have DUP where the message has QoS 1", () => {
    expect(hasRequiredFlags(SUBSCRIBE, 0x0a, 3)).toBe(true);
    expect(hasRequiredFlags(PUBREL, 0x0a, 3)).toBe(true);
    expect(hasRequiredFlags(PUBACK, 0x08, 3)).toBe(false);
    expect(hasRequiredFlags(SUBSCRIBE, 0x08, 3)).toBe(false);
  });

  it.each([
    [SUBSCRIBE, 0],
    [UNSUBSCRIBE, 0],
    [PUBREL, 0],
    [PUBACK, 2],
    [DISCONNECT, 1],
    [AUTH, 8],
  ])("packet type %i with flags %i is malformed", (type, flags) => {
    const body = bytes(0, 1, 0, str("a"), 0);
    expect(codeOf(() => decodeControl(type, flags, body, 0, body.length, 5))).toBe(0x81);
  });
});

describe("packets a client may not send", () => {
  it("a second CONNECT is a protocol error [MQTT-3.1.0-2]", () => {
    expect(codeOf(() => decode(CONNECT, bytes()))).toBe(0x82);
  });

  it.each([CONNACK, SUBACK, UNSUBACK, PINGRESP])("type %i is a server's", (type) => {
    expect(codeOf(() => decode(type, bytes(0, 1, 0)))).toBe(0x82);
  });

  it("type 0 is reserved, and AUTH is before MQTT 5", () => {
    expect(codeOf(() => decode(0, bytes()))).toBe(0x81);
    expect(codeOf(() => decode(AUTH, bytes(0x18, 4, 0x15, str("M")), 4))).toBe(0x81);
    expect(codeOf(() => decode(AUTH, bytes(), 3))).toBe(0x81);
  });
});

describe("SUBSCRIBE", () => {
  it("gives filters and options in packet order", () => {
    const body = bytes(0x12, 0x34, 2, 0x0b, 5, str("a/+"), 0x2e, str("$share/g/t"), 0x11);
    expect(decode(SUBSCRIBE, body)).toEqual({
      type: "subscribe",
      packetId: 0x1234,
      properties: { subscriptionIdentifiers: [5] },
      subscriptions: [
        { filter: "a/+", qos: 2, noLocal: true, retainAsPublished: true, retainHandling: 2 },
        {
          filter: "$share/g/t",
          qos: 1,
          noLocal: false,
          retainAsPublished: false,
          retainHandling: 1,
        },
      ],
    });
  });

  it("of 3.x has a QoS only", () => {
    const body = bytes(0, 7, str("a"), 0, str("a"), 2);
    expect(decode(SUBSCRIBE, body, 4)).toMatchObject({
      properties: undefined,
      subscriptions: [
        { filter: "a", qos: 0, noLocal: false, retainAsPublished: false, retainHandling: 0 },
        { filter: "a", qos: 2 },
      ],
    });
    for (const options of [0x04, 0x08, 0x10, 0x40, 0x80]) {
      expect(codeOf(() => decode(SUBSCRIBE, bytes(0, 7, str("a"), options), 4))).toBe(0x81);
      expect(codeOf(() => decode(SUBSCRIBE, bytes(0, 7, str("a"), options), 3))).toBe(0x81);
    }
  });

  it.each([
    ["packet id 0 [MQTT-2.2.1-3]", bytes(0, 0, 0, str("a"), 0), 0x82],
    ["no filter [MQTT-3.8.3-2]", bytes(0, 1, 0), 0x81],
    ["QoS 3 [3.8.3.1]", bytes(0, 1, 0, str("a"), 3), 0x81],
    ["retain handling 3 [3.8.3.1]", bytes(0, 1, 0, str("a"), 0x30), 0x81],
    ["reserved bit 6 [MQTT-3.8.3-5]", bytes(0, 1, 0, str("a"), 0x40), 0x81],
    ["reserved bit 7 [MQTT-3.8.3-5]", bytes(0, 1, 0, str("a"), 0x80), 0x81],
    ["No Local on a shared filter [MQTT-3.8.3-4]", bytes(0, 1, 0, str("$share/g/t"), 4), 0x82],
    ["subscription id 0 [3.8.2.1.2]", bytes(0, 1, 2, 0x0b, 0, str("a"), 0), 0x82],
    ["two subscription ids [3.8.2.1.2]", bytes(0, 1, 4, 0x0b, 1, 0x0b, 2, str("a"), 0), 0x82],
    ["a property of PUBLISH [2.2.2.2]", bytes(0, 1, 5, 2, 0, 0, 0, 1, str("a"), 0), 0x81],
    ["a filter without options", bytes(0, 1, 0, str("a")), 0x81],
    ["a cut filter", bytes(0, 1, 0, 0, 5, "a"), 0x81],
    ["an empty filter [MQTT-4.7.3-1]", bytes(0, 1, 0, str(""), 0), 0x81],
    ["NUL in a filter [MQTT-4.7.3-2]", bytes(0, 1, 0, str("a\0"), 0), 0x81],
    ["an ill-formed filter [MQTT-3.8.3-1]", bytes(0, 1, 0, str(bytes(0x61, 0xff)), 0), 0x81],
    ["a bad second filter [MQTT-4.7.1-1]", bytes(0, 1, 0, str("a"), 0, str("a/#/b"), 0), 0x8f],
    ["group + [MQTT-4.8.2-2]", bytes(0, 1, 0, str("$share/+/t"), 0), 0x8f],
    ["a filter of eleven levels", bytes(0, 1, 0, str("a/b/c/d/e/f/g/h/i/j/k"), 0), 0x8f],
    ["one byte", bytes(1), 0x81],
  ])("with %s is refused", (_, body, reasonCode) => {
    expect(codeOf(() => decode(SUBSCRIBE, body))).toBe(reasonCode);
  });

  it("does not count $share/<group> as depth", () => {
    const body = bytes(0, 1, 0, str("$share/g/a/b/c"), 0);
    expect(decode(SUBSCRIBE, body, 5, 3)).toMatchObject({ packetId: 1 });
    expect(codeOf(() => decode(SUBSCRIBE, body, 5, 2))).toBe(0x8f);
  });
});

describe("UNSUBSCRIBE", () => {
  it("gives filters in packet order", () => {
    const body = bytes(0, 9, str("b"), str("$share/g/#"), str("b"));
    expect(decode(UNSUBSCRIBE, body, 4)).toEqual({
      type: "unsubscribe",
      packetId: 9,
      filters: ["b", "$share/g/#", "b"],
      properties: undefined,
    });
  });

  it.each([
    ["packet id 0 [MQTT-2.2.1-3]", bytes(0, 0, 0, str("a")), 0x82],
    ["no filter [MQTT-3.10.3-2]", bytes(0, 1, 0), 0x81],
    ["a bad filter [MQTT-4.7.1-1]", bytes(0, 1, 0, str("a/#/b")), 0x8f],
    ["an empty filter [MQTT-4.7.3-1]", bytes(0, 1, 0, str("")), 0x81],
    ["an ill-formed filter [MQTT-3.10.3-1]", bytes(0, 1, 0, str(bytes(0xc0, 0x80))), 0x81],
    ["a subscription id [2.2.2.2]", bytes(0, 1, 2, 0x0b, 1, str("a")), 0x81],
    ["half a filter length", bytes(0, 1, 0, str("a"), 0), 0x81],
  ])("with %s is refused", (_, body, reasonCode) => {
    expect(codeOf(() => decode(UNSUBSCRIBE, body))).toBe(reasonCode);
  });
});

describe.each([
  [PUBACK, "puback", 0x87],
  [PUBREC, "pubrec", 0x97],
  [PUBREL, "pubrel", 0x92],
  [PUBCOMP, "pubcomp", 0x92],
])("acknowledgement of type %i (%s)", (type, name, code) => {
  it("is short, with a code, or with properties", () => {
    const short = { type: name, packetId: 0x0102, reasonCode: 0, properties: undefined };
    expect(decode(type, bytes(1, 2))).toEqual(short);
    expect(decode(type, bytes(1, 2), 4)).toEqual(short);
    expect(decode(type, bytes(1, 2, code))).toEqual({ ...short, reasonCode: code });
    expect(decode(type, bytes(1, 2, code, 0))).toEqual({ ...short, reasonCode: code });
    expect(decode(type, bytes(1, 2, 0, 4, 0x1f, str("x")))).toEqual({
      ...short,
      properties: { reasonString: "x" },
    });
  });

  it("of 3.x has exactly two bytes", () => {
    for (const version of [3, 4] as const) {
      expect(codeOf(() => decode(type, bytes(1, 2, 0), version))).toBe(0x81);
      expect(codeOf(() => decode(type, bytes(1, 2, 0, 0), version))).toBe(0x81);
    }
  });

  it.each([
    ["no body", bytes(), 0x81],
    ["one byte", bytes(1), 0x81],
    ["packet id 0", bytes(0, 0), 0x82],
    ["an undefined reason code", bytes(0, 1, 0x05), 0x82],
    ["a reason code of another packet", bytes(0, 1, 0x8e, 0), 0x82],
    ["bytes after the properties", bytes(0, 1, 0, 0, 0), 0x81],
    ["properties longer than the packet", bytes(0, 1, 0, 5, 0x1f), 0x81],
    ["a property of another packet", bytes(0, 1, 0, 3, 0x21, 0, 1), 0x81],
  ])("with %s is refused", (_, body, reasonCode) => {
    expect(codeOf(() => decode(type, body))).toBe(reasonCode);
  });
});

describe("DISCONNECT", () => {
  it("is empty, with a code, or with properties", () => {
    const plain = { type: "disconnect", reasonCode: 0, properties: undefined };
    expect(decode(DISCONNECT, bytes())).toEqual(plain);
    expect(decode(DISCONNECT, bytes(), 3)).toEqual(plain);
    expect(decode(DISCONNECT, bytes(0x04))).toEqual({ ...plain, reasonCode: 4 });
    expect(decode(DISCONNECT, bytes(0x04, 0))).toEqual({ ...plain, reasonCode: 4 });
    expect(decode(DISCONNECT, bytes(0, 5, 0x11, 0, 0, 0, 9))).toEqual({
      ...plain,
      properties: { sessionExpiryInterval: 9 },
    });
  });

  it.each([
    ["an undefined reason code [MQTT-3.14.2-1]", bytes(0x01), 5, 0x82],
    ["a server's reason code [MQTT-3.14.2-1]", bytes(0x8e), 5, 0x82],
    ["bytes after the properties", bytes(0, 0, 1), 5, 0x81],
    ["a body in 3.1.1", bytes(0), 4, 0x81],
    ["authentication method", bytes(0, 4, 0x15, str("M")), 5, 0x81],
  ] satisfies [string, Buffer, Version, number][])(
    "with %s is refused",
    (_, body, version, code) => {
      expect(codeOf(() => decode(DISCONNECT, body, version))).toBe(code);
    },
  );
});

describe("AUTH", () => {
  it("has a code, a method and data", () => {
    const properties = bytes(0x15, str("M"), 0x16, str("d"));
    expect(decode(AUTH, bytes(0x18, properties.length, properties))).toEqual({
      type: "auth",
      reasonCode: 0x18,
      properties: { authenticationMethod: "M", authenticationData: Buffer.from("d") },
    });
  });

  it.each([
    ["nothing: success is a server's code [MQTT-3.15.2-1]", bytes(), 0x82],
    ["a server's code [MQTT-3.15.2-1]", bytes(0x00, 4, 0x15, str("M")), 0x82],
    ["an undefined code [MQTT-3.15.2-1]", bytes(0x20, 4, 0x15, str("M")), 0x82],
    ["no method [3.15.2.2.2]", bytes(0x18, 0), 0x82],
    ["data without method [3.15.2.2.3]", bytes(0x18, 4, 0x16, str("d")), 0x82],
    ["no property length", bytes(0x18), 0x81],
    ["bytes after the properties", bytes(0x18, 4, 0x15, str("M"), 0), 0x81],
  ])("with %s is refused", (_, body, reasonCode) => {
    expect(codeOf(() => decode(AUTH, body))).toBe(reasonCode);
  });
});

describe("every packet of a client", () => {
  it.each([3, 4, 5] as const)("comes back from our encoder, level %i", (version) => {
    const random = new Random(version + 40);
    for (let round = 0; round < 2000; round++) {
      const packet = randomControl(random, version);
      const frame = encodeControl(version, packet);
      const { type, flags, start, end } = open(frame);
      expect(decodeControl(type, flags, frame, start, end, version)).toEqual(packet);
    }
  });
});
