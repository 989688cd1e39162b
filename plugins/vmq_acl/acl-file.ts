/** The grammar of the ACL file: text -> rules. */
import { validateFilter } from "../../core/plugin-api.ts";

/** read = subscribe, write = publish. */
export type Access = "read" | "write";

/** Whom a rule is for: everybody, one user, or everybody with `%c %u %m` filled in. */
export type Holder =
  | { readonly part: "all" }
  | { readonly part: "user"; readonly user: string }
  | { readonly part: "pattern" };

/** A line that grants something. There are no rules that forbid. */
export interface AclRule {
  readonly line: number;
  /** The line as written, for explanations. */
  readonly text: string;
  readonly holder: Holder;
  readonly access: readonly Access[];
  readonly filter: string;
}

/** A line that was skipped, and why. */
export interface LineFault {
  readonly line: number;
  readonly reason: string;
}

export type AclLine =
  | { readonly type: "rule"; readonly rule: AclRule }
  | { readonly type: "fault"; readonly fault: LineFault };

/** To whom `topic` lines belong; `nobody` after a `user` line that could not be read. */
type Section = Extract<Holder, { part: "all" | "user" }> | { readonly part: "nobody" };

const BOTH: readonly Access[] = ["read", "write"];

/**
 * Reads the file line by line. Blank lines and comments give nothing. A line that cannot be read is a
 * fault and grants nothing; nor do the `topic` lines under a `user` line that cannot be read, which
 * would else go to the user before it.
 */
export function* parseAcl(text: string, topicMaxDepth: number): Generator<AclLine> {
  let section: Section = { part: "all" };
  let number = 0;
  for (const raw of text.replace(/^\ufeff/, "").split("\n")) {
    number += 1;
    const line = raw.endsWith("\r") ? raw.slice(0, -1) : raw;
    if (/^[ \t]*(#|$)/.test(line)) continue;
    const result = readLine(line, number, section, topicMaxDepth);
    if (result.type === "section") section = result.section;
    else {
      yield result;
      if (result.type === "fault" && looksLikeUser(line)) section = { part: "nobody" };
    }
  }
}

function readLine(
  line: string,
  number: number,
  section: Section,
  topicMaxDepth: number,
): AclLine | { type: "section"; section: Section } {
  const fault = (reason: string): AclLine => ({ type: "fault", fault: { line: number, reason } });
  // Bytes that are no UTF-8 were decoded to this character.
  if (line.includes("\ufffd")) return fault("the line is not UTF-8");
  // Lower case, from the first column, exactly one space: as VerneMQ reads it.
  const [, keyword, rest = ""] = /^(topic|pattern|user) (.*)$/.exec(line) ?? [];
  switch (keyword) {
    case "user": {
      const user = trimmed(rest);
      if (user === "") return fault("the user name is empty; topics below belong to nobody");
      return { type: "section", section: { part: "user", user } };
    }
    case "topic": {
      if (section.part === "nobody") return fault("belongs to a user line that cannot be read");
      return readRule({ line, number, rest, holder: section, topicMaxDepth });
    }
    case "pattern":
      return readRule({ line, number, rest, holder: { part: "pattern" }, topicMaxDepth });
    default:
      return fault("begins with none of `topic `, `user `, `pattern ` and `#`");
  }
}

interface RuleLine {
  readonly line: string;
  readonly number: number;
  /** What follows the keyword and its space. */
  readonly rest: string;
  readonly holder: Holder;
  readonly topicMaxDepth: number;
}

function readRule({ line, number, rest, holder, topicMaxDepth }: RuleLine): AclLine {
  const fault = (reason: string): AclLine => ({ type: "fault", fault: { line: number, reason } });
  const [, word, after = ""] = /^(readwrite|read|write|deny) (.*)$/.exec(rest) ?? [];
  // Mosquitto's word. As a topic name, which it is for VerneMQ, it would grant what was to be denied.
  if (word === "deny") return fault("there are no `deny` rules");
  const filter = trimmed(word === undefined ? rest : after);
  const reason = filterFault(filter, topicMaxDepth);
  if (reason !== undefined) return fault(reason);
  const access: readonly Access[] = word === "read" || word === "write" ? [word] : BOTH;
  return { type: "rule", rule: { line: number, text: line, holder, access, filter } };
}

function filterFault(filter: string, topicMaxDepth: number): string | undefined {
  // A rule may name a group of shared subscriptions, even `$share/+/...`: see rules.ts.
  const isShared = filter.startsWith("$share/");
  const plain = isShared ? filter.replace("$share/", "share/") : filter;
  return validateFilter(plain, topicMaxDepth + (isShared ? 2 : 0))?.message;
}

/** Spaces and tabs around a name do not belong to it; those inside do. */
function trimmed(text: string): string {
  return text.replace(/^[ \t]+|[ \t]+$/g, "");
}

/** Was the unreadable line meant to begin another user's part (`User bob`, `usr bob`, `  user bob`)? */
function looksLikeUser(line: string): boolean {
  const word = trimmed(line)
    .split(/[ \t:=]/, 1)[0]
    .toLowerCase();
  return word.includes("ser") || /^us|^u\w{0,3}r$/.test(word);
}
