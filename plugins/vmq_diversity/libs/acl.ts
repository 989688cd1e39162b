/** Reads the ACLs that scripts give to `auth_cache.insert`. */
import type { AclKind, AclRule, PublishChange, RuleFault, SubscribeChange } from "../acl-rule.ts";
import { isTable, LuaError, type LuaTable, type LuaValue, typeNameOf } from "../worker/library.ts";
import { numberIn } from "./arguments.ts";

/** MQTT 5.0, 2.1.4: more than this no payload can have. VerneMQ's bound. */
const PAYLOAD_BYTES_MAX = 268_435_456;
const FOUR_BYTES = 0xffff_ffff;
/** Longest delay of a timer in Node. */
const TIMER_MS = 0x7fff_ffff;
/** Rules of one list: a mistake is larger, an ACL is not. */
const RULES_MAX = 10_000;

/** A fault on its way up; it never leaves this file. */
class Fault extends Error {
  readonly fault: RuleFault;
  constructor(key: string, why: string) {
    super(why);
    this.fault = { key, why };
  }
}

/**
 * The rules of one list; nil is an empty one. A rule with an unknown key or a bad value keeps its
 * pattern and a fault. Throws LuaError for what is no list of tables.
 */
export function aclOf(value: LuaValue, kind: AclKind): AclRule[] {
  if (value === undefined) return [];
  if (!isTable(value)) {
    throw new LuaError(`auth_cache.insert: ${kind} must be a table, not ${typeNameOf(value)}`);
  }
  const { array, hash } = value;
  if (hash.size > 0) {
    const [key] = hash.keys();
    throw new LuaError(`auth_cache.insert: ${kind} must be a list of rules; it has ${String(key)}`);
  }
  if (array.length > RULES_MAX) {
    throw new LuaError(`auth_cache.insert: ${kind} has more than ${RULES_MAX} rules`);
  }
  return array.map((rule, i) => {
    if (isTable(rule)) return ruleOf(rule, kind);
    throw new LuaError(
      `auth_cache.insert: ${kind}[${i + 1}] must be a table, not ${typeNameOf(rule)}`,
    );
  });
}

function ruleOf(table: LuaTable, kind: AclKind): AclRule {
  const given = table.hash.get("pattern");
  const pattern = Buffer.isBuffer(given) ? { pattern: given.toString("utf8") } : {};
  try {
    return { ...pattern, ...limitsOf(table, kind) };
  } catch (error) {
    if (error instanceof Fault) return { ...pattern, fault: error.fault };
    throw error;
  }
}

function limitsOf({ array, hash }: LuaTable, kind: AclKind): AclRule {
  const isPublish = kind === "publish_acl";
  const rule: { -readonly [K in keyof AclRule]: AclRule[K] } = {};
  if (array.length > 0) throw new Fault("1", "is no key of a rule");
  for (const [key, value] of hash) {
    if (key === "pattern") text("pattern", value);
    else if (key === "max_qos") rule.maxQos = integer(key, value, 0, 2);
    else if (key === "max_payload_size" && isPublish) {
      rule.maxPayloadSize = integer(key, value, 0, PAYLOAD_BYTES_MAX);
    } else if (key === "allowed_retain" && isPublish) rule.allowedRetain = flag(key, value);
    else if (key === "modifiers") {
      const changes = tableIn(key, value);
      // An empty table changes nothing.
      if (changes.array.length === 0 && changes.hash.size === 0) continue;
      if (isPublish) rule.publish = publishChange(changes);
      else rule.subscribe = subscribeChanges(changes);
    } else throw new Fault(shown(key), `is no key of a rule in ${kind}`);
  }
  return rule;
}

function publishChange({ array, hash }: LuaTable): PublishChange {
  if (array.length > 0) throw new Fault("modifiers[1]", "is no modifier of a publish");
  const change: { -readonly [K in keyof PublishChange]: PublishChange[K] } = {};
  for (const [name, value] of hash) {
    const key = `modifiers.${shown(name)}`;
    if (name === "topic") change.topic = topic(key, value);
    else if (name === "payload") change.payload = bytes(key, value);
    else if (name === "qos") change.qos = integer(key, value, 0, 2);
    else if (name === "retain") change.retain = flag(key, value);
    else if (name === "mountpoint") change.mountpoint = text(key, value);
    else if (name === "throttle") change.throttle = integer(key, value, 0, TIMER_MS);
    else if (name === "properties") {
      const properties = tableIn(key, value);
      if (properties.hash.size > 0) change.properties = propertiesOf(properties, key);
    } else throw new Fault(key, "is no modifier of a publish");
  }
  return change;
}

function propertiesOf({ hash }: LuaTable, where: string): NonNullable<PublishChange["properties"]> {
  const properties: Record<string, unknown> = {};
  for (const [name, value] of hash) {
    const key = `${where}.${shown(name)}`;
    switch (name) {
      case "p_user_property":
        properties[name] = tableIn(key, value).array.map((pair) => userProperty(key, pair));
        break;
      case "p_message_expiry_interval":
      case "p_will_delay_interval":
        properties[name] = integer(key, value, 0, FOUR_BYTES);
        break;
      case "p_content_type":
        properties[name] = text(key, value);
        break;
      case "p_response_topic":
        properties[name] = topic(key, value);
        break;
      case "p_correlation_data":
        properties[name] = bytes(key, value);
        break;
      case "p_payload_format_indicator":
        properties[name] = choice(key, value, ["utf8", "unspecified", "undefined"]);
        break;
      default:
        throw new Fault(key, "is no property of a publish");
    }
  }
  return properties;
}

/** `{ name = "value" }`, as properties reach scripts. */
function userProperty(where: string, value: LuaValue): { key: string; val: string } {
  const [pair, ...more] = isTable(value) ? value.hash : [];
  if (pair === undefined || more.length > 0) {
    throw new Fault(where, 'must be a list of tables with one entry each, { name = "value" }');
  }
  const [key, val] = pair;
  return { key: String(key), val: text(where, val) };
}

/** `{{topic, qos}, ...}` or, as in auth_on_subscribe_m5, `{{topic, {qos, {rap = true}}}, ...}`. */
function subscribeChanges({ array, hash }: LuaTable): SubscribeChange[] {
  if (hash.size > 0) throw new Fault("modifiers", "must be a list of { topic, qos }");
  return array.map((entry, i) => {
    const key = `modifiers[${i + 1}]`;
    const [filter, second] = tableIn(key, entry).array;
    const [qos, options] = isTable(second) ? second.array : [second];
    return { topic: text(key, filter), qos: decision(key, qos), ...subscribeOptions(key, options) };
  });
}

function decision(key: string, value: LuaValue): number {
  const qos = numberIn(value) ?? -1;
  if ([0, 1, 2].includes(qos) || (Number.isInteger(qos) && qos >= 128 && qos <= 255)) return qos;
  throw new Fault(key, "must be { topic, qos } with QoS 0 to 2, or 128 to 255 to refuse");
}

function subscribeOptions(where: string, value: LuaValue): Partial<SubscribeChange> {
  if (value === undefined) return {};
  const options: { -readonly [K in keyof SubscribeChange]?: SubscribeChange[K] } = {};
  for (const [name, given] of tableIn(where, value).hash) {
    const key = `${where}.${shown(name)}`;
    if (name === "rap") options.rap = flag(key, given);
    else if (name === "no_local") options.no_local = flag(key, given);
    else if (name === "sub_id") options.sub_id = integer(key, given, 1, 268_435_455);
    else if (name === "retain_handling") {
      options.retain_handling = choice(key, given, ["send_retain", "send_if_new_sub", "dont_send"]);
    } else throw new Fault(key, "is no option of a subscription");
  }
  return options;
}

function integer(key: string, value: LuaValue, min: number, max: number): number {
  const given = numberIn(value);
  if (given !== undefined && Number.isInteger(given) && given >= min && given <= max) return given;
  throw new Fault(key, `must be an integer from ${min} to ${max}, not ${valueShown(value)}`);
}

function flag(key: string, value: LuaValue): boolean {
  if (typeof value === "boolean") return value;
  throw new Fault(key, `must be true or false, not ${valueShown(value)}`);
}

function text(key: string, value: LuaValue): string {
  if (Buffer.isBuffer(value)) return value.toString("utf8");
  throw new Fault(key, `must be a string, not ${valueShown(value)}`);
}

function bytes(key: string, value: LuaValue): string {
  if (Buffer.isBuffer(value)) return value.toString("base64");
  throw new Fault(key, `must be a string, not ${valueShown(value)}`);
}

/** A topic name; the rest of its rules the broker checks with each use. */
function topic(key: string, value: LuaValue): string {
  const name = text(key, value);
  if (name !== "" && !/[+#\0]/.test(name)) return name;
  throw new Fault(key, "must be a topic name without wildcards");
}

function choice<const T extends string>(key: string, value: LuaValue, allowed: readonly T[]): T {
  const given = allowed.find((one) => Buffer.isBuffer(value) && value.toString("utf8") === one);
  if (given !== undefined) return given;
  throw new Fault(key, `must be one of ${allowed.join(", ")}`);
}

function tableIn(key: string, value: LuaValue): LuaTable {
  if (isTable(value)) return value;
  throw new Fault(key, `must be a table, not ${valueShown(value)}`);
}

function shown(key: string | number | boolean): string {
  return String(key).slice(0, 40);
}

function valueShown(value: LuaValue): string {
  if (Buffer.isBuffer(value)) return JSON.stringify(value.toString("utf8").slice(0, 40));
  const number = numberIn(value);
  return number === undefined ? typeNameOf(value) : String(number);
}
