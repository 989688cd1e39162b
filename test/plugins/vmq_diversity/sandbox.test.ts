import { mkdirSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { tempDir } from "../../support/broker.ts";
import { startHost, type TestHost } from "../../support/lua-host.ts";

/** What a script can and cannot do; Lua as VerneMQ's scripts know it. */

let lua: TestHost;
let folder: string;
beforeAll(async () => {
  folder = tempDir("file");
  lua = await startHost({ folder });
});

describe("ways out of the sandbox", () => {
  it.each([
    ["os.execute('true')", "os.execute is not available"],
    ["os.exit(1)", "os.exit is not available"],
    ["os.remove('x')", "os.remove is not available"],
    ["os.rename('x', 'y')", "os.rename is not available"],
    ["os.getenv('PATH')", "os.getenv is not available"],
    ["os.tmpname()", "os.tmpname is not available"],
    ["io.open('/etc/passwd')", "io.open is not available"],
    ["io.popen('id')", "io.popen is not available"],
    ["io.lines('/etc/passwd')", "io.lines is not available"],
    ["package.loadlib('libc.so', '*')", "package.loadlib is not available"],
    ["dofile('/etc/passwd')", "cannot open /etc/passwd"],
    ["require('../../../../etc/passwd')", "not found"],
    ["setmetatable({}, { __gc = function() end })", "__gc is not available"],
    ["debug.setmetatable('', {})", "debug.setmetatable takes a table"],
  ])("%s is refused with a reason", async (code, message) => {
    await expect(lua.run(`return ${code}`)).rejects.toThrow(message);
  });

  it.each([
    "debug.sethook",
    "debug.getregistry",
    "debug.getupvalue",
    "debug.setupvalue",
    "debug.getlocal",
    "debug.upvaluejoin",
  ])("%s is not there", async (name) => {
    expect(await lua.run(`return type(${name})`)).toBe("nil");
  });

  it("bytecode is refused by load, loadstring and load with a function", async () => {
    const dumped = "string.dump(function() return 1 end)";
    expect(await lua.run(`return (load(${dumped}))`)).toBeUndefined();
    expect(await lua.run(`return (loadstring(${dumped}))`)).toBeUndefined();
    expect(await lua.run(`return (load(${dumped}, "x", "b"))`)).toBeUndefined();
    expect(
      await lua.run(
        `local s = ${dumped} return (load(function() local p = s s = nil return p end))`,
      ),
    ).toBeUndefined();
  });

  it("a link in the script folder leads nowhere outside of it", async () => {
    writeFileSync(join(folder, "..", "outside.lua"), "return 'outside'");
    symlinkSync(join(folder, "..", "outside.lua"), join(folder, "link.lua"));
    await expect(lua.run("return require('link')")).rejects.toThrow("module 'link' not found");
    await expect(lua.run("return dofile('link.lua')")).rejects.toThrow("cannot open link.lua");
  });

  it("the stack gives no function of the engine, and globals no metatable", async () => {
    expect(await lua.run("return debug.getinfo(1, 'f').func == nil")).toBe(true);
    expect(await lua.run("return getmetatable(_G) == nil")).toBe(true);
    expect(await lua.run("return getmetatable('').__index == string")).toBe(true);
  });

  it("files of the script folder can be required and run, by every form of name", async () => {
    mkdirSync(join(folder, "auth"), { recursive: true });
    writeFileSync(
      join(folder, "auth", "mine.lua"),
      "loads = (loads or 0) + 1 return { n = loads }",
    );
    writeFileSync(join(folder, "plain.lua"), "return 'plain'");
    expect(
      await lua.run(
        "local a, b = require 'auth/mine', require 'auth.mine' return a.n, require('auth/mine').n",
      ),
    ).toEqual([1, 1]);
    expect(await lua.run("return dofile('plain.lua')")).toBe("plain");
    expect(await lua.run("return package.loaded.json == json, package.loaded._G == _G")).toEqual([
      true,
      true,
    ]);
  });
});

describe("limits", () => {
  it("[check 40] an endless loop ends by the instruction limit, with the line, and pcall does not see it", async () => {
    const small = await startHost({ instructionLimit: 2_000_000, scope: "test" });
    await expect(small.run("\n\nlocal i = 0 while true do i = i + 1 end")).rejects.toThrow(
      /script1\.lua:3: more than 2000000 instructions/,
    );
    await expect(
      small.run("while true do pcall(function() while true do end end) end"),
    ).rejects.toThrow("more than 2000000 instructions");
    await expect(
      small.run(
        "local co = coroutine.wrap(function() while true do end end) while true do pcall(co) co = coroutine.wrap(function() while true do end end) end",
      ),
    ).rejects.toThrow("more than 2000000 instructions");
    expect(small.ends.at(-1)?.failure?.traceback).toMatch(/\n\t\S+script\d+\.lua:1: in /);
    expect(await small.run("return 1")).toBe(1);
  });

  it("unbounded recursion is an error of the script", async () => {
    await expect(lua.run("local function f() return 1 + f() end return f()")).rejects.toThrow(
      "stack overflow",
    );
  });

  it("unbounded strings and tables end by the memory limit", async () => {
    const small = await startHost({ memoryLimit: 8 * 1024 * 1024, scope: "test" });
    const message = "more than 8388608 bytes in one state (vmq_diversity.memory_limit)";
    await expect(small.run("local s = 'x' while true do s = s .. s end")).rejects.toThrow(message);
    await expect(small.run("return string.rep('x', 1e9)")).rejects.toThrow(message);
    await expect(small.run("local t = {} while true do t[#t + 1] = {} end")).rejects.toThrow(
      message,
    );
    await expect(
      small.run("local x = ('x'):rep(3e6) return #json.encode({ x, x })"),
    ).rejects.toThrow(message);
    expect(await small.run("return #string.rep('x', 1000)")).toBe(1000);
  });

  it("a pattern without end ends with its thread, and a waiting call is answered by the next one", async () => {
    const stuck = await startHost({ callTimeoutMs: 6_000, scope: "test" });
    const script = `hooks = { auth_on_publish = function(a)
      if a.evil then return { string.find(string.rep("a", 200), string.rep("a-", 30) .. "b") } end
      return { "fine" } end }`;
    const version = await stuck.load(script);
    const evil = stuck.call(version, { evil: true });
    await expect(evil).rejects.toThrow("did not come back to the interpreter's loop");
    expect(stuck.host.threadsReplaced).toBe(1);
    expect(await stuck.call(version)).toBe("fine");
  }, 60_000);

  it("calls beyond max_queued_calls are refused at once, and counted", async () => {
    const narrow = await startHost({ queuedMax: 3, callTimeoutMs: 2000, scope: "test" });
    const version = await narrow.load(
      "hooks = { on_client_wakeup = function() local n = 0 for i = 1, 3e6 do n = n + i end end }",
    );
    const args = { subscriber_id: { mountpoint: "", client_id: "c" } };
    const taken = Array.from({ length: 5 }, () =>
      narrow.host.tell(version, "on_client_wakeup", args),
    );
    expect(taken).toEqual([true, true, true, false, false]);
    expect(narrow.ends.filter(({ kind }) => kind === "busy")).toHaveLength(2);
  });
});

describe("Lua", () => {
  it.each([
    ["_VERSION", "Lua 5.3"],
    ["math.type(3)", "integer"],
    ["math.type(3.0)", "float"],
    ["7 // 2", 3],
    ["tostring(2^31)", "2147483648.0"],
    ["tostring(1 << 62)", "4611686018427387904"],
    ["#{1, 2, nil, 4}", 4],
    ["select('#', unpack({1, 2, 3}))", 3],
    ["bit32.band(0xff, 0x0f)", 15],
    ["bit32.rshift(0xf0, 4)", 15],
    ["bit32.arshift(0x80000000, 31)", 4294967295],
    ["bit32.lrotate(0x80000001, 1)", 3],
    ["bit32.extract(0xabcd, 4, 8)", 0xbc],
    ["bit32.replace(0, 5, 4, 4)", 0x50],
    ["bit32.bnot(0)", 4294967295],
    ["bit32.btest(4, 1)", false],
    ["math.pow(2, 10)", 1024],
    ["math.log10(1000)", 3],
    ["math.ldexp(1, 4)", 16],
    ["math.frexp(8) * 2 ^ select(2, math.frexp(8))", 8],
    ["string.format('%5.2f|%d', 3.14159, 42)", " 3.14|42"],
    ["('key=val'):match('(%w+)=(%w+)')", ["key", "val"]],
    ["(function(s) return s:gsub('a', 'b') end)('banana')", ["bbnbnb", 3]],
    ["utf8.len('äöü')", 3],
    ["10 == '10'", false],
    ["'10' + 5", 15],
    ["table.concat({1, 2, 3}, '-')", "1-2-3"],
    ["rawget(_G, 'json') == json", true],
    ["next({}) == nil", true],
    ["loadstring('return 1 + 1')()", 2],
  ])("%s is %j", async (expression, expected) => {
    expect(await lua.run(`return ${expression}`)).toEqual(expected);
  });

  it("has a recursive local function that a hook calls", async () => {
    const version = await lua.load(
      "local function fac(n) return n < 2 and 1 or n * fac(n - 1) end " +
        "hooks = { auth_on_publish = function() return { fac(10) } end }",
    );
    expect(await lua.call(version)).toBe(3628800);
  });

  it("lists all globals through pairs(_G), and lets a script give it a metatable", async () => {
    expect(
      await lua.run(
        "mine = 1 local n = 0 for k in pairs(_G) do if k == 'mine' then n = n + 1 end end return n",
      ),
    ).toBe(1);
    expect(
      await lua.run(
        "setmetatable(_G, { __index = function(_, k) return 'no ' .. k end }) return unknown_name",
      ),
    ).toBe("no unknown_name");
  });

  it("lets libraries wait inside coroutines and pcall, not inside a sort order", async () => {
    const prepare = "kv.ensure_table { name = 't' } kv.insert('t', { a = 1 })";
    expect(
      await lua.run(
        `${prepare} local co = coroutine.wrap(function() local v = kv.lookup('t', 'a')[1] coroutine.yield(v) return v + 1 end) return co(), co()`,
      ),
    ).toEqual([1, 2]);
    expect(await lua.run(`${prepare} return pcall(kv.lookup, 't', 'a')`)).toEqual([true, [1]]);
    expect(await lua.run("return pcall(kv.lookup, 'none', 'a')")).toEqual([
      false,
      expect.stringContaining('unknown table "none"'),
    ]);
    await expect(
      lua.run(`${prepare} table.sort({1, 2}, function() kv.lookup('t', 'a') return true end)`),
    ).rejects.toThrow("kv.lookup has to wait");
  });

  it("knows the modules and functions of VerneMQ's states", async () => {
    const modules: Record<string, string[]> = {
      http: ["body", "delete", "ensure_pool", "get", "post", "put"],
      json: ["decode", "encode"],
      obf: ["decrypt", "encrypt"],
      log: ["debug", "error", "info", "warning"],
      kv: ["delete", "delete_all", "ensure_table", "insert", "insert_new", "lookup"],
      crypto: ["hash"],
      bcrypt: ["gen_salt", "hashpw"],
      auth_cache: ["insert", "match_publish", "match_subscribe"],
      vmq_api: ["disconnect_by_subscriber_id", "reauthorize_subscriptions"],
      redis: ["cmd", "ensure_pool"],
      memcached: ["add", "delete", "ensure_pool", "flush_all", "get", "replace", "set"],
      postgres: ["ensure_pool", "execute", "hash_method"],
      mysql: ["ensure_pool", "execute", "hash_method"],
      mysql2: ["ensure_pool", "execute", "hash_method"],
      cockroachdb: ["ensure_pool", "execute", "hash_method"],
      mongodb: [
        "close",
        "delete",
        "ensure_pool",
        "find",
        "find_one",
        "insert",
        "next",
        "take",
        "update",
      ],
      math: [
        "atan2",
        "cosh",
        "frexp",
        "ldexp",
        "log10",
        "pow",
        "sinh",
        "tanh",
        "tointeger",
        "type",
      ],
      string: ["byte", "char", "dump", "find", "format", "gmatch", "gsub", "rep", "reverse"],
      table: ["concat", "insert", "pack", "remove", "sort", "unpack"],
      os: [
        "clock",
        "date",
        "difftime",
        "execute",
        "exit",
        "getenv",
        "remove",
        "rename",
        "time",
        "tmpname",
      ],
      io: ["flush", "write"],
      utf8: ["char", "charpattern", "codepoint", "codes", "len", "offset"],
      debug: ["getmetatable", "getuservalue", "setmetatable", "setuservalue"],
      package: ["config", "loaded", "path", "preload", "searchers", "searchpath"],
    };
    const checks = Object.entries(modules).flatMap(([name, functions]) =>
      functions.map(
        (fn) => `if ${name}.${fn} == nil then missing[#missing + 1] = "${name}.${fn}" end`,
      ),
    );
    const found = `local missing = {} ${checks.join("\n")} return table.concat(missing, " ")`;
    expect(await lua.run(found)).toBe("");
  });
});

describe("what a call leaves behind", () => {
  const counter = `n = 10 t = { n = 1, inner = { list = {} } } local up = 0
    hooks = { auth_on_publish = function()
      n = n + 1 t.n = t.n + 1 up = up + 1 t.inner.list[#t.inner.list + 1] = n made = (made or 0) + 1
      return { n, t.n, up, #t.inner.list, made } end }`;

  it("[check 16] without keep_state is gone: globals, what is in tables, and local variables", async () => {
    const version = await lua.load(counter, { states: 1 });
    for (let i = 0; i < 3; i++) expect(await lua.call(version)).toEqual([11, 2, 1, 1, 1]);
  });

  it("[check 16] with keep_state stays, in one state", async () => {
    const version = await lua.load(`keep_state = true ${counter}`);
    expect(version.numStates).toBe(1);
    expect(version.keepState).toBe(true);
    for (let i = 1; i <= 3; i++) {
      expect(await lua.call(version)).toEqual([10 + i, 1 + i, i, i, i]);
    }
  });

  it("is gone after an error, too, and when the error came from a nil assignment", async () => {
    const version = await lua.load(
      `flag = "set" hooks = { auth_on_publish = function(a)
        local seen = flag flag = nil if a.fail then error("no") end return { seen, flag == nil } end }`,
      { states: 1 },
    );
    await expect(lua.call(version, { fail: true })).rejects.toThrow("no");
    expect(await lua.call(version)).toEqual(["set", true]);
    expect(await lua.call(version)).toEqual(["set", true]);
  });

  it("[check 17] states are used in turn: a hundred of them see one call each", async () => {
    const version = await lua.load(
      "num_states = 100 hooks = { auth_on_publish = function() return { __SCRIPT_INSTANCE_ID__ } end }",
    );
    const seen = new Set<unknown>();
    for (let i = 0; i < 100; i++) seen.add(await lua.call(version));
    expect(seen).toEqual(new Set(Array.from({ length: 100 }, (_, i) => i + 1)));
  });

  it("has several states without keep_state, one with it, and as many as the script or nr_lua_states say", async () => {
    expect((await lua.load("")).numStates).toBe(4);
    expect((await lua.load("", { states: 7 })).numStates).toBe(7);
    expect((await lua.load("num_states = 2.6")).numStates).toBe(3);
    expect((await lua.load("", { keepState: true })).numStates).toBe(1);
    expect((await lua.load("keep_state = false", { keepState: true })).numStates).toBe(4);
    await expect(lua.load("num_states = 0")).rejects.toThrow("num_states must be a number above 0");
  });

  it("is shared out among several threads, with every state once", async () => {
    const two = await startHost({ threads: 2, scope: "test" });
    const version = await two.load(
      "num_states = 5 hooks = { on_client_gone = function() kv.ensure_table { name = 's' } kv.incr('s', tostring(__SCRIPT_INSTANCE_ID__)) end, auth_on_publish = function() local r = {} for i = 1, 5 do r[i] = (kv.lookup('s', tostring(i))[1] or 0) end return r end }",
    );
    const args = { subscriber_id: { mountpoint: "", client_id: "c" } };
    for (let i = 0; i < 30; i++) two.host.tell(version, "on_client_gone", args);
    const counts = await new Promise<number[]>((resolve) => {
      const look = (): void => {
        if (two.ends.length < 30) setImmediate(look);
        else resolve(two.call(version) as Promise<number[]>);
      };
      look();
    });
    expect(counts.reduce((sum, n) => sum + n, 0)).toBe(30);
    expect(counts.every((n) => n > 0)).toBe(true);
  });
});

describe("errors", () => {
  it("a syntax error names file and line, and leaves nothing behind", async () => {
    await expect(lua.load("\n\nfunction (")).rejects.toThrow(/script\d+\.lua:3: /);
  });

  it("an error while loading names file and line", async () => {
    await expect(lua.load("\nerror('at load')")).rejects.toThrow(/script\d+\.lua:2: at load/);
  });

  it("[check 40] of several values the first counts", async () => {
    const version = await lua.load("hooks = { auth_on_publish = function() return true, 1 end }");
    expect(await lua.call(version)).toBe(true);
  });
});

describe("scripts beside each other", () => {
  it("take turns: one with a long queue does not hold up another", async () => {
    const shared = await startHost({ callTimeoutMs: 30_000, scope: "test" });
    const work = "local n = 0 for i = 1, 20000 do n = n + i end";
    const busy = await shared.load(
      `num_states = 4 hooks = { on_client_wakeup = function() ${work} end }`,
    );
    const other = await shared.load(
      "hooks = { auth_on_publish = function() return { 'mine' } end }",
    );
    const args = { subscriber_id: { mountpoint: "", client_id: "c" } };
    for (let i = 0; i < 3000; i++) shared.host.tell(busy, "on_client_wakeup", args);
    expect(await shared.call(other)).toBe("mine");
    expect(shared.host.callsOf(busy.number)).toBeGreaterThan(0);
  });
});
