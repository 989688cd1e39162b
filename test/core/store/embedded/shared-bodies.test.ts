import { beforeEach, describe, expect, it } from "vitest";
import { ENTRY_RELEASED, type StoreEntry } from "../../../../core/store/types.ts";
import { ALL, newQueue, put, remove, textMessage } from "../suite.ts";
import { countKeys, findFaults } from "./inspect.ts";
import { during, newFolder, onlyQueue } from "./world.ts";

/** Messages that wait for several clients are stored once. */

let folder: string;

beforeEach(() => {
  folder = newFolder();
});

describe("shared messages", () => {
  it("are stored once and counted over restarts", async () => {
    const ids = await during(folder, (store) => {
      const queues = [newQueue(store), newQueue(store), newQueue(store)];
      const message = textMessage("shared");
      for (const queue of queues) put(store, queue, message, true);
      return queues.map(({ id }) => id);
    });
    expect(await countKeys(folder)).toEqual({ s: 3, n: 3, e: 3, m: 1 });

    const takeOne = (id: number | undefined) =>
      during(folder, async (store) => {
        for await (const { queue } of store.loadSessions()) {
          if (queue.id !== id) continue;
          const [entry] = await store.readEntries(queue, 1, ALL);
          expect(entry?.message?.payload.toString()).toBe("shared");
          remove(store, queue, entry as StoreEntry);
        }
      });
    await takeOne(ids[0]);
    expect(await countKeys(folder)).toEqual({ s: 3, n: 3, e: 2, m: 1, c: 1 });
    await takeOne(ids[2]);
    expect(await findFaults(folder)).toEqual([]);
    await takeOne(ids[1]);
    expect(await countKeys(folder)).toEqual({ s: 3, n: 3 });
  });

  it("are one object for all that read them after a restart, also at the same time", async () => {
    await during(folder, (store) => {
      const message = textMessage("shared");
      for (let i = 0; i < 3; i++) put(store, newQueue(store), message, true);
    });
    await during(folder, async (store) => {
      const reads: Promise<StoreEntry[]>[] = [];
      for await (const { queue } of store.loadSessions()) {
        reads.push(store.readEntries(queue, 1, ALL));
      }
      const entries = (await Promise.all(reads)).flat();
      expect(new Set(entries.map(({ message }) => message)).size).toBe(1);
      expect(entries[0]?.message?.storeCount).toBe(3);
      expect(store.status().sharedBodies).toBe(1);
      for (const entry of entries) store.forgetEntry(entry);
      expect(store.status().sharedBodies).toBe(0);
    });
  });

  it("leave memory when their entries are forgotten, before or after the write", async () => {
    await during(folder, async (store) => {
      const queue = newQueue(store);
      store.forgetEntry(put(store, queue, textMessage("early"), true));
      expect(store.status().sharedBodies).toBe(1);
      const late = put(store, queue, textMessage("late"), true);
      await store.flush();
      const { message } = late;
      expect(message?.storeRef).toBeGreaterThan(0);
      store.forgetEntry(late);
      expect(message?.storeRef).toBe(0);
      expect(store.status().sharedBodies).toBe(0);
      const found = await store.readEntries(queue, 1, ALL);
      expect(found.map(({ message }) => String(message?.payload))).toEqual(["early", "late"]);
    });
    expect(await findFaults(folder)).toEqual([]);
  });

  it("count out an entry once that was released first and deleted then", async () => {
    await during(folder, async (store) => {
      const [one, two] = [newQueue(store), newQueue(store)];
      const message = textMessage("shared");
      const entry = put(store, one, message, true);
      put(store, two, message, true);
      await store.flush();
      entry.state = ENTRY_RELEASED;
      store.putEntry(one, entry, true);
      await store.flush();
      remove(store, one, entry);
    });
    expect(await findFaults(folder)).toEqual([]);
    expect(await countKeys(folder)).toEqual({ s: 2, n: 2, e: 1, m: 1, c: 1 });
  });

  it("are stored anew when put after their last entry went", async () => {
    await during(folder, async (store) => {
      const queue = newQueue(store);
      const message = textMessage("again");
      for (let i = 0; i < 3; i++) {
        const entry = put(store, queue, message, true);
        await store.flush();
        remove(store, queue, entry);
        if (i === 1) await store.flush();
      }
      put(store, queue, message, true);
    });
    expect(await findFaults(folder)).toEqual([]);
    await during(folder, async (store) => {
      const [entry] = await store.readEntries(await onlyQueue(store), 1, ALL);
      expect(entry?.message?.payload.toString()).toBe("again");
    });
  });

  it("do not mix when a message comes from another store", async () => {
    const message = textMessage("foreign");
    await during(folder, (store) => void put(store, newQueue(store), message, true));
    message.storeRef = 1; // as if that store still had it in memory
    folder = newFolder();
    await during(folder, async (store) => {
      const queue = newQueue(store);
      put(store, queue, textMessage("own"), true);
      put(store, queue, message, true);
      await store.flush();
      const found = await store.readEntries(queue, 1, ALL);
      expect(found.map((entry) => String(entry.message?.payload))).toEqual(["own", "foreign"]);
    });
  });
});
