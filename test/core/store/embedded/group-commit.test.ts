import { ClassicLevel } from "classic-level";
import { beforeEach, describe, expect, it } from "vitest";
import type { Level } from "../../../../core/store/embedded/database.ts";
import {
  ENTRY_PUBLISHED,
  STORED_NO,
  STORED_PENDING,
  STORED_YES,
  type StoreQueue,
} from "../../../../core/store/types.ts";
import { subscriptionOf } from "../model.ts";
import { ALL, newQueue, put, remove, seqs, textMessage } from "../suite.ts";
import { countKeys, findFaults } from "./inspect.ts";
import { during, newFolder, onlyQueue, openStore, turn } from "./world.ts";

/** What one turn notes is one batch; what becomes of it when the disk refuses. */

let folder: string;

beforeEach(() => {
  folder = newFolder();
});

describe("group commit", () => {
  it("commits what one turn noted as one batch, in a later turn, and says so in order", async () => {
    await during(folder, async (store) => {
      const commits: number[] = [];
      store.onCommit = (batch) => {
        expect(store.committedBatch).toBe(batch);
        commits.push(batch);
      };
      const queue = newQueue(store);
      const first = store.putSetting("a", "1");
      const entry = put(store, queue, textMessage("x"));
      expect(store.putSetting("b", "1")).toBe(first);
      expect(entry.stored).toBe(STORED_PENDING);
      expect(store.committedBatch).toBeLessThan(first);
      await turn();
      expect(entry.stored).toBe(STORED_YES);
      const second = store.putSetting("c", "1");
      expect(second).toBe(first + 1);
      await store.flush();
      expect(commits).toEqual([first, second]);
      expect(store.committedBatch).toBe(second);
    });
  });

  it("goes on when a listener notes more while it is told", async () => {
    await during(folder, async (store) => {
      const done = new Promise<void>((resolve) => {
        store.onCommit = (batch) => {
          if (batch < 20) store.putSetting("a", String(batch));
          else resolve();
        };
      });
      store.putSetting("a", "0");
      await done;
    });
    await during(folder, async (store) => {
      expect(await store.loadSettings()).toEqual(new Map([["a", "19"]]));
    });
  });

  it("reports an error of the listener and goes on", async () => {
    await during(folder, async (store) => {
      const errors: string[] = [];
      store.onError = (error) => errors.push(error.message);
      store.onCommit = () => {
        throw new Error("listener");
      };
      store.putSetting("a", "0");
      await store.flush();
      store.putSetting("a", "1");
      await store.flush();
      expect(errors).toEqual(["listener", "listener"]);
    });
  });

  it("never writes an entry that was deleted before its batch was written", async () => {
    await during(folder, async (store) => {
      const queues = [newQueue(store), newQueue(store)];
      await store.flush();
      const { writes } = store.status();
      const message = textMessage("x");
      for (const queue of queues) {
        remove(store, queue, put(store, queue, message, true));
        const own = put(store, queue, textMessage("y"));
        expect(remove(store, queue, own)).toBe(store.committedBatch + 1);
        expect(own.stored).toBe(STORED_NO);
      }
      await store.flush();
      expect(store.status().writes).toBe(writes);
      expect(store.status().sharedBodies).toBe(0);
    });
    expect(await countKeys(folder)).toEqual({ s: 2, n: 2 });
  });

  it("writes an entry once, with its newest fields, however often it changed", async () => {
    await during(folder, async (store) => {
      const queue = newQueue(store);
      await store.flush();
      const { writes } = store.status();
      const entry = put(store, queue, textMessage("x"));
      for (const packetId of [1, 2, 3]) {
        entry.state = ENTRY_PUBLISHED;
        entry.packetId = packetId;
        store.putEntry(queue, entry, false);
      }
      entry.packetId = 4; // also what changes until the write
      await store.flush();
      expect(store.status().writes - writes).toBe(2); // entry and counters
      for (const packetId of [5, 6]) {
        entry.packetId = packetId;
        store.putEntry(queue, entry, false);
      }
      await store.flush();
      expect(store.status().writes - writes).toBe(4);
    });
    await during(folder, async (store) => {
      const [entry] = await store.readEntries(await onlyQueue(store), 1, ALL);
      expect(entry).toMatchObject({ packetId: 6, state: ENTRY_PUBLISHED });
    });
  });

  it("writes the counters of a queue once per batch and only when its entries changed", async () => {
    await during(folder, async (store) => {
      const queue = newQueue(store);
      await store.flush();
      const { writes } = store.status();
      for (let i = 0; i < 10; i++) put(store, queue, textMessage("x"));
      await store.flush();
      expect(store.status().writes - writes).toBe(11);
      store.putSubscription(queue.id, subscriptionOf("a", 1));
      await store.flush();
      expect(store.status().writes - writes).toBe(12);
    });
    await during(folder, async (store) => {
      expect(await onlyQueue(store)).toMatchObject({ storedCount: 10, nextSeq: 11 });
    });
  });

  it("tells how many bytes wait, shared payloads once", async () => {
    await during(folder, async (store) => {
      const queues = Array.from({ length: 20 }, () => newQueue(store));
      await store.flush();
      expect(store.status().pendingBytes).toBe(0);
      const message = textMessage("x".repeat(10_000));
      for (const queue of queues) put(store, queue, message, true);
      expect(store.status().pendingBytes).toBeGreaterThan(10_000);
      expect(store.status().pendingBytes).toBeLessThan(20_000);
      put(store, queues[0] as StoreQueue, textMessage("y".repeat(10_000)));
      expect(store.status().pendingBytes).toBeGreaterThan(20_000);
      await turn();
      expect(store.status().pendingBytes).toBeGreaterThan(20_000); // being written
      await store.flush();
      expect(store.status().pendingBytes).toBe(0);
    });
  });

  it("refuses changes when it is closed", async () => {
    const store = await openStore({ folder });
    await store.close();
    expect(() => store.putSetting("a", "b")).toThrow(
      expect.objectContaining({ code: "STORE_CLOSED" }),
    );
    await store.close(); // harmless
  });

  it("writes what is open when it is closed", async () => {
    await during(folder, (store) => void store.putSetting("last", "words"));
    const settings = await during(folder, (store) => store.loadSettings());
    expect(settings.get("last")).toBe("words");
  });
});

describe("when the disk refuses", () => {
  /** A real database whose next writes fail. */
  function failing(plan: { failures: number; opened: number }): (path: string) => Level {
    return (path) => {
      const level: Level = new ClassicLevel<Buffer, Buffer>(path, {
        keyEncoding: "buffer",
        valueEncoding: "buffer",
      });
      level.on("open", () => plan.opened++);
      const begin = level.batch.bind(level) as () => ReturnType<Level["batch"]>;
      const batch = () => {
        const chained = begin();
        if (plan.failures > 0) {
          plan.failures--;
          chained.write = async () => {
            await chained.close();
            throw new Error("No space left on device");
          };
        }
        return chained;
      };
      level.batch = batch as Level["batch"];
      return level;
    };
  }

  it("acknowledges nothing, tries again with growing waits, then commits in order", async () => {
    const plan = { failures: 0, opened: 0 };
    const waits: number[] = [];
    const wait = async (ms: number) => void waits.push(ms);
    await during(
      folder,
      async (store) => {
        const events: unknown[] = [];
        store.onCommit = (batch) => events.push(batch);
        store.onError = (error) => {
          events.push("error");
          expect(error).toMatchObject({ code: "STORE_WRITE" });
          expect(error.message).toContain(folder);
          expect(error.message).toContain("No space left");
        };
        const queue = newQueue(store);
        await store.flush();
        const [before] = events;
        events.length = 0;
        plan.failures = 8;
        const opened = plan.opened;
        const entry = put(store, queue, textMessage("kept"));
        await store.flush();
        expect(events).toEqual([...Array(8).fill("error"), Number(before) + 1]);
        expect(waits).toEqual([100, 200, 400, 800, 1600, 3200, 5000, 5000]);
        // LevelDB refuses all writes after one that failed, until it is opened again.
        expect(plan.opened - opened).toBe(8);
        expect(entry.stored).toBe(STORED_YES);
      },
      { createLevel: failing(plan), wait },
    );
    await during(folder, async (store) => {
      expect(await seqs(store, await onlyQueue(store))).toEqual([1]);
    });
  });

  it("keeps collecting, and writes each entry in its state at the end", async () => {
    const plan = { failures: 0, opened: 0 };
    let release = () => {};
    const wait = () =>
      new Promise<void>((resolve) => {
        release = resolve;
      });
    await during(
      folder,
      async (store) => {
        const failed = () =>
          new Promise<void>((resolve) => {
            store.onError = () => resolve();
          });
        const [queue, other] = [newQueue(store), newQueue(store)];
        put(store, other, textMessage("read me"));
        await store.flush();
        plan.failures = 1;
        const whenFailed = failed();
        const gone = put(store, queue, textMessage("gone"));
        const kept = put(store, queue, textMessage("kept"));
        await whenFailed;
        remove(store, queue, gone);
        kept.packetId = 12;
        store.putEntry(queue, kept, false);
        // Other queues can still be read.
        expect(await seqs(store, other)).toEqual([1]);
        expect(store.status().pendingBytes).toBeGreaterThan(0);
        release();
        await store.flush();
        const found = await store.readEntries(queue, 1, ALL);
        expect(found).toHaveLength(1);
        expect(found[0]).toMatchObject({ seq: kept.seq, packetId: 12 });
      },
      { createLevel: failing(plan), wait },
    );
    expect(await findFaults(folder)).toEqual([]);
  });

  it("gives up when it is closed, says so, and lets the folder go", async () => {
    const plan = { failures: 0, opened: 0 };
    const createLevel = failing(plan);
    const store = await openStore({ folder, createLevel, wait: async () => {} });
    plan.failures = Number.POSITIVE_INFINITY;
    store.putSetting("a", "lost");
    await expect(store.close()).rejects.toMatchObject({ code: "STORE_WRITE" });
    const settings = await during(folder, (again) => again.loadSettings());
    expect(settings.size).toBe(0);
  });
});
