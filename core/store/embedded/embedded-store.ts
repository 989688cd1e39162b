import { setTimeout as wait } from "node:timers/promises";
import { NautilusError } from "../../errors.ts";
import {
  ENTRY_PUBLISHED,
  ENTRY_RELEASED,
  type LoadedSession,
  STORED_NO,
  STORED_PENDING,
  STORED_YES,
  type Store,
  type StoredRetained,
  type StoredSession,
  type StoredSubscription,
  type StoreEntry,
  type StoreQueue,
  type StoreStatus,
} from "../types.ts";
import { OPERATION_BYTES } from "./batch.ts";
import { Database, type Level } from "./database.ts";
import { encodeBatch } from "./encode-batch.ts";
import { EntryReader, type ReadOptions } from "./entry-reader.ts";
import { GroupCommit } from "./group-commit.ts";
import {
  BODY,
  BODY_COUNT,
  COUNTERS,
  ENTRY,
  FORMAT_KEY,
  inboundIdKey,
  numberKey,
  numberOf,
  prefixRange,
  REMOVAL,
  retainedText,
  SESSION,
  SETTING,
  SUBSCRIPTION,
  subscriptionKey,
  textKey,
} from "./keys.ts";
import { Loader } from "./loader.ts";
import { NumberReserve } from "./number-reserve.ts";
import { RecordWriter } from "./record-format.ts";
import {
  decodeNumber,
  encodeNumber,
  encodeSession,
  encodeSubscription,
  encodeText,
} from "./records.ts";
import { SessionRemoval } from "./session-removal.ts";
import { SetAside } from "./set-aside.ts";
import { SharedBodies } from "./shared-bodies.ts";

/** Layout of keys and records; a store of a later one is refused. */
const FORMAT_VERSION = 1;
const NOTHING = Buffer.alloc(0);

export interface EmbeddedStoreOptions {
  /** Made if missing; one process at a time. */
  folder: string;
  /** vernemq.conf `store.sync`: every batch waits for the disk. Default false. */
  sync?: boolean;
  /** A record was unusable and is now under `x` + its key. `key` is readable text. */
  onDamaged?: (key: string, reason: string) => void;
  /** LevelDB found its own files damaged; they are being repaired, what is lost is unknown. */
  onRepair?: (cause: unknown) => void;
  /** A group commit took so long. */
  onWritten?: (ms: number) => void;
  /** For tests: waits before another attempt to write. */
  wait?: (ms: number) => Promise<void>;
  /** For tests: the database engine. */
  createLevel?: (folder: string) => Level;
}

/**
 * The durable store of a single node: LevelDB in one folder. What changes is noted in the open batch
 * (batch.ts), written by group commit (group-commit.ts) under binary keys (keys.ts).
 */
export class EmbeddedStore implements Store {
  readonly durable = true;
  onCommit: ((batch: number) => void) | undefined;
  onError: ((error: Error) => void) | undefined;

  readonly #folder: string;
  readonly #database: Database;
  readonly #commit: GroupCommit;
  readonly #bodies: SharedBodies;
  readonly #removal: SessionRemoval;
  readonly #aside: SetAside;
  readonly #reader: EntryReader;
  readonly #loader: Loader;
  readonly #queueIds: NumberReserve;
  readonly #refs: NumberReserve;
  /** Records made when they are noted; those of the batch being written have their own. */
  readonly #noted = new RecordWriter();
  readonly #written = new RecordWriter();
  #isOpen = false;

  constructor(options: EmbeddedStoreOptions) {
    this.#folder = options.folder;
    this.#database = new Database({
      folder: options.folder,
      sync: options.sync ?? false,
      onRepair: (cause) => options.onRepair?.(cause),
      createLevel: options.createLevel,
    });
    this.#commit = new GroupCommit({
      encode: (batch, encoded) => {
        encodeBatch(batch, encoded, {
          out: this.#written,
          bodies: this.#bodies,
          isRemoved: (queueId) => this.#removal.has(queueId),
        });
      },
      write: async (encoded) => {
        const startMs = performance.now();
        await this.#database.write(encoded);
        options.onWritten?.(performance.now() - startMs);
      },
      settle: (batch) => this.#bodies.unpin(batch.bodies),
      onCommit: (batch) => this.onCommit?.(batch),
      onError: (error) => this.onError?.(error),
      wait: options.wait ?? ((ms) => wait(ms)),
    });
    this.#aside = new SetAside(this.#commit, (key, reason) => options.onDamaged?.(key, reason));
    this.#queueIds = new NumberReserve("queue", this.#commit, this.#noted);
    this.#refs = new NumberReserve("body", this.#commit, this.#noted);
    this.#loader = new Loader(this.#database, this.#aside);
    this.#bodies = new SharedBodies(
      () => this.#refs.take(),
      (refs) => this.#loader.bodies(refs),
    );
    this.#removal = new SessionRemoval(this.#database, this.#commit, this.#bodies);
    this.#reader = new EntryReader({
      database: this.#database,
      commit: this.#commit,
      bodies: this.#bodies,
      aside: this.#aside,
    });
  }

  get committedBatch(): number {
    return this.#commit.committed;
  }

  /** @throws NautilusError STORE_LOCKED, STORE_OPEN, STORE_FORMAT */
  async open(): Promise<void> {
    await this.#database.open();
    try {
      await this.#checkFormat();
      await this.#startNumbers();
      await this.#commit.flush();
    } catch (error) {
      // The first error is the one to tell; that the rest could not be written follows from it.
      await this.#commit.close().catch(() => undefined);
      await this.#database.close();
      throw error;
    }
    this.#isOpen = true;
    for await (const [key] of this.#database.scan(prefixRange(REMOVAL))) {
      this.#removal.add(numberOf(key), 0);
    }
  }

  async #checkFormat(): Promise<void> {
    const value = await this.#database.get(FORMAT_KEY);
    const found = value && this.#aside.read(FORMAT_KEY, value, () => decodeNumber(value));
    if (found === undefined) {
      this.#commit.note().record(FORMAT_KEY, encodeNumber(this.#noted, FORMAT_VERSION));
    } else if (found !== FORMAT_VERSION) {
      const fields = { folder: this.#folder, found, known: FORMAT_VERSION };
      throw new NautilusError("STORE_FORMAT", fields);
    }
  }

  async #startNumbers(): Promise<void> {
    const queues = [SESSION, COUNTERS, ENTRY, SUBSCRIPTION, REMOVAL];
    const queueLimit = await this.#loader.number(this.#queueIds.key);
    this.#queueIds.start(queueLimit, await this.#loader.highest(queues));
    const refLimit = await this.#loader.number(this.#refs.key);
    this.#refs.start(refLimit, await this.#loader.highest([BODY, BODY_COUNT]));
  }

  async close(): Promise<void> {
    if (!this.#isOpen) return;
    this.#isOpen = false;
    try {
      const written = this.#commit.close();
      await Promise.all([this.#removal.stop(), written]);
      await this.#commit.flush();
    } finally {
      await this.#database.close();
    }
  }

  flush(): Promise<void> {
    return this.#commit.flush();
  }

  /** The open batch, to note a change in. @throws NautilusError STORE_CLOSED */
  #note(isPatient = false) {
    if (!this.#isOpen) throw new NautilusError("STORE_CLOSED", { folder: this.#folder });
    return this.#commit.note(isPatient);
  }

  #record(key: Buffer, value: Buffer | undefined): number {
    const open = this.#note();
    open.record(key, value);
    return open.number;
  }

  newQueueId(): number {
    this.#note();
    return this.#queueIds.take();
  }

  async *loadSessions(): AsyncGenerator<LoadedSession> {
    await this.#commit.flush();
    yield* this.#loader.sessions();
  }

  putSession(session: StoredSession, queue: StoreQueue): number {
    const open = this.#note();
    open.record(numberKey(SESSION, session.queueId), encodeSession(this.#noted, session));
    open.counters.add(queue);
    return open.number;
  }

  deleteSession(queueId: number): number {
    const open = this.#note();
    open.record(numberKey(SESSION, queueId), undefined);
    open.record(numberKey(COUNTERS, queueId), undefined);
    open.record(numberKey(REMOVAL, queueId), NOTHING);
    this.#reader.sessionDeleted(queueId);
    this.#removal.add(queueId, open.number);
    return open.number;
  }

  putSubscription(queueId: number, subscription: StoredSubscription): number {
    const value = encodeSubscription(this.#noted, subscription);
    return this.#record(subscriptionKey(queueId, subscription.filter), value);
  }

  deleteSubscription(queueId: number, filter: string): number {
    return this.#record(subscriptionKey(queueId, filter), undefined);
  }

  putInboundId(queueId: number, packetId: number): number {
    return this.#record(inboundIdKey(queueId, packetId), NOTHING);
  }

  deleteInboundId(queueId: number, packetId: number): number {
    return this.#record(inboundIdKey(queueId, packetId), undefined);
  }

  putEntry(queue: StoreQueue, entry: StoreEntry, shared: boolean): number {
    // A QoS 1 copy that is on its way may be acknowledged before it has to be written.
    const open = this.#note(entry.state === ENTRY_PUBLISHED && entry.qos === 1);
    if (entry.stored === STORED_PENDING) return open.number;
    open.entries.set(entry, queue);
    open.queueIds.add(queue.id);
    open.bytes += OPERATION_BYTES;
    const message = entry.state === ENTRY_RELEASED ? undefined : entry.message;
    // Encoded later in this turn or after it, when a borrowed message is no longer what it was.
    message?.own();
    if (entry.stored === STORED_NO) {
      entry.stored = STORED_PENDING;
      this.#reader.entryChanged(queue.id, entry.seq);
      if (shared && message !== undefined) {
        const body = this.#bodies.of(message);
        if (body.holders === 0) open.bytes += message.payloadBytes;
        this.#bodies.hold(body, entry);
      }
    }
    if (message !== undefined && !entry.sharedRef) open.bytes += message.payloadBytes;
    return open.number;
  }

  deleteEntry(queue: StoreQueue, entry: StoreEntry): number {
    if (entry.stored === STORED_NO) return this.committedBatch;
    const open = this.#note(true);
    open.entries.delete(entry);
    if (entry.stored === STORED_YES && !this.#removal.has(queue.id)) {
      open.deletedQueueIds.push(queue.id);
      open.deletedSeqs.push(entry.seq);
      open.counters.add(queue);
      open.queueIds.add(queue.id);
      open.bytes += OPERATION_BYTES;
      const body = this.#bodies.heldBy(entry);
      if (body !== undefined) {
        body.count--;
        open.touch(body);
      }
      this.#reader.entryChanged(queue.id, entry.seq);
    }
    entry.stored = STORED_NO;
    this.#bodies.letGo(entry);
    return open.number;
  }

  readEntries(queue: StoreQueue, fromSeq: number, options: ReadOptions): Promise<StoreEntry[]> {
    if (this.#removal.has(queue.id)) return Promise.resolve([]);
    return this.#reader.read(queue, fromSeq, options);
  }

  forgetEntry(entry: StoreEntry): void {
    const { open } = this.#commit;
    if (open.entries.has(entry)) open.forgotten.add(entry);
    else this.#bodies.letGo(entry);
  }

  async *loadRetained(): AsyncGenerator<StoredRetained> {
    await this.#commit.flush();
    yield* this.#loader.retained();
  }

  putRetained(retained: StoredRetained): number {
    const { message } = retained;
    const open = this.#note();
    message.own();
    open.retained.set(retainedText(message.mountpoint, message.topic), retained);
    open.bytes += OPERATION_BYTES + message.payloadBytes;
    return open.number;
  }

  deleteRetained(mountpoint: string, topic: string): number {
    const open = this.#note();
    open.retained.set(retainedText(mountpoint, topic), undefined);
    open.bytes += OPERATION_BYTES;
    return open.number;
  }

  putSetting(key: string, value: string): number {
    return this.#record(textKey(SETTING, key), encodeText(this.#noted, value));
  }

  deleteSetting(key: string): number {
    return this.#record(textKey(SETTING, key), undefined);
  }

  async loadSettings(): Promise<Map<string, string>> {
    await this.#commit.flush();
    return this.#loader.settings();
  }

  /** Resolves when the background has nothing left of removed sessions; for tests and tools. */
  async removalsDone(): Promise<void> {
    await this.#removal.idle();
    await this.#commit.flush();
  }

  status(): StoreStatus {
    return {
      damaged: this.#aside.count,
      batches: this.#commit.batches,
      writes: this.#commit.writes,
      pendingBytes: this.#commit.pendingBytes,
      removals: this.#removal.size,
      sharedBodies: this.#bodies.size,
    };
  }
}
