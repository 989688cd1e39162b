import type { SchemaRow, ValueCheck } from "../config/schema.ts";
import type { Config, ConfigValue } from "../config/types.ts";
import { NautilusError } from "../errors.ts";

/** One setting of a plugin: `<plugin>.<setting> = value` in vernemq.conf. */
export interface PluginSetting {
  /** flag = on/off, duration = seconds, bytesize = bytes; `list` = names separated by commas. */
  readonly type:
    | "flag"
    | "integer"
    | "string"
    | "enum"
    | "file"
    | "directory"
    | "bytesize"
    | "duration"
    | "list";
  /** What it does, one sentence. */
  readonly doc: string;
  /** As it would be written in the file. */
  readonly default?: string;
  /** Must be written while the plugin is on. */
  readonly required?: true;
  readonly unit?: "s" | "ms" | "bytes" | "days";
  /** Members of an enum. */
  readonly values?: readonly string[];
  readonly min?: number;
  readonly max?: number;
  /** Can be changed by `vmq-admin set`; then `settings` shows the new value and `change_config` is called. */
  readonly live?: true;
  /** A password or key: no command shows what somebody wrote. */
  readonly isSecret?: true;
  readonly checks?: readonly ValueCheck[];
}

export type PluginSettings = Readonly<Record<string, PluginSetting>>;

type ValueOf<S extends PluginSetting> = S["type"] extends "flag"
  ? boolean
  : S["type"] extends "integer" | "bytesize" | "duration"
    ? number
    : S["type"] extends "list"
      ? readonly string[]
      : S extends { readonly type: "enum"; readonly values: readonly (infer V)[] }
        ? V
        : string;

/** A value is there when the setting has a default or is required. */
type Present<S extends PluginSetting> = S extends
  | { readonly default: string }
  | { readonly required: true }
  ? ValueOf<S>
  : ValueOf<S> | undefined;

/** Values of a plugin's settings by name; reading one gives what is in force now. */
export type SettingValues<S extends PluginSettings> = { readonly [K in keyof S]: Present<S[K]> };

/** Rows for the configuration's schema. */
export function schemaRows(plugin: string, settings: PluginSettings): SchemaRow[] {
  return Object.entries(settings).map(([name, { required: _, ...row }]) => ({
    ...row,
    key: `${plugin}.${name}`,
    since: `plugin ${plugin}`,
    ...(row.type === "list" ? { list: "words" as const } : {}),
  }));
}

/** Keys that a plugin needs and nobody wrote. */
export function missingSettings(
  plugin: string,
  settings: PluginSettings,
  isWritten: (key: string) => boolean,
): string[] {
  return Object.entries(settings)
    .filter(([, row]) => row.required === true)
    .map(([name]) => `${plugin}.${name}`)
    .filter((key) => !isWritten(key));
}

/** The view of a plugin's settings; each read looks into the configuration. */
export function settingValues(
  plugin: string,
  settings: PluginSettings,
  config: Config,
): Record<string, ConfigValue> {
  const values = {};
  for (const name of Object.keys(settings)) {
    const key = `${plugin}.${name}`;
    Object.defineProperty(values, name, { enumerable: true, get: () => config.value(key) });
  }
  return values;
}

/** Throws when a row cannot be used, naming it. */
export function checkSettings(
  plugin: string,
  settings: unknown,
): asserts settings is PluginSettings {
  const fault = (reason: string): never => {
    throw new NautilusError("PLUGIN_INVALID", { plugin, reason });
  };
  if (typeof settings !== "object" || settings === null) return fault("settings is no object");
  for (const [name, row] of Object.entries(settings as Record<string, Partial<PluginSetting>>)) {
    if (!/^[A-Za-z_][\w.$-]*$/.test(name)) fault(`settings: "${name}" is not a name for a setting`);
    if (typeof row !== "object" || row === null) fault(`settings.${name} is no object`);
    if (!TYPES.has(String(row.type))) {
      fault(`settings.${name}: type "${row.type}" is none of ${[...TYPES].join(", ")}`);
    }
    if (typeof row.doc !== "string") fault(`settings.${name} has no doc`);
    if (row.default !== undefined && typeof row.default !== "string") {
      fault(`settings.${name}: default is written as text, as in vernemq.conf`);
    }
    if (row.type === "enum" && !Array.isArray(row.values)) {
      fault(`settings.${name} is an enum without values`);
    }
  }
}

const TYPES = new Set<string>([
  "flag",
  "integer",
  "string",
  "enum",
  "file",
  "directory",
  "bytesize",
  "duration",
  "list",
] satisfies PluginSetting["type"][]);
