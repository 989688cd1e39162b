import {
  LuaError,
  LuaFloat,
  type LuaResult,
  type LuaTable,
  type LuaValue,
  OpaqueValue,
} from "./library.ts";
import {
  type LuaApi,
  type Pointer,
  TYPE_BOOLEAN,
  TYPE_NIL,
  TYPE_NUMBER,
  TYPE_STRING,
  TYPE_TABLE,
} from "./lua-api.ts";

/** Nesting that is more likely a circle than data. */
const DEPTH_MAX = 64;
const TYPE_NAMES = ["nil", "boolean", "userdata", "number", "string", "table", "function"];
const SMALL_MAX = 1024;
const SMALL = Array.from({ length: SMALL_MAX }, (_, i) => BigInt(i));

/** A number as Lua's integers come and go. */
export function bigintOf(value: number): bigint {
  return value >= 0 && value < SMALL_MAX ? (SMALL[value] as bigint) : BigInt(value);
}

const NONE: readonly (readonly [string, LuaResult])[] = [];

/** What `read` gives of a value that was pushed, without Lua. */
function readOf(value: LuaResult): LuaValue {
  if (value === null) return undefined;
  if (typeof value === "string") return Buffer.from(value, "utf8");
  if (typeof value !== "object" || value instanceof LuaFloat) return value;
  if (value instanceof Uint8Array) return Buffer.from(value);
  if (Array.isArray(value)) return { array: value.map(readOf), hash: new Map() };
  const hash = new Map<Key, LuaValue>();
  for (const [key, item] of entriesOf(value as LuaEntries)) {
    if (item !== undefined && item !== null) hash.set(key, readOf(item));
  }
  return { array: [], hash };
}

type Key = string | number | boolean;
type LuaEntries = ReadonlyMap<Key, LuaResult> | { readonly [key: string]: LuaResult };

function entriesOf(table: LuaEntries): Iterable<readonly [Key, LuaResult]> {
  return table instanceof Map ? table.entries() : Object.entries(table);
}

/** Values between JavaScript and the stack of a Lua thread. */
export class Marshal {
  private readonly api: LuaApi;
  private readonly size: Pointer;
  private scratch: Pointer;
  private scratchBytes = 4096;
  /** The module's memory as a Buffer; made again when it has grown. */
  private view: Buffer = Buffer.alloc(0);
  /** What belongs to a table with a metatable, though it is not in it. */
  lateFields: (L: Pointer, at: number) => readonly (readonly [string, LuaResult])[] = () => NONE;
  /** Names of fields, as C strings that stay. */
  private readonly names = new Map<string, Pointer>();

  constructor(api: LuaApi) {
    this.api = api;
    this.size = api.malloc(8);
    this.scratch = api.malloc(this.scratchBytes);
  }

  private get memory(): Buffer {
    const { buffer } = this.api.memory;
    if (this.view.buffer !== buffer) this.view = Buffer.from(buffer);
    return this.view;
  }

  private reserve(bytes: number): void {
    if (bytes <= this.scratchBytes) return;
    this.api.free(this.scratch);
    this.scratchBytes = bytes * 2;
    this.scratch = this.api.malloc(this.scratchBytes);
  }

  /** Bytes in the module's memory until the next call of this function. */
  place(bytes: Uint8Array): Pointer {
    this.reserve(bytes.length);
    this.api.memory.set(bytes, this.scratch);
    return this.scratch;
  }

  /** A field's name that is used again and again. */
  name(text: string): Pointer {
    const known = this.names.get(text);
    if (known !== undefined) return known;
    const bytes = Buffer.from(`${text}\0`, "utf8");
    const at = this.api.malloc(bytes.length);
    this.api.memory.set(bytes, at);
    this.names.set(text, at);
    return at;
  }

  pushBytes(L: Pointer, bytes: Uint8Array): void {
    this.api.lua_pushlstring(L, this.place(bytes), bytes.length);
  }

  private pushText(L: Pointer, text: string): void {
    // A character of a JavaScript string has at most three bytes.
    this.reserve(text.length * 3);
    const bytes = this.memory.write(text, this.scratch, "utf8");
    this.api.lua_pushlstring(L, this.scratch, bytes);
  }

  push(L: Pointer, value: LuaResult, depth = 0): void {
    const { api } = this;
    switch (typeof value) {
      case "string":
        this.pushText(L, value);
        return;
      case "number":
        if (Number.isSafeInteger(value)) api.lua_pushinteger(L, bigintOf(value));
        else api.lua_pushnumber(L, value);
        return;
      case "boolean":
        api.lua_pushboolean(L, value ? 1 : 0);
        return;
      case "bigint":
        api.lua_pushinteger(L, BigInt.asIntN(64, value));
        return;
      case "undefined":
        api.lua_pushnil(L);
        return;
    }
    if (value === null) api.lua_pushnil(L);
    else if (value instanceof LuaFloat) api.lua_pushnumber(L, value.value);
    else if (value instanceof Uint8Array) this.pushBytes(L, value);
    else this.pushTable(L, value, depth + 1);
  }

  private pushTable(
    L: Pointer,
    value: Exclude<LuaResult & object, Uint8Array | LuaFloat>,
    depth: number,
  ): void {
    const { api } = this;
    if (depth > DEPTH_MAX) throw new LuaError(`more than ${DEPTH_MAX} tables inside each other`);
    if (api.lua_checkstack(L, 4) === 0) throw new LuaError("stack overflow");
    if (Array.isArray(value)) {
      api.lua_createtable(L, value.length, 0);
      for (let i = 0; i < value.length; i++) {
        this.push(L, value[i] as LuaResult, depth);
        api.lua_rawseti(L, -2, bigintOf(i + 1));
      }
      return;
    }
    api.lua_createtable(L, 0, value instanceof Map ? value.size : 0);
    for (const [key, item] of entriesOf(value as LuaEntries)) {
      if (item === undefined || item === null) continue;
      this.push(L, key, depth);
      this.push(L, item, depth);
      api.lua_rawset(L, -3);
    }
  }

  /** Bytes of a string or number on the stack, copied. */
  bytesAt(L: Pointer, index: number): Buffer {
    const at = this.api.lua_tolstring(L, index, this.size);
    const { memory } = this;
    const length = memory.readUInt32LE(this.size);
    const copy = Buffer.allocUnsafe(length);
    memory.copy(copy, 0, at, at + length);
    return copy;
  }

  /** The same as text. */
  stringAt(L: Pointer, index: number): string {
    const at = this.api.lua_tolstring(L, index, this.size);
    const { memory } = this;
    return memory.toString("utf8", at, at + memory.readUInt32LE(this.size));
  }

  /** Any value as text, as `tostring` gives it; runs `__tostring`. */
  textAt(L: Pointer, index: number): string {
    this.api.luaL_tolstring(L, index, 0);
    const text = this.stringAt(L, -1);
    this.api.lua_settop(L, -2);
    return text;
  }

  read(L: Pointer, index: number, depth = 0): LuaValue {
    const { api } = this;
    const type = api.lua_type(L, index);
    switch (type) {
      case TYPE_NIL:
      case -1:
        return undefined;
      case TYPE_BOOLEAN:
        return api.lua_toboolean(L, index) !== 0;
      case TYPE_NUMBER:
        return this.numberAt(L, index);
      case TYPE_STRING:
        return this.bytesAt(L, index);
      case TYPE_TABLE:
        return this.tableAt(L, index, depth + 1);
      default:
        return new OpaqueValue(TYPE_NAMES[type] ?? "userdata");
    }
  }

  private numberAt(L: Pointer, index: number): number | bigint | LuaFloat {
    const { api } = this;
    const value = api.lua_tonumberx(L, index, 0);
    if (!Number.isInteger(value)) return value;
    if (api.lua_isinteger(L, index) === 0) return new LuaFloat(value);
    return Number.isSafeInteger(value) ? value : api.lua_tointegerx(L, index, 0);
  }

  private tableAt(L: Pointer, index: number, depth: number): LuaTable {
    const { api } = this;
    if (depth > DEPTH_MAX) throw new LuaError(`more than ${DEPTH_MAX} tables inside each other`);
    if (api.lua_checkstack(L, 4) === 0) throw new LuaError("stack overflow");
    const at = index < 0 ? api.lua_gettop(L) + index + 1 : index;
    const array: LuaValue[] = [];
    const hash = new Map<Key, LuaValue>();
    api.lua_pushnil(L);
    while (api.lua_next(L, at) !== 0) {
      const value = this.read(L, -1, depth);
      api.lua_settop(L, -2);
      // The key stays for lua_next: only a string may be read as one.
      const type = api.lua_type(L, -1);
      if (type === TYPE_STRING) hash.set(this.stringAt(L, -1), value);
      else if (type === TYPE_NUMBER) {
        const key = api.lua_tonumberx(L, -1, 0);
        if (key === array.length + 1) array.push(value);
        else hash.set(key, value);
      } else if (type === TYPE_BOOLEAN) hash.set(api.lua_toboolean(L, -1) !== 0, value);
    }
    if (api.lua_getmetatable(L, at) !== 0) {
      api.lua_settop(L, -2);
      for (const [name, value] of this.lateFields(L, at)) hash.set(name, readOf(value));
    }
    // Entries may come in any order: those of 1..n that came late belong to the array.
    for (let next = hash.get(array.length + 1); next !== undefined; ) {
      hash.delete(array.length + 1);
      array.push(next);
      next = hash.get(array.length + 1);
    }
    return { array, hash };
  }
}
