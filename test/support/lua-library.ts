import { randomBytes } from "node:crypto";
import type { ServiceCall, Services } from "../../plugins/vmq_diversity/services.ts";
import {
  type LibraryHost,
  type LuaCall,
  LuaError,
  LuaFloat,
  type LuaResult,
  type LuaTable,
  type LuaValue,
  OpaqueValue,
} from "../../plugins/vmq_diversity/worker/library.ts";

/** Values as tests write them: text for strings, arrays and objects for tables. */
export type TestValue =
  | undefined
  | boolean
  | number
  | bigint
  | string
  | Buffer
  | LuaFloat
  | OpaqueValue
  | readonly TestValue[]
  | ReadonlyMap<string | number | boolean, TestValue>
  | { readonly [key: string]: TestValue };

/** A value as a library gets it from the engine. */
export function lua(value: TestValue): LuaValue {
  if (typeof value === "string") return Buffer.from(value);
  if (typeof value !== "object" || Buffer.isBuffer(value)) return value;
  if (value instanceof LuaFloat || value instanceof OpaqueValue) return value;
  if (Array.isArray(value)) return { array: value.map(lua), hash: new Map() };
  const entries = value instanceof Map ? [...value] : Object.entries(value);
  return { array: [], hash: new Map(entries.map(([key, inner]) => [key, lua(inner)])) };
}

/** A table with both parts. */
export function luaTable(
  array: readonly TestValue[],
  hash: { readonly [key: string]: TestValue },
): LuaTable {
  return {
    array: array.map(lua),
    hash: new Map(Object.entries(hash).map(([k, v]) => [k, lua(v)])),
  };
}

/** What a script would see of a result: tables as arrays and objects, strings as text. */
export function seen(value: LuaResult): unknown {
  if (value === null) return undefined;
  if (value instanceof Uint8Array) return Buffer.from(value).toString("utf8");
  if (typeof value !== "object" || value instanceof LuaFloat) return value;
  if (Array.isArray(value)) return value.map(seen);
  const entries = value instanceof Map ? [...value] : Object.entries(value);
  return Object.fromEntries(entries.map(([key, inner]) => [key, seen(inner)]));
}

/** A call of one hook; `id` 0 is the load of the script. */
export function luaCall(id = 0, given: Partial<LuaCall> = {}): LuaCall {
  const hook = id === 0 ? "" : "auth_on_register";
  return {
    script: "test.lua",
    hook,
    id,
    deadlineMs: Number.POSITIVE_INFINITY,
    onCancel: () => () => undefined,
    ...given,
  };
}

export interface TestHost extends LibraryHost {
  readonly lines: { level: string; message: string; fields: object | undefined }[];
  /** Arguments of hook calls by id, as the main thread knows them. */
  readonly calls: Map<number, object>;
}

export interface TestHostOptions {
  readonly settings?: Readonly<Record<string, string | number | boolean>>;
  readonly services?: Services;
  readonly threads?: number;
}

/** The engine's side of a library, without an engine: services answer in the same thread, on clones. */
export function luaHost(options: TestHostOptions = {}): TestHost {
  const { settings = {}, services = {}, threads = 1 } = options;
  const calls = new Map<number, object>();
  const lines: TestHost["lines"] = [];
  function serve(name: string, args: unknown, call: LuaCall | undefined): unknown {
    const service = services[name];
    if (service === undefined) throw new Error(`no service ${name}`);
    const from: ServiceCall = {
      script: call?.script ?? "",
      id: call?.id ?? 0,
      args: calls.get(call?.id ?? 0),
    };
    return service(structuredClone(args), from);
  }
  return {
    settings: new Map(Object.entries(settings)),
    threads,
    secret: randomBytes(32),
    lines,
    calls,
    log: (level, message, fields) => void lines.push({ level, message, fields }),
    ask: async (name, args, call) => {
      try {
        return structuredClone(await serve(name, args, call));
      } catch (error) {
        throw new LuaError(error instanceof Error ? error.message : String(error));
      }
    },
    tell: (name, args, call) => void serve(name, args, call),
    pool: () => () => undefined,
  };
}
