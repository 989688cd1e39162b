/** vmq_diversity: Lua scripts that decide, with database pools. */
import { randomBytes } from "node:crypto";
import { definePlugin, type PluginContext } from "../../core/plugin-api.ts";
import { AuthCache } from "./auth-cache.ts";
import { brokerServices, trialServices } from "./broker-services.ts";
import { scriptCommands } from "./commands.ts";
import { type HookParts, hookTable } from "./hooks.ts";
import { LuaHost } from "./host.ts";
import { KV_LIMITS, KvStore } from "./kv.ts";
import { Obfuscator } from "./libs/obf.ts";
import { PROVIDER_KEYS } from "./libs/provider-keys.ts";
import { registerMetrics } from "./metrics.ts";
import { bundledFolder, checkScripts, namedScripts, scriptFolder } from "./script-files.ts";
import { Scripts } from "./scripts.ts";
import { SETTINGS } from "./settings.ts";

type Context = PluginContext<typeof SETTINGS>;

interface Running extends HookParts {
  readonly host: LuaHost;
  readonly scripts: Scripts;
}

/** By the broker they are for. */
const running = new WeakMap<Context, Running>();

/** How often `kv` looks for entries whose time is over. */
const KV_SWEEP_MS = 1000;

/** What the libraries read: everything about the providers, and whatever was written of bcrypt. */
function librarySettings(context: Context): Map<string, string | number | boolean> {
  const settings = new Map<string, string | number | boolean>();
  const add = (key: string, isFile = false): void => {
    const value = context.config(key);
    if (typeof value === "string" && value !== "" && isFile) {
      settings.set(key, context.resolvePath(value));
    } else if (
      typeof value === "string" ||
      typeof value === "number" ||
      typeof value === "boolean"
    ) {
      settings.set(key, value);
    }
  };
  for (const [provider, keys] of Object.entries(PROVIDER_KEYS)) {
    for (const key of keys) add(`vmq_diversity.${provider}.${key}`, key.endsWith("file"));
  }
  settings.set("vmq_diversity.environment", context.settings.environment?.join(",") ?? "");
  add("vmq_bcrypt.default_log_rounds");
  for (const key of context.keysBelow("vmq_bcrypt.")) add(key);
  return settings;
}

async function start(context: Context): Promise<void> {
  const { settings, log } = context;
  const bundledDir = bundledFolder();
  const secret = randomBytes(32);
  const obfuscator = new Obfuscator(secret);
  const kv = new KvStore({
    ...KV_LIMITS,
    entriesMax: settings.kv_entries,
    bytesMax: settings.kv_memory,
  });
  context.setInterval(() => kv.sweep(), KV_SWEEP_MS);
  const topicMaxDepth = Number(context.config("topic_max_depth") ?? 10);
  const cache = new AuthCache({
    log,
    topicMaxDepth,
    limits: { entriesMax: settings.auth_cache_size, bytesMax: settings.auth_cache_memory },
  });
  const scriptDir = scriptFolder(context);
  const options = {
    log,
    services: brokerServices({ context, kv, cache }),
    obfuscate: (bytes: Uint8Array) => obfuscator.hide(bytes),
    queuedMax: settings.max_queued_calls,
    scriptDir,
    bundledDir,
    worker: {
      threads: settings.worker_threads,
      secret,
      settings: librarySettings(context),
      instructionLimit: settings.instruction_limit,
      memoryLimit: settings.memory_limit,
      callTimeoutMs: settings.call_timeout,
    },
  };
  const host: LuaHost = new LuaHost({
    ...options,
    ended: (version, hook, end) => scripts.ended(version, hook, end),
  });
  const written = context.keysBelow("vmq_diversity.");
  const states = context.config("vmq_diversity.nr_lua_states");
  const hasStates = written.includes("vmq_diversity.nr_lua_states");
  const onError = context.config("plugins.vmq_diversity.on_error") === "next" ? "next" : "deny";
  const scripts: Scripts = new Scripts({
    host,
    log,
    scriptDir,
    keepState: () => context.config("vmq_diversity.keep_state") === true,
    defaultStates: hasStates && typeof states === "number" ? states : undefined,
    changed: () => context.setHooks(hookTable(parts)),
  });
  const parts: Running = { host, scripts, cache, onError };
  running.set(context, parts);
  await host.start();
  try {
    await loadAll(context, scripts);
    if (settings.watch) await scripts.watch();
    registerMetrics(context, { host, scripts, cache, kv });
    const resolve = (path: string): string => context.resolvePath(path);
    const offline = { ...options, services: () => trialServices(log, topicMaxDepth) };
    const commands = scriptCommands({ scripts, cache, resolve, offline });
    for (const command of commands) context.command(command);
  } catch (error) {
    scripts.stop();
    await host.stop();
    throw error;
  }
}

/** The script folder, then the scripts that are named. */
async function loadAll(context: Context, scripts: Scripts): Promise<void> {
  await scripts.loadFolder();
  for (const { path, origin, key } of namedScripts(context)) {
    await scripts.tryLoad(path, origin, key);
  }
}

export default definePlugin({
  name: "vmq_diversity",
  settings: SETTINGS,
  // Every call has a deadline of the plugin's own, as exact and without a timer for each.
  hookTimeoutMs: 0,
  v5Compat: false,
  isPipelined: true,
  check: checkScripts,
  start,
  hooks: (context) => hookTable(partsOf(context)),
  stop: async (context) => {
    const { host, scripts } = partsOf(context);
    scripts.stop();
    await host.stop();
  },
});

function partsOf(context: Context): Running {
  const parts = running.get(context);
  if (parts === undefined) throw new Error("vmq_diversity does not run");
  return parts;
}
