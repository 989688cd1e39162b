import Table from "cli-table3";
import type { Broker } from "../broker-types.ts";
import type { PluginTable } from "../hooks/define-plugin.ts";
import type { ApiKeys } from "./api-keys.ts";

/** What the commands need beyond the broker's public face. */
export interface AdminTarget extends Broker {
  listenerInfo(): { kind: string; name: string; address: string; port: number; open: number }[];
  members(): readonly { name: string; running: boolean }[];
  readonly apiKeys: ApiKeys;
}

/** What a command gives: text, a table, or several of both. */
export type Output = string | PluginTable | readonly (string | PluginTable)[];

export interface Command {
  readonly path: readonly string[];
  readonly usage: string;
  readonly help: string;
  run(target: AdminTarget, args: ReadonlyMap<string, string>): Output | Promise<Output>;
}

/** An error the command answers with; exit code 1. */
export class UsageError extends Error {}

/** Rows below their column names. */
export function table(head: PluginTable["head"], rows: PluginTable["rows"]): PluginTable {
  return { head, rows };
}

/** As a person reads it. */
export function humanText(output: Output): string {
  return partsOf(output)
    .map((part) => (typeof part === "string" ? part : drawn(part)))
    .join("");
}

/** As a program reads it (admin-cli.md, 1.3): one element as an object, several as an array. */
export function jsonText(output: Output): string {
  const elements = partsOf(output).map((part) =>
    typeof part === "string" ? { type: "text", text: part.trim() } : jsonTable(part),
  );
  return JSON.stringify(elements.length === 1 ? elements[0] : elements);
}

/** A refusal of a command, as VerneMQ gives it to programs. */
export function alertText(text: string): string {
  return JSON.stringify({ type: "alert", alert: [{ type: "text", text }] });
}

function partsOf(output: Output): readonly (string | PluginTable)[] {
  return typeof output === "string" || "head" in output ? [output] : output;
}

function drawn({ head, rows }: PluginTable): string {
  const made = new Table({ head: [...head], style: { head: [], border: [] } });
  for (const row of rows) made.push(row.map((cell) => String(cell ?? "")));
  return `${made.toString()}\n`;
}

function jsonTable({ head, rows }: PluginTable): object {
  const objects = rows.map((row) =>
    Object.fromEntries(head.map((name, i) => [name, row[i] ?? null] as const)),
  );
  return { type: "table", table: objects };
}
