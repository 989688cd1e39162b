/** Rules ordered for the question "may this client?", whose cost does not grow with their number. */
import { parseShared } from "../../core/plugin-api.ts";
import type { Access, AclRule } from "./acl-file.ts";

/** Who asks. */
export interface Asker {
  readonly username: string | undefined;
  readonly client_id: string;
  readonly mountpoint: string;
}

/**
 * One level of rule filters. Lines are numbers from 1, 0 = no rule. The three named levels stand for
 * `%c`, `%u` and `%m` of patterns and are compared with the asker's values.
 */
interface Level {
  literal: Map<string, Level> | undefined;
  plus: Level | undefined;
  clientId: Level | undefined;
  username: Level | undefined;
  mountpoint: Level | undefined;
  /** Line of the rule that ends here. */
  line: number;
  /** Line of the rule that ends here with `#`. */
  restLine: number;
}

/** Words of patterns that the asker's values stand in for. */
const FILLED: Readonly<Record<string, "clientId" | "username" | "mountpoint" | undefined>> = {
  "%c": "clientId",
  "%u": "username",
  "%m": "mountpoint",
};

/** Rules of one access. */
interface Rules {
  readonly all: Level;
  readonly users: Map<string, Level>;
  readonly patterns: Level;
}

/** Rules of one version of the file. Filled once, then only asked. */
export class AclRules {
  /** Number of rules. */
  size = 0;
  private readonly read = emptyRules();
  private readonly write = emptyRules();
  private readonly texts = new Map<number, string>();

  add(rule: AclRule): void {
    this.size += 1;
    this.texts.set(rule.line, rule.text);
    for (const access of rule.access) {
      const rules = this[access];
      const isPattern = rule.holder.part === "pattern";
      insert(this.rootFor(rules, rule), rule.filter.split("/"), rule.line, isPattern);
    }
  }

  /** The line's text as written. */
  text(line: number): string | undefined {
    return this.texts.get(line);
  }

  /** Line of a rule that lets the client publish to a topic name; 0 = none. */
  publishLine(asker: Asker, topic: string): number {
    return lineFor(this.write, asker, topic.split("/"));
  }

  /**
   * Line of a rule that covers everything the filter can match; 0 = none. A shared filter needs the
   * right to the filter behind the group, or a rule that names the group.
   */
  subscribeLine(asker: Asker, filter: string): number {
    const shared = parseShared(filter);
    if (shared === undefined) return lineFor(this.read, asker, filterLevels(filter));
    const line = lineFor(this.read, asker, filterLevels(shared.filter));
    // `$share/g/#` must not grant what `#` does not.
    if (line !== 0 || shared.filter.startsWith("$")) return line;
    return lineFor(this.read, asker, ["$share", shared.group, ...filterLevels(shared.filter)]);
  }

  /** Which access a question is about, for callers that have it as a word. */
  line(access: Access, asker: Asker, topic: string): number {
    return access === "write" ? this.publishLine(asker, topic) : this.subscribeLine(asker, topic);
  }

  private rootFor(rules: Rules, { holder }: AclRule): Level {
    switch (holder.part) {
      case "all":
        return rules.all;
      case "pattern":
        return rules.patterns;
      case "user": {
        const found = rules.users.get(holder.user) ?? emptyLevel();
        rules.users.set(holder.user, found);
        return found;
      }
      default:
        return holder satisfies never;
    }
  }
}

/** There is no empty topic [MQTT-4.7.3-1], so `#` and `/#` mean `+/#` and `/+/#`. */
function filterLevels(filter: string): string[] {
  if (filter === "#") return ["+", "#"];
  return filter === "/#" ? ["", "+", "#"] : filter.split("/");
}

/** VerneMQ's order: everybody's rules, the user's, patterns. */
function lineFor(rules: Rules, asker: Asker, asked: readonly string[]): number {
  const byAll = find(rules.all, asker, asked, 0);
  if (byAll !== 0) return byAll;
  const own = asker.username === undefined ? undefined : rules.users.get(asker.username);
  const byUser = own === undefined ? 0 : find(own, asker, asked, 0);
  return byUser !== 0 ? byUser : find(rules.patterns, asker, asked, 0);
}

/**
 * Containment (`contains` of the core) against all rules at once: walks only levels that fit. A
 * wildcard is covered by wildcards alone, and nothing but itself covers a first level with `$`; a
 * client id `+` or `$SYS` therefore gains nothing by a pattern.
 */
function find(level: Level, asker: Asker, asked: readonly string[], depth: number): number {
  const word = asked[depth];
  const isDollar = depth === 0 && word !== undefined && word.charCodeAt(0) === 0x24;
  if (level.restLine !== 0 && !isDollar) return level.restLine;
  if (word === undefined) return level.line;
  if (word === "#") return 0;
  const next = depth + 1;
  if (word !== "+") {
    const same = level.literal?.get(word);
    const line = same === undefined ? 0 : find(same, asker, asked, next);
    if (line !== 0 || isDollar) return line;
    const filled = findFilled(level, asker, asked, depth, word);
    if (filled !== 0) return filled;
  }
  return level.plus === undefined ? 0 : find(level.plus, asker, asked, next);
}

function findFilled(
  level: Level,
  asker: Asker,
  asked: readonly string[],
  depth: number,
  word: string,
): number {
  let line = 0;
  if (level.clientId !== undefined && word === asker.client_id) {
    line = find(level.clientId, asker, asked, depth + 1);
  }
  if (line === 0 && level.username !== undefined && word === asker.username) {
    line = find(level.username, asker, asked, depth + 1);
  }
  if (line === 0 && level.mountpoint !== undefined && word === asker.mountpoint) {
    line = find(level.mountpoint, asker, asked, depth + 1);
  }
  return line;
}

/** Of two rules with one filter the first keeps its line. */
function insert(root: Level, words: readonly string[], line: number, isPattern: boolean): void {
  let level = root;
  for (const word of words) {
    if (word === "#") {
      level.restLine ||= line;
      return;
    }
    level = child(level, word, isPattern);
  }
  level.line ||= line;
}

/** The level below for one word of a rule; made if it is not there. */
function child(level: Level, word: string, isPattern: boolean): Level {
  const name = isPattern ? FILLED[word] : undefined;
  const slot = word === "+" ? "plus" : name;
  if (slot !== undefined) {
    const found = level[slot] ?? emptyLevel();
    level[slot] = found;
    return found;
  }
  level.literal ??= new Map();
  const found = level.literal.get(word) ?? emptyLevel();
  level.literal.set(word, found);
  return found;
}

function emptyLevel(): Level {
  return {
    literal: undefined,
    plus: undefined,
    clientId: undefined,
    username: undefined,
    mountpoint: undefined,
    line: 0,
    restLine: 0,
  };
}

function emptyRules(): Rules {
  return { all: emptyLevel(), users: new Map(), patterns: emptyLevel() };
}
