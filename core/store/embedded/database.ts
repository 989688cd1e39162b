import { readdir } from "node:fs/promises";
import { ClassicLevel } from "classic-level";
import { errorMessage, NautilusError } from "../../errors.ts";
import type { EncodedBatch } from "./batch.ts";
import { type KeyRange, keyAfter } from "./keys.ts";

export type Level = ClassicLevel<Buffer, Buffer>;
export type Row = [key: Buffer, value: Buffer];

/** Collects this much before it is sorted into a file; also what a start replays at most. Measured:
 * test/bench/store-bench.ts, 16 MB writes 20 % more per second than LevelDB's 4 MB. */
const WRITE_BUFFER_BYTES = 16 * 1024 * 1024;
const CACHE_BYTES = 32 * 1024 * 1024;
/** A page of a scan ends at so many rows or bytes. */
const SCAN_ROWS = 1000;
const SCAN_BYTES = 1024 * 1024;

export interface DatabaseOptions {
  folder: string;
  /** Waits for the disk after each batch: survives power loss, not only the end of the process. */
  sync: boolean;
  /** LevelDB could not open its files and repairs them. */
  onRepair(cause: unknown): void;
  /** For tests: the engine. */
  createLevel?: (folder: string) => Level;
}

export interface PageOptions {
  rows: number;
  bytes: number;
  descending?: boolean;
}

/**
 * LevelDB with what it lacks: coded errors, one repair at open, and an end to its habit of refusing all
 * writes for ever after one that failed: it is closed and opened again, with no reader inside.
 */
export class Database {
  readonly #options: DatabaseOptions;
  /** Made when opened: the engine opens itself as soon as it is there. */
  #made: Level | undefined;
  #needsReopen = false;
  #isClosed = false;
  #reopening: Promise<void> | undefined;
  #readers = 0;
  #lastReaderLeft: (() => void) | undefined;

  constructor(options: DatabaseOptions) {
    this.#options = options;
  }

  get #level(): Level {
    const { folder, createLevel = createClassicLevel } = this.#options;
    this.#made ??= createLevel(folder);
    return this.#made;
  }

  /** @throws NautilusError STORE_LOCKED, STORE_OPEN */
  async open(): Promise<void> {
    const { folder } = this.#options;
    try {
      if (await isHeadless(folder)) await this.#repair(new Error("its CURRENT file is missing"));
      else await this.#level.open();
    } catch (error) {
      if (error instanceof NautilusError) throw error;
      if (!isRepairable(error)) throw this.#openError(error);
      await this.#repair(error);
    }
  }

  async #repair(cause: unknown): Promise<void> {
    this.#options.onRepair(causeOf(cause));
    try {
      await ClassicLevel.repair(this.#options.folder);
      await this.#level.open();
    } catch (error) {
      throw this.#openError(error);
    }
  }

  #openError(error: unknown): NautilusError {
    const { folder } = this.#options;
    const cause = causeOf(error);
    if (codeOf(cause) === "LEVEL_LOCKED")
      return new NautilusError("STORE_LOCKED", { folder }, error);
    return new NautilusError("STORE_OPEN", { folder, reason: errorMessage(cause) }, error);
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    await this.#made?.close();
  }

  /** @throws NautilusError STORE_WRITE; the same batch may then be written again. */
  async write(encoded: EncodedBatch): Promise<void> {
    try {
      if (this.#needsReopen && !this.#isClosed) await this.#reopen();
      // A chained batch costs 0.5 us per operation, an array of operations 10. Measured.
      const batch = this.#level.batch();
      for (const [i, key] of encoded.keys.entries()) {
        const value = encoded.values[i];
        if (value === undefined) batch.del(key);
        else batch.put(key, value);
      }
      await batch.write({ sync: this.#options.sync });
    } catch (error) {
      // What LevelDB has in its log is now uncertain; opening it again makes it certain.
      this.#needsReopen = true;
      const reason = errorMessage(causeOf(error));
      throw new NautilusError("STORE_WRITE", { folder: this.#options.folder, reason }, error);
    }
  }

  async #reopen(): Promise<void> {
    this.#reopening = this.#reopenAlone();
    try {
      await this.#reopening;
      this.#needsReopen = false;
    } finally {
      this.#reopening = undefined;
    }
  }

  async #reopenAlone(): Promise<void> {
    if (this.#readers > 0) {
      await new Promise<void>((resolve) => {
        this.#lastReaderLeft = resolve;
      });
    }
    await this.#level.close();
    await this.#level.open();
  }

  async #reading<Result>(read: () => Promise<Result>): Promise<Result> {
    while (this.#reopening !== undefined) await this.#reopening.catch(() => undefined);
    this.#readers++;
    try {
      return await read();
    } finally {
      this.#readers--;
      if (this.#readers === 0) this.#lastReaderLeft?.();
    }
  }

  get(key: Buffer): Promise<Buffer | undefined> {
    return this.#reading(() => this.#level.get(key));
  }

  getMany(keys: Buffer[]): Promise<(Buffer | undefined)[]> {
    return this.#reading(() => this.#level.getMany(keys));
  }

  /** The first rows of a range, or the last ones when descending; empty = there are none. */
  page(range: KeyRange, options: PageOptions): Promise<Row[]> {
    return this.#reading(async () => {
      const iterator = this.#level.iterator({
        ...range,
        reverse: options.descending === true,
        limit: options.rows,
        highWaterMarkBytes: options.bytes,
      });
      try {
        return await iterator.nextv(options.rows);
      } finally {
        await iterator.close();
      }
    });
  }

  /** All rows of a range, in pages: memory stays bounded however many there are. */
  async *scan(range: KeyRange): AsyncGenerator<Row> {
    let gte = range.gte;
    for (;;) {
      const rows = await this.page({ gte, lt: range.lt }, { rows: SCAN_ROWS, bytes: SCAN_BYTES });
      yield* rows;
      const last = rows.at(-1);
      if (last === undefined) return;
      gte = keyAfter(last[0]);
    }
  }

  /** How many keys a range has, and the last of them. */
  async count(range: KeyRange): Promise<{ count: number; last: Buffer | undefined }> {
    let count = 0;
    let last: Buffer | undefined;
    for await (const [key] of this.scan(range)) {
      count++;
      last = key;
    }
    return { count, last };
  }
}

function createClassicLevel(folder: string): Level {
  return new ClassicLevel<Buffer, Buffer>(folder, {
    keyEncoding: "buffer",
    valueEncoding: "buffer",
    writeBufferSize: WRITE_BUFFER_BYTES,
    cacheSize: CACHE_BYTES,
  });
}

/** Data without the file that names it: LevelDB would start empty there and delete the data. */
async function isHeadless(folder: string): Promise<boolean> {
  const names = await readdir(folder).catch((): string[] => []);
  return names.some((name) => /^\d+\.(ldb|sst|log)$/.test(name)) && !names.includes("CURRENT");
}

/** Damaged or missing files, not a lock, a permission or a full disk. */
function isRepairable(error: unknown): boolean {
  const cause = causeOf(error);
  if (codeOf(cause) === "LEVEL_CORRUPTION") return true;
  return codeOf(cause) === "LEVEL_IO_ERROR" && errorMessage(cause).includes("No such file");
}

/** abstract-level wraps what LevelDB says. */
function causeOf(error: unknown): unknown {
  return error instanceof Error && error.cause !== undefined ? error.cause : error;
}

function codeOf(error: unknown): string | undefined {
  if (!(error instanceof Error) || !("code" in error)) return undefined;
  return typeof error.code === "string" ? error.code : undefined;
}
