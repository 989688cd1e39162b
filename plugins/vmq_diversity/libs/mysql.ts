import type { ConnectionOptions, TLSSocket } from "node:tls";
import type { Connection, FieldPacket, QueryResult } from "mysql2/promise";
import { type LibraryFactory, type LuaResult, textOf } from "../worker/library.ts";
import { type Driver, Pool, Pools, reasonOf } from "./pool.ts";
import { PoolConfig } from "./pool-config.ts";
import { parametersOf } from "./sql-values.ts";

const CONNECT_MS = 5_000;
/** MySQL's column types. */
const TIMESTAMP = 7;
const BIGINT = 8;
const DATETIME = 12;

const HASH_METHODS: Readonly<Record<string, string>> = {
  password: "PASSWORD(?)",
  md5: "MD5(?)",
  sha1: "SHA1(?)",
  sha256: "SHA2(?, 256)",
};

function driverOf(
  options: object,
  server: string,
  tls: ConnectionOptions | undefined,
): Driver<Connection> {
  return {
    connect: async (lost) => {
      const { createConnection } = await import("mysql2/promise");
      const connection = await createConnection(options);
      const fault = tls === undefined ? undefined : identityFault(connection, server, tls);
      if (fault !== undefined) {
        connection.destroy();
        throw fault;
      }
      connection.on("error", lost);
      connection.on("end", lost);
      return connection;
    },
    close: (connection) => connection.destroy(),
    // Or the query would go on for nobody.
    cancel: ({ threadId }) => {
      void import("mysql2/promise")
        .then(async ({ createConnection }) => {
          const other = await createConnection(options);
          await other.query(`KILL QUERY ${threadId}`).finally(() => other.destroy());
        })
        .catch(() => undefined);
    },
    isLost: (error) => {
      const { fatal, sqlState } = error as { fatal?: boolean; sqlState?: string };
      return fatal === true || sqlState === undefined || sqlState.startsWith("08");
    },
  };
}

/** The driver knows no check of ours: depth, other server names and addresses are looked at here. */
function identityFault(
  connection: Connection,
  server: string,
  { rejectUnauthorized, checkServerIdentity }: ConnectionOptions,
): Error | undefined {
  if (rejectUnauthorized === false) return undefined;
  const { connection: inner } = connection as unknown as { connection: { stream: TLSSocket } };
  return checkServerIdentity?.(server, inner.stream.getPeerCertificate(true));
}

/** MySQL and MariaDB under VerneMQ's two names; both take `?` and prepare what has arguments. */
function library(provider: "mysql" | "mysql2"): LibraryFactory {
  return (host) => {
    const pools = new Pools<Pool<Connection>>(provider);
    return {
      ensure_pool: (call, given) => {
        const config = new PoolConfig(provider, given, host, call);
        const size = config.idAndSize(`pool_${provider}`, "pool_size");
        const server = config.text("host", "host") ?? "localhost";
        const charset = config.text("encoding");
        const ssl = config.tls(server);
        const options = {
          host: server,
          port: config.port(),
          user: config.text("user", "user"),
          password: config.text("password", "password"),
          database: config.text("database", "database"),
          connectTimeout: CONNECT_MS,
          supportBigNumbers: true,
          decimalNumbers: true,
          dateStrings: true,
          jsonStrings: true,
          maxPreparedStatements: 200,
          ...(charset === undefined ? {} : { charset: charsetOf(charset) }),
          ...(ssl === undefined
            ? {}
            : { ssl: { ...ssl, verifyIdentity: ssl.servername === server } }),
        };
        config.end();
        const driver = driverOf(options, server, ssl);
        return pools.ensure(
          size.id,
          config,
          () => new Pool(host, { kind: provider, ...size, driver }),
        );
      },
      execute: async (call, poolId, statement, ...args) => {
        const pool = pools.get(textOf(poolId, `${provider}.execute: pool`));
        const sql = textOf(statement, `${provider}.execute: SQL`);
        const values = parametersOf(args, `${provider}.execute`);
        try {
          const [result, fields] = await pool.use(call, (connection) =>
            values.length === 0 ? connection.query(sql) : connection.execute(sql, values),
          );
          return answerOf(result, fields);
        } catch (error) {
          if (!(error instanceof Error) || !("sqlState" in error)) throw error;
          host.log("error", `${provider}.execute failed`, { cause: reasonOf(error) }, call);
          return false;
        }
      },
      hash_method: () =>
        HASH_METHODS[String(host.settings.get(`vmq_diversity.${provider}.password_hash_method`))],
    };
  };
}

/** Names as VerneMQ's driver takes them. */
function charsetOf(encoding: string): string {
  return encoding === "utf8" ? "utf8mb4" : encoding;
}

function answerOf(result: QueryResult, fields: FieldPacket[]): LuaResult {
  if (!Array.isArray(result)) return true;
  const [first] = result;
  // A procedure answers with several sets and a header: the first set is what was asked for.
  if (Array.isArray(first)) return answerOf(first, fields[0] as unknown as FieldPacket[]);
  const rows = result as Record<string, LuaResult>[];
  for (const { name, columnType } of fields) {
    if (columnType === TIMESTAMP || columnType === DATETIME) convert(rows, name, isoTime);
    else if (columnType === BIGINT) convert(rows, name, integerOf);
  }
  return rows;
}

function convert(
  rows: Record<string, LuaResult>[],
  name: string,
  by: (text: string) => LuaResult,
): void {
  for (const row of rows) {
    const value = row[name];
    if (typeof value === "string") row[name] = by(value);
  }
}

const isoTime = (text: string): string => text.replace(" ", "T");

/** The driver gives integers beyond 2^53 as text; those without sign beyond 2^63 are no integers of Lua. */
function integerOf(text: string): LuaResult {
  const value = BigInt(text);
  return BigInt.asIntN(64, value) === value ? value : text;
}

export const mysql = library("mysql");
export const mysql2 = library("mysql2");
