import { contains, parseShared, validateFilter } from "../../core/plugin-api.ts";
import { type ClonedTable, type ClonedValue, isTable, plain } from "./verdicts.ts";

/** hooks.md: largest payload of MQTT. */
const PAYLOAD_BYTES_MAX = 268_435_456;

/** One element of an ACL as a script gave it, ready to be matched (lua.md, section 5). */
export interface AclRule {
  /** With `%m`, `%c` and `%u` put in; undefined: the rule matches nothing. */
  readonly pattern: string | undefined;
  /** The levels of a pattern with wildcards; undefined for one without. */
  readonly words: readonly string[] | undefined;
  readonly maxQos: number;
  readonly maxPayloadBytes: number;
  readonly allowedRetain: boolean;
  /** A table as a hook would return it. */
  readonly modifiers: ClonedTable | undefined;
  /** Something in the rule is not valid: whatever it matches is refused. */
  readonly isInvalid: boolean;
}

export interface AclClient {
  readonly mountpoint: string;
  readonly clientId: string;
  readonly username: string;
}

export type Fault = (key: string, reason: string) => void;

/** Reads an ACL; what is wrong with an element is told to `fault`. Throws when it is no list of tables. */
export function readAcl(
  acl: ClonedValue,
  client: AclClient,
  options: { readonly depthMax: number; readonly fault: Fault },
): AclRule[] {
  if (acl === undefined) return [];
  if (!isTable(acl)) throw new Error("an ACL must be a table");
  return acl.array.map((element, index) => {
    if (!isTable(element)) throw new Error(`ACL element ${index + 1} must be a table`);
    return readRule(element, client, {
      ...options,
      fault: (key, reason) => options.fault(`[${index + 1}].${key}`, reason),
    });
  });
}

function readRule(
  element: ClonedTable,
  client: AclClient,
  { depthMax, fault }: { depthMax: number; fault: Fault },
): AclRule {
  let isInvalid = false;
  const wrong = (key: string, reason: string): void => {
    isInvalid = true;
    fault(key, reason);
  };
  let pattern: string | undefined;
  let maxQos = 2;
  let maxPayloadBytes = PAYLOAD_BYTES_MAX;
  let allowedRetain = true;
  let modifiers: ClonedTable | undefined;
  for (const [name, given] of element.hash) {
    const key = String(name);
    const value = plain(given, false);
    switch (key) {
      case "pattern":
        if (typeof value !== "string") wrong(key, "must be a string");
        else {
          const filled = substitute(value, client);
          const reason = validateFilter(filled, depthMax);
          if (reason === undefined) pattern = filled;
          else wrong(key, `"${value}" is no topic filter: ${reason.message}`);
        }
        break;
      case "max_qos":
        if (value === 0 || value === 1 || value === 2) maxQos = value;
        else wrong(key, "must be 0, 1 or 2");
        break;
      case "max_payload_size":
        if (typeof value === "number" && value >= 0 && value <= PAYLOAD_BYTES_MAX) {
          maxPayloadBytes = value;
        } else wrong(key, `must be a number from 0 to ${PAYLOAD_BYTES_MAX}`);
        break;
      case "allowed_retain":
        if (typeof value === "boolean") allowedRetain = value;
        else wrong(key, "must be true or false");
        break;
      case "modifiers":
        if (isTable(given)) modifiers = given;
        else wrong(key, "must be a table");
        break;
      default:
        wrong(
          key,
          "is no key of an ACL; allowed: pattern, max_qos, max_payload_size, allowed_retain, modifiers",
        );
    }
  }
  const words = pattern !== undefined && /[+#]/.test(pattern) ? pattern.split("/") : undefined;
  return { pattern, words, maxQos, maxPayloadBytes, allowedRetain, modifiers, isInvalid };
}

/** `%m`, `%c` and `%u` as whole levels. A value with `/` or a wildcard would be more than one level. */
function substitute(pattern: string, { mountpoint, clientId, username }: AclClient): string {
  if (!pattern.includes("%")) return pattern;
  const level = (value: string): string => (/[/+#]/.test(value) ? "#invalid" : value);
  return pattern
    .split("/")
    .map((word) => {
      if (word === "%m") return level(mountpoint);
      if (word === "%c") return level(clientId);
      return word === "%u" ? level(username) : word;
    })
    .join("/");
}

/** The first rule that lets a message pass, or undefined. */
export function publishRule(
  rules: readonly AclRule[],
  message: { topic: string; qos: number; payloadBytes: number; retain: boolean },
): AclRule | undefined {
  const { topic, qos, payloadBytes, retain } = message;
  let words: string[] | undefined;
  for (const rule of rules) {
    if (rule.words === undefined) {
      if (rule.pattern !== topic) continue;
    } else {
      words ??= topic.split("/");
      if (!matchesWords(rule.words, words)) continue;
    }
    if (rule.isInvalid) return undefined;
    const isWithin = qos <= rule.maxQos && payloadBytes <= rule.maxPayloadBytes;
    if (isWithin && (rule.allowedRetain || !retain)) return rule;
  }
  return undefined;
}

/** As `matches`, of a filter and a topic that are split already [MQTT-4.7.2-1]. */
function matchesWords(filter: readonly string[], topic: readonly string[]): boolean {
  const [first] = filter;
  if ((first === "+" || first === "#") && topic[0]?.startsWith("$") === true) return false;
  for (let i = 0; i < filter.length; i++) {
    const word = filter[i];
    if (word === "#") return true;
    if (i >= topic.length || (word !== "+" && word !== topic[i])) return false;
  }
  return filter.length === topic.length;
}

/** The first rule that covers a filter whole, or undefined. A shared one counts without its group. */
export function subscribeRule(
  rules: readonly AclRule[],
  filter: string,
  qos: number,
): AclRule | undefined {
  const asked = parseShared(filter)?.filter ?? filter;
  for (const rule of rules) {
    if (rule.pattern === undefined || !contains(rule.pattern, asked)) continue;
    if (rule.isInvalid) return undefined;
    if (qos <= rule.maxQos) return rule;
  }
  return undefined;
}
