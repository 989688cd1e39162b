import { describe, expect, test } from "vitest";
import { Breaker } from "../../../core/hooks/breaker.ts";

function breaker() {
  const clock = { nowMs: 0 };
  const made = new Breaker(() => clock.nowMs);
  /** Fails as often, returns whether the last one opened it. */
  const fail = (times = 1): boolean => {
    let opened = false;
    for (let i = 0; i < times; i++) opened = made.failed();
    return opened;
  };
  return { clock, made, fail };
}

describe("Breaker", () => {
  test("is closed until the fifth failure in a row", () => {
    const { made, fail } = breaker();
    expect(fail(4)).toBe(false);
    expect([made.state, made.admits()]).toEqual(["closed", true]);
    expect(fail()).toBe(true);
    expect([made.state, made.admits()]).toEqual(["open", false]);
  });

  test("a success in between starts the row anew", () => {
    const { made, fail } = breaker();
    fail(4);
    made.succeeded();
    expect(made.isTroubled).toBe(false);
    expect(fail(4)).toBe(false);
    expect(made.state).toBe("closed");
  });

  test("failures more than a minute apart are no row", () => {
    const { clock, made, fail } = breaker();
    for (let i = 0; i < 20; i++) {
      clock.nowMs += 60_001;
      fail();
    }
    expect(made.state).toBe("closed");
  });

  test("lets one probe through after the pause; everybody else waits for its outcome", () => {
    const { clock, made, fail } = breaker();
    fail(5);
    clock.nowMs = 1000;
    expect(made.admits()).toBe(true);
    expect([made.state, made.admits()]).toEqual(["half-open", false]);
    made.succeeded();
    expect([made.state, made.admits(), made.isTroubled]).toEqual(["closed", true, false]);
  });

  test("each failed probe doubles the pause, up to 30 s; a success makes it 1 s again", () => {
    const { clock, made, fail } = breaker();
    fail(5);
    for (const pauseMs of [1, 2, 4, 8, 16, 30, 30].map((s) => s * 1000)) {
      clock.nowMs += pauseMs - 1;
      expect(made.admits()).toBe(false);
      clock.nowMs += 1;
      expect(made.admits(), `after ${pauseMs}`).toBe(true);
      expect(fail()).toBe(true);
    }
    clock.nowMs += 30_000;
    made.admits();
    made.succeeded();
    fail(5);
    clock.nowMs += 1000;
    expect(made.admits()).toBe(true);
  });

  test("late failures of calls from before it opened do not make the pause longer", () => {
    const { clock, made, fail } = breaker();
    fail(5);
    clock.nowMs = 900;
    expect(fail(10)).toBe(false);
    clock.nowMs = 1000;
    expect(made.admits()).toBe(true);
  });
});
