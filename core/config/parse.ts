import { readdirSync, readFileSync } from "node:fs";
import { dirname, join, resolve } from "node:path";

/** A setting as written, with the place of its key (lines and columns from 1). */
export interface Entry {
  readonly key: string;
  readonly text: string;
  readonly file: string;
  readonly line: number;
  readonly column: number;
}

export interface Include {
  readonly include: string;
  readonly file: string;
  readonly line: number;
}

/** What a file held; problems are whole lines for the operator and begin with `file:line:`. */
export interface ParsedText {
  readonly statements: readonly (Entry | Include)[];
  readonly problems: readonly string[];
}

const KEY = /^[ \t]*((?:\\\.|[\w-])+(?:\.(?:\\\.|[\w-])+)*)[ \t]*/;
const INCLUDE = /^[ \t]*include[ \t]+([\w\-./*]+)[ \t]*(?:#.*)?$/s;
const IGNORED = /^[ \t]*(?:#.*)?$/s;
const ALLOWED = 'allowed: "key = value", "include <path>", a blank line or a # comment';

/** No file of a sane configuration comes near; it stops includes that multiply. */
const INCLUDED_FILES_MAX = 1000;

/** Reads one text. Each wrong line is a problem of its own; the others still give their settings. */
export function parseText(source: string, file: string): ParsedText {
  const lines = source.replace(/^\uFEFF/, "").split("\n");
  const statements: (Entry | Include)[] = [];
  const problems: string[] = [];
  for (let index = 0; index < lines.length; index++) {
    const content = (lines[index] ?? "").replace(/\r$/, "");
    const line = index + 1;
    if (IGNORED.test(content)) continue;
    const include = INCLUDE.exec(content)?.[1];
    if (include !== undefined) {
      statements.push({ include, file, line });
      continue;
    }
    const found = KEY.exec(content);
    const key = found?.[1] ?? "";
    const after = found?.[0].length ?? content.length - content.trimStart().length;
    if (key === "" || content[after] !== "=") {
      const colon = content[after] === ":" && key !== "";
      const meant = colon ? `, did you mean "${key} = …"?` : "";
      const what = key === "" ? "no key" : 'no "=" after the key';
      problems.push(syntax(file, line, after + 1, `${what}, ${ALLOWED}${meant}`));
      continue;
    }
    const value = readText(lines, index, after + 1);
    if ("problem" in value) problems.push(syntax(file, line, value.column, value.problem));
    else {
      const column = content.length - content.trimStart().length + 1;
      statements.push({ key, text: value.text, file, line, column });
    }
    index = value.lastIndex;
  }
  return { statements, problems };
}

/** The value part of a line alone, as an environment variable holds it. */
export function parseValue(source: string): { text: string } | { problem: string } {
  const lines = source.split("\n");
  const value = readText(lines, 0, 0);
  if ("problem" in value) return { problem: value.problem };
  const rest = lines.slice(value.lastIndex + 1).find((line) => !IGNORED.test(line));
  return rest === undefined ? { text: value.text } : { problem: "the value has a second line" };
}

type ValueText =
  | { text: string; lastIndex: number }
  | { problem: string; column: number; lastIndex: number };

/** Reads from `column` (counted from 0) of a line; a triple quote may end on a later line. */
function readText(lines: readonly string[], index: number, column: number): ValueText {
  const content = (lines[index] ?? "").replace(/\r$/, "");
  const blanks = /^[ \t]*/.exec(content.slice(column))?.[0].length ?? 0;
  const start = column + blanks;
  if (content.startsWith("'''", start)) return readTriple(lines, index, start);
  if (content.startsWith("'", start)) {
    const end = content.indexOf("'", start + 1);
    if (end < 0) {
      const problem =
        "the quote is not closed, allowed: 'text' on one line, '''text''' over several";
      return { problem, column: start + 1, lastIndex: index };
    }
    return afterQuote(content, end + 1, content.slice(start + 1, end), index);
  }
  const comment = content.indexOf("#", start);
  const text = content.slice(start, comment < 0 ? undefined : comment).replace(/[ \t]+$/, "");
  if (text !== "") return { text, lastIndex: index };
  return { problem: "no value, did you mean ''?", column: start + 1, lastIndex: index };
}

function readTriple(lines: readonly string[], index: number, start: number): ValueText {
  const parts: string[] = [];
  for (let at = index; at < lines.length; at++) {
    const content = (lines[at] ?? "").replace(/\r$/, "");
    const from = at === index ? start + 3 : 0;
    const end = content.indexOf("'''", from);
    if (end >= 0) {
      parts.push(content.slice(from, end));
      return afterQuote(content, end + 3, parts.join("\n"), at);
    }
    parts.push(content.slice(from));
  }
  // The lines after the quote are probably settings: go on with the next one.
  return { problem: "the ''' is not closed", column: start + 1, lastIndex: index };
}

function afterQuote(content: string, end: number, text: string, lastIndex: number): ValueText {
  if (IGNORED.test(content.slice(end))) return { text, lastIndex };
  return {
    problem: "text after the closing quote, allowed: a # comment",
    column: end + 1,
    lastIndex,
  };
}

function syntax(file: string, line: number, column: number, what: string): string {
  return `${file}:${line}: syntax error at column ${column}: ${what}`;
}

/** Reads a file with all that it includes, in the order in which settings count. */
export function readConfigFile(
  file: string,
  cwd: string,
): { entries: Entry[]; problems: string[]; files: string[] } {
  const entries: Entry[] = [];
  const problems: string[] = [];
  const files: string[] = [];

  function readOne(shown: string, from: string, parents: readonly string[]): void {
    const path = resolve(cwd, shown);
    if (parents.includes(path)) {
      problems.push(`${from}include: ${shown} includes itself`);
      return;
    }
    if (files.length >= INCLUDED_FILES_MAX) {
      if (files.length === INCLUDED_FILES_MAX) problems.push(`${from}include: too many files`);
      files.push(path);
      return;
    }
    files.push(path);
    const source = readSource(path);
    if (typeof source !== "string") {
      problems.push(`${from}${shown}: ${source.problem}`);
      return;
    }
    const bad = source.split("\n").findIndex((line) => line.includes("\uFFFD"));
    if (bad >= 0) problems.push(`${shown}:${bad + 1}: not UTF-8 text`);
    const parsed = parseText(source, shown);
    problems.push(...parsed.problems);
    for (const statement of parsed.statements) {
      if ("include" in statement) {
        const at = `${statement.file}:${statement.line}: `;
        const matches = expandInclude(statement, cwd);
        if (matches === undefined) {
          problems.push(`${at}include: * is only allowed in the last part of the path`);
        } else {
          for (const match of matches) readOne(match, at, [...parents, path]);
        }
      } else {
        entries.push(withFileContent(statement, cwd, problems));
      }
    }
  }

  readOne(file, "", []);
  return { entries, problems, files };
}

/** Paths that an include stands for, alphabetically; undefined = a wildcard where none may be. */
function expandInclude(statement: Include, cwd: string): string[] | undefined {
  const path = statement.include.startsWith("/")
    ? statement.include
    : join(dirname(statement.file), statement.include);
  const folder = dirname(path);
  if (folder.includes("*")) return undefined;
  const last = path.slice(path.lastIndexOf("/") + 1);
  const names = listFiles(resolve(cwd, folder));
  if (!last.includes("*")) return names.includes(last) ? [path] : [];
  return names
    .filter((name) => !name.startsWith(".") && matchesWildcard(name, last))
    .sort()
    .map((name) => join(folder, name));
}

/** `*` stands for any characters. Pieces are searched from left to right, which is linear. */
export function matchesWildcard(name: string, pattern: string): boolean {
  const pieces = pattern.split("*");
  const first = pieces.shift() ?? "";
  const last = pieces.pop();
  if (last === undefined) return name === pattern;
  if (!name.startsWith(first)) return false;
  let at = first.length;
  for (const piece of pieces) {
    const found = name.indexOf(piece, at);
    if (found < 0) return false;
    at = found + piece.length;
  }
  return name.length - last.length >= at && name.endsWith(last);
}

function listFiles(folder: string): string[] {
  try {
    return readdirSync(folder, { withFileTypes: true })
      .filter((item) => !item.isDirectory())
      .map((item) => item.name);
  } catch {
    // A pattern without a match is no error, and neither is one without a folder.
    return [];
  }
}

function withFileContent(entry: Entry, cwd: string, problems: string[]): Entry {
  const text = readReference(entry.text, resolve(cwd, dirname(entry.file)));
  if (typeof text === "string") return { ...entry, text };
  problems.push(`${entry.file}:${entry.line}: ${entry.key}: ${text.problem}`);
  return entry;
}

/**
 * A value of the form `$(<file)` alone is the content of that file, without one line end at its
 * end; any other value is itself.
 */
export function readReference(text: string, folder: string): string | { problem: string } {
  const name = /^\$\(<([^()]+)\)$/.exec(text)?.[1]?.trim();
  if (name === undefined) return text;
  const source = readSource(resolve(folder, name));
  return typeof source === "string"
    ? source.replace(/\r?\n$/, "")
    : { problem: `${name}: ${source.problem}` };
}

function readSource(path: string): string | { problem: string } {
  try {
    return readFileSync(path, "utf8");
  } catch (error) {
    const code = error instanceof Error && "code" in error ? String(error.code) : "UNKNOWN";
    const reasons: Record<string, string> = {
      ENOENT: "there is no such file",
      EACCES: "the file is not readable",
      EISDIR: "it is a directory, not a file",
    };
    return { problem: reasons[code] ?? `the file cannot be read (${code})` };
  }
}

/** A value as vernemq.conf would hold it. */
export function fileSyntax(text: string): string {
  const needsQuotes =
    text === "" || /[#\n]/.test(text) || text.startsWith("'") || text !== text.trim();
  if (!needsQuotes) return text;
  return /['\n]/.test(text) ? `'''${text}'''` : `'${text}'`;
}
