import type { Message } from "../../mqtt/message.ts";
import {
  ENTRY_RELEASED,
  type LoadedSession,
  STORED_NO,
  STORED_YES,
  type Store,
  type StoredRetained,
  type StoredSession,
  type StoredSubscription,
  type StoreEntry,
  type StoreQueue,
  type StoreStatus,
} from "../types.ts";
import { SeqList } from "./seq-list.ts";

interface MemorySession {
  session: StoredSession;
  queue: StoreQueue;
}

/** What a queue has, whether or not its session was put yet. */
interface MemoryQueue {
  subscriptions: Map<string, StoredSubscription>;
  inboundIds: Set<number>;
  entries: Map<number, StoreEntry>;
  seqs: SeqList;
}

/**
 * A store that forgets with the process: for tests and throw-away brokers. Entries are copied in and
 * out, so that it behaves like one that writes them down; messages are shared.
 */
export class MemoryStore implements Store {
  readonly durable = false;
  readonly committedBatch = 0;
  /** Never called: every change is as safe at once as it will ever be. */
  onCommit: ((batch: number) => void) | undefined;
  onError: ((error: Error) => void) | undefined;

  #nextQueueId = 1;
  readonly #sessions = new Map<number, MemorySession>();
  readonly #queues = new Map<number, MemoryQueue>();
  readonly #retained = new Map<string, StoredRetained>();
  readonly #settings = new Map<string, string>();

  async open(): Promise<void> {}

  async close(): Promise<void> {}

  async flush(): Promise<void> {}

  newQueueId(): number {
    return this.#nextQueueId++;
  }

  #queue(id: number): MemoryQueue {
    let queue = this.#queues.get(id);
    if (queue === undefined) {
      const seqs = new SeqList();
      queue = { subscriptions: new Map(), inboundIds: new Set(), entries: new Map(), seqs };
      this.#queues.set(id, queue);
    }
    return queue;
  }

  async *loadSessions(): AsyncGenerator<LoadedSession> {
    const byId = [...this.#sessions.values()].sort((a, b) => a.queue.id - b.queue.id);
    for (const { session, queue } of byId) {
      const { subscriptions, inboundIds } = this.#queue(queue.id);
      yield {
        session: { ...session },
        queue: { ...queue },
        subscriptions: [...subscriptions.values()].map((subscription) => ({ ...subscription })),
        inboundIds: [...inboundIds],
      };
    }
  }

  putSession(session: StoredSession, queue: StoreQueue): number {
    this.#sessions.set(session.queueId, { session: { ...session }, queue });
    return 0;
  }

  deleteSession(queueId: number): number {
    this.#sessions.delete(queueId);
    this.#queues.delete(queueId);
    return 0;
  }

  putSubscription(queueId: number, subscription: StoredSubscription): number {
    this.#queue(queueId).subscriptions.set(subscription.filter, { ...subscription });
    return 0;
  }

  deleteSubscription(queueId: number, filter: string): number {
    this.#queue(queueId).subscriptions.delete(filter);
    return 0;
  }

  putInboundId(queueId: number, packetId: number): number {
    this.#queue(queueId).inboundIds.add(packetId);
    return 0;
  }

  deleteInboundId(queueId: number, packetId: number): number {
    this.#queue(queueId).inboundIds.delete(packetId);
    return 0;
  }

  putEntry(queue: StoreQueue, entry: StoreEntry, _shared: boolean): number {
    const { entries, seqs } = this.#queue(queue.id);
    entry.stored = STORED_YES;
    entry.message?.own();
    const message = entry.state === ENTRY_RELEASED ? undefined : entry.message;
    if (!entries.has(entry.seq)) seqs.add(entry.seq);
    entries.set(entry.seq, { ...entry, message });
    return 0;
  }

  deleteEntry(queue: StoreQueue, entry: StoreEntry): number {
    if (entry.stored === STORED_NO) return 0;
    entry.stored = STORED_NO;
    const stored = this.#queues.get(queue.id);
    if (stored?.entries.delete(entry.seq)) stored.seqs.delete(entry.seq);
    return 0;
  }

  async readEntries(
    queue: StoreQueue,
    fromSeq: number,
    options: { limit: number; bytesMax: number; descending?: boolean },
  ): Promise<StoreEntry[]> {
    const found: StoreEntry[] = [];
    const stored = this.#queues.get(queue.id);
    if (stored === undefined) return found;
    let bytes = 0;
    for (const seq of stored.seqs.from(fromSeq, options.descending === true)) {
      if (found.length >= options.limit) break;
      const entry = stored.entries.get(seq);
      if (entry === undefined) continue;
      bytes += entry.message?.payloadBytes ?? 0;
      if (found.length > 0 && bytes > options.bytesMax) break;
      found.push({ ...entry });
    }
    // As with a disk, the caller goes on before it has the result; what it deletes then is left out.
    await Promise.resolve();
    return found.filter(({ seq }) => stored.entries.has(seq) && this.#queues.has(queue.id));
  }

  forgetEntry(_entry: StoreEntry): void {}

  async *loadRetained(): AsyncGenerator<StoredRetained> {
    yield* [...this.#retained.values()];
  }

  putRetained(retained: StoredRetained): number {
    retained.message.own();
    this.#retained.set(retainedKey(retained.message), { ...retained });
    return 0;
  }

  deleteRetained(mountpoint: string, topic: string): number {
    this.#retained.delete(retainedKey({ mountpoint, topic }));
    return 0;
  }

  putSetting(key: string, value: string): number {
    this.#settings.set(key, value);
    return 0;
  }

  deleteSetting(key: string): number {
    this.#settings.delete(key);
    return 0;
  }

  async loadSettings(): Promise<Map<string, string>> {
    return new Map(this.#settings);
  }

  status(): StoreStatus {
    return { damaged: 0, batches: 0, writes: 0, pendingBytes: 0, removals: 0, sharedBodies: 0 };
  }
}

/** A topic has no U+0000, so no two pairs collide. */
function retainedKey({ mountpoint, topic }: Pick<Message, "mountpoint" | "topic">): string {
  return `${mountpoint}\0${topic}`;
}
