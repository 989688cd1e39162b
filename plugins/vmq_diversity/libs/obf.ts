import { createCipheriv, createDecipheriv, randomBytes } from "node:crypto";

const IV_BYTES = 12;
const TAG_BYTES = 16;
const CIPHER = "aes-128-gcm";

/** Encrypts with the secret of this start of the broker: IV, tag, then the text; never twice the same. */
export function obfuscate(bytes: Uint8Array, secret: Uint8Array): Buffer {
  const iv = randomBytes(IV_BYTES);
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
