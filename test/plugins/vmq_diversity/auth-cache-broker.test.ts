import { afterEach, describe, expect, it } from "vitest";
import { definePlugin } from "../../../core/plugin-api.ts";
import { type PluginTest, testPlugin } from "../../../core/testing.ts";
import type { AclRule } from "../../../plugins/vmq_diversity/acl-rule.ts";
import { AuthCache } from "../../../plugins/vmq_diversity/auth-cache.ts";
import { waitFor } from "../../support/broker.ts";
import { startLua } from "../../support/lua.ts";

/** What a client may do, by client id. Others have no entry. */
type Acls = Readonly<Record<string, { publish?: AclRule[]; subscribe?: AclRule[] }>>;

interface Running extends PluginTest {
  readonly cache: AuthCache;
}

const running: PluginTest[] = [];
afterEach(async () => {
  for (const one of running.splice(0)) await one.close();
});

/** A broker whose register hooks fill the cache, as scripts do through the engine. */
async function start(
  acls: Acls,
  settle: (clientId: string) => "accept" | "refuse" | { client_id: string } = () => "accept",
): Promise<Running> {
  let cache: AuthCache | undefined;
  const the = (): AuthCache => {
    if (cache === undefined) throw new Error("not started");
    return cache;
  };
  let calls = 0;
  const register = (args: { subscriber_id: { mountpoint: string; client_id: string } }) => {
    const { subscriber_id: id } = args;
    const { publish, subscribe } = acls[id.client_id] ?? {};
    if (publish === undefined && subscribe === undefined) return "ok" as const;
    const entry = {
      mountpoint: id.mountpoint,
      clientId: id.client_id,
      username: "user",
      publish: JSON.stringify(publish ?? []),
      subscribe: JSON.stringify(subscribe ?? []),
    };
    calls++;
    the().insert(entry, { script: "test.lua", id: calls, args });
    const verdict = settle(id.client_id);
    if (verdict === "refuse") {
      the().settle(calls, undefined);
      return { error: "invalid_credentials" };
    }
    const final = verdict === "accept" ? id : verdict;
    the().settle(calls, final);
    return verdict === "accept" ? "ok" : { ok: { subscriber_id: { mountpoint: "", ...verdict } } };
  };
  // Without an entry it is the scripts' affair; here they refuse.
  const none = { error: "not_authorized" } as const;
  const plugin = definePlugin({
    name: "test_cache",
    start: ({ log }) => {
      cache = new AuthCache({ topicMaxDepth: 10, log });
    },
    hooks: {
      auth_on_register: register,
      auth_on_register_m5: register,
      auth_on_publish: (args) => the().publish(args, false) ?? none,
      auth_on_publish_m5: (args) => the().publish(args, true) ?? none,
      auth_on_subscribe: (args) => the().subscribe(args, false) ?? none,
      auth_on_subscribe_m5: (args) => the().subscribe(args, true) ?? none,
      on_unsubscribe: (args) => the().unsubscribe(args) ?? "next",
      on_unsubscribe_m5: (args) => the().unsubscribe(args) ?? "next",
      on_client_offline: (args) => the().forget(args),
      on_client_gone: (args) => the().forget(args),
      on_session_expired: (args) => the().forget(args),
    },
  });
  const test = await testPlugin(plugin);
  running.push(test);
  return Object.assign(test, { cache: the() });
}

const ANY = [{ pattern: "#" }];
const VERSIONS = [4, 5] as const;

it("[check 35] an entry is what the register hook of a script has put in, unless it refused or failed", async () => {
  const { connect, script } = await startLua({
    scripts: {
      "a.lua": `
          local function register(r)
            local all = {{ pattern = "#" }}
            if r.username ~= "plain" then auth_cache.insert("", r.client_id, r.username, all, all) end
            if r.username == "evil" then return false end
            if r.username == "broken" then error("broken") end
            if r.username == "moved" then return { subscriber_id = { mountpoint = "", client_id = "new" } } end
            if r.username == "other" then return next end
            return true
          end
          hooks = { auth_on_register_m5 = register, auth_on_publish_m5 = function() return false end }`,
    },
    plugins: [
      {
        name: "zz_last",
        hooks: {
          auth_on_register_m5: ({ username }) => (username === "other" ? "ok" : "next"),
        },
      },
    ],
  });
  const may = async (username: string): Promise<boolean | "refused"> => {
    const options = { clientId: "c", username, password: "p", protocolVersion: 5 as const };
    const client = await connect(options).catch(() => undefined);
    if (client === undefined) return "refused";
    const done = await client.publishAsync("t", "x", { qos: 1 }).then(
      () => true,
      () => false,
    );
    await client.endAsync();
    return done;
  };
  expect(await may("plain")).toBe(false);
  expect(await may("bob")).toBe(true);
  for (const username of ["evil", "broken"]) {
    expect(await may(username)).toBe("refused");
    expect((await script("cache show")).stdout).toMatch(/^0 entries/m);
    expect(await may("plain")).toBe(false);
  }
  const moved = await connect({
    clientId: "c",
    username: "moved",
    password: "p",
    protocolVersion: 5,
  });
  await moved.publishAsync("t", "x", { qos: 1 });
  expect((await script("cache show", "client-id=c")).stdout).toContain("no entry for c");
  expect((await script("cache show", "client-id=new")).stdout).toContain("pattern");
  await moved.endAsync();
  expect(await may("other")).toBe(true);
  expect(await may("plain")).toBe(false);
});

describe.each(VERSIONS)("auth_cache in a broker, MQTT protocol level %i", (protocolVersion) => {
  it("refuses a SUBSCRIBE with one forbidden filter as a whole", async () => {
    const { connect } = await start({ one: { subscribe: [{ pattern: "a/+", maxQos: 1 }] } });
    const client = await connect({ clientId: "one", protocolVersion });
    const refused = protocolVersion === 5 ? 0x87 : 0x80;
    const codes: unknown[] = [];
    client.on("packetreceive", (packet) => {
      if (packet.cmd === "suback") codes.push(packet.granted);
    });
    client.subscribe({ "a/b": { qos: 1 }, "a/#": { qos: 0 } });
    client.subscribe({ "a/b": { qos: 1 }, "a/c": { qos: 0 } });
    await waitFor("two SUBACK", () => codes.length === 2);
    expect(codes).toEqual([
      [refused, refused],
      [1, 0],
    ]);
  });

  it("rewrites publishes and subscriptions, and unsubscribes what it subscribed", async () => {
    const { connect } = await start({
      one: {
        publish: [{ pattern: "in", publish: { topic: "out", payload: "Y2hhbmdlZA==" } }],
        subscribe: [{ pattern: "asked", subscribe: [{ topic: "out", qos: 0 }] }],
      },
    });
    const client = await connect({ clientId: "one", protocolVersion });
    const received: string[] = [];
    client.on("message", (topic, payload) => received.push(`${topic} ${payload}`));
    await client.subscribeAsync("asked");
    await client.publishAsync("in", "as it was", { qos: 1 });
    await waitFor("messages", () => received.length === 1);
    expect(received).toEqual(["out changed"]);
    await client.unsubscribeAsync("asked");
    await client.publishAsync("in", "again", { qos: 1 });
    await client.publishAsync("in", "and again", { qos: 1 });
    expect(received).toHaveLength(1);
  });

  it("answers for the will at CONNECT with the new session's entry", async () => {
    const { connect, cache } = await start({ one: { publish: [{ pattern: "will/%c" }] } });
    const will = (topic: string) => ({ will: { topic, payload: Buffer.from("x") } });
    await connect({ clientId: "one", protocolVersion, ...will("will/one") });
    expect(cache.metrics.hits).toBe(1);
    await expect(
      connect({ clientId: "one", protocolVersion, ...will("will/other") }),
    ).rejects.toThrow();
  });

  it("keeps the new session's entry at a takeover and drops it with the session", async () => {
    const { connect, cache } = await start({ one: { publish: ANY } });
    const first = await connect({ clientId: "one", protocolVersion });
    const closed = new Promise((resolve) => first.once("close", () => resolve(true)));
    const second = await connect({ clientId: "one", protocolVersion });
    await closed;
    expect(cache.metrics.entries).toBe(1);
    await second.publishAsync("a", "x", { qos: 1 });
    expect(cache.metrics.misses).toBe(0);
    await second.endAsync();
    await waitFor("the entry's end", () => cache.metrics.entries === 0);
    expect(cache.metrics.bytes).toBe(0);
  });

  it("drops the entry when a session goes offline, and has the new one afterwards", async () => {
    const { connect, cache } = await start({ one: { publish: ANY } });
    const options =
      protocolVersion === 5
        ? { clean: false, properties: { sessionExpiryInterval: 60 } }
        : { clean: false };
    const first = await connect({ clientId: "one", protocolVersion, ...options });
    await first.endAsync();
    await waitFor("the entry's end", () => cache.metrics.entries === 0);
    const second = await connect({ clientId: "one", protocolVersion, ...options });
    await second.publishAsync("a", "x", { qos: 1 });
    expect(cache.metrics).toMatchObject({ entries: 1, hits: 1, misses: 0 });
  });

  it("has no entry of a client that was refused", async () => {
    const { connect, cache } = await start({ one: { publish: ANY } }, () => "refuse");
    await expect(connect({ clientId: "one", protocolVersion })).rejects.toThrow();
    expect(cache.metrics).toMatchObject({ entries: 0, bytes: 0 });
  });

  it("knows a client under the id that its register hook gave it", async () => {
    const { connect, cache } = await start({ one: { publish: [{ pattern: "%c" }] } }, () => ({
      client_id: "other",
    }));
    const client = await connect({ clientId: "one", protocolVersion });
    await client.publishAsync("one", "x", { qos: 1 });
    expect(cache.metrics).toMatchObject({ hits: 1, misses: 0 });
    expect(cache.show("other")).toHaveLength(1);
    await client.endAsync();
    await waitFor("the entry's end", () => cache.metrics.entries === 0);
  });
});

describe("auth_cache in a broker, MQTT 5", () => {
  it("lays a rule's properties over those of the packet", async () => {
    const properties = { p_user_property: [{ key: "k", val: "new" }], p_content_type: "text" };
    const { connect } = await start({
      one: { publish: [{ pattern: "#", publish: { properties } }], subscribe: ANY },
    });
    const client = await connect({ clientId: "one", protocolVersion: 5 });
    const got = new Promise<object>((resolve) =>
      client.on("message", (_topic, _payload, packet) => resolve(packet.properties ?? {})),
    );
    await client.subscribeAsync("a");
    await client.publishAsync("a", "x", {
      properties: { userProperties: { k: ["v1", "v2"], kept: "yes" }, responseTopic: "r" },
    });
    expect(await got).toEqual({
      responseTopic: "r",
      contentType: "text",
      userProperties: Object.assign(Object.create(null), { kept: "yes", k: "new" }),
    });
  });

  it("keeps the options of subscriptions beside rewritten ones", async () => {
    const { connect } = await start({
      one: {
        publish: ANY,
        subscribe: [{ pattern: "m", subscribe: [{ topic: "n", qos: 1 }] }, { pattern: "p" }],
      },
    });
    const client = await connect({ clientId: "one", protocolVersion: 5 });
    const received: string[] = [];
    client.on("message", (topic) => received.push(topic));
    await client.subscribeAsync({ m: { qos: 2, nl: true }, p: { qos: 0 } });
    for (const topic of ["n", "p", "n", "p"]) await client.publishAsync(topic, "x", { qos: 1 });
    await waitFor("messages", () => received.length === 2);
    expect(received).toEqual(["p", "p"]);
  });
});

describe("the plugin's memory", () => {
  it("has limits in the settings, metrics, and admin commands", async () => {
    const source = `
      kv.ensure_table { name = "t" }
      kv.insert("t", { a = 1 })
      failed = not pcall(kv.insert, "t", { b = 1 })
      for _, id in ipairs { "a", "b", "c" } do
        auth_cache.insert("", id, "u", { { pattern = "own/%c" } }, {})
      end
      num_states = 1
      hooks = { auth_on_register = function() return failed end }`;
    const lua = await startLua({
      scripts: { "memory.lua": source },
      settings: { "vmq_diversity.kv_entries": "1", "vmq_diversity.auth_cache_size": "2" },
    });
    await lua.connect({ clientId: "x", protocolVersion: 4 });
    expect(lua.broker.metrics()).toMatchObject({
      vmq_diversity_kv_entries: 1,
      vmq_diversity_cache_entries: 2,
      vmq_diversity_cache_evictions: 1,
    });
    const shown = await lua.script("cache show", "client-id=c");
    expect(shown).toMatchObject({ exit: 0, stderr: "" });
    expect(shown.stdout).toContain("own/c");
    const cleared = await lua.script("cache clear", "client-id=c");
    expect(cleared.stdout).toBe("1 entries cleared\n");
    expect((await lua.script("cache clear")).stdout).toBe("1 entries cleared\n");
  });
});
