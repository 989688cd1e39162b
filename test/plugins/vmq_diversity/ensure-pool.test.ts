import { beforeAll, describe, expect, it } from "vitest";
import { freePort, waitFor } from "../../support/broker.ts";
import { startHost, type TestHost } from "../../support/lua-host.ts";

/** `ensure_pool` of every provider without a server: fields, defaults, and a backend that is not there. */

/** What the configuration says of each provider when nobody has written anything. */
const SETTINGS = {
  "vmq_diversity.redis.database": 0,
  "vmq_diversity.mongodb.w_mode": "safe",
};

let lua: TestHost;
beforeAll(async () => {
  lua = await startHost({ settings: SETTINGS });
});

const CALLS = {
  postgres: 'execute(pool, "SELECT 1")',
  cockroachdb: 'execute(pool, "SELECT 1")',
  mysql: 'execute(pool, "SELECT 1")',
  mysql2: 'execute(pool, "SELECT 1")',
  mongodb: 'find_one(pool, "c", {})',
  redis: 'cmd(pool, "get x")',
  memcached: 'get(pool, "x")',
};
const PROVIDERS = Object.entries(CALLS);
const WITH_TLS = [...Object.keys(CALLS), "http"];

describe("ensure_pool", () => {
  const ensure = (provider: string, field: string): Promise<unknown> =>
    lua.run(`return ${provider}.ensure_pool { pool_id = "bad", port = 1, ${field} }`);

  const COMMON = [
    ["pool_id = true", "pool_id must be a string, not true"],
    ["size = 0", "size must be a number from 1 to 1000, not 0"],
    ["size = 1.5", "size must be a number from 1 to 1000, not 1.5"],
    ["max_overflow = -1", "max_overflow must be a number from 0 to 1000, not -1"],
    ["host = 5", "host must be a string, not 5"],
    ["port = 70000", "port must be a number from 1 to 65535, not 70000"],
    ["prot = 1", "there is no field prot"],
  ] as const;
  it.each(PROVIDERS.map(([provider]) => provider))(
    "of %s names the field that is wrong",
    async (provider) => {
      for (const [field, message] of COMMON) {
        await expect(ensure(provider, field)).rejects.toThrow(
          `${provider}.ensure_pool: ${message}`,
        );
      }
      const none = lua.run(`return ${provider}.ensure_pool()`);
      await expect(none).rejects.toThrow(
        `${provider}.ensure_pool: config must be a table, not nil`,
      );
    },
  );

  const TLS = [
    ['verify = "some"', "verify must be verify_peer or verify_none, not string"],
    ["depth = -1", "depth must be a number from 0 to 100, not -1"],
    ['use_system_cas = "perhaps"', "use_system_cas must be true or false, not string"],
    ['customize_hostname_check = "http"', 'customize_hostname_check must be https, not "http"'],
    ['cacertfile = "/none.pem"', "cacertfile: ENOENT"],
    ['certfile = "/none.pem"', "certfile: ENOENT"],
    ['keyfile = "/none.pem"', "keyfile: ENOENT"],
    ["sni = 5", "sni must be a string, not 5"],
  ] as const;
  it.each(WITH_TLS)("of %s names the field of TLS that is wrong", async (provider) => {
    const on = provider === "http" ? 'pool_id = "bad"' : 'pool_id = "bad", port = 1, ssl = true';
    for (const [field, message] of TLS) {
      await expect(lua.run(`return ${provider}.ensure_pool { ${on}, ${field} }`)).rejects.toThrow(
        `${provider}.ensure_pool: ${message}`,
      );
    }
  });

  it("names what only one provider has", async () => {
    for (const [provider, field, message] of [
      ["redis", 'database = "x"', "database must be a number from 0 to 100000, not string"],
      ["mongodb", 'w_mode = "always"', 'w_mode must be one of safe, unsafe, not "always"'],
      ["mysql2", "encoding = 8", "encoding must be a string, not 8"],
    ] as const) {
      await expect(ensure(provider, field)).rejects.toThrow(`${provider}.ensure_pool: ${message}`);
    }
  });

  it("is the first one's for everybody, and says once who wanted it otherwise", async () => {
    const lines: { msg: string; script?: string; hint?: string }[] = [];
    const logged = (line: string): void => void lines.push(JSON.parse(line));
    const { load, call } = await startHost({ settings: SETTINGS, logged, scope: "test" });
    for (const provider of [...Object.keys(CALLS), "http"]) {
      const ensure = (size: number): string =>
        `${provider}.ensure_pool { ${provider === "http" ? "" : 'host = "a", port = 1,'} size = ${size}, pool_id = "p" }`;
      await load(ensure(5), { states: 2 });
      const changed = await load(
        `${ensure(6)} hooks = { auth_on_publish = function() ${ensure(6)} return { 1 } end }`,
        { states: 2 },
      );
      await call(changed);
      await waitFor("it is said", () => lines.length > 0);
      const msg = `${provider}.ensure_pool: the pool "p" is there already with other options`;
      expect(lines.splice(0)).toEqual([expect.objectContaining({ msg, level: "warning" })]);
    }
  });

  it("never shows a password", async () => {
    for (const provider of ["postgres", "mysql", "mysql2", "mongodb", "redis"]) {
      const refused = ensure(provider, "password = 471147");
      await expect(refused).rejects.toThrow("password must be a string, not number");
      await expect(refused).rejects.not.toThrow(/471147/);
    }
  });

  it("of a provider takes what the configuration says", async () => {
    const port = await freePort();
    const configured = await startHost({
      settings: {
        "vmq_diversity.memcache.host": "127.0.0.1",
        "vmq_diversity.memcache.port": port,
        "vmq_diversity.postgres.host": "127.0.0.1",
        "vmq_diversity.postgres.port": port,
        "vmq_diversity.postgres.ssl": true,
        "vmq_diversity.postgres.ssl.verify": "verify_none",
        "vmq_diversity.postgres.pool_size": 7,
        "vmq_diversity.postgres.cafile": "/none.pem",
      },
      scope: "test",
    });
    const message = await configured.run(
      'memcached.ensure_pool {} return select(2, pcall(memcached.get, "pool_memcached", "x"))',
    );
    expect(message).toContain(
      `unavailable: memcached pool_memcached: connect ECONNREFUSED 127.0.0.1:${port}`,
    );
    await expect(configured.run("postgres.ensure_pool {}")).rejects.toThrow("cacertfile: ENOENT");
  });
});

describe("a backend that is not there", () => {
  it.each(PROVIDERS)(
    "%s: is unavailable, and no answer of any other kind",
    async (provider, code) => {
      const port = await freePort();
      const asked = lua.run(
        `local pool = "none" ${provider}.ensure_pool { pool_id = pool, host = "127.0.0.1", port = ${port} }
       return ${provider}.${code}`,
      );
      await expect(asked).rejects.toThrow(`unavailable: ${provider} none: `);
    },
  );

  it.each(PROVIDERS)("%s: a pool that nobody made is named", async (provider, code) => {
    const asked = lua.run(`local pool = "nobody" return ${provider}.${code}`);
    await expect(asked).rejects.toThrow(`${provider}: there is no pool "nobody"`);
  });
});
