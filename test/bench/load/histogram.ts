// Latencies in buckets about 1.5 % wide, cheap enough to take every message.

const SUB_BUCKETS = 64;
const BUCKETS = SUB_BUCKETS * 28; // up to 2^32 us

/** Quantiles of a histogram, in microseconds. */
export interface Quantiles {
  readonly p50: number;
  readonly p90: number;
  readonly p99: number;
  readonly p999: number;
  readonly max: number;
}

/** Counts of values in microseconds: 64 buckets for each power of two. */
export class Histogram {
  /** Plain numbers, so that a worker can hand them over. */
  readonly counts: Uint32Array = new Uint32Array(BUCKETS);
  total = 0;
  max = 0;

  add(us: number): void {
    const value = Math.max(us, 0);
    this.counts[bucketOf(value)] = (this.counts[bucketOf(value)] ?? 0) + 1;
    this.total++;
    if (value > this.max) this.max = value;
  }

  /** Adds the counts of another histogram, which may have come from a worker. */
  merge(other: {
    readonly counts: Uint32Array;
    readonly total: number;
    readonly max: number;
  }): void {
    for (let i = 0; i < BUCKETS; i++)
      this.counts[i] = (this.counts[i] ?? 0) + (other.counts[i] ?? 0);
    this.total += other.total;
    this.max = Math.max(this.max, other.max);
  }

  quantiles(): Quantiles {
    const [p50, p90, p99, p999] = [0.5, 0.9, 0.99, 0.999].map((q) => this.#at(q));
    return { p50: p50 ?? 0, p90: p90 ?? 0, p99: p99 ?? 0, p999: p999 ?? 0, max: this.max };
  }

  #at(quantile: number): number {
    const wanted = Math.max(1, Math.ceil(quantile * this.total));
    let seen = 0;
    for (let i = 0; i < BUCKETS; i++) {
      seen += this.counts[i] ?? 0;
      if (seen >= wanted) return Math.min(middleOf(i), this.max);
    }
    return this.max;
  }
}

function bucketOf(us: number): number {
  if (us < SUB_BUCKETS) return us;
  const shift = 25 - Math.clz32(us); // leaves 64..127
  return Math.min(BUCKETS - 1, shift * SUB_BUCKETS + (us >>> shift));
}

function middleOf(bucket: number): number {
  if (bucket < SUB_BUCKETS * 2) return bucket;
  const shift = Math.floor(bucket / SUB_BUCKETS) - 1;
  return (bucket - shift * SUB_BUCKETS + 0.5) * 2 ** shift;
}
