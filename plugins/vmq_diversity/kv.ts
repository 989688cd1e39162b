/** Tables of the Lua module `kv`. They live until the broker stops. */

/** A value as it is kept. Tables come as bytes that only the library can read; floats may be integral. */
export type KvValue =
  | boolean
  | number
  | bigint
  | Uint8Array
  | { readonly float: number }
  | { readonly table: Uint8Array };

/** ETS's types: a key of the bags has several values, in a bag no two that are equal. */
export const KV_TYPES = ["set", "ordered_set", "bag", "duplicate_bag"] as const;
export type KvType = (typeof KV_TYPES)[number];

export interface KvLimits {
  /** Values in all tables. */
  readonly entriesMax: number;
  /** Bytes of keys and values in all tables, with what keeping them costs. */
  readonly bytesMax: number;
  readonly tablesMax: number;
}

export const KV_LIMITS: KvLimits = {
  entriesMax: 1_000_000,
  bytesMax: 256 * 1024 * 1024,
  tablesMax: 1000,
};

/** What a value costs beside its own bytes: places in a map and an array. Rounded up. */
const OVERHEAD_BYTES = 100;
/** Keys looked at in one sweep: some milliseconds. The next sweep goes on behind them. */
const SWEEP_KEYS_MAX = 20_000;
/** A full store is swept to the end before it refuses, at most this often. */
const FULL_SWEEP_MS = 1000;

interface Slot {
  readonly values: KvValue[];
  bytes: number;
  /** In the store's clock; Infinity = never. */
  expiresAtMs: number;
}

interface Table {
  readonly type: KvType;
  readonly slots: Map<string, Slot>;
  /** Keys that expire. */
  readonly expiring: Set<string>;
}

/** What an insert takes. */
export type KvEntries = readonly (readonly [key: string, value: KvValue])[];

/** All tables of a broker. Synchronous; every method throws an Error that says what is wrong. */
export class KvStore {
  private readonly tables = new Map<string, Table>();
  private readonly limits: KvLimits;
  private readonly nowMs: () => number;
  private sweeping: Iterator<readonly [Table, string]> | undefined;
  private fullSweepAtMs = Number.NEGATIVE_INFINITY;
  private entries = 0;
  private bytes = 0;

  constructor(limits: KvLimits = KV_LIMITS, nowMs: () => number = () => performance.now()) {
    this.limits = limits;
    this.nowMs = nowMs;
  }

  /** Tables, values and bytes kept now. */
  get size(): { tables: number; entries: number; bytes: number } {
    return { tables: this.tables.size, entries: this.entries, bytes: this.bytes };
  }

  /** Makes a table; one that is there stays as it is. Gives the type it has. */
  ensure(name: string, type: string): KvType {
    const known = KV_TYPES.find((one) => one === type);
    if (known === undefined) {
      throw new Error(`type must be one of ${KV_TYPES.join(", ")}, not "${type.slice(0, 40)}"`);
    }
    const found = this.tables.get(name);
    if (found !== undefined) return found.type;
    if (this.tables.size >= this.limits.tablesMax) {
      throw new Error(`there are ${this.tables.size} tables already, no more are possible`);
    }
    this.tables.set(name, { type: known, slots: new Map(), expiring: new Set() });
    return known;
  }

  /** Sets and ordered sets replace what a key has, bags add to it. `ttlS` counts from now. */
  insert(name: string, entries: KvEntries, ttlS?: number): void {
    const table = this.table(name);
    this.reserve(entries);
    for (const [key, value] of entries) this.put(table, key, value, ttlS);
  }

  /** Inserts all entries, or none and gives false when one of the keys is there. */
  insertNew(name: string, entries: KvEntries, ttlS?: number): boolean {
    const table = this.table(name);
    if (entries.some(([key]) => this.live(table, key) !== undefined)) return false;
    this.reserve(entries);
    for (const [key, value] of entries) this.put(table, key, value, ttlS);
    return true;
  }

  /** The values of a key in the order of their insertion. */
  lookup(name: string, key: string): readonly KvValue[] {
    return this.live(this.table(name), key)?.values ?? [];
  }

  delete(name: string, key: string): void {
    const table = this.table(name);
    this.remove(table, key);
  }

  deleteAll(name: string): void {
    const table = this.table(name);
    for (const key of [...table.slots.keys()]) this.remove(table, key);
  }

  /**
   * Adds to a number and gives the sum; a key that is not there counts as 0. `ttlS` is for a key that
   * this call makes: a counter of a time window ends with the window.
   */
  increment(name: string, key: string, delta: number, ttlS?: number): number {
    const table = this.table(name);
    if (table.type === "bag" || table.type === "duplicate_bag") {
      throw new Error(`table "${name}" is a ${table.type}: its keys have no single number`);
    }
    const slot = this.live(table, key);
    if (slot === undefined) {
      this.reserve([[key, delta]]);
      this.put(table, key, delta, ttlS);
      return delta;
    }
    const sum = numberOf(slot.values[0], key) + delta;
    slot.values[0] = sum;
    return sum;
  }

  /** Forgets what has expired, a part of it at a time. */
  sweep(): void {
    this.sweepKeys(SWEEP_KEYS_MAX);
  }

  private table(name: string): Table {
    const table = this.tables.get(name);
    if (table !== undefined) return table;
    throw new Error(`unknown table "${name.slice(0, 100)}"; kv.ensure_table makes it`);
  }

  private live(table: Table, key: string): Slot | undefined {
    const slot = table.slots.get(key);
    if (slot === undefined || slot.expiresAtMs > this.nowMs()) return slot;
    this.remove(table, key);
    return undefined;
  }

  /** Throws when so many more would be too many. What they replace is not counted: a rare waste. */
  private reserve(entries: KvEntries): void {
    if (this.fits(entries)) return;
    const now = this.nowMs();
    if (now - this.fullSweepAtMs >= FULL_SWEEP_MS) {
      this.fullSweepAtMs = now;
      this.sweeping = undefined;
      this.sweepKeys(Number.POSITIVE_INFINITY);
    }
    if (this.fits(entries)) return;
    const { entriesMax, bytesMax } = this.limits;
    throw new Error(
      `the store is full: ${this.entries} of ${entriesMax} entries, ${this.bytes} of ${bytesMax} bytes`,
    );
  }

  private fits(entries: KvEntries): boolean {
    let bytes = this.bytes;
    for (const [key, value] of entries) bytes += bytesOf(key, value);
    return this.entries + entries.length <= this.limits.entriesMax && bytes <= this.limits.bytesMax;
  }

  private put(table: Table, key: string, value: KvValue, ttlS: number | undefined): void {
    const isBag = table.type === "bag" || table.type === "duplicate_bag";
    let slot = this.live(table, key);
    if (slot !== undefined && !isBag) {
      this.remove(table, key);
      slot = undefined;
    }
    if (slot === undefined) {
      slot = { values: [], bytes: 0, expiresAtMs: Number.POSITIVE_INFINITY };
      table.slots.set(key, slot);
    }
    if (table.type !== "bag" || !slot.values.some((one) => isEqual(one, value))) {
      const bytes = bytesOf(key, value);
      slot.values.push(value);
      slot.bytes += bytes;
      this.bytes += bytes;
      this.entries++;
    }
    slot.expiresAtMs = ttlS === undefined ? Number.POSITIVE_INFINITY : this.nowMs() + ttlS * 1000;
    if (ttlS === undefined) table.expiring.delete(key);
    else table.expiring.add(key);
  }

  private remove(table: Table, key: string): void {
    const slot = table.slots.get(key);
    if (slot === undefined) return;
    table.slots.delete(key);
    table.expiring.delete(key);
    this.bytes -= slot.bytes;
    this.entries -= slot.values.length;
  }

  private sweepKeys(max: number): void {
    const now = this.nowMs();
    this.sweeping ??= this.expiring();
    for (let i = 0; i < max; i++) {
      const next = this.sweeping.next();
      if (next.done === true) {
        this.sweeping = undefined;
        return;
      }
      const [table, key] = next.value;
      const slot = table.slots.get(key);
      if (slot !== undefined && slot.expiresAtMs <= now) this.remove(table, key);
    }
  }

  private *expiring(): Generator<readonly [Table, string]> {
    for (const table of this.tables.values()) for (const key of table.expiring) yield [table, key];
  }
}

function numberOf(value: KvValue | undefined, key: string): number {
  if (typeof value === "number") return value;
  if (typeof value === "bigint") return Number(value);
  if (typeof value === "object" && "float" in value) return value.float;
  throw new Error(`the value of "${key.slice(0, 100)}" is no number`);
}

function bytesOf(key: string, value: KvValue): number {
  const bytes = contentOf(value)?.length ?? 8;
  return OVERHEAD_BYTES + key.length + bytes;
}

function contentOf(value: KvValue): Uint8Array | undefined {
  if (typeof value !== "object") return undefined;
  if (value instanceof Uint8Array) return value;
  return "table" in value ? value.table : undefined;
}

function isEqual(one: KvValue, other: KvValue): boolean {
  if (typeof one !== "object" || typeof other !== "object") return one === other;
  if ("float" in one) return "float" in other && one.float === other.float;
  if ("float" in other || "table" in one !== "table" in other) return false;
  const [a, b] = [contentOf(one), contentOf(other)];
  return a !== undefined && b !== undefined && Buffer.compare(a, b) === 0;
}
