/** `bcrypt`: password hashes, computed by native threads while the script's coroutine waits. */
import { timingSafeEqual } from "node:crypto";
import { availableParallelism } from "node:os";
import type bcrypt from "bcrypt";
import {
  type LibraryHost,
  type LuaCall,
  LuaError,
  type LuaLibrary,
  type LuaValue,
} from "../worker/library.ts";
import { bytesOf, stringOf } from "./arguments.ts";
import { Gate } from "./gate.ts";

/** `vmq_bcrypt.default_log_rounds` where it is not set. */
const LOG_ROUNDS = 12;
/** `vmq_bcrypt.nif_pool_size` and `.nif_pool_max_overflow` where they are not set. */
const NIF_POOL_SIZE = 4;
const NIF_OVERFLOW = 10;
/** Threads that Node has for such work and for files; libuv's default. */
const NATIVE_THREADS = Number(process.env.UV_THREADPOOL_SIZE) || 4;
/** A cost of 20 is a minute of work that nobody can stop; the call it is for has ended long before. */
const COST_MAX = 20;
/** Calls that wait for their turn, for each that runs. Longer queues only end in missed deadlines. */
const WAITING_PER_SLOT = 1000;

/** `$2a$12$` and 22 characters of salt; a hash has 31 more. PHP writes `$2y$` for `$2b$`. */
const SALT = /^(\$2[aby]\$)(0[4-9]|[12]\d|3[01])(\$[./A-Za-z0-9]{22})(?:[./A-Za-z0-9]{31})?$/;

const HASH_CHARS = 60;

/** Makes VerneMQ's `gen_salt` and `hashpw`, and `checkpw(pw, hash)`. */
export function bcryptLibrary(host: LibraryHost): LuaLibrary {
  const slots = slotsOf(host);
  const gate = new Gate(slots, slots * WAITING_PER_SLOT, "bcrypt");
  const rounds = Number(host.settings.get("vmq_bcrypt.default_log_rounds") ?? LOG_ROUNDS);
  const costMax = Math.max(COST_MAX, rounds);

  let loading: Promise<typeof bcrypt> | undefined;
  /** Native code, loaded when a script needs it. */
  const load = (): Promise<typeof bcrypt> => {
    loading ??= import("bcrypt").then((module) => module.default);
    return loading;
  };

  async function hash(call: LuaCall, where: string, password: LuaValue, salt: LuaValue) {
    const bytes = bytesOf(password, `${where}: the password`);
    const parts = SALT.exec(stringOf(salt, `${where}: the salt`));
    if (parts === null) {
      throw new LuaError(`${where}: the salt is neither one of bcrypt.gen_salt nor a bcrypt hash`);
    }
    const [, prefix, cost, rest] = parts;
    if (Number(cost) > costMax) {
      throw new LuaError(`${where}: a cost of ${cost} is more than the ${costMax} possible here`);
    }
    const native = prefix === "$2y$" ? "$2b$" : prefix;
    const hashed = await gate.run(call, async () =>
      (await load()).hash(bytes, `${native}${cost}${rest}`),
    );
    return `${prefix}${hashed.slice(4)}`;
  }

  return {
    // `$2a$` is what VerneMQ makes; this implementation computes the same for all prefixes.
    gen_salt: async () => (await load()).genSalt(rounds, "a"),
    hashpw: (call, password, salt) => hash(call, "bcrypt.hashpw", password, salt),
    // False for what is no hash: a column that is NULL, an account without password.
    checkpw: async (call, password, given) => {
      if (!Buffer.isBuffer(password) || !Buffer.isBuffer(given)) return false;
      const expected = given.toString("latin1");
      if (expected.length !== HASH_CHARS || !SALT.test(expected)) return false;
      return isSame(await hash(call, "bcrypt.checkpw", password, given), expected);
    },
  };
}

function isSame(one: string, other: string): boolean {
  return timingSafeEqual(Buffer.from(one), Buffer.from(other));
}

/**
 * This thread's share of the hashes that may be computed at a time: `vmq_bcrypt.pool_size`, with
 * `mechanism = nif` the sum of `nif_pool_size` and `nif_pool_max_overflow`.
 */
function slotsOf({ settings, threads, log }: LibraryHost): number {
  const auto = Math.max(1, availableParallelism() - 1);
  const isNif = settings.get("vmq_bcrypt.mechanism") === "nif";
  const key = isNif ? "vmq_bcrypt.nif_pool_size" : "vmq_bcrypt.pool_size";
  const size = settings.get(key) ?? (isNif ? NIF_POOL_SIZE : "auto");
  const overflow = settings.get("vmq_bcrypt.nif_pool_max_overflow") ?? NIF_OVERFLOW;
  const wanted = (size === "auto" ? auto : Number(size)) + (isNif ? Number(overflow) : 0);
  // One native thread is left for files and host names.
  const possible = Math.max(1, NATIVE_THREADS - 1);
  if (wanted > possible && settings.has(key)) {
    log("warn", `bcrypt: ${key} allows ${wanted} hashes at a time; ${possible} are possible`, {
      hint: "start the broker with a larger UV_THREADPOOL_SIZE",
    });
  }
  return Math.max(1, Math.ceil(Math.min(wanted, possible) / threads));
}
