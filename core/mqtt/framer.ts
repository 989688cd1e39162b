import { MqttError } from "./packets.ts";

/** Receives whole packets. Offsets are into `buffer`, whose bytes are only valid during the call. */
export interface PacketSink {
  /**
   * One packet: `start` at the fixed header, `body` behind it, `end` behind the packet. Returns false to
   * stop: the rest waits until `Framer.resume`; "later" to stop before this packet, which is given again.
   */
  onPacket(
    header: number,
    buffer: Buffer,
    start: number,
    body: number,
    end: number,
  ): boolean | "later";
}

/** Largest Remaining Length. MQTT 5.0, 1.5.5 and 2.1.4. */
export const REMAINING_LENGTH_MAX = 268_435_455;
/** A buffer above this is given back as soon as it is empty. */
const KEEP_BYTES = 4096;

/**
 * Byte stream to whole packets: parses in place and copies only the tail of a read that ends inside a
 * packet. Memory is bounded by the largest packet allowed plus one read.
 */
export class Framer {
  /** Largest Remaining Length accepted; larger packets fail with 0x95 when their header is read. */
  remainingMax = REMAINING_LENGTH_MAX;
  /** Replaced while somebody looks on. */
  sink: PacketSink;
  private held: Buffer | undefined;
  private heldStart = 0;
  private heldEnd = 0;
  /** Bytes the held packet needs in all, as far as known. */
  private needed = 0;
  private stopped = false;
  private running = false;

  constructor(sink: PacketSink) {
    this.sink = sink;
  }

  get waitingBytes(): number {
    return this.heldEnd - this.heldStart;
  }

  /** Takes what was read. Throws MqttError for a broken or too large header. */
  push(buffer: Buffer, length: number): void {
    if (this.heldEnd === this.heldStart && !this.stopped && !this.running) {
      const used = this.parse(buffer, 0, length);
      if (used < length) this.hold(buffer, used, length);
      return;
    }
    this.hold(buffer, 0, length);
    if (!this.stopped && !this.running && this.waitingBytes >= this.needed) this.drain();
  }

  /** Goes on after a stop. */
  resume(): void {
    this.stopped = false;
    if (!this.running && this.waitingBytes > 0) this.drain();
  }

  stop(): void {
    this.stopped = true;
  }

  private drain(): void {
    const held = this.held as Buffer;
    this.heldStart = this.parse(held, this.heldStart, this.heldEnd);
    if (this.held !== held) return;
    if (this.heldStart === this.heldEnd) {
      this.heldStart = 0;
      this.heldEnd = 0;
      if (held.length > KEEP_BYTES) this.held = undefined;
    }
  }

  private hold(buffer: Buffer, start: number, end: number): void {
    const size = end - start;
    const waiting = this.heldEnd - this.heldStart;
    let held = this.held;
    if (held === undefined || this.heldEnd + size > held.length) {
      // Grows towards the announced length as bytes really arrive: a header alone costs nothing.
      const double = 2 * (waiting + size);
      const known = this.needed > 0 ? Math.min(this.needed, double) : double;
      const wanted = Math.max(waiting + size, known, 256);
      const larger =
        held !== undefined && wanted <= held.length && !this.running
          ? held
          : Buffer.allocUnsafeSlow(wanted);
      if (held !== undefined && waiting > 0) held.copy(larger, 0, this.heldStart, this.heldEnd);
      this.held = larger;
      held = larger;
      this.heldStart = 0;
      this.heldEnd = waiting;
    }
    buffer.copy(held, this.heldEnd, start, end);
    this.heldEnd += size;
  }

  /** Hands out whole packets; returns the offset of the first byte not used. */
  private parse(buffer: Buffer, from: number, to: number): number {
    let at = from;
    this.needed = 0;
    this.running = true;
    try {
      while (to - at >= 2) {
        let body = at + 1;
        let byte = buffer[body++] as number;
        let remaining = byte & 0x7f;
        if (byte > 127) {
          let shift = 7;
          do {
            if (shift > 21) {
              throw new MqttError(
                0x81,
                "Remaining Length has more than four bytes",
                "MQTT-1.5.5-1",
              );
            }
            if (body >= to) return at;
            byte = buffer[body++] as number;
            remaining += (byte & 0x7f) << shift;
            shift += 7;
          } while (byte > 127);
        }
        if (remaining > this.remainingMax) {
          throw new MqttError(0x95, `packet of ${remaining} bytes`, "MQTT-3.1.2-24");
        }
        const end = body + remaining;
        if (end > to) {
          this.needed = end - at;
          return at;
        }
        const start = at;
        at = end;
        const goesOn = this.sink.onPacket(buffer[start] as number, buffer, start, body, end);
        if (goesOn !== true) {
          this.stopped = true;
          return goesOn === "later" ? start : at;
        }
      }
      return at;
    } finally {
      this.running = false;
    }
  }
}
