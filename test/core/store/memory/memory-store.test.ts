import { describe, expect, it } from "vitest";
import { MemoryStore } from "../../../../core/store/memory/memory-store.ts";
import { SeqList } from "../../../../core/store/memory/seq-list.ts";
import { seededRandom } from "../model.ts";
import { describeStore, newQueue, put, textMessage } from "../suite.ts";

describeStore("memory", () => new MemoryStore());

describe("memory store", () => {
  it("counts every change as committed at once", () => {
    const store = new MemoryStore();
    const queue = newQueue(store);
    const entry = put(store, queue, textMessage("x"));
    expect(store.durable).toBe(false);
    expect(store.putEntry(queue, entry, false)).toBeLessThanOrEqual(store.committedBatch);
    expect(store.deleteEntry(queue, entry)).toBeLessThanOrEqual(store.committedBatch);
  });
});

describe("sequence list", () => {
  it("stays sorted whatever is added and deleted, in both directions", () => {
    const random = seededRandom(7);
    const list = new SeqList();
    const model = new Set<number>();
    for (let i = 0; i < 5000; i++) {
      const seq = 1 + random(400);
      if (model.delete(seq)) list.delete(seq);
      else {
        model.add(seq);
        list.add(seq);
      }
      if (i % 50 !== 0) continue;
      const from = random(420);
      const sorted = [...model].sort((a, b) => a - b);
      expect([...list.from(from, false)]).toEqual(sorted.filter((one) => one >= from));
      expect([...list.from(from, true)]).toEqual(sorted.filter((one) => one <= from).reverse());
    }
  });
});
