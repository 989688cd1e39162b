import { describe, expect, it } from "vitest";
import { HashQueue } from "../../../plugins/vmq_passwd/hash-queue.ts";
import { createPasswordHash } from "../../../plugins/vmq_passwd/hashes.ts";
import { parsePasswordFile } from "../../../plugins/vmq_passwd/password-file.ts";
import { Verifier } from "../../../plugins/vmq_passwd/verifier.ts";

async function usersOf(...lines: string[]) {
  return (await parsePasswordFile(Buffer.from(lines.join("\n")))).set;
}

const RIGHT = Buffer.from("right");
const WRONG = Buffer.from("wrong");

describe("verifier", () => {
  it("answers synchronously for $6$", async () => {
    const set = await usersOf(`bob:${await createPasswordHash("right", { form: "sha512" })}`);
    const verifier = new Verifier();
    expect(verifier.check(set, "bob", RIGHT)).toBe("right");
    expect(verifier.check(set, "bob", WRONG)).toBe("wrong");
    expect(verifier.check(set, "eve", RIGHT)).toBe("unknown");
  });

  it("hashes a pair once and then knows the answer", async () => {
    const set = await usersOf(`bob:${await createPasswordHash("right", { iterations: 1000 })}`);
    const verifier = new Verifier();
    expect(await verifier.check(set, "bob", RIGHT)).toBe("right");
    expect(verifier.check(set, "bob", RIGHT)).toBe("right");
    expect(await verifier.check(set, "bob", WRONG)).toBe("wrong");
    expect(await verifier.check(set, "bob", WRONG)).toBe("wrong");
    expect(verifier.slowChecks).toBe(2);
  });

  it("pays one hash for a thousand devices that come at once with one account", async () => {
    const set = await usersOf(`bob:${await createPasswordHash("right", { iterations: 1000 })}`);
    const verifier = new Verifier();
    const answers = await Promise.all(
      Array.from({ length: 1000 }, () => verifier.check(set, "bob", RIGHT)),
    );
    expect(new Set(answers)).toEqual(new Set(["right"]));
    expect(verifier.slowChecks).toBe(1);
  });

  it("forgets a remembered password with the line it was checked against", async () => {
    const before = await usersOf(`bob:${await createPasswordHash("right", { iterations: 10 })}`);
    const after = await usersOf(`bob:${await createPasswordHash("newer", { iterations: 10 })}`);
    const verifier = new Verifier();
    expect(await verifier.check(before, "bob", RIGHT)).toBe("right");
    expect(await verifier.check(after, "bob", RIGHT)).toBe("wrong");
    expect(await verifier.check(after, "bob", Buffer.from("newer"))).toBe("right");
    expect(await verifier.check(await usersOf(), "bob", RIGHT)).toBe("unknown");
  });

  it("keeps unknown users waiting about as long as a check takes, without hashing", async () => {
    const set = await usersOf(`bob:${await createPasswordHash("right", { iterations: 50_000 })}`);
    const verifier = new Verifier();
    await verifier.calibrate(set);
    const times = { unknown: 0, again: 0 };
    let start = performance.now();
    expect(await verifier.check(set, "bob", WRONG)).toBe("wrong");
    const wrong = performance.now() - start;
    start = performance.now();
    expect(await verifier.check(set, "eve", WRONG)).toBe("unknown");
    times.unknown = performance.now() - start;
    start = performance.now();
    expect(await verifier.check(set, "bob", WRONG)).toBe("wrong");
    times.again = performance.now() - start;
    expect(verifier.slowChecks).toBe(2);
    // Only the order of magnitude: this machine may be busy.
    expect(times.unknown).toBeGreaterThan(wrong / 5);
    expect(times.again).toBeGreaterThan(wrong / 5);
  });

  it("bounds the waiting hashes in number and time and serves the rest", async () => {
    let nowMs = 0;
    const queue = new HashQueue(() => nowMs);
    const release: (() => void)[] = [];
    const job = () => new Promise<string>((resolve) => release.push(() => resolve("done")));
    const results = Array.from({ length: 1010 }, () => queue.run(job));
    await new Promise(setImmediate);
    const running = release.length;
    const refused = 1010 - 1000 - running;
    expect(await Promise.all(results.slice(1000 + running))).toEqual(Array(refused).fill("busy"));
    nowMs = 4001; // those that wait are too late now
    release[0]?.();
    expect(await results[running]).toBe("busy");
    expect(await results[999 + running]).toBe("busy");
    expect(await results[0]).toBe("done");
    const late = queue.run(async () => "served");
    for (const each of release) each();
    expect(await late).toBe("served");
  });
});
