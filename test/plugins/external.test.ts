import { spawn, spawnSync } from "node:child_process";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { freePort, tempDir, waitFor } from "../support/broker.ts";
import { built } from "../support/build.ts";
import { atEnd } from "../support/cleanup.ts";
import { requireTool } from "../support/tools.ts";

const hasMosquitto = requireTool("mosquitto_pub", "mosquitto-clients");
beforeAll(() => built());

/** As plugins/README.md teaches, in several files. */
const PLUGIN = {
  "index.ts": `import { definePlugin } from "nautilus-mq/plugin";
import { shout } from "./words.ts";

interface Level { readonly name: string }

export default definePlugin({
  name: "house",
  settings: { user: { type: "string", default: "ada", doc: "Who may come in." } },
  hooks: ({ settings, log }) => ({
    auth_on_register({ username, password, context }) {
      if (username !== settings.user) return "next";
      if (password?.toString() !== "secret") return { error: "invalid_credentials" };
      context.level = { name: "guest" } satisfies Level;
      log.info("welcome");
      return "ok";
    },
    auth_on_publish: ({ topic, payload, context }) =>
      ({ ok: { topic: \`\${(context.level as Level).name}/\${topic}\`, payload: shout(payload) } }),
    auth_on_subscribe: () => "ok",
  }),
});
`,
  "words.ts": `export const shout = (text: Buffer): string => text.toString().toUpperCase() + "!";\n`,
};

interface Run {
  output(): string;
  readonly port: number;
  readonly folder: string;
  write(name: string, text: string): void;
  admin(...words: string[]): string;
  stop(): Promise<number | null>;
}

/** The real broker over a conf file, with the plugin in a folder that knows nothing of this repository. */
async function start(more = "", flags: string[] = []): Promise<Run> {
  const main = await built();
  const dir = tempDir();
  const folder = join(dir, "house plugin");
  const port = await freePort();
  mkdirSync(folder);
  const write = (name: string, text: string): void => writeFileSync(join(folder, name), text);
  for (const [name, text] of Object.entries(PLUGIN)) write(name, text);
  writeFileSync(
    join(dir, "vernemq.conf"),
    `listener.tcp.default = 127.0.0.1:${port}\nallow_anonymous = off\n` +
      `plugins.house = on\nplugins.house.path = ./house plugin\nplugins.house.priority = 1\n${more}`,
  );
  const args = [main, "--config", "vernemq.conf", "--data-dir", "data", "console", ...flags];
  const child = spawn(process.execPath, args, {
    cwd: dir,
    stdio: ["ignore", "pipe", "pipe", "ipc"],
  });
  let output = "";
  for (const stream of [child.stdout, child.stderr]) {
    stream?.on("data", (data: Buffer) => {
      output += data.toString();
    });
  }
  const ended = new Promise<number | null>((done) => child.once("exit", done));
  atEnd(async () => {
    child.kill("SIGKILL");
    await ended;
  });
  const isReady = await Promise.race([
    new Promise<true>((done) => child.once("message", () => done(true))),
    ended.then(() => false),
  ]);
  const run: Run = {
    port,
    folder,
    write,
    output: () => output,
    admin: (...words) => {
      const tool = join(main, "../admin/main.js");
      const env = { ...process.env, NAUTILUS_DATA_DIR: join(dir, "data") };
      const { stdout, stderr } = spawnSync(process.execPath, [tool, ...words], {
        env,
        encoding: "utf8",
      });
      return stdout + stderr;
    },
    stop: () => {
      child.kill("SIGTERM");
      return ended;
    },
  };
  if (!isReady) throw new Error(output);
  return run;
}

type Version = "mqttv311" | "mqttv5";

function client(run: Run, version: Version, password = "secret"): string[] {
  const who = ["-u", "ada", "-P", password, "-V", version];
  return ["-h", "127.0.0.1", "-p", String(run.port), ...who];
}

function publish(run: Run, version: Version, text: string, password?: string): number | null {
  const args = [...client(run, version, password), "-t", "news", "-m", text, "-q", "1"];
  return spawnSync("mosquitto_pub", args, { timeout: 10_000 }).status;
}

/** Lines `topic payload` that mosquitto_sub prints. */
async function listen(run: Run, version: Version): Promise<() => string[]> {
  const args = [...client(run, version), "-t", "#", "-q", "1", "-v", "-d"];
  // Into a pipe it would print when its buffer is full.
  const child = spawn("stdbuf", ["-oL", "mosquitto_sub", ...args]);
  let printed = "";
  child.stdout.on("data", (data: Buffer) => {
    printed += data.toString();
  });
  atEnd(() => child.kill("SIGKILL"));
  await waitFor("the subscription", () => printed.includes("SUBACK"));
  return () => printed.split("\n").filter((line) => /^(guest|host)\//.test(line));
}

describe.skipIf(!hasMosquitto)("a TypeScript plugin outside of the repository", () => {
  it.each(["mqttv311", "mqttv5"] as const)(
    "authorises %s clients, rewrites topics and payloads, is reloaded and broken on purpose",
    async (version) => {
      const run = await start("house.user = ada\n");
      const heard = await listen(run, version);
      expect(publish(run, version, "hello")).toBe(0);
      expect(publish(run, version, "hello", "wrong")).not.toBe(0);
      await waitFor("the message", () => heard().length === 1);
      expect(heard()).toEqual(["guest/news HELLO!"]);
      expect(run.admin("plugin", "show", "--plugin=house")).toContain("house:auth_on_register/5");

      run.write("words.ts", `export const shout = (text: Buffer): string => text + "?";\n`);
      expect(run.admin("plugin", "reload", "--name=house")).toBe("Done\n");
      expect(publish(run, version, "well")).toBe(0);
      run.write("words.ts", "export const shot = 1;\n");
      expect(run.admin("plugin", "reload", "--name=house")).toMatch(/does not provide .* 'shout'/);
      run.write("words.ts", `export const shout = (): never => { throw new Error("oh") };\n`);
      expect(publish(run, version, "still")).toBe(0);
      expect(run.admin("plugin", "reload", "--name=house")).toBe("Done\n");
      // on_error = deny: the publish is refused, nobody else notices
      publish(run, version, "lost");
      run.write("words.ts", `export const shout = (text: Buffer) => text;\n`);
      expect(run.admin("plugin", "reload", "--name=house")).toBe("Done\n");
      expect(publish(run, version, "back")).toBe(0);
      await waitFor("the last message", () => heard().length >= 4);
      expect(heard()).toEqual([
        "guest/news HELLO!",
        "guest/news well?",
        "guest/news still?",
        "guest/news back",
      ]);
      await waitFor("the line about the failure", () =>
        /plugin call failed.*plugin=house.*cause=oh/.test(run.output()),
      );
      expect(await run.stop()).toBe(0);
    },
  );

  it("is loaded again when a file is saved, with --watch", async () => {
    const run = await start("", ["--watch"]);
    const heard = await listen(run, "mqttv5");
    expect(publish(run, "mqttv5", "a")).toBe(0);
    run.write("words.ts", "oops(\n");
    await waitFor("the complaint", () => run.output().includes("plugin not reloaded"));
    run.write("words.ts", `export const shout = (text: Buffer) => "new " + text;\n`);
    await waitFor("the reload", () => run.output().includes("plugin reloaded"));
    expect(publish(run, "mqttv5", "b")).toBe(0);
    await waitFor("both", () => heard().length === 2);
    expect(heard()).toEqual(["guest/news A!", "guest/news new b"]);
  });

  it("that is wrong stops the start, with file, line and the nearest setting or hook", async () => {
    await expect(start("house.usr = bob\n")).rejects.toThrow(
      "vernemq.conf:6: house.usr: there is no setting with that name, did you mean house.user?",
    );
    await expect(start("plugins.other = on\nplugins.other.path = ./nowhere\n")).rejects.toThrow(
      'vernemq.conf:6: plugins.other: plugin_not_found: other: "./nowhere"',
    );
  });
});

describe("vmq_acl and vmq_passwd of a broker with a configuration", () => {
  it("are on by default and say once what they do without files", async () => {
    const run = await start();
    await waitFor("the notices", () => /there are no users/.test(run.output()));
    expect(run.output().match(/no vmq_acl.acl_file is set/g)).toHaveLength(1);
    expect(run.output().match(/there are no users/g)).toHaveLength(1);
    expect(run.admin("acl", "test", "topic=a")).toContain("ok: bundled rules:1");
    expect(await run.stop()).toBe(0);
  });

  it("an ACL file that is not there stops the start", async () => {
    await expect(start("vmq_acl.acl_file = ./gone.acl\n")).rejects.toThrow("gone.acl");
  });

  it("without any plugin for it, publishing is refused as in VerneMQ", async () => {
    const run = await start("plugins.vmq_acl = off\nallow_anonymous = on\n");
    run.write(
      "index.ts",
      `import { definePlugin } from "nautilus-mq/plugin";
export default definePlugin({ name: "house", hooks: {} });`,
    );
    run.admin("plugin", "reload", "--name=house");
    const args = ["-p", String(run.port), "-t", "a", "-m", "b", "-q", "1", "-V", "mqttv5"];
    const { stdout, stderr } = spawnSync("mosquitto_pub", [...args, "-d"], { encoding: "utf8" });
    expect(stdout + stderr).toMatch(/PUBACK \(Mid: 1, RC:135\)|not authorized/i);
  });
});
