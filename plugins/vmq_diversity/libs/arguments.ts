/** Reads the arguments that scripts give to library functions. */
import { LuaError, LuaFloat, type LuaValue, textOf, typeNameOf } from "../worker/library.ts";

/** The bytes of a string; numbers as Lua writes them. Throws LuaError naming the argument. */
export function bytesOf(value: LuaValue, name: string): Buffer {
  return Buffer.isBuffer(value) ? value : Buffer.from(textOf(value, name));
}

/** A string and nothing that only could be written as one. Throws LuaError naming the argument. */
export function stringOf(value: LuaValue, name: string): string {
  if (Buffer.isBuffer(value)) return value.toString("utf8");
  throw new LuaError(`${name} must be a string, not ${typeNameOf(value)}`);
}

/** A number as JavaScript has it; undefined for anything else. */
export function numberIn(value: LuaValue): number | undefined {
  if (typeof value === "number") return value;
  if (value instanceof LuaFloat) return value.value;
  return typeof value === "bigint" ? Number(value) : undefined;
}

/** A finite number from `min` to `max`. Throws LuaError naming the argument. */
export function numberOf(value: LuaValue, name: string, min: number, max: number): number {
  const given = numberIn(value);
  if (given !== undefined && given >= min && given <= max) return given;
  const shown = given ?? typeNameOf(value);
  throw new LuaError(`${name} must be a number from ${min} to ${max}, not ${shown}`);
}
