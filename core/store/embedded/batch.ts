import type { StoredRetained, StoreEntry, StoreQueue } from "../types.ts";
import type { SharedBody } from "./shared-bodies.ts";

/** About what an operation costs in memory and in the log besides its payload. */
export const OPERATION_BYTES = 64;

/**
 * What was noted since the last write began. Entries are only referred to and encoded when the batch
 * is written: deleted before, they are never written; changed often, they are written once.
 */
export class OpenBatch {
  readonly number: number;
  /** Finished records in the order noted; no value = delete. */
  readonly keys: Buffer[] = [];
  readonly values: (Buffer | undefined)[] = [];
  /** Entries to write, with their queue. */
  readonly entries = new Map<StoreEntry, StoreQueue>();
  /** Stored entries to delete. */
  readonly deletedQueueIds: number[] = [];
  readonly deletedSeqs: number[] = [];
  /** The newest of each topic by key; undefined = delete. */
  readonly retained = new Map<string, StoredRetained | undefined>();
  /** Queues with an entry noted here: a reader of one of them waits for this batch. */
  readonly queueIds = new Set<number>();
  /** Queues whose counters this batch writes. */
  readonly counters = new Set<StoreQueue>();
  /** Shared bodies whose count may change; they stay in memory until this batch is committed. */
  readonly bodies = new Set<SharedBody>();
  /** Entries noted here that the session part has let go since. */
  readonly forgotten = new Set<StoreEntry>();
  /** Whether anything was noted, if only to be taken back. */
  isDirty = false;
  /** Somebody waits for this batch: it is written in this turn. */
  isUrgent = false;
  /** About the bytes it holds. */
  bytes = 0;

  constructor(number: number) {
    this.number = number;
  }

  /** Notes a finished record, or with no value the deletion of `key`. */
  record(key: Buffer, value: Buffer | undefined): void {
    this.keys.push(key);
    this.values.push(value);
    this.bytes += OPERATION_BYTES + (value?.length ?? 0);
  }

  /** Keeps a body in memory and looks at its count when the batch is written. */
  touch(body: SharedBody): void {
    if (this.bodies.has(body)) return;
    this.bodies.add(body);
    body.pins++;
  }
}

/** A batch as bytes: what is written, and written again after a failure. */
export class EncodedBatch {
  readonly keys: Buffer[] = [];
  readonly values: (Buffer | undefined)[] = [];
  bytes = 0;

  put(key: Buffer, value: Buffer): void {
    this.keys.push(key);
    this.values.push(value);
    this.bytes += key.length + value.length;
  }

  delete(key: Buffer): void {
    this.keys.push(key);
    this.values.push(undefined);
    this.bytes += key.length;
  }
}
