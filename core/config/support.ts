import type { SchemaRow } from "./schema.ts";

/**
 * What this release does with a key:
 * - `works`: obeyed.
 * - `later`: its feature is not built yet; only values that ask for nothing are accepted.
 * - `cluster`: accepted with a notice, since this node is alone for now.
 * - `erlang`: steers the Erlang machine only, or has no counterpart in Node; one notice for all.
 * - `elsewhere`: accepted, but something else decides; `why` says what.
 */
export type Support =
  | { kind: "works" | "cluster" | "erlang" }
  | { kind: "later"; feature: string; accept?: readonly string[] }
  | { kind: "elsewhere"; why: string };

/** A key of the schema, or with `.*` all keys that begin so. The key itself wins, then the longest. */
type Rules = readonly (readonly [keys: string, support: Support])[];

const WORKS: Support = { kind: "works" };
const CLUSTER: Support = { kind: "cluster" };
const ERLANG: Support = { kind: "erlang" };
const DATA_DIR: Support = {
  kind: "elsewhere",
  why: "the data directory is chosen by --data-dir or NAUTILUS_DATA_DIR",
};

const BRIDGE_STORE: Support = {
  kind: "elsewhere",
  why: "messages that wait for a bridge are in the broker's own store",
};

const RESERVED: Support = { kind: "elsewhere", why: "VerneMQ reserves it and never reads it" };
const HTTP_USER: Support = {
  kind: "elsewhere",
  why: "HTTP requests are let in by API keys and have no MQTT user name",
};

/** Listener options of Erlang's sockets. */
const TUNING = [
  ...["tcp.nr_of_acceptors", "ssl.nr_of_acceptors", "ws.nr_of_acceptors", "wss.nr_of_acceptors"],
  ...["http.nr_of_acceptors", "https.nr_of_acceptors"],
  ...["tcp.active_n", "ssl.active_n", "tcp.buffer_sizes", "ssl.buffer_sizes"],
];

/** Without `accept` a later key is accepted at its default, `off` or empty. */
function later(feature: string, accept?: readonly string[]): Support {
  return { kind: "later", feature, ...(accept === undefined ? {} : { accept }) };
}

/** The one place to flip when a feature is built: remove its line (everything else works). */
export const SUPPORT_RULES: Rules = [
  ...["tcp", "ssl"].flatMap((transport) =>
    ["queue_dir", "segment_size"].map(
      (option) => [`vmq_bridge.${transport}.$name.${option}`, BRIDGE_STORE] as const,
    ),
  ),
  ["vmq_web_ui.*", later("plugin vmq_web_ui")],
  // HTTP
  ["vmq_http_pub.mqtt_auth.auth_plugin", RESERVED],
  ["listener.http.$name.http_modules.vmq_http_pub.mqtt_auth.auth_plugin", RESERVED],
  ["listener.https.$name.http_modules.vmq_http_pub.mqtt_auth.auth_plugin", RESERVED],
  ["listener.http.proxy_protocol_use_cn_as_username", HTTP_USER],
  ["listener.http.$name.proxy_protocol_use_cn_as_username", HTTP_USER],
  // Logs of the Erlang machine
  ["log.sasl", ERLANG],
  ["log.sasl.*", ERLANG],
  // Logger of VerneMQ 1.x
  ["log.crash.maximum_message_size", ERLANG],
  ["log.crash.size", ERLANG],
  ["log.crash.rotation", ERLANG],
  ["log.error.messages_per_second", ERLANG],
  ["log.error.redirect", ERLANG],
  ["log.syslog.ident", ERLANG],
  // Clustering
  ["listener.vmq.*", CLUSTER],
  ["listener.vmqs.*", CLUSTER],
  ["distributed_cookie", CLUSTER],
  ["coordinate_registrations", CLUSTER],
  ["max_drain_time", CLUSTER],
  ["max_msgs_per_drain_step", CLUSTER],
  ["outgoing_clustering_buffer_size", CLUSTER],
  ["incoming_clustering_buffer_size", CLUSTER],
  ["outgoing_clustering_flush_threshold", CLUSTER],
  ["outgoing_cluster_handshake_ack_timeout", CLUSTER],
  ["remote_enqueue_timeout", CLUSTER],
  ["cluster_ready_rpc_timeout", CLUSTER],
  ["shared_subscription_timeout_action", CLUSTER],
  // No counterpart in Node
  ["fanout.*", ERLANG],
  ["logging.obfuscation_secret", ERLANG],
  ["vmq_generic_msg_store.nr_of_buckets", ERLANG],
  ["listener.nr_of_acceptors", ERLANG],
  ...TUNING.flatMap(
    (option): Rules => [
      [`listener.${option}`, ERLANG],
      [`listener.${option.replace(".", ".$name.")}`, ERLANG],
    ],
  ),
  // The store
  ["message_store_plugin", later("another message store")],
  ["vmq_generic_msg_store.store_dir", DATA_DIR],
  ["platform_data_dir", DATA_DIR],
  ["accept_eula", { kind: "elsewhere", why: "there is nothing to accept" }],
];

const BY_KEYS = new Map<string, Support>(SUPPORT_RULES);

/** What this release does with a row. */
export function supportOf(row: SchemaRow): Support {
  if (row.erlangOnly === true) return ERLANG;
  const exact = BY_KEYS.get(row.key);
  if (exact !== undefined) return exact;
  for (let end = row.key.lastIndexOf("."); end > 0; end = row.key.lastIndexOf(".", end - 1)) {
    const support = BY_KEYS.get(`${row.key.slice(0, end)}.*`);
    if (support !== undefined) return support;
  }
  return WORKS;
}

/**
 * Variables of VerneMQ's Docker image that are no settings. Others with the prefix are; the first
 * rule whose text is part of the name decides.
 */
export const DOCKER_RULES: readonly (readonly [part: string, support: Support])[] = [
  ["DISCOVERY_NODE", CLUSTER],
  ["KUBERNETES", CLUSTER],
  ["SWARM", CLUSTER],
  ["COMPOSE", CLUSTER],
  ["DOCKER_VERNEMQ_USER", later("plugin vmq_passwd")],
];
