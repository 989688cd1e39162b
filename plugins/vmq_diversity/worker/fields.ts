import type { LuaResult } from "./library.ts";
import type { LuaApi, Pointer } from "./lua-api.ts";
import type { Marshal } from "./marshal.ts";

/**
 * Fields of argument tables (README, "Hooks and answers"), by number; a set of them is a number with one bit
 * each. The first five are in the order of a publish record (wire.ts).
 */
export const FIELDS = [
  "username",
  "mountpoint",
  "client_id",
  "topic",
  "payload",
  "qos",
  "retain",
  "properties",
  "topics",
  "addr",
  "port",
  "password",
  "clean_session",
  "clean_start",
  "listener_addr",
  "listener_port",
  "listener_type",
  "client_cert",
] as const;

const NUMBERS: ReadonlyMap<string, number> = new Map(FIELDS.map((name, field) => [name, field]));

/** Number of a field; undefined for what is none. */
export function fieldNumber(name: string): number | undefined {
  return NUMBERS.get(name);
}

/** The set of these fields. */
export function setOf(...names: readonly (typeof FIELDS)[number][]): number {
  return names.reduce((set, name) => set | (1 << FIELDS.indexOf(name)), 0);
}

/** A hook of a script. */
export interface HookFields {
  readonly tools: ArgumentTools;
  /** Set of the fields that it has read so far: they are put into its tables at once. */
  fields: number;
}

/** What arguments are put on a stack with. */
export interface ArgumentTools {
  readonly api: LuaApi;
  readonly marshal: Marshal;
  /** Names of the fields as C strings, by number. */
  readonly fieldNames: readonly Pointer[];
}

/** Longer strings, and tables with something in them, wait until they are read, each time. */
export const SMALL_BYTES_MAX = 1024;

/** Says why a field cannot be read. */
export const ENDED = "what a call did not read of its arguments is gone when it has ended";

/** What a hook is called with. */
export interface HookArguments {
  readonly read: HookFields;
  /** Set of the fields that the table need not have at once. */
  leftOut(): number;
  /** Puts the table without these fields on the stack. */
  push(L: Pointer, leftOut: number): void;
  /** The value of a field that was left out. */
  valueOf(field: number): LuaResult;
}
