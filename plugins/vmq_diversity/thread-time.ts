import { readFileSync, readlinkSync } from "node:fs";

/** Clock ticks of Linux's accounting: always 100 a second towards programs (proc(5)). */
const TICK_MS = 10;

/** Where the calling thread's accounts are, for another thread of the process; undefined: not on this system. */
export function ownThread(): string | undefined {
  try {
    return `/proc/${readlinkSync("/proc/thread-self")}/stat`;
  } catch {
    return undefined;
  }
}

/** Milliseconds of processor that a thread has had; undefined: unknown. */
export function threadMs(file: string | undefined): number | undefined {
  if (file === undefined) return undefined;
  try {
    const text = readFileSync(file, "latin1");
    // The name, in brackets, may hold anything; utime and stime are the 14th and 15th field.
    const fields = text.slice(text.lastIndexOf(")") + 2).split(" ");
    return (Number(fields[11]) + Number(fields[12])) * TICK_MS;
  } catch {
    return undefined;
  }
}
