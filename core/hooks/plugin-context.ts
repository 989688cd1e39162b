import { resolve } from "node:path";
import type { Config } from "../config/types.ts";
import type { Logger } from "../logger.ts";
import type {
  AnyPlugin,
  PluginBroker,
  PluginCommand,
  PluginContext,
  PluginHookTable,
  PluginHttpModule,
} from "./define-plugin.ts";
import { type SettingValues, settingValues } from "./plugin-settings.ts";
import type { HookName } from "./types.ts";

/** What a context is made of. */
export interface ContextParts {
  readonly config: Config;
  readonly log: Logger;
  readonly broker: PluginBroker & { end(): void };
  /** Replaces the hooks of a running plugin. */
  readonly setHooks: (plugin: string, hooks: PluginHookTable) => void;
}

/** A metric of a plugin. */
export interface PluginMetric {
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly type: "counter" | "gauge";
  read(): number;
}

/** A context with what the broker keeps of it while the plugin runs. */
export interface HeldContext {
  readonly context: PluginContext;
  /** Metrics by name, read now. */
  readonly series: Map<string, PluginMetric>;
  readonly commands: PluginCommand[];
  readonly httpModules: PluginHttpModule[];
  /** Hooks that never answer `next`, with the reason. */
  settled: { hooks: readonly HookName[]; why: string } | undefined;
  /** Stops timers and subscriptions. */
  end(): void;
}

export function createContext(plugin: AnyPlugin, parts: ContextParts): HeldContext {
  const { name, settings = {} } = plugin;
  const { config, broker } = parts;
  const log = parts.log.child({ plugin: name });
  const timers = new Set<NodeJS.Timeout>();
  const guarded = (run: () => unknown) => (): void => guard(run, log);
  const held: HeldContext = {
    series: new Map(),
    commands: [],
    httpModules: [],
    settled: undefined,
    end: () => {
      for (const timer of timers) clearTimeout(timer);
      timers.clear();
      broker.end();
    },
    context: {
      name,
      log,
      broker,
      settings: settingValues(name, settings, config) as SettingValues<typeof settings>,
      isSet: (setting) => config.isWritten(`${name}.${setting}`),
      config: (key) => config.value(key),
      readValue: (key, text) => config.read(key, text),
      keysBelow: (prefix) => config.keysBelow(prefix),
      originOf: (key) => config.originOf(key),
      resolvePath: (path) => resolve(config.cwd, path),
      metrics: {
        counter: (series) => {
          let value = 0;
          addSeries(held.series, { name: series, labels: {}, type: "counter", read: () => value });
          return {
            increment: (by = 1) => {
              value += by;
            },
          };
        },
        gauge: (series, read, { labels = {}, type = "gauge" } = {}) =>
          addSeries(held.series, { name: series, labels, type, read }),
      },
      setTimeout: (run, ms) => {
        const timer = setTimeout(() => {
          timers.delete(timer);
          guarded(run)();
        }, ms);
        timers.add(timer);
        return timer;
      },
      setInterval: (run, ms) => {
        const timer = setInterval(guarded(run), ms);
        timers.add(timer);
        return timer;
      },
      http: (module) => void held.httpModules.push(module),
      command: (command) => void held.commands.push(command),
      settlesAll: (hooks, why) => {
        held.settled = { hooks, why };
      },
      setHooks: (hooks) => parts.setHooks(name, hooks),
    },
  };
  return held;
}

function addSeries(all: Map<string, PluginMetric>, metric: PluginMetric): () => void {
  const { name, labels } = metric;
  if (!/^[a-z_]\w*$/.test(name)) throw new TypeError(`"${name}" is no name for a metric`);
  const key = JSON.stringify([name, labels]);
  if (all.has(key)) throw new TypeError(`metric "${name}" is there already`);
  all.set(key, metric);
  return () => {
    if (all.get(key) === metric) all.delete(key);
  };
}

/** Runs a plugin's own code; its errors are logged and end nothing. */
function guard(run: () => unknown, log: Logger): void {
  const failed = (failure: unknown): void => {
    const cause = failure instanceof Error ? (failure.stack ?? failure.message) : String(failure);
    log.limited("plugin timer", 1).error("plugin failed in a timer", { cause });
  };
  try {
    Promise.resolve(run()).catch(failed);
  } catch (failure) {
    failed(failure);
  }
}
