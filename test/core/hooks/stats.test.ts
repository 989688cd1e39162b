import { expect, test } from "vitest";
import { LATENCY_BOUNDS_S } from "../../../core/counters.ts";
import { HookStats } from "../../../core/hooks/stats.ts";

test("a latency falls into the first bucket whose bound it does not reach", () => {
  for (const ms of [0, 0.0001, 0.0003, 0.001, 0.9, 1, 250, 5000]) {
    const stats = new HookStats();
    stats.timed(ms);
    const bucket = stats.latency.counts.indexOf(1);
    expect(ms / 1000, `${ms} ms`).toBeLessThan(LATENCY_BOUNDS_S[bucket] as number);
    if (bucket > 0) {
      expect(ms / 1000).toBeGreaterThanOrEqual(LATENCY_BOUNDS_S[bucket - 1] as number);
    }
    expect(stats.latency.sumMs).toBe(ms);
  }
});

test("whatever takes longer than the last bound is counted in the last bucket", () => {
  const stats = new HookStats();
  for (const ms of [20_000, 1_073_741.824 * 2, 1e9]) stats.timed(ms);
  expect(stats.latency.counts.at(-1)).toBe(3);
  expect(stats.latency.counts.length).toBe(LATENCY_BOUNDS_S.length + 1);
});
