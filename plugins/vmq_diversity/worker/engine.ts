import { forClone } from "../clone.ts";
import { RUNNING_CALL, RUNNING_VERSION, TURNS } from "../messages.ts";
import {
  type CallBatch,
  FLAG_OBJECT,
  FLAG_PROPERTIES,
  getU32,
  HEAD_BYTES,
  LUA_HOOKS,
  RESULT_ERROR,
  RESULT_FALSE,
  RESULT_KILLED,
  RESULT_NEXT,
  RESULT_TABLE,
  RESULT_TRUE,
  type ResultBatch,
  type ScriptFailure,
} from "../wire.ts";
import { ObjectArguments, PublishArguments, publishBytes } from "./args.ts";
import type { HookArguments } from "./fields.ts";
import { isTable, type LuaResult } from "./library.ts";
import type { LuaApi } from "./lua-api.ts";
import type { Marshal } from "./marshal.ts";
import type { LuaRuntime } from "./runtime.ts";
import { type Call, ScriptVersion } from "./script.ts";
import type { LuaState, Outcome } from "./state.ts";

/** Work of one turn; then the thread looks at its messages and sockets. */
const TURN_MS = 2;
/** Answers leave so often, so that the broker works on them meanwhile. */
const FLUSH_MS = 0.3;
/** Short calls between two looks at the clock. */
const CLOCK_EVERY = 8;
/** A library must answer somewhat before the caller gives up, to say why it could not. */
const DEADLINE_PART = 0.9;

export interface EngineParts {
  readonly api: LuaApi;
  readonly marshal: Marshal;
  readonly runtime: LuaRuntime;
  readonly callTimeoutMs: number;
  readonly progress: Int32Array;
  readonly begun: Uint8Array;
  post(batch: ResultBatch, transfer: readonly ArrayBuffer[]): void;
}

interface Ready {
  readonly state: LuaState;
  readonly then: (end: Outcome) => void;
}

/** Runs the calls of one worker thread: begins them in order, shares the thread among those that last. */
export class Engine {
  readonly versions = new Map<number, ScriptVersion>();
  private readonly parts: EngineParts;
  private readonly calls = new Map<number, Call>();
  /** States that can go on. */
  private readonly ready: Ready[] = [];
  private readonly withWork = new Set<ScriptVersion>();
  private isScheduled = false;
  private results: number[] = [];
  private values: unknown[] = [];

  constructor(parts: EngineParts) {
    this.parts = parts;
  }

  createVersion(number: number, source: ScriptVersion["source"]): ScriptVersion {
    const version: ScriptVersion = new ScriptVersion(number, source, this.parts.runtime, {
      run: (state, outcome, then) => this.follow(state, outcome, then),
      idle: () => this.wake(version),
    });
    this.versions.set(number, version);
    return version;
  }

  retire(number: number): void {
    const version = this.versions.get(number);
    if (version === undefined) return;
    version.retire();
    if (version.isGone) this.versions.delete(number);
  }

  /** Takes a batch and begins what can begin. */
  receive(batch: CallBatch): void {
    const { bytes, objects } = batch;
    const nowMs = performance.now();
    const deadlineMs = nowMs + this.parts.callTimeoutMs * DEADLINE_PART;
    let nextObject = 0;
    for (let at = 0; at < bytes.length; ) {
      const start = at;
      const id = getU32(bytes, at);
      const version = this.versions.get(getU32(bytes, at + 4));
      const hook = bytes[at + 8] as number;
      const flags = bytes[at + 9] as number;
      at += HEAD_BYTES;
      let object: LuaResult;
      if ((flags & (FLAG_OBJECT | FLAG_PROPERTIES)) !== 0) {
        object = objects[nextObject++] as LuaResult;
      }
      const isObject = (flags & FLAG_OBJECT) !== 0;
      if (!isObject) at += publishBytes(bytes, start);
      if (version === undefined) {
        this.fail(id, RESULT_ERROR, { message: "the script is gone", traceback: "" });
        continue;
      }
      const read = version.fieldsRead(hook);
      const args = isObject
        ? new ObjectArguments(read, object)
        : new PublishArguments(read, bytes, start, object);
      const call = new HookCall(version, LUA_HOOKS[hook] as string, id, deadlineMs, args);
      this.calls.set(id, call);
      version.waiting.push(call);
      if (version.hasWork) this.withWork.add(version);
    }
    // A turn that is under way already will begin them: two at a time would never end again.
    if (!this.isScheduled) this.turn();
  }

  /** The caller has given up. */
  cancel(id: number): void {
    const call = this.calls.get(id);
    if (call === undefined) return;
    this.calls.delete(id);
    call.isCancelled = true;
    call.args = undefined;
    call.cancel();
    const { state } = call;
    if (state === undefined) return;
    // Whatever it waits for, it will not be resumed; a library gives back what it holds.
    state.kill("its caller has given up (vmq_diversity.call_timeout)");
    const at = this.ready.findIndex((one) => one.state === state);
    if (at >= 0) this.ready.splice(at, 1);
    state.onReady = () => undefined;
    call.state = undefined;
    call.version.replace(state);
  }

  /** Does work for a while; the rest in the next turn. */
  private readonly turn = (): void => {
    this.isScheduled = false;
    const { progress, runtime } = this.parts;
    Atomics.add(progress, TURNS, 1);
    runtime.nowMs = performance.now();
    const endMs = runtime.nowMs + TURN_MS;
    let flushMs = runtime.nowMs + FLUSH_MS;
    for (;;) {
      const hasResumed = this.resumeOne();
      // Beside one that lasts only one more, so that it gets its next slice soon.
      const hasBegun = this.begin(hasResumed || this.ready.length > 0 ? 1 : CLOCK_EVERY);
      if (!hasResumed && !hasBegun) break;
      Atomics.add(progress, TURNS, 1);
      runtime.nowMs = performance.now();
      if (runtime.nowMs > flushMs) {
        this.flush();
        flushMs = runtime.nowMs + FLUSH_MS;
      }
      if (runtime.nowMs > endMs) break;
    }
    Atomics.store(progress, RUNNING_CALL, 0);
    this.flush();
    if (this.ready.length > 0 || this.withWork.size > 0) this.schedule();
  };

  private schedule(): void {
    if (this.isScheduled) return;
    this.isScheduled = true;
    setImmediate(this.turn);
  }

  private resumeOne(): boolean {
    const next = this.ready.shift();
    if (next === undefined) return false;
    const { state, then } = next;
    this.mark(state.call.id, undefined);
    this.follow(state, state.resume(), then);
    return true;
  }

  /** Begins up to `most` calls; the scripts take turns. */
  private begin(most: number): boolean {
    let count = 0;
    for (const version of this.withWork) {
      while (count < most) {
        const found = version.next();
        if (found === undefined) break;
        count++;
        this.beginCall(version, found.state, found.call);
      }
      // To the end of the line, so that a script with many calls leaves the others their turn.
      this.withWork.delete(version);
      if (version.hasWork) this.withWork.add(version);
      if (count === most) break;
    }
    return count > 0;
  }

  private beginCall(version: ScriptVersion, state: LuaState, call: Call): void {
    call.state = state;
    const { begun } = this.parts;
    begun[call.id % begun.length] = 1;
    this.mark(call.id, version);
    const end = (outcome: Outcome): void => this.ended(call, state, outcome);
    // Its state has them from now on, as long as it needs them.
    const args = call.args as HookArguments;
    call.args = undefined;
    this.follow(state, state.start(call.hook, call, args), end);
  }

  /** Says what runs now, for whoever finds this thread stuck. */
  private mark(call: number, version: ScriptVersion | undefined): void {
    const { progress } = this.parts;
    progress[RUNNING_CALL] = call;
    if (version !== undefined) progress[RUNNING_VERSION] = version.number;
  }

  private follow(state: LuaState, outcome: Outcome, then: (end: Outcome) => void): void {
    switch (outcome.kind) {
      case "slice":
        this.ready.push({ state, then });
        this.schedule();
        return;
      case "waiting":
        state.onReady = () => {
          this.ready.push({ state, then });
          this.schedule();
        };
        return;
      default:
        then(outcome);
    }
  }

  private ended(call: Call, state: LuaState, outcome: Outcome): void {
    const { version, id } = call;
    this.calls.delete(id);
    call.state = undefined;
    if (outcome.kind === "done") {
      let value: ReturnType<LuaState["takeResult"]>;
      try {
        value = state.takeResult();
      } catch (error) {
        const message = error instanceof Error ? error.message : String(error);
        state.kill(message);
        this.fail(id, RESULT_ERROR, { message, traceback: "" });
        version.replace(state);
        return;
      }
      if (value === true) this.results.push(id, RESULT_TRUE);
      else if (value === false) this.results.push(id, RESULT_FALSE);
      else if (isTable(value) && value !== undefined) {
        this.results.push(id, RESULT_TABLE);
        this.values.push(forClone(value));
      } else this.results.push(id, RESULT_NEXT);
      version.release(state);
    } else if (outcome.kind === "error") {
      this.fail(id, RESULT_ERROR, outcome);
      if (state.killed === undefined) version.release(state);
      else version.replace(state);
    } else if (outcome.kind === "killed") {
      this.fail(id, RESULT_KILLED, outcome);
      version.replace(state);
    }
    if (version.hasWork) this.withWork.add(version);
    if (version.isGone) this.versions.delete(version.number);
  }

  private fail(id: number, result: number, { message, traceback }: ScriptFailure): void {
    this.results.push(id, result);
    this.values.push({ message, traceback });
    this.schedule();
  }

  private flush(): void {
    if (this.results.length === 0) return;
    const results = Int32Array.from(this.results);
    const batch: ResultBatch = { type: "results", results, values: this.values };
    this.results = [];
    this.values = [];
    this.parts.post(batch, [results.buffer as ArrayBuffer]);
  }

  /** A state became idle outside of a call. */
  private wake(version: ScriptVersion): void {
    if (!version.hasWork) return;
    this.withWork.add(version);
    this.schedule();
  }
}

/** One hook call. */
class HookCall implements Call {
  readonly version: ScriptVersion;
  readonly hook: string;
  readonly id: number;
  readonly deadlineMs: number;
  args: HookArguments | undefined;
  isCancelled = false;
  state: LuaState | undefined;
  private cancels: Set<() => void> | undefined;

  constructor(
    version: ScriptVersion,
    hook: string,
    id: number,
    deadlineMs: number,
    args: HookArguments,
  ) {
    this.version = version;
    this.hook = hook;
    this.id = id;
    this.deadlineMs = deadlineMs;
    this.args = args;
  }

  get script(): string {
    return this.version.source.path;
  }

  onCancel(cancel: () => void): () => void {
    this.cancels ??= new Set();
    this.cancels.add(cancel);
    return () => void this.cancels?.delete(cancel);
  }

  cancel(): void {
    for (const cancel of this.cancels ?? []) cancel();
  }
}
