/** `auth_cache`: hands ACLs of clients to the broker's thread, which then decides without any script. */
import type { CacheInsert, CacheMatch } from "../acl-rule.ts";
import type { LibraryHost, LuaCall, LuaLibrary, LuaResult, LuaValue } from "../worker/library.ts";
import { AclTexts } from "./acl-text.ts";
import { bytesOf, numberOf, stringOf } from "./arguments.ts";

/** What the service answers about a change, see `AuthCache.matchPublish`. */
interface ChangeSeen {
  readonly properties?: { readonly p_user_property?: readonly { key: string; val: string }[] };
}

/** Makes VerneMQ's `insert`, `match_publish` and `match_subscribe`. */
export function authCacheLibrary(host: LibraryHost): LuaLibrary {
  const texts = new AclTexts();

  async function match(call: LuaCall, service: string, asked: CacheMatch): Promise<LuaResult> {
    const answer = await host.ask(`auth_cache.${service}`, asked, call);
    return typeof answer === "object" ? changeToLua(answer) : (answer as boolean);
  }

  return {
    // The last one is our own: what of a wrong type is an error, for scripts that read a database.
    insert: (call, mountpoint, clientId, username, publish, subscribe, strict) => {
      const where = "auth_cache.insert";
      const entry: CacheInsert = {
        mountpoint: stringOf(mountpoint, `${where}: the mountpoint`),
        clientId: stringOf(clientId, `${where}: the client id`),
        username: stringOf(username, `${where}: the user name`),
        publish: texts.of(publish, "publish_acl", strict === true),
        subscribe: texts.of(subscribe, "subscribe_acl", strict === true),
      };
      host.tell(where, entry, call);
      return true;
    },
    match_publish: (call, mountpoint, clientId, topic, qos, payload, retain) =>
      match(call, "match_publish", {
        ...askedOf("match_publish", [mountpoint, clientId, topic, qos]),
        payloadBytes: bytesOf(payload ?? Buffer.alloc(0), "auth_cache.match_publish: the payload")
          .length,
        retain: retain === true,
      }),
    match_subscribe: (call, mountpoint, clientId, filter, qos) =>
      match(
        call,
        "match_subscribe",
        askedOf("match_subscribe", [mountpoint, clientId, filter, qos]),
      ),
  };
}

function askedOf(name: string, args: readonly LuaValue[]): CacheMatch {
  const where = `auth_cache.${name}`;
  const [mountpoint, clientId, topic, qos] = args;
  return {
    mountpoint: stringOf(mountpoint, `${where}: the mountpoint`),
    clientId: stringOf(clientId, `${where}: the client id`),
    topic: stringOf(topic, `${where}: the topic`),
    qos: numberOf(qos, `${where}: the QoS`, 0, 2),
    payloadBytes: 0,
    retain: false,
  };
}

/** User properties as scripts know them. */
function changeToLua(change: unknown): LuaResult {
  const pairs = (change as ChangeSeen).properties?.p_user_property;
  if (pairs === undefined) return change as LuaResult;
  const properties = (change as { properties: Record<string, LuaResult> }).properties;
  const asTables = pairs.map(({ key, val }) => new Map([[key, val]]));
  return { ...(change as object), properties: { ...properties, p_user_property: asTables } };
}
