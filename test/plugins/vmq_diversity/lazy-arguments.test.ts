import { beforeAll, describe, expect, it } from "vitest";
import type { HookArgs } from "../../../core/hooks/types.ts";
import type { Version } from "../../../plugins/vmq_diversity/host.ts";
import { type ClonedValue, plain } from "../../../plugins/vmq_diversity/verdicts.ts";
import type { LuaHook } from "../../../plugins/vmq_diversity/wire.ts";
import { startHost, type TestHost } from "../../support/lua-host.ts";

/** Argument tables whose fields come when they are read: to a script they are tables like any other. */

let lua: TestHost;
beforeAll(async () => {
  lua = await startHost();
});

const LARGE = 1_000_000;
const SUBSCRIBER = { mountpoint: "m", client_id: "c" };
const PUBLISH = {
  username: "bob",
  subscriber_id: SUBSCRIBER,
  qos: 1,
  topic: "a/b",
  payload: Buffer.from("hello"),
  retain: true,
};
const PROPERTIES = {
  p_content_type: "text/plain",
  p_user_property: [
    { key: "k", val: "1" },
    { key: "k", val: "2" },
  ],
};
const PUBLISH_M5 = { ...PUBLISH, properties: PROPERTIES };
const ANONYMOUS = { ...PUBLISH, username: undefined };

/** What a hook returned in `{ value }`; its error as an error. */
function ask<H extends LuaHook>(
  version: Version,
  hook: H,
  args: HookArgs[H],
  host: TestHost = lua,
): Promise<unknown> {
  return new Promise((resolve, reject) => {
    host.host.ask(version, hook, args, (answer) => {
      const failure = host.ends.at(-1)?.failure;
      if (answer === "script_error" || answer === "failed") reject(new Error(failure?.message));
      else if (typeof answer !== "object") resolve(answer);
      else resolve(listOf(answer));
    });
  });
}

function listOf(answer: ClonedValue): unknown {
  const value = plain(answer, false);
  return Array.isArray(value) && value.length === 1 ? value[0] : value;
}

/** A script whose publish hooks return `{ body }` of the arguments `a`. */
function script(body: string, before = ""): string {
  return `${before} local function f(a) return { (function() ${body} end)() } end
    hooks = { auth_on_publish = f, auth_on_publish_m5 = f, on_deliver = f, on_deliver_m5 = f }`;
}

/** All ways in which a field may stand in a table: read for the first time, known, too large to be built. */
async function answers(body: string, args: typeof PUBLISH_M5 = PUBLISH_M5): Promise<unknown[]> {
  const version = await lua.load(script(body), { states: 1 });
  const found = [];
  for (const hook of ["auth_on_publish", "auth_on_publish_m5", "on_deliver_m5"] as const) {
    for (let i = 0; i < 2; i++) found.push(await ask(version, hook, args));
  }
  const reader = `for _, k in ipairs { "username", "payload", "topic", "qos" } do local _ = a[k] end ${body}`;
  const learned = await lua.load(script(reader), { states: 1 });
  for (let i = 0; i < 2; i++) found.push(await ask(learned, "auth_on_publish_m5", args));
  return found;
}

async function always(body: string, expected: unknown, args?: typeof PUBLISH_M5): Promise<void> {
  for (const answer of await answers(body, args)) expect(answer).toEqual(expected);
}

const KEYS = `local keys = {} for k in ITERATOR do keys[#keys + 1] = k end table.sort(keys)
  return table.concat(keys, " ")`;
const V3 = "client_id mountpoint payload qos retain topic username";
const V5 = "client_id mountpoint payload properties qos retain topic username";

describe("an argument table", () => {
  it.each([
    [
      "return a.username, a.mountpoint, a.client_id, a.qos, a.topic, a.payload, a.retain",
      ["bob", "m", "c", 1, "a/b", "hello", true],
    ],
    ["return a.payload, a.payload, a.payload == a.payload", ["hello", "hello", true]],
    ["return a.nothing == nil, a[1] == nil, a[true] == nil, #a", [true, true, true, 0]],
    ["return type(a), getmetatable(a) == nil, debug.getmetatable(a) == nil", ["table", true, true]],
    ["return tostring(a):match('^table: ') ~= nil, rawlen(a), rawequal(a, a)", [true, 0, true]],
    [
      "return rawget(a, 'payload'), rawget(a, 'qos'), rawget(a, 'nothing') == nil",
      ["hello", 1, true],
    ],
    ["return next(a) ~= nil, a.topic", [true, "a/b"]],
    ["local t = setmetatable({}, { __index = a }) return t.payload, t.topic", ["hello", "a/b"]],
    [
      "return select(2, pcall(function() return a.nothing.x end)):match('field .nothing.') ~= nil",
      true,
    ],
    ["return ('$topic $qos'):gsub('%$(%w+)', a)", ["a/b 1", 2]],
    ["return load('return payload .. topic', 'x', 't', a)()", "helloa/b"],
    ["return coroutine.wrap(function() return a.payload end)()", "hello"],
    [
      "local co = coroutine.wrap(function() coroutine.yield(a.topic) return a.payload end) return co(), co()",
      ["a/b", "hello"],
    ],
    ["local n = 0 for _ in ipairs(a) do n = n + 1 end a[1] = 'x' return n, #a, a[1]", [0, 1, "x"]],
    [
      "table.insert(a, 'x') table.insert(a, 'y') return table.concat(a, ' '), a.topic",
      ["x y", "a/b"],
    ],
    ["return pcall(function() a[nil] = 1 end)", false],
  ])("%s", async (body, expected) => {
    const found = await answers(body);
    for (const answer of found) {
      expect(Array.isArray(answer) && expected === false ? answer[0] : answer).toEqual(expected);
    }
  });

  it.each([
    "a.payload = 'x' return a.payload, a.topic",
    "rawset(a, 'payload', 'x') return a.payload, rawget(a, 'topic')",
    "local old = a.payload a.payload = 'x' return a.payload, a.topic",
    "for k in pairs(a) do if k == 'payload' then a[k] = 'x' end end return a.payload, a.topic",
    "setmetatable({}, { __newindex = a }).payload = 'x' return a.payload, a.topic",
  ])("keeps what is written: %s", (body) => always(body, ["x", "a/b"]));

  it.each([
    "a.payload = nil",
    "local _ = a.payload a.payload = nil",
    "a.payload = 'x' a.payload = nil",
    "rawset(a, 'payload', nil)",
    "a.payload = nil for _ in pairs(a) do end",
    "local _ = a.topic a.payload = nil local _ = a.username, next(a)",
    "for k in pairs(a) do a[k] = nil end",
  ])("has nothing where nil was written: %s", (body) =>
    always(`${body} return a.payload == nil, rawget(a, "payload") == nil`, [true, true]),
  );

  it.each([
    ["pairs(a)"],
    ["next, a"],
    ["next, setmetatable(a, {})"],
    ["pairs(setmetatable(a, nil))"],
    ["pairs(setmetatable(a, { __index = function() return 'meta' end }))"],
  ])("is whole for %s, whatever was read before", async (iterator) => {
    for (const reads of ["", "local _ = a.topic, a.nothing", "a.qos = 1"]) {
      const found = await answers(`${reads} ${KEYS.replace("ITERATOR", iterator)}`);
      expect(found).toEqual([V3, V3, V5, V5, V5, V5, V5, V5]);
    }
  });

  it("can have a metatable of the script's", () =>
    always(
      `local seen = {}
       setmetatable(a, { __index = function(_, k) return k .. "?" end, __newindex = function(_, k) seen[1] = k end })
       a.payload = nil a.new = 1
       return a.topic, a.payload, a.nothing, seen[1], type(getmetatable(a).__index)`,
      ["a/b", "payload?", "nothing?", "new", "function"],
    ));

  it("is whole for libraries and as an answer, alone and in other tables", async () => {
    const json = { username: "bob", mountpoint: "m", client_id: "c", qos: 1, topic: "a/b" };
    const whole = { ...json, payload: "hello", retain: true };
    const encoded = await answers("return json.encode(a)");
    expect(encoded.slice(0, 2).map((text) => JSON.parse(text as string))).toEqual([whole, whole]);
    const nested = await answers("local _ = a.qos return json.encode({ x = { a } })");
    for (const text of nested.slice(2)) {
      const properties = {
        p_content_type: "text/plain",
        p_user_property: [{ k: "1" }, { k: "2" }],
      };
      expect(JSON.parse(text as string)).toEqual({ x: [{ ...whole, properties }] });
    }
    const bytes = { ...whole, payload: Buffer.from("hello") };
    expect((await answers("return a"))[0]).toEqual(bytes);
    expect((await answers("return { x = a }"))[0]).toEqual({ x: bytes });
    const direct = await lua.load("hooks = { auth_on_publish = function(a) return a end }");
    for (let i = 0; i < 2; i++)
      expect(await ask(direct, "auth_on_publish", PUBLISH)).toEqual(bytes);
  });

  it("has no field that the call has not", async () => {
    const body = "return a.username == nil, rawget(a, 'username') == nil, a.topic";
    await always(body, [true, true, "a/b"], { ...PUBLISH_M5, ...ANONYMOUS } as never);
    const version = await lua.load(script("return a.username, a.properties"), { states: 1 });
    expect(await ask(version, "auth_on_publish", PUBLISH)).toBe("bob");
    expect(await ask(version, "auth_on_publish", ANONYMOUS)).toEqual({});
    expect(await ask(version, "auth_on_publish", PUBLISH)).toBe("bob");
  });

  it("has empty properties where a message has none", () =>
    expect(
      answers("return type(a.properties), a.properties and next(a.properties) == nil", {
        ...PUBLISH,
        properties: {},
      } as never),
    ).resolves.toEqual([["nil"], ["nil"], ...Array(6).fill(["table", true])].map(single)));

  it("gives bytes as they are, in payloads, texts and properties", async () => {
    const payload = Buffer.from([0, 255, 0, 13, 10]);
    const version = await lua.load(
      script(
        "return #a.payload, a.payload:byte(2), a.topic, a.properties.p_correlation_data:byte(1, -1)",
      ),
    );
    const args = {
      ...PUBLISH,
      payload,
      topic: "ä/€",
      properties: { p_correlation_data: Buffer.from([0, 254]) },
    };
    for (let i = 0; i < 5; i++) {
      expect(await ask(version, "auth_on_publish_m5", args)).toEqual([5, 255, "ä/€", 0, 254]);
    }
  });

  it("of other hooks is built likewise", async () => {
    const version = await lua.load(
      `local function keys(a) ${KEYS.replace("ITERATOR", "pairs(a)")} end
       hooks = {
         auth_on_subscribe_m5 = function(a)
           return { a.topics[1][1], a.topics[1][2][2].rap, a.properties.p_subscription_id[1], a.username, keys(a) }
         end,
         auth_on_register = function(a) return { obf.decrypt(a.password), a.clean_session, a.port, keys(a) } end,
         on_unsubscribe = function(a) a.topics = nil return { a.topics == nil, a.client_id, keys(a) } end,
       }`,
      { states: 1 },
    );
    for (let i = 0; i < 2; i++) {
      expect(
        await ask(version, "auth_on_subscribe_m5", {
          username: "bob",
          subscriber_id: SUBSCRIBER,
          topics: [{ topic: "t/#", qos: 1, rap: true }],
          properties: { p_subscription_id: [7] },
        } as never),
      ).toEqual(["t/#", true, 7, "bob", "client_id mountpoint properties topics username"]);
      expect(
        await ask(version, "auth_on_register", {
          peer: { address: "127.0.0.1", port: 1234 },
          subscriber_id: SUBSCRIBER,
          username: undefined,
          password: Buffer.from("pw"),
          clean_session: false,
        } as never),
      ).toEqual(["pw", false, 1234, "addr clean_session client_id mountpoint password port"]);
      const topics = ["t"];
      const unsubscribe = { username: undefined, subscriber_id: SUBSCRIBER, topics };
      expect(await ask(version, "on_unsubscribe", unsubscribe)).toEqual([
        true,
        "c",
        "client_id mountpoint",
      ]);
    }
  });
});

function single(list: unknown[]): unknown {
  return list.length === 1 ? list[0] : list;
}

describe("memory", () => {
  const GROWS = `collectgarbage() local before = collectgarbage("count") local _ = a.FIELD
    return math.floor(collectgarbage("count") - before)`;
  const grows = (field: string): string => script(GROWS.replace("FIELD", field));

  it("has a large payload from when it is read, in every call", async () => {
    const version = await lua.load(grows("payload"), { states: 1 });
    const args = { ...PUBLISH_M5, payload: Buffer.alloc(LARGE) };
    for (let i = 0; i < 3; i++) {
      expect(await ask(version, "auth_on_publish", args)).toBeGreaterThan(900);
      expect(await ask(version, "on_deliver_m5", args)).toBeGreaterThan(900);
    }
  });

  it("has properties from when they are read, in every call", async () => {
    const version = await lua.load(grows("properties"), { states: 1 });
    const pairs = Array.from({ length: 100 }, (_, i) => ({ key: `k${i}`, val: "v".repeat(1024) }));
    const args = { ...PUBLISH, properties: { p_user_property: pairs } };
    for (let i = 0; i < 3; i++) {
      expect(await ask(version, "auth_on_publish_m5", args)).toBeGreaterThan(80);
    }
  });

  it("has a small field at once when a call has read it before", async () => {
    const version = await lua.load(grows("payload"), { states: 1 });
    const args = { ...PUBLISH, payload: Buffer.alloc(1024) };
    expect(await ask(version, "auth_on_publish", args)).toBeGreaterThan(0);
    expect(await ask(version, "auth_on_publish", args)).toBe(0);
  });

  it("is not taken by a payload that nobody reads, however large", async () => {
    const small = await startHost({ memoryLimit: 1024 * 1024, scope: "test" });
    const version = await small.load(
      script("if a.qos == 2 then return #a.payload end return a.topic"),
    );
    const args = { ...PUBLISH, payload: Buffer.alloc(3 * LARGE) };
    for (let i = 0; i < 10; i++) {
      expect(await ask(version, "auth_on_publish", args, small)).toBe("a/b");
    }
    await expect(ask(version, "auth_on_publish", { ...args, qos: 2 }, small)).rejects.toThrow(
      "more than 1048576 bytes in one state (vmq_diversity.memory_limit)",
    );
    expect(await ask(version, "auth_on_publish", args, small)).toBe("a/b");
    expect(small.host.threadsReplaced).toBe(0);
  });

  it("is not taken by what an answer or a library gets of the arguments", async () => {
    const small = await startHost({ memoryLimit: 1024 * 1024, scope: "test" });
    const version = await small.load(
      `hooks = { auth_on_publish = function(a)
         if a.qos == 0 then return a end
         if a.qos == 1 then return { x = a } end
         kv.insert("t", { k = a })
         return { 16 }
       end }
       kv.ensure_table { name = "t", type = "set" }`,
    );
    const args = { ...PUBLISH, payload: Buffer.alloc(3 * LARGE, "x") };
    type Table = { qos: number; topic: string; payload: Buffer; x: Table };
    const returned = (await ask(version, "auth_on_publish", { ...args, qos: 0 }, small)) as Table;
    const { x } = (await ask(version, "auth_on_publish", args, small)) as Table;
    for (const table of [returned, x]) {
      expect(table).toMatchObject({ username: "bob", mountpoint: "m", topic: "a/b", retain: true });
      expect(table.payload.equals(args.payload)).toBe(true);
    }
    expect([returned.qos, x.qos]).toEqual([0, 1]);
    expect(await ask(version, "auth_on_publish", { ...args, qos: 2 }, small)).toBe(16);
  });

  it.each([
    ["walked through", "for _ in pairs(a) do end return 1", false],
    ["kept", "return 1", true],
  ])("that does not hold a table that is %s ends that call alone", async (_, body, keepState) => {
    const small = await startHost({ memoryLimit: 1024 * 1024, scope: "test" });
    const version = await small.load(script(body), { keepState });
    const args = { ...PUBLISH, payload: Buffer.alloc(3 * LARGE) };
    await expect(ask(version, "auth_on_publish", args, small)).rejects.toThrow("memory_limit");
    expect(await ask(version, "auth_on_publish", PUBLISH, small)).toBe(1);
    expect(small.host.threadsReplaced).toBe(0);
  });

  it("that is full ends the call whose fields have no room", async () => {
    const small = await startHost({ memoryLimit: 1024 * 1024, scope: "test" });
    const fill = `local _ = a.payload, a.topic t = t or {}
      if a.qos == 1 then while pcall(function() t[#t + 1] = #t .. ("x"):rep(50) end) do end end
      return #t`;
    const version = await small.load(script(fill), { keepState: true });
    expect(await ask(version, "auth_on_publish", PUBLISH, small)).toBeGreaterThan(1000);
    const args = { ...PUBLISH, qos: 0, payload: Buffer.alloc(1000), topic: "t/".repeat(500) };
    await expect(ask(version, "auth_on_publish", args, small)).rejects.toThrow("memory_limit");
    expect(await ask(version, "auth_on_publish", args, small)).toBe(0);
    expect(small.host.threadsReplaced).toBe(0);
  });
});

describe("calls", () => {
  it("that wait for the broker read their own fields afterwards, in coroutines too", async () => {
    const body = `kv.lookup("t", "k") local topic = a.topic
      local payload = coroutine.wrap(function() kv.lookup("t", "k") return a.payload end)()
      return topic, payload, a.properties.p_content_type`;
    const source = script(body, 'kv.ensure_table { name = "t", type = "set" }');
    const version = await lua.load(source, { states: 3 });
    const calls = Array.from({ length: 60 }, (_, i) => {
      const payload = Buffer.from(`${i} `.repeat(i % 2 === 0 ? 1 : 1000));
      const args = {
        ...PUBLISH,
        topic: `t/${i}`,
        payload,
        properties: { p_content_type: `p${i}` },
      };
      return ask(version, "auth_on_publish_m5", args).then((answer) =>
        expect(answer).toEqual([`t/${i}`, payload.toString(), `p${i}`]),
      );
    });
    await Promise.all(calls);
  });

  /** Keeps the table of its first call where putting back the state does not reach. */
  const KEEPER = `local keeper = coroutine.wrap(function(kept)
      while true do coroutine.yield(kept) end
    end)`;

  it("never see what another call did not read: that is an error", async () => {
    const body = `local old = keeper(a) if old == a then return a.topic, a.qos end
      local read = function(f) local _, message = pcall(f) return message end
      return old.topic, read(function() return old.payload end), read(function() return pairs(old) end),
        read(function() return next(old) end), read(function() return json.encode(old) end),
        read(function() return rawget(old, "payload") end), read(function() return setmetatable(old, nil) end),
        getmetatable(old) == nil, a.payload, old == a`;
    for (const hook of ["auth_on_publish", "on_deliver"] as const) {
      const fresh = await lua.load(script(body, KEEPER), { states: 1 });
      expect(await ask(fresh, hook, PUBLISH_M5)).toEqual(["a/b", 1]);
      const args = { ...PUBLISH_M5, topic: "new", payload: Buffer.from("new") };
      const answer = (await ask(fresh, hook, args)) as unknown[];
      const ended = expect.stringContaining("is gone when it has ended");
      expect(answer).toEqual(["a/b", ...Array(6).fill(ended), true, "new", false]);
    }
  });

  it("may write into the table of one that has ended", async () => {
    const body = `local old = keeper(a) if old == a then return 1 end
      old.payload = "mine" return old.payload, a.payload`;
    const version = await lua.load(script(body, KEEPER), { states: 1 });
    await ask(version, "auth_on_publish", PUBLISH);
    expect(await ask(version, "auth_on_publish", PUBLISH)).toEqual(["mine", "hello"]);
  });

  it("of a script that keeps its state leave tables that stay whole", async () => {
    const body = `local old = kept kept = a
      if old == nil then return 0 end
      return old.topic, #old.payload, old.username, old.properties.p_content_type, rawget(old, "qos")`;
    const version = await lua.load(script(body), { keepState: true });
    for (let i = 0; i < 4; i++) {
      const answer = await ask(version, "auth_on_publish_m5", {
        ...PUBLISH,
        topic: `t/${i}`,
        payload: Buffer.alloc(10_000 * (i + 1)),
        properties: { p_content_type: `p${i}` },
      });
      const before = [`t/${i - 1}`, 10_000 * i, "bob", `p${i - 1}`, 1];
      expect(answer).toEqual(i === 0 ? 0 : before);
    }
  });

  it("after one that failed or was killed read their own fields", async () => {
    const host = await startHost({ instructionLimit: 1_000_000, scope: "test" });
    const body = `if a.topic == "error" then error("boom") end
      while a.topic == "loop" do end
      if a.topic == "memory" then string.rep("x", 1e9) end
      return a.payload`;
    const version = await host.load(script(body), { states: 1 });
    for (const topic of ["error", "loop", "memory"]) {
      const bad = { ...PUBLISH, topic, payload: Buffer.from(topic) };
      await expect(ask(version, "auth_on_publish", bad, host)).rejects.toThrow();
      for (let i = 0; i < 3; i++) {
        const good = { ...PUBLISH, payload: Buffer.from(`after ${topic} ${i}`) };
        expect(await ask(version, "auth_on_publish", good, host)).toBe(`after ${topic} ${i}`);
      }
    }
  });
});
