import type { Counters } from "../counters.ts";
import type { Transport } from "../listeners/types.ts";
import { copyBytes } from "../mqtt/message.ts";

/** First chunk of an outbox: enough for acknowledgements and a few small messages. */
const SMALL_CHUNK = 1024;
/** Chunk for a busy outbox; what fits leaves in one system call. */
const LARGE_CHUNK = 65_536;
/** Frames above this are not copied: head and payload are handed to the socket as they are. */
export const COPY_MAX = 16_384;
/** Bytes a socket may hold before its session counts as slow and its messages wait in its queue. */
const BLOCK_BYTES = 262_144;
/** Free chunks kept for reuse. */
const POOL_SMALL_MAX = 2048;
const POOL_LARGE_MAX = 64;

const smallChunks: Buffer[] = [];
const largeChunks: Buffer[] = [];

function takeSmall(): Buffer {
  return smallChunks.pop() ?? Buffer.allocUnsafeSlow(SMALL_CHUNK);
}

function takeLarge(): Buffer {
  return largeChunks.pop() ?? Buffer.allocUnsafeSlow(LARGE_CHUNK);
}

function release(chunk: Buffer): void {
  if (chunk.length === SMALL_CHUNK) {
    if (smallChunks.length < POOL_SMALL_MAX) smallChunks.push(chunk);
  } else if (largeChunks.length < POOL_LARGE_MAX) {
    largeChunks.push(chunk);
  }
}

/** Writes every outbox that got bytes in this turn of the event loop, once, at its end. */
export class Flusher {
  private dirty: Outbox[] = [];
  private scheduled = false;
  private readonly run = (): void => this.flush();

  add(outbox: Outbox): void {
    this.dirty.push(outbox);
    if (this.scheduled) return;
    this.scheduled = true;
    setImmediate(this.run);
  }

  private flush(): void {
    const dirty = this.dirty;
    this.dirty = [];
    this.scheduled = false;
    for (let i = 0; i < dirty.length; i++) (dirty[i] as Outbox).flush();
  }
}

/** Bytes on their way to one socket. Appending copies into a pooled chunk; nothing is held when idle. */
export class Outbox {
  chunk: Buffer | undefined;
  length = 0;
  /** The socket is not taking more; appended bytes still go out, but callers should stop. */
  blocked = false;
  /** Bytes appended since the socket stopped taking them: answers to a client that does not read. */
  unreadBytes = 0;
  /** Before `chunk` in order: `chunk` is only filled when there is none. */
  private shared: Buffer[] | undefined;
  private queued = false;
  private closed = false;
  private transport: Pick<Transport, "write" | "bufferedBytes">;
  private readonly flusher: Flusher;
  private readonly counters: Counters;

  constructor(transport: Transport, flusher: Flusher, counters: Counters) {
    this.transport = transport;
    this.flusher = flusher;
    this.counters = counters;
  }

  /**
   * Makes room for `size` bytes (at most COPY_MAX + a head) and returns their offset in `chunk`, which
   * may be another buffer after the call.
   */
  reserve(size: number): number {
    const chunk = this.chunk;
    const at = this.length;
    if (chunk !== undefined && at + size <= chunk.length) {
      this.length = at + size;
      return at;
    }
    return this.grow(size);
  }

  private grow(size: number): number {
    const chunk = this.chunk;
    if (chunk === undefined) {
      if (this.shared !== undefined) this.writeShared(this.shared);
      this.chunk = size <= SMALL_CHUNK ? takeSmall() : takeLarge();
      if (!this.queued) {
        this.queued = true;
        this.flusher.add(this);
      }
    } else if (chunk.length === SMALL_CHUNK) {
      const larger = takeLarge();
      copyBytes(chunk, 0, this.length, larger, 0);
      release(chunk);
      this.chunk = larger;
    } else {
      this.write();
      this.chunk = takeLarge();
    }
    const at = this.length;
    this.length = at + size;
    return at;
  }

  /** Shows every byte to `seen` before the socket gets it, from a packet's beginning on; until the answer is called. */
  watch(seen: (bytes: Buffer) => void): () => void {
    const { transport } = this;
    this.transport = {
      get bufferedBytes() {
        return transport.bufferedBytes;
      },
      write: (bytes) => {
        seen(bytes);
        return transport.write(bytes);
      },
    };
    return () => {
      this.transport = transport;
    };
  }

  /** The socket took everything. */
  unblock(): void {
    this.blocked = false;
    this.unreadBytes = 0;
  }

  append(bytes: Buffer): void {
    if (bytes.length > COPY_MAX) {
      this.appendLarge(bytes);
      return;
    }
    const at = this.reserve(bytes.length);
    copyBytes(bytes, 0, bytes.length, this.chunk as Buffer, at);
  }

  /** Hands memory to the socket without a copy; the caller never changes it again. */
  appendLarge(bytes: Buffer): void {
    this.write();
    if (this.closed) return;
    this.counters.bytesSent += bytes.length;
    if (!this.transport.write(bytes)) this.blocked = this.transport.bufferedBytes > BLOCK_BYTES;
  }

  /** Adds bytes that several outboxes share; they leave with the others at the end of the turn. */
  appendShared(bytes: Buffer): void {
    this.write();
    this.shared ??= [];
    this.shared.push(bytes);
    if (this.queued) return;
    this.queued = true;
    this.flusher.add(this);
  }

  /** Called by the flusher, and before a close. */
  flush(): void {
    this.queued = false;
    this.write();
  }

  private writeShared(shared: Buffer[]): void {
    this.shared = undefined;
    if (this.closed) return;
    for (const bytes of shared) {
      this.counters.bytesSent += bytes.length;
      if (!this.transport.write(bytes)) this.blocked = this.transport.bufferedBytes > BLOCK_BYTES;
    }
  }

  private write(): void {
    if (this.shared !== undefined) this.writeShared(this.shared);
    const chunk = this.chunk;
    if (chunk === undefined) return;
    const length = this.length;
    this.chunk = undefined;
    this.length = 0;
    if (this.closed || length === 0) {
      release(chunk);
      return;
    }
    this.counters.bytesSent += length;
    if (this.blocked) this.unreadBytes += length;
    if (this.transport.write(length === chunk.length ? chunk : chunk.subarray(0, length))) {
      release(chunk);
    } else {
      this.blocked = this.transport.bufferedBytes > BLOCK_BYTES;
    }
  }

  /** Nothing more will be sent. */
  close(): void {
    this.closed = true;
    if (this.chunk !== undefined) release(this.chunk);
    this.chunk = undefined;
    this.shared = undefined;
    this.length = 0;
  }
}
