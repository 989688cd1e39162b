import { describe, expect, test } from "vitest";
import { createBroker } from "../../core/broker.ts";
import { loadConfig } from "../../core/config/load.ts";
import type { Config } from "../../core/config/types.ts";
import type { HookError, Plugin, RegisterModifiers } from "../../core/hooks/types.ts";
import { createLogger } from "../../core/logger.ts";
import { startBroker } from "../support/broker.ts";
import { atEnd } from "../support/cleanup.ts";
import { pluginWith, recordingPlugin } from "../support/plugins.ts";
import { connectClient, openClient, type Version } from "../support/raw-client.ts";
import { persistent } from "../support/sessions.ts";

/** Checks of registration, chains of listeners and failing plugins (H-03 … H-16, H-34, H-47, H-48). */

const ASK = { allow_anonymous: "off" };
const BARE = { acceptAll: false };

type Answer = "ok" | "next" | { ok: RegisterModifiers } | { error: HookError };

/** A plugin that answers every registration alike. */
function registering(answer: Answer | (() => Answer), name = "judge"): Plugin {
  const give = () => (typeof answer === "function" ? answer() : answer);
  return pluginWith({ auth_on_register: give, auth_on_register_m5: give }, name);
}

/** CONNECT with both versions must be refused with these codes. */
async function refusedWith(plugins: readonly Plugin[], v4: number, v5: number): Promise<void> {
  const broker = await startBroker(ASK, plugins, BARE);
  await (await openClient(broker, 4)).refused({ clientId: "c" }, v4);
  await (await openClient(broker, 5)).refused({ clientId: "c" }, v5);
}

describe("refusals", () => {
  test("H-03 no plugin, or all next: CONNACK 5, in MQTT 5 0x86", async () => {
    await refusedWith([], 5, 0x86);
    await refusedWith([registering("next", "a"), registering("next", "b")], 5, 0x86);
  });

  test("H-04 a bare word is a refusal: CONNACK 5", async () => {
    await refusedWith([registering("foo" as "ok")], 5, 0x86);
  });

  test("H-05 invalid_credentials: CONNACK 4, in MQTT 5 0x86", async () => {
    await refusedWith([registering({ error: "invalid_credentials" })], 4, 0x86);
  });

  test("H-06 a reason code with properties: 0x97 with the reason string alone", async () => {
    const properties = { p_reason_string: "q", p_user_property: [{ key: "k", val: "v" }] };
    for (const reason_code of ["quota_exceeded", 0x97]) {
      const broker = await startBroker(ASK, [registering({ error: { reason_code, properties } })]);
      const client = await openClient(broker, 5);
      await client.refused({ clientId: "c" }, 0x97, { exactProperties: { reasonString: "q" } });
    }
  });

  test("an unknown modifier refuses the client, whatever comes behind", async () => {
    const wrong = { thorttle: 5 } as RegisterModifiers;
    await refusedWith([registering({ ok: wrong }), registering("ok", "later")], 5, 0x86);
  });
});

describe("modifiers of the identity", () => {
  test.each([4, 5] as const)(
    "H-07 v%i subscriber_id: later hooks see the new one",
    async (version) => {
      const recorder = recordingPlugin();
      const id = { mountpoint: "newmp", client_id: "changed-client-id" };
      const broker = await startBroker(ASK, [
        recorder.plugin,
        registering({ ok: { subscriber_id: id } }),
      ]);
      await connectClient(broker, version, { clientId: "c" });
      const hook = version === 5 ? "on_register_m5" : "on_register";
      expect((await recorder.wait(hook)).subscriber_id).toEqual(id);
      expect(broker.sessions()).toMatchObject([
        { client_id: "changed-client-id", mountpoint: "newmp" },
      ]);
    },
  );

  test.each([4, 5] as const)(
    "H-08 v%i username: on_register and publish hooks see the new one",
    async (version) => {
      const recorder = recordingPlugin();
      const broker = await startBroker(ASK, [
        recorder.plugin,
        registering({ ok: { username: "new" } }),
      ]);
      for (const username of ["old", undefined]) {
        recorder.clear();
        const options = username === undefined ? {} : { username };
        const client = await connectClient(broker, version, { clientId: "c", ...options });
        const hook = version === 5 ? "on_register_m5" : "on_register";
        expect((await recorder.wait(hook)).username).toBe("new");
        await client.published({ topic: "a" });
        const asked = recorder.of(version === 5 ? "auth_on_publish_m5" : "auth_on_publish");
        expect(asked[0]?.username).toBe("new");
      }
    },
  );

  test("an assigned client id that a hook replaces is told in CONNACK", async () => {
    const broker = await startBroker(ASK, [
      registering({ ok: { subscriber_id: { mountpoint: "", client_id: "mine" } } }),
    ]);
    const client = await openClient(broker, 5);
    const connack = await client.connected({ clientId: "" });
    expect(connack.properties?.assignedClientIdentifier).toBe("mine");
  });
});

describe("anonymous clients", () => {
  test("H-09 allow_anonymous = on: the register hook is not called, on_register gets the user name", async () => {
    const recorder = recordingPlugin();
    const broker = await startBroker({}, [
      recorder.plugin,
      registering({ error: "invalid_credentials" }),
    ]);
    await connectClient(broker, 4, { clientId: "c", username: "u", password: "wrong" });
    expect((await recorder.wait("on_register")).username).toBe("u");
    expect(recorder.names("auth_on_register", "auth_on_register_m5")).toEqual([]);
  });

  test("H-10 the listener's override and the global switch are joined with or", async () => {
    const override = "listener.tcp.default.allow_anonymous_override";
    for (const [global, listener, isAccepted] of [
      ["off", "on", true],
      ["on", "off", true],
      ["off", "off", false],
    ] as const) {
      const settings = { allow_anonymous: global, [override]: listener };
      const broker = await startBroker(settings, [registering({ error: "no" })]);
      const client = await openClient(broker, 4);
      if (isAccepted) await client.connected({ clientId: "c" });
      else await client.refused({ clientId: "c" }, 5);
    }
  });

  test("allow_anonymous = hooks: a plugin that fails is no reason to accept, whatever its on_error", async () => {
    const fail = () => {
      throw new Error("down");
    };
    for (const onError of ["deny", "next"] as const) {
      const plugin = { ...registering(fail as () => Answer), onError };
      const broker = await startBroker({ allow_anonymous: "hooks" }, [plugin], BARE);
      await (await openClient(broker, 4)).refused({ clientId: "c" }, 3);
      await (await openClient(broker, 5)).refused({ clientId: "c" }, 0x83);
    }
  });
});

describe("chains of a listener", () => {
  const chain = "listener.tcp.default.auth_plugins";
  const authz = "listener.tcp.default.authz_plugins";

  /** Plugins that note their name when asked to register. */
  function noting(order: string[], ...names: string[]): Plugin[] {
    return names.map((name) =>
      registering(() => {
        order.push(name);
        return "next";
      }, name),
    );
  }

  test("H-14 auth_plugins are asked in the order written, the others not at all", async () => {
    const order: string[] = [];
    const broker = await startBroker(
      { ...ASK, [chain]: "[c, a]" },
      noting(order, "a", "b", "c"),
      BARE,
    );
    await (await openClient(broker, 4)).refused({ clientId: "c" }, 5);
    await (await openClient(broker, 5)).refused({ clientId: "c" }, 0x86);
    expect(order).toEqual(["c", "a", "c", "a"]);
  });

  test("H-14 an unknown or repeated member is a configuration error", async () => {
    for (const list of ["[a, unknown]", "[a, a]"]) {
      const started = createBroker({
        settings: { "listener.tcp.default": "127.0.0.1:0", [chain]: list },
        plugins: noting([], "a"),
      });
      await expect(started, list).rejects.toThrow(/auth_plugins/);
    }
  });

  test("an empty list refuses everybody", async () => {
    const broker = await startBroker({ ...ASK, [chain]: "[]" }, [registering("ok")]);
    await (await openClient(broker, 4)).refused({ clientId: "c" }, 5);
  });

  test("H-15 forward_connection_opts = on: plugins that do not look at it are called as ever", async () => {
    const settings = {
      ...ASK,
      [chain]: "[judge]",
      "listener.tcp.default.forward_connection_opts": "on",
    };
    const seen: unknown[] = [];
    const judge: Plugin = {
      name: "judge",
      hooks: {
        auth_on_register: ({ connection_meta }) => {
          seen.push(connection_meta);
          return "ok";
        },
      },
    };
    const broker = await startBroker(settings, [judge]);
    await connectClient(broker, 4);
    expect(seen).toEqual([{ listener_addr: "127.0.0.1", listener_port: 0, listener_type: "mqtt" }]);
  });

  test.each([3, 4, 5] as const)(
    "H-16 v%i PUBLISH, will and SUBSCRIBE ask the authz_plugins alone",
    async (version) => {
      const asked: string[] = [];
      const judge = (name: string, answer: "ok" | { error: string }): Plugin => {
        const give = (what: string) => () => {
          asked.push(`${name} ${what}`);
          return answer;
        };
        return {
          name,
          hooks: {
            auth_on_publish: give("publish"),
            auth_on_publish_m5: give("publish"),
            auth_on_subscribe: give("subscribe"),
            auth_on_subscribe_m5: give("subscribe"),
          },
        };
      };
      const broker = await startBroker(
        { [authz]: "[A]" },
        [judge("A", "ok"), judge("B", { error: "no" })],
        BARE,
      );
      const client = await connectClient(broker, version, { clientId: "c", will: { topic: "w" } });
      await client.subscribed("s");
      await client.published({ topic: "a", qos: 1 });
      await client.published({ topic: "b" });
      expect(asked).toEqual(["A publish", "A subscribe", "A publish", "A publish"]);
    },
  );
});

describe("a broker run from a configuration, without any plugin", () => {
  test("publish, will and subscribe find no hook and are refused, as in VerneMQ", async () => {
    const { config } = loadConfig({
      isEmbedded: true,
      values: {
        allow_anonymous: "on",
        "store.type": "memory",
        "listener.tcp.default": "127.0.0.1:0",
      },
    });
    const logger = createLogger({ level: "silent" });
    const broker = await createBroker({ config: config as Config, logger });
    atEnd(() => broker.close());
    const client = await connectClient(broker, 5);
    expect(await client.subscribed(["a", "b"])).toEqual([0x87, 0x87]);
    const packetId = client.publish({ topic: "a", qos: 1 });
    await client.expect("puback", { packetId, code: 0x87 });
    await (await openClient(broker, 5)).refused({ clientId: "w", will: { topic: "w" } }, 0x87);
    const old = await connectClient(broker, 4);
    expect(await old.subscribed("a")).toEqual([0x80]);
    old.publish({ topic: "a" });
    await old.closed();
  });
});

describe("enhanced authentication", () => {
  const method = "method1";
  const auth = pluginWith({
    on_auth_m5: ({ properties }) => {
      const data = properties.p_authentication_data?.toString();
      const answer = (text: string) => ({
        p_authentication_method: method,
        p_authentication_data: Buffer.from(text),
      });
      if (data === "client1") {
        return { ok: { reason_code: "continue_authentication", properties: answer("server1") } };
      }
      if (data === "client2") return { ok: { reason_code: 0, properties: answer("server2") } };
      const reason_string = `Bad authentication data: ${data}`;
      return { error: { reason_code: "not_authorized", reason_string } };
    },
  });
  const give = (data: string) => ({
    authenticationMethod: method,
    authenticationData: Buffer.from(data),
  });

  test("H-34 continue, success, and a refused re-authentication", async () => {
    const broker = await startBroker({}, [auth]);
    const client = await openClient(broker, 5);
    client.connect({ clientId: "c", properties: give("client1") });
    await client.expect("auth", { code: 0x18, exactProperties: give("server1") });
    client.auth(0x18, give("client2"));
    await client.expect("connack", { code: 0, properties: give("server2") });
    client.auth(0x19, give("baddata"));
    await client.ended(0x87, { properties: { reasonString: "Bad authentication data: baddata" } });
  });

  test("an answer with another method than the client's is refused", async () => {
    const wrong = pluginWith({
      on_auth_m5: () => ({ ok: { properties: { p_authentication_method: "other" } } }),
    });
    const broker = await startBroker({}, [wrong]);
    const client = await openClient(broker, 5);
    await client.refused({ clientId: "c", properties: { authenticationMethod: method } }, 0x83);
  });

  test("a method that nobody knows: 0x8C at CONNECT, as DISCONNECT 0x87 later", async () => {
    let isKnown = true;
    const once = pluginWith({ on_auth_m5: () => (isKnown ? "ok" : "next") });
    const broker = await startBroker({}, [once]);
    const client = await openClient(broker, 5);
    await client.connected({ clientId: "c", properties: { authenticationMethod: method } });
    isKnown = false;
    await (await openClient(broker, 5)).refused(
      { properties: { authenticationMethod: method } },
      0x8c,
    );
    client.auth(0x19, { authenticationMethod: method });
    await client.ended(0x87);
  });
});

describe("plugins that fail", () => {
  const FAILURES: [string, () => never | Promise<never>][] = [
    [
      "throws",
      () => {
        throw new Error("boom");
      },
    ],
    ["rejects", () => Promise.reject(new Error("boom"))],
    ["never answers", () => new Promise(() => {})],
  ];

  test.each(FAILURES)(
    "H-47 a plugin that %s: a refusal, and nobody else notices",
    async (_, fail) => {
      const hook = ({ username }: { username: string | undefined }) =>
        username === "bad" ? fail() : ("ok" as const);
      const plugin: Plugin = {
        name: "fragile",
        hookTimeoutMs: 100,
        hooks: { auth_on_register: hook, auth_on_register_m5: hook },
      };
      const broker = await startBroker(ASK, [plugin]);
      const other = await connectClient(broker, 4, { clientId: "other" });
      for (const [version, code] of [
        [3, 3],
        [4, 3],
        [5, 0x83],
      ] as [Version, number][]) {
        const client = await openClient(broker, version);
        await client.refused({ clientId: "c", username: "bad", password: "p" }, code);
      }
      await other.ping();
      await connectClient(broker, 5, { clientId: "late" });
    },
  );

  test("H-47 the log names the plugin and its hook", async () => {
    const lines: string[] = [];
    const answers: Answer[] = [{ ok: { thorttle: 5 } as RegisterModifiers }];
    const plugin = registering(() => {
      const answer = answers.pop();
      if (answer !== undefined) return answer;
      throw new Error("boom");
    }, "fragile");
    const { config } = loadConfig({
      isEmbedded: true,
      values: { ...ASK, "store.type": "memory", "listener.tcp.default": "127.0.0.1:0" },
      plugins: ["fragile"],
    });
    const destination = { write: (line: string) => lines.push(line) };
    const logger = createLogger({ level: "error", format: "json", destination });
    const broker = await createBroker({
      config: config as Config,
      logger,
      plugins: [{ definition: plugin }],
    });
    atEnd(() => broker.close());
    await (await openClient(broker, 4)).refused({ clientId: "c" }, 5);
    await (await openClient(broker, 4)).refused({ clientId: "c" }, 3);
    expect(lines.map((line) => JSON.parse(line))).toMatchObject([
      {
        plugin: "fragile",
        hook: "auth_on_register",
        cause: expect.stringContaining("thorttle is no modifier of auth_on_register; allowed: "),
      },
      { plugin: "fragile", hook: "auth_on_register", cause: "boom" },
    ]);
  });

  test.each([3, 4] as const)(
    "H-48 v%i refused will: CONNACK 5, no on_register, the old session stays",
    async (version) => {
      await refusedWill(version, 5);
    },
  );

  test("H-48 v5 refused will: CONNACK 0x87, no on_register_m5, the old session stays", async () => {
    await refusedWill(5, 0x87);
  });

  async function refusedWill(version: Version, code: number): Promise<void> {
    const recorder = recordingPlugin();
    const deny = ({ topic }: { topic: string }) =>
      topic === "forbidden" ? ({ error: "not_authorized" } as const) : ("next" as const);
    const broker = await startBroker({}, [
      recorder.plugin,
      pluginWith({ auth_on_publish: deny, auth_on_publish_m5: deny }),
    ]);
    const old = await connectClient(broker, version, persistent(version, "c"));
    recorder.clear();
    const second = await openClient(broker, version);
    await second.refused({ ...persistent(version, "c"), will: { topic: "forbidden" } }, code);
    await old.ping();
    expect(
      recorder.names("on_register", "on_register_m5", "on_client_offline", "on_client_wakeup"),
    ).toEqual([]);
  }
});
