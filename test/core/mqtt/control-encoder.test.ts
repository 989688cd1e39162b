import { describe, expect, it } from "vitest";
import { decodeServerPacket, type ServerPacket } from "../../../core/mqtt/client-codec.ts";
import {
  encodeAck,
  encodeAuth,
  encodeConnack,
  encodeDisconnect,
  encodeSuback,
  encodeUnsuback,
  PINGRESP_FRAME,
} from "../../../core/mqtt/codec.ts";
import { type Properties, PUBACK, PUBCOMP, PUBREC, PUBREL } from "../../../core/mqtt/packets.ts";
import { encodeServerPacket } from "./frames.ts";
import { open, Random, randomServerPacket } from "./random-packets.ts";

const hex = (frame: Buffer | undefined): string | undefined => frame?.toString("hex");

function decode(frame: Buffer | undefined): ServerPacket | undefined {
  if (frame === undefined) return undefined;
  const { type, flags, start, end } = open(frame);
  return decodeServerPacket(type, flags, frame, start, end, 5);
}

describe("bytes on the wire are those of VerneMQ (recorded)", () => {
  it("CONNACK", () => {
    expect(hex(encodeConnack(3, { sessionPresent: false, code: 1 }))).toBe("20020001");
    expect(hex(encodeConnack(4, { sessionPresent: true, code: 0 }))).toBe("20020100");
    const properties: Properties = { topicAliasMaximum: 10 };
    expect(hex(encodeConnack(5, { sessionPresent: false, code: 0, properties }))).toBe(
      "200600000322000a",
    );
    expect(hex(encodeConnack(5, { sessionPresent: false, code: 0x84 }))).toBe("2003008400");
  });

  it("acknowledgements: short for success, else with code and property length", () => {
    expect(hex(encodeAck(PUBACK, 4, { packetId: 9 }))).toBe("40020009");
    expect(hex(encodeAck(PUBREC, 5, { packetId: 3 }))).toBe("50020003");
    expect(hex(encodeAck(PUBREL, 5, { packetId: 1 }))).toBe("62020001");
    expect(hex(encodeAck(PUBCOMP, 3, { packetId: 65535 }))).toBe("7002ffff");
    expect(hex(encodeAck(PUBACK, 5, { packetId: 9, reasonCode: 0x87 }))).toBe("400400098700");
    expect(hex(encodeAck(PUBREL, 5, { packetId: 77, reasonCode: 0x92 }))).toBe("6204004d9200");
    const properties: Properties = { reasonString: "x" };
    expect(hex(encodeAck(PUBCOMP, 5, { packetId: 1, properties }))).toBe("7008000100041f000178");
  });

  it("acknowledgements of 3.x have neither code nor properties", () => {
    const ack = { packetId: 9, reasonCode: 0x87, properties: { reasonString: "x" } };
    expect(hex(encodeAck(PUBACK, 4, ack))).toBe("40020009");
  });

  it("SUBACK and UNSUBACK", () => {
    expect(hex(encodeSuback(4, { packetId: 7, codes: [0, 1, 2] }))).toBe("90050007000102");
    expect(hex(encodeSuback(5, { packetId: 5, codes: [1] }))).toBe("900400050001");
    expect(hex(encodeUnsuback(4, { packetId: 8, codes: [0, 0x11] }))).toBe("b0020008");
    expect(hex(encodeUnsuback(5, { packetId: 3, codes: [0, 0x11] }))).toBe("b0050003000011");
  });

  it("SUBACK of 3.x has 0x80 for every refusal [3.1.1: MQTT-3.9.3-2]", () => {
    expect(hex(encodeSuback(4, { packetId: 7, codes: [0x87, 2, 0x97] }))).toBe("90050007800280");
  });

  it("PINGRESP, DISCONNECT, AUTH", () => {
    expect(hex(PINGRESP_FRAME)).toBe("d000");
    expect(hex(encodeDisconnect(0))).toBe("e000");
    expect(hex(encodeDisconnect(0x8e))).toBe("e0028e00");
    expect(hex(encodeDisconnect(0, { reasonString: "x" }))).toBe("e00600041f000178");
    expect(hex(encodeAuth(0x18, { authenticationMethod: "M" }))).toBe("f0061804" + "1500014d");
  });
});

describe("CONNACK", () => {
  it("has no session present with a refusal [MQTT-3.2.2-6]", () => {
    expect(hex(encodeConnack(4, { sessionPresent: true, code: 5 }))).toBe("20020005");
    expect(hex(encodeConnack(5, { sessionPresent: true, code: 0x87 }))).toBe("2003008700");
  });
});

const TALKATIVE: Properties = {
  reasonString: "because",
  userProperties: [
    ["k", "v"],
    ["k", "w"],
  ],
};

describe("a maximum packet size [MQTT-3.1.2-24]", () => {
  const frames: [string, (maximumPacketSize: number) => Buffer | undefined][] = [
    [
      "CONNACK",
      (max) =>
        encodeConnack(
          5,
          { sessionPresent: false, code: 0x80, properties: TALKATIVE },
          { maximumPacketSize: max },
        ),
    ],
    [
      "PUBACK",
      (max) =>
        encodeAck(PUBACK, 5, { packetId: 1, properties: TALKATIVE }, { maximumPacketSize: max }),
    ],
    [
      "SUBACK",
      (max) =>
        encodeSuback(
          5,
          { packetId: 1, codes: [0, 0], properties: TALKATIVE },
          { maximumPacketSize: max },
        ),
    ],
    [
      "UNSUBACK",
      (max) =>
        encodeUnsuback(
          5,
          { packetId: 1, codes: [0], properties: TALKATIVE },
          { maximumPacketSize: max },
        ),
    ],
    ["DISCONNECT", (max) => encodeDisconnect(0x80, TALKATIVE, { maximumPacketSize: max })],
    [
      "AUTH",
      (max) =>
        encodeAuth(0x18, { ...TALKATIVE, authenticationMethod: "M" }, { maximumPacketSize: max }),
    ],
  ];

  it.each(frames)(
    "costs %s its reason string, then its user properties, then itself",
    (_, encode) => {
      const full = encode(1000)?.length ?? 0;
      expect(decode(encode(full))).toMatchObject({ properties: TALKATIVE });
      const reasonBytes = 3 + "because".length;
      const shorter = decode(encode(full - 1));
      expect(shorter).toMatchObject({ properties: { userProperties: TALKATIVE.userProperties } });
      expect(shorter).not.toHaveProperty("properties.reasonString");
      expect(encode(full - 1)).toHaveLength(full - reasonBytes);
      const bare = encode(full - reasonBytes - 1);
      expect(decode(bare)).not.toHaveProperty("properties.userProperties");
      const smallest = bare?.length ?? 0;
      expect(encode(smallest)).toEqual(bare);
      expect(encode(smallest - 1)).toBeUndefined();
    },
  );

  it("leaves the caller's properties alone", () => {
    encodeDisconnect(0x80, TALKATIVE, { maximumPacketSize: 5 });
    expect(TALKATIVE.reasonString).toBe("because");
    expect(TALKATIVE.userProperties).toHaveLength(2);
  });
});

describe("request problem information 0 [MQTT-3.1.2-29]", () => {
  const limits = { requestProblemInformation: false };

  it("silences acknowledgements, SUBACK, UNSUBACK and AUTH", () => {
    const packet = { packetId: 1, codes: [0x87], properties: TALKATIVE };
    const ack = { packetId: 1, reasonCode: 0x87, properties: TALKATIVE };
    expect(hex(encodeAck(PUBACK, 5, ack, limits))).toBe("400400018700");
    expect(hex(encodeAck(PUBACK, 5, { ...ack, reasonCode: 0 }, limits))).toBe("40020001");
    expect(hex(encodeSuback(5, packet, limits))).toBe("900400010087");
    expect(hex(encodeUnsuback(5, packet, limits))).toBe("b00400010087");
    const auth = encodeAuth(0x18, { ...TALKATIVE, authenticationMethod: "M" }, limits);
    expect(hex(auth)).toBe("f00618041500014d");
  });

  it("leaves CONNACK and DISCONNECT as they are", () => {
    const connack = { sessionPresent: false, code: 0x87, properties: TALKATIVE };
    expect(encodeConnack(5, connack, limits)).toEqual(encodeConnack(5, connack));
    expect(encodeDisconnect(0x87, TALKATIVE, limits)).toEqual(encodeDisconnect(0x87, TALKATIVE));
  });
});

describe("every packet of a server", () => {
  it.each([3, 4, 5] as const)("comes back from the decoder, level %i", (version) => {
    const random = new Random(version + 50);
    for (let round = 0; round < 2000; round++) {
      const packet = randomServerPacket(random, version);
      const frame = encodeServerPacket(version, packet);
      const { type, flags, start, end } = open(frame);
      expect(decodeServerPacket(type, flags, frame, start, end, version)).toEqual(packet);
    }
  });
});
