import { CONDITIONAL_HOOKS } from "../../core/hooks/explain.ts";
import { HOOK_NAMES } from "../../core/hooks/registry.ts";
import type {
  HookArgs,
  HookFunction,
  HookName,
  Plugin,
  PluginHooks,
} from "../../core/hooks/types.ts";
import { waitFor } from "./broker.ts";

/** One call of a hook. */
export type HookCall = { [H in HookName]: { hook: H; args: HookArgs[H] } }[HookName];

/** The hooks that may be asked: the recorder passes them on to the next plugin. */
const CONDITIONAL: ReadonlySet<HookName> = new Set<HookName>(CONDITIONAL_HOOKS);

export interface Recorder {
  readonly plugin: Plugin;
  readonly calls: HookCall[];
  /** Names in order of the calls, of all hooks or of these. */
  names(...only: HookName[]): HookName[];
  /** Arguments of all calls of one hook. */
  of<H extends HookName>(hook: H): HookArgs[H][];
  /** Waits until a hook was called `count` times; gives the arguments of the last of them. */
  wait<H extends HookName>(hook: H, count?: number, timeoutMs?: number): Promise<HookArgs[H]>;
  clear(): void;
}

/** A plugin that notes every hook call, is asked first and leaves the answer to the others. */
export function recordingPlugin(name = "aa_recorder"): Recorder {
  const calls: HookCall[] = [];
  const hooks: Record<string, (args: never) => unknown> = {};
  for (const hook of HOOK_NAMES) {
    hooks[hook] = (args) => {
      calls.push({ hook, args } as HookCall);
      return CONDITIONAL.has(hook) ? "next" : undefined;
    };
  }
  function of<H extends HookName>(hook: H): HookArgs[H][] {
    return calls.filter((call) => call.hook === hook).map((call) => call.args as HookArgs[H]);
  }
  return {
    plugin: { name, priority: -1000, hooks: hooks as PluginHooks },
    calls,
    names: (...only) =>
      calls.map((call) => call.hook).filter((hook) => only.length === 0 || only.includes(hook)),
    of,
    wait: async <H extends HookName>(hook: H, count = 1, timeoutMs = 5000) =>
      waitFor(
        `${hook} called ${count} times (calls: ${calls.map((call) => call.hook).join(" ")})`,
        (): HookArgs[H] | undefined => of(hook)[count - 1],
        timeoutMs,
      ) as Promise<HookArgs[H]>,
    clear: () => {
      calls.length = 0;
    },
  };
}

/** A plugin with these hooks. */
export function pluginWith(hooks: PluginHooks, name = "test_plugin", priority = 0): Plugin {
  return { name, priority, hooks };
}

/** A plugin that answers a 3.x hook and its MQTT 5 counterpart alike. */
export function refusing(
  hook: "auth_on_publish" | "auth_on_subscribe" | "auth_on_register",
  isRefused: (args: HookArgs[typeof hook]) => boolean = () => true,
): Plugin {
  const answer = (args: HookArgs[typeof hook]) =>
    isRefused(args) ? { error: "not_authorized" } : "next";
  return pluginWith({
    [hook]: answer as HookFunction<typeof hook>,
    [`${hook}_m5`]: answer,
  });
}
