/** Stored forms of a password: VerneMQ's and Mosquitto's `$6$`, Mosquitto 2's `$7$`. */
import { createHash, pbkdf2, randomBytes, timingSafeEqual } from "node:crypto";
import { promisify } from "node:util";

const derive = promisify(pbkdf2);

/** One round of SHA-512 over the password and the salt; cheap. `$6$<salt>$<hash>`, base64. */
export interface Sha512Hash {
  readonly type: "sha512";
  readonly salt: Buffer;
  readonly hash: Buffer;
}

/** PBKDF2-HMAC-SHA512; slow on purpose. `$7$<iterations>$<salt>$<hash>`, base64. */
export interface Pbkdf2Hash {
  readonly type: "pbkdf2";
  readonly iterations: number;
  readonly salt: Buffer;
  readonly hash: Buffer;
}

export type PasswordHash = Sha512Hash | Pbkdf2Hash;

/** Both forms hold a SHA-512 sized result. */
const HASH_BYTES = 64;
/** As VerneMQ and Mosquitto write it; other lengths are read too. */
const SALT_BYTES = 12;
/** New `$7$` hashes; Mosquitto's own default is 101. About 0.1 s of one core. */
export const ITERATIONS_DEFAULT = 100_000;
/** About 10 s of one core: more is a slip of the pen. */
export const ITERATIONS_MAX = 10_000_000;

// The id of a three-part hash is not looked at, as in VerneMQ; `$7$` has four parts.
const SHA512_FORM = /^\$([^$]*)\$([A-Za-z0-9+/]*={0,2})\$([A-Za-z0-9+/]+={0,2})$/;
const PBKDF2_FORM = /^\$7\$([1-9]\d{0,8})\$([A-Za-z0-9+/]*={0,2})\$([A-Za-z0-9+/]+={0,2})$/;

/** Undefined if the text is none of the known forms. */
export function parseHash(text: string): PasswordHash | undefined {
  const slow = PBKDF2_FORM.exec(text);
  if (slow !== null) {
    const [, digits = "", salt = "", hash = ""] = slow;
    const iterations = Number(digits);
    const parts = decoded(salt, hash);
    if (parts === undefined || iterations > ITERATIONS_MAX) return undefined;
    return { type: "pbkdf2", iterations, ...parts };
  }
  const [, id, salt = "", hash = ""] = SHA512_FORM.exec(text) ?? [];
  if (id === undefined || id === "7") return undefined;
  const parts = decoded(salt, hash);
  return parts === undefined ? undefined : { type: "sha512", ...parts };
}

function decoded(salt: string, hash: string): { salt: Buffer; hash: Buffer } | undefined {
  const bytes = Buffer.from(hash, "base64");
  if (bytes.length !== HASH_BYTES) return undefined;
  return { salt: Buffer.from(salt, "base64"), hash: bytes };
}

/** Synchronous: a few microseconds. The comparison takes the same time wherever the bytes differ. */
export function isRightSha512(stored: Sha512Hash, password: Buffer): boolean {
  return timingSafeEqual(sha512(password, stored.salt), stored.hash);
}

/** Computed on a thread of the pool; the event loop goes on. */
export async function isRightPbkdf2(stored: Pbkdf2Hash, password: Buffer): Promise<boolean> {
  const hash = await derive(password, stored.salt, stored.iterations, HASH_BYTES, "sha512");
  return timingSafeEqual(hash, stored.hash);
}

/** A new hash in file form. `form` sha512 is what VerneMQ reads; the default is pbkdf2. */
export async function createPasswordHash(
  password: string,
  options: { form?: PasswordHash["type"]; iterations?: number } = {},
): Promise<string> {
  const bytes = Buffer.from(password);
  const salt = randomBytes(SALT_BYTES);
  if (options.form === "sha512") {
    return `$6$${salt.toString("base64")}$${sha512(bytes, salt).toString("base64")}`;
  }
  const { iterations = ITERATIONS_DEFAULT } = options;
  const hash = await derive(bytes, salt, iterations, HASH_BYTES, "sha512");
  return `$7$${iterations}$${salt.toString("base64")}$${hash.toString("base64")}`;
}

/** SHA-512 over the password's bytes followed by the raw salt, as mosquitto_passwd does. */
function sha512(password: Buffer, salt: Buffer): Buffer {
  return createHash("sha512").update(password).update(salt).digest();
}
