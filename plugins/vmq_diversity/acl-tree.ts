/** Patterns of an ACL, with those for shared subscriptions apart. */
import {
  type PatternOwner,
  PatternTree,
  PLACEHOLDERS,
  parseShared,
  withoutEmptyTopic,
} from "../../core/plugin-api.ts";

/** Whose values stand in for `%m`, `%c` and `%u`. */
export interface AclOwner extends PatternOwner {
  readonly username: string;
}

/** Rules by number. Filled once, then only asked. */
export class AclTree {
  private readonly plain = new PatternTree();
  /** Of patterns `$share/<group>/...`, by group. */
  private readonly groups = new Map<string, PatternTree>();

  /** `pattern` is a valid filter, its group perhaps `+`: any. */
  add(pattern: string, rule: number): void {
    const shared = splitShared(pattern);
    const tree = shared === undefined ? this.plain : this.group(shared.group);
    tree.add(shared?.filter ?? pattern, rule, true);
  }

  /** Rules that match a topic name, in order. */
  matching(topic: string, owner: AclOwner): readonly number[] {
    return this.plain.all(topic, owner);
  }

  /**
   * Rules that cover everything a filter can match, in order. A shared filter needs the right to the
   * filter behind its group, or a rule that names the group.
   */
  covering(filter: string, owner: AclOwner): readonly number[] {
    const shared = parseShared(filter);
    const plain = withoutEmptyTopic(shared?.filter ?? filter);
    if (shared === undefined || this.groups.size === 0) return this.plain.all(plain, owner);
    const trees = [this.plain, this.groups.get(shared.group), this.groups.get("+")];
    return trees.flatMap((tree) => tree?.all(plain, owner) ?? []).sort((a, b) => a - b);
  }

  private group(name: string): PatternTree {
    const found = this.groups.get(name) ?? new PatternTree();
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
