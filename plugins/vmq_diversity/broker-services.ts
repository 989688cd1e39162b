/** Services of the main thread that need the broker or its memory: `kv`, `vmq_api`, `auth_cache`. */
import type { PluginContext, PluginSettings } from "../../core/plugin-api.ts";
import type { CacheInsert, CacheMatch } from "./acl-rule.ts";
import { AuthCache } from "./auth-cache.ts";
import { cacheCommands } from "./cache-commands.ts";
import { CACHE_LIMITS } from "./cache-entries.ts";
import { KV_LIMITS, type KvEntries, KvStore } from "./kv.ts";
import type { ServiceParts, Services } from "./services.ts";

/** Bounds of `kv` and `auth_cache`, for the plugin's settings. */
export const MEMORY_SETTINGS = {
  kv_max_entries: {
    type: "integer",
    default: String(KV_LIMITS.entriesMax),
    min: 1,
    doc: "Values in all tables of the Lua module kv; inserts beyond raise an error.",
  },
  kv_max_memory: {
    type: "bytesize",
    default: String(KV_LIMITS.bytesMax),
    min: 1,
    doc: "Memory of all tables of the Lua module kv; inserts beyond raise an error.",
  },
  auth_cache_max_entries: {
    type: "integer",
    default: String(CACHE_LIMITS.entriesMax),
    min: 1,
    doc: "Clients in auth_cache; the checks of those beyond, the least used, go to the scripts.",
  },
  auth_cache_max_memory: {
    type: "bytesize",
    default: String(CACHE_LIMITS.bytesMax),
    min: 1,
    doc: "Memory of auth_cache; the checks of clients beyond, the least used, go to the scripts.",
  },
} as const satisfies PluginSettings;

/** `kv` entries that nobody looks at go this long after their time, at the latest. */
const SWEEP_MS = 1000;

/** What the plugin makes once, when it starts. */
export interface BrokerServices {
  readonly services: Services;
  readonly cache: AuthCache;
}

/** Makes cache and tables of a broker with their metrics and admin commands. */
export function createBrokerServices(
  context: PluginContext<typeof MEMORY_SETTINGS>,
): BrokerServices {
  const { settings, metrics } = context;
  const store = new KvStore({
    ...KV_LIMITS,
    entriesMax: settings.kv_max_entries,
    bytesMax: settings.kv_max_memory,
  });
  const cache = new AuthCache({
    topicMaxDepth: Number(context.config("topic_max_depth")),
    log: context.log,
    limits: {
      entriesMax: settings.auth_cache_max_entries,
      bytesMax: settings.auth_cache_max_memory,
    },
  });
  context.setInterval(() => store.sweep(), SWEEP_MS);
  for (const command of cacheCommands(cache)) context.command(command);
  for (const name of ["entries", "bytes", "hits", "misses", "evictions"] as const) {
    metrics.gauge(`vmq_diversity_auth_cache_${name}`, () => cache.metrics[name]);
  }
  for (const name of ["tables", "entries", "bytes"] as const) {
    metrics.gauge(`vmq_diversity_kv_${name}`, () => store.size[name]);
  }
  const parts = { context };
  return {
    cache,
    services: { ...kvServices(store, parts), ...apiServices(parts), ...cacheServices(cache) },
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
export function kvServices(store: KvStore, { context }: ServiceParts): Services {
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
      if (has !== type) context.log.warn("kv table has another type", { script, table, type, has });
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
      return true;
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
