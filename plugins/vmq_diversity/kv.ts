import type { Services } from "./services.ts";

/** Kinds of tables (lua.md, section 4.5); `bag` keeps several values of a key, each once. */
const KINDS = ["set", "ordered_set", "bag", "duplicate_bag"] as const;
type Kind = (typeof KINDS)[number];

/** All tables together: a script that only inserts must not eat the broker's memory. */
const LIMITS = { entries: 1_000_000, bytes: 256 * 1024 * 1024 };

interface Item {
  /** Values as structured clones. */
  values: unknown[];
  /** Of the values, about. */
  bytes: number;
  /** In the clock of `performance.now()`; Infinity = stays. */
  expiresAtMs: number;
}

/** In-memory tables of the scripts: shared by all of them, there until the broker stops. */
export class KvStore {
  private readonly tables = new Map<string, { kind: Kind; items: Map<string, Item> }>();
  private readonly nowMs: () => number;
  private entries = 0;
  private bytes = 0;

  private readonly limits: { readonly entries: number; readonly bytes: number };

  constructor(nowMs: () => number = () => performance.now(), limits: KvStore["limits"] = LIMITS) {
    this.nowMs = nowMs;
    this.limits = limits;
  }

  get size(): number {
    return this.entries;
  }

  services(): Services {
    return {
      "kv.ensure_table": (args) => this.ensure(args as { name: string; type: string }),
      "kv.insert": (args) => this.insert(args as InsertArgs),
      "kv.insert_new": (args) => this.insertNew(args as InsertArgs),
      "kv.lookup": (args) => this.lookup(args as KeyArgs),
      "kv.delete": (args) => this.delete(args as KeyArgs),
      "kv.delete_all": (args) => this.deleteAll(args as { table: string }),
      "kv.incr": (args) => this.increment(args as KeyArgs & { by: number; ttlS: number }),
    };
  }

  private ensure({ name, type }: { name: string; type: string }): true {
    const kind = KINDS.find((known) => known === type);
    if (kind === undefined) {
      throw new Error(`kv.ensure_table: type must be one of ${KINDS.join(", ")}, not "${type}"`);
    }
    if (!this.tables.has(name)) this.tables.set(name, { kind, items: new Map() });
    return true;
  }

  private table(name: string): { kind: Kind; items: Map<string, Item> } {
    const table = this.tables.get(name);
    if (table === undefined)
      throw new Error(`there is no kv table "${name}": kv.ensure_table makes one`);
    return table;
  }

  private live(table: { items: Map<string, Item> }, key: string): Item | undefined {
    const item = table.items.get(key);
    if (item === undefined || item.expiresAtMs > this.nowMs()) return item;
    this.drop(table, key, item);
    return undefined;
  }

  private drop(table: { items: Map<string, Item> }, key: string, item: Item): void {
    table.items.delete(key);
    this.entries -= item.values.length;
    this.bytes -= item.bytes;
  }

  private insert({ table: name, entries, ttlS }: InsertArgs): true {
    const table = this.table(name);
    this.makeRoom(entries.length, sizeOf(entries));
    for (const [key, value] of entries) this.put(table, key, value, ttlS);
    return true;
  }

  private insertNew(args: InsertArgs): boolean {
    const table = this.table(args.table);
    if (args.entries.some(([key]) => this.live(table, key) !== undefined)) return false;
    return this.insert(args);
  }

  private put(
    table: { kind: Kind; items: Map<string, Item> },
    key: string,
    value: unknown,
    ttlS: number | undefined,
  ): void {
    const expiresAtMs = ttlS === undefined ? Number.POSITIVE_INFINITY : this.nowMs() + ttlS * 1000;
    const known = this.live(table, key);
    const isBag = table.kind === "bag" || table.kind === "duplicate_bag";
    const bytes = sizeOf(value) + key.length;
    if (known === undefined || !isBag) {
      if (known !== undefined) this.drop(table, key, known);
      this.entries++;
      this.bytes += bytes;
      table.items.set(key, { values: [value], bytes, expiresAtMs });
      return;
    }
    const text = JSON.stringify(value);
    const isThere = known.values.some((other) => JSON.stringify(other) === text);
    if (table.kind === "bag" && isThere) return;
    known.values.push(value);
    known.expiresAtMs = expiresAtMs;
    known.bytes += bytes;
    this.entries++;
    this.bytes += bytes;
  }

  private makeRoom(count: number, bytes: number): void {
    const isFull = (): boolean =>
      this.entries + count > this.limits.entries || this.bytes + bytes > this.limits.bytes;
    if (!isFull()) return;
    for (const table of this.tables.values()) {
      for (const key of [...table.items.keys()]) this.live(table, key);
    }
    if (isFull()) {
      const { entries, bytes: most } = this.limits;
      throw new Error(`the kv tables are full: ${entries} entries or ${most} bytes at most`);
    }
  }

  private lookup({ table, key }: KeyArgs): unknown[] {
    return this.live(this.table(table), key)?.values ?? [];
  }

  private delete({ table: name, key }: KeyArgs): true {
    const table = this.table(name);
    const item = this.live(table, key);
    if (item !== undefined) this.drop(table, key, item);
    return true;
  }

  private deleteAll({ table: name }: { table: string }): true {
    const table = this.table(name);
    for (const [key, item] of [...table.items]) this.drop(table, key, item);
    return true;
  }

  /** Adds to a number in one step; the time to live counts from its first use. */
  private increment({
    table: name,
    key,
    by,
    ttlS,
  }: KeyArgs & { by: number; ttlS: number }): number {
    const table = this.table(name);
    const item = this.live(table, key);
    if (item === undefined) {
      this.makeRoom(1, key.length);
      this.put(table, key, by, ttlS > 0 ? ttlS : undefined);
      return by;
    }
    const [value] = item.values;
    if (typeof value !== "number") throw new Error(`kv.incr: the value of "${key}" is no number`);
    item.values[0] = value + by;
    return value + by;
  }
}

/** About the memory of a value: a number or flag counts 8 bytes, text and bytes as they are long. */
function sizeOf(value: unknown): number {
  if (typeof value === "string" || value instanceof Uint8Array) return value.length + 8;
  if (typeof value !== "object" || value === null) return 8;
  let bytes = 32;
  const items = value instanceof Map ? [...value].flat() : Object.values(value);
  for (const item of items) bytes += sizeOf(item);
  return bytes;
}

interface KeyArgs {
  readonly table: string;
  readonly key: string;
}

interface InsertArgs {
  readonly table: string;
  readonly entries: readonly (readonly [key: string, value: unknown])[];
  readonly ttlS?: number;
}
