/** Changes to the text of a password file. Other lines, their order and comments stay as they are. */
import { parseHash } from "./hashes.ts";
import { readPasswordLine } from "./password-file.ts";

/** Longest user name of MQTT. MQTT 5.0, 1.5.4 */
const USER_BYTES_MAX = 65535;

/** Why a name cannot stand in the file; undefined if it can. */
export function userFault(user: string): string | undefined {
  if (user === "") return "Username must not be empty.";
  if (user.includes(":")) return "Username must not contain the ':' character.";
  if (user.startsWith("#")) return "Username must not begin with '#', which begins a comment.";
  if (/\p{Cc}/u.test(user)) return "Username must not contain control characters.";
  // Mosquitto trims names in the file; such a user could log in here but not there.
  if (user.trim() !== user) return "Username must not begin or end with blanks.";
  if (Buffer.byteLength(user) > USER_BYTES_MAX) return "Username must have at most 65535 bytes.";
  return undefined;
}

/** Replaces the user's line or adds one at the end; further lines of the user are removed. */
export function withUser(text: string, user: string, hash: string): string {
  const lines = linesOf(text);
  const mine = lines.findIndex((line) => isLineOf(line, user));
  const kept = lines.filter((line, index) => index === mine || !isLineOf(line, user));
  if (mine === -1) kept.push(`${user}:${hash}`);
  else kept[mine] = `${user}:${hash}`;
  return `${kept.join("\n")}\n`;
}

/** The text without the user, undefined if there is no such user. */
export function withoutUser(text: string, user: string): string | undefined {
  const lines = linesOf(text);
  const kept = lines.filter((line) => !isLineOf(line, user));
  if (kept.length === lines.length) return undefined;
  return kept.length === 0 ? "" : `${kept.join("\n")}\n`;
}

/**
 * Replaces plain-text passwords by hashes. Throws with the line's number if a line has no password.
 * Differs from VerneMQ: hashes are left alone instead of being hashed again, which made them useless.
 */
export async function withHashes(
  text: string,
  createHash: (password: string) => Promise<string>,
): Promise<{ text: string; hashed: number; kept: number }> {
  const lines = linesOf(text);
  let hashed = 0;
  let kept = 0;
  for (const [index, line] of lines.entries()) {
    const entry = readPasswordLine(line);
    if (entry.type === "other") continue;
    if (entry.type === "fault") throw new Error(`line ${index + 1}: ${entry.reason}`);
    if (parseHash(entry.secret) !== undefined) {
      kept += 1;
      continue;
    }
    // Not trimmed: blanks may belong to the password.
    const password = line.slice(entry.user.length + 1).replace(/\r$/, "");
    if (password === "") throw new Error(`line ${index + 1}: the password is empty`);
    lines[index] = `${entry.user}:${await createHash(password)}`;
    hashed += 1;
  }
  return { text: lines.length === 0 ? "" : `${lines.join("\n")}\n`, hashed, kept };
}

function isLineOf(line: string, user: string): boolean {
  const entry = readPasswordLine(line);
  return entry.type === "user" && entry.user === user;
}

function linesOf(text: string): string[] {
  const lines = text.split("\n");
  if (lines.at(-1) === "") lines.pop();
  return lines;
}
