import { createHash } from "node:crypto";
import { connect } from "node:net";
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
/** bool, bytea, int2, int4, oid, float4, float8: the driver's own. */
const BY_DRIVER = new Set([16, 17, 21, 23, 26, 700, 701]);
/** Types of arrays, with the type of their elements. */
const ARRAYS: Readonly<Record<number, number>> = {
  // bool, bytea, char, name, int2, int4, int8, oid, float4, float8, numeric
  ...{ 1000: 16, 1001: 17, 1002: 18, 1003: 19, 1005: 21, 1007: 23, 1016: INT8 },
  ...{ 1028: 26, 1021: 700, 1022: 701, 1231: NUMERIC },
  // text, bpchar, varchar, uuid, json, jsonb, inet, cidr
  ...{ 1009: 25, 1014: 1042, 1015: 1043, 2951: 2950, 199: 114, 3807: 3802, 1041: 869, 651: 650 },
  // date, time, timetz, interval, timestamp, timestamptz
  ...{ 1182: 1082, 1183: 1083, 1270: 1266, 1187: 1186, 1115: TIMESTAMP, 1185: TIMESTAMPTZ },
};

/** What the driver has beside its declared types. */
interface Types {
  getTypeParser(oid: number, format: "text"): Parser;
  readonly arrayParser: { create(text: string, element: Parser): { parse(): unknown } };
}
interface Inner {
  readonly processID: number;
  readonly secretKey: number;
  readonly connection: {
    readonly stream: { destroy(): void };
    readonly parsedStatements: Record<string, string>;
    on(event: "parameterStatus", told: (status: ParameterStatus) => void): void;
  };
}
interface ParameterStatus {
  readonly parameterName: string;
  readonly parameterValue: string;
}
const innerOf = (client: Client): Inner => client as unknown as Inner;

type Parser = (text: string) => unknown;

/** How a value of a type becomes one of Lua; what is not named here stays text. */
function parserOf(types: Types, oid: number): Parser {
  if (BY_DRIVER.has(oid)) return types.getTypeParser(oid, "text");
  if (oid === INT8) return integerOf;
  if (oid === NUMERIC) return Number;
  if (oid === TIMESTAMP || oid === TIMESTAMPTZ) return isoTime;
  const element = ARRAYS[oid];
  if (element === undefined) return (text) => text;
  const parse = parserOf(types, element);
  return (text) => types.arrayParser.create(text, parse).parse();
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
const LOST_STATES = /^(08|57P|25P03|53300)/;
/**
 * The server does not know a prepared statement as this connection does: a table was altered, or a proxy gave
 * it another server connection (PostgreSQL, appendix A: invalid and duplicate statement name, changed plan).
 */
const STALE_STATES: readonly unknown[] = ["26000", "42P05", "0A000"];

interface Options {
  readonly host: string;
  readonly port: number;
}

function driverOf(options: Options): Driver<Client> {
  return {
    connect: async (lost) => {
      const { default: pg } = await import("pg");
      const known = new Map<number, Parser>();
      const getTypeParser = (oid: number): Parser => {
        let parser = known.get(oid);
        if (parser === undefined) {
          parser = parserOf(pg.types as unknown as Types, oid);
          known.set(oid, parser);
        }
        return parser;
      };
      const client = new pg.Client({ ...options, types: { getTypeParser } });
      client.on("error", lost);
      client.on("end", lost);
      let isIso = true;
      innerOf(client).connection.on("parameterStatus", ({ parameterName, parameterValue }) => {
        if (parameterName === "DateStyle") isIso = parameterValue.startsWith("ISO");
      });
      await client.connect();
      if (!isIso) await client.query("SET datestyle = ISO");
      return client;
    },
    // A query may still run on it: the socket is closed, not the conversation.
    close: (client) => innerOf(client).connection.stream.destroy(),
    cancel: (client) => cancelQuery(options, innerOf(client)),
    isLost: (error) => {
      const { code, severity } = error as { code?: string; severity?: string };
      // Without a severity the driver, not the server, speaks.
      return severity === undefined || (code !== undefined && LOST_STATES.test(code));
    },
  };
}

/**
 * Asks the server to end the query of a connection, or it would go on for nobody: a request on a connection
 * of its own that nobody answers (PostgreSQL, 55.2.8 Canceling Requests in Progress).
 */
function cancelQuery({ host, port }: Options, { processID, secretKey }: Inner): void {
  const request = Buffer.alloc(16);
  [16, 80_877_102, processID, secretKey].forEach((field, at) => {
    request.writeInt32BE(field, at * 4);
  });
  const socket = connect({ host, port });
  socket.setTimeout(CONNECT_MS, () => socket.destroy());
  socket.on("error", () => socket.destroy());
  socket.end(request);
}

/** Runs a statement by its name; one that the server knows otherwise is run once more without. */
async function runNamed(
  client: Client,
  query: { name: string; text: string; values: unknown[] },
): Promise<QueryResult> {
  try {
    return await client.query(query);
  } catch (error) {
    if (!STALE_STATES.includes((error as { code?: unknown }).code)) throw error;
    delete innerOf(client).connection.parsedStatements[query.name];
    await client.query(`DEALLOCATE "${query.name}"`).catch(() => undefined);
    return client.query({ text: query.text, values: query.values });
  }
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
      ensure_pool: (call, given) => {
        const config = new PoolConfig(provider, given, host, call);
        const size = config.idAndSize(`pool_${provider}`, "pool_size");
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
        config.end();
        const driver = driverOf(options);
        return pools.ensure(
          size.id,
          config,
          () => new Pool(host, { kind: provider, ...size, driver }),
        );
      },
      execute: async (call, poolId, statement, ...args) => {
        const pool = pools.get(textOf(poolId, `${provider}.execute: pool`));
        const text = textOf(statement, `${provider}.execute: SQL`);
        const values = parametersOf(args, `${provider}.execute`);
        const name = nameOf(text);
        try {
          const run = (client: Client): Promise<QueryResult> =>
            name === undefined
              ? client.query({ text, values })
              : runNamed(client, { name, text, values });
          return answerOf(await pool.use(call, run));
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
