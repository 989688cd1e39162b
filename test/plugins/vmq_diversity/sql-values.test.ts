import { beforeAll, describe, expect, it } from "vitest";
import { startHost, type TestHost } from "../../support/lua-host.ts";
import {
  hasMariadb,
  hasPostgres,
  startMariadb,
  startPostgres,
} from "../../support/servers/databases.ts";

/** Values between SQL and Lua, and statements that stay prepared. */

let lua: TestHost;
beforeAll(async () => {
  lua = await startHost();
});

const LOGIN = 'user = "root", password = "password", database = "vernemq_db"';

describe.skipIf(!hasPostgres())("postgres", () => {
  let server: Awaited<ReturnType<typeof startPostgres>>;
  const run = (code: string, pool = "p"): Promise<unknown> =>
    lua.run(
      `postgres.ensure_pool { pool_id = "${pool}", host = "127.0.0.1", port = ${server.port}, ${LOGIN}, size = 1, max_overflow = 0 }
       local x = function(...) return postgres.execute("${pool}", ...) end ${code}`,
    );
  beforeAll(async () => {
    server = await startPostgres();
  }, 120_000);

  it.each([
    ["'{1,2}'::int8[]", [1, 2]],
    ["'{1.5,2}'::numeric[]", [1.5, 2]],
    ["'{t,f}'::bool[]", [true, false]],
    ['\'{"a b","c,d"}\'::text[]', ["a b", "c,d"]],
    ["'{2026-01-02}'::date[]", ["2026-01-02"]],
    ["'{2026-01-02 03:04:05}'::timestamp[]", ["2026-01-02T03:04:05"]],
    [
      "'{{1,2},{3,4}}'::int4[]",
      [
        [1, 2],
        [3, 4],
      ],
    ],
    ["ARRAY['{\"a\":1}'::jsonb]", ['{"a": 1}']],
    ["'{10.0.0.1}'::inet[]", ["10.0.0.1"]],
  ])("gives the array %s as a table", async (sql, expected) => {
    // Together with another value: the test's host unpacks a table with one.
    expect(await run(`return 0, x([[SELECT ${sql} AS a]])[1].a`)).toEqual([0, expected]);
  });

  it.each([
    ["'03:04:05'::time", "03:04:05"],
    ["interval '1 day 2 hours'", "1 day 02:00:00"],
    ["'b0b0b0b0-1111-2222-3333-444444444444'::uuid", "b0b0b0b0-1111-2222-3333-444444444444"],
    ["'infinity'::timestamp", "infinity"],
    ["'10.1.2.3'::inet", "10.1.2.3"],
    ["'NaN'::numeric::text", "NaN"],
    ["(-9223372036854775807)::int8", -9223372036854775807n],
  ])("gives %s as it is read", async (sql, expected) => {
    expect(await run(`return tostring(x([[SELECT ${sql} AS v]])[1].v)`)).toBe(String(expected));
  });

  it("gives ISO 8601 whatever date style the server has", async () => {
    await server.query("ALTER ROLE root SET datestyle = 'SQL, DMY'");
    const code = "return x([[SELECT timestamp '2026-02-01 03:04:05' AS t]])[1].t";
    expect(await run(code, "styled")).toBe("2026-02-01T03:04:05");
    await server.query("ALTER ROLE root RESET datestyle");
  });

  it("takes bytes, integers beyond 2^53 and floats as parameters", async () => {
    expect(await run("return x('SELECT length($1::bytea) AS n', '\\0\\255\\1')[1].n")).toBe(3);
    expect(
      await run("return x('SELECT $1::int8 = 9007199254740993 AS s', 9007199254740993)[1].s"),
    ).toBe(true);
    expect(await run("return x('SELECT $1::int = 2 AS s', 2.0)[1].s")).toBe(true);
    expect(await run("return x('SELECT $1::bool AS b', true)[1].b")).toBe(true);
  });

  it("knows a statement whose table was altered, and one that the server has forgotten", async () => {
    await server.query("CREATE TABLE altered (id int); INSERT INTO altered VALUES (1)");
    const select = "x('SELECT * FROM altered WHERE id = $1', 1)[1]";
    expect(await run(`return ${select}.id`)).toBe(1);
    await server.query("ALTER TABLE altered ADD COLUMN more text DEFAULT 'new'");
    expect(await run(`return ${select}.more`)).toBe("new");
    expect(await run(`return ${select}.more`)).toBe("new");
    await run("x('DEALLOCATE ALL')");
    expect(await run(`return ${select}.more`)).toBe("new");
    expect(await run(`return ${select}.more`)).toBe("new");
  });

  it("prepares a statement once for each connection", async () => {
    const select = "x('SELECT $1::int + 41 AS n', 1)";
    expect(await run(`${select} ${select} return ${select}[1].n`)).toBe(42);
    const count = "SELECT count(*)::int AS n FROM pg_prepared_statements WHERE statement LIKE ";
    // The question itself is another statement: its pattern does not match its own text.
    expect(await run(`return x([[${count}'SELECT $1::int +%']])[1].n`)).toBe(1);
  });

  it("keeps only so many statements prepared, and runs all others as well", async () => {
    const code = `local sum = 0 for i = 1, 300 do sum = sum + x("SELECT " .. i .. " AS n")[1].n end
      return sum, x("SELECT count(*)::int AS n FROM pg_prepared_statements")[1].n`;
    const [sum, count] = (await run(code, "many")) as number[];
    expect(sum).toBe(45_150);
    expect(count).toBeGreaterThan(0);
    expect(count).toBeLessThanOrEqual(200);
  });
});

describe.skipIf(!hasMariadb())("mysql and mysql2", () => {
  let server: Awaited<ReturnType<typeof startMariadb>>;
  const run = (code: string, provider = "mysql2"): Promise<unknown> =>
    lua.run(
      `${provider}.ensure_pool { pool_id = "p", host = "127.0.0.1", port = ${server.port}, ${LOGIN} }
       local x = function(...) return ${provider}.execute("p", ...) end ${code}`,
    );
  beforeAll(async () => {
    server = await startMariadb();
  }, 120_000);

  it.each(["mysql", "mysql2"])(
    "%s: gives integers of 64 bits, bytes and text",
    async (provider) => {
      await run(
        "x('CREATE TABLE IF NOT EXISTS v (i BIGINT, u BIGINT UNSIGNED, b BLOB, d DATE)')",
        provider,
      );
      await run("x('DELETE FROM v')", provider);
      const insert =
        "x('INSERT INTO v VALUES (?, ?, ?, ?)', 9007199254740993, 5, '\\0\\255', '2026-01-02')";
      expect(await run(`return ${insert}`, provider)).toBe(true);
      // Once as text, once prepared.
      const code = `for _, row in ipairs { x("SELECT * FROM v")[1], x("SELECT * FROM v WHERE u = ?", 5)[1] } do
        assert(row.i == 9007199254740993 and math.type(row.i) == "integer", tostring(row.i))
        assert(row.u == 5 and #row.b == 2 and row.d == "2026-01-02")
      end
      return "right"`;
      expect(await run(code, provider)).toBe("right");
      expect(await run("return x('SELECT i FROM v')[1].i == 9007199254740993", provider)).toBe(
        true,
      );
      expect(await run("return x('SELECT 18446744073709551615 AS u')[1].u", provider)).toBe(
        "18446744073709551615",
      );
    },
  );

  it("takes numbers as LIMIT, nil as NULL, and gives NULL as nil", async () => {
    await run(
      "x('CREATE TABLE IF NOT EXISTS l (n INT)') x('INSERT INTO l VALUES (?), (?), (?)', 1, nil, 3)",
    );
    expect(await run("return #x('SELECT n FROM l LIMIT ?', 2)")).toBe(2);
    expect(await run("return #x('SELECT n FROM l WHERE n IS NULL')")).toBe(1);
    expect(await run("return type(x('SELECT n FROM l WHERE n IS NULL')[1].n)")).toBe("nil");
  });

  it("gives the first set of a procedure", async () => {
    await server.query("CREATE PROCEDURE two() BEGIN SELECT 1 AS a; SELECT 2 AS b; END");
    expect(await run("return x('CALL two()')[1].a")).toBe(1);
    await server.query("CREATE PROCEDURE nothing() BEGIN END");
    expect(await run("return x('CALL nothing()')")).toBe(true);
  });

  it("says what is wrong with the credentials, without the password", async () => {
    const code = `mysql2.ensure_pool { pool_id = "who", host = "127.0.0.1", port = ${server.port}, user = "nobody", password = "geheim" }
      return select(2, pcall(mysql2.execute, "who", "SELECT 1"))`;
    const message = String(await lua.run(code));
    expect(message).toMatch(/unavailable: mysql2 who: Access denied for user 'nobody'/);
    expect(message).not.toContain("geheim");
  });
});
