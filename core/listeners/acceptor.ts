/** What the kinds of listeners have in common, seen from `listener.ts`. */
import type { Socket } from "node:net";
import type { Origin } from "./peer.ts";

/** Where a listener says what operators should know; pino fits. */
export interface ListenerLogger {
  warn(message: string): void;
  info(message: string): void;
}

export interface ListenerDependencies {
  readonly logger: ListenerLogger;
  /** How often certificate, key, CA and PSK files are looked at, default 1000 ms. */
  readonly filePollMs?: number;
  /** Off: plain TCP goes through `net.Socket` too, as on a Node without the internals we need. */
  readonly useRawTcp?: boolean;
  /** Limit for a whole HTTP request, default 30 000 ms. */
  readonly requestTimeoutMs?: number;
  /** Limit for the PROXY header, default 10 000 ms. */
  readonly proxyTimeoutMs?: number;
}

/** What a kind of listener does with an accepted socket once PROXY protocol is dealt with. */
export interface Acceptor {
  /** Reads files; throws LISTENER_FILE or LISTENER_TLS. */
  start(): void;
  accept(socket: Socket, origin: Origin): void;
  stop(): void;
  /** Reads certificates and the like again. */
  rereadFiles(): void;
}
