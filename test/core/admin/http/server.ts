import { onTestFinished } from "vitest";
import { WrongKeys } from "../../../../core/admin/http/access.ts";
import type { RateLimiter } from "../../../../core/admin/http/rate-limiter.ts";
import { HttpServer } from "../../../../core/admin/http/server.ts";
import type { HttpModule } from "../../../../core/admin/http/types.ts";
import { createHttpListener } from "../../../../core/listeners/listener.ts";
import type { HttpListenerSettings } from "../../../../core/listeners/types.ts";
import { createLogger } from "../../../../core/logger.ts";

export interface ServeOptions {
  readonly modes?: Readonly<Record<string, "noauth" | "apikey">>;
  /** Scope by key. */
  readonly keys?: Readonly<Record<string, string>>;
  readonly requests?: RateLimiter;
}

/** A listener that serves these modules on a free port; log lines are kept. */
export async function serve(
  modules: readonly HttpModule[],
  { modes = {}, keys = {}, requests }: ServeOptions = {},
): Promise<{ port: number; lines: Record<string, unknown>[] }> {
  const lines: Record<string, unknown>[] = [];
  const settings: HttpListenerSettings = {
    kind: "http",
    name: "test",
    address: "127.0.0.1",
    port: 0,
    unixSocket: false,
    maxConnections: 100,
    proxyProtocol: false,
    proxyProtocolUseCnAsUsername: false,
    maxRequestLineLength: 8000,
    maxHeaderValueLength: 4096,
    tls: undefined,
    modules: modules.map(({ name }) => name),
    authModes: new Map(Object.entries(modes)),
  };
  const log = createLogger({
    level: "debug",
    format: "json",
    destination: { write: (line) => lines.push(JSON.parse(line)) },
  });
  const server = new HttpServer(settings, {
    log,
    checkKey: async (key, scope) => keys[key] === scope,
    requests,
    // A clock that stands still: a second never passes.
    wrongKeys: new WrongKeys(() => 0),
    modules: () => modules,
  });
  await server.rebuild();
  const listener = createHttpListener(
    settings,
    {
      onRequest: (request, response, peer) => server.handle(request, response, peer),
      onRefused: () => {},
    },
    { logger: log },
  );
  await listener.start();
  onTestFinished(() => listener.stop());
  return { port: listener.boundPort, lines };
}
