import type { CallBatch, ResultBatch } from "./wire.ts";
import type { PoolStats } from "./worker/library.ts";

/** What a worker thread is started with. */
export interface WorkerOptions {
  readonly thread: number;
  readonly threads: number;
  readonly secret: Uint8Array;
  /** `vmq_diversity.*` and `vmq_bcrypt.*` by full key. */
  readonly settings: ReadonlyMap<string, string | number | boolean>;
  readonly instructionLimit: number;
  readonly memoryLimit: number;
  readonly callTimeoutMs: number;
  /** Counter of turns, id of the call that runs (see thread.ts). */
  readonly progress: SharedArrayBuffer;
  /** One byte per call id modulo its size: 1 = begun. */
  readonly begun: SharedArrayBuffer;
}

/** Places in `progress`. */
export const TURNS = 0;
export const RUNNING_CALL = 1;
/** Version of the script that is being loaded or run. */
export const RUNNING_VERSION = 2;

export interface LoadRequest {
  readonly type: "load";
  readonly request: number;
  /** Number of this version, unique in the broker. */
  readonly version: number;
  readonly path: string;
  readonly source: Uint8Array;
  readonly scriptDir: string;
  readonly bundledDir: string;
  readonly keepState: boolean;
  /** `vmq_diversity.nr_lua_states` where it was written. */
  readonly defaultStates: number | undefined;
}

export type ToWorker =
  | CallBatch
  | LoadRequest
  | { readonly type: "retire"; readonly version: number }
  | { readonly type: "cancel"; readonly id: number }
  | {
      readonly type: "answer";
      readonly request: number;
      readonly value?: unknown;
      readonly fault?: string;
    };

export interface LoadAnswer {
  readonly type: "loaded";
  readonly request: number;
  readonly hooks?: readonly string[];
  readonly numStates?: number;
  readonly keepState?: boolean;
  readonly modules?: readonly string[];
  /** Why it failed, with `file:line:` where Lua knows it. */
  readonly fault?: string;
}

export interface ServiceRequest {
  readonly type: "ask";
  /** 0 = nobody waits for an answer. */
  readonly request: number;
  readonly service: string;
  readonly args: unknown;
  readonly script: string;
  readonly id: number;
}

export interface LogLine {
  readonly type: "log";
  readonly level: "debug" | "info" | "warn" | "error";
  readonly message: string;
  readonly fields: Readonly<Record<string, string | number | boolean | undefined>>;
  readonly script: string | undefined;
}

export interface WorkerStats {
  readonly type: "stats";
  readonly pools: readonly PoolStats[];
  readonly versions: readonly { version: number; states: number; memoryBytes: number }[];
}

export type FromWorker =
  | ResultBatch
  | LoadAnswer
  | ServiceRequest
  | LogLine
  | WorkerStats
  | {
      readonly type: "ready";
      /** See thread-time.ts. */
      readonly accounts: string | undefined;
    };
