import { mkdirSync, renameSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { tempDir, waitFor } from "../../support/broker.ts";
import { refusalOf, startLua } from "../../support/lua.ts";
import { hasRedis, startRedis } from "../../support/servers/databases.ts";

/** Loading, changing and removing scripts. */

const answer = (value: string, more = ""): string =>
  `${more} local function reg(r) return ${value} end hooks = { auth_on_register = reg }`;
const BOB = { username: "bob", password: "pw", clientId: "c" };

describe("vmq-admin script", () => {
  it("[check 18] refuses a missing path and a second load, with VerneMQ's words and the reason", async () => {
    const { script, folder, write, connect } = await startLua();
    const missing = await script("load", `path=${folder}/none.lua`);
    expect(missing).toMatchObject({ exit: 1, stdout: "" });
    expect(missing.stderr).toContain("Can't load script!");
    expect(missing.stderr).toContain("none.lua");
    mkdirSync(join(folder, "sub"));
    const path = write("sub/a.lua", answer("true"));
    expect(await script("load", `path=${path}`)).toEqual({
      exit: 0,
      stdout: "Script successfully loaded!\n",
      stderr: "",
    });
    const twice = await script("load", `path=${path}`);
    expect(twice.exit).toBe(1);
    expect(twice.stderr).toContain("is loaded already");
    await connect(BOB);
    expect((await script("load")).stderr).toContain("path is missing");
  });

  it("[check 19] a reload with a syntax error fails, and the old version goes on", async () => {
    const { script, write, connect } = await startLua({
      scripts: { "sub/a.lua": answer("true") },
      settings: { "vmq_diversity.watch": "off" },
    });
    const path = write("sub/a.lua", answer("true"));
    await script("load", `path=${path}`);
    write("sub/a.lua", "\nfunction (");
    const failed = await script("reload", `path=${path}`);
    expect(failed.exit).toBe(1);
    expect(failed.stderr).toContain("Can't reload script!");
    expect(failed.stderr).toContain("a.lua:2:");
    await connect(BOB);
    write("sub/a.lua", answer("false"));
    expect((await script("reload", `path=${path}`)).stdout).toBe("Script successfully reloaded!\n");
    expect(await refusalOf(connect(BOB))).toBe(4);
  });

  it("re-reads hooks, num_states and keep_state with a reload", async () => {
    const { script, write, connect } = await startLua({
      settings: { "vmq_diversity.watch": "off" },
    });
    const path = write("sub/a.lua", answer("true", "num_states = 2"));
    await script("load", `path=${path}`);
    const shown = async () =>
      JSON.parse((await script("show", `path=${path}`, "--format=json")).stdout).table;
    expect(await shown()).toMatchObject([{ script: path, states: 2, keep_state: false }]);
    write(
      "sub/a.lua",
      "keep_state = true hooks = { auth_on_register_m5 = function() return true end }",
    );
    await script("reload", `path=${path}`);
    expect(await shown()).toMatchObject([{ states: 1, keep_state: true }]);
    await connect({ ...BOB, protocolVersion: 5 });
    expect(await refusalOf(connect(BOB))).toBe(5);
  });

  it("[check 20] after an unload the script's hooks are not called any more", async () => {
    const { script, write, connect } = await startLua();
    const path = write("sub/a.lua", answer("true"));
    await script("load", `path=${path}`);
    await connect(BOB);
    expect((await script("unload", `path=${path}`)).stdout).toBe("Script successfully unloaded!\n");
    expect(await refusalOf(connect(BOB))).toBe(5);
    const again = await script("unload", `path=${path}`);
    expect(again.stderr).toContain("Can't unload script!");
  });

  it("shows calls, errors, times and the last error of each hook", async () => {
    const { script, connect } = await startLua({
      scripts: { "a.lua": answer("r.username == 'bob' or error('who is ' .. r.username)") },
    });
    await connect(BOB);
    await refusalOf(connect({ ...BOB, username: "eve" }));
    const { table } = JSON.parse((await script("show", "--format=json")).stdout);
    const row = table.find((each: { script: string }) => each.script.endsWith("a.lua"));
    expect(row).toMatchObject({ hook: "auth_on_register", calls: 2, errors: 1 });
    expect(row["mean µs"]).toBeTypeOf("number");
    expect(row["last error"]).toMatch(/^auth_on_register: \S+a\.lua:1: who is eve/);
  });

  it("checks a script apart from the running ones", async () => {
    const { script, write, connect } = await startLua({ scripts: { "a.lua": answer("true") } });
    const good = write("sub/good.lua", answer("false"));
    expect((await script("check", `path=${good}`)).stdout).toContain("hooks: auth_on_register");
    expect((await script("check", good)).stdout).toContain("hooks: auth_on_register");
    const typed = ["run", good, "auth_on_register", '{"username":"u"}'] as const;
    expect((await script(...typed)).stdout).toContain("verdict: ");
    expect((await script(...typed, "more")).stdout).toContain("Invalid arguments: more");
    expect((await script("check", good, `path=${good}`)).stdout).toContain("Invalid arguments");
    const typo = write("sub/typo.lua", "hooks = { auth_on_regster = function() end }");
    expect((await script("check", `path=${typo}`)).stderr).toContain(
      "there is no such hook, did you mean auth_on_register?",
    );
    const broken = write("sub/broken.lua", "x = = 1");
    expect((await script("check", `path=${broken}`)).stderr).toContain("broken.lua:1:");
    const loop = write("sub/loop.lua", "while true do end");
    expect((await script("check", `path=${loop}`)).stderr).toContain("instructions");
    await connect(BOB);
  });

  it("runs one hook of a script with arguments in JSON", async () => {
    const { script, write } = await startLua();
    const path = write(
      "sub/a.lua",
      `hooks = { auth_on_publish = function(p) if p.qos > 1 then error("qos") end return { topic = p.topic .. "/x" } end }`,
    );
    const run = (hook: string, args: string) =>
      script("run", `path=${path}`, `hook=${hook}`, `args=${args}`);
    expect((await run("auth_on_publish", '{"topic":"t","qos":1}')).stdout).toBe(
      '{"topic":"t/x"}\nverdict: {"ok":{"topic":"t/x"}}\n',
    );
    expect((await run("auth_on_publish", '{"topic":"t","qos":2}')).stderr).toContain(
      "a.lua:1: qos",
    );
    expect((await run("auth_on_publsh", "{}")).stderr).toContain("did you mean auth_on_publish?");
    expect((await run("auth_on_publish", "{")).stderr).toContain("the arguments are no JSON");
    expect((await run("on_publish", "{}")).stderr).toContain("has no function for on_publish");
    expect((await script("run", `path=${path}`)).stderr).toContain("hook is missing");
    expect((await run("nothing_like_it", "{}")).stderr).toContain("there are auth_on_register");
  });

  it("runs a register hook with the password as somebody types it", async () => {
    const { script, write } = await startLua();
    const path = write("sub/a.lua", answer('obf.decrypt(r.password) == "pä"'));
    const args = (password: string): string => `args={"username":"bob","password":"${password}"}`;
    const run = (password: string) =>
      script("run", `path=${path}`, "hook=auth_on_register", args(password));
    expect((await run("pä")).stdout).toBe("true\nverdict: ok\n");
    expect((await run("pa")).stdout).toBe("false\nverdict: error invalid_credentials\n");
  });

  it("says what is wrong with a script that costs too much, and where", async () => {
    const { script, write } = await startLua();
    const path = write(
      "sub/a.lua",
      `hooks = {
        auth_on_publish = function() while true do end end,
        on_publish = function() local s = "x" while true do
          s = s .. s end end,
        on_deliver = function() return string.find(("a"):rep(1e6), ("a*"):rep(30) .. "b") end }`,
    );
    const run = async (hook: string) =>
      (await script("run", `path=${path}`, `hook=${hook}`)).stderr;
    expect(await run("auth_on_publish")).toMatch(
      /a\.lua:2: more than \d+ instructions in one call/,
    );
    expect(await run("on_publish")).toMatch(/a\.lua:4: more than \d+ bytes in one state/);
    expect(await run("on_deliver")).toMatch(/^\S+a\.lua: on_deliver did not come back/);
  });

  it("names the path that is no script, in every command", async () => {
    const { script, folder } = await startLua();
    for (const command of ["load", "reload", "unload", "check", "run"]) {
      const hook = command === "run" ? ["hook=on_publish"] : [];
      for (const path of [folder, join(folder, "none.lua")]) {
        const { exit, stderr } = await script(command, `path=${path}`, ...hook);
        expect([command, exit, stderr.includes(path)]).toEqual([command, 1, true]);
      }
    }
    const loaded = await script("load", `path=${folder}`);
    expect(loaded.stderr).toContain(`Can't load script!\n${folder} is a folder and no script`);
  });
});

describe.skipIf(!hasRedis())("a script that asks a server while it is loaded", () => {
  it("is loaded, or loaded again, as soon as that server is there", async () => {
    const server = await startRedis("test");
    await server.stop();
    const asking = (who: string): string =>
      answer(
        "r.username == who",
        `redis.ensure_pool { pool_id = "p", host = "127.0.0.1", port = ${server.port} }
         redis.cmd("p", "set who ${who}") local who = redis.cmd("p", "get who")`,
      );
    const { write, connect, script } = await startLua({ scripts: { "a.lua": asking("bob") } });
    expect(await refusalOf(connect(BOB))).toBe(5);
    const accepts = (username: string) => () =>
      connect({ ...BOB, username }).then(
        () => true,
        () => false,
      );
    await server.start();
    await waitFor("the script is loaded", accepts("bob"), 20_000);
    await server.stop();
    write("a.lua", asking("eve"));
    await waitFor("the new version has failed", async () =>
      (await script("show")).stdout.includes("unavailable: redis"),
    );
    await connect(BOB);
    await server.start();
    await waitFor("the new version is loaded", accepts("eve"), 20_000);
  });
});

describe("a script that is only tried", () => {
  it("changes no cache, no table and no client of the running broker", async () => {
    const { script, write, connect, broker } = await startLua({
      scripts: {
        "a.lua": `kv.ensure_table { name = "t" } kv.insert("t", { who = "running" })
          hooks = {
            auth_on_register = function(r)
              if r.client_id == "other" then return { username = kv.lookup("t", "who")[1] } end
              return auth_cache.insert("", r.client_id, r.username, {{ pattern = "own" }}, {})
            end,
          }`,
      },
    });
    const client = await connect(BOB);
    const cached = await script("cache show");
    const path = write(
      "sub/trial.lua",
      `kv.ensure_table { name = "t" } kv.insert("t", { who = "tried" })
       auth_cache.insert("", "c", "bob", {{ pattern = "#" }}, {{ pattern = "#" }})
       local gone = vmq_api.disconnect_by_subscriber_id({ mountpoint = "", client_id = "c" }, {})
       hooks = { auth_on_register = function(r)
         auth_cache.insert("", r.client_id, "bob", {{ pattern = "#" }}, {{ pattern = "#" }})
         return { username = gone .. " " .. kv.lookup("t", "who")[1] } end }`,
    );
    expect((await script("check", `path=${path}`)).exit).toBe(0);
    const args = 'args={"client_id":"c"}';
    const ran = await script("run", `path=${path}`, "hook=auth_on_register", args);
    expect(ran.stdout).toContain('{"username":"not_found tried"}');
    expect(await script("cache show")).toEqual(cached);
    await connect({ ...BOB, clientId: "other" });
    expect(broker.sessions().map(({ user }) => user)).toEqual(["bob", "running"]);
    await client.publishAsync("own", "x", { qos: 1 });
  });
});

describe("the script folder", () => {
  it("is watched: new, changed and removed scripts take effect by themselves", async () => {
    const { write, folder, connect, broker } = await startLua();
    expect(await refusalOf(connect(BOB))).toBe(5);
    write("a.lua", answer("false"));
    await waitFor("the new script refuses", async () => (await refusalOf(connect(BOB))) === 4);
    const next = join(tempDir(), "a.lua");
    writeFileSync(next, answer("true"));
    renameSync(next, join(folder, "a.lua"));
    await waitFor("the changed script accepts", () =>
      connect(BOB).then(
        () => true,
        () => false,
      ),
    );
    write("a.lua", "x = = 1");
    await waitFor("the fault is seen", async () =>
      (await broker.control("script", ["show"])).stdout.includes("a.lua:1:"),
    );
    await connect(BOB);
    rmSync(join(folder, "a.lua"));
    await waitFor("the removed script is gone", () =>
      connect(BOB).then(
        () => false,
        (error: { code: number }) => error.code === 5,
      ),
    );
  });

  it("a change of a required file reloads the scripts that required it", async () => {
    const { write, connect } = await startLua({
      scripts: {
        "common/who.lua": "return 'bob'",
        "a.lua": answer("r.username == require 'common/who'"),
      },
    });
    await refusalOf(connect({ ...BOB, username: "eve" }));
    write("a.lua", `local who = require "common/who" ${answer("r.username == who")}`);
    await waitFor("the new version accepts bob", () =>
      connect(BOB).then(
        () => true,
        () => false,
      ),
    );
    write("common/who.lua", "return 'eve'");
    await waitFor("the module's new version counts", () =>
      connect({ ...BOB, username: "eve", clientId: "e" }).then(
        () => true,
        () => false,
      ),
    );
  });

  it("keeps a script whose file is away for a moment, and drops it when the folder is gone", async () => {
    const base = tempDir();
    const release = (name: string, text: string): string => {
      mkdirSync(join(base, name));
      writeFileSync(join(base, name, "a.lua"), text);
      return join(base, name);
    };
    const first = release("first", answer("true"));
    const folder = join(base, "current");
    symlinkSync(first, folder);
    const { connect, broker } = await startLua({
      settings: { "vmq_diversity.script_dir": folder },
    });
    const shown = async (): Promise<string> => (await broker.control("script", ["show"])).stdout;
    const outcome = (): Promise<number> =>
      connect(BOB).then(
        () => 0,
        (error: { code: number }) => error.code,
      );
    // As an editor does it that keeps a backup. The other script tells that the folder was looked at.
    expect(await outcome()).toBe(0);
    renameSync(join(folder, "a.lua"), join(folder, "a.lua~"));
    writeFileSync(join(folder, "b.lua"), "hooks = {}");
    await waitFor("the folder was looked at", async () => (await shown()).includes("b.lua"));
    writeFileSync(join(folder, "a.lua"), answer("true", "-- saved\n"));
    expect(await outcome()).toBe(0);
    expect(await shown()).toMatch(/a\.lua +\| 4 +\| false +\| auth_on_register +\| 2 /);
    // As a deployment does it: the link points to another folder.
    release("second", answer("false"));
    rmSync(folder);
    symlinkSync(join(base, "second"), folder);
    await waitFor("the other folder's script answers", async () => (await outcome()) === 4);
    rmSync(folder);
    await waitFor("the script is gone", async () => (await outcome()) === 5);
    symlinkSync(first, folder);
    await waitFor("the folder is back", async () => (await outcome()) === 0);
    expect(await shown()).toContain(join(folder, "a.lua"));
  });

  it("loads a script as soon as its file can be read", async () => {
    const { write, connect } = await startLua();
    const there = join(tempDir(), "b.lua");
    const path = write("a.lua", answer("false"));
    await waitFor("the script refuses", async () => (await refusalOf(connect(BOB))) === 4);
    // A link to nothing, as good as a file without the right to read it, which root always has.
    rmSync(path);
    symlinkSync(there, path);
    await refusalOf(connect(BOB));
    writeFileSync(there, answer("true"));
    await waitFor("the new version accepts", () =>
      connect(BOB).then(
        () => true,
        () => false,
      ),
    );
  });

  it("keeps calls that run on the old version while a new one takes over", async () => {
    const slow = (value: string): string =>
      `local function reg(r) http.ensure_pool {} local n = 0 for i = 1, 5e6 do n = n + i end return ${value} end hooks = { auth_on_register = reg }`;
    const { script, write, connect } = await startLua({
      settings: { "vmq_diversity.watch": "off" },
    });
    const path = write("sub/a.lua", slow("true"));
    await script("load", `path=${path}`);
    const connecting = connect(BOB);
    await waitFor("the call runs", async () => (await script("show")).stdout.includes("a.lua"));
    write("sub/a.lua", answer("false"));
    await script("reload", `path=${path}`);
    await connecting;
    expect(await refusalOf(connect({ ...BOB, clientId: "d" }))).toBe(4);
  });
});

describe("a script as people have them for VerneMQ", () => {
  it("runs unchanged: careless globals, the bundled helpers, bit32, unpack, coroutines, next", async () => {
    const { connect } = await startLua({
      scripts: {
        "my_auth.lua": `
          require "auth/auth_commons"

          function auth_on_register(reg)
              if reg.username ~= nil and reg.password ~= nil then
                  pwd = obf.decrypt(reg.password)
                  row = lookup(reg.client_id, reg.username)
                  if row then
                      if row.password == pwd then
                          cache_insert(reg.mountpoint, reg.client_id, reg.username,
                              json.decode(row.publish_acl), json.decode(row.subscribe_acl))
                          return true
                      end
                  end
              end
              return false
          end

          function lookup(client_id, username)
              users = {}
              users["bob"] = {password = "pw", publish_acl = '[{"pattern": "%u/out"}]', subscribe_acl = '[]'}
              for name, row in pairs(users) do
                  if name == username then return row end
              end
          end

          function on_offline_message(msg)
              log.info("offline " .. msg.topic)
          end

          hooks = {
              auth_on_register = auth_on_register,
              auth_on_register_m5 = auth_on_register,
              auth_on_publish = auth_on_publish,
              auth_on_publish_m5 = auth_on_publish_m5,
              auth_on_subscribe = auth_on_subscribe,
              on_unsubscribe = on_unsubscribe,
              on_client_gone = on_client_gone,
              on_client_offline = on_client_offline,
              on_session_expired = on_session_expired,
              on_offline_message = on_offline_message,
          }`,
        "a_rewrite.lua": `
          num_states = 2
          gen = coroutine.wrap(function() for i = 1, 1000000 do coroutine.yield(i) end end)
          function rewrite(pub)
              a, b = unpack({ bit32.bor(1, 2), loadstring("return 4")() })
              if a + b ~= 7 then error("arithmetic") end
              n = gen()
              if pub.topic == "rewrite" then return { topic = "bob/out" } end
              return next
          end
          hooks = { auth_on_register_m5 = function() return next end, auth_on_publish_m5 = rewrite }`,
      },
    });
    const client = await connect({ ...BOB, protocolVersion: 5 });
    await client.publishAsync("bob/out", "x", { qos: 1 });
    await expect(client.publishAsync("eve/out", "x", { qos: 1 })).rejects.toThrow("Not authorized");
    expect(await refusalOf(connect({ ...BOB, password: "wrong" }))).toBe(4);
  });
});

describe("configured scripts", () => {
  it("are asked in order: the folder by name, then vmq_diversity.<name>.file by name", async () => {
    const folder = tempDir();
    const trace = (name: string): string =>
      `kv.ensure_table { name = "order", type = "duplicate_bag" } local function reg(r) kv.insert("order", { o = "${name}" }) ${name === "last" ? "local o = kv.lookup('order', 'o') return { username = table.concat(o, ' ') }" : ""} end hooks = { auth_on_register = reg }`;
    for (const name of ["x", "last"]) writeFileSync(join(folder, `${name}.lua`), trace(name));
    const { connect, broker } = await startLua({
      scripts: { "b.lua": trace("b"), "a.lua": trace("a") },
      settings: {
        "vmq_diversity.zz.file": join(folder, "last.lua"),
        "vmq_diversity.mm.file": join(folder, "x.lua"),
      },
    });
    await connect(BOB);
    expect(broker.sessions()[0]?.user).toBe("a b x last");
  });

  it("that cannot be loaded do not keep the others from it", async () => {
    const { connect } = await startLua({
      scripts: { "a.lua": "x = = 1", "b.lua": answer("true") },
      settings: { "vmq_diversity.gone.file": "/nowhere/x.lua" },
    });
    await connect(BOB);
  });
});
