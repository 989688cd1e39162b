import { malformed } from "./reason-codes.ts";
import { decodeUtf8 } from "./utf8.ts";

/**
 * Reads the data types of MQTT 5.0, 1.5 from a byte range. Every read that would pass `end` throws
 * MqttError 0x81; `what` names the field in its message.
 */
export class PacketReader {
  readonly buf: Buffer;
  readonly end: number;
  pos: number;

  constructor(buf: Buffer, start: number, end: number) {
    this.buf = buf;
    this.pos = start;
    this.end = end;
  }

  /** MQTT 5.0, 1.5.1 */
  byte(what: string): number {
    this.#need(1, what);
    return this.buf[this.pos++];
  }

  /** MQTT 5.0, 1.5.2 */
  uint16(what: string): number {
    this.#need(2, what);
    const value = this.buf.readUInt16BE(this.pos);
    this.pos += 2;
    return value;
  }

  /** MQTT 5.0, 1.5.3 */
  uint32(what: string): number {
    this.#need(4, what);
    const value = this.buf.readUInt32BE(this.pos);
    this.pos += 4;
    return value;
  }

  /** Variable Byte Integer, 1 to 4 bytes, shortest form only. MQTT 5.0, 1.5.5 [MQTT-1.5.5-1] */
  varInt(what: string): number {
    let value = 0;
    for (let shift = 0; shift <= 21; shift += 7) {
      const byte = this.byte(what);
      value |= (byte & 0x7f) << shift;
      if (byte < 0x80) {
        if (byte === 0 && shift > 0)
          throw malformed(`${what} is not in its shortest form`, "MQTT-1.5.5-1");
        return value;
      }
    }
    throw malformed(`${what} is longer than four bytes`, "1.5.5");
  }

  /** UTF-8 Encoded String. MQTT 5.0, 1.5.4 [MQTT-1.5.4-1] [MQTT-1.5.4-2] */
  string(what: string): string {
    const length = this.uint16(what);
    this.#need(length, what);
    const text = decodeUtf8(this.buf, this.pos, this.pos + length);
    if (text === undefined) {
      throw malformed(`${what} is not UTF-8 or contains NUL`, "MQTT-1.5.4-1, MQTT-1.5.4-2");
    }
    this.pos += length;
    return text;
  }

  /** Binary Data, copied so that it does not keep the read buffer alive. MQTT 5.0, 1.5.6 */
  binary(what: string): Buffer {
    const length = this.uint16(what);
    this.#need(length, what);
    const bytes = Buffer.from(this.buf.subarray(this.pos, this.pos + length));
    this.pos += length;
    return bytes;
  }

  /** Ends reading: bytes left over make the packet malformed. MQTT 5.0, 2.1.4 */
  finish(what: string): void {
    if (this.pos !== this.end) {
      throw malformed(`${this.end - this.pos} bytes left after the last field of ${what}`, "2.1.4");
    }
  }

  #need(count: number, what: string): void {
    if (this.pos + count > this.end) throw malformed(`packet ends inside ${what}`, "2.1.4");
  }
}
