import { readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { errorMessage, NautilusError } from "../errors.ts";
import { makeFolder } from "../folder.ts";

/** Linux counts process times in hundredths of a second (USER_HZ), on every architecture. */
const MS_PER_TICK = 10;
/** Clocks of the file system and of the kernel may differ by this much. */
const CLOCK_SLACK_MS = 2000;

/** `<data-dir>/vernemq.pid`. */
export function pidFilePath(dataDir: string): string {
  return join(resolve(dataDir), "vernemq.pid");
}

/**
 * Takes a data directory for this process and creates it if need be. Throws DATA_DIR_IN_USE while
 * another broker holds it. (Two brokers that find the same stale file at the same moment are told
 * apart by the lock of the store.)
 */
export function claimDataDir(dataDir: string): { release(): void } {
  const dir = resolve(dataDir);
  const path = pidFilePath(dir);
  try {
    makeFolder(dir, 0o750);
    const pid = runningPid(dir);
    if (pid !== undefined) throw new NautilusError("DATA_DIR_IN_USE", { dir, pid });
    rmSync(path, { force: true });
    writeFileSync(path, `${process.pid}\n`, { flag: "wx" });
  } catch (error) {
    if (error instanceof NautilusError) throw error;
    const reason = errorMessage(error);
    throw new NautilusError("DATA_DIR_UNUSABLE", { dir, reason }, error);
  }
  return {
    release: () => {
      if (readPid(path) === process.pid) rmSync(path, { force: true });
    },
  };
}

/** The process that holds a data directory, or undefined. */
export function runningPid(dataDir: string): number | undefined {
  const path = pidFilePath(dataDir);
  const pid = readPid(path);
  // Our own number in the file is that of an earlier life: in a container it is always 1.
  if (pid === undefined || pid === process.pid || !isAlive(pid)) return undefined;
  const startedMs = processStartMs(pid);
  const writtenMs = statSync(path, { throwIfNoEntry: false })?.mtimeMs;
  if (startedMs === undefined || writtenMs === undefined) return pid;
  // A process that began after the file was written only inherited the number.
  return startedMs > writtenMs + CLOCK_SLACK_MS ? undefined : pid;
}

/** False for a process that ended, also while nobody has fetched its exit code. */
export function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
  } catch (error) {
    // EPERM: it is there, but belongs to another user.
    return error instanceof Error && "code" in error && error.code === "EPERM";
  }
  return processStat(pid)?.[0] !== "Z";
}

function readPid(path: string): number | undefined {
  const text = readText(path)?.trim() ?? "";
  return /^[1-9]\d{0,9}$/.test(text) ? Number(text) : undefined;
}

/** The fields of /proc/<pid>/stat after the name; undefined where there is no such file. */
function processStat(pid: number): string[] | undefined {
  const text = readText(`/proc/${pid}/stat`);
  // The name is in parentheses and may hold any character.
  return text?.slice(text.lastIndexOf(")") + 2).split(" ");
}

function processStartMs(pid: number): number | undefined {
  // proc(5): starttime is field 22, the first after the name is field 3.
  const ticks = Number(processStat(pid)?.[19] ?? Number.NaN);
  const bootS = Number(/^btime (\d+)$/m.exec(readText("/proc/stat") ?? "")?.[1] ?? Number.NaN);
  const startMs = bootS * 1000 + ticks * MS_PER_TICK;
  return Number.isFinite(startMs) ? startMs : undefined;
}

function readText(path: string): string | undefined {
  try {
    return readFileSync(path, "utf8");
  } catch {
    // No such file: the caller treats it as nothing known.
    return undefined;
  }
}
