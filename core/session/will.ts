import { Message } from "../mqtt/message.ts";
import type { StoredWill } from "../store/types.ts";
import type { Core } from "./core.ts";
import { PublishCall } from "./hook-arguments.ts";
import type { Subscriber } from "./subscriber.ts";

/**
 * Publishes a will: authorised at CONNECT, so it goes straight to the router and on_publish.
 * Differs from VerneMQ: the clock of its Message Expiry Interval runs, and on_publish_m5 is called.
 */
export function publishWill(core: Core, subscriber: Subscriber, will: StoredWill): void {
  const message = withExpiry(will.message, will.expiryS, core.wallMs());
  const route = core.router.mount(message.mountpoint).lookupText(message.topic, true);
  if (message.retain) core.router.publishRetained(route, message, subscriber, core.wallMs());
  else core.router.publish(route, message, subscriber);
  const event = subscriber.protocolLevel === 5 ? "on_publish_m5" : "on_publish";
  if (core.hooks.wants(event)) {
    core.hooks.tell(
      event,
      new PublishCall(core, subscriber.username, subscriber.hookId, message, subscriber),
    );
  }
}

function withExpiry(message: Message, expiryS: number, nowMs: number): Message {
  if (expiryS < 0 || message.expiresAtMs !== 0) return message;
  return new Message(
    message.mountpoint,
    message.topic,
    message.payload,
    message.qos,
    message.retain,
    message.properties,
    nowMs + expiryS * 1000,
  );
}

/**
 * Seconds a will waits after the last session is gone, 0 = published at once. `max_last_will_delay`
 * caps it; it never outlives the session. MQTT 5.0, 3.1.3.2.2.
 */
export function willDelay(will: StoredWill, capS: number, sessionExpiryS: number): number {
  if (sessionExpiryS === 0) return 0;
  return Math.min(will.delayS, capS, sessionExpiryS);
}
