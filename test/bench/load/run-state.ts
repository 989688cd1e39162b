// What the threads of one pubsub run share.
import type { PubsubOptions } from "./options.ts";

/** Marks payloads of this program; the run's own 16 bits are above it. */
const MAGIC = 0x4d4c;

/** Counters that each shard writes and everybody reads. */
export const COUNTER = {
  sent: 0,
  received: 1,
  inflight: 2,
  acks: 3,
  isSending: 4,
  disconnects: 5,
  extra: 6, // duplicates and the like: progress, but no delivery
} as const;
const COUNTERS = 8;

/** Everything a shard needs; can be handed to a worker as it is. */
export interface RunPlan {
  readonly options: PubsubOptions;
  readonly shards: number;
  readonly magic: number;
  readonly clientPrefix: string;
  /** Send times in payloads count from here. */
  readonly epochMs: number;
  /** Deliveries per message. */
  readonly fan: number;
  /** One row of counters per shard, then one cell `writtenOff`. Each cell has one writer. */
  readonly counters: SharedArrayBuffer;
  /** Next sequence number of each publisher. */
  readonly sequences: SharedArrayBuffer;
}

/** Plans a run: who it is, what it shares. */
export function planRun(options: PubsubOptions, shards: number, epochMs: number): RunPlan {
  const run = (Math.floor(epochMs * 1000) ^ (process.pid << 5)) & 0xffff;
  return {
    options,
    shards,
    magic: (MAGIC | (run << 16)) >>> 0,
    clientPrefix: `nl${run.toString(16)}${process.pid}`,
    epochMs,
    fan: deliveriesPerMessage(options),
    counters: new SharedArrayBuffer((shards + 1) * COUNTERS * 8),
    sequences: new SharedArrayBuffer(options.pubs * 4),
  };
}

function deliveriesPerMessage({ pattern, subs }: PubsubOptions): number {
  return pattern === "fanin" || pattern === "fanout" ? subs : Math.min(1, subs);
}

/** The topic of a publisher. */
export function topicOf(options: PubsubOptions, publisher: number): string {
  return `${options.topicPrefix}/${publisher}`;
}

/** Reads and writes the shared counters. */
export class SharedCounters {
  readonly #cells: Float64Array;
  readonly #shards: number;

  constructor(plan: RunPlan) {
    this.#cells = new Float64Array(plan.counters);
    this.#shards = plan.shards;
  }

  set(shard: number, counter: number, value: number): void {
    this.#cells[shard * COUNTERS + counter] = value;
  }

  /** Sum over all shards. */
  total(counter: number): number {
    let sum = 0;
    for (let shard = 0; shard < this.#shards; shard++)
      sum += this.#cells[shard * COUNTERS + counter] ?? 0;
    return sum;
  }

  /** Deliveries that are given up on: they do not count as in flight any more, but as lost. */
  get writtenOff(): number {
    return this.#cells[this.#shards * COUNTERS] ?? 0;
  }

  set writtenOff(value: number) {
    this.#cells[this.#shards * COUNTERS] = value;
  }
}
