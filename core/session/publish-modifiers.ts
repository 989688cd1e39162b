import type { HookModifiers } from "../hooks/types.ts";
import { fromHookProperties } from "../mqtt/hook-properties.ts";
import { Message } from "../mqtt/message.ts";
import { PUBLISH } from "../mqtt/packets.ts";
import { WILL } from "../mqtt/properties.ts";
import { encodePublishProperties } from "../mqtt/publish-properties.ts";
import type { Session } from "./session.ts";

export type PublishChange = HookModifiers["auth_on_publish_m5"];

/** Who publishes: a session, or a client that a plugin speaks for. */
type Publisher = Pick<Session, "core" | "clientId">;

/**
 * The message a modifier asks for; undefined (and logged) when a field is not usable here. The expiry of
 * a will counts from its publication: the caller keeps it.
 */
export function applyPublishModifiers(
  session: Publisher,
  message: Message,
  change: PublishChange,
  isWill = false,
): Message | undefined {
  let properties = message.properties;
  let expiresAtMs = message.expiresAtMs;
  if (change.properties !== undefined) {
    const checked = fromHookProperties(change.properties, isWill ? WILL : PUBLISH);
    if ("error" in checked) {
      return badModifier(session, `properties.${checked.error.field}`, checked.error.message);
    }
    const encoded = encodePublishProperties(checked.properties);
    properties = encoded.forward;
    if (encoded.messageExpiryInterval >= 0 && !isWill) {
      expiresAtMs = session.core.wallMs() + encoded.messageExpiryInterval * 1000;
    }
  }
  const topic = change.topic ?? message.topic;
  const mountpoint = change.mountpoint ?? message.mountpoint;
  try {
    session.core.router.mount(mountpoint).lookupText(topic);
  } catch (error) {
    return badModifier(session, "topic", error instanceof Error ? error.message : "not valid");
  }
  return new Message(
    mountpoint,
    topic,
    change.payload ?? message.payload,
    change.qos ?? message.qos,
    change.retain ?? message.retain,
    properties,
    expiresAtMs,
  );
}

function badModifier(session: Publisher, field: string, why: string): undefined {
  session.core.log.limited(`modifier ${field}`, 10).warn("modifier of a publish hook refused", {
    client_id: session.clientId,
    field,
    why,
  });
  return undefined;
}
