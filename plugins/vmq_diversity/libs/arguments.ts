/** Reads the arguments that scripts give to library functions. */
import {
  isTable,
  LuaError,
  LuaFloat,
  type LuaTable,
  type LuaValue,
  textOf,
  typeNameOf,
} from "../worker/library.ts";

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

/** `{mountpoint=, client_id=}`, both strings. Throws LuaError naming the argument. */
export function subscriberIdOf(
  value: LuaValue,
  name: string,
): { mountpoint: string; clientId: string } {
  if (!isTable(value)) {
    throw new LuaError(`${name} must be {mountpoint=, client_id=}, not ${typeNameOf(value)}`);
  }
  return {
    mountpoint: stringOf(value.hash.get("mountpoint"), `${name}.mountpoint`),
    clientId: stringOf(value.hash.get("client_id"), `${name}.client_id`),
  };
}

/** An optional table of options; nil counts as empty. Throws LuaError naming the argument. */
export function optionsOf(value: LuaValue, name: string): LuaTable["hash"] {
  if (value === undefined) return new Map();
  if (isTable(value)) return value.hash;
  throw new LuaError(`${name} must be a table, not ${typeNameOf(value)}`);
}
