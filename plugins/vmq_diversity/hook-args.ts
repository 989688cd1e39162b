import type { HookArgs, HookProperties, SubscriberId } from "../../core/plugin-api.ts";
import type { BatchWriter } from "./wire.ts";
import { LUA_HOOKS, type LuaHook } from "./wire.ts";

/** Makes a password unreadable for a script that does not ask for it (`obf.decrypt`). */
export type Obfuscate = (bytes: Uint8Array) => Uint8Array;

/** By name: the search in a list would cost more than the rest of a call. */
const HOOK_NUMBERS = Object.fromEntries(LUA_HOOKS.map((hook, at) => [hook, at])) as Record<
  LuaHook,
  number
>;

interface Client {
  readonly username: string | undefined;
  readonly subscriber_id: SubscriberId;
}

/** Writes one call with the argument table of its hook (lua.md, section 2). */
export function writeCall(
  writer: BatchWriter,
  id: number,
  version: number,
  hook: LuaHook,
  args: HookArgs[LuaHook],
  obfuscate: Obfuscate,
): void {
  const at = HOOK_NUMBERS[hook];
  switch (hook) {
    case "auth_on_publish":
    case "on_publish":
    case "auth_on_publish_m5":
    case "on_publish_m5":
    case "on_deliver":
    case "on_deliver_m5": {
      const given = args as HookArgs["on_deliver"];
      const hasProperties = hook !== "auth_on_publish" && hook !== "on_publish";
      writer.publish(id, version, at, {
        username: given.username,
        mountpoint: given.subscriber_id.mountpoint,
        clientId: given.subscriber_id.client_id,
        qos: given.qos,
        topic: given.topic,
        payload: given.payload,
        retain: given.retain,
        properties: hasProperties ? luaProperties(given.properties) : undefined,
      });
      return;
    }
    default:
      writer.object(id, version, at, tableOf(hook, args, obfuscate));
  }
}

/** The argument table of a hook that is no publish hook; undefined entries are absent. */
export function tableOf(hook: LuaHook, given: unknown, obfuscate: Obfuscate): object {
  switch (hook) {
    case "auth_on_register":
    case "auth_on_register_m5": {
      const args = given as HookArgs["auth_on_register"] & Partial<HookArgs["auth_on_register_m5"]>;
      const { password, connection_meta: meta, properties } = args;
      return {
        ...peerFields(args),
        username: args.username,
        password: password === undefined ? undefined : obfuscate(password),
        ...(hook === "auth_on_register"
          ? { clean_session: args.clean_session }
          : { clean_start: args.clean_start, properties: luaProperties(properties ?? {}) }),
        ...(meta === undefined ? {} : { ...meta }),
      };
    }
    case "on_register":
    case "on_register_m5": {
      const args = given as HookArgs["on_register"] & Partial<HookArgs["on_register_m5"]>;
      const { properties } = args;
      return {
        ...peerFields(args),
        username: args.username,
        ...(properties === undefined ? {} : { properties: luaProperties(properties) }),
      };
    }
    case "auth_on_subscribe":
    case "on_subscribe": {
      const args = given as HookArgs["on_subscribe"];
      return { ...clientFields(args), topics: args.topics.map(({ topic, qos }) => [topic, qos]) };
    }
    case "auth_on_subscribe_m5":
    case "on_subscribe_m5": {
      const args = given as HookArgs["on_subscribe_m5"];
      const topics = args.topics.map(({ topic, qos, ...options }) => [topic, [qos, options]]);
      return { ...clientFields(args), topics, properties: luaProperties(args.properties) };
    }
    case "on_unsubscribe":
    case "on_unsubscribe_m5": {
      const args = given as HookArgs["on_unsubscribe"] & Partial<HookArgs["on_unsubscribe_m5"]>;
      const { topics, properties } = args;
      return {
        ...clientFields(args),
        topics: [...topics],
        ...(properties === undefined ? {} : { properties: luaProperties(properties) }),
      };
    }
    case "on_auth_m5": {
      const args = given as HookArgs["on_auth_m5"];
      return { ...clientFields(args), properties: luaProperties(args.properties) };
    }
    case "on_offline_message": {
      const { subscriber_id, qos, topic, payload, retain } =
        given as HookArgs["on_offline_message"];
      return { ...subscriber_id, qos, topic, payload, retain };
    }
    default: {
      const { subscriber_id } = given as HookArgs["on_client_gone"];
      return { ...subscriber_id };
    }
  }
}

function clientFields({ username, subscriber_id }: Client): object {
  const { mountpoint, client_id } = subscriber_id;
  return { username, mountpoint, client_id };
}

function peerFields(args: HookArgs["on_register"]): object {
  const { mountpoint, client_id } = args.subscriber_id;
  return { addr: args.peer.address, port: args.peer.port, mountpoint, client_id };
}

/** User properties as a list of tables with one entry; everything else as it is. */
export function luaProperties(properties: HookProperties): object {
  const { p_user_property: pairs } = properties;
  if (pairs === undefined) return properties;
  return { ...properties, p_user_property: pairs.map(({ key, val }) => ({ [key]: val })) };
}
