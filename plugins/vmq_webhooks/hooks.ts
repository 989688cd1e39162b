import type { HookName } from "../../core/plugin-api.ts";

/** One hook that endpoints can be registered for. */
export interface WebhookRow {
  readonly hook: WebhookHook;
  /** `decides`: the client waits for the answer; `event`: nobody waits. */
  readonly kind: "decides" | "event";
  /** Answers may be kept as the endpoint's `cache-control` says. */
  readonly isCached: boolean;
  /** When it is called, one line. */
  readonly about: string;
}

/** Hooks of VerneMQ that exist, but not for endpoints: `on_message_drop` and so on. */
export type WebhookHook = Exclude<
  HookName,
  "on_message_drop" | "on_topic_unsubscribed" | "change_config"
>;

function decides(hook: WebhookHook, about: string): WebhookRow {
  return { hook, kind: "decides", isCached: hook.startsWith("auth_"), about };
}

function event(hook: WebhookHook, about: string): WebhookRow {
  return { hook, kind: "event", isCached: false, about };
}

/** Every hook of webhooks, in VerneMQ's order. */
export const WEBHOOKS: readonly WebhookRow[] = [
  decides("auth_on_register", "a client connects with MQTT 3.1 or 3.1.1"),
  decides("auth_on_publish", "a client publishes (3.x); also asked for a will at CONNECT"),
  decides("auth_on_subscribe", "a client subscribes (3.x)"),
  event("on_register", "a client was let in (3.x)"),
  event("on_publish", "a message was published (3.x)"),
  event("on_subscribe", "a client has subscribed (3.x)"),
  decides("on_unsubscribe", "a client unsubscribes (3.x); filters may be replaced, not refused"),
  decides("on_deliver", "a message goes to a client (3.x); may be changed, not refused"),
  event("on_offline_message", "a message was stored for a client that is offline"),
  event("on_client_wakeup", "a client's queue was attached to its connection"),
  event("on_client_offline", "a client with a persistent session has left"),
  event("on_client_gone", "a client has left and its session with it"),
  event("on_session_expired", "the session of an absent client is over"),
  decides("auth_on_register_m5", "a client connects with MQTT 5"),
  decides("auth_on_publish_m5", "a client publishes (5); also asked for a will at CONNECT"),
  decides("auth_on_subscribe_m5", "a client subscribes (5)"),
  event("on_register_m5", "a client was let in (5)"),
  event("on_publish_m5", "a message was published (5)"),
  event("on_subscribe_m5", "a client has subscribed (5)"),
  decides("on_unsubscribe_m5", "a client unsubscribes (5); filters may be replaced, not refused"),
  decides("on_deliver_m5", "a message goes to a client (5); may be changed, not refused"),
  decides("on_auth_m5", "a step of an enhanced authentication"),
];

const ROWS: ReadonlyMap<string, WebhookRow> = new Map(WEBHOOKS.map((row) => [row.hook, row]));

/** The row of a hook's name; undefined when endpoints cannot be registered for it. */
export function webhookRow(hook: string): WebhookRow | undefined {
  return ROWS.get(hook);
}

/** Hooks that exist as metrics only, as in VerneMQ. */
const METRICS_ONLY = ["on_message_drop", "on_topic_unsubscribed", "on_config_change"] as const;

/** The 25 names that VerneMQ's metrics have. */
export const METRIC_HOOKS: readonly string[] = [
  ...WEBHOOKS.map(({ hook }) => hook),
  ...METRICS_ONLY,
];
