import { describe, expect, it } from "vitest";
import { contains, matches, type SessionContext } from "../../../core/plugin-api.ts";
import { AuthCache } from "../../../plugins/vmq_diversity/auth-cache.ts";
import { cacheServices } from "../../../plugins/vmq_diversity/broker-services.ts";
import { cacheCommands } from "../../../plugins/vmq_diversity/cache-commands.ts";
import type { CacheLimits } from "../../../plugins/vmq_diversity/cache-entries.ts";
import { authCacheLibrary } from "../../../plugins/vmq_diversity/libs/auth-cache.ts";
import {
  LuaError,
  LuaFloat,
  type LuaResult,
} from "../../../plugins/vmq_diversity/worker/library.ts";
import { lua, luaCall, luaHost, seen, type TestValue } from "../../support/lua-library.ts";
import { seededRandom, seedFrom } from "../../support/random.ts";

const OK = "ok";
const REFUSED = { error: "not_authorized" };

interface Line {
  message: string;
  fields: Record<string, unknown>;
}

/** A cache with the library of one worker in front of it. */
function setUp(limits?: CacheLimits) {
  const lines: Line[] = [];
  const log = {
    warn: (message: string, fields: Record<string, unknown>) =>
      void lines.push({ message, fields }),
    limited: () => log,
  } as never;
  const cache = new AuthCache({ topicMaxDepth: 10, log, ...(limits ? { limits } : {}) });
  const host = luaHost({ services: cacheServices(cache) });
  const library = authCacheLibrary(host);
  let callId = 0;

  /** A session from its CONNECT on. */
  function session(clientId: string, mountpoint = "") {
    const context: SessionContext = {};
    const subscriber_id = { mountpoint, client_id: clientId };
    const who = { username: "test-user", subscriber_id, context };
    const call = {
      subscriber_id,
      context,
      check: (topic: string, given: object = {}, isV5 = false) =>
        cache.publish(
          { ...who, topic, qos: 0, payload: Buffer.alloc(0), retain: false, ...given } as never,
          isV5,
        ),
      subscribe: (topics: readonly (readonly [string, number])[], isV5 = false) =>
        cache.subscribe(
          { ...who, topics: topics.map(([topic, qos]) => ({ topic, qos })) } as never,
          isV5,
        ),
      unsubscribe: (topics: readonly string[]) => cache.unsubscribe({ ...who, topics } as never),
      /** A register hook call that runs; `insert` within it. */
      register: () => {
        const id = ++callId;
        host.calls.set(id, { ...who, clean_session: true, password: undefined });
        return id;
      },
      /** Another hook call of the session. */
      hook: () => {
        const id = ++callId;
        host.calls.set(id, { ...who });
        return id;
      },
      gone: () => cache.forget(who),
    };
    return call;
  }

  function insert(
    id: number,
    clientId: string,
    publish: TestValue,
    subscribe: TestValue = [],
    mountpoint = "",
  ) {
    return library.insert?.(
      luaCall(id),
      lua(mountpoint),
      lua(clientId),
      lua("test-user"),
      lua(publish),
      lua(subscribe),
    );
  }

  /** A connected client with these ACLs. */
  function client(clientId: string, publish: TestValue, subscribe: TestValue = []) {
    const one = session(clientId);
    const id = one.register();
    insert(id, clientId, publish, subscribe);
    cache.settle(id, one.subscriber_id);
    return one;
  }

  async function match(
    name: "match_publish" | "match_subscribe",
    id: number,
    ...args: TestValue[]
  ) {
    return seen((await library[name]?.(luaCall(id), ...args.map(lua))) as LuaResult);
  }

  return { cache, host, library, lines, session, insert, client, match };
}

describe("auth_cache", () => {
  it("[check 31] [check 35] allows what a pattern covers, for publish and subscribe, and nothing else", async () => {
    const { client, match } = setUp();
    const acl = [{ pattern: "a/+/c" }, { pattern: "c/#" }];
    const one = client("one", acl, acl);
    for (const topic of ["a/+/c", "a/b/c", "c/b/a"]) {
      expect(one.subscribe([[topic, 2]])).toBe(OK);
      expect(await match("match_subscribe", 0, "", "one", topic, 0)).toBe(true);
    }
    for (const topic of ["a/b/d", "d/d/d"]) {
      expect(one.subscribe([[topic, 0]])).toEqual(REFUSED);
      expect(one.check(topic)).toEqual(REFUSED);
      expect(await match("match_publish", 0, "", "one", topic, 0, "x", false)).toBe(false);
    }
    for (const topic of ["a/b/c", "c/b/a", "c"]) {
      expect(one.check(topic)).toBe(OK);
      expect(await match("match_publish", 0, "", "one", topic, 0, "x", false)).toBe(true);
    }
  });

  it("[check 32] obeys max_qos, max_payload_size and allowed_retain", async () => {
    const { client, match } = setUp();
    const rule = { pattern: "a/+/c", max_qos: 1, max_payload_size: 5, allowed_retain: false };
    const one = client("one", [rule], [{ pattern: "a/+/c", max_qos: new LuaFloat(1) }]);
    expect(one.subscribe([["a/b/c", 2]])).toEqual(REFUSED);
    expect(one.subscribe([["a/b/c", 1]])).toBe(OK);
    expect(one.check("a/b/c", { qos: 2 })).toEqual(REFUSED);
    expect(one.check("a/b/c", { payload: Buffer.from("hello world") })).toEqual(REFUSED);
    expect(one.check("a/b/c", { payload: Buffer.from("hello"), qos: 1 })).toBe(OK);
    expect(one.check("a/b/c", { retain: true })).toEqual(REFUSED);
    const ask = (qos: number, payload: string, retain: boolean) =>
      match("match_publish", 0, "", "one", "a/b/c", qos, payload, retain);
    expect(await ask(2, "", false)).toBe(false);
    expect(await ask(1, "hello world", false)).toBe(false);
    expect(await ask(1, "hello", false)).toBe(true);
    expect(await ask(1, "hello", true)).toBe(false);
  });

  it("takes the first rule in order that allows it", () => {
    const { client } = setUp();
    const one = client("one", [
      { pattern: "a", max_qos: 0, modifiers: { topic: "first" } },
      { pattern: "+", modifiers: { topic: "second" } },
    ]);
    expect(one.check("a", { qos: 0 })).toEqual({ ok: { topic: "first" } });
    expect(one.check("a", { qos: 1 })).toEqual({ ok: { topic: "second" } });
    expect(one.check("a", { qos: 0 })).toEqual({ ok: { topic: "first" } });
  });

  it("[check 33] gives the modifiers of a publish as they were written", async () => {
    const { client, match } = setUp();
    const modifiers = {
      topic: "hello/world",
      payload: "hello",
      qos: 1,
      retain: true,
      mountpoint: "override-mountpoint",
    };
    const one = client("one", [{ pattern: "a/b", modifiers }]);
    expect(one.check("a/b")).toEqual({ ok: { ...modifiers, payload: Buffer.from("hello") } });
    expect(await match("match_publish", 0, "", "one", "a/b", 0, "", false)).toEqual(modifiers);
  });

  it("lays properties over those of an MQTT 5 packet, and leaves them out for MQTT 3", async () => {
    const { client, match } = setUp();
    const properties = { p_user_property: [{ k1: "v3" }, { k3: "v3" }], p_correlation_data: "c" };
    const one = client("one", [
      { pattern: "a", modifiers: { properties } },
      { pattern: "b", modifiers: { properties, qos: 1 } },
    ]);
    const pairs = [
      ["k1", "v1"],
      ["k1", "v2"],
      ["k2", "v2"],
      ["k4", "v4"],
    ].map(([key, val]) => ({ key, val }));
    const incoming = { p_user_property: pairs, p_content_type: "text" };
    expect(one.check("a", { properties: incoming }, true)).toEqual({
      ok: {
        properties: {
          p_content_type: "text",
          p_correlation_data: Buffer.from("c"),
          p_user_property: [
            { key: "k2", val: "v2" },
            { key: "k4", val: "v4" },
            { key: "k1", val: "v3" },
            { key: "k3", val: "v3" },
          ],
        },
      },
    });
    expect(one.check("a")).toBe(OK);
    expect(one.check("b")).toEqual({ ok: { qos: 1 } });
    expect(await match("match_publish", 0, "", "one", "a", 0, "", false)).toEqual({ properties });
  });

  it("gives the list of a subscribe rule's modifiers", async () => {
    const { client, match } = setUp();
    const one = client("one", [], [{ pattern: "a", modifiers: [["hello/world", 2]] }]);
    expect(one.subscribe([["a", 0]])).toEqual({ ok: [{ topic: "hello/world", qos: 2 }] });
    expect(await match("match_subscribe", 0, "", "one", "a", 0)).toEqual([["hello/world", 2]]);
  });

  it("[check 34] fills in mountpoint, user name and client id", async () => {
    const { client, match } = setUp();
    const acl = [{ pattern: "a/%m/%u/%c/+/#" }];
    const one = client("X", acl, acl);
    expect(one.check("a//test-user/X/hello/world")).toBe(OK);
    expect(one.check("a//other/X/hello/world")).toEqual(REFUSED);
    expect(one.subscribe([["a//test-user/X/hello/world", 0]])).toBe(OK);
    expect(one.subscribe([["a//other/X/hello/world", 0]])).toEqual(REFUSED);
    expect(await match("match_subscribe", 0, "", "X", "a//test-user/X/+/#", 0)).toBe(true);
  });

  it("gives no client more for the characters of its id", () => {
    const { client } = setUp();
    const acl = [{ pattern: "%c/#" }, { pattern: "a/%c" }];
    for (const id of ["+", "#", "a/b", "$SYS"]) {
      const one = client(id, acl, acl);
      for (const topic of ["a/x", "b", "a/a/b", "a/b/c", "$SYS/x"]) {
        expect(one.check(topic)).toEqual(REFUSED);
      }
      for (const filter of ["#", "+", "a/+", "a/#", "+/#", "a/b/#", "$SYS/#"]) {
        expect(one.subscribe([[filter, 0]])).toEqual(REFUSED);
      }
    }
  });

  it("answers for any number of topics in turn, each by its own rules", () => {
    const { client } = setUp();
    const acl = Array.from({ length: 10 }, (_, i) => ({ pattern: `t/${i}`, max_qos: i % 3 }));
    const one = client("one", acl);
    for (let round = 0; round < 3; round++) {
      for (let i = 0; i < 12; i++) {
        for (const qos of [0, 1, 2]) {
          const isAllowed = i < 10 && qos <= i % 3;
          expect(one.check(`t/${i}`, { qos })).toEqual(isAllowed ? OK : REFUSED);
        }
      }
    }
  });

  it("leaves clients without an entry to the scripts", () => {
    const { session } = setUp();
    const one = session("one");
    expect(one.check("a")).toBeUndefined();
    expect(one.subscribe([["a", 0]])).toBeUndefined();
    expect(one.unsubscribe(["a"])).toBeUndefined();
  });

  it("takes no ACL, nil or empty, for no permission", () => {
    const { client } = setUp();
    expect(client("one", undefined, undefined).check("a")).toEqual(REFUSED);
    expect(client("two", []).subscribe([["a", 0]])).toEqual(REFUSED);
  });

  it("raises for arguments that VerneMQ refuses", () => {
    const { library, insert } = setUp();
    const call = luaCall();
    expect(() => library.insert?.(call, undefined, lua("c"), lua("u"))).toThrow(LuaError);
    expect(() => library.insert?.(call, lua(""), lua("c"), undefined)).toThrow("the user name");
    expect(() => insert(0, "c", ["a/b"])).toThrow("publish_acl[1] must be a table, not string");
    expect(() => insert(0, "c", { pattern: "a" })).toThrow("publish_acl must be a list of rules");
    expect(() => insert(0, "c", 1)).toThrow("publish_acl must be a table, not number");
  });

  it("takes JSON text, as databases keep ACLs, for the same list", () => {
    const { client, insert } = setUp();
    const acl = [{ pattern: "a/%c", max_qos: 1, modifiers: { topic: "b", qos: 0 } }];
    // The second client's text is known already.
    for (const id of ["one", "two"]) {
      const [table, text] = [acl, JSON.stringify(acl)].map((given) => client(id, given));
      expect(text?.check(`a/${id}`)).toMatchObject({ ok: { topic: "b", qos: 0 } });
      for (const [topic, qos] of [
        [`a/${id}`, 1],
        [`a/${id}`, 2],
        ["a/x", 0],
      ] as const) {
        expect(text?.check(topic, { qos })).toEqual(table?.check(topic, { qos }));
      }
    }
    expect(client("three", "null").check("a")).toEqual(REFUSED);
    expect(client("four", "[]").check("a")).toEqual(REFUSED);
    expect(() => insert(0, "c", "[{")).toThrow("auth_cache.insert: publish_acl is no JSON array");
    expect(() => insert(0, "c", '"a/b"')).toThrow("publish_acl must be a table, not string");
    expect(() => insert(0, "c", '{"pattern":"a"}')).toThrow("publish_acl must be a list of rules");
  });

  it.each([
    ["[1]", "publish_acl[1] must be an object, not a number"],
    ['[{"pattern":"a"},["a"]]', "publish_acl[2] must be an object with named values"],
    ['[{"pattern":1}]', "publish_acl[1].pattern must not be a number"],
    ['[{"pattern":"a","modifiers":"b"}]', "publish_acl[1].modifiers must not be a string"],
    ['[{"pattern":"a","max_qos":[1]}]', "publish_acl[1].max_qos must not be a table"],
  ])("raises for values of a wrong type if it is told to: %s", (text, why) => {
    const { library } = setUp();
    const insert = (given: TestValue, strict: boolean) =>
      library.insert?.(luaCall(), lua(""), lua("c"), lua("u"), lua(given), undefined, strict);
    expect(() => insert(text, true)).toThrow(why);
    expect(() => insert(JSON.parse(text), true)).toThrow(why);
    if (text !== "[1]") expect(insert(text, false)).toBe(true);
  });
});

describe("a subscription checked by auth_cache", () => {
  it("[check 39] is compared by what it can receive", () => {
    const { client } = setUp();
    const one = client("one", [], [{ pattern: "a/+" }, { pattern: "b/#" }]);
    expect(one.subscribe([["a/#", 0]])).toEqual(REFUSED);
    expect(one.subscribe([["a/+", 0]])).toBe(OK);
    expect(one.subscribe([["b/+/c/#", 0]])).toBe(OK);
    expect(one.subscribe([["+/x", 0]])).toEqual(REFUSED);
  });

  it("[check 39] may be shared when the filter behind the group is allowed", () => {
    const { client } = setUp();
    const one = client("one", [], [{ pattern: "a/+" }, { pattern: "#" }]);
    expect(one.subscribe([["$share/g/a/b", 0]])).toBe(OK);
    expect(one.subscribe([["$share/g/$SYS/#", 0]])).toEqual(REFUSED);
    const two = client("two", [], [{ pattern: "$share/g/a" }, { pattern: "$share/+/b/%c" }]);
    expect(two.subscribe([["$share/g/a", 0]])).toBe(OK);
    expect(two.subscribe([["$share/h/a", 0]])).toEqual(REFUSED);
    expect(two.subscribe([["$share/h/b/two", 0]])).toBe(OK);
    expect(two.subscribe([["b/two", 0]])).toEqual(REFUSED);
  });

  it("never gets a $ topic by a wildcard", () => {
    const { client } = setUp();
    const one = client("one", [{ pattern: "#" }], [{ pattern: "#" }, { pattern: "+/x" }]);
    expect(one.subscribe([["$SYS/#", 0]])).toEqual(REFUSED);
    expect(one.subscribe([["$SYS/x", 0]])).toEqual(REFUSED);
    expect(one.check("$x/y")).toEqual(REFUSED);
    const two = client("two", [], [{ pattern: "$SYS/#" }]);
    expect(two.subscribe([["$SYS/#", 0]])).toBe(OK);
  });

  it("[check 36] is refused when another filter of the packet is", () => {
    const { client } = setUp();
    const one = client("one", [], [{ pattern: "a" }]);
    const packet = [
      ["a", 2],
      ["b", 1],
    ] as const;
    expect(one.subscribe(packet)).toEqual(REFUSED);
    expect(one.subscribe([["a", 2]])).toBe(OK);
  });

  it("[check 38] keeps its place beside others with modifiers", () => {
    const { client } = setUp();
    const modifiers = [
      ["x", 1],
      ["y", 128],
      ["z", [2, { rap: true }]],
    ];
    const one = client("one", [], [{ pattern: "plain" }, { pattern: "m", modifiers }]);
    const packet = [
      ["plain", 0],
      ["m", 2],
      ["plain", 1],
    ] as const;
    expect(one.subscribe(packet)).toEqual({
      ok: [
        { topic: "plain", qos: 0 },
        { topic: "x", qos: 1 },
        { topic: "plain", qos: 1 },
        { topic: "y", qos: 128 },
        { topic: "z", qos: 2 },
      ],
    });
    const [first] = (one.subscribe([["m", 0]], true) as { ok: object[] }).ok.slice(-1);
    expect(first).toEqual({ topic: "z", qos: 2, rap: true });
    expect(one.unsubscribe(["plain", "m", "none"])).toEqual({
      ok: ["plain", "x", "none", "z"],
    });
    expect(one.unsubscribe(["plain", "none"])).toBe(OK);
  });
});

describe("a rule that cannot be used", () => {
  it.each<[string, TestValue]>([
    ["max_qos", { pattern: "a", max_qos: 3 }],
    ["max_qos", { pattern: "a", max_qos: 1.5 }],
    ["max_qos", { pattern: "a", max_qos: "null" }],
    ["max_payload_size", { pattern: "a", max_payload_size: -1 }],
    ["allowed_retain", { pattern: "a", allowed_retain: "yes" }],
    ["max_qoss", { pattern: "a", max_qoss: 0 }],
    ["modifiers", { pattern: "a", modifiers: "x" }],
    ["modifiers.topic", { pattern: "a", modifiers: { topic: "b/#" } }],
    ["modifiers.unknown", { pattern: "a", modifiers: { unknown: 5 } }],
    ["modifiers.qos", { pattern: "a", modifiers: { qos: 3 } }],
    ["modifiers.properties.p_x", { pattern: "a", modifiers: { properties: { p_x: 1 } } }],
  ])("refuses what its pattern covers: %s", (key, rule) => {
    const { client, lines } = setUp();
    const one = client("one", [{ pattern: "before" }, rule, { pattern: "#" }]);
    expect(one.check("a")).toEqual(REFUSED);
    expect(one.check("before")).toBe(OK);
    expect(one.check("b")).toBe(OK);
    expect(lines).toHaveLength(1);
    expect(lines[0]?.message).toContain(`publish_acl[2] refuses what its pattern covers: ${key} `);
    expect(lines[0]?.fields).toEqual({ script: "test.lua", client_id: "one", mountpoint: "", key });
  });

  it.each<[string, TestValue]>([
    ["modifiers[1]", { pattern: "a", modifiers: [["b/#/c", 0]] }],
    ["modifiers[1]", { pattern: "a", modifiers: [["b", 5]] }],
    ["modifiers[1]", { pattern: "a", modifiers: ["b"] }],
    ["modifiers", { pattern: "a", modifiers: { topic: "b" } }],
    ["allowed_retain", { pattern: "a", allowed_retain: true }],
  ])("refuses subscriptions likewise: %s", (key, rule) => {
    const { client, lines } = setUp();
    const one = client("one", [], [rule, { pattern: "#" }]);
    expect(one.subscribe([["a", 0]])).toEqual(REFUSED);
    expect(lines[0]?.fields.key).toBe(key);
  });

  it.each<[string, TestValue]>([
    ["none", {}],
    ["a number", { pattern: 5 }],
    ["no filter", { pattern: "a/#/b" }],
    ["empty", { pattern: "" }],
    ["too deep", { pattern: "1/2/3/4/5/6/7/8/9/10/11" }],
  ])("grants nothing with a pattern that is %s", (_, rule) => {
    const { client, lines } = setUp();
    const one = client("one", [rule, { pattern: "b" }], [rule]);
    expect(one.check("a")).toEqual(REFUSED);
    expect(one.check("b")).toBe(OK);
    expect(one.subscribe([["a", 0]])).toEqual(REFUSED);
    expect(lines.map(({ fields }) => fields.key)).toEqual(["pattern", "pattern"]);
  });

  it("is not one because of empty modifiers", () => {
    const { client, lines } = setUp();
    const rule = { pattern: "a", modifiers: {} };
    const one = client("one", [rule, { pattern: "b", modifiers: { properties: {} } }], [rule]);
    expect(one.check("a")).toBe(OK);
    expect(one.check("b", { properties: {} }, true)).toBe(OK);
    expect(one.subscribe([["a", 0]])).toBe(OK);
    expect(lines).toEqual([]);
  });
});

describe("an entry of auth_cache", () => {
  const A = [{ pattern: "a" }];
  const B = [{ pattern: "b" }];

  it("is in force when its register hook has accepted, not before", async () => {
    const { cache, session, insert, match } = setUp();
    const one = session("one");
    const id = one.register();
    insert(id, "one", A);
    expect(one.check("a")).toBeUndefined();
    expect(await match("match_publish", id, "", "one", "a", 0, "", false)).toBe(true);
    expect(await match("match_publish", 0, "", "one", "a", 0, "", false)).toBe(false);
    cache.settle(id, one.subscriber_id);
    expect(one.check("a")).toBe(OK);
    expect(one.check("b")).toEqual(REFUSED);
  });

  it("is dropped when its register hook refuses", () => {
    const { cache, session, insert } = setUp();
    const one = session("one");
    const id = one.register();
    insert(id, "one", A);
    insert(id, "other", A);
    cache.settle(id, undefined);
    expect(one.check("a")).toBeUndefined();
    expect(session("other").check("a")).toBeUndefined();
    expect(cache.metrics).toMatchObject({ entries: 0, bytes: 0 });
  });

  it("is the session's whatever client id a modifier gives it", async () => {
    for (const [inserted, mountpoint] of [
      ["asked", ""],
      ["final", "mp"],
    ] as const) {
      const { cache, session, insert, match } = setUp();
      const asked = session("asked");
      const id = asked.register();
      insert(id, inserted, [{ pattern: "%c" }], [], mountpoint);
      cache.settle(id, { client_id: "final", mountpoint: "mp" });
      // The session is the same, its id is another.
      const final = { ...asked, subscriber_id: { mountpoint: "mp", client_id: "final" } };
      expect(final.check(inserted)).toBe(OK);
      expect(await match("match_publish", 0, "mp", "final", inserted, 0, "", false)).toBe(true);
      expect(cache.show("final")).toHaveLength(1);
      expect(cache.show("asked")).toHaveLength(0);
    }
  });

  it("[check 37] ends with its session", () => {
    const { cache, client } = setUp();
    const one = client("one", A);
    expect(one.check("a")).toBe(OK);
    one.gone();
    expect(one.check("a")).toBeUndefined();
    expect(cache.metrics).toMatchObject({ entries: 0, bytes: 0 });
  });

  it("[check 37] of a new session stays when the old one of the client is taken over", async () => {
    const { cache, client, match } = setUp();
    const old = client("one", A);
    const young = client("one", B);
    expect(old.check("a")).toBe(OK);
    expect(young.check("b")).toBe(OK);
    expect(young.check("a")).toEqual(REFUSED);
    old.gone();
    expect(young.check("b")).toBe(OK);
    expect(old.check("a")).toBeUndefined();
    expect(await match("match_publish", 0, "", "one", "b", 0, "", false)).toBe(true);
    young.gone();
    expect(cache.metrics).toMatchObject({ entries: 0, bytes: 0 });
    expect(await match("match_publish", 0, "", "one", "a", 0, "", false)).toBe(false);
    expect(cache.show("one")).toEqual([]);
  });

  it("of an old session stays when the new one goes first", async () => {
    const { client, match } = setUp();
    const old = client("one", A);
    const young = client("one", B);
    young.gone();
    expect(old.check("a")).toBe(OK);
    expect(await match("match_publish", 0, "", "one", "a", 0, "", false)).toBe(true);
  });

  it("is replaced by a newer one of the same session", () => {
    const { cache, client, insert } = setUp();
    const one = client("one", A);
    insert(one.hook(), "one", B);
    expect(one.check("a")).toEqual(REFUSED);
    expect(one.check("b")).toBe(OK);
    expect(cache.metrics.entries).toBe(1);
    const again = one.register();
    insert(again, "one", A);
    cache.settle(again, one.subscriber_id);
    expect(one.check("a")).toBe(OK);
    expect(cache.metrics.entries).toBe(1);
  });

  it("from anywhere else counts for the client id, the newest wins", () => {
    const { cache, client, session, insert } = setUp();
    insert(0, "one", A);
    const one = session("one");
    expect(one.check("a")).toBe(OK);
    expect(session("two").check("a")).toBeUndefined();
    insert(session("two").hook(), "one", B);
    expect(one.check("b")).toBe(OK);
    expect(cache.metrics.entries).toBe(1);
    const own = client("one", [{ pattern: "c" }]);
    expect(own.check("c")).toBe(OK);
    insert(0, "one", A);
    expect(own.check("a")).toBe(OK);
    own.gone();
    expect(own.check("a")).toBeUndefined();
    expect(cache.metrics).toMatchObject({ entries: 0, bytes: 0 });
  });

  it("from a register hook for another client counts for that client id", () => {
    const { cache, session, insert } = setUp();
    const one = session("one");
    const id = one.register();
    insert(id, "two", A);
    expect(session("two").check("a")).toBeUndefined();
    cache.settle(id, one.subscriber_id);
    expect(session("two").check("a")).toBe(OK);
    expect(one.check("a")).toBeUndefined();
    cache.forget({ subscriber_id: { mountpoint: "", client_id: "two" } });
    expect(session("two").check("a")).toBeUndefined();
  });

  it("is of one mountpoint", () => {
    const { session, insert } = setUp();
    insert(0, "one", A, [], "mp");
    expect(session("one").check("a")).toBeUndefined();
    expect(session("one", "mp").check("a")).toBe(OK);
  });
});

describe("auth_cache as a whole", () => {
  const limits = (entriesMax: number, bytesMax = 1e9): CacheLimits => ({ entriesMax, bytesMax });

  it("counts hits and misses", () => {
    const { cache, client, session } = setUp();
    const one = client("one", [{ pattern: "a" }]);
    one.check("a");
    one.check("b");
    one.subscribe([["a", 0]]);
    session("two").check("a");
    expect(cache.metrics).toMatchObject({ entries: 1, hits: 3, misses: 1, evictions: 0 });
  });

  it("keeps so many clients, those in use before others", () => {
    const { cache, client, lines } = setUp(limits(3));
    const acl = [{ pattern: "a" }];
    const [one, two, three] = ["one", "two", "three"].map((id) => client(id, acl));
    one?.check("a");
    const four = client("four", acl);
    expect(cache.metrics).toMatchObject({ entries: 3, evictions: 1 });
    expect(two?.check("a")).toBeUndefined();
    for (const kept of [one, three, four]) expect(kept?.check("a")).toBe(OK);
    client("five", acl);
    expect(cache.metrics).toMatchObject({ entries: 3, evictions: 2 });
    expect(lines[0]?.message).toContain("auth_cache is full");
  });

  it("keeps so many bytes, ACLs once each", () => {
    const { cache, client } = setUp(limits(1000, 20_000));
    const large = [{ pattern: "x".repeat(2000) }];
    client("one", large);
    const { bytes } = cache.metrics;
    client("two", large);
    expect(cache.metrics.bytes).toBeLessThan(bytes + 2500);
    for (let i = 0; i < 20; i++) client(`client ${i}`, [{ pattern: `${i}/${"x".repeat(1000)}` }]);
    expect(cache.metrics.bytes).toBeLessThanOrEqual(20_000);
    expect(cache.metrics.evictions).toBeGreaterThan(10);
    cache.clear();
    expect(cache.metrics).toMatchObject({ entries: 0, bytes: 0 });
  });

  it("is shown and cleared by admin commands", () => {
    const { cache, client } = setUp();
    const [show, clear] = cacheCommands(cache);
    const bad = { pattern: "b", max_qos: 7 };
    const one = client("one", [{ pattern: "a/%c" }, bad], [{ pattern: "c", max_qos: 1 }]);
    client("two", []);
    one.check("a/one");
    const run = (command: typeof show, args: Record<string, string> = {}) =>
      command?.run(new Map(Object.entries(args)));
    const lines = (text: unknown) =>
      String(text)
        .split("\n")
        .filter((line) => !/^[+]/.test(line))
        .map((line) => line.replace(/[| ]+/g, " ").trim());
    expect(lines(run(show)).slice(0, 4)).toEqual([
      "mountpoint client_id username publish subscribe invalid hits script",
      "one test-user 2 1 1 1 test.lua",
      "two test-user 0 0 0 0 test.lua",
      expect.stringMatching(/^2 entries, \d+ KiB, 1 hits, 0 misses, 0 evictions$/),
    ]);
    const rules = lines(run(show, { "client-id": "one" }));
    expect(rules).toContain("publish a/one 2 false");
    expect(rules).toContain("publish b 2 false max_qos must be an integer from 0 to 2, not 7");
    expect(rules).toContain("subscribe c 1 false");
    expect(run(show, { "client-id": "none" })).toBe(
      "no entry for none: its checks go to the scripts\n",
    );
    expect(run(clear, { "client-id": "one" })).toBe("1 entries cleared\n");
    expect(one.check("a/one")).toBeUndefined();
    expect(run(clear)).toBe("1 entries cleared\n");
    expect(cache.metrics.entries).toBe(0);
  });

  it("agrees with the core's matching on random patterns, topics and filters", () => {
    const seed = seedFrom("AUTH_CACHE_SEED");
    const random = seededRandom(seed);
    const { client } = setUp();
    const word = (wild: readonly string[]) => random.pick(["a", "b", "", "$x", "cc", ...wild]);
    const text = (wild: readonly string[], end: readonly string[]) => {
      const levels = Array.from({ length: random.between(1, 4) }, () => word(wild));
      if (end.length > 0 && random.next() < 0.3) levels.push(...end);
      return levels.join("/") || "a";
    };
    for (let round = 0; round < 300; round++) {
      const patterns = Array.from({ length: random.between(1, 4) }, () => text(["+"], ["#"]));
      const acl = patterns.map((pattern) => ({ pattern }));
      const one = client("one", acl, acl);
      for (let i = 0; i < 30; i++) {
        const topic = text([], []);
        const mayPublish = patterns.some((pattern) => matches(pattern, topic));
        expect([seed, patterns, topic, one.check(topic)]).toEqual([
          seed,
          patterns,
          topic,
          mayPublish ? OK : REFUSED,
        ]);
        const filter = text(["+"], ["#"]);
        const asked = random.next() < 0.3 ? `$share/g/${filter}` : filter;
        const maySubscribe = patterns.some((pattern) => contains(pattern, filter));
        expect([seed, patterns, asked, one.subscribe([[asked, 0]])]).toEqual([
          seed,
          patterns,
          asked,
          maySubscribe ? OK : REFUSED,
        ]);
      }
    }
  });
});
