/** Rules ordered for the question "may this client?". */
import {
  type PatternOwner,
  PatternTree,
  parseShared,
  withoutEmptyTopic,
} from "../../core/plugin-api.ts";
import type { Access, AclRule } from "./acl-file.ts";

/** Who asks. */
export type Asker = PatternOwner;

/** Rules of one access, by their lines in the file, from 1. */
interface Rules {
  readonly all: PatternTree;
  readonly users: Map<string, PatternTree>;
  readonly patterns: PatternTree;
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
      this.treeFor(rules, rule).add(rule.filter, rule.line, isPattern);
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

  private treeFor(rules: Rules, { holder }: AclRule): PatternTree {
    switch (holder.part) {
      case "all":
        return rules.all;
      case "pattern":
        return rules.patterns;
      case "user": {
        const found = rules.users.get(holder.user) ?? new PatternTree();
        rules.users.set(holder.user, found);
        return found;
      }
      default:
        return holder satisfies never;
    }
  }
}

/** VerneMQ's order: everybody's rules, the user's, patterns. */
function lineFor(rules: Rules, asker: Asker, text: string): number {
  const byAll = rules.all.first(text, asker);
  if (byAll > 0) return byAll;
  const own = asker.username === undefined ? undefined : rules.users.get(asker.username);
  const byUser = own === undefined ? 0 : own.first(text, asker);
  return byUser > 0 ? byUser : Math.max(0, rules.patterns.first(text, asker));
}

function emptyRules(): Rules {
  return { all: new PatternTree(), users: new Map(), patterns: new PatternTree() };
}
