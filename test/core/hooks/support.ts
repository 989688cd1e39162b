import type { ChainVerdict } from "../../../core/hooks/chain.ts";
import { HookRegistry, type RegistryOptions } from "../../../core/hooks/registry.ts";
import type { HookArgs, HookName, Plugin, PluginHooks } from "../../../core/hooks/types.ts";

export const WHO = { username: "u", subscriber_id: { mountpoint: "", client_id: "c" } };

export const PUBLISH: HookArgs["auth_on_publish_m5"] = {
  ...WHO,
  qos: 0,
  topic: "a/b",
  payload: Buffer.from("x"),
  retain: false,
  properties: {},
};

/** What a registry reported of failing plugins. */
export interface Failure {
  plugin: string;
  hook: HookName;
  failure: unknown;
}

export interface Rig {
  readonly registry: HookRegistry;
  readonly failures: Failure[];
  /** Asks auth_on_publish. */
  publish(): ChainVerdict<"auth_on_publish"> | Promise<ChainVerdict<"auth_on_publish">>;
}

/** A registry with these plugins in call order. */
export function rig(plugins: readonly Plugin[], options: RegistryOptions = {}): Rig {
  const failures: Failure[] = [];
  const registry = new HookRegistry((plugin, hook, failure) => {
    failures.push({ plugin, hook, failure });
  }, options);
  registry.enableAll(plugins);
  return { registry, failures, publish: () => registry.ask("auth_on_publish", PUBLISH) };
}

/** A plugin with auth_on_publish; notes its calls. */
export function publisher(
  name: string,
  hook: PluginHooks["auth_on_publish"],
  more: Partial<Plugin> = {},
): Plugin {
  return { name, hooks: { auth_on_publish: hook }, ...more } as Plugin;
}
