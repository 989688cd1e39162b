import type { LuaApi, Pointer } from "./lua-api.ts";

/**
 * Memory of Lua states, counted and bounded per state. The allocator is a WebAssembly module of its own: Lua
 * calls it for each of its objects, and a way through JavaScript would cost more than most of them.
 */
export class Allocator {
  /** A `lua_Alloc` whose data is an `account`. */
  readonly function: Pointer;
  private readonly api: LuaApi;
  private readonly limitBytes: number;

  constructor(api: LuaApi, limitBytes: number) {
    this.api = api;
    this.limitBytes = Math.min(limitBytes, 0xffff_ffff);
    const { Module, Instance } = (globalThis as unknown as { WebAssembly: WebAssemblyScope })
      .WebAssembly;
    const { memory, realloc, free } = api.exports;
    const { exports } = new Instance(new Module(MODULE), { lua: { memory, realloc, free } });
    this.function = api.addFunction(exports.allocate, "iiiii");
  }

  /** For one state: bytes in use, and their limit. */
  open(): Pointer {
    const account = this.api.malloc(8);
    this.view.setUint32(account, 0, true);
    this.view.setUint32(account + 4, this.limitBytes, true);
    return account;
  }

  bytesOf(account: Pointer): number {
    return this.view.getUint32(account, true);
  }

  close(account: Pointer): void {
    this.api.free(account);
  }

  private get view(): DataView {
    return new DataView(this.api.memory.buffer);
  }
}

interface WebAssemblyScope {
  readonly Module: new (bytes: Uint8Array) => object;
  readonly Instance: new (
    module: object,
    imports: object,
  ) => { readonly exports: { allocate(...args: number[]): number } };
}

/** Opcodes and types (WebAssembly Core Specification, 5.3 and 5.4). */
const [I32, FUNCTION, NO_VALUE, FUNCTION_IMPORT, MEMORY_IMPORT] = [0x7f, 0x60, 0x40, 0x00, 0x02];
const [IF, END, RETURN] = [0x04, 0x0b, 0x0f];
const [ZERO, EQZ, GREATER, ADD, SUB, AND] = [[0x41, 0x00], 0x45, 0x4b, 0x6a, 0x6b, 0x71] as const;
const get = (local: number): number[] => [0x20, local];
const set = (local: number): number[] => [0x21, local];
const tee = (local: number): number[] => [0x22, local];
const call = (index: number): number[] => [0x10, index];
/** Of four bytes at the address on the stack and an offset. */
const load = (offset: number): number[] => [0x28, 2, offset];
const store = (offset: number): number[] => [0x36, 2, offset];

/** Behind its length, in two bytes as it may be above 127. */
const sized = (bytes: readonly number[]): number[] => [
  (bytes.length & 0x7f) | 0x80,
  bytes.length >> 7,
  ...bytes,
];
const section = (id: number, ...entries: readonly number[][]): number[] => [
  id,
  ...sized([entries.length, ...entries.flat()]),
];
const name = (text: string): number[] => sized([...Buffer.from(text)]);
const type = (parameters: number, results: number): number[] => [
  FUNCTION,
  ...sized(Array(parameters).fill(I32)),
  ...sized(Array(results).fill(I32)),
];

const REALLOC = 0;
const FREE = 1;
const ALLOCATE = 2;
/** Parameters of `lua_Alloc`, and a variable; the code begins with the number and type of variables. */
const [ACCOUNT, AT, OLD, NEW, USED] = [0, 1, 2, 3, 4] as const;
const USED_OFFSET = 0;
const LIMIT_OFFSET = 4;

// biome-ignore format: a line for each step
const BODY = [
  ...get(ACCOUNT), ...load(USED_OFFSET), ...set(USED),
  // Nothing is wanted: what was there is free.
  ...get(NEW), EQZ, IF, NO_VALUE,
    ...get(AT), IF, NO_VALUE,
      ...get(ACCOUNT), ...get(USED), ...get(OLD), SUB, ...store(USED_OFFSET),
      ...get(AT), ...call(FREE),
    END,
    ...ZERO, RETURN,
  END,
  // For a new block the old size says what it is for.
  ...get(AT), EQZ, IF, NO_VALUE, ...ZERO, ...set(OLD), END,
  ...get(USED), ...get(NEW), ADD, ...get(OLD), SUB, ...set(USED),
  // What grows beyond the limit is refused; Lua never expects that of what shrinks.
  ...get(NEW), ...get(OLD), GREATER,
  ...get(USED), ...get(ACCOUNT), ...load(LIMIT_OFFSET), GREATER,
  AND, IF, NO_VALUE, ...ZERO, RETURN, END,
  ...get(AT), ...get(NEW), ...call(REALLOC), ...tee(AT),
  IF, NO_VALUE, ...get(ACCOUNT), ...get(USED), ...store(USED_OFFSET), END,
  ...get(AT),
];

const MODULE = new Uint8Array([
  ...[0x00, 0x61, 0x73, 0x6d, 1, 0, 0, 0],
  // Types: 0 allocate, 1 realloc, 2 free.
  ...section(1, type(4, 1), type(2, 1), type(1, 0)),
  ...section(
    2,
    [...name("lua"), ...name("memory"), MEMORY_IMPORT, 0, 0],
    [...name("lua"), ...name("realloc"), FUNCTION_IMPORT, 1],
    [...name("lua"), ...name("free"), FUNCTION_IMPORT, 2],
  ),
  ...section(3, [0]),
  ...section(7, [...name("allocate"), 0x00, ALLOCATE]),
  ...section(10, sized([1, 1, I32, ...BODY, END])),
]);
