import type { Config } from "../config/types.ts";
import { errorMessage, NautilusError } from "../errors.ts";
import type { Logger } from "../logger.ts";
import { isPromise } from "./chain.ts";
import type { PluginSource } from "./configured.ts";
import type {
  AnyPlugin,
  PluginBroker,
  PluginCommand,
  PluginContext,
  PluginHttpModule,
} from "./define-plugin.ts";
import { Later } from "./later.ts";
import { checkHooks, checkPlugin, findPlugin, loadPlugin, type PluginFile } from "./loader.ts";
import { createContext, type HeldContext } from "./plugin-context.ts";
import { missingSettings, schemaRows } from "./plugin-settings.ts";
import type { HookRegistry } from "./registry.ts";
import type { HookName, Plugin, PluginHooks } from "./types.ts";

export interface ManagerParts {
  readonly hooks: HookRegistry;
  readonly config: Config;
  readonly log: Logger;
  /** The calls into the broker for one plugin. */
  readonly callsOf: (plugin: string) => PluginBroker & { end(): void };
  /** A plugin came, went or was reloaded. */
  readonly onChange?: () => void;
}

/** A plugin that runs. */
export interface RunningPlugin {
  readonly definition: AnyPlugin;
  readonly file: PluginFile | undefined;
  readonly plugin: Plugin;
  readonly held: HeldContext;
  /** Calls of its hooks that have not answered yet. */
  readonly calls: Calls;
}

/** One metric of a plugin, read now. */
export interface PluginSeries {
  readonly plugin: string;
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly type: "counter" | "gauge";
  readonly value: number;
}

/** A stopped plugin's late answers are waited for so long; above every usual hook_timeout. */
const DRAIN_MS = 10_000;

/**
 * Starts, stops and reloads plugins. Chains change between two calls; a plugin that goes is stopped when
 * its last running call has answered. One change at a time.
 */
export class PluginManager {
  private readonly parts: ManagerParts;
  private readonly running = new Map<string, RunningPlugin>();
  private turn: Promise<unknown> = Promise.resolve();

  constructor(parts: ManagerParts) {
    this.parts = parts;
  }

  /** At boot: in order of priority, then name. The first one that does not start ends the start. */
  async startAll(sources: readonly PluginSource[]): Promise<void> {
    const started: RunningPlugin[] = [];
    try {
      for (const source of [...sources].sort((a, b) => this.order(a, b))) {
        started.push(await this.start(source));
      }
    } catch (error) {
      for (const plugin of started) await this.stop(plugin);
      throw error;
    }
    this.parts.hooks.enableAll(started.map(({ plugin }) => plugin));
    for (const plugin of started) this.running.set(plugin.plugin.name, plugin);
    this.parts.onChange?.();
  }

  /** Adds a plugin of the program at the end of the chains, at once; for those without `start`. */
  add(definition: AnyPlugin): void {
    checkPlugin(definition);
    const held = this.contextOf(definition);
    const running = this.runningOf({ definition }, held);
    this.parts.hooks.enable(running.plugin);
    this.running.set(definition.name, running);
    this.parts.onChange?.();
  }

  /** Loads and starts a plugin; it goes to the end of the chains. */
  enable(name: string, path?: string): Promise<void> {
    return this.inTurn(async () => {
      if (this.running.has(name)) {
        throw new NautilusError("PLUGIN_ALREADY_ENABLED", { plugin: name });
      }
      const written = this.parts.config.value(`plugins.${name}.path`);
      const file = findPlugin(
        name,
        path ?? (written === undefined ? undefined : String(written)),
        this.parts.config.cwd,
      );
      const source = { definition: await loadPlugin(name, file), file };
      const started = await this.start(source);
      this.parts.hooks.enable(started.plugin);
      this.running.set(name, started);
      this.parts.onChange?.();
      this.parts.log.info("plugin enabled", { plugin: name, file: file.file });
    });
  }

  /** Takes a plugin out of the chains at once and stops it; false = it does not run. */
  disable(name: string): boolean {
    const found = this.running.get(name);
    this.running.delete(name);
    if (!this.parts.hooks.disable(name)) return false;
    if (found !== undefined) void this.stop(found);
    this.parts.onChange?.();
    this.parts.log.info("plugin disabled", { plugin: name });
    return true;
  }

  /** Loads a plugin's files again and puts the new version in its place; on failure the old one stays. */
  reload(name: string): Promise<void> {
    return this.inTurn(async () => {
      const old = this.running.get(name);
      if (old === undefined) {
        throw new NautilusError("PLUGIN_NOT_FOUND", { plugin: name, reason: "it is not enabled" });
      }
      const { file } = old;
      const definition = file === undefined ? old.definition : await loadPlugin(name, file);
      const started = await this.start(file === undefined ? { definition } : { definition, file });
      // It may have been disabled while the new version started.
      if (this.running.get(name)?.held !== old.held || !this.parts.hooks.replace(started.plugin)) {
        await this.stop(started);
        throw new NautilusError("PLUGIN_NOT_FOUND", { plugin: name, reason: "it is not enabled" });
      }
      this.running.set(name, started);
      this.parts.onChange?.();
      void this.stop(old);
      this.parts.log.info("plugin reloaded", { plugin: name, file: file?.file });
    });
  }

  /** Running plugins. */
  list(): RunningPlugin[] {
    return [...this.running.values()];
  }

  commands(): PluginCommand[] {
    return this.list().flatMap(({ held }) => held.commands);
  }

  httpModules(): PluginHttpModule[] {
    return this.list().flatMap(({ held }) => held.httpModules);
  }

  /** Metrics of all plugins by name. */
  *series(): IterableIterator<PluginSeries> {
    for (const [plugin, { held }] of this.running) {
      for (const { name, labels, type, read } of held.series.values()) {
        const value = this.readMetric(plugin, name, read);
        if (value !== undefined) yield { plugin, name, labels, type, value };
      }
    }
  }

  /** Undefined and logged when the plugin fails to tell. */
  private readMetric(plugin: string, metric: string, read: () => number): number | undefined {
    try {
      return read();
    } catch (failure) {
      const cause = errorMessage(failure);
      const log = this.parts.log.limited(`plugin metric ${plugin}`, 1);
      log.error("plugin failed to give a metric", { plugin, metric, cause });
      return undefined;
    }
  }

  async stopAll(): Promise<void> {
    await this.turn.catch(() => undefined);
    const all = this.list();
    this.running.clear();
    await Promise.all(all.map((plugin) => this.stop(plugin, 0)));
  }

  private inTurn<T>(change: () => Promise<T>): Promise<T> {
    const done = this.turn.then(change, change);
    this.turn = done.catch(() => undefined);
    return done;
  }

  private async start(source: PluginSource): Promise<RunningPlugin> {
    const { definition, file } = source;
    const { config } = this.parts;
    const { name, settings = {} } = definition;
    config.addRows(schemaRows(name, settings));
    const missing = missingSettings(name, settings, (key) => config.isWritten(key));
    const held = this.contextOf(definition);
    try {
      if (missing.length > 0) throw new Error(`${missing.join(" and ")} must be set`);
      await definition.start?.(held.context as never);
      return this.runningOf(source, held);
    } catch (cause) {
      held.end();
      if (cause instanceof NautilusError && cause.code === "PLUGIN_START_FAILED") throw cause;
      const reason = errorMessage(cause);
      const where = file?.file ?? "given by the program";
      throw new NautilusError("PLUGIN_START_FAILED", { plugin: name, file: where, reason }, cause);
    }
  }

  private contextOf(definition: AnyPlugin): HeldContext {
    const { config, log, callsOf } = this.parts;
    const held: HeldContext = createContext(definition, {
      config,
      log,
      broker: callsOf(definition.name),
      setHooks: (name, hooks) => this.setHooks(name, held, hooks),
    });
    return held;
  }

  /** Other hooks for a plugin that runs, at its place in the chains. */
  private setHooks(name: string, held: HeldContext, hooks: object): void {
    const running = this.running.get(name);
    if (running === undefined || running.held !== held) return;
    checkHooks(hooks);
    const { definition, calls } = running;
    const made = hooks as PluginHooks;
    const plugin: Plugin = {
      ...running.plugin,
      hooks: definition.stop === undefined ? made : calls.counted(made),
    };
    if (this.parts.hooks.replace(plugin)) this.running.set(name, { ...running, plugin });
  }

  private runningOf({ definition, file }: PluginSource, held: HeldContext): RunningPlugin {
    const { config } = this.parts;
    const { name } = definition;
    const made = makeHooks(definition, held.context);
    const calls = new Calls();
    const priority = config.value(`plugins.${name}.priority`) ?? definition.priority;
    const hookTimeoutMs = config.value(`plugins.${name}.hook_timeout`) ?? definition.hookTimeoutMs;
    const onError = config.value(`plugins.${name}.on_error`) ?? definition.onError;
    const v5Compat = config.value(`plugins.${name}.v5_compat`) ?? definition.v5Compat;
    const plugin: Plugin = {
      name,
      hooks: definition.stop === undefined ? made : calls.counted(made),
      ...(typeof priority === "number" ? { priority } : {}),
      ...(typeof hookTimeoutMs === "number" ? { hookTimeoutMs } : {}),
      ...(onError === "deny" || onError === "next" ? { onError } : {}),
      ...(typeof v5Compat === "boolean" ? { v5Compat } : {}),
      ...(definition.isPipelined === undefined ? {} : { isPipelined: definition.isPipelined }),
    };
    return { definition, file, plugin, held, calls };
  }

  private async stop({ definition, held, calls }: RunningPlugin, waitMs = DRAIN_MS): Promise<void> {
    held.end();
    if (waitMs > 0) await calls.ended(waitMs);
    try {
      await definition.stop?.(held.context as never);
    } catch (failure) {
      const cause = errorMessage(failure);
      this.parts.log.error("plugin failed to stop", { plugin: definition.name, cause });
    }
  }

  /** Lower priorities first, plugins without one afterwards by name. */
  private order(a: PluginSource, b: PluginSource): number {
    const key = ({ definition }: PluginSource): number => {
      const written = this.parts.config.value(`plugins.${definition.name}.priority`);
      return Number(written ?? definition.priority ?? Number.POSITIVE_INFINITY);
    };
    const [left, right] = [key(a), key(b)];
    if (left !== right) return left - right;
    return a.definition.name < b.definition.name ? -1 : 1;
  }
}

function makeHooks(definition: AnyPlugin, context: PluginContext): PluginHooks {
  const { hooks } = definition;
  if (typeof hooks !== "function") return hooks as PluginHooks;
  const made: unknown = (hooks as (context: PluginContext) => unknown)(context);
  if (typeof made !== "object" || made === null) throw new Error("hooks(context) gives no hooks");
  checkHooks(made);
  return made as PluginHooks;
}

/** Counts the calls of a plugin that have not answered yet, so that it is not stopped under them. */
class Calls {
  private pending = 0;
  private wake: (() => void) | undefined;

  /** The same hooks; synchronous answers cost one more call frame and nothing else. */
  counted(hooks: PluginHooks): PluginHooks {
    const counted: Record<string, (args: never) => unknown> = {};
    for (const [hook, call] of Object.entries(hooks) as [HookName, (args: never) => unknown][]) {
      if (call === undefined) continue;
      counted[hook] = (args) => {
        const answer = call(args);
        if (answer instanceof Later) this.countLater(answer);
        else if (isPromise(answer)) this.count(answer);
        return answer;
      };
    }
    return counted as PluginHooks;
  }

  /** Resolves when no call runs any more, at the latest after `waitMs`. */
  async ended(waitMs: number): Promise<void> {
    if (this.pending === 0) return;
    await new Promise<void>((done) => {
      const timer = setTimeout(done, waitMs);
      timer.unref();
      this.wake = () => {
        clearTimeout(timer);
        done();
      };
    });
  }

  private count(answer: Promise<unknown>): void {
    this.pending++;
    answer.then(this.done, this.done);
  }

  private countLater(answer: Later<unknown>): void {
    this.pending++;
    answer.then(this.done);
  }

  private readonly done = (): void => {
    this.pending--;
    if (this.pending === 0) this.wake?.();
  };
}
