import type { StoreEntry, StoreQueue } from "../types.ts";
import type { Database, Row } from "./database.ts";
import type { GroupCommit } from "./group-commit.ts";
import { ENTRY, entryKey, type KeyRange, keyAfter, queueRange, SEQ_MAX } from "./keys.ts";
import { decodeEntry, type EntryRecord } from "./records.ts";
import type { SetAside } from "./set-aside.ts";
import type { SharedBodies, SharedBody } from "./shared-bodies.ts";

/** Rows are fetched in pages of about this size, whatever the caller's limit. */
const PAGE_ROWS = 1000;
const PAGE_BYTES_MAX = 1024 * 1024;

export interface ReadOptions {
  limit: number;
  bytesMax: number;
  descending?: boolean;
}

export interface EntryReaderParts {
  database: Database;
  commit: GroupCommit;
  bodies: SharedBodies;
  aside: SetAside;
}

/** A read that has begun: entries put or deleted before it ends must not appear in its result. */
interface RunningRead {
  queueId: number;
  skippedSeqs: Set<number>;
  isCancelled: boolean;
}

interface FoundEntry {
  key: Buffer;
  value: Buffer;
  record: EntryRecord;
}

/** Reads pages of a queue and gives entries their shared messages back. */
export class EntryReader {
  readonly #parts: EntryReaderParts;
  readonly #running = new Set<RunningRead>();

  constructor(parts: EntryReaderParts) {
    this.#parts = parts;
  }

  /** An entry was put for the first time, or deleted: reads that run leave it out. */
  entryChanged(queueId: number, seq: number): void {
    if (this.#running.size === 0) return;
    for (const read of this.#running) if (read.queueId === queueId) read.skippedSeqs.add(seq);
  }

  sessionDeleted(queueId: number): void {
    for (const read of this.#running) if (read.queueId === queueId) read.isCancelled = true;
  }

  async read(queue: StoreQueue, fromSeq: number, options: ReadOptions): Promise<StoreEntry[]> {
    const read: RunningRead = { queueId: queue.id, skippedSeqs: new Set(), isCancelled: false };
    this.#running.add(read);
    try {
      const { commit } = this.#parts;
      await commit.reached(commit.pendingBatchOf(queue.id));
      const { descending = false } = options;
      let range = rangeFrom(queue.id, fromSeq, descending);
      for (;;) {
        const found = await this.#find(queue, range, options);
        const last = found.at(-1);
        if (last === undefined) return [];
        const entries = await this.#join(queue, found, read);
        // All of them went meanwhile; but an empty page means that nothing is left.
        if (entries.length > 0 || read.isCancelled) return entries;
        range = rangeBehind(range, last.key, descending);
      }
    } finally {
      this.#running.delete(read);
    }
  }

  /** Entries up to the limits, still without shared messages. */
  async #find(queue: StoreQueue, from: KeyRange, options: ReadOptions): Promise<FoundEntry[]> {
    const { limit, bytesMax, descending = false } = options;
    const found: FoundEntry[] = [];
    let bytes = 0;
    let range = from;
    while (found.length < limit) {
      const rows = await this.#parts.database.page(range, {
        rows: Math.min(limit - found.length, PAGE_ROWS),
        bytes: Math.min(bytesMax, PAGE_BYTES_MAX),
        descending,
      });
      const last = rows.at(-1);
      if (last === undefined) break;
      for (const row of rows) {
        const record = this.#decode(queue, row);
        if (record === undefined) continue;
        bytes += record.payloadBytes;
        if (found.length > 0 && bytes > bytesMax) return found;
        found.push({ key: row[0], value: row[1], record });
      }
      range = rangeBehind(range, last[0], descending);
    }
    return found;
  }

  /** Gives entries their shared messages; without those that went while they were read. */
  async #join(queue: StoreQueue, found: FoundEntry[], read: RunningRead): Promise<StoreEntry[]> {
    const refs = found.map(({ record }) => record.ref).filter((ref) => ref !== 0);
    const bodies = await this.#parts.bodies.load(refs);
    const entries: StoreEntry[] = [];
    try {
      if (read.isCancelled) return entries;
      for (const entry of found) {
        if (read.skippedSeqs.has(entry.record.entry.seq)) continue;
        if (this.#joinOne(queue, entry, bodies)) entries.push(entry.record.entry);
      }
      return entries;
    } finally {
      this.#parts.bodies.unpin(bodies.values());
    }
  }

  #decode(queue: StoreQueue, [key, value]: Row): EntryRecord | undefined {
    const record = this.#parts.aside.read(key, value, () => decodeEntry(key, value));
    if (record === undefined) this.#lost(queue);
    return record;
  }

  /** False when the shared message is lost, and the entry with it. */
  #joinOne(queue: StoreQueue, found: FoundEntry, bodies: Map<number, SharedBody>): boolean {
    const { entry, ref } = found.record;
    if (ref === 0) return true;
    const body = bodies.get(ref);
    if (body?.message === undefined) {
      this.#parts.aside.put(found.key, found.value, "its shared message is lost");
      this.#lost(queue);
      return false;
    }
    entry.message = body.message;
    this.#parts.bodies.hold(body, entry);
    return true;
  }

  #lost(queue: StoreQueue): void {
    queue.storedCount--;
    const open = this.#parts.commit.note();
    open.counters.add(queue);
    // The next read of this queue must not meet the damaged record again.
    open.queueIds.add(queue.id);
  }
}

/** Where a read begins; any number is a good start, also one no key can hold. */
function rangeFrom(queueId: number, fromSeq: number, descending: boolean): KeyRange {
  const all = queueRange(ENTRY, queueId);
  const seq = Math.min(Math.max(fromSeq, 0), SEQ_MAX - 1);
  if (!descending) return { gte: entryKey(queueId, seq), lt: all.lt };
  return { gte: all.gte, lt: entryKey(queueId, seq + 1) };
}

function rangeBehind(range: KeyRange, last: Buffer, descending: boolean): KeyRange {
  return descending ? { gte: range.gte, lt: last } : { gte: keyAfter(last), lt: range.lt };
}
