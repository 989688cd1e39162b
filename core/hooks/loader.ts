import { existsSync, readFileSync, statSync } from "node:fs";
import { createRequire, register } from "node:module";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { constants, Script } from "node:vm";
import { nearest } from "../config/nearest.ts";
import { errorMessage, NautilusError } from "../errors.ts";
import { type AnyPlugin, isDefinedPlugin } from "./define-plugin.ts";
import type { ModuleHooksData } from "./module-hooks.ts";
import { checkSettings } from "./plugin-settings.ts";
import { HOOK_NAMES } from "./registry.ts";

/** Where a plugin's code is. */
export interface PluginFile {
  /** The module with the default export. */
  readonly file: string;
  /** What is watched for changes: the folder of the plugin, or the file. */
  readonly root: string;
  readonly isBundled: boolean;
}

/** Folder of the bundled plugins: plugins/ beside core/, in the sources as in dist/. */
const BUNDLED = fileURLToPath(new URL("../../plugins/", import.meta.url));
const ENTRIES = ["index.js", "index.mjs", "index.ts", "index.mts"];

/** Finds a plugin: a bundled one by name, else by its path. Throws PLUGIN_NOT_FOUND. */
export function findPlugin(name: string, path: string | undefined, cwd: string): PluginFile {
  const missing = (reason: string): never => {
    throw new NautilusError("PLUGIN_NOT_FOUND", { plugin: name, reason });
  };
  if (path === undefined || path === "") {
    const bundled = /^\w+$/.test(name) ? entryOf(join(BUNDLED, name)) : undefined;
    if (bundled !== undefined) {
      return { file: bundled, root: dirname(bundled), isBundled: true };
    }
    return missing(`no plugin of that name is bundled, and plugins.${name}.path is not set`);
  }
  const full = resolve(cwd, path);
  const stat = statSync(full, { throwIfNoEntry: false });
  if (stat?.isFile() === true) return { file: full, root: full, isBundled: false };
  const folder = stat?.isDirectory() === true ? full : packageFolder(path, cwd);
  if (folder === undefined) {
    return missing(`"${path}" is neither a file nor a folder nor an installed package`);
  }
  const file = entryOf(folder) ?? missing(`"${path}" has no ${ENTRIES.join(" or ")}`);
  return { file, root: folder, isBundled: false };
}

/** The main module of a folder: as its package.json says, else index.*. */
function entryOf(folder: string): string | undefined {
  const written = packageEntry(join(folder, "package.json"));
  const names = written === undefined ? ENTRIES : [written, `${written}.js`, ...ENTRIES];
  return names.map((name) => join(folder, name)).find((file) => isFile(file));
}

function packageEntry(file: string): string | undefined {
  if (!existsSync(file)) return undefined;
  const found: unknown = JSON.parse(readFileSync(file, "utf8"));
  if (typeof found !== "object" || found === null) return undefined;
  const { exports, main } = found as { exports?: unknown; main?: unknown };
  const written = exportTarget(exports) ?? main;
  return typeof written === "string" ? written : undefined;
}

/** `exports` of a package for a plain import. */
function exportTarget(exports: unknown): string | undefined {
  if (typeof exports === "string") return exports;
  if (typeof exports !== "object" || exports === null) return undefined;
  const table = exports as Record<string, unknown>;
  return exportTarget(table["."] ?? table.import ?? table.node ?? table.default);
}

/** Folder of a package that is installed for the working directory, or else for the broker. */
function packageFolder(name: string, cwd: string): string | undefined {
  if (!/^(@[\w.-]+\/)?[\w-][\w.-]*$/.test(name)) return undefined;
  for (const from of [cwd, fileURLToPath(new URL(".", import.meta.url))]) {
    for (let dir = from; ; dir = dirname(dir)) {
      const folder = join(dir, "node_modules", name);
      if (existsSync(folder)) return folder;
      if (dir === dirname(dir)) break;
    }
  }
  return undefined;
}

function isFile(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false })?.isFile() === true;
}

/** From the sources (tests) everything is TypeScript, the module hooks included. */
const IS_SOURCE = import.meta.url.endsWith(".ts");

/** A test runner replaces `import()` in the sources by its own, which knows no module hooks. */
const importModule: (url: string) => Promise<Record<string, unknown>> = IS_SOURCE
  ? new Script("(url) => import(url)", {
      importModuleDynamically: constants.USE_MAIN_CONTEXT_DEFAULT_LOADER,
    }).runInThisContext()
  : (url) => import(url);

/** Each load of a plugin gets a number of its own, so that Node reads its files again. */
let loads = 0;
let areHooksRegistered = false;

/** Loads and checks a plugin. Throws PLUGIN_LOAD_FAILED naming the file, the export and what is wrong. */
export async function loadPlugin(
  name: string,
  { file, isBundled }: PluginFile,
): Promise<AnyPlugin> {
  const isCompiled = isBundled && file.endsWith(".js");
  if (!isCompiled) registerModuleHooks();
  const url = pathToFileURL(file);
  if (!isCompiled) url.searchParams.set("nautilus", String(++loads));
  let exported: Record<string, unknown>;
  try {
    exported = await importModule(url.href);
  } catch (cause) {
    throw new NautilusError(
      "PLUGIN_LOAD_FAILED",
      { plugin: name, file, reason: importFault(cause) },
      cause,
    );
  }
  try {
    return checkExport(name, exported);
  } catch (cause) {
    const reason = errorMessage(cause);
    throw new NautilusError("PLUGIN_LOAD_FAILED", { plugin: name, file, reason }, cause);
  }
}

/** Reason and place of what went wrong in a module. */
function importFault(cause: unknown): string {
  if (!(cause instanceof Error)) return String(cause);
  const message = cause.message.replace(/\?nautilus=\d+/g, "");
  const place = /file:\/\/[^\s?)]+(?:\?nautilus=\d+)?:(\d+)/.exec(cause.stack ?? "");
  if (place === null) return message;
  const at = place[0].replace(/\?nautilus=\d+/, "").replace("file://", "");
  return message.includes(at) ? message : `${message} (${at})`;
}

function checkExport(name: string, exported: Record<string, unknown>): AnyPlugin {
  const plugin = exported.default;
  if (plugin === undefined) {
    const names = Object.keys(exported).join(", ") || "nothing";
    throw new Error(`it has no default export made with definePlugin (it exports ${names})`);
  }
  if (!isDefinedPlugin(plugin)) {
    throw new Error("its default export is not made with definePlugin({ name, hooks })");
  }
  if (plugin.name !== name) {
    throw new Error(`its default export has the name "${plugin.name}", not "${name}"`);
  }
  checkPlugin(plugin);
  return plugin;
}

/** Checks what the types promise, since plugins may be written without them. */
export function checkPlugin(plugin: AnyPlugin): void {
  if (typeof plugin.hooks !== "object" && typeof plugin.hooks !== "function") {
    throw new Error("its default export has no hooks");
  }
  if (plugin.hooks === null) throw new Error("its default export has no hooks");
  if (typeof plugin.hooks === "object") checkHooks(plugin.hooks);
  if (plugin.settings !== undefined) checkSettings(plugin.name, plugin.settings);
  for (const part of ["check", "start", "stop"] as const) {
    if (plugin[part] !== undefined && typeof plugin[part] !== "function") {
      throw new Error(`its default export: ${part} is no function`);
    }
  }
}

/** Throws naming an unknown hook and the nearest known one. */
export function checkHooks(hooks: object): void {
  for (const [hook, call] of Object.entries(hooks)) {
    if (!HOOK_NAMES.some((known) => known === hook)) {
      const near = nearest(hook, HOOK_NAMES, 1);
      const meant = near.length === 0 ? "" : `, did you mean ${near[0]}?`;
      throw new Error(`its default export: there is no hook "${hook}"${meant}`);
    }
    if (call !== undefined && typeof call !== "function") {
      throw new Error(`its default export: hooks.${hook} is no function`);
    }
  }
}

/** Once per process: costs a thread, so only where a plugin needs it. */
function registerModuleHooks(): void {
  if (areHooksRegistered) return;
  areHooksRegistered = true;
  const require = createRequire(import.meta.url);
  const stripper = require.resolve("@swc/wasm-typescript");
  const door = (name: string): string => {
    const url = new URL(`../${name}.${IS_SOURCE ? "ts?nautilus=0" : "js"}`, import.meta.url);
    return url.href;
  };
  const data: ModuleHooksData = {
    stripper,
    doors: {
      "nautilus-mq": door("index"),
      "nautilus-mq/plugin": door("plugin-api"),
      "nautilus-mq/testing": door("testing"),
    },
  };
  register(IS_SOURCE ? strippedHooks(require(stripper)) : "./module-hooks.js", import.meta.url, {
    data,
  });
}

function strippedHooks(stripper: {
  transformSync(source: string, options: object): { code: string };
}): string {
  const source = readFileSync(new URL("./module-hooks.ts", import.meta.url), "utf8");
  const { code } = stripper.transformSync(source, { mode: "strip-only" });
  return `data:text/javascript;base64,${Buffer.from(code).toString("base64")}`;
}
