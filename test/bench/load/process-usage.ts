// CPU time and memory of a process, from /proc.
import { readFileSync } from "node:fs";

/** CPU seconds used so far and resident memory. */
export interface Usage {
  readonly cpuS: number;
  readonly rssKb: number;
}

/** USER_HZ: what Linux tells user space about on every architecture Node runs on. */
const TICKS_PER_SECOND = 100;
const PAGE_KB = 4;

/** Figures of a process; zeros for pid 0 or where there is no /proc. */
export function processUsage(pid: number): Usage {
  if (pid === 0) return { cpuS: 0, rssKb: 0 };
  return { cpuS: cpuSeconds(pid), rssKb: residentKb(pid) };
}

function cpuSeconds(pid: number): number {
  const stat = readProc(pid, "stat");
  // the name in brackets may hold spaces: fields count from the last bracket
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return (Number(fields[11] ?? 0) + Number(fields[12] ?? 0)) / TICKS_PER_SECOND;
}

function residentKb(pid: number): number {
  // exact, where it may be read; statm lags by some pages per core
  const rollup = /Rss:\s+(\d+)/.exec(readProc(pid, "smaps_rollup"));
  if (rollup) return Number(rollup[1]);
  return Number(readProc(pid, "statm").split(" ")[1] ?? 0) * PAGE_KB;
}

function readProc(pid: number, file: string): string {
  try {
    return readFileSync(`/proc/${pid}/${file}`, "utf8");
  } catch {
    return ""; // gone, or not Linux: the figures read as zero
  }
}
