import { describe, expect, it } from "vitest";
import { encodeConnect } from "../../../core/mqtt/client-codec.ts";
import {
  type ConnectAnswer,
  ConnectError,
  decodeConnect,
  detectConnect,
} from "../../../core/mqtt/codec.ts";
import type { ConnectPacket } from "../../../core/mqtt/packets.ts";
import { bytes, str } from "./frames.ts";
import { open, Random, randomConnect } from "./random-packets.ts";

type Part = number | string | Buffer;

/** A CONNECT body: protocol, flags, keep alive 60, then `rest`. */
const v3 = (flags: number, ...rest: Part[]): Buffer =>
  bytes(str("MQIsdp"), 3, flags, 0, 60, ...rest);
const v4 = (flags: number, ...rest: Part[]): Buffer => bytes(str("MQTT"), 4, flags, 0, 60, ...rest);
const v5 = (flags: number, ...rest: Part[]): Buffer => bytes(str("MQTT"), 5, flags, 0, 60, ...rest);

function decode(body: Buffer): ConnectPacket {
  return decodeConnect(body, 0, body.length);
}

function refusal(body: Buffer): ConnectError {
  try {
    decode(body);
  } catch (error) {
    if (error instanceof ConnectError) return error;
    throw error;
  }
  throw new Error("CONNECT was accepted");
}

const answerTo = (body: Buffer): ConnectAnswer => refusal(body).answer;
const form5 = (returnCode: number): ConnectAnswer => ({ version: 5, returnCode });

const ID = str("c");

describe("protocol detection", () => {
  it.each([
    ["MQIsdp", 3, 3, false],
    ["MQTT", 4, 4, false],
    ["MQTT", 5, 5, false],
    ["MQTT", 131, 3, true],
    ["MQIsdp", 131, 3, true],
    ["MQTT", 132, 4, true],
  ])("%s level %i is version %i", (name, level, version, bridge) => {
    const body = bytes(str(name), level, 2, 0, 0);
    expect(detectConnect(body, 0, body.length)).toEqual({
      version,
      level,
      bridge,
      next: name.length + 3,
    });
  });

  it.each([
    ["MQIsdp", 2, { version: 3, returnCode: 1 }],
    ["MQIsdp", 4, { version: 3, returnCode: 1 }],
    ["MQIsdp", 5, "none"],
    ["MQIsdp", 132, "none"],
    ["MQTT", 0, { version: 4, returnCode: 1 }],
    ["MQTT", 3, { version: 4, returnCode: 1 }],
    ["MQTT", 6, form5(0x84)],
    ["MQTT", 130, form5(0x84)],
    ["MQTT", 133, form5(0x84)],
    ["MQTT", 255, form5(0x84)],
    ["MQTTX", 4, "none"],
    ["mqtt", 4, "none"],
    ["", 4, "none"],
    ["HTTP", 4, "none"],
    ["MQISDP", 3, "none"],
  ])("%j level %i is answered %j [MQTT-3.1.2-1] [MQTT-3.1.2-2]", (name, level, answer) => {
    expect(answerTo(bytes(str(name), level, 2, 0, 60, str("c")))).toEqual(answer);
  });

  it.each(["", "00", "0004", "00044d51", "00044d515454", "ffff4d515454"])(
    "a body that ends before the level (%s) is not answered",
    (hex) => {
      expect(answerTo(Buffer.from(hex, "hex"))).toBe("none");
    },
  );
});

describe("decoding CONNECT", () => {
  it("reads every field of a 3.1.1 CONNECT", () => {
    const body = v4(0xee, str("cé"), str("w/t"), str(bytes(0, 255)), str("u"), str(bytes(0, 1)));
    expect(decode(body)).toEqual({
      type: "connect",
      version: 4,
      level: 4,
      bridge: false,
      clean: true,
      keepAliveS: 60,
      clientId: "cé",
      username: "u",
      password: Buffer.from([0, 1]),
      will: {
        topic: "w/t",
        payload: Buffer.from([0, 255]),
        qos: 1,
        retain: true,
        properties: undefined,
      },
      properties: undefined,
    });
  });

  it("reads the properties of the connection and of the will", () => {
    const body = v5(0x04, 3, 0x21, 0, 9, ID, 5, 0x18, 0, 0, 0, 7, str("w"), str(""));
    expect(decode(body)).toMatchObject({
      clean: false,
      properties: { receiveMaximum: 9 },
      will: { topic: "w", payload: Buffer.alloc(0), properties: { willDelayInterval: 7 } },
    });
  });

  it("passes an empty client id on [MQTT-3.1.3-6]", () => {
    expect(decode(v3(2, str(""))).clientId).toBe("");
    expect(decode(v4(2, str(""))).clientId).toBe("");
    expect(decode(v5(0, 0, str(""))).clientId).toBe("");
  });

  it("lets user name and password be empty", () => {
    expect(decode(v4(0xc2, ID, str(""), str("")))).toMatchObject({
      username: "",
      password: Buffer.alloc(0),
    });
  });

  it("lets MQTT 5 send a password without a user name", () => {
    const packet = decode(v5(0x42, 0, ID, str("p")));
    expect(packet).toMatchObject({ username: undefined, password: Buffer.from("p") });
  });

  it("lets MQTT 3.1 leave out the user name its flag announces, later versions not", () => {
    expect(decode(v3(0x82, ID)).username).toBeUndefined();
    expect(answerTo(v3(0xc2, ID))).toBe("none");
    expect(answerTo(v4(0x82, ID))).toBe("none");
    expect(answerTo(v5(0x82, 0, ID))).toEqual(form5(0x81));
  });

  it("lets a will go to a $ topic", () => {
    expect(decode(v4(0x06, ID, str("$SYS/x"), str("p"))).will?.topic).toBe("$SYS/x");
  });

  it("keeps nothing of the read buffer alive", () => {
    const body = v4(0xc6, ID, str("w"), str("pay"), str("u"), str("pw"));
    const packet = decode(body);
    body.fill(0);
    expect(packet.password).toEqual(Buffer.from("pw"));
    expect(packet.will?.payload).toEqual(Buffer.from("pay"));
  });
});

describe("refusing CONNECT: MQTT 5 is told why, 3.x is not answered", () => {
  const WILL_QOS_1 = 0x08;
  const cases: [string, number, Part[]][] = [
    ["reserved flag [MQTT-3.1.2-3]", 0x03, [ID]],
    ["will QoS without will [MQTT-3.1.2-11]", 0x02 | WILL_QOS_1, [ID]],
    ["will QoS 3 without will [MQTT-3.1.2-11]", 0x1a, [ID]],
    ["will retain without will [MQTT-3.1.2-13]", 0x22, [ID]],
    ["no client id [MQTT-3.1.3-3]", 0x02, []],
    ["cut client id", 0x02, [0, 5, "abc"]],
    ["NUL in the client id [MQTT-1.5.4-2]", 0x02, [str("a\0b")]],
    ["ill-formed client id [MQTT-3.1.3-4]", 0x02, [str(bytes(0xff))]],
    ["surrogate in the client id [MQTT-1.5.4-1]", 0x02, [str(bytes(0xed, 0xa0, 0x80))]],
    ["no user name [MQTT-3.1.2-17]", 0xc2, [ID]],
    ["ill-formed user name [MQTT-3.1.3-12]", 0x82, [ID, str(bytes(0xc3))]],
    ["no password [MQTT-3.1.2-19]", 0xc2, [ID, str("u")]],
    ["cut password", 0xc2, [ID, str("u"), 0, 9, "p"]],
    ["bytes after the last field", 0x02, [ID, "z"]],
  ];

  it.each(cases)("%s", (_, flags, rest) => {
    expect(answerTo(v5(flags, 0, ...rest))).toEqual(form5(0x81));
    expect(answerTo(v4(flags, ...rest))).toBe("none");
    expect(answerTo(v3(flags, ...rest))).toBe("none");
    expect(refusal(v4(flags, ...rest)).reasonCode).toBe(0x81);
  });

  const wills: [string, number, Part[]][] = [
    ["will QoS 3 [MQTT-3.1.2-12]", 0x1e, [str("t"), str("p")]],
    ["empty will topic [MQTT-4.7.3-1]", 0x06, [str(""), str("p")]],
    ["will topic with # [MQTT-4.7.0-1]", 0x06, [str("a/#"), str("p")]],
    ["will topic with + [MQTT-4.7.0-1]", 0x06, [str("a/+"), str("p")]],
    ["NUL in the will topic [MQTT-3.1.3-11]", 0x06, [str("a\0"), str("p")]],
    ["no will topic", 0x06, []],
    ["no will payload", 0x06, [str("t")]],
  ];

  it.each(wills)("%s", (_, flags, rest) => {
    expect(answerTo(v5(flags, 0, ID, 0, ...rest))).toEqual(form5(0x81));
    expect(answerTo(v4(flags, ID, ...rest))).toBe("none");
  });

  it("3.1.1 password without user name [3.1.1: MQTT-3.1.2-22]", () => {
    expect(answerTo(v4(0x42, ID, str("p")))).toBe("none");
    expect(answerTo(v3(0x42, ID, str("p")))).toBe("none");
  });

  it.each([
    ["authentication data without method [3.1.2.11.10]", [4, 0x16, str("d"), ID], 0x82],
    ["receive maximum 0 [3.1.2.11.3]", [3, 0x21, 0, 0, ID], 0x82],
    ["maximum packet size 0 [3.1.2.11.4]", [5, 0x27, 0, 0, 0, 0, ID], 0x82],
    ["session expiry twice [3.1.2.11.2]", [10, 0x11, 0, 0, 0, 1, 0x11, 0, 0, 0, 1, ID], 0x82],
    ["request problem information 2 [3.1.2.11.7]", [2, 0x17, 2, ID], 0x82],
    ["unknown property [2.2.2.2]", [2, 0x7f, 1, ID], 0x81],
    ["reason string [2.2.2.2]", [4, 0x1f, str("x"), ID], 0x81],
    ["properties longer than the packet [2.2.2.1]", [0x7f, ID], 0x81],
    ["no property length", [], 0x81],
  ] satisfies [string, Part[], number][])("%s", (_, rest, code) => {
    expect(answerTo(v5(0x02, ...rest))).toEqual(form5(code));
  });

  it("a will property that is not a will's [2.2.2.2]", () => {
    const session = [5, 0x11, 0, 0, 0, 1];
    expect(answerTo(v5(0x06, 0, ID, ...session, str("t"), str("p")))).toEqual(form5(0x81));
  });

  it("names the broken statement", () => {
    expect(refusal(v5(0x03, 0, ID))).toMatchObject({ statement: "MQTT-3.1.2-3", reasonCode: 0x81 });
  });
});

describe("CONNECT from our encoder", () => {
  it.each([3, 4, 5] as const)("comes back from the decoder, level %i", (version) => {
    const random = new Random(version);
    for (let round = 0; round < 1000; round++) {
      const packet = randomConnect(random, version);
      const frame = encodeConnect(packet);
      const { type, flags, start, end } = open(frame);
      expect([type, flags]).toEqual([1, 0]);
      expect(decodeConnect(frame, start, end)).toEqual(packet);
    }
  });

  it.each([3, 4, 5] as const)("is refused at every shorter length, level %i", (version) => {
    const random = new Random(version + 10);
    for (let round = 0; round < 100; round++) {
      const packet = randomConnect(random, version);
      const frame = encodeConnect(packet);
      const { start, end } = open(frame);
      for (let cut = start; cut < end; cut++) {
        // 3.1 may end where its user name should begin.
        if (version === 3 && packet.username !== undefined && packet.password === undefined)
          continue;
        expect(() => decodeConnect(frame, start, cut)).toThrow(ConnectError);
      }
    }
  });
});
