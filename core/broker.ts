import { join } from "node:path";
import { ApiKeys, apiKeysFile } from "./admin/api-keys.ts";
import { commandRegistry } from "./admin/commands.ts";
import { GraphiteExporter } from "./admin/graphite.ts";
import { HttpService } from "./admin/http/http-service.ts";
import { isMqtt, ListenerControl } from "./admin/listener-control.ts";
import { aggregate, collectSeries, type MetricSources, seriesKey } from "./admin/metrics.ts";
import { pluginControl } from "./admin/plugin-control.ts";
import type { Registry, RunOptions } from "./admin/registry.ts";
import { SystemMetrics } from "./admin/system-metrics.ts";
import { startSystree } from "./admin/systree.ts";
import type { Broker, BrokerOptions, PluginControl, SessionInfo } from "./broker-types.ts";
import { singleNode } from "./cluster/single.ts";
import type { Config } from "./config/types.ts";
import { Counters } from "./counters.ts";
import { errorMessage, NautilusError } from "./errors.ts";
import { loadConfigured, type PluginSource } from "./hooks/configured.ts";
import type { AnyPlugin } from "./hooks/define-plugin.ts";
import { PluginManager } from "./hooks/plugin-manager.ts";
import { HookRegistry } from "./hooks/registry.ts";
import { createListener } from "./listeners/listener.ts";
import type {
  AnyListenerSettings,
  Listener,
  ListenerSettings,
  Transport,
} from "./listeners/types.ts";
import { createLogger, type Logger, type RootLogger } from "./logger.ts";
import { Router } from "./routing/router.ts";
import { Commits } from "./session/commits.ts";
import type { Core } from "./session/core.ts";
import { SessionManager } from "./session/manager.ts";
import { Flusher } from "./session/outbox.ts";
import { pluginCalls } from "./session/plugin-calls.ts";
import { PublishTimer } from "./session/publish-timer.ts";
import { reauthorize } from "./session/reauthorize.ts";
import { Session } from "./session/session.ts";
import { sessionSettings } from "./session/settings.ts";
import { EmbeddedStore } from "./store/embedded/embedded-store.ts";
import { MemoryStore } from "./store/memory/memory-store.ts";
import type { Store } from "./store/types.ts";
import { TimerWheel } from "./timers.ts";
import { version } from "./version.ts";

/** What a process that has loaded its configuration hands in. */
export interface LoadedOptions {
  config: Config;
  logger: RootLogger;
  /** Loaded, not started. */
  plugins?: readonly PluginSource[];
  /**
   * A broker inside a program allows what no plugin decides; one that runs from a configuration refuses
   * it, as VerneMQ.
   */
  isEmbedded?: boolean;
}

/** Builds the parts, starts them in order and returns the running broker. */
export async function createBroker(options: BrokerOptions | LoadedOptions): Promise<Broker> {
  const loaded = "config" in options ? options : await loadEmbedded(options);
  const broker = new RunningBroker(loaded);
  await broker.start(loaded.plugins ?? []);
  return broker;
}

async function loadEmbedded(options: BrokerOptions): Promise<LoadedOptions> {
  const hasStore = options.dataDir !== undefined;
  const isEmbedded = options.configFile === undefined;
  const { config, errors, plugins } = await loadConfigured(
    {
      isEmbedded,
      ...(options.configFile === undefined ? {} : { file: options.configFile }),
      values: { ...(hasStore ? {} : { "store.type": "memory" }), ...options.settings },
      ...(options.dataDir === undefined ? {} : { dataDir: options.dataDir }),
    },
    options.plugins,
  );
  if (config === undefined)
    throw new NautilusError("CONFIG_INVALID", { errors: errors.join("\n") });
  return {
    config,
    logger: createLogger({ level: options.logLevel ?? "error" }),
    plugins,
    isEmbedded,
  };
}

class RunningBroker implements Broker {
  private readonly config: Config;
  private readonly log: RootLogger;
  private readonly core: Core;
  private readonly store: Store;
  private readonly admin: Registry;
  private readonly pluginManager: PluginManager;
  private readonly system = new SystemMetrics();
  private readonly http: HttpService;
  private readonly apiKeys: ApiKeys;
  private readonly timers: NodeJS.Timeout[] = [];
  private readonly atClose: (() => void)[] = [];
  readonly plugins: PluginControl;
  private readonly listeners: ListenerControl;
  private closing: Promise<void> | undefined;

  constructor({ config, logger: log, isEmbedded = false }: LoadedOptions) {
    this.config = config;
    this.log = log;
    const counters = new Counters();
    this.store = buildStore(config, log, counters);
    const hooks = new HookRegistry(
      (plugin, hook, failure) => {
        const kind = failure instanceof NautilusError ? failure.code : "";
        log.limited(`plugin failed ${plugin} ${hook} ${kind}`, 1).error("plugin call failed", {
          plugin,
          hook,
          cause: errorMessage(failure),
          ...(failure instanceof NautilusError ? { hint: failure.hint } : {}),
        });
      },
      { denyWithoutAuthorizer: !isEmbedded },
    );
    const router = new Router(this.store, counters, {
      topicDepthMax: config.int("topic_max_depth"),
      overlappingOnce: config.text("overlapping_subscriptions") === "once",
      random: Math.random,
    });
    const wheel = new TimerWheel();
    const core = {
      store: this.store,
      cluster: singleNode(config.text("nodename")),
      router,
      hooks,
      counters,
      wheel,
      publishTimer: new PublishTimer(counters.publishLatency, wheel.nowMs),
      flusher: new Flusher(),
      early: new Set<Session>(),
      commits: new Commits(this.store),
      log,
      tracer: undefined,
      topicCounts: undefined,
      settings: sessionSettings(config),
      random: Math.random,
      wallMs: Date.now,
    };
    // The manager is one of the parts it works with.
    this.core = Object.assign(core, { manager: undefined as unknown as SessionManager });
    Object.assign(this.core, { manager: new SessionManager(this.core) });
    this.pluginManager = new PluginManager({
      hooks,
      config,
      log,
      callsOf: (name) => pluginCalls(this.core, name),
      onChange: () => this.http.pluginsChanged(),
    });
    this.listeners = new ListenerControl({
      build: (settings) =>
        isMqtt(settings) ? this.buildListener(settings) : this.http.createListener(settings),
      prepare: (listener) => this.http.prepare(listener),
      endConnections: (settings) => this.endConnections(settings),
    });
    this.http = new HttpService({
      config,
      log,
      cluster: core.cluster,
      plugins: this.pluginManager,
      version: version(),
      checkKey: (key, scope) => this.apiKeys.check(key, scope),
      commands: { prepare: (words) => this.admin.prepare(words) },
      metricSources: () => this.metricSources(),
      listeners: () => this.listeners.all(),
    });
    this.plugins = pluginControl(this.pluginManager, hooks, this.core.manager);
    const isKept = config.text("store.type") !== "memory";
    this.apiKeys = new ApiKeys(config, {
      file: isKept ? apiKeysFile(config.dataDir) : undefined,
      moreScopes: () => this.pluginManager.httpModules().map(({ scope }) => scope),
    });
    this.admin = commandRegistry({
      core: this.core,
      config,
      broker: this,
      pluginManager: this.pluginManager,
      listeners: this.listeners,
      apiKeys: this.apiKeys,
      logs: log,
      version: version(),
      metricSources: () => this.metricSources(),
    });
  }

  async start(plugins: readonly PluginSource[]): Promise<void> {
    const { core, config } = this;
    config.onChange((key) => {
      core.settings = sessionSettings(config);
      core.hooks.tell("change_config", { settings: [{ key, value: config.value(key) }] });
    });
    core.wheel.onFailure = (failure) => {
      this.log.limited("timer fault", 1).fault("internal error in a timer", failure);
    };
    await this.store.open();
    this.system.start();
    try {
      core.wheel.start();
      await core.manager.restore();
      await this.pluginManager.startAll(plugins);
      const all = [...config.listeners, ...config.httpListeners];
      const listeners = all.map((settings) => this.listeners.add(settings));
      await Promise.all(listeners.map((listener) => this.startListener(listener)));
    } catch (error) {
      await this.close();
      throw error;
    }
    // Retained messages may be many: clients that subscribe earlier wait for theirs only.
    void core.router.retained.load().catch((cause: unknown) => {
      this.log.error("retained messages could not be read", { cause: String(cause) });
    });
    this.startJobs();
    this.warnAboutAnonymous();
    for (const { hook, plugin, behind, why } of this.plugins.unreachable()) {
      this.log.warn(`plugin ${plugin} is never asked ${hook}: ${behind} before it ${why}`, {
        hint: `give ${plugin} a lower plugins.${plugin}.priority, or change ${behind}`,
      });
    }
  }

  private buildListener(settings: ListenerSettings): Listener {
    const { core, log } = this;
    return createListener(
      settings,
      {
        onTransport: (transport: Transport) => transport.start(new Session(core, transport)),
        onRefused: (_, peer, reason) => {
          core.counters.socketError++;
          log.limited("connection refused", 10).info("connection refused", {
            listener: `${settings.kind}.${settings.name}`,
            peer: peer.address,
            reason,
          });
        },
      },
      { logger: log },
    );
  }

  /** A listener that cannot start is logged and skipped, as in VerneMQ; without any, the start fails. */
  private async startListener(listener: Listener): Promise<void> {
    const { settings } = listener;
    try {
      await this.listeners.run(listener);
      const place = settings.address.includes(":") ? `[${settings.address}]` : settings.address;
      const address = settings.unixSocket ? settings.address : `${place}:${listener.boundPort}`;
      const hasPage = "modules" in settings && settings.modules.includes("vmq_status_http");
      this.log.info("listener started", {
        listener: `${settings.kind}.${settings.name}`,
        address,
        ...(hasPage ? { status_page: `${settings.kind}://${address}/status` } : {}),
      });
    } catch (error) {
      if (isMqtt(settings) && (this.config.listeners.length === 1 || this.config.isFirstRun))
        throw error;
      this.log.error("listener could not be started", {
        listener: `${settings.kind}.${settings.name}`,
        cause: errorMessage(error),
        ...(error instanceof NautilusError ? { hint: error.hint } : {}),
      });
      this.listeners.forget(listener);
    }
  }

  private startJobs(): void {
    const { config, core } = this;
    this.atClose.push(startSystree(config, core.router, () => this.metricSources()));
    const graphite = new GraphiteExporter({
      config,
      log: this.log,
      sources: () => this.metricSources(),
    });
    graphite.start();
    this.atClose.push(() => graphite.stop());
    const expireS = config.int("expire_retain_cache");
    if (expireS > 0) this.every(expireS * 1000, () => core.router.retained.dropExpired(Date.now()));
  }

  private every(ms: number, job: () => void): void {
    const timer = setInterval(job, ms);
    timer.unref();
    this.timers.push(timer);
  }

  private warnAboutAnonymous(): void {
    const skipped = this.pluginManager
      .list()
      .filter(
        ({ plugin: { name, hooks } }) =>
          (hooks.auth_on_register ?? hooks.auth_on_register_m5 ?? hooks.on_auth_m5) !== undefined &&
          this.isWanted(name),
      );
    if (this.core.settings.allowAnonymous !== "on" || skipped.length === 0) return;
    this.log.warn("allow_anonymous = on: these plugins are not asked who may connect", {
      plugins: skipped.map(({ plugin }) => plugin.name).join(", "),
      hint: "use allow_anonymous = off, or hooks to ask them and accept when none answers",
    });
  }

  /** False for a plugin that is on by default only, without a word about it in the configuration. */
  private isWanted(name: string): boolean {
    const file = this.pluginManager.list().find(({ plugin }) => plugin.name === name)?.file;
    const isBundled = file?.isBundled === true;
    const { config } = this;
    return (
      !isBundled || config.isWritten(`plugins.${name}`) || config.keysBelow(`${name}.`).length > 0
    );
  }

  // ---- what callers see

  port(kind: AnyListenerSettings["kind"] = "tcp", name?: string): number {
    return this.listeners.named(kind, name).boundPort;
  }

  metrics(): Record<string, number> {
    return Object.fromEntries(aggregate(collectSeries(this.metricSources())));
  }

  metricSeries(): Record<string, number> {
    return Object.fromEntries(
      collectSeries(this.metricSources()).map((series) => [seriesKey(series), series.value]),
    );
  }

  private metricSources(): MetricSources {
    const { system } = this;
    return { ...this.core, system, pluginSeries: () => this.pluginManager.series() };
  }

  sessions(): SessionInfo[] {
    const all: SessionInfo[] = [];
    for (const subscriber of this.core.manager.subscribers.values()) {
      const session = subscriber.session;
      all.push({
        client_id: subscriber.clientId,
        mountpoint: subscriber.mountpoint,
        user: subscriber.username,
        is_online: session !== undefined,
        peer_host: session?.transport.peer.address,
        peer_port: session?.transport.peer.port,
        protocol: subscriber.protocolLevel,
        clean_session: subscriber.sessionExpiryS === 0,
        queue_size: session?.out.queue.size ?? subscriber.queue.offlineSize,
        inflight: session?.out.inflight.count ?? 0,
        subscriptions: [...(subscriber.subscriptions?.values() ?? [])].map(({ filter, qos }) => ({
          topic: filter,
          qos,
        })),
      });
    }
    return all;
  }

  disconnectClient(
    clientId: string,
    options: { mountpoint?: string; cleanup?: boolean } = {},
  ): boolean {
    const { mountpoint = "", cleanup = false } = options;
    return this.core.manager.disconnect(mountpoint, clientId, cleanup);
  }

  reauthorize(
    clientId: string,
    options: { mountpoint?: string; username?: string } = {},
  ): Promise<{ removed: string[]; added: string[] }> {
    return reauthorize(this.core, clientId, options);
  }

  retained(mountpoint = ""): { topic: string; payload: Buffer; qos: number }[] {
    return this.core.router.retained
      .list(mountpoint)
      .map(({ topic, payload, qos }) => ({ topic, payload, qos }));
  }

  deleteRetained(topic: string, mountpoint = ""): boolean {
    return this.core.router.retained.delete(mountpoint, topic);
  }

  set(key: string, value: string): void {
    this.config.set(key, value);
  }

  async stopListener(
    kind: string,
    name: string,
    options: { killSessions?: boolean } = {},
  ): Promise<boolean> {
    const found = this.listeners
      .all()
      .find(({ settings }) => settings.kind === kind && settings.name === name);
    if (found?.isRunning !== true) return false;
    const stopped = found.stop();
    if (options.killSessions === true) this.endConnections(found.settings);
    await stopped;
    return true;
  }

  private endConnections(settings: AnyListenerSettings): void {
    for (const session of [...this.core.manager.sessions()]) {
      if (session.transport.listener !== settings) continue;
      session.end({ code: 0x98, reason: "listener stopped", publishWill: true });
    }
  }

  enablePlugin(plugin: AnyPlugin): void {
    this.pluginManager.add(plugin);
  }

  disablePlugin(name: string): boolean {
    return this.pluginManager.disable(name);
  }

  control(
    command: string,
    args: readonly string[],
    options: RunOptions = {},
  ): Promise<{ exit: number; stdout: string; stderr: string }> {
    return this.admin.run([command, ...args], options);
  }

  close(): Promise<void> {
    this.closing ??= this.shutDown();
    return this.closing;
  }

  private async shutDown(): Promise<void> {
    this.system.stop();
    for (const timer of this.timers) clearInterval(timer);
    for (const end of this.atClose) end();
    const stopped = Promise.allSettled(this.listeners.all().map((listener) => listener.stop()));
    this.core.manager.stop();
    await stopped;
    await this.pluginManager.stopAll();
    await this.store.close();
    this.core.wheel.stop();
    this.log.flush();
  }
}

function buildStore(config: Config, log: Logger, counters: Counters): Store {
  if (config.text("store.type") === "memory") return new MemoryStore();
  const store = new EmbeddedStore({
    folder: join(config.dataDir, "store"),
    sync: config.flag("store.sync"),
    onWritten: (ms) => counters.storeCommit.timed(ms),
    onDamaged: (key, reason) => log.error("damaged record set aside", { key, reason }),
    onRepair: (cause) =>
      log.error("the store was damaged and is being repaired", {
        cause: String(cause),
      }),
  });
  store.onError = (error) => {
    log.limited("store write", 1).error("the store cannot be written; nothing is acknowledged", {
      cause: error.message,
    });
  };
  return store;
}
