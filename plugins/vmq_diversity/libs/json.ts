import {
  isTable,
  type LibraryFactory,
  LuaError,
  LuaFloat,
  type LuaResult,
  type LuaTable,
  type LuaValue,
  typeNameOf,
} from "../worker/library.ts";

const DEPTH_MAX = 64;

/** JSON as VerneMQ's scripts know it: an empty table is `{}`, JSON's null the text "null". */
export const json: LibraryFactory = () => ({
  encode: (_, value) => {
    if (!isTable(value)) {
      throw new LuaError(`json.encode takes a table, not ${typeNameOf(value)}`);
    }
    return encode(value, 0);
  },
  decode: (_, text) => {
    if (!Buffer.isBuffer(text)) return undefined;
    try {
      return decoded(JSON.parse(text.toString("utf8")), 0);
    } catch {
      // As VerneMQ: what is no JSON is nil.
      return undefined;
    }
  },
});

function encode(value: LuaValue, depth: number): string {
  if (value === undefined) return "null";
  if (typeof value === "boolean" || typeof value === "bigint") return String(value);
  if (typeof value === "number") return Number.isFinite(value) ? String(value) : "null";
  if (value instanceof LuaFloat) return value.value.toFixed(1);
  if (Buffer.isBuffer(value)) return JSON.stringify(value.toString("utf8"));
  if (!isTable(value)) throw new LuaError(`json.encode: a ${value.type} cannot be written`);
  if (depth > DEPTH_MAX) throw new LuaError(`json.encode: more than ${DEPTH_MAX} levels`);
  return encodeTable(value, depth + 1);
}

function encodeTable({ array, hash }: LuaTable, depth: number): string {
  if (hash.size === 0 && array.length > 0) {
    return `[${array.map((item) => encode(item, depth)).join(",")}]`;
  }
  const members = [...hash].map(
    ([key, item]) => `${JSON.stringify(String(key))}:${encode(item, depth)}`,
  );
  array.forEach((item, index) => void members.push(`"${index + 1}":${encode(item, depth)}`));
  return `{${members.join(",")}}`;
}

function decoded(value: unknown, depth: number): LuaResult {
  if (value === null) return "null";
  if (typeof value !== "object") return value as string | number | boolean;
  if (depth > DEPTH_MAX) throw new LuaError("too deep");
  if (Array.isArray(value)) return value.map((item) => decoded(item, depth + 1));
  return new Map(Object.entries(value).map(([key, item]) => [key, decoded(item, depth + 1)]));
}
