import type { SchemaRow, ValueType } from "./schema.ts";

/** Kinds of listeners: second word of `listener.<kind>.<name>`. */
export type ListenerKind = "tcp" | "ssl" | "ws" | "wss" | "vmq" | "vmqs" | "http" | "https";

/** Where an option may be written: `listener.x`, `listener.<kind>.x`, `listener.<kind>.<name>.x`. */
type Level = "global" | "protocol" | "named";

interface ListenerOption extends Omit<SchemaRow, "key"> {
  readonly option: string;
  readonly kinds: readonly ListenerKind[];
  readonly levels: readonly Level[];
  /** Default of the named level; `default` is that of the protocol level, the built-in one. */
  readonly namedDefault?: string;
  /** `kind:level` pairs that VerneMQ's generated file shows; all others are hidden. */
  readonly shown?: readonly string[];
  /** Levels that VerneMQ does not have and we added. */
  readonly added?: readonly Level[];
}

const MQTT: readonly ListenerKind[] = ["tcp", "ssl", "ws", "wss"];
const CLUSTER: readonly ListenerKind[] = ["vmq", "vmqs"];
const HTTP: readonly ListenerKind[] = ["http", "https"];
const TLS: readonly ListenerKind[] = ["ssl", "wss", "vmqs", "https"];
const WEBSOCKET: readonly ListenerKind[] = ["ws", "wss"];
const BOTH: readonly Level[] = ["protocol", "named"];
const NAMED: readonly Level[] = ["named"];
const ADDED: readonly Level[] = ["protocol"];
const TLS_VERSIONS = ["tlsv1", "tlsv1.1", "tlsv1.2", "tlsv1.3"];

const WORDS: Record<ListenerKind, string> = {
  tcp: "plain MQTT",
  ssl: "MQTT over TLS",
  ws: "MQTT over WebSocket",
  wss: "MQTT over secure WebSocket",
  vmq: "inter-node",
  vmqs: "inter-node TLS",
  http: "HTTP",
  https: "HTTPS",
};

function address(
  kind: ListenerKind,
  type: ValueType,
  fields: { default?: string; example?: string; hidden?: true },
): SchemaRow {
  const socket = kind === "tcp" ? ", or local:/path.sock:0 for a Unix socket" : "";
  const path = kind === "ws" || kind === "wss" ? " (WebSocket path /mqtt)" : "";
  return {
    key: `listener.${kind}.$name`,
    type,
    ...fields,
    doc:
      `Address of a named ${WORDS[kind]} listener${path}: ip:port, IPv6 without brackets since the ` +
      `last colon splits off the port${socket}.`,
  };
}

const ADDRESSES: readonly SchemaRow[] = [
  address("tcp", "ip|domain_socket", { example: "127.0.0.1:1883" }),
  address("ssl", "ip|domain_socket", { example: "127.0.0.1:8883" }),
  address("ws", "ip|domain_socket", { example: "127.0.0.1:8080", hidden: true }),
  address("wss", "ip|domain_socket", { example: "127.0.0.1:8080", hidden: true }),
  address("vmq", "ip", { default: "0.0.0.0:44053" }),
  address("vmqs", "ip", { default: "0.0.0.0:44054", hidden: true }),
  address("http", "ip", { default: "127.0.0.1:8888" }),
  address("https", "ip", { default: "127.0.0.1:8889", hidden: true }),
];

const OPTIONS: readonly ListenerOption[] = [
  // Connections
  {
    option: "max_connections",
    type: "integer",
    values: ["infinity"],
    min: -1,
    kinds: [...MQTT, ...CLUSTER, ...HTTP],
    levels: BOTH,
    default: "-1",
    namedDefault: "-1",
    doc: "Most connections at the same time; -1 = not set here, infinity = no limit.",
  },
  {
    option: "max_connection_lifetime",
    type: "integer",
    unit: "s",
    min: 0,
    kinds: MQTT,
    levels: BOTH,
    since: "1.13.0",
    doc:
      "Seconds after which a connection is closed so that the client authenticates again; " +
      "0 = no limit. Hooks may lower it.",
  },
  {
    option: "nr_of_acceptors",
    type: "integer",
    kinds: MQTT,
    levels: BOTH,
    default: "-1",
    namedDefault: "-1",
    doc: "Accept loops of the listener; without effect here.",
  },
  {
    option: "nr_of_acceptors",
    type: "integer",
    kinds: [...CLUSTER, ...HTTP],
    levels: BOTH,
    default: "10",
    namedDefault: "10",
    doc: "Accept loops of the listener; without effect here.",
  },
  {
    option: "buffer_sizes",
    type: "list",
    list: "sizes",
    kinds: ["tcp", "ssl"],
    levels: BOTH,
    example: "4096,16384,32768",
    shown: ["tcp:protocol"],
    doc: "Kernel send, kernel receive and user buffer in bytes; Node has no such setting.",
  },
  {
    option: "buffer_sizes",
    type: "list",
    list: "sizes",
    kinds: ["vmq"],
    levels: NAMED,
    doc: "Kernel send, kernel receive and user buffer in bytes; Node has no such setting.",
  },
  {
    option: "active_n",
    type: "integer",
    min: 1,
    max: 32767,
    kinds: ["tcp", "ssl"],
    levels: BOTH,
    example: "1",
    shown: ["tcp:protocol"],
    since: "2.2.0",
    doc: "Socket reads handed over before the socket is armed again; without effect here.",
  },
  {
    option: "mountpoint",
    type: "string",
    kinds: [...MQTT, ...CLUSTER],
    levels: BOTH,
    doc: "Prefix that separates the topics of this listener's clients; off or '' = none.",
  },
  // Access
  {
    option: "allowed_protocol_versions",
    type: "list",
    list: "numbers",
    values: ["3", "4", "5", "131", "132"],
    kinds: MQTT,
    levels: BOTH,
    default: "3,4,5,131",
    shown: ["tcp:protocol"],
    since: "1.5.0",
    doc:
      "MQTT protocol levels accepted: 3 (3.1), 4 (3.1.1), 5 (5.0), 131 (3.1 bridge), " +
      "132 (3.1.1 bridge).",
  },
  {
    option: "allow_anonymous_override",
    type: "flag",
    kinds: ["tcp", "ssl"],
    levels: BOTH,
    added: ADDED,
    default: "off",
    namedDefault: "off",
    shown: ["tcp:named", "ssl:named"],
    since: "1.12.5",
    doc: "on opens this listener without authentication; off does not close what allow_anonymous opens.",
  },
  {
    option: "allow_anonymous_override",
    type: "flag",
    kinds: WEBSOCKET,
    levels: BOTH,
    added: ADDED,
    default: "off",
    namedDefault: "off",
    shown: ["ws:named", "wss:named"],
    since: "2.2.0",
    doc: "on opens this listener without authentication; off does not close what allow_anonymous opens.",
  },
  {
    option: "auth_plugins",
    type: "list",
    list: "words",
    kinds: MQTT,
    levels: BOTH,
    added: ADDED,
    since: "2.2.0",
    doc: "Enabled plugins asked to authenticate here, in this order; unset = all, in global order.",
  },
  {
    option: "authz_plugins",
    type: "list",
    list: "words",
    kinds: MQTT,
    levels: BOTH,
    added: ADDED,
    since: "2.2.0",
    doc: "Enabled plugins asked about publish and subscribe here, in this order; unset = all.",
  },
  {
    option: "forward_connection_opts",
    type: "flag",
    kinds: ["tcp", "ws"],
    levels: BOTH,
    default: "off",
    shown: ["tcp:protocol", "ws:protocol"],
    since: "2.2.0",
    doc: "Hand listener address, port and kind (with TLS also the client certificate) to hooks.",
  },
  {
    option: "forward_connection_opts",
    type: "flag",
    kinds: ["ssl", "wss"],
    levels: BOTH,
    default: "off",
    shown: ["ssl:protocol", "wss:protocol"],
    doc: "Hand listener address, port and kind (with TLS also the client certificate) to hooks.",
  },
  // Proxies
  {
    option: "proxy_protocol",
    type: "flag",
    kinds: ["tcp", "ws", "http"],
    levels: BOTH,
    default: "off",
    doc: "Expect a PROXY protocol header (v1, v2) and take peer address and TLS details from it.",
  },
  {
    option: "proxy_protocol_use_cn_as_username",
    type: "flag",
    kinds: ["tcp", "ws", "http"],
    levels: BOTH,
    default: "on",
    doc: "Take the certificate's common name of a PROXY v2 header as MQTT user name.",
  },
  {
    option: "proxy_xff_support",
    type: "flag",
    kinds: ["ws"],
    levels: BOTH,
    default: "off",
    since: "1.13.0",
    doc: "Take the peer address from X-Forwarded-For of the upgrade request.",
  },
  {
    option: "proxy_xff_trusted_intermediate",
    type: "list",
    list: "proxies",
    kinds: ["ws"],
    levels: BOTH,
    default: "",
    since: "1.13.0",
    doc: "Proxies whose X-Forwarded-For counts: addresses or CIDR ranges, separated by semicolons.",
  },
  {
    option: "proxy_xff_use_cn_as_username",
    type: "flag",
    kinds: ["ws"],
    levels: BOTH,
    added: ADDED,
    default: "off",
    namedDefault: "off",
    since: "1.13.0",
    doc: "Take the common name that the proxy wrote into a header as MQTT user name.",
  },
  {
    option: "proxy_xff_cn_header",
    type: "string",
    kinds: ["ws"],
    levels: BOTH,
    added: ADDED,
    default: "x-ssl-client-cn",
    namedDefault: "x-ssl-client-cn",
    since: "1.13.0",
    doc: "Request header with the common name of the client's certificate.",
  },
  // HTTP requests
  {
    option: "max_request_line_length",
    type: "integer",
    unit: "bytes",
    min: 1,
    kinds: [...WEBSOCKET, ...HTTP],
    levels: BOTH,
    added: ADDED,
    default: "8000",
    namedDefault: "8000",
    since: "1.13.0",
    doc: "Longest request line in bytes.",
  },
  {
    option: "max_header_value_length",
    type: "integer",
    unit: "bytes",
    min: 1,
    kinds: [...WEBSOCKET, ...HTTP],
    levels: BOTH,
    added: ADDED,
    default: "4096",
    namedDefault: "4096",
    since: "2.0.1",
    doc: "Longest value of a request header in bytes.",
  },
  // TLS
  {
    option: "tls_handshake_timeout",
    type: "integer",
    values: ["infinity"],
    unit: "ms",
    min: -1,
    kinds: TLS,
    levels: BOTH,
    default: "-1",
    since: "1.12.6",
    doc: "Milliseconds for the TLS handshake; -1 = 5000, infinity = no limit.",
  },
  {
    option: "cafile",
    type: "file",
    checks: ["readable"],
    kinds: TLS,
    levels: BOTH,
    default: "",
    shown: ["ssl:protocol", "https:protocol"],
    doc: "PEM file with the certificate authorities that client certificates are checked against.",
  },
  {
    option: "certfile",
    type: "file",
    checks: ["readable", "pem"],
    kinds: TLS,
    levels: BOTH,
    default: "",
    shown: ["ssl:protocol", "https:protocol"],
    doc: "PEM file with the certificate of the server, its chain included.",
  },
  {
    option: "keyfile",
    type: "file",
    checks: ["readable", "pem"],
    kinds: TLS,
    levels: BOTH,
    default: "",
    shown: ["ssl:protocol", "vmqs:protocol", "https:protocol"],
    doc: "PEM file with the private key of the server's certificate.",
  },
  {
    option: "keypasswd",
    type: "string",
    isSecret: true,
    kinds: TLS,
    levels: BOTH,
    default: "",
    since: "1.13.0",
    doc: "Password of an encrypted keyfile.",
  },
  {
    option: "crlfile",
    type: "file",
    checks: ["readable"],
    kinds: TLS,
    levels: BOTH,
    default: "",
    shown: ["ssl:protocol"],
    doc: "PEM file with revoked certificates, used with require_certificate.",
  },
  {
    option: "depth",
    type: "integer",
    min: 0,
    kinds: TLS,
    levels: BOTH,
    default: "1",
    doc: "Longest chain of intermediate certificates accepted from a client.",
  },
  {
    option: "ciphers",
    type: "list",
    list: "ciphers",
    kinds: TLS,
    levels: BOTH,
    default: "",
    shown: ["ssl:protocol", "vmqs:protocol", "https:protocol"],
    doc: "Cipher suites by their OpenSSL names, separated by colons; empty = defaults.",
  },
  {
    option: "eccs",
    type: "list",
    list: "curves",
    kinds: TLS,
    levels: BOTH,
    default: "",
    namedDefault: "",
    shown: ["ssl:protocol", "vmqs:protocol", "https:protocol"],
    doc: "Elliptic curves allowed, such as [secp384r1,secp521r1]; empty = all.",
  },
  {
    option: "tls_version",
    type: "list",
    list: "versions",
    values: TLS_VERSIONS,
    kinds: ["ssl", "wss", "https"],
    levels: BOTH,
    default: "tlsv1.2",
    shown: ["ssl:protocol", "https:protocol"],
    doc: "TLS versions allowed, separated by commas without blanks.",
  },
  {
    option: "tls_version",
    type: "enum",
    values: TLS_VERSIONS,
    kinds: ["vmqs"],
    levels: BOTH,
    default: "tlsv1.2",
    shown: ["vmqs:protocol"],
    doc: "TLS version between nodes.",
  },
  {
    option: "require_certificate",
    type: "flag",
    kinds: TLS,
    levels: BOTH,
    default: "off",
    shown: ["ssl:protocol", "vmqs:protocol", "https:protocol"],
    doc: "Insist on a valid client certificate (mutual TLS).",
  },
  {
    option: "use_identity_as_username",
    type: "flag",
    kinds: ["ssl", "wss"],
    levels: BOTH,
    default: "off",
    shown: ["ssl:protocol"],
    doc: "With require_certificate: the certificate's common name is the MQTT user name.",
  },
  {
    option: "psk_support",
    type: "flag",
    kinds: ["ssl"],
    levels: BOTH,
    default: "off",
    shown: ["ssl:protocol"],
    doc: "Allow TLS with pre-shared keys.",
  },
  {
    option: "psk_identity_hint",
    type: "string",
    kinds: ["ssl"],
    levels: BOTH,
    default: "VMQ_PSK",
    shown: ["ssl:protocol"],
    doc: "Identity hint sent to PSK clients.",
  },
  {
    option: "pskfile",
    type: "file",
    kinds: ["ssl"],
    levels: BOTH,
    added: NAMED,
    default: "./etc/vmq.psk",
    shown: ["ssl:protocol"],
    doc: "File with one line identity<separator>key for each PSK client.",
  },
  {
    option: "pskfile_separator",
    type: "string",
    checks: ["one character"],
    kinds: ["ssl"],
    levels: BOTH,
    added: NAMED,
    default: ":",
    shown: ["ssl:protocol"],
    doc: "The character between identity and key in the PSK file.",
  },
  // Inter-node
  ...["high_watermark", "low_watermark", "high_msgq_watermark", "low_msgq_watermark"].map(
    (option): ListenerOption => ({
      option,
      type: "integer",
      kinds: ["vmq"],
      levels: NAMED,
      namedDefault: option.startsWith("high") ? "8192" : "4096",
      erlangOnly: true,
      doc: "Load level of the Erlang receiver of inter-node traffic.",
    }),
  ),
  // HTTP modules
  {
    option: "config_mod",
    type: "string",
    kinds: HTTP,
    levels: NAMED,
    namedDefault: "vmq_http_config",
    erlangOnly: true,
    doc: "Erlang module that computes the HTTP routes.",
  },
  {
    option: "config_fun",
    type: "string",
    kinds: HTTP,
    levels: NAMED,
    namedDefault: "config",
    erlangOnly: true,
    doc: "Erlang function of config_mod that computes the HTTP routes.",
  },
  {
    option: "http_modules",
    type: "list",
    list: "words",
    kinds: HTTP,
    levels: NAMED,
    namedDefault: "[]",
    doc: "HTTP modules served here, separated by commas; empty = the global http_modules.",
  },
  {
    option: "http_module.$module.auth.mode",
    type: "enum",
    values: ["apikey", "noauth"],
    kinds: HTTP,
    levels: NAMED,
    doc: "Access to one HTTP module on this listener; wins over http_module.<module>.auth.mode.",
  },
  {
    option: "http_modules.vmq_http_pub.mqtt_auth.mode",
    type: "enum",
    values: ["on-behalf-of", "predefined"],
    kinds: HTTP,
    levels: NAMED,
    since: "1.13.0",
    doc: "REST publish: the identity comes with each request, or is fixed.",
  },
  ...["auth_plugin", "user", "password", "client_id"].map(
    (field): ListenerOption => ({
      option: `http_modules.vmq_http_pub.mqtt_auth.${field}`,
      type: "string",
      kinds: HTTP,
      levels: NAMED,
      since: "1.13.0",
      doc: `REST publish: the fixed ${field} of mode predefined on this listener.`,
      ...(field === "password" ? { isSecret: true as const } : {}),
    }),
  ),
  {
    option: "http_modules.vmq_http_pub.mountpoint",
    type: "string",
    kinds: HTTP,
    levels: NAMED,
    since: "1.13.0",
    doc: "REST publish: mountpoint of messages from this listener.",
  },
];

const GLOBAL_ROWS: readonly SchemaRow[] = [
  {
    key: "listener.max_connections",
    type: "integer",
    values: ["infinity"],
    min: -1,
    default: "10000",
    doc: "Most connections at the same time of each listener; infinity = no limit.",
  },
  {
    key: "listener.max_connection_lifetime",
    type: "integer",
    unit: "s",
    min: 0,
    default: "0",
    since: "1.13.0",
    doc: "Seconds after which every MQTT listener closes a connection; 0 = no limit.",
  },
  {
    key: "listener.nr_of_acceptors",
    type: "integer",
    default: "10",
    doc: "Accept loops of each listener; without effect here.",
  },
  {
    key: "listener.mountpoint",
    type: "string",
    default: "off",
    hidden: true,
    doc: "Mountpoint of every MQTT listener; off or '' = none.",
  },
];

/** One row for each kind and level of an option. */
function expand(entry: ListenerOption): SchemaRow[] {
  const { option, kinds, levels, namedDefault, shown, added, ...common } = entry;
  return kinds.flatMap((kind) =>
    levels.map((level): SchemaRow => {
      const { default: builtIn, ...rest } = common;
      const fallback = level === "named" ? namedDefault : builtIn;
      const isShown = shown?.includes(`${kind}:${level}`) === true;
      return {
        ...rest,
        key: `listener.${kind}.${level === "named" ? "$name." : ""}${option}`,
        ...(fallback === undefined ? {} : { default: fallback }),
        ...(isShown ? {} : { hidden: true as const }),
        ...(added?.includes(level) === true ? { since: "nautilus" } : {}),
        doc:
          level === "named"
            ? `${rest.doc} (One ${WORDS[kind]} listener.)`
            : `${rest.doc} (All ${WORDS[kind]} listeners.)`,
      };
    }),
  );
}

/** Every `listener.*` key. */
export const LISTENER_ROWS: readonly SchemaRow[] = [
  ...GLOBAL_ROWS,
  ...ADDRESSES,
  ...OPTIONS.flatMap(expand),
];
