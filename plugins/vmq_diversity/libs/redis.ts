import type { Redis } from "ioredis";
import {
  isTable,
  type LibraryFactory,
  LuaError,
  type LuaResult,
  type LuaValue,
  textOf,
} from "../worker/library.ts";
import { type Driver, Pool, Pools, reasonOf } from "./pool.ts";
import { PoolConfig } from "./pool-config.ts";

const CONNECT_MS = 5_000;

function driverOf(options: object): Driver<Redis> {
  return {
    connect: async (lost) => {
      const { Redis } = await import("ioredis");
      const client = new Redis({
        ...options,
        lazyConnect: true,
        enableOfflineQueue: false,
        // The pool opens another one.
        retryStrategy: () => null,
        maxRetriesPerRequest: 0,
        connectTimeout: CONNECT_MS,
      });
      let reason: unknown;
      client.on("error", (error) => {
        reason = error;
      });
      client.on("end", lost);
      try {
        await client.connect();
      } catch (error) {
        client.disconnect();
        // The driver only says that the connection is closed; the socket's own error says why.
        throw reason ?? error;
      }
      return client;
    },
    close: (client) => client.disconnect(),
    isLost: (error) => !isReply(error),
  };
}

/** An error that the server answered with. */
function isReply(error: unknown): boolean {
  return error instanceof Error && error.name === "ReplyError";
}

/** `redis.*` */
export const redis: LibraryFactory = (host) => {
  const pools = new Pools<Pool<Redis>>("redis");
  return {
    ensure_pool: (call, given) => {
      const config = new PoolConfig("redis", given, host, call);
      const size = config.idAndSize("pool_redis", "pool_size");
      const server = config.text("host", "host") ?? "localhost";
      const username = config.text("user", "user");
      const password = config.text("password", "password");
      const tls = config.tls(server);
      const options = {
        host: server,
        port: config.port(),
        db: config.integer("database", "database", { min: 0, max: 100_000 }),
        ...(username === undefined ? {} : { username }),
        ...(password === undefined ? {} : { password }),
        ...(tls === undefined ? {} : { tls }),
      };
      config.end();
      const driver = driverOf(options);
      return pools.ensure(
        size.id,
        config,
        () => new Pool(host, { kind: "redis", ...size, driver }),
      );
    },
    cmd: async (call, poolId, command, ...args) => {
      const pool = pools.get(textOf(poolId, "redis.cmd: pool"));
      const words = textOf(command, "redis.cmd: command").split(" ");
      const [name = "", ...first] = words;
      const all = [...first, ...args.map((arg, index) => argumentOf(arg, index))];
      try {
        return replyOf(await pool.use(call, (client) => client.callBuffer(name, ...all)));
      } catch (error) {
        if (!isReply(error)) throw error;
        host.log("error", "redis.cmd failed", { cause: reasonOf(error) }, call);
        return false;
      }
    },
  };
};

/** An array is one argument, its strings one after the other, as in VerneMQ. */
function argumentOf(value: LuaValue, index: number): string | Buffer {
  if (Buffer.isBuffer(value)) return value;
  if (isTable(value) && value !== undefined) {
    return value.array.map((item) => textOf(item, `redis.cmd: argument ${index + 1}`)).join("");
  }
  if (value === undefined) throw new LuaError(`redis.cmd: argument ${index + 1} is nil`);
  return textOf(value, `redis.cmd: argument ${index + 1}`);
}

function replyOf(reply: unknown): LuaResult {
  if (reply === null || reply === undefined) return undefined;
  if (Array.isArray(reply)) {
    // An array with holes would end at the first one.
    return reply.map((item) => (item === null ? "undefined" : replyOf(item)));
  }
  if (Buffer.isBuffer(reply)) return reply.toString("latin1") === "OK" ? true : reply;
  return String(reply);
}
