import type { SchemaRow } from "../schema.ts";

/** Keys of vmq_bridge that VerneMQ has, too. */
export const BRIDGE_ROWS: readonly SchemaRow[] = [
  ...both("$name", {
    type: "string",
    example: "127.0.0.1:1889",
    doc: "Remote broker host:port of a bridge.",
  }),
  ...both("$name.cleansession", {
    type: "flag",
    default: "off",
    doc: "Clean session flag of the bridge connection.",
  }),
  ...both("$name.client_id", {
    type: "string",
    default: "auto",
    doc: "Client id; auto = <hostname>.<bridge name>.",
  }),
  ...both("$name.mountpoint", {
    type: "string",
    default: "",
    since: "2.1.0",
    doc: "Local mountpoint the bridge works in.",
  }),
  ...both("$name.keepalive_interval", {
    type: "integer",
    default: "60",
    unit: "s",
    doc: "Keep-alive seconds.",
  }),
  ...both("$name.persistent_queue", {
    type: "flag",
    default: "off",
    since: "2.0.0",
    doc: "Keep outgoing messages on disk.",
  }),
  ...both("$name.queue_dir", {
    type: "directory",
    example: "/qdata/br0",
    since: "2.0.0",
    doc: "Directory of the disk queue.",
  }),
  ...both("$name.username", {
    type: "string",
    example: "my_remote_user",
    doc: "User name at the remote broker.",
  }),
  ...both("$name.password", {
    type: "string",
    isSecret: true,
    example: "my_remote_password",
    doc: "Password at the remote broker.",
  }),
  ...both("$name.segment_size", {
    type: "bytesize",
    default: "4096",
    since: "2.0.0",
    doc: "Segment size of the disk queue.",
  }),
  ...both("$name.outgoing_batch_size", {
    type: "integer",
    default: "100",
    since: "2.0.0",
    doc: "Messages taken from the queue per batch.",
  }),
  ssl("$name.sni", { type: "string", hidden: true, doc: "Server name indication." }),
  tcp("br0.topic.1", {
    type: "string",
    example: "topic",
    doc: "Example topic entry kept in the generated file; same meaning as the generic topic key.",
  }),
  ...both("$name.topic.$topic_id", {
    type: "string",
    hidden: true,
    doc: "Shared topic: pattern [out|in|both] [qos] [retain] [local-prefix remote-prefix]; ids 1..100; * in the pattern is read as #, $empty as empty prefix.",
  }),
  ...both("$name.restart_timeout", {
    type: "integer",
    default: "10",
    unit: "s",
    doc: "Seconds before reconnecting.",
  }),
  ...both("$name.try_private", {
    type: "flag",
    default: "on",
    doc: "Announce as bridge (protocol level + 128).",
  }),
  ...both("$name.mqtt_version", {
    type: "enum",
    values: ["3", "4", "5"],
    default: "3",
    doc: "Protocol level: 3, 4 or 5.",
  }),
  ...both("$name.max_outgoing_buffered_messages", {
    type: "integer",
    default: "0",
    since: "1.6.0",
    doc: "Messages buffered while disconnected; 0 = none.",
  }),
  tcp("$name.pubrel_queue_ratio", {
    type: "percent",
    default: "0",
    since: "2.0.0",
    doc: "Share of the buffer for PUBREL, written with a percent sign.",
  }),
  tcp("$name.inet_version", {
    type: "enum",
    values: ["inet", "inet6"],
    default: "inet",
    hidden: true,
    doc: "Address family of the remote host.",
  }),
  ssl("$name.pubrel_queue_ratio", {
    type: "percent",
    default: "0",
    hidden: true,
    since: "2.0.0",
    doc: "Share of the buffer for PUBREL, written with a percent sign.",
  }),
  ssl("$name.cafile", {
    type: "file",
    default: "",
    checks: ["readable"],
    doc: "CA file for the TLS bridge.",
  }),
  ssl("$name.capath", {
    type: "file",
    default: "",
    hidden: true,
    doc: "CA directory.",
  }),
  ssl("$name.certfile", {
    type: "file",
    default: "",
    checks: ["readable"],
    doc: "Client certificate of the TLS bridge.",
  }),
  ssl("$name.keyfile", {
    type: "file",
    default: "",
    checks: ["readable"],
    doc: "Key of the client certificate.",
  }),
  ssl("$name.insecure", {
    type: "flag",
    default: "off",
    doc: "Skip host name verification.",
  }),
  ssl("$name.tls_version", {
    type: "list",
    list: "versions",
    values: ["tlsv1", "tlsv1.1", "tlsv1.2", "tlsv1.3"],
    default: "tlsv1.2",
    doc: "TLS versions of the bridge, separated by commas without blanks.",
  }),
  ssl("$name.identity", { type: "string", default: "", doc: "PSK identity." }),
  ssl("$name.psk", {
    type: "string",
    isSecret: true,
    default: "",
    doc: "PSK in hex.",
  }),
  ssl("$name.depth", {
    type: "integer",
    default: "1",
    hidden: true,
    doc: "Certificate chain depth.",
  }),
  ssl("$name.customize_hostname_check", {
    type: "enum",
    values: ["https"],
    default: "https",
    doc: "Host name matching rules (wildcard certificates).",
  }),
  ssl("$name.inet_version", {
    type: "enum",
    values: ["inet", "inet6"],
    default: "inet",
    hidden: true,
    doc: "Address family of the remote host.",
  }),
];

type Fields = Omit<SchemaRow, "key" | "live">;

// Differs from VerneMQ: bridges change at run time.
function tcp(option: string, fields: Fields): SchemaRow {
  return { key: `vmq_bridge.tcp.${option}`, ...fields, live: true };
}

function ssl(option: string, fields: Fields): SchemaRow {
  return { key: `vmq_bridge.ssl.${option}`, ...fields, live: true };
}

/** An option of all bridges: VerneMQ's generated file shows it for TCP. */
function both(option: string, fields: Fields): SchemaRow[] {
  const { example, ...others } = fields;
  return [tcp(option, fields), ssl(option, { ...others, hidden: true })];
}
