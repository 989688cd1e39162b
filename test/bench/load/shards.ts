// Shards as the main thread sees them: in worker threads, or the one in the main thread itself.
import { once } from "node:events";
import { Worker } from "node:worker_threads";
import type { ShardFigures } from "./flow.ts";
import { EXIT, LoadError } from "./options.ts";
import type { RunPlan } from "./run-state.ts";
import { type Role, Shard } from "./shard.ts";

/** One call to a worker; it answers with one ShardReply. */
export type ShardCall =
  | { readonly name: "bringUp"; readonly role: Role }
  | { readonly name: "run" | "stop" | "figures" | "tearDown" };

/** The answer of a worker. */
export type ShardReply =
  | { readonly isFine: true; readonly figures?: ShardFigures }
  | { readonly isFine: false; readonly status: number; readonly message: string };

/** A shard, wherever it runs. */
export interface ShardHandle {
  bringUp(role: Role): Promise<void>;
  run(): Promise<void>;
  stop(): Promise<void>;
  figures(): Promise<ShardFigures>;
  tearDown(): Promise<void>;
  close(): Promise<void>;
}

/** A shard in this thread. */
export function localShard(plan: RunPlan): ShardHandle {
  const shard = new Shard(plan, 0);
  return {
    bringUp: (role) => shard.bringUp(role),
    run: async () => shard.run(),
    stop: async () => shard.stop(),
    figures: async () => shard.figures(),
    tearDown: () => shard.tearDown(),
    close: async () => {},
  };
}

/** A shard in a worker thread. Needs the compiled worker beside this file. */
export function workerShard(plan: RunPlan, index: number): ShardHandle {
  const worker = new Worker(new URL("./worker.js", import.meta.url), {
    workerData: { plan, index },
  });
  const call = async (request: ShardCall): Promise<ShardFigures | undefined> => {
    worker.postMessage(request);
    // rejects when the worker throws
    const [reply] = (await once(worker, "message")) as [ShardReply];
    if (!reply.isFine) throw new LoadError(reply.status, reply.message);
    return reply.figures;
  };
  return {
    bringUp: async (role) => void (await call({ name: "bringUp", role })),
    run: async () => void (await call({ name: "run" })),
    stop: async () => void (await call({ name: "stop" })),
    figures: async () => {
      const figures = await call({ name: "figures" });
      if (figures === undefined) throw new LoadError(EXIT.internal, "a worker has no figures");
      return figures;
    },
    tearDown: async () => void (await call({ name: "tearDown" })),
    close: async () => void (await worker.terminate()),
  };
}
