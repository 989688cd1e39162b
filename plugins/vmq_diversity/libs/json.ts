/** `json`: Lua values to JSON text and back. */
import { randomBytes } from "node:crypto";
import {
  isTable,
  type LibraryHost,
  LuaFloat,
  type LuaLibrary,
  type LuaResult,
  type LuaTable,
  type LuaValue,
  tableOf,
  typeNameOf,
} from "../worker/library.ts";

/** Tables in tables. More is an attack on the stack, not data. */
const DEPTH_MAX = 128;
/** Lua's integers have 64 bits; larger ones are floats. */
const INTEGER_MIN = -(2n ** 63n);
const INTEGER_MAX = 2n ** 63n - 1n;

/**
 * Text of a table: with values at 1..n only an array, else an object, an empty one too. Keys are
 * sorted, as in VerneMQ, so that equal tables give equal text. Throws an Error that says what has no JSON.
 */
export function toJson(table: LuaTable, depth = 1): string {
  if (depth > DEPTH_MAX) throw new RangeError(`tables nest deeper than ${DEPTH_MAX} levels`);
  const { array, hash } = table;
  if (hash.size === 0 && array.length > 0) {
    let text = "[";
    for (let i = 0; i < array.length; i++) {
      text += i === 0 ? valueToJson(array[i], depth) : `,${valueToJson(array[i], depth)}`;
    }
    return `${text}]`;
  }
  const keys = [...hash.keys()];
  if (array.length > 0 || keys.some((key) => typeof key !== "string")) {
    return toJson({ array: [], hash: withTextKeys(table) }, depth);
  }
  if (keys.length > 1) keys.sort();
  let text = "{";
  for (let i = 0; i < keys.length; i++) {
    const key = keys[i] as string;
    text += `${i === 0 ? "" : ","}${quoted(key)}:${valueToJson(hash.get(key), depth)}`;
  }
  return `${text}}`;
}

/** All values under text keys: 1 is "1". */
function withTextKeys({ array, hash }: LuaTable): Map<string, LuaValue> {
  const members = new Map<string, LuaValue>(array.map((value, i) => [String(i + 1), value]));
  for (const [key, value] of hash) members.set(String(key), value);
  return members;
}

/** Text that needs no escape in JSON. Most is such, and this is quicker than JSON.stringify. */
const PLAIN_TEXT = /^[ !#-[\]-\ud7ff\ue000-\uffff]*$/;

function quoted(text: string): string {
  return PLAIN_TEXT.test(text) ? `"${text}"` : JSON.stringify(text);
}

function valueToJson(value: LuaValue, depth: number): string {
  // Bytes that are no UTF-8 become U+FFFD, as in VerneMQ (recorded).
  if (Buffer.isBuffer(value)) return quoted(value.toString("utf8"));
  if (typeof value === "number") return numberToJson(value);
  if (typeof value === "boolean" || typeof value === "bigint") return String(value);
  if (value instanceof LuaFloat) {
    const text = numberToJson(value.value);
    return text.includes("e") ? text : `${text}.0`;
  }
  if (isTable(value)) return toJson(value, depth + 1);
  throw new TypeError(`a ${typeNameOf(value)} has no JSON`);
}

function numberToJson(value: number): string {
  if (Number.isFinite(value)) return String(value);
  throw new RangeError(`${Number.isNaN(value) ? "nan" : "inf"} has no JSON`);
}

/**
 * Numbers which JSON.parse does not keep apart from others that Lua has: floats with an integral value
 * and integers beyond 2^53. The test may also hit text in strings; that costs time, nothing else.
 */
const SPECIAL_NUMBER = /\.0+(?!\d)|\d[eE]|\d{16}/;
const STRINGS_AND_NUMBERS = /"(?:[^"\\]|\\.)*"|-?\d[\d.eE+-]*/g;
/** Begins the text that stands for such a number while JSON.parse works; nobody can guess it. */
const MARK = `\0${randomBytes(12).toString("base64")}`;

/** The value of a JSON text; null becomes the string "null", as in VerneMQ (recorded). Throws SyntaxError. */
export function fromJson(text: string): LuaResult {
  const plain: unknown = JSON.parse(text);
  if (!SPECIAL_NUMBER.test(text)) return toLua(plain, 0);
  const marked = text.replace(STRINGS_AND_NUMBERS, (token) =>
    token.startsWith('"') || !SPECIAL_NUMBER.test(token)
      ? token
      : `${JSON.stringify(MARK).slice(0, -1)}${token}"`,
  );
  return toLua(JSON.parse(marked), 0);
}

/** Changes the parsed value in place. */
function toLua(value: unknown, depth: number): LuaResult {
  if (value === null) return "null";
  if (typeof value === "string") {
    return value.startsWith(MARK) ? specialNumber(value.slice(MARK.length)) : value;
  }
  if (typeof value !== "object") return value as boolean | number;
  if (depth >= DEPTH_MAX) throw new SyntaxError(`values nest deeper than ${DEPTH_MAX} levels`);
  if (Array.isArray(value)) {
    for (let i = 0; i < value.length; i++) value[i] = toLua(value[i], depth + 1);
    return value as LuaResult[];
  }
  const members = value as Record<string, LuaResult>;
  for (const key of Object.keys(members)) {
    const inner = members[key];
    // Plain ones stay as they are; "__proto__" is an own key here but would not be after assignment.
    const changed = toLua(inner, depth + 1);
    if (changed !== inner) {
      Object.defineProperty(members, key, { value: changed, enumerable: true, writable: true });
    }
  }
  return members;
}

function specialNumber(text: string): LuaResult {
  const value = Number(text);
  if (/[.eE]/.test(text)) return Number.isInteger(value) ? new LuaFloat(value) : value;
  const integer = BigInt(text);
  return integer >= INTEGER_MIN && integer <= INTEGER_MAX ? integer : new LuaFloat(value);
}

/** Makes `json.encode` and `json.decode`. Both give nil for what they cannot do, and log why. */
export function jsonLibrary(host: LibraryHost): LuaLibrary {
  return {
    encode: (call, value) => {
      const table = tableOf(value, "json.encode: the value");
      try {
        return toJson(table);
      } catch (error) {
        const why = error instanceof Error ? error.message : String(error);
        host.log("warn", `json.encode: ${why}`, undefined, call);
        return undefined;
      }
    },
    decode: (call, value) => {
      if (!Buffer.isBuffer(value)) return undefined;
      const text = value.toString("utf8");
      try {
        return fromJson(text);
      } catch {
        // The parser's message shows the text, which may be a payload: not for the log.
        host.log("debug", "json.decode: the text is no JSON", { bytes: text.length }, call);
        return undefined;
      }
    },
  };
}
