import { resolve } from "node:path";
import { type Loaded, type LoadOptions, loadConfig } from "../config/load.ts";
import { type RequestedPlugin, requestedPlugins } from "../config/plugin-keys.ts";
import { errorMessage, NautilusError } from "../errors.ts";
import type { AnyPlugin, SettingsContext } from "./define-plugin.ts";
import { checkPlugin, findPlugin, loadPlugin, type PluginFile } from "./loader.ts";
import { missingSettings, schemaRows } from "./plugin-settings.ts";

/** A plugin whose code is there. */
export interface PluginSource {
  readonly definition: AnyPlugin;
  /** Undefined for plugins that a program hands in. */
  readonly file?: PluginFile;
}

export interface Configured extends Loaded {
  /** Those that are on, not started yet. */
  readonly plugins: readonly PluginSource[];
}

/**
 * Loads the plugins of a configuration, then checks the configuration with their settings. Nothing is
 * started. Differs from VerneMQ: a plugin that cannot be loaded is an error and not a warning, since a
 * broker without its security plugin is worse than none.
 */
export async function loadConfigured(
  options: LoadOptions = {},
  handedIn: readonly AnyPlugin[] = [],
): Promise<Configured> {
  const errors: string[] = [];
  const cwd = resolve(options.cwd ?? process.cwd());
  const given = handedIn.map((plugin): PluginSource => ({ definition: checked(plugin) }));
  const requested = requestedPlugins(options).filter(
    ({ name }) => !handedIn.some((plugin) => plugin.name === name),
  );
  const found = await Promise.all(
    requested.filter(({ isOn }) => isOn).map((request) => loadRequested(request, cwd, errors)),
  );
  const plugins = [...given, ...found.filter((source) => source !== undefined)];
  const known = new Set(plugins.map(({ definition }) => definition.name));
  const loaded = loadConfig({
    ...options,
    plugins: handedIn.map(({ name }) => name),
    rows: plugins.flatMap(({ definition: { name, settings } }) => schemaRows(name, settings ?? {})),
    // Settings of a plugin that could not be loaded are no second error.
    pluginsOff: requested.filter(({ name }) => !known.has(name)).map(({ name }) => name),
  });
  const { config } = loaded;
  for (const { definition } of config === undefined ? [] : plugins) {
    const isWritten = (key: string): boolean => config?.isWritten(key) === true;
    for (const key of missingSettings(definition.name, definition.settings ?? {}, isWritten)) {
      errors.push(`${key}: must be set while plugins.${definition.name} = on`);
    }
  }
  if (errors.length === 0) return { ...loaded, plugins };
  const { errors: others, notices, schema } = loaded;
  return { errors: [...errors, ...others], notices, schema, plugins: [] };
}

async function loadRequested(
  { name, path, faultLine }: RequestedPlugin,
  cwd: string,
  errors: string[],
): Promise<PluginSource | undefined> {
  try {
    const file = findPlugin(name, path, cwd);
    return { definition: await loadPlugin(name, file), file };
  } catch (error) {
    if (!(error instanceof NautilusError)) throw error;
    errors.push(faultLine(error.message));
    return undefined;
  }
}

/** A plugin that a program hands in, checked as one that was loaded. */
function checked(plugin: AnyPlugin): AnyPlugin {
  try {
    checkPlugin(plugin);
    return plugin;
  } catch (cause) {
    const reason = errorMessage(cause);
    throw new NautilusError("PLUGIN_INVALID", { plugin: plugin.name, reason }, cause);
  }
}

/** What plugins find wrong with their settings. */
export async function pluginFaults({ config, plugins }: Configured): Promise<string[]> {
  if (config === undefined) return [];
  const context: SettingsContext = {
    config: (key) => config.value(key),
    readValue: (key, text) => config.read(key, text),
    keysBelow: (prefix) => config.keysBelow(prefix),
    originOf: (key) => config.originOf(key),
    resolvePath: (path) => resolve(config.cwd, path),
  };
  const faults: string[] = [];
  for (const { definition } of plugins) {
    try {
      await definition.check?.(context);
    } catch (fault) {
      faults.push(...errorMessage(fault).split("\n"));
    }
  }
  return faults;
}
