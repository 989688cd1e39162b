/** The password file: text -> users. */
import { setImmediate } from "node:timers/promises";
import { type Pbkdf2Hash, parseHash } from "./hashes.ts";

/** Why a line was skipped. Never holds the line itself: it may be a password in plain text. */
export interface LineFault {
  readonly line: number;
  readonly reason: string;
}

/** Users of one version of the file. */
export interface PasswordSet {
  /** User name -> hash in file form; it is decoded when needed, which keeps large files small. */
  readonly users: ReadonlyMap<string, string>;
  /** The most expensive hash: how long a check may take. Undefined if all are cheap. */
  readonly slowest: Pbkdf2Hash | undefined;
}

export const NO_USERS: PasswordSet = { users: new Map(), slowest: undefined };

export type PasswordLine =
  | { readonly type: "other" }
  | { readonly type: "user"; readonly user: string; readonly secret: string }
  | { readonly type: "fault"; readonly reason: string };

/** The event loop gets a turn after so many lines (about 1 ms). */
const LINES_PER_TURN = 1000;

/**
 * One line without its line feed. Comments and blank lines are `other`. The user name is everything
 * before the first colon, `secret` the rest, without surrounding blanks and carriage return.
 */
export function readPasswordLine(line: string): PasswordLine {
  if (line.startsWith("#") || line.trim() === "") return { type: "other" };
  const colon = line.indexOf(":");
  if (colon === -1) return { type: "fault", reason: "no colon after the user name" };
  if (colon === 0) return { type: "fault", reason: "the user name is empty" };
  const user = line.slice(0, colon);
  // Bytes that are no UTF-8 were decoded to this character; no client can send such a name.
  if (user.includes("\ufffd")) return { type: "fault", reason: "the user name is not UTF-8" };
  return { type: "user", user, secret: line.slice(colon + 1).trim() };
}

/**
 * All users of a file; lines that cannot be used are skipped and returned as `faults`. Of two lines for
 * one user the later counts, as in VerneMQ.
 */
export async function parsePasswordFile(
  content: Buffer,
): Promise<{ set: PasswordSet; faults: LineFault[] }> {
  const users = new Map<string, string>();
  const faults: LineFault[] = [];
  let slowest: Pbkdf2Hash | undefined;
  let line = 0;
  for (const text of content
    .toString()
    .replace(/^\ufeff/, "")
    .split("\n")) {
    line += 1;
    if (line % LINES_PER_TURN === 0) await setImmediate();
    const entry = readPasswordLine(text);
    if (entry.type === "other") continue;
    const hash = entry.type === "user" ? parseHash(entry.secret) : undefined;
    if (entry.type === "fault" || hash === undefined) {
      const reason = entry.type === "fault" ? entry.reason : "no $6$ or $7$ hash after the colon";
      faults.push({ line, reason });
      continue;
    }
    if (users.has(entry.user)) {
      faults.push({ line, reason: "the user occurred before; this line replaces that one" });
    }
    users.set(entry.user, entry.secret);
    if (hash.type === "pbkdf2" && hash.iterations > (slowest?.iterations ?? 0)) slowest = hash;
  }
  return { set: { users, slowest }, faults };
}
