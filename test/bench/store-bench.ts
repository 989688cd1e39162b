import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { performance } from "node:perf_hooks";
import { Message } from "../../core/mqtt/message.ts";
import { EmbeddedStore } from "../../core/store/embedded/embedded-store.ts";
import type { StoreEntry, StoreQueue } from "../../core/store/types.ts";

/**
 * What the embedded store costs: `node dist/test/bench/store-bench.js [seconds per row]`. Prints
 * operations per second, microseconds of the main thread per operation (event-loop active time) and of
 * all threads. An operation is one entry put or deleted.
 */
const PER_TURN = 200;
const PAYLOAD = Buffer.alloc(100, "x");
const seconds = Number(process.argv[2] ?? 3);

interface Row {
  name: string;
  /** Receivers of each message: 1 = message inside the entry, more = shared. */
  receivers: number;
  /** Deletes what the previous turns committed. */
  deletes: boolean;
  /** Deletes in the same turn, before anything is written. */
  cancels?: boolean;
  sync?: boolean;
  payload?: Buffer;
}

const ROWS: Row[] = [
  { name: "put", receivers: 1, deletes: false },
  { name: "put, delete after commit", receivers: 1, deletes: true },
  { name: "put, delete before write", receivers: 1, deletes: true, cancels: true },
  { name: "shared by 10, delete after commit", receivers: 10, deletes: true },
  {
    name: "put 1 KB, delete after commit",
    receivers: 1,
    deletes: true,
    payload: Buffer.alloc(1024),
  },
  { name: "put, delete after commit, sync", receivers: 1, deletes: true, sync: true },
];

const QUEUES = 10;

function turn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

function putOne(store: EmbeddedStore, queue: StoreQueue, message: Message, shared: boolean) {
  const entry: StoreEntry = {
    seq: queue.nextSeq++,
    message,
    qos: 1,
    retain: false,
    subscriptionIds: undefined,
    packetId: 0,
    state: 0,
    stored: 0,
    sharedRef: 0,
  };
  queue.storedCount++;
  store.putEntry(queue, entry, shared);
  return { queue, entry };
}

async function measure(row: Row): Promise<string> {
  const folder = mkdtempSync(join(tmpdir(), "store-bench-"));
  const store = new EmbeddedStore({ folder, sync: row.sync ?? false });
  await store.open();
  const queues: StoreQueue[] = Array.from({ length: QUEUES }, () => {
    return { id: store.newQueueId(), storedCount: 0, nextSeq: 1, nextPacketId: 1 };
  });
  let done: { queue: StoreQueue; entry: StoreEntry }[] = [];
  let operations = 0;
  let previous = Promise.resolve();
  const begin = performance.now();
  const cpu = process.cpuUsage();
  const loop = performance.eventLoopUtilization();
  while (performance.now() - begin < seconds * 1000) {
    const deleting = done;
    done = [];
    for (let i = 0; i < PER_TURN / row.receivers; i++) {
      const message = new Message(
        "",
        "bench/topic/1",
        row.payload ?? PAYLOAD,
        1,
        false,
        undefined,
        0,
      );
      for (let r = 0; r < row.receivers; r++) {
        const queue = queues[(i + r) % QUEUES] as StoreQueue;
        done.push(putOne(store, queue, message, row.receivers > 1));
      }
    }
    if (row.deletes) {
      for (const { queue, entry } of row.cancels ? done : deleting) {
        queue.storedCount--;
        store.deleteEntry(queue, entry);
      }
      operations += row.cancels ? done.length : deleting.length;
    } else {
      for (const { entry } of deleting) store.forgetEntry(entry);
    }
    operations += done.length;
    // As a broker with many publishers does: go on while the batch before is being written.
    await Promise.all([turn(), previous]);
    previous = store.flush();
  }
  await store.flush();
  const ms = performance.now() - begin;
  const active = performance.eventLoopUtilization(loop).active;
  const used = process.cpuUsage(cpu);
  const batches = store.status().batches;
  await store.close();
  rmSync(folder, { recursive: true });
  return [
    row.name.padEnd(36),
    `${Math.round(operations / (ms / 1000)).toLocaleString("en")}/s`.padStart(12),
    `main ${((active * 1000) / operations).toFixed(2)} us/op`,
    `all ${((used.user + used.system) / operations).toFixed(2)} us/op`,
    `${Math.round(operations / batches)} per batch`,
  ].join("  ");
}

for (const row of ROWS) console.log(await measure(row));
