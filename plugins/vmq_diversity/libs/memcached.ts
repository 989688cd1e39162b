import type { ConnectionOptions } from "node:tls";
import type { Client } from "memjs";
import {
  type LibraryFactory,
  type LuaCall,
  LuaError,
  LuaFloat,
  type LuaValue,
  textOf,
} from "../worker/library.ts";
import { type MemcachedAddress, tlsClient } from "./memcached-tls.ts";
import { type Driver, Pool, Pools, reasonOf } from "./pool.ts";
import { PoolConfig } from "./pool-config.ts";

/** Memcached's own limit of a key. */
const KEY_BYTES_MAX = 250;
const TIMEOUT_S = 2;

function driverOf(address: MemcachedAddress, tls: ConnectionOptions | undefined): Driver<Client> {
  return {
    connect: async (lost) => {
      const options = { timeout: TIMEOUT_S, conntimeout: TIMEOUT_S, retries: 1, logger: SILENT };
      const client = await (tls === undefined
        ? plainClient(address, options)
        : tlsClient(address, tls, options, lost));
      try {
        await client.get("nautilus");
      } catch (error) {
        client.close();
        throw error;
      }
      return client;
    },
    close: (client) => client.close(),
    isLost: (error) => !isRefusal(error),
  };
}

/** The driver connects with the first request, and again by itself. */
async function plainClient({ host, port }: MemcachedAddress, options: object): Promise<Client> {
  const { Client, Server } = await import("memjs");
  return new Client([new Server(host, port, undefined, undefined, options)], options);
}

/** The server's answer that it will not, such as a value that is too large; the driver words it so. */
function isRefusal(error: unknown): boolean {
  return error instanceof Error && error.message.startsWith("MemJS ");
}

/** The driver's own messages say nothing that the pool does not. */
const SILENT = { log: () => undefined };

/** Memcached. */
export const memcached: LibraryFactory = (host) => {
  const pools = new Pools<Pool<Client>>("memcached");
  const keyOf = (value: LuaValue): string => {
    const key = textOf(value, "memcached: key");
    const isUsable = key.length > 0 && Buffer.byteLength(key) <= KEY_BYTES_MAX;
    if (!isUsable) throw new LuaError(`memcached: a key has 1 to ${KEY_BYTES_MAX} bytes`);
    return key;
  };
  /** The server's refusal is logged and false. */
  const ask = async <T>(
    call: LuaCall,
    method: string,
    poolId: LuaValue,
    work: (client: Client) => Promise<T>,
  ): Promise<T | false> => {
    const pool = pools.get(textOf(poolId, `memcached.${method}: pool`));
    try {
      return await pool.use(call, work);
    } catch (error) {
      if (!isRefusal(error)) throw error;
      host.log("error", `memcached.${method} failed`, { cause: reasonOf(error) }, call);
      return false;
    }
  };
  const expiresOf = (value: LuaValue): number => {
    const seconds = value instanceof LuaFloat ? value.value : (value ?? 0);
    if (typeof seconds === "number" && seconds >= 0) return Math.floor(seconds);
    throw new LuaError("memcached: the expiry must be a number of seconds");
  };
  const store =
    (method: "set" | "add" | "replace"): ReturnType<LibraryFactory>[string] =>
    async (call, poolId, key, value, expiry) => {
      const name = keyOf(key);
      const bytes = Buffer.isBuffer(value) ? value : Buffer.from(textOf(value, "memcached: value"));
      const expires = expiresOf(expiry);
      const done = await ask(call, method, poolId, (client) =>
        client[method](name, bytes, { expires }),
      );
      return done ? bytes : false;
    };
  return {
    ensure_pool: (call, given) => {
      const config = new PoolConfig("memcached", given, host, call, "memcache");
      const size = config.idAndSize("pool_memcached", undefined);
      const server = config.text("host", "host") ?? "127.0.0.1";
      const address = { host: server, port: config.port() };
      const tls = config.tls(server);
      config.end();
      const driver = driverOf(address, tls);
      return pools.ensure(
        size.id,
        config,
        () => new Pool(host, { kind: "memcached", ...size, driver }),
      );
    },
    get: async (call, poolId, key) => {
      const name = keyOf(key);
      const found = await ask(call, "get", poolId, (client) => client.get(name));
      return found === false ? false : (found.value ?? false);
    },
    set: store("set"),
    add: store("add"),
    replace: store("replace"),
    delete: (call, poolId, key) => {
      const name = keyOf(key);
      return ask(call, "delete", poolId, (client) => client.delete(name));
    },
    flush_all: (call, poolId) =>
      ask(call, "flush_all", poolId, async (client) => {
        await client.flush();
        return true;
      }),
  };
};
