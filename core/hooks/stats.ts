import { LatencyHistogram } from "../counters.ts";

/** Reading the clock costs as much as a small hook: one synchronous call in 16 is timed. */
export const SAMPLE_MASK = 15;

/**
 * What one plugin's hook did since the broker started: plain numbers, always on. `latency` holds every
 * call that answered with a promise, and one synchronous call in 16.
 */
export class HookStats {
  calls = 0;
  ok = 0;
  /** Accepted with changes. */
  modified = 0;
  next = 0;
  /** Refusals the plugin meant. */
  error = 0;
  /** Answers of a wrong form, or with unknown or bad modifiers; refusals, too. */
  invalid = 0;
  /** Thrown or rejected. */
  failures = 0;
  timeouts = 0;
  /** Not asked because its circuit breaker was open. */
  skipped = 0;
  readonly latency = new LatencyHistogram();

  timed(ms: number): void {
    this.latency.timed(ms);
  }
}
