import { ENDED, FIELDS, fieldNumber, type HookArguments } from "./fields.ts";
import { LuaError, type LuaResult } from "./library.ts";
import { type LuaApi, type Pointer, REGISTRY, TYPE_STRING } from "./lua-api.ts";
import type { Marshal } from "./marshal.ts";
import type { LuaRuntime } from "./runtime.ts";

/** The argument table of the call that a state runs, while fields of it are left out. */
export class LateTable {
  /** Address of the table, which lives as long as the call; 0: nothing is left out. */
  at: Pointer = 0;
  /** Set of the fields that are left out. */
  missing = 0;
  args: HookArguments | undefined;

  /** The call has ended, or its table is complete. */
  end(): void {
    this.at = 0;
    this.missing = 0;
    this.args = undefined;
  }
}

/**
 * Fields that are left out of an argument table until somebody looks at them. Such a table has a metatable,
 * the same for all of a state, that scripts cannot see; without missing fields it is a table like any other.
 */
export class LateFields {
  /** C function for the prelude: puts all fields into a table; false when its call has ended. */
  readonly completeFunction: Pointer;
  private readonly runtime: LuaRuntime;
  private readonly api: LuaApi;
  private readonly marshal: Marshal;
  private readonly index: Pointer;
  private readonly newIndex: Pointer;
  /** Where the registry of a state has the metatable: an address that nothing else has. */
  private readonly key: Pointer;

  constructor(runtime: LuaRuntime) {
    const { api, marshal } = runtime;
    this.runtime = runtime;
    this.api = api;
    this.marshal = marshal;
    this.key = api.malloc(1);
    this.index = api.addFunction((L) => this.get(L as number), "ii");
    this.newIndex = api.addFunction((L) => this.set(L as number), "ii");
    this.completeFunction = api.addFunction((L) => {
      api.lua_pushboolean(L as number, this.complete(L as number, 1) ? 1 : 0);
      return 1;
    }, "ii");
    marshal.lateFields = (L, at) => this.missingOf(L, at);
  }

  /** Makes the metatable of a new state and leaves it on the stack. */
  install(L: Pointer): void {
    const { api, marshal } = this;
    api.lua_createtable(L, 0, 3);
    api.lua_pushcclosure(L, this.index, 0);
    api.lua_setfield(L, -2, marshal.name("__index"));
    api.lua_pushcclosure(L, this.newIndex, 0);
    api.lua_setfield(L, -2, marshal.name("__newindex"));
    api.lua_pushvalue(L, -1);
    api.lua_rawsetp(L, REGISTRY, this.key);
  }

  /** The table on top of the stack gets its missing fields when they are read. */
  attach(L: Pointer, table: LateTable, args: HookArguments, missing: number): void {
    const { api } = this;
    api.lua_rawgetp(L, REGISTRY, this.key);
    api.lua_setmetatable(L, -2);
    table.at = api.lua_topointer(L, -1);
    table.missing = missing;
    table.args = args;
  }

  /** `__index`: of names that the table has not. */
  private get(L: Pointer): number {
    const { api } = this;
    if (api.lua_type(L, 2) !== TYPE_STRING) return 0;
    const table = this.tableAt(L, 1);
    if (table === undefined) return this.runtime.raise(L, ENDED);
    const field = this.keyAt(L, table);
    if (field === undefined) return 0;
    try {
      this.build(L, 1, table, field);
    } catch (error) {
      if (!(error instanceof LuaError)) throw error;
      return this.runtime.raise(L, error.message);
    }
    if (table.missing === 0) this.detach(L, 1, table);
    api.lua_pushvalue(L, 2);
    return api.lua_rawget(L, 1) === 0 ? 0 : 1;
  }

  /** `__newindex`: what the script writes is there from then on, nil as well. */
  private set(L: Pointer): number {
    const { api } = this;
    const table = api.lua_type(L, 2) === TYPE_STRING ? this.tableAt(L, 1) : undefined;
    const field = table === undefined ? undefined : this.keyAt(L, table);
    api.lua_rawset(L, 1);
    if (table === undefined || field === undefined) return 0;
    table.missing &= ~(1 << field);
    if (table.missing === 0) this.detach(L, 1, table);
    return 0;
  }

  /** Puts all missing fields into a table; false when its call has ended. */
  private complete(L: Pointer, at: number): boolean {
    const table = this.tableAt(L, at);
    if (table === undefined) return false;
    for (let field = 0; field < FIELDS.length; field++) {
      if ((table.missing & (1 << field)) !== 0) this.build(L, at, table, field);
    }
    this.detach(L, at, table);
    return true;
  }

  private build(L: Pointer, at: number, table: LateTable, field: number): void {
    const { api } = this;
    const { args } = table;
    if (args === undefined) return;
    api.lua_pushstring(L, this.runtime.fieldNames[field] as Pointer);
    this.marshal.push(L, args.valueOf(field));
    api.lua_rawset(L, at);
    table.missing &= ~(1 << field);
    args.read.fields |= 1 << field;
  }

  private detach(L: Pointer, at: number, table: LateTable): void {
    table.end();
    this.api.lua_pushnil(L);
    this.api.lua_setmetatable(L, at);
  }

  /** undefined: a table of a call that has ended. */
  private tableAt(L: Pointer, at: number): LateTable | undefined {
    const table = this.runtime.current?.late;
    return table?.at === this.api.lua_topointer(L, at) ? table : undefined;
  }

  /** The missing field whose name is the second on the stack. */
  private keyAt(L: Pointer, table: LateTable): number | undefined {
    const field = fieldNumber(this.marshal.stringAt(L, 2));
    return field !== undefined && (table.missing & (1 << field)) !== 0 ? field : undefined;
  }

  /** For libraries and answers, which do not need them in Lua. */
  private missingOf(L: Pointer, at: number): [string, LuaResult][] {
    if (!this.isLate(L, at)) return [];
    const table = this.tableAt(L, at);
    if (table === undefined) throw new LuaError(ENDED);
    const fields: [string, LuaResult][] = [];
    FIELDS.forEach((name, field) => {
      if ((table.missing & (1 << field)) !== 0) fields.push([name, table.args?.valueOf(field)]);
    });
    return fields;
  }

  private isLate(L: Pointer, at: number): boolean {
    const { api } = this;
    if (api.lua_getmetatable(L, at) === 0) return false;
    api.lua_rawgetp(L, REGISTRY, this.key);
    const isOurs = api.lua_rawequal(L, -1, -2) !== 0;
    api.lua_settop(L, -3);
    return isOurs;
  }
}
