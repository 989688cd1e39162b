import { createHash } from "node:crypto";
import type { Client, QueryResult } from "pg";
import { type LibraryFactory, type LuaResult, textOf } from "../worker/library.ts";
import { type Driver, Pool, Pools, reasonOf } from "./pool.ts";
import { PoolConfig } from "./pool-config.ts";
import { parametersOf } from "./sql-values.ts";

const CONNECT_MS = 5_000;
/** Statements that stay prepared on each connection; further ones are sent as text. */
const PREPARED_MAX = 200;

/** Numbers of types (pg_type.dat) whose values a script gets otherwise than as the server's text. */
const INT8 = 20;
const NUMERIC = 1700;
const TIMESTAMP = 1114;
const TIMESTAMPTZ = 1184;
/** bool, bytea, int2, int4, oid, float4, float8, and arrays of those and of texts: the driver's own. */
const BY_DRIVER = new Set([
  ...[16, 17, 21, 23, 26, 700, 701],
  ...[1000, 1005, 1007, 1009, 1014, 1015, 1021, 1022, 2951],
]);

type Parser = (text: string) => unknown;

function parserOf(own: (oid: number) => Parser): (oid: number, format?: string) => Parser {
  return (oid) => {
    if (BY_DRIVER.has(oid)) return own(oid);
    if (oid === INT8) return integerOf;
    if (oid === NUMERIC) return Number;
    if (oid === TIMESTAMP || oid === TIMESTAMPTZ) return isoTime;
    return (text) => text;
  };
}

function integerOf(text: string): number | bigint {
  const value = Number(text);
  return Number.isSafeInteger(value) ? value : BigInt(text);
}

/** `2026-01-02 03:04:05.6+00` as ISO 8601 has it. */
export function isoTime(text: string): string {
  return text.replace(" ", "T").replace(/([+-]\d\d)$/, "$1:00");
}

/** SQL states with which the server says that the connection is no good (PostgreSQL, appendix A). */
const LOST_STATES = /^(08|57P0[1-3]|53300)/;

function driverOf(options: object): Driver<Client> {
  return {
    connect: async (lost) => {
      const { default: pg } = await import("pg");
      const types = { getTypeParser: parserOf((oid) => pg.types.getTypeParser(oid, "text")) };
      const client = new pg.Client({ ...options, types });
      client.on("error", lost);
      client.on("end", lost);
      await client.connect();
      return client;
    },
    // A query may still run on it: the socket is closed, not the conversation.
    close: (client) => {
      const { connection } = client as unknown as { connection: { stream: { destroy(): void } } };
      connection.stream.destroy();
    },
    isLost: (error) => {
      const { code, severity } = error as { code?: string; severity?: string };
      // Without a severity the driver, not the server, speaks.
      return severity === undefined || (code !== undefined && LOST_STATES.test(code));
    },
  };
}

/** PostgreSQL, and CockroachDB, which speaks its protocol (lua.md, section 4.1). */
function library(provider: "postgres" | "cockroachdb"): LibraryFactory {
  return (host) => {
    const pools = new Pools<Pool<Client>>(provider);
    const names = new Map<string, string>();
    const nameOf = (sql: string): string | undefined => {
      const known = names.get(sql);
      if (known !== undefined || names.size >= PREPARED_MAX) return known;
      const name = createHash("sha1").update(sql).digest("hex");
      names.set(sql, name);
      return name;
    };
    return {
      ensure_pool: (_, given) => {
        const config = new PoolConfig(provider, given, host);
        const { id, size } = config.idAndSize(`pool_${provider}`, "pool_size");
        const server = config.text("host", "host") ?? "localhost";
        const options = {
          host: server,
          port: config.port(),
          user: config.text("user", "user"),
          password: config.text("password", "password"),
          database: config.text("database", "database"),
          ssl: config.tls(server) ?? false,
          connectionTimeoutMillis: CONNECT_MS,
          keepAlive: true,
        };
        config.ignore("max_overflow");
        config.end();
        const driver = driverOf(options);
        return pools.ensure(id, () => new Pool(host, { kind: provider, id, size, driver }));
      },
      execute: async (call, poolId, statement, ...args) => {
        const pool = pools.get(textOf(poolId, `${provider}.execute: pool`));
        const text = textOf(statement, `${provider}.execute: SQL`);
        const values = parametersOf(args, `${provider}.execute`);
        const name = nameOf(text);
        try {
          const query = name === undefined ? { text, values } : { name, text, values };
          return answerOf(await pool.use(call, (client) => client.query(query)));
        } catch (error) {
          if (!(error instanceof Error) || !("severity" in error)) throw error;
          host.log("error", `${provider}.execute failed`, { cause: reasonOf(error) }, call);
          return false;
        }
      },
      hash_method: () =>
        String(host.settings.get(`vmq_diversity.${provider}.password_hash_method`)),
    };
  };
}

/** Rows; true, or false when no row was changed. */
function answerOf({ command, rows, fields, rowCount }: QueryResult): LuaResult {
  if (fields.length > 0) return rows as LuaResult[];
  const isChange = command === "INSERT" || command === "UPDATE" || command === "DELETE";
  return isChange ? (rowCount ?? 0) > 0 : true;
}

export const postgres = library("postgres");
export const cockroachdb = library("cockroachdb");
