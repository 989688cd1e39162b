/** Buckets of the latency histogram: the first ends at 0.25 µs, each next one at twice as much. */
const BUCKETS = 27;
const TICKS_PER_MS = 4000;
const TICKS_MAX = 2 ** (BUCKETS - 1);

/** Upper ends of the buckets but the last, which has none; seconds. */
export const LATENCY_BOUNDS_S: readonly number[] = Array.from(
  { length: BUCKETS - 1 },
  (_, i) => (2 ** i * 0.25) / 1e6,
);

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
  readonly latency = new Uint32Array(BUCKETS);
  /** Of the timed calls. */
  latencySumMs = 0;

  timed(ms: number): void {
    this.latencySumMs += ms;
    const ticks = ms * TICKS_PER_MS;
    const at = ticks < TICKS_MAX ? 32 - Math.clz32(ticks) : BUCKETS - 1;
    (this.latency[at] as number)++;
  }
}
