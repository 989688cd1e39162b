/** Failures in a row after which a hook of a plugin is not called for a while. */
const FAILURES_MAX = 5;
/** Failures further apart are no row. */
const ROW_MS = 60_000;
/** First pause; doubles with every failed probe up to the last. */
const PAUSE_MIN_MS = 1_000;
const PAUSE_MAX_MS = 30_000;

/**
 * Circuit breaker of one plugin's hook: closed (calls go through), open (no calls), half-open (one
 * call is on its way as a probe). Only failures to answer count: exceptions, rejections, timeouts.
 */
export class Breaker {
  /** False while all is well: then nothing else needs to be looked at. */
  isTroubled = false;
  private failures = 0;
  private lastFailureMs = 0;
  /** When the next probe may go, 0 = closed. */
  private retryAtMs = 0;
  private pauseMs = PAUSE_MIN_MS;
  private isProbing = false;
  private readonly nowMs: () => number;

  /** `nowMs` is monotonic. */
  constructor(nowMs: () => number) {
    this.nowMs = nowMs;
  }

  get state(): "closed" | "open" | "half-open" {
    if (this.retryAtMs === 0) return "closed";
    return this.isProbing ? "half-open" : "open";
  }

  /** True when a call may be made now. The first one after a pause is the probe. */
  admits(): boolean {
    if (this.retryAtMs === 0) return true;
    if (this.isProbing || this.nowMs() < this.retryAtMs) return false;
    this.isProbing = true;
    return true;
  }

  succeeded(): void {
    this.isTroubled = false;
    this.failures = 0;
    this.retryAtMs = 0;
    this.pauseMs = PAUSE_MIN_MS;
    this.isProbing = false;
  }

  /** Notes a failure; true when it opened the breaker. */
  failed(): boolean {
    const now = this.nowMs();
    this.isTroubled = true;
    if (this.retryAtMs !== 0) {
      // Late failures of calls made before it opened say nothing new.
      if (!this.isProbing) return false;
      this.isProbing = false;
      this.pauseMs = Math.min(this.pauseMs * 2, PAUSE_MAX_MS);
      this.retryAtMs = now + this.pauseMs;
      return true;
    }
    this.failures = now - this.lastFailureMs > ROW_MS ? 1 : this.failures + 1;
    this.lastFailureMs = now;
    if (this.failures < FAILURES_MAX) return false;
    this.retryAtMs = now + this.pauseMs;
    return true;
  }
}
