import { isUtf8 } from "node:buffer";
import { isTable, LuaFloat, type LuaValue, OpaqueValue } from "./worker/library.ts";

/**
 * Bytes for a structured clone, which copies all of the memory that a view is part of: a small Buffer
 * shares eight kilobytes with others.
 */
export function exactBytes(bytes: Uint8Array): Uint8Array {
  return bytes.byteLength === bytes.buffer.byteLength ? bytes : new Uint8Array(bytes);
}

/** A Lua value as it travels: text as text, which is the cheapest, other bytes as bytes. */
export function forClone(value: LuaValue): unknown {
  if (typeof value !== "object") return value;
  if (Buffer.isBuffer(value)) {
    return isUtf8(value) ? value.toString("utf8") : new Uint8Array(value);
  }
  if (value instanceof LuaFloat || value instanceof OpaqueValue || !isTable(value)) return value;
  const hash = new Map<string | number | boolean, unknown>();
  for (const [key, item] of value.hash) hash.set(key, forClone(item));
  return { array: value.array.map(forClone), hash };
}
