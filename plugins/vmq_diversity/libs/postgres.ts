import { connect } from "node:net";
import { type LibraryFactory, textOf } from "../worker/library.ts";
import { type Driver, Pool, Pools, reasonOf } from "./pool.ts";
import { PoolConfig } from "./pool-config.ts";
import { PostgresSession, StatementNames } from "./postgres-session.ts";
import { type DriverTypes, type Parser, parserOf } from "./postgres-types.ts";
import { parametersOf } from "./sql-values.ts";

const CONNECT_MS = 5_000;

interface ParameterStatus {
  readonly parameterName: string;
  readonly parameterValue: string;
}

/** SQL states with which the server says that the connection is no good (PostgreSQL, appendix A). */
const LOST_STATES = /^(08|57P|25P03|53300)/;
interface Options {
  readonly host: string;
  readonly port: number;
}

function driverOf(options: Options): Driver<PostgresSession> {
  return {
    connect: async (lost) => {
      const { default: pg } = await import("pg");
      const known = new Map<number, Parser>();
      const knownParserOf = (oid: number): Parser => {
        let parser = known.get(oid);
        if (parser === undefined) {
          parser = parserOf(pg.types as unknown as DriverTypes, oid);
          known.set(oid, parser);
        }
        return parser;
      };
      const client = new pg.Client(options);
      client.on("error", lost);
      client.on("end", lost);
      let isIso = true;
      const session = new PostgresSession(client, knownParserOf);
      session.connection.on("parameterStatus", (told: ParameterStatus) => {
        if (told.parameterName === "DateStyle") isIso = told.parameterValue.startsWith("ISO");
      });
      await client.connect();
      if (!isIso) await client.query("SET datestyle = ISO");
      return session;
    },
    // A query may still run on it: the socket is closed, not the conversation.
    close: (session) => session.connection.stream.destroy(),
    cancel: (session) => cancelQuery(options, session.key),
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
function cancelQuery(
  { host, port }: Options,
  { processID, secretKey }: PostgresSession["key"],
): void {
  const request = Buffer.alloc(16);
  [16, 80_877_102, processID, secretKey].forEach((field, at) => {
    request.writeInt32BE(field, at * 4);
  });
  const socket = connect({ host, port });
  socket.setTimeout(CONNECT_MS, () => socket.destroy());
  socket.on("error", () => socket.destroy());
  socket.end(request);
}

/** PostgreSQL, and CockroachDB, which speaks its protocol. */
function library(provider: "postgres" | "cockroachdb"): LibraryFactory {
  return (host) => {
    const pools = new Pools<Pool<PostgresSession>>(provider);
    const names = new StatementNames();
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
        const name = names.of(text);
        try {
          return await pool.use(call, (session) => session.run(text, values, name));
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

export const postgres = library("postgres");
export const cockroachdb = library("cockroachdb");
