import {
  CONDITIONAL_HOOKS,
  type HookArgs,
  type HookProperties,
  Later,
  type PluginHookArgs,
  type PluginHookTable,
  type SubscriberId,
  type Verdict,
} from "../../core/plugin-api.ts";
import type { AuthCache } from "./auth-cache.ts";
import type { Answer, LuaHost } from "./host.ts";
import type { Script, Scripts } from "./scripts.ts";
import { refusal, verdictOfTable } from "./verdicts.ts";
import { LUA_HOOKS, type LuaHook } from "./wire.ts";

export interface HookParts {
  readonly host: LuaHost;
  readonly scripts: Scripts;
  readonly cache: AuthCache;
  /** `plugins.vmq_diversity.on_error`: what a call means that could not be answered. */
  readonly onError: "deny" | "next";
}

type AnyVerdict = Verdict<never>;

const CONDITIONAL: ReadonlySet<string> = new Set(CONDITIONAL_HOOKS);

/** Hooks that the cache answers, so that they are there with a register hook alone. */
const CACHED = [
  "auth_on_publish",
  "auth_on_publish_m5",
  "auth_on_subscribe",
  "auth_on_subscribe_m5",
  "on_unsubscribe",
  "on_unsubscribe_m5",
] as const;
/** Events with which entries of the cache go. */
const LEAVING = ["on_client_offline", "on_client_gone", "on_session_expired"] as const;

/** The hooks of the plugin for the scripts that are loaded now. */
export function hookTable(parts: HookParts): PluginHookTable {
  const { scripts } = parts;
  const wanted = scripts.hooks();
  const hasRegister = wanted.has("auth_on_register") || wanted.has("auth_on_register_m5");
  if (hasRegister) for (const hook of CACHED) wanted.add(hook);
  if (wanted.size > 0) for (const hook of LEAVING) wanted.add(hook);
  const table: Record<string, (args: never) => unknown> = {};
  for (const hook of LUA_HOOKS) {
    if (wanted.has(hook)) table[hook] = hookFunction(parts, hook) as (args: never) => unknown;
  }
  return table as PluginHookTable;
}

function hookFunction(parts: HookParts, hook: LuaHook): (args: HookArgs[LuaHook]) => unknown {
  const { cache, scripts, host } = parts;
  const ask = (args: HookArgs[LuaHook]) => askScripts(parts, hook, args);
  switch (hook) {
    case "auth_on_publish":
    case "auth_on_publish_m5": {
      const isV5 = hook === "auth_on_publish_m5";
      return (args) => cache.publish(args as PluginHookArgs<"auth_on_publish">, isV5) ?? ask(args);
    }
    case "auth_on_subscribe":
    case "auth_on_subscribe_m5": {
      const isV5 = hook === "auth_on_subscribe_m5";
      return (args) =>
        cache.subscribe(args as PluginHookArgs<"auth_on_subscribe">, isV5) ?? ask(args);
    }
    case "on_unsubscribe":
    case "on_unsubscribe_m5":
      return (args) => cache.unsubscribe(args as PluginHookArgs<"on_unsubscribe">) ?? ask(args);
  }
  if (CONDITIONAL.has(hook)) return ask;
  const isLeaving = LEAVING.some((name) => name === hook);
  return (args) => {
    for (const { version } of scripts.of(hook)) host.tell(version, hook, args);
    if (isLeaving) cache.forget(args as HookArgs["on_client_gone"]);
  };
}

/** Asks script after script until one answers. No promise when no script has the hook. */
function askScripts(
  parts: HookParts,
  hook: LuaHook,
  args: HookArgs[LuaHook],
): AnyVerdict | Promise<AnyVerdict> | Later<AnyVerdict> {
  const all = parts.scripts.of(hook);
  if (all.length === 0) return "next";
  if (hook === "auth_on_publish" || hook === "auth_on_publish_m5") {
    const later = new Later<AnyVerdict>();
    askOne(parts, { hook, args, all, later, isUnavailable: false }, 0);
    return later;
  }
  return new Promise((resolve) => {
    const later = new Later<AnyVerdict>();
    later.then(resolve);
    askOne(parts, { hook, args, all, later, isUnavailable: false }, 0);
  });
}

interface Asking {
  readonly hook: LuaHook;
  readonly args: HookArgs[LuaHook];
  readonly all: readonly Script[];
  readonly later: Later<AnyVerdict>;
  /** A script before could not decide. */
  isUnavailable: boolean;
}

function askOne(parts: HookParts, asking: Asking, at: number): void {
  const { hook, args, all, later } = asking;
  const { version } = all[at] as Script;
  parts.host.ask(version, hook, args, (answer, call) => {
    const verdict = verdictOf(parts, hook, args, answer);
    if (hook === "auth_on_register" || hook === "auth_on_register_m5") {
      parts.cache.settle(call, finalIdOf(args as HookArgs["auth_on_register"], verdict));
    }
    if (verdict !== "next" && verdict !== "unavailable") {
      later.settle(verdict);
      return;
    }
    if (verdict === "unavailable") asking.isUnavailable = true;
    if (at + 1 < all.length) askOne(parts, asking, at + 1);
    else later.settle(asking.isUnavailable ? "unavailable" : "next");
  });
}

function verdictOf(
  parts: HookParts,
  hook: LuaHook,
  args: HookArgs[LuaHook],
  answer: Answer,
): AnyVerdict {
  if (answer === true) return "ok";
  if (answer === false) return refusal(hook);
  // Nothing, or what a script returns that means next.
  if (answer === undefined) return "next";
  // As in VerneMQ the next one is asked: an error is nobody's refusal, and nobody's wrong password.
  if (answer === "script_error") return errorOf(hook);
  if (answer === "failed") return parts.onError === "next" ? "next" : { error: "plugin_error" };
  const { properties } = args as { properties?: HookProperties };
  return verdictOfTable(hook, answer, properties);
}

/** Of the conditional hooks only those that authorise go on after an error. */
function errorOf(hook: LuaHook): AnyVerdict {
  const goesOn = hook.startsWith("auth_") || hook === "on_auth_m5";
  return goesOn ? "unavailable" : { error: "script_error" };
}

/**
 * Who a client is after a register hook: undefined when it was not accepted. With `next` another plugin
 * decides; the entry is then that session's, and ends with it if it never begins.
 */
function finalIdOf(
  args: HookArgs["auth_on_register"],
  verdict: AnyVerdict,
): SubscriberId | undefined {
  if (verdict === "ok" || verdict === "next") return args.subscriber_id;
  if (typeof verdict === "string" || "error" in verdict) return undefined;
  const { subscriber_id: changed } = verdict.ok as { subscriber_id?: Partial<SubscriberId> };
  return { ...args.subscriber_id, ...changed };
}
