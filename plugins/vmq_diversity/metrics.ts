import type { PluginContext } from "../../core/plugin-api.ts";
import type { AuthCache } from "./auth-cache.ts";
import type { LuaHost } from "./host.ts";
import type { KvStore } from "./kv.ts";
import type { HookTimes } from "./script-stats.ts";
import type { Scripts } from "./scripts.ts";
import type { PoolStats } from "./worker/library.ts";

export interface MetricParts {
  readonly host: LuaHost;
  readonly scripts: Scripts;
  readonly cache: AuthCache;
  readonly kv: KvStore;
}

/** Providers whose pools have metrics. */
const KINDS = [
  "postgres",
  "cockroachdb",
  "mysql",
  "mysql2",
  "mongodb",
  "redis",
  "memcached",
  "http",
] as const;

/** Numbers of the scripts, the cache and all pools of a kind together. */
export function registerMetrics(
  { metrics }: Pick<PluginContext, "metrics">,
  { host, scripts, cache, kv }: MetricParts,
): void {
  const gauge = (name: string, read: () => number): void => {
    metrics.gauge(`vmq_diversity_${name}`, read);
  };
  const overTimes = (read: (times: HookTimes) => number): number => {
    let sum = 0;
    for (const { times } of scripts.all()) for (const one of times.values()) sum += read(one);
    return sum;
  };
  gauge("scripts", () => scripts.all().length);
  gauge("calls", () => overTimes((times) => times.calls));
  gauge("script_errors", () => overTimes((times) => times.errors));
  gauge("script_timeouts", () => overTimes((times) => times.timeouts));
  gauge("script_killed", () => overTimes((times) => times.killed));
  gauge("calls_refused", () => overTimes((times) => times.busy));
  gauge("calls_waiting", () => host.calls);
  gauge("threads_replaced", () => host.threadsReplaced);
  gauge("lua_states", () => overStats(host, (version) => version.states));
  gauge("lua_memory", () => overStats(host, (version) => version.memoryBytes));
  gauge("cache_entries", () => cache.metrics.entries);
  gauge("cache_hits", () => cache.metrics.hits);
  gauge("cache_misses", () => cache.metrics.misses);
  gauge("cache_bytes", () => cache.metrics.bytes);
  gauge("cache_evictions", () => cache.metrics.evictions);
  gauge("kv_entries", () => kv.size.entries);
  gauge("kv_bytes", () => kv.size.bytes);
  for (const kind of KINDS) {
    const pools = (read: (pool: PoolStats) => number): number => {
      let sum = 0;
      for (const { pools: all } of host.stats()) {
        for (const pool of all) if (pool.kind === kind) sum += read(pool);
      }
      return sum;
    };
    gauge(`${kind}_pool_size`, () => pools(({ size }) => size));
    gauge(`${kind}_pool_open`, () => pools(({ open }) => open));
    gauge(`${kind}_pool_busy`, () => pools(({ busy }) => busy));
    gauge(`${kind}_pool_waiting`, () => pools(({ waiting }) => waiting));
    gauge(`${kind}_pool_calls`, () => pools(({ calls }) => calls));
    gauge(`${kind}_pool_errors`, () => pools(({ errors }) => errors));
    gauge(`${kind}_pool_elapsed_ms`, () => pools(({ totalMs }) => Math.round(totalMs)));
  }
}

function overStats(
  host: LuaHost,
  read: (version: { states: number; memoryBytes: number }) => number,
): number {
  let sum = 0;
  for (const { versions } of host.stats()) for (const version of versions) sum += read(version);
  return sum;
}
