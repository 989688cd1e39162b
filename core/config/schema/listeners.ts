import type { SchemaRow, ValueType } from "../schema.ts";
import { ACCESS_OPTIONS } from "./listener-access.ts";
import { HTTP_MODULE_OPTIONS } from "./listener-http.ts";
import {
  expand,
  KIND_WORDS,
  type ListenerKind,
  type ListenerOption,
  NAMED,
} from "./listener-option.ts";
import { PROXY_OPTIONS } from "./listener-proxy.ts";
import { TLS_OPTIONS } from "./listener-tls.ts";

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
      `Address of a named ${KIND_WORDS[kind]} listener${path}: ip:port, IPv6 without brackets since the ` +
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

/** Queues of inter-node traffic. */
const CLUSTER_OPTIONS: readonly ListenerOption[] = [
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
];

const OPTIONS = [
  ...ACCESS_OPTIONS,
  ...PROXY_OPTIONS,
  ...TLS_OPTIONS,
  ...CLUSTER_OPTIONS,
  ...HTTP_MODULE_OPTIONS,
];

/** Every `listener.*` key. */
export const LISTENER_ROWS: readonly SchemaRow[] = [
  ...GLOBAL_ROWS,
  ...ADDRESSES,
  ...OPTIONS.flatMap(expand),
];
