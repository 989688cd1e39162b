import type { Message } from "../mqtt/message.ts";

/**
 * The store seam. Calls that change something are synchronous and only note the change in the open
 * batch; one batch is written per event-loop turn (group commit), the next collects while it is
 * written. Every such call returns the number of the batch that will hold the change. A change is
 * durable once `committedBatch` has reached that number.
 */

/** Where a delivery stands: waiting, sent as PUBLISH, or PUBREC received (only PUBREL is left). */
export const ENTRY_QUEUED = 0;
export const ENTRY_PUBLISHED = 1;
export const ENTRY_RELEASED = 2;
export type EntryState = 0 | 1 | 2;

/** Kept by the store in `StoreEntry.stored`. */
export const STORED_NO = 0;
/** Noted in the open batch, never written. */
export const STORED_PENDING = 1;
/** Handed to the database (being written or written). */
export const STORED_YES = 2;

/** One message for one subscriber: the unit of queues, in-flight windows and the store. */
export interface StoreEntry {
  /** Order within the queue, 1.., never reused. */
  seq: number;
  /** For ENTRY_RELEASED the payload no longer matters and may be absent after a restart. */
  message: Message | undefined;
  /** Delivery QoS, 1 or 2 (0 is never stored). */
  qos: number;
  /** RETAIN flag as it must be delivered. */
  retain: boolean;
  subscriptionIds: readonly number[] | undefined;
  /** 0 until sent. */
  packetId: number;
  state: EntryState;
  /** STORED_*; only the store changes it. */
  stored: number;
  /**
   * Reference to the shared message body this entry holds, 0 or absent = none. Only the store changes
   * it; whoever makes an entry may set 0 so that all entries have one shape.
   */
  sharedRef?: number;
}

/**
 * The stored face of one subscriber's queue. Counters are owned by the session part and saved, with
 * their values at the time of writing, in each batch that writes or removes an entry of the queue.
 */
export interface StoreQueue {
  /** Number of the queue, unique for ever; part of every key. */
  readonly id: number;
  /**
   * Entries in the store (queued and in flight). The one change the store makes: a damaged entry that
   * `readEntries` sets aside is subtracted.
   */
  storedCount: number;
  nextSeq: number;
  nextPacketId: number;
}

export interface StoredSubscription {
  filter: string;
  qos: number;
  noLocal: boolean;
  retainAsPublished: boolean;
  retainHandling: number;
  /** 0 = none. */
  subscriptionId: number;
  /** Filter the client asked for, when a hook rewrote it. */
  requestedFilter?: string;
}

export interface StoredWill {
  message: Message;
  /** Seconds, MQTT 5.0 3.1.3.2.2. */
  delayS: number;
  /** Message Expiry Interval: seconds from its publication on, -1 = none. MQTT 5.0, 3.1.3.2.4. */
  expiryS: number;
}

/** A persistent session without its messages. */
export interface StoredSession {
  queueId: number;
  mountpoint: string;
  clientId: string;
  username: string | undefined;
  /** 3, 4, 5; bridges 131, 132. */
  protocolLevel: number;
  /** Seconds, 0xFFFFFFFF = never. */
  sessionExpiryS: number;
  /** Absolute ms; 0 while a client is attached or when it never expires. */
  expiresAtMs: number;
  /** True while a client is attached: found true at start means the broker died. */
  online: boolean;
  /** Will of the attached client, or the delayed will that waits. */
  will: StoredWill | undefined;
  /** Absolute ms when a delayed will is due; 0 = the client is attached or there is none. */
  willAtMs: number;
}

export interface LoadedSession {
  session: StoredSession;
  queue: StoreQueue;
  subscriptions: StoredSubscription[];
  /** Packet identifiers of inbound QoS 2 messages that wait for PUBREL. */
  inboundIds: number[];
}

export interface StoredRetained {
  message: Message;
  /** ms since the epoch. */
  storedAtMs: number;
}

export interface StoreStatus {
  /** Damaged records set aside since open. */
  damaged: number;
  /** Batches committed since open. */
  batches: number;
  /** Keys written or deleted since open. */
  writes: number;
  /** Bytes noted and not yet committed, about; the publishers' brake when the disk is slow or full. */
  pendingBytes: number;
  /** Removed sessions whose entries are still being deleted in the background. */
  removals: number;
  /** Shared message bodies in memory; grows without end when `forgetEntry` is not called. */
  sharedBodies: number;
}

export interface Store {
  /** False for the memory store: nothing survives the process, every change counts as committed. */
  readonly durable: boolean;
  readonly committedBatch: number;
  /** Called after each batch with its number, in order, on its own event-loop turn. */
  onCommit: ((batch: number) => void) | undefined;
  /** Called when a batch could not be written; nothing of it is acknowledged; the store retries it. */
  onError: ((error: Error) => void) | undefined;

  open(): Promise<void>;
  /**
   * Writes what is open, then closes. When that cannot be written, also not after a few tries, it
   * closes all the same and rejects with STORE_WRITE.
   */
  close(): Promise<void>;
  /** Resolves when everything noted so far is durable. */
  flush(): Promise<void>;

  /** A queue number never used before, also not before a restart. */
  newQueueId(): number;
  /** Every stored session with its subscriptions; never touches messages. */
  loadSessions(): AsyncIterable<LoadedSession>;
  putSession(session: StoredSession, queue: StoreQueue): number;
  /**
   * Removes session, subscriptions, inbound ids and all entries (shared messages by count). Of that
   * queue's entries in memory only `forgetEntry` may be called from now on.
   */
  deleteSession(queueId: number): number;
  putSubscription(queueId: number, subscription: StoredSubscription): number;
  deleteSubscription(queueId: number, filter: string): number;
  putInboundId(queueId: number, packetId: number): number;
  deleteInboundId(queueId: number, packetId: number): number;

  /**
   * Inserts or updates an entry. With `shared` the message body is kept once and counted (several
   * queues take it); otherwise it stays inside the entry; the choice is made by the first put. An
   * entry changed several times in one batch is written once, with its fields at the time of writing.
   * In state ENTRY_RELEASED it is stored without its message.
   */
  putEntry(queue: StoreQueue, entry: StoreEntry, shared: boolean): number;
  /** Removes an entry; one that was never handed to the database is never written. */
  deleteEntry(queue: StoreQueue, entry: StoreEntry): number;
  /**
   * Reads up to `limit` entries (or `bytesMax` of payload, at least one) with seq >= fromSeq ascending,
   * or with seq <= fromSeq descending. Sees exactly what was noted before the call, without what is
   * deleted while the read runs. A short page may have more behind it, an empty one has not. Always
   * new objects: do not read what is still in memory. Damaged records are set aside, counted and
   * skipped. Rejects when the database cannot be read.
   */
  readEntries(
    queue: StoreQueue,
    fromSeq: number,
    options: { limit: number; bytesMax: number; descending?: boolean },
  ): Promise<StoreEntry[]>;
  /**
   * The session part drops its references to an entry it read or wrote without deleting it (paged
   * out, or its session was deleted): its shared message may leave memory. The object must not be
   * handed to the store again.
   */
  forgetEntry(entry: StoreEntry): void;

  loadRetained(): AsyncIterable<StoredRetained>;
  putRetained(retained: StoredRetained): number;
  deleteRetained(mountpoint: string, topic: string): number;

  putSetting(key: string, value: string): number;
  deleteSetting(key: string): number;
  loadSettings(): Promise<Map<string, string>>;

  status(): StoreStatus;
}
