import * as mqttPacket from "mqtt-packet";
import { describe, expect, it } from "vitest";
import { decodeConnect, decodeControl } from "../../../core/mqtt/codec.ts";
import { type MqttError, SUBSCRIBE } from "../../../core/mqtt/packets.ts";
import { bytes, str, violation } from "./frames.ts";

/**
 * Why control packets do not go through mqtt-packet 9.0.2, one test per reason. When an update makes
 * one of these fail, that reason is gone.
 */

type Parsed = Record<string, unknown>;

function frame(firstByte: number, body: Buffer): Buffer {
  return bytes(firstByte, body.length, body);
}

/** Packets and errors that mqtt-packet gives for some bytes on an MQTT 5 connection. */
function parse(input: Buffer): { packets: Parsed[]; errors: Error[] } {
  const packets: Parsed[] = [];
  const errors: Error[] = [];
  const parser = mqttPacket.parser({ protocolVersion: 5 });
  parser.on("packet", (packet) => packets.push(packet as unknown as Parsed));
  parser.on("error", (error: Error) => errors.push(error));
  parser.parse(input);
  return { packets, errors };
}

function connect(properties: Buffer, clientId: Buffer = Buffer.from("c"), flags = 0x02): Buffer {
  return bytes(str("MQTT"), 5, flags, 0, 60, properties.length, properties, str(clientId));
}

function pair(key: string, value: string): Buffer {
  return bytes(0x26, str(key), str(value));
}

function oursRefuses(body: Buffer): MqttError {
  return violation(() => decodeConnect(body, 0, body.length));
}

describe("mqtt-packet", () => {
  it("loses the order of user properties across keys, which MQTT 5 keeps [MQTT-3.1.3-10]", () => {
    const body = connect(bytes(pair("a", "1"), pair("b", "2"), pair("a", "3")));
    const [packet] = parse(frame(0x10, body)).packets;
    expect((packet.properties as Parsed).userProperties).toEqual({ a: ["1", "3"], b: "2" });
    expect(decodeConnect(body, 0, body.length).properties?.userProperties).toEqual([
      ["a", "1"],
      ["b", "2"],
      ["a", "3"],
    ]);
  });

  it("sorts user properties whose names are numbers", () => {
    const [packet] = parse(frame(0x10, connect(bytes(pair("2", "x"), pair("1", "y"))))).packets;
    const { userProperties } = packet.properties as { userProperties: Parsed };
    expect(Object.keys(userProperties)).toEqual(["1", "2"]);
  });

  it("drops a user property with an empty value when its name comes again", () => {
    const body = connect(bytes(pair("a", ""), pair("a", "x")));
    const [packet] = parse(frame(0x10, body)).packets;
    expect((packet.properties as Parsed).userProperties).toEqual({ a: "x" });
    expect(decodeConnect(body, 0, body.length).properties?.userProperties).toHaveLength(2);
  });

  it("accepts ill-formed UTF-8 and replaces it [MQTT-1.5.4-1]", () => {
    const body = connect(bytes(), Buffer.from([0x61, 0xff]));
    const { packets, errors } = parse(frame(0x10, body));
    expect(errors).toEqual([]);
    expect(packets[0].clientId).toBe("a\ufffd");
    expect(oursRefuses(body).reasonCode).toBe(0x81);
  });

  it("accepts NUL in strings [MQTT-1.5.4-2]", () => {
    const body = connect(bytes(), Buffer.from("a\0b"));
    const { packets, errors } = parse(frame(0x10, body));
    expect(errors).toEqual([]);
    expect(packets[0].clientId).toBe("a\0b");
    expect(oursRefuses(body).reasonCode).toBe(0x81);
  });

  it("gives errors without a reason code, so 0x81 and 0x82 cannot be told apart", () => {
    const [error] = parse(frame(0x10, connect(bytes(0x7f, 1)))).errors;
    expect(error.message).toBe("Unknown property");
    expect(error).not.toHaveProperty("reasonCode");
    expect(error).not.toHaveProperty("code");
  });

  it.each([
    ["a repeated property", connect(bytes(0x21, 0, 1, 0x21, 0, 2)), 0x82],
    ["a property of another packet", connect(bytes(0x23, 0, 1)), 0x81],
    ["receive maximum 0", connect(bytes(0x21, 0, 0)), 0x82],
    ["a boolean of 2", connect(bytes(0x17, 2)), 0x82],
    ["authentication data without method", connect(bytes(0x16, str("d"))), 0x82],
    ["bytes behind the last field", bytes(connect(bytes()), "zz"), 0x81],
    ["will QoS 3", bytes(connect(bytes(), undefined, 0x1e), 0, str("t"), str("p")), 0x81],
    ["an empty will topic", bytes(connect(bytes(), undefined, 0x06), 0, str(""), str("p")), 0x81],
  ])("accepts a CONNECT with %s", (_, body, reasonCode) => {
    const { packets, errors } = parse(frame(0x10, body));
    expect(errors).toEqual([]);
    expect(packets).toHaveLength(1);
    expect(oursRefuses(body).reasonCode).toBe(reasonCode);
  });

  it.each([
    ["packet id 0", bytes(0, 0, 0, str("a"), 0), 0x82],
    ["no filter", bytes(0, 1, 0), 0x81],
    ["subscription id 0", bytes(0, 1, 2, 0x0b, 0, str("a"), 0), 0x82],
    ["No Local on a shared filter", bytes(0, 1, 0, str("$share/g/t"), 4), 0x82],
    ["a filter with a misplaced wildcard", bytes(0, 1, 0, str("a#"), 0), 0x8f],
  ])("accepts a SUBSCRIBE with %s", (_, body, reasonCode) => {
    const { packets, errors } = parse(frame(0x82, body));
    expect(errors).toEqual([]);
    expect(packets).toHaveLength(1);
    const error = violation(() => decodeControl(SUBSCRIBE, 2, body, 0, body.length, 5));
    expect(error.reasonCode).toBe(reasonCode);
  });

  it("reads past the end of a packet into the next one", () => {
    // DISCONNECT without a body is reason code 0x00; the 0xc0 belongs to a PINGREQ.
    const { errors } = parse(Buffer.from("e000c000", "hex"));
    expect(errors.map((error) => error.message)).toEqual(["Invalid disconnect reason code"]);
    expect(decodeControl(14, 0, Buffer.from("e000c000", "hex"), 2, 2, 5)).toMatchObject({
      reasonCode: 0,
    });
  });

  it("cuts to the maximum packet size without counting the fixed header, in the caller's object", () => {
    const properties = { reasonString: "x".repeat(20), userProperties: { a: "b" } };
    const suback = { cmd: "suback", messageId: 1, granted: [0], properties } as const;
    // Body: id 2, property length 1, reason string 23, user property 7, code 1.
    const options = { protocolVersion: 5, properties: { maximumPacketSize: 34 } };
    expect(mqttPacket.generate({ ...suback, granted: [0] }, options)).toHaveLength(36);
    options.properties.maximumPacketSize = 33;
    mqttPacket.generate({ ...suback, granted: [0] }, options);
    expect(properties).not.toHaveProperty("reasonString");
  });
});
