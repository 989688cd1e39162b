import { createHash, createHmac, getHashes, randomBytes, timingSafeEqual } from "node:crypto";
import { forClone } from "../clone.ts";
import {
  isTable,
  type LibraryFactory,
  type LuaCall,
  LuaError,
  LuaFloat,
  type LuaResult,
  type LuaTable,
  type LuaValue,
  tableOf,
  textOf,
  typeNameOf,
} from "../worker/library.ts";
import { obfuscate, reveal } from "./obf.ts";

function bytesOf(value: LuaValue, name: string): Buffer {
  return Buffer.isBuffer(value) ? value : Buffer.from(textOf(value, name), "utf8");
}

function intOf(value: LuaValue, name: string, fallback?: number): number {
  if (value === undefined && fallback !== undefined) return fallback;
  const number = value instanceof LuaFloat ? value.value : value;
  if (typeof number === "number") return number;
  throw new LuaError(`${name} must be a number, not ${typeNameOf(value)}`);
}

/** Lines to the broker's log with the script's name. */
export const log: LibraryFactory = (host) => {
  const at =
    (level: "debug" | "info" | "warn" | "error", name: string) =>
    (call: LuaCall, text: LuaValue): undefined => {
      if (!Buffer.isBuffer(text)) {
        throw new LuaError(`log.${name} takes one string, not ${typeNameOf(text)}`);
      }
      host.log(level, text.toString("utf8"), {}, call);
    };
  return {
    info: at("info", "info"),
    warning: at("warn", "warning"),
    error: at("error", "error"),
    debug: at("debug", "debug"),
  };
};

/** Passwords of clients arrive encrypted, so that no script writes them somewhere by accident. */
export const obf: LibraryFactory = (host) => ({
  encrypt: (_, text) => obfuscate(stringOf(text, "obf.encrypt"), host.secret),
  decrypt: (_, text) => {
    const clear = reveal(stringOf(text, "obf.decrypt"), host.secret);
    if (clear === undefined)
      throw new LuaError("obf.decrypt: this was not encrypted by this broker");
    return clear;
  },
});

function stringOf(value: LuaValue, name: string): Buffer {
  if (Buffer.isBuffer(value)) return value;
  throw new LuaError(`${name} takes a string, not ${typeNameOf(value)}`);
}

/** VerneMQ's names (Erlang's) where they are not OpenSSL's. */
function algorithmOf(value: LuaValue, name: string): string {
  const given = textOf(value, `${name}: algorithm`);
  const algorithm = given === "sha" ? "sha1" : given.replace(/^sha3_/, "sha3-");
  if (!HASHES.has(algorithm)) {
    throw new LuaError(`${name}: unknown algorithm "${given}"; such as md5, sha256, sha3_256`);
  }
  return algorithm;
}

const HASHES = new Set(getHashes());

export const crypto: LibraryFactory = () => ({
  hash: (_, algorithm, data) =>
    createHash(algorithmOf(algorithm, "crypto.hash")).update(bytesOf(data, "data")).digest(),
  hmac: (_, algorithm, key, data) =>
    createHmac(algorithmOf(algorithm, "crypto.hmac"), bytesOf(key, "key"))
      .update(bytesOf(data, "data"))
      .digest(),
  /** Takes the same time wherever two strings of one length differ. */
  equal: (_, left, right) => {
    if (left === undefined || right === undefined) return false;
    const [a, b] = [bytesOf(left, "left"), bytesOf(right, "right")];
    return a.length === b.length && timingSafeEqual(a, b);
  },
  random_bytes: (_, count) => {
    const size = intOf(count, "crypto.random_bytes: count");
    if (!(size >= 0 && size <= 65_536)) throw new LuaError("crypto.random_bytes: 0 to 65536 bytes");
    return randomBytes(size);
  },
  hex: (_, data) => bytesOf(data, "data").toString("hex"),
  base64: (_, data) => bytesOf(data, "data").toString("base64"),
});

/** Tables in the memory of the broker, shared by all scripts and states. */
export const kv: LibraryFactory = (host) => {
  const entriesOf = (value: LuaValue, name: string): [string, unknown][] => {
    const { array, hash } = tableOf(value, `${name}: entries`);
    if (array.length > 0) throw new LuaError(`${name}: keys must be strings`);
    return [...hash].map(([key, item]) => {
      if (typeof key !== "string") throw new LuaError(`${name}: keys must be strings`);
      return [key, forClone(item)];
    });
  };
  const insert =
    (service: string) =>
    async (call: LuaCall, table: LuaValue, entries: LuaValue, ttl: LuaValue): Promise<LuaResult> =>
      (await host.ask(
        service,
        {
          table: textOf(table, `${service}: table`),
          entries: entriesOf(entries, service),
          ...(ttl === undefined ? {} : { ttlS: intOf(ttl, `${service}: ttl`) }),
        },
        call,
      )) as boolean;
  const keyed =
    (service: string) =>
    async (call: LuaCall, table: LuaValue, key: LuaValue): Promise<LuaResult> => {
      const name = textOf(table, `${service}: table`);
      const answer = await host.ask(service, { table: name, key: textOf(key, "key") }, call);
      return Array.isArray(answer) ? answer.map((value) => fromClone(value)) : (answer as boolean);
    };
  return {
    ensure_table: async (call, config) => {
      const { hash } = tableOf(config, "kv.ensure_table: config");
      const name = textOf(hash.get("name") ?? Buffer.from("simple_kv"), "name");
      const type = textOf(hash.get("type") ?? Buffer.from("set"), "type");
      return (await host.ask("kv.ensure_table", { name, type }, call)) as boolean;
    },
    insert: insert("kv.insert"),
    insert_new: insert("kv.insert_new"),
    lookup: keyed("kv.lookup"),
    delete: keyed("kv.delete"),
    delete_all: async (call, table) =>
      (await host.ask("kv.delete_all", { table: textOf(table, "table") }, call)) as boolean,
    incr: async (call, table, key, by, ttl) =>
      (await host.ask(
        "kv.incr",
        {
          table: textOf(table, "kv.incr: table"),
          key: textOf(key, "kv.incr: key"),
          by: intOf(by, "kv.incr: by", 1),
          ttlS: intOf(ttl, "kv.incr: ttl", 0),
        },
        call,
      )) as number,
  };
};

/** A LuaValue that went through a structured clone, as a result. */
export function fromClone(value: unknown): LuaResult {
  if (typeof value !== "object" || value === null || value instanceof Uint8Array) {
    return value as LuaResult;
  }
  if ("array" in value && "hash" in value) {
    const { array, hash } = value as LuaTable;
    if (hash.size === 0) return array.map((item) => fromClone(item));
    const table = new Map<string | number | boolean, LuaResult>();
    for (const [key, item] of hash) table.set(key, fromClone(item));
    array.forEach((item, index) => void table.set(index + 1, fromClone(item)));
    return table;
  }
  return "value" in value ? new LuaFloat((value as LuaFloat).value) : undefined;
}

export const authCache: LibraryFactory = (host) => {
  const who = (mountpoint: LuaValue, client: LuaValue, name: string) => ({
    mountpoint: stringOf(mountpoint, `${name}: mountpoint`).toString("utf8"),
    clientId: stringOf(client, `${name}: client id`).toString("utf8"),
  });
  const checked = (acl: LuaValue, name: string): LuaValue => {
    if (acl === undefined) return undefined;
    const { array } = tableOf(acl, name);
    array.forEach((element, index) => {
      if (!isTable(element)) throw new LuaError(`${name}[${index + 1}] must be a table`);
    });
    return acl;
  };
  return {
    insert: (call, mountpoint, client, username, publish, subscribe) => {
      host.tell(
        "auth_cache.insert",
        {
          ...who(mountpoint, client, "auth_cache.insert"),
          username: stringOf(username, "auth_cache.insert: username").toString("utf8"),
          publish: forClone(checked(publish, "publish_acl")),
          subscribe: forClone(checked(subscribe, "subscribe_acl")),
        },
        call,
      );
      return true;
    },
    match_subscribe: async (call, mountpoint, client, topic, qos) =>
      fromClone(
        await host.ask(
          "auth_cache.match_subscribe",
          {
            ...who(mountpoint, client, "auth_cache.match_subscribe"),
            topic: textOf(topic, "topic"),
            qos: intOf(qos, "qos", 0),
          },
          call,
        ),
      ),
    match_publish: async (call, mountpoint, client, topic, qos, payload, retain) =>
      fromClone(
        await host.ask(
          "auth_cache.match_publish",
          {
            ...who(mountpoint, client, "auth_cache.match_publish"),
            topic: textOf(topic, "topic"),
            qos: intOf(qos, "qos", 0),
            payload: new Uint8Array(bytesOf(payload ?? Buffer.alloc(0), "payload")),
            retain: retain === true,
          },
          call,
        ),
      ),
  };
};

export const vmqApi: LibraryFactory = (host) => {
  const idOf = (value: LuaValue, name: string): { mountpoint: string; clientId: string } => {
    const { hash } = tableOf(value, `${name}: subscriber id`);
    const field = (key: string): string => {
      const given = hash.get(key);
      if (given === undefined) throw new LuaError(`${name}: ${key} is missing`);
      return textOf(given, `${name}: ${key}`);
    };
    return { mountpoint: field("mountpoint"), clientId: field("client_id") };
  };
  return {
    disconnect_by_subscriber_id: async (call, id, options) => {
      const name = "vmq_api.disconnect_by_subscriber_id";
      const cleanup =
        options === undefined ? false : tableOf(options, `${name}: options`).hash.get("do_cleanup");
      const args = { ...idOf(id, name), cleanup: cleanup === true };
      return (await host.ask("vmq_api.disconnect", args, call)) as string;
    },
    reauthorize_subscriptions: async (call, username, id) => {
      const name = "vmq_api.reauthorize_subscriptions";
      const user =
        username === undefined ? {} : { username: textOf(username, `${name}: username`) };
      return (await host.ask(
        "vmq_api.reauthorize",
        { ...idOf(id, name), ...user },
        call,
      )) as string;
    },
  };
};
