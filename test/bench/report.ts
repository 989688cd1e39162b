// How a suite shows its medians and ratios.
import { cpus, totalmem } from "node:os";
import Table from "cli-table3";

/** Median of the runs, or why there is none. */
export type Cell = { readonly median: number } | { readonly reason: string };

/** One line of the table. */
export interface ReportLine {
  readonly row: string;
  readonly what: string;
  readonly measure: string;
  /** By broker; a broker that was left out has none. */
  readonly cells: Readonly<Record<string, Cell>>;
  readonly target: string;
  readonly verdict: "pass" | "fail" | "-";
}

/** A whole report. `reference` is the broker that ratios refer to. */
export interface Report {
  readonly suite: string;
  readonly generator: string;
  readonly runs: number;
  readonly seconds: number;
  readonly versions: Readonly<Record<string, string>>;
  readonly reference: string;
  readonly lines: readonly ReportLine[];
  readonly isJson: boolean;
}

/** The middle one of some values, or the mean of the middle two. */
export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  const upper = sorted[middle] ?? Number.NaN;
  return sorted.length % 2 ? upper : ((sorted[middle - 1] ?? Number.NaN) + upper) / 2;
}

/** Prints a report as a table, or as one line of JSON. */
export function printReport(report: Report): void {
  const { isJson, ...content } = report;
  const machine = {
    date: new Date().toISOString(),
    node: process.version,
    cpu: cpus()[0]?.model ?? "unknown",
    cores: cpus().length,
    memoryGiB: Math.round(totalmem() / 2 ** 30),
  };
  if (isJson) {
    console.log(JSON.stringify({ ...content, machine }));
    return;
  }
  const brokers = Object.entries(content.versions).map(([name, version]) => `${name} ${version}`);
  console.log(`Suite ${report.suite}, ${machine.date}, load by ${report.generator}`);
  console.log(`Node ${machine.node}, ${machine.cores} × ${machine.cpu}, ${machine.memoryGiB} GiB`);
  console.log(
    `${brokers.join(", ")}; medians of ${report.runs} runs of ${report.seconds} s, ` +
      `ratios to ${report.reference}`,
  );
  console.log(table(report));
}

function table({ lines, versions, reference }: Report): string {
  const names = Object.keys(versions);
  const out = new Table({
    head: ["row", "load", "measure", ...names, "target", "result"],
    style: { head: [], border: [], compact: true },
  });
  for (const line of lines) {
    const base = line.cells[reference];
    const cells = names.map((name) =>
      show(line.cells[name], name === reference ? undefined : base),
    );
    out.push([line.row, line.what, line.measure, ...cells, line.target, line.verdict]);
  }
  return out.toString();
}

function show(cell: Cell | undefined, base: Cell | undefined): string {
  if (cell === undefined) return "-";
  if (!("median" in cell)) return cell.reason.slice(0, 60);
  const ratio =
    base !== undefined && "median" in base ? ` (${(cell.median / base.median).toFixed(2)} ×)` : "";
  return amount(cell.median) + ratio;
}

function amount(value: number): string {
  if (value >= 10_000) return `${Math.round(value / 1000)} k`;
  return value >= 100 ? value.toFixed(0) : value.toFixed(1);
}
