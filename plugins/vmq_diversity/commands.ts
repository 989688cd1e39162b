import type { PluginCommand } from "../../core/plugin-api.ts";
import type { AuthCache } from "./auth-cache.ts";
import { cacheCommands } from "./cache-commands.ts";
import { checkScript, runScript } from "./offline.ts";
import type { Script, Scripts } from "./scripts.ts";

type Args = ReadonlyMap<string, string>;

export interface CommandParts {
  readonly scripts: Scripts;
  readonly cache: AuthCache;
  /** A path as it was typed. */
  readonly resolve: (path: string) => string;
  readonly offline: Parameters<typeof checkScript>[1];
}

/** `vmq-admin script ...` */
export function scriptCommands(parts: CommandParts): PluginCommand[] {
  const { scripts, cache, resolve } = parts;
  const pathOf = (args: Args): string => {
    const path = args.get("path");
    if (path === undefined || path === "") throw new Error("path is missing: path=FILE");
    return resolve(path);
  };
  const answered = async (done: Promise<unknown>, yes: string, no: string): Promise<string> => {
    try {
      await done;
      return `${yes}\n`;
    } catch (error) {
      throw new Error(`${no}\n${error instanceof Error ? error.message : String(error)}`);
    }
  };
  return [
    {
      path: ["script", "load"],
      usage: "script load path=FILE",
      words: ["path"],
      help: "loads a script behind those that are loaded, until the next restart",
      run: (args) =>
        answered(
          scripts.load(pathOf(args), "command"),
          "Script successfully loaded!",
          "Can't load script!",
        ),
    },
    {
      path: ["script", "reload"],
      usage: "script reload path=FILE",
      words: ["path"],
      help: "loads a script's file again; when that fails, the old version goes on",
      run: (args) =>
        answered(
          scripts.reload(pathOf(args)),
          "Script successfully reloaded!",
          "Can't reload script!",
        ),
    },
    {
      path: ["script", "unload"],
      usage: "script unload path=FILE",
      words: ["path"],
      help: "takes a script out; running calls end on it",
      run: (args) => {
        const path = pathOf(args);
        const unloaded = scripts.unload(path).then((isDone) => {
          if (!isDone) throw new Error(`${path} is not loaded`);
        });
        return answered(unloaded, "Script successfully unloaded!", "Can't unload script!");
      },
    },
    {
      path: ["script", "show"],
      usage: "script show [path=FILE]",
      help: "scripts with their hooks: calls, errors, mean and 99th percentile, last error",
      run: (args) => {
        const path = args.get("path");
        const wanted = path === undefined ? undefined : resolve(path);
        const shown = scripts
          .all()
          .filter((script) => wanted === undefined || script.path === wanted);
        return { columns: COLUMNS, rows: shown.flatMap(rowsOf) };
      },
    },
    ...cacheCommands(cache),
    {
      path: ["script", "check"],
      usage: "script check path=FILE",
      words: ["path"],
      help: "loads a script apart from the running ones and names what is wrong with it",
      run: (args) => checkScript(pathOf(args), parts.offline),
    },
    {
      path: ["script", "run"],
      usage: "script run path=FILE hook=HOOK args=JSON",
      words: ["path", "hook", "args"],
      help: "calls one hook of a script apart from the running ones and prints its answer",
      run: (args) =>
        runScript(pathOf(args), args.get("hook") ?? "", args.get("args") ?? "{}", parts.offline),
    },
  ];
}

const COLUMNS = [
  ...["script", "states", "keep_state", "hook", "calls", "errors"],
  ...["mean µs", "p99 µs", "last error"],
];

/** One row for each hook of a script; a script without hooks has one, too. */
function rowsOf({
  path,
  version,
  times,
  lastError,
}: Script): (string | number | boolean | null)[][] {
  const hooks = version.hooks.length === 0 ? [null] : version.hooks;
  return hooks.map((hook) => {
    const hookTimes = hook === null ? undefined : times.get(hook);
    return [
      path,
      version.numStates,
      version.keepState,
      hook ?? "",
      hookTimes?.calls ?? 0,
      hookTimes?.failures ?? 0,
      Math.round(hookTimes?.meanUs ?? 0),
      Math.round(hookTimes?.quantileUs(0.99) ?? 0),
      lastError ?? "",
    ];
  });
}
