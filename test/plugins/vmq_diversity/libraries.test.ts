import { randomBytes } from "node:crypto";
import { createServer, type Server } from "node:http";
import { beforeAll, describe, expect, it } from "vitest";
import { Obfuscator } from "../../../plugins/vmq_diversity/libs/obf.ts";
import { waitFor } from "../../support/broker.ts";
import { atEnd } from "../../support/cleanup.ts";
import { startHost, type TestHost } from "../../support/lua-host.ts";

/** The modules without a database. */

let lua: TestHost;
beforeAll(async () => {
  lua = await startHost({
    settings: { "vmq_bcrypt.default_log_rounds": 4 },
    callTimeoutMs: 20_000,
  });
});
const run = (code: string): Promise<unknown> => lua.run(code);

describe("json", () => {
  it.each([
    ["json.encode({})", "{}"],
    ["json.encode({1, 2})", "[1,2]"],
    ["json.encode({a = {}})", '{"a":{}}'],
    ["json.encode({a = 1.5})", '{"a":1.5}'],
    ["json.encode({a = 2.0})", '{"a":2.0}'],
    ["json.encode({a = '\\255'})", '{"a":"\uFFFD"}'],
    ["json.encode({a = true, [1] = 'x'})", '{"1":"x","a":true}'],
    ["json.encode({f = print})", undefined],
    ["math.type(json.decode('[2.0]')[1])", "float"],
    ["json.decode('[9007199254740993]')[1] == 9007199254740993", true],
    ['json.decode(\'{"awesome":true,"format":"json"}\').format', "json"],
    ["#json.decode('[]')", 0],
    ["json.decode('[1,2]')[2]", 2],
    ["type(json.decode('x'))", "nil"],
    ["json.decode('{\"a\":null}').a", "null"],
    ["math.type(json.decode('[2]')[1])", "integer"],
    ['json.encode(json.decode(\'{"b":[1,{"c":"ä"}]}\'))', '{"b":[1,{"c":"ä"}]}'],
  ])("[check 21] %s is %j", async (code, expected) => {
    expect(await run(`return ${code}`)).toBe(expected);
  });

  it("refuses what is no table, naming it", async () => {
    expect(await run("return select(2, pcall(json.encode, 'x'))")).toContain(
      "json.encode: the value must be a table, not string",
    );
  });
});

describe("crypto", () => {
  it("[check 22] gives raw digests of standard algorithms, by VerneMQ's names", async () => {
    const hex = (call: string): Promise<unknown> => run(`return crypto.hex(${call})`);
    expect(await hex('crypto.hash("md5", "hello")')).toBe("5d41402abc4b2a76b9719d911017c592");
    expect(await hex('crypto.hash("sha", "hello")')).toBe(
      "aaf4c61ddcc5e8a2dabede0f3b482cd9aea9434d",
    );
    expect(await hex('crypto.hash("sha256", "hello")')).toBe(
      "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824",
    );
    expect(await hex('crypto.hash("sha3_256", "hello")')).toBe(
      "3338be694f50c5f338814986cdf0686453a888b84f424d792af4b9202398f392",
    );
    expect(await run('return #crypto.hash("sha512", ""), #crypto.hash("sha3_512", "")')).toEqual([
      64, 64,
    ]);
    await expect(run('return crypto.hash("nosuch", "x")')).rejects.toThrow(
      'unknown algorithm "nosuch"',
    );
  });

  it("has hmac, a comparison in constant time, and random bytes", async () => {
    expect(await run('return crypto.hex(crypto.hmac("sha256", "key", "data"))')).toBe(
      "5031fe3d989c6d1537a013fa6e739da23463fdaec3b70137d828e36ace221bd0",
    );
    expect(
      await run(
        'return crypto.equal("a", "a"), crypto.equal("a", "b"), crypto.equal("a", "ab"), crypto.equal(nil, "a")',
      ),
    ).toEqual([true, false, false, false]);
    expect(await run("return #crypto.random_bytes(16)")).toBe(16);
    expect(await run('return crypto.base64("hello")')).toBe("aGVsbG8=");
  });
});

describe("bcrypt", () => {
  it("[check 23] hashes and verifies, keeping the prefix it was given", async () => {
    expect(
      await run(
        'local h = bcrypt.hashpw("pw", bcrypt.gen_salt()) return bcrypt.hashpw("pw", h) == h, h:sub(1, 7), #h',
      ),
    ).toEqual([true, "$2a$04$", 60]);
    const known = "$2y$04$mzHzj0S5z3NKxpY0iaVvCeeKtLMM6dgKHuWPvgRcPDYbgWzVnvFzi";
    expect(
      await run(`return bcrypt.hashpw("x", "${known}"):sub(1, 29) == ("${known}"):sub(1, 29)`),
    ).toBe(true);
    expect(
      await run(
        'local h = bcrypt.hashpw("pw", bcrypt.gen_salt()) return bcrypt.checkpw("pw", h), bcrypt.checkpw("no", h), bcrypt.checkpw("pw", "no hash"), bcrypt.checkpw("pw", nil)',
      ),
    ).toEqual([true, false, false, false]);
    await expect(run('return bcrypt.hashpw("a", "bad")')).rejects.toThrow(
      "neither one of bcrypt.gen_salt nor a bcrypt hash",
    );
  });
});

describe("obf", () => {
  it("[check 10] encrypts and decrypts bytes, never the same way twice", async () => {
    expect(
      await run(
        'local x = "p\\0\\255" return obf.decrypt(obf.encrypt(x)) == x, obf.encrypt(x) ~= obf.encrypt(x)',
      ),
    ).toEqual([true, true]);
    await expect(run("return obf.decrypt(nil)")).rejects.toThrow(
      "obf.decrypt takes a string, not nil",
    );
    await expect(
      run('return obf.decrypt("clear text that is long enough to be one")'),
    ).rejects.toThrow("was not encrypted by this broker");
    const [ours, others] = [1, 2].map((fill) => new Obfuscator(Buffer.alloc(32, fill)));
    for (const length of [0, 1, 15, 16, 17, 1000]) {
      const clear = randomBytes(length);
      const hidden = ours?.hide(clear) ?? clear;
      if (length > 8) expect(hidden.includes(clear.subarray(0, 8))).toBe(false);
      expect(ours?.reveal(hidden)).toEqual(clear);
      expect(others?.reveal(hidden)).toBeUndefined();
    }
  });
});

describe("kv", () => {
  it("[check 24] inserts, looks up, deletes, and shares tables among scripts", async () => {
    const table = 'kv.ensure_table { name = "t24" }';
    expect(await run(`${table} return kv.insert("t24", { a = 1, b = { c = { "x" } } })`)).toBe(
      true,
    );
    expect(await run('return kv.insert_new("t24", { a = 2 })')).toBe(false);
    expect(await run('return kv.lookup("t24", "a")[1], kv.lookup("t24", "b")[1].c[1]')).toEqual([
      1,
      "x",
    ]);
    expect(await run('return #kv.lookup("t24", "none")')).toBe(0);
    expect(await run('return kv.delete("t24", "a"), #kv.lookup("t24", "a")')).toEqual([true, 0]);
    expect(await run('return kv.delete_all("t24"), #kv.lookup("t24", "b")')).toEqual([true, 0]);
    await expect(run('return kv.lookup("nosuch", "a")')).rejects.toThrow('unknown table "nosuch"');
    await expect(run('return kv.ensure_table { name = "x", type = "heap" }')).rejects.toThrow(
      "type must be one of set",
    );
  });

  it("keeps several values of a key in a bag, equal ones in a duplicate_bag", async () => {
    const fill = (name: string, type: string): string =>
      `kv.ensure_table { name = "${name}", type = "${type}" } for _, v in ipairs { 1, 1, 2 } do kv.insert("${name}", { k = v }) end return #kv.lookup("${name}", "k")`;
    expect(await run(fill("s", "set"))).toBe(1);
    expect(await run(fill("b", "bag"))).toBe(2);
    expect(await run(fill("d", "duplicate_bag"))).toBe(3);
    const tables = `kv.ensure_table { name = "bt", type = "bag" }
      for _, v in ipairs { { a = 1 }, { a = 2 }, { a = 1 }, 2^53 } do kv.insert("bt", { k = v }) end
      kv.insert("bt", { k = math.maxinteger })
      return #kv.lookup("bt", "k")`;
    expect(await run(tables)).toBe(4);
    expect(
      await run(
        'kv.ensure_table { name = "f" } kv.insert("f", { n = 2.0 }) return kv.incr("f", "n")',
      ),
    ).toBe(3);
  });
});

describe("log", () => {
  it("carries the script's name, and leaves lines out when a script logs without end", async () => {
    const lines: { msg: string; script?: string; lost?: number }[] = [];
    const noisy = await startHost({
      logged: (line) => lines.push(JSON.parse(line)),
      scope: "test",
    });
    const calls = "for i = 1, 5000 do log.info('line ' .. i) print('printed', i) end";
    const version = await noisy.load(`hooks = { auth_on_publish = function() ${calls} end }`);
    await noisy.call(version);
    const said = (text: string) => lines.find(({ msg }) => msg.includes(text));
    const told = await waitFor("what was left out is told", () => said("lines were left out"));
    const written = lines.filter(({ msg }) => /^(line|printed)/.test(msg));
    expect(written.length).toBeLessThanOrEqual(2000);
    expect(written.slice(0, 2)).toMatchObject([{ msg: "line 1" }, { msg: "printed\t1" }]);
    for (const line of [told, ...written]) expect(line.script).toMatch(/script1\.lua$/);
    expect(told.lost).toBe(10_000 - written.length);
    const again = await noisy.load("hooks = { auth_on_publish = function() log.info('new') end }");
    await noisy.call(again);
    await waitFor("the next line is written", () => said("new"));
  });

  it("takes one string", async () => {
    expect(
      await run('log.info("~p"); log.warning("w"); log.error("e"); log.debug("d") return 1'),
    ).toBe(1);
    await expect(run("log.info(5)")).rejects.toThrow("log.info takes one string, not number");
  });
});

describe("http", () => {
  let server: Server;
  let url: string;
  beforeAll(async () => {
    server = createServer((request, response) => {
      const parts: Buffer[] = [];
      request.on("data", (part: Buffer) => parts.push(part));
      request.on("end", () => {
        if (request.url === "/slow") return;
        if (request.url === "/moved") response.writeHead(302, { location: "/" }).end();
        else {
          response.setHeader("x-method", request.method ?? "");
          response.setHeader("x-type", request.headers["content-type"] ?? "none");
          response.setHeader("x-mine", String(request.headers["x-mine"] ?? "none"));
          response.writeHead(request.url === "/no" ? 404 : 200).end(Buffer.concat(parts));
        }
      });
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const address = server.address();
    url = `http://127.0.0.1:${typeof address === "object" ? address?.port : 0}`;
    atEnd(() => {
      server.closeAllConnections();
      server.close();
    }, "file");
  });
  const http = (code: string): Promise<unknown> =>
    run(`http.ensure_pool { pool_id = "h" } ${code.replaceAll("URL", url)}`);

  it("sends text as it is and a table as a form, and gives status, headers and body", async () => {
    expect(
      await http(
        'local r = http.post("h", "URL/", "text", { ["x-mine"] = "1" }) return r.status, r.headers["x-method"], r.headers["x-mine"], http.body(r.ref)',
      ),
    ).toEqual([200, "POST", "1", "text"]);
    expect(
      await http(
        'local r = http.put("h", "URL/", { a = "1 2" }) return r.headers["x-type"], http.body(r.ref)',
      ),
    ).toEqual(["application/x-www-form-urlencoded", "a=1+2"]);
    expect(await http('return http.get("h", "URL/no").status')).toBe(404);
    expect(await http('return http.delete("h", "URL/").headers["x-method"]')).toBe("DELETE");
    expect(await http('return http.get("h", "URL/moved").status')).toBe(302);
  });

  it("gives false when there is no answer, in time or at all", async () => {
    expect(await http('return http.get("h", "URL/slow", "", {}, { timeout = 100 })')).toBe(false);
    expect(await http('return http.get("h", "http://127.0.0.1:1/")')).toBe(false);
    await expect(http('return http.get("h", "notaurl")')).rejects.toThrow('"notaurl" is no URL');
    await expect(run('return http.get("none", "http://127.0.0.1/")')).rejects.toThrow(
      'there is no pool "none"',
    );
  });
});
