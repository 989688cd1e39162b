import { randomBytes } from "node:crypto";
import { describe, expect, it } from "vitest";
import { obfLibrary, obfuscate, reveal } from "../../../plugins/vmq_diversity/libs/obf.ts";
import { LuaError, type LuaValue } from "../../../plugins/vmq_diversity/worker/library.ts";
import { lua, luaCall, luaHost } from "../../support/lua-host.ts";

const host = luaHost();
const obf = obfLibrary(host);
const decrypt = (value: LuaValue): unknown => obf.decrypt(luaCall(), value);

describe("obf", () => {
  it("decrypts what it encrypted, and what the engine did", () => {
    const hidden = obf.encrypt(luaCall(), lua("p")) as Buffer;
    expect(decrypt(hidden)).toEqual(Buffer.from("p"));
    const bytes = randomBytes(100);
    expect(decrypt(obfuscate(bytes, host.secret))).toEqual(bytes);
    expect(decrypt(obfuscate(Buffer.alloc(0), host.secret))).toEqual(Buffer.alloc(0));
  });

  it("hides the password, each time differently", () => {
    const password = Buffer.from("correct horse battery staple");
    const one = obfuscate(password, host.secret);
    expect(one.includes(password)).toBe(false);
    expect(one).not.toEqual(obfuscate(password, host.secret));
  });

  it("raises for what it did not make", () => {
    const hidden = obfuscate(Buffer.from("secret"), host.secret);
    for (let i = 0; i < hidden.length; i++) {
      const changed = Buffer.from(hidden);
      changed[i] = (changed[i] as number) ^ 1;
      expect(() => decrypt(changed)).toThrow(LuaError);
    }
    expect(() => decrypt(lua("clear text"))).toThrow(/not made by obf.encrypt/);
    expect(() => decrypt(lua(""))).toThrow(LuaError);
    expect(reveal(hidden, randomBytes(32))).toBeUndefined();
  });

  it("raises for nil", () => {
    expect(() => decrypt(undefined)).toThrow("obf.decrypt: the text must be a string, not nil");
  });
});
