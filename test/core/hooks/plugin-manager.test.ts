import { mkdirSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { connectAsync, type IClientOptions, type MqttClient } from "mqtt";
import { describe, expect, it } from "vitest";
import { createBroker } from "../../../core/broker.ts";
import type { Broker } from "../../../core/broker-types.ts";
import { type AnyPlugin, definePlugin, type PluginContext } from "../../../core/plugin-api.ts";
import { startBroker, tempDir, waitFor } from "../../support/broker.ts";
import { atEnd } from "../../support/cleanup.ts";

const HEAD = `import { definePlugin } from "nautilus-mq/plugin";\n`;

function folder(files: Readonly<Record<string, string>>): string {
  const dir = tempDir();
  write(dir, files);
  return dir;
}

function write(dir: string, files: Readonly<Record<string, string>>): void {
  for (const [name, text] of Object.entries(files)) {
    mkdirSync(dirname(join(dir, name)), { recursive: true });
    writeFileSync(join(dir, name), text);
  }
}

function start(settings: Record<string, string>, plugins: readonly AnyPlugin[] = []) {
  return startBroker(settings, plugins as never, { acceptAll: false });
}

async function connect(broker: Broker, options: IClientOptions = {}): Promise<MqttClient> {
  const client = await connectAsync(`mqtt://127.0.0.1:${broker.port()}`, {
    reconnectPeriod: 0,
    ...options,
  });
  client.on("error", () => undefined);
  atEnd(() => client.endAsync(true));
  return client;
}

/** Runs an admin command; the words as typed. */
async function admin(broker: Broker, words: string): Promise<string> {
  const [command = "", ...args] = words.split(" ");
  const { stdout, stderr } = await broker.control(command, args);
  return stdout + stderr;
}

/** Answers every publish by moving it to `topic`. */
const mover = (topic: string, extra = ""): string =>
  `${HEAD}export default definePlugin({ name: "mover", ${extra} hooks: {
     auth_on_publish: async (args) => ({ ok: { topic: ${JSON.stringify(topic)} } }),
     auth_on_subscribe: () => "ok",
   } });`;

describe("settings of a plugin", () => {
  const files = {
    "index.ts": `${HEAD}export default definePlugin({
      name: "mine",
      settings: {
        level: { type: "integer", default: "3", min: 1, max: 9, live: true, doc: "Level." },
        mode: { type: "enum", values: ["a", "b"], doc: "Mode." },
      },
      hooks: ({ settings, command }) => {
        command({ path: ["mine"], usage: "mine", help: "settings", run: () => JSON.stringify(settings) });
        return {};
      },
    });`,
  };
  const on = (dir: string) => ({ "plugins.mine": "on", "plugins.mine.path": dir });

  it("are typed values with defaults, and change while the broker runs", async () => {
    const broker = await start({ ...on(folder(files)), "mine.mode": "b" });
    expect(await admin(broker, "mine")).toBe('{"level":3,"mode":"b"}\n');
    broker.set("mine.level", "7");
    expect(await admin(broker, "mine")).toBe('{"level":7,"mode":"b"}\n');
    expect(() => broker.set("mine.level", "10")).toThrow("from 1 to 9");
    expect(() => broker.set("mine.mode", "a")).toThrow("not settable");
  });

  it("are errors when unknown or wrong, all at once, with the nearest known one", async () => {
    const wrong = { "mine.levl": "1", "mine.mode": "c", "plugins.mine.on_error": "maybe" };
    const fault = await start({ ...on(folder(files)), ...wrong }).catch(String);
    expect(fault).toContain(
      "mine.levl: there is no setting with that name, did you mean mine.level",
    );
    expect(fault).toContain('mine.mode: "c" is not a valid value, allowed: a, b');
    expect(fault).toContain('plugins.mine.on_error: "maybe" is not a valid value');
  });

  it("of a plugin that is off wait until it is switched on", async () => {
    const dir = folder(files);
    const off = { "plugins.mine": "off", "plugins.mine.path": dir, "mine.level": "8" };
    const broker = await start(off);
    await broker.plugins.enable("mine");
    expect(await admin(broker, "mine")).toBe('{"level":8}\n');
    const bad = await start({ ...off, "mine.level": "88" });
    await expect(bad.plugins.enable("mine")).rejects.toThrow("mine.level");
    expect(bad.plugins.show()).toEqual([]);
  });
});

describe("plugins at start", () => {
  it("H-11 are asked by priority, then name; one that comes back goes to the end", async () => {
    const plugin = (name: string): string =>
      `${HEAD}export default definePlugin({ name: "${name}", hooks: { auth_on_publish: () => "next" } });`;
    const dir = folder({ "z.ts": plugin("z"), "a.ts": plugin("a"), "b.ts": plugin("b") });
    const settings: Record<string, string> = { "plugins.z.priority": "1" };
    for (const name of ["b", "a", "z"]) {
      settings[`plugins.${name}`] = "on";
      settings[`plugins.${name}.path`] = join(dir, `${name}.ts`);
    }
    const broker = await start(settings);
    const order = () =>
      broker.plugins.show({ hook: "auth_on_publish" }).map(({ plugin }) => plugin);
    expect(order()).toEqual(["z", "a", "b"]);
    expect(await admin(broker, "plugin disable --name=a")).toBe("Done\n");
    expect(await admin(broker, "plugin enable --name=a")).toBe("Done\n");
    expect(order()).toEqual(["z", "b", "a"]);
    const shown = await admin(broker, "plugin show --chain --hook=auth_on_publish");
    for (const name of ["Hook", "Plugin", "Answered by", "Priority", "Source"]) {
      expect(shown).toContain(name);
    }
    expect(shown).toContain(join(dir, "z.ts"));
    expect(shown).not.toContain("auth_on_publish_m5");
    expect(await admin(broker, "plugin show --plugin=z")).not.toContain(dir);
    const [row] = JSON.parse(
      await admin(broker, "plugin show --plugin=z --source --format=json"),
    ).table;
    expect(row).toMatchObject({ Plugin: "z", Source: join(dir, "z.ts") });
  });

  it("stop the start when one is missing, broken or does not start", async () => {
    const dir = folder({
      "broken.ts": "export default 1;",
      "tired.ts": `${HEAD}export default definePlugin({ name: "mine", hooks: {}, start() { throw new Error("tired") } });`,
    });
    const attempt = (path: string) =>
      start({ "plugins.mine": "on", "plugins.mine.path": path }).catch(String);
    expect(await attempt(join(dir, "gone"))).toContain(
      "--set plugins.mine: plugin_not_found: mine",
    );
    expect(await attempt(join(dir, "broken.ts"))).toMatch(/broken\.ts: its default export is not/);
    expect(await attempt(join(dir, "tired.ts"))).toMatch(/tired\.ts\) did not start: tired/);
    await expect(start({ "plugins.vmq_acll": "on" })).rejects.toThrow(
      "no plugin of that name is bundled",
    );
  });

  it("H-14 auth_plugins names plugins that are on, each once", async () => {
    const key = "listener.tcp.default.authz_plugins";
    await expect(start({ [key]: "[nobody]" })).rejects.toThrow("unknown or disabled");
    const two = [definePlugin({ name: "p1", hooks: {} }), definePlugin({ name: "p2", hooks: {} })];
    await expect(start({ [key]: "[p1, p1]" }, two)).rejects.toThrow("twice");
    await start({ [key]: "[p2, p1]" }, two);
  });
});

describe("a plugin's context", () => {
  it("publishes, receives, disconnects, counts, and ends its timers with the plugin", async () => {
    let ticks = 0;
    const got: string[] = [];
    const events: string[] = [];
    let context: PluginContext | undefined;
    const plugin = definePlugin({
      name: "mine",
      start: async (given) => {
        context = given;
        given.metrics.gauge("mine_ticks", () => ticks);
        given.setInterval(() => ++ticks, 1);
        given.setTimeout(() => Promise.reject(new Error("only logged")), 1);
        given.broker.subscribe("up/#", ({ topic, payload }) => got.push(`${topic} ${payload}`));
      },
      stop: () => void events.push("stopped"),
      hooks: () => ({
        auth_on_publish: ({ context }) => {
          context.seen = Number(context.seen ?? 0) + 1;
          return "ok";
        },
        on_client_gone: ({ context }) => void events.push(`gone after ${context.seen}`),
      }),
    });
    const broker = await start({}, [plugin]);
    const client = await connect(broker, { clientId: "c1" });
    const received: string[] = [];
    client.on("message", (topic, payload) => received.push(`${topic} ${payload}`));
    await client.subscribeAsync("down/#", { qos: 1 });
    await client.publishAsync("up/1", "a", { qos: 1 });
    await client.publishAsync("up/2", "b", { qos: 0 });
    await context?.broker.publish({ topic: "down/1", payload: "x", qos: 1 });
    await waitFor("both directions", () => got.length === 2 && received.length === 1);
    expect(got).toEqual(["up/1 a", "up/2 b"]);
    expect(received).toEqual(["down/1 x"]);
    await expect(context?.broker.publish({ topic: "a/#", payload: "" })).rejects.toThrow("topic");
    await waitFor("ticks", () => (broker.metrics().mine_ticks ?? 0) > 0);
    expect(context?.broker.disconnect("c1")).toBe(true);
    expect(context?.broker.disconnect("nobody")).toBe(false);
    await waitFor("the event", () => events.length === 1);
    expect(events).toEqual(["gone after 2"]);

    expect(broker.disablePlugin("mine")).toBe(true);
    await waitFor("stop", () => events.includes("stopped"));
    const after = ticks;
    // Made later with the same time: where it has run twice, the plugin's would have run.
    let turns = 0;
    const other = setInterval(() => ++turns, 1);
    await waitFor("two turns", () => turns >= 2);
    clearInterval(other);
    expect(ticks).toBe(after);
    expect(broker.metrics()).not.toHaveProperty("mine_ticks");
  });
});

describe("changes while the broker runs", () => {
  it("may replace its hooks while it runs, at its place, and reads the keys below a prefix", async () => {
    let context: PluginContext | undefined;
    const changing = definePlugin({
      name: "changing",
      start: (given) => {
        context = given as PluginContext;
      },
      hooks: { auth_on_publish: () => ({ error: "not_authorized" }) },
    });
    const last = definePlugin({ name: "zz_last", hooks: { auth_on_publish: () => "ok" } });
    const broker = await start({ max_inflight_messages: "7" }, [changing, last]);
    expect(context?.keysBelow("max_inflight")).toEqual(["max_inflight_messages"]);
    const client = await connect(broker, { protocolVersion: 5 });
    const publish = (): Promise<unknown> => client.publishAsync("t", "x", { qos: 1 });
    await expect(publish()).rejects.toThrow("Not authorized");
    context?.setHooks({ auth_on_subscribe: () => "ok" });
    await publish();
    expect(() => context?.setHooks({ nosuch: () => "ok" } as never)).toThrow(
      'there is no hook "nosuch"',
    );
    context?.setHooks({ auth_on_publish: () => ({ error: "quota_exceeded" }) });
    await expect(publish()).rejects.toThrow("Quota exceeded");
  });

  it("H-12 refuses to enable a plugin twice", async () => {
    const broker = await start({}, [definePlugin({ name: "mine", hooks: {} })]);
    expect(await admin(broker, "plugin enable --name=mine")).toContain(
      "Can't enable plugin: mine due to already_enabled",
    );
    expect(await admin(broker, "plugin enable")).toContain("Incomplete plugin specification");
    expect(await admin(broker, "plugin disable --name=other")).toContain(
      "Can't disable plugin: other due to plugin_not_found",
    );
  });

  it("H-13 a plugin with an unknown hook changes nothing", async () => {
    const dir = folder({
      "index.ts": `${HEAD}export default definePlugin({ name: "x", hooks: { on_pub: 1 } } as never);`,
    });
    const broker = await start({}, [
      definePlugin({ name: "mine", hooks: { on_publish: () => undefined } }),
    ]);
    const before = broker.plugins.show();
    expect(await admin(broker, `plugin enable --name=x --path=${dir}`)).toMatch(
      /Can't enable plugin: x due to .*index\.ts: .*there is no hook "on_pub"/,
    );
    expect(broker.plugins.show()).toEqual(before);
  });

  it.each([4, 5] as const)(
    "reloads under traffic of level %i: no message lost, no connection closed",
    async (protocolVersion) => {
      const dir = folder({ "index.ts": mover("one") });
      const broker = await start({ "plugins.mover": "on", "plugins.mover.path": dir });
      const got: string[] = [];
      const subscriber = await connect(broker, { protocolVersion });
      subscriber.on("message", (topic, payload) => got.push(`${topic} ${payload}`));
      await subscriber.subscribeAsync(["one", "two", "three"], { qos: 1 });
      const publisher = await connect(broker, { protocolVersion });
      let closed = 0;
      for (const client of [subscriber, publisher]) client.on("close", () => closed++);

      let sent = 0;
      let isDone = false;
      const traffic = (async () => {
        while (!isDone) {
          const batch = Array.from({ length: 20 }, () =>
            publisher.publishAsync("any", String(sent++), { qos: 1 }),
          );
          await Promise.all(batch);
        }
      })();
      await waitFor("messages of the first version", () => got.length > 100);
      write(dir, { "index.ts": mover("two") });
      await broker.plugins.reload("mover");
      await waitFor("messages of the second", () => got.some((line) => line.startsWith("two")));
      write(dir, { "index.ts": "export default {{" });
      await expect(broker.plugins.reload("mover")).rejects.toThrow("index.ts:1");
      const failing = `start() { throw new Error("no"); },`;
      write(dir, { "index.ts": mover("never", failing) });
      await expect(broker.plugins.reload("mover")).rejects.toThrow("did not start: no");
      write(dir, { "index.ts": mover("three") });
      await broker.plugins.reload("mover");
      await waitFor("messages of the third", () => got.some((line) => line.startsWith("three")));
      isDone = true;
      await traffic;
      await waitFor("all messages", () => got.length >= sent);
      expect(got.map((line) => line.split(" ")[1])).toEqual(
        Array.from({ length: sent }, (_, i) => String(i)),
      );
      expect(got.some((line) => line.startsWith("never"))).toBe(false);
      expect(closed).toBe(0);
    },
  );

  it("stops the old version after its last call has answered", async () => {
    const events: string[] = [];
    let release: (() => void) | undefined;
    const plugin = definePlugin({
      name: "slow",
      hooks: {
        auth_on_publish: async () => {
          await new Promise<void>((done) => {
            release = done;
          });
          events.push("answered");
          return "ok" as const;
        },
      },
      stop: () => void events.push("stopped"),
    });
    const broker = await start({}, [plugin]);
    const client = await connect(broker);
    const published = client.publishAsync("a", "b", { qos: 1 });
    await waitFor("the call", () => release !== undefined);
    broker.disablePlugin("slow");
    // Without a call to wait for, it would be stopped within this turn.
    await new Promise((done) => setImmediate(done));
    expect(events).toEqual([]);
    release?.();
    await published;
    await waitFor("the stop", () => events.includes("stopped"));
    expect(events).toEqual(["answered", "stopped"]);
  });
});

describe("plugin explain", () => {
  it("shows what each plugin says, without counting or changing anything", async () => {
    const broker = await start({}, [
      definePlugin({ name: "a", hooks: { auth_on_publish: () => "next" } }),
      definePlugin({
        name: "b",
        hooks: {
          auth_on_publish: async ({ topic, username, context }) => ({
            ok: { topic: `${username}/${context.tenant}/${topic}` },
          }),
        },
      }),
      definePlugin({ name: "c", hooks: { auth_on_publish: () => "ok" } }),
    ]);
    const explained = await broker.plugins.explain({
      hook: "auth_on_publish_m5",
      topic: "t",
      username: "ada",
      context: { tenant: 7 },
    });
    expect(explained).toMatchObject({
      hook: "auth_on_publish_m5",
      result: "ok",
      links: [
        { plugin: "a", verdict: "next" },
        { plugin: "b", verdict: "ok", detail: { topic: "ada/7/t" } },
        { plugin: "c", verdict: "not asked" },
      ],
    });
    expect(broker.metrics().plugin_hook_calls).toBe(0);
    const text = await admin(broker, "plugin explain hook=auth_on_publish topic=t username=ada");
    expect(text).toMatch(/b .* ok .* {"topic":"ada\/undefined\/t"} .* ms/);
    expect(text).toContain("auth_on_publish: ok");
    expect(await admin(broker, "plugin explain hook=on_publish")).toContain("none of auth_on_reg");
  });

  it("tells failures, refusals and the end of the chain apart", async () => {
    const broker = await start({ "plugins.late.hook_timeout": "20" }, [
      definePlugin({
        name: "late",
        onError: "next",
        hooks: { auth_on_publish: () => new Promise<never>(() => undefined) },
      }),
      definePlugin({
        name: "no",
        hooks: { auth_on_subscribe: () => ({ error: "quota_exceeded" }) },
      }),
    ]);
    expect(await broker.plugins.explain({ hook: "auth_on_publish" })).toMatchObject({
      result: "plugin_error",
      links: [{ verdict: "failed", detail: "no answer within 20 ms" }],
    });
    expect((await broker.plugins.explain({ hook: "auth_on_subscribe" })).result).toBe(
      "quota_exceeded",
    );
    expect((await broker.plugins.explain({ hook: "auth_on_register" })).result).toBe(
      "no_matching_hook_found",
    );
  });
});

describe("vmq_acl and vmq_passwd", () => {
  it("come with `on` in an embedded broker; live settings count at once", async () => {
    const acl = join(folder({ "a.acl": "topic read r\n" }), "a.acl");
    const broker = await start({ "plugins.vmq_acl": "on", "vmq_acl.acl_file": acl });
    const client = await connect(broker, { protocolVersion: 5 });
    await expect(client.subscribeAsync("w")).rejects.toThrow();
    expect(await admin(broker, "acl test access=read topic=r")).toBe(
      `ok: ${acl}:1: topic read r\n`,
    );
    expect(await admin(broker, "acl test topic=r")).toContain("no line of");
    const other = join(folder({ "b.acl": "topic w\n" }), "b.acl");
    broker.set("vmq_acl.acl_file", other);
    await waitFor("the other file", async () =>
      (await admin(broker, "acl test topic=w")).startsWith(`ok: ${other}:1`),
    );
    await client.subscribeAsync("w");
  });

  it("an ACL file that is missing or broken stops the start", async () => {
    const dir = folder({ "broken.acl": "what is this\n" });
    for (const name of ["gone.acl", "broken.acl"]) {
      const settings = { "plugins.vmq_acl": "on", "vmq_acl.acl_file": join(dir, name) };
      await expect(start(settings)).rejects.toThrow(new RegExp(`acl_file: .*${name}`));
    }
  });

  it("warns about a plugin behind the rules that allow everything", async () => {
    const late = definePlugin({ name: "zz_late", hooks: { auth_on_publish: () => "ok" } });
    const broker = await start({ "plugins.vmq_acl": "on" }, [late]);
    expect(broker.plugins.unreachable()).toEqual([
      {
        hook: "auth_on_publish",
        plugin: "zz_late",
        behind: "vmq_acl",
        why: "allows everything while vmq_acl.acl_file is not set",
      },
      expect.objectContaining({ hook: "auth_on_publish_m5", plugin: "zz_late" }),
    ]);
  });

  it("two brokers of one process have files of their own", async () => {
    const dir = folder({ "1.acl": "topic one\n", "2.acl": "topic two\n" });
    const [one, two] = await Promise.all(
      ["1.acl", "2.acl"].map((name) =>
        start({ "plugins.vmq_acl": "on", "vmq_acl.acl_file": join(dir, name) }),
      ),
    );
    expect(await admin(one as Broker, "acl test topic=one")).toContain("1.acl:1");
    expect(await admin(two as Broker, "acl test topic=one")).toContain("no line of");
  });

  it("a configuration file switches them on by default", async () => {
    const dir = folder({ "v.conf": "listener.tcp.default = 127.0.0.1:0\nallow_anonymous = on\n" });
    const broker = await createBroker({ configFile: join(dir, "v.conf"), logLevel: "silent" });
    atEnd(() => broker.close());
    const names = new Set(broker.plugins.show().map(({ plugin }) => plugin));
    expect([...names].sort()).toEqual(["vmq_acl", "vmq_passwd"]);
  });
});
