import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { Message } from "../../../core/mqtt/message.ts";
import {
  ENTRY_PUBLISHED,
  ENTRY_QUEUED,
  ENTRY_RELEASED,
  STORED_NO,
  STORED_YES,
  type Store,
  type StoreEntry,
  type StoreQueue,
} from "../../../core/store/types.ts";
import {
  Driver,
  describeEntry,
  describeMessage,
  emptyState,
  entryOf,
  messageOf,
  readState,
  seededRandom,
  sessionOf,
  subscriptionOf,
} from "./model.ts";

export function textMessage(text: string, topic = "a/b"): Message {
  return new Message("", topic, Buffer.from(text), 1, false, undefined, 0);
}

export function newQueue(store: Store): StoreQueue {
  const queue = { id: store.newQueueId(), storedCount: 0, nextSeq: 1, nextPacketId: 1 };
  store.putSession(sessionOf(queue.id, 1), queue);
  return queue;
}

export function put(store: Store, queue: StoreQueue, message: Message, shared = false): StoreEntry {
  const entry = entryOf(queue.nextSeq++, message, 1);
  queue.storedCount++;
  store.putEntry(queue, entry, shared);
  return entry;
}

export function remove(store: Store, queue: StoreQueue, entry: StoreEntry): number {
  queue.storedCount--;
  return store.deleteEntry(queue, entry);
}

export const ALL = { limit: 100_000, bytesMax: 1e9 };

export async function seqs(store: Store, queue: StoreQueue): Promise<number[]> {
  return (await store.readEntries(queue, 1, ALL)).map((entry) => entry.seq);
}

/** What every store does. `create` gives one that is not open yet. */
export function describeStore(name: string, create: () => Store): void {
  describe(`${name}: what every store does`, () => {
    let store: Store;

    beforeEach(async () => {
      store = create();
      await store.open();
    });

    afterEach(() => store.close());

    it("gives entries back in order, upwards from a number and downwards from a number", async () => {
      const queue = newQueue(store);
      for (let i = 1; i <= 300; i++) put(store, queue, textMessage(`m${i}`));
      const up = await store.readEntries(queue, 100, { limit: 5, bytesMax: 1e6 });
      expect(up.map((entry) => entry.seq)).toEqual([100, 101, 102, 103, 104]);
      expect(up[0]?.message?.payload.toString()).toBe("m100");
      const options = { limit: 3, bytesMax: 1e6, descending: true };
      const down = await store.readEntries(queue, 256, options);
      expect(down.map((entry) => entry.seq)).toEqual([256, 255, 254]);
      expect(await store.readEntries(queue, 301, ALL)).toEqual([]);
      expect(await store.readEntries(queue, 0, { ...ALL, descending: true })).toEqual([]);
      const end = await store.readEntries(queue, Number.MAX_SAFE_INTEGER, options);
      expect(end.map((entry) => entry.seq)).toEqual([300, 299, 298]);
    });

    it("ends a page at bytesMax of payload, but never gives less than one entry", async () => {
      const queue = newQueue(store);
      for (let i = 0; i < 5; i++) put(store, queue, textMessage("x".repeat(1000)));
      const pageOf = async (bytesMax: number) =>
        (await store.readEntries(queue, 1, { limit: 10, bytesMax })).length;
      expect(await pageOf(1)).toBe(1);
      expect(await pageOf(1999)).toBe(1);
      expect(await pageOf(2000)).toBe(2);
      expect(await pageOf(5000)).toBe(5);
    });

    it("counts the payload of shared messages towards bytesMax", async () => {
      const [one, two] = [newQueue(store), newQueue(store)];
      for (let i = 0; i < 5; i++) {
        const message = textMessage("x".repeat(1000));
        for (const queue of [one, two]) put(store, queue, message, true);
      }
      expect(await store.readEntries(two, 1, { limit: 10, bytesMax: 3000 })).toHaveLength(3);
    });

    it("keeps queues apart", async () => {
      const [one, two] = [newQueue(store), newQueue(store)];
      put(store, one, textMessage("for one"));
      put(store, two, textMessage("for two"));
      put(store, one, textMessage("for one again"));
      expect(await seqs(store, one)).toEqual([1, 2]);
      expect(await seqs(store, two)).toEqual([1]);
    });

    it.each([false, true])("keeps every field of an entry (shared: %s)", async (shared) => {
      const queue = newQueue(store);
      for (let m = 0; m < 24; m++) {
        const entry = entryOf(queue.nextSeq++, messageOf(m), m);
        entry.packetId = 65535 - m;
        entry.state = m % 2 === 0 ? ENTRY_QUEUED : ENTRY_PUBLISHED;
        queue.storedCount++;
        store.putEntry(queue, entry, shared);
        const [found] = await store.readEntries(queue, entry.seq, ALL);
        expect(found && describeEntry(found)).toEqual(describeEntry(entry));
        expect(found?.stored).toBe(STORED_YES);
      }
    });

    it("reads everything that was noted before the read, and nothing noted after it", async () => {
      const queue = newQueue(store);
      await store.flush();
      const first = put(store, queue, textMessage("before"));
      const reading = store.readEntries(queue, 1, ALL);
      const second = put(store, queue, textMessage("after"));
      expect((await reading).map((entry) => entry.seq)).toEqual([first.seq]);
      expect(await seqs(store, queue)).toEqual([first.seq, second.seq]);
    });

    it("gives an entry back with its newest fields, as a new object", async () => {
      const queue = newQueue(store);
      const entry = put(store, queue, textMessage("x"));
      await store.flush();
      entry.packetId = 7;
      entry.state = ENTRY_PUBLISHED;
      store.putEntry(queue, entry, false);
      const [found] = await store.readEntries(queue, 1, ALL);
      expect(found).toMatchObject({ packetId: 7, state: ENTRY_PUBLISHED });
      expect(found).not.toBe(entry);
    });

    it.each([false, true])(
      "keeps a released entry without its message (shared: %s)",
      async (shared) => {
        const queue = newQueue(store);
        const entry = put(store, queue, textMessage("x"), shared);
        await store.flush();
        entry.packetId = 9;
        entry.state = ENTRY_RELEASED;
        store.putEntry(queue, entry, shared);
        const [found] = await store.readEntries(queue, 1, ALL);
        expect(found).toMatchObject({
          packetId: 9,
          state: ENTRY_RELEASED,
          qos: 2,
          message: undefined,
        });
        remove(store, queue, entry);
        expect(await seqs(store, queue)).toEqual([]);
      },
    );

    it("deletes an entry before it is written and after", async () => {
      const queue = newQueue(store);
      const entries = ["a", "b", "c"].map((text) => put(store, queue, textMessage(text)));
      const [a, b, c] = entries as [StoreEntry, StoreEntry, StoreEntry];
      remove(store, queue, a);
      expect(a.stored).toBe(STORED_NO);
      await store.flush();
      remove(store, queue, b);
      expect(await seqs(store, queue)).toEqual([c.seq]);
      store.deleteEntry(queue, b); // harmless
      expect(await seqs(store, queue)).toEqual([c.seq]);
    });

    it("takes an entry again that was deleted", async () => {
      const queue = newQueue(store);
      const entry = put(store, queue, textMessage("x"), true);
      await store.flush();
      store.deleteEntry(queue, entry);
      store.putEntry(queue, entry, true);
      const [found] = await store.readEntries(queue, 1, ALL);
      expect(found?.message?.payload.toString()).toBe("x");
    });

    it("leaves out of a running read what is deleted meanwhile", async () => {
      const queue = newQueue(store);
      const entries = [1, 2, 3].map((i) => put(store, queue, textMessage(`${i}`)));
      await store.flush();
      const reading = store.readEntries(queue, 1, ALL);
      remove(store, queue, entries[1] as StoreEntry);
      expect((await reading).map((entry) => entry.seq)).toEqual([1, 3]);
      const cancelled = store.readEntries(queue, 1, ALL);
      store.deleteSession(queue.id);
      expect(await cancelled).toEqual([]);
    });

    it("gives receivers of a shared message one object", async () => {
      const [one, two] = [newQueue(store), newQueue(store)];
      const message = textMessage("for both");
      for (const queue of [one, two]) put(store, queue, message, true);
      const [a] = await store.readEntries(one, 1, ALL);
      const [b] = await store.readEntries(two, 1, ALL);
      expect(a?.message).toBe(b?.message);
    });

    it("keeps a shared message until its last entry goes", async () => {
      const queues = [newQueue(store), newQueue(store), newQueue(store)];
      const message = textMessage("shared");
      const entries = queues.map((queue) => put(store, queue, message, true));
      await store.flush();
      for (const [i, queue] of queues.entries()) {
        const [found] = await store.readEntries(queue, 1, ALL);
        expect(found?.message?.payload.toString()).toBe("shared");
        if (found) store.forgetEntry(found);
        remove(store, queue, entries[i] as StoreEntry);
        await store.flush();
      }
      for (const queue of queues) expect(await seqs(store, queue)).toEqual([]);
      expect(store.status().sharedBodies).toBe(0);
    });

    it("keeps sessions with subscriptions, wills, counters and QoS 2 identifiers", async () => {
      const queues: StoreQueue[] = [];
      for (let n = 0; n < 20; n++) {
        const queue = {
          id: store.newQueueId(),
          storedCount: 0,
          nextSeq: n + 1,
          nextPacketId: n + 5,
        };
        queues.push(queue);
        store.putSession(sessionOf(queue.id, n), queue);
        for (let f = 0; f < n; f++)
          store.putSubscription(queue.id, subscriptionOf(`f/${f}`, f * n));
        for (let id = 0; id < n; id++) store.putInboundId(queue.id, 65535 - id);
        if (n > 1) store.deleteSubscription(queue.id, "f/1");
        if (n > 1) store.deleteInboundId(queue.id, 65535);
      }
      const loaded = [];
      for await (const one of store.loadSessions()) loaded.push(one);
      expect(loaded.map((one) => one.queue)).toEqual(queues);
      for (const [n, { session, subscriptions, inboundIds }] of loaded.entries()) {
        const expected = sessionOf(session.queueId, n);
        expect({ ...session, will: undefined }).toEqual({ ...expected, will: undefined });
        expect(session.will?.delayS).toBe(expected.will?.delayS);
        expect(session.will?.expiryS).toBe(expected.will?.expiryS);
        expect(describeMessage(session.will?.message)).toEqual(
          describeMessage(expected.will?.message),
        );
        const filters = Array.from({ length: n }, (_, f) => f).filter((f) => f !== 1 || n === 1);
        const byFilter = new Map(subscriptions.map((one) => [one.filter, one]));
        expect(byFilter.size).toBe(filters.length);
        for (const f of filters) {
          expect(byFilter.get(`f/${f}`)).toEqual(subscriptionOf(`f/${f}`, f * n));
        }
        expect(new Set(inboundIds).size).toBe(n > 1 ? n - 1 : n);
      }
    });

    it("replaces a session and a subscription put again", async () => {
      const queue = newQueue(store);
      store.putSubscription(queue.id, subscriptionOf("a", 1));
      await store.flush();
      store.putSession(sessionOf(queue.id, 4), queue);
      store.putSubscription(queue.id, subscriptionOf("a", 2));
      const loaded = [];
      for await (const one of store.loadSessions()) loaded.push(one);
      expect(loaded).toHaveLength(1);
      expect(loaded[0]?.session.protocolLevel).toBe(sessionOf(queue.id, 4).protocolLevel);
      expect(loaded[0]?.subscriptions).toEqual([subscriptionOf("a", 2)]);
    });

    it("takes filters, client ids, topics and mountpoints with any characters, also none", async () => {
      const texts = ["", " ", "ü/🐋/#", "\u0001", "a\u0000b", "\uffff", "x".repeat(65_535)];
      const queue = { id: store.newQueueId(), storedCount: 0, nextSeq: 1, nextPacketId: 1 };
      for (const text of texts) {
        const session = {
          ...sessionOf(queue.id, 0),
          clientId: text,
          mountpoint: text,
          username: text,
        };
        store.putSession(session, queue);
        store.putSubscription(queue.id, subscriptionOf(text, 1));
        const topic = text.replaceAll("\u0000", "");
        const message = new Message(text, topic, Buffer.from("x"), 0, true, undefined, 0);
        store.putRetained({ message, storedAtMs: 1 });
        for await (const one of store.loadSessions()) {
          expect(one.session).toMatchObject({ clientId: text, mountpoint: text, username: text });
        }
      }
      for await (const one of store.loadSessions()) {
        expect(one.subscriptions.map(({ filter }) => filter).sort()).toEqual([...texts].sort());
      }
      const found: string[] = [];
      for await (const { message } of store.loadRetained()) found.push(message.mountpoint);
      expect(found.sort()).toEqual([...texts].sort());
    });

    it("removes a session with all that is its own, and nothing else", async () => {
      const [gone, kept] = [newQueue(store), newQueue(store)];
      const message = textMessage("both");
      for (const queue of [gone, kept]) {
        store.putSubscription(queue.id, subscriptionOf("a/#", 1));
        store.putInboundId(queue.id, 1);
        put(store, queue, message, true);
        put(store, queue, textMessage("own"));
      }
      await store.flush();
      store.deleteSession(gone.id);
      const loaded = [];
      for await (const one of store.loadSessions()) loaded.push(one);
      expect(loaded.map(({ queue }) => queue.id)).toEqual([kept.id]);
      expect(loaded[0]?.subscriptions).toHaveLength(1);
      expect(loaded[0]?.inboundIds).toEqual([1]);
      expect(await seqs(store, gone)).toEqual([]);
      expect(await seqs(store, kept)).toEqual([1, 2]);
    });

    it("keeps the newest retained message of each mountpoint and topic", async () => {
      const retained = (mountpoint: string, topic: string, text: string) => {
        const message = new Message(mountpoint, topic, Buffer.from(text), 1, true, undefined, 5);
        store.putRetained({ message, storedAtMs: 42 });
      };
      retained("", "a", "old");
      retained("", "a", "new");
      retained("m", "a", "other");
      retained("ma", "", "no clash");
      retained("", "b", "cleared at once");
      store.deleteRetained("", "b");
      retained("", "c", "cleared later");
      await store.flush();
      store.deleteRetained("", "c");
      store.deleteRetained("", "never there");
      const found: string[] = [];
      for await (const { message, storedAtMs } of store.loadRetained()) {
        expect(storedAtMs).toBe(42);
        expect(message.retain).toBe(true);
        found.push(`${message.mountpoint} ${message.topic} ${message.payload}`);
      }
      expect(found.sort()).toEqual([" a new", "m a other", "ma  no clash"]);
    });

    it("loads more than one page of everything", async () => {
      const queues = Array.from({ length: 1200 }, () => newQueue(store));
      const [first, last] = [queues[0] as StoreQueue, queues.at(-1) as StoreQueue];
      for (let i = 0; i < 2500; i++) {
        for (const { id } of [first, last]) store.putSubscription(id, subscriptionOf(`f/${i}`, 1));
        store.putInboundId(last.id, i + 1);
        store.putRetained({ message: textMessage("x", `t/${i}`), storedAtMs: i });
        store.putSetting(`k/${i}`, "v");
        put(store, last, textMessage("x"));
      }
      const loaded = [];
      for await (const one of store.loadSessions()) loaded.push(one);
      expect(loaded).toHaveLength(1200);
      for (const one of [loaded[0], loaded.at(-1)]) expect(one?.subscriptions).toHaveLength(2500);
      expect(loaded.at(-1)?.inboundIds).toHaveLength(2500);
      let retained = 0;
      for await (const _ of store.loadRetained()) retained++;
      expect(retained).toBe(2500);
      expect((await store.loadSettings()).size).toBe(2500);
      expect(await seqs(store, last)).toHaveLength(2500);
    });

    it("keeps settings", async () => {
      store.putSetting("a", "1");
      store.putSetting("ü", "");
      store.putSetting("a", "2");
      store.putSetting("gone", "x");
      store.deleteSetting("gone");
      const expected = new Map([
        ["a", "2"],
        ["ü", ""],
      ]);
      expect(await store.loadSettings()).toEqual(expected);
    });

    it("never gives a queue number twice", () => {
      const ids = Array.from({ length: 5000 }, () => store.newQueueId());
      expect(new Set(ids).size).toBe(5000);
    });

    it("keeps its own bytes of a message that was borrowed from a read buffer", async () => {
      const queue = newQueue(store);
      const buffer = Buffer.from("payload one");
      const message = new Message("", "a", Buffer.alloc(0), 1, false, undefined, 0);
      message.borrow(buffer, 0, buffer.length, 0, -1, 1);
      put(store, queue, message);
      const retained = new Message("", "r", Buffer.alloc(0), 1, true, undefined, 0);
      retained.borrow(buffer, 0, buffer.length, 0, -1, 1);
      store.putRetained({ message: retained, storedAtMs: 1 });
      buffer.fill("!");
      const [entry] = await store.readEntries(queue, 1, ALL);
      expect(entry?.message?.payload.toString()).toBe("payload one");
      for await (const one of store.loadRetained()) {
        expect(one.message.payload.toString()).toBe("payload one");
      }
    });

    it.each([1, 2, 3, 4])("does what a simple model does (seed %i)", async (seed) => {
      const random = seededRandom(seed);
      const driver = new Driver(store, random, emptyState(), 0);
      for (let i = 0; i < 1500; i++) {
        driver.step();
        const dice = random(60);
        if (dice === 0) await store.flush();
        if (dice === 1) await new Promise((resolve) => setImmediate(resolve));
        if (dice < 4) {
          const { found, expected } = await driver.read();
          expect(found).toEqual(expected);
        }
      }
      expect(await readState(store)).toEqual(driver.state);
    });
  });
}
