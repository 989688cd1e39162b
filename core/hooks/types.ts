import type { Peer } from "../listeners/types.ts";
import type { Later } from "./later.ts";

/**
 * The hook contract: names, arguments, verdicts and modifiers of every step in a client's life. Names
 * are VerneMQ's; topics are strings; times are in the units the modifier names.
 */

export interface SubscriberId {
  readonly mountpoint: string;
  readonly client_id: string;
}

/** Given when the listener has `forward_connection_opts = on`. */
export interface ConnectionMeta {
  readonly listener_addr: string;
  readonly listener_port: number;
  readonly listener_type: "mqtt" | "mqtts" | "mqttws" | "mqttwss";
  /** DER, TLS listeners with a client certificate only. */
  readonly client_cert?: Buffer;
}

/** MQTT 5 properties under their plugin names. */
export interface HookProperties {
  p_payload_format_indicator?: "utf8" | "unspecified";
  p_message_expiry_interval?: number;
  p_content_type?: string;
  p_response_topic?: string;
  p_correlation_data?: Buffer;
  p_subscription_id?: number[];
  p_session_expiry_interval?: number;
  p_assigned_client_id?: string;
  p_server_keep_alive?: number;
  p_authentication_method?: string;
  p_authentication_data?: Buffer;
  p_request_problem_info?: boolean;
  p_will_delay_interval?: number;
  p_request_response_info?: boolean;
  p_response_info?: string;
  p_server_ref?: string;
  p_reason_string?: string;
  p_receive_max?: number;
  p_topic_alias_max?: number;
  p_topic_alias?: number;
  p_max_qos?: number;
  p_retain_available?: boolean;
  p_user_property?: { key: string; val: string }[];
  p_max_packet_size?: number;
  p_wildcard_subs_available?: boolean;
  p_sub_ids_available?: boolean;
  p_shared_subs_available?: boolean;
}

/** A reason by name (`quota_exceeded`), number (0x97) or with properties for the packet that carries it. */
export type HookError =
  | string
  | number
  | {
      reason_code?: string | number;
      reason_string?: string;
      properties?: HookProperties;
    };

/**
 * Answer of a conditional hook: accept, accept with changes, ask the next plugin, refuse. `unavailable` is a
 * `next` of somebody who cannot decide now, such as a plugin without its database: when nobody else
 * decides, the client is refused in every mode, and not as one with a wrong password.
 */
export type Verdict<M> = "ok" | "next" | "unavailable" | { ok: M } | { error: HookError };

export interface RegisterArgs {
  readonly peer: Peer;
  readonly subscriber_id: SubscriberId;
  readonly username: string | undefined;
  readonly password: Buffer | undefined;
  readonly clean_session: boolean;
  readonly connection_meta: ConnectionMeta | undefined;
  /** Aborted when the client's connection ends before the answer; not there in a dry run. */
  readonly signal?: AbortSignal;
}

export interface RegisterM5Args extends Omit<RegisterArgs, "clean_session"> {
  readonly clean_start: boolean;
  readonly properties: HookProperties;
}

export interface RegisterModifiers {
  subscriber_id?: SubscriberId;
  username?: string;
  clean_session?: boolean;
  clean_start?: boolean;
  /** Bytes of an inbound packet, 0 = unlimited. */
  max_message_size?: number;
  /** Seconds, 0 = none; the shorter of this and the listener's counts. */
  max_connection_lifetime?: number;
  /** Messages per second, 0 = unlimited. */
  max_message_rate?: number;
  /** 0 = unlimited; with MQTT 5 never more than the client's Receive Maximum. */
  max_inflight_messages?: number;
  shared_subscription_policy?: string;
  /** Milliseconds, 3.x only. */
  retry_interval?: number;
  upgrade_qos?: boolean;
  /** During a netsplit. */
  allow_register?: boolean;
  allow_publish?: boolean;
  allow_subscribe?: boolean;
  allow_unsubscribe?: boolean;
  /** -1 = unlimited, 0 = none. */
  max_online_messages?: number;
  max_offline_messages?: number;
  queue_type?: "fifo" | "lifo";
  queue_deliver_mode?: "fanout" | "balance";
  allow_multiple_sessions?: boolean;
  /** Forget the client's state when it leaves (true) or keep it (false), whatever it asked for. */
  cleanup_on_disconnect?: boolean;
  reg_view?: string;
  max_drain_time?: number;
  max_msgs_per_drain_step?: number;
  /** MQTT 5: seconds. */
  session_expiry_interval?: number;
  /** Bytes of an outbound packet; never more than the client's Maximum Packet Size. */
  max_packet_size?: number;
  request_problem_info?: boolean;
  fc_receive_max_broker?: number;
  fc_receive_max_client?: number;
  topic_alias_max?: number;
  properties?: HookProperties;
}

export interface PublishArgs {
  readonly username: string | undefined;
  readonly subscriber_id: SubscriberId;
  readonly qos: number;
  readonly topic: string;
  readonly payload: Buffer;
  readonly retain: boolean;
}

export interface PublishM5Args extends PublishArgs {
  readonly properties: HookProperties;
}

/** Bytes, or text that becomes UTF-8. */
export type Payload = Buffer | string;

export interface PublishModifiers {
  topic?: string;
  payload?: Payload;
  qos?: number;
  retain?: boolean;
  mountpoint?: string;
  /** Milliseconds during which nothing more is read from this client. */
  throttle?: number;
  /** MQTT 5: replaces all properties. */
  properties?: HookProperties;
}

export interface TopicQos {
  readonly topic: string;
  readonly qos: number;
}

/** What a verdict makes of a topic: QoS 0..2, or the reason of its refusal by name or number (128 or more). */
export interface TopicDecision {
  readonly topic: string;
  readonly qos: number | string;
}

export interface SubscribeArgs {
  readonly username: string | undefined;
  readonly subscriber_id: SubscriberId;
  readonly topics: readonly TopicQos[];
}

export interface SubscriptionInfo extends TopicQos {
  readonly rap?: boolean;
  readonly no_local?: boolean;
  readonly retain_handling?: "send_retain" | "send_if_new_sub" | "dont_send";
  readonly sub_id?: number;
}

/** Options that are left out stay as the client asked for them. */
export interface SubscriptionDecision extends Omit<SubscriptionInfo, "qos"> {
  readonly qos: number | string;
}

export interface SubscribeM5Args {
  readonly username: string | undefined;
  readonly subscriber_id: SubscriberId;
  readonly topics: readonly SubscriptionInfo[];
  readonly properties: HookProperties;
}

export interface UnsubscribeArgs {
  readonly username: string | undefined;
  readonly subscriber_id: SubscriberId;
  readonly topics: readonly string[];
}

export interface UnsubscribeM5Args extends UnsubscribeArgs {
  readonly properties: HookProperties;
}

export interface DeliverArgs extends PublishArgs {
  /** MQTT 5 properties of the message (also for on_deliver, where they are empty for 3.x publishers). */
  readonly properties: HookProperties;
}

export interface AuthArgs {
  readonly username: string | undefined;
  readonly subscriber_id: SubscriberId;
  readonly properties: HookProperties;
}

export interface AuthModifiers {
  /** `success` (0, the default) or `continue_authentication` (0x18). */
  reason_code?: string | number;
  properties?: HookProperties;
}

export type DropReason = "queue_full" | "expired" | "max_packet_size_exceeded";

export interface MessageDropArgs {
  readonly subscriber_id: SubscriberId;
  readonly topic: string;
  readonly qos: number;
  readonly payload: Buffer;
  readonly properties: HookProperties;
  readonly reason: DropReason;
}

interface SubscriberArgs {
  readonly subscriber_id: SubscriberId;
}

/** Arguments of every hook by name. */
export interface HookArgs {
  auth_on_register: RegisterArgs;
  auth_on_register_m5: RegisterM5Args;
  on_auth_m5: AuthArgs;
  on_register: { peer: Peer; subscriber_id: SubscriberId; username: string | undefined };
  on_register_m5: {
    peer: Peer;
    subscriber_id: SubscriberId;
    username: string | undefined;
    /** Properties that go into CONNACK. */
    properties: HookProperties;
    /** Properties the client sent in CONNECT. */
    connect_properties: HookProperties;
  };
  auth_on_publish: PublishArgs;
  auth_on_publish_m5: PublishM5Args;
  on_publish: PublishArgs;
  on_publish_m5: PublishM5Args;
  auth_on_subscribe: SubscribeArgs;
  auth_on_subscribe_m5: SubscribeM5Args;
  on_subscribe: SubscribeArgs;
  on_subscribe_m5: SubscribeM5Args;
  on_unsubscribe: UnsubscribeArgs;
  on_unsubscribe_m5: UnsubscribeM5Args;
  on_topic_unsubscribed: { subscriber_id: SubscriberId; topics: readonly string[] | "all_topics" };
  on_deliver: DeliverArgs;
  on_deliver_m5: DeliverArgs;
  on_offline_message: {
    subscriber_id: SubscriberId;
    qos: number;
    topic: string;
    payload: Buffer;
    retain: boolean;
  };
  on_message_drop: MessageDropArgs;
  on_client_wakeup: SubscriberArgs;
  on_client_offline: SubscriberArgs & { reason?: string };
  on_client_gone: SubscriberArgs & { reason?: string };
  on_session_expired: SubscriberArgs;
  change_config: { settings: readonly { key: string; value: unknown }[] };
}

export interface DeliverModifiers {
  topic?: string;
  payload?: Payload;
  /** MQTT 5: replaces all properties. */
  properties?: HookProperties;
}

/** What a plugin may write in `{ ok: ... }`; every other hook only informs. See hooks/modifiers.ts. */
export interface HookAnswers {
  auth_on_register: Omit<RegisterModifiers, "properties">;
  auth_on_register_m5: RegisterModifiers;
  on_auth_m5: AuthModifiers;
  auth_on_publish: Omit<PublishModifiers, "properties"> | Payload;
  auth_on_publish_m5: PublishModifiers | Payload;
  /** The whole list, replacing the requested one. */
  auth_on_subscribe: readonly TopicDecision[];
  auth_on_subscribe_m5: {
    topics?: readonly SubscriptionDecision[];
    properties?: HookProperties;
  };
  on_unsubscribe: readonly string[];
  on_unsubscribe_m5: { topics?: readonly string[]; properties?: HookProperties };
  on_deliver: Omit<DeliverModifiers, "properties"> | Payload;
  on_deliver_m5: DeliverModifiers | Payload;
}

type WithBytes<M> = Omit<M, "payload"> & { payload?: Buffer };

/** The same once checked: one form for each, what the session works with. */
export interface HookModifiers {
  auth_on_register: RegisterModifiers;
  auth_on_register_m5: RegisterModifiers;
  on_auth_m5: { reason_code?: number; properties?: HookProperties };
  auth_on_publish: WithBytes<PublishModifiers>;
  auth_on_publish_m5: WithBytes<PublishModifiers>;
  auth_on_subscribe: { topics: readonly SubscriptionInfo[]; properties?: HookProperties };
  auth_on_subscribe_m5: { topics?: readonly SubscriptionInfo[]; properties?: HookProperties };
  on_unsubscribe: { topics: readonly string[]; properties?: HookProperties };
  on_unsubscribe_m5: { topics?: readonly string[]; properties?: HookProperties };
  on_deliver: WithBytes<DeliverModifiers>;
  on_deliver_m5: WithBytes<DeliverModifiers>;
}

export type HookName = keyof HookArgs;
export type ConditionalHook = keyof HookModifiers;
export type EventHook = Exclude<HookName, ConditionalHook>;

export type HookFunction<H extends HookName> = H extends ConditionalHook
  ? (
      args: HookArgs[H],
    ) =>
      | Verdict<HookAnswers[H]>
      | Promise<Verdict<HookAnswers[H]>>
      | Pick<Later<Verdict<HookAnswers[H]>>, "then">
  : (args: HookArgs[H]) => void | Promise<void>;

export type PluginHooks = { [H in HookName]?: HookFunction<H> };

/** A plugin as the chain sees it. Lower priority numbers are asked first; without one, by name after all that have one. */
export interface Plugin {
  readonly name: string;
  readonly priority?: number;
  readonly hooks: PluginHooks;
  /**
   * Deadline of a call that answers with a promise, default 5000; 0 = the plugin keeps one of its own.
   * `plugins.<name>.hook_timeout`
   */
  readonly hookTimeoutMs?: number;
  /**
   * What a call that throws, rejects or is late means: a refusal (default), or ask the next plugin. It
   * never accepts. on_unsubscribe and on_deliver, which cannot refuse, always go on to the next.
   * `plugins.<name>.on_error`
   */
  readonly onError?: "deny" | "next";
  /**
   * MQTT 5 clients are asked through a 3.x hook when the plugin has no `_m5` form of it; default true.
   * Plugin worlds with other rules (Lua, webhooks) say false. `plugins.<name>.v5_compat`
   */
  readonly v5Compat?: boolean;
  /**
   * auth_on_publish may be asked about a client's next message before the answer about the last one is
   * there; answers take effect in the client's order. Default false: one at a time.
   */
  readonly isPipelined?: boolean;
}
