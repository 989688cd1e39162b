import type { Config } from "../config/types.ts";
import type { RegisterModifiers } from "../hooks/types.ts";

/** Limits and habits of one session: from the configuration, changed by the register hook. */
export interface SessionSettings {
  readonly allowAnonymous: "on" | "off" | "hooks";
  readonly maxClientIdSize: number;
  readonly maxMessageSize: number;
  readonly maxMessageRate: number;
  /** Window of 3.x clients, 0 = unlimited; of MQTT 5 clients too when a hook gave it. */
  readonly maxInflightMessages: number;
  readonly isInflightFromHook: boolean;
  /** 3.x, 0 = never. */
  readonly retryIntervalMs: number;
  /** -1 = unlimited. */
  readonly maxOnlineMessages: number;
  readonly maxOfflineMessages: number;
  readonly overrideMaxOnlineMessages: boolean;
  /** QoS 0 messages wait in the store for a client that is away, as QoS 1 and 2 do; plugins' sessions only. */
  readonly storesQos0?: boolean;
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
  /** From the hook: forget the state with the connection, or keep it, whatever the client asked for. */
  readonly cleanupOnDisconnect: boolean | undefined;
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
    isInflightFromHook: false,
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
    cleanupOnDisconnect: undefined,
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

/** Settings changed by the modifiers of auth_on_register(_m5), checked by hooks/modifiers.ts. */
export function withModifiers(base: SessionSettings, given: RegisterModifiers): SessionSettings {
  const properties = given.properties ?? {};
  return Object.freeze({
    ...base,
    maxMessageSize: given.max_message_size ?? base.maxMessageSize,
    maxMessageRate: given.max_message_rate ?? base.maxMessageRate,
    maxInflightMessages: given.max_inflight_messages ?? base.maxInflightMessages,
    isInflightFromHook: given.max_inflight_messages !== undefined,
    retryIntervalMs: given.retry_interval ?? base.retryIntervalMs,
    maxConnectionLifetimeS: given.max_connection_lifetime ?? base.maxConnectionLifetimeS,
    maxOnlineMessages: given.max_online_messages ?? base.maxOnlineMessages,
    maxOfflineMessages: given.max_offline_messages ?? base.maxOfflineMessages,
    queueType: given.queue_type ?? base.queueType,
    queueDeliverMode: given.queue_deliver_mode ?? base.queueDeliverMode,
    upgradeOutgoingQos: given.upgrade_qos ?? base.upgradeOutgoingQos,
    allowMultipleSessions: given.allow_multiple_sessions ?? base.allowMultipleSessions,
    cleanupOnDisconnect: given.cleanup_on_disconnect ?? base.cleanupOnDisconnect,
    sessionExpiryIntervalS:
      properties.p_session_expiry_interval ??
      given.session_expiry_interval ??
      base.sessionExpiryIntervalS,
    maxPacketSize: given.max_packet_size ?? base.maxPacketSize,
    requestProblemInfo: given.request_problem_info ?? base.requestProblemInfo,
    receiveMaxBroker: given.fc_receive_max_broker ?? base.receiveMaxBroker,
    receiveMaxClient: given.fc_receive_max_client ?? base.receiveMaxClient,
    topicAliasMaxClient: given.topic_alias_max ?? base.topicAliasMaxClient,
    maximumQoS: properties.p_max_qos ?? base.maximumQoS,
    retainAvailable: properties.p_retain_available ?? base.retainAvailable,
    wildcardSubscriptionAvailable:
      properties.p_wildcard_subs_available ?? base.wildcardSubscriptionAvailable,
    sharedSubscriptionAvailable:
      properties.p_shared_subs_available ?? base.sharedSubscriptionAvailable,
    subscriptionIdentifiersAvailable:
      properties.p_sub_ids_available ?? base.subscriptionIdentifiersAvailable,
  });
}
