import { describe, expect, it } from "vitest";
import { bcryptLibrary } from "../../../plugins/vmq_diversity/libs/bcrypt.ts";
import { Gate } from "../../../plugins/vmq_diversity/libs/gate.ts";
import { LuaError } from "../../../plugins/vmq_diversity/worker/library.ts";
import {
  lua,
  luaCall,
  luaHost,
  type TestHostOptions,
  type TestValue,
} from "../../support/lua-library.ts";

function bcrypt(options: TestHostOptions = {}) {
  const settings = { "vmq_bcrypt.default_log_rounds": 4, ...options.settings };
  const library = bcryptLibrary(luaHost({ ...options, settings }));
  return async (name: string, ...args: TestValue[]): Promise<unknown> =>
    await library[name]?.(luaCall(), ...args.map(lua));
}

/** Of "U*U", from the test vectors of the reference implementation (crypt_blowfish). */
const VECTOR = "$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW";

describe("bcrypt", () => {
  it("verifies a password by hashing it with its hash", async () => {
    const call = bcrypt();
    const hash = await call("hashpw", "secret", (await call("gen_salt")) as string);
    expect(await call("hashpw", "secret", hash as string)).toBe(hash);
    expect(await call("hashpw", "wrong", hash as string)).not.toBe(hash);
  });

  it("makes salts as VerneMQ does, with the configured rounds", async () => {
    expect(await bcrypt()("gen_salt")).toMatch(/^\$2a\$04\$.{22}$/);
    const salt = await bcryptLibrary(luaHost()).gen_salt?.(luaCall());
    expect(salt).toMatch(/^\$2a\$12\$.{22}$/);
  });

  it("agrees with the reference implementation, and keeps the prefix it was given", async () => {
    const call = bcrypt();
    expect(await call("hashpw", "U*U", VECTOR)).toBe(VECTOR);
    for (const prefix of ["$2b$", "$2y$"]) {
      const hash = prefix + VECTOR.slice(4);
      expect(await call("hashpw", "U*U", hash)).toBe(hash);
      expect(await call("checkpw", "U*U", hash)).toBe(true);
    }
  });

  it("checks with checkpw", async () => {
    const call = bcrypt();
    expect(await call("checkpw", "U*U", VECTOR)).toBe(true);
    expect(await call("checkpw", "U*u", VECTOR)).toBe(false);
    // A salt is no hash, nor is a NULL column one.
    for (const other of [VECTOR.slice(0, 29), "null", "", undefined]) {
      expect(await call("checkpw", "U*U", other)).toBe(false);
    }
    expect(await call("checkpw", undefined, VECTOR)).toBe(false);
  });

  it("takes passwords that are no text", async () => {
    const call = bcrypt();
    const hash = (await call("hashpw", Buffer.from([0xff, 0xfe]), VECTOR)) as string;
    expect(await call("checkpw", Buffer.from([0xff, 0xfe]), hash)).toBe(true);
    expect(await call("checkpw", Buffer.from([0xff, 0xff]), hash)).toBe(false);
    expect(await call("hashpw", "ä", VECTOR)).toBe(await call("hashpw", Buffer.from("ä"), VECTOR));
  });

  it("raises for a bad salt, a cost that nobody can wait for, and for nil", async () => {
    const call = bcrypt();
    for (const salt of ["bad", "", "$2a$04$short", `${VECTOR}x`, "$1$04$CCCCCCCCCCCCCCCCCCCCC."]) {
      await expect(call("hashpw", "a", salt)).rejects.toThrow(LuaError);
    }
    const costly = VECTOR.replace("$05$", "$31$");
    await expect(call("hashpw", "a", costly)).rejects.toThrow("a cost of 31 is more than the 20");
    await expect(call("hashpw", undefined, VECTOR)).rejects.toThrow(
      "the password must be a string",
    );
  });

  it("says so when more hashes at a time are allowed than the process can do", () => {
    const host = luaHost({ settings: { "vmq_bcrypt.pool_size": 50 } });
    bcryptLibrary(host);
    expect(host.lines[0]?.message).toMatch(/vmq_bcrypt.pool_size allows 50 hashes/);
    const nif = { "vmq_bcrypt.mechanism": "nif", "vmq_bcrypt.nif_pool_size": 2 };
    const other = luaHost({ settings: { ...nif, "vmq_bcrypt.nif_pool_max_overflow": 40 } });
    bcryptLibrary(other);
    expect(other.lines[0]?.message).toMatch(/vmq_bcrypt.nif_pool_size allows 42 hashes/);
    const quiet = luaHost({ settings: { "vmq_bcrypt.pool_size": 1 } });
    bcryptLibrary(quiet);
    expect(quiet.lines).toEqual([]);
  });
});

describe("the gate of bcrypt", () => {
  /** Work that ends when the test says so. */
  function work(): { start: () => Promise<void>; end: () => void; started: () => number } {
    const ends: (() => void)[] = [];
    let started = 0;
    return {
      start: () => {
        started++;
        return new Promise<void>((resolve) => ends.push(resolve));
      },
      end: () => ends.shift()?.(),
      started: () => started,
    };
  }

  it("lets so many run at a time and the others in order", async () => {
    const gate = new Gate(2, 10, "bcrypt");
    const { start, end, started } = work();
    const done: number[] = [];
    const all = [1, 2, 3, 4].map((n) => gate.run(luaCall(), start).then(() => done.push(n)));
    expect(started()).toBe(2);
    expect(gate.size).toBe(2);
    end();
    await all[0];
    expect(started()).toBe(3);
    all.push(gate.run(luaCall(), start).then(() => done.push(5)));
    expect(started()).toBe(3);
    for (const n of [1, 2, 3, 4]) {
      end();
      await all[n];
    }
    expect(done).toEqual([1, 2, 3, 4, 5]);
    expect(gate.size).toBe(0);
  });

  it("goes on after work that failed", async () => {
    const gate = new Gate(1, 10, "bcrypt");
    await expect(gate.run(luaCall(), () => Promise.reject(new Error("no")))).rejects.toThrow("no");
    expect(await gate.run(luaCall(), () => Promise.resolve("yes"))).toBe("yes");
  });

  it("refuses more than may wait", async () => {
    const gate = new Gate(1, 1, "bcrypt");
    const { start, end } = work();
    const first = gate.run(luaCall(), start);
    const second = gate.run(luaCall(), start);
    await expect(gate.run(luaCall(), start)).rejects.toThrow("bcrypt: 1 calls are waiting already");
    end();
    await first;
    end();
    await second;
  });

  it("forgets a call that ends while it waits", async () => {
    const gate = new Gate(1, 10, "bcrypt");
    const { start, end, started } = work();
    const first = gate.run(luaCall(), start);
    let cancel: () => void = () => undefined;
    const onCancel = (given: () => void) => {
      cancel = given;
      return () => undefined;
    };
    const second = gate.run(luaCall(1, { onCancel }), start);
    cancel();
    await expect(second).rejects.toThrow("the call ended while it waited");
    end();
    await first;
    expect(started()).toBe(1);
    expect(await gate.run(luaCall(), () => Promise.resolve("free"))).toBe("free");
  });
});
