import type { Config } from "../config/types.ts";
import { LatencyHistogram } from "../counters.ts";
import { Message } from "../mqtt/message.ts";
import type { Router } from "../routing/router.ts";
import {
  aggregate,
  collectHistograms,
  collectSeries,
  histogramPoints,
  type MetricSources,
} from "./metrics.ts";

export interface SystreeOptions {
  nodeName: string;
  /** `systree_mountpoint`. */
  mountpoint: string;
  /** `systree_qos`. */
  qos: number;
  /** `systree_retain`. */
  retain: boolean;
}

/** Publishes every metric below `$SYS/<node>/`. Clients cannot publish there. */
export function publishSystree(
  router: Router,
  sources: MetricSources,
  options: SystreeOptions,
): void {
  const mount = router.mount(options.mountpoint);
  if (mount.trie.size === 0 && !options.retain) return;
  for (const [name, value] of systreeValues(sources)) {
    const topic = `$SYS/${options.nodeName}/${name.replaceAll("_", "/")}`;
    const payload = Buffer.from(String(Math.round(value)));
    const { mountpoint, qos, retain } = options;
    const message = new Message(mountpoint, topic, payload, qos, retain, undefined, 0);
    const route = mount.lookupText(topic, true);
    if (retain) router.publishRetained(route, message, undefined, Date.now());
    else router.publish(route, message, undefined);
  }
}

/** Counters and gauges summed over their labels, histograms as count, sum and buckets. */
export function* systreeValues(
  sources: MetricSources,
): IterableIterator<readonly [name: string, value: number]> {
  yield* aggregate(collectSeries(sources));
  const sums = new Map<string, LatencyHistogram>();
  for (const { name, histogram } of collectHistograms(sources)) {
    const sum = sums.get(name) ?? new LatencyHistogram();
    sum.sumMs += histogram.sumMs;
    for (const [at, count] of histogram.counts.entries())
      sum.counts[at] = (sum.counts[at] ?? 0) + count;
    sums.set(name, sum);
  }
  for (const [name, sum] of sums) {
    for (const [suffix, value] of histogramPoints(sum)) yield [`${name}_${suffix}`, value];
  }
}

/** The first round after the start, and after `set` switched it on. */
const FIRST_MS = 1000;

/**
 * Publishes in rounds of `systree_interval`, as long as `systree_enabled` is on; both may change while
 * the broker runs. Gives the function that ends it.
 */
export function startSystree(
  config: Config,
  router: Router,
  sources: () => MetricSources,
): () => void {
  let timer: NodeJS.Timeout | undefined;
  const plan = (ms: number): void => {
    clearTimeout(timer);
    timer = setTimeout(round, ms).unref();
  };
  const round = (): void => {
    const intervalMs = config.int("systree_interval");
    // VerneMQ's documentation has 0 as off.
    if (!config.flag("systree_enabled") || intervalMs <= 0) return;
    publishSystree(router, sources(), {
      nodeName: config.text("nodename"),
      mountpoint: config.text("systree_mountpoint"),
      qos: config.int("systree_qos"),
      retain: config.flag("systree_retain"),
    });
    plan(intervalMs);
  };
  let isEnded = false;
  config.onChange((key) => {
    if (!isEnded && key.startsWith("systree_")) plan(FIRST_MS);
  });
  plan(FIRST_MS);
  return () => {
    isEnded = true;
    clearTimeout(timer);
  };
}
