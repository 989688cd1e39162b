/** Rules with topic filters as a tree of levels: what a question costs does not grow with their number. */

/** Whose values stand in for `%m`, `%c` and `%u`. */
export interface PatternOwner {
  readonly mountpoint: string;
  readonly clientId: string;
  /** Undefined equals nothing. */
  readonly username: string | undefined;
}

/** Words of patterns that the asker's values stand in for. */
export const PLACEHOLDERS: ReadonlyMap<string, keyof PatternOwner> = new Map([
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

/** Rules by number, from 0. Filled once, then only asked. */
export class PatternTree {
  private readonly root = emptyLevel();

  /** `filter` is valid; in a pattern the words of `PLACEHOLDERS` stand for the asker's values. */
  add(filter: string, rule: number, isPattern: boolean): void {
    let level = this.root;
    for (const word of filter.split("/")) {
      if (word === "#") {
        level.rests = [...level.rests, rule];
        return;
      }
      level = child(level, word, isPattern);
    }
    level.ends = [...level.ends, rule];
  }

  /** A rule that covers all that a topic name or filter can match; -1 = none. */
  first(topic: string, owner: PatternOwner): number {
    begin(topic, owner, true);
    return walk(this.root, 0) ? (found[0] as number) : -1;
  }

  /** All of them, in order. */
  all(topic: string, owner: PatternOwner): readonly number[] {
    begin(topic, owner, false);
    walk(this.root, 0);
    if (foundCount === 0) return NONE;
    if (foundCount === 1) return aloneOf(found[0] as number);
    return found.slice(0, foundCount).sort((a, b) => a - b);
  }
}

/** There is no empty topic [MQTT-4.7.3-1], so `#` and `/#` mean `+/#` and `/+/#`. */
export function withoutEmptyTopic(filter: string): string {
  return filter === "#" || filter === "/#" ? `${filter.slice(0, -1)}+/#` : filter;
}

/**
 * The question that is asked: one for all, since each ends before the next begins. Arrays keep their
 * memory, so that a question makes no garbage.
 */
let text = "";
let asker: PatternOwner = { mountpoint: "", clientId: "", username: undefined };
let wantsOne = false;
const words: string[] = [];
let wordCount = 0;
/** Where the next level begins; beyond the end when all are cut. */
let nextAt = 0;
const found: number[] = [];
let foundCount = 0;

function begin(topic: string, owner: PatternOwner, isOneEnough: boolean): void {
  asker = owner;
  wantsOne = isOneEnough;
  foundCount = 0;
  // Several trees may be asked the same: it is cut once.
  if (topic === text && wordCount > 0) return;
  text = topic;
  wordCount = 0;
  nextAt = 0;
}

/** Lists of one rule, which are usual, by its number. */
const alone: (readonly number[])[] = [];

function aloneOf(rule: number): readonly number[] {
  while (alone.length <= rule) alone.push([alone.length]);
  return alone[rule] as readonly number[];
}

/** Cuts as many levels as somebody asks for, in order: most questions end early. Undefined behind the last. */
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
 * Containment (`contains` in topics.ts) against all rules at once; walks only levels that fit. A wildcard is
 * covered by wildcards alone, and nothing but itself covers a first level with `$`: a client id `+` or
 * `$SYS` gains nothing by a pattern. True = enough is found.
 */
function walk(level: Level, depth: number): boolean {
  const word = wordAt(depth);
  const isDollar = depth === 0 && word !== undefined && word.charCodeAt(0) === DOLLAR;
  if (!isDollar && take(level.rests)) return true;
  if (word === undefined) return take(level.ends);
  if (word === "#") return false;
  const next = depth + 1;
  if (word !== "+") {
    const same = level.literal?.get(word);
    if (same !== undefined && walk(same, next)) return true;
    if (isDollar) return false;
    if (level.isFilled && walkFilled(level, word, next)) return true;
  }
  return level.plus !== undefined && walk(level.plus, next);
}

function walkFilled(
  { clientId, username, mountpoint }: Level,
  word: string,
  next: number,
): boolean {
  return (
    (clientId !== undefined && word === asker.clientId && walk(clientId, next)) ||
    (username !== undefined && word === asker.username && walk(username, next)) ||
    (mountpoint !== undefined && word === asker.mountpoint && walk(mountpoint, next))
  );
}

function take(rules: readonly number[]): boolean {
  for (let i = 0; i < rules.length; i++) found[foundCount++] = rules[i] as number;
  return wantsOne && foundCount > 0;
}

/** The level below for one word of a filter; made if it is not there. */
function child(level: Level, word: string, isPattern: boolean): Level {
  const name = isPattern ? PLACEHOLDERS.get(word) : undefined;
  const slot = word === "+" ? "plus" : name;
  if (slot !== undefined) {
    const below = level[slot] ?? emptyLevel();
    level[slot] = below;
    level.isFilled ||= slot !== "plus";
    return below;
  }
  level.literal ??= new Map();
  const below = level.literal.get(word) ?? emptyLevel();
  level.literal.set(word, below);
  return below;
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
