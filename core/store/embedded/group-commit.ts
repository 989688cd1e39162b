import { EncodedBatch, OpenBatch } from "./batch.ts";

/** Waits between attempts after a failed write: doubled from the first to the last. */
const RETRY_MS_MIN = 100;
const RETRY_MS_MAX = 5000;
/**
 * How long copies on their way to connected receivers stay unwritten. Most are acknowledged by then and
 * never written. Measured: test/bench, row durable-1.
 */
const PATIENCE_MS = 1;
/** A batch above this waits for nobody. */
const PATIENCE_BYTES = 1_048_576;
/** A store that is closing gives up after so many attempts (0.3 s). */
const CLOSING_ATTEMPTS = 3;

export interface GroupCommitOptions {
  /** Turns what was noted into bytes; from now on the entries count as handed to the database. */
  encode(batch: OpenBatch, encoded: EncodedBatch): void;
  write(encoded: EncodedBatch): Promise<void>;
  /** The batch is durable. */
  settle(batch: OpenBatch): void;
  onCommit(batch: number): void;
  onError(error: Error): void;
  wait(ms: number): Promise<void>;
}

interface Waiter {
  batch: number;
  resolve(): void;
  reject(error: Error): void;
}

/**
 * Group commit: one batch is written at a time, the next collects meanwhile. A write begins once per
 * event-loop turn, or as soon as the one before has ended. A batch that cannot be written is kept and
 * tried again, for as long as it takes.
 */
export class GroupCommit {
  readonly #options: GroupCommitOptions;
  #open = new OpenBatch(1);
  #writing: OpenBatch | undefined;
  #writingBytes = 0;
  #isRunning = false;
  #patience: NodeJS.Timeout | undefined;
  #isClosing = false;
  #failure: Error | undefined;
  #waiters: Waiter[] = [];
  #committed = 0;
  batches = 0;
  writes = 0;

  constructor(options: GroupCommitOptions) {
    this.#options = options;
  }

  /** The newest durable batch. */
  get committed(): number {
    return this.#committed;
  }

  get open(): OpenBatch {
    return this.#open;
  }

  get pendingBytes(): number {
    return this.#open.bytes + this.#writingBytes;
  }

  /**
   * The open batch, to note a change in. A patient change waits up to PATIENCE_MS for its opposite or
   * for one that is not patient. @throws what made it give up.
   */
  note(isPatient = false): OpenBatch {
    if (this.#failure !== undefined) throw this.#failure;
    const open = this.#open;
    open.isDirty = true;
    if (open.isUrgent) return open;
    if (!isPatient || open.bytes > PATIENCE_BYTES) this.#hurry();
    else if (!this.#isRunning) this.#startPatience();
    return open;
  }

  /** The open batch is to be written in this turn. */
  #hurry(): void {
    this.#open.isUrgent = true;
    if (this.#isRunning) return;
    this.#isRunning = true;
    clearTimeout(this.#patience);
    this.#patience = undefined;
    setImmediate(() => void this.#run());
  }

  #startPatience(): void {
    this.#patience ??= setTimeout(() => {
      this.#patience = undefined;
      if (this.#isRunning || !this.#open.isDirty) return;
      this.#isRunning = true;
      void this.#run();
    }, PATIENCE_MS);
  }

  /** The newest batch with anything of this queue in it that is not durable yet, or 0. */
  pendingBatchOf(queueId: number): number {
    if (this.#open.queueIds.has(queueId)) return this.#open.number;
    return this.#writing?.queueIds.has(queueId) ? this.#writing.number : 0;
  }

  /** Resolves when everything noted so far is durable. */
  flush(): Promise<void> {
    return this.reached(this.#open.isDirty ? this.#open.number : this.#open.number - 1);
  }

  /** Resolves when `batch` is durable. */
  reached(batch: number): Promise<void> {
    if (this.#failure !== undefined) return Promise.reject(this.#failure);
    if (batch <= this.#committed) return Promise.resolve();
    if (batch === this.#open.number) this.#hurry();
    return new Promise((resolve, reject) => this.#waiters.push({ batch, resolve, reject }));
  }

  /** Like flush, but gives up when the disk does not take it. */
  close(): Promise<void> {
    this.#isClosing = true;
    return this.flush();
  }

  /** For a fault of a part that works in the background. */
  reportError(error: Error): void {
    this.#options.onError(error);
  }

  async #run(): Promise<void> {
    try {
      let written = this.#begin(true);
      for (let batch = this.#writing; batch !== undefined; ) {
        await written;
        this.#committed = batch.number;
        this.batches++;
        // The next write begins before anybody hears of this one: the disk works while we do.
        written = this.#begin(this.#open.isUrgent);
        const next: OpenBatch | undefined = this.#writing;
        if (next === undefined) {
          this.#isRunning = false;
          if (this.#open.isDirty) this.#startPatience();
        }
        this.#finish(batch);
        batch = next;
      }
    } catch (error) {
      this.#giveUp(error as Error);
    }
  }

  /** Takes the open batch, if anything is in it, and begins to write it. */
  #begin(isDue: boolean): Promise<void> {
    const batch = this.#open;
    if (!batch.isDirty || !isDue) {
      this.#writing = undefined;
      return Promise.resolve();
    }
    this.#open = new OpenBatch(batch.number + 1);
    this.#writing = batch;
    const encoded = new EncodedBatch();
    this.#options.encode(batch, encoded);
    this.#writingBytes = encoded.bytes;
    this.writes += encoded.keys.length;
    // All of it was taken back before it was written.
    if (encoded.keys.length === 0) return Promise.resolve();
    return this.#write(encoded);
  }

  async #write(encoded: EncodedBatch): Promise<void> {
    for (let attempt = 1; ; attempt++) {
      try {
        return await this.#options.write(encoded);
      } catch (error) {
        this.#options.onError(error as Error);
        if (this.#isClosing && attempt >= CLOSING_ATTEMPTS) throw error;
        await this.#options.wait(Math.min(RETRY_MS_MIN * 2 ** (attempt - 1), RETRY_MS_MAX));
      }
    }
  }

  #finish(batch: OpenBatch): void {
    if (this.#writing === undefined) this.#writingBytes = 0;
    this.#options.settle(batch);
    try {
      this.#options.onCommit(batch.number);
    } catch (error) {
      // The listener's fault, not the disk's: the batch is written all the same.
      this.#options.onError(error as Error);
    }
    const waiters = this.#waiters;
    if (waiters.length === 0) return;
    this.#waiters = waiters.filter((waiter) => waiter.batch > this.#committed);
    for (const waiter of waiters) if (waiter.batch <= this.#committed) waiter.resolve();
  }

  /** The disk refused while closing, or a record could not be made: from now on `note` throws. */
  #giveUp(error: Error): void {
    this.#failure = error;
    if (!this.#isClosing) this.#options.onError(error);
    for (const waiter of this.#waiters) waiter.reject(error);
    this.#waiters = [];
  }
}
