import type { IncomingMessage } from "node:http";
import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import type { HttpListenerSettings, Peer } from "../../listeners/types.ts";

/** Lets a request in; otherwise it has answered 400, 401 or 429 and gives false. */
export type Guard = (request: FastifyRequest, reply: FastifyReply) => boolean | Promise<boolean>;

/** What `http_modules` can name: a set of paths with one access rule. */
export interface HttpModule {
  readonly name: string;
  /** Scope that an API key needs with `auth.mode = apikey`. */
  readonly scope: string;
  /** Adds its paths to the server of one listener. `peerOf` knows callers behind proxies, too. */
  register(
    app: FastifyInstance,
    guard: Guard,
    listener: HttpListenerSettings,
    peerOf: (request: IncomingMessage) => Peer,
  ): void;
}

/** Checks an API key for a scope; keys that expired are none. */
export type KeyCheck = (key: string, scope: string) => boolean | Promise<boolean>;

/** A listener as operators see it. */
export interface ListenerState {
  /** VerneMQ's word: mqtt, mqtts, mqttws, mqttwss, http or https. */
  readonly type: string;
  readonly name: string;
  readonly isRunning: boolean;
  readonly address: string;
  readonly port: number;
  readonly mountpoint: string;
  /** Infinity = unlimited. */
  readonly maxConnections: number;
  readonly connections: number;
}
