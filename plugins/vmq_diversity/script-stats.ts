import type { CallEnd } from "./host.ts";

/** Buckets per doubling of the time, from 1 µs on: a quantile is right to 19 %. */
const PER_DOUBLING = 4;
const BUCKETS = 27 * PER_DOUBLING;

/** What the calls of one hook of one script did; times include waiting for a state. */
export class HookTimes {
  calls = 0;
  errors = 0;
  timeouts = 0;
  killed = 0;
  /** Refused because too many waited. */
  busy = 0;
  private sumMs = 0;
  private readonly buckets = new Uint32Array(BUCKETS);

  add({ ms, kind }: CallEnd): void {
    this.calls++;
    if (kind === "busy") {
      this.busy++;
      return;
    }
    if (kind === "error") this.errors++;
    else if (kind === "timeout") this.timeouts++;
    else if (kind === "killed") this.killed++;
    this.sumMs += ms;
    const at = Math.floor(Math.log2(Math.max(ms * 1000, 1)) * PER_DOUBLING);
    (this.buckets[Math.min(at, BUCKETS - 1)] as number)++;
  }

  get failures(): number {
    return this.errors + this.timeouts + this.killed + this.busy;
  }

  private get timed(): number {
    return this.calls - this.busy;
  }

  /** Microseconds. */
  get meanUs(): number {
    return this.timed === 0 ? 0 : (this.sumMs * 1000) / this.timed;
  }

  /** Microseconds; the upper end of the bucket that holds the quantile. */
  quantileUs(part: number): number {
    let left = this.timed * part;
    if (left === 0) return 0;
    for (let i = 0; i < BUCKETS; i++) {
      left -= this.buckets[i] as number;
      if (left <= 0) return 2 ** ((i + 1) / PER_DOUBLING);
    }
    return 2 ** (BUCKETS / PER_DOUBLING);
  }
}
