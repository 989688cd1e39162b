import Table from "cli-table3";
import type { Broker } from "../broker-types.ts";

/** What the commands need beyond the broker's public face. */
export interface AdminTarget extends Broker {
  listenerInfo(): { kind: string; name: string; address: string; port: number; open: number }[];
}

export interface Command {
  readonly path: readonly string[];
  readonly usage: string;
  readonly help: string;
  run(target: AdminTarget, args: ReadonlyMap<string, string>): string | Promise<string>;
}

/** An error the command answers with; exit code 1. */
export class UsageError extends Error {}

/** Rows as VerneMQ prints them. */
export function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const drawn = new Table({ head: [...head], style: { head: [], border: [] } });
  for (const row of rows) drawn.push([...row]);
  return `${drawn.toString()}\n`;
}
