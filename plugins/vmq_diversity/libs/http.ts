import type { Agent, Dispatcher } from "undici";
import {
  isTable,
  type LibraryFactory,
  type LuaCall,
  LuaError,
  type LuaResult,
  type LuaTable,
  type LuaValue,
  tableOf,
  textOf,
} from "../worker/library.ts";
import { Pools, reasonOf } from "./pool.ts";
import { PoolConfig } from "./pool-config.ts";

/** VerneMQ's client library: connect 8 s, receive 5 s. */
const CONNECT_MS = 8_000;
const RECEIVE_MS = 5_000;
const BODY_BYTES_MAX = 16 * 1024 * 1024;

interface HttpPool {
  readonly agent: Promise<Agent>;
  readonly numbers: { calls: number; errors: number; busy: number; totalMs: number };
  lastError: string | undefined;
}

/** HTTP requests (lua.md, section 4.4). Redirects are not followed. */
export const http: LibraryFactory = (host) => {
  const pools = new Pools<HttpPool>("http");

  async function request(
    call: LuaCall,
    method: Dispatcher.HttpMethod,
    args: readonly LuaValue[],
  ): Promise<LuaResult> {
    const [poolId, address, body, headers, options] = args;
    const pool = pools.get(textOf(poolId, `http.${method.toLowerCase()}: pool`));
    const url = urlOf(address);
    const { content, type } = bodyOf(body);
    const timeoutMs = timeoutOf(options);
    const startMs = performance.now();
    pool.numbers.calls++;
    pool.numbers.busy++;
    try {
      const agent = await pool.agent;
      const leftMs = Math.max(1, Math.min(timeoutMs, call.deadlineMs - startMs));
      const controller = new AbortController();
      const takeBack = call.onCancel(() => controller.abort());
      const signal = AbortSignal.any([controller.signal, AbortSignal.timeout(leftMs)]);
      const answer = await agent.request({
        origin: url.origin,
        path: `${url.pathname}${url.search}`,
        method,
        body: content ?? null,
        headers: { ...type, ...headersOf(headers) },
        signal,
      });
      const ref = await readBody(answer.body);
      takeBack();
      return { status: answer.statusCode, headers: plainHeaders(answer.headers), ref };
    } catch (error) {
      pool.numbers.errors++;
      pool.lastError = reasonOf(error);
      host.log("error", `http.${method.toLowerCase()} failed`, { cause: pool.lastError }, call);
      return false;
    } finally {
      pool.numbers.busy--;
      pool.numbers.totalMs += performance.now() - startMs;
    }
  }
  const verb =
    (method: Dispatcher.HttpMethod): ReturnType<LibraryFactory>[string] =>
    (call, ...args) =>
      request(call, method, args);
  return {
    ensure_pool: (_, given) => {
      const config = new PoolConfig("http", given, host);
      const { id, size } = config.idAndSize("pool_http", undefined, 10);
      const tls = config.tls("", "ssl") ?? {};
      config.ignore("max_overflow");
      config.end();
      return pools.ensure(id, () => {
        const agent = import("undici").then(
          ({ Agent }) =>
            new Agent({
              connections: size,
              connect: { timeout: CONNECT_MS, ...tls },
              headersTimeout: RECEIVE_MS,
              bodyTimeout: RECEIVE_MS,
            }),
        );
        const pool: HttpPool = {
          agent,
          numbers: { calls: 0, errors: 0, busy: 0, totalMs: 0 },
          lastError: undefined,
        };
        host.pool(() => ({
          ...{ kind: "http", id, size, open: pool.numbers.busy, waiting: 0 },
          ...pool.numbers,
          lastError: pool.lastError,
        }));
        return pool;
      });
    },
    get: verb("GET"),
    put: verb("PUT"),
    post: verb("POST"),
    delete: verb("DELETE"),
    /** The body is there already; kept for scripts of VerneMQ. */
    body: (_, ref) => ref as Buffer,
  };
};

function urlOf(value: LuaValue): URL {
  const text = textOf(value, "http: URL");
  const url = URL.canParse(text) ? new URL(text) : undefined;
  if (url?.protocol === "http:" || url?.protocol === "https:") return url;
  throw new LuaError(`http: "${text}" is no URL of http or https`);
}

/** Text is the body as it is; a table becomes a form. */
function bodyOf(body: LuaValue): { content?: Buffer | string; type?: Record<string, string> } {
  if (body === undefined) return {};
  if (Buffer.isBuffer(body)) return body.length === 0 ? {} : { content: body };
  if (!isTable(body)) return { content: textOf(body, "http: body") };
  const form = new URLSearchParams();
  for (const [key, value] of body.hash) form.append(String(key), textOf(value, `http: ${key}`));
  const type = { "content-type": "application/x-www-form-urlencoded" };
  return { content: form.toString(), type };
}

function headersOf(headers: LuaValue): Record<string, string> {
  if (headers === undefined) return {};
  const named: Record<string, string> = {};
  for (const [key, value] of tableOf(headers, "http: headers").hash) {
    named[String(key)] = textOf(value, `http: header ${key}`);
  }
  return named;
}

function timeoutOf(options: LuaValue): number {
  if (options === undefined) return CONNECT_MS + RECEIVE_MS;
  const timeout = (tableOf(options, "http: options") as LuaTable).hash.get("timeout");
  if (timeout === undefined) return CONNECT_MS + RECEIVE_MS;
  if (typeof timeout === "number" && timeout > 0) return timeout;
  throw new LuaError("http: timeout must be a number of milliseconds");
}

async function readBody(body: Dispatcher.ResponseData["body"]): Promise<Buffer> {
  const parts: Buffer[] = [];
  let bytes = 0;
  for await (const part of body) {
    bytes += (part as Buffer).length;
    if (bytes > BODY_BYTES_MAX) throw new Error(`the body has more than ${BODY_BYTES_MAX} bytes`);
    parts.push(part as Buffer);
  }
  return Buffer.concat(parts);
}

function plainHeaders(headers: Record<string, string | string[] | undefined>): LuaResult {
  const plain: Record<string, string> = {};
  for (const [name, value] of Object.entries(headers)) {
    if (value !== undefined) plain[name] = Array.isArray(value) ? value.join(", ") : value;
  }
  return plain;
}
