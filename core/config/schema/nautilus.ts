import type { SchemaRow } from "../schema.ts";

/** Keys that VerneMQ does not have, and those of its older releases that still stand in many files. */
export const NAUTILUS_ROWS: readonly SchemaRow[] = [
  ...["tcp", "ssl"].flatMap(bridgeRows),
  {
    key: "plugins.$name.hook_timeout",
    type: "integer",
    unit: "ms",
    min: 1,
    example: "5000",
    since: "nautilus",
    doc: "Milliseconds a plugin may take to answer a hook, 5000 if not set; then on_error decides.",
  },
  {
    key: "plugins.$name.on_error",
    type: "enum",
    values: ["deny", "next"],
    example: "deny",
    since: "nautilus",
    doc:
      "What counts when a plugin throws or does not answer in time: deny refuses, next asks the " +
      "plugin behind it.",
  },
  {
    key: "plugins.$name.v5_compat",
    type: "flag",
    example: "off",
    since: "nautilus",
    doc: "Ask a plugin that has only the hook of MQTT 3 about MQTT 5 clients, too; on if not set.",
  },
  {
    key: "allow_multiple_sessions",
    type: "flag",
    default: "off",
    since: "1.x",
    doc:
      "Let several clients with the same client id share one queue; queue_deliver_mode says how. " +
      "(VerneMQ removed it in 2.0.)",
  },
  {
    key: "store.type",
    type: "enum",
    values: ["embedded", "memory"],
    default: "embedded",
    since: "nautilus",
    doc: "Where sessions, queues and retained messages live: on disk in the data directory, or nowhere.",
  },
  {
    key: "store.sync",
    type: "flag",
    default: "off",
    since: "nautilus",
    doc: "Force each group of changes to the disk before it is acknowledged, so that it survives a power loss.",
  },
  {
    key: "queue_drop_policy",
    type: "enum",
    values: ["auto", "drop_new", "drop_old"],
    default: "auto",
    since: "nautilus",
    doc: "What a full queue gives up. auto = as queue_type: fifo drops the new message, lifo the oldest.",
  },
  {
    key: "max_queue_bytes",
    type: "bytesize",
    unit: "bytes",
    min: 0,
    default: "0",
    since: "nautilus",
    doc:
      "Most payload bytes that wait in memory for one connected client; 0 = unlimited. Stored messages " +
      "above 1 MB wait in the store only.",
  },
  {
    key: "overlapping_subscriptions",
    type: "enum",
    values: ["each", "once"],
    default: "each",
    since: "nautilus",
    doc: "A message that matches several subscriptions of a client is delivered for each of them, or once.",
  },
  {
    key: "shared_requeue_offline_after",
    type: "integer",
    unit: "s",
    min: 0,
    default: "0",
    since: "nautilus",
    doc:
      "Seconds a member of a shared subscription may be offline before its waiting messages go to " +
      "other members; 0 = never.",
  },
  {
    key: "accept_eula",
    type: "string",
    hidden: true,
    since: "vendor images",
    doc: "Wanted by the vendor's Docker image; nothing to accept here.",
  },
  {
    key: "max_http_request_rate",
    type: "integer",
    default: "1000",
    min: 0,
    since: "nautilus",
    doc:
      "Most HTTP requests of one address in a second, over all HTTP listeners; more are answered with " +
      "429, 0 = unlimited.",
  },
  // Logging of VerneMQ 1.x (lager).
  {
    key: "log.crash.maximum_message_size",
    type: "bytesize",
    default: "64KB",
    hidden: true,
    since: "1.x",
    doc: "Longest message of the crash log.",
  },
  {
    key: "log.crash.size",
    type: "bytesize",
    default: "10MB",
    hidden: true,
    since: "1.x",
    doc: "Bytes after which the crash log rotates; now log.crash.rotation.size.",
  },
  {
    key: "log.crash.rotation",
    type: "string",
    default: "$D0",
    hidden: true,
    since: "1.x",
    doc: "Time of day at which the crash log rotates.",
  },
  {
    key: "log.error.messages_per_second",
    type: "integer",
    default: "100",
    hidden: true,
    since: "1.x",
    doc: "Most error lines logged in a second.",
  },
  {
    key: "log.error.redirect",
    type: "flag",
    default: "on",
    hidden: true,
    since: "1.x",
    doc: "Send the Erlang machine's own errors to the log.",
  },
  {
    key: "log.syslog.ident",
    type: "string",
    default: "vernemq",
    hidden: true,
    since: "1.x",
    doc: "Name in syslog lines; now log.syslog.app_name.",
  },
];

/** Settings of a bridge that VerneMQ has as constants, or not at all. */
function bridgeRows(transport: string): SchemaRow[] {
  const key = (name: string): string => `vmq_bridge.${transport}.$name.${name}`;
  return [
    {
      key: key("retry_interval"),
      type: "integer",
      unit: "s",
      default: "10",
      min: 0,
      live: true,
      since: "nautilus",
      doc: "Seconds until an unacknowledged message is repeated, 0 = only after a reconnect; MQTT 3 only.",
    },
    {
      key: key("connect_timeout"),
      type: "integer",
      unit: "s",
      default: "10",
      min: 1,
      live: true,
      since: "nautilus",
      doc: "Seconds for TCP, TLS and CONNACK together, and for the answers to SUBSCRIBE.",
    },
    {
      key: key("loop_protection"),
      type: "enum",
      values: ["auto", "on", "off"],
      default: "auto",
      live: true,
      since: "nautilus",
      doc:
        "Marks messages with the brokers they passed (auto, MQTT 5); on also drops a message with " +
        "topic and payload of one that was bridged some seconds ago (MQTT 3).",
    },
  ];
}
