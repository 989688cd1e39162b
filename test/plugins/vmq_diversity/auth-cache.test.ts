import { describe, expect, it } from "vitest";
import { createLogger } from "../../../core/logger.ts";
import type { HookArgs } from "../../../core/plugin-api.ts";
import { contains, matches } from "../../../core/plugin-api.ts";
import { AuthCache } from "../../../plugins/vmq_diversity/auth-cache.ts";
import type { ClonedTable, ClonedValue } from "../../../plugins/vmq_diversity/verdicts.ts";
import { seededRandom } from "../../support/random.ts";

/** lua.md, section 5. */

type Json = string | number | boolean | readonly Json[] | { readonly [key: string]: Json };

/** JSON as a Lua value that came from a worker. */
function lua(value: Json): ClonedValue {
  if (typeof value === "string") return Buffer.from(value);
  if (typeof value !== "object") return value;
  if (Array.isArray(value))
    return { array: value.map((item) => lua(item as Json)), hash: new Map() };
  const hash = new Map(
    Object.entries(value).map(([key, item]) => [key, lua(item as Json)] as const),
  );
  return { array: [], hash } as ClonedTable;
}

function cacheWith(publish: Json, subscribe: Json, entriesMax = 100) {
  const warnings: string[] = [];
  const cache = new AuthCache({
    log: {
      ...createLogger({ level: "silent" }),
      warn: (_message: string, fields: object) => warnings.push(JSON.stringify(fields)),
    } as never,
    depthMax: 10,
    entriesMax,
  });
  const insert = (clientId: string, id = 0, args?: object): void => {
    cache.services()["auth_cache.insert"]?.(
      {
        mountpoint: "",
        clientId,
        username: "test-user",
        publish: lua(publish),
        subscribe: lua(subscribe),
      },
      { script: "s.lua", id, args },
    );
  };
  insert("c");
  return { cache, insert, warnings };
}

const ID = { mountpoint: "", client_id: "c" };
function publishArgs(topic: string, more: object = {}): HookArgs["auth_on_publish_m5"] {
  const base = { username: "u", subscriber_id: ID, qos: 0, topic, payload: Buffer.from("x") };
  return { ...base, retain: false, properties: {}, ...more };
}
function subscribeArgs(
  ...topics: { topic: string; qos: number }[]
): HookArgs["auth_on_subscribe_m5"] {
  return { username: "u", subscriber_id: ID, topics, properties: {} };
}
const REFUSED = { error: "not_authorized" };

describe("matching", () => {
  const { cache } = cacheWith(
    [{ pattern: "a/+/c" }, { pattern: "c/#" }],
    [{ pattern: "a/+/c" }, { pattern: "c/#" }],
  );

  it.each(["a/+/c", "a/b/c", "c/b/a"])("[check 31] %s may be subscribed to", (topic) => {
    expect(cache.subscribe(subscribeArgs({ topic, qos: 0 }), false)).toBe("ok");
  });

  it.each(["a/b/d", "d/d/d", "#", "a/#", "+/b/c"])("[check 31] [check 39] %s may not", (topic) => {
    expect(cache.subscribe(subscribeArgs({ topic, qos: 0 }), false)).toEqual(REFUSED);
  });

  it("[check 31] [check 35] publishes are matched alike; nobody else is refused or allowed", () => {
    expect(cache.publish(publishArgs("a/b/c"), false)).toBe("ok");
    expect(cache.publish(publishArgs("a/b/d"), false)).toEqual(REFUSED);
    const other = { subscriber_id: { mountpoint: "", client_id: "other" } };
    expect(cache.publish(publishArgs("a/b/c", other), false)).toBeUndefined();
    expect(cache.hits).toBeGreaterThan(0);
    expect(cache.misses).toBe(1);
  });

  it("[check 39] a shared filter counts without its group", () => {
    expect(cache.subscribe(subscribeArgs({ topic: "$share/g/a/b/c", qos: 0 }), false)).toBe("ok");
    expect(cache.subscribe(subscribeArgs({ topic: "$share/g/x", qos: 0 }), false)).toEqual(REFUSED);
  });

  it("[check 32] qos, size and retain are limited", () => {
    const rule = [{ pattern: "a/+/c", max_qos: 1, max_payload_size: 5, allowed_retain: false }];
    const limited = cacheWith(rule, rule).cache;
    expect(limited.subscribe(subscribeArgs({ topic: "a/b/c", qos: 2 }), false)).toEqual(REFUSED);
    expect(limited.subscribe(subscribeArgs({ topic: "a/b/c", qos: 1 }), false)).toBe("ok");
    expect(limited.publish(publishArgs("a/b/c", { qos: 2 }), false)).toEqual(REFUSED);
    expect(
      limited.publish(publishArgs("a/b/c", { payload: Buffer.from("hello world") }), false),
    ).toEqual(REFUSED);
    expect(limited.publish(publishArgs("a/b/c", { payload: Buffer.from("hello") }), false)).toBe(
      "ok",
    );
    expect(limited.publish(publishArgs("a/b/c", { retain: true }), false)).toEqual(REFUSED);
  });

  it("[check 34] %m, %u and %c are whole levels", () => {
    const { cache: own } = cacheWith([{ pattern: "a/%m/%u/%c/+/#" }], []);
    expect(own.publish(publishArgs("a//test-user/c/hello/world"), false)).toBe("ok");
    expect(own.publish(publishArgs("a//other/c/hello/world"), false)).toEqual(REFUSED);
  });

  it("a client id with a wildcard or a level in it opens nothing", () => {
    const { cache: own, insert } = cacheWith([{ pattern: "home/%c/#" }], []);
    for (const id of ["+", "#", "a/b"]) {
      insert(id);
      const as = { subscriber_id: { mountpoint: "", client_id: id } };
      expect(own.publish(publishArgs("home/x/y", as), false)).toEqual(REFUSED);
      expect(own.publish(publishArgs("home/a/b/y", as), false)).toEqual(REFUSED);
    }
  });

  it("agrees with the broker's own matching on random topics", () => {
    const { next } = seededRandom(42);
    const word = (): string => ["a", "b", "+", "$x"][Math.floor(next() * 4)] as string;
    for (let i = 0; i < 2000; i++) {
      const rule = Array.from({ length: 1 + Math.floor(next() * 3) }, word).join("/");
      const pattern = next() < 0.3 ? `${rule}/#` : rule;
      const topic = Array.from({ length: 1 + Math.floor(next() * 3) }, word).join("/");
      const { cache: own } = cacheWith([{ pattern }], [{ pattern }]);
      const name = topic.replaceAll("+", "c");
      const publish = own.publish(publishArgs(name), false) === "ok";
      expect([pattern, name, publish]).toEqual([pattern, name, matches(pattern, name)]);
      const subscribe = own.subscribe(subscribeArgs({ topic, qos: 0 }), false) === "ok";
      expect([pattern, topic, subscribe]).toEqual([pattern, topic, contains(pattern, topic)]);
    }
  });
});

describe("modifiers", () => {
  it("[check 33] of a publish are those of the rule; properties are merged, for MQTT 5 only", () => {
    const modifiers = {
      topic: "hello/world",
      payload: "p",
      qos: 1,
      retain: true,
      mountpoint: "m",
      properties: { p_user_property: [{ k: "v2" }] },
    };
    const { cache } = cacheWith([{ pattern: "#", modifiers }], []);
    const properties = { p_content_type: "t", p_user_property: [{ key: "k", val: "v1" }] };
    const plain = {
      topic: "hello/world",
      payload: Buffer.from("p"),
      qos: 1,
      retain: true,
      mountpoint: "m",
    };
    expect(cache.publish(publishArgs("x", { properties }), false)).toEqual({ ok: plain });
    expect(cache.publish(publishArgs("x", { properties }), true)).toEqual({
      ok: {
        ...plain,
        properties: { p_content_type: "t", p_user_property: [{ key: "k", val: "v2" }] },
      },
    });
  });

  it("[check 38] of a subscribe replace their topic and leave the others of the packet", () => {
    const { cache } = cacheWith(
      [],
      [
        { pattern: "plain" },
        {
          pattern: "old",
          modifiers: [
            ["hello/world", 2],
            ["second", 0],
          ],
        },
      ],
    );
    const args = subscribeArgs({ topic: "plain", qos: 1 }, { topic: "old", qos: 0 });
    const topics = [
      { topic: "plain", qos: 1 },
      { topic: "hello/world", qos: 2 },
      { topic: "second", qos: 0 },
    ];
    expect(cache.subscribe(args, false)).toEqual({ ok: topics });
    expect(cache.subscribe(args, true)).toEqual({ ok: { topics } });
  });

  it("of a subscribe unsubscribe what was subscribed", () => {
    const { cache } = cacheWith([], [{ pattern: "old", modifiers: [["new", 2]] }]);
    const args = { username: "u", subscriber_id: ID, topics: ["old", "x"], properties: {} };
    expect(cache.unsubscribe(args, false)).toEqual({ ok: ["new", "x"] });
    expect(cache.unsubscribe(args, true)).toEqual({ ok: { topics: ["new", "x"] } });
    expect(cache.unsubscribe({ ...args, topics: ["x"] }, false)).toBe("ok");
  });
});

describe("rules that are not valid", () => {
  it.each([
    [{ pattern: "a", max_qos: 7 }, "max_qos"],
    [{ pattern: "a", allowed_retain: "yes" }, "allowed_retain"],
    [{ pattern: "a", max_payload_size: -1 }, "max_payload_size"],
    [{ pattern: "a", max_qoss: 1 }, "max_qoss"],
    [{ pattern: "a", modifiers: true }, "modifiers"],
    [{ pattern: "a/#/b" }, "pattern"],
    [{ pattern: 5 }, "pattern"],
  ] as [Json, string][])("refuse what they match, and say which key: %j", (rule, key) => {
    const { cache, warnings } = cacheWith([rule, { pattern: "b" }], []);
    expect(cache.publish(publishArgs("a"), false)).toEqual(REFUSED);
    expect(cache.publish(publishArgs("b"), false)).toBe("ok");
    expect(warnings.join()).toContain(`publish_acl[1].${key}`);
    expect(warnings.join()).toContain('"client_id":"c"');
  });
});

describe("entries", () => {
  const register = (context: object, clientId = "c"): object => ({
    peer: { address: "127.0.0.1", port: 1 },
    subscriber_id: { mountpoint: "", client_id: clientId },
    context,
  });

  it("belong to the session that registered, under the id it got, once it is accepted", () => {
    const { cache, insert } = cacheWith([{ pattern: "own" }], [], 100);
    cache.forget({ subscriber_id: ID });
    const [first, second] = [{}, {}];
    insert("c", 7, register(first));
    expect(cache.publish(publishArgs("own", { context: first }), false)).toBeUndefined();
    cache.settle(7, { mountpoint: "", client_id: "renamed" });
    const renamed = { subscriber_id: { mountpoint: "", client_id: "renamed" }, context: first };
    expect(cache.publish(publishArgs("own", renamed), false)).toBe("ok");
    insert("c", 8, register(second));
    cache.settle(8, undefined);
    expect(cache.publish(publishArgs("own", { context: second }), false)).toBeUndefined();
  });

  it("[check 37] of an old session go without taking those of the new one", () => {
    const { cache, insert } = cacheWith([{ pattern: "own" }], [], 100);
    const [old, young] = [{}, {}];
    insert("c", 1, register(old));
    cache.settle(1, ID);
    insert("c", 2, register(young));
    cache.settle(2, ID);
    cache.forget({ subscriber_id: ID, context: old });
    expect(cache.publish(publishArgs("own", { context: young }), false)).toBe("ok");
    cache.forget({ subscriber_id: ID, context: young });
    expect(cache.publish(publishArgs("own", { context: young }), false)).toBeUndefined();
    expect(cache.entries).toBe(0);
  });

  it("are bounded: the oldest goes, is counted, and its client is asked about again", () => {
    const { cache, insert } = cacheWith([{ pattern: "own" }], [], 2);
    insert("d");
    insert("e");
    expect(cache.entries).toBe(2);
    expect(cache.evictions).toBe(1);
    expect(cache.publish(publishArgs("own"), false)).toBeUndefined();
    expect(cache.show("e")).toEqual([
      {
        client_id: "e",
        mountpoint: "",
        username: "test-user",
        publish_acl: "own",
        subscribe_acl: "",
      },
    ]);
  });
});
