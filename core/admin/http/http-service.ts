import type { IncomingMessage, ServerResponse } from "node:http";
import type { Cluster } from "../../cluster/types.ts";
import type { Config } from "../../config/types.ts";
import { errorMessage } from "../../errors.ts";
import type { PluginManager } from "../../hooks/plugin-manager.ts";
import { createHttpListener } from "../../listeners/listener.ts";
import type { HttpListenerSettings, Listener, Peer } from "../../listeners/types.ts";
import type { Logger } from "../../logger.ts";
import { isMqtt, LISTENER_TYPES } from "../listener-control.ts";
import { aggregate, collectHistograms, collectSeries, type MetricSources } from "../metrics.ts";
import { prometheusText } from "../prometheus.ts";
import { WrongKeys } from "./access.ts";
import { apiV1Module, type CommandSource } from "./api-v1.ts";
import { apiV2Module } from "./api-v2.ts";
import { healthModule } from "./health-module.ts";
import { metricsModule } from "./metrics-module.ts";
import { hookChains, listenerViews, pluginViews } from "./overview.ts";
import { pluginModule } from "./plugin-module.ts";
import { RateLimiter } from "./rate-limiter.ts";
import { HttpServer } from "./server.ts";
import { statusModule } from "./status-module.ts";
import type { HttpModule, KeyCheck, ListenerState } from "./types.ts";

/** The broker as its HTTP interfaces see it. */
export interface HttpServiceParts {
  readonly config: Config;
  readonly log: Logger;
  readonly cluster: Cluster;
  readonly plugins: PluginManager;
  readonly version: string;
  readonly checkKey: KeyCheck;
  readonly commands: CommandSource;
  metricSources(): MetricSources;
  listeners(): readonly Listener[];
}

/** The modules of the broker, and a server for each HTTP listener. */
export class HttpService {
  private readonly parts: HttpServiceParts;
  private readonly modules: readonly HttpModule[];
  private readonly servers = new WeakMap<Listener, HttpServer>();
  private readonly requests: RateLimiter | undefined;
  private readonly wrongKeys = new WrongKeys();

  constructor(parts: HttpServiceParts) {
    this.parts = parts;
    const { config, cluster } = parts;
    const perS = config.int("max_http_request_rate");
    this.requests = perS > 0 ? new RateLimiter(perS) : undefined;
    this.modules = [
      metricsModule(() => this.metricsText()),
      statusModule({ status: () => this.status(), overview: () => this.overview() }),
      healthModule({ cluster, listeners: () => this.listenerStates() }),
      apiV1Module(parts.commands),
      apiV2Module(parts.metricSources().manager),
    ];
  }

  /** A listener that answers once it is prepared. */
  createListener(settings: HttpListenerSettings): Listener {
    const { log, checkKey } = this.parts;
    const server = new HttpServer(settings, {
      log,
      checkKey,
      requests: this.requests,
      wrongKeys: this.wrongKeys,
      modules: () => [...this.modules, ...this.parts.plugins.httpModules().map(pluginModule)],
    });
    const listener = createHttpListener(
      settings,
      {
        onRequest: (request: IncomingMessage, response: ServerResponse, peer: Peer) =>
          server.handle(request, response, peer),
        onRefused: (_, peer, reason) => {
          const fields = {
            listener: `${settings.kind}.${settings.name}`,
            peer: peer.address,
            reason,
          };
          log.limited("http refused", 10).info("HTTP connection refused", fields);
        },
      },
      { logger: log },
    );
    this.servers.set(listener, server);
    return listener;
  }

  /** Puts the modules of now behind a listener, before it starts; nothing for one of MQTT. */
  async prepare(listener: Listener): Promise<void> {
    await this.servers.get(listener)?.rebuild();
  }

  /** Plugins came or went: so do their modules. */
  pluginsChanged(): void {
    const all = this.parts.listeners().map((listener) => this.prepare(listener));
    void Promise.all(all).catch((failure: unknown) => {
      const cause = errorMessage(failure);
      this.parts.log.error("HTTP modules could not be put in place", { cause });
    });
  }

  /** Every listener, those of HTTP included. */
  listenerStates(): ListenerState[] {
    return this.parts.listeners().map(({ settings, boundPort, connections, isRunning }) => ({
      type: LISTENER_TYPES[settings.kind],
      name: settings.name,
      isRunning,
      address: settings.address,
      port: boundPort,
      mountpoint: isMqtt(settings) ? settings.mountpoint : "",
      maxConnections: settings.maxConnections,
      connections,
    }));
  }

  private metricsText(): string {
    const { config, cluster } = this.parts;
    const sources = this.parts.metricSources();
    return prometheusText(collectSeries(sources), collectHistograms(sources), {
      node: cluster.nodeName,
      namespace: config.text("prometheus_namespace"),
    });
  }

  private status(): object {
    const { cluster, version } = this.parts;
    const metrics = aggregate(collectSeries(this.parts.metricSources()));
    const of = (name: string): number => metrics.get(name) ?? 0;
    return [
      {
        [cluster.nodeName]: {
          num_online: of("total_active_connections"),
          num_offline: of("queue_processes") - of("total_active_connections"),
          msg_in: of("mqtt_publish_received"),
          msg_out: of("mqtt_publish_sent"),
          queue_in: of("queue_message_in"),
          queue_out: of("queue_message_out"),
          queue_drop: of("queue_message_drop"),
          queue_unhandled: of("queue_message_unhandled"),
          num_subscriptions: of("router_subscriptions"),
          num_retained: of("retain_messages"),
          matches_local: of("router_matches_local"),
          matches_remote: of("router_matches_remote"),
          version,
          mystatus: [
            Object.fromEntries(cluster.members().map(({ name, running }) => [name, running])),
          ],
          listeners: listenerViews(this.listenerStates()),
        },
      },
    ];
  }

  private overview(): object {
    const sources = this.parts.metricSources();
    const metrics = aggregate(collectSeries({ ...sources, pluginSeries: () => [] }));
    return {
      node: this.parts.cluster.nodeName,
      version: this.parts.version,
      members: this.parts.cluster.members(),
      metrics: Object.fromEntries(metrics),
      hooks: hookChains(sources.hooks),
      plugins: pluginViews(this.parts.plugins),
      listeners: this.listenerStates().map((state) => ({
        ...state,
        maxConnections: Number.isFinite(state.maxConnections) ? state.maxConnections : null,
      })),
    };
  }
}
