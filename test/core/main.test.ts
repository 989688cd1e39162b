import { EventEmitter } from "node:events";
import { existsSync, mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { runAdmin } from "../../core/admin/main.ts";
import { pidFilePath } from "../../core/admin/pid-file.ts";
import { loadConfig } from "../../core/config/load.ts";
import type { Config } from "../../core/config/types.ts";
import {
  type BuildBroker,
  firstRunLine,
  runConsole,
  warnAboutOpenFiles,
} from "../../core/console.ts";
import { NautilusError } from "../../core/errors.ts";
import { createLogger } from "../../core/logger.ts";
import { main } from "../../core/main.ts";
import { waitFor } from "../support/broker.ts";

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "nautilus-main-"));
});
afterEach(() => rmSync(folder, { recursive: true }));

/** Stands for the process: signals come by `emit`, exit throws. */
class FakeProcess extends EventEmitter {
  readonly ready: Promise<unknown>;
  #isReady: (message: unknown) => void = () => undefined;
  constructor() {
    super();
    this.ready = new Promise((done) => {
      this.#isReady = done;
    });
  }
  send(message: unknown): void {
    this.#isReady(message);
  }
  exit(code: number): never {
    throw new Error(`exit ${code}`);
  }
}

async function run(argv: string[], env: NodeJS.ProcessEnv = {}) {
  let stdout = "";
  let stderr = "";
  const exit = await main({
    argv,
    env,
    cwd: folder,
    process: new FakeProcess(),
    writeOut: (text) => {
      stdout += text;
    },
    writeError: (text) => {
      stderr += text;
    },
  });
  return { exit, stdout, stderr };
}

describe("the vernemq command", () => {
  test("prints the version of the package", async () => {
    const version = JSON.parse(readFileSync("package.json", "utf8")).version;
    expect(await run(["version"])).toEqual({ exit: 0, stdout: `${version}\n`, stderr: "" });
  });

  test("checks a configuration, under VerneMQ's names too", async () => {
    writeFileSync(join(folder, "v.conf"), "listener.tcp.a = 127.0.0.1:1\nretry_intervall = 5");
    const answers = [
      await run(["config", "check", "--config", "v.conf"]),
      await run(["--config", "v.conf", "config", "generate"]),
      await run(["chkconfig", "--config", "v.conf"]),
    ];
    for (const answer of answers) {
      expect(answer).toEqual({
        exit: 1,
        stdout: "",
        stderr:
          "v.conf:2: retry_intervall: there is no setting with that name, did you mean retry_interval?\n",
      });
    }
  });

  test("takes --set many times, before and after the command", async () => {
    const answer = await run([
      "--set",
      "retry_interval=5",
      "config",
      "show",
      "--set",
      "topic_max_depth=6",
    ]);
    expect(answer.stdout).toMatch(/^retry_interval = 5 .*--set\ntopic_max_depth = 6 .*--set\n$/);
  });

  test("shows effective values and describes keys", async () => {
    const effective = await run(["config", "show", "--effective"]);
    expect(effective.stdout).toMatch(/^queue_type = fifo +# default$/m);
    expect(await run(["config", "effective"])).toEqual(effective);
    const env = { DOCKER_VERNEMQ_RETRY_INTERVAL: "3" };
    expect((await run(["config", "describe", "retry_interval"], env)).stdout).toContain(
      "effective: 3   # environment DOCKER_VERNEMQ_RETRY_INTERVAL",
    );
    expect(await run(["config", "describe", "nothing_like_it"])).toMatchObject({
      exit: 1,
      stdout: "",
    });
  });

  test("says that nothing runs", async () => {
    const nothing = { exit: 1, stdout: "", stderr: "Node is not running\n" };
    expect(await run(["ping"])).toEqual(nothing);
    expect(await run(["stop"])).toEqual(nothing);
  });

  test("explains wrong usage on standard error", async () => {
    expect(await run(["nonsense"])).toMatchObject({
      exit: 1,
      stdout: "",
      stderr: expect.stringContaining("nonsense"),
    });
    expect(await run(["--help"])).toMatchObject({
      exit: 0,
      stdout: expect.stringContaining("console"),
    });
  });
});

describe("vernemq console", () => {
  interface Started {
    readonly events: string[];
    readonly lines: string[];
    readonly process: FakeProcess;
    readonly exit: Promise<number>;
    stderr(): string;
  }
  interface StartOptions {
    sets?: string[];
    build?: BuildBroker;
    file?: string;
    process?: FakeProcess;
  }
  function start(options: StartOptions = {}): Started {
    const events: string[] = [];
    const lines: string[] = [];
    const { process = new FakeProcess() } = options;
    let stderr = "";
    const build: BuildBroker = async ({ config }) => {
      events.push(`built with ${config.listeners.length}`);
      return {
        control: async (command, args) => ({
          exit: 0,
          stdout: `${command} ${args.join(" ")}\n`,
          stderr: "",
        }),
        close: async () => {
          events.push("closed");
        },
      };
    };
    const exit = runConsole({
      load: {
        cwd: folder,
        sets: options.sets ?? [],
        ...(options.file === undefined ? {} : { file: options.file }),
      },
      build: options.build ?? build,
      process,
      writeError: (text) => {
        stderr += text;
      },
      createLogger: (given) =>
        createLogger({
          ...given,
          handlers: (given.handlers ?? []).map((handler) =>
            handler.name === "console"
              ? {
                  ...handler,
                  format: "simple",
                  sink: { write: (line) => lines.push(line), close: () => Promise.resolve() },
                }
              : handler,
          ),
        }),
    });
    return { events, lines, process, exit, stderr: () => stderr };
  }

  test.each(["SIGTERM", "SIGINT"] as const)(
    "runs until %s and closes the broker",
    async (signal) => {
      const started = start();
      expect(await started.process.ready).toBe("ready");
      const dataDir = join(folder, "data");
      expect(await run(["ping"])).toEqual({ exit: 0, stdout: "pong\n", stderr: "" });
      expect(await runAdmin(["session", "show", "-x", "--data-dir", dataDir], {})).toMatchObject({
        stdout: "session show -x\n",
      });
      expect(existsSync(pidFilePath(dataDir))).toBe(true);
      started.process.emit(signal);
      expect(await started.exit).toBe(0);
      expect(started.events).toEqual(["built with 2", "closed"]);
      expect(existsSync(pidFilePath(dataDir))).toBe(false);
      expect(await run(["ping"])).toMatchObject({ exit: 1 });
    },
  );

  test("opens log files again at SIGHUP, and goes on", async () => {
    const file = join(folder, "broker.log");
    const started = start({ sets: ["log.console=file", `log.console.file=${file}`] });
    await started.process.ready;
    await waitFor("the first lines", () => existsSync(file) && readFileSync(file).length > 0);
    renameSync(file, `${file}.1`);
    started.process.emit("SIGHUP");
    started.process.emit("SIGTERM");
    expect(await started.exit).toBe(0);
    expect(readFileSync(`${file}.1`, "utf8")).toContain("no configuration file");
    expect(readFileSync(file, "utf8")).toContain("stopping signal=SIGTERM");
  });

  test("ends when its terminal does", async () => {
    const started = start({
      process: Object.assign(new FakeProcess(), { stdout: { isTTY: true } }),
    });
    await started.process.ready;
    started.process.emit("SIGHUP");
    expect(await started.exit).toBe(0);
    expect(started.events).toContain("closed");
  });

  test("says in one line what a first start opens", async () => {
    const started = start();
    await started.process.ready;
    started.process.emit("SIGTERM");
    await started.exit;
    const about = started.lines.filter((line) => line.includes("127.0.0.1:1883"));
    expect(about).toHaveLength(1);
    expect(about[0]).toContain("127.0.0.1:8080");
    expect(about[0]).toContain("only; clients need no password there");
  });

  test("ends at once at a second signal", async () => {
    let close: () => void = () => undefined;
    const closing = new Promise<void>((done) => {
      close = done;
    });
    const started = start({
      build: async () => ({
        control: async () => ({ exit: 0, stdout: "", stderr: "" }),
        close: () => closing,
      }),
    });
    await started.process.ready;
    started.process.emit("SIGTERM");
    expect(() => started.process.emit("SIGINT")).toThrow("exit 1");
    close();
    expect(await started.exit).toBe(0);
  });

  test("closes a broker that was stopped while it was being built", async () => {
    const events: string[] = [];
    const started = start({
      build: async () => {
        await Promise.resolve();
        started.process.emit("SIGTERM");
        return {
          control: async () => ({ exit: 0, stdout: "", stderr: "" }),
          close: async () => {
            events.push("closed");
          },
        };
      },
    });
    expect(await started.exit).toBe(0);
    expect(events).toEqual(["closed"]);
  });

  test("prints all errors of the configuration and does not build", async () => {
    const started = start({ sets: ["retry_interval=x", "nothing_of_it=1"] });
    expect(await started.exit).toBe(1);
    expect(started.stderr().trimEnd().split("\n")).toHaveLength(2);
    expect(started.events).toEqual([]);
  });

  test("refuses a data directory in use with a coded error", async () => {
    const first = start();
    await first.process.ready;
    writeFileSync(pidFilePath(join(folder, "data")), `${process.ppid}\n`);
    const second = start();
    expect(await second.exit).toBe(1);
    expect(second.stderr()).toMatch(
      /^DATA_DIR_IN_USE: data directory .* is in use by process \d+\. Stop/,
    );
    expect(second.events).toEqual([]);
    first.process.emit("SIGTERM");
    await first.exit;
  });

  test("gives way cleanly when the broker cannot be built", async () => {
    const fault = new NautilusError("INTERNAL", { where: "here", reason: "why" });
    const started = start({
      build: async () => {
        throw fault;
      },
    });
    expect(await started.exit).toBe(1);
    expect(started.stderr()).toContain("internal error in here: why");
    expect(existsSync(pidFilePath(join(folder, "data")))).toBe(false);
  });

  test("logs the notices of the configuration", async () => {
    const started = start({ sets: ["erlang.K=on"] });
    await started.process.ready;
    started.process.emit("SIGTERM");
    await started.exit;
    expect(started.lines.some((line) => line.includes("erlang.K"))).toBe(true);
  });
});

describe("messages at the start", () => {
  function config(sets: string[]): Config {
    const { config } = loadConfig({ cwd: folder, sets });
    if (config === undefined) throw new Error("no config");
    return config;
  }
  function warning(sets: string[], limit: number | undefined): string {
    const lines: string[] = [];
    const logger = createLogger({
      level: "info",
      format: "text",
      destination: { write: (line) => lines.push(line) },
    });
    warnAboutOpenFiles(config(sets).listeners, logger, limit);
    return lines.join("");
  }

  test("a first run says whether anonymous clients are allowed", () => {
    expect(firstRunLine(config(["allow_anonymous=off"]))).toMatch(/anonymous clients are refused$/);
  });

  test("a low open-files limit is warned about, with numbers", () => {
    const tcp = "listener.tcp.a=127.0.0.1:1";
    expect(warning([tcp], 1024)).toContain(
      "the open-files limit is 1024, the listeners allow 10000 connections: raise it with `ulimit -n 10256`",
    );
    expect(warning([tcp], 10_256)).toBe("");
    expect(warning([tcp, "listener.max_connections=10"], 9000)).toContain("ulimit -n 10240");
    expect(warning([tcp, "listener.max_connections=infinity"], 10_240)).toBe("");
    expect(warning([tcp, "listener.max_connections=50000"], 20_000)).toContain("ulimit -n 50256");
  });
});
