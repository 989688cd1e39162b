import { isUtf8 } from "node:buffer";
import { LuaError, LuaFloat, type LuaValue, typeNameOf } from "../worker/library.ts";

/** A parameter of a statement; nil is NULL. Bytes that are no text stay bytes. */
export function parameterOf(
  value: LuaValue,
  name: string,
): string | number | boolean | null | Buffer {
  if (value === undefined) return null;
  if (typeof value === "boolean" || typeof value === "number") return value;
  if (typeof value === "bigint") return value.toString();
  if (value instanceof LuaFloat) return value.value;
  if (!Buffer.isBuffer(value)) {
    throw new LuaError(`${name} must be a string, number or boolean, not ${typeNameOf(value)}`);
  }
  return isUtf8(value) && !value.includes(0) ? value.toString("utf8") : value;
}

/** Trailing nils count: a list of parameters as the script wrote it. */
export function parametersOf(
  values: readonly LuaValue[],
  name: string,
): (string | number | boolean | null | Buffer)[] {
  return values.map((value, index) => parameterOf(value, `${name}: argument ${index + 1}`));
}
