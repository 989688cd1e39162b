import { execFileSync } from "node:child_process";
import { chmodSync, chownSync, copyFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { freePort, tempDir, waitFor } from "../../support/broker.ts";
import { createCa } from "../../support/certs.ts";
import { startLua } from "../../support/lua.ts";
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

/** The modules for databases, against real servers. */

let lua: TestHost;
beforeAll(async () => {
  lua = await startHost({
    settings: {
      "vmq_diversity.postgres.password_hash_method": "crypt",
      "vmq_diversity.mysql.password_hash_method": "password",
      "vmq_diversity.mysql2.password_hash_method": "sha256",
      "vmq_diversity.mongodb.w_mode": "safe",
      "vmq_diversity.redis.database": 0,
    },
    callTimeoutMs: 20_000,
  });
});

const sql = (provider: string, port: number, more = ""): string =>
  `${provider}.ensure_pool { pool_id = "p${port}", host = "127.0.0.1", port = ${port}, size = 2,
    user = "root", password = "password", database = "vernemq_db" ${more} }`;

describe.skipIf(!hasPostgres())("postgres", () => {
  let server: Awaited<ReturnType<typeof startPostgres>>;
  let ensure: string;
  const run = (code: string): Promise<unknown> =>
    lua.run(
      `${ensure} local x = function(...) return postgres.execute("p${server.port}", ...) end ${code}`,
    );
  beforeAll(async () => {
    server = await startPostgres();
    ensure = sql("postgres", server.port);
  }, 120_000);

  it("[check 28] gives rows as tables by column, and takes parameters", async () => {
    await run("return x('CREATE TABLE IF NOT EXISTS t (id int, name text)')");
    expect(await run("return x('DELETE FROM t')")).toBe(false);
    for (let i = 1; i <= 4; i++) {
      expect(await run(`return x('INSERT INTO t VALUES ($1, $2)', ${i}, 'n${i}')`)).toBe(true);
    }
    expect(await run("return #x('SELECT * FROM t')")).toBe(4);
    expect(
      await run("local r = x('SELECT * FROM t WHERE id = $1', 3) return #r, r[1].id, r[1].name"),
    ).toEqual([1, 3, "n3"]);
  });

  it("answers false when no row was changed, and for an error of SQL", async () => {
    expect(await run("return x('UPDATE t SET name = $1 WHERE id = $2', 'z', 999)")).toBe(false);
    expect(await run("return x('SELEKT 1')")).toBe(false);
    expect(await run("return x('SELECT 1 AS one')[1].one")).toBe(1);
  });

  it("[check 45] gives NULL as nil and times as ISO 8601", async () => {
    expect(await run("return type(x('SELECT NULL AS n')[1].n)")).toBe("nil");
    expect(await run("return x([[SELECT timestamp '2026-01-02 03:04:05' AS t]])[1].t")).toBe(
      "2026-01-02T03:04:05",
    );
    const utc = "SET TIME ZONE 'UTC'";
    expect(
      await run(`x("${utc}") return x([[SELECT timestamptz '2026-01-02 03:04:05+00' AS t]])[1].t`),
    ).toMatch(/^2026-01-02T0\d:04:05[+]\d\d:00$/);
    expect(await run("return x([[SELECT date '2026-01-02' AS d]])[1].d")).toBe("2026-01-02");
  });

  it("gives every type as the type of Lua that fits", async () => {
    expect(
      await run(
        "local r = x([[SELECT 1::int8 AS i, 1.5::float8 AS f, 2.25::numeric AS n, true AS b, '\\x00ff'::bytea AS y, '{\"a\":1}'::json AS j, ARRAY['p','q'] AS a]])[1] " +
          "return math.type(r.i), r.f, r.n, r.b, #r.y, r.j, r.a[2]",
      ),
    ).toEqual(["integer", 1.5, 2.25, true, 2, '{"a":1}', "q"]);
    expect(
      await run("return x([[SELECT 9007199254740993::int8 AS i]])[1].i == 9007199254740993"),
    ).toBe(true);
  });

  it("gives a statement's rows alike each time, and anew when its table has changed", async () => {
    const twice = "local r for i = 1, 2 do r = x('SELECT * FROM t2 ORDER BY id') end";
    await run("return x('CREATE TABLE t2 (id int8, gone text)')");
    expect(await run(`${twice} return #r`)).toBe(0);
    for (let i = 0; i < 2; i++) {
      expect(await run("return x('INSERT INTO t2 VALUES ($1, NULL)', 1)")).toBe(true);
      expect(await run("return x('UPDATE t2 SET id = id WHERE id = $1', 9)")).toBe(false);
    }
    const read = `${twice} return #r, math.type(r[1].id), r[1].gone == nil, r[2].added or 'none'`;
    expect(await run(read)).toEqual([2, "integer", true, "none"]);
    expect(await run("return x('ALTER TABLE t2 ADD COLUMN added text DEFAULT 4')")).toBe(true);
    expect(await run(read)).toEqual([2, "integer", true, "4"]);
    expect(await run("return x('DISCARD ALL')")).toBe(true);
    expect(await run(read)).toEqual([2, "integer", true, "4"]);
  });

  it("takes more different statements than it keeps prepared", async () => {
    const code = "for i = 1, 300 do sum = sum + x('SELECT ' .. i .. ' AS n')[1].n end";
    for (let i = 0; i < 2; i++) expect(await run(`local sum = 0 ${code} return sum`)).toBe(45150);
  });

  it("answers false for statements that would stream, and goes on", async () => {
    for (let i = 0; i < 2; i++) {
      expect(await run("return x('COPY t2 FROM STDIN')")).toBe(false);
      expect(await run("return x('')")).toBe(true);
      expect(await run("return #x('SELECT 1')")).toBe(1);
    }
  });

  it("takes nil as NULL, and names an argument of a wrong type", async () => {
    expect(await run("return x('SELECT $1::text IS NULL AS n', nil)[1].n")).toBe(true);
    await expect(run("return x('SELECT $1', {})")).rejects.toThrow(
      "postgres.execute: argument 1 must be a string, number or boolean, not table",
    );
  });

  it("raises an error that pcall catches for a pool that nobody made", async () => {
    expect(
      await lua.run("return select(2, pcall(postgres.execute, 'none', 'SELECT 1'))"),
    ).toContain('there is no pool "none"');
  });

  it.each([
    ["size = 0", "size must be a number from 1 to 1000, not 0"],
    ["port = 'x'", "port must be a number from 1 to 65535, not string"],
    ["host = 5", "host must be a string, not 5"],
    ["prot = 1", "there is no field prot"],
    ["ssl = 'maybe'", "ssl must be true or false, not string"],
    ["verify = 'some'", "verify must be verify_peer or verify_none, not string"],
    ["ssl = true, cacertfile = '/none'", "cacertfile: ENOENT"],
  ])("names the field that is wrong in ensure_pool: %s", async (field, message) => {
    const code = `return postgres.ensure_pool { pool_id = "bad", port = 5432, ${field} }`;
    await expect(lua.run(code)).rejects.toThrow(message);
  });

  it("waits for a free connection, and gives up in time when all are busy", async () => {
    const version = await lua.load(
      `${ensure} hooks = { auth_on_publish = function() return { postgres.execute("p${server.port}", "SELECT pg_sleep(0.3)") } end }`,
      { states: 6 },
    );
    // Two connections, six calls: three rounds.
    await Promise.all(Array.from({ length: 6 }, () => lua.call(version)));
    lua.host.retire(version.number);
  });

  it("gives a connection back safely when its query takes longer than the call may", async () => {
    const impatient = await startHost({ callTimeoutMs: 1000, scope: "test" });
    const version = await impatient.load(
      `${ensure} hooks = { auth_on_publish = function(a) return { postgres.execute("p${server.port}", a.sql) } end }`,
    );
    await expect(impatient.call(version, { sql: "SELECT pg_sleep(5)" })).rejects.toThrow(
      /unavailable|no answer/,
    );
    for (let i = 0; i < 4; i++) {
      expect(await impatient.call(version, { sql: `SELECT ${i} AS i` })).toEqual([{ i }]);
    }
  });

  it("says unavailable while the server is down, and works again when it is back", async () => {
    await server.stop();
    await expect(run("return x('SELECT 1 AS one')")).rejects.toThrow(
      `unavailable: postgres p${server.port}`,
    );
    await server.start();
    await waitFor(
      "the pool is back",
      () =>
        run("return x('SELECT 1 AS one')[1].one").then(
          (one) => one === 1,
          () => false,
        ),
      20_000,
    );
  });

  it("says what is wrong with the credentials, without the password", async () => {
    const code = `postgres.ensure_pool { pool_id = "who", host = "127.0.0.1", port = ${server.port},
      user = "nobody", password = "geheim", database = "vernemq_db" }
      return select(2, pcall(postgres.execute, "who", "SELECT 1"))`;
    const message = String(await lua.run(code));
    expect(message).toContain('role "nobody" does not exist');
    expect(message).not.toContain("geheim");
  });
});

/** Folder with a certificate for localhost that a server of this user of Debian's may read, and its CA. */
function certificateFor(user: string): string {
  const ca = createCa(tempDir("test"), "database CA");
  const pair = ca.issue("localhost", { subject: "/CN=localhost" });
  const folder = tempDir("test");
  const files = { "cert.pem": pair.cert, "key.pem": pair.key, "ca.pem": ca.cert };
  chmodSync(folder, 0o755);
  for (const [name, from] of Object.entries(files)) {
    const file = join(folder, name);
    copyFileSync(from, file);
    chmodSync(file, 0o600);
    if (process.getuid?.() !== 0) continue;
    const id = (flag: string): number =>
      Number(execFileSync("id", [flag, user], { encoding: "utf8" }));
    chownSync(file, id("-u"), id("-g"));
  }
  return folder;
}

describe("TLS verifies the server by its CA, not without it, and not by another name", () => {
  /** Runs `answer` with pools made of several TLS options. */
  async function check(
    provider: string,
    fields: string,
    answer: string,
    folder: string,
  ): Promise<void> {
    const connect = (id: string, more: string): Promise<unknown> =>
      lua.run(
        `${provider}.ensure_pool { pool_id = "${provider}${id}", host = "localhost", ssl = true, ${fields}, ${more} }
         local pool = "${provider}${id}" return ${answer}`,
      );
    const ca = `cacertfile = "${folder}/ca.pem"`;
    expect(await connect("1", ca)).toBeTruthy();
    await expect(connect("2", "depth = 1")).rejects.toThrow(/unavailable.*(certificate|verify)/);
    expect(await connect("3", 'verify = "verify_none"')).toBeTruthy();
    await expect(connect("4", `${ca}, depth = 0`)).rejects.toThrow("longer than depth 0");
    await expect(connect("5", `${ca}, sni = "db.example"`)).rejects.toThrow(
      /unavailable.*db\.example/,
    );
  }
  const sqlFields = (port: number): string =>
    `port = ${port}, user = "root", password = "password", database = "vernemq_db"`;

  it.skipIf(!hasPostgres())(
    "postgres",
    async () => {
      const folder = certificateFor("postgres");
      const server = await startPostgres("test", [
        "ssl=on",
        `ssl_cert_file=${folder}/cert.pem`,
        `ssl_key_file=${folder}/key.pem`,
      ]);
      const query = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
      await check(
        "postgres",
        sqlFields(server.port),
        `postgres.execute(pool, "${query}")[1].ssl`,
        folder,
      );
    },
    120_000,
  );

  it.skipIf(!hasMariadb())(
    "mysql2",
    async () => {
      const folder = certificateFor("mysql");
      const server = await startMariadb("test", [
        `--ssl-cert=${folder}/cert.pem`,
        `--ssl-key=${folder}/key.pem`,
      ]);
      const query = "SHOW STATUS LIKE 'Ssl_version'";
      const answer = `mysql2.execute(pool, "${query}")[1].Value:sub(1, 3) == "TLS"`;
      await check("mysql2", sqlFields(server.port), answer, folder);
    },
    120_000,
  );

  it.skipIf(!hasRedis())(
    "redis",
    async () => {
      const folder = certificateFor("root");
      const port = await freePort();
      await startRedis("test", [
        ...["--tls-port", String(port), "--tls-auth-clients", "no"],
        ...["--tls-cert-file", `${folder}/cert.pem`, "--tls-key-file", `${folder}/key.pem`],
        ...["--tls-ca-cert-file", `${folder}/ca.pem`],
      ]);
      await check("redis", `port = ${port}`, 'redis.cmd(pool, "set", "k", "v")', folder);
    },
    120_000,
  );

  it.skipIf(!hasMemcached())("memcached", async () => {
    const folder = certificateFor("memcache");
    const files = `ssl_chain_cert=${folder}/cert.pem,ssl_key=${folder}/key.pem`;
    const server = await startMemcached("test", ["-Z", "-o", files]);
    const answer = 'memcached.set(pool, "k", ("x"):rep(100000))';
    await check("memcached", `port = ${server.port}`, answer, folder);
    const get = 'return #memcached.get("memcached1", "k")';
    expect(await lua.run(get)).toBe(100_000);
    // A connection that ended while nobody used it costs nobody a call.
    await server.stop();
    await server.start();
    await lua.run('return memcached.set("memcached1", "k", "v")');
    await server.stop();
    await expect(lua.run(get)).rejects.toThrow("unavailable: memcached memcached1");
    await server.start();
    const isBack = 'return memcached.set("memcached1", "k", "back")';
    await waitFor("the pool is back", () => lua.run(isBack).catch(() => false), 20_000);
  });

  it.skipIf(!hasMemcached())("memcached asks the client for a certificate", async () => {
    const folder = certificateFor("memcache");
    const files = [`ssl_chain_cert=${folder}/cert.pem`, `ssl_key=${folder}/key.pem`];
    // 2: a certificate of the client is required.
    const more = [`ssl_ca_cert=${folder}/ca.pem`, "ssl_verify_mode=2"];
    const server = await startMemcached("test", ["-Z", "-o", [...files, ...more].join(",")]);
    const connect = (id: string, fields: string): Promise<unknown> =>
      lua.run(
        `memcached.ensure_pool { pool_id = "${id}", host = "localhost", port = ${server.port}, ssl = true,
           cacertfile = "${folder}/ca.pem" ${fields} }
         return memcached.set("${id}", "k", "v")`,
      );
    const own = `, certfile = "${folder}/cert.pem", keyfile = "${folder}/key.pem"`;
    expect(await connect("with", own)).toBe("v");
    await expect(connect("without", "")).rejects.toThrow("unavailable: memcached without");
  });

  it.skipIf(!hasMemcached() || !hasRedis() || !hasMariadb())(
    "mysql, redis and memcached, by the configuration alone",
    async () => {
      const folder = certificateFor("memcache");
      const [cert, key] = [`${folder}/cert.pem`, `${folder}/key.pem`];
      const files = `ssl_chain_cert=${cert},ssl_key=${key}`;
      const memcached = await startMemcached("test", ["-Z", "-o", files]);
      const redisPort = await freePort();
      await startRedis("test", [
        ...["--tls-port", String(redisPort), "--tls-auth-clients", "no"],
        ...["--tls-cert-file", cert, "--tls-key-file", key],
      ]);
      const ofMysql = certificateFor("mysql");
      const mariadb = await startMariadb("test", [
        ...[`--ssl-cert=${ofMysql}/cert.pem`, `--ssl-key=${ofMysql}/key.pem`],
      ]);
      const settings = (section: string, port: number, ca: string): Record<string, string> => ({
        [`vmq_diversity.${section}.host`]: "localhost",
        [`vmq_diversity.${section}.port`]: String(port),
        [`vmq_diversity.${section}.ssl`]: "on",
        [`vmq_diversity.${section}.cafile`]: ca,
      });
      const ask = async (ca: string, caOfMysql: string): Promise<string> => {
        const { connect } = await startLua({
          scripts: {
            "a.lua": `local asked = {
                memcached = function() return memcached.set("pool_memcached", "k", "v") end,
                redis = function() return redis.cmd("pool_redis", "set", "k", "v") end,
                mysql = function() return mysql.execute("pool_mysql", "SHOW STATUS LIKE 'Ssl_version'")[1].Value:sub(1, 3) end,
              }
              hooks = { auth_on_register = function() return true end, auth_on_subscribe = function() return true end,
                auth_on_publish = function()
                  local seen = {}
                  for name, call in pairs(asked) do
                    _G[name].ensure_pool {}
                    local ok, answer = pcall(call)
                    seen[#seen + 1] = name .. " " .. (ok and tostring(answer) or answer:match("unavailable") or answer)
                  end
                  table.sort(seen)
                  return { payload = table.concat(seen, ", ") } end }`,
          },
          settings: {
            ...settings("memcache", memcached.port, ca),
            ...settings("redis", redisPort, ca),
            ...settings("mysql", mariadb.port, caOfMysql),
          },
        });
        const client = await connect();
        await client.subscribeAsync("answer");
        const received = new Promise<string>((resolve) =>
          client.once("message", (_, payload) => resolve(payload.toString())),
        );
        await client.publishAsync("answer", "");
        return received;
      };
      const mine = await ask(`${folder}/ca.pem`, `${ofMysql}/ca.pem`);
      expect(mine).toBe("memcached v, mysql TLS, redis true");
      const other = await ask(`${ofMysql}/ca.pem`, `${folder}/ca.pem`);
      expect(other).toBe("memcached unavailable, mysql unavailable, redis unavailable");
    },
    120_000,
  );

  it.skipIf(!hasMongo())(
    "mongodb",
    async () => {
      const folder = certificateFor("root");
      const server = await startMongo("test", [`${folder}/cert.pem`, `${folder}/key.pem`]);
      const answer = 'mongodb.insert(pool, "c", { a = 1 })';
      await check("mongodb", `port = ${server.port}, database = "db"`, answer, folder);
    },
    120_000,
  );
});

describe.skipIf(!hasMariadb()).each(["mysql", "mysql2"])("%s", (provider) => {
  let server: Awaited<ReturnType<typeof startMariadb>>;
  const run = (code: string): Promise<unknown> =>
    lua.run(
      `${sql(provider, server.port)} local x = function(...) return ${provider}.execute("p${server.port}", ...) end ${code}`,
    );
  beforeAll(async () => {
    server = await startMariadb();
  }, 120_000);

  it("[check 28] gives rows as tables by column, true for changes, false for an error of SQL", async () => {
    expect(await run("return x('CREATE TABLE t (id int, name varchar(20))')")).toBe(true);
    for (let i = 1; i <= 4; i++) {
      expect(await run(`return x('INSERT INTO t VALUES (?, ?)', ${i}, 'n${i}')`)).toBe(true);
    }
    expect(await run("return #x('SELECT * FROM t')")).toBe(4);
    expect(
      await run("local r = x('SELECT * FROM t WHERE id = ?', 3) return #r, r[1].name"),
    ).toEqual([1, "n3"]);
    expect(await run("return x('UPDATE t SET name = ? WHERE id = 999', 'z')")).toBe(true);
    expect(await run("return x('SELEKT 1')")).toBe(false);
  });

  it("[check 45] gives NULL as nil, times as ISO 8601, numbers as numbers", async () => {
    expect(await run("return type(x('SELECT NULL AS n')[1].n)")).toBe("nil");
    expect(await run("return x([[SELECT TIMESTAMP('2026-01-02 03:04:05') AS t]])[1].t")).toBe(
      "2026-01-02T03:04:05",
    );
    expect(
      await run(
        "local r = x([[SELECT 1.50 AS d, 12 AS i, ? AS n]], nil)[1] return r.d, r.i, type(r.n)",
      ),
    ).toEqual([1.5, 12, "nil"]);
  });

  it("[check 29] names the hash method of the configuration", async () => {
    const expected = provider === "mysql" ? "PASSWORD(?)" : "SHA2(?, 256)";
    expect(await lua.run(`return ${provider}.hash_method()`)).toBe(expected);
  });

  it("is unavailable and comes back with the server", async () => {
    await server.stop();
    await expect(run("return x('SELECT 1 AS one')")).rejects.toThrow("unavailable: ");
    await server.start();
    await waitFor(
      "the pool is back",
      () =>
        run("return x('SELECT 1 AS one')[1].one").then(
          (one) => one === 1,
          () => false,
        ),
      20_000,
    );
  });
});

describe.skipIf(!hasRedis())("redis", () => {
  let server: Awaited<ReturnType<typeof startRedis>>;
  const run = (code: string): Promise<unknown> =>
    lua.run(
      `redis.ensure_pool { pool_id = "r", host = "127.0.0.1", port = ${server.port} }
       local c = function(...) return redis.cmd("r", ...) end ${code}`,
    );
  beforeAll(async () => {
    server = await startRedis();
  });

  it("[check 25] answers as VerneMQ's scripts expect", async () => {
    expect(await run('return c("set key somevalue")')).toBe(true);
    expect(await run('return c("get key")')).toBe("somevalue");
    expect(await run('return type(c("set key other nx"))')).toBe("nil");
    expect(await run('c("set n 100") return c("incr n")')).toBe("101");
    expect(await run('c("mset a 10 b 20 c 30") return c("mget a b c")')).toEqual([
      "10",
      "20",
      "30",
    ]);
    expect(await run('return c("mget a nothing c")')).toEqual(["10", "undefined", "30"]);
    expect(await run('c("rpush l 1", "foo bar") return c("lrange l 0 -1")')).toEqual([
      "1",
      "foo bar",
    ]);
    expect(await run('c("rpop l") c("rpop l") return type(c("rpop l"))')).toBe("nil");
    expect(await run('return c("nosuchcommand")')).toBe(false);
    expect(await run('c("set", "bin", "\\0\\255") return #c("get bin")')).toBe(2);
  });

  it("is unavailable and comes back with the server, with what was stored", async () => {
    await server.stop();
    await expect(run('return c("get key")')).rejects.toThrow("unavailable: redis r");
    await server.start();
    await waitFor(
      "the pool is back",
      () =>
        run('return c("get key")').then(
          (value) => value === "somevalue",
          () => false,
        ),
      20_000,
    );
  });

  it("uses user, password and database", async () => {
    const locked = await startRedis("test", ["--requirepass", "s3cret"]);
    const code = (id: string, password: string): string =>
      `redis.ensure_pool { pool_id = "${id}", host = "127.0.0.1", port = ${locked.port}, password = "${password}", database = 3 }
       return redis.cmd("${id}", "set", "k", "v")`;
    expect(await lua.run(code("right", "s3cret"))).toBe(true);
    const refused = lua.run(code("wrong", "wr0ng"));
    await expect(refused).rejects.toThrow(/unavailable: redis wrong: (WRONGPASS|ERR)/);
    await expect(refused).rejects.not.toThrow(/wr0ng/);
  });
});

describe.skipIf(!hasMemcached())("memcached", () => {
  it("[check 26] stores, adds, replaces, deletes and forgets", async () => {
    const server = await startMemcached("test");
    const run = (code: string): Promise<unknown> =>
      lua.run(
        `memcached.ensure_pool { pool_id = "m", host = "127.0.0.1", port = ${server.port} }
         local m = function(f, ...) return memcached[f]("m", ...) end ${code}`,
      );
    expect(await run('return m("get", "unknown")')).toBe(false);
    expect(await run('return m("set", "k", "value")')).toBe("value");
    expect(await run('return m("get", "k")')).toBe("value");
    expect(await run('return m("add", "k", "other")')).toBe(false);
    expect(await run('return m("replace", "missing", "x")')).toBe(false);
    expect(await run('return m("replace", "k", "new")')).toBe("new");
    expect(await run('return m("delete", "k")')).toBe(true);
    expect(await run('return m("delete", "k")')).toBe(false);
    expect(await run('return m("set", "short", "x", 1)')).toBe("x");
    await waitFor(
      "the value has expired",
      async () => (await run('return m("get", "short")')) === false,
    );
    expect(await run('m("set", "all", "x") return m("flush_all")')).toBe(true);
    await server.stop();
    await expect(run('return m("get", "k")')).rejects.toThrow("unavailable: memcached m");
  });
});

describe.skipIf(!hasMongo())("mongodb", () => {
  let server: Awaited<ReturnType<typeof startMongo>>;
  const run = (code: string): Promise<unknown> =>
    lua.run(
      `mongodb.ensure_pool { pool_id = "g", host = "127.0.0.1", port = ${server.port}, database = "db" }
       local g = function(f, ...) return mongodb[f]("g", ...) end ${code}`,
    );
  beforeAll(async () => {
    server = await startMongo();
  }, 300_000);

  it("[check 27] inserts, finds, takes, projects and deletes", async () => {
    expect(
      await run('return g("insert", "c", { _id = "test-id", first_name = "a", n = { x = 1 } })'),
    ).toEqual({ _id: "test-id", first_name: "a", n: { x: 1 } });
    expect(
      await run(
        'local d = g("insert", "c", { { first_name = "b" }, { first_name = "c" } }) ' +
          'local found = g("find_one", "c", { _id = d[2]._id }) return #d, found.first_name, d[1]._id:sub(1, 9)',
      ),
    ).toEqual([2, "c", "vmq-objid"]);
    expect(
      await run(
        'local cur = g("find", "c", { first_name = { ["$in"] = { "b", "c" } } }) ' +
          "local docs = mongodb.take(cur, 5) local after = mongodb.next(cur) mongodb.close(cur) return #docs, after",
      ),
    ).toEqual([2, false]);
    expect(
      await run(
        'local d = g("find_one", "c", { _id = "test-id" }, { projector = { first_name = false } }) return d._id, type(d.first_name)',
      ),
    ).toEqual(["test-id", "nil"]);
    expect(await run('return g("update", "c", { _id = "test-id" }, { first_name = "z" })')).toBe(
      true,
    );
    expect(await run('return g("find_one", "c", { _id = "test-id" }).first_name')).toBe("z");
    expect(await run('return g("find_one", "c", { _id = "nobody" })')).toBe(false);
    expect(await run('return g("delete", "c", {})')).toBe(true);
    expect(await run('return g("find_one", "c", { _id = "test-id" })')).toBe(false);
  });

  it("refuses an update without selector or document", async () => {
    await expect(run('return g("update", "c", {}, { a = 1 })')).rejects.toThrow(
      "mongodb.update: selector must not be empty",
    );
  });

  it("is unavailable without a server, and never says that nothing was found", async () => {
    const port = await freePort();
    const code = `mongodb.ensure_pool { pool_id = "gone", host = "127.0.0.1", port = ${port}, database = "db" }
      return mongodb.find_one("gone", "c", {})`;
    await expect(lua.run(code)).rejects.toThrow("unavailable: mongodb gone");
  });
});
