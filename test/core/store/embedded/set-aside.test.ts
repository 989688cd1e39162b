import { beforeEach, describe, expect, it } from "vitest";
import * as keys from "../../../../core/store/embedded/keys.ts";
import type { StoreEntry, StoreQueue } from "../../../../core/store/types.ts";
import { subscriptionOf } from "../model.ts";
import { ALL, newQueue, put, remove, seqs, textMessage } from "../suite.ts";
import { countKeys, withLevel } from "./inspect.ts";
import { during, newFolder, onlyQueue } from "./world.ts";

/** Records that cannot be read are put aside and take nothing with them. */

let folder: string;

beforeEach(() => {
  folder = newFolder();
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
    const id = await during(folder, (store) => {
      const queue = newQueue(store);
      for (let i = 0; i < 3; i++) put(store, queue, textMessage(`m${i}`));
      return queue.id;
    });
    const key = keys.entryKey(id, 2);
    await damage(key, change);
    const damaged: string[] = [];
    await during(
      folder,
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
    await during(folder, async (store) => {
      expect(await onlyQueue(store)).toMatchObject({ storedCount: 2, nextSeq: 4 });
      expect(store.status().damaged).toBe(0);
    });
  });

  it("of all other kinds do not keep the store from opening and giving the rest", async () => {
    const [first, second] = await during(folder, (store) => {
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
      folder,
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
    await during(folder, (store) => expect(store.status().damaged).toBe(0));
    expect((await countKeys(folder)).x).toBe(7);
  });

  it("of a shared message take its entries with them", async () => {
    await during(folder, (store) => {
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
    await during(folder, async (store) => {
      for await (const { queue } of store.loadSessions()) {
        expect(await seqs(store, queue)).toEqual([2]);
        expect(queue.storedCount).toBe(1);
      }
      expect(store.status()).toMatchObject({ damaged: 3, sharedBodies: 0 });
    });
    expect(await countKeys(folder)).toEqual({ s: 2, n: 2, e: 2, x: 3 });
  });

  it("of a count keep the shared message", async () => {
    await during(folder, async (store) => {
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
    await during(folder, async (store) => {
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
