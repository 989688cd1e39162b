/**
 * The contract between the Lua engine and the modules that scripts see as global tables (`postgres`,
 * `json`, ...). A library is plain TypeScript: it knows no Lua state, only values.
 */

/** A Lua table as a library gets it. */
export interface LuaTable {
  /** Values at 1..n, without holes. */
  readonly array: readonly LuaValue[];
  /** All other entries in Lua's order of traversal. String keys are UTF-8 text. */
  readonly hash: ReadonlyMap<string | number | boolean, LuaValue>;
}

/**
 * An argument: nil is undefined, a string its bytes, an integer beyond 2^53 a bigint. Functions and
 * other values that no library takes arrive as an `OpaqueValue`.
 */
export type LuaValue =
  | undefined
  | boolean
  | number
  | bigint
  | LuaFloat
  | Buffer
  | LuaTable
  | OpaqueValue;

/** A float with an integral value, such as 2.0; other floats and integers are numbers. */
export class LuaFloat {
  readonly value: number;
  constructor(value: number) {
    this.value = value;
  }
}

/** A function, thread or userdata. */
export class OpaqueValue {
  /** Lua's name of the type. */
  readonly type: string;
  constructor(type: string) {
    this.type = type;
  }
}

/**
 * What a library gives back. undefined and null are nil; text becomes UTF-8; integral numbers become
 * integers (a `LuaFloat` stays a float); arrays become tables with 1..n; objects and maps tables by key,
 * without the entries that are undefined or null.
 */
export type LuaResult =
  | undefined
  | null
  | boolean
  | number
  | bigint
  | LuaFloat
  | string
  | Uint8Array
  | readonly LuaResult[]
  | ReadonlyMap<string | number | boolean, LuaResult>
  | { readonly [key: string]: LuaResult };

/** Which call of which script a library works for. */
export interface LuaCall {
  /** Path of the script, as it was loaded. */
  readonly script: string;
  /** Name of the hook, "" while the script is loaded. */
  readonly hook: string;
  /** Number of the hook call, 0 while the script is loaded; services on the main thread know it. */
  readonly id: number;
  /** When the call is given up, in the clock of `performance.now()` of this thread. */
  readonly deadlineMs: number;
  /**
   * Calls `cancel` when the caller gives up before the library has answered; gives the function that takes
   * it back.
   */
  onCancel(cancel: () => void): () => void;
}

/**
 * A function of a library. With a promise the script's coroutine waits for it, and nothing else does.
 * A thrown `LuaError` is raised in the script with its message; any other error likewise, after it was
 * logged as a fault of the broker.
 */
export type LuaFunction = (call: LuaCall, ...args: LuaValue[]) => LuaResult | Promise<LuaResult>;

export type LuaLibrary = Readonly<Record<string, LuaFunction>>;

/** An error for the script: `pcall` catches it; uncaught it ends the hook call. */
export class LuaError extends Error {}

/** Numbers of one connection pool; the engine reads them once a second and makes metrics of them. */
export interface PoolStats {
  /** Provider, such as `postgres`. */
  readonly kind: string;
  /** `pool_id` */
  readonly id: string;
  /** Most connections. */
  readonly size: number;
  /** Open connections. */
  readonly open: number;
  /** Connections in use. */
  readonly busy: number;
  /** Calls that wait for a connection. */
  readonly waiting: number;
  /** Calls, errors and summed milliseconds since the start. */
  readonly calls: number;
  readonly errors: number;
  readonly totalMs: number;
  /** Last error, without passwords. */
  readonly lastError: string | undefined;
}

/** What the engine gives to the libraries of one worker thread. */
export interface LibraryHost {
  /** `vmq_diversity.*` and `vmq_bcrypt.*` of the configuration by full key; absent = not set, no default. */
  readonly settings: ReadonlyMap<string, string | number | boolean>;
  /** Worker threads that run; a pool of a thread has its share of the configured size. */
  readonly threads: number;
  /** Secret of this start of the broker, 32 bytes, the same in all threads. */
  readonly secret: Uint8Array;
  /** A line in the broker's log; carries the script's name when a call is given. */
  log(
    level: "debug" | "info" | "warn" | "error",
    message: string,
    fields?: Readonly<Record<string, string | number | boolean | undefined>>,
    call?: LuaCall,
  ): void;
  /** Asks a service of the main thread (services.ts); its error arrives as a LuaError. */
  ask(service: string, args: unknown, call?: LuaCall): Promise<unknown>;
  /** Tells a service something. What a call tells arrives before the call's own answer. */
  tell(service: string, args: unknown, call?: LuaCall): void;
  /** Adds a pool to the metrics; gives the function that takes it out. */
  pool(read: () => PoolStats): () => void;
}

/** Makes a library for one worker thread; called once, before any script is loaded. */
export type LibraryFactory = (host: LibraryHost) => LuaLibrary;

/** Text of a string argument. Numbers are written as Lua writes them. Throws LuaError naming the argument. */
export function textOf(value: LuaValue, name: string): string {
  if (Buffer.isBuffer(value)) return value.toString("utf8");
  if (typeof value === "number" || typeof value === "bigint") return String(value);
  if (value instanceof LuaFloat) return `${value.value}.0`;
  throw new LuaError(`${name} must be a string, not ${typeNameOf(value)}`);
}

/** A table argument. Throws LuaError naming the argument. */
export function tableOf(value: LuaValue, name: string): LuaTable {
  if (isTable(value)) return value;
  throw new LuaError(`${name} must be a table, not ${typeNameOf(value)}`);
}

export function isTable(value: LuaValue): value is LuaTable {
  return (
    typeof value === "object" &&
    !Buffer.isBuffer(value) &&
    !(value instanceof LuaFloat) &&
    !(value instanceof OpaqueValue)
  );
}

/** Lua's name of a value's type. */
export function typeNameOf(value: LuaValue): string {
  if (value === undefined) return "nil";
  if (typeof value === "boolean") return "boolean";
  if (typeof value === "number" || typeof value === "bigint") return "number";
  if (value instanceof LuaFloat) return "number";
  if (Buffer.isBuffer(value)) return "string";
  if (value instanceof OpaqueValue) return value.type;
  return "table";
}
