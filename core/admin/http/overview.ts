import { LATENCY_BOUNDS_S, type LatencyHistogram } from "../../counters.ts";
import type { Link } from "../../hooks/chain.ts";
import type { PluginManager } from "../../hooks/plugin-manager.ts";
import { HOOK_NAMES, type HookRegistry } from "../../hooks/registry.ts";
import { seriesKey } from "../metrics.ts";
import type { ListenerState } from "./types.ts";

/** One plugin in the chain of a hook, with what it did since the broker started. */
export interface HookLinkView {
  readonly plugin: string;
  readonly calls: number;
  readonly accepted: number;
  readonly passedOn: number;
  readonly refused: number;
  readonly failed: number;
  readonly timeouts: number;
  readonly skipped: number;
  readonly meanMicros: number | null;
  /** Upper end of the bucket that holds the 99th percentile. */
  readonly p99Micros: number | null;
}

/** The chain of each hook that has plugins, in call order. */
export function hookChains(hooks: HookRegistry): { hook: string; links: HookLinkView[] }[] {
  const chains = hooks.chains as unknown as Readonly<Record<string, readonly Link[]>>;
  return HOOK_NAMES.flatMap((hook) => {
    const links = (chains[hook] ?? []).map(viewOf);
    return links.length === 0 ? [] : [{ hook, links }];
  });
}

function viewOf({ plugin, stats }: Link): HookLinkView {
  const timed = stats.latency.counts.reduce((sum, count) => sum + count, 0);
  return {
    plugin,
    calls: stats.calls,
    accepted: stats.ok + stats.modified,
    passedOn: stats.next,
    refused: stats.error + stats.invalid,
    failed: stats.failures,
    timeouts: stats.timeouts,
    skipped: stats.skipped,
    meanMicros: timed === 0 ? null : (stats.latency.sumMs * 1000) / timed,
    p99Micros: timed === 0 ? null : percentileMicros(stats.latency, timed, 0.99),
  };
}

function percentileMicros({ counts }: LatencyHistogram, total: number, share: number): number {
  let seen = 0;
  for (const [bucket, count] of counts.entries()) {
    seen += count;
    const bound = LATENCY_BOUNDS_S[bucket];
    if (bound !== undefined && seen >= total * share) return bound * 1e6;
  }
  return Number(LATENCY_BOUNDS_S.at(-1)) * 1e6;
}

/** Metrics by the plugin that has them. */
export function pluginViews(
  manager: PluginManager,
): { plugin: string; metrics: { name: string; type: string; value: number }[] }[] {
  const views = new Map<string, { name: string; type: string; value: number }[]>(
    manager.list().map(({ plugin }) => [plugin.name, []]),
  );
  for (const { plugin, type, value, ...series } of manager.series()) {
    views.get(plugin)?.push({ name: seriesKey({ ...series, value }), type, value });
  }
  return [...views].map(([plugin, metrics]) => ({ plugin, metrics }));
}

/** Listeners as `/status.json` lists them; the mountpoint is text (VerneMQ: character codes). */
export function listenerViews(listeners: readonly ListenerState[]): object[] {
  return listeners.map(({ type, isRunning, address, port, mountpoint, maxConnections }) => ({
    type,
    status: isRunning ? "running" : "stopped",
    ip: address,
    port,
    mountpoint,
    max_conns: Number.isFinite(maxConnections) ? maxConnections : "infinity",
  }));
}
