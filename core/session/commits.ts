import type { Store } from "../store/types.ts";

/** Someone with answers that wait for the store. */
export interface CommitWaiter {
  /** Sends what is durable now; returns true while something still waits. */
  onCommitted(batch: number): boolean;
}

/** Wakes sessions whose answers wait for a group commit. */
export class Commits {
  private waiting: CommitWaiter[] = [];
  private actions: { batch: number; run: () => void }[] = [];
  private readonly store: Store;

  constructor(store: Store) {
    this.store = store;
    store.onCommit = (batch) => this.committed(batch);
  }

  isDurable(batch: number): boolean {
    return batch <= this.store.committedBatch;
  }

  /** Called once by a waiter when its list of deferred answers becomes non-empty. */
  add(waiter: CommitWaiter): void {
    this.waiting.push(waiter);
  }

  /** Runs an action when a batch is durable; at once when it already is. */
  when(batch: number, run: () => void): void {
    if (this.isDurable(batch)) run();
    else this.actions.push({ batch, run });
  }

  private committed(batch: number): void {
    const waiting = this.waiting;
    this.waiting = [];
    for (const waiter of waiting) if (waiter.onCommitted(batch)) this.waiting.push(waiter);
    if (this.actions.length === 0) return;
    const actions = this.actions;
    this.actions = [];
    for (const action of actions) {
      if (action.batch <= batch) action.run();
      else this.actions.push(action);
    }
  }
}
