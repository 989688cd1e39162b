// One clock for all threads of a run.

/** Monotonic time in milliseconds; the same in every thread of this machine. */
export function nowMs(): number {
  const [seconds, nanoseconds] = process.hrtime();
  return seconds * 1e3 + nanoseconds / 1e6;
}

const cell = new Int32Array(new SharedArrayBuffer(4));

/** Blocks this thread. Timers of the event loop are too coarse for naps below a millisecond. */
export function napMs(ms: number): void {
  Atomics.wait(cell, 0, 0, ms);
}

/** Resolves after some milliseconds. */
export function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
