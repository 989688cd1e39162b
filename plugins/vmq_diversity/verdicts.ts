import type { HookProperties, Verdict } from "../../core/plugin-api.ts";
import type { LuaHook } from "./wire.ts";

/**
 * A Lua value as it arrives from a worker (clone.ts): a string is text, or bytes if it is none, and
 * the classes of library.ts are plain objects.
 */
export type ClonedValue =
  | undefined
  | boolean
  | number
  | bigint
  | string
  | Uint8Array
  | ClonedTable
  | { readonly value: number }
  | { readonly type: string };

export interface ClonedTable {
  readonly array: readonly ClonedValue[];
  readonly hash: ReadonlyMap<string | number | boolean, ClonedValue>;
}

/** Values of these names are bytes and not text. */
const BYTES = new Set(["payload", "p_correlation_data", "p_authentication_data"]);

/** What `false` means. */
export function refusal(hook: LuaHook): { error: string } {
  if (hook.startsWith("auth_on_register")) return { error: "invalid_credentials" };
  return { error: hook.startsWith("auth_") || hook === "on_auth_m5" ? "not_authorized" : "error" };
}

/**
 * The verdict for a table that a hook returned: the form that the broker checks. An empty table
 * changes nothing. Differs from VerneMQ, where it is invalid.
 */
export function verdictOfTable(
  hook: LuaHook,
  table: ClonedTable,
  incoming: HookProperties | undefined,
): Verdict<never> {
  if (table.array.length === 0 && table.hash.size === 0) return "ok";
  return { ok: modifiersOf(hook, table, incoming) as never };
}

function modifiersOf(
  hook: LuaHook,
  table: ClonedTable,
  incoming: HookProperties | undefined,
): unknown {
  if (table.hash.size === 0) return topicList(hook, table);
  const modifiers: Record<string, unknown> = {};
  for (const [key, value] of table.hash) {
    const name = String(key);
    if (name === "topics" && isTable(value)) modifiers[name] = topicList(hook, value);
    else if (name === "properties" && isTable(value)) {
      const properties = propertiesOf(value);
      const isMerged = hook === "auth_on_publish_m5" || hook === "on_deliver_m5";
      modifiers[name] = isMerged ? merged(incoming ?? {}, properties) : properties;
    } else modifiers[name] = plain(value, BYTES.has(name));
  }
  // A list with named values beside it: let the check name the first entry that cannot be used.
  table.array.forEach((value, index) => {
    modifiers[String(index + 1)] = plain(value, false);
  });
  return modifiers;
}

/** `{"a/b", 2}` or `{"a/b", {2, {rap = true}}}` in lists of topics; plain text when unsubscribing. */
function topicList(hook: LuaHook, { array }: ClonedTable): unknown[] {
  if (hook === "on_unsubscribe" || hook === "on_unsubscribe_m5") {
    return array.map((topic) => plain(topic, false));
  }
  return array.map((entry) => {
    if (!isTable(entry)) return plain(entry, false);
    const [topic, info] = entry.array;
    if (!isTable(info)) return { topic: plain(topic, false), qos: plain(info, false) };
    const [qos, options] = info.array;
    const named = isTable(options) ? (plain(options, false) as Record<string, unknown>) : {};
    return { topic: plain(topic, false), qos: plain(qos, false), ...named };
  });
}

function propertiesOf({ hash }: ClonedTable): Record<string, unknown> {
  const properties: Record<string, unknown> = {};
  for (const [key, value] of hash) {
    const name = String(key);
    if (name === "p_user_property" && isTable(value)) properties[name] = userProperties(value);
    else properties[name] = plain(value, BYTES.has(name));
  }
  return properties;
}

/** A list of tables with one entry each, in order; `{key = , val = }` is taken as well. */
function userProperties({ array, hash }: ClonedTable): unknown[] {
  const pairs: unknown[] = [];
  for (const entry of array) {
    if (!isTable(entry)) {
      pairs.push(plain(entry, false));
      continue;
    }
    const { hash: fields } = entry;
    if (fields.size === 2 && fields.has("key") && fields.has("val")) {
      pairs.push({ key: plain(fields.get("key"), false), val: plain(fields.get("val"), false) });
      continue;
    }
    for (const [key, val] of fields) pairs.push({ key: String(key), val: plain(val, false) });
  }
  for (const [key, val] of hash) pairs.push({ key: String(key), val: plain(val, false) });
  return pairs;
}

/** Returned properties over the incoming ones; user properties replace those of the same key. */
function merged(incoming: HookProperties, returned: Record<string, unknown>): object {
  const pairs = returned.p_user_property as { key: string; val: string }[] | undefined;
  if (pairs === undefined) return { ...incoming, ...returned };
  const keys = new Set(pairs.map(({ key }) => key));
  const kept = (incoming.p_user_property ?? []).filter(({ key }) => !keys.has(key));
  return { ...incoming, ...returned, p_user_property: [...kept, ...pairs] };
}

export function isTable(value: ClonedValue): value is ClonedTable {
  return typeof value === "object" && "array" in value && "hash" in value;
}

/** Any value as JavaScript's, tables as lists or objects. */
export function plain(value: ClonedValue, isBytes: boolean): unknown {
  if (typeof value === "bigint") return Number(value);
  if (typeof value === "string") return isBytes ? Buffer.from(value, "utf8") : value;
  if (typeof value !== "object") return value;
  if (value instanceof Uint8Array) {
    const bytes = Buffer.from(value.buffer, value.byteOffset, value.byteLength);
    return isBytes ? bytes : bytes.toString("utf8");
  }
  if ("value" in value) return value.value;
  if ("type" in value) return `a ${value.type}`;
  if (value.hash.size === 0 && value.array.length > 0) {
    return value.array.map((item) => plain(item, false));
  }
  const object: Record<string, unknown> = {};
  for (const [key, item] of value.hash) object[String(key)] = plain(item, BYTES.has(String(key)));
  value.array.forEach((item, index) => {
    object[String(index + 1)] = plain(item, false);
  });
  return object;
}
