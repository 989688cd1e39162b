import { errorMessage } from "../errors.ts";
import { HOOK_TIMEOUT_MS, isPromise, type Link } from "./chain.ts";
import type { ConditionalHook, HookArgs, HookName } from "./types.ts";

/** Hooks that give a verdict. */
export const CONDITIONAL_HOOKS: readonly ConditionalHook[] = [
  "auth_on_register",
  "auth_on_register_m5",
  "on_auth_m5",
  "auth_on_publish",
  "auth_on_publish_m5",
  "auth_on_subscribe",
  "auth_on_subscribe_m5",
  "on_unsubscribe",
  "on_unsubscribe_m5",
  "on_deliver",
  "on_deliver_m5",
];

/** One row of `plugin show`. */
export interface ShownLink {
  readonly plugin: string;
  readonly hook: HookName;
  /** The plugin's own hook that answers: a 3.x one may answer for MQTT 5. */
  readonly answeredBy: HookName;
  readonly priority: number | undefined;
  /** `bundled`, the path of the plugin's file, or `program`. */
  readonly source: string;
}

/** What one link said in a dry run. */
export interface ExplainedLink {
  readonly plugin: string;
  /** `ok`, `next`, `error`, `failed` (threw or was late; on_error decides), or `not asked`. */
  readonly verdict: "ok" | "next" | "unavailable" | "error" | "failed" | "not asked";
  /** Modifiers of an acceptance, the reason of a refusal, or what went wrong. */
  readonly detail: unknown;
  readonly ms: number;
}

export interface Explanation {
  readonly hook: ConditionalHook;
  readonly links: readonly ExplainedLink[];
  /** What the client would get: `ok`, or the error's reason. */
  readonly result: string;
}

/** A client's request in words, for a dry run. */
export interface ExplainQuery {
  readonly hook: ConditionalHook;
  readonly client_id?: string;
  readonly username?: string;
  readonly password?: string;
  readonly mountpoint?: string;
  readonly topic?: string;
  readonly payload?: string;
  readonly qos?: number;
  readonly retain?: boolean;
  readonly peer?: string;
  readonly clean?: boolean;
  /** What the session of the client keeps; plugins see a copy. */
  readonly context?: Readonly<Record<string, unknown>>;
}

/** The hook that a text names; undefined when it is none that can be asked. */
export function conditionalHook(text: string): ConditionalHook | undefined {
  return CONDITIONAL_HOOKS.find((hook) => hook === text);
}

/**
 * Asks a chain as a client would, without a client: nothing is counted, changed or delivered. The
 * plugins themselves do answer, so a database or an endpoint behind one is asked.
 */
export async function explainChain(
  links: readonly Link[],
  query: ExplainQuery,
): Promise<Explanation> {
  const args = argumentsOf(query);
  const explained: ExplainedLink[] = [];
  let result: string | undefined;
  let trouble: string | undefined;
  for (const link of links) {
    if (result !== undefined) {
      explained.push({ plugin: link.plugin, verdict: "not asked", detail: undefined, ms: 0 });
      continue;
    }
    const one = await askLink(link, args);
    explained.push(one);
    if (one.verdict === "failed") {
      trouble = "plugin_error";
      if (link.onError === "deny") result = "plugin_error";
    } else if (one.verdict === "unavailable") {
      trouble ??= "plugin_unavailable";
    } else if (one.verdict !== "next") {
      result = one.verdict === "ok" ? "ok" : reasonText(one.detail);
    }
  }
  const end = links.length === 0 ? "no_matching_hook_found" : "plugin_chain_exhausted";
  return {
    hook: query.hook,
    links: explained,
    result: result ?? trouble ?? end,
  };
}

async function askLink(link: Link, args: unknown): Promise<ExplainedLink> {
  const startMs = performance.now();
  const told = (verdict: ExplainedLink["verdict"], detail: unknown): ExplainedLink => ({
    plugin: link.plugin,
    verdict,
    detail,
    ms: performance.now() - startMs,
  });
  try {
    const given = link.call(args as HookArgs[HookName]);
    const answer = isPromise(given) ? await withDeadline(given, link.timeoutMs) : given;
    const { verdict, fault } = link.check(answer);
    if (fault !== undefined) return told("error", `${fault.field}: ${fault.message}`);
    if (typeof verdict === "string") return told(verdict, undefined);
    return "ok" in verdict ? told("ok", verdict.ok) : told("error", verdict.error);
  } catch (failure) {
    return told("failed", errorMessage(failure));
  }
}

function withDeadline(pending: Promise<unknown>, ms = HOOK_TIMEOUT_MS): Promise<unknown> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`no answer within ${ms} ms`)), ms);
  });
  return Promise.race([pending, late]).finally(() => clearTimeout(timer));
}

function reasonText(error: unknown): string {
  if (typeof error !== "object" || error === null) return String(error);
  const { reason_code } = error as { reason_code?: unknown };
  return reason_code === undefined ? JSON.stringify(error) : String(reason_code);
}

function argumentsOf(query: ExplainQuery): unknown {
  const { hook, client_id = "", username, mountpoint = "", topic = "", qos = 0 } = query;
  const who = { username, subscriber_id: { mountpoint, client_id } };
  const isV5 = hook.endsWith("_m5");
  const properties = isV5 || hook === "on_deliver" ? { properties: {} } : {};
  const peer = { address: query.peer ?? "127.0.0.1", port: 0 };
  const context = { ...query.context };
  switch (hook) {
    case "auth_on_register":
    case "auth_on_register_m5": {
      const password = query.password === undefined ? undefined : Buffer.from(query.password);
      const clean = { [isV5 ? "clean_start" : "clean_session"]: query.clean ?? true };
      const rest = { password, connection_meta: undefined, ...clean, ...properties };
      return { peer, ...who, ...rest, context };
    }
    case "auth_on_subscribe":
    case "auth_on_subscribe_m5":
      return { ...who, topics: [{ topic, qos }], ...properties, context };
    case "on_unsubscribe":
    case "on_unsubscribe_m5":
      return { ...who, topics: [topic], ...properties, context };
    case "on_auth_m5":
      return { ...who, properties: {}, context };
    case "auth_on_publish":
    case "auth_on_publish_m5":
    case "on_deliver":
    case "on_deliver_m5": {
      const payload = Buffer.from(query.payload ?? "");
      const message = { qos, topic, payload, retain: query.retain ?? false };
      return { ...who, ...message, ...properties, context };
    }
    default:
      return hook satisfies never;
  }
}

/** A plugin that is never asked, since one before it always answers. */
export interface Unreachable {
  readonly hook: HookName;
  readonly plugin: string;
  readonly behind: string;
  readonly why: string;
}

/** Finds them; `settledBy` says why a plugin's hook never answers `next`. */
export function unreachableLinks(
  chains: Readonly<Record<string, readonly Link[]>>,
  settledBy: (plugin: string, hook: HookName) => string | undefined,
): Unreachable[] {
  const found: Unreachable[] = [];
  for (const hook of CONDITIONAL_HOOKS) {
    let before: { plugin: string; why: string } | undefined;
    for (const { plugin, answeredBy } of chains[hook] ?? []) {
      if (before !== undefined) {
        found.push({ hook, plugin, behind: before.plugin, why: before.why });
        continue;
      }
      const why = settledBy(plugin, answeredBy);
      if (why !== undefined) before = { plugin, why };
    }
  }
  return found;
}
