import type { PluginContext } from "../../core/plugin-api.ts";
import { METRIC_HOOKS, type WebhookHook } from "./hooks.ts";

interface Counter {
  increment(by?: number): void;
}

/** Of one hook. */
export interface HookMetrics {
  /** Requests that were sent, failed ones included, answers from the cache not. */
  readonly requests: Counter;
  /** Failures, malformed answers and refusals; not cancelled ones. */
  readonly errors: Counter;
  /** Of bodies. */
  readonly bytesSent: Counter;
  /** auth_on_register and auth_on_register_m5 only. */
  readonly register:
    | { readonly cancelled: Counter; readonly timeouts: Counter; readonly elapsedMs: Counter }
    | undefined;
}

/** Of all endpoints together. */
export interface WebhookMetrics {
  readonly byHook: ReadonlyMap<WebhookHook, HookMetrics>;
  readonly eventsDropped: Counter;
  /** Calls that were not made since a breaker was open. */
  readonly suspended: Counter;
  readonly retries: Counter;
  readonly malformed: Counter;
  readonly timeouts: Counter;
  readonly cacheHits: Counter;
  readonly cacheMisses: Counter;
  /** Calls that got the answer of an equal one under way. */
  readonly shared: Counter;
}

/** Registers every series: the names of VerneMQ, then ours. */
export function createMetrics({ metrics }: Pick<PluginContext, "metrics">): WebhookMetrics {
  const counter = (name: string): Counter => metrics.counter(`webhooks_${name}`);
  const byHook = new Map<WebhookHook, HookMetrics>();
  for (const hook of METRIC_HOOKS) {
    const of = (what: string): Counter => counter(`${hook}_${what}`);
    const isRegister = hook === "auth_on_register" || hook === "auth_on_register_m5";
    byHook.set(hook as WebhookHook, {
      requests: of("requests"),
      errors: of("errors"),
      bytesSent: of("bytes_sent"),
      register: isRegister
        ? {
            cancelled: of("cancelled"),
            timeouts: of("timeouts"),
            elapsedMs: of("elapsed_ms"),
          }
        : undefined,
    });
  }
  return {
    byHook,
    eventsDropped: counter("events_dropped"),
    suspended: counter("suspended"),
    retries: counter("retries"),
    malformed: counter("malformed"),
    timeouts: counter("timeouts"),
    cacheHits: counter("cache_hits"),
    cacheMisses: counter("cache_misses"),
    shared: counter("shared"),
  };
}
