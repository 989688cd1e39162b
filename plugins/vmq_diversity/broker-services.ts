/** Services of the main thread that need the broker or its memory: `kv`, `vmq_api`, `auth_cache`. */
import type { Logger, PluginContext } from "../../core/plugin-api.ts";
import type { CacheInsert, CacheMatch } from "./acl-rule.ts";
import { AuthCache } from "./auth-cache.ts";
import { type KvEntries, KvStore } from "./kv.ts";
import type { ServiceParts, Services } from "./services.ts";

/** Everything that libraries ask of the main thread. */
export function brokerServices(parts: {
  readonly context: PluginContext;
  readonly kv: KvStore;
  readonly cache: AuthCache;
}): Services {
  const { context, kv, cache } = parts;
  return { ...kvServices(kv, context.log), ...apiServices(parts), ...cacheServices(cache) };
}

/** For a script that is only tried: tables and a cache of its own, and no client is touched. */
export function trialServices(log: Logger, topicMaxDepth: number): Services {
  return {
    ...kvServices(new KvStore(), log),
    ...cacheServices(new AuthCache({ log, topicMaxDepth })),
    "vmq_api.disconnect": () => "not_found",
    "vmq_api.reauthorize": () => "ok",
  };
}

interface KvArgs {
  readonly table: string;
  readonly type: string;
  readonly key: string;
  readonly entries: KvEntries;
  readonly delta: number;
  readonly ttlS: number | undefined;
}

/** What `libs/kv.ts` asks. */
export function kvServices(store: KvStore, log: Pick<Logger, "warn">): Services {
  const of =
    <T>(name: string, answer: (args: KvArgs) => T) =>
    (args: unknown): T => {
      try {
        return answer(args as KvArgs);
      } catch (error) {
        const why = error instanceof Error ? error.message : String(error);
        throw new Error(`kv.${name}: ${why}`, { cause: error });
      }
    };
  return {
    "kv.ensure_table": (args, { script }) => {
      const { table, type } = args as KvArgs;
      const has = of("ensure_table", () => store.ensure(table, type))(args);
      // As in VerneMQ the first one decides; scripts that disagree about it should know.
      if (has !== type) log.warn("kv table has another type", { script, table, type, has });
      return true;
    },
    "kv.insert": of("insert", ({ table, entries, ttlS }) => {
      store.insert(table, entries, ttlS);
      return true;
    }),
    "kv.insert_new": of("insert_new", ({ table, entries, ttlS }) =>
      store.insertNew(table, entries, ttlS),
    ),
    "kv.lookup": of("lookup", ({ table, key }) => store.lookup(table, key)),
    "kv.delete": of("delete", ({ table, key }) => {
      store.delete(table, key);
      return true;
    }),
    "kv.delete_all": of("delete_all", ({ table }) => {
      store.deleteAll(table);
      return true;
    }),
    "kv.incr": of("incr", ({ table, key, delta, ttlS }) =>
      store.increment(table, key, delta, ttlS),
    ),
  };
}

interface ApiArgs {
  readonly mountpoint: string;
  readonly clientId: string;
  readonly cleanup: boolean;
  readonly username: string | undefined;
}

/** What `libs/vmq-api.ts` asks. */
export function apiServices({ context }: ServiceParts): Services {
  return {
    "vmq_api.disconnect": (args) => {
      const { mountpoint, clientId, cleanup } = args as ApiArgs;
      return context.broker.disconnect(clientId, { mountpoint, cleanup }) ? "ok" : "not_found";
    },
    // Not awaited: it asks the scripts in turn, perhaps the state that waits for this answer.
    "vmq_api.reauthorize": (args, { script }) => {
      const { mountpoint, clientId, username } = args as ApiArgs;
      const who = username === undefined ? { mountpoint } : { mountpoint, username };
      context.broker.reauthorise(clientId, who).catch((error: unknown) => {
        const cause = error instanceof Error ? error.message : String(error);
        context.log
          .limited("vmq_api reauthorize", 1)
          .error("reauthorize_subscriptions failed", { script, client_id: clientId, cause });
      });
      return "ok";
    },
  };
}

/** What `libs/auth-cache.ts` asks. */
export function cacheServices(cache: AuthCache): Services {
  return {
    "auth_cache.insert": (args, from) => cache.insert(args as CacheInsert, from),
    "auth_cache.match_publish": (args, from) => cache.matchPublish(args as CacheMatch, from),
    "auth_cache.match_subscribe": (args, from) => cache.matchSubscribe(args as CacheMatch, from),
  };
}
