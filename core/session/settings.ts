import type { Config } from "../config/types.ts";
import type { RegisterModifiers } from "../hooks/types.ts";

/** Limits and habits of one session: from the configuration, changed by the register hook. */
export interface SessionSettings {
  readonly allowAnonymous: "on" | "off" | "hooks";
  readonly maxClientIdSize: number;
  readonly maxMessageSize: number;
  readonly maxMessageRate: number;
  /** 3.x window, 0 = unlimited. */
  readonly maxInflightMessages: number;
  /** 3.x, 0 = never. */
  readonly retryIntervalMs: number;
  /** -1 = unlimited. */
  readonly maxOnlineMessages: number;
  readonly maxOfflineMessages: number;
  readonly overrideMaxOnlineMessages: boolean;
  readonly maxQueueBytes: number;
  readonly queueType: "fifo" | "lifo";
  readonly queueDropPolicy: "auto" | "drop_new" | "drop_old";
  readonly queueDeliverMode: "fanout" | "balance";
  readonly upgradeOutgoingQos: boolean;
  readonly allowMultipleSessions: boolean;
  /** Seconds, 0 = never. */
  readonly persistentClientExpirationS: number;
  /** Seconds, 0xFFFFFFFF = no cap. */
  readonly maxLastWillDelayS: number;
  readonly maxSubscriptionsPerClient: number;
  readonly topicMaxDepth: number;
  readonly topicAliasMaxClient: number;
  readonly topicAliasMaxBroker: number;
  readonly receiveMaxClient: number;
  readonly receiveMaxBroker: number;
  readonly suppressLwtOnTakeover: boolean;
  readonly disconnectOnUnauthorizedPublishV3: boolean;
  readonly keepaliveAsWarning: boolean;
  readonly mqttConnectTimeoutMs: number;
  /** Seconds, 0 = unlimited; set by the hook only (the listener has its own). */
  readonly maxConnectionLifetimeS: number;
  readonly sharedRequeueOfflineAfterS: number;
  /** MQTT 5, from the hook: replaces the client's Session Expiry Interval. */
  readonly sessionExpiryIntervalS: number | undefined;
  readonly maxPacketSize: number | undefined;
  readonly requestProblemInfo: boolean | undefined;
  /** Capabilities announced in CONNACK and enforced. */
  readonly maximumQoS: number;
  readonly retainAvailable: boolean;
  readonly wildcardSubscriptionAvailable: boolean;
  readonly sharedSubscriptionAvailable: boolean;
  readonly subscriptionIdentifiersAvailable: boolean;
}

/** Reads the settings once; sessions share the object until a live setting changes. */
export function sessionSettings(config: Config): SessionSettings {
  return Object.freeze({
    allowAnonymous: anonymousMode(config),
    maxClientIdSize: config.int("max_client_id_size"),
    maxMessageSize: config.int("max_message_size"),
    maxMessageRate: config.int("max_message_rate"),
    maxInflightMessages: config.int("max_inflight_messages"),
    retryIntervalMs: config.int("retry_interval") * 1000,
    maxOnlineMessages: config.int("max_online_messages"),
    maxOfflineMessages: config.int("max_offline_messages"),
    overrideMaxOnlineMessages: config.flag("override_max_online_messages"),
    maxQueueBytes: config.int("max_queue_bytes"),
    queueType: config.text("queue_type") as "fifo" | "lifo",
    queueDropPolicy: config.text("queue_drop_policy") as "auto" | "drop_new" | "drop_old",
    queueDeliverMode: config.text("queue_deliver_mode") as "fanout" | "balance",
    upgradeOutgoingQos: config.flag("upgrade_outgoing_qos"),
    allowMultipleSessions: config.flag("allow_multiple_sessions"),
    persistentClientExpirationS: config.int("persistent_client_expiration"),
    maxLastWillDelayS: config.int("max_last_will_delay"),
    maxSubscriptionsPerClient: config.int("max_subscriptions_per_client"),
    topicMaxDepth: config.int("topic_max_depth"),
    topicAliasMaxClient: config.int("topic_alias_max_client"),
    topicAliasMaxBroker: config.int("topic_alias_max_broker"),
    receiveMaxClient: config.int("receive_max_client"),
    receiveMaxBroker: config.int("receive_max_broker"),
    suppressLwtOnTakeover: config.flag("suppress_lwt_on_session_takeover"),
    disconnectOnUnauthorizedPublishV3: config.flag("disconnect_on_unauthorized_publish_v3"),
    keepaliveAsWarning: config.flag("logging.keepalive_as_warning"),
    mqttConnectTimeoutMs: config.int("mqtt_connect_timeout"),
    maxConnectionLifetimeS: 0,
    sharedRequeueOfflineAfterS: config.int("shared_requeue_offline_after"),
    sessionExpiryIntervalS: undefined,
    maxPacketSize: undefined,
    requestProblemInfo: undefined,
    maximumQoS: 2,
    retainAvailable: true,
    wildcardSubscriptionAvailable: true,
    sharedSubscriptionAvailable: true,
    subscriptionIdentifiersAvailable: true,
  });
}

function anonymousMode(config: Config): "on" | "off" | "hooks" {
  const value = config.value("allow_anonymous");
  return value === true || value === "on" ? "on" : value === "hooks" ? "hooks" : "off";
}

/** Settings changed by the modifiers of auth_on_register(_m5); a wrong type keeps the current value. */
export function withModifiers(
  base: SessionSettings,
  modifiers: RegisterModifiers,
  version: number,
): SessionSettings {
  const properties = modifiers.properties ?? {};
  const v3 = version < 5;
  return {
    ...base,
    maxMessageSize: count(modifiers.max_message_size, base.maxMessageSize),
    maxMessageRate: count(modifiers.max_message_rate, base.maxMessageRate),
    maxInflightMessages: v3
      ? count(modifiers.max_inflight_messages, base.maxInflightMessages)
      : base.maxInflightMessages,
    retryIntervalMs: v3 ? count(modifiers.retry_interval, base.retryIntervalMs) : 0,
    maxConnectionLifetimeS: count(modifiers.max_connection_lifetime, base.maxConnectionLifetimeS),
    maxOnlineMessages: limit(modifiers.max_online_messages, base.maxOnlineMessages),
    maxOfflineMessages: limit(modifiers.max_offline_messages, base.maxOfflineMessages),
    queueType: oneOf(modifiers.queue_type, ["fifo", "lifo"], base.queueType),
    queueDeliverMode: oneOf(
      modifiers.queue_deliver_mode,
      ["fanout", "balance"],
      base.queueDeliverMode,
    ),
    upgradeOutgoingQos: flag(modifiers.upgrade_qos, base.upgradeOutgoingQos),
    allowMultipleSessions: flag(modifiers.allow_multiple_sessions, base.allowMultipleSessions),
    sessionExpiryIntervalS: count(
      properties.p_session_expiry_interval ?? modifiers.session_expiry_interval,
      base.sessionExpiryIntervalS ?? -1,
      true,
    ),
    maxPacketSize: modifiers.max_packet_size ?? base.maxPacketSize,
    requestProblemInfo: modifiers.request_problem_info ?? base.requestProblemInfo,
    receiveMaxBroker: count(modifiers.fc_receive_max_broker, base.receiveMaxBroker),
    receiveMaxClient: count(modifiers.fc_receive_max_client, base.receiveMaxClient),
    topicAliasMaxClient: count(modifiers.topic_alias_max, base.topicAliasMaxClient),
    maximumQoS: properties.p_max_qos ?? base.maximumQoS,
    retainAvailable: properties.p_retain_available ?? base.retainAvailable,
    wildcardSubscriptionAvailable:
      properties.p_wildcard_subs_available ?? base.wildcardSubscriptionAvailable,
    sharedSubscriptionAvailable:
      properties.p_shared_subs_available ?? base.sharedSubscriptionAvailable,
    subscriptionIdentifiersAvailable:
      properties.p_sub_ids_available ?? base.subscriptionIdentifiersAvailable,
  };
}

function count(value: number | undefined, base: number, unset: true): number | undefined;
function count(value: number | undefined, base: number): number;
function count(value: number | undefined, base: number, unset?: true): number | undefined {
  if (typeof value === "number" && Number.isFinite(value) && value >= 0) return Math.round(value);
  return unset && base < 0 ? undefined : base;
}

function limit(value: number | undefined, base: number): number {
  return typeof value === "number" && Number.isFinite(value) && value >= -1
    ? Math.round(value)
    : base;
}

function flag(value: boolean | undefined, base: boolean): boolean {
  return typeof value === "boolean" ? value : base;
}

function oneOf<T extends string>(value: string | undefined, allowed: readonly T[], base: T): T {
  return allowed.find((each) => each === value) ?? base;
}
