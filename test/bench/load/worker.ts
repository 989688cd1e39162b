// A worker thread with one shard; answers calls one at a time.
import { parentPort, workerData } from "node:worker_threads";
import { LoadError } from "./options.ts";
import type { RunPlan } from "./run-state.ts";
import { type Role, Shard } from "./shard.ts";
import type { ShardCall, ShardReply } from "./shards.ts";

const { plan, index } = workerData as { plan: RunPlan; index: number };
const shard = new Shard(plan, index);

async function answer(call: ShardCall): Promise<ShardReply> {
  try {
    switch (call.name) {
      case "bringUp":
        await shard.bringUp(call.role as Role);
        return { isFine: true };
      case "run":
        shard.run();
        return { isFine: true };
      case "stop":
        shard.stop();
        return { isFine: true };
      case "figures":
        return { isFine: true, figures: shard.figures() };
      case "tearDown":
        await shard.tearDown();
        return { isFine: true };
    }
  } catch (error) {
    const status = error instanceof LoadError ? error.status : 4;
    return { isFine: false, status, message: error instanceof Error ? error.message : "unknown" };
  }
}

parentPort?.on("message", async (call: ShardCall) => {
  parentPort?.postMessage(await answer(call));
});
