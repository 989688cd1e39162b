import { type Cipher, createCipheriv, randomBytes } from "node:crypto";

/** What stands before the text: a number used once, and a check. */
const NONCE_BYTES = 12;
const CHECK_BYTES = 8;
const HEAD_BYTES = NONCE_BYTES + CHECK_BYTES;
const BLOCK_BYTES = 16;

/**
 * Makes passwords unreadable for whoever has not the secret of this start of the broker: AES in counter mode
 * (NIST SP 800-38A, 6.5), the first block of each key stream being the check. Clients connect by the
 * thousand, and a cipher object for each would cost more than all the rest of a call: this one encrypts
 * counters for ever.
 */
export class Obfuscator {
  private readonly cipher: Cipher;
  /** Random bytes are fetched for many calls at once: each fetch is a call of the system. */
  private nonces = Buffer.alloc(0);
  private used = 0;

  /** `secret`: 16 bytes or more. */
  constructor(secret: Uint8Array) {
    this.cipher = createCipheriv("aes-128-ecb", secret.subarray(0, BLOCK_BYTES), null);
    this.cipher.setAutoPadding(false);
  }

  /** Never the same twice. */
  hide(bytes: Uint8Array): Buffer {
    const nonce = this.nextNonce();
    const stream = this.streamOf(nonce, bytes.length);
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

  private nextNonce(): Buffer {
    if (this.used + NONCE_BYTES > this.nonces.length) {
      this.nonces = randomBytes(NONCE_BYTES * 512);
      this.used = 0;
    }
    this.used += NONCE_BYTES;
    return this.nonces.subarray(this.used - NONCE_BYTES, this.used);
  }

  /** The block of the check, then those of the text. */
  private streamOf(nonce: Uint8Array, bytes: number): Buffer {
    const blocks = 1 + Math.ceil(bytes / BLOCK_BYTES);
    const counters = Buffer.allocUnsafe(blocks * BLOCK_BYTES);
    for (let block = 0; block < blocks; block++) {
      counters.set(nonce, block * BLOCK_BYTES);
      counters.writeUInt32BE(block, block * BLOCK_BYTES + NONCE_BYTES);
    }
    return this.cipher.update(counters);
  }
}

function xor(bytes: Uint8Array, stream: Buffer, to: Uint8Array): void {
  for (let i = 0; i < bytes.length; i++) {
    to[i] = (bytes[i] as number) ^ (stream[BLOCK_BYTES + i] as number);
  }
}
