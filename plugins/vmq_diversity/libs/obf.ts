import { type Cipher, createCipheriv, randomBytes } from "node:crypto";

/** What stands before the text: a number used once, and a check. */
const NONCE_BYTES = 12;
const CHECK_BYTES = 8;
const HEAD_BYTES = NONCE_BYTES + CHECK_BYTES;
const BLOCK_BYTES = 16;
/** Key stream of a text of one block: nearly all passwords. */
const SHORT_BYTES = 2 * BLOCK_BYTES;
const MADE_AT_ONCE = 512;

/**
 * Makes passwords unreadable for whoever has not the secret of this start of the broker: AES in counter mode
 * (NIST SP 800-38A, 6.5), the first block of each key stream being the check. Clients connect by the
 * thousand, and a cipher object for each would cost more than all the rest of a call: this one encrypts
 * counters for ever.
 */
export class Obfuscator {
  private readonly cipher: Cipher;
  /** Random bytes and key streams for many short texts, made at once: each call of the system costs. */
  private nonces = Buffer.alloc(0);
  private streams = Buffer.alloc(0);
  private used = MADE_AT_ONCE;

  /** `secret`: 16 bytes or more. */
  constructor(secret: Uint8Array) {
    this.cipher = createCipheriv("aes-128-ecb", secret.subarray(0, BLOCK_BYTES), null);
    this.cipher.setAutoPadding(false);
  }

  /** Never the same twice. */
  hide(bytes: Uint8Array): Buffer {
    if (this.used === MADE_AT_ONCE) this.make();
    const at = this.used++;
    const nonce = this.nonces.subarray(at * NONCE_BYTES, (at + 1) * NONCE_BYTES);
    const stream =
      bytes.length > BLOCK_BYTES
        ? this.streamOf(nonce, bytes.length)
        : this.streams.subarray(at * SHORT_BYTES, (at + 1) * SHORT_BYTES);
    const hidden = Buffer.allocUnsafe(HEAD_BYTES + bytes.length);
    hidden.set(nonce, 0);
    stream.copy(hidden, NONCE_BYTES, 0, CHECK_BYTES);
    xor(bytes, stream, hidden.subarray(HEAD_BYTES));
    return hidden;
  }

  /** The clear text, or undefined for what was not hidden with this secret. */
  reveal(hidden: Uint8Array): Buffer | undefined {
    if (hidden.length < HEAD_BYTES) return undefined;
    const stream = this.streamOf(hidden.subarray(0, NONCE_BYTES), hidden.length - HEAD_BYTES);
    const check = hidden.subarray(NONCE_BYTES, HEAD_BYTES);
    if (stream.compare(check, 0, CHECK_BYTES, 0, CHECK_BYTES) !== 0) return undefined;
    const clear = Buffer.allocUnsafe(hidden.length - HEAD_BYTES);
    xor(hidden.subarray(HEAD_BYTES), stream, clear);
    return clear;
  }

  private make(): void {
    this.nonces = randomBytes(NONCE_BYTES * MADE_AT_ONCE);
    const counters = Buffer.allocUnsafe(SHORT_BYTES * MADE_AT_ONCE);
    for (let at = 0; at < MADE_AT_ONCE; at++) {
      const nonce = this.nonces.subarray(at * NONCE_BYTES, (at + 1) * NONCE_BYTES);
      putCounters(counters.subarray(at * SHORT_BYTES, (at + 1) * SHORT_BYTES), nonce);
    }
    this.streams = this.cipher.update(counters);
    this.used = 0;
  }

  /** The block of the check, then those of the text. */
  private streamOf(nonce: Uint8Array, bytes: number): Buffer {
    const counters = Buffer.allocUnsafe(BLOCK_BYTES * (1 + Math.ceil(bytes / BLOCK_BYTES)));
    putCounters(counters, nonce);
    return this.cipher.update(counters);
  }
}

/** Fills blocks with a nonce and their numbers. */
function putCounters(blocks: Buffer, nonce: Uint8Array): void {
  for (let at = 0; at < blocks.length; at += BLOCK_BYTES) {
    blocks.set(nonce, at);
    blocks.writeUInt32BE(at / BLOCK_BYTES, at + NONCE_BYTES);
  }
}

function xor(bytes: Uint8Array, stream: Buffer, to: Uint8Array): void {
  for (let i = 0; i < bytes.length; i++) {
    to[i] = (bytes[i] as number) ^ (stream[BLOCK_BYTES + i] as number);
  }
}
