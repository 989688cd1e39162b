import type { IncomingMessage, ServerResponse } from "node:http";
import fastify, { type FastifyInstance, type FastifyReply } from "fastify";
import type { HttpListenerSettings, Peer } from "../../listeners/types.ts";
import type { Logger } from "../../logger.ts";
import { accessGuard, type WrongKeys } from "./access.ts";
import type { RateLimiter } from "./rate-limiter.ts";
import type { HttpModule, KeyCheck } from "./types.ts";

/** Bytes of a request's body, where a module has no limit of its own. */
const BODY_BYTES_MAX = 65_536;

/** What the servers of all HTTP listeners share. */
export interface HttpParts {
  readonly log: Logger;
  readonly checkKey: KeyCheck;
  /** Requests of one address over all listeners; undefined = unlimited. */
  readonly requests: RateLimiter | undefined;
  readonly wrongKeys: WrongKeys;
  /** Modules that can be named now, those of plugins included. */
  modules(): readonly HttpModule[];
}

/** The requests of one `listener.http(s).<name>`, answered by the modules it names. */
export class HttpServer {
  private readonly listener: HttpListenerSettings;
  private readonly parts: HttpParts;
  private readonly peers = new WeakMap<IncomingMessage, Peer>();
  private app: FastifyInstance | undefined;

  constructor(listener: HttpListenerSettings, parts: HttpParts) {
    this.listener = listener;
    this.parts = parts;
  }

  /** Puts the modules there are now in place; requests under way end with those of before. */
  async rebuild(): Promise<void> {
    const app = this.build();
    await app.ready();
    this.app = app;
  }

  handle(request: IncomingMessage, response: ServerResponse, peer: Peer): void {
    const { requests, log } = this.parts;
    const isAllowed = requests?.take(peer.address) ?? true;
    if (this.app === undefined || !isAllowed) {
      if (!isAllowed) {
        const { kind, name } = this.listener;
        const fields = { listener: `${kind}.${name}`, peer: peer.address };
        log.limited("http rate", 1).warn("too many HTTP requests of one address", fields);
      }
      const status = isAllowed ? 503 : 429;
      response.writeHead(status, { "retry-after": "1", connection: "close", "content-length": 0 });
      response.end();
      return;
    }
    this.peers.set(request, peer);
    this.app.routing(request, response);
  }

  private build(): FastifyInstance {
    const { listener, parts } = this;
    const app = fastify({
      bodyLimit: BODY_BYTES_MAX,
      exposeHeadRoutes: false,
      routerOptions: { ignoreTrailingSlash: true, maxParamLength: listener.maxRequestLineLength },
      frameworkErrors: (_, __, reply) => void (reply as FastifyReply).code(400).send(),
    });
    app.setNotFoundHandler((_, reply) => reply.code(404).send());
    app.setErrorHandler((error, request, reply) => {
      const status = (error as { statusCode?: number }).statusCode ?? 500;
      if (status >= 500) {
        const fields = { method: request.method, path: request.url.split("?", 1)[0] };
        parts.log.limited("http request failed", 1).fault("HTTP request failed", error, fields);
      }
      return reply.code(status).removeHeader("content-type").send();
    });
    const known = parts.modules();
    for (const name of new Set(listener.modules)) {
      const module = known.find((each) => each.name === name);
      if (module === undefined) this.warnUnknown(name, known);
      else void app.register(async (scope) => this.add(scope, module));
    }
    return app;
  }

  private add(scope: FastifyInstance, module: HttpModule): void {
    const { checkKey, wrongKeys } = this.parts;
    const mode = this.listener.authModes.get(module.name) ?? "apikey";
    const guard = accessGuard(mode, module.scope, checkKey, wrongKeys, (request) => {
      return this.peerOf(request.raw).address;
    });
    module.register(scope, guard, this.listener, (request) => this.peerOf(request));
  }

  private peerOf(request: IncomingMessage): Peer {
    return this.peers.get(request) ?? { address: "0.0.0.0", port: 0 };
  }

  private warnUnknown(name: string, known: readonly HttpModule[]): void {
    const { kind, name: listener } = this.listener;
    this.parts.log.error(`listener.${kind}.${listener}: there is no HTTP module ${name}`, {
      hint: `modules there are now: ${known.map((module) => module.name).join(", ")}; one of a plugin needs plugins.<name> = on`,
    });
  }
}
