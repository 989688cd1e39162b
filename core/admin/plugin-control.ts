import type { PluginControl } from "../broker-types.ts";
import type { Link } from "../hooks/chain.ts";
import { explainChain, type ShownLink, unreachableLinks } from "../hooks/explain.ts";
import type { PluginManager, RunningPlugin } from "../hooks/plugin-manager.ts";
import { HOOK_NAMES, type HookRegistry } from "../hooks/registry.ts";
import type { SessionManager } from "../session/manager.ts";

/** Where a plugin was loaded from: `bundled`, its file, or `program`. */
export function sourceText(file: RunningPlugin["file"]): string {
  if (file === undefined) return "program";
  return file.isBundled ? "bundled" : file.file;
}

/** The operator's view of plugins: what `vmq-admin plugin` and programs work with. */
export function pluginControl(
  manager: PluginManager,
  hooks: HookRegistry,
  sessions: SessionManager,
): PluginControl {
  const chains = (): Readonly<Record<string, readonly Link[]>> =>
    hooks.chains as unknown as Readonly<Record<string, readonly Link[]>>;
  const sourceOf = (name: string): string =>
    sourceText(manager.list().find(({ plugin }) => plugin.name === name)?.file);
  return {
    enable: (name, path) => manager.enable(name, path),
    disable: (name) => manager.disable(name),
    reload: (name) => manager.reload(name),
    commands: () => manager.commands(),
    show: (filter = {}) => {
      const shown: ShownLink[] = [];
      for (const hook of HOOK_NAMES) {
        if (filter.hook !== undefined && filter.hook !== hook) continue;
        for (const { plugin, answeredBy, priority } of chains()[hook] ?? []) {
          if (filter.plugin !== undefined && filter.plugin !== plugin) continue;
          shown.push({ plugin, hook, answeredBy, priority, source: sourceOf(plugin) });
        }
      }
      return shown;
    },
    explain: (query) => {
      // A client that is connected is asked for as it is.
      const { client_id = "", mountpoint = "" } = query;
      const known = sessions.find(mountpoint, client_id);
      const username = query.username ?? known?.username;
      return explainChain(chains()[query.hook] ?? [], {
        context: known?.context ?? {},
        ...query,
        ...(username === undefined ? {} : { username }),
      });
    },
    unreachable: () =>
      unreachableLinks(chains(), (name, hook) => {
        const settled = manager.list().find(({ plugin }) => plugin.name === name)?.held.settled;
        return settled?.hooks.includes(hook) === true ? settled.why : undefined;
      }),
  };
}
