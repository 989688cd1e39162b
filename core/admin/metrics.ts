import {
  type ByVersion,
  type Counters,
  LATENCY_BOUNDS_S,
  type LatencyHistogram,
  type ReasonCounter,
} from "../counters.ts";
import type { HookRegistry } from "../hooks/registry.ts";
import { RETURN_CODES, reasonName } from "../mqtt/reason-codes.ts";
import type { Router } from "../routing/router.ts";
import type { SessionManager } from "../session/manager.ts";
import type { HistogramSeries } from "./prometheus.ts";
import type { SystemMetrics } from "./system-metrics.ts";

/** Where the metrics are read from at the moment they are asked for. */
export interface MetricSources {
  readonly counters: Counters;
  readonly router: Router;
  readonly manager: SessionManager;
  readonly hooks: HookRegistry;
  /** Metrics that plugins registered. */
  readonly pluginSeries?: () => Iterable<{
    name: string;
    labels: Readonly<Record<string, string>>;
    type: "counter" | "gauge";
    value: number;
  }>;
  /** What the process knows of itself. */
  readonly system?: SystemMetrics;
}

export interface Series {
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
  /** Of a plugin's metric; metric-table.ts has it for the others. */
  readonly type?: "counter" | "gauge";
}

/** Reason codes that have a series from the start, by the packets that carry them. */
const REASONS = {
  ack: [0x00, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99],
  release: [0x00, 0x92],
  auth: [0x00, 0x18, 0x19],
  connack: [
    0x00, 0x80, 0x81, 0x82, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8a, 0x8c, 0x90, 0x95, 0x97,
    0x99, 0x9a, 0x9b, 0x9c, 0x9d, 0x9f,
  ],
  disconnectReceived: [
    0x00, 0x04, 0x80, 0x81, 0x82, 0x83, 0x90, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99,
  ],
  disconnectSent: [
    0x00, 0x80, 0x81, 0x82, 0x83, 0x87, 0x89, 0x8b, 0x8d, 0x8e, 0x8f, 0x90, 0x93, 0x94, 0x95, 0x96,
    0x97, 0x98, 0x99, 0x9a, 0x9b, 0x9c, 0x9d, 0x9e, 0x9f, 0xa0, 0xa1, 0xa2,
  ],
} as const;

/** Series of older releases, always 0 but still listed. */
const OBSOLETE = [
  "mqtt_connack_accepted_sent",
  "mqtt_connack_unacceptable_protocol_sent",
  "mqtt_connack_identifier_rejected_sent",
  "mqtt_connack_server_unavailable_sent",
  "mqtt_connack_bad_credentials_sent",
  "mqtt_connack_not_authorized_sent",
] as const;

/** What only a cluster counts. */
const CLUSTER = [
  "cluster_bytes_received",
  "cluster_bytes_sent",
  "cluster_bytes_dropped",
  "netsplit_detected",
  "netsplit_resolved",
] as const;

/** Every series of the broker with VerneMQ's names and labels. */
export function collectSeries(sources: MetricSources): Series[] {
  const { counters, router, manager } = sources;
  const series: Series[] = [];
  const plain = (name: string, value: number): void => {
    series.push({ name, labels: {}, value });
  };
  const versions = (name: string, [v4, v5]: ByVersion): void => {
    series.push({ name, labels: { mqtt_version: "4" }, value: v4 });
    series.push({ name, labels: { mqtt_version: "5" }, value: v5 });
  };
  const reasons = (
    name: string,
    counter: ReasonCounter,
    codes: readonly number[],
    hasV4 = true,
  ): void => {
    if (hasV4) series.push({ name, labels: { mqtt_version: "4" }, value: sum(counter.v4) });
    for (let code = 0; code < 256; code++) {
      const value = counter.v5[code] as number;
      if (value === 0 && !codes.includes(code)) continue;
      const isDisconnect = name.startsWith("mqtt_disconnect");
      const reason = code === 0 && isDisconnect ? "normal_disconnect" : reasonName(code);
      series.push({ name, labels: { mqtt_version: "5", reason_code: reason }, value });
    }
  };

  plain("socket_open", counters.socketOpen);
  plain("socket_close", counters.socketClose);
  plain("socket_close_timeout", counters.socketCloseTimeout);
  plain("socket_error", counters.socketError);
  plain("bytes_received", counters.bytesReceived);
  plain("bytes_sent", counters.bytesSent);
  versions("mqtt_connect_received", counters.connectReceived);
  versions("mqtt_publish_received", counters.publishReceived);
  reasons("mqtt_puback_received", counters.pubackReceived, REASONS.ack);
  reasons("mqtt_pubrec_received", counters.pubrecReceived, REASONS.ack);
  reasons("mqtt_pubrel_received", counters.pubrelReceived, REASONS.release);
  reasons("mqtt_pubcomp_received", counters.pubcompReceived, REASONS.release);
  versions("mqtt_subscribe_received", counters.subscribeReceived);
  versions("mqtt_unsubscribe_received", counters.unsubscribeReceived);
  versions("mqtt_pingreq_received", counters.pingreqReceived);
  reasons("mqtt_disconnect_received", counters.disconnectReceived, REASONS.disconnectReceived);
  reasons("mqtt_auth_received", counters.authReceived, REASONS.auth, false);
  RETURN_CODES.forEach((name, code) => {
    const labels = { mqtt_version: "4", return_code: name };
    series.push({
      name: "mqtt_connack_sent",
      labels,
      value: counters.connackSent.v4[code] as number,
    });
  });
  reasons("mqtt_connack_sent", counters.connackSent, REASONS.connack, false);
  versions("mqtt_publish_sent", counters.publishSent);
  reasons("mqtt_puback_sent", counters.pubackSent, REASONS.ack);
  reasons("mqtt_pubrec_sent", counters.pubrecSent, REASONS.ack);
  reasons("mqtt_pubrel_sent", counters.pubrelSent, REASONS.release);
  reasons("mqtt_pubcomp_sent", counters.pubcompSent, REASONS.release);
  versions("mqtt_suback_sent", counters.subackSent);
  versions("mqtt_unsuback_sent", counters.unsubackSent);
  versions("mqtt_pingresp_sent", counters.pingrespSent);
  reasons("mqtt_disconnect_sent", counters.disconnectSent, REASONS.disconnectSent, false);
  reasons("mqtt_auth_sent", counters.authSent, REASONS.auth, false);
  versions("mqtt_publish_auth_error", counters.publishAuthError);
  versions("mqtt_subscribe_auth_error", counters.subscribeAuthError);
  versions("mqtt_invalid_msg_size_error", counters.invalidMsgSizeError);
  versions("mqtt_puback_invalid_error", counters.pubackInvalidError);
  series.push({
    name: "mqtt_pubrec_invalid_error",
    labels: { mqtt_version: "4" },
    value: counters.pubrecInvalidError[0],
  });
  versions("mqtt_pubcomp_invalid_error", counters.pubcompInvalidError);
  versions("mqtt_publish_error", counters.publishError);
  versions("mqtt_subscribe_error", counters.subscribeError);
  versions("mqtt_unsubscribe_error", counters.unsubscribeError);
  versions("client_keepalive_expired", counters.keepaliveExpired);
  plain("queue_setup", counters.queueSetup);
  plain("queue_initialized_from_storage", counters.queueInitializedFromStorage);
  plain("queue_teardown", counters.queueTeardown);
  plain("queue_processes", manager.subscribers.size);
  plain("queue_message_drop", counters.queueMessageDrop);
  plain("queue_message_expired", counters.queueMessageExpired);
  plain("queue_message_unhandled", counters.queueMessageUnhandled);
  plain("queue_message_in", counters.queueMessageIn);
  plain("queue_message_out", counters.queueMessageOut);
  plain("router_matches_local", counters.routerMatchesLocal);
  plain("router_matches_remote", counters.routerMatchesRemote);
  for (const name of CLUSTER) plain(name, 0);
  for (const name of OBSOLETE) series.push({ name, labels: { mqtt_version: "4" }, value: 0 });
  plain("client_expired", 0);
  const active = countActive(manager);
  plain("active_mqtt_connections", active.mqtt);
  plain("active_mqttws_connections", active.mqttws);
  plain("total_active_connections", active.mqtt + active.mqttws);
  plain("router_memory", router.memoryBytes);
  plain("router_subscriptions", router.subscriptions);
  plain("retain_messages", router.retained.count);
  plain("retain_memory", router.retained.bytes);
  const sessions = manager.subscribers.size;
  const { bytesReceived: bytesIn, bytesSent: bytesOut } = counters;
  for (const [name, value] of sources.system?.read({ bytesIn, bytesOut, sessions }) ?? []) {
    plain(name, value);
  }
  for (const { plugin, hook, stats } of sources.hooks.stats()) {
    const labels = { plugin, hook };
    series.push({ name: "plugin_hook_calls", labels, value: stats.calls });
    series.push({ name: "plugin_hook_refusals", labels, value: stats.error + stats.invalid });
    series.push({ name: "plugin_hook_failures", labels, value: stats.failures });
    series.push({ name: "plugin_hook_timeouts", labels, value: stats.timeouts });
    series.push({ name: "plugin_hook_skipped", labels, value: stats.skipped });
  }
  for (const { name, labels, type, value } of sources.pluginSeries?.() ?? []) {
    series.push({ name, labels, value, type });
  }
  return series;
}

/** Every histogram; a hook has one once it was called. */
export function collectHistograms({ counters, hooks }: MetricSources): HistogramSeries[] {
  const all: HistogramSeries[] = [
    { name: "publish_latency_microseconds", labels: {}, histogram: counters.publishLatency },
    { name: "store_commit_microseconds", labels: {}, histogram: counters.storeCommit },
  ];
  for (const { plugin, hook, stats } of hooks.stats()) {
    if (stats.calls === 0) continue;
    const labels = { plugin, hook };
    all.push({ name: "plugin_hook_latency_microseconds", labels, histogram: stats.latency });
  }
  return all;
}

/** A histogram as single numbers: count, sum in µs, and cumulative buckets up to powers of 16 µs. */
export function histogramPoints(histogram: LatencyHistogram): [suffix: string, value: number][] {
  const buckets: [string, number][] = [];
  let count = 0;
  for (const [bucket, own] of histogram.counts.entries()) {
    count += own;
    const bound = LATENCY_BOUNDS_S[bucket];
    // Every fourth bound, from 1 µs on, keeps lists readable.
    if (bound === undefined || bucket % 4 !== 2) continue;
    buckets.push([`bucket_${Math.round(bound * 1e6)}`, count]);
  }
  return [
    ["count", count],
    ["sum", Math.round(histogram.sumMs * 1000)],
    ...buckets,
    ["bucket_inf", count],
  ];
}

/** One value per name, labels summed: `metrics show` and `$SYS`. */
export function aggregate(series: readonly Series[]): Map<string, number> {
  const totals = new Map<string, number>();
  for (const { name, value } of series) totals.set(name, (totals.get(name) ?? 0) + value);
  return totals;
}

/** `name{label="value",...}` as Prometheus writes it. */
export function seriesKey({ name, labels }: Series): string {
  const pairs = Object.entries(labels).map(([key, value]) => `${key}="${value}"`);
  return pairs.length === 0 ? name : `${name}{${pairs.join(",")}}`;
}

/** Connected clients by kind of transport. */
function countActive(manager: SessionManager): { mqtt: number; mqttws: number } {
  const active = { mqtt: 0, mqttws: 0 };
  for (const session of manager.sessions()) {
    const { kind } = session.transport.listener;
    if (kind === "ws" || kind === "wss") active.mqttws++;
    else active.mqtt++;
  }
  return active;
}

function sum(values: Float64Array): number {
  let total = 0;
  for (const value of values) total += value;
  return total;
}
