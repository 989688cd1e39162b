/** `kv`: tables in the broker's memory, shared by all scripts, states and threads. */
import { deserialize, serialize } from "node:v8";
import type { KvValue } from "../kv.ts";
import {
  isTable,
  type LibraryHost,
  type LuaCall,
  LuaError,
  LuaFloat,
  type LuaLibrary,
  type LuaResult,
  type LuaValue,
  tableOf,
  textOf,
  typeNameOf,
} from "../worker/library.ts";
import { numberIn, numberOf, stringOf } from "./arguments.ts";

type Key = string | number | boolean;
type Plain = boolean | number | bigint | Uint8Array | { readonly float: number } | PlainTable;
interface PlainTable {
  readonly array: readonly Plain[];
  readonly hash: readonly (readonly [Key, Plain])[];
}

/** Ten years: longer than a broker runs. */
const TTL_S_MAX = 315_360_000;
const DEPTH_MAX = 128;

/** Makes VerneMQ's functions, `kv.incr(table, key[, delta[, ttl_s]])` and a time to live for inserts. */
export function kvLibrary(host: LibraryHost): LuaLibrary {
  const ask = (call: LuaCall, name: string, args: object) =>
    host.ask(`kv.${name}`, args, call) as Promise<LuaResult>;

  function insert(name: "insert" | "insert_new") {
    const where = `kv.${name}`;
    return (call: LuaCall, table: LuaValue, entries: LuaValue, ttl: LuaValue) =>
      ask(call, name, {
        table: textOf(table, `${where}: the table`),
        entries: entriesOf(entries, where),
        ttlS: ttlOf(ttl, where),
      });
  }

  return {
    ensure_table: (call, config) => {
      const { hash } = tableOf(config, "kv.ensure_table: the configuration");
      const table = stringOf(hash.get("name") ?? Buffer.from("simple_kv"), "kv.ensure_table: name");
      const type = stringOf(hash.get("type") ?? Buffer.from("set"), "kv.ensure_table: type");
      return ask(call, "ensure_table", { table, type });
    },
    insert: insert("insert"),
    insert_new: insert("insert_new"),
    lookup: async (call, table, key) => {
      const args = { table: textOf(table, "kv.lookup: the table"), key: keyOf(key, "kv.lookup") };
      const found = await host.ask("kv.lookup", args, call);
      return (found as KvValue[]).map(unpack);
    },
    delete: (call, table, key) =>
      ask(call, "delete", {
        table: textOf(table, "kv.delete: the table"),
        key: keyOf(key, "kv.delete"),
      }),
    delete_all: (call, table) =>
      ask(call, "delete_all", { table: textOf(table, "kv.delete_all: the table") }),
    incr: (call, table, key, delta, ttl) =>
      ask(call, "incr", {
        table: textOf(table, "kv.incr: the table"),
        key: keyOf(key, "kv.incr"),
        delta: deltaOf(delta),
        ttlS: ttlOf(ttl, "kv.incr"),
      }),
  };
}

function keyOf(value: LuaValue, where: string): string {
  return textOf(value, `${where}: the key`);
}

function ttlOf(value: LuaValue, where: string): number | undefined {
  if (value === undefined) return undefined;
  return numberOf(value, `${where}: the time to live in seconds`, 0.001, TTL_S_MAX);
}

function deltaOf(value: LuaValue): number {
  if (value === undefined) return 1;
  const delta = numberIn(value);
  if (delta !== undefined && Number.isFinite(delta)) return delta;
  throw new LuaError(`kv.incr: the difference must be a number, not ${typeNameOf(value)}`);
}

function entriesOf(value: LuaValue, where: string): [string, KvValue][] {
  const { array, hash } = tableOf(value, `${where}: the entries`);
  if (array.length > 0) throw new LuaError(`${where}: keys must be strings, not 1..n`);
  return [...hash].map(([key, inner]) => {
    if (typeof key !== "string") {
      throw new LuaError(`${where}: keys must be strings, not ${String(key)}`);
    }
    return [key, pack(inner, `${where}: the value of ${key}`)];
  });
}

/** A value as it is kept: a table as bytes, so that the main thread stores it without looking inside. */
function pack(value: LuaValue, name: string): KvValue {
  const plain = plainOf(value, name, 0);
  return isPlainTable(plain) ? { table: exact(serialize(plain)) } : plain;
}

/** The value as scripts get it back. */
function unpack(value: KvValue): LuaResult {
  return resultOf(isTableBytes(value) ? (deserialize(value.table) as Plain) : value);
}

function plainOf(value: LuaValue, name: string, depth: number): Plain {
  if (typeof value === "boolean" || typeof value === "number" || typeof value === "bigint") {
    return value;
  }
  if (Buffer.isBuffer(value)) return exact(value);
  if (value instanceof LuaFloat) return { float: value.value };
  if (!isTable(value)) throw new LuaError(`${name} must be data, not a ${typeNameOf(value)}`);
  if (depth === DEPTH_MAX) throw new LuaError(`${name} nests deeper than ${DEPTH_MAX} tables`);
  const hash = [...value.hash].map(([key, inner]): [Key, Plain] => [
    key,
    plainOf(inner, name, depth + 1),
  ]);
  // Sorted, so that a bag knows equal tables.
  hash.sort(([a], [b]) => (String(a) < String(b) ? -1 : 1));
  return { array: value.array.map((inner) => plainOf(inner, name, depth + 1)), hash };
}

function resultOf(value: Plain): LuaResult {
  if (typeof value !== "object" || value instanceof Uint8Array) return value;
  if ("float" in value) return new LuaFloat(value.float);
  const array = value.array.map(resultOf);
  if (value.hash.length === 0) return array;
  const table = new Map<Key, LuaResult>(array.map((inner, i) => [i + 1, inner]));
  for (const [key, inner] of value.hash) table.set(key, resultOf(inner));
  return table;
}

/** A copy: a view would take the whole memory behind it to the other thread. */
function exact(bytes: Uint8Array): Uint8Array {
  return new Uint8Array(bytes);
}

function isPlainTable(value: Plain): value is PlainTable {
  return typeof value === "object" && "array" in value;
}

function isTableBytes(value: KvValue): value is { readonly table: Uint8Array } {
  return typeof value === "object" && "table" in value;
}
