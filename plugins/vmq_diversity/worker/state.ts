import type { HookArguments } from "./fields.ts";
import { LateTable } from "./late-fields.ts";
import { type LuaCall, LuaError, type LuaResult } from "./library.ts";
import {
  LUA_OK,
  LUA_YIELD,
  MASK_COUNT,
  type Pointer,
  REGISTRY,
  TYPE_FUNCTION,
  TYPE_STRING,
  TYPE_TABLE,
} from "./lua-api.ts";
import { bigintOf, type Marshal } from "./marshal.ts";
import { PRELUDE } from "./prelude.ts";
import { COUNT, INTERNAL, type LuaRuntime, WAIT_TOKEN } from "./runtime.ts";
import type { ScriptFolders } from "./script-folders.ts";

/** A call that runs longer lets others run. */
const SLICE_MS = 1;
/** Entries of tables and upvalues that are put back after each call; a script with more keeps its tables. */
const REMEMBERED_MAX = 2_000;
/** lua.h: LUA_ERRMEM */
const LUA_ERRMEM = 4;

/** What a state is made for. */
export interface ScriptSource {
  /** As it was loaded; names the script in logs and errors. */
  readonly path: string;
  readonly source: Uint8Array;
  readonly folders: ScriptFolders;
  /** Where the script says nothing. `vmq_diversity.keep_state` */
  readonly keepState: boolean;
}

/** How running a state went. */
export type Outcome =
  /** The answer is on top of the thread's stack until `finish`. */
  | { readonly kind: "done" }
  /** A library will answer; `onReady` is called then. */
  | { readonly kind: "waiting" }
  /** Its turn is over. */
  | { readonly kind: "slice" }
  | { readonly kind: "error"; readonly message: string; readonly traceback: string }
  /** A limit was reached: the state must go. */
  | { readonly kind: "killed"; readonly message: string; readonly traceback: string };

const DONE: Outcome = { kind: "done" };
const WAITING: Outcome = { kind: "waiting" };
const SLICE: Outcome = { kind: "slice" };

/** One Lua state of a script: an isolated VM with one thread that runs one call at a time. */
export class LuaState {
  readonly script: ScriptSource;
  readonly thread: Pointer;
  /** Of the call that runs. */
  call: LuaCall;
  /** Its arguments, as far as they are not in Lua. */
  readonly late = new LateTable();
  instructions = 0;
  sliceEndMs = 0;
  /** Why the state must go. */
  killed: string | undefined;
  /** Hook names and references of their functions. */
  readonly hooks = new Map<string, bigint>();
  numStates: number | undefined;
  keepState = false;
  private isClosed = false;
  private readonly runtime: LuaRuntime;
  private readonly L: Pointer;
  /** Of its memory. */
  private readonly account: Pointer;
  private readonly results: Pointer;
  private readonly refs: Readonly<
    Record<"compile" | "begin" | "invoke" | "invokeWhole" | "restore" | "base", bigint>
  >;
  /** What the library that was waited for has answered. */
  private answer: { fault?: string; value?: LuaResult } | undefined;
  /** Called when a waiting state can go on. */
  onReady: () => void = () => undefined;

  /** Makes the state with its libraries; the script is not run yet. */
  constructor(runtime: LuaRuntime, script: ScriptSource, instanceId: number, call: LuaCall) {
    const { api, marshal } = runtime;
    this.runtime = runtime;
    this.script = script;
    this.call = call;
    this.account = runtime.allocator.open();
    this.L = api.lua_newstate(runtime.allocator.function, this.account);
    if (this.L === 0) throw new LuaError("no memory for another state");
    this.results = api.malloc(4);
    const { L } = this;
    const before = runtime.current;
    runtime.current = this;
    try {
      api.luaL_openlibs(L);
      this.load(PRELUDE, "=prelude");
      api.lua_pushlightuserdata(L, WAIT_TOKEN);
      api.lua_createtable(L, 0, INTERNAL.length);
      INTERNAL.forEach((name, at) => {
        api.lua_pushnumber(L, at);
        api.lua_pushcclosure(L, runtime.internal, 1);
        api.lua_setfield(L, -2, marshal.name(name));
      });
      runtime.late.install(L);
      api.lua_pushcclosure(L, runtime.late.completeFunction, 0);
      this.protectedCall(4, 1);
      const ref = (name: string): bigint => {
        api.lua_getfield(L, -1, marshal.name(name));
        return BigInt(api.luaL_ref(L, REGISTRY));
      };
      this.refs = {
        compile: ref("compile"),
        begin: ref("begin"),
        invoke: ref("invoke"),
        invokeWhole: ref("invoke_whole"),
        restore: ref("restore"),
        base: ref("base"),
      };
      const seal = ref("seal");
      api.lua_settop(L, 0);
      this.addLibraries();
      api.lua_rawgeti(L, REGISTRY, this.refs.base);
      marshal.push(L, instanceId);
      api.lua_setfield(L, -2, marshal.name("__SCRIPT_INSTANCE_ID__"));
      api.lua_rawgeti(L, REGISTRY, seal);
      this.protectedCall(0, 0);
      api.lua_settop(L, 0);
      this.thread = api.lua_newthread(L);
      // It stays on the main stack, so that it is not collected.
      api.lua_sethook(this.thread, runtime.hook, MASK_COUNT, COUNT);
    } finally {
      runtime.current = before;
    }
  }

  get memoryBytes(): number {
    return this.runtime.allocator.bytesOf(this.account);
  }

  private addLibraries(): void {
    const { api, marshal, functions, libraries } = this.runtime;
    const { L } = this;
    api.lua_rawgeti(L, REGISTRY, this.refs.base);
    let at = 0;
    for (const [library, table] of Object.entries(libraries)) {
      api.lua_createtable(L, 0, 8);
      for (const [name, call] of Object.entries(table)) {
        functions[at] ??= { name: `${library}.${name}`, call };
        api.lua_pushnumber(L, at++);
        api.lua_pushcclosure(L, this.runtime.hostFunction, 1);
        api.lua_setfield(L, -2, marshal.name(name));
      }
      api.lua_setfield(L, -2, marshal.name(library));
    }
    api.lua_settop(L, -2);
  }

  /** Compiles on the main stack; a fault of ours, not of a script. */
  private load(source: string, name: string): void {
    const { api, marshal } = this.runtime;
    const bytes = Buffer.from(source, "utf8");
    const at = marshal.place(bytes);
    if (api.luaL_loadbufferx(this.L, at, bytes.length, marshal.name(name), 0) !== LUA_OK) {
      throw new Error(marshal.textAt(this.L, -1));
    }
  }

  private protectedCall(args: number, results: number): void {
    const { api, marshal } = this.runtime;
    if (api.lua_pcallk(this.L, args, results, 0, 0, 0) !== LUA_OK) {
      throw new Error(marshal.textAt(this.L, -1));
    }
  }

  /** Compiles the script and starts its main chunk. A syntax error is an outcome. */
  startScript(): Outcome {
    const { api, marshal } = this.runtime;
    const { thread } = this;
    api.lua_rawgeti(thread, REGISTRY, this.refs.compile);
    marshal.pushBytes(thread, this.script.source);
    marshal.push(thread, `@${this.script.path}`);
    const compiled = this.run(2);
    if (compiled.kind !== "done") return compiled;
    if (api.lua_type(thread, 1) !== TYPE_FUNCTION) {
      const message = marshal.textAt(thread, 2);
      api.lua_settop(thread, 0);
      return { kind: "error", message, traceback: "" };
    }
    return this.run(0);
  }

  /** After the main chunk: reads hooks, num_states and keep_state. Throws LuaError naming a bad one. */
  finishScript(): void {
    const { api, marshal, log } = this.runtime;
    const { L, script } = this;
    api.lua_settop(this.thread, 0);
    const top = api.lua_gettop(L);
    api.lua_rawgeti(L, REGISTRY, this.refs.base);
    const read = (name: string): number => api.lua_getfield(L, top + 1, marshal.name(name));
    read("num_states");
    const states = marshal.read(L, -1);
    if (states !== undefined) {
      const value = typeof states === "object" && "value" in states ? states.value : states;
      if (typeof value !== "number" || !(Math.round(value) > 0)) {
        throw new LuaError(`${script.path}: num_states must be a number above 0`);
      }
      this.numStates = Math.round(value);
    }
    read("keep_state");
    const keep = marshal.read(L, -1);
    this.keepState = typeof keep === "boolean" ? keep : script.keepState;
    if (read("hooks") === TYPE_TABLE) this.readHooks(api.lua_gettop(L));
    api.lua_settop(L, top);
    api.lua_rawgeti(L, REGISTRY, this.refs.begin);
    api.lua_pushboolean(L, this.keepState ? 1 : 0);
    api.lua_pushinteger(L, bigintOf(REMEMBERED_MAX));
    this.protectedCall(2, 1);
    if (api.lua_toboolean(L, -1) === 0) {
      const text = "too much data for keep_state = false: changes inside its tables stay";
      log("warn", `${script.path}: ${text}`, undefined);
    }
    api.lua_settop(L, top);
  }

  private readHooks(at: number): void {
    const { api, marshal } = this.runtime;
    const { L } = this;
    api.lua_pushnil(L);
    while (api.lua_next(L, at) !== 0) {
      const isHook = api.lua_type(L, -1) === TYPE_FUNCTION && api.lua_type(L, -2) === TYPE_STRING;
      if (!isHook) {
        api.lua_settop(L, -2);
        continue;
      }
      const name = marshal.bytesAt(L, -2).toString("utf8");
      this.hooks.set(name, BigInt(api.luaL_ref(L, REGISTRY)));
    }
  }

  /** Starts a hook. */
  start(hook: string, call: LuaCall, args: HookArguments): Outcome {
    const { api, late } = this.runtime;
    const { thread } = this;
    this.call = call;
    this.instructions = 0;
    const leftOut = args.leftOut();
    // A script that keeps its state may keep the table, too.
    const { invoke, invokeWhole } = this.refs;
    api.lua_rawgeti(thread, REGISTRY, leftOut !== 0 && this.keepState ? invokeWhole : invoke);
    api.lua_rawgeti(thread, REGISTRY, this.hooks.get(hook) as bigint);
    try {
      args.push(thread, leftOut);
      if (leftOut !== 0) late.attach(thread, this.late, args, leftOut);
    } catch (error) {
      // No Lua function runs that could end with it: the state is given up.
      const fault = error instanceof LuaError ? error.message : this.runtime.memoryFault;
      this.kill(fault);
      return { kind: "killed", message: `${this.script.path}: ${fault}`, traceback: "" };
    }
    return this.run(2);
  }

  /** Goes on after a slice, or when a library has answered. */
  resume(): Outcome {
    return this.run(0);
  }

  private run(args: number): Outcome {
    const { runtime, thread } = this;
    const { api } = runtime;
    this.sliceEndMs = runtime.nowMs + SLICE_MS;
    const before = runtime.current;
    runtime.current = this;
    let status: number;
    try {
      status = api.lua_resume(thread, 0, args, this.results);
    } finally {
      runtime.current = before;
    }
    if (status === LUA_OK) return DONE;
    if (this.killed !== undefined) return this.killedOutcome(this.killed);
    if (status !== LUA_YIELD) return this.failed(status);
    if (this.isWaiting) {
      api.lua_settop(thread, -2);
      return WAITING;
    }
    if (api.lua_gettop(thread) > 0 && api.memory[this.results] !== 0) {
      this.kill("coroutine.yield outside of a coroutine");
      return this.killedOutcome("coroutine.yield outside of a coroutine");
    }
    return SLICE;
  }

  /** Why, with the place where the script was. */
  private killedOutcome(reason: string): Outcome {
    const traceback = this.traceback();
    const [, place = this.script.path] = /\n\t([^\n]+:\d+): in /.exec(traceback) ?? [];
    return { kind: "killed", message: `${place}: ${reason}`, traceback };
  }

  private failed(status: number): Outcome {
    const { api, marshal } = this.runtime;
    const { thread } = this;
    const traceback = this.traceback();
    const message = marshal.textAt(thread, -1);
    if (status === LUA_ERRMEM) {
      this.kill(this.runtime.memoryFault);
      return this.killedOutcome(this.killed as unknown as string);
    }
    this.late.end();
    api.lua_resetthread(thread);
    api.lua_settop(thread, 0);
    api.lua_sethook(thread, this.runtime.hook, MASK_COUNT, COUNT);
    api.lua_rawgeti(thread, REGISTRY, this.refs.restore);
    const restored = this.run(0);
    if (restored.kind !== "done") this.kill("its globals could not be put back");
    api.lua_settop(thread, 0);
    return { kind: "error", message, traceback };
  }

  /** Where the script is, innermost first. */
  private traceback(): string {
    const { api, marshal } = this.runtime;
    const { L } = this;
    const top = api.lua_gettop(L);
    api.luaL_traceback(L, this.thread, 0, 0);
    const text = marshal.bytesAt(L, -1).toString("utf8");
    api.lua_settop(L, top);
    return text.replace(/\n\t(\[C\]: in \?|prelude:\d+:[^\n]*)(?=\n|$)/g, "");
  }

  /** The first value that the hook gave; clears the stack for the next call. */
  takeResult(): ReturnType<Marshal["read"]> {
    const { runtime, thread } = this;
    const { api, marshal } = runtime;
    const before = runtime.current;
    runtime.current = this;
    try {
      return api.lua_gettop(thread) === 0 ? undefined : marshal.read(thread, 1);
    } finally {
      runtime.current = before;
      this.late.end();
      api.lua_settop(thread, 0);
    }
  }

  // ---- waiting for libraries

  get isWaiting(): boolean {
    return this.pending !== undefined && this.answer === undefined;
  }

  private pending: Promise<unknown> | undefined;

  /** A library function of thread L waits for its promise. */
  awaits(_: Pointer, name: string, promise: Promise<LuaResult>): void {
    this.pending = promise;
    this.answer = undefined;
    const { call } = this;
    const settled = (answer: { fault?: string; value?: LuaResult }): void => {
      if (this.pending !== promise) return;
      this.answer = answer;
      this.onReady();
    };
    promise.then(
      (value) => settled({ value }),
      (error) => settled({ fault: this.runtime.faultOf(name, error, call) }),
    );
  }

  takeAnswer(): { fault?: string; value?: LuaResult } {
    const answer = this.answer ?? { fault: "nothing was waited for" };
    this.pending = undefined;
    this.answer = undefined;
    return answer;
  }

  kill(reason: string): void {
    this.killed ??= reason;
  }

  /** Frees the state's memory. A state that waits or was cut off is closed without running on. */
  close(): void {
    if (this.isClosed) return;
    this.isClosed = true;
    this.pending = undefined;
    this.late.end();
    const { api } = this.runtime;
    api.lua_close(this.L);
    api.free(this.results);
    this.runtime.allocator.close(this.account);
  }
}
