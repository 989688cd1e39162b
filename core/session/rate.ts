/**
 * `max_message_rate`: a token bucket per session. Differs from VerneMQ, which samples with a timer and
 * lets bursts pass for seconds.
 */
export class RateLimit {
  private readonly perMs: number;
  private readonly capacity: number;
  private tokens: number;
  private lastMs: number;

  /** `rate` in messages per second, at least 1. */
  constructor(rate: number, nowMs: number) {
    this.perMs = rate / 1000;
    this.capacity = Math.max(1, rate);
    this.tokens = this.capacity;
    this.lastMs = nowMs;
  }

  /** Takes one message; returns how many ms the client must be paused, 0 = not at all. */
  take(nowMs: number): number {
    this.tokens = Math.min(this.capacity, this.tokens + (nowMs - this.lastMs) * this.perMs);
    this.lastMs = nowMs;
    this.tokens -= 1;
    return this.tokens > 0 ? 0 : Math.ceil((1 - this.tokens) / this.perMs);
  }
}
