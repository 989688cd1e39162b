import { describe, expect, it } from "vitest";
import { MqttError, type Properties, PUBLISH } from "../../../core/mqtt/packets.ts";
import { decodeProperties, encodeProperties } from "../../../core/mqtt/properties.ts";
import {
  decodeForwardBytes,
  encodePublishProperties,
  forwardBytes,
  type PublishScan,
  scanPublishProperties,
} from "../../../core/mqtt/publish-properties.ts";
import { bytes, str, violation } from "./frames.ts";
import { Random, randomProperties } from "./random-packets.ts";

const ALIAS = bytes(0x23, 0x12, 0x34);
const EXPIRY = bytes(2, 0x80, 0, 0, 1);
const USER = bytes(0x26, str("k"), str("v"));
const CONTENT = bytes(3, str("é"));

function scan(block: Buffer): PublishScan {
  // In the middle of a larger buffer, as in a read chunk.
  const chunk = bytes(0xff, block, 0xff, 0xff, 0xff);
  return scanPublishProperties(chunk, 1, 1 + block.length);
}

function forward(block: Buffer): Buffer | undefined {
  return forwardBytes(bytes(0xff, block, 0xff), 1, 1 + block.length);
}

/** The properties of a block, or the reason code with which it is refused. */
function outcome<T>(run: () => T): T | number {
  try {
    return run();
  } catch (error) {
    if (error instanceof MqttError) return error.reasonCode;
    throw error;
  }
}

describe("scanning the properties of a PUBLISH", () => {
  it("finds alias and expiry and says what is left to forward", () => {
    expect(scan(bytes())).toEqual({ topicAlias: 0, messageExpiryInterval: -1, forward: "none" });
    expect(scan(bytes(ALIAS, EXPIRY))).toEqual({
      topicAlias: 0x1234,
      messageExpiryInterval: 0x80000001,
      forward: "none",
    });
    expect(scan(bytes(USER, CONTENT)).forward).toBe("whole");
    expect(scan(bytes(USER, EXPIRY, CONTENT)).forward).toBe("part");
    expect(scan(bytes(2, 0, 0, 0, 0)).messageExpiryInterval).toBe(0);
  });

  it.each([
    ["topic alias 0 [MQTT-3.3.2-8]", bytes(0x23, 0, 0), 0x94],
    ["topic alias twice [3.3.2.3.4]", bytes(ALIAS, ALIAS), 0x82],
    ["message expiry twice [3.3.2.3.3]", bytes(EXPIRY, EXPIRY), 0x82],
    ["content type twice [3.3.2.3.9]", bytes(CONTENT, USER, CONTENT), 0x82],
    ["subscription identifier [MQTT-3.3.4-6]", bytes(0x0b, 1), 0x82],
    ["server reference [2.2.2.2]", bytes(0x1c, str("x")), 0x81],
    ["an unknown identifier [2.2.2.2]", bytes(0x7f, 0), 0x81],
    ["an identifier of two bytes [2.2.2.2]", bytes(0x81, 0x01), 0x81],
    ["a cut string [2.2.2.2]", bytes(3, 0, 5, "ab"), 0x81],
    ["a cut string length [2.2.2.2]", bytes(3, 0), 0x81],
    ["a user property without value [1.5.7]", bytes(0x26, str("k")), 0x81],
    ["a cut alias [2.2.2.2]", bytes(0x23, 1), 0x81],
    ["a cut expiry [2.2.2.2]", bytes(2, 0, 0, 0), 0x81],
    ["payload format 2", bytes(1, 2), 0x81],
    ["ill-formed content type [MQTT-3.3.2-19]", bytes(3, str(bytes(0xff))), 0x81],
    ["NUL in a user property [MQTT-1.5.4-2]", bytes(0x26, str("k"), str("\0")), 0x81],
    ["ill-formed user property name [MQTT-1.5.4-1]", bytes(0x26, str(bytes(0xc3)), str("")), 0x81],
    ["response topic with wildcard [MQTT-3.3.2-14]", bytes(8, str("a/#")), 0x82],
  ])("refuses %s", (_, block, reasonCode) => {
    expect(violation(() => scan(block)).reasonCode).toBe(reasonCode);
  });

  it("takes and refuses the same blocks as decodeProperties, with the same codes", () => {
    const random = new Random(3);
    let taken = 0;
    let refused = 0;
    for (let round = 0; round < 20_000; round++) {
      const block = encodeProperties(randomProperties(random, PUBLISH));
      if (block.length > 0 && random.bool())
        block[random.int(0, block.length - 1)] = random.int(0, 255);
      const scanned = outcome(() => scan(block));
      const decoded = outcome(() => decodeProperties(block, 0, block.length, PUBLISH) ?? {});
      if (typeof decoded === "object" && decoded.subscriptionIdentifiers !== undefined) {
        expect(scanned).toBe(0x82);
      } else if (typeof decoded === "object") {
        taken++;
        expect(scanned).toMatchObject({
          topicAlias: decoded.topicAlias ?? 0,
          messageExpiryInterval: decoded.messageExpiryInterval ?? -1,
        });
      } else {
        refused++;
        // With two faults in one block, the first one found may differ.
        expect(scanned).toBeTypeOf("number");
      }
    }
    expect(Math.min(taken, refused)).toBeGreaterThan(2000);
  });
});

describe("forwarded bytes", () => {
  it("are the block without alias, expiry and subscription ids, else unchanged and in order", () => {
    const wide = bytes(0x0b, 0xff, 0xff, 0xff, 0x7f);
    const block = bytes(USER, ALIAS, CONTENT, wide, USER, EXPIRY, bytes(1, 1), bytes(9, str("")));
    const left = bytes(USER, CONTENT, USER, bytes(1, 1), bytes(9, str("")));
    expect(forward(block)).toEqual(left);
  });

  it("are undefined if nothing is left", () => {
    expect(forward(bytes())).toBeUndefined();
    expect(forward(bytes(ALIAS, EXPIRY))).toBeUndefined();
  });

  it("are a copy", () => {
    const block = bytes(USER);
    const copy = forwardBytes(block, 0, block.length);
    block.fill(0);
    expect(copy).toEqual(USER);
  });

  it("keep what decodeProperties sees, on random blocks", () => {
    const random = new Random(5);
    for (let round = 0; round < 2000; round++) {
      const properties: Properties = { ...randomProperties(random, PUBLISH) };
      delete properties.subscriptionIdentifiers;
      const block = encodeProperties(properties);
      const left = { ...properties };
      delete left.topicAlias;
      delete left.messageExpiryInterval;
      const hasLeft = Object.keys(left).length > 0;
      const isWhole = Object.keys(left).length === Object.keys(properties).length;
      expect(scan(block).forward).toBe(hasLeft ? (isWhole ? "whole" : "part") : "none");
      const bytesLeft = forward(block);
      expect(bytesLeft === undefined ? {} : decodeForwardBytes(bytesLeft)).toEqual(left);
      expect(encodePublishProperties(properties)).toEqual({
        forward: bytesLeft,
        messageExpiryInterval: properties.messageExpiryInterval ?? -1,
      });
    }
  });

  it("of a will leave out what is not a message's", () => {
    const will: Properties = { willDelayInterval: 5, topicAlias: 3, subscriptionIdentifiers: [1] };
    expect(encodePublishProperties(will)).toEqual({
      forward: undefined,
      messageExpiryInterval: -1,
    });
    expect(
      encodePublishProperties({ ...will, contentType: "é", messageExpiryInterval: 0 }),
    ).toEqual({
      forward: CONTENT,
      messageExpiryInterval: 0,
    });
  });
});
