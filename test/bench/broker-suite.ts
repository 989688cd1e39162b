// The broker suite: every row against every broker, fresh processes, brokers in turn.
import { BROKER_ROWS, type Measure, type Row, type Target } from "./broker-rows.ts";
import { faultOf, type Generator, type LoadResult, pickGenerator, runLoad } from "./generator.ts";
import { PEER_NAMES, type PeerName, probePeer, startPeer } from "./peers.ts";
import { type Cell, median, printReport, type ReportLine } from "./report.ts";
import type { SuiteOptions } from "./suites.ts";

/** Added to the time of a run: set-up, drain, tear-down. */
const RUN_SLACK_MS = 25_000;
/** No new run begins after this; what is missing is said. */
const SUITE_MS_MAX = 9.5 * 60_000;
const REFERENCE: PeerName = "mosquitto";
const SUBJECT: PeerName = "nautilus";

/** What the runs of one row against one broker gave. */
interface Runs {
  readonly results: LoadResult[];
  fault: string;
}

/** Runs the suite and prints its table. Gives the exit status: 1 when a target is missed. */
export async function runBrokerSuite(options: SuiteOptions): Promise<number> {
  const generator = pickGenerator();
  const rows = pick(options.rows, BROKER_ROWS);
  const peers = PEER_NAMES.filter((name) => options.only === undefined || options.only.has(name));
  const versions = new Map<PeerName, string>();
  for (const name of peers) {
    const found = probePeer(name);
    if ("version" in found) versions.set(name, found.version);
    else console.error(`${name} is left out: ${found.missing}`);
  }
  const present = peers.filter((name) => versions.has(name));
  const endMs = Date.now() + SUITE_MS_MAX;
  const lines: ReportLine[] = [];
  for (const row of rows) {
    const runs = await measureRow(row, present, { ...options, generator, endMs });
    lines.push(...row.measures.map((measure) => reportLine(row, measure, runs)));
  }
  printReport({
    suite: "broker",
    generator: generator.name,
    runs: options.runs,
    seconds: options.seconds,
    versions: Object.fromEntries(versions),
    reference: REFERENCE,
    lines,
    isJson: options.isJson,
  });
  return lines.some((line) => line.verdict === "fail") ? 1 : 0;
}

function pick(names: ReadonlySet<string> | undefined, rows: readonly Row[]): readonly Row[] {
  if (names === undefined) return rows;
  for (const name of names)
    if (!rows.some((row) => row.name === name))
      throw new Error(`no row ${name}; rows: ${rows.map((row) => row.name).join(", ")}`);
  return rows.filter((row) => names.has(row.name));
}

async function measureRow(
  row: Row,
  peers: readonly PeerName[],
  how: SuiteOptions & { generator: Generator; endMs: number },
): Promise<Map<PeerName, Runs>> {
  const able = peers.filter((name) => row.unsupported[name] === undefined);
  const all = new Map<PeerName, Runs>(able.map((name) => [name, { results: [], fault: "" }]));
  for (let run = 1; run <= how.runs; run++) {
    // brokers take turns, so that a slow moment of the machine meets all of them
    for (const [name, runs] of all) {
      if (runs.fault) continue;
      if (Date.now() > how.endMs) {
        if (runs.results.length === 0) runs.fault = "no time left";
        continue;
      }
      const shown = await measureOnce(row, name, runs, how);
      console.error(`${row.name} ${name} ${run}/${how.runs}: ${shown}`);
    }
  }
  return all;
}

/** One run against a fresh broker; gives what to show of it. */
async function measureOnce(
  row: Row,
  name: PeerName,
  runs: Runs,
  how: SuiteOptions & { generator: Generator },
): Promise<string> {
  try {
    const peer = await startPeer(name, row.isDurable);
    try {
      const timeoutMs = how.seconds * 1000 + RUN_SLACK_MS;
      const result = await runLoad(how.generator, peer, row.args(how.seconds), timeoutMs);
      runs.fault = faultOf(result);
      runs.results.push(result);
    } finally {
      await peer.stop();
    }
  } catch (error) {
    runs.fault = error instanceof Error ? error.message : "unknown error";
  }
  const last = runs.results.at(-1);
  if (runs.fault || last === undefined) return `FAILED: ${runs.fault}`;
  return row.measures.map((m) => `${m.of(last).toFixed(1)} ${m.unit}`).join(", ");
}

function reportLine(row: Row, measure: Measure, runs: ReadonlyMap<PeerName, Runs>): ReportLine {
  const cells: Record<string, Cell> = {};
  for (const [name, { results, fault }] of runs)
    cells[name] = fault
      ? { reason: `FAILED: ${fault}` }
      : { median: median(results.map((r) => measure.of(r))) };
  for (const [name, reason] of Object.entries(row.unsupported)) cells[name] = { reason };
  const subject = cells[SUBJECT];
  const reference = cells[REFERENCE];
  return {
    row: row.name,
    what: row.what,
    measure: `${measure.label}, ${measure.unit}`,
    cells,
    target: describe(measure.target),
    verdict: judge(measure.target, subject, reference),
  };
}

function describe({ kind, value }: Target): string {
  if (kind === "ratioAtLeast") return `≥ ${value} ×`;
  if (kind === "ratioAtMost") return `≤ ${value} ×`;
  return `${kind === "atLeast" ? "≥" : "≤"} ${value}`;
}

function judge(target: Target, subject?: Cell, reference?: Cell): ReportLine["verdict"] {
  if (subject === undefined) return "-";
  if (!("median" in subject)) return "fail";
  const isRatio = target.kind === "ratioAtLeast" || target.kind === "ratioAtMost";
  const base = reference !== undefined && "median" in reference ? reference.median : undefined;
  if (isRatio && base === undefined) return "-";
  const value = isRatio && base !== undefined ? subject.median / base : subject.median;
  const isEnough =
    target.kind === "atLeast" || target.kind === "ratioAtLeast"
      ? value >= target.value
      : value <= target.value;
  return isEnough ? "pass" : "fail";
}
