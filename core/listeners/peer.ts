import type { Socket } from "node:net";
import type { Peer } from "./types.ts";

/** A client of a unix socket has no address; hooks and ACLs get the loopback one it stands for. */
export const LOCAL_PEER: Peer = { address: "127.0.0.1", port: 0 };

/** The socket was reset before its address could be read. */
export const UNKNOWN_PEER: Peer = { address: "0.0.0.0", port: 0 };

/** `::ffff:192.0.2.1`, what an IPv4 client looks like on a listener on `::`, as `192.0.2.1`. */
export function plainAddress(address: string): string {
  return address.startsWith("::ffff:") && address.includes(".") ? address.slice(7) : address;
}

/** Who an accepted connection is from and what vouched for it, before MQTT starts. */
export interface Origin {
  readonly peer: Peer;
  readonly preAuthUsername: string | undefined;
}

/** Address of the other end of a socket. */
export function peerOfSocket(socket: Socket, unixSocket: boolean): Peer {
  if (unixSocket) return LOCAL_PEER;
  const { remoteAddress, remotePort } = socket;
  if (remoteAddress === undefined || remotePort === undefined) return UNKNOWN_PEER;
  return { address: plainAddress(remoteAddress), port: remotePort };
}
