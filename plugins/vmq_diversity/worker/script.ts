import type { HookArguments, HookFields } from "./fields.ts";
import { type LuaCall, LuaError } from "./library.ts";
import type { LuaRuntime } from "./runtime.ts";
import { LuaState, type Outcome, type ScriptSource } from "./state.ts";

/** A hook call, from its arrival until its answer is on its way. */
export interface Call extends LuaCall {
  readonly script: string;
  readonly hook: string;
  readonly id: number;
  readonly version: ScriptVersion;
  /** Until it begins. */
  args: HookArguments | undefined;
  isCancelled: boolean;
  /** The state that runs it. */
  state: LuaState | undefined;
  /** Tells what runs for it that its caller has given up. */
  cancel(): void;
}

/** What a version of a script looks like once it is loaded. */
export interface LoadedScript {
  readonly hooks: readonly string[];
  readonly numStates: number;
  readonly keepState: boolean;
}

/** First pause before a state that could not be made again is tried again; doubles up to the last. */
const RETRY_MIN_MS = 500;
const RETRY_MAX_MS = 30_000;

/** What a version needs of the engine. */
export interface VersionHost {
  /** Follows a state until its call has ended. */
  run(state: LuaState, outcome: Outcome, then: (end: Outcome) => void): void;
  /** A state is idle and a call waits. */
  idle(): void;
}

/** One loaded version of a script in this thread: its states, and the calls that wait for one. */
export class ScriptVersion {
  readonly number: number;
  readonly source: ScriptSource;
  readonly waiting: Call[] = [];
  private readonly read: HookFields[] = [];
  /** Idle states, the one that waited longest first. */
  private readonly idle: LuaState[] = [];
  private readonly all = new Map<LuaState, number>();
  private readonly runtime: LuaRuntime;
  private readonly host: VersionHost;
  private isRetired = false;
  private head = 0;

  constructor(number: number, source: ScriptSource, runtime: LuaRuntime, host: VersionHost) {
    this.number = number;
    this.source = source;
    this.runtime = runtime;
    this.host = host;
  }

  /** What a hook, by its number, has read of its arguments. */
  fieldsRead(hook: number): HookFields {
    this.read[hook] ??= { tools: this.runtime, fields: 0 };
    return this.read[hook];
  }

  get hasWork(): boolean {
    return this.head < this.waiting.length && this.idle.length > 0;
  }

  get queued(): number {
    return this.waiting.length - this.head;
  }

  /**
   * Makes the states of this thread: of all instances every `threads`-th, from `thread` on. Rejects with
   * the message of the first that fails; then none of them stays.
   */
  async load(
    thread: number,
    threads: number,
    defaultStates: number | undefined,
    several: number,
  ): Promise<LoadedScript> {
    try {
      const first = await this.makeState(thread + 1);
      const { keepState } = first;
      const numStates = first.numStates ?? (keepState ? 1 : (defaultStates ?? several));
      if (thread >= numStates) this.drop(first);
      else this.idle.push(first);
      for (let id = thread + 1 + threads; id <= numStates; id += threads) {
        this.idle.push(await this.makeState(id));
      }
      return { hooks: [...first.hooks.keys()], numStates, keepState };
    } catch (error) {
      for (const state of [...this.all.keys()]) this.drop(state);
      throw error;
    }
  }

  private makeState(id: number): Promise<LuaState> {
    return new Promise((resolve, reject) => {
      const call: LuaCall = {
        script: this.source.path,
        hook: "",
        id: 0,
        deadlineMs: performance.now() + 30_000,
        onCancel: () => () => undefined,
      };
      const state = new LuaState(this.runtime, this.source, id, call);
      this.all.set(state, id);
      this.host.run(state, state.startScript(), (end) => {
        try {
          if (end.kind !== "done") throw new LuaError("message" in end ? end.message : end.kind);
          state.finishScript();
          resolve(state);
        } catch (error) {
          this.drop(state);
          reject(error);
        }
      });
    });
  }

  /** Takes the next call and a state for it; undefined without either. */
  next(): { state: LuaState; call: Call } | undefined {
    while (this.head < this.waiting.length) {
      const call = this.waiting[this.head] as Call;
      if (call.isCancelled) {
        this.advance();
        continue;
      }
      const state = this.idle.shift();
      if (state === undefined) return undefined;
      this.advance();
      return { state, call };
    }
    return undefined;
  }

  private advance(): void {
    this.head++;
    if (this.head === this.waiting.length) {
      this.waiting.length = 0;
      this.head = 0;
    } else if (this.head > 1024 && this.head * 2 > this.waiting.length) {
      this.waiting.splice(0, this.head);
      this.head = 0;
    }
  }

  /** A state has finished its call. */
  release(state: LuaState): void {
    this.idle.push(state);
    if (this.isRetired) this.closeIdle();
    else if (this.hasWork) this.host.idle();
  }

  /** Throws a state away and makes a new one in its place. */
  replace(state: LuaState): void {
    const id = this.all.get(state);
    this.drop(state);
    if (id === undefined || this.isRetired) {
      this.closeIdle();
      return;
    }
    this.remake(id, RETRY_MIN_MS);
  }

  private remake(id: number, pauseMs: number): void {
    this.makeState(id).then(
      (state) => this.release(state),
      (error: unknown) => {
        const reason = error instanceof Error ? error.message : String(error);
        const text = `${this.source.path}: a state could not be made again: ${reason}`;
        this.runtime.log("error", text, undefined);
        setTimeout(() => {
          if (!this.isRetired) this.remake(id, Math.min(pauseMs * 2, RETRY_MAX_MS));
        }, pauseMs);
      },
    );
  }

  private drop(state: LuaState): void {
    this.all.delete(state);
    state.close();
  }

  /** Lets running and waiting calls end, then frees everything. */
  retire(): void {
    this.isRetired = true;
    this.closeIdle();
  }

  private closeIdle(): void {
    if (!this.isRetired || this.queued > 0) return;
    for (const state of this.idle.splice(0)) this.drop(state);
  }

  get isGone(): boolean {
    return this.isRetired && this.all.size === 0;
  }

  get memoryBytes(): number {
    let sum = 0;
    for (const state of this.all.keys()) sum += state.memoryBytes;
    return sum;
  }

  get states(): number {
    return this.all.size;
  }
}
