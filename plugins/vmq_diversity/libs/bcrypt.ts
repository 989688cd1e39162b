import { availableParallelism } from "node:os";
import type bcryptModule from "bcrypt";
import { type LibraryFactory, LuaError, type LuaValue, typeNameOf } from "../worker/library.ts";

/** Calls that may wait for a turn; each holds a state of a script, so there are never many. */
const WAITING_MAX = 10_000;
const SALT = /^\$2[aby]\$(\d\d)\$[./A-Za-z0-9]{22}/;

/** bcrypt in native code, on threads of its own (`vmq_bcrypt.*`). */
export const bcrypt: LibraryFactory = (host) => {
  const rounds = Number(host.settings.get("vmq_bcrypt.default_log_rounds") ?? 12);
  const turns = new Turns(concurrencyOf(host.settings));
  let loading: Promise<typeof bcryptModule> | undefined;
  const load = (): Promise<typeof bcryptModule> => {
    loading ??= import("bcrypt").then((module) => module.default);
    return loading;
  };
  const hash = (password: Buffer, salt: string): Promise<string> =>
    turns.run(async () => (await load()).hash(password, salt));
  return {
    gen_salt: async () => (await load()).genSalt(rounds, "a"),
    hashpw: async (_, password, salt) => {
      const clear = stringOf(password, "bcrypt.hashpw: password");
      const given = stringOf(salt, "bcrypt.hashpw: salt or hash").toString("latin1");
      const found = SALT.exec(given);
      const cost = Number(found?.[1]);
      if (found === null || cost < 4 || cost > 31) {
        throw new LuaError("bcrypt.hashpw: this is no salt or hash of bcrypt");
      }
      // `$2y$` is PHP's name of `$2b$`; the answer keeps the name it was asked with.
      const made = await hash(clear, found[0].replace(/^\$2y/, "$2b"));
      return found[0].slice(0, 4) + made.slice(4);
    },
    /** Does a password belong to a hash? Compared in constant time; false for what is no hash. */
    checkpw: async (_, password, expected) => {
      if (!Buffer.isBuffer(password) || !Buffer.isBuffer(expected)) return false;
      const text = expected.toString("latin1").replace(/^\$2y/, "$2b");
      if (!SALT.test(text)) return false;
      return turns.run(async () => (await load()).compare(password, text));
    },
  };
};

function stringOf(value: LuaValue, name: string): Buffer {
  if (Buffer.isBuffer(value)) return value;
  throw new LuaError(`${name} must be a string, not ${typeNameOf(value)}`);
}

/** How many hashes are computed at once: VerneMQ's pool of ports, or of its NIFs. */
function concurrencyOf(settings: ReadonlyMap<string, string | number | boolean>): number {
  const sized = (key: string, fallback: number): number => {
    const value = settings.get(key);
    if (value === "auto") return Math.max(1, availableParallelism() - 1);
    return typeof value === "number" ? value : fallback;
  };
  if (settings.get("vmq_bcrypt.mechanism") === "nif") {
    return (
      sized("vmq_bcrypt.nif_pool_size", 4) +
      Number(settings.get("vmq_bcrypt.nif_pool_max_overflow") ?? 10)
    );
  }
  // The default of 1 port would leave the other cores idle; a number that was written counts.
  return sized("vmq_bcrypt.pool_size", Math.max(1, availableParallelism()));
}

/** At most `size` at once, the others in order. */
class Turns {
  private free: number;
  private readonly waiting: (() => void)[] = [];

  constructor(size: number) {
    this.free = size;
  }

  async run<T>(work: () => Promise<T>): Promise<T> {
    if (this.free > 0) this.free--;
    else {
      if (this.waiting.length >= WAITING_MAX) throw new LuaError("bcrypt: too many hashes wait");
      await new Promise<void>((go) => void this.waiting.push(go));
    }
    try {
      return await work();
    } finally {
      const next = this.waiting.shift();
      if (next === undefined) this.free++;
      else next();
    }
  }
}
