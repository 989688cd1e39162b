import { existsSync, readdirSync, readFileSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { LuaFactory } from "wasmoon";
import type { SettingsContext } from "../../core/plugin-api.ts";
import type { Origin } from "./scripts.ts";

/** A script that the configuration names. */
export interface NamedScript {
  readonly path: string;
  readonly origin: Origin;
  /** Its place among those of one origin. */
  readonly key: string;
  /** The setting that names it. */
  readonly setting: string;
}

const DATABASES = ["cockroachdb", "mongodb", "mysql", "mysql2", "postgres", "redis"] as const;

/** The scripts that come with the broker: lua/ beside plugins/, in the sources as in dist/. */
export function bundledFolder(): string {
  const candidates = ["../../lua/", "../../../lua/"].map((path) =>
    fileURLToPath(new URL(path, import.meta.url)),
  );
  return (candidates.find((path) => existsSync(path)) ?? (candidates[0] as string)).replace(
    /\/$/,
    "",
  );
}

/** `vmq_diversity.script_dir`. */
export function scriptFolder(context: SettingsContext): string {
  return pathOf(context, "script_dir", bundledFolder());
}

/** Scripts by `vmq_diversity.<name>.file`, then the bundled ones that are switched on. */
export function namedScripts(context: SettingsContext): NamedScript[] {
  const files = context.keysBelow("vmq_diversity.").flatMap((setting): NamedScript[] => {
    const key = /^vmq_diversity\.([^.]+)\.file$/.exec(setting)?.[1];
    if (key === undefined) return [];
    const path = context.resolvePath(String(context.config(setting)));
    return [{ path, origin: "file", key, setting }];
  });
  const databases = DATABASES.flatMap((key): NamedScript[] => {
    if (context.config(`vmq_diversity.auth_${key}.enabled`) !== true) return [];
    const setting = `auth_${key}.script`;
    const path = pathOf(context, setting, `${bundledFolder()}/auth/${key}.lua`);
    return [{ path, origin: "auth", key, setting: `vmq_diversity.${setting}` }];
  });
  return [...files.sort((a, b) => (a.key < b.key ? -1 : 1)), ...databases];
}

/** Paths of the configuration that nobody wrote mean the bundled files. */
function pathOf(context: SettingsContext, setting: string, bundled: string): string {
  const key = `vmq_diversity.${setting}`;
  const isWritten = context.keysBelow("vmq_diversity.").includes(key);
  const given = String(context.config(key) ?? "");
  const own = context.resolvePath(given);
  return isWritten || existsSync(own) ? own : bundled;
}

/** The text of a script. Rejects naming the path. */
export async function readScript(path: string): Promise<Buffer> {
  try {
    return await readFile(path);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === "EISDIR") throw new Error(`${path} is a folder and no script`, { cause: error });
    throw error;
  }
}

/** The scripts among the entries of a folder. */
export function scriptNames(
  entries: readonly { name: string; isDirectory(): boolean }[],
): string[] {
  return entries
    .filter((entry) => !entry.isDirectory() && entry.name.endsWith(".lua"))
    .map(({ name }) => name)
    .sort();
}

/**
 * For `vernemq config check`: throws naming all scripts that cannot be read or compiled. None of them
 * runs: what they do at their start, such as opening a pool, is not tried.
 */
export async function checkScripts(context: SettingsContext): Promise<void> {
  const folder = scriptFolder(context);
  const inFolder = existsSync(folder) ? readdirSync(folder, { withFileTypes: true }) : [];
  const scripts = [
    ...scriptNames(inFolder).map((name) => ({
      path: join(folder, name),
      setting: "vmq_diversity.script_dir",
    })),
    ...namedScripts(context),
  ];
  const lua = await new LuaFactory().createEngine();
  const faults: string[] = [];
  for (const { path, setting } of scripts) {
    try {
      lua.global.loadString(readFileSync(path, "utf8"), `@${path}`);
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      faults.push(`${context.originOf(setting)}: ${reason}`);
    }
  }
  lua.global.close();
  if (faults.length > 0) throw new Error(faults.join("\n"));
}
