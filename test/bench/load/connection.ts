// Client sockets of one thread: whole packets in, one write per socket and turn out.
import { connect, type Socket } from "node:net";
import { nowMs } from "./clock.ts";
import { readVarint, varintLength } from "./codec.ts";

/** Bytes taken from a socket at once. */
export const READ_BYTES = 256 << 10;
/** Bytes that a socket holds before its publisher has to wait. */
const HIGH_WATER_BYTES = 64 << 10;
const PACKET_BYTES_MAX = 64 << 20;
const NOTHING: Buffer = Buffer.alloc(0);

/** What the owner of a connection is told. */
export interface ConnectionEvents {
  /** TCP is up. */
  onUp(connection: Connection): void;
  /** One whole packet: `bytes[start..end)` is its body. A text closes, with that reason. */
  onPacket(
    connection: Connection,
    header: number,
    bytes: Buffer,
    start: number,
    end: number,
  ): string | undefined;
  /** It ended. Told once; `reason` is for the user. */
  onClosed(connection: Connection, reason: string): void;
  /** The socket has room again. */
  onDrain(connection: Connection): void;
}

/** What the connections of a thread share: the read buffer, the time, who has something to send. */
export class Reactor {
  /** Filled by one read and worked through before the next, so one is enough for all sockets. */
  readonly readBuffer: Buffer = Buffer.allocUnsafe(READ_BYTES);
  /** Time of the last read or turn. */
  now: number = nowMs();
  bytesIn = 0;
  readonly #dirty: Connection[] = [];
  readonly #onTurn: () => void;
  #isScheduled = false;

  /** `onTurn` runs once after a round of reads, before everything is written. */
  constructor(onTurn: () => void) {
    this.#onTurn = onTurn;
  }

  markDirty(connection: Connection): void {
    this.#dirty.push(connection);
    this.schedule();
  }

  /** Asks for a turn after the reads that are ready now. */
  schedule(): void {
    if (this.#isScheduled) return;
    this.#isScheduled = true;
    setImmediate(() => {
      this.#isScheduled = false;
      this.now = nowMs();
      this.#onTurn();
    });
  }

  flush(): void {
    for (const connection of this.#dirty) connection.flush();
    this.#dirty.length = 0;
  }
}

/** One client's socket. Append with `reserve` or `send`; the reactor writes. */
export class Connection {
  /** Bytes to be written, up to `length`; valid until the next `reserve`. */
  out: Buffer = NOTHING;
  /** True while the socket holds more than it should. */
  isBlocked = false;
  isOpen = true;
  readonly #reactor: Reactor;
  readonly #events: ConnectionEvents;
  readonly #socket: Socket;
  #length = 0;
  #isDirty = false;
  #rest: Buffer = NOTHING; // the beginning of a packet
  #reason = "";

  constructor(
    reactor: Reactor,
    events: ConnectionEvents,
    to: { host: string; port: number; localAddress?: string },
  ) {
    this.#reactor = reactor;
    this.#events = events;
    const onread = {
      buffer: reactor.readBuffer,
      callback: (n: number, bytes: Uint8Array) => this.#onRead(n, bytes as Buffer),
    };
    this.#socket = connect({ ...to, noDelay: true, onread, ...highWater() });
    this.#socket.on("connect", () => events.onUp(this));
    this.#socket.on("drain", () => this.#onDrain());
    this.#socket.on("error", (error: NodeJS.ErrnoException) => {
      this.#reason ||= error.code ?? error.message;
    });
    this.#socket.on("close", () => this.close("closed by broker"));
  }

  /** Makes room for some bytes that the caller fills in; gives their offset in `out`. */
  reserve(bytes: number): number {
    const at = this.#length;
    if (this.out.length - at < bytes) this.#grow(bytes);
    this.#length += bytes;
    if (!this.#isDirty) {
      this.#isDirty = true;
      this.#reactor.markDirty(this);
    }
    return at;
  }

  send(packet: Uint8Array): void {
    const at = this.reserve(packet.length);
    this.out.set(packet, at);
  }

  /** Appends a packet that has nothing but a packet identifier. */
  sendAck(head: number, packetId: number): void {
    const at = this.reserve(4);
    const out = this.out;
    out[at] = head;
    out[at + 1] = 2;
    out[at + 2] = packetId >> 8;
    out[at + 3] = packetId & 255;
  }

  /** Bytes not given to the socket yet. */
  get pendingBytes(): number {
    return this.#length;
  }

  flush(): void {
    this.#isDirty = false;
    if (this.#length === 0 || !this.isOpen) return;
    const bytes = this.out.subarray(0, this.#length);
    this.#length = 0;
    this.#socket.write(bytes);
    const held = this.#socket.writableLength;
    this.isBlocked = held >= HIGH_WATER_BYTES;
    if (held > 0) this.out = NOTHING; // the socket still reads from it
  }

  /** Frees the output buffer of a connection that goes idle. */
  trim(): void {
    if (this.#length === 0) this.out = NOTHING;
  }

  /** Ends the connection and tells the owner, once. */
  close(reason: string): void {
    if (!this.isOpen) return;
    this.isOpen = false;
    this.#socket.destroy();
    this.#events.onClosed(this, this.#reason || reason);
  }

  #grow(bytes: number): void {
    let capacity = Math.max(256, this.out.length);
    while (capacity - this.#length < bytes) capacity *= 2;
    const bigger = Buffer.allocUnsafe(capacity);
    this.out.copy(bigger, 0, 0, this.#length);
    this.out = bigger;
  }

  #onDrain(): void {
    this.isBlocked = false;
    if (this.isOpen) this.#events.onDrain(this);
    this.#reactor.schedule();
  }

  #onRead(n: number, chunk: Buffer): boolean {
    this.#reactor.bytesIn += n;
    this.#reactor.now = nowMs();
    const rest = this.#rest;
    const bytes = rest.length ? Buffer.concat([rest, chunk.subarray(0, n)]) : chunk;
    const length = rest.length + n;
    const at = this.#packets(bytes, length);
    if (!this.isOpen) return false;
    this.#rest = at < length ? Buffer.from(bytes.subarray(at, length)) : NOTHING;
    this.#reactor.schedule();
    return true;
  }

  /** Hands over the whole packets in `bytes[0..length)`; gives where the first partial begins. */
  #packets(bytes: Buffer, length: number): number {
    let at = 0;
    while (length - at >= 2) {
      let body = bytes[at + 1] ?? 0;
      let start = at + 2;
      if (body > 127) {
        const lengthBytes = varintLength(bytes, at + 1);
        if (at + 1 + lengthBytes > length) break;
        body = readVarint(bytes, at + 1);
        start = at + 1 + lengthBytes;
      }
      if (body < 0 || body > PACKET_BYTES_MAX) {
        this.close("protocol error: packet length");
        break;
      }
      if (length - start < body) break;
      const fault = this.#events.onPacket(this, bytes[at] ?? 0, bytes, start, start + body);
      if (fault !== undefined) this.close(fault);
      if (!this.isOpen) break;
      at = start + body;
    }
    return at;
  }
}

/** net.connect hands its options to the stream, which @types/node does not say. */
function highWater(): object {
  return { writableHighWaterMark: HIGH_WATER_BYTES };
}
