import { type AddressInfo, createServer } from "node:net";
import { beforeAll, describe, expect, it } from "vitest";
import { registerMetrics } from "../../../plugins/vmq_diversity/metrics.ts";
import type { PoolStats } from "../../../plugins/vmq_diversity/worker/library.ts";
import { freePort, waitFor } from "../../support/broker.ts";
import { atEnd } from "../../support/cleanup.ts";
import { startHost, type TestHost } from "../../support/lua-host.ts";
import {
  hasMariadb,
  hasMemcached,
  hasMongo,
  hasPostgres,
  hasRedis,
  startMariadb,
  startMemcached,
  startMongo,
  startPostgres,
  startRedis,
} from "../../support/servers/databases.ts";

/** Pools under load and in trouble, against real servers. */

let lua: TestHost;
beforeAll(async () => {
  lua = await startHost({ callTimeoutMs: 20_000 });
});

/** The newest numbers of a pool in the first thread; they come once a second. */
function statsOf({ host }: TestHost, id: string): PoolStats | undefined {
  return host.stats()[0]?.pools.find((pool) => pool.id === id);
}

const LOGIN = 'user = "root", password = "password", database = "vernemq_db"';

describe.skipIf(!hasPostgres())("a pool", () => {
  let server: Awaited<ReturnType<typeof startPostgres>>;
  const ensure = (id: string, more: string): string =>
    `postgres.ensure_pool { pool_id = "${id}", host = "127.0.0.1", port = ${server.port}, ${LOGIN}, ${more} }`;
  /** A script whose hook runs the SQL of its argument. */
  const load = (host: TestHost, id: string, more: string, states = 6) =>
    host.load(
      `${ensure(id, more)} hooks = { auth_on_publish = function(a) return { postgres.execute("${id}", a.sql) } end }`,
      { states },
    );
  beforeAll(async () => {
    server = await startPostgres();
  }, 120_000);

  it("grows by max_overflow while calls wait, and shrinks when nobody needs that", async () => {
    const version = await load(lua, "grows", "size = 1, max_overflow = 2");
    const sql = "SELECT pg_backend_pid() AS pid, pg_sleep(0.3)";
    const answers = await Promise.all(
      Array.from({ length: 6 }, () => lua.call(version, { sql }) as Promise<{ pid: number }[]>),
    );
    expect(new Set(answers.map(([row]) => row?.pid)).size).toBe(3);
    await waitFor("one connection is left", () => statsOf(lua, "grows")?.open === 1, 20_000);
    expect(statsOf(lua, "grows")).toMatchObject({
      size: 3,
      busy: 0,
      waiting: 0,
      calls: 6,
      errors: 0,
    });
  });

  it("lets a call wait 5 s for a connection, then says that none was free", async () => {
    const version = await load(lua, "full", "size = 1, max_overflow = 0");
    const sleeper = lua.call(version, { sql: "SELECT 1 AS one, pg_sleep(6)" });
    await expect(lua.call(version, { sql: "SELECT 1" })).rejects.toThrow(
      "unavailable: postgres full: no connection was free in time",
    );
    expect(await sleeper).toMatchObject([{ one: 1 }]);
    expect(await lua.call(version, { sql: "SELECT 2 AS two" })).toEqual([{ two: 2 }]);
  });

  it("is the same for all scripts: a second ensure_pool with its id changes nothing", async () => {
    await load(lua, "same", "size = 1");
    const port = await freePort();
    const again = `postgres.ensure_pool { pool_id = "same", host = "127.0.0.1", port = ${port} }`;
    expect(
      await lua.run(`${again} return postgres.execute("same", "SELECT 1 AS one")[1].one`),
    ).toBe(1);
  });

  it("has a share of its size in each thread", async () => {
    const two = await startHost({ threads: 2, scope: "test" });
    await load(two, "shared", "size = 3, max_overflow = 0", 2);
    const shares = await waitFor("both threads tell", () => {
      const all = two.host.stats().flatMap(({ pools }) => pools);
      return all.length === 2 && all;
    });
    expect(shares.map(({ size }) => size)).toEqual([2, 2]);
  });

  it("ends a query on the server when its call is over", async () => {
    const impatient = await startHost({ callTimeoutMs: 500, scope: "test" });
    const version = await load(impatient, "cut", "size = 1, max_overflow = 0");
    await expect(impatient.call(version, { sql: "SELECT pg_sleep(600)" })).rejects.toThrow();
    await waitFor("the server sleeps no more", async () => {
      const active = "SELECT 1 FROM pg_stat_activity WHERE state = 'active' AND query LIKE ";
      return (await server.query(`${active}'SELECT pg_sleep(600)%'`)).length === 0;
    });
    expect(await impatient.call(version, { sql: "SELECT 1 AS one" })).toEqual([{ one: 1 }]);
  });

  it("repeats the reason while the server is down, and nothing else", async () => {
    const port = await freePort();
    const code = `postgres.ensure_pool { pool_id = "down", host = "127.0.0.1", port = ${port} }
      return select(2, pcall(postgres.execute, "down", "SELECT 1"))`;
    const messages = new Set<unknown>();
    for (let i = 0; i < 10; i++) messages.add(await lua.run(code));
    expect([...messages]).toEqual([
      expect.stringMatching(/^unavailable: postgres down: connect ECONNREFUSED [\d.:]+$/),
    ]);
  });

  it("tries a server that is down ever more rarely, and tells calls without trying", async () => {
    const attemptsMs: number[] = [];
    const closing = createServer((socket) => {
      attemptsMs.push(performance.now());
      socket.destroy();
    });
    await new Promise<void>((resolve) => closing.listen(0, "127.0.0.1", resolve));
    atEnd(() => closing.close(), "test");
    const { port } = closing.address() as AddressInfo;
    const version = await lua.load(
      `redis.ensure_pool { pool_id = "rare", host = "127.0.0.1", port = ${port}, database = 0 }
       hooks = { auth_on_publish = function() return { select(2, pcall(redis.cmd, "rare", "ping")) } end }`,
    );
    let calls = 0;
    while (attemptsMs.length < 6) {
      expect(await lua.call(version)).toContain("unavailable: redis rare: ");
      calls++;
    }
    expect(calls).toBeGreaterThan(2 * attemptsMs.length);
    // Two pauses are longer than the three before them.
    const [first = 0, , , fourth = 0, , sixth = 0] = attemptsMs;
    expect(sixth - fourth).toBeGreaterThan(fourth - first);
  });

  it("has metrics: size, open, busy, waiting, calls, errors, time", async () => {
    const impatient = await startHost({ callTimeoutMs: 4_000, scope: "test" });
    const gauges = new Map<string, () => number>();
    const metrics = { gauge: (name: string, read: () => number) => void gauges.set(name, read) };
    const none = { scripts: { all: () => [] }, cache: impatient.cache, kv: { size: {} } };
    registerMetrics({ metrics } as never, { host: impatient.host, ...none } as never);
    const read = (name: string): number | undefined =>
      gauges.get(`vmq_diversity_postgres_pool_${name}`)?.();
    const names = ["size", "open", "busy", "waiting", "calls", "errors"];
    const seen = (): string => names.map((name) => `${name} ${read(name)}`).join(", ");
    const version = await load(impatient, "metered", "size = 1, max_overflow = 1", 3);
    const ask = () => impatient.call(version, { sql: "SELECT pg_sleep(600)" });
    const settled = Promise.allSettled([ask(), ask(), ask()]);
    const during = "size 2, open 2, busy 2, waiting 1, calls 3, errors 0";
    await waitFor("two calls run and one waits", () => seen() === during);
    await settled;
    await waitFor("all have failed", () => read("errors") === 3 && read("waiting") === 0);
    expect(read("elapsed_ms")).toBeGreaterThan(0);
    expect(await impatient.call(version, { sql: "SELECT 1 AS one" })).toEqual([{ one: 1 }]);
    await waitFor("the next is counted", () => read("calls") === 4);
    expect(read("errors")).toBe(3);
  });

  it("tells calls that wait when the server goes away", async () => {
    const own = await startPostgres("test");
    const version = await lua.load(
      `postgres.ensure_pool { pool_id = "gone", host = "127.0.0.1", port = ${own.port}, ${LOGIN}, size = 1, max_overflow = 0 }
       hooks = { auth_on_publish = function(a) return { postgres.execute("gone", "SELECT pg_sleep(60)") } end }`,
      { states: 2 },
    );
    const calls = [lua.call(version), lua.call(version)];
    const settled = Promise.allSettled(calls);
    await waitFor("one waits", () => statsOf(lua, "gone")?.waiting === 1);
    await own.stop();
    const [cut, waiting] = (await settled) as PromiseRejectedResult[];
    expect(String(cut?.reason)).toContain("unavailable: postgres gone: ");
    expect(String(waiting?.reason)).toContain("unavailable: postgres gone: connect ECONNREFUSED");
  });
});

describe("a server that hangs, dies or comes back", () => {
  const CASES = [
    {
      name: "redis",
      has: hasRedis,
      start: startRedis,
      more: "",
      code: 'redis.cmd(pool, "ping")',
      answer: "PONG",
    },
    {
      name: "memcached",
      has: hasMemcached,
      start: startMemcached,
      more: "",
      code: 'memcached.set(pool, "k", "v")',
      answer: "v",
    },
    {
      name: "mongodb",
      has: hasMongo,
      start: startMongo,
      more: ', database = "db"',
      code: 'mongodb.find_one(pool, "c", { _id = "none" })',
      answer: false,
    },
  ];
  for (const { name, has, start, more, code, answer } of CASES) {
    it.skipIf(!has())(
      `${name}: every call ends by its deadline as unavailable, and works again after`,
      async () => {
        const settings = {
          "vmq_diversity.redis.database": 0,
          "vmq_diversity.mongodb.w_mode": "safe",
        };
        const impatient = await startHost({ callTimeoutMs: 1_500, settings, scope: "test" });
        const server = await start("test");
        const ask = (): Promise<unknown> =>
          impatient.run(
            `local pool = "p" ${name}.ensure_pool { pool_id = pool, host = "127.0.0.1", port = ${server.port}${more} }
             local ok, answer = pcall(function() return ${code} end) return ok, answer`,
          );
        const back = () =>
          waitFor(
            "it answers",
            async () => {
              const got = await ask().catch(() => undefined);
              return Array.isArray(got) && got[0] === true && got[1] === answer;
            },
            20_000,
          );
        await back();
        server.pause();
        const hung = await ask().catch((error: unknown) => [false, String(error)]);
        expect(hung).toEqual([false, expect.stringMatching(/unavailable|no answer/)]);
        server.resume();
        await back();
        await server.stop();
        await waitFor("it is known to be down", async () => {
          const got = await ask().catch(() => undefined);
          return Array.isArray(got) && got[0] === false && /unavailable: /.test(String(got[1]));
        });
        await server.start();
        await back();
      },
      120_000,
    );
  }

  it("mongodb: a call learns that there is no server as soon as the driver does", async () => {
    const settings = { "vmq_diversity.mongodb.w_mode": "safe" };
    // The driver itself looks for a server longer than this.
    const impatient = await startHost({ callTimeoutMs: 1_500, settings, scope: "test" });
    const port = await freePort();
    const ask = (pool: string): Promise<unknown> =>
      impatient.run(
        `mongodb.ensure_pool { pool_id = "${pool}", host = "127.0.0.1", port = ${port}, database = "db" }
         return mongodb.find_one("${pool}", "c", {})`,
      );
    // The first call loads the driver, which a busy machine may take long for.
    await expect(ask("first")).rejects.toThrow();
    await expect(ask("p")).rejects.toThrow("unavailable: mongodb p: connect ECONNREFUSED");
  });

  it.skipIf(!hasMariadb())(
    "mysql: a query is ended on the server when its call is over",
    async () => {
      const impatient = await startHost({ callTimeoutMs: 500, scope: "test" });
      const server = await startMariadb("test");
      const run = (sql: string): Promise<unknown> =>
        impatient.run(
          `mysql.ensure_pool { pool_id = "p", host = "127.0.0.1", port = ${server.port}, ${LOGIN}, size = 1, max_overflow = 0 }
           return mysql.execute("p", "${sql}")`,
        );
      await waitFor("the pool is connected", () =>
        run("SELECT 1").then(
          () => true,
          () => false,
        ),
      );
      await expect(run("SELECT SLEEP(600)")).rejects.toThrow();
      await waitFor("the server sleeps no more", async () => {
        const list = (await server.query("SHOW PROCESSLIST")) as { Info: string | null }[];
        return !list.some(({ Info }) => Info?.includes("SLEEP"));
      });
      expect(await run("SELECT 2 AS two")).toEqual([{ two: 2 }]);
    },
    120_000,
  );
});
