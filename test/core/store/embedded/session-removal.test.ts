import { beforeEach, describe, expect, it } from "vitest";
import * as keys from "../../../../core/store/embedded/keys.ts";
import { STORED_NO } from "../../../../core/store/types.ts";
import { subscriptionOf } from "../model.ts";
import { newQueue, put, seqs, textMessage } from "../suite.ts";
import { countKeys, findFaults, withLevel } from "./inspect.ts";
import { during, newFolder, openStore } from "./world.ts";

/** Sessions that are removed take their messages with them. */

let folder: string;

beforeEach(() => {
  folder = newFolder();
});

describe("removed sessions", () => {
  it("lose queues of any length in the background, shared messages by count", async () => {
    await during(folder, async (store) => {
      const [gone, kept] = [newQueue(store), newQueue(store)];
      for (let i = 0; i < 4000; i++) {
        const message = textMessage(`shared ${i}`);
        const entry = put(store, gone, message, i % 2 === 0);
        if (i % 40 === 0) put(store, kept, message, true);
        store.putSubscription(gone.id, subscriptionOf(`f/${i}`, 1));
        if (i % 3 === 0) store.forgetEntry(entry);
      }
      await store.flush();
      const pending = put(store, gone, textMessage("never written"));
      store.deleteSession(gone.id);
      expect(store.status().removals).toBe(1);
      expect(await seqs(store, gone)).toEqual([]);
      await store.removalsDone();
      expect(pending.stored).toBe(STORED_NO);
      expect(store.status().removals).toBe(0);
      expect(await seqs(store, kept)).toHaveLength(100);
    });
    expect(await findFaults(folder)).toEqual([]);
    expect(await countKeys(folder)).toEqual({ s: 1, n: 1, e: 100, m: 100, c: 100 });
  });

  it("are removed to the end after a crash in between", async () => {
    const goneId = await during(folder, (store) => {
      const [gone, kept] = [newQueue(store), newQueue(store)];
      for (let i = 0; i < 1200; i++) {
        const message = textMessage(`${i}`);
        for (const queue of [gone, kept]) put(store, queue, message, true);
        store.putInboundId(gone.id, i);
      }
      store.putSubscription(gone.id, subscriptionOf("a", 1));
      return gone.id;
    });
    // What the first batch of a removal leaves behind.
    await withLevel(folder, async (level) => {
      await level.put(keys.numberKey(keys.REMOVAL, goneId), Buffer.alloc(0));
      await level.del(keys.numberKey(keys.SESSION, goneId));
      await level.del(keys.numberKey(keys.COUNTERS, goneId));
    });
    await during(folder, async (store) => {
      const loaded = [];
      for await (const one of store.loadSessions()) loaded.push(one);
      expect(loaded).toHaveLength(1);
      expect(loaded[0]).toMatchObject({ subscriptions: [], inboundIds: [] });
      expect(store.newQueueId()).toBeGreaterThan(goneId);
      await store.removalsDone();
    });
    expect(await findFaults(folder)).toEqual([]);
    expect(await countKeys(folder)).toEqual({ s: 1, n: 1, e: 1200, m: 1200, c: 1200 });
  });

  it("go in the first batch, however much is left to delete", async () => {
    const store = await openStore({ folder });
    const queue = newQueue(store);
    for (let i = 0; i < 2000; i++) put(store, queue, textMessage("x"));
    await store.flush();
    store.deleteSession(queue.id);
    await store.close(); // stops the removal where it is
    const counts = await countKeys(folder);
    expect(counts.s).toBeUndefined();
    expect(counts.d).toBe(1);
    await during(folder, (again) => again.removalsDone());
    expect(await countKeys(folder)).toEqual({});
  });
});
