import { nearest } from "../../core/plugin-api.ts";
import { type HostOptions, LuaHost, type Version } from "./host.ts";
import { readScript } from "./script-files.ts";
import type { Services } from "./services.ts";
import { isTable, plain, refusal, verdictOfTable } from "./verdicts.ts";
import { LUA_HOOKS, type LuaHook } from "./wire.ts";

export interface OfflineOptions extends Omit<HostOptions, "ended" | "services"> {
  /** Made anew for each script that is tried. */
  readonly services: () => Services;
}

/** Loads a script in a thread of its own. Rejects with `file:line: message`; gives what it found. */
export async function checkScript(path: string, options: OfflineOptions): Promise<string> {
  return apart(path, options, async (_, { hooks, numStates, keepState }) => {
    const unknown = hooks.filter((hook) => !LUA_HOOKS.some((known) => known === hook));
    const warnings = unknown.map((hook) => {
      const [near] = nearest(hook, LUA_HOOKS, 1);
      return `${path}: hooks.${hook}: there is no such hook${near ? `, did you mean ${near}?` : ""}\n`;
    });
    if (warnings.length > 0) throw new Error(warnings.join("").trimEnd());
    const states = `${numStates} states, ${keepState ? "kept" : "not kept"} between calls`;
    return `${path}: ok\nhooks: ${hooks.join(", ") || "none"}\n${states}\n`;
  });
}

/** Calls a hook with an argument table written as JSON. Gives its answer and what the broker makes of it. */
export async function runScript(
  path: string,
  hook: string,
  json: string,
  options: OfflineOptions,
): Promise<string> {
  if (hook === "") throw new Error("hook is missing: hook=HOOK, such as hook=auth_on_register");
  const known = LUA_HOOKS.find((name) => name === hook);
  if (known === undefined) {
    const [near] = nearest(hook, LUA_HOOKS, 1);
    const hint =
      near === undefined ? `; there are ${LUA_HOOKS.join(", ")}` : `, did you mean ${near}?`;
    throw new Error(`"${hook}" is no hook${hint}`);
  }
  const args = withHiddenPassword(parseArgs(json), options);
  return apart(path, options, async (host, version) => {
    if (!version.hooks.includes(hook)) {
      throw new Error(
        `${path} has no function for ${hook}; it has ${version.hooks.join(", ") || "no hooks"}`,
      );
    }
    return new Promise((resolve, reject) => {
      host.askRaw(version, known, args, (answer, failure) => {
        if (failure !== undefined) {
          const trace = failure.traceback === "" ? "" : `\n${failure.traceback}`;
          reject(new Error(`${failure.message}${trace}`));
        } else resolve(answerText(known, answer));
      });
    });
  });
}

function parseArgs(json: string): object {
  let args: unknown;
  try {
    args = JSON.parse(json);
  } catch (error) {
    throw new Error(`the arguments are no JSON: ${error instanceof Error ? error.message : ""}`);
  }
  if (typeof args !== "object" || args === null || Array.isArray(args)) {
    throw new Error('the arguments must be a JSON object, such as {"client_id": "c"}');
  }
  return args;
}

/** Scripts get passwords encrypted; whoever types one writes it as it is. */
function withHiddenPassword(args: object, { obfuscate }: OfflineOptions): object {
  const { password } = args as { password?: unknown };
  if (typeof password !== "string") return args;
  return { ...args, password: Uint8Array.from(obfuscate(Buffer.from(password))) };
}

function answerText(hook: LuaHook, answer: unknown): string {
  if (answer === true) return "true\nverdict: ok\n";
  if (answer === false) return `false\nverdict: error ${refusal(hook).error}\n`;
  if (typeof answer !== "object" || answer === null || !isTable(answer as never)) {
    return "nil\nverdict: next\n";
  }
  const verdict = verdictOfTable(hook, answer as never, {});
  return `${JSON.stringify(plain(answer as never, false))}\nverdict: ${JSON.stringify(verdict)}\n`;
}

async function apart<T>(
  path: string,
  options: OfflineOptions,
  work: (host: LuaHost, version: Version) => Promise<T>,
): Promise<T> {
  const host = new LuaHost({
    ...options,
    services: options.services(),
    worker: { ...options.worker, threads: 1 },
    ended: () => undefined,
  });
  try {
    await host.start();
    const load = { keepState: false, defaultStates: 1 };
    return await work(host, await host.load(1, path, await readScript(path), load));
  } finally {
    await host.stop();
  }
}
