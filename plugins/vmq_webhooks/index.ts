/** vmq_webhooks: HTTP endpoints that decide and observe. */
import { definePlugin, type PluginContext, withoutPassword } from "../../core/plugin-api.ts";
import { AnswerCache, CACHE_SWEEP_MS } from "./cache.ts";
import { webhookCommands } from "./commands.ts";
import { createMetrics } from "./metrics.ts";
import { configuredWebhooks } from "./options.ts";
import { type TlsSettings, tlsSettings } from "./tls.ts";
import { Webhooks } from "./webhooks.ts";

interface Running {
  readonly webhooks: Webhooks;
  readonly cache: AnswerCache;
  changed(settings: readonly { key: string }[]): void;
}

/** By the broker they are for. */
const running = new WeakMap<PluginContext, Running>();

/** Settings that connections are made with. */
const OF_CONNECTIONS =
  /^vmq_webhooks\.(pool_|cafile|certfile|keyfile|depth|verify_peer|tls_version|use_crls|crlfile)/;

function start(context: PluginContext): void {
  const number = (name: string): number => Number(context.config(`vmq_webhooks.${name}`));
  const specs = configuredWebhooks(context);
  const isTls = specs.some(({ endpoint }) => endpoint.startsWith("https:"));
  // Read once at the start for its faults; later for each pool.
  let tls: TlsSettings | undefined = isTls ? tlsSettings(context) : undefined;
  const cache = new AnswerCache(number("cache_size"));
  const webhooks: Webhooks = new Webhooks({
    cache,
    metrics: createMetrics(context),
    log: context.log,
    limits: {
      pool: () => ({
        connectionsMax: number("pool_max_connections"),
        idleMs: number("pool_timeout"),
        tls: () => {
          tls ??= tlsSettings(context);
          return tls;
        },
      }),
      queuedEvents: () => number("max_queued_events"),
      inflightEvents: () => number("max_inflight_events"),
    },
    onChange: () => context.setHooks(hooksOf(context)),
  });
  running.set(context, {
    webhooks,
    cache,
    changed: (settings) => {
      const keys = settings.map(({ key }) => key);
      if (keys.includes("vmq_webhooks.cache_size")) cache.resize(number("cache_size"));
      if (!keys.some((key) => OF_CONNECTIONS.test(key))) return;
      tls = undefined;
      webhooks.renewPools();
    },
  });
  for (const spec of specs) {
    if (webhooks.register(spec)) continue;
    context.log.warn("webhook is configured twice, the first one counts", {
      setting: `vmq_webhooks.${spec.name}`,
      hook: spec.hook,
      endpoint: withoutPassword(spec.endpoint),
    });
  }
  context.metrics.gauge("webhooks_cache_entries", () => cache.size);
  context.metrics.gauge("webhooks_queued_events", () => webhooks.queuedEvents);
  context.metrics.gauge("webhooks_pending", () => webhooks.pendingCalls);
  context.setInterval(() => cache.sweepSome(), CACHE_SWEEP_MS);
  for (const command of webhookCommands(webhooks, cache, context)) context.command(command);
}

function hooksOf(context: PluginContext) {
  const { webhooks, changed } = running.get(context) as Running;
  return {
    ...webhooks.hooks(),
    change_config: ({ settings }: { settings: readonly { key: string }[] }) => changed(settings),
  };
}

export default definePlugin({
  name: "vmq_webhooks",
  // Each webhook has a deadline of its own.
  hookTimeoutMs: 0,
  v5Compat: false,
  isPipelined: true,
  check: (context) => {
    const specs = configuredWebhooks(context);
    if (specs.some(({ endpoint }) => endpoint.startsWith("https:"))) tlsSettings(context);
  },
  start,
  hooks: hooksOf,
  stop(context) {
    running.get(context)?.webhooks.close();
    running.delete(context);
  },
});
