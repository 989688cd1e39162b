import { describe, expect, it } from "vitest";
import { Delivery } from "../../../core/session/delivery.ts";
import { Inflight, PACKET_ID_MAX } from "../../../core/session/inflight.ts";
import { Random } from "../mqtt/random-packets.ts";

function delivery(packetId: number, seq = packetId): Delivery {
  const made = new Delivery(seq, undefined, 1, false, undefined);
  made.packetId = packetId;
  return made;
}

const next = (id: number): number => (id === PACKET_ID_MAX ? 1 : id + 1);

describe("in-flight window", () => {
  it("finds a delivery by its packet id until it is removed", () => {
    const window = new Inflight();
    const one = delivery(5);
    window.add(one);
    expect(window.get(5)).toBe(one);
    // 1 and 9 share its place in the ring.
    expect(window.get(1)).toBeUndefined();
    expect(window.remove(9)).toBeUndefined();
    expect(window.count).toBe(1);
    expect(window.remove(5)).toBe(one);
    expect(window.get(5)).toBeUndefined();
    expect(window.remove(5)).toBeUndefined();
    expect(window.count).toBe(0);
  });

  it("makes room when two ids fall on the same place", () => {
    const window = new Inflight();
    const ids = [1, 5, 9, 1025, 32_769, 65_535];
    for (const id of ids) window.add(delivery(id));
    expect(ids.map((id) => window.get(id)?.packetId)).toEqual(ids);
    expect(window.count).toBe(6);
  });

  it("gives the next free id, over the end of the range, and never one in flight", () => {
    const window = new Inflight();
    for (const id of [65_533, 65_534, 65_535, 1, 2, 4]) window.add(delivery(id));
    expect(window.freeId(65_532)).toBe(65_532);
    expect(window.freeId(65_533)).toBe(3);
    expect(window.freeId(4)).toBe(5);
  });

  it("holds every id there is, then has none", () => {
    const window = new Inflight();
    let id = 40_000;
    for (let i = 0; i < PACKET_ID_MAX; i++) {
      id = window.freeId(id);
      window.add(delivery(id, i));
      id = next(id);
    }
    expect(window.count).toBe(PACKET_ID_MAX);
    expect(window.get(0)).toBeUndefined();
    expect(window.freeId(1)).toBe(0);
    window.remove(777);
    expect(window.freeId(1000)).toBe(777);
  });

  it("gives everything in the order in which it was queued, not of its ids", () => {
    const window = new Inflight();
    window.add(delivery(65_535, 1));
    window.add(delivery(1, 2));
    window.add(delivery(3, 10));
    window.add(delivery(2, 4));
    expect(window.ordered().map(({ seq }) => seq)).toEqual([1, 2, 4, 10]);
  });

  it("is empty after clear", () => {
    const window = new Inflight();
    for (let id = 1; id < 100; id++) window.add(delivery(id));
    window.clear();
    expect(window.count).toBe(0);
    expect(window.ordered()).toEqual([]);
    expect(window.get(50)).toBeUndefined();
  });

  it("behaves like a map over random use", () => {
    const random = new Random(3);
    for (let round = 0; round < 20; round++) {
      const window = new Inflight();
      const model = new Map<number, Delivery>();
      let id = random.int(65_000, 65_535);
      for (let seq = 1; seq < 2000; seq++) {
        if (model.size < 300 && random.next() < 0.55) {
          id = window.freeId(id);
          expect(model.has(id)).toBe(false);
          const made = delivery(id, seq);
          window.add(made);
          model.set(id, made);
          id = next(id);
        } else if (model.size > 0) {
          const chosen = random.pick([...model.keys()]);
          expect(window.remove(chosen)).toBe(model.get(chosen));
          model.delete(chosen);
        }
        expect(window.count).toBe(model.size);
      }
      for (const [known, made] of model) expect(window.get(known)).toBe(made);
      const bySeq = [...model.values()].sort((a, b) => a.seq - b.seq);
      expect(window.ordered()).toEqual(bySeq);
    }
  });
});
