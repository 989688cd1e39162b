/** `auth_cache`: hands ACLs of clients to the broker's thread, which then decides without any script. */
import type { CacheInsert, CacheMatch } from "../acl-rule.ts";
import {
  type LibraryHost,
  type LuaCall,
  LuaError,
  type LuaLibrary,
  type LuaResult,
  type LuaValue,
} from "../worker/library.ts";
import { aclOf } from "./acl.ts";
import { bytesOf, numberOf, stringOf } from "./arguments.ts";

/** Text of one list. Distinct texts are kept once each, however many clients have them. */
const ACL_CHARS_MAX = 1024 * 1024;

/** What the service answers about a change, see `AuthCache.matchPublish`. */
interface ChangeSeen {
  readonly properties?: { readonly p_user_property?: readonly { key: string; val: string }[] };
}

/** Makes VerneMQ's `insert`, `match_publish` and `match_subscribe`. */
export function authCacheLibrary(host: LibraryHost): LuaLibrary {
  async function match(call: LuaCall, service: string, asked: CacheMatch): Promise<LuaResult> {
    const answer = await host.ask(`auth_cache.${service}`, asked, call);
    return typeof answer === "object" ? changeToLua(answer) : (answer as boolean);
  }

  return {
    insert: (call, mountpoint, clientId, username, publish, subscribe) => {
      const where = "auth_cache.insert";
      const entry: CacheInsert = {
        mountpoint: stringOf(mountpoint, `${where}: the mountpoint`),
        clientId: stringOf(clientId, `${where}: the client id`),
        username: stringOf(username, `${where}: the user name`),
        publish: aclText(publish, "publish_acl"),
        subscribe: aclText(subscribe, "subscribe_acl"),
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

function aclText(value: LuaValue, kind: "publish_acl" | "subscribe_acl"): string {
  const text = JSON.stringify(aclOf(value, kind));
  if (text.length <= ACL_CHARS_MAX) return text;
  throw new LuaError(`auth_cache.insert: ${kind} is longer than ${ACL_CHARS_MAX} characters`);
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
