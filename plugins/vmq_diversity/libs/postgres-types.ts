/** Values of PostgreSQL as Lua has them. */
import type { LuaResult } from "../worker/library.ts";

/** Numbers of types (pg_type.dat) whose values a script gets otherwise than as the server's text. */
const INT8 = 20;
const NUMERIC = 1700;
const TIMESTAMP = 1114;
const TIMESTAMPTZ = 1184;
/** bool, bytea, int2, int4, oid, float4, float8: the driver's own. */
const BY_DRIVER = new Set([16, 17, 21, 23, 26, 700, 701]);
/** Types of arrays, with the type of their elements. */
const ARRAYS: Readonly<Record<number, number>> = {
  // bool, bytea, char, name, int2, int4, int8, oid, float4, float8, numeric
  ...{ 1000: 16, 1001: 17, 1002: 18, 1003: 19, 1005: 21, 1007: 23, 1016: INT8 },
  ...{ 1028: 26, 1021: 700, 1022: 701, 1231: NUMERIC },
  // text, bpchar, varchar, uuid, json, jsonb, inet, cidr
  ...{ 1009: 25, 1014: 1042, 1015: 1043, 2951: 2950, 199: 114, 3807: 3802, 1041: 869, 651: 650 },
  // date, time, timetz, interval, timestamp, timestamptz
  ...{ 1182: 1082, 1183: 1083, 1270: 1266, 1187: 1186, 1115: TIMESTAMP, 1185: TIMESTAMPTZ },
};

/** What the driver has beside its declared types. */
export interface DriverTypes {
  getTypeParser(oid: number, format: "text"): Parser;
  readonly arrayParser: { create(text: string, element: Parser): { parse(): LuaResult } };
}

export type Parser = (text: string) => LuaResult;

/** How a value of a type becomes one of Lua; what is not named here stays text. */
export function parserOf(types: DriverTypes, oid: number): Parser {
  if (BY_DRIVER.has(oid)) return types.getTypeParser(oid, "text");
  if (oid === INT8) return integerOf;
  if (oid === NUMERIC) return Number;
  if (oid === TIMESTAMP || oid === TIMESTAMPTZ) return isoTime;
  const element = ARRAYS[oid];
  if (element === undefined) return (text) => text;
  const parse = parserOf(types, element);
  return (text) => types.arrayParser.create(text, parse).parse();
}

function integerOf(text: string): number | bigint {
  const value = Number(text);
  return Number.isSafeInteger(value) ? value : BigInt(text);
}

/** `2026-01-02 03:04:05.6+00` as ISO 8601 has it. */
function isoTime(text: string): string {
  return text.replace(" ", "T").replace(/([+-]\d\d)$/, "$1:00");
}
