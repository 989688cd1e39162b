import type { SubscriberId } from "../hooks/types.ts";

/**
 * The cluster seam: who owns a client id, and whether this node may act. With one node every answer
 * is immediate; a cluster answers later, and sessions wait for it.
 */
export interface Cluster {
  readonly nodeName: string;
  /** False during a netsplit: the `allow_*_during_netsplit` settings decide then. */
  readonly isReady: boolean;
  members(): readonly { name: string; running: boolean }[];
  /**
   * Makes this node the owner of a client id; resolves when no other node serves it any more.
   * Undefined = already so.
   */
  claim(subscriber: SubscriberId): Promise<void> | undefined;
  /** The client id has no state on this node any more. */
  release(subscriber: SubscriberId): void;
}
