const FIRST_MS = 500;

/** When to try again: soon at first, then twice as long, up to `restart_timeout`; never all bridges at once. */
export class Backoff {
  readonly maxMs: number;
  private readonly random: () => number;
  private nextMs = FIRST_MS;

  constructor(maxMs: number, random: () => number = Math.random) {
    this.maxMs = maxMs;
    this.random = random;
  }

  /** After a failure that may be gone soon. */
  next(): number {
    const delayMs = Math.min(this.nextMs, this.maxMs);
    this.nextMs = Math.min(this.nextMs * 2, this.maxMs);
    return delayMs * (0.5 + this.random() / 2);
  }

  /** After a refusal that will not change by itself. */
  slow(): number {
    return this.maxMs * (1 + this.random() / 5);
  }

  reset(): void {
    this.nextMs = FIRST_MS;
  }
}
