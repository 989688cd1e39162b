import { createHash } from "node:crypto";
import { readdir, readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import type { Logger } from "../../core/plugin-api.ts";
import type { CallEnd, LuaHost, Version } from "./host.ts";
import { readScript, scriptNames } from "./script-files.ts";
import { HookTimes } from "./script-stats.ts";
import type { LuaHook } from "./wire.ts";

/** Where a script comes from; scripts are asked in this order, within one kind by `key`. */
export type Origin = "script_dir" | "file" | "auth" | "command";

const ORDER: Readonly<Record<Origin, number>> = { script_dir: 0, file: 1, auth: 2, command: 3 };

/** A script that is loaded, over all its versions. */
export interface Script {
  readonly path: string;
  readonly origin: Origin;
  readonly key: string;
  version: Version;
  /** What was loaded, to see a change. */
  digest: string;
  readonly times: Map<string, HookTimes>;
  lastError: string | undefined;
  /** Digest of a new version that could not be loaded: it is not tried again until it changes. */
  refused: string | undefined;
}

export interface ScriptsOptions {
  readonly host: LuaHost;
  readonly log: Logger;
  readonly scriptDir: string;
  /** `vmq_diversity.keep_state` as it is now. */
  readonly keepState: () => boolean;
  /** `vmq_diversity.nr_lua_states`, where it was written. */
  readonly defaultStates: number | undefined;
  /** The hooks that the scripts have together may have changed. */
  readonly changed: () => void;
}

/** What to do about a call that failed. */
const HINTS: Readonly<Record<Exclude<CallEnd["kind"], "ok">, string>> = {
  error: "correct the script at that line; `vmq-admin script run` calls one hook by itself",
  timeout:
    "find out what the script waits for, or raise vmq_diversity.call_timeout; `vmq-admin script show` has its times",
  killed:
    "look for an endless loop or a growing table, or raise vmq_diversity.instruction_limit or memory_limit",
  busy: "let the script answer faster, give it more states (num_states), or raise vmq_diversity.max_queued_calls",
};

/** How often files are looked at. */
const WATCH_MS = 500;
/** Pause before a script is loaded again that wanted a server which is away. */
const RETRY_MS = 3_000;

/** The scripts: which are loaded, in which order, and what happens when their files change. */
export class Scripts {
  private readonly options: ScriptsOptions;
  /** In the order in which they are asked. */
  private list: Script[] = [];
  private byHook = new Map<string, readonly Script[]>();
  private readonly byVersion = new Map<number, Script>();
  private versions = 0;
  private isStopped = false;
  private turn: Promise<unknown> = Promise.resolve();
  private timer: NodeJS.Timeout | undefined;
  /** Modification times and sizes of all files that scripts were made of. */
  private stamp = "";
  private readonly reported = new Map<string, string>();
  /** Scripts whose files were not there at the last look. */
  private missing: ReadonlySet<string> = new Set();

  constructor(options: ScriptsOptions) {
    this.options = options;
  }

  all(): readonly Script[] {
    return this.list;
  }

  /** Scripts with a function for a hook, in the order in which they are asked. */
  of(hook: LuaHook): readonly Script[] {
    return this.byHook.get(hook) ?? NONE;
  }

  hooks(): Set<string> {
    return new Set(this.byHook.keys());
  }

  /** Notes the end of a call. */
  ended(version: Version, hook: LuaHook, end: CallEnd): void {
    const script = this.byVersion.get(version.number);
    if (script === undefined) return;
    let times = script.times.get(hook);
    if (times === undefined) {
      times = new HookTimes();
      script.times.set(hook, times);
    }
    times.add(end);
    if (end.kind === "ok") return;
    const message = end.failure?.message ?? "too many calls wait (vmq_diversity.max_queued_calls)";
    script.lastError = `${hook}: ${message}`;
    const traceback = end.failure?.traceback;
    this.options.log
      .limited(`script ${script.path} ${hook} ${end.kind}`, 1)
      .error("script failed", {
        script: script.path,
        hook,
        cause: message,
        ...(traceback ? { traceback } : {}),
        hint: HINTS[end.kind],
      });
  }

  /** Loads a script at its place. Rejects naming file, line and what is wrong. */
  load(path: string, origin: Origin, key = path): Promise<Script> {
    return this.inTurn(async () => {
      if (this.find(path) !== undefined) throw new Error(`${path} is loaded already`);
      const { version, digest } = await this.read(path);
      const script: Script = {
        path,
        origin,
        key,
        version,
        digest,
        times: new Map(),
        lastError: undefined,
        refused: undefined,
      };
      this.list = [...this.list, script].sort(byOrder);
      this.use(script, version);
      return script;
    });
  }

  /** Puts the file's present version in the place of the running one; on failure that stays. */
  reload(path: string): Promise<void> {
    return this.inTurn(() => this.exchange(path));
  }

  private async exchange(path: string): Promise<void> {
    const script = this.find(path);
    if (script === undefined) throw new Error(`${path} is not loaded`);
    const old = script.version;
    const { version, digest } = await this.read(path);
    script.version = version;
    script.digest = digest;
    script.refused = undefined;
    this.use(script, version);
    this.retire(old);
  }

  /** Takes a script out; running calls end on it. False = it is not loaded. */
  unload(path: string): Promise<boolean> {
    return this.inTurn(async () => {
      const script = this.find(path);
      if (script === undefined) return false;
      this.list = this.list.filter((other) => other !== script);
      this.index();
      this.retire(script.version);
      return true;
    });
  }

  private find(path: string): Script | undefined {
    return this.list.find((script) => script.path === path);
  }

  private async read(path: string): Promise<{ version: Version; digest: string }> {
    const source = await readScript(path);
    const { host, keepState, defaultStates } = this.options;
    const options = { keepState: keepState(), defaultStates };
    const version = await host.load(++this.versions, path, source, options);
    const digest = (await this.digestWithModules(path, version.modules)) ?? digestOf(source);
    return { version, digest };
  }

  private use(script: Script, version: Version): void {
    this.byVersion.set(version.number, script);
    this.index();
  }

  private retire({ number }: Version): void {
    this.options.host.retire(number);
    this.byVersion.delete(number);
  }

  private index(): void {
    const byHook = new Map<string, Script[]>();
    for (const script of this.list) {
      for (const hook of script.version.hooks) {
        byHook.set(hook, [...(byHook.get(hook) ?? []), script]);
      }
    }
    this.byHook = byHook;
    this.options.changed();
  }

  /** One change at a time. */
  private inTurn<T>(change: () => Promise<T>): Promise<T> {
    const done = this.turn.then(change, change);
    this.turn = done.catch(() => undefined);
    return done;
  }

  // ---- files

  /** Loads what is in the script folder now; a script that cannot be loaded is logged. */
  async loadFolder(): Promise<void> {
    for (const path of (await this.folderFiles()) ?? [])
      await this.tryLoad(path, "script_dir", path);
  }

  async tryLoad(path: string, origin: Origin, key: string): Promise<void> {
    try {
      const { version } = await this.load(path, origin, key);
      this.reported.delete(path);
      this.options.log.info("script loaded", {
        script: path,
        hooks: version.hooks.join(", "),
        states: version.numStates,
      });
    } catch (error) {
      this.report(path, "script cannot be loaded", error);
      this.againWhenAvailable(error, async () => {
        const isWanted = this.find(path) === undefined && (await stampOf(path)) !== "-";
        if (isWanted) await this.tryLoad(path, origin, key);
      });
    }
  }

  /** A script that asks a server while it is loaded is loaded when that server answers. */
  private againWhenAvailable(error: unknown, load: () => Promise<void>): void {
    const isAway = error instanceof Error && error.message.includes("unavailable: ");
    if (!isAway) return;
    setTimeout(() => {
      if (!this.isStopped) void load();
    }, RETRY_MS).unref();
  }

  /** Once per fault, not twice a second. */
  private report(path: string, what: string, error: unknown): void {
    const cause = error instanceof Error ? error.message : String(error);
    if (this.reported.get(path) === cause) return;
    this.reported.set(path, cause);
    this.options.log.error(what, { script: path, cause });
  }

  /** `vmq_diversity.watch`: new, changed and removed files take effect by themselves. */
  async watch(): Promise<void> {
    this.stamp = await this.stampNow((await this.folderFiles()) ?? []);
    let isLooking = false;
    this.timer = setInterval(() => {
      if (isLooking) return;
      isLooking = true;
      void this.look().finally(() => {
        isLooking = false;
      });
    }, WATCH_MS);
    this.timer.unref();
  }

  stop(): void {
    this.isStopped = true;
    clearInterval(this.timer);
  }

  private async look(): Promise<void> {
    const files = await this.folderFiles();
    if (files === undefined) return;
    await this.unloadMissing(files);
    const stamp = await this.stampNow(files);
    if (stamp === this.stamp) return;
    this.stamp = stamp;
    for (const script of [...this.list]) {
      if (!this.missing.has(script.path)) await this.reloadChanged(script);
    }
    for (const path of files) {
      if (this.find(path) === undefined) await this.tryLoad(path, "script_dir", path);
    }
  }

  /**
   * Scripts of the folder whose files are gone go at the second look: there is a moment without the file
   * while an editor saves it by renaming, or a deployment exchanges the folder.
   */
  private async unloadMissing(files: readonly string[]): Promise<void> {
    const before = this.missing;
    const gone = this.list.filter(
      ({ origin, path }) => origin === "script_dir" && !files.includes(path),
    );
    this.missing = new Set(gone.map(({ path }) => path));
    for (const { path } of gone) {
      if (!before.has(path) || !(await this.unload(path))) continue;
      this.options.log.info("script unloaded, its file is gone", { script: path });
    }
  }

  private async reloadChanged(script: Script): Promise<void> {
    const { path, version } = script;
    const digest = await this.digestWithModules(path, version.modules);
    // A file that cannot be read now is looked at again, whether or not it changes until then.
    if (digest === undefined) this.stamp = "";
    if (digest === undefined || digest === script.digest || digest === script.refused) return;
    try {
      await this.reload(path);
      this.reported.delete(path);
      this.options.log.info("script reloaded", {
        script: path,
        hooks: script.version.hooks.join(", "),
        states: script.version.numStates,
      });
    } catch (error) {
      script.refused = digest;
      script.lastError = error instanceof Error ? error.message : String(error);
      this.report(path, "the new version cannot be loaded, the old one goes on", error);
      this.againWhenAvailable(error, async () => {
        if (script.refused !== digest || this.find(path) !== script) return;
        script.refused = undefined;
        await this.reloadChanged(script);
      });
    }
  }

  /** What is in the folder; undefined when nobody knows, which is no reason to unload anything. */
  private async folderFiles(): Promise<string[] | undefined> {
    const { scriptDir } = this.options;
    try {
      const names = scriptNames(await readdir(scriptDir, { withFileTypes: true }));
      this.reported.delete(scriptDir);
      return names.map((name) => join(scriptDir, name));
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      // The folder is not there (any more): no scripts in it.
      if (code === "ENOENT" || code === "ENOTDIR") return [];
      this.report(scriptDir, "the script folder cannot be read, what is loaded goes on", error);
      return undefined;
    }
  }

  private async stampNow(inFolder: readonly string[]): Promise<string> {
    const files = new Set(inFolder);
    for (const { path, version } of this.list) {
      files.add(path);
      for (const file of version.modules) files.add(file);
    }
    const lines = [...files].map(async (file) => `${file} ${await stampOf(file)}`);
    return (await Promise.all(lines)).join("\n");
  }

  private async digestWithModules(
    path: string,
    modules: readonly string[],
  ): Promise<string | undefined> {
    try {
      return digestOf(...(await Promise.all([path, ...modules].map((file) => readFile(file)))));
    } catch {
      // A file that is gone for the moment or for ever.
      return undefined;
    }
  }
}

const NONE: readonly Script[] = [];

function byOrder(a: Script, b: Script): number {
  const kind = ORDER[a.origin] - ORDER[b.origin];
  if (kind !== 0 || a.origin === "command") return kind;
  return a.key < b.key ? -1 : a.key > b.key ? 1 : 0;
}

async function stampOf(file: string): Promise<string> {
  try {
    // The change time tells of a new mode or owner.
    const { mtimeMs, ctimeMs, size, ino } = await stat(file);
    return `${mtimeMs} ${ctimeMs} ${size} ${ino}`;
  } catch {
    return "-";
  }
}

function digestOf(...sources: readonly Buffer[]): string {
  const hash = createHash("sha256");
  for (const source of sources) hash.update(String(source.length)).update(source);
  return hash.digest("base64");
}
