import {
  ENTRY_RELEASED,
  STORED_NO,
  STORED_PENDING,
  STORED_YES,
  type StoreEntry,
} from "../types.ts";
import type { EncodedBatch, OpenBatch } from "./batch.ts";
import { COUNTERS, entryKey, numberKey, RETAINED, textKey } from "./keys.ts";
import type { RecordWriter } from "./record-format.ts";
import { encodeCounters, encodeEntry, encodeRetained } from "./records.ts";
import type { SharedBodies } from "./shared-bodies.ts";

export interface EncodeOptions {
  out: RecordWriter;
  bodies: SharedBodies;
  /** Queues of removed sessions: nothing is written for them. */
  isRemoved(queueId: number): boolean;
}

/**
 * Turns what was noted into records. Deletions of entries come first, so that an entry deleted and put
 * again stays; bodies come after the entries that count them.
 */
export function encodeBatch(batch: OpenBatch, encoded: EncodedBatch, options: EncodeOptions): void {
  const { out, bodies, isRemoved } = options;
  out.reuse();
  for (const [i, queueId] of batch.deletedQueueIds.entries()) {
    encoded.delete(entryKey(queueId, batch.deletedSeqs[i] ?? 0));
  }
  for (const [i, key] of batch.keys.entries()) {
    const value = batch.values[i];
    if (value === undefined) encoded.delete(key);
    else encoded.put(key, value);
  }
  for (const [entry, queue] of batch.entries) {
    if (isRemoved(queue.id)) {
      dropEntry(entry, bodies);
      continue;
    }
    countEntry(entry, batch, bodies);
    encoded.put(entryKey(queue.id, entry.seq), encodeEntry(out, entry));
    batch.counters.add(queue);
  }
  for (const body of batch.bodies) bodies.encode(body, out, encoded);
  for (const [id, retained] of batch.retained) {
    if (retained === undefined) encoded.delete(textKey(RETAINED, id));
    else encoded.put(textKey(RETAINED, id), encodeRetained(out, retained));
  }
  for (const queue of batch.counters) {
    if (isRemoved(queue.id)) continue;
    encoded.put(numberKey(COUNTERS, queue.id), encodeCounters(out, queue));
  }
  for (const entry of batch.forgotten) bodies.letGo(entry);
}

/** The session is gone: an entry that was never stored never is, one that was is removed elsewhere. */
function dropEntry(entry: StoreEntry, bodies: SharedBodies): void {
  if (entry.stored === STORED_PENDING) entry.stored = STORED_NO;
  bodies.letGo(entry);
}

/** Counts a new entry in at its shared body, and one whose message no longer matters out of it. */
function countEntry(entry: StoreEntry, batch: OpenBatch, bodies: SharedBodies): void {
  const body = bodies.heldBy(entry);
  const isNew = entry.stored === STORED_PENDING;
  entry.stored = STORED_YES;
  if (body === undefined) return;
  batch.touch(body);
  if (entry.state !== ENTRY_RELEASED) {
    if (isNew) body.count++;
    return;
  }
  if (!isNew) body.count--;
  bodies.letGo(entry);
}
