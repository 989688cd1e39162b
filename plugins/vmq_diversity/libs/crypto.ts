/** `crypto`: digests, and what a script needs to check tokens and signatures. */
import { createHash, createHmac, getHashes, randomBytes, timingSafeEqual } from "node:crypto";
import { LuaError, type LuaLibrary, type LuaValue, textOf } from "../worker/library.ts";
import { bytesOf, numberOf } from "./arguments.ts";

/** Erlang's names (crypto:hash/2), by which scripts know the algorithms, and OpenSSL's. */
const ERLANG_NAMES: ReadonlyMap<string, string> = new Map([
  ["md4", "md4"],
  ["md5", "md5"],
  ["ripemd160", "ripemd160"],
  ["sha", "sha1"],
  ["sha1", "sha1"],
  ["sha224", "sha224"],
  ["sha256", "sha256"],
  ["sha384", "sha384"],
  ["sha512", "sha512"],
  ["sha512_224", "sha512-224"],
  ["sha512_256", "sha512-256"],
  ["sha3_224", "sha3-224"],
  ["sha3_256", "sha3-256"],
  ["sha3_384", "sha3-384"],
  ["sha3_512", "sha3-512"],
  ["blake2b", "blake2b512"],
  ["blake2s", "blake2s256"],
  ["sm3", "sm3"],
]);

/** Without those which this OpenSSL was built without, such as md4. */
const ALGORITHMS: ReadonlyMap<string, string> = new Map(
  [...ERLANG_NAMES].filter(([, name]) => getHashes().includes(name)),
);

const RANDOM_BYTES_MAX = 65_536;

function algorithmOf(value: LuaValue, where: string): string {
  const name = textOf(value, `${where}: the algorithm`);
  const algorithm = ALGORITHMS.get(name);
  if (algorithm !== undefined) return algorithm;
  const known = [...ALGORITHMS.keys()].join(", ");
  throw new LuaError(`${where}: unknown algorithm "${name.slice(0, 40)}"; known: ${known}`);
}

/** Of equal length whatever is compared, so that the time tells nothing about either. */
function digest(value: LuaValue, name: string): Buffer {
  return createHash("sha256").update(bytesOf(value, name)).digest();
}

/** Text in an encoding to bytes; characters that are none of it raise. */
function decode(value: LuaValue, encoding: "hex" | "base64", where: string): Buffer {
  const text = textOf(value, `${where}: the text`);
  const bytes = Buffer.from(text, encoding);
  const isWhole =
    encoding === "hex"
      ? bytes.length * 2 === text.length
      : /^[\w+/-]*={0,2}$/.test(text) && text.replace(/=+$/, "").length % 4 !== 1;
  if (isWhole) return bytes;
  throw new LuaError(`${where}: the text is not ${encoding}`);
}

/**
 * Makes VerneMQ's `hash`, and additions: `hmac`, `equal` (constant time), `random_bytes`, `hex`, `unhex`,
 * `base64`, `unbase64` (which also takes the alphabet for URLs).
 */
export function cryptoLibrary(): LuaLibrary {
  return {
    hash: (_call, algorithm, data) =>
      createHash(algorithmOf(algorithm, "crypto.hash"))
        .update(bytesOf(data, "crypto.hash: the data"))
        .digest(),
    hmac: (_call, algorithm, key, data) =>
      createHmac(algorithmOf(algorithm, "crypto.hmac"), bytesOf(key, "crypto.hmac: the key"))
        .update(bytesOf(data, "crypto.hmac: the data"))
        .digest(),
    // Nothing is equal to nil, such as the missing password of a client.
    equal: (_call, one, other) =>
      one !== undefined &&
      other !== undefined &&
      timingSafeEqual(
        digest(one, "crypto.equal: argument 1"),
        digest(other, "crypto.equal: argument 2"),
      ),
    random_bytes: (_call, count) =>
      randomBytes(
        Math.floor(numberOf(count, "crypto.random_bytes: the number", 0, RANDOM_BYTES_MAX)),
      ),
    hex: (_call, data) => bytesOf(data, "crypto.hex: the data").toString("hex"),
    unhex: (_call, text) => decode(text, "hex", "crypto.unhex"),
    base64: (_call, data) => bytesOf(data, "crypto.base64: the data").toString("base64"),
    unbase64: (_call, text) => decode(text, "base64", "crypto.unbase64"),
  };
}
