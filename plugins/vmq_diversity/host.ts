import type { HookArgs, Logger } from "../../core/plugin-api.ts";
import { type Obfuscate, writeCall } from "./hook-args.ts";
import type { LoadRequest, ServiceRequest, WorkerOptions, WorkerStats } from "./messages.ts";
import type { Services } from "./services.ts";
import { BEGUN_MARKS, LuaThread } from "./thread.ts";
import type { ClonedTable } from "./verdicts.ts";
import {
  LUA_HOOKS,
  type LuaHook,
  RESULT_ERROR,
  RESULT_FALSE,
  RESULT_KILLED,
  RESULT_NEXT,
  RESULT_TABLE,
  RESULT_TRUE,
  type ResultBatch,
  type ScriptFailure,
} from "./wire.ts";

/** How a call ended, for the hook. */
export type Answer =
  | boolean
  | undefined
  | ClonedTable
  /** An error in the script. */
  | "script_error"
  /** A limit, a full queue, a lost thread: the plugin could not answer. */
  | "failed";

/** A loaded version of a script. */
export interface Version {
  readonly number: number;
  readonly path: string;
  readonly hooks: readonly string[];
  readonly numStates: number;
  readonly keepState: boolean;
  /** Files that it read with `require` and its like. */
  readonly modules: readonly string[];
}

export interface HostOptions {
  readonly log: Logger;
  readonly services: Services;
  readonly obfuscate: Obfuscate;
  readonly worker: Omit<WorkerOptions, "progress" | "begun" | "thread">;
  /** Calls of one script that may wait or run. `vmq_diversity.max_queued_calls` */
  readonly queuedMax: number;
  readonly scriptDir: string;
  readonly bundledDir: string;
  /** What a call did: for the script's numbers. */
  readonly ended: (version: Version, hook: LuaHook, end: CallEnd) => void;
}

export interface CallEnd {
  readonly ms: number;
  readonly kind: "ok" | "error" | "timeout" | "killed" | "busy";
  readonly failure?: ScriptFailure;
}

interface Pending {
  readonly id: number;
  readonly version: Version;
  readonly hook: LuaHook;
  readonly args: HookArgs[LuaHook];
  readonly startMs: number;
  readonly done: ((answer: Answer, call: number) => void) | undefined;
  readonly thread: number;
  /** Told why before `done` is called. */
  readonly failed?: (reason: ScriptFailure) => void;
}

const SWEEP_MS = 50;
/** A thread that gives no sign of life for so long is replaced; at most half the time of a call. */
const STUCK_MS = 2_000;
/** Collecting garbage, or loading a driver, may take a while on a busy machine. */
const STUCK_MIN_MS = 500;
/** First pause before a thread that died at once is started again; doubles up to the last. */
const RESTART_MIN_MS = 100;
const RESTART_MAX_MS = 30_000;

/**
 * The worker threads and the calls on their way. Everybody is answered: by the script, or after
 * `call_timeout` at the latest. A thread that does not come back to its loop is replaced; calls it had not
 * begun are sent to the new one, those it had begun have failed.
 */
export class LuaHost {
  private readonly options: HostOptions;
  private readonly threads: LuaThread[] = [];
  /** In the order of their start, which is that of their deadlines. */
  private readonly pending = new Map<number, Pending>();
  private readonly perVersion = new Map<number, number>();
  private readonly versions = new Map<number, { version: Version; request: LoadRequest }>();
  private readonly restarts: number[] = [];
  private readonly sweep: NodeJS.Timeout;
  private lastId = 0;
  private lastRequest = 0;
  private turn = 0;
  private nowMs = 0;
  private isStopped = false;
  threadsReplaced = 0;

  constructor(options: HostOptions) {
    this.options = options;
    this.sweep = setInterval(() => this.look(), SWEEP_MS);
    this.sweep.unref();
  }

  /** Resolves when all threads run. */
  async start(): Promise<void> {
    for (let i = 0; i < this.options.worker.threads; i++) this.threads[i] = this.startThread(i);
    try {
      await Promise.all(this.threads.map((thread) => thread.ready));
    } catch (error) {
      await this.stop();
      throw error;
    }
  }

  private startThread(index: number): LuaThread {
    const startedMs = performance.now();
    const thread: LuaThread = new LuaThread(
      { ...this.options.worker, thread: index },
      {
        results: (batch) => this.settle(batch),
        message: (message) => {
          if (message.type === "ask") this.serve(thread, message);
          else if (message.type === "log") {
            const { level, message: text, fields, script } = message;
            this.options.log[level](text, { ...(script ? { script } : {}), ...fields });
          }
        },
        died: (reason) => {
          if (!this.isStopped) this.replace(index, reason, performance.now() - startedMs);
        },
      },
    );
    return thread;
  }

  private serve(thread: LuaThread, { request, service, args, script, id }: ServiceRequest): void {
    const reply = (answer: { value?: unknown; fault?: string }): void => {
      if (request !== 0) thread.send({ type: "answer", request, ...answer });
    };
    const failed = (error: unknown): void =>
      reply({ fault: error instanceof Error ? error.message : String(error) });
    const run = this.options.services[service];
    if (run === undefined) {
      failed(new Error(`there is no service ${service}`));
      return;
    }
    try {
      const value = run(args, { script, id, args: this.pending.get(id)?.args });
      if (value instanceof Promise) value.then((late) => reply({ value: late }), failed);
      else reply({ value });
    } catch (error) {
      failed(error);
    }
  }

  // ---- scripts

  /** Loads a script into all threads; rejects with `file:line: message` and leaves nothing behind. */
  async load(
    number: number,
    path: string,
    source: Uint8Array,
    options: { keepState: boolean; defaultStates: number | undefined },
  ): Promise<Version> {
    const { scriptDir, bundledDir } = this.options;
    const request: LoadRequest = {
      type: "load",
      request: ++this.lastRequest,
      version: number,
      path,
      source,
      scriptDir,
      bundledDir,
      ...options,
    };
    const answers = await Promise.all(this.threads.map((thread) => thread.load(request)));
    const fault = answers.find((answer) => answer.fault !== undefined)?.fault;
    if (fault !== undefined) {
      this.retire(number);
      throw new Error(fault);
    }
    const { hooks = [], numStates = 1, keepState = false, modules = [] } = answers[0] ?? {};
    const version: Version = { number, path, hooks, numStates, keepState, modules };
    this.versions.set(number, { version, request });
    return version;
  }

  /** Running calls end; then the version's states are freed. */
  retire(number: number): void {
    this.versions.delete(number);
    for (const thread of this.threads) thread.send({ type: "retire", version: number });
  }

  // ---- calls

  /** Calls a hook of a script; `done` is called once, later. */
  ask<H extends LuaHook>(
    version: Version,
    hook: H,
    args: HookArgs[H],
    done: (answer: Answer, call: number) => void,
  ): void {
    if (!this.begin(version, hook, args, done)) done("failed", 0);
  }

  /** Calls a hook with an argument table as it is; for trying out a script. */
  askRaw(
    version: Version,
    hook: LuaHook,
    table: object,
    done: (answer: Answer, failure: ScriptFailure | undefined) => void,
  ): void {
    let failure: ScriptFailure | undefined;
    const id = this.nextId();
    const call: Pending = {
      id,
      version,
      hook,
      args: table as never,
      startMs: performance.now(),
      done: (answer) => done(answer, failure),
      failed: (reason) => {
        failure = reason;
      },
      thread: 0,
    };
    this.pending.set(id, call);
    const target = this.threads[0] as LuaThread;
    target.batch.object(id, version.number, LUA_HOOKS.indexOf(hook), table);
  }

  /** Calls a hook whose answer nobody waits for; false when there is no room. */
  tell<H extends LuaHook>(version: Version, hook: H, args: HookArgs[H]): boolean {
    return this.begin(version, hook, args, undefined);
  }

  private begin(
    version: Version,
    hook: LuaHook,
    args: HookArgs[LuaHook],
    done: Pending["done"],
  ): boolean {
    const running = this.perVersion.get(version.number) ?? 0;
    if (running >= this.options.queuedMax || this.pending.size >= BEGUN_MARKS / 2) {
      this.options.ended(version, hook, { ms: 0, kind: "busy" });
      return false;
    }
    this.perVersion.set(version.number, running + 1);
    if (this.nowMs === 0) this.readClock();
    const id = this.nextId();
    const threads = Math.min(version.numStates, this.threads.length);
    const thread = threads === 1 ? 0 : this.turn++ % threads;
    const call = { id, version, hook, args, startMs: this.nowMs, done, thread };
    this.pending.set(id, call);
    this.send(call);
    return true;
  }

  private send({ id, version, hook, args, thread }: Pending): void {
    const target = this.threads[thread] as LuaThread;
    target.unmark(id);
    writeCall(target.batch, id, version.number, hook, args, this.options.obfuscate);
  }

  private nextId(): number {
    this.lastId = this.lastId >= 0x7fff_fffe ? 1 : this.lastId + 1;
    return this.lastId;
  }

  /** One reading of the clock serves all calls of a turn. */
  private readClock(): void {
    this.nowMs = performance.now();
    setImmediate(() => {
      this.nowMs = 0;
    });
  }

  private settle({ results, values }: ResultBatch): void {
    const nowMs = performance.now();
    let next = 0;
    for (let i = 0; i < results.length; i += 2) {
      const id = results[i] as number;
      const result = results[i + 1] as number;
      const value = result >= RESULT_TABLE ? values[next++] : undefined;
      const call = this.pending.get(id);
      // It may have been given up.
      if (call !== undefined) this.finish(call, result, value, nowMs);
    }
  }

  private finish(call: Pending, result: number, value: unknown, nowMs: number): void {
    const { version, hook, done, id } = call;
    this.drop(call);
    const ms = nowMs - call.startMs;
    const { ended } = this.options;
    if (result === RESULT_ERROR || result === RESULT_KILLED) call.failed?.(value as ScriptFailure);
    switch (result) {
      case RESULT_ERROR:
        ended(version, hook, { ms, kind: "error", failure: value as ScriptFailure });
        done?.("script_error", id);
        return;
      case RESULT_KILLED:
        ended(version, hook, { ms, kind: "killed", failure: value as ScriptFailure });
        done?.("failed", id);
        return;
    }
    ended(version, hook, { ms, kind: "ok" });
    if (done === undefined) return;
    if (result === RESULT_TRUE) done(true, id);
    else if (result === RESULT_FALSE) done(false, id);
    else if (result === RESULT_NEXT) done(undefined, id);
    else done(value as ClonedTable, id);
  }

  private drop({ id, version }: Pending): void {
    this.pending.delete(id);
    const left = (this.perVersion.get(version.number) ?? 1) - 1;
    if (left === 0) this.perVersion.delete(version.number);
    else this.perVersion.set(version.number, left);
  }

  // ---- what does not come back

  private look(): void {
    const nowMs = performance.now();
    const { callTimeoutMs } = this.options.worker;
    for (const call of this.pending.values()) {
      if (nowMs - call.startMs < callTimeoutMs) break;
      this.threads[call.thread]?.send({ type: "cancel", id: call.id });
      const message = `no answer within ${callTimeoutMs} ms (vmq_diversity.call_timeout)`;
      this.fail(call, "timeout", message, nowMs);
    }
    const stuckMs = Math.max(STUCK_MIN_MS, Math.min(STUCK_MS, callTimeoutMs / 2));
    for (const thread of this.threads) {
      if (thread.isStuck(nowMs, stuckMs)) void thread.end(this.stuckReason(thread));
    }
  }

  private stuckReason(thread: LuaThread): string {
    const { call, version } = thread.running;
    const found = this.pending.get(call);
    // What fails a call names its script already.
    const other = this.versions.get(version)?.version.path ?? "a script";
    return `${found?.hook ?? other} did not come back to the interpreter's loop: look for a pattern, string.rep or sort order without end`;
  }

  private fail(call: Pending, kind: "timeout" | "killed", message: string, nowMs: number): void {
    this.drop(call);
    const ms = nowMs - call.startMs;
    const failure = { message: `${call.version.path}: ${message}`, traceback: "" };
    this.options.ended(call.version, call.hook, { ms, kind, failure });
    call.failed?.(failure);
    call.done?.("failed", call.id);
  }

  private replace(index: number, reason: string, livedMs: number): void {
    const old = this.threads[index] as LuaThread;
    const { log } = this.options;
    this.threadsReplaced++;
    log.error("a Lua thread is replaced", { thread: index, cause: reason });
    const nowMs = performance.now();
    const culprit = old.running.call;
    for (const call of [...this.pending.values()]) {
      if (call.thread !== index) continue;
      // An event's message is gone by now.
      const isTrial = call.failed !== undefined;
      const isLost = call.done === undefined || isTrial || old.hasBegun(call.id);
      if (call.id === culprit) this.fail(call, "killed", reason, nowMs);
      else if (isLost) this.fail(call, "killed", "lost with its thread", nowMs);
    }
    const wasShort = livedMs < RESTART_MAX_MS;
    const pauseMs = wasShort ? Math.min((this.restarts[index] ?? 0) * 2, RESTART_MAX_MS) : 0;
    this.restarts[index] = Math.max(pauseMs, RESTART_MIN_MS);
    const start = (): void => {
      if (this.isStopped) return;
      this.threads[index] = this.startThread(index);
      for (const { request } of this.versions.values()) {
        void this.threads[index]
          .load({ ...request, request: ++this.lastRequest })
          .then((answer) => {
            if (answer.fault === undefined || this.isStopped) return;
            log.error("a script could not be loaded again", { cause: answer.fault });
          });
      }
      // Those that had not begun, and those that came while there was no thread.
      for (const call of [...this.pending.values()]) {
        if (call.thread !== index) continue;
        if (call.done !== undefined && call.failed === undefined) this.send(call);
        else this.fail(call, "killed", "there was no thread for it", performance.now());
      }
    };
    if (pauseMs === 0) start();
    else setTimeout(start, pauseMs).unref();
  }

  // ---- numbers

  /** The newest numbers of each thread. */
  stats(): WorkerStats[] {
    return this.threads.map(({ stats }) => stats).filter((stats) => stats !== undefined);
  }

  /** Calls that wait or run, of one version or all. */
  callsOf(version: number): number {
    return this.perVersion.get(version) ?? 0;
  }

  get calls(): number {
    return this.pending.size;
  }

  async stop(): Promise<void> {
    this.isStopped = true;
    clearInterval(this.sweep);
    for (const call of [...this.pending.values()]) {
      this.drop(call);
      call.done?.("failed", call.id);
    }
    await Promise.all(this.threads.map((thread) => thread.end("the broker stops")));
  }
}
