import type { Agent, Dispatcher } from "undici";
import {
  isTable,
  type LibraryFactory,
  type LuaCall,
  LuaError,
  LuaFloat,
  type LuaResult,
  type LuaValue,
  tableOf,
  textOf,
} from "../worker/library.ts";
import { Pools, reasonOf } from "./pool.ts";
import { PoolConfig } from "./pool-config.ts";

/** VerneMQ's client library: connect 8 s, receive 5 s. */
const CONNECT_MS = 8_000;
const RECEIVE_MS = 5_000;
/** Requests of one pool that may run or wait for a connection. */
const REQUESTS_MAX = 10_000;
const TIMEOUT_MAX_MS = 600_000;
const BODY_BYTES_MAX = 16 * 1024 * 1024;

interface HttpPool {
  readonly agent: Promise<Agent>;
  readonly numbers: { calls: number; errors: number; busy: number; totalMs: number };
  lastError: string | undefined;
}

/** HTTP requests. Redirects are not followed. */
export const http: LibraryFactory = (host) => {
  const pools = new Pools<HttpPool>("http");

  async function request(
    call: LuaCall,
    method: Dispatcher.HttpMethod,
    args: readonly LuaValue[],
  ): Promise<LuaResult> {
    const [poolId, address, body, headers, options] = args;
    const name = `http.${method.toLowerCase()}`;
    const pool = pools.get(textOf(poolId, `${name}: pool`));
    const url = urlOf(address);
    const request = requestOf(body, headers);
    if (url.username !== "") request.headers.authorization ??= basicOf(url);
    const timeoutMs = timeoutOf(options);
    const startMs = performance.now();
    const controller = new AbortController();
    const takeBack = call.onCancel(() => controller.abort(new Error("the call was given up")));
    const leftMs = Math.min(timeoutMs.whole, call.deadlineMs - startMs);
    const late = (): void => controller.abort(new Error("no answer in time"));
    const timer = setTimeout(late, Math.max(1, leftMs));
    pool.numbers.calls++;
    pool.numbers.busy++;
    try {
      if (pool.numbers.busy > REQUESTS_MAX) throw new Error(`${REQUESTS_MAX} requests wait`);
      const agent = await pool.agent;
      const answer = await agent.request({
        origin: url.origin,
        path: `${url.pathname}${url.search}`,
        method,
        ...request,
        headersTimeout: timeoutMs.receive,
        bodyTimeout: timeoutMs.receive,
        signal: controller.signal,
      });
      const ref = await readBody(answer.body);
      return { status: answer.statusCode, headers: plainHeaders(answer.headers), ref };
    } catch (error) {
      pool.numbers.errors++;
      pool.lastError = reasonOf(error);
      const fields = { url: `${url.origin}${url.pathname}`, cause: pool.lastError };
      host.log("error", `${name} failed`, fields, call);
      return false;
    } finally {
      clearTimeout(timer);
      takeBack();
      pool.numbers.busy--;
      pool.numbers.totalMs += performance.now() - startMs;
    }
  }
  const verb =
    (method: Dispatcher.HttpMethod): ReturnType<LibraryFactory>[string] =>
    (call, ...args) =>
      request(call, method, args);
  return {
    ensure_pool: (call, given) => {
      const config = new PoolConfig("http", given, host, call);
      const { id, size, overflow } = config.idAndSize("pool_http", undefined, 10);
      const tls = config.tlsOfAnyServer();
      config.end();
      return pools.ensure(id, config, () => {
        const agent = import("undici").then(
          ({ Agent }) =>
            new Agent({
              connections: size + overflow,
              connect: { timeout: CONNECT_MS, ...tls },
            }),
        );
        const pool: HttpPool = {
          agent,
          numbers: { calls: 0, errors: 0, busy: 0, totalMs: 0 },
          lastError: undefined,
        };
        host.pool(() => {
          const { numbers, lastError } = pool;
          const most = size + overflow;
          const busy = Math.min(numbers.busy, most);
          const waiting = numbers.busy - busy;
          return { kind: "http", id, size: most, open: busy, ...numbers, busy, waiting, lastError };
        });
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

/** `http://user:password@host/`. */
function basicOf({ username, password }: URL): string {
  const text = `${decoded(username)}:${decoded(password)}`;
  return `Basic ${Buffer.from(text).toString("base64")}`;
}

function decoded(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    // A percent sign that means itself.
    return part;
  }
}

/** Body and headers: text is the body as it is; a table becomes a form. */
function requestOf(
  body: LuaValue,
  headers: LuaValue,
): { body: Buffer | string | null; headers: Record<string, string> } {
  const named: Record<string, string> = {};
  for (const [key, value] of headers === undefined ? [] : tableOf(headers, "http: headers").hash) {
    named[String(key).toLowerCase()] = textOf(value, `http: header ${key}`);
  }
  if (body === undefined) return { body: null, headers: named };
  if (!isTable(body)) {
    const content = Buffer.isBuffer(body) ? body : textOf(body, "http: body");
    return { body: content.length === 0 ? null : content, headers: named };
  }
  const form = new URLSearchParams();
  for (const [key, value] of body.hash) form.append(String(key), fieldOf(value, String(key)));
  named["content-type"] ??= "application/x-www-form-urlencoded";
  return { body: form.toString(), headers: named };
}

function fieldOf(value: LuaValue, key: string): string {
  return typeof value === "boolean" ? String(value) : textOf(value, `http: body: ${key}`);
}

/** Milliseconds for the request as a whole, and for each wait for the server's bytes. */
function timeoutOf(options: LuaValue): { whole: number; receive: number } {
  const given = options === undefined ? undefined : tableOf(options, "http: options").hash;
  const timeout = given?.get("timeout");
  if (timeout === undefined) return { whole: CONNECT_MS + RECEIVE_MS, receive: RECEIVE_MS };
  const milliseconds = timeout instanceof LuaFloat ? timeout.value : timeout;
  if (typeof milliseconds === "number" && milliseconds > 0 && milliseconds <= TIMEOUT_MAX_MS) {
    return { whole: milliseconds, receive: milliseconds };
  }
  throw new LuaError(`http: timeout must be a number of milliseconds up to ${TIMEOUT_MAX_MS}`);
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
