/** Real HTTP endpoints for tests of webhooks, and brokers that ask them. */
import {
  createServer,
  type IncomingHttpHeaders,
  type Server,
  type ServerResponse,
} from "node:http";
import { createServer as createTlsServer } from "node:https";
import type { AddressInfo } from "node:net";
import type { TlsOptions } from "node:tls";
import type { Broker } from "../../core/broker-types.ts";
import type { AnyPlugin } from "../../core/hooks/define-plugin.ts";
import webhooks from "../../plugins/vmq_webhooks/index.ts";
import { type StartOptions, startBroker, waitFor } from "./broker.ts";
import { atEnd, type Scope } from "./cleanup.ts";

/** A request as it came in. */
export interface SeenRequest {
  readonly hook: string;
  readonly method: string;
  readonly url: string;
  readonly headers: IncomingHttpHeaders;
  readonly text: string;
  // biome-ignore lint/suspicious/noExplicitAny: whatever the broker sent
  readonly body: any;
  /** Port of the connection it came by. */
  readonly port: number;
  /** Gives the answer that `hold` kept back. */
  answer(reply: Reply): void;
  /** Resolves when the broker has dropped the request. */
  readonly aborted: Promise<void>;
}

/** What an endpoint answers; a text is the body. */
export interface Reply {
  status?: number;
  body?: string | object;
  headers?: Record<string, string>;
  /** Chunks with a pause of so many ms before each. */
  chunks?: readonly [ms: number, text: string][];
  /** Ends the connection without an answer. */
  cut?: true;
  /** The test answers by `request.answer`. */
  hold?: true;
}

export type Handler = (request: SeenRequest) => Reply | string | undefined;

export const OK = '{"result":"ok"}';
export const NEXT = '{"result":"next"}';

export interface TestEndpoint {
  readonly url: string;
  readonly port: number;
  readonly seen: SeenRequest[];
  readonly server: Server;
  /** Answers by hook; without one `{"result":"ok"}`. */
  handler: Handler;
  of(hook: string): SeenRequest[];
  /** Waits for a request of a hook, the `count`th. */
  wait(hook: string, count?: number): Promise<SeenRequest>;
  close(): Promise<void>;
}

export interface EndpointOptions {
  readonly scope?: Scope;
  readonly tls?: TlsOptions;
  readonly socketPath?: string;
  readonly port?: number;
  readonly path?: string;
}

/** Starts a real HTTP server on loopback; by default it accepts everything. */
export async function startEndpoint(
  handler: Handler = () => OK,
  options: EndpointOptions = {},
): Promise<TestEndpoint> {
  const seen: SeenRequest[] = [];
  const endpoint = { handler };
  const server: Server = (
    options.tls === undefined ? createServer() : createTlsServer(options.tls)
  ) as Server;
  server.keepAliveTimeout = 60_000;
  server.on("request", (incoming, response) => {
    const chunks: Buffer[] = [];
    incoming.on("data", (chunk: Buffer) => chunks.push(chunk));
    incoming.on("end", () => {
      const text = Buffer.concat(chunks).toString();
      const request: SeenRequest = {
        hook: String(incoming.headers["vernemq-hook"]),
        method: incoming.method ?? "",
        url: incoming.url ?? "",
        headers: incoming.headers,
        text,
        body: parsed(text),
        port: incoming.socket.remotePort ?? 0,
        answer: (reply) => send(response, reply),
        aborted: new Promise((resolve) => response.once("close", resolve)),
      };
      seen.push(request);
      const reply = endpoint.handler(request) ?? OK;
      if (typeof reply === "string") send(response, { body: reply });
      else if (reply.cut === true) incoming.socket.destroy();
      else if (reply.hold !== true) send(response, reply);
    });
  });
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    if (options.socketPath !== undefined) server.listen(options.socketPath, resolve);
    else server.listen(options.port ?? 0, "127.0.0.1", resolve);
  });
  const { port = 0 } = (server.address() ?? {}) as Partial<AddressInfo>;
  const close = (): Promise<void> =>
    new Promise((resolve) => {
      server.close(() => resolve());
      server.closeAllConnections();
    });
  atEnd(close, options.scope);
  const path = options.path ?? "/hook";
  const of = (hook: string): SeenRequest[] => seen.filter((one) => one.hook === hook);
  return Object.assign(endpoint, {
    url:
      options.socketPath === undefined
        ? `${options.tls === undefined ? "http" : "https"}://127.0.0.1:${port}${path}`
        : `http://unix:${options.socketPath}:${path}`,
    port,
    seen,
    server,
    of,
    wait: (hook: string, count = 1) =>
      waitFor(
        `${count} requests of ${hook} (came: ${seen.map((one) => one.hook).join(" ")})`,
        () => of(hook)[count - 1],
      ),
    close,
  });
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function send(response: ServerResponse, reply: Reply): void {
  const { status = 200, body = OK, headers = {}, chunks } = reply;
  response.writeHead(status, { "content-type": "application/json", ...headers });
  if (chunks === undefined) {
    response.end(typeof body === "string" ? body : JSON.stringify(body));
    return;
  }
  const next = (at: number): void => {
    const chunk = chunks[at];
    if (chunk === undefined) {
      response.end();
      return;
    }
    setTimeout(() => {
      response.write(chunk[1]);
      next(at + 1);
    }, chunk[0]).unref();
  };
  next(0);
}

/** Answers with modifiers. */
export function okWith(modifiers: object): string {
  return JSON.stringify({ result: "ok", modifiers });
}

/** What a webhook is registered for in the configuration: `{ endpoint, ...options }` by hook. */
export function registered(
  endpoint: { readonly url: string },
  hooks: readonly string[],
  options: Readonly<Record<string, string>> = {},
): Record<string, string> {
  const settings: Record<string, string> = {};
  for (const hook of hooks) {
    const key = `vmq_webhooks.${hook}`;
    settings[`${key}.hook`] = hook;
    settings[`${key}.endpoint`] = endpoint.url;
    for (const [name, value] of Object.entries(options)) settings[`${key}.${name}`] = value;
  }
  return settings;
}

export const AUTH_HOOKS = [
  "auth_on_register",
  "auth_on_publish",
  "auth_on_subscribe",
  "auth_on_register_m5",
  "auth_on_publish_m5",
  "auth_on_subscribe_m5",
] as const;

/** A broker whose only plugin is vmq_webhooks (and those given). */
export async function startWebhooks(
  settings: Readonly<Record<string, string>> = {},
  plugins: readonly AnyPlugin[] = [],
  options: StartOptions = {},
): Promise<Broker> {
  return startBroker(
    { allow_anonymous: "off", ...settings },
    [webhooks, ...plugins] as Parameters<typeof startBroker>[1],
    { acceptAll: false, ...options },
  );
}

/** Runs `vmq-admin webhooks ...`; gives what it printed. */
export async function webhooksCommand(broker: Broker, line: string): Promise<string> {
  const [, ...args] = ["", ...line.split(" ")];
  const { exit, stdout, stderr } = await broker.control("webhooks", args);
  if (exit !== 0) throw new Error(`exit ${exit}: ${stdout}${stderr}`);
  return stdout;
}
