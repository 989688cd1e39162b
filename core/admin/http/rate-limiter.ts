/** Addresses remembered at a time; beyond it the one that asked first is forgotten. */
const ADDRESSES_MAX = 10_000;

interface Bucket {
  tokens: number;
  lastMs: number;
}

/** A token bucket per address: `perS` a second, and as many at once. */
export class RateLimiter {
  private readonly perS: number;
  private readonly now: () => number;
  private readonly buckets = new Map<string, Bucket>();

  constructor(perS: number, now: () => number = () => performance.now()) {
    this.perS = perS;
    this.now = now;
  }

  /** Takes one; false = there was none left. */
  take(address: string): boolean {
    const bucket = this.bucketOf(address);
    if (bucket.tokens < 1) return false;
    bucket.tokens -= 1;
    return true;
  }

  /** True while `take` would succeed. */
  has(address: string): boolean {
    return this.bucketOf(address).tokens >= 1;
  }

  private bucketOf(address: string): Bucket {
    const nowMs = this.now();
    let bucket = this.buckets.get(address);
    if (bucket === undefined) {
      bucket = { tokens: this.perS, lastMs: nowMs };
      if (this.buckets.size >= ADDRESSES_MAX) {
        const [oldest] = this.buckets.keys();
        this.buckets.delete(oldest as string);
      }
      this.buckets.set(address, bucket);
    }
    const earned = ((nowMs - bucket.lastMs) / 1000) * this.perS;
    bucket.tokens = Math.min(this.perS, bucket.tokens + earned);
    bucket.lastMs = nowMs;
    return bucket;
  }
}
