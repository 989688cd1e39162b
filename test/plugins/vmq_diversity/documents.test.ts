import { Binary, Long, MongoClient, ObjectId } from "mongodb";
import { beforeAll, describe, expect, it } from "vitest";
import { startHost, type TestHost } from "../../support/lua-host.ts";
import {
  hasMemcached,
  hasMongo,
  hasRedis,
  startMemcached,
  startMongo,
  startRedis,
} from "../../support/servers/databases.ts";

/** Values of MongoDB, Redis and Memcached in Lua. */

let lua: TestHost;
beforeAll(async () => {
  const settings = { "vmq_diversity.redis.database": 0, "vmq_diversity.mongodb.w_mode": "safe" };
  lua = await startHost({ settings });
});

describe.skipIf(!hasMongo())("mongodb", () => {
  let port = 0;
  const run = (code: string): Promise<unknown> =>
    lua.run(
      `mongodb.ensure_pool { pool_id = "g", host = "127.0.0.1", port = ${port}, database = "db", size = 2 }
       local g = function(f, ...) return mongodb[f]("g", ...) end ${code}`,
    );
  beforeAll(async () => {
    ({ port } = await startMongo());
  }, 300_000);

  it("[check 45] gives what other clients have stored: null, dates, ids, numbers, arrays, bytes", async () => {
    const client = new MongoClient(`mongodb://127.0.0.1:${port}/`);
    try {
      await client
        .db("db")
        .collection("values")
        .insertOne({
          ...{ name: "all", nothing: null, at: new Date("2026-01-02T03:04:05.678Z"), half: 1.5 },
          ...{ inner: { id: new ObjectId("0123456789abcdef01234567") }, list: ["a", { b: 1 }] },
          ...{
            long: Long.fromString("9007199254740993"),
            bytes: new Binary(Buffer.from([0, 255])),
          },
        });
    } finally {
      await client.close();
    }
    expect(
      await run(
        'local d = g("find_one", "values", { name = "all" }) ' +
          "return type(d.nothing), d.at, d.half, d.inner.id == 'vmq-objid\\1\\35\\69\\103\\137\\171\\205\\239\\1\\35\\69\\103', d.list[1], d.list[2].b, d.long == 9007199254740993, #d.bytes, #d._id",
      ),
    ).toEqual(["nil", 1767323045678, 1.5, true, "a", 1, true, 2, 21]);
    const again =
      'g("find_one", "values", { ["inner.id"] = g("find_one", "values", { name = "all" }).inner.id })';
    expect(await run(`return ${again}.name`)).toBe("all");
  });

  it("updates the first match only, and inserts nothing when there is none", async () => {
    await run('g("insert", "u", { { k = 1, n = 0 }, { k = 1, n = 0 } })');
    expect(await run('return g("update", "u", { k = 1 }, { n = 5 })')).toBe(true);
    expect(await run('return #mongodb.take(g("find", "u", { n = 5 }), 9)')).toBe(1);
    expect(await run('return g("update", "u", { k = 2 }, { n = 5 })')).toBe(true);
    expect(await run('return g("find_one", "u", { k = 2 })')).toBe(false);
  });

  it("names a cursor that was closed", async () => {
    const code = 'local c = g("find", "u", {}) mongodb.close(c) return mongodb.next(c)';
    await expect(run(code)).rejects.toThrow("mongodb.next: there is no cursor mongo-cursor-");
  });

  it("raises what the server refuses, and does not call it unavailable", async () => {
    await run('g("insert", "twice", { _id = "one" })');
    const again = run('g("insert", "twice", { _id = "one" })');
    await expect(again).rejects.toThrow(/mongodb g: E11000/);
    await expect(again).rejects.not.toThrow(/unavailable/);
  });
});

describe.skipIf(!hasRedis())("redis", () => {
  it("keeps bytes, spaces and empty strings of arguments, and joins arrays", async () => {
    const { port } = await startRedis("test");
    const run = (code: string): Promise<unknown> =>
      lua.run(
        `redis.ensure_pool { pool_id = "r${port}", host = "127.0.0.1", port = ${port} }
         local c = function(...) return redis.cmd("r${port}", ...) end ${code}`,
      );
    expect(await run('c("set", "a key", "two words") return c("get", "a key")')).toBe("two words");
    expect(await run('c("set", "empty", "") return c("get empty")')).toBe("");
    expect(
      await run('c("set", "bytes", "\\0\\255\\r\\n") return c("get bytes") == "\\0\\255\\r\\n"'),
    ).toBe(true);
    expect(await run('c("set", "n", 5) return c("get n")')).toBe("5");
    expect(await run('c("set", "joined", { "a", "b" }) return c("get joined")')).toBe("ab");
    expect(await run('return c("eval", "return {1, {2, false}}", "0")[2][2]')).toBe("undefined");
    await expect(run('return c("set", "k", nil)')).rejects.toThrow("redis.cmd: argument 2 is nil");
    expect(await run('c("set s text") return c("incr s")')).toBe(false);
  });
});

describe.skipIf(!hasMemcached())("memcached", () => {
  it("answers false for what the server will not store, and goes on", async () => {
    const { port } = await startMemcached("test");
    const run = (code: string): Promise<unknown> =>
      lua.run(
        `memcached.ensure_pool { pool_id = "m", host = "127.0.0.1", port = ${port} }
         local m = function(f, ...) return memcached[f]("m", ...) end ${code}`,
      );
    expect(await run('return m("set", "big", string.rep("x", 2 * 1024 * 1024))')).toBe(false);
    expect(await run('return m("get", "big")')).toBe(false);
    expect(await run('m("set", "bytes", "\\0\\255") return #m("get", "bytes")')).toBe(2);
    expect(await run('m("set", "n", 42) return m("get", "n")')).toBe("42");
    await expect(run('m("get", "")')).rejects.toThrow("a key has 1 to 250 bytes");
    await expect(run('m("set", "k", "v", "soon")')).rejects.toThrow("expiry must be a number");
  });
});
