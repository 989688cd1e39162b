#!/usr/bin/env node
import { realpathSync } from "node:fs";
import { resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { Command, CommanderError } from "commander";
import { startInBackground, stopBroker } from "./admin/background.ts";
import { type ControlAnswer, sendControl } from "./admin/control.ts";
import { type Answer, checkConfig, describeKey, showConfig } from "./config/explain.ts";
import type { LoadOptions } from "./config/load.ts";
import type { BuildBroker, ConsoleOptions } from "./console.ts";
import { NautilusError } from "./errors.ts";
import { loadConfigured, pluginFaults } from "./hooks/configured.ts";
import { version } from "./version.ts";

/** The world around the command, so that tests can give another one. */
export interface MainOptions {
  readonly argv: readonly string[];
  readonly env: NodeJS.ProcessEnv;
  readonly cwd: string;
  readonly process: ConsoleOptions["process"];
  readonly writeOut: (text: string) => void;
  readonly writeError: (text: string) => void;
  /** Default: core/broker.ts. */
  readonly build?: BuildBroker;
}

interface Flags {
  config?: string;
  set: string[];
  dataDir?: string;
}

/** Runs one `vernemq` command and gives its exit code. */
export async function main(options: MainOptions): Promise<number> {
  const { env, cwd } = options;
  let exit = 0;
  const program = new Command("vernemq");

  function flags(): Flags {
    return program.opts<Flags>();
  }
  function load(): LoadOptions {
    const { config, set, dataDir } = flags();
    return {
      env,
      cwd,
      sets: set,
      ...(config === undefined ? {} : { file: config }),
      ...(dataDir === undefined ? {} : { dataDir }),
    };
  }
  function dataDir(): string {
    return resolve(cwd, flags().dataDir ?? env.NAUTILUS_DATA_DIR ?? "data");
  }
  /** An action that prints an answer. */
  function say(answer: (...args: string[]) => ControlAnswer | Promise<ControlAnswer>) {
    return async (...args: unknown[]) => {
      const texts = args.filter((arg) => typeof arg === "string");
      const { exit: code, stdout, stderr } = await answer(...texts);
      options.writeOut(stdout);
      options.writeError(stderr);
      exit = code;
    };
  }

  program
    .description("An MQTT broker that runs VerneMQ's configuration.")
    .option("--config <file>", "vernemq.conf; else NAUTILUS_CONFIG, else ./etc/vernemq.conf")
    .option(
      "--set <key=value>",
      "a setting, repeatable; wins over file and environment",
      collect,
      [],
    )
    .option(
      "--data-dir <dir>",
      "store, pid file and control socket; else NAUTILUS_DATA_DIR, ./data",
    )
    .exitOverride()
    .configureOutput({ writeOut: options.writeOut, writeErr: options.writeError });

  program
    .command("console")
    .description("run in the foreground")
    .option("--watch", "load plugins again when their files change, for their authors")
    .action(async (own: { watch?: boolean }) => {
      const { runConsole } = await import("./console.ts");
      exit = await runConsole({
        load: load(),
        build: options.build ?? (await importBroker()),
        writeError: options.writeError,
        process: options.process,
        watch: own.watch === true,
      });
    });
  program
    .command("start")
    .description("run in the background; silent when fine")
    .action(
      say(() => {
        const { config, set } = flags();
        const passed = [
          ...(config === undefined ? [] : ["--config", config]),
          ...set.flatMap((text) => ["--set", text]),
          ...["--data-dir", dataDir()],
        ];
        return startInBackground(
          dataDir(),
          [fileURLToPath(import.meta.url), "console", ...passed],
          env,
        );
      }),
    );
  program
    .command("stop")
    .description("end the broker of the data directory and wait for it")
    .action(say(() => stopBroker(dataDir())));
  program
    .command("ping")
    .description("pong, or exit code 1")
    .action(say(() => ping(dataDir())));
  program
    .command("version")
    .description("print the version")
    .action(say(() => ({ exit: 0, stdout: `${version()}\n`, stderr: "" })));
  const check = async (): Promise<Answer> => {
    const loaded = await loadConfigured(load());
    return checkConfig(load(), loaded, await pluginFaults(loaded));
  };
  program.command("chkconfig").description("the same as config check").action(say(check));

  const config = program.command("config").description("look at the configuration");
  for (const name of ["check", "generate"]) {
    config
      .command(name)
      .description("print all errors; exit code 1 if there are any")
      .action(say(check));
  }
  config
    .command("show")
    .option("--effective", "with all defaults")
    .description("print what is set, each with its origin")
    .action((own: { effective?: boolean }) =>
      say(async () => showConfig(load(), own.effective === true, await loadConfigured(load())))(),
    );
  config
    .command("effective")
    .description("the same as config show --effective")
    .action(say(async () => showConfig(load(), true, await loadConfigured(load()))));
  config
    .command("describe <key>")
    .description("print what a key means and accepts")
    .action(say(async (key = "") => describeKey(load(), key, await loadConfigured(load()))));

  try {
    await program.parseAsync([...options.argv], { from: "user" });
    return exit;
  } catch (error) {
    // Wrong usage and --help: commander has printed what there is to say.
    if (error instanceof CommanderError) return error.exitCode;
    throw error;
  }
}

function collect(text: string, before: string[]): string[] {
  return [...before, text];
}

async function importBroker(): Promise<BuildBroker> {
  const broker = await import("./broker.ts");
  return broker.createBroker;
}

async function ping(dataDir: string): Promise<ControlAnswer> {
  try {
    return await sendControl(dataDir, { command: "ping", args: [] });
  } catch (error) {
    if (!(error instanceof NautilusError)) throw error;
    return { exit: 1, stdout: "", stderr: "Node is not running\n" };
  }
}

const started = process.argv[1];
// npm links commands into node_modules/.bin, so that only the real path tells.
if (started !== undefined && realpathSync(started) === fileURLToPath(import.meta.url)) {
  const exit = await main({
    argv: process.argv.slice(2),
    env: process.env,
    cwd: process.cwd(),
    process,
    writeOut: (text) => process.stdout.write(text),
    writeError: (text) => process.stderr.write(text),
  });
  // Nothing is left to do, whatever timer or socket some part may have forgotten.
  process.exit(exit);
}
