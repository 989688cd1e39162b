import { createHash, createHmac } from "node:crypto";
import { describe, expect, it } from "vitest";
import { cryptoLibrary } from "../../../plugins/vmq_diversity/libs/crypto.ts";
import { lua, luaCall, type TestValue } from "../../support/lua-library.ts";

const crypto = cryptoLibrary();
const call = (name: string, ...args: TestValue[]): unknown =>
  crypto[name]?.(luaCall(), ...args.map(lua));
const hex = (value: unknown): string => (value as Buffer).toString("hex");

describe("crypto.hash", () => {
  it("gives the raw bytes of the standard digests under Erlang's names", () => {
    expect(hex(call("hash", "md5", "hello"))).toBe("5d41402abc4b2a76b9719d911017c592");
    expect(hex(call("hash", "sha", "hello"))).toBe("aaf4c61ddcc5e8a2dabede0f3b482cd9aea9434d");
    expect(hex(call("hash", "sha3_256", ""))).toBe(
      "a7ffc6f8bf1ed76651c14756a061d662f580ff4de43b49fa82d80a4b80f8434a",
    );
    for (const [name, own] of [
      ["sha224", "sha224"],
      ["sha256", "sha256"],
      ["sha384", "sha384"],
      ["sha512", "sha512"],
      ["sha3_224", "sha3-224"],
      ["sha3_384", "sha3-384"],
      ["sha3_512", "sha3-512"],
    ] as const) {
      const expected = createHash(own).update("hello").digest("hex");
      expect(hex(call("hash", name, "hello"))).toBe(expected);
    }
  });

  it("takes bytes", () => {
    const bytes = Buffer.from([0, 0xff]);
    expect(call("hash", "sha256", bytes)).toEqual(createHash("sha256").update(bytes).digest());
  });

  it("raises for an unknown algorithm and names those there are", () => {
    expect(() => call("hash", "nosuch", "x")).toThrow(
      /crypto.hash: unknown algorithm "nosuch"; known: .*md5, .*sha256/,
    );
    expect(() => call("hash", "sha256", undefined)).toThrow("crypto.hash: the data must be");
  });
});

describe("additions to crypto", () => {
  it("sign", () => {
    const expected = createHmac("sha256", "key").update("data").digest();
    expect(call("hmac", "sha256", "key", "data")).toEqual(expected);
    expect(() => call("hmac", "nosuch", "key", "data")).toThrow("crypto.hmac: unknown algorithm");
  });

  it("compare", () => {
    expect(call("equal", "same", "same")).toBe(true);
    expect(call("equal", "same", "samf")).toBe(false);
    expect(call("equal", "same", "longer")).toBe(false);
    expect(call("equal", "same", undefined)).toBe(false);
    expect(call("equal", undefined, undefined)).toBe(false);
  });

  it("make random bytes", () => {
    expect((call("random_bytes", 16) as Buffer).length).toBe(16);
    expect(call("random_bytes", 16)).not.toEqual(call("random_bytes", 16));
    expect(() => call("random_bytes", 1e9)).toThrow("from 0 to 65536");
    expect(() => call("random_bytes", -1)).toThrow("from 0 to 65536");
  });

  it("write bytes as text and read them again", () => {
    const bytes = Buffer.from([0, 0xfb, 0xff]);
    expect(call("hex", bytes)).toBe("00fbff");
    expect(call("base64", bytes)).toBe("APv/");
    expect(call("unhex", "00fbFF")).toEqual(bytes);
    expect(call("unbase64", "APv/")).toEqual(bytes);
    expect(call("unbase64", "APv_")).toEqual(bytes);
    expect(call("unbase64", "AA==")).toEqual(Buffer.from([0]));
    expect(() => call("unhex", "0")).toThrow("crypto.unhex: the text is not hex");
    expect(() => call("unhex", "zz")).toThrow("crypto.unhex");
    expect(() => call("unbase64", "A===")).toThrow("crypto.unbase64: the text is not base64");
    expect(() => call("unbase64", "A B")).toThrow("crypto.unbase64");
  });
});
