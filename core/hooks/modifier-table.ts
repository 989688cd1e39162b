import { SHARED_POLICIES } from "../routing/shared.ts";
import type { ConditionalHook } from "./types.ts";

/** What a modifier's value may be. */
export type Shape =
  | { kind: "integer"; min: number; max: number; unit?: string }
  | { kind: "choice"; values: readonly string[] }
  | { kind: "reason"; codes: readonly number[] }
  | { kind: "properties"; names: readonly string[] }
  | { kind: "flag" | "text" | "subscriber" | "topic" | "payload" | "topics" | "filters" }
  /** A name of VerneMQ that has no meaning here: `why` says so, and what to use. */
  | { kind: "refused"; why: string };

/** One modifier: where it may be used, its values, and what it does in one line. */
export interface ModifierRow {
  readonly hooks: readonly ConditionalHook[];
  readonly name: string;
  readonly shape: Shape;
  readonly effect: string;
}

const REGISTER = ["auth_on_register", "auth_on_register_m5"] as const;
const REGISTER_V3 = ["auth_on_register"] as const;
const REGISTER_V5 = ["auth_on_register_m5"] as const;
const PUBLISH = ["auth_on_publish", "auth_on_publish_m5"] as const;
const PUBLISH_V5 = ["auth_on_publish_m5"] as const;
const SUBSCRIBE = ["auth_on_subscribe", "auth_on_subscribe_m5"] as const;
const SUBSCRIBE_V5 = ["auth_on_subscribe_m5"] as const;
const UNSUBSCRIBE = ["on_unsubscribe", "on_unsubscribe_m5"] as const;
const UNSUBSCRIBE_V5 = ["on_unsubscribe_m5"] as const;
const DELIVER = ["on_deliver", "on_deliver_m5"] as const;
const DELIVER_V5 = ["on_deliver_m5"] as const;
const AUTH = ["on_auth_m5"] as const;

const FLAG: Shape = { kind: "flag" };
/** Seconds of MQTT 5.0: four bytes. */
const FOUR_BYTES = 0xffff_ffff;
/** MQTT 5.0, 1.5.5: largest remaining length. */
const PACKET_BYTES = 268_435_455;
/** Longest delay of a timer in Node. */
const TIMER_MS = 0x7fff_ffff;

function integer(min: number, max: number, unit?: string): Shape {
  return unit === undefined ? { kind: "integer", min, max } : { kind: "integer", min, max, unit };
}

function properties(names: string): Shape {
  return { kind: "properties", names: names.split(" ") };
}

function row(
  hooks: readonly ConditionalHook[],
  name: string,
  shape: Shape,
  effect: string,
): ModifierRow {
  return { hooks, name, shape, effect };
}

function refused(hooks: readonly ConditionalHook[], name: string, why: string): ModifierRow {
  return row(hooks, name, { kind: "refused", why }, why);
}

const NETSPLIT = "what the client may do during a netsplit; one node alone has none";

/** Every modifier of every hook. Checks answers and makes the reference. */
export const MODIFIERS: readonly ModifierRow[] = [
  // ---- auth_on_register, auth_on_register_m5
  row(
    REGISTER,
    "subscriber_id",
    { kind: "subscriber" },
    "client id and mountpoint of the session; without mountpoint that of the listener stays",
  ),
  row(REGISTER, "username", { kind: "text" }, "user name that all later hooks see"),
  row(REGISTER, "clean_session", FLAG, "replaces the client's Clean Session or Clean Start"),
  row(REGISTER, "clean_start", FLAG, "the same; wins when both are given"),
  row(
    REGISTER,
    "cleanup_on_disconnect",
    FLAG,
    "true: the state goes with the connection; false: it stays (MQTT 5: for the requested expiry, or `persistent_client_expiration` when that is 0)",
  ),
  row(
    REGISTER,
    "max_message_size",
    integer(0, PACKET_BYTES, "bytes"),
    "largest packet the client may send, 0 = unlimited; announced to MQTT 5 clients",
  ),
  row(
    REGISTER,
    "max_connection_lifetime",
    integer(0, FOUR_BYTES, "seconds"),
    "disconnected after this time, 0 = never; the shorter of this and the listener's counts",
  ),
  row(
    REGISTER,
    "max_message_rate",
    integer(0, 1_000_000_000, "messages/s"),
    "the client is read no faster, 0 = unlimited",
  ),
  row(
    REGISTER,
    "max_inflight_messages",
    integer(0, 65_535),
    "unacknowledged QoS 1 and 2 messages to the client, 0 = unlimited; MQTT 5: at most its Receive Maximum",
  ),
  row(
    REGISTER,
    "max_online_messages",
    integer(-1, FOUR_BYTES, "messages"),
    "queue of the connected client, -1 = unlimited",
  ),
  row(
    REGISTER,
    "max_offline_messages",
    integer(-1, FOUR_BYTES, "messages"),
    "queue of the absent client, -1 = unlimited",
  ),
  row(
    REGISTER,
    "queue_type",
    { kind: "choice", values: ["fifo", "lifo"] },
    "order of the queue; a full one drops the newest (fifo) or the oldest (lifo)",
  ),
  row(
    REGISTER,
    "queue_deliver_mode",
    { kind: "choice", values: ["fanout", "balance"] },
    "several sessions of one client: each message to all of them or to one",
  ),
  row(
    REGISTER,
    "allow_multiple_sessions",
    FLAG,
    "further connections with the same client id join this one instead of ending it",
  ),
  row(
    REGISTER,
    "shared_subscription_policy",
    { kind: "choice", values: SHARED_POLICIES },
    "who gets this client's messages to shared subscriptions; one node alone: always a random online member first",
  ),
  row(REGISTER, "upgrade_qos", FLAG, "messages to the client get the QoS of the subscription"),
  row(
    REGISTER_V3,
    "retry_interval",
    integer(0, TIMER_MS, "ms"),
    "unacknowledged messages are sent again after this time, 0 = never",
  ),
  refused(
    REGISTER_V5,
    "retry_interval",
    "is for MQTT 3.x only: MQTT 5 allows no repeated sending on one connection [MQTT-4.4.0-1]",
  ),
  row(REGISTER, "allow_register", FLAG, NETSPLIT),
  row(REGISTER, "allow_publish", FLAG, NETSPLIT),
  row(REGISTER, "allow_subscribe", FLAG, NETSPLIT),
  row(REGISTER, "allow_unsubscribe", FLAG, NETSPLIT),
  row(
    REGISTER,
    "max_drain_time",
    integer(0, FOUR_BYTES, "ms"),
    "bound on handing a queue to another node; one node alone hands over at once, within any bound",
  ),
  row(
    REGISTER,
    "max_msgs_per_drain_step",
    integer(1, FOUR_BYTES, "messages"),
    "likewise, per step",
  ),
  row(
    REGISTER,
    "reg_view",
    { kind: "choice", values: ["vmq_reg_trie"] },
    "the only registry there is",
  ),
  row(
    REGISTER_V5,
    "session_expiry_interval",
    integer(0, FOUR_BYTES, "seconds"),
    "replaces the client's Session Expiry Interval; told in CONNACK",
  ),
  row(
    REGISTER_V5,
    "max_packet_size",
    integer(1, FOUR_BYTES, "bytes"),
    "largest packet sent to the client; at most its Maximum Packet Size",
  ),
  row(
    REGISTER_V5,
    "request_problem_info",
    FLAG,
    "replaces the client's Request Problem Information",
  ),
  row(
    REGISTER_V5,
    "fc_receive_max_broker",
    integer(1, 65_535),
    "unacknowledged QoS 1 and 2 messages from the client; told in CONNACK",
  ),
  row(
    REGISTER_V5,
    "fc_receive_max_client",
    integer(1, 65_535),
    "unacknowledged QoS 1 and 2 messages to the client; at most its Receive Maximum",
  ),
  row(
    REGISTER_V5,
    "topic_alias_max",
    integer(0, 65_535),
    "topic aliases the client may use; told in CONNACK",
  ),
  row(
    REGISTER_V5,
    "properties",
    properties(
      "p_session_expiry_interval p_max_qos p_retain_available p_wildcard_subs_available p_sub_ids_available p_shared_subs_available p_server_keep_alive p_response_info p_user_property",
    ),
    "told in CONNACK and obeyed; p_response_info only to a client that asked for it",
  ),
  refused(REGISTER, "mountpoint", "is part of subscriber_id: { mountpoint, client_id }"),
  refused(REGISTER, "reason_code", 'belongs to a refusal: { error: { reason_code: "..." } }'),
  refused(
    REGISTER,
    "queue_to_session_batch_size",
    "steers VerneMQ's processes; messages are sent one by one",
  ),
  refused(REGISTER, "tcp_opts", "steers Erlang's sockets; use the options of the listener"),
  refused(REGISTER, "topic_aliases_in", "is internal state of VerneMQ; use topic_alias_max"),
  // ---- on_auth_m5
  row(
    AUTH,
    "reason_code",
    { kind: "reason", codes: [0, 0x18] },
    "success ends the exchange, continue_authentication sends AUTH and waits",
  ),
  row(
    AUTH,
    "properties",
    properties("p_authentication_method p_authentication_data p_reason_string p_user_property"),
    "sent in AUTH or CONNACK; the method can only be the client's",
  ),
  // ---- auth_on_publish, auth_on_publish_m5; wills too
  row(PUBLISH, "topic", { kind: "topic" }, "published under this topic"),
  row(PUBLISH, "payload", { kind: "payload" }, "published with this payload"),
  row(PUBLISH, "qos", integer(0, 2), "published with this QoS; the client is answered for its own"),
  row(PUBLISH, "retain", FLAG, "retained or not"),
  row(PUBLISH, "mountpoint", { kind: "text" }, "published to clients of this mountpoint"),
  row(
    PUBLISH,
    "throttle",
    integer(0, TIMER_MS, "ms"),
    "nothing more is read from the client for this time",
  ),
  row(
    PUBLISH_V5,
    "properties",
    properties(
      "p_payload_format_indicator p_message_expiry_interval p_content_type p_response_topic p_correlation_data p_user_property p_will_delay_interval",
    ),
    "replaces all properties; an expiry or will delay that is left out stays; p_will_delay_interval for wills only",
  ),
  // ---- auth_on_subscribe, auth_on_subscribe_m5
  row(
    SUBSCRIBE,
    "topics",
    { kind: "topics" },
    "the whole list in the order of the request: { topic, qos }, with qos 0..2 to subscribe, or a reason; what is missing is refused",
  ),
  row(SUBSCRIBE_V5, "properties", properties("p_reason_string p_user_property"), "sent in SUBACK"),
  // ---- on_unsubscribe, on_unsubscribe_m5
  row(UNSUBSCRIBE, "topics", { kind: "filters" }, "these filters are unsubscribed instead"),
  row(
    UNSUBSCRIBE_V5,
    "properties",
    properties("p_reason_string p_user_property"),
    "sent in UNSUBACK",
  ),
  // ---- on_deliver, on_deliver_m5
  row(DELIVER, "topic", { kind: "topic" }, "delivered under this topic, to this client only"),
  row(DELIVER, "payload", { kind: "payload" }, "delivered with this payload"),
  row(
    DELIVER_V5,
    "properties",
    properties(
      "p_payload_format_indicator p_message_expiry_interval p_content_type p_response_topic p_correlation_data p_user_property",
    ),
    "replaces all properties; an expiry that is left out stays",
  ),
];
