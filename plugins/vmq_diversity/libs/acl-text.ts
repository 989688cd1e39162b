/** The ACLs of `auth_cache.insert`, read into the form in which they travel. */
import { LRUCache } from "lru-cache";
import type { AclKind } from "../acl-rule.ts";
import {
  isTable,
  LuaError,
  LuaFloat,
  type LuaResult,
  type LuaTable,
  type LuaValue,
  typeNameOf,
} from "../worker/library.ts";
import { aclOf } from "./acl.ts";
import { fromJson } from "./json.ts";

/** Text of one list. Distinct texts are kept once each, however many clients have them. */
const CHARS_MAX = 1024 * 1024;
/** Texts of databases that have been read: most clients share a few. Bounds their characters. */
const KNOWN_CHARS_MAX = 4 * CHARS_MAX;
const KNOWN_MAX = 10_000;

/** What a key of a rule may be where wrong types are errors; all others may be plain values. */
const TYPES: ReadonlyMap<unknown, readonly string[]> = new Map([
  ["pattern", ["string"]],
  ["modifiers", ["table"]],
]);
const PLAIN = ["string", "number", "boolean"];

/** Reads lists of rules into JSON of `AclRule[]`. */
export class AclTexts {
  private readonly known = new LRUCache<string, string>({
    max: KNOWN_MAX,
    maxSize: KNOWN_CHARS_MAX,
    sizeCalculation: (rules, given) => given.length + rules.length,
  });

  /**
   * `value` is a list of tables, the same as JSON text, as databases keep it, or nil. What cannot be used in
   * a rule is a fault of that rule, if `isStrict` a LuaError where the type is wrong.
   */
  of(value: LuaValue, kind: AclKind, isStrict: boolean): string {
    if (!Buffer.isBuffer(value)) return rulesText(value, kind, isStrict);
    const text = value.toString("utf8");
    const key = `${kind} ${isStrict} ${text}`;
    const known = this.known.get(key);
    if (known !== undefined) return known;
    const rules = rulesText(parsed(text, kind), kind, isStrict);
    this.known.set(key, rules);
    return rules;
  }
}

function rulesText(value: LuaValue, kind: AclKind, isStrict: boolean): string {
  if (isStrict) checkTypes(value, kind);
  const text = JSON.stringify(aclOf(value, kind));
  if (text.length <= CHARS_MAX) return text;
  throw new LuaError(`auth_cache.insert: ${kind} is longer than ${CHARS_MAX} characters`);
}

/** The JSON value as Lua would have it; null as a whole is nil. */
function parsed(text: string, kind: AclKind): LuaValue {
  let value: LuaResult;
  try {
    value = fromJson(text);
  } catch {
    throw new LuaError(`auth_cache.insert: ${kind} is no JSON array`);
  }
  return value === "null" ? undefined : asArgument(value);
}

function asArgument(value: LuaResult): LuaValue {
  if (typeof value === "string") return Buffer.from(value, "utf8");
  if (typeof value !== "object" || value === null || value instanceof LuaFloat) {
    return value ?? undefined;
  }
  if (Array.isArray(value)) return { array: value.map(asArgument), hash: new Map() };
  const entries = Object.entries(value as Record<string, LuaResult>);
  return { array: [], hash: new Map(entries.map(([key, inner]) => [key, asArgument(inner)])) };
}

function checkTypes(value: LuaValue, kind: AclKind): void {
  if (!isTable(value)) return;
  for (const [i, rule] of value.array.entries()) checkRule(rule, `${kind}[${i + 1}]`);
}

function checkRule(rule: LuaValue, name: string): void {
  const fault = (why: string): LuaError => new LuaError(`auth_cache.insert: ${name}${why}`);
  if (!isTable(rule)) throw fault(` must be an object, not a ${typeNameOf(rule)}`);
  const { array, hash }: LuaTable = rule;
  if (array.length > 0) throw fault(" must be an object with named values");
  for (const [key, value] of hash) {
    if (typeof key !== "string") throw fault(" must be an object with named values");
    const type = typeNameOf(value);
    if (!(TYPES.get(key) ?? PLAIN).includes(type)) throw fault(`.${key} must not be a ${type}`);
  }
}
