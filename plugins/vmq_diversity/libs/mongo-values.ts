import { isUtf8 } from "node:buffer";
import { isTable, LuaError, LuaFloat, type LuaResult, type LuaValue } from "../worker/library.ts";

/** The part of the driver that makes values; it is loaded with the first pool. */
export type Bson = typeof import("mongodb");

/** How scripts see an ObjectId: this text and its 12 bytes. */
const OBJECT_ID = Buffer.from("vmq-objid");
const OBJECT_ID_BYTES = OBJECT_ID.length + 12;

/** A Lua value as MongoDB stores it: a table with 1..n is an array, every other one a document. */
export function toBson(bson: Bson, value: LuaValue): unknown {
  if (value === undefined || typeof value === "boolean" || typeof value === "number") return value;
  if (typeof value === "bigint") return bson.Long.fromBigInt(value);
  if (value instanceof LuaFloat) return new bson.Double(value.value);
  if (Buffer.isBuffer(value)) {
    const isId = value.length === OBJECT_ID_BYTES && value.subarray(0, 9).equals(OBJECT_ID);
    if (isId) return new bson.ObjectId(value.subarray(OBJECT_ID.length));
    return isUtf8(value) ? value.toString("utf8") : new bson.Binary(value);
  }
  if (!isTable(value)) throw new LuaError(`mongodb: a ${value.type} cannot be stored`);
  const { array, hash } = value;
  if (hash.size === 0 && array.length > 0) return array.map((item) => toBson(bson, item));
  const document: Record<string, unknown> = {};
  for (const [key, item] of hash) document[String(key)] = toBson(bson, item);
  array.forEach((item, index) => {
    document[String(index + 1)] = toBson(bson, item);
  });
  return document;
}

/** The way back; null and undefined are nil, a date is its milliseconds since 1970. */
export function fromBson(bson: Bson, value: unknown): LuaResult {
  if (value === null || value === undefined) return undefined;
  if (typeof value !== "object") return value as string | number | boolean | bigint;
  if (value instanceof bson.ObjectId) return Buffer.concat([OBJECT_ID, value.id]);
  if (value instanceof Date) return value.getTime();
  if (value instanceof bson.Binary) return Buffer.from(value.buffer.subarray(0, value.position));
  if (value instanceof bson.Long) return value.toBigInt();
  if (value instanceof bson.Double) return value.value;
  if (value instanceof bson.Decimal128) return value.toString();
  if (Array.isArray(value)) return value.map((item) => fromBson(bson, item));
  const document: Record<string, LuaResult> = {};
  for (const [key, item] of Object.entries(value)) document[key] = fromBson(bson, item);
  return document;
}
