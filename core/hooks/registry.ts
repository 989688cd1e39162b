import { NautilusError } from "../errors.ts";
import { Breaker } from "./breaker.ts";
import {
  type ChainVerdict,
  type FailureReport,
  HOOK_TIMEOUT_MS,
  isPromise,
  type Link,
  runAll,
  runTillOk,
} from "./chain.ts";
import { checkCompat, compatOf } from "./compat.ts";
import { canRefuse, checkVerdict } from "./modifiers.ts";
import { type ChainObserver, observedLinks } from "./observer.ts";
import { HookStats } from "./stats.ts";
import type { ConditionalHook, EventHook, HookArgs, HookName, Plugin } from "./types.ts";

/** Every hook of the catalogue. */
export const HOOK_NAMES: readonly HookName[] = [
  "auth_on_register",
  "auth_on_register_m5",
  "on_auth_m5",
  "on_register",
  "on_register_m5",
  "auth_on_publish",
  "auth_on_publish_m5",
  "on_publish",
  "on_publish_m5",
  "auth_on_subscribe",
  "auth_on_subscribe_m5",
  "on_subscribe",
  "on_subscribe_m5",
  "on_unsubscribe",
  "on_unsubscribe_m5",
  "on_topic_unsubscribed",
  "on_deliver",
  "on_deliver_m5",
  "on_offline_message",
  "on_message_drop",
  "on_client_wakeup",
  "on_client_offline",
  "on_client_gone",
  "on_session_expired",
  "change_config",
];

/** Chains of a listener's `auth_plugins`. */
const AUTHENTICATION: ReadonlySet<HookName> = new Set<HookName>([
  "auth_on_register",
  "auth_on_register_m5",
  "on_auth_m5",
]);

/** Chains of a listener's `authz_plugins`: PUBLISH, wills and SUBSCRIBE of every version. */
const AUTHORIZATION: ReadonlySet<HookName> = new Set<HookName>([
  "auth_on_publish",
  "auth_on_publish_m5",
  "auth_on_subscribe",
  "auth_on_subscribe_m5",
]);

export type { AnsweringLink, ChainObserver } from "./observer.ts";

export type Chains = { [H in HookName]: readonly Link<H>[] };

export interface RegistryOptions {
  /**
   * VerneMQ's rule: a publish or subscribe that no plugin has a hook for is refused. Without it (for
   * embedded brokers) it is allowed.
   */
  readonly denyWithoutAuthorizer?: boolean;
  /** Monotonic clock of the circuit breakers. */
  readonly nowMs?: () => number;
}

/** The chains that clients of a listener are asked through, ready to run. Follows the plugins. */
export class ChainSet {
  /** Replaced as a whole, never changed in place. */
  chains: Chains;
  readonly authPlugins: readonly string[] | undefined;
  readonly authzPlugins: readonly string[] | undefined;
  /** False when nobody needs to be asked who may publish and subscribe: no plugin, no rule. */
  private readonly mayBeOpen: boolean;

  constructor(
    authPlugins: readonly string[] | undefined,
    authzPlugins: readonly string[] | undefined,
    denyWithoutAuthorizer: boolean,
  ) {
    this.authPlugins = authPlugins;
    this.authzPlugins = authzPlugins;
    this.mayBeOpen = authzPlugins === undefined && !denyWithoutAuthorizer;
    this.chains = emptyChains();
  }

  /** True when a publish or subscribe must be asked for; else it is allowed. */
  isAsked(hook: ConditionalHook): boolean {
    return this.chains[hook].length > 0 || !this.mayBeOpen;
  }

  /** May plugins be asked about a client's next message before they have answered for the last? */
  isPipelined(hook: ConditionalHook): boolean {
    return this.pipelined.has(hook);
  }

  private readonly pipelined = new Set<HookName>();

  rebuild(global: Chains): void {
    const chains: Record<string, readonly Link[]> = { ...global } as never;
    const replace = (hooks: ReadonlySet<HookName>, names: readonly string[] | undefined): void => {
      if (names === undefined) return;
      for (const hook of hooks) chains[hook] = only(global[hook] as readonly Link[], names);
    };
    replace(AUTHENTICATION, this.authPlugins);
    replace(AUTHORIZATION, this.authzPlugins);
    this.chains = chains as unknown as Chains;
    this.pipelined.clear();
    for (const hook of ["auth_on_publish", "auth_on_publish_m5"] as const) {
      if (this.chains[hook].every((link) => link.isPipelined)) this.pipelined.add(hook);
    }
  }
}

/** Exactly the named plugins, in that order. */
function only(links: readonly Link[], names: readonly string[]): readonly Link[] {
  return names.flatMap((name) => links.filter((link) => link.plugin === name));
}

/** What outlives a reload of a plugin. */
interface HookRecord {
  readonly plugin: string;
  readonly hook: HookName;
  readonly stats: HookStats;
  readonly breaker: Breaker;
}

/**
 * Who registered what, in which order. Chains are plain arrays, rebuilt when a plugin comes or goes, so
 * that the publish path only looks at a length.
 */
export class HookRegistry {
  /** Global chains, for every hook that a listener has no chain of its own for. */
  readonly global: ChainSet;
  /** Set while somebody looks on. */
  observer: ChainObserver | undefined;
  private plugins: readonly Plugin[] = [];
  private readonly sets = new Map<string, ChainSet>();
  private readonly records = new Map<string, HookRecord>();
  private readonly report: FailureReport;
  private readonly isDenying: boolean;
  private readonly nowMs: () => number;

  constructor(report: FailureReport, options: RegistryOptions = {}) {
    this.report = report;
    this.isDenying = options.denyWithoutAuthorizer ?? false;
    this.nowMs = options.nowMs ?? (() => performance.now());
    this.global = this.chainsOf({});
  }

  /** Global chain of every hook, in call order. */
  get chains(): Chains {
    return this.global.chains;
  }

  /** The chains of a listener with these plugins; the same object for the same plugins. */
  chainsOf(listener: {
    readonly authPlugins?: readonly string[] | undefined;
    readonly authzPlugins?: readonly string[] | undefined;
  }): ChainSet {
    const { authPlugins, authzPlugins } = listener;
    const key = JSON.stringify([authPlugins ?? null, authzPlugins ?? null]);
    let set = this.sets.get(key);
    if (set === undefined) {
      set = new ChainSet(authPlugins, authzPlugins, this.isDenying);
      set.rebuild(this.global?.chains ?? emptyChains());
      this.sets.set(key, set);
    }
    return set;
  }

  /** Plugins enabled at start are ordered by priority, then name; later ones go to the end. */
  enableAll(plugins: readonly Plugin[]): void {
    for (const plugin of [...plugins].sort(byPriorityThenName)) this.enable(plugin);
  }

  enable(plugin: Plugin): void {
    if (this.has(plugin.name)) {
      throw new NautilusError("PLUGIN_ALREADY_ENABLED", { plugin: plugin.name });
    }
    checkHookNames(plugin);
    this.setPlugins([...this.plugins, plugin]);
  }

  /** Puts a new version of a plugin in the place of the old one, between two calls; false without one. */
  replace(plugin: Plugin): boolean {
    if (!this.has(plugin.name)) return false;
    checkHookNames(plugin);
    this.setPlugins(this.plugins.map((old) => (old.name === plugin.name ? plugin : old)));
    return true;
  }

  disable(name: string): boolean {
    if (!this.has(name)) return false;
    this.setPlugins(this.plugins.filter((plugin) => plugin.name !== name));
    return true;
  }

  has(name: string): boolean {
    return this.plugins.some((plugin) => plugin.name === name);
  }

  names(): string[] {
    return this.plugins.map((plugin) => plugin.name);
  }

  /** Calls, verdicts, failures and latencies by plugin and hook, of disabled plugins too. */
  stats(): readonly Readonly<HookRecord>[] {
    return [...this.records.values()];
  }

  /** Conditional hook over the global chain or a listener's. Synchronous while the plugins are. */
  ask<H extends ConditionalHook>(
    hook: H,
    args: HookArgs[H],
    set: ChainSet = this.global,
  ): ChainVerdict<H> | Promise<ChainVerdict<H>> {
    const links = set.chains[hook] as readonly Link<H>[];
    if (this.observer === undefined) return runTillOk(links, args, this.report);
    return this.askObserved(this.observer, hook, links, args);
  }

  private askObserved<H extends ConditionalHook>(
    observer: ChainObserver,
    hook: H,
    links: readonly Link<H>[],
    args: HookArgs[H],
  ): ChainVerdict<H> | Promise<ChainVerdict<H>> {
    if (!observer.asks(hook, args)) return runTillOk(links, args, this.report);
    const verdict = runTillOk(observedLinks(links, observer), args, this.report);
    if (!isPromise(verdict)) observer.decided(hook, verdict);
    else void verdict.then((late) => observer.decided(hook, late));
    return verdict;
  }

  /** Event hook: everyone is told, nobody waited for. */
  tell<H extends EventHook>(hook: H, args: HookArgs[H]): void {
    const links = this.global.chains[hook] as readonly Link<H>[];
    if (links.length > 0) runAll(links, args, this.report);
  }

  /** True when at least one plugin listens to a hook: callers then build its arguments. */
  wants(hook: HookName): boolean {
    return this.global.chains[hook].length > 0;
  }

  private setPlugins(plugins: readonly Plugin[]): void {
    const old = this.plugins;
    this.plugins = plugins;
    const chains = emptyChains();
    for (const plugin of plugins) {
      for (const hook of HOOK_NAMES) {
        const link = this.link(plugin, hook, !old.includes(plugin));
        if (link !== undefined) (chains[hook] as Link[]).push(link);
      }
    }
    for (const set of this.sets.values()) set.rebuild(chains);
  }

  private link(plugin: Plugin, hook: HookName, isNew: boolean): Link | undefined {
    const own = plugin.hooks[hook];
    const compat = own === undefined && plugin.v5Compat !== false ? compatOf(hook) : undefined;
    const answeredBy = compat?.hook ?? hook;
    const answer = plugin.hooks[answeredBy] as ((args: unknown) => unknown) | undefined;
    if (answer === undefined) return undefined;
    const args = compat?.args as ((args: unknown) => unknown) | undefined;
    const { stats, breaker } = this.recordOf(plugin.name, hook, isNew);
    const isFatal = plugin.onError !== "next" && canRefuse(hook as ConditionalHook);
    return {
      plugin: plugin.name,
      hook,
      answeredBy,
      priority: plugin.priority,
      call: args === undefined ? answer : (given) => answer(args(given)),
      check:
        compat === undefined
          ? (given) => checkVerdict(hook as ConditionalHook, given)
          : (given) => checkCompat(answeredBy, given),
      timeoutMs: plugin.hookTimeoutMs ?? HOOK_TIMEOUT_MS,
      isPipelined: plugin.isPipelined === true,
      onError: isFatal ? "deny" : "next",
      stats,
      breaker,
    };
  }

  /** Counters go on over a reload; a new version starts with a closed breaker. */
  private recordOf(plugin: string, hook: HookName, isNew: boolean): HookRecord {
    const key = `${plugin} ${hook}`;
    const known = this.records.get(key);
    if (known !== undefined && !isNew) return known;
    const stats = known?.stats ?? new HookStats();
    const record = { plugin, hook, stats, breaker: new Breaker(this.nowMs) };
    this.records.set(key, record);
    return record;
  }
}

function checkHookNames(plugin: Plugin): void {
  for (const hook of Object.keys(plugin.hooks)) {
    if (!HOOK_NAMES.includes(hook as HookName)) {
      throw new NautilusError("PLUGIN_UNKNOWN_HOOK", { plugin: plugin.name, hook });
    }
  }
}

function emptyChains(): Chains {
  return Object.fromEntries(HOOK_NAMES.map((hook) => [hook, []])) as unknown as Chains;
}

function byPriorityThenName(a: Plugin, b: Plugin): number {
  const left = a.priority ?? Number.POSITIVE_INFINITY;
  const right = b.priority ?? Number.POSITIVE_INFINITY;
  if (left !== right) return left - right;
  return a.name < b.name ? -1 : a.name > b.name ? 1 : 0;
}
