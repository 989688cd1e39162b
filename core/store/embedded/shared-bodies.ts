import type { Message } from "../../mqtt/message.ts";
import type { StoreEntry } from "../types.ts";
import type { EncodedBatch } from "./batch.ts";
import { BODY, BODY_COUNT, numberKey } from "./keys.ts";
import type { RecordWriter } from "./record-format.ts";
import { type BodyRecord, encodeBody, encodeNumber } from "./records.ts";

/** A message body stored once for several entries, as far as memory knows it. */
export interface SharedBody {
  readonly ref: number;
  /** Undefined while it is being read, and when its record is missing or damaged. */
  message: Message | undefined;
  /** Entries in the database that refer to it. */
  count: number;
  /** Count the database knows; 0 = the body is not there. */
  storedCount: number;
  /** Entries in memory that refer to it. */
  holders: number;
  /** Batches not yet committed that look at it, and readers that wait for it. */
  pins: number;
  /** Settles when it has been read; undefined = it is there. */
  loading: Promise<void> | undefined;
}

/** Reads body and count of each reference, in order; undefined = missing or damaged. */
export type BodyReader = (refs: readonly number[]) => Promise<(BodyRecord | undefined)[]>;

/**
 * The shared bodies in memory. While an entry in memory refers to a body or a batch that touches it is
 * not committed, the body is here and its count is the truth; otherwise the database holds the truth.
 * So all readers get one Message, and no count is read while it changes.
 */
export class SharedBodies {
  readonly #byRef = new Map<number, SharedBody>();
  readonly #newRef: () => number;
  readonly #read: BodyReader;

  constructor(newRef: () => number, read: BodyReader) {
    this.#newRef = newRef;
    this.#read = read;
  }

  get size(): number {
    return this.#byRef.size;
  }

  /** The body of a message, made when it has none. */
  of(message: Message): SharedBody {
    const known = this.#byRef.get(message.storeRef);
    if (known !== undefined && known.message === message) return known;
    message.storeRef = this.#newRef();
    const body = newBody(message.storeRef, message);
    this.#byRef.set(body.ref, body);
    return body;
  }

  /** The body an entry holds. */
  heldBy(entry: StoreEntry): SharedBody | undefined {
    return entry.sharedRef ? this.#byRef.get(entry.sharedRef) : undefined;
  }

  hold(body: SharedBody, entry: StoreEntry): void {
    entry.sharedRef = body.ref;
    body.holders++;
  }

  /** The entry no longer refers to its body. */
  letGo(entry: StoreEntry): void {
    const body = this.heldBy(entry);
    entry.sharedRef = 0;
    if (body === undefined) return;
    body.holders--;
    this.#dropUnused(body);
  }

  /**
   * Brings bodies into memory and pins them until `unpin`. One that cannot be read comes back without
   * a message.
   */
  async load(refs: Iterable<number>): Promise<Map<number, SharedBody>> {
    const bodies = new Map<number, SharedBody>();
    const missing: SharedBody[] = [];
    for (const ref of refs) {
      if (bodies.has(ref)) continue;
      let body = this.#byRef.get(ref);
      if (body === undefined) {
        body = newBody(ref, undefined);
        this.#byRef.set(ref, body);
        missing.push(body);
      }
      body.pins++;
      bodies.set(ref, body);
    }
    const filled = missing.length > 0 ? this.#fill(missing) : undefined;
    for (const body of missing) body.loading = filled;
    try {
      for (const body of bodies.values()) await body.loading;
    } catch (error) {
      this.unpin(bodies.values());
      throw error;
    }
    return bodies;
  }

  async #fill(bodies: SharedBody[]): Promise<void> {
    try {
      const records = await this.#read(bodies.map((body) => body.ref));
      for (const [i, body] of bodies.entries()) {
        const record = records[i];
        if (record === undefined) continue;
        body.message = record.message;
        body.count = record.count;
        body.storedCount = record.count;
        body.message.storeRef = body.ref;
        body.message.storeCount = body.count;
      }
    } finally {
      for (const body of bodies) body.loading = undefined;
    }
  }

  unpin(bodies: Iterable<SharedBody>): void {
    for (const body of bodies) {
      body.pins--;
      this.#dropUnused(body);
    }
  }

  #dropUnused(body: SharedBody): void {
    if (body.holders > 0 || body.pins > 0) return;
    this.#byRef.delete(body.ref);
    // Put again, the message gets a new body: this one's count is no longer watched.
    if (body.message?.storeRef === body.ref) {
      body.message.storeRef = 0;
      body.message.storeCount = 0;
    }
  }

  /** Writes what changed about a body; the entries of the batch have been counted. */
  encode(body: SharedBody, out: RecordWriter, batch: EncodedBatch): void {
    const { message, count, storedCount } = body;
    if (message === undefined || count === storedCount) return;
    if (count <= 0) {
      batch.delete(numberKey(BODY, body.ref));
      batch.delete(numberKey(BODY_COUNT, body.ref));
    } else if (storedCount === 0) {
      batch.put(numberKey(BODY, body.ref), encodeBody(out, { message, count }));
    } else {
      batch.put(numberKey(BODY_COUNT, body.ref), encodeNumber(out, count));
    }
    body.storedCount = count;
    message.storeCount = count;
  }
}

function newBody(ref: number, message: Message | undefined): SharedBody {
  return { ref, message, count: 0, storedCount: 0, holders: 0, pins: 0, loading: undefined };
}
