import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ClassicLevel } from "classic-level";
import { afterAll, beforeEach, describe, expect, it } from "vitest";
import type { Level } from "../../../../core/store/embedded/database.ts";
import {
  EmbeddedStore,
  type EmbeddedStoreOptions,
} from "../../../../core/store/embedded/embedded-store.ts";
import * as keys from "../../../../core/store/embedded/keys.ts";
import {
  ENTRY_PUBLISHED,
  ENTRY_RELEASED,
  STORED_NO,
  STORED_PENDING,
  STORED_YES,
  type StoreEntry,
  type StoreQueue,
} from "../../../../core/store/types.ts";
import {
  Driver,
  emptyState,
  readState,
  seededRandom,
  sessionOf,
  subscriptionOf,
} from "../model.ts";
import { ALL, describeStore, newQueue, put, remove, seqs, textMessage } from "../suite.ts";
import { countKeys, findFaults, withLevel } from "./inspect.ts";

const root = mkdtempSync(join(tmpdir(), "nautilus-store-"));
let folders = 0;
const newFolder = () => join(root, String(++folders));

afterAll(() => rmSync(root, { recursive: true, force: true }));

describeStore("embedded", () => new EmbeddedStore({ folder: newFolder() }));

async function openStore(options: EmbeddedStoreOptions): Promise<EmbeddedStore> {
  const store = new EmbeddedStore(options);
  await store.open();
  return store;
}

function turn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

describe("embedded store", () => {
  let folder: string;

  beforeEach(() => {
    folder = newFolder();
  });

  /** Opens, works, closes: everything is on disk afterwards. */
  async function during<Result>(
    work: (store: EmbeddedStore) => Promise<Result> | Result,
    options: Partial<EmbeddedStoreOptions> = {},
  ): Promise<Result> {
    const store = await openStore({ folder, ...options });
    try {
      return await work(store);
    } finally {
      await store.close();
    }
  }

  async function onlyQueue(store: EmbeddedStore): Promise<StoreQueue> {
    for await (const { queue } of store.loadSessions()) return queue;
    throw new Error("no session");
  }

  describe("group commit", () => {
    it("commits what one turn noted as one batch, in a later turn, and says so in order", async () => {
      await during(async (store) => {
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
      await during(async (store) => {
        const done = new Promise<void>((resolve) => {
          store.onCommit = (batch) => {
            if (batch < 20) store.putSetting("a", String(batch));
            else resolve();
          };
        });
        store.putSetting("a", "0");
        await done;
      });
      await during(async (store) => {
        expect(await store.loadSettings()).toEqual(new Map([["a", "19"]]));
      });
    });

    it("reports an error of the listener and goes on", async () => {
      await during(async (store) => {
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
      await during(async (store) => {
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
      await during(async (store) => {
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
      await during(async (store) => {
        const [entry] = await store.readEntries(await onlyQueue(store), 1, ALL);
        expect(entry).toMatchObject({ packetId: 6, state: ENTRY_PUBLISHED });
      });
    });

    it("writes the counters of a queue once per batch and only when its entries changed", async () => {
      await during(async (store) => {
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
      await during(async (store) => {
        expect(await onlyQueue(store)).toMatchObject({ storedCount: 10, nextSeq: 11 });
      });
    });

    it("tells how many bytes wait, shared payloads once", async () => {
      await during(async (store) => {
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
      await during((store) => void store.putSetting("last", "words"));
      const settings = await during((store) => store.loadSettings());
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
      await during(async (store) => {
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
      const settings = await during((again) => again.loadSettings());
      expect(settings.size).toBe(0);
    });
  });

  describe("shared messages", () => {
    it("are stored once and counted over restarts", async () => {
      const ids = await during((store) => {
        const queues = [newQueue(store), newQueue(store), newQueue(store)];
        const message = textMessage("shared");
        for (const queue of queues) put(store, queue, message, true);
        return queues.map(({ id }) => id);
      });
      expect(await countKeys(folder)).toEqual({ s: 3, n: 3, e: 3, m: 1 });

      const takeOne = (id: number | undefined) =>
        during(async (store) => {
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
      await during((store) => {
        const message = textMessage("shared");
        for (let i = 0; i < 3; i++) put(store, newQueue(store), message, true);
      });
      await during(async (store) => {
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
      await during(async (store) => {
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
      await during(async (store) => {
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
      await during(async (store) => {
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
      await during(async (store) => {
        const [entry] = await store.readEntries(await onlyQueue(store), 1, ALL);
        expect(entry?.message?.payload.toString()).toBe("again");
      });
    });

    it("do not mix when a message comes from another store", async () => {
      const message = textMessage("foreign");
      await during((store) => void put(store, newQueue(store), message, true));
      message.storeRef = 1; // as if that store still had it in memory
      folder = newFolder();
      await during(async (store) => {
        const queue = newQueue(store);
        put(store, queue, textMessage("own"), true);
        put(store, queue, message, true);
        await store.flush();
        const found = await store.readEntries(queue, 1, ALL);
        expect(found.map((entry) => String(entry.message?.payload))).toEqual(["own", "foreign"]);
      });
    });
  });

  describe("damaged records", () => {
    function damage(key: Buffer, change: (value: Buffer) => Buffer): Promise<void> {
      return withLevel(folder, async (level) => {
        const value = await level.get(key);
        if (value === undefined) throw new Error(`no key ${keys.describeKey(key)}`);
        await level.put(key, change(value));
      });
    }

    const flipped = (value: Buffer) => {
      const at = value.length >> 1;
      value[at] = (value[at] ?? 0) ^ 1;
      return value;
    };

    it.each([
      ["a flipped bit", flipped],
      ["a short record", (value: Buffer) => value.subarray(0, value.length - 1)],
      ["nothing left", () => Buffer.alloc(0)],
      ["foreign bytes", () => Buffer.from("not a record at all")],
    ])("of an entry are set aside, counted, reported and skipped: %s", async (_, change) => {
      const id = await during((store) => {
        const queue = newQueue(store);
        for (let i = 0; i < 3; i++) put(store, queue, textMessage(`m${i}`));
        return queue.id;
      });
      const key = keys.entryKey(id, 2);
      await damage(key, change);
      const damaged: string[] = [];
      await during(
        async (store) => {
          const queue = await onlyQueue(store);
          expect(queue.storedCount).toBe(3);
          expect(await seqs(store, queue)).toEqual([1, 3]);
          expect(queue.storedCount).toBe(2);
          expect(store.status().damaged).toBe(1);
          expect(await seqs(store, queue)).toEqual([1, 3]);
        },
        { onDamaged: (where, reason) => damaged.push(`${where} ${reason}`) },
      );
      expect(damaged).toHaveLength(1);
      expect(damaged[0]).toMatch(/^e:[0-9a-f]{24} ./);
      expect(await countKeys(folder)).toEqual({ s: 1, n: 1, e: 2, x: 1 });
      await withLevel(folder, async (level) => {
        expect(await level.get(keys.asideKey(key))).toBeDefined();
      });
      await during(async (store) => {
        expect(await onlyQueue(store)).toMatchObject({ storedCount: 2, nextSeq: 4 });
        expect(store.status().damaged).toBe(0);
      });
    });

    it("of all other kinds do not keep the store from opening and giving the rest", async () => {
      const [first, second] = await during((store) => {
        const queues = [newQueue(store), newQueue(store)] as [StoreQueue, StoreQueue];
        for (const queue of queues) {
          for (const filter of ["a", "b"]) {
            store.putSubscription(queue.id, subscriptionOf(filter, 1));
          }
          put(store, queue, textMessage("x"));
        }
        for (const topic of ["a", "b"]) {
          store.putRetained({ message: textMessage("r", topic), storedAtMs: 1 });
          store.putSetting(topic, "v");
        }
        return queues;
      });
      await damage(keys.numberKey(keys.SESSION, first.id), flipped);
      await damage(keys.numberKey(keys.COUNTERS, second.id), flipped);
      await damage(keys.subscriptionKey(second.id, "a"), flipped);
      await damage(keys.textKey(keys.RETAINED, keys.retainedText("", "a")), flipped);
      await damage(keys.textKey(keys.SETTING, "a"), flipped);
      await damage(keys.textKey(keys.RESERVE, "queue"), flipped);
      await damage(keys.FORMAT_KEY, flipped);
      const reported: string[] = [];
      await during(
        async (store) => {
          const loaded = [];
          for await (const one of store.loadSessions()) loaded.push(one);
          expect(loaded).toHaveLength(1);
          // Counted again from the entries.
          expect(loaded[0]?.queue).toEqual({ ...second, nextPacketId: 1 });
          expect(loaded[0]?.subscriptions.map(({ filter }) => filter)).toEqual(["b"]);
          const topics = [];
          for await (const { message } of store.loadRetained()) topics.push(message.topic);
          expect(topics).toEqual(["b"]);
          expect([...(await store.loadSettings()).keys()]).toEqual(["b"]);
          expect(store.newQueueId()).toBeGreaterThan(second.id);
          expect(store.status().damaged).toBe(7);
        },
        { onDamaged: (key) => reported.push(key) },
      );
      expect(reported.map((key) => key[0]).sort()).toEqual(["b", "h", "k", "n", "r", "s", "v"]);
      await during((store) => expect(store.status().damaged).toBe(0));
      expect((await countKeys(folder)).x).toBe(7);
    });

    it("of a shared message take its entries with them", async () => {
      await during((store) => {
        const [one, two] = [newQueue(store), newQueue(store)];
        const message = textMessage("lost");
        for (const queue of [one, two]) {
          put(store, queue, message, true);
          put(store, queue, textMessage("own"));
        }
      });
      const ref = await withLevel(folder, async (level) => {
        const [key] = await level.keys(keys.prefixRange(keys.BODY)).all();
        return keys.numberOf(key ?? Buffer.alloc(0));
      });
      await damage(keys.numberKey(keys.BODY, ref), flipped);
      await during(async (store) => {
        for await (const { queue } of store.loadSessions()) {
          expect(await seqs(store, queue)).toEqual([2]);
          expect(queue.storedCount).toBe(1);
        }
        expect(store.status()).toMatchObject({ damaged: 3, sharedBodies: 0 });
      });
      expect(await countKeys(folder)).toEqual({ s: 2, n: 2, e: 2, x: 3 });
    });

    it("of a count keep the shared message", async () => {
      await during(async (store) => {
        const queues = [newQueue(store), newQueue(store), newQueue(store)];
        const message = textMessage("kept");
        const entries = queues.map((queue) => put(store, queue, message, true));
        await store.flush();
        remove(store, queues[0] as StoreQueue, entries[0] as StoreEntry);
      });
      const countKey = await withLevel(folder, async (level) => {
        const [key] = await level.keys(keys.prefixRange(keys.BODY_COUNT)).all();
        return key ?? Buffer.alloc(0);
      });
      await damage(countKey, flipped);
      await during(async (store) => {
        const texts: string[] = [];
        for await (const { queue } of store.loadSessions()) {
          for (const entry of await store.readEntries(queue, 1, ALL)) {
            texts.push(String(entry.message?.payload));
            remove(store, queue, entry);
          }
        }
        expect(texts).toEqual(["kept", "kept"]);
      });
    });
  });

  describe("removed sessions", () => {
    it("lose queues of any length in the background, shared messages by count", async () => {
      await during(async (store) => {
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
      const goneId = await during((store) => {
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
      await during(async (store) => {
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
      await during((again) => again.removalsDone());
      expect(await countKeys(folder)).toEqual({});
    });
  });

  describe("opening", () => {
    it("never reuses the number of a queue or a shared message, also without a proper end", async () => {
      const used = new Set<number>();
      let last = 0;
      for (let round = 0; round < 3; round++) {
        await during((store) => {
          for (let i = 0; i < 1700; i++) {
            last = store.newQueueId();
            expect(used.has(last)).toBe(false);
            used.add(last);
          }
        });
        await withLevel(folder, async (level) => {
          const reserve = await level.get(keys.textKey(keys.RESERVE, "queue"));
          expect(Number(reserve?.readUIntBE(1, 6))).toBeGreaterThan(last);
        });
      }
    });

    it("reads no entries to load sessions", async () => {
      await during((store) => {
        const queue = newQueue(store);
        for (let i = 0; i < 100; i++) put(store, queue, textMessage("x"));
      });
      const ranges: string[] = [];
      const createLevel = (path: string) => {
        const level: Level = new ClassicLevel<Buffer, Buffer>(path, {
          keyEncoding: "buffer",
          valueEncoding: "buffer",
        });
        const iterator = level.iterator.bind(level) as (options: object) => unknown;
        level.iterator = ((options: { gte: Buffer; limit: number }) => {
          // Looking at the last key of a range is fine.
          if (options.limit !== 1) ranges.push(String.fromCharCode(options.gte[0] ?? 0));
          return iterator(options);
        }) as Level["iterator"];
        return level;
      };
      await during(
        async (store) => {
          expect((await onlyQueue(store)).storedCount).toBe(100);
        },
        { createLevel },
      );
      expect(ranges).toContain("s");
      expect(ranges).not.toContain("e");
      expect(ranges).not.toContain("m");
    });

    it("names the folder when another process has it", async () => {
      await during(async () => {
        const other = new EmbeddedStore({ folder });
        await expect(other.open()).rejects.toMatchObject({
          code: "STORE_LOCKED",
          message: expect.stringContaining(folder),
        });
      });
    });

    it("names the folder when it cannot be one", async () => {
      const { writeFileSync } = await import("node:fs");
      writeFileSync(folder, "a file");
      const store = new EmbeddedStore({ folder });
      await expect(store.open()).rejects.toMatchObject({
        code: "STORE_OPEN",
        message: expect.stringContaining(folder),
      });
    });

    it("refuses the format of a later version", async () => {
      await during((store) => void store.putSetting("a", "b"));
      await withLevel(folder, async (level) => {
        const { RecordWriter } = await import("../../../../core/store/embedded/record-format.ts");
        const { encodeNumber } = await import("../../../../core/store/embedded/records.ts");
        await level.put(keys.FORMAT_KEY, encodeNumber(new RecordWriter(), 2));
      });
      const store = new EmbeddedStore({ folder });
      await expect(store.open()).rejects.toMatchObject({ code: "STORE_FORMAT" });
      await withLevel(folder, async () => {}); // it let the folder go
    });

    it.each(["a damaged MANIFEST", "a lost MANIFEST", "a lost CURRENT"])(
      "repairs the database once: %s",
      async (fault) => {
        const { readdirSync, rmSync, truncateSync } = await import("node:fs");
        await during((store) => {
          const queue = newQueue(store);
          for (let i = 0; i < 50; i++) put(store, queue, textMessage("x"));
        });
        const manifest = readdirSync(folder).find((name) => name.startsWith("MANIFEST"));
        const manifestPath = join(folder, manifest ?? "");
        if (fault === "a damaged MANIFEST") truncateSync(manifestPath, 3);
        else if (fault === "a lost MANIFEST") rmSync(manifestPath);
        else rmSync(join(folder, "CURRENT"));
        const repairs: unknown[] = [];
        await during(
          async (store) => expect(await seqs(store, await onlyQueue(store))).toHaveLength(50),
          { onRepair: (cause) => repairs.push(cause) },
        );
        expect(repairs).toHaveLength(1);
      },
    );
  });

  it.each([11, 12, 13, 14])("keeps a model's state over restarts (seed %i)", async (seed) => {
    const random = seededRandom(seed);
    const state = emptyState();
    let lastMessage = 0;
    for (let round = 0; round < 8; round++) {
      await during(async (store) => {
        expect(await readState(store)).toEqual(state);
        const driver = new Driver(store, random, state, lastMessage);
        await driver.load();
        for (let i = 0; i < 300; i++) {
          driver.step();
          const dice = random(40);
          if (dice === 0) await store.flush();
          if (dice === 1) await turn();
          if (dice > 36) {
            const { found, expected } = await driver.read();
            expect(found).toEqual(expected);
          }
        }
        lastMessage = driver.lastMessage;
        if (round % 2 === 0) await store.removalsDone();
      });
    }
    await during(async (store) => {
      expect(await readState(store)).toEqual(state);
      await store.removalsDone();
      expect(store.status().sharedBodies).toBe(0);
    });
    expect(await findFaults(folder)).toEqual([]);
  });

  it("keeps a session of the state it was put in", async () => {
    await during((store) => {
      const queue = { id: store.newQueueId(), storedCount: 0, nextSeq: 1, nextPacketId: 1 };
      const session = sessionOf(queue.id, 3);
      store.putSession(session, queue);
      session.online = !session.online; // not put
    });
    await during(async (store) => {
      for await (const { session } of store.loadSessions()) {
        expect(session.online).toBe(sessionOf(session.queueId, 3).online);
      }
    });
  });
});
