/** The part of Node's socket handles that the TCP hot path uses directly, and the check that it is there. */
import type net from "node:net";

/**
 * A libuv stream as `net` itself uses it (`lib/net.js`, `lib/internal/stream_base_commons.js`; the
 * same from Node 12 to 24). `transport` is ours: the handle is `this` in every callback, so no
 * connection needs a closure.
 */
export interface RawHandle {
  transport?: unknown;
  onread: (this: RawHandle) => void;
  readStart(): number;
  readStop(): number;
  useUserBuffer(buffer: Uint8Array): void;
  /** 0 or a negative error number; whether it went out at once is in `StreamState`. */
  writeBuffer(request: RawRequest, data: Uint8Array): number;
  shutdown(request: RawRequest): number;
  close(done?: (this: RawHandle) => void): void;
  readonly writeQueueSize: number;
  /** TCP only, as are the next two. */
  getpeername?(out: { address?: string; port?: number }): number;
  setNoDelay?(on: boolean): number;
}

/** WriteWrap or ShutdownWrap: one operation that did not finish at once. */
export interface RawRequest {
  oncomplete?: (this: RawRequest, status: number) => void;
  /** Keeps the bytes alive until they are written. */
  buffer?: Uint8Array;
}

/** A listening handle; `net.Server` keeps it as `_handle`. */
export interface RawServerHandle {
  onconnection: (this: RawServerHandle, status: number, handle: RawHandle | undefined) => void;
}

/** Node's internals, found once per process. */
export interface RawStreams {
  newWrite(): RawRequest;
  newShutdown(): RawRequest;
  /** Result fields of the last call into a handle; shared by all streams of the process. */
  readonly state: Int32Array;
  readonly readIndex: number;
  readonly asyncIndex: number;
}

interface StreamWrapBinding {
  WriteWrap: new () => RawRequest;
  ShutdownWrap: new () => RawRequest;
  streamBaseState: Int32Array;
  kReadBytesOrError: number;
  kLastWriteWasAsync: number;
}

/** undefined when this Node hides or changed the internals; callers then use `net.Socket`. */
export function findRawStreams(): RawStreams | undefined {
  let binding: Partial<StreamWrapBinding>;
  try {
    const source = process as unknown as { binding(name: string): Partial<StreamWrapBinding> };
    binding = source.binding("stream_wrap");
  } catch {
    return undefined; // `--permission` and future versions refuse process.binding
  }
  const { WriteWrap, ShutdownWrap, streamBaseState, kReadBytesOrError, kLastWriteWasAsync } =
    binding;
  if (typeof WriteWrap !== "function" || typeof ShutdownWrap !== "function") return undefined;
  if (!(streamBaseState instanceof Int32Array)) return undefined;
  if (typeof kReadBytesOrError !== "number" || typeof kLastWriteWasAsync !== "number") {
    return undefined;
  }
  return {
    newWrite: () => new WriteWrap(),
    newShutdown: () => new ShutdownWrap(),
    state: streamBaseState,
    readIndex: kReadBytesOrError,
    asyncIndex: kLastWriteWasAsync,
  };
}

const NEEDED = ["readStart", "readStop", "useUserBuffer", "writeBuffer", "shutdown", "close"];

/** Whether an accepted handle has all methods of `RawHandle`. */
export function isRawHandle(handle: object): handle is RawHandle {
  const methods = handle as Record<string, unknown>;
  return NEEDED.every((name) => typeof methods[name] === "function") && "onread" in handle;
}

/** The handle of a listening server, when it hands out connections the way we know. */
export function rawServerHandle(server: net.Server): RawServerHandle | undefined {
  const handle = (server as unknown as { _handle?: Partial<RawServerHandle> | null })._handle;
  return typeof handle?.onconnection === "function" ? (handle as RawServerHandle) : undefined;
}
