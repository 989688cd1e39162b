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
  /** Is one of these three there? */
  isFilled: boolean;
  /** Line of the rule that ends here. */
  line: number;
  /** Line of the rule that ends here with `#`. */
  restLine: number;
}

/** Words of patterns that the asker's values stand in for. */
const FILLED: ReadonlyMap<string, "clientId" | "username" | "mountpoint"> = new Map([
  ["%c", "clientId"],
  ["%u", "username"],
  ["%m", "mountpoint"],
]);

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
    return lineFor(this.write, asker, topic);
  }

  /**
   * Line of a rule that covers everything the filter can match; 0 = none. A shared filter needs the
   * right to the filter behind the group, or a rule that names the group.
   */
  subscribeLine(asker: Asker, filter: string): number {
    const shared = parseShared(filter);
    if (shared === undefined) return lineFor(this.read, asker, withoutEmptyTopic(filter));
    const plain = withoutEmptyTopic(shared.filter);
    const line = lineFor(this.read, asker, plain);
    // `$share/g/#` must not grant what `#` does not.
    if (line !== 0 || plain.startsWith("$")) return line;
    return lineFor(this.read, asker, `$share/${shared.group}/${plain}`);
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
function withoutEmptyTopic(filter: string): string {
  return filter === "#" || filter === "/#" ? `${filter.slice(0, -1)}+/#` : filter;
}

/** Cuts a name or filter into levels as far as somebody asks for them: most checks end early. */
class Words {
  private text = "";
  private readonly words: string[] = [];
  /** Where the next level begins; beyond the end when all are cut. */
  private next = 0;

  reset(text: string): void {
    this.text = text;
    this.words.length = 0;
    this.next = 0;
  }

  /** Undefined behind the last level. Asked for in order, at first. */
  at(depth: number): string | undefined {
    if (depth < this.words.length) return this.words[depth];
    if (this.next > this.text.length) return undefined;
    const slash = this.text.indexOf("/", this.next);
    const end = slash === -1 ? this.text.length : slash;
    const word = this.text.slice(this.next, end);
    this.words.push(word);
    this.next = end + 1;
    return word;
  }
}

/** One for all checks, since each ends before the next begins. */
const asked = new Words();

/** VerneMQ's order: everybody's rules, the user's, patterns. */
function lineFor(rules: Rules, asker: Asker, text: string): number {
  asked.reset(text);
  const byAll = find(rules.all, asker, 0);
  if (byAll !== 0) return byAll;
  const own = asker.username === undefined ? undefined : rules.users.get(asker.username);
  const byUser = own === undefined ? 0 : find(own, asker, 0);
  return byUser !== 0 ? byUser : find(rules.patterns, asker, 0);
}

/**
 * Containment (`contains` of the core) against all rules at once: walks only levels that fit. A
 * wildcard is covered by wildcards alone, and nothing but itself covers a first level with `$`; a
 * client id `+` or `$SYS` therefore gains nothing by a pattern.
 */
function find(level: Level, asker: Asker, depth: number): number {
  const word = asked.at(depth);
  const isDollar = depth === 0 && word !== undefined && word.charCodeAt(0) === 0x24;
  if (level.restLine !== 0 && !isDollar) return level.restLine;
  if (word === undefined) return level.line;
  if (word === "#") return 0;
  const next = depth + 1;
  if (word !== "+") {
    const same = level.literal?.get(word);
    const line = same === undefined ? 0 : find(same, asker, next);
    if (line !== 0 || isDollar) return line;
    const filled = level.isFilled ? findFilled(level, asker, word, next) : 0;
    if (filled !== 0) return filled;
  }
  return level.plus === undefined ? 0 : find(level.plus, asker, next);
}

/** The levels that stand for the asker's values. An undefined user name equals nothing. */
function findFilled(level: Level, asker: Asker, word: string, next: number): number {
  let line = 0;
  if (level.clientId !== undefined && word === asker.client_id) {
    line = find(level.clientId, asker, next);
  }
  if (line === 0 && level.username !== undefined && word === asker.username) {
    line = find(level.username, asker, next);
  }
  if (line === 0 && level.mountpoint !== undefined && word === asker.mountpoint) {
    line = find(level.mountpoint, asker, next);
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
  const name = isPattern ? FILLED.get(word) : undefined;
  const slot = word === "+" ? "plus" : name;
  if (slot !== undefined) {
    const found = level[slot] ?? emptyLevel();
    level[slot] = found;
    level.isFilled ||= slot !== "plus";
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
    isFilled: false,
    line: 0,
    restLine: 0,
  };
}

function emptyRules(): Rules {
  return { all: emptyLevel(), users: new Map(), patterns: emptyLevel() };
}
