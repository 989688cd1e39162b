import type { Cluster } from "./types.ts";

/** A cluster of one: always ready, owns everything. */
export function singleNode(nodeName: string): Cluster {
  return {
    nodeName,
    isReady: true,
    members: () => [{ name: nodeName, running: true }],
    claim: () => undefined,
    release: () => {},
  };
}
