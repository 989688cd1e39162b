import { describe, expect, it } from "vitest";
import { kvServices } from "../../../plugins/vmq_diversity/broker-services.ts";
import { KV_LIMITS, type KvLimits, KvStore } from "../../../plugins/vmq_diversity/kv.ts";
import { kvLibrary } from "../../../plugins/vmq_diversity/libs/kv.ts";
import {
  LuaError,
  LuaFloat,
  type LuaResult,
  OpaqueValue,
} from "../../../plugins/vmq_diversity/worker/library.ts";
import { lua, luaCall, luaHost, seen, type TestValue } from "../../support/lua-library.ts";

interface Kv {
  (name: string, ...args: TestValue[]): Promise<unknown>;
  readonly warnings: string[];
  readonly store: KvStore;
  pass(ms: number): void;
}

/** The library of one worker on a store with its own clock. */
function kv(limits: Partial<KvLimits> = {}): Kv {
  let nowMs = 0;
  const warnings: string[] = [];
  const store = new KvStore({ ...KV_LIMITS, ...limits }, () => nowMs);
  const log = { warn: (line: string) => void warnings.push(line) };
  const library = kvLibrary(luaHost({ services: kvServices(store, log) }));
  const call = async (name: string, ...args: TestValue[]): Promise<unknown> => {
    const result = library[name]?.(luaCall(), ...args.map(lua));
    return seen((await result) as LuaResult);
  };
  return Object.assign(call, {
    warnings,
    store,
    pass: (ms: number) => {
      nowMs += ms;
    },
  });
}

describe("kv", () => {
  it("inserts, looks up and deletes", async () => {
    const call = kv();
    expect(await call("ensure_table", { name: "t" })).toBe(true);
    expect(await call("insert", "t", { a: 1 })).toBe(true);
    expect(await call("insert_new", "t", { a: 2, b: 2 })).toBe(false);
    expect(await call("lookup", "t", "a")).toEqual([1]);
    expect(await call("lookup", "t", "b")).toEqual([]);
    expect(await call("insert_new", "t", { b: "x" })).toBe(true);
    expect(await call("insert", "t", { a: "new" })).toBe(true);
    expect(await call("lookup", "t", "a")).toEqual(["new"]);
    expect(await call("delete", "t", "a")).toBe(true);
    expect(await call("delete", "t", "a")).toBe(true);
    expect(await call("lookup", "t", "a")).toEqual([]);
    expect(await call("delete_all", "t")).toBe(true);
    expect(call.store.size).toEqual({ tables: 1, entries: 0, bytes: 0 });
  });

  it("has a table simple_kv when none is named", async () => {
    const call = kv();
    await call("ensure_table", {});
    expect(await call("insert", "simple_kv", { k: true })).toBe(true);
  });

  it("keeps any data: nested tables, bytes, floats", async () => {
    const call = kv();
    await call("ensure_table", { name: "t" });
    const value = {
      list: [1, "two", { three: [] }],
      flag: false,
      float: new LuaFloat(2),
      big: 2n ** 60n,
    };
    await call("insert", "t", { k: value, f: new LuaFloat(2) });
    expect(await call("lookup", "t", "k")).toEqual([value]);
    expect(await call("lookup", "t", "f")).toEqual([new LuaFloat(2)]);
    const library = kvLibrary(
      luaHost({ services: kvServices(call.store, { warn: () => undefined }) }),
    );
    const bytes = Buffer.from([0, 0xff, 0x80]);
    await library.insert?.(luaCall(), lua("t"), lua({ bytes: [bytes] }));
    expect(await library.lookup?.(luaCall(), lua("t"), lua("bytes"))).toEqual([
      [new Uint8Array(bytes)],
    ]);
  });

  it("keeps a table with values at 1..n and keys whole", async () => {
    const call = kv();
    await call("ensure_table", { name: "t" });
    const mixed = new Map<string | number, TestValue>([
      ["k", "v"],
      [1, "first"],
    ]);
    await call("insert", "t", { mixed });
    expect(await call("lookup", "t", "mixed")).toEqual([{ 1: "first", k: "v" }]);
  });

  it("adds values to the keys of bags, equal ones only to a duplicate_bag", async () => {
    for (const [type, expected] of [
      ["ordered_set", [{ b: 2, a: 1 }]],
      ["bag", ["x", { a: 1, b: 2 }]],
      ["duplicate_bag", ["x", "x", { a: 1, b: 2 }, { b: 2, a: 1 }]],
    ] as const) {
      const call = kv();
      await call("ensure_table", { name: "t", type });
      for (const value of ["x", "x", { a: 1, b: 2 }, { b: 2, a: 1 }]) {
        await call("insert", "t", { k: value });
      }
      expect(await call("lookup", "t", "k")).toEqual(expected);
      expect(call.store.size.entries).toBe(expected.length);
    }
  });

  it("leaves a table that is there as it is, and warns of another type", async () => {
    const call = kv();
    await call("ensure_table", { name: "t", type: "bag" });
    await call("insert", "t", { k: 1 });
    expect(await call("ensure_table", { name: "t", type: "bag" })).toBe(true);
    expect(call.warnings).toEqual([]);
    expect(await call("ensure_table", { name: "t" })).toBe(true);
    expect(call.warnings).toHaveLength(1);
    expect(await call("lookup", "t", "k")).toEqual([1]);
  });

  it("raises for unknown tables and types, and for keys and values that are none", async () => {
    const call = kv();
    await call("ensure_table", { name: "t" });
    await expect(call("lookup", "nosuch", "a")).rejects.toThrow(
      'kv.lookup: unknown table "nosuch"; kv.ensure_table makes it',
    );
    await expect(call("ensure_table", { name: "x", type: "tree" })).rejects.toThrow("type must be");
    await expect(call("insert", "t", ["x"])).rejects.toThrow("keys must be strings");
    await expect(call("insert", "t", new Map([[5, "x"]]))).rejects.toThrow("keys must be strings");
    await expect(call("insert", "t", { f: new OpaqueValue("function") })).rejects.toThrow(
      "kv.insert: the value of f must be data, not a function",
    );
    await expect(call("insert", "t", "x")).rejects.toThrow(LuaError);
    await expect(call("insert", "t", { k: 1 }, -1)).rejects.toThrow("the time to live in seconds");
  });

  it("counts with one call, for a window of time", async () => {
    const call = kv();
    await call("ensure_table", { name: "rate" });
    expect(await call("incr", "rate", "c")).toBe(1);
    expect(await call("incr", "rate", "c", 5)).toBe(6);
    expect(await call("incr", "rate", "w", 1, 10)).toBe(1);
    call.pass(9_000);
    expect(await call("incr", "rate", "w", 1, 10)).toBe(2);
    call.pass(1_500);
    expect(await call("lookup", "rate", "w")).toEqual([]);
    expect(await call("incr", "rate", "w", 1, 10)).toBe(1);
    expect(await call("incr", "rate", "c", -6)).toBe(0);
  });

  it("does not count what is no number", async () => {
    const call = kv();
    await call("ensure_table", { name: "t" });
    await call("ensure_table", { name: "bag", type: "bag" });
    await call("insert", "t", { k: "text" });
    await expect(call("incr", "t", "k")).rejects.toThrow('kv.incr: the value of "k" is no number');
    await expect(call("incr", "bag", "k")).rejects.toThrow("is a bag");
    await expect(call("incr", "t", "n", "x")).rejects.toThrow("the difference must be a number");
  });

  it("forgets entries after their time to live, looked at or not", async () => {
    const call = kv();
    await call("ensure_table", { name: "t" });
    await call("insert", "t", { a: 1, b: 2 }, 5);
    await call("insert", "t", { kept: 1 });
    await call("insert", "t", { b: 3 });
    call.pass(5_000);
    expect(await call("lookup", "t", "a")).toEqual([]);
    expect(await call("insert_new", "t", { a: 2 }, 1)).toBe(true);
    call.pass(1_000);
    call.store.sweep();
    expect(call.store.size.entries).toBe(2);
    expect(await call("lookup", "t", "b")).toEqual([3]);
  });

  it("refuses with a clear error when it is full, and takes more when there is room again", async () => {
    const call = kv({ entriesMax: 3 });
    await call("ensure_table", { name: "t" });
    await call("insert", "t", { a: 1, b: 2 });
    await call("insert", "t", { short: 1 }, 1);
    await expect(call("insert", "t", { d: 1 })).rejects.toThrow(
      /kv.insert: the store is full: 3 of 3 entries/,
    );
    await expect(call("incr", "t", "d")).rejects.toThrow("the store is full");
    call.pass(2_000);
    expect(await call("insert", "t", { d: 1 })).toBe(true);
    await call("delete", "t", "a");
    expect(await call("insert_new", "t", { e: 1 })).toBe(true);
  });

  it("counts bytes of keys and values", async () => {
    const call = kv({ bytesMax: 10_000 });
    await call("ensure_table", { name: "t" });
    await expect(call("insert", "t", { k: "x".repeat(10_000) })).rejects.toThrow("bytes");
    await expect(call("insert", "t", { k: { in: "x".repeat(10_000) } })).rejects.toThrow("bytes");
    await expect(call("insert", "t", { ["x".repeat(10_000)]: 1 })).rejects.toThrow("bytes");
    expect(call.store.size).toEqual({ tables: 1, entries: 0, bytes: 0 });
  });

  it("bounds the number of tables", async () => {
    const call = kv({ tablesMax: 1 });
    await call("ensure_table", { name: "t" });
    await expect(call("ensure_table", { name: "u" })).rejects.toThrow("no more are possible");
  });
});
