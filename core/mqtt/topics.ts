import {
  RC_MALFORMED_PACKET,
  RC_TOPIC_FILTER_INVALID,
  RC_TOPIC_NAME_INVALID,
} from "./reason-codes.ts";
import { stringFault } from "./utf8.ts";

/** Topic names, topic filters and shared subscriptions. MQTT 5.0, 4.7 and 4.8. */

const SLASH = 0x2f;
const PLUS = 0x2b;
const HASH = 0x23;
const DOLLAR = 0x24;

/** UTF-16 units that fit into 65535 bytes whatever they are. */
const PLAIN_LENGTH_MAX = 21845;

const SHARE = "$share";
const SHARE_PREFIX = "$share/";

/** Why a topic or filter is refused: DISCONNECT reason code for MQTT 5, text for logs. */
export interface TopicFault {
  reasonCode: number;
  message: string;
}

/**
 * Checks a topic name: 1 to 65535 bytes, no NUL, no wildcard, at most `maxDepth` levels
 * (`topic_max_depth`). Returns undefined or the fault with 0x90. MQTT 5.0, 4.7.1, 4.7.3.
 * [MQTT-4.7.0-1] [MQTT-4.7.3-1] [MQTT-4.7.3-2] [MQTT-4.7.3-3]
 */
export function validateTopic(topic: string, maxDepth: number): TopicFault | undefined {
  if (topic === "") return badTopic("topic is empty");
  let depth = 1;
  let isPlain = topic.length <= PLAIN_LENGTH_MAX;
  for (let i = 0; i < topic.length; i++) {
    const char = topic.charCodeAt(i);
    if (char === SLASH) depth++;
    else if (isWildcard(char)) return badTopic("topic contains a wildcard");
    else if (char === 0 || char >= 0xd800) isPlain = false;
  }
  const fault = isPlain ? undefined : stringFault(topic);
  if (fault !== undefined) return badTopic(`topic ${fault}`);
  return depth > maxDepth ? badTopic(`topic has more than ${maxDepth} levels`) : undefined;
}

/**
 * Checks a topic filter, shared or not: wildcards fill a level, `#` is last, at most `maxDepth` levels
 * (`topic_max_depth`; `$share/<group>` does not count). Returns undefined or the fault: 0x81 for text
 * that is no filter at all, 0x8F else. MQTT 5.0, 4.7.1, 4.7.3, 4.8.2.
 * [MQTT-4.7.1-1] [MQTT-4.7.1-2] [MQTT-4.7.3-1] [MQTT-4.8.2-1] [MQTT-4.8.2-2]
 */
export function validateFilter(filter: string, maxDepth: number): TopicFault | undefined {
  if (filter === "") return malformedFilter("filter is empty");
  const fault = stringFault(filter);
  if (fault !== undefined) return malformedFilter(`filter ${fault}`);
  if (filter !== SHARE && !filter.startsWith(SHARE_PREFIX)) return levelsFault(filter, maxDepth);
  // VerneMQ's code (recorded) for a shared filter of less than three levels.
  if (filter.indexOf("/", SHARE_PREFIX.length) === -1) {
    return malformedFilter("shared filter has no group and filter");
  }
  // Differs from VerneMQ: it accepts an empty group, group `+` and an empty filter.
  const shared = parseShared(filter);
  if (shared === undefined) return badFilter("shared filter has a bad group or an empty filter");
  return levelsFault(shared.filter, maxDepth);
}

/**
 * Splits `$share/<group>/<filter>`; undefined if `filter` is not shared, or is but the group is empty
 * or holds a wildcard or the rest is empty. MQTT 5.0, 4.8.2 [MQTT-4.8.2-1] [MQTT-4.8.2-2]
 */
export function parseShared(filter: string): { group: string; filter: string } | undefined {
  if (!filter.startsWith(SHARE_PREFIX)) return undefined;
  const slash = filter.indexOf("/", SHARE_PREFIX.length);
  if (slash <= SHARE_PREFIX.length || slash === filter.length - 1) return undefined;
  const group = filter.slice(SHARE_PREFIX.length, slash);
  if (group.includes("+") || group.includes("#")) return undefined;
  return { group, filter: filter.slice(slash + 1) };
}

/**
 * Does `topic` match `filter`? Both must be valid, `filter` without `$share/<group>/`. A filter that
 * begins with a wildcard matches no topic that begins with `$`. MQTT 5.0, 4.7.1, 4.7.2 [MQTT-4.7.2-1]
 */
export function matches(filter: string, topic: string): boolean {
  if (topic.charCodeAt(0) === DOLLAR && isWildcard(filter.charCodeAt(0))) return false;
  let f = 0;
  let t = 0;
  // One turn per level; f and t stand at its first character.
  for (;;) {
    const char = filter.charCodeAt(f);
    if (char === HASH) return true;
    if (char === PLUS) {
      f++;
      while (t < topic.length && topic.charCodeAt(t) !== SLASH) t++;
    } else {
      while (f < filter.length && filter.charCodeAt(f) !== SLASH) {
        if (filter.charCodeAt(f) !== topic.charCodeAt(t)) return false;
        f++;
        t++;
      }
    }
    if (t < topic.length && topic.charCodeAt(t) !== SLASH) return false;
    if (t >= topic.length) {
      // `a/#` also matches `a`, 4.7.1.2.
      return f === filter.length || (filter.length - f === 2 && filter.charCodeAt(f + 1) === HASH);
    }
    if (f === filter.length) return false;
    f++;
    t++;
  }
}

/**
 * Does `rule` cover `filter`: is every topic that matches `filter` also matched by `rule`? Both are
 * valid filters without `$share/<group>/`. `a/+` does not cover `a/#`; a rule that begins with a
 * wildcard covers nothing that begins with `$`. From the meaning of MQTT 5.0, 4.7.1 and 4.7.2.
 */
export function contains(rule: string, filter: string): boolean {
  const allowed = rule.split("/");
  // There is no empty topic [MQTT-4.7.3-1], so `#` and `/#` mean `+/#` and `/+/#`.
  const asked = filter.replace(/^(\/?)#$/, "$1+/#").split("/");
  if (asked[0].startsWith("$") && isWildcard(rule.charCodeAt(0))) return false;
  for (let i = 0; i < asked.length; i++) {
    if (allowed[i] === "#") return true;
    if (i >= allowed.length || asked[i] === "#") return false;
    if (allowed[i] !== "+" && allowed[i] !== asked[i]) return false;
  }
  return allowed.length === asked.length || allowed[asked.length] === "#";
}

/** Does the filter hold `+` or `#`? MQTT 5.0, 4.7.1. */
export function hasWildcard(filter: string): boolean {
  return filter.includes("+") || filter.includes("#");
}

/** Checks wildcards and depth of a filter without `$share/<group>/`. */
function levelsFault(filter: string, maxDepth: number): TopicFault | undefined {
  let depth = 1;
  for (let i = 0; i < filter.length; i++) {
    const char = filter.charCodeAt(i);
    if (char === SLASH) depth++;
    else if (isWildcard(char) && !fillsLevel(filter, i)) {
      return badFilter("wildcard shares its level with other characters");
    } else if (char === HASH && i !== filter.length - 1) {
      return badFilter("# is not the last level");
    }
  }
  return depth > maxDepth ? badFilter(`filter has more than ${maxDepth} levels`) : undefined;
}

function fillsLevel(filter: string, i: number): boolean {
  const opens = i === 0 || filter.charCodeAt(i - 1) === SLASH;
  return opens && (i === filter.length - 1 || filter.charCodeAt(i + 1) === SLASH);
}

function isWildcard(char: number): boolean {
  return char === PLUS || char === HASH;
}

function badTopic(message: string): TopicFault {
  return { reasonCode: RC_TOPIC_NAME_INVALID, message };
}

function badFilter(message: string): TopicFault {
  return { reasonCode: RC_TOPIC_FILTER_INVALID, message };
}

function malformedFilter(message: string): TopicFault {
  return { reasonCode: RC_MALFORMED_PACKET, message };
}
