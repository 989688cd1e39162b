import { readFileSync } from "node:fs";
import { READY } from "./admin/background.ts";
import { type ControlAnswer, type ControlLine, startControlServer } from "./admin/control.ts";
import { claimDataDir } from "./admin/pid-file.ts";
import { watchPlugins } from "./admin/plugin-watch.ts";
import type { PluginControl } from "./broker-types.ts";
import type { LoadOptions } from "./config/load.ts";
import type { Config } from "./config/types.ts";
import { NautilusError } from "./errors.ts";
import { type Configured, loadConfigured, type PluginSource } from "./hooks/configured.ts";
import type { ListenerSettings } from "./listeners/types.ts";
import { createLogger, type Logger, type RootLogger, standardOutput } from "./logger.ts";
import { configuredHandlers } from "./logging/configured.ts";

/** What this file needs of a broker. */
export interface RunningBroker {
  /** Runs an admin command as typed after `vmq-admin`. */
  control(command: string, args: readonly string[], line?: ControlLine): Promise<ControlAnswer>;
  /** Stops listening, tells the clients, flushes and closes the store. */
  close(): Promise<void>;
  readonly plugins?: Pick<PluginControl, "reload">;
}

/** Builds the broker; the door is core/broker.ts. */
export type BuildBroker = (options: {
  config: Config;
  logger: RootLogger;
  plugins: readonly PluginSource[];
}) => Promise<RunningBroker>;

type Signal = "SIGTERM" | "SIGINT" | "SIGHUP";

export interface ConsoleOptions {
  readonly load: LoadOptions;
  readonly build: BuildBroker;
  readonly writeError: (text: string) => void;
  /** Source of signals, and receiver of the message that all is ready. */
  readonly process: {
    on(signal: Signal, listener: () => void): unknown;
    off(signal: Signal, listener: () => void): unknown;
    readonly stdout?: { readonly isTTY?: boolean };
    send?(message: unknown): unknown;
    exit(code: number): never;
  };
  readonly createLogger?: typeof createLogger;
  /** `--watch`: plugins are loaded again when their files change. */
  readonly watch?: boolean;
}

/** Below this a busy broker runs into the limit, whatever the listeners allow. */
const OPEN_FILES_LOW = 10_240;
/** Files beside client connections: store, logs, listeners, plugins' connections. */
const OTHER_FILES = 256;

/** Runs the broker in the foreground until a signal ends it; gives the exit code. */
export async function runConsole(options: ConsoleOptions): Promise<number> {
  const loaded = await loadConfigured(options.load);
  const { config } = loaded;
  if (config === undefined) {
    options.writeError(loaded.errors.map((line) => `${line}\n`).join(""));
    return 1;
  }
  const logger = (options.createLogger ?? createLogger)({
    level: "info",
    handlers: configuredHandlers(config, standardOutput()),
  });
  const uncaught = (error: Error): void =>
    logger.lastWords("the broker ends by a fault of its own", error);
  process.on("uncaughtExceptionMonitor", uncaught);
  try {
    return await runClaimed(config, loaded, logger, options);
  } catch (error) {
    if (!(error instanceof NautilusError)) throw error;
    options.writeError(`${error.code}: ${error.message}. ${error.hint}\n`);
    return 1;
  } finally {
    process.off("uncaughtExceptionMonitor", uncaught);
    logger.flush();
    await logger.close();
  }
}

async function runClaimed(
  config: Config,
  loaded: Configured,
  logger: RootLogger,
  options: ConsoleOptions,
): Promise<number> {
  const claim = claimDataDir(config.dataDir);
  const reopen = (): void => logger.reopen();
  try {
    for (const notice of loaded.notices) logger.warn(notice);
    warnAboutOpenFiles(config.listeners, logger);
    if (config.isFirstRun) logger.warn(firstRunLine(config));
    const stopped = stopSignal(options);
    // A terminal that was closed ends the broker; elsewhere the signal is what logrotate sends.
    if (options.process.stdout?.isTTY !== true) options.process.on("SIGHUP", reopen);
    const broker = await options.build({ config, logger, plugins: loaded.plugins });
    const control = await startControlServer(config.dataDir, async ({ command, args }, line) =>
      command === "ping" && args.length === 0
        ? { exit: 0, stdout: "pong\n", stderr: "" }
        : await broker.control(command, args, line),
    ).catch(async (error: unknown) => {
      await broker.close();
      throw error;
    });
    const { plugins } = broker;
    const unwatch =
      options.watch === true && plugins !== undefined
        ? watchPlugins(loaded.plugins, (name) => plugins.reload(name), logger)
        : undefined;
    options.process.send?.(READY);
    const signal = await stopped;
    unwatch?.();
    logger.info("stopping", { signal });
    await control.close();
    await broker.close();
    return 0;
  } finally {
    options.process.off("SIGHUP", reopen);
    claim.release();
  }
}

const STOP_SIGNALS = ["SIGTERM", "SIGINT"] as const;

/** Resolves with the first signal to stop; a second one ends the process at once. */
function stopSignal({ process }: ConsoleOptions): Promise<string> {
  return new Promise((stop) => {
    let isStopping = false;
    const isTerminal = process.stdout?.isTTY === true;
    for (const signal of [...STOP_SIGNALS, ...(isTerminal ? (["SIGHUP"] as const) : [])]) {
      process.on(signal, () => {
        if (isStopping) process.exit(1);
        isStopping = true;
        stop(signal);
      });
    }
  });
}

/** The one line of a start without a configuration file. */
export function firstRunLine(config: Config): string {
  const places = [...config.listeners, ...config.httpListeners]
    .map(({ kind, address, port }) => `${address}:${port} (${kind === "tcp" ? "MQTT" : kind})`)
    .join(", ");
  const anonymous = config.flag("allow_anonymous")
    ? "clients need no password there"
    : "anonymous clients are refused";
  return `no configuration file: listening on ${places} only; ${anonymous}`;
}

/** Warns when fewer files may be open than the listeners may have connections. */
export function warnAboutOpenFiles(
  listeners: readonly ListenerSettings[],
  logger: Logger,
  limit: number | undefined = openFilesLimit(),
): void {
  const allowed = listeners
    .map(({ maxConnections }) => maxConnections)
    .filter(Number.isFinite)
    .reduce((sum, connections) => sum + connections, 0);
  const needed = Math.max(OPEN_FILES_LOW, allowed + OTHER_FILES);
  if (limit === undefined || limit >= needed) return;
  logger.warn(
    `the open-files limit is ${limit}, the listeners allow ${allowed} connections: ` +
      `raise it with \`ulimit -n ${needed}\``,
  );
}

/** The soft limit of this process; undefined = unlimited or unknown. */
function openFilesLimit(): number | undefined {
  try {
    const found = /^Max open files +(\d+) /m.exec(readFileSync("/proc/self/limits", "utf8"));
    return found === null ? undefined : Number(found[1]);
  } catch {
    // Only Linux has that file.
    return undefined;
  }
}
