import { describe, expect, it } from "vitest";
import { NOT_SCHEDULED, TICK_MS, type Timed, TimerWheel } from "../../core/timers.ts";
import { Random } from "./mqtt/random-packets.ts";

/** One rotation of the wheel. */
const ROTATION_MS = 1024 * TICK_MS;

interface Item extends Timed {
  name: string;
  firedAt: number[];
}

function setUp() {
  const wheel = new TimerWheel();
  const start = wheel.nowMs;
  const fired: string[] = [];
  const item = (name: string, then?: (nowMs: number) => void): Item => ({
    name,
    timerSlot: NOT_SCHEDULED,
    timerAtMs: 0,
    firedAt: [],
    onTimer(nowMs) {
      fired.push(name);
      this.firedAt.push(nowMs - start);
      then?.(nowMs);
    },
  });
  /** To `ms` after the start, in ticks or in one jump. */
  const to = (ms: number): void => wheel.advance(start + ms);
  const walk = (from: number, end: number): void => {
    for (let at = from; at <= end; at += TICK_MS) to(at);
  };
  return { wheel, start, fired, item, to, walk };
}

describe("timing wheel", () => {
  it("fires once, at the deadline or at most one tick later, never earlier", () => {
    const random = new Random(1);
    const { wheel, start, item, walk } = setUp();
    const items = Array.from({ length: 500 }, (_, i) => {
      const one = item(String(i));
      const ms = random.number(0, 3 * ROTATION_MS);
      wheel.schedule(one, start + ms);
      return { one, ms };
    });
    walk(0, 4 * ROTATION_MS);
    for (const { one, ms } of items) {
      expect(one.firedAt).toHaveLength(1);
      const late = (one.firedAt[0] ?? -1) - ms;
      expect(late).toBeGreaterThanOrEqual(0);
      expect(late).toBeLessThanOrEqual(2 * TICK_MS);
      expect(one.timerSlot).toBe(NOT_SCHEDULED);
    }
  });

  it("fires deadlines of different ticks in their order, also after a late wake-up", () => {
    const { wheel, start, item, to, fired } = setUp();
    for (const ms of [400, 100, 300, 200]) wheel.schedule(item(String(ms)), start + ms);
    to(1000);
    expect(fired).toEqual(["100", "200", "300", "400"]);
  });

  it("waits for a deadline beyond one rotation", () => {
    const { wheel, start, item, walk, fired } = setUp();
    wheel.schedule(item("far"), start + 2.5 * ROTATION_MS);
    walk(0, 2.5 * ROTATION_MS - TICK_MS);
    expect(fired).toEqual([]);
    walk(2.5 * ROTATION_MS, 2.5 * ROTATION_MS + 2 * TICK_MS);
    expect(fired).toEqual(["far"]);
  });

  it("moves an item that is scheduled again", () => {
    const { wheel, start, item, to, fired } = setUp();
    const one = item("one");
    wheel.schedule(one, start + 100);
    wheel.schedule(one, start + 500);
    to(400);
    expect(fired).toEqual([]);
    to(600);
    to(2 * ROTATION_MS);
    expect(fired).toEqual(["one"]);
  });

  it("does not fire what was cancelled, also by another item of the same tick", () => {
    const { wheel, start, item, to, fired } = setUp();
    const victim = item("victim");
    wheel.schedule(
      item("canceller", () => wheel.cancel(victim)),
      start + 100,
    );
    wheel.schedule(victim, start + 100);
    const cancelled = item("cancelled");
    wheel.schedule(cancelled, start + 100);
    wheel.cancel(cancelled);
    wheel.cancel(cancelled);
    to(ROTATION_MS * 2);
    expect(fired).toEqual(["canceller"]);
  });

  it("fires a deadline in the past at the next tick", () => {
    const { wheel, start, item, to, fired } = setUp();
    to(1000);
    wheel.schedule(item("past"), start + 10);
    wheel.schedule(item("now"), start + 1000);
    to(1000 + 2 * TICK_MS);
    expect(fired.sort()).toEqual(["now", "past"]);
  });

  it("fires a deadline in the past at the next tick, also when set by an item that fires", () => {
    const { wheel, start, item, to, fired } = setUp();
    const again = item("again");
    wheel.schedule(
      item("first", (nowMs) => wheel.schedule(again, nowMs - 500)),
      start + 900,
    );
    to(1000);
    to(1000 + 3 * TICK_MS);
    expect(fired).toEqual(["first", "again"]);
  });

  it("fires an item that schedules itself at every turn", () => {
    const { wheel, start, item, walk } = setUp();
    const one: Item = item("one", (nowMs) => wheel.schedule(one, nowMs + 1000));
    wheel.schedule(one, start + 1000);
    walk(0, 10_000);
    expect(one.firedAt.length).toBeGreaterThanOrEqual(8);
    expect(one.firedAt.length).toBeLessThanOrEqual(10);
  });

  it("fires everything due, once, after a jump of many rotations", () => {
    const { wheel, start, item, to, fired } = setUp();
    for (let i = 0; i < 300; i++) wheel.schedule(item(String(i)), start + i * 1777);
    wheel.schedule(item("later"), start + 101 * ROTATION_MS);
    to(100 * ROTATION_MS);
    expect(fired).toHaveLength(300);
    to(101 * ROTATION_MS + TICK_MS);
    expect(fired).toHaveLength(301);
  });

  it("does nothing when the clock stands still or goes back", () => {
    const { wheel, start, item, to, fired } = setUp();
    to(1000);
    wheel.schedule(item("one"), start + 1100);
    to(1000);
    to(500);
    expect(fired).toEqual([]);
    to(1200);
    expect(fired).toEqual(["one"]);
  });
});
