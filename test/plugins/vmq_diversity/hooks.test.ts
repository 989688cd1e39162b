import { describe, expect, it } from "vitest";
import { freePort, waitFor } from "../../support/broker.ts";
import { refusalOf, startLua } from "../../support/lua.ts";
import { recordingPlugin } from "../../support/plugins.ts";

/** Scripts in a broker with real clients. */

const BOB = { username: "bob", password: "pw", clientId: "c" };
const register = (body: string): string =>
  `local function reg(r) ${body} end hooks = { auth_on_register = reg, auth_on_register_m5 = reg }`;
const allow = `auth_on_register = yes, auth_on_register_m5 = yes, auth_on_subscribe = yes,
  auth_on_subscribe_m5 = yes, auth_on_publish = yes, auth_on_publish_m5 = yes`;
const withHooks = (code: string, hooks: string): string =>
  `local function yes() return true end ${code} hooks = { ${allow}, ${hooks} }`;

describe("auth_on_register", () => {
  it.each([
    ["true", undefined, undefined],
    ["false", 4, 0x86],
    ["nil", 5, 0x86],
    ["next", 5, 0x86],
    ["'next'", 5, 0x86],
    ["{}", undefined, undefined],
    ["true, 1", undefined, undefined],
    ["{ nosuchkey = 1 }", 5, 0x86],
    // Nobody's wrong password.
    ["error('boom')", 5, 0x88],
  ])("[check 1] returning %s gives CONNACK %s, MQTT 5 %s", async (answer, v3, v5) => {
    const { connect } = await startLua({ scripts: { "a.lua": register(`return ${answer}`) } });
    if (v3 === undefined) {
      await connect(BOB);
      await connect({ ...BOB, clientId: "d", protocolVersion: 5 });
      return;
    }
    expect(await refusalOf(connect(BOB))).toBe(v3);
    expect(await refusalOf(connect({ ...BOB, protocolVersion: 5 }))).toBe(v5);
  });

  it("[check 2] [check 3] changes client id, mountpoint and user name", async () => {
    const seen = recordingPlugin();
    const { connect, broker } = await startLua({
      scripts: {
        "a.lua": register(
          "return { subscriber_id = { mountpoint = 'override-mountpoint', client_id = 'override-client-id' }, username = 'override-username' }",
        ),
      },
      plugins: [seen.plugin],
    });
    await connect(BOB);
    const args = await seen.wait("on_register");
    expect(args.subscriber_id).toEqual({
      mountpoint: "override-mountpoint",
      client_id: "override-client-id",
    });
    expect(args.username).toBe("override-username");
    expect(broker.sessions()[0]?.client_id).toBe("override-client-id");
  });

  it("[check 4] sets limits of the session", async () => {
    const { connect, broker } = await startLua({
      scripts: {
        "a.lua": withHooks(
          "",
          "auth_on_register = function() return { max_connection_lifetime = 4711, max_message_size = 1001.0 } end",
        ),
      },
    });
    const client = await connect(BOB);
    const closed = new Promise<void>((resolve) => client.once("close", () => resolve()));
    client.publish("t", Buffer.alloc(2000), { qos: 1 });
    await closed;
    expect(broker.metrics().mqtt_invalid_msg_size_error).toBe(1);
  });

  it("[check 9] [check 10] has no user name and password when the client sent none; else the password encrypted", async () => {
    const { connect } = await startLua({
      scripts: {
        "a.lua": register(
          `if r.client_id == "none" then return r.username == nil and r.password == nil end
           return r.password ~= "pw" and obf.decrypt(r.password) == "pw" and obf.encrypt("x") ~= "x"
             and obf.decrypt(obf.encrypt("x")) == "x"`,
        ),
      },
    });
    await connect({ clientId: "none" });
    await connect(BOB);
  });

  it.each([4, 5] as const)("knows what MQTT %s calls a clean start", async (protocolVersion) => {
    const [name, other] = protocolVersion === 5 ? ["start", "session"] : ["session", "start"];
    const { connect } = await startLua({
      scripts: {
        "a.lua": register(
          `return r.clean_${name} == (r.client_id == "clean") and r.clean_${other} == nil`,
        ),
      },
    });
    await connect({ ...BOB, clientId: "clean", protocolVersion });
    await connect({ ...BOB, clientId: "kept", clean: false, protocolVersion });
  });

  it("[check 11] knows the listener with forward_connection_opts", async () => {
    const listener = await freePort();
    const { connect, port } = await startLua({
      scripts: {
        "a.lua": register(
          "return r.listener_addr == '127.0.0.1' and r.listener_type == 'mqtt' and r.listener_port == tonumber(r.client_id)",
        ),
      },
      settings: {
        "listener.tcp.default": `127.0.0.1:${listener}`,
        "listener.tcp.default.forward_connection_opts": "on",
      },
    });
    await connect({ ...BOB, clientId: String(port) });
  });

  it("[check 12] gives user properties as a list of pairs, in order", async () => {
    const { connect } = await startLua({
      scripts: {
        "a.lua": register(
          "local u = r.properties.p_user_property return u[1].k1 == 'v1' and u[2].k1 == 'v2' and u[3].k2 == 'v2' and r.properties.p_receive_max == 10",
        ),
      },
    });
    await connect({
      ...BOB,
      protocolVersion: 5,
      properties: { receiveMaximum: 10, userProperties: { k1: ["v1", "v2"], k2: "v2" } },
    });
  });

  it("[check 14] [check 15] leaves the decision to the next script after an error", async () => {
    const failing = register(
      "postgres.ensure_pool { pool_id = 'p', host = '127.0.0.1', port = 1 } return postgres.execute('p', 'SELECT 1')",
    );
    const { connect } = await startLua({
      scripts: { "a.lua": failing, "b.lua": register("return r.username == 'bob'") },
    });
    await connect(BOB);
    expect(await refusalOf(connect({ ...BOB, username: "eve" }))).toBe(4);
    const alone = await startLua({ scripts: { "a.lua": failing } });
    expect(await refusalOf(alone.connect(BOB))).toBe(5);
  });

  it("accepts nobody because a script failed, and blames no password for it", async () => {
    const scripts = {
      "b.lua": register("if r.username == 'bad' then error('broken') end"),
      "c.lua": register("return nil"),
    };
    // Whoever is known to nobody may come in with this; whoever nobody could be asked about may not.
    const { connect } = await startLua({ scripts, settings: { allow_anonymous: "hooks" } });
    await connect({ ...BOB, clientId: "unknown" });
    await connect({ ...BOB, clientId: "unknown5", protocolVersion: 5 });
    expect(await refusalOf(connect({ ...BOB, username: "bad" }))).toBe(5);
    expect(await refusalOf(connect({ ...BOB, username: "bad", protocolVersion: 5 }))).toBe(0x88);
  });

  it("[check 40] refuses as unavailable after an endless loop, and goes on with the next client", async () => {
    const { connect } = await startLua({
      scripts: {
        "a.lua": `num_states = 1 ${register("if r.username == 'spin' then while true do end end return true")}`,
      },
      settings: { "vmq_diversity.instruction_limit": "1000000" },
    });
    expect(await refusalOf(connect({ ...BOB, username: "spin" }))).toBe(3);
    expect(await refusalOf(connect({ ...BOB, username: "spin", protocolVersion: 5 }))).toBe(0x83);
    await connect(BOB);
  });

  it("asks the next plugin after a failure with plugins.vmq_diversity.on_error = next", async () => {
    const { connect } = await startLua({
      scripts: { "a.lua": register("while true do end") },
      settings: {
        "vmq_diversity.instruction_limit": "1000000",
        "plugins.vmq_diversity.on_error": "next",
      },
      plugins: [{ name: "zz_last", hooks: { auth_on_register: () => "ok" } }],
    });
    await connect(BOB);
  });

  it("refuses as unavailable what takes longer than call_timeout, and goes on with others", async () => {
    const { connect, broker } = await startLua({
      scripts: {
        "a.lua": register("if r.username == 'slow' then while true do end end return true"),
      },
      settings: {
        "vmq_diversity.call_timeout": "300",
        "vmq_diversity.instruction_limit": "1000000000000",
      },
    });
    const slow = refusalOf(connect({ ...BOB, username: "slow" }));
    await connect({ ...BOB, clientId: "quick" });
    expect(await slow).toBe(3);
    expect(broker.metrics().vmq_diversity_script_timeouts).toBe(1);
    await connect({ ...BOB, clientId: "next" });
  });
});

describe("auth_on_publish", () => {
  it("[check 5] refuses, and routes under another topic", async () => {
    const { connect } = await startLua({
      scripts: {
        "a.lua": withHooks(
          "local function pub(p) if p.topic == 'no' then return false end if p.topic == 'move' then return { topic = 'hello/world' } end return true end",
          "auth_on_publish = pub, auth_on_publish_m5 = pub",
        ),
      },
    });
    const client = await connect({ ...BOB, protocolVersion: 5 });
    await client.subscribeAsync("#");
    const received = new Promise((resolve) => client.once("message", (topic) => resolve(topic)));
    await client.publishAsync("move", "x", { qos: 1 });
    expect(await received).toBe("hello/world");
    await expect(client.publishAsync("no", "x", { qos: 1 })).rejects.toThrow("Not authorized");
  });

  it("[check 6] refuses modifiers of a wrong type and unknown ones", async () => {
    const { connect } = await startLua({
      scripts: {
        "a.lua": withHooks(
          "",
          "auth_on_publish_m5 = function(p) if p.topic == 'type' then return { topic = 5 } end return { unknown = 5 } end",
        ),
      },
    });
    const client = await connect({ ...BOB, protocolVersion: 5 });
    await expect(client.publishAsync("type", "x", { qos: 1 })).rejects.toThrow("Not authorized");
    await expect(client.publishAsync("unknown", "x", { qos: 1 })).rejects.toThrow("Not authorized");
  });

  it("[check 13] merges properties: user properties of the same key are replaced, others stay", async () => {
    const { connect } = await startLua({
      scripts: {
        "a.lua": withHooks(
          "local function m() return { properties = { p_user_property = { { k1 = 'v3' }, { k3 = 'v3' } } } } end",
          "auth_on_publish_m5 = function(p) return p.topic == 'pub' and m() or true end, on_deliver_m5 = function(p) if p.topic == 'deliver' then return m() end end",
        ),
      },
    });
    const client = await connect({ ...BOB, protocolVersion: 5 });
    await client.subscribeAsync("#");
    for (const topic of ["pub", "deliver"]) {
      const received = new Promise((resolve) =>
        client.once("message", (_topic, _payload, packet) => resolve(packet.properties)),
      );
      await client.publishAsync(topic, "x", {
        properties: {
          contentType: "ct",
          userProperties: { k1: ["v1", "v2"], k2: "v2", k4: "v4" },
        },
      });
      const properties = (await received) as { contentType: string; userProperties: object };
      expect(properties.contentType).toBe("ct");
      expect(Object.entries(properties.userProperties)).toEqual([
        ["k2", "v2"],
        ["k4", "v4"],
        ["k1", "v3"],
        ["k3", "v3"],
      ]);
    }
  });

  it("keeps payloads as bytes, both ways", async () => {
    const { connect } = await startLua({
      scripts: {
        "a.lua": withHooks(
          "",
          "auth_on_publish = function(p) return { payload = p.payload .. '\\0\\255' } end",
        ),
      },
    });
    const client = await connect(BOB);
    await client.subscribeAsync("t");
    const received = new Promise((resolve) =>
      client.once("message", (_, payload) => resolve(payload)),
    );
    await client.publishAsync("t", Buffer.from([0, 255, 254, 128]));
    expect(await received).toEqual(Buffer.from([0, 255, 254, 128, 0, 255]));
  });

  it("keeps the order of a client's messages, whatever each decision takes", async () => {
    const { connect } = await startLua({
      scripts: {
        "a.lua": withHooks(
          "",
          "auth_on_publish = function(p) if tonumber(p.payload) % 3 == 0 then for i = 1, 20000 do end end return true end",
        ),
      },
    });
    const client = await connect(BOB);
    await client.subscribeAsync("t");
    const received: number[] = [];
    client.on("message", (_, payload) => received.push(Number(payload)));
    for (let i = 0; i < 500; i++) client.publish("t", String(i), { qos: (i % 2) as 0 | 1 });
    await waitFor("all messages", () => received.length === 500, 20_000);
    const ofQos = (qos: number): number[] => received.filter((n) => n % 2 === qos);
    expect(ofQos(0)).toEqual([...ofQos(0)].sort((a, b) => a - b));
    expect(ofQos(1)).toEqual([...ofQos(1)].sort((a, b) => a - b));
  });

  it("a thread that never comes back costs its caller a refusal; waiting calls are made by the next one", async () => {
    const { connect, broker } = await startLua({
      scripts: {
        "a.lua": withHooks(
          "",
          `auth_on_publish_m5 = function(p)
             if p.topic == "evil" then return string.find(string.rep("a", 200), string.rep("a-", 30) .. "b") == nil end
             return true end`,
        ),
      },
      settings: { "vmq_diversity.call_timeout": "10000" },
    });
    const client = await connect({ ...BOB, protocolVersion: 5 });
    const evil = client.publishAsync("evil", "x", { qos: 1 });
    const refused = expect(evil).rejects.toThrow(/specific error/);
    const others = Array.from({ length: 5 }, (_, i) => connect({ ...BOB, clientId: `waits${i}` }));
    await Promise.all(others);
    await refused;
    await client.publishAsync("fine", "x", { qos: 1 });
    expect(broker.metrics().vmq_diversity_threads_replaced).toBe(1);
  }, 60_000);

  it("lets unrelated clients publish while ten scripts run in circles", async () => {
    const spin =
      "hooks = { on_publish = function(p) if p.topic == 'spin' then while true do end end end }";
    const scripts = Object.fromEntries(
      Array.from({ length: 10 }, (_, i) => [`s${i}.lua`, `num_states = 1 ${spin}`]),
    );
    scripts["a.lua"] = withHooks("", "");
    const { connect, broker } = await startLua({
      scripts,
      // Some half a minute of loops, and nothing else that ends them.
      settings: {
        "vmq_diversity.instruction_limit": "400000000",
        "vmq_diversity.call_timeout": "600000",
      },
    });
    const client = await connect(BOB);
    await client.publishAsync("spin", "x", { qos: 1 });
    for (let i = 0; i < 100; i++) await client.publishAsync("other", String(i), { qos: 1 });
    // All of them were decided and acknowledged while the ten loops ran, and they still do.
    expect(broker.metrics().vmq_diversity_script_killed).toBe(0);
    expect(broker.metrics().vmq_diversity_calls_waiting).toBeGreaterThanOrEqual(10);
  }, 90_000);
});

describe("auth_on_subscribe and on_unsubscribe", () => {
  it("[check 7] replace the list of a SUBSCRIBE", async () => {
    const { connect, broker } = await startLua({
      scripts: {
        "a.lua": withHooks(
          "",
          `auth_on_subscribe = function() return { { "hello/world", 2 }, { "refused", 128 } } end,
           auth_on_subscribe_m5 = function() return { topics = { { "hello/world", { 2, { rap = true } } }, { "f", 135 } } } end`,
        ),
      },
    });
    const v4 = await connect(BOB);
    const granted = await v4.subscribeAsync(["a", "b"]).catch((error: Error) => error);
    expect(granted).toBeInstanceOf(Error);
    expect(broker.sessions()[0]?.subscriptions).toEqual([{ topic: "hello/world", qos: 2 }]);
    const v5 = await connect({ ...BOB, clientId: "v5", protocolVersion: 5 });
    await v5.subscribeAsync(["a", "b"]).catch(() => undefined);
    const [, second] = broker.sessions();
    expect(second?.subscriptions).toEqual([{ topic: "hello/world", qos: 2 }]);
  });

  it("[check 8] replace the list of an UNSUBSCRIBE, or leave it", async () => {
    const { connect, broker } = await startLua({
      scripts: {
        "a.lua": withHooks(
          "",
          "on_unsubscribe = function(u) if u.topics[1] == 'other' then return { 'hello/world' } end end",
        ),
      },
    });
    const client = await connect(BOB);
    await client.subscribeAsync(["hello/world", "other", "third"]);
    await client.unsubscribeAsync("other");
    const topics = (): string[] =>
      (broker.sessions()[0]?.subscriptions ?? []).map(({ topic }) => topic).sort();
    expect(topics()).toEqual(["other", "third"]);
    await client.unsubscribeAsync("third");
    expect(topics()).toEqual(["other"]);
  });
});

describe("events", () => {
  it("reach all scripts with the argument tables of VerneMQ", async () => {
    const record = (name: string): string =>
      withHooks(
        `kv.ensure_table { name = "events", type = "duplicate_bag" }
         local function note(hook) return function(a) kv.insert("events", { [hook] = "${name} " .. json.encode(a) }) end end`,
        `on_register = note("on_register"), on_publish = note("on_publish"), on_subscribe = note("on_subscribe"),
         on_client_wakeup = note("on_client_wakeup"), on_client_gone = note("on_client_gone"),
         on_client_offline = note("on_client_offline"), on_offline_message = note("on_offline_message"),
         on_deliver = function(p)
           if p.topic == "events" then
             local all = {}
             for _, hook in ipairs { "on_register", "on_publish", "on_subscribe", "on_client_wakeup", "on_client_gone", "on_client_offline", "on_offline_message" } do
               for _, text in ipairs(kv.lookup("events", hook)) do all[#all + 1] = hook .. " " .. text end
             end
             return { payload = table.concat(all, "\\n") }
           end end`,
      );
    const { connect } = await startLua({ scripts: { "a.lua": record("A"), "b.lua": record("B") } });
    const away = await connect({ ...BOB, clientId: "away", clean: false });
    await away.subscribeAsync("x", { qos: 1 });
    await away.endAsync();
    const client = await connect(BOB);
    await client.subscribeAsync("events");
    await client.publishAsync("x", "offline", { qos: 1 });
    const text = await waitFor("all events", async () => {
      const received = new Promise<string>((resolve) =>
        client.once("message", (_, payload) => resolve(payload.toString())),
      );
      await client.publishAsync("events", "");
      const lines = await received;
      return lines.split("\n").filter((line) => line.includes("away")).length >= 10 && lines;
    });
    for (const script of ["A", "B"]) {
      const lines = text.split("\n");
      const of = (hook: string, id: string): unknown[] =>
        lines
          .filter((line) => line.startsWith(`${hook} ${script} `) && line.includes(`"${id}"`))
          .map((line) => JSON.parse(line.slice(hook.length + 3)) as unknown);
      expect(of("on_register", "away")).toEqual([
        {
          addr: "127.0.0.1",
          port: expect.any(Number),
          mountpoint: "",
          client_id: "away",
          username: "bob",
        },
      ]);
      expect(of("on_subscribe", "away")).toEqual([
        { mountpoint: "", client_id: "away", username: "bob", topics: [["x", 1]] },
      ]);
      expect(of("on_client_wakeup", "away")).toEqual([{ mountpoint: "", client_id: "away" }]);
      expect(of("on_client_offline", "away")).toEqual([{ mountpoint: "", client_id: "away" }]);
      expect(of("on_offline_message", "away")).toEqual([
        {
          mountpoint: "",
          client_id: "away",
          topic: "x",
          payload: "offline",
          qos: 1,
          retain: false,
        },
      ]);
      expect(of("on_publish", "c")).toContainEqual({
        ...{ mountpoint: "", client_id: "c", username: "bob", topic: "x", payload: "offline" },
        ...{ qos: 1, retain: false },
      });
    }
  });
});

describe("vmq_api", () => {
  it("[check 30] disconnects clients, and says not_found of others", async () => {
    const { connect } = await startLua({
      scripts: {
        "a.lua": withHooks(
          "",
          `auth_on_publish = function(p)
             local id = { mountpoint = "", client_id = p.payload }
             vmq_api.reauthorize_subscriptions("bob", id, {})
             return { payload = vmq_api.disconnect_by_subscriber_id(id, { do_cleanup = true }) } end`,
        ),
      },
    });
    const client = await connect(BOB);
    await client.subscribeAsync("t");
    const victim = await connect({ ...BOB, clientId: "victim" });
    const closed = new Promise<void>((resolve) => victim.once("close", () => resolve()));
    const answers: string[] = [];
    client.on("message", (_, payload) => answers.push(payload.toString()));
    await client.publishAsync("t", "victim", { qos: 1 });
    await client.publishAsync("t", "nobody", { qos: 1 });
    await closed;
    await waitFor("both answers", () => answers.length === 2);
    expect(answers).toEqual(["ok", "not_found"]);
  });
});
