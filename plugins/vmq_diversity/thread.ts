import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { Worker } from "node:worker_threads";
import {
  type FromWorker,
  type LoadAnswer,
  type LoadRequest,
  RUNNING_CALL,
  RUNNING_VERSION,
  type ToWorker,
  TURNS,
  type WorkerOptions,
  type WorkerStats,
} from "./messages.ts";
import { threadMs } from "./thread-time.ts";
import { BatchWriter, type ResultBatch } from "./wire.ts";

/** Call ids are marked as begun modulo this number: more than may be under way at once. */
export const BEGUN_MARKS = 1 << 20;
/** Heap of the JavaScript side of one thread, MB; Lua's own memory has a limit per state. */
const HEAP_MB = 1024;
/** Calls of a whole batch die young only if there is room for them. */
const YOUNG_MB = 64;

/** So many times the limit a thread may be silent that gets no processor. */
const PATIENCE = 10;

export interface ThreadEvents {
  /** Takes answers of calls. */
  results(batch: ResultBatch): void;
  /** Everything else that a worker says. */
  message(message: Exclude<FromWorker, ResultBatch | LoadAnswer | WorkerStats>): void;
  /** The thread has ended by itself, or was ended because it did not come back. */
  died(reason: string): void;
}

/** Path of the compiled worker; from the sources it is the one in dist/. */
function workerFile(): string {
  const own = fileURLToPath(new URL("./worker/main.js", import.meta.url));
  if (existsSync(own)) return own;
  const built = new URL("../../dist/plugins/vmq_diversity/worker/main.js", import.meta.url);
  return fileURLToPath(built);
}

/** One worker thread, seen from the broker's. */
export class LuaThread {
  readonly index: number;
  stats: WorkerStats | undefined;
  private readonly worker: Worker;
  private readonly events: ThreadEvents;
  private readonly writer = new BatchWriter();
  private readonly loads = new Map<number, (answer: LoadAnswer) => void>();
  private readonly progress: Int32Array;
  private readonly begun: Uint8Array;
  private isFlushScheduled = false;
  private isOver = false;
  private isReady = false;
  private turnsSeen = 0;
  private seenAtMs = performance.now();
  /** See thread-time.ts. */
  private accounts: string | undefined;
  /** Processor time that it had had when it was found silent. */
  private workedMs: number | undefined;
  readonly ready: Promise<void>;

  constructor(options: Omit<WorkerOptions, "progress" | "begun">, events: ThreadEvents) {
    this.index = options.thread;
    this.events = events;
    const progress = new SharedArrayBuffer(16);
    const begun = new SharedArrayBuffer(BEGUN_MARKS);
    this.progress = new Int32Array(progress);
    this.begun = new Uint8Array(begun);
    const workerData: WorkerOptions = { ...options, progress, begun };
    this.worker = new Worker(workerFile(), {
      workerData,
      name: `vmq_diversity ${options.thread}`,
      resourceLimits: { maxOldGenerationSizeMb: HEAP_MB, maxYoungGenerationSizeMb: YOUNG_MB },
      stdout: false,
      stderr: false,
    });
    this.ready = new Promise((resolve, reject) => {
      this.worker.on("message", (messages: readonly FromWorker[]) => {
        for (const message of messages) {
          if (message.type === "ready") {
            this.isReady = true;
            this.accounts = message.accounts;
            resolve();
          }
          this.receive(message);
        }
      });
      this.worker.on("error", (error) => {
        const reason = error instanceof Error ? (error.stack ?? error.message) : String(error);
        reject(new Error(`the Lua thread could not be started: ${reason}`));
        this.over(reason);
      });
      this.worker.on("exit", (code) => {
        reject(new Error(`the Lua thread ended with ${code}`));
        this.over(`it ended with exit code ${code}`);
      });
    });
    this.ready.catch(() => undefined);
  }

  private receive(message: FromWorker): void {
    if (this.isOver) return;
    switch (message.type) {
      case "results":
        this.events.results(message);
        break;
      case "loaded": {
        const done = this.loads.get(message.request);
        this.loads.delete(message.request);
        done?.(message);
        break;
      }
      case "stats":
        this.stats = message;
        break;
      default:
        this.events.message(message);
    }
  }

  private over(reason: string): void {
    if (this.isOver) return;
    this.isOver = true;
    const fault = `the Lua thread has ended: ${reason}`;
    for (const [request, done] of this.loads) done({ type: "loaded", request, fault });
    this.loads.clear();
    this.events.died(reason);
  }

  /** The next batch; calls written to it leave together at the end of this turn of the event loop. */
  get batch(): BatchWriter {
    if (!this.isFlushScheduled) {
      this.isFlushScheduled = true;
      setImmediate(this.flush);
    }
    return this.writer;
  }

  private readonly flush = (): void => {
    this.isFlushScheduled = false;
    if (this.writer.isEmpty || this.isOver) return;
    const batch = this.writer.take();
    this.worker.postMessage(batch, [batch.bytes.buffer as ArrayBuffer]);
  };

  send(message: ToWorker): void {
    if (this.isOver) return;
    // What was written before must arrive before.
    this.flush();
    this.worker.postMessage(message);
  }

  load(request: LoadRequest): Promise<LoadAnswer> {
    return new Promise((resolve) => {
      if (this.isOver) {
        const fault = "the Lua thread has ended";
        resolve({ type: "loaded", request: request.request, fault });
        return;
      }
      this.loads.set(request.request, resolve);
      this.send(request);
    });
  }

  /** The thread is given a new call id: forget what an earlier one with this mark did. */
  unmark(id: number): void {
    this.begun[id % BEGUN_MARKS] = 0;
  }

  hasBegun(id: number): boolean {
    return this.begun[id % BEGUN_MARKS] === 1;
  }

  /**
   * True when the thread has shown no sign of life for `limitMs`. On a machine that is too busy to let it run it
   * only waits: half of that time must be its own, unless it is very long.
   */
  isStuck(nowMs: number, limitMs: number): boolean {
    const turns = Atomics.load(this.progress, TURNS);
    if (turns !== this.turnsSeen || !this.isReady) {
      this.turnsSeen = turns;
      this.seenAtMs = nowMs;
      this.workedMs = undefined;
      return false;
    }
    const silentMs = nowMs - this.seenAtMs;
    if (silentMs < limitMs / 4) return false;
    const workedMs = threadMs(this.accounts);
    this.workedMs ??= workedMs;
    if (silentMs < limitMs) return false;
    if (workedMs === undefined || this.workedMs === undefined) return true;
    return workedMs - this.workedMs >= limitMs / 2 || silentMs >= limitMs * PATIENCE;
  }

  /** What the thread was doing when it was last heard of. */
  get running(): { call: number; version: number } {
    const call = Atomics.load(this.progress, RUNNING_CALL);
    return { call, version: Atomics.load(this.progress, RUNNING_VERSION) };
  }

  async end(reason: string): Promise<void> {
    this.over(reason);
    await this.worker.terminate();
  }
}
