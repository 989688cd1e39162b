import { NautilusError } from "../errors.ts";
import { STRING_BYTES_MAX } from "./utf8.ts";

/** Largest Remaining Length in bytes. MQTT 5.0, 2.1.4. */
export const REMAINING_LENGTH_MAX = 268_435_455;

/** Bytes a Variable Byte Integer takes. MQTT 5.0, 1.5.5. */
function varIntBytes(value: number): number {
  if (value < 0x80) return 1;
  if (value < 0x4000) return 2;
  return value < 0x200000 ? 3 : 4;
}

/** Writes a Variable Byte Integer at `pos`, returns the position behind it. MQTT 5.0, 1.5.5. */
function writeVarInt(buf: Buffer, pos: number, value: number): number {
  let at = pos;
  let rest = value;
  while (rest >= 0x80) {
    buf[at++] = (rest & 0x7f) | 0x80;
    rest >>>= 7;
  }
  buf[at++] = rest;
  return at;
}

/**
 * Writes the data types of MQTT 5.0, 1.5 into a growing buffer. What is written was validated at the
 * border; a value that does not fit its type is our fault and throws INTERNAL.
 */
export class PacketWriter {
  #buf: Buffer = Buffer.allocUnsafe(256);
  #pos = 0;

  byte(value: number): this {
    this.#grow(1);
    this.#buf[this.#pos++] = value;
    return this;
  }

  uint16(value: number): this {
    this.#grow(2);
    this.#pos = this.#buf.writeUInt16BE(value, this.#pos);
    return this;
  }

  uint32(value: number): this {
    this.#grow(4);
    this.#pos = this.#buf.writeUInt32BE(value, this.#pos);
    return this;
  }

  varInt(value: number): this {
    if (value < 0 || value > REMAINING_LENGTH_MAX) throw unencodable(`integer ${value}`);
    this.#grow(4);
    this.#pos = writeVarInt(this.#buf, this.#pos, value);
    return this;
  }

  string(text: string): this {
    const length = Buffer.byteLength(text);
    if (length > STRING_BYTES_MAX) throw unencodable(`string of ${length} bytes`);
    this.uint16(length).#grow(length);
    this.#pos += this.#buf.write(text, this.#pos, "utf8");
    return this;
  }

  binary(bytes: Buffer): this {
    if (bytes.length > STRING_BYTES_MAX) throw unencodable(`binary data of ${bytes.length} bytes`);
    return this.uint16(bytes.length).bytes(bytes);
  }

  /** Appends bytes as they are, without a length. */
  bytes(bytes: Buffer): this {
    this.#grow(bytes.length);
    this.#pos += bytes.copy(this.#buf, this.#pos);
    return this;
  }

  /** What was written, without a fixed header. */
  take(): Buffer {
    return this.#buf.subarray(0, this.#pos);
  }

  /** What was written as a whole packet: `firstByte` (type and flags), Remaining Length, body. MQTT 5.0, 2.1.1. */
  frame(firstByte: number): Buffer {
    if (this.#pos > REMAINING_LENGTH_MAX) throw unencodable(`packet of ${this.#pos} bytes`);
    const packet = Buffer.allocUnsafe(1 + varIntBytes(this.#pos) + this.#pos);
    packet[0] = firstByte;
    this.#buf.copy(packet, writeVarInt(packet, 1, this.#pos), 0, this.#pos);
    return packet;
  }

  #grow(count: number): void {
    const needed = this.#pos + count;
    if (needed <= this.#buf.length) return;
    const bigger = Buffer.allocUnsafe(Math.max(needed, this.#buf.length * 2));
    this.#buf.copy(bigger, 0, 0, this.#pos);
    this.#buf = bigger;
  }
}

function unencodable(what: string): NautilusError {
  return new NautilusError("INTERNAL", {
    where: "core/mqtt encoder",
    reason: `${what} does not fit`,
  });
}
