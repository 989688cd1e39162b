// The load generator as the suites see it: ours, or the C one that MQTTLOAD names.
import { join } from "node:path";
import type { ConnectResult } from "./load/connect.ts";
import type { PubsubResult } from "./load/pubsub.ts";
import type { Peer } from "./peers.ts";
import { repositoryRoot, runToEnd } from "./process.ts";

/** Which program makes the load. Both take the same options and print the same JSON. */
export interface Generator {
  readonly name: string;
  readonly command: readonly string[];
}

/** The generator that this environment asks for. */
export function pickGenerator(): Generator {
  const { MQTTLOAD: path } = process.env;
  if (path) return { name: `mqttload (C, ${path})`, command: [path] };
  const main = join(repositoryRoot(), "dist/test/bench/load/main.js");
  return { name: "test/bench/load (TypeScript)", command: [process.execPath, main] };
}

/** What one run of the generator gave; only the fields of its command are there. */
export type LoadResult = Partial<PubsubResult> & Partial<ConnectResult> & { readonly ok: boolean };

/** Runs the load against a broker. Throws when there is no result at all. */
export async function runLoad(
  generator: Generator,
  peer: Peer,
  args: readonly string[],
  timeoutMs: number,
): Promise<LoadResult> {
  const where = ["--port", String(peer.port), "--pid", String(peer.pid), "--json"];
  const { status, stdout, stderr } = await runToEnd(
    [...generator.command, ...args, ...where],
    timeoutMs,
  );
  const line = stdout.trim().split("\n").pop() ?? "";
  if (line.startsWith("{")) return JSON.parse(line) as LoadResult;
  const said = stderr.trim().split("\n").pop();
  throw new Error(said || (status === -1 ? "the generator hung" : `generator status ${status}`));
}

/** Why a run counts as failed; empty when it does not. At least once may deliver twice. */
export function faultOf(result: LoadResult): string {
  const counted: Record<string, number | undefined> = {
    lost: result.lost,
    misordered: result.misordered,
    misrouted: result.misrouted,
    bad: result.bad,
    rejected: result.rejected,
    disconnects: result.disconnects,
    dups: result.qos === 1 ? 0 : result.dups,
    failed: result.failed,
    drops: result.drops,
  };
  const faults = Object.entries(counted).filter(([, count]) => count !== undefined && count > 0);
  if (faults.length === 0) return result.ok ? "" : "not ok";
  return faults.map(([name, count]) => `${name} ${count}`).join(", ");
}
