import type {
  ClientPublishResult,
  PluginMessage,
  PublishingClient,
  SessionContext,
} from "../hooks/define-plugin.ts";
import type { SubscriberId } from "../hooks/types.ts";
import { fromHookProperties } from "../mqtt/hook-properties.ts";
import type { Message } from "../mqtt/message.ts";
import { PUBLISH } from "../mqtt/packets.ts";
import { validateTopic } from "../mqtt/topics.ts";
import type { Core } from "./core.ts";
import { PublishCall, withContext } from "./hook-arguments.ts";
import { applyPublishModifiers } from "./publish-modifiers.ts";
import { type SessionSettings, withModifiers } from "./settings.ts";

/** A client as the hooks made it. */
interface Registered {
  readonly id: SubscriberId;
  readonly username: string | undefined;
  readonly settings: SessionSettings;
}

/** What hooks of this one request share. */
interface Owner {
  readonly context: SessionContext;
}

/**
 * Publishes in the name of a client that is not connected, with the hooks of a 3.1.1 client: register,
 * publish, on_publish. Differs from VerneMQ: auth_on_publish is asked with `allow_anonymous = on` too,
 * as for every client, and on_publish hears of the message.
 */
export async function publishAs(
  core: Core,
  client: PublishingClient,
  given: PluginMessage,
  messageOf: (message: PluginMessage) => Message,
  route: (message: Message) => Promise<void>,
): Promise<ClientPublishResult> {
  const fault = validateTopic(given.topic, core.settings.topicMaxDepth);
  if (fault !== undefined || given.topic.startsWith("$")) {
    return { result: "topic_invalid" };
  }
  const owner: Owner = { context: {} };
  const registered = await register(core, client, given.mountpoint ?? "", owner);
  if (registered === undefined) return { result: "not_authenticated" };
  const { id, username, settings } = registered;
  if ("error" in fromHookProperties(given.properties ?? {}, PUBLISH)) {
    return { result: "properties_invalid" };
  }
  const message = messageOf({ ...given, mountpoint: id.mountpoint });
  if (settings.maxMessageSize > 0 && message.payload.length > settings.maxMessageSize) {
    return { result: "too_large" };
  }
  const { hooks } = core;
  let allowed: Message | undefined = message;
  if (hooks.global.isAsked("auth_on_publish")) {
    const verdict = await hooks.ask(
      "auth_on_publish",
      new PublishCall(core, username, id, message, owner),
    );
    if (verdict !== "ok" && !("ok" in verdict)) return { result: "not_authorized" };
    if (verdict !== "ok") {
      allowed = applyPublishModifiers({ core, clientId: id.client_id }, message, verdict.ok);
    }
  }
  if (allowed === undefined) return { result: "not_authorized" };
  await route(allowed);
  if (hooks.wants("on_publish")) {
    hooks.tell("on_publish", new PublishCall(core, username, id, allowed, owner));
  }
  return { result: "published" };
}

/** Undefined = refused. */
async function register(
  core: Core,
  client: PublishingClient,
  mountpoint: string,
  owner: Owner,
): Promise<Registered | undefined> {
  const { hooks, settings } = core;
  const { clientId, username, password, peer } = client;
  const id = { mountpoint, client_id: clientId };
  const unchanged = { id, username, settings };
  const mode = settings.allowAnonymous;
  if (mode === "on") return unchanged;
  if (mode === "hooks" && !hooks.wants("auth_on_register")) return unchanged;
  const args = {
    peer,
    subscriber_id: id,
    username,
    password,
    clean_session: true,
    connection_meta: undefined,
  };
  const verdict = await hooks.ask("auth_on_register", withContext(args, owner));
  if (verdict === "ok") return unchanged;
  if ("ok" in verdict) {
    const changes = verdict.ok;
    const changedId = changes.subscriber_id;
    return {
      id:
        changedId === undefined
          ? id
          : { ...changedId, mountpoint: changedId.mountpoint ?? mountpoint },
      username: changes.username ?? username,
      settings: withModifiers(settings, changes),
    };
  }
  const isOpen = mode === "hooks" && verdict.error === "plugin_chain_exhausted";
  return isOpen ? unchanged : undefined;
}
