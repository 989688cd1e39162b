import { crc32 } from "node:zlib";

/**
 * How every record of the embedded store is framed: version (1 byte), fields, CRC-32 of both (4
 * bytes). Numbers are big endian, strings and byte blocks carry a 4 byte length.
 */
const RECORD_VERSION = 1;
const FRAME_BYTES = 5;
/** Records are made in chunks, one allocation for many records, that grow with the load. */
const CHUNK_BYTES_MIN = 64 * 1024;
const CHUNK_BYTES_MAX = 1024 * 1024;

/** Why a stored record cannot be used; the caller sets it aside. */
export class DamagedRecord extends Error {
  constructor(reason: string) {
    super(reason);
    this.name = "DamagedRecord";
  }
}

/**
 * Makes records: `begin(bytesMax)`, fields, `end()`. The views it returns stay valid until `reuse`,
 * which takes the chunk from the start again; without `reuse` it only ever takes fresh memory.
 */
export class RecordWriter {
  #chunk = Buffer.allocUnsafeSlow(CHUNK_BYTES_MIN);
  #start = 0;
  #at = 0;

  /** Starts a record of at most `bytesMax` bytes of fields. */
  begin(bytesMax: number): void {
    const needed = bytesMax + FRAME_BYTES;
    if (this.#at + needed > this.#chunk.length) {
      const grown = Math.min(2 * this.#chunk.length, CHUNK_BYTES_MAX);
      this.#chunk = Buffer.allocUnsafeSlow(Math.max(grown, needed));
      this.#at = 0;
    }
    this.#start = this.#at;
    this.u8(RECORD_VERSION);
  }

  /** Ends the record and returns it. */
  end(): Buffer {
    this.u32(crc32(this.#chunk.subarray(this.#start, this.#at)));
    return this.#chunk.subarray(this.#start, this.#at);
  }

  /** Everything returned so far is no longer needed. */
  reuse(): void {
    if (this.#chunk.length > CHUNK_BYTES_MAX) {
      this.#chunk = Buffer.allocUnsafeSlow(CHUNK_BYTES_MIN);
    }
    this.#at = 0;
  }

  u8(value: number): void {
    this.#chunk[this.#at++] = value;
  }

  u16(value: number): void {
    this.#at = this.#chunk.writeUInt16BE(value, this.#at);
  }

  u32(value: number): void {
    this.#at = this.#chunk.writeUInt32BE(value, this.#at);
  }

  u48(value: number): void {
    this.#at = this.#chunk.writeUIntBE(value, this.#at, 6);
  }

  f64(value: number): void {
    this.#at = this.#chunk.writeDoubleBE(value, this.#at);
  }

  text(value: string): void {
    const bytes = this.#chunk.write(value, this.#at + 4);
    this.u32(bytes);
    this.#at += bytes;
  }

  bytes(value: Uint8Array): void {
    this.u32(value.length);
    this.#chunk.set(value, this.#at);
    this.#at += value.length;
  }
}

/** Most bytes a text can take in a record. */
export function textBytesMax(text: string): number {
  return 4 + 3 * text.length; // a UTF-16 unit is at most 3 bytes of UTF-8
}

/** Reads a record's fields; throws DamagedRecord for a wrong check sum, version or length. */
export class RecordReader {
  readonly #record: Buffer;
  readonly #end: number;
  #at = 1;

  constructor(record: Buffer) {
    this.#record = record;
    this.#end = record.length - 4;
    if (this.#end < 1) throw new DamagedRecord("the record is too short");
    if (crc32(record.subarray(0, this.#end)) !== record.readUInt32BE(this.#end)) {
      throw new DamagedRecord("the check sum does not match");
    }
    if (record[0] !== RECORD_VERSION) throw new DamagedRecord(`unknown version ${record[0]}`);
  }

  #take(bytes: number): number {
    const at = this.#at;
    if (at + bytes > this.#end) throw new DamagedRecord("the record is too short");
    this.#at = at + bytes;
    return at;
  }

  u8(): number {
    return this.#record.readUInt8(this.#take(1));
  }

  u16(): number {
    return this.#record.readUInt16BE(this.#take(2));
  }

  u32(): number {
    return this.#record.readUInt32BE(this.#take(4));
  }

  u48(): number {
    return this.#record.readUIntBE(this.#take(6), 6);
  }

  f64(): number {
    return this.#record.readDoubleBE(this.#take(8));
  }

  text(): string {
    const length = this.u32();
    const at = this.#take(length);
    return this.#record.toString("utf8", at, at + length);
  }

  /** A view into the record. */
  bytes(): Buffer {
    const length = this.u32();
    const at = this.#take(length);
    return this.#record.subarray(at, at + length);
  }
}
