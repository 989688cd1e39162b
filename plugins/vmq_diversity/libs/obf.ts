/**
 * `obf`: passwords reach register hooks obfuscated, so that a script which logs its arguments logs no
 * password. Whoever runs scripts can read them with `obf.decrypt`.
 */
import { createCipheriv, createDecipheriv, randomBytes, randomFillSync } from "node:crypto";
import { type LibraryHost, LuaError, type LuaLibrary } from "../worker/library.ts";
import { bytesOf } from "./arguments.ts";

/** NIST SP 800-38D: 96 bits, the length GCM is made for, and a full tag. */
const IV_BYTES = 12;
const TAG_BYTES = 16;
/** Nonces until the random part changes. */
const COUNTER_END = 2 ** 32;
const CIPHER = "aes-256-gcm";

/**
 * Nonce, tag and ciphertext in one buffer. The secret has 32 bytes (`LibraryHost.secret`). Synchronous,
 * some microseconds.
 */
export function obfuscate(clear: Uint8Array, secret: Uint8Array): Buffer {
  const iv = nextNonce();
  const cipher = createCipheriv(CIPHER, secret, iv);
  const body = cipher.update(clear);
  cipher.final();
  return Buffer.concat([iv, cipher.getAuthTag(), body]);
}

/** Random for each thread, then counted: with one key no nonce may come twice, and drawing each is slow. */
const nonce = randomBytes(IV_BYTES);
let nonces = 0;

function nextNonce(): Buffer {
  nonces = (nonces + 1) % COUNTER_END;
  if (nonces === 0) randomFillSync(nonce);
  nonce.writeUInt32BE(nonces, IV_BYTES - 4);
  return nonce;
}

/** What `obfuscate` was given; undefined when it did not make `hidden`, or with another secret. */
export function reveal(hidden: Uint8Array, secret: Uint8Array): Buffer | undefined {
  if (hidden.length < IV_BYTES + TAG_BYTES) return undefined;
  const decipher = createDecipheriv(CIPHER, secret, hidden.subarray(0, IV_BYTES));
  decipher.setAuthTag(hidden.subarray(IV_BYTES, IV_BYTES + TAG_BYTES));
  const clear = decipher.update(hidden.subarray(IV_BYTES + TAG_BYTES));
  try {
    decipher.final();
  } catch {
    // A wrong tag is an answer here, not a fault.
    return undefined;
  }
  return clear;
}

/** Makes `obf.encrypt` and `obf.decrypt`. */
export function obfLibrary({ secret }: LibraryHost): LuaLibrary {
  return {
    encrypt: (_call, text) => obfuscate(bytesOf(text, "obf.encrypt: the text"), secret),
    decrypt: (_call, text) => {
      const clear = reveal(bytesOf(text, "obf.decrypt: the text"), secret);
      if (clear !== undefined) return clear;
      throw new LuaError(
        "obf.decrypt: the string was not made by obf.encrypt since the broker started",
      );
    },
  };
}
