import { describe, expect, it } from "vitest";
import { LatencyHistogram } from "../../../core/counters.ts";
import { PublishTimer } from "../../../core/session/publish-timer.ts";

const samples = ({ counts }: LatencyHistogram): number =>
  counts.reduce((sum, count) => sum + count, 0);

describe("the publish timer", () => {
  it("times one publish in 50 ms at most", () => {
    const timer = new PublishTimer(new LatencyHistogram(), 1000);
    expect(timer.isDue(1049)).toBe(false);
    expect(timer.isDue(1050)).toBe(true);
    timer.begin({}, 1050);
    timer.end(1051);
    expect(timer.isDue(1099)).toBe(false);
    expect(timer.isDue(1100)).toBe(true);
  });

  it("counts from the arrival to the end of that publish alone", () => {
    const histogram = new LatencyHistogram();
    const timer = new PublishTimer(histogram, 0);
    const message = {};
    timer.begin(message, 100);
    expect(timer.isTiming({})).toBe(false);
    expect(timer.isTiming(message)).toBe(true);
    timer.end(103.5);
    expect(timer.isTiming(message)).toBe(false);
    expect(histogram.sumMs).toBeCloseTo(3.5);
    expect(samples(histogram)).toBe(1);
  });

  it("waits for a slow one, but not for one that never ends", () => {
    const timer = new PublishTimer(new LatencyHistogram(), 0);
    timer.begin({}, 100);
    expect(timer.isDue(5000)).toBe(false);
    expect(timer.isDue(10_100)).toBe(true);
  });
});
