import type { OpenBatch } from "./batch.ts";
import type { Database } from "./database.ts";
import type { GroupCommit } from "./group-commit.ts";
import {
  ENTRY,
  INBOUND_ID,
  type KeyRange,
  keyAfter,
  numberKey,
  queueRange,
  REMOVAL,
  SUBSCRIPTION,
} from "./keys.ts";
import { DamagedRecord } from "./record-format.ts";
import { decodeEntry } from "./records.ts";
import type { SharedBodies, SharedBody } from "./shared-bodies.ts";

/** One step of a removal: what it reads and deletes in one batch. */
const STEP_ROWS = 500;
const STEP_BYTES = 1024 * 1024;

/**
 * Deletes what belonged to removed sessions, in the background and in bounded steps. The removal
 * record, written together with the deletion of the session, is deleted last: whatever a crash left
 * over is finished after the next start.
 */
export class SessionRemoval {
  readonly #database: Database;
  readonly #commit: GroupCommit;
  readonly #bodies: SharedBodies;
  /** Queues being removed: nothing more is written for them. */
  readonly #removed = new Set<number>();
  readonly #waiting: { queueId: number; batch: number }[] = [];
  #working: Promise<void> | undefined;
  #isStopped = false;

  constructor(database: Database, commit: GroupCommit, bodies: SharedBodies) {
    this.#database = database;
    this.#commit = commit;
    this.#bodies = bodies;
  }

  get size(): number {
    return this.#removed.size;
  }

  has(queueId: number): boolean {
    return this.#removed.has(queueId);
  }

  /** Begins with a queue whose removal record is in `batch`. */
  add(queueId: number, batch: number): void {
    if (this.#removed.has(queueId)) return;
    this.#removed.add(queueId);
    this.#waiting.push({ queueId, batch });
    this.#working ??= this.#work();
  }

  /** Ends after the step at hand; the rest waits for the next start. */
  async stop(): Promise<void> {
    this.#isStopped = true;
    await this.#working;
  }

  /** Resolves when nothing is left to remove. */
  async idle(): Promise<void> {
    while (this.#working !== undefined) await this.#working;
  }

  async #work(): Promise<void> {
    try {
      for (let next = this.#waiting.shift(); next !== undefined; next = this.#waiting.shift()) {
        // From then on everything ever noted for the queue is where a read finds it.
        await this.#commit.reached(next.batch);
        for (const prefix of [ENTRY, SUBSCRIPTION, INBOUND_ID]) {
          await this.#removeRange(queueRange(prefix, next.queueId));
        }
        if (this.#isStopped) return;
        this.#commit.note().record(numberKey(REMOVAL, next.queueId), undefined);
        this.#removed.delete(next.queueId);
      }
    } catch (error) {
      // Closed or unreadable. The removal records bring it back at the next start.
      if (!this.#isStopped) this.#commit.reportError(error as Error);
    } finally {
      this.#working = undefined;
    }
  }

  async #removeRange(range: KeyRange): Promise<void> {
    let gte = range.gte;
    while (!this.#isStopped) {
      const page = { gte, lt: range.lt };
      const rows = await this.#database.page(page, { rows: STEP_ROWS, bytes: STEP_BYTES });
      const last = rows.at(-1);
      if (last === undefined) return;
      gte = keyAfter(last[0]);
      const refs = rows.map(([key, value]) => referenceOf(key, value)).filter((ref) => ref !== 0);
      const bodies = await this.#bodies.load(refs);
      // Without a pause from here on: entries and counts change in the same batch.
      const batch = this.#commit.note();
      for (const ref of refs) this.#countOut(bodies.get(ref), batch);
      for (const [key] of rows) batch.record(key, undefined);
      this.#bodies.unpin(bodies.values());
      if (this.#commit.pendingBytes > STEP_BYTES) await this.#commit.reached(batch.number);
    }
  }

  #countOut(body: SharedBody | undefined, batch: OpenBatch): void {
    if (body === undefined) return;
    body.count--;
    batch.touch(body);
  }
}

/** The shared body of a stored row, 0 = none; a damaged entry goes without being counted out. */
function referenceOf(key: Buffer, value: Buffer): number {
  if (key[0] !== ENTRY) return 0;
  try {
    return decodeEntry(key, value).ref;
  } catch (error) {
    if (error instanceof DamagedRecord) return 0;
    throw error;
  }
}
