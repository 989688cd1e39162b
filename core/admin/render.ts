import type { Cell, Element } from "./elements.ts";

/** What a client of the command line prints, and its exit code. */
export interface Answer {
  readonly exit: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** Values of `--format`. */
export type Format = "human" | "json" | "csv";

/** VerneMQ puts these around headings, also when the output is no terminal. */
const BOLD = "\u001b[1m";
const PLAIN = "\u001b[0m";

/** Elements as a person reads them: texts with a line end, tables with borders, alerts as text. */
export function humanText(elements: readonly Element[], isPlain = false): string {
  return elements.map((element) => humanElement(element, isPlain)).join("");
}

function humanElement(element: Element, isPlain: boolean): string {
  switch (element.type) {
    case "text":
    case "alert":
      return `${element.text}\n`;
    case "list":
      return [...(element.title === undefined ? [] : [element.title]), ...element.list]
        .map((line) => `${line}\n`)
        .join("");
    case "table":
      return humanTable(element.columns, element.rows, isPlain);
    default:
      return element satisfies never;
  }
}

/**
 * A line between all rows, one blank around each cell; a cell of several lines makes its row taller.
 * Nothing at all without rows.
 */
function humanTable(
  columns: readonly string[],
  rows: readonly (readonly Cell[])[],
  isPlain: boolean,
): string {
  if (rows.length === 0) return "";
  const texts = rows.map((row) => columns.map((_, at) => humanCell(row[at]).split("\n")));
  const widths = columns.map((name, at) => {
    let width = lengthOf(name);
    for (const row of texts) {
      for (const line of row[at] ?? []) width = Math.max(width, lengthOf(line));
    }
    return width;
  });
  const border = `+${widths.map((width) => "-".repeat(width + 2)).join("+")}+\n`;
  const lineOf = (cells: readonly string[], isHead = false): string =>
    `|${cells
      .map((cell, at) => {
        const padding = " ".repeat((widths[at] ?? 0) - lengthOf(cell));
        return isHead && !isPlain ? ` ${BOLD}${cell}${PLAIN}${padding} ` : ` ${cell}${padding} `;
      })
      .join("|")}|\n`;
  const body = texts.map((row) => {
    const height = Math.max(...row.map((cell) => cell.length));
    const lines = Array.from({ length: height }, (_, line) =>
      lineOf(row.map((cell) => cell[line] ?? "")),
    );
    return `${lines.join("")}${border}`;
  });
  return `${border}${lineOf(columns, true)}${border}${body.join("")}`;
}

/** Rows as text, for answers that mix tables and lines. */
export function textTable(columns: readonly string[], rows: readonly (readonly Cell[])[]): string {
  return humanTable(columns, rows, true);
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

/** One element as an object, several as an array with a line end. */
export function jsonText(elements: readonly Element[]): string {
  const [only, ...more] = elements;
  if (only !== undefined && more.length === 0) return JSON.stringify(jsonElement(only));
  return `${JSON.stringify(elements.map(jsonElement))}\n`;
}

function jsonElement(element: Element): object {
  switch (element.type) {
    case "text":
      return { type: "text", text: element.text.trim() };
    case "alert":
      return { type: "alert", alert: [{ type: "text", text: element.text.trim() }] };
    case "list":
      return element;
    case "table":
      return {
        type: "table",
        table: element.rows.map((row) =>
          Object.fromEntries(element.columns.map((name, at) => [name, jsonCell(row[at])])),
        ),
      };
    default:
      return element satisfies never;
  }
}

function jsonCell(cell: Cell): Cell {
  if (cell === undefined) return null;
  // A line end at the end of a cell is part of it (plugin show); blanks are not.
  return typeof cell === "string" ? cell.replace(/^[ \t]+|[ \t]+$/g, "") : cell;
}

/** Tables only, as RFC 4180 has them; alerts and texts are for `stderr`. */
export function csvText(elements: readonly Element[]): { stdout: string; stderr: string } {
  let stdout = "";
  let stderr = "";
  for (const element of elements) {
    if (element.type === "table") {
      for (const row of [element.columns, ...element.rows]) {
        stdout += `${element.columns.map((_, at) => csvCell(row[at])).join(",")}\r\n`;
      }
    } else if (element.type === "alert") stderr += `${element.text}\n`;
  }
  return { stdout, stderr };
}

function csvCell(cell: Cell): string {
  const content = cell === null || cell === undefined ? "" : String(cell);
  return /[",\r\n]/.test(content) ? `"${content.replaceAll('"', '""')}"` : content;
}

/** Elements in a format; an unknown one gives what a person reads and a word about it. */
export function render(
  elements: readonly Element[],
  format: string | undefined,
  isPlain = false,
): { stdout: string; stderr: string } {
  switch (format) {
    case "json":
      return { stdout: jsonText(elements), stderr: "" };
    case "csv":
      return csvText(elements);
    case undefined:
    case "human":
      return { stdout: humanText(elements, isPlain), stderr: "" };
    default:
      return {
        stdout: humanText(elements, isPlain),
        stderr: `Invalid format ${JSON.stringify(format)}! Defaulted to human-readable.\n`,
      };
  }
}
