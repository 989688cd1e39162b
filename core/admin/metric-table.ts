/** Type and meaning of a metric, as exported. */
export interface MetricRow {
  readonly type: "counter" | "gauge";
  readonly help: string;
}

const counter = (help: string): MetricRow => ({ type: "counter", help });
const gauge = (help: string): MetricRow => ({ type: "gauge", help });
const received = (packet: string): MetricRow => counter(`${packet} packets received from clients.`);
const sent = (packet: string): MetricRow => counter(`${packet} packets sent to clients.`);
const obsolete = counter("Always 0, replaced by mqtt_connack_sent.");
const unused = (what: string): MetricRow =>
  counter(`${what}; nothing of that kind here, always 0.`);

/** The broker's own metrics; those of plugins bring their own type. */
export const METRIC_TABLE: Readonly<Record<string, MetricRow>> = {
  socket_open: counter("Connections accepted."),
  socket_close: counter("Connections ended."),
  socket_close_timeout: counter("Connections closed because no CONNECT came in time."),
  socket_error: counter("Connections that failed, or were refused before MQTT began."),
  bytes_received: counter("Bytes read from clients."),
  bytes_sent: counter("Bytes written to clients."),
  mqtt_connect_received: received("CONNECT"),
  mqtt_publish_received: received("PUBLISH"),
  mqtt_puback_received: received("PUBACK"),
  mqtt_pubrec_received: received("PUBREC"),
  mqtt_pubrel_received: received("PUBREL"),
  mqtt_pubcomp_received: received("PUBCOMP"),
  mqtt_subscribe_received: received("SUBSCRIBE"),
  mqtt_unsubscribe_received: received("UNSUBSCRIBE"),
  mqtt_pingreq_received: received("PINGREQ"),
  mqtt_disconnect_received: received("DISCONNECT"),
  mqtt_auth_received: received("AUTH"),
  mqtt_connack_sent: sent("CONNACK"),
  mqtt_publish_sent: sent("PUBLISH"),
  mqtt_puback_sent: sent("PUBACK"),
  mqtt_pubrec_sent: sent("PUBREC"),
  mqtt_pubrel_sent: sent("PUBREL"),
  mqtt_pubcomp_sent: sent("PUBCOMP"),
  mqtt_suback_sent: sent("SUBACK"),
  mqtt_unsuback_sent: sent("UNSUBACK"),
  mqtt_pingresp_sent: sent("PINGRESP"),
  mqtt_disconnect_sent: sent("DISCONNECT"),
  mqtt_auth_sent: sent("AUTH"),
  mqtt_connack_accepted_sent: obsolete,
  mqtt_connack_unacceptable_protocol_sent: obsolete,
  mqtt_connack_identifier_rejected_sent: obsolete,
  mqtt_connack_server_unavailable_sent: obsolete,
  mqtt_connack_bad_credentials_sent: obsolete,
  mqtt_connack_not_authorized_sent: obsolete,
  mqtt_publish_auth_error: counter("Publishes refused by authorisation."),
  mqtt_subscribe_auth_error: counter("Subscriptions refused by authorisation."),
  mqtt_invalid_msg_size_error: counter("Packets above the size limit."),
  mqtt_puback_invalid_error: counter("PUBACK packets for unknown messages."),
  mqtt_pubrec_invalid_error: counter("PUBREC packets for unknown messages."),
  mqtt_pubcomp_invalid_error: counter("PUBCOMP packets for unknown messages."),
  mqtt_publish_error: counter("Publishes refused because of a netsplit."),
  mqtt_subscribe_error: counter("Subscriptions refused because of a netsplit."),
  mqtt_unsubscribe_error: counter("Unsubscriptions refused because of a netsplit."),
  client_keepalive_expired: counter("Clients closed because they were silent for too long."),
  queue_setup: counter("Client queues created."),
  queue_initialized_from_storage: counter("Client queues filled from the store."),
  queue_teardown: counter("Client queues ended."),
  queue_processes: gauge("Client queues, online and offline."),
  queue_message_drop: counter("Messages dropped because a queue was full."),
  queue_message_expired: counter("Messages that expired before their delivery."),
  queue_message_unhandled: counter(
    "Messages not delivered: their clean session ended, or QoS 0 for an offline session.",
  ),
  queue_message_in: counter("Messages put into client queues."),
  queue_message_out: counter("Messages handed from queues to sessions."),
  client_expired: unused("Expired clients"),
  router_matches_local: counter("Subscriptions matched by publishes on this node."),
  router_matches_remote: counter("Subscriptions matched on other nodes."),
  cluster_bytes_received: counter("Bytes received from other nodes."),
  cluster_bytes_sent: counter("Bytes sent to other nodes."),
  cluster_bytes_dropped: counter("Bytes dropped because the buffer to another node was full."),
  netsplit_detected: counter("Netsplits noticed."),
  netsplit_resolved: counter("Netsplits healed."),
  router_subscriptions: gauge("Subscriptions in the routing table."),
  router_memory: gauge("Bytes of the routing table, estimated."),
  retain_messages: gauge("Retained messages."),
  retain_memory: gauge("Bytes of the retained messages."),
  active_mqtt_connections: gauge("Clients connected over TCP, TLS or a unix socket."),
  active_mqttws_connections: gauge("Clients connected over WebSocket."),
  total_active_connections: gauge("Clients connected."),
  system_context_switches: counter("Context switches of the process."),
  system_exact_reductions: unused("Units of work of the Erlang machine"),
  system_reductions: unused("Units of work of the Erlang machine"),
  system_gc_count: counter("Garbage collections."),
  system_words_reclaimed_by_gc: unused("Words freed by the Erlang machine"),
  system_io_in: counter("Bytes read from clients."),
  system_io_out: counter("Bytes written to clients."),
  system_run_queue: gauge("Runnable processes of the Erlang machine; always 0 here."),
  system_runtime: counter("CPU time of the process in milliseconds."),
  system_wallclock: counter("Milliseconds since the broker started."),
  system_process_count: gauge("Client sessions, connected or not."),
  system_utilization: gauge("Share of time the event loop was busy, in percent."),
  system_utilization_scheduler_1: gauge("Share of time the event loop was busy, in percent."),
  vm_memory_total: gauge("Resident memory in bytes."),
  vm_memory_processes: gauge("Size of the JavaScript heap in bytes."),
  vm_memory_processes_used: gauge("Used part of the JavaScript heap in bytes."),
  vm_memory_system: gauge("Resident memory outside of the JavaScript heap in bytes."),
  vm_memory_atom: gauge("Symbols of the Erlang machine; always 0 here."),
  vm_memory_atom_used: gauge("Symbols of the Erlang machine; always 0 here."),
  vm_memory_binary: gauge("Bytes of buffers outside of the JavaScript heap."),
  vm_memory_code: gauge("Code of the Erlang machine; always 0 here."),
  vm_memory_ets: gauge("Tables of the Erlang machine; always 0 here."),
  plugin_hook_calls: counter("Calls of a plugin's hook."),
  plugin_hook_refusals: counter("Calls of a plugin's hook that refused, invalid answers included."),
  plugin_hook_failures: counter("Calls of a plugin's hook that threw or rejected."),
  plugin_hook_timeouts: counter("Calls of a plugin's hook that did not answer in time."),
  plugin_hook_skipped: counter("Calls spared because the plugin's circuit breaker was open."),
};

/** Histograms, all in microseconds. */
export const HISTOGRAM_HELP: Readonly<Record<string, string>> = {
  plugin_hook_latency_microseconds:
    "Time of a plugin's hook: every call that answered with a promise, one synchronous call in 16.",
  publish_latency_microseconds:
    "Time from reading a PUBLISH to its routing to all receivers, hooks included; sampled.",
  store_commit_microseconds: "Time of a group commit of the store.",
};
