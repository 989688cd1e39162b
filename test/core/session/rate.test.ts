import { describe, expect, it } from "vitest";
import { RateLimit } from "../../../core/session/rate.ts";

/** Messages that get through in `ms` when the client sends as fast as it may. */
function passed(rate: number, ms: number): number {
  const limit = new RateLimit(rate, 0);
  let now = 0;
  let count = 0;
  while (now < ms) {
    count++;
    now += limit.take(now);
  }
  return count;
}

describe("message rate", () => {
  it("lets a burst of one second's messages pass, then asks for a pause", () => {
    const limit = new RateLimit(10, 1000);
    const pauses = Array.from({ length: 11 }, () => limit.take(1000));
    expect(pauses.slice(0, 9)).toEqual(Array.from({ length: 9 }, () => 0));
    expect(pauses[10]).toBeGreaterThan(0);
  });

  it.each([1, 3, 10, 1000])("keeps to %i messages a second over a minute", (rate) => {
    const count = passed(rate, 60_000);
    expect(count).toBeLessThanOrEqual(rate * 61 + 1);
    expect(count).toBeGreaterThanOrEqual(rate * 59);
  });

  it("never pauses a client that keeps below the rate", () => {
    const limit = new RateLimit(10, 0);
    for (let now = 0; now < 60_000; now += 101) expect(limit.take(now)).toBe(0);
  });

  it("saves up no more than one second's messages, however long the silence", () => {
    const limit = new RateLimit(5, 0);
    let free = 0;
    while (limit.take(3_600_000) === 0) free++;
    expect(free).toBeLessThanOrEqual(5);
  });

  it("asks for a pause after which the next message may pass", () => {
    const limit = new RateLimit(10, 0);
    for (let i = 0; i < 9; i++) limit.take(0);
    const pause = limit.take(0);
    expect(pause).toBe(100);
    expect(limit.take(pause + 100)).toBe(0);
  });
});
