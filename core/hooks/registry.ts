import { NautilusError } from "../errors.ts";
import { type ChainVerdict, type FailureReport, type Link, runAll, runTillOk } from "./chain.ts";
import type {
  ConditionalHook,
  EventHook,
  HookArgs,
  HookFunction,
  HookName,
  Plugin,
} from "./types.ts";

/** Every hook of the catalogue (hooks.md, section 4). */
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

type Chains = { [H in HookName]: readonly Link<H>[] };

/**
 * Who registered what, in which order. Chains are plain arrays, rebuilt when a plugin comes or goes, so
 * that the publish path only looks at a length.
 */
export class HookRegistry {
  /** Global chain of every hook, in call order. Replaced as a whole, never changed in place. */
  chains: Chains = emptyChains();
  private plugins: Plugin[] = [];
  private readonly report: FailureReport;

  constructor(report: FailureReport) {
    this.report = report;
  }

  /** Plugins enabled at start are ordered by priority, then name; later ones go to the end. */
  enableAll(plugins: readonly Plugin[]): void {
    for (const plugin of [...plugins].sort(byPriorityThenName)) this.enable(plugin);
  }

  enable(plugin: Plugin): void {
    if (this.plugins.some((other) => other.name === plugin.name)) {
      throw new NautilusError("PLUGIN_ALREADY_ENABLED", { plugin: plugin.name });
    }
    checkHookNames(plugin);
    this.plugins = [...this.plugins, plugin];
    this.rebuild();
  }

  /** Puts a new version of a plugin at the place of the old one: no call is asked of neither. */
  replace(plugin: Plugin): void {
    checkHookNames(plugin);
    this.plugins = this.plugins.map((other) => (other.name === plugin.name ? plugin : other));
    this.rebuild();
  }

  disable(name: string): boolean {
    const left = this.plugins.filter((plugin) => plugin.name !== name);
    if (left.length === this.plugins.length) return false;
    this.plugins = left;
    this.rebuild();
    return true;
  }

  has(name: string): boolean {
    return this.plugins.some((plugin) => plugin.name === name);
  }

  names(): string[] {
    return this.plugins.map((plugin) => plugin.name);
  }

  /** Links of one hook for a listener's own chain: exactly the named plugins, in that order. */
  listenerChain<H extends HookName>(hook: H, names: readonly string[]): readonly Link<H>[] {
    const links = this.chains[hook] as readonly Link<H>[];
    return names.flatMap((name) => links.filter((link) => link.plugin === name));
  }

  /** Conditional hook over the global chain or a listener's. Synchronous while the plugins are. */
  ask<H extends ConditionalHook>(
    hook: H,
    args: HookArgs[H],
    names?: readonly string[],
  ): ChainVerdict<H> | Promise<ChainVerdict<H>> {
    const links =
      names === undefined
        ? (this.chains[hook] as readonly Link<H>[])
        : this.listenerChain(hook, names);
    return runTillOk(links, args, this.report);
  }

  /** Event hook: everyone is told, nobody waited for. */
  tell<H extends EventHook>(hook: H, args: HookArgs[H]): void {
    const links = this.chains[hook] as readonly Link<H>[];
    if (links.length > 0) runAll(links, args, this.report);
  }

  /** True when at least one plugin listens to a hook: callers then build its arguments. */
  wants(hook: HookName): boolean {
    return this.chains[hook].length > 0;
  }

  private rebuild(): void {
    const chains = emptyChains();
    for (const plugin of this.plugins) {
      for (const hook of HOOK_NAMES) {
        const call = plugin.hooks[hook] as HookFunction<typeof hook> | undefined;
        if (call === undefined) continue;
        (chains[hook] as Link[]).push({
          plugin: plugin.name,
          hook,
          call: call as (args: unknown) => unknown,
        });
      }
    }
    this.chains = chains;
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
