/**
 * The hot transport: one TCP or unix socket on its libuv handle, without Node's stream layers. All
 * sockets read into one shared buffer; writes go straight from the caller's memory; there is no
 * `net.Socket` and no closure per connection. `StreamTransport` stands in where Node hides handles.
 *
 * Measured (Node 20.20, 2 shared cores, test/core/listeners/transport.bench.ts), against `net.Socket`
 * with 'data' events: 8000 connects 22-27 k/s instead of 8-10 k/s; an idle connection 0.36 KB of
 * JS heap instead of 1.7 KB, 1.5 KB of resident memory instead of 4.7 KB; a 64 byte write 0.5 us of
 * user time instead of 0.9-1.1 us (the kernel's 2-3 us come on top); 10 k reads a second over 1000
 * sockets 9.5 us each instead of 22 us. One socket read 175 MB of 35 byte packets in 0.15 s of CPU.
 * Ruled out: `new net.Socket({ handle, onread })` (12 k/s connects against 18 k/s for plain sockets
 * and 36 k/s for bare handles in the same bare server, and no less memory than plain sockets).
 */
import { getSystemErrorName } from "node:util";
import { LOCAL_PEER, type Origin, plainAddress, UNKNOWN_PEER } from "./peer.ts";
import { findRawStreams, type RawHandle, type RawRequest, type RawStreams } from "./raw-handle.ts";
import type {
  ListenerEvents,
  ListenerSettings,
  Peer,
  Transport,
  TransportHandler,
} from "./types.ts";

/** libuv's own suggestion for a read; one buffer serves every socket since reads never overlap. */
const READ_BUFFER_BYTES = 65_536;

/** How long `end()` waits for the peer to take the last bytes and close its side. */
export const LINGER_MS = 5000;

/** UV_EOF, the peer closed its side. */
const EOF = -4095;

/** What a transport tells the listener that accepted it. */
export interface RawOwner {
  readonly settings: ListenerSettings;
  closed(): void;
}

type State = "open" | "ending" | "closed";

/** A handle owned by one of our transports. */
interface OwnedHandle extends RawHandle {
  transport: RawTransport;
}

interface WriteRequest extends RawRequest {
  transport?: RawTransport;
}

/** Takes the place of the session before `start` and after the end. */
export const IGNORE: TransportHandler = { onData() {}, onDrain() {}, onClose() {} };

const found = findRawStreams();
const raw: RawStreams = found ?? {
  newWrite: () => ({}),
  newShutdown: () => ({}),
  state: new Int32Array(8),
  readIndex: 0,
  asyncIndex: 1,
};
/** False: this Node hides its stream internals and listeners use `StreamTransport` instead. */
export const RAW_AVAILABLE = found !== undefined;

const sharedBuffer = Buffer.allocUnsafeSlow(READ_BUFFER_BYTES);
const { state, readIndex, asyncIndex } = raw;
// A request object is only used up by a write that could not finish at once.
let spareWrite: WriteRequest = raw.newWrite();

function onRead(this: RawHandle): void {
  const bytes = state[readIndex] as number;
  const { transport } = this as OwnedHandle;
  if (bytes > 0) transport.received(bytes);
  else if (bytes < 0) transport.readEnded(bytes);
}

function onWritten(this: RawRequest, status: number): void {
  (this as WriteRequest).transport?.written(status);
}

function onShutdown(this: RawRequest): void {
  (this as WriteRequest).transport?.sentAll();
}

function onHandleClosed(this: RawHandle): void {
  (this as OwnedHandle).transport.handleClosed();
}

function endTransport(transport: RawTransport): void {
  transport.end();
}

function lingerOver(transport: RawTransport): void {
  transport.fail("linger", "ETIMEDOUT");
}

/** Address of the other end of a raw handle. */
export function peerOfHandle(handle: RawHandle): Peer {
  if (handle.getpeername === undefined) return LOCAL_PEER;
  const out: { address?: string; port?: number } = {};
  if (handle.getpeername(out) !== 0) return UNKNOWN_PEER;
  if (out.address === undefined || out.port === undefined) return UNKNOWN_PEER;
  return { address: plainAddress(out.address), port: out.port };
}

/** One accepted socket. `peer` and `preAuthUsername` may be set until the transport is handed out. */
export class RawTransport implements Transport {
  peer: Peer;
  preAuthUsername: string | undefined = undefined;
  /** Of the session, or `IGNORE` before `start` and after `onClose`. */
  handler: TransportHandler = IGNORE;

  private readonly handle: RawHandle;
  private readonly owner: RawOwner;
  private state: State = "open";
  private reading = false;
  private sawEof = false;
  private sentFin = false;
  private pendingWrites = 0;
  private error: Error | undefined = undefined;
  private linger: NodeJS.Timeout | undefined = undefined;

  constructor(handle: RawHandle, peer: Peer, owner: RawOwner) {
    this.handle = handle;
    this.peer = peer;
    this.owner = owner;
    handle.transport = this;
    handle.setNoDelay?.(true);
    handle.useUserBuffer(sharedBuffer);
    handle.onread = onRead;
  }

  get listener(): ListenerSettings {
    return this.owner.settings;
  }

  get clientCert(): Buffer | undefined {
    return undefined;
  }

  get bufferedBytes(): number {
    return this.pendingWrites === 0 || this.state === "closed" ? 0 : this.handle.writeQueueSize;
  }

  /** False before `start` and after the end. */
  get isStarted(): boolean {
    return this.handler !== IGNORE;
  }

  start(handler: TransportHandler): void {
    this.handler = handler;
    this.resume();
  }

  write(data: Buffer): boolean {
    if (this.state !== "open") return true; // nobody will read it; the memory is free again
    const request = spareWrite;
    const error = this.handle.writeBuffer(request, data);
    if (error !== 0) {
      spareWrite = raw.newWrite();
      this.fail("write", getSystemErrorName(error));
      return true;
    }
    if (state[asyncIndex] === 0) return true;
    spareWrite = raw.newWrite();
    request.oncomplete = onWritten;
    request.transport = this;
    request.buffer = data;
    this.pendingWrites += 1;
    return false;
  }

  pause(): void {
    if (!this.reading || this.state !== "open") return;
    this.reading = false;
    this.handle.readStop();
  }

  resume(): void {
    if (this.reading || this.sawEof || this.state === "closed") return;
    this.reading = true;
    const error = this.handle.readStart();
    if (error !== 0) this.fail("read", getSystemErrorName(error));
  }

  end(): void {
    if (this.state !== "open") return;
    // Reads on and throws away: closing with unread bytes makes the kernel reset the connection,
    // and the peer could lose the last packet (a CONNACK with the reason, say).
    this.resume();
    this.state = "ending";
    this.linger = setTimeout(lingerOver, LINGER_MS, this).unref();
    const request: WriteRequest = raw.newShutdown();
    request.oncomplete = onShutdown;
    request.transport = this;
    // 1 = done at once; an error means the peer is gone already (ENOTCONN).
    if (this.handle.shutdown(request) !== 0) this.sentAll();
  }

  destroy(): void {
    if (this.state === "closed") return;
    this.state = "closed";
    clearTimeout(this.linger);
    this.handle.close(onHandleClosed);
  }

  /** Ends with an error; the session hears of it in `onClose`, never inside the failing call. */
  fail(call: string, code: string): void {
    if (this.state === "closed") return;
    this.error = Object.assign(new Error(`${call} ${code}`), { code });
    this.destroy();
  }

  /** @internal Bytes are in the shared buffer. */
  received(bytes: number): void {
    if (this.state === "open") this.handler.onData(sharedBuffer, bytes);
  }

  /** Hands over the connection under the address and name that a PROXY header gave. */
  release(origin: Origin, events: ListenerEvents): void {
    this.peer = origin.peer;
    this.preAuthUsername = origin.preAuthUsername;
    const gate = this.handler;
    events.onTransport(this);
    if (this.handler === gate) this.destroy();
  }

  /** @internal The peer closed its side, or reading failed. */
  readEnded(status: number): void {
    if (status !== EOF) {
      this.fail("read", getSystemErrorName(status));
      return;
    }
    this.sawEof = true;
    this.reading = false;
    if (this.sentFin) this.destroy();
    // Answers to the last packets may still be in the session's outbox: they go out this turn.
    else if (this.state === "open") setImmediate(endTransport, this);
  }

  /** @internal One write that had to wait is over. */
  written(status: number): void {
    this.pendingWrites -= 1;
    if (this.state === "closed") return;
    if (status < 0) this.fail("write", getSystemErrorName(status));
    else if (this.pendingWrites === 0 && this.state === "open") this.handler.onDrain();
  }

  /** @internal All bytes and the FIN are out. */
  sentAll(): void {
    this.sentFin = true;
    if (this.sawEof) this.destroy();
  }

  /** @internal The kernel socket is gone. */
  handleClosed(): void {
    const { handler } = this;
    this.handler = IGNORE;
    this.owner.closed();
    handler.onClose(this.error);
  }
}
