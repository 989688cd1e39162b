import { existsSync } from "node:fs";
import { resolve } from "node:path";
import { bundledModules } from "./http-listener-settings.ts";
import { type Loaded, type LoadOptions, loadConfig, originText } from "./load.ts";
import { nearest } from "./nearest.ts";
import { fileSyntax } from "./parse.ts";
import { allowedText, shownText } from "./schema.ts";
import { type Support, supportOf } from "./support.ts";
import type { Config } from "./types.ts";
import { unknownKey } from "./unknown-key.ts";

/** What a command prints, and its exit code. Every line ends with a line end. */
export interface Answer {
  readonly exit: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** `config check`: notices and "config is OK", or all errors and exit code 1. */
export function checkConfig(
  options: LoadOptions,
  loaded = loadConfig(options),
  pluginFaults: readonly string[] = [],
): Answer {
  const missing = loaded.config === undefined ? [] : missingFiles(loaded.config);
  const needed = missing.filter(({ isNeeded }) => isNeeded).map(({ text }) => text);
  const others = missing.filter(({ isNeeded }) => !isNeeded).map(({ text }) => text);
  const faults = [...loaded.errors, ...needed, ...pluginFaults];
  const isOk = loaded.config !== undefined && faults.length === 0;
  const modules = loaded.config === undefined ? [] : unknownModules(loaded.config);
  const notices = [...loaded.notices, ...others, ...modules].map((notice) => `notice: ${notice}`);
  return {
    exit: isOk ? 0 : 1,
    stdout: lines([...notices, ...(isOk ? ["config is OK"] : [])]),
    stderr: lines(faults),
  };
}

/** Files and folders that somebody named and that are not there; those that the broker makes do not count. */
function missingFiles(config: Config): { text: string; isNeeded: boolean }[] {
  return config.written().flatMap(({ key, row, text, origin }) => {
    const isRead = row.type === "file" || row.type === "directory";
    const isMade = /^log\..*\.file$/.test(key) || supportOf(row).kind !== "works";
    if (!isRead || isMade || text === "" || existsSync(resolve(config.cwd, text))) return [];
    const what = row.type === "file" ? "file" : "folder";
    const missing = `${originText(origin)}: ${key}: there is no ${what} "${text}"`;
    const isNeeded = row.neededBy !== undefined && config.flag(`plugins.${row.neededBy}`);
    return [{ text: missing, isNeeded }];
  });
}

/** HTTP modules that neither come with the broker nor have the name of a plugin that is on. */
function unknownModules(config: Config): string[] {
  const known = bundledModules();
  return config.httpListeners.flatMap(({ kind, name, modules }) =>
    modules
      .filter((module) => !known.includes(module) && config.value(`plugins.${module}`) !== true)
      .map((module) => {
        const key = `listener.${kind}.${name}.http_modules`;
        const origin = config.originOf(config.isWritten(key) ? key : "http_modules");
        const [near] = nearest(module, known, 1);
        const meant = near === undefined ? "" : `; did you mean ${near}?`;
        return `${origin}: no HTTP module ${module} unless a plugin adds it (plugins.<name> = on)${meant}`;
      }),
  );
}

/**
 * `config show`: what was written, in file syntax with its origin; with `isEffective` also the
 * defaults, save those that only steer the Erlang machine.
 */
export function showConfig(
  options: LoadOptions,
  isEffective: boolean,
  loaded = loadConfig(options),
): Answer {
  if (loaded.config === undefined) return refusal(loaded);
  const shown: { setting: string; origin: string }[] = [];
  for (const { key, row, text, origin } of loaded.config.settings()) {
    if (origin.kind === "default" && (!isEffective || row.erlangOnly === true)) continue;
    shown.push({
      setting: `${key} = ${fileSyntax(shownText(row, text))}`,
      origin: originText(origin),
    });
  }
  // Long values do not push the comments of all others to the right.
  const width = Math.min(50, Math.max(0, ...shown.map(({ setting }) => setting.length)));
  return {
    exit: 0,
    stdout: lines(shown.map(({ setting, origin }) => `${setting.padEnd(width)}   # ${origin}`)),
    stderr: "",
  };
}

/** `config describe KEY`: its row, and the value in effect. */
export function describeKey(
  options: LoadOptions,
  key: string,
  loaded = loadConfig(options),
): Answer {
  const row = loaded.schema.rowOf(key);
  if (row === undefined) {
    return { exit: 1, stdout: "", stderr: lines([`${key}: ${unknownKey(key, loaded.schema)}`]) };
  }
  const facts: [name: string, text: string | undefined][] = [
    ["type", row.type],
    ["allowed", allowedText(row)],
    ["default", row.default === undefined ? "none" : fileSyntax(row.default)],
    ["example", row.example],
    ["unit", row.unit],
    ["changes", row.live === true ? "live (vmq-admin set)" : "with a restart"],
    ["since", row.since],
    ["support", supportText(supportOf(row))],
    ["effective", effectiveText(loaded, key)],
  ];
  const known = facts.flatMap(([name, text]) =>
    text === undefined ? [] : [`  ${`${name}:`.padEnd(11)}${text}`],
  );
  return { exit: 0, stdout: lines([key, `  ${row.doc}`, ...known]), stderr: "" };
}

function effectiveText(loaded: Loaded, key: string): string {
  if (loaded.config === undefined) return "unknown, the configuration has errors";
  for (const setting of loaded.config.settings()) {
    if (setting.key !== key) continue;
    return `${fileSyntax(shownText(setting.row, setting.text))}   # ${originText(setting.origin)}`;
  }
  return "unset";
}

function supportText(support: Support): string {
  switch (support.kind) {
    case "works":
      return "yes";
    case "later":
      return `not supported yet (${support.feature})`;
    case "cluster":
      return "accepted; clustering is not supported yet";
    case "erlang":
      return "accepted, without effect here";
    case "elsewhere":
      return `accepted; ${support.why}`;
    default:
      return support satisfies never;
  }
}

function refusal(loaded: Loaded): Answer {
  return { exit: 1, stdout: "", stderr: lines(loaded.errors) };
}

function lines(texts: readonly string[]): string {
  return texts.map((text) => `${text}\n`).join("");
}
