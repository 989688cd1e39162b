import { describe, expect, it } from "vitest";
import { decodeUtf8, isMqttUtf8, stringFault } from "../../../core/mqtt/utf8.ts";
import { Random } from "./random-packets.ts";

const hex = (text: string): Buffer => Buffer.from(text.replaceAll(" ", ""), "hex");

const REFUSED: [string, string][] = [
  ["a continuation byte alone", "61 80"],
  ["a cut sequence", "61 c3"],
  ["an overlong slash", "c0 af"],
  ["an overlong NUL", "c0 80"],
  ["a high surrogate U+D800", "ed a0 80"],
  ["a low surrogate U+DFFF", "ed bf bf"],
  ["a surrogate pair (CESU-8)", "ed a0 bd ed b8 80"],
  ["a code point above U+10FFFF", "f4 90 80 80"],
  ["a five byte sequence", "f8 88 80 80 80"],
  ["0xff", "61 ff"],
];

const ACCEPTED: [string, string][] = [
  ["nothing", ""],
  ["ASCII with control characters", "01 1f 7f 41"],
  ["two bytes", "c3 a9"],
  ["three bytes", "e2 82 ac"],
  ["four bytes", "f0 9f 98 80"],
  ["the non-character U+FFFF", "ef bf bf"],
  ["U+10FFFF", "f4 8f bf bf"],
];

describe("UTF-8 Encoded Strings", () => {
  it.each(REFUSED)("refuse %s [MQTT-1.5.4-1]", (_, bytes) => {
    const buf = hex(bytes);
    expect(isMqttUtf8(buf, 0, buf.length)).toBe(false);
    expect(decodeUtf8(buf, 0, buf.length)).toBeUndefined();
  });

  it.each(["00", "61 00 62", "c3 a9 00", "c3 a9 61 00 61"])(
    "refuse NUL in %s [MQTT-1.5.4-2]",
    (bytes) => {
      const buf = hex(bytes);
      expect(isMqttUtf8(buf, 0, buf.length)).toBe(false);
      expect(decodeUtf8(buf, 0, buf.length)).toBeUndefined();
    },
  );

  it.each(ACCEPTED)("accept %s", (_, bytes) => {
    const buf = hex(bytes);
    expect(isMqttUtf8(buf, 0, buf.length)).toBe(true);
    expect(Buffer.from(decodeUtf8(buf, 0, buf.length) ?? "refused")).toEqual(buf);
  });

  it("keep a byte order mark as U+FEFF [MQTT-1.5.4-3]", () => {
    expect(decodeUtf8(hex("ef bb bf 61"), 0, 4)).toBe("\ufeffa");
  });

  it("are looked at between start and end only", () => {
    const buf = hex("00 ff 61 c3 a9 ff 00");
    expect(decodeUtf8(buf, 2, 5)).toBe("aé");
    expect(decodeUtf8(buf, 2, 4)).toBeUndefined();
    expect(decodeUtf8(buf, 2, 3)).toBe("a");
  });

  it("agree with a fatal TextDecoder on random bytes", () => {
    const random = new Random(1);
    const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
    const some = ["61", "c3", "a9", "e2", "82", "ac", "ed", "a0", "80", "f0", "9f", "98", "00"];
    for (let round = 0; round < 20_000; round++) {
      const buf = hex(random.list(0, 5, () => random.pick(some)).join(""));
      let expected: string | undefined;
      try {
        expected = decoder.decode(buf);
      } catch {
        expected = undefined;
      }
      if (expected?.includes("\0")) expected = undefined;
      expect(decodeUtf8(buf, 0, buf.length)).toBe(expected);
      expect(isMqttUtf8(buf, 0, buf.length)).toBe(expected !== undefined);
    }
  });
});

describe("strings of our own", () => {
  it("are refused with NUL, with half a surrogate pair and above 65535 bytes", () => {
    expect(stringFault("a\0b")).toBe("contains NUL");
    expect(stringFault("a\ud83d")).toBe("contains half a surrogate pair");
    expect(stringFault("\ud83dx")).toBe("contains half a surrogate pair");
    expect(stringFault("\ude00\ud83d")).toBe("contains half a surrogate pair");
    expect(stringFault("x".repeat(65536))).toBe("is longer than 65535 bytes");
    expect(stringFault(`${"€".repeat(21845)}x`)).toBe("is longer than 65535 bytes");
  });

  it("are accepted up to 65535 bytes", () => {
    expect(stringFault("")).toBeUndefined();
    expect(stringFault("a😀é")).toBeUndefined();
    expect(stringFault("x".repeat(65535))).toBeUndefined();
    expect(stringFault("€".repeat(21845))).toBeUndefined();
  });
});
