// A PostgreSQL server for one run of a suite, from Debian's package.
import { execFileSync, spawnSync } from "node:child_process";
import { chownSync, existsSync, mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { sleep } from "./load/clock.ts";
import { type Child, freePort, startChild } from "./process.ts";

const BASE = "/usr/lib/postgresql";
const START_MS = 30_000;

export interface Postgres {
  readonly port: number;
  /** Runs SQL; throws with what psql said. */
  sql(text: string): void;
  stop(): Promise<void>;
}

/** Folder of its programs, or undefined when the package postgresql is not installed. */
function programs(): string | undefined {
  if (!existsSync(BASE)) return undefined;
  const [newest] = readdirSync(BASE).sort((a, b) => Number(b) - Number(a));
  return newest === undefined ? undefined : join(BASE, newest, "bin");
}

/** Starts a server with the database vernemq_db; undefined without the package. */
export async function startPostgres(): Promise<Postgres | undefined> {
  const bin = programs();
  if (bin === undefined) return undefined;
  const folder = mkdtempSync(join(tmpdir(), "bench-postgres-"));
  // It refuses to run as root.
  const isRoot = process.getuid?.() === 0;
  const as = isRoot ? ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"] : [];
  if (isRoot) {
    const id = (flag: string): number =>
      Number(execFileSync("id", [flag, "postgres"], { encoding: "utf8" }));
    chownSync(folder, id("-u"), id("-g"));
  }
  const run = (command: readonly string[]): void => {
    const [program = "", ...args] = [...as, ...command];
    const { status, stderr } = spawnSync(program, args, { cwd: folder, encoding: "utf8" });
    if (status !== 0) throw new Error(`${command[0]}: ${stderr}`);
  };
  const data = join(folder, "data");
  run([join(bin, "initdb"), "-D", data, "-U", "root", "-A", "trust", "--no-sync"]);
  const port = await freePort();
  const where = ["-h", "127.0.0.1", "-p", String(port), "-U", "root"];
  const server: Child = startChild([
    ...as,
    ...[join(bin, "postgres"), "-D", data, "-p", String(port), "-k", folder],
    ...["-c", "listen_addresses=127.0.0.1", "-c", "fsync=off"],
  ]);
  const stop = async (): Promise<void> => {
    await server.stop();
    rmSync(folder, { recursive: true, force: true });
  };
  const endMs = Date.now() + START_MS;
  while (spawnSync(join(bin, "pg_isready"), where).status !== 0) {
    if (Date.now() > endMs || server.hasEnded()) {
      await stop();
      throw new Error(`PostgreSQL did not start: ${server.output()}`);
    }
    await sleep(50);
  }
  run([join(bin, "createdb"), ...where, "vernemq_db"]);
  const sql = (text: string): void =>
    run([
      join(bin, "psql"),
      ...where,
      "-d",
      "vernemq_db",
      "-q",
      "-v",
      "ON_ERROR_STOP=1",
      "-c",
      text,
    ]);
  return { port, sql, stop };
}
