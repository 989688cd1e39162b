/**
 * Hooks of Node's module loader for plugins; Node runs them in a thread of their own, see loader.ts.
 * They let a plugin be written in TypeScript, import the running broker from anywhere, and be loaded
 * again: a module's query `?nautilus=N` goes on to everything it imports by a relative path.
 */
import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { fileURLToPath } from "node:url";

export interface ModuleHooksData {
  /** What `nautilus-mq/plugin` and its like are in this process. */
  readonly doors: Readonly<Record<string, string>>;
  /** File of @swc/wasm-typescript. */
  readonly stripper: string;
}

interface Resolved {
  url: string;
  format?: string | null;
  shortCircuit?: boolean;
}
interface ModuleSource {
  format: string;
  source: string;
  shortCircuit: true;
}
interface ResolveContext {
  readonly parentURL?: string;
}
interface LoadContext {
  readonly format?: string | null;
}
type Strip = (
  source: string,
  options: { mode: "strip-only" | "transform"; filename: string; sourceMap?: boolean },
) => { code: string; map?: string };

/** What the stripper throws. */
interface StripFault {
  readonly code?: string;
  readonly message?: string;
  readonly snippet?: string;
  readonly startLine?: number;
}

const QUERY = "nautilus";

let doors: Readonly<Record<string, string>> = {};
let strip: Strip | undefined;

export function initialize(data: ModuleHooksData): void {
  doors = data.doors;
  const found = createRequire(data.stripper)(data.stripper) as { transformSync: Strip };
  strip = found.transformSync;
}

export async function resolve(
  specifier: string,
  context: ResolveContext,
  next: (specifier: string, context: ResolveContext) => Promise<Resolved>,
): Promise<Resolved> {
  const door = doors[specifier];
  if (door !== undefined) return { url: door, shortCircuit: true };
  const version = versionOf(context.parentURL);
  if (version === undefined || !/^(\.\.?\/|\/|file:)/.test(specifier)) {
    return next(specifier, context);
  }
  const found = await resolveFile(specifier, (candidate) => next(candidate, context));
  const url = new URL(found.url);
  if (url.protocol === "file:") url.searchParams.set(QUERY, version);
  return { ...found, url: url.href };
}

/** As written, else as TypeScript would find it: `./a.js` and `./a` are also `./a.ts`. */
async function resolveFile(
  specifier: string,
  next: (specifier: string) => Promise<Resolved>,
): Promise<Resolved> {
  const others = [
    specifier.replace(/\.js$/, ".ts"),
    `${specifier}.ts`,
    `${specifier}.js`,
    `${specifier}/index.ts`,
  ];
  try {
    return await next(specifier);
  } catch (notFound) {
    for (const other of others) {
      const found = await next(other).catch(() => undefined);
      if (found !== undefined) return found;
    }
    throw notFound;
  }
}

export async function load(
  url: string,
  context: LoadContext,
  next: (url: string, context: LoadContext) => Promise<unknown>,
): Promise<unknown> {
  if (versionOf(url) === undefined) return next(url, context);
  const path = fileURLToPath(url);
  if (/\.m?ts$/.test(path)) return moduleOf(stripTypes(await readFile(path, "utf8"), path));
  if (path.endsWith(".js") && context.format === "commonjs") {
    const source = await readFile(path, "utf8");
    // A folder without package.json: what a file says counts, not what Node assumes.
    if (/^\s*(import|export)\b/m.test(source)) return moduleOf(source);
  }
  return next(url, context);
}

function moduleOf(source: string): ModuleSource {
  return { format: "module", source, shortCircuit: true };
}

/** Types become blanks, so that lines and columns stay; enums and the like need a real translation. */
function stripTypes(source: string, filename: string): string {
  if (strip === undefined) throw new Error("the module hooks are not initialised");
  try {
    return strip(source, { mode: "strip-only", filename }).code;
  } catch (fault) {
    if ((fault as StripFault).code !== "UnsupportedSyntax") throw readable(fault, filename);
  }
  try {
    const { code, map = "" } = strip(source, { mode: "transform", filename, sourceMap: true });
    const inline = Buffer.from(map).toString("base64");
    return `${code}\n//# sourceMappingURL=data:application/json;base64,${inline}`;
  } catch (fault) {
    throw readable(fault, filename);
  }
}

function readable(fault: unknown, filename: string): Error {
  const { message = String(fault), startLine, snippet } = fault as StripFault;
  const line = startLine === undefined ? "" : `:${startLine}`;
  const shown = snippet === undefined ? "" : `: ${(snippet.split("\n")[0] ?? "").trim()}`;
  return new SyntaxError(`${filename}${line}: ${message}${shown}`);
}

function versionOf(url: string | undefined): string | undefined {
  if (url === undefined || !url.startsWith("file:")) return undefined;
  return new URL(url).searchParams.get(QUERY) ?? undefined;
}
