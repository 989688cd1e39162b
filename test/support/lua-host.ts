import { randomBytes } from "node:crypto";
import { join } from "node:path";
import { createLogger } from "../../core/logger.ts";
import { AuthCache } from "../../plugins/vmq_diversity/auth-cache.ts";
import { cacheServices, kvServices } from "../../plugins/vmq_diversity/broker-services.ts";
import { type CallEnd, LuaHost, type Version } from "../../plugins/vmq_diversity/host.ts";
import { KvStore } from "../../plugins/vmq_diversity/kv.ts";
import { Obfuscator } from "../../plugins/vmq_diversity/libs/obf.ts";
import { type ClonedValue, plain } from "../../plugins/vmq_diversity/verdicts.ts";
import { tempDir } from "./broker.ts";
import { built, ROOT } from "./build.ts";
import { atEnd, type Scope } from "./cleanup.ts";

export interface TestHost {
  readonly host: LuaHost;
  readonly cache: AuthCache;
  /** How calls ended. */
  readonly ends: CallEnd[];
  load(source: string, options?: { keepState?: boolean; states?: number }): Promise<Version>;
  /** Runs Lua code in a state of its own; gives what it returns as JavaScript. Rejects with its error. */
  run(code: string): Promise<unknown>;
  /** Calls auth_on_publish of a loaded script. */
  call(version: Version, args?: object): Promise<unknown>;
}

/** Lua threads without a broker: for libraries, limits and the sandbox. */
export async function startHost(
  options: {
    settings?: Readonly<Record<string, string | number | boolean>>;
    callTimeoutMs?: number;
    instructionLimit?: number;
    memoryLimit?: number;
    threads?: number;
    queuedMax?: number;
    folder?: string;
    scope?: Scope;
    /** Takes the lines of the log, JSON. */
    logged?: (line: string) => void;
  } = {},
): Promise<TestHost> {
  await built();
  const { scope = "file" } = options;
  const folder = options.folder ?? tempDir(scope);
  const secret = randomBytes(32);
  const obfuscator = new Obfuscator(secret);
  const { logged } = options;
  const log =
    logged === undefined
      ? createLogger({ level: "silent" })
      : createLogger({ level: "debug", format: "json", destination: { write: logged } });
  const cache = new AuthCache({ log, topicMaxDepth: 10 });
  const ends: CallEnd[] = [];
  const host = new LuaHost({
    log,
    services: { ...kvServices(new KvStore(), log), ...cacheServices(cache) },
    obfuscate: (bytes) => obfuscator.hide(bytes),
    queuedMax: options.queuedMax ?? 10_000,
    scriptDir: folder,
    bundledDir: join(ROOT, "lua"),
    worker: {
      threads: options.threads ?? 1,
      secret,
      settings: new Map(Object.entries(options.settings ?? {})),
      instructionLimit: options.instructionLimit ?? 100_000_000,
      memoryLimit: options.memoryLimit ?? 64 * 1024 * 1024,
      callTimeoutMs: options.callTimeoutMs ?? 10_000,
    },
    ended: (_version, _hook, end) => ends.push(end),
  });
  atEnd(() => host.stop(), scope);
  await host.start();
  let versions = 0;
  const test: TestHost = {
    host,
    cache,
    ends,
    load: (source, { keepState = false, states } = {}) => {
      const number = ++versions;
      const load = { keepState, defaultStates: states };
      return host.load(number, join(folder, `script${number}.lua`), Buffer.from(source), load);
    },
    run: async (code) => {
      const hook = `hooks = { auth_on_publish = function(args) return { (function() ${code} end)() } end }`;
      const version = await test.load(hook, { states: 1 });
      try {
        return await test.call(version);
      } finally {
        host.retire(version.number);
      }
    },
    call: (version, args = {}) =>
      new Promise((resolve, reject) => {
        host.askRaw(version, "auth_on_publish", args, (answer, failure) => {
          if (failure !== undefined) reject(new Error(failure.message));
          else resolve(resultOf(answer as ClonedValue));
        });
      }),
  };
  return test;
}

/** The value in `{ value }`; strings as text. */
function resultOf(answer: ClonedValue): unknown {
  if (typeof answer !== "object" || !("array" in answer)) return answer;
  const value = plain(answer, false);
  if (Object.keys(value as object).length === 0) return undefined;
  return Array.isArray(value) && value.length === 1 ? value[0] : value;
}
