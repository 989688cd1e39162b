/** Slow hashes, a few at a time: the thread pool also serves the store and the file system. */
import { availableParallelism } from "node:os";

/** The pool has four threads; one always stays free for the store, and one core for the broker. */
const RUNNING_MAX = Math.max(1, Math.min(3, availableParallelism() - 1));
/** Each holds a password of up to 64 KB. */
const WAITING_MAX = 1000;
/** A hook call ends after 5 s; what waited so long would be hashed in vain. */
const WAIT_MS_MAX = 4000;

interface Waiting {
  readonly sinceMs: number;
  start(isInTime: boolean): void;
}

/** Runs jobs in the order of their arrival. */
export class HashQueue {
  private running = 0;
  private readonly waiting: Waiting[] = [];
  private readonly now: () => number;

  constructor(now: () => number = () => performance.now()) {
    this.now = now;
  }

  /** The job's result, or `busy` if it could not begin in time. */
  async run<T>(job: () => Promise<T>): Promise<T | "busy"> {
    if (this.running >= RUNNING_MAX) {
      if (this.waiting.length >= WAITING_MAX) return "busy";
      const sinceMs = this.now();
      const isInTime = await new Promise<boolean>((start) => {
        this.waiting.push({ sinceMs, start });
      });
      if (!isInTime) return "busy";
    } else this.running += 1;
    try {
      return await job();
    } finally {
      this.next();
    }
  }

  /** Hands the place of a finished job to the first that still has time. */
  private next(): void {
    for (;;) {
      const first = this.waiting.shift();
      if (first === undefined) {
        this.running -= 1;
        return;
      }
      const isInTime = this.now() - first.sinceMs <= WAIT_MS_MAX;
      first.start(isInTime);
      if (isInTime) return;
    }
  }
}
