import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, renameSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";
import pg from "pg";
import { waitFor } from "../broker.ts";
import type { Scope } from "../cleanup.ts";
import { missing } from "../tools.ts";
import { hasCommand, type Service, startService } from "./service.ts";

/** PostgreSQL with a superuser `root`, password `password`, and the database `vernemq_db`. */
export async function startPostgres(
  scope: Scope = "file",
  settings: readonly string[] = [],
): Promise<Service & { query(sql: string, values?: unknown[]): Promise<unknown[]> }> {
  const service = await startService({
    ...{ package: "postgresql", command: "postgres", user: "postgres", scope },
    prepare: (folder, run) => {
      run("initdb", [
        "-D",
        `${folder}/data`,
        "-U",
        "root",
        "-A",
        "trust",
        "--no-sync",
        "-E",
        "UTF8",
      ]);
    },
    arguments: (port, folder) => [
      ...["-D", `${folder}/data`, "-p", String(port), "-k", folder, "-c", "fsync=off"],
      ...["-c", "listen_addresses=127.0.0.1", "-c", "max_connections=60"],
      ...settings.flatMap((setting) => ["-c", setting]),
    ],
  });
  const query = async (sql: string, values?: unknown[], database = "vernemq_db") => {
    const client = new pg.Client({ host: "127.0.0.1", port: service.port, user: "root", database });
    await client.connect();
    try {
      return (await client.query(sql, values)).rows as unknown[];
    } finally {
      await client.end();
    }
  };
  await waitFor("PostgreSQL answers", () =>
    query("SELECT 1", [], "postgres").then(
      () => true,
      () => false,
    ),
  );
  await query("CREATE DATABASE vernemq_db", [], "postgres");
  await query("ALTER USER root PASSWORD 'password'", []);
  return { ...service, query: (sql, values) => query(sql, values) };
}

export const hasPostgres = (): boolean => hasCommand("postgres", "postgresql");

/** MariaDB with the database `vernemq_db`; user `root`, password `password`. */
export async function startMariadb(
  scope: Scope = "file",
  more: readonly string[] = [],
): Promise<Service & { query(sql: string): Promise<unknown> }> {
  const service = await startService({
    ...{ package: "mariadb-server", command: "mariadbd", user: "mysql", scope },
    prepare: (folder, run) => {
      run("/usr/bin/mariadb-install-db", [
        ...[
          "--no-defaults",
          `--datadir=${folder}/data`,
          "--auth-root-authentication-method=normal",
        ],
        "--skip-test-db",
        // Of its own: in the common one two servers take each other's temporary tables.
        `--tmpdir=${folder}`,
      ]);
    },
    arguments: (port, folder) => [
      ...["--no-defaults", `--datadir=${folder}/data`, `--port=${port}`],
      ...[`--socket=${folder}/s.sock`, "--bind-address=127.0.0.1", "--skip-log-bin"],
      ...[
        `--tmpdir=${folder}`,
        "--innodb-flush-log-at-trx-commit=2",
        "--innodb-buffer-pool-size=32M",
        "--skip-name-resolve",
        ...more,
      ],
    ],
  });
  const { createConnection } = await import("mysql2/promise");
  const query = async (sql: string, auth: object = { password: "password" }) => {
    const options = {
      host: "127.0.0.1",
      port: service.port,
      user: "root",
      multipleStatements: true,
    };
    const connection = await createConnection({ ...options, ...auth });
    try {
      return (await connection.query(sql))[0];
    } finally {
      await connection.end();
    }
  };
  await query(
    "CREATE DATABASE vernemq_db; ALTER USER 'root'@'127.0.0.1' IDENTIFIED BY 'password'; " +
      "FLUSH PRIVILEGES;",
    {},
  );
  return {
    ...service,
    query: (sql) => query(sql, { password: "password", database: "vernemq_db" }),
  };
}

export const hasMariadb = (): boolean => hasCommand("mariadbd", "mariadb-server");

/** Redis without a password, or with the arguments given. */
export function startRedis(scope: Scope = "file", more: readonly string[] = []): Promise<Service> {
  return startService({
    ...{ package: "redis-server", command: "redis-server", scope },
    arguments: (port, folder) => [
      ...["--port", String(port), "--bind", "127.0.0.1", "--dir", folder],
      ...["--save", "", "--appendonly", "yes", "--appendfsync", "always", ...more],
    ],
  });
}

export const hasRedis = (): boolean => hasCommand("redis-server", "redis-server");

export function startMemcached(
  scope: Scope = "file",
  more: readonly string[] = [],
): Promise<Service> {
  return startService({
    ...{ package: "memcached", command: "memcached", user: "memcache", scope },
    arguments: (port) => ["-p", String(port), "-l", "127.0.0.1", "-U", "0", ...more],
  });
}

export const hasMemcached = (): boolean => hasCommand("memcached", "memcached");

const MONGO = join(import.meta.dirname, "mongo");

/**
 * A server that speaks MongoDB's protocol: FerretDB, built once per machine with Go (Debian has no
 * MongoDB). With files of a certificate and its key it speaks TLS.
 */
export function startMongo(
  scope: Scope = "file",
  certificate: readonly string[] = [],
): Promise<Service> {
  return startService({
    ...{ package: "golang", command: mongoBinary(), scope },
    prepare: (folder) => mkdirSync(join(folder, "data")),
    arguments: (port, folder) => [...[`127.0.0.1:${port}`, join(folder, "data"), ...certificate]],
  });
}

/** Path of the server; builds it if this machine has none yet. */
export function mongoBinary(): string {
  const sources = ["main.go", "go.mod", "go.sum"].map((name) => readFileSync(join(MONGO, name)));
  const hash = createHash("sha256");
  for (const source of sources) hash.update(source);
  const folder = join(homedir(), ".cache", "nautilus-test");
  const binary = join(folder, `mongo-${hash.digest("hex").slice(0, 16)}`);
  if (existsSync(binary)) return binary;
  mkdirSync(folder, { recursive: true });
  const built = `${binary}.${process.pid}`;
  execFileSync("go", ["build", "-o", built, "."], { cwd: MONGO, stdio: "pipe" });
  renameSync(built, binary);
  return binary;
}

export function hasMongo(): boolean {
  try {
    mongoBinary();
    return true;
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    return missing(`a server for MongoDB's protocol (${reason})`, "install Go 1.22 or newer");
  }
}
