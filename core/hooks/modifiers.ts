import { fromHookProperties } from "../mqtt/hook-properties.ts";
import { reasonCodeOf } from "../mqtt/reason-codes.ts";
import { validateFilter, validateTopic } from "../mqtt/topics.ts";
import { stringFault } from "../mqtt/utf8.ts";
import { MODIFIERS, type ModifierRow, type Shape } from "./modifier-table.ts";
import type { ConditionalHook, HookError, HookModifiers, Verdict } from "./types.ts";

/** What is wrong with an answer: the field, and what is allowed there. */
export interface AnswerFault {
  readonly field: string;
  readonly message: string;
}

/** An answer in the one form the session works with; with a fault it is a refusal. */
export interface CheckedAnswer<H extends ConditionalHook> {
  readonly verdict: Verdict<HookModifiers[H]>;
  readonly fault?: AnswerFault;
}

/** A value in our form, or what is wrong with it. */
type Checked = { value: unknown } | AnswerFault;
type Fields = Record<string, unknown>;

/** Error of a verdict whose modifiers are not usable, as of VerneMQ's Lua scripts. */
const INVALID_MODIFIERS = "invalid_modifiers";

const PAYLOAD_HOOKS = hooks("auth_on_publish auth_on_publish_m5 on_deliver on_deliver_m5");
const LIST_HOOKS = hooks("auth_on_subscribe auth_on_subscribe_m5 on_unsubscribe on_unsubscribe_m5");
const CANNOT_REFUSE = hooks("on_unsubscribe on_unsubscribe_m5 on_deliver on_deliver_m5");

function hooks(names: string): ReadonlySet<string> {
  return new Set(names.split(" "));
}

/** on_unsubscribe and on_deliver may change what happens, but not forbid it. */
export function canRefuse(hook: ConditionalHook): boolean {
  return !CANNOT_REFUSE.has(hook);
}

const ROWS: ReadonlyMap<string, ReadonlyMap<string, ModifierRow>> = byHook();

function byHook(): Map<string, Map<string, ModifierRow>> {
  const rows = new Map<string, Map<string, ModifierRow>>();
  for (const row of MODIFIERS) {
    for (const hook of row.hooks) {
      const own = rows.get(hook) ?? new Map<string, ModifierRow>();
      rows.set(hook, own.set(row.name, row));
    }
  }
  return rows;
}

/**
 * Brings the answer of any plugin world into one form. `next`, `ok`, `{ ok: {} }` and `{ ok }` with
 * nothing but undefined fields are plain; unknown modifiers and bad values are a refusal with a fault.
 */
export function checkVerdict<H extends ConditionalHook>(
  hook: H,
  answer: unknown,
): CheckedAnswer<H> {
  if (answer === "ok" || answer === "next" || answer === "unavailable") return { verdict: answer };
  if (isRecord(answer)) {
    if (answer.error !== undefined && answer.error !== null) return checkError(answer.error);
    if (answer.ok !== undefined && answer.ok !== null) return checkOk(hook, answer.ok);
  }
  // As in VerneMQ, an answer of no known form is an error that carries it.
  const text = typeof answer === "string" || typeof answer === "number" ? answer : undefined;
  return {
    verdict: { error: text ?? "invalid_answer" },
    fault: { field: "answer", message: `must be ${ANSWER_FORMS}, not ${shown(answer)}` },
  };
}

const ANSWER_FORMS = '"ok", "next", "unavailable", { ok: modifiers } or { error: reason }';

function checkError<H extends ConditionalHook>(error: unknown): CheckedAnswer<H> {
  if (typeof error === "string" || typeof error === "number" || isRecord(error)) {
    return { verdict: { error: error as HookError } };
  }
  const message = `must be a name, a number or an object with reason_code, not ${shown(error)}`;
  return { verdict: { error: "invalid_answer" }, fault: { field: "error", message } };
}

function checkOk<H extends ConditionalHook>(hook: H, given: unknown): CheckedAnswer<H> {
  const checked = checkModifiers(hook, given);
  if ("message" in checked) return { verdict: { error: INVALID_MODIFIERS }, fault: checked };
  const fields = checked.value as Fields;
  if (Object.keys(fields).length === 0) return { verdict: "ok" };
  return { verdict: { ok: fields as HookModifiers[H] } };
}

function checkModifiers(hook: ConditionalHook, given: unknown): Checked {
  if (typeof given === "string" || given instanceof Uint8Array) {
    if (PAYLOAD_HOOKS.has(hook)) return checkFields(hook, { payload: given });
  } else if (Array.isArray(given)) {
    if (LIST_HOOKS.has(hook)) return checkFields(hook, { topics: given });
  } else if (isRecord(given)) {
    return checkFields(hook, given);
  }
  return { field: "ok", message: `must be ${okForms(hook)}, not ${shown(given)}` };
}

function okForms(hook: ConditionalHook): string {
  if (PAYLOAD_HOOKS.has(hook)) return "an object of modifiers, or a payload (string or Buffer)";
  return LIST_HOOKS.has(hook) ? "a list of topics" : "an object of modifiers";
}

function checkFields(hook: ConditionalHook, given: Fields): Checked {
  const rows = ROWS.get(hook) as ReadonlyMap<string, ModifierRow>;
  const fields: Fields = {};
  for (const [name, value] of Object.entries(given)) {
    if (value === undefined || value === null) continue;
    const row = rows.get(name);
    if (row === undefined) return { field: name, message: unknownModifier(hook, rows) };
    const checked = checkValue(row.shape, value);
    if ("message" in checked) {
      const inner = checked.field === "" ? name : `${name}.${checked.field}`;
      return { field: inner, message: checked.message };
    }
    if (checked.value !== undefined) fields[name] = checked.value;
  }
  return { value: fields };
}

function unknownModifier(hook: string, rows: ReadonlyMap<string, ModifierRow>): string {
  const allowed = [...rows.values()].filter((row) => row.shape.kind !== "refused");
  return `is no modifier of ${hook}; allowed: ${allowed.map((row) => row.name).join(", ")}`;
}

/** Gives `{ value: undefined }` for a value that changes nothing. */
function checkValue(shape: Shape, value: unknown): Checked {
  switch (shape.kind) {
    case "integer":
      return checkInteger(shape, value);
    case "flag":
      return typeof value === "boolean" ? { value } : must("true or false", value);
    case "text":
      return checkText(value);
    case "choice":
      if (typeof value === "string" && shape.values.includes(value)) return { value };
      return must(`one of ${shape.values.join(", ")}`, value);
    case "subscriber":
      return checkSubscriber(value);
    case "topic":
      return checkTopic(value, validateTopic);
    case "payload":
      return checkPayload(value);
    case "reason":
      return checkReason(shape.codes, value);
    case "properties":
      return checkProperties(shape.names, value);
    case "topics":
      return checkList(value, checkDecision);
    case "filters":
      return checkFilters(value);
    case "refused":
      return { field: "", message: shape.why };
    default:
      return shape satisfies never;
  }
}

function must(what: string, value: unknown): AnswerFault {
  return { field: "", message: `must be ${what}, not ${shown(value)}` };
}

/** Scripts compute with floating point: numbers are rounded, as in VerneMQ. */
function checkInteger(shape: { min: number; max: number; unit?: string }, value: unknown): Checked {
  const whole = typeof value === "number" ? Math.round(value) : Number.NaN;
  if (whole >= shape.min && whole <= shape.max) return { value: whole + 0 };
  const unit = shape.unit === undefined ? "" : ` ${shape.unit}`;
  return must(`a number from ${shape.min} to ${shape.max}${unit}`, value);
}

function checkText(value: unknown): Checked {
  if (typeof value !== "string") return must("a string", value);
  const fault = stringFault(value);
  return fault === undefined ? { value } : { field: "", message: fault };
}

function checkSubscriber(value: unknown): Checked {
  if (!isRecord(value)) return must("{ mountpoint, client_id }", value);
  const { client_id: id, mountpoint, ...rest } = value;
  const [unknown] = Object.keys(rest);
  if (unknown !== undefined) return { field: unknown, message: "is not part of a subscriber_id" };
  if (id === "") return { field: "client_id", message: "must not be empty" };
  const checkedId = inField("client_id", checkText(id));
  if ("message" in checkedId) return checkedId;
  if (mountpoint === undefined) return { value: { client_id: id } };
  const checked = inField("mountpoint", checkText(mountpoint));
  if ("message" in checked) return checked;
  return { value: { mountpoint: String(mountpoint).replace(/\/+$/, ""), client_id: id } };
}

function inField(name: string, checked: Checked): Checked {
  if (!("message" in checked)) return checked;
  const field = checked.field === "" ? name : `${name}.${checked.field}`;
  return { field, message: checked.message };
}

/** Depth is the session's to check: it depends on `topic_max_depth`. */
function checkTopic(value: unknown, validate: typeof validateTopic): Checked {
  if (typeof value !== "string") return must("a string", value);
  const fault = validate(value, Number.POSITIVE_INFINITY);
  return fault === undefined ? { value } : { field: "", message: fault.message };
}

function checkPayload(value: unknown): Checked {
  if (typeof value === "string") return { value: Buffer.from(value) };
  if (Buffer.isBuffer(value)) return { value };
  if (value instanceof Uint8Array) {
    return { value: Buffer.from(value.buffer, value.byteOffset, value.byteLength) };
  }
  return must("a string or Buffer", value);
}

function checkReason(codes: readonly number[], value: unknown): Checked {
  const code = isNameOrNumber(value) ? reasonCodeOf(value) : undefined;
  if (code !== undefined && codes.includes(code)) return { value: code };
  return must("success (0) or continue_authentication (24)", value);
}

function isNameOrNumber(value: unknown): value is string | number {
  return typeof value === "string" || typeof value === "number";
}

function checkProperties(names: readonly string[], value: unknown): Checked {
  if (!isRecord(value)) return must("an object of properties", value);
  for (const [name, given] of Object.entries(value)) {
    if (given === undefined || names.includes(name)) continue;
    return { field: name, message: `is not possible here; allowed: ${names.join(", ")}` };
  }
  // Without data there may be no method: the broker adds that of the client.
  const checked = fromHookProperties({ p_authentication_method: "m", ...value });
  return "error" in checked ? checked.error : { value };
}

function checkList(value: unknown, check: (one: unknown) => Checked): Checked {
  if (!Array.isArray(value)) return must("a list", value);
  const list: unknown[] = [];
  for (const [index, one] of value.entries()) {
    const checked = check(one);
    if ("message" in checked) {
      const field = checked.field === "" ? `[${index}]` : `[${index}].${checked.field}`;
      return { field, message: checked.message };
    }
    list.push(checked.value);
  }
  return { value: list };
}

/** An empty list changes nothing: UNSUBSCRIBE cannot be refused. */
function checkFilters(value: unknown): Checked {
  const checked = checkList(value, (one) => checkTopic(one, validateFilter));
  if ("message" in checked || (checked.value as unknown[]).length > 0) return checked;
  return { value: undefined };
}

const RETAIN_HANDLING = ["send_retain", "send_if_new_sub", "dont_send"];
const SUBSCRIPTION_ID: Shape = { kind: "integer", min: 1, max: 268_435_455 };

/** Fields of an entry beside topic and qos. */
const OPTIONS: Readonly<Record<string, Shape>> = {
  rap: { kind: "flag" },
  no_local: { kind: "flag" },
  retain_handling: { kind: "choice", values: RETAIN_HANDLING },
  sub_id: SUBSCRIPTION_ID,
};

function checkDecision(value: unknown): Checked {
  if (!isRecord(value)) return must("{ topic, qos }", value);
  const { topic, qos, ...options } = value;
  const code = isNameOrNumber(qos) ? decisionCode(qos) : undefined;
  if (code === undefined) {
    return { ...must("0, 1, 2 or a reason of 128 and more by name or number", qos), field: "qos" };
  }
  // What is refused need not be a filter.
  const checkedTopic = code < 3 ? inField("topic", checkTopic(topic, validateFilter)) : undefined;
  if (checkedTopic !== undefined && "message" in checkedTopic) return checkedTopic;
  const decision: Fields = { topic, qos: code };
  for (const [name, given] of Object.entries(options)) {
    if (given === undefined || given === null) continue;
    const shape = Object.hasOwn(OPTIONS, name) ? OPTIONS[name] : undefined;
    if (shape === undefined) return { field: name, message: "is no option of a subscription" };
    const checked = inField(name, checkValue(shape, given));
    if ("message" in checked) return checked;
    decision[name] = checked.value;
  }
  return { value: decision };
}

function decisionCode(qos: string | number): number | undefined {
  if (qos === "not_allowed") return 0x87;
  const code = typeof qos === "number" ? qos : reasonCodeOf(qos);
  const isQos = code === 0 || code === 1 || code === 2;
  const isRefusal = Number.isInteger(code) && Number(code) >= 0x80 && Number(code) <= 0xff;
  return isQos || isRefusal ? code : undefined;
}

function shown(value: unknown): string {
  if (value === undefined) return "nothing";
  if (typeof value === "string") return JSON.stringify(value.slice(0, 40));
  if (typeof value === "number" || typeof value === "boolean" || value === null) {
    return String(value);
  }
  return Array.isArray(value) ? "a list" : `a value of type ${typeof value}`;
}

function isRecord(value: unknown): value is Fields {
  return (
    typeof value === "object" &&
    value !== null &&
    !Array.isArray(value) &&
    !(value instanceof Uint8Array)
  );
}
