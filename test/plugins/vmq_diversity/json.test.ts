import { describe, expect, it } from "vitest";
import { jsonLibrary } from "../../../plugins/vmq_diversity/libs/json.ts";
import {
  LuaError,
  LuaFloat,
  type LuaResult,
  OpaqueValue,
} from "../../../plugins/vmq_diversity/worker/library.ts";
import { lua, luaCall, luaHost, luaTable, type TestValue } from "../../support/lua-library.ts";

const host = luaHost();
const json = jsonLibrary(host);
const encode = (value: TestValue): LuaResult => json.encode(luaCall(), lua(value)) as LuaResult;
const decode = (text: string | Buffer): LuaResult => json.decode(luaCall(), lua(text)) as LuaResult;
const nested = (depth: number): TestValue => {
  let value: TestValue = {};
  for (let i = 1; i < depth; i++) value = [value];
  return value;
};

describe("json.encode", () => {
  it("writes tables as VerneMQ does", () => {
    expect(encode({})).toBe("{}");
    expect(encode([1, 2])).toBe("[1,2]");
    expect(encode({ a: {} })).toBe('{"a":{}}');
    expect(encode({ d: "x", c: true, b: 2, a: 1.5 })).toBe('{"a":1.5,"b":2,"c":true,"d":"x"}');
    expect(encode(["", "test-client", "test-user"])).toBe('["","test-client","test-user"]');
  });

  it("keeps floats and integers apart", () => {
    expect(encode([new LuaFloat(2), 2, new LuaFloat(1e300), 9007199254740993n, -0.5])).toBe(
      "[2.0,2,1e+300,9007199254740993,-0.5]",
    );
  });

  it("writes bytes that are no UTF-8 as U+FFFD", () => {
    expect(encode({ a: Buffer.from([0xff]) })).toBe('{"a":"\ufffd"}');
    const special = ['"', "\\", "\n", "\u0000", "\u001f", "/", "\u007f", "ä€", "\u2028", "😀"];
    for (const text of special) expect(encode([text])).toBe(JSON.stringify([text]));
    expect(encode({ 'a"': 1 })).toBe('{"a\\"":1}');
  });

  it("makes an object of a table with values at 1..n and other keys", () => {
    expect(json.encode(luaCall(), luaTable(["x", "y"], { k: 1 }))).toBe('{"1":"x","2":"y","k":1}');
    expect(encode(new Map([[10, "x"] as const]))).toBe('{"10":"x"}');
  });

  it("gives nil and a log line for what has no JSON", () => {
    for (const value of [Number.NaN, Number.POSITIVE_INFINITY, new OpaqueValue("function")]) {
      host.lines.length = 0;
      expect(encode([value])).toBeUndefined();
      expect(host.lines).toHaveLength(1);
    }
    expect(host.lines[0]?.message).toBe("json.encode: a function has no JSON");
  });

  it("gives nil for tables that nest too deep", () => {
    expect(encode(nested(128))).toContain("[[");
    expect(encode(nested(129))).toBeUndefined();
  });

  it("raises for anything but a table", () => {
    expect(() => encode("x")).toThrow(LuaError);
    expect(() => encode(undefined)).toThrow("json.encode: the value must be a table, not nil");
  });
});

describe("json.decode", () => {
  it("gives tables, text, numbers and booleans", () => {
    expect(decode('{"awesome":true,"format":"json"}')).toEqual({ awesome: true, format: "json" });
    expect(decode("[]")).toEqual([]);
    expect(decode("[1,2]")).toEqual([1, 2]);
    expect(decode('"x"')).toBe("x");
  });

  it('gives the string "null" for null', () => {
    expect(decode('{"a":null,"b":[null]}')).toEqual({ a: "null", b: ["null"] });
  });

  it("gives nil for what is no JSON, and no text of it in the log", () => {
    host.lines.length = 0;
    for (const text of ["x", "", "{", "[1,]", "01", "1.", "[01.0]", "[1.0.0]", "[1e5e5]"]) {
      expect(decode(text)).toBeUndefined();
    }
    expect(JSON.stringify(host.lines)).not.toContain("Unexpected");
  });

  it("keeps floats and integers apart", () => {
    expect(decode('{"a":[2.0,2,21.5,-1e3,9007199254740993,1.5E1]}')).toEqual({
      a: [new LuaFloat(2), 2, 21.5, new LuaFloat(-1000), 9007199254740993n, new LuaFloat(15)],
    });
    expect(decode("18446744073709551616")).toEqual(new LuaFloat(2 ** 64));
  });

  it("leaves text alone that looks like numbers", () => {
    expect(decode('{"1.0":"2.0 \\" 3.0","b\\\\":[1.0]}')).toEqual({
      "1.0": '2.0 " 3.0',
      "b\\": [new LuaFloat(1)],
    });
  });

  it("takes a key __proto__ as any other", () => {
    const value = decode('{"__proto__":{"x":null}}') as object;
    expect(Object.entries(value)).toEqual([["__proto__", { x: "null" }]]);
  });

  it("gives nil for values that nest too deep", () => {
    expect(decode("[".repeat(128) + "]".repeat(128))).toBeDefined();
    expect(decode("[".repeat(129) + "]".repeat(129))).toBeUndefined();
    expect(decode("[".repeat(100_000) + "]".repeat(100_000))).toBeUndefined();
  });

  it("gives nil for what is no string", () => {
    expect(json.decode(luaCall(), undefined)).toBeUndefined();
    expect(json.decode(luaCall(), lua({}))).toBeUndefined();
  });

  it("gives back what was encoded", () => {
    const value = { list: [1, 2.5, "x"], map: { deep: [{ a: true }] } };
    expect(decode(String(encode(value)))).toEqual(value);
  });
});
