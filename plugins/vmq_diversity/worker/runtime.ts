import { isPromise } from "node:util/types";
import { Allocator } from "./allocator.ts";
import { FIELDS } from "./fields.ts";
import { LateFields } from "./late-fields.ts";
import {
  type LuaCall,
  LuaError,
  type LuaFunction,
  type LuaLibrary,
  type LuaResult,
} from "./library.ts";
import { type LuaApi, type Pointer, UPVALUE_1 } from "./lua-api.ts";
import type { Marshal } from "./marshal.ts";
import type { LuaState } from "./state.ts";

/** Instructions between two looks at clock and budget: some 50 µs. */
export const COUNT = 5_000;
/** What a thread yields that waits for a library: an address that no script has as light userdata. */
export const WAIT_TOKEN = 8;
/** Functions of the engine that the prelude gets, by number. */
export const INTERNAL = ["log", "package_path", "read_file", "find_module"];

export interface Limits {
  /** Of one call. `vmq_diversity.instruction_limit` */
  readonly instructions: number;
  /** Of one state. `vmq_diversity.memory_limit` */
  readonly memoryBytes: number;
}

/** Functions the module calls; one set per worker, they find the state that runs in `current`. */
export class LuaRuntime {
  readonly api: LuaApi;
  readonly marshal: Marshal;
  /** Names of the fields of argument tables as C strings, by number. */
  readonly fieldNames: readonly Pointer[];
  readonly late: LateFields;
  readonly limits: Limits;
  /** The state whose Lua code runs now. */
  current: LuaState | undefined;
  /** A rough clock, so that a short call need not read it. */
  nowMs = performance.now();
  readonly functions: { readonly name: string; readonly call: LuaFunction }[] = [];
  readonly libraries: Readonly<Record<string, LuaLibrary>>;
  readonly hostFunction: Pointer;
  readonly internal: Pointer;
  readonly hook: Pointer;
  readonly allocator: Allocator;
  private readonly continuation: Pointer;
  readonly log: (level: string, message: string, call: LuaCall | undefined) => void;

  constructor(
    api: LuaApi,
    marshal: Marshal,
    options: {
      readonly limits: Limits;
      readonly libraries: Readonly<Record<string, LuaLibrary>>;
      readonly log: LuaRuntime["log"];
    },
  ) {
    this.api = api;
    this.marshal = marshal;
    this.limits = options.limits;
    this.fieldNames = FIELDS.map((name) => marshal.name(name));
    this.late = new LateFields(this);
    this.libraries = options.libraries;
    this.log = options.log;
    this.allocator = new Allocator(api, options.limits.memoryBytes);
    this.hook = api.addFunction((L) => this.count(L as number), "vii");
    this.hostFunction = api.addFunction((L) => this.callLibrary(L as number), "ii");
    this.internal = api.addFunction((L) => this.callInternal(L as number), "ii");
    this.continuation = api.addFunction((L) => this.goOn(L as number), "iiii");
  }

  /** Why a state must go that has reached the limit. */
  get memoryFault(): string {
    return `more than ${this.limits.memoryBytes} bytes in one state (vmq_diversity.memory_limit)`;
  }

  /** Called every COUNT instructions of any thread of the running state. */
  private count(L: Pointer): undefined {
    const state = this.current as LuaState;
    const { api } = this;
    state.instructions += COUNT;
    if (state.instructions > this.limits.instructions) {
      const limit = this.limits.instructions;
      state.kill(`more than ${limit} instructions in one call (vmq_diversity.instruction_limit)`);
    }
    const isOver = state.killed !== undefined;
    if (!isOver) {
      this.nowMs = performance.now();
      if (this.nowMs < state.sliceEndMs) return;
    }
    // A yield cannot be caught by the script; only the thread that we resume may do it.
    if (L === state.thread && api.lua_isyieldable(L) !== 0) {
      api.lua_yieldk(L, 0, 0, 0);
      return;
    }
    if (isOver) this.raise(L, state.killed as string);
  }

  /** Ends the running function with an error at its place. Never returns: Lua unwinds the stack. */
  raise(L: Pointer, message: string): number {
    const { api } = this;
    api.luaL_where(L, 1);
    this.marshal.push(L, message);
    api.lua_concat(L, 2);
    return api.lua_error(L);
  }

  private callLibrary(L: Pointer): number {
    const { api, marshal } = this;
    const state = this.current as LuaState;
    const { name, call } = this.functions[api.lua_tonumberx(L, UPVALUE_1, 0)] as {
      name: string;
      call: LuaFunction;
    };
    let fault: string | undefined;
    try {
      const args = [];
      const n = api.lua_gettop(L);
      for (let i = 1; i <= n; i++) args.push(marshal.read(L, i));
      const result = call(state.call, ...args);
      if (!isPromise(result)) {
        marshal.push(L, result as LuaResult);
        return 1;
      }
      if (api.lua_isyieldable(L) === 0) {
        result.catch(() => undefined);
        fault = `${name} has to wait, which is not possible inside a sort order, a gsub function, a metamethod of C or the like`;
      } else state.awaits(L, name, result as Promise<LuaResult>);
    } catch (error) {
      // Lua's own way out of a function, such as for want of memory.
      if (!(error instanceof Error)) throw error;
      fault = this.faultOf(name, error, state.call);
    }
    if (fault !== undefined) return this.raise(L, fault);
    api.lua_pushlightuserdata(L, WAIT_TOKEN);
    return api.lua_yieldk(L, 1, 0, this.continuation);
  }

  /** Goes on in a library function whose promise is settled. */
  private goOn(L: Pointer): number {
    const state = this.current as LuaState;
    const { fault, value } = state.takeAnswer();
    if (fault !== undefined) return this.raise(L, fault);
    try {
      this.marshal.push(L, value);
      return 1;
    } catch (error) {
      state.kill(error instanceof Error ? error.message : String(error));
    }
    return this.raise(L, state.killed as string);
  }

  faultOf(name: string, error: unknown, call: LuaCall): string {
    if (error instanceof LuaError) return error.message;
    const cause = error instanceof Error ? (error.stack ?? error.message) : String(error);
    this.log("error", `${name} failed: ${cause}`, call);
    return `${name}: ${error instanceof Error ? error.message : String(error)}`;
  }

  private callInternal(L: Pointer): number {
    const { api, marshal } = this;
    const state = this.current as LuaState;
    const which = api.lua_tonumberx(L, UPVALUE_1, 0);
    const text = (index: number): string => marshal.textAt(L, index);
    let found: { source: Buffer; file?: string } | { fault: string };
    switch (which) {
      case 0:
        this.log(text(1), text(2), state.call);
        return 0;
      case 1:
        marshal.push(L, state.script.folders.packagePath);
        return 1;
      case 2:
        found = state.script.folders.readFile(text(1));
        break;
      default:
        found = state.script.folders.findModule(text(1), text(2));
    }
    if ("fault" in found) {
      api.lua_pushnil(L);
      marshal.push(L, found.fault);
      return 2;
    }
    marshal.pushBytes(L, found.source);
    marshal.push(L, found.file);
    return 2;
  }
}
