import {
  type ConditionalHook,
  checkVerdict,
  type HookError,
  reasonCodeOf,
} from "../../core/plugin-api.ts";
import { fromBase64 } from "./text.ts";

/** A verdict of any hook, in the form the chain takes. */
export type AnyVerdict = "ok" | "next" | { ok: object } | { error: HookError };

/** What is wrong with an answer: the member, and what is allowed there. */
export interface Malformed {
  readonly field: string;
  readonly reason: string;
}

export type Answer =
  | { readonly verdict: AnyVerdict; readonly warning?: Malformed }
  | { readonly malformed: Malformed };

type Fields = Record<string, unknown>;

/** Thrown while an answer is taken apart; never leaves this file. */
class Fault extends Error {
  readonly malformed: Malformed;

  constructor(field: string, reason: string) {
    super(reason);
    this.malformed = { field, reason };
  }
}

const PLAIN_OK: Answer = { verdict: "ok" };
const PLAIN_NEXT: Answer = { verdict: "next" };

/** Hooks whose answers carry the list beside `result`, not in `modifiers`. */
const LIST_HOOKS: ReadonlySet<string> = new Set(["auth_on_subscribe", "on_unsubscribe"]);

/** Takes the body of an answer to a hook that decides. */
export function readAnswer(hook: ConditionalHook, body: string, isBase64: boolean): Answer {
  // Most answers are one of these, byte for byte.
  if (body === '{"result":"ok"}') return PLAIN_OK;
  if (body === '{"result":"next"}') return PLAIN_NEXT;
  let document: unknown;
  try {
    document = JSON.parse(body);
  } catch {
    return malformed("body", `is not JSON: ${shown(body)}`);
  }
  if (!isRecord(document)) return malformed("body", `must be an object, not ${shown(document)}`);
  const { result } = document;
  if (result === "next") return PLAIN_NEXT;
  if (isRecord(result)) return refusal(hook, result);
  if (result !== "ok") {
    return malformed("result", `must be "ok", "next" or { "error": ... }, not ${shown(result)}`);
  }
  const prefix = LIST_HOOKS.has(hook) ? "" : "modifiers.";
  try {
    const modifiers = modifiersOf(hook, document, isBase64);
    if (modifiers === undefined) return PLAIN_OK;
    const { verdict, fault } = checkVerdict(hook, { ok: modifiers });
    if (fault !== undefined) return malformed(prefix + fault.field, fault.message);
    return { verdict: verdict as AnyVerdict };
  } catch (fault) {
    if (fault instanceof Fault) return { malformed: fault.malformed };
    throw fault;
  }
}

function malformed(field: string, reason: string): Answer {
  return { malformed: { field, reason } };
}

// ---- refusals

/** A refusal is never anything else, whatever is wrong with its reason. */
function refusal(hook: ConditionalHook, result: Fields): Answer {
  const { error } = result;
  if (isRecord(error)) return { verdict: { error: error as HookError } };
  const { reason_code: code, reason_string: text } = result;
  const name = typeof error === "string" || typeof error === "number" ? error : "unknown_error";
  const isCode = typeof code === "string" || typeof code === "number";
  if (isCode && reasonCodeOf(code) !== undefined) {
    return { verdict: { error: withText(code, text) } };
  }
  const verdict = { error: ofName(hook, name, text) };
  if (code === undefined || code === null) return { verdict };
  const reason = `is no reason code of MQTT 5, by name or number: ${shown(code)}`;
  return { verdict, warning: { field: "result.reason_code", reason } };
}

function withText(code: string | number, text: unknown): HookError {
  return typeof text === "string"
    ? { reason_code: code, reason_string: text }
    : { reason_code: code };
}

/** Differs from VerneMQ: the name of a reason code is that code for an MQTT 5 client. */
function ofName(hook: string, name: string | number, text: unknown): HookError {
  const code = hook.endsWith("_m5") ? reasonCodeOf(name) : undefined;
  if (code !== undefined && code >= 0x80) return withText(name, text);
  return name;
}

// ---- modifiers

function modifiersOf(
  hook: ConditionalHook,
  document: Fields,
  isBase64: boolean,
): object | undefined {
  if (hook === "auth_on_subscribe" || hook === "on_unsubscribe") {
    const topics = reversedList("topics", document.topics);
    return topics === undefined || topics.length === 0 ? undefined : topics;
  }
  const { modifiers } = document;
  if (modifiers === undefined || modifiers === null) return undefined;
  if (!isRecord(modifiers)) {
    throw new Fault("modifiers", `must be an object, not ${shown(modifiers)}`);
  }
  const { base64: marked, ...given } = withoutEmpty(hook, modifiers);
  const encoded = markedFields(marked);
  switch (hook) {
    case "auth_on_register":
    case "auth_on_register_m5":
      return withProperties(withSubscriber(given), encoded);
    case "auth_on_subscribe_m5":
      return withRefusals(withTopics(withProperties(given, encoded)));
    case "on_unsubscribe_m5":
      return withTopics(withProperties(given, encoded));
    case "on_auth_m5":
      return withProperties(given, encoded);
    default:
      return withProperties(withPayload(given, isBase64 || encoded.includes("payload")), encoded);
  }
}

/** MQTT 3.x knows no properties: an empty object is none. */
function withoutEmpty(hook: ConditionalHook, modifiers: Fields): Fields {
  const { properties, ...others } = modifiers;
  const isEmpty = isRecord(properties) && Object.keys(properties).length === 0;
  return isEmpty && !hook.endsWith("_m5") ? others : modifiers;
}

/** `base64`: names of text fields that are base64 here, as in requests. */
function markedFields(given: unknown): readonly string[] {
  if (given === undefined || given === null) return [];
  if (Array.isArray(given) && given.every((name) => typeof name === "string")) return given;
  throw new Fault("modifiers.base64", "must be a list of field names");
}

function reversedList(field: string, given: unknown): unknown[] | undefined {
  if (given === undefined || given === null) return undefined;
  if (!Array.isArray(given)) throw new Fault(field, `must be a list, not ${shown(given)}`);
  return [...given].reverse();
}

function withTopics(given: Fields): Fields {
  const topics = reversedList("modifiers.topics", given.topics);
  return topics === undefined || topics.length === 0 ? given : { ...given, topics };
}

/** 128 is the refusal of MQTT 3.1.1; here it means that the client may not. */
function withRefusals(given: Fields): Fields {
  if (!Array.isArray(given.topics)) return given;
  const topics = given.topics.map((one: unknown) =>
    isRecord(one) && one.qos === 128 ? { ...one, qos: "not_authorized" } : one,
  );
  return { ...given, topics };
}

/** `client_id` and `mountpoint` together are the subscriber; one alone is refused. */
function withSubscriber(given: Fields): Fields {
  const { client_id, mountpoint, ...others } = given;
  if (client_id === undefined && mountpoint === undefined) return given;
  if (client_id === undefined || mountpoint === undefined) {
    const [there, missing] =
      client_id === undefined ? ["mountpoint", "client_id"] : ["client_id", "mountpoint"];
    throw new Fault(`modifiers.${there}`, `needs ${missing} beside it`);
  }
  return { ...others, subscriber_id: { client_id, mountpoint } };
}

function withPayload(given: Fields, isBase64: boolean): Fields {
  const { payload } = given;
  if (payload === undefined || payload === null || !isBase64) return given;
  return { ...given, payload: bytesOf("modifiers.payload", payload) };
}

function withProperties(given: Fields, encoded: readonly string[]): Fields {
  const { properties } = given;
  if (properties === undefined || properties === null) return given;
  if (!isRecord(properties)) {
    throw new Fault("modifiers.properties", `must be an object, not ${shown(properties)}`);
  }
  const there = Object.entries(properties).filter(([, value]) => value !== null);
  // Not by assignment, which makes `__proto__` something else than a name that is not known.
  const read = Object.fromEntries(
    there.map(([name, value]) => [name, property(name, value, encoded)]),
  );
  return { ...given, properties: read };
}

function property(name: string, value: unknown, encoded: readonly string[]): unknown {
  const field = `modifiers.properties.${name}`;
  switch (name) {
    case "p_user_property":
      return userProperties(field, value);
    case "p_authentication_data":
      return bytesOf(field, value);
    case "p_correlation_data":
      if (encoded.includes(name)) return bytesOf(field, value);
      return typeof value === "string" ? Buffer.from(value) : value;
    default:
      return value;
  }
}

function bytesOf(field: string, value: unknown): Buffer {
  const bytes = typeof value === "string" ? fromBase64(value) : undefined;
  if (bytes === undefined) throw new Fault(field, `must be base64, not ${shown(value)}`);
  return bytes;
}

/** Members by name. Differs from VerneMQ, which takes the first for the key. */
function userProperties(field: string, value: unknown): { key: string; val: string }[] {
  if (!Array.isArray(value)) throw new Fault(field, `must be a list, not ${shown(value)}`);
  return value.map((pair: unknown, index) => {
    if (!isRecord(pair)) throw new Fault(`${field}[${index}]`, "must be { key, val }");
    const key = bytesOf(`${field}[${index}].key`, pair.key).toString();
    return { key, val: bytesOf(`${field}[${index}].val`, pair.val).toString() };
  });
}

function isRecord(value: unknown): value is Fields {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function shown(value: unknown): string {
  if (value === undefined) return "nothing";
  return (JSON.stringify(value) ?? String(value)).slice(0, 60);
}
