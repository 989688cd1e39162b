import type { ByVersion, Counters, ReasonCounter } from "../counters.ts";
import type { HookRegistry } from "../hooks/registry.ts";
import { reasonName } from "../mqtt/reason-codes.ts";
import type { Router } from "../routing/router.ts";
import type { SessionManager } from "../session/manager.ts";

/** Where the metrics are read from at the moment they are asked for. */
export interface MetricSources {
  readonly counters: Counters;
  readonly router: Router;
  readonly manager: SessionManager;
  readonly hooks: HookRegistry;
  /** Metrics that plugins registered. */
  readonly pluginSeries?: () => Iterable<{ name: string; value: number }>;
}

export interface Series {
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
}

/** Names of the MQTT 3 return codes 0..5 in `mqtt_connack_sent`. */
const RETURN_CODES = [
  "success",
  "unsupported_protocol_version",
  "client_identifier_not_valid",
  "server_unavailable",
  "bad_username_or_password",
  "not_authorized",
] as const;

/** Every series of the broker with VerneMQ's names and labels (metrics.md). */
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
  const reasons = (name: string, counter: ReasonCounter, hasV4 = true): void => {
    if (hasV4) series.push({ name, labels: { mqtt_version: "4" }, value: sum(counter.v4) });
    for (let code = 0; code < 256; code++) {
      const value = counter.v5[code] as number;
      if (value === 0 && code !== 0) continue;
      const labels = { mqtt_version: "5", reason_code: reasonName(code) };
      series.push({ name, labels, value });
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
  reasons("mqtt_puback_received", counters.pubackReceived);
  reasons("mqtt_pubrec_received", counters.pubrecReceived);
  reasons("mqtt_pubrel_received", counters.pubrelReceived);
  reasons("mqtt_pubcomp_received", counters.pubcompReceived);
  versions("mqtt_subscribe_received", counters.subscribeReceived);
  versions("mqtt_unsubscribe_received", counters.unsubscribeReceived);
  versions("mqtt_pingreq_received", counters.pingreqReceived);
  reasons("mqtt_disconnect_received", counters.disconnectReceived);
  reasons("mqtt_auth_received", counters.authReceived, false);
  RETURN_CODES.forEach((name, code) => {
    const labels = { mqtt_version: "4", return_code: name };
    series.push({
      name: "mqtt_connack_sent",
      labels,
      value: counters.connackSent.v4[code] as number,
    });
  });
  reasons("mqtt_connack_sent", counters.connackSent, false);
  versions("mqtt_publish_sent", counters.publishSent);
  reasons("mqtt_puback_sent", counters.pubackSent);
  reasons("mqtt_pubrec_sent", counters.pubrecSent);
  reasons("mqtt_pubrel_sent", counters.pubrelSent);
  reasons("mqtt_pubcomp_sent", counters.pubcompSent);
  versions("mqtt_suback_sent", counters.subackSent);
  versions("mqtt_unsuback_sent", counters.unsubackSent);
  versions("mqtt_pingresp_sent", counters.pingrespSent);
  reasons("mqtt_disconnect_sent", counters.disconnectSent, false);
  reasons("mqtt_auth_sent", counters.authSent, false);
  versions("mqtt_publish_auth_error", counters.publishAuthError);
  versions("mqtt_subscribe_auth_error", counters.subscribeAuthError);
  versions("mqtt_invalid_msg_size_error", counters.invalidMsgSizeError);
  versions("mqtt_puback_invalid_error", counters.pubackInvalidError);
  versions("mqtt_pubrec_invalid_error", counters.pubrecInvalidError);
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
  plain("router_subscriptions", router.subscriptions);
  plain("retain_messages", router.retained.count);
  plain("retain_memory", router.retained.bytes);
  for (const { plugin, hook, stats } of sources.hooks.stats()) {
    const labels = { plugin, hook };
    series.push({ name: "plugin_hook_calls", labels, value: stats.calls });
    series.push({ name: "plugin_hook_refusals", labels, value: stats.error + stats.invalid });
    series.push({ name: "plugin_hook_failures", labels, value: stats.failures });
    series.push({ name: "plugin_hook_timeouts", labels, value: stats.timeouts });
    series.push({ name: "plugin_hook_skipped", labels, value: stats.skipped });
  }
  for (const { name, value } of sources.pluginSeries?.() ?? []) plain(name, value);
  return series;
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

function sum(values: Float64Array): number {
  let total = 0;
  for (const value of values) total += value;
  return total;
}
