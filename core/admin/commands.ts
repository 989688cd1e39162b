import type { PluginCommand } from "../hooks/define-plugin.ts";
import type { Command } from "./command.ts";
import { apiKeyCommands } from "./commands/api-key.ts";
import { completionCommands } from "./commands/completion.ts";
import { listenerCommands } from "./commands/listener.ts";
import { logCommands } from "./commands/log.ts";
import { metricsCommands } from "./commands/metrics.ts";
import { nodeCommands } from "./commands/node.ts";
import { pluginCommands } from "./commands/plugin.ts";
import { queueCommands } from "./commands/queue.ts";
import { retainCommands } from "./commands/retain.ts";
import { sessionCommands } from "./commands/session.ts";
import { settingCommands } from "./commands/settings.ts";
import { tlsCommands } from "./commands/tls.ts";
import { topCommands } from "./commands/top.ts";
import { traceCommands } from "./commands/trace.ts";
import { pluginCommand } from "./plugin-adapter.ts";
import { Registry } from "./registry.ts";
import type { AdminTarget } from "./target.ts";

/** Every command of `vmq-admin`: the broker's, and those of the plugins that run. */
export function commandRegistry(target: AdminTarget): Registry {
  const own: Command[] = [
    ...nodeCommands(target),
    ...sessionCommands(target),
    ...queueCommands(target),
    ...retainCommands(target),
    ...pluginCommands(target),
    ...listenerCommands(target),
    ...metricsCommands(target),
    ...apiKeyCommands(target),
    ...settingCommands(target),
    ...logCommands(target),
    ...tlsCommands(target),
    ...traceCommands(target),
    ...topCommands(target),
    ...completionCommands(),
  ];
  return new Registry(
    own,
    ofPlugins(() => target.broker.plugins.commands()),
    () => [...target.config.entries()].map(({ key }) => key),
  );
}

/** Adapted once for each command of a plugin. */
function ofPlugins(commands: () => readonly PluginCommand[]): () => Command[] {
  const adapted = new WeakMap<PluginCommand, Command>();
  return () =>
    commands().map((command) => {
      const known = adapted.get(command);
      if (known !== undefined) return known;
      const made = pluginCommand(command);
      adapted.set(command, made);
      return made;
    });
}
