import { createCipheriv, createDecipheriv, randomBytes } from "node:crypto";

const IV_BYTES = 12;
const TAG_BYTES = 16;
const CIPHER = "aes-128-gcm";

/** Random bytes are fetched for many calls at once: each fetch is a call of the system. */
let pool = Buffer.alloc(0);
let used = 0;

function nextIv(): Buffer {
  if (used + IV_BYTES > pool.length) {
    pool = randomBytes(IV_BYTES * 512);
    used = 0;
  }
  used += IV_BYTES;
  return pool.subarray(used - IV_BYTES, used);
}

/** Encrypts with the secret of this start of the broker: IV, tag, then the text; never twice the same. */
export function obfuscate(bytes: Uint8Array, secret: Uint8Array): Buffer {
  const iv = nextIv();
  const cipher = createCipheriv(CIPHER, secret.subarray(0, 16), iv);
  const text = cipher.update(bytes);
  cipher.final();
  return Buffer.concat([iv, cipher.getAuthTag(), text]);
}

/** The clear text, or undefined for what was not encrypted with this secret. */
export function reveal(bytes: Uint8Array, secret: Uint8Array): Buffer | undefined {
  if (bytes.length < IV_BYTES + TAG_BYTES) return undefined;
  const decipher = createDecipheriv(CIPHER, secret.subarray(0, 16), bytes.subarray(0, IV_BYTES));
  decipher.setAuthTag(bytes.subarray(IV_BYTES, IV_BYTES + TAG_BYTES));
  const text = decipher.update(bytes.subarray(IV_BYTES + TAG_BYTES));
  try {
    decipher.final();
  } catch {
    // The tag does not fit: not ours.
    return undefined;
  }
  return text;
}
