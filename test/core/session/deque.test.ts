import { describe, expect, it } from "vitest";
import { Deque } from "../../../core/session/deque.ts";
import { Random } from "../mqtt/random-packets.ts";

describe("deque", () => {
  it("has nothing at either end when it is empty", () => {
    const deque = new Deque<number>();
    expect([deque.front(), deque.back(), deque.popFront(), deque.popBack()]).toEqual([
      undefined,
      undefined,
      undefined,
      undefined,
    ]);
    expect(deque.length).toBe(0);
  });

  it("behaves like an array over random use at both ends", () => {
    const random = new Random(1);
    for (let round = 0; round < 30; round++) {
      const deque = new Deque<number>();
      const model: number[] = [];
      const growth = 0.3 + 0.4 * random.next();
      for (let i = 0; i < 3000; i++) {
        if (random.next() < growth) {
          if (random.bool()) {
            deque.pushBack(i);
            model.push(i);
          } else {
            deque.pushFront(i);
            model.unshift(i);
          }
        } else if (random.bool()) expect(deque.popFront()).toBe(model.shift());
        else expect(deque.popBack()).toBe(model.pop());
        expect(deque.length).toBe(model.length);
        expect(deque.front()).toBe(model[0]);
        expect(deque.back()).toBe(model.at(-1));
        if (i % 500 === 0) expect([...deque]).toEqual(model);
        if (random.next() < 0.002) {
          const keep = (item: number): boolean => item % 3 !== 0;
          deque.filter(keep);
          model.splice(0, model.length, ...model.filter(keep));
          expect([...deque]).toEqual(model);
        }
      }
      expect([...deque]).toEqual(model);
    }
  });

  it("can be used again after it was emptied from a large size and cleared", () => {
    const deque = new Deque<number>();
    for (let i = 0; i < 5000; i++) deque.pushBack(i);
    for (let i = 0; i < 5000; i++) expect(deque.popFront()).toBe(i);
    deque.pushFront(1);
    deque.clear();
    expect(deque.length).toBe(0);
    deque.pushBack(2);
    expect([...deque]).toEqual([2]);
  });
});
