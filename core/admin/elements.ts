import type { PluginAnswer } from "../hooks/define-plugin.ts";

/** A value in a table: undefined is one that is not known, null one that cannot be. */
export type Cell = string | number | boolean | null | undefined;

/** A piece of what a command answers, in the shapes of VerneMQ. */
export type Element =
  | { readonly type: "text"; readonly text: string }
  | {
      readonly type: "table";
      readonly columns: readonly string[];
      readonly rows: readonly (readonly Cell[])[];
    }
  | { readonly type: "list"; readonly title?: string; readonly list: readonly string[] }
  /** A refusal that the command itself words; the exit code stays 0. */
  | { readonly type: "alert"; readonly text: string };

export function text(content: string): Element {
  return { type: "text", text: content };
}

export function table(columns: readonly string[], rows: readonly (readonly Cell[])[]): Element {
  return { type: "table", columns, rows };
}

export function alert(content: string): Element {
  return { type: "alert", text: content };
}

/** What most commands that change something answer. */
export const DONE: readonly Element[] = [text("Done")];

/** The answer of a plugin's command as elements. */
export function elementsOf(answer: PluginAnswer): Element[] {
  if (Array.isArray(answer)) return (answer as readonly PluginAnswer[]).flatMap(elementsOf);
  if (typeof answer === "string") return answer === "" ? [] : [text(answer.replace(/\n$/, ""))];
  if ("alert" in answer) return [alert(answer.alert)];
  if ("columns" in answer) return [table(answer.columns, answer.rows)];
  return [];
}
