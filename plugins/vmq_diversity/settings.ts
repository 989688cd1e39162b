import type { PluginSettings } from "../../core/plugin-api.ts";
import { tlsSettings } from "./libs/tls-settings.ts";

/** Settings that VerneMQ has not; its own stand in the broker's schema. */
export const SETTINGS = {
  watch: {
    type: "flag",
    default: "on",
    doc: "Load new, changed and removed scripts by themselves.",
  },
  environment: {
    type: "list",
    doc: "Environment variables that scripts may read with os.getenv, separated by commas.",
  },
  worker_threads: {
    type: "integer",
    default: "1",
    min: 1,
    max: 64,
    doc: "Threads that run Lua; each has a share of the states of every script and of the pools.",
  },
  call_timeout: {
    type: "integer",
    default: "5000",
    unit: "ms",
    min: 50,
    max: 600_000,
    doc: "Longest time of a hook call, waiting included; then its caller is refused.",
  },
  instruction_limit: {
    type: "integer",
    default: "100000000",
    min: 100_000,
    doc: "Most Lua instructions of one hook call; about one second on a server.",
  },
  memory_limit: {
    type: "bytesize",
    default: "64MB",
    min: 1_048_576,
    doc: "Most memory of one Lua state.",
  },
  max_queued_calls: {
    type: "integer",
    default: "10000",
    min: 1,
    max: 500_000,
    doc: "Calls of one script that may wait or run; further ones are refused, events dropped.",
  },
  auth_cache_size: {
    type: "integer",
    default: "1000000",
    min: 1,
    doc: "Clients in the ACL cache; the checks of those beyond, the least used, go to the scripts.",
  },
  auth_cache_memory: {
    type: "bytesize",
    default: "512MB",
    min: 1,
    doc: "Most memory of the ACL cache; the least used clients go when it needs more.",
  },
  kv_entries: {
    type: "integer",
    default: "1000000",
    min: 1,
    doc: "Values in all tables of the module kv; inserts beyond raise an error.",
  },
  kv_memory: {
    type: "bytesize",
    default: "256MB",
    min: 1,
    doc: "Most memory of all tables of the module kv; inserts beyond raise an error.",
  },
  ...tlsSettings("mysql.", "MySQL"),
  ...tlsSettings("redis.", "Redis"),
  ...tlsSettings("memcache.", "Memcached"),
} as const satisfies PluginSettings;
