import type { LoadedSession, StoredRetained, StoredSubscription, StoreQueue } from "../types.ts";
import type { Database, Row } from "./database.ts";
import {
  BODY,
  BODY_COUNT,
  COUNTERS,
  ENTRY,
  filterOf,
  INBOUND_ID,
  numberKey,
  numberOf,
  packetIdOf,
  prefixRange,
  queueRange,
  RETAINED,
  SESSION,
  SETTING,
  SUBSCRIPTION,
  seqOf,
} from "./keys.ts";
import {
  type BodyRecord,
  decodeBody,
  decodeCounters,
  decodeNumber,
  decodeRetained,
  decodeSession,
  decodeSubscription,
  decodeText,
} from "./records.ts";
import type { SetAside } from "./set-aside.ts";

/** Reads what is stored besides entries. Damaged records are set aside and left out. */
export class Loader {
  readonly #database: Database;
  readonly #aside: SetAside;

  constructor(database: Database, aside: SetAside) {
    this.#database = database;
    this.#aside = aside;
  }

  /** Sessions by queue id: one walk over each of four ranges, side by side; never over entries. */
  async *sessions(): AsyncGenerator<LoadedSession> {
    const counters = new Walk(this.#database.scan(prefixRange(COUNTERS)));
    const subscriptions = new Walk(this.#database.scan(prefixRange(SUBSCRIPTION)));
    const inboundIds = new Walk(this.#database.scan(prefixRange(INBOUND_ID)));
    for await (const row of this.#database.scan(prefixRange(SESSION))) {
      const id = numberOf(row[0]);
      const session = this.#aside.read(row[0], row[1], () => decodeSession(id, row[1]));
      if (session === undefined) continue;
      const [counted] = await counters.rowsOf(id);
      yield {
        session,
        queue: await this.#queue(id, counted),
        subscriptions: this.#subscriptions(await subscriptions.rowsOf(id)),
        inboundIds: (await inboundIds.rowsOf(id)).map(([key]) => packetIdOf(key)).filter(Boolean),
      };
    }
  }

  async #queue(id: number, row: Row | undefined): Promise<StoreQueue> {
    const queue = row && this.#aside.read(row[0], row[1], () => decodeCounters(id, row[1]));
    if (queue !== undefined) return queue;
    const { count, last } = await this.#database.count(queueRange(ENTRY, id));
    const nextSeq = last === undefined ? 1 : seqOf(last) + 1;
    return { id, storedCount: count, nextSeq, nextPacketId: 1 };
  }

  #subscriptions(rows: Row[]): StoredSubscription[] {
    const subscriptions: StoredSubscription[] = [];
    for (const [key, value] of rows) {
      const found = this.#aside.read(key, value, () => decodeSubscription(filterOf(key), value));
      if (found !== undefined) subscriptions.push(found);
    }
    return subscriptions;
  }

  async *retained(): AsyncGenerator<StoredRetained> {
    for await (const [key, value] of this.#database.scan(prefixRange(RETAINED))) {
      const retained = this.#aside.read(key, value, () => decodeRetained(value));
      if (retained !== undefined) yield retained;
    }
  }

  async settings(): Promise<Map<string, string>> {
    const settings = new Map<string, string>();
    for await (const [key, value] of this.#database.scan(prefixRange(SETTING))) {
      const text = this.#aside.read(key, value, () => decodeText(value));
      if (text !== undefined) settings.set(key.toString("utf8", 1), text);
    }
    return settings;
  }

  /** Shared bodies with their counts. A damaged count falls back to the first one: too high is safe. */
  async bodies(refs: readonly number[]): Promise<(BodyRecord | undefined)[]> {
    const keys = refs.flatMap((ref) => [numberKey(BODY, ref), numberKey(BODY_COUNT, ref)]);
    const values = await this.#database.getMany(keys);
    return refs.map((_, i) => {
      const [key, countKey] = [keys[2 * i], keys[2 * i + 1]];
      const [value, countValue] = [values[2 * i], values[2 * i + 1]];
      if (key === undefined || countKey === undefined || value === undefined) return undefined;
      const body = this.#aside.read(key, value, () => decodeBody(value));
      if (body === undefined || countValue === undefined) return body;
      const count = this.#aside.read(countKey, countValue, () => decodeNumber(countValue));
      return { message: body.message, count: count ?? body.count };
    });
  }

  /** A stored number, 0 = none. */
  async number(key: Buffer): Promise<number> {
    const value = await this.#database.get(key);
    return (value && this.#aside.read(key, value, () => decodeNumber(value))) ?? 0;
  }

  /** The highest number that any key of these prefixes has. */
  async highest(prefixes: readonly number[]): Promise<number> {
    let highest = 0;
    for (const prefix of prefixes) {
      const options = { rows: 1, bytes: 1, descending: true };
      const [row] = await this.#database.page(prefixRange(prefix), options);
      if (row !== undefined) highest = Math.max(highest, numberOf(row[0]));
    }
    return highest;
  }
}

/** A walk over rows sorted by queue id that is asked for one queue after the other. */
class Walk {
  readonly #rows: AsyncGenerator<Row>;
  #next: Row | undefined;
  #isAtEnd = false;

  constructor(rows: AsyncGenerator<Row>) {
    this.#rows = rows;
  }

  /** All rows of a queue; those of queues before it belong to no session and are passed over. */
  async rowsOf(queueId: number): Promise<Row[]> {
    const found: Row[] = [];
    for (;;) {
      this.#next ??= await this.#read();
      if (this.#next === undefined) return found;
      const id = numberOf(this.#next[0]);
      if (id > queueId) return found;
      if (id === queueId) found.push(this.#next);
      this.#next = undefined;
    }
  }

  async #read(): Promise<Row | undefined> {
    if (this.#isAtEnd) return undefined;
    const { value, done } = await this.#rows.next();
    this.#isAtEnd = done === true;
    return done === true ? undefined : value;
  }
}
