import { existsSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import type { ListenerSettings } from "../listeners/types.ts";
import { checkValue } from "./checks.ts";
import {
  acceptedEarlyText,
  isAcceptedEarly,
  LoadedConfig,
  type Setting,
  type Unchecked,
} from "./config.ts";
import { readEnvironment } from "./environment.ts";
import { httpListenerSettings } from "./http-listener-settings.ts";
import { isMqttKind, listenerSettings } from "./listener-settings.ts";
import { readConfigFile, readReference } from "./parse.ts";
import { relationFaults } from "./relations.ts";
import { savedSettingsFile } from "./saved-settings.ts";
import { keyWords, rowOf, type Schema, type SchemaRow, STANDARD_SCHEMA } from "./schema.ts";
import { createSubstitution } from "./substitute.ts";
import { type Support, supportOf as supportNow } from "./support.ts";
import type { Origin } from "./types.ts";
import { unknownKey } from "./unknown-key.ts";
import { complaint, readValue } from "./values.ts";

export { savedSettings, saveSettings } from "./saved-settings.ts";

export interface LoadOptions {
  /** Must exist. Without it: `NAUTILUS_CONFIG` of `env`, then `./etc/vernemq.conf` if it exists. */
  file?: string;
  /** `key=value` each; they win over everything, later ones over earlier ones. */
  sets?: readonly string[];
  /** Keys with their text values, as `sets`; for brokers started by a program. */
  values?: Readonly<Record<string, string>>;
  /** Environment for `DOCKER_VERNEMQ_*`, `NAUTILUS_*` and substitution; default: empty. */
  env?: NodeJS.ProcessEnv;
  /** Default: `NAUTILUS_DATA_DIR` of `env`, then `./data`. */
  dataDir?: string;
  /** What relative paths start from; default: the working directory of the process. */
  cwd?: string;
  /** No file is looked for and no first-run defaults apply: only what is given here counts. */
  isEmbedded?: boolean;
  /** Plugins that a program hands in; they count as enabled. */
  plugins?: readonly string[];
  /** Settings of plugins. */
  rows?: readonly SchemaRow[];
  /** Plugins whose settings are not known, since they are off: theirs are accepted unseen. */
  pluginsOff?: readonly string[];
  /** What this release supports; tests put another answer in. */
  supportOf?: (row: SchemaRow) => Support;
}

export interface Loaded {
  /** Undefined when there are errors. */
  readonly config?: LoadedConfig;
  /** One line each: `file:line: key: what is wrong, what is allowed, did you mean …`. */
  readonly errors: string[];
  readonly notices: string[];
  readonly schema: Schema;
}

/** A setting before its key and value were looked at. */
export interface Raw {
  readonly key: string;
  readonly text: string;
  readonly origin: Origin;
}

const FIRST_RUN: Readonly<Record<string, string>> = {
  "listener.tcp.default": "127.0.0.1:1883",
  "listener.ws.default": "127.0.0.1:8080",
  "listener.http.default": "127.0.0.1:8888",
};

/** Reads, checks and freezes the configuration, or gives all that is wrong with it at once. */
export function loadConfig(options: LoadOptions = {}): Loaded {
  const cwd = resolve(options.cwd ?? process.cwd());
  const env = options.env ?? {};
  const supportOf = options.supportOf ?? supportNow;
  const sources = readSources(options, cwd, env);
  const { errors, isFirstRun } = sources;
  const raws = isFirstRun ? withFirstRun(sources.raws) : sources.raws;

  const settings = new Map<string, Setting>();
  const unchecked = new Map<string, Unchecked>();
  const byKind = new Map<Support, string[]>();
  const schema = STANDARD_SCHEMA.with(options.rows ?? []);
  const defaultOf = (key: string) => schema.rowOf(key)?.default;
  const substituted = createSubstitution((key) => raws.get(key)?.text ?? defaultOf(key), env);
  for (const raw of raws.values()) {
    const row = schema.rowOf(raw.key);
    if (row === undefined) {
      const text = substituted(raw.key);
      if (text.ok && options.pluginsOff?.includes(keyWords(raw.key)[0] ?? "") === true) {
        unchecked.set(raw.key, { ...raw, text: text.text });
      } else errors.push(errorLine(raw, unknownKey(raw.key, schema)));
      continue;
    }
    const text = substituted(raw.key);
    const outcome = text.ok
      ? checkSetting({ ...raw, text: text.text }, row, supportOf(row), cwd)
      : { wrong: text.wrong };
    if ("wrong" in outcome) {
      errors.push(errorLine(raw, outcome.wrong));
      continue;
    }
    settings.set(raw.key, outcome);
    if (raw.origin.kind !== "default") noteKind(byKind, supportOf(row), raw.key);
  }
  for (const { variable, support } of sources.variables) {
    if (support.kind === "later") {
      errors.push(`environment ${variable}: not supported yet (${support.feature})`);
    } else noteKind(byKind, support, variable);
  }

  const isPluginEnabled = (name: string) => isEnabled(name, settings, options, supportOf);
  const isWritten = (key: string) => raws.has(key);
  const context = { settings, cwd, isPluginEnabled, isWritten };
  const { listeners, complaints, notices } = listenerSettings(context);
  const http = httpListenerSettings(context);
  for (const fault of [...complaints, ...http.complaints, ...relationFaults(settings, isWritten)]) {
    errors.push(errorLine(fault.setting, fault.wrong));
  }
  notices.push(...supportNotices(byKind));
  if (unchecked.size > 0) {
    const keys = [...unchecked.keys()].join(", ");
    notices.push(`settings of plugins that are off (accepted unchecked): ${keys}`);
  }
  if (errors.length > 0) return { errors: [...new Set(errors)], notices, schema };

  if (listeners.length === 0 && options.isEmbedded !== true) {
    notices.push("no MQTT listener is configured, so that no client can connect");
  }
  if (isFirstRun) openLoopback(settings, listeners);
  const dataDir = dataDirOf(options, cwd, env);
  Object.freeze(listeners);
  Object.freeze(http.listeners);
  return {
    config: new LoadedConfig({
      settings,
      listeners,
      httpListeners: http.listeners,
      isFirstRun,
      dataDir,
      cwd,
      schema,
      unchecked,
    }),
    errors: [],
    notices,
    schema,
  };
}

function dataDirOf(options: LoadOptions, cwd: string, env: NodeJS.ProcessEnv): string {
  return resolve(cwd, options.dataDir ?? env.NAUTILUS_DATA_DIR ?? "data");
}

/** What `vmq-admin set --persist` wrote; undefined = nothing. */
function savedFile(options: LoadOptions, cwd: string, env: NodeJS.ProcessEnv): string | undefined {
  if (options.isEmbedded === true && options.dataDir === undefined) return undefined;
  const file = savedSettingsFile(dataDirOf(options, cwd, env));
  return existsSync(file) ? file : undefined;
}

/** `file:line`, `environment VARIABLE`, `--set` or `default`: where a value came from. */
export function originText(origin: Origin): string {
  switch (origin.kind) {
    case "default":
      return "default";
    case "file":
      return `${origin.file}:${origin.line}`;
    case "environment":
      return `environment ${origin.variable}`;
    case "set":
      return "--set";
    default:
      return origin satisfies never;
  }
}

export function errorLine(raw: { key: string; origin: Origin }, wrong: string): string {
  const separator = raw.origin.kind === "set" ? " " : ": ";
  return `${originText(raw.origin)}${separator}${raw.key}: ${wrong}`;
}

/** The file to read; undefined = none was given or found. */
function findConfigFile(options: LoadOptions, cwd: string): string | undefined {
  const named =
    options.file ?? (options.isEmbedded === true ? undefined : options.env?.NAUTILUS_CONFIG);
  if (named !== undefined && named !== "") return named;
  const usual = join("etc", "vernemq.conf");
  return options.isEmbedded !== true && existsSync(join(cwd, usual)) ? usual : undefined;
}

/** All settings by key, the one that wins; a later mention moves a key to the end. */
export function readSources(
  options: LoadOptions,
  cwd: string,
  env: NodeJS.ProcessEnv,
): {
  raws: Map<string, Raw>;
  errors: string[];
  isFirstRun: boolean;
  variables: { variable: string; support: Support }[];
} {
  const raws = new Map<string, Raw>();
  const errors: string[] = [];
  const file = findConfigFile(options, cwd);
  function add(key: string, text: string, origin: Origin): void {
    raws.delete(key);
    raws.set(key, { key, text, origin });
  }
  /** As `add`, for values from outside of a file; `$(<file)` is relative to the main file. */
  function addOutside(key: string, source: string, origin: Origin): void {
    const text = readReference(source, resolve(cwd, dirname(file ?? ".")));
    if (typeof text === "string") add(key, text, origin);
    else errors.push(errorLine({ key, origin }, text.problem));
  }

  if (file !== undefined) {
    const parsed = readConfigFile(file, cwd);
    errors.push(...parsed.problems);
    for (const { key, text, file, line } of parsed.entries)
      add(key, text, { kind: "file", file, line });
  }
  const saved = savedFile(options, cwd, env);
  if (saved !== undefined) {
    const parsed = readConfigFile(saved, cwd);
    errors.push(...parsed.problems);
    for (const { key, text, file, line } of parsed.entries)
      add(key, text, { kind: "file", file, line });
  }
  const environment = readEnvironment(env);
  errors.push(...environment.problems);
  for (const { key, text, variable } of environment.entries) {
    addOutside(key, text, { kind: "environment", variable });
  }
  for (const text of options.sets ?? []) {
    const found = /^\s*([^=\s]+)\s*=\s*(.*?)\s*$/s.exec(text);
    if (found === null) errors.push(`--set ${text}: not a setting, allowed: key=value`);
    else addOutside(found[1] ?? "", found[2] ?? "", { kind: "set" });
  }
  for (const [key, text] of Object.entries(options.values ?? {})) add(key, text, { kind: "set" });
  const isFirstRun = file === undefined && options.isEmbedded !== true;
  return { raws, errors, isFirstRun, variables: environment.others };
}

/** Without a file there are two loopback listeners, unless some listener was asked for. */
function withFirstRun(raws: Map<string, Raw>): Map<string, Raw> {
  const hasListener = [...raws.keys()].some((key) => {
    const [first, kind = "", ...rest] = keyWords(key);
    return (
      first === "listener" &&
      isMqttKind(kind) &&
      rest.length === 1 &&
      rowOf(key)?.key.endsWith("$name")
    );
  });
  if (hasListener) return raws;
  const all = new Map<string, Raw>();
  for (const [key, text] of Object.entries(FIRST_RUN))
    all.set(key, { key, text, origin: { kind: "default" } });
  for (const [key, raw] of raws) all.set(key, raw);
  return all;
}

/** The first run allows anonymous clients, but never on an address that others can reach. */
function openLoopback(
  settings: Map<string, Setting>,
  listeners: readonly ListenerSettings[],
): void {
  const key = "allow_anonymous";
  const row = rowOf(key);
  const isLocal = listeners.every(
    ({ address, unixSocket }) => unixSocket || address === "::1" || address.startsWith("127."),
  );
  if (row === undefined || settings.has(key) || !isLocal) return;
  settings.set(key, { key, row, text: "on", value: true, origin: { kind: "default" } });
}

function checkSetting(
  raw: Raw,
  row: SchemaRow,
  support: Support,
  cwd: string,
): Setting | { wrong: string } {
  const reading = readValue(row, raw.text);
  if (!reading.ok) return { wrong: complaint(row, reading) };
  if (support.kind === "later" && !isAcceptedEarly(row, support, reading.value)) {
    const allowed = acceptedEarlyText(row, support);
    return { wrong: `not supported yet (${support.feature}), allowed for now: ${allowed}` };
  }
  const wrong = checkValue(row, raw.text, cwd);
  return wrong === undefined ? { ...raw, row, value: reading.value } : { wrong };
}

function isEnabled(
  name: string,
  settings: ReadonlyMap<string, Setting>,
  options: LoadOptions,
  supportOf: (row: SchemaRow) => Support,
): boolean {
  if (options.plugins?.includes(name) === true) return true;
  const row = rowOf(`plugins.${name}`);
  if (row === undefined || supportOf(row).kind === "later") return false;
  const written = settings.get(`plugins.${name}`);
  if (written !== undefined) return written.value === true;
  return row.default === "on" && options.isEmbedded !== true;
}

/** Collects keys that get a notice, by their support. */
function noteKind(byKind: Map<Support, string[]>, support: Support, name: string): void {
  if (support.kind === "works" || support.kind === "later") return;
  const names = byKind.get(support) ?? [];
  names.push(name);
  byKind.set(support, names);
}

function supportNotices(byKind: ReadonlyMap<Support, readonly string[]>): string[] {
  return [...byKind].map(([support, names]) => {
    const list = names.join(", ");
    switch (support.kind) {
      case "erlang":
        return `keys that only steer the Erlang machine (accepted, without effect here): ${list}`;
      case "cluster":
        return `clustering is not supported yet, this node is alone for now: ${list}`;
      case "elsewhere":
        return `${list}: without effect, ${support.why}`;
      case "works":
      case "later":
        return "";
      default:
        return support satisfies never;
    }
  });
}
