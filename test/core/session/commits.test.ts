import { describe, expect, it } from "vitest";
import { Commits } from "../../../core/session/commits.ts";
import { MemoryStore } from "../../../core/store/memory/memory-store.ts";

/** A store whose batches the test commits. */
function slowStore(): { store: MemoryStore; commit(batch: number): void } {
  const store = new MemoryStore();
  const commit = (batch: number): void => {
    Object.assign(store, { committedBatch: batch });
    store.onCommit?.(batch);
  };
  return { store, commit };
}

describe("commits", () => {
  it("runs an action at once when its batch is durable, else with the commit that holds it", () => {
    const { store, commit } = slowStore();
    const commits = new Commits(store);
    const ran: number[] = [];
    for (const batch of [0, 2, 1, 3]) commits.when(batch, () => ran.push(batch));
    expect(ran).toEqual([0]);
    commit(1);
    expect(ran).toEqual([0, 1]);
    commit(3);
    expect(ran).toEqual([0, 1, 2, 3]);
    expect(commits.isDurable(3)).toBe(true);
    expect(commits.isDurable(4)).toBe(false);
  });

  it("wakes a waiter with every commit until it waits for nothing", () => {
    const { store, commit } = slowStore();
    const commits = new Commits(store);
    const seen: number[] = [];
    commits.add({
      onCommitted: (batch) => {
        seen.push(batch);
        return batch < 2;
      },
    });
    for (const batch of [1, 2, 3]) commit(batch);
    expect(seen).toEqual([1, 2]);
  });

  it("keeps actions and waiters that are added during a commit", () => {
    const { store, commit } = slowStore();
    const commits = new Commits(store);
    const ran: string[] = [];
    commits.when(1, () => {
      commits.when(2, () => ran.push("second"));
      commits.add({ onCommitted: (batch) => ran.push(`waiter ${batch}`) < 0 });
      ran.push("first");
    });
    commit(1);
    expect(ran).toEqual(["first"]);
    commit(2);
    expect(ran.sort()).toEqual(["first", "second", "waiter 2"]);
  });
});
