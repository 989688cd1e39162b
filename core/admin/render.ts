import type { Cell, Element } from "./elements.ts";

/** What a client of the command line prints, and its exit code. */
export interface Answer {
  readonly exit: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** Values of `--format`. */
export type Format = "human" | "json" | "csv";

type Table = Extract<Element, { type: "table" }>;

/** VerneMQ puts these around headings, also when the output is no terminal. */
const BOLD = "\u001b[1m";
const PLAIN = "\u001b[0m";
/** Rows of a table that are written in one go; others have their turn between two pieces. */
const PIECE_ROWS = 500;

/** Elements in a format; an unknown one gives what a person reads and a word about it. */
export function render(
  elements: readonly Element[],
  format: string | undefined,
  isPlain = false,
): { stdout: string; stderr: string } {
  return {
    stdout: [...pieces(elements, format, isPlain)].join(""),
    stderr: complaints(elements, format),
  };
}

/** The same for answers that may be long: the event loop is free between two pieces. */
export async function renderLong(
  elements: readonly Element[],
  format: string | undefined,
  isPlain = false,
): Promise<{ stdout: string; stderr: string }> {
  const found: string[] = [];
  const isLong = elements.some((one) => one.type === "table" && one.rows.length > PIECE_ROWS);
  for (const piece of pieces(elements, format, isPlain)) {
    found.push(piece);
    if (isLong) await new Promise((resume) => setImmediate(resume));
  }
  return { stdout: found.join(""), stderr: complaints(elements, format) };
}

/** Rows as text, for answers that mix tables and lines. */
export function textTable(columns: readonly string[], rows: readonly (readonly Cell[])[]): string {
  return [...humanTable({ type: "table", columns, rows }, true)].join("");
}

function pieces(
  elements: readonly Element[],
  format: string | undefined,
  isPlain: boolean,
): Generator<string> {
  if (format === "json") return jsonPieces(elements);
  return format === "csv" ? csvPieces(elements) : humanPieces(elements, isPlain);
}

function complaints(elements: readonly Element[], format: string | undefined): string {
  if (format === undefined || format === "human" || format === "json") return "";
  if (format !== "csv") {
    return `Invalid format ${JSON.stringify(format)}! Defaulted to human-readable.\n`;
  }
  return elements.map((one) => (one.type === "alert" ? `${one.text}\n` : "")).join("");
}

function* inPieces<T>(rows: readonly T[]): Generator<readonly T[]> {
  for (let at = 0; at < rows.length; at += PIECE_ROWS) yield rows.slice(at, at + PIECE_ROWS);
}

// ---- for people

/** Texts with a line end, tables with borders, alerts as text. */
function* humanPieces(elements: readonly Element[], isPlain: boolean): Generator<string> {
  for (const element of elements) {
    switch (element.type) {
      case "text":
      case "alert":
        yield `${element.text}\n`;
        break;
      case "list": {
        const title = element.title === undefined ? [] : [element.title];
        yield [...title, ...element.list].map((line) => `${line}\n`).join("");
        break;
      }
      case "table":
        yield* humanTable(element, isPlain);
        break;
      default:
        element satisfies never;
    }
  }
}

/**
 * A line between all rows, one blank around each cell; a cell of several lines makes its row taller.
 * Nothing at all without rows.
 */
function* humanTable({ columns, rows }: Table, isPlain: boolean): Generator<string> {
  if (rows.length === 0) return;
  const widths = columns.map(lengthOf);
  for (const part of inPieces(rows)) {
    for (const row of part) {
      for (let at = 0; at < widths.length; at++) {
        for (const line of humanCell(row[at]).split("\n")) {
          widths[at] = Math.max(widths[at] ?? 0, lengthOf(line));
        }
      }
    }
    yield "";
  }
  const border = `+${widths.map((width) => "-".repeat(width + 2)).join("+")}+\n`;
  const lineOf = (cells: readonly string[], isHead = false): string =>
    `|${cells
      .map((cell, at) => {
        const padding = " ".repeat((widths[at] ?? 0) - lengthOf(cell));
        return isHead && !isPlain ? ` ${BOLD}${cell}${PLAIN}${padding} ` : ` ${cell}${padding} `;
      })
      .join("|")}|\n`;
  yield `${border}${lineOf(columns, true)}${border}`;
  for (const part of inPieces(rows)) {
    yield part.map((row) => `${rowLines(row, columns.length, lineOf)}${border}`).join("");
  }
}

function rowLines(
  row: readonly Cell[],
  columns: number,
  lineOf: (cells: readonly string[]) => string,
): string {
  const cells = Array.from({ length: columns }, (_, at) => humanCell(row[at]).split("\n"));
  const height = Math.max(...cells.map((cell) => cell.length));
  return Array.from({ length: height }, (_, line) =>
    lineOf(cells.map((cell) => cell[line] ?? "")),
  ).join("");
}

/** Characters, not UTF-16 units: an emoji in a client id must not bend the border by itself. */
function lengthOf(content: string): number {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: only plain ASCII is counted quickly
  return /^[\u0000-\u007f]*$/.test(content) ? content.length : [...content].length;
}

/** Control characters of clients must not reach an operator's terminal; line ends make lines. */
function humanCell(cell: Cell): string {
  return String(cell).replace(/[^\P{Cc}\n]/gu, "\ufffd");
}

// ---- JSON

/** One element as an object, several as an array with a line end. */
function* jsonPieces(elements: readonly Element[]): Generator<string> {
  const isOne = elements.length === 1;
  if (!isOne) yield "[";
  for (const [at, element] of elements.entries()) {
    if (at > 0) yield ",";
    if (element.type === "table") yield* jsonTable(element);
    else yield JSON.stringify(jsonElement(element));
  }
  if (!isOne) yield "]\n";
}

function* jsonTable({ columns, rows }: Table): Generator<string> {
  yield '{"type":"table","table":[';
  let isFirst = true;
  for (const part of inPieces(rows)) {
    const objects = part.map((row) =>
      JSON.stringify(Object.fromEntries(columns.map((name, at) => [name, jsonCell(row[at])]))),
    );
    yield `${isFirst ? "" : ","}${objects.join(",")}`;
    isFirst = false;
  }
  yield "]}";
}

function jsonElement(element: Exclude<Element, Table>): object {
  switch (element.type) {
    case "text":
      return { type: "text", text: element.text.trim() };
    case "alert":
      return { type: "alert", alert: [{ type: "text", text: element.text.trim() }] };
    case "list":
      return element;
    default:
      return element satisfies never;
  }
}

function jsonCell(cell: Cell): Cell {
  if (cell === undefined) return null;
  // A line end at the end of a cell is part of it (plugin show); blanks are not.
  return typeof cell === "string" ? cell.replace(/^[ \t]+|[ \t]+$/g, "") : cell;
}

// ---- CSV

/** Tables only, as RFC 4180 has them. */
function* csvPieces(elements: readonly Element[]): Generator<string> {
  for (const element of elements) {
    if (element.type !== "table") continue;
    const { columns, rows } = element;
    const lineOf = (row: readonly Cell[]): string =>
      `${columns.map((_, at) => csvCell(row[at])).join(",")}\r\n`;
    yield lineOf(columns);
    for (const part of inPieces(rows)) yield part.map(lineOf).join("");
  }
}

function csvCell(cell: Cell): string {
  const content = cell === null || cell === undefined ? "" : String(cell);
  return /[",\r\n]/.test(content) ? `"${content.replaceAll('"', '""')}"` : content;
}
