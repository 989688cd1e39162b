import { describe, expect, it } from "vitest";
import { PacketReader } from "../../../core/mqtt/packet-reader.ts";
import {
  AUTH,
  CONNACK,
  CONNECT,
  DISCONNECT,
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
} from "../../../core/mqtt/packets.ts";
import {
  decodeProperties,
  encodeProperties,
  PROPERTY_TABLE,
  readProperties,
  WILL,
} from "../../../core/mqtt/properties.ts";
import { bytes, str, violation } from "./frames.ts";
import { Random, randomProperties } from "./random-packets.ts";

const PLACES = [
  [CONNECT, "CONNECT"],
  [WILL, "will"],
  [CONNACK, "CONNACK"],
  [PUBLISH, "PUBLISH"],
  [PUBACK, "PUBACK"],
  [PUBREC, "PUBREC"],
  [PUBREL, "PUBREL"],
  [PUBCOMP, "PUBCOMP"],
  [SUBSCRIBE, "SUBSCRIBE"],
  [SUBACK, "SUBACK"],
  [UNSUBSCRIBE, "UNSUBSCRIBE"],
  [UNSUBACK, "UNSUBACK"],
  [DISCONNECT, "DISCONNECT"],
  [AUTH, "AUTH"],
] as const;

/** MQTT 5.0, 2.2.2.2 Table 2-4: identifiers per packet, written down apart from the code. */
const TABLE_2_4: Record<(typeof PLACES)[number][1], string> = {
  CONNECT: "11 15 16 17 19 21 22 26 27",
  will: "01 02 03 08 09 18 26",
  CONNACK: "11 12 13 15 16 1a 1c 1f 21 22 24 25 26 27 28 29 2a",
  PUBLISH: "01 02 03 08 09 0b 23 26",
  PUBACK: "1f 26",
  PUBREC: "1f 26",
  PUBREL: "1f 26",
  PUBCOMP: "1f 26",
  SUBSCRIBE: "0b 26",
  SUBACK: "1f 26",
  UNSUBSCRIBE: "26",
  UNSUBACK: "1f 26",
  DISCONNECT: "11 1c 1f 26",
  AUTH: "15 16 1f 26",
};

/** One legal value of each property on the wire. */
const VALUES: Record<number, Buffer> = {
  1: bytes(1),
  2: bytes(0, 0, 1, 0),
  3: str("text/plain"),
  8: str("answer/here"),
  9: str("corr"),
  11: bytes(0xff, 0xff, 0xff, 0x7f),
  17: bytes(0xff, 0xff, 0xff, 0xff),
  18: str("id"),
  19: bytes(0, 60),
  21: str("SCRAM"),
  22: str("data"),
  23: bytes(0),
  24: bytes(0, 0, 0, 5),
  25: bytes(1),
  26: str("info"),
  28: str("other:1883"),
  31: str("because"),
  33: bytes(0, 1),
  34: bytes(0, 0),
  35: bytes(0, 1),
  36: bytes(1),
  37: bytes(0),
  38: bytes(str("k"), str("v")),
  39: bytes(0, 0, 0, 1),
  40: bytes(0),
  41: bytes(1),
  42: bytes(0),
};

function decode(block: Buffer, where: number): Properties | undefined {
  return decodeProperties(block, 0, block.length, where);
}

function refused(block: Buffer, where: number): number {
  return violation(() => decode(block, where)).reasonCode;
}

const withMethod = (id: number): Buffer => (id === 0x16 ? bytes(0x15, str("M")) : bytes());

describe.each(PLACES)("properties of packet type %i (%s)", (where, name) => {
  const allowed = TABLE_2_4[name].split(" ").map((hex) => Number.parseInt(hex, 16));

  it("are those of the table; every other identifier is 0x81", () => {
    for (let id = 0; id < 256; id++) {
      const block = bytes(id, VALUES[id] ?? bytes(0), withMethod(id));
      if (allowed.includes(id)) expect(decode(block, where)).toBeDefined();
      else expect([id, refused(block, where)]).toEqual([id, 0x81]);
    }
  });

  it("must not repeat (0x82), user properties and a server's subscription ids excepted", () => {
    for (const id of allowed) {
      const block = bytes(id, VALUES[id], id, VALUES[id], withMethod(id));
      const mayRepeat = id === 0x26 || (id === 0x0b && where === PUBLISH);
      if (mayRepeat) expect(decode(block, where)).toBeDefined();
      else expect([id, refused(block, where)]).toEqual([id, 0x82]);
    }
  });

  it("must end with their block (0x81)", () => {
    for (const id of allowed) {
      const value = VALUES[id];
      for (let length = 0; length < value.length; length++) {
        const block = bytes(withMethod(id), id, value.subarray(0, length));
        expect([id, length, refused(block, where)]).toEqual([id, length, 0x81]);
      }
    }
  });

  it("come back from encode in every combination", () => {
    const random = new Random(where);
    for (let round = 0; round < 300; round++) {
      const properties = randomProperties(random, where);
      expect(decode(encodeProperties(properties), where)).toEqual(properties);
    }
  });
});

describe("property values", () => {
  it.each([
    ["receive maximum 0 [3.1.2.11.3]", CONNECT, bytes(0x21, 0, 0), 0x82],
    ["maximum packet size 0 [3.1.2.11.4]", CONNECT, bytes(0x27, 0, 0, 0, 0), 0x82],
    ["subscription identifier 0 [3.8.2.1.2]", SUBSCRIBE, bytes(0x0b, 0), 0x82],
    ["topic alias 0 [MQTT-3.3.2-8]", PUBLISH, bytes(0x23, 0, 0), 0x94],
    ["request problem information 2 [3.1.2.11.7]", CONNECT, bytes(0x17, 2), 0x82],
    ["request response information 2 [3.1.2.11.6]", CONNECT, bytes(0x19, 2), 0x82],
    ["maximum QoS 2 [3.2.2.3.4]", CONNACK, bytes(0x24, 2), 0x82],
    ["retain available 2 [3.2.2.3.5]", CONNACK, bytes(0x25, 255), 0x82],
    ["payload format indicator 2 (0x81 as recorded)", PUBLISH, bytes(1, 2), 0x81],
    ["ill-formed content type [MQTT-3.3.2-19]", PUBLISH, bytes(3, str(bytes(0xff))), 0x81],
    ["NUL in a response topic [MQTT-3.3.2-13]", PUBLISH, bytes(8, str("a\0")), 0x81],
    ["+ in a response topic [MQTT-3.3.2-14]", PUBLISH, bytes(8, str("a/+")), 0x82],
    ["# in a will's response topic [MQTT-3.3.2-14]", WILL, bytes(8, str("#")), 0x82],
    [
      "ill-formed user property name [MQTT-1.5.7-1]",
      AUTH,
      bytes(0x26, str(bytes(0xc3)), str("")),
      0x81,
    ],
    ["ill-formed user property value [MQTT-1.5.7-1]", AUTH, bytes(0x26, str(""), str("\0")), 0x81],
    ["subscription id not shortest [MQTT-1.5.5-1]", SUBSCRIBE, bytes(0x0b, 0x81, 0), 0x81],
    [
      "subscription id of five bytes [1.5.5]",
      SUBSCRIBE,
      bytes(0x0b, 0xff, 0xff, 0xff, 0xff, 1),
      0x81,
    ],
    ["authentication data alone [3.1.2.11.10]", CONNECT, bytes(0x16, str("d")), 0x82],
  ])("%s is refused", (_, where, block, reasonCode) => {
    expect(refused(block, where)).toBe(reasonCode);
  });

  it("are what the wire says", () => {
    const block = bytes(0x21, 0x12, 0x34, 0x17, 0, 0x19, 1, 0x11, 0x80, 0, 0, 1);
    expect(decode(block, CONNECT)).toEqual({
      receiveMaximum: 0x1234,
      requestProblemInformation: false,
      requestResponseInformation: true,
      sessionExpiryInterval: 0x80000001,
    });
    expect(decode(bytes(1, 1, 9, str(bytes(0, 255))), PUBLISH)).toEqual({
      payloadFormatIndicator: 1,
      correlationData: Buffer.from([0, 255]),
    });
  });

  it("keep the order of user properties, repeated and empty ones included [MQTT-3.3.2-18]", () => {
    const pairs = [
      ["b", "1"],
      ["a", ""],
      ["b", "2"],
      ["", ""],
      ["1", "x"],
      ["a", ""],
      ["__proto__", "y"],
    ] as const;
    const block = bytes(...pairs.flatMap(([key, value]) => [0x26, str(key), str(value)]));
    expect(decode(block, CONNECT)?.userProperties).toEqual(pairs);
    expect(encodeProperties({ userProperties: [...pairs] })).toEqual(block);
  });

  it("keep the order of subscription identifiers", () => {
    const block = bytes(0x0b, 5, 0x0b, 1, 0x0b, 5);
    expect(decode(block, PUBLISH)?.subscriptionIdentifiers).toEqual([5, 1, 5]);
    expect(encodeProperties({ subscriptionIdentifiers: [5, 1, 5] })).toEqual(block);
  });

  it("binary data does not keep the read buffer alive", () => {
    const block = bytes(9, str("abc"));
    const data = decode(block, PUBLISH)?.correlationData;
    block.fill(0);
    expect(data).toEqual(Buffer.from("abc"));
  });
});

describe("a property block", () => {
  it("without properties is undefined and encodes to nothing [MQTT-2.2.2-1]", () => {
    expect(decode(bytes(), CONNECT)).toBeUndefined();
    expect(encodeProperties(undefined)).toHaveLength(0);
    expect(encodeProperties({ reasonString: undefined })).toHaveLength(0);
  });

  it("must not be longer than the packet", () => {
    const reader = new PacketReader(bytes(3, 0x17, 0), 0, 3);
    expect(violation(() => readProperties(reader, CONNECT)).reasonCode).toBe(0x81);
  });

  it("must have a length of shortest form [MQTT-1.5.5-1]", () => {
    const reader = new PacketReader(bytes(0x82, 0x00, 0x17, 0), 0, 4);
    expect(violation(() => readProperties(reader, CONNECT)).reasonCode).toBe(0x81);
  });

  it("leaves the reader behind its last byte", () => {
    const reader = new PacketReader(bytes(9, 2, 0x17, 0, 77), 1, 5);
    expect(readProperties(reader, CONNECT)).toEqual({ requestProblemInformation: false });
    expect(reader.pos).toBe(4);
  });

  it("that cannot be encoded is our fault, not a cut string", () => {
    expect(() => encodeProperties({ reasonString: "x".repeat(65536) })).toThrow(/INTERNAL|encoder/);
    expect(() => encodeProperties({ subscriptionIdentifiers: [268435456] })).toThrow(/encoder/);
  });
});

describe("the property table", () => {
  it("has 27 rows with different identifiers and names", () => {
    expect(PROPERTY_TABLE).toHaveLength(27);
    expect(new Set(PROPERTY_TABLE.map((row) => row.id)).size).toBe(27);
    expect(new Set(PROPERTY_TABLE.map((row) => row.name)).size).toBe(27);
  });
});
