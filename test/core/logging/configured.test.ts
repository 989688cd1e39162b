import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { gunzipSync } from "node:zlib";
import { connectAsync, type IClientOptions } from "mqtt";
import { describe, expect, it } from "vitest";
import { createBroker } from "../../../core/broker.ts";
import type { Broker } from "../../../core/broker-types.ts";
import { loadConfig } from "../../../core/config/load.ts";
import { createLogger } from "../../../core/logger.ts";
import { configuredHandlers } from "../../../core/logging/configured.ts";
import { acceptingPlugin, tempDir, waitFor } from "../../support/broker.ts";
import { atEnd } from "../../support/cleanup.ts";

/** A broker with the logs of a configuration; what goes to the standard output is kept. */
async function start(settings: Readonly<Record<string, string>>) {
  const folder = tempDir();
  const values = {
    "listener.tcp.default": "127.0.0.1:0",
    "store.type": "memory",
    allow_anonymous: "on",
    ...settings,
  };
  const { config, errors } = loadConfig({ isEmbedded: true, values, cwd: folder });
  if (config === undefined) throw new Error(errors.join("\n"));
  const console: string[] = [];
  const logger = createLogger({
    level: "info",
    handlers: configuredHandlers(config, {
      write: (line) => console.push(line),
      close: () => Promise.resolve(),
    }),
  });
  const broker = await createBroker({
    config,
    logger,
    plugins: [{ definition: acceptingPlugin, file: undefined }],
  });
  atEnd(async () => {
    await broker.close();
    await logger.close();
  });
  return { broker, logger, console, folder };
}

async function connect(broker: Broker, options: IClientOptions) {
  const client = await connectAsync(`mqtt://127.0.0.1:${broker.port()}`, {
    reconnectPeriod: 0,
    ...options,
  });
  atEnd(() => client.endAsync(true));
  return client;
}

const BOB = { clientId: "c1", username: "bob", password: "geheim123" };

describe("logs of a configuration", () => {
  it("on the standard output as JSON: one line for a connect, one for a disconnect with the reason (check 29)", async () => {
    const { broker, console } = await start({
      "log.console": "console",
      "log.console.console.format": "json",
    });
    const client = await connect(broker, BOB);
    await client.publishAsync("t", "inhalt456", { qos: 1 });
    await client.endAsync();
    const lines = () => console.map((line): Record<string, unknown> => JSON.parse(line));
    const of = (msg: string) => lines().filter((line) => line.msg === msg);
    await waitFor("it is gone", () => of("client disconnected").length === 1);
    expect(of("client connected")).toMatchObject([
      {
        level: "info",
        client_id: "c1",
        username: "bob",
        listener: "tcp.default",
        protocol: 4,
        session_present: false,
      },
    ]);
    expect(of("client disconnected")[0]).toMatchObject({ client_id: "c1", username: "bob" });
    expect(of("client disconnected")[0]?.reason).toBeTruthy();
    for (const line of lines()) expect(line.time).toBeTypeOf("number");
    expect(console.join("")).not.toMatch(/geheim123|inhalt456/);
  });

  it("have levels that `log level` changes (check 30)", async () => {
    const { broker, console } = await start({
      "log.console": "console",
      "log.console.level": "warning",
    });
    await connect(broker, BOB);
    expect(console.join("")).not.toContain("client connected");
    const set = (level: string) =>
      broker.control("log", ["level", "logger=console", `level=${level}`]);
    expect((await set("info")).stdout).toBe("Done\n");
    await connect(broker, { clientId: "c2" });
    expect(console.join("")).toContain("client connected client_id=c2");
    const shown = await broker.control("log", ["show", "config", "--format=json"]);
    expect(JSON.parse(shown.stdout).table).toEqual([
      { logger: "console", level: "info", type: "standard_io", file: "-" },
      expect.objectContaining({ logger: "default", level: "error", type: "file" }),
    ]);
    expect(await set("nosuch")).toMatchObject({ exit: 1 });
    const other = await broker.control("log", ["level", "logger=x", "level=info"]);
    expect(other.stdout).toContain("there is no log x");
  });

  it("have errors in a file of their own, with the console off (check 31), and other lines in another", async () => {
    const { logger, console, folder } = await start({
      "log.console": "off",
      "log.error.file": "./log/err.log",
    });
    logger.warn("a warning");
    logger.error("an error", { n: 1 });
    await logger.close();
    const text = readFileSync(join(folder, "log", "err.log"), "utf8");
    expect(text).toMatch(/^\d{4}-\d\d-\d\dT[\d:]{8}\.\d{6}\+00:00 \[error\] <\d+> an error n=1\n$/);
    expect(console).toEqual([]);
    const file = await start({
      "log.console": "both",
      "log.template": "simple",
      "log.error": "off",
    });
    file.logger.info("to both");
    await file.logger.close();
    expect(readFileSync(join(file.folder, "log", "console.log"), "utf8")).toMatch(
      /\+00:00 info: to both\n$/,
    );
    expect(file.console.at(-1)).toContain("to both");
    expect(existsSync(join(file.folder, "log", "error.log"))).toBe(false);
  });

  it("obey log.level for all, and name refusals with client and cause, at most so many", async () => {
    const { broker, console } = await start({ "log.console": "console", allow_anonymous: "off" });
    broker.enablePlugin({
      name: "a_guard",
      hooks: { auth_on_register: () => ({ error: "invalid_credentials" }) },
    });
    broker.disablePlugin(acceptingPlugin.name);
    for (let attempt = 0; attempt < 30; attempt++) {
      await expect(connect(broker, { ...BOB, clientId: `no${attempt}` })).rejects.toThrow();
    }
    const refused = console.filter((line) => line.includes("client refused"));
    expect(refused[0]).toMatch(
      /client refused client_id=no0 username=bob peer=\S+ reason=invalid_credentials/,
    );
    expect(refused.length).toBeLessThan(30);
    expect(console.join("")).not.toContain("geheim123");
    const quiet = await start({ "log.console": "console", "log.level": "error" });
    quiet.logger.warn("no");
    expect(quiet.console).toEqual([]);
  });

  it("write a fault of the broker to the crash log at once where log.crash is on, and rotate it", async () => {
    const { logger, folder } = await start({
      "log.console": "off",
      "log.crash": "on",
      "log.crash.file": "./log/crash.log",
      "log.crash.rotation.size": "1KB",
      "log.crash.rotation.keep": "2",
      "log.crash.rotation.compress_on_rotate": "on",
    });
    const crash = join(folder, "log", "crash.log");
    logger.error("of the configuration, or a plugin's");
    expect(existsSync(crash)).toBe(false);
    logger.fault("internal error", new Error("boom"), { client_id: "c1" });
    expect(readFileSync(crash, "utf8")).toMatch(
      /\[critical\] .*internal error client_id=c1 .*boom/,
    );
    logger.lastWords("the end", new Error("the last"));
    // The error log has it too, without waiting for its stream.
    expect(readFileSync(join(folder, "log", "error.log"), "utf8")).toContain("the last");
    for (let round = 0; round < 12; round++) logger.fault("again", new Error("boom"));
    const names = readdirSync(join(folder, "log")).filter((name) => name.startsWith("crash"));
    expect(names.sort()).toEqual(["crash.log", "crash.log.0.gz", "crash.log.1.gz"]);
    expect(gunzipSync(readFileSync(`${crash}.0.gz`)).toString()).toContain("again");
    const without = await start({ "log.console": "off" });
    without.logger.fault("internal error", new Error("boom"));
    expect(existsSync(join(without.folder, "log", "crash.log"))).toBe(false);
  });
});
