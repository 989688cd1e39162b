/** Patterns of an ACL as a tree of levels: what a check costs does not grow with the number of rules. */
import { parseShared } from "../../core/plugin-api.ts";

/** Whose values stand in for `%m`, `%c` and `%u`. */
export interface AclOwner {
  readonly mountpoint: string;
  readonly clientId: string;
  readonly username: string;
}

const PLACEHOLDERS: ReadonlyMap<string, keyof AclOwner> = new Map([
  ["%m", "mountpoint"],
  ["%c", "clientId"],
  ["%u", "username"],
]);

const DOLLAR = 0x24;
const NONE: readonly number[] = [];

interface Level {
  literal: Map<string, Level> | undefined;
  plus: Level | undefined;
  mountpoint: Level | undefined;
  clientId: Level | undefined;
  username: Level | undefined;
  /** Is one of these three there? */
  isFilled: boolean;
  /** Rules that end here, and those that end here with `#`. */
  ends: readonly number[];
  rests: readonly number[];
}

/** Rules by number. Filled once, then only asked. */
export class AclTree {
  private readonly plain = emptyLevel();
  /** Of patterns `$share/<group>/...`, by group. */
  private readonly groups = new Map<string, Level>();

  /** `pattern` is a valid filter, its group perhaps `+`: any. */
  add(pattern: string, rule: number): void {
    const shared = splitShared(pattern);
    let level = shared === undefined ? this.plain : this.group(shared.group);
    for (const word of (shared?.filter ?? pattern).split("/")) {
      if (word === "#") {
        level.rests = [...level.rests, rule];
        return;
      }
      level = child(level, word);
    }
    level.ends = [...level.ends, rule];
  }

  /** Rules that match a topic name, in order. */
  matching(topic: string, forOwner: AclOwner): readonly number[] {
    return collect(this.plain, topic, forOwner);
  }

  /**
   * Rules that cover everything a filter can match, in order. A shared filter needs the right to the
   * filter behind its group, or a rule that names the group.
   */
  covering(filter: string, forOwner: AclOwner): readonly number[] {
    const shared = parseShared(filter);
    // There is no empty topic [MQTT-4.7.3-1], so `#` and `/#` mean `+/#` and `/+/#`.
    const plain = (shared?.filter ?? filter).replace(/^(\/?)#$/, "$1+/#");
    if (shared === undefined || this.groups.size === 0) return collect(this.plain, plain, forOwner);
    const levels = [this.plain, this.groups.get(shared.group), this.groups.get("+")];
    return levels
      .flatMap((level) => (level === undefined ? NONE : collect(level, plain, forOwner)))
      .sort((a, b) => a - b);
  }

  private group(name: string): Level {
    const found = this.groups.get(name) ?? emptyLevel();
    this.groups.set(name, found);
    return found;
  }
}

/** As `parseShared`, but the group of a rule may be `+`. */
export function splitShared(rule: string): { group: string; filter: string } | undefined {
  const any = "$share/+/";
  if (!rule.startsWith(any)) return parseShared(rule);
  return rule.length > any.length ? { group: "+", filter: rule.slice(any.length) } : undefined;
}

/** A pattern with a client's values, for people. */
export function filled(pattern: string, owner: AclOwner): string {
  const words = pattern.split("/").map((word) => {
    const name = PLACEHOLDERS.get(word);
    return name === undefined ? word : owner[name];
  });
  return words.join("/");
}

/**
 * The check that runs: one for all, since each ends before the next begins. Arrays keep their memory, so
 * that a check makes no garbage.
 */
let text = "";
let owner: AclOwner = { mountpoint: "", clientId: "", username: "" };
const words: string[] = [];
let wordCount = 0;
/** Where the next level begins; beyond the end when all are cut. */
let nextAt = 0;
const found: number[] = [];
let foundCount = 0;

/** Rules of one tree that fit, in order. */
function collect(root: Level, asked: string, forOwner: AclOwner): readonly number[] {
  text = asked;
  owner = forOwner;
  wordCount = 0;
  nextAt = 0;
  foundCount = 0;
  walk(root, 0);
  if (foundCount === 0) return NONE;
  const first = found[0] as number;
  if (foundCount === 1) return aloneOf(first);
  return found.slice(0, foundCount).sort((a, b) => a - b);
}

/** Lists of one rule, which are usual, by its number. */
const alone: (readonly number[])[] = [];

function aloneOf(rule: number): readonly number[] {
  while (alone.length <= rule) alone.push([alone.length]);
  return alone[rule] as readonly number[];
}

/** Cuts as many levels as somebody asks for, in order: most checks end early. Undefined behind the last. */
function wordAt(depth: number): string | undefined {
  if (depth < wordCount) return words[depth];
  if (nextAt > text.length) return undefined;
  const slash = text.indexOf("/", nextAt);
  const end = slash === -1 ? text.length : slash;
  const word = text.slice(nextAt, end);
  words[wordCount++] = word;
  nextAt = end + 1;
  return word;
}

/**
 * A wildcard is covered by wildcards alone, and nothing but itself covers a first level with `$`: a
 * client id `+` or `$SYS` gains nothing by a pattern.
 */
function walk(level: Level, depth: number): void {
  const word = wordAt(depth);
  const isDollar = depth === 0 && word !== undefined && word.charCodeAt(0) === DOLLAR;
  if (!isDollar) take(level.rests);
  if (word === undefined) {
    take(level.ends);
    return;
  }
  if (word === "#") return;
  const next = depth + 1;
  if (word !== "+") {
    const same = level.literal?.get(word);
    if (same !== undefined) walk(same, next);
    if (isDollar) return;
    if (level.isFilled) walkFilled(level, word, next);
  }
  if (level.plus !== undefined) walk(level.plus, next);
}

function walkFilled({ clientId, username, mountpoint }: Level, word: string, next: number): void {
  if (clientId !== undefined && word === owner.clientId) walk(clientId, next);
  if (username !== undefined && word === owner.username) walk(username, next);
  if (mountpoint !== undefined && word === owner.mountpoint) walk(mountpoint, next);
}

function take(rules: readonly number[]): void {
  for (let i = 0; i < rules.length; i++) found[foundCount++] = rules[i] as number;
}

/** The level below for one word of a pattern; made if it is not there. */
function child(level: Level, word: string): Level {
  const name = PLACEHOLDERS.get(word);
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
    mountpoint: undefined,
    clientId: undefined,
    username: undefined,
    isFilled: false,
    ends: NONE,
    rests: NONE,
  };
}
