import { createHash } from "node:crypto";
import { describe, expect, it } from "vitest";
import {
  createPasswordHash,
  isRightPbkdf2,
  isRightSha512,
  parseHash,
} from "../../../plugins/vmq_passwd/hashes.ts";

const SALT = Buffer.from("0123456789ab");

function sha512Text(password: string, salt = SALT): string {
  const hash = createHash("sha512").update(password).update(salt).digest("base64");
  return `$6$${salt.toString("base64")}$${hash}`;
}

function sha512Of(text: string) {
  const hash = parseHash(text);
  if (hash?.type !== "sha512") throw new Error(`no sha512 hash: ${text}`);
  return hash;
}

describe("password hashes", () => {
  it("check 36: $6$ is base64 of SHA-512 over password and raw salt", () => {
    const hash = sha512Of(sha512Text("pässword"));
    expect(isRightSha512(hash, Buffer.from("pässword"))).toBe(true);
    expect(isRightSha512(hash, Buffer.from("password"))).toBe(false);
    expect(isRightSha512(hash, Buffer.alloc(0))).toBe(false);
  });

  it("does not look at the id of a three-part hash, as VerneMQ", () => {
    const text = sha512Text("pw").replace("$6$", "$x$");
    expect(isRightSha512(sha512Of(text), Buffer.from("pw"))).toBe(true);
  });

  it("reads what it writes in both forms", async () => {
    const slow = parseHash(await createPasswordHash("pw", { iterations: 10 }));
    if (slow?.type !== "pbkdf2") throw new Error("no pbkdf2 hash");
    expect(slow.iterations).toBe(10);
    expect(await isRightPbkdf2(slow, Buffer.from("pw"))).toBe(true);
    expect(await isRightPbkdf2(slow, Buffer.from("pW"))).toBe(false);
    const quick = await createPasswordHash("pw", { form: "sha512" });
    expect(quick).toMatch(/^\$6\$[A-Za-z0-9+/=]{16}\$[A-Za-z0-9+/=]{88}$/);
    expect(isRightSha512(sha512Of(quick), Buffer.from("pw"))).toBe(true);
  });

  it("writes PBKDF2 with 100 000 iterations unless told otherwise", async () => {
    expect(await createPasswordHash("pw")).toMatch(
      /^\$7\$100000\$[A-Za-z0-9+/=]{16}\$[A-Za-z0-9+/=]{88}$/,
    );
  });

  it.each([
    "",
    "plain",
    "$6$abc",
    "$6$$",
    "$6$MDEyMzQ1Njc4OWFi$c2hvcnQ=",
    `$7$0$MDEyMzQ1Njc4OWFi$${"A".repeat(86)}==`,
    `$7$99999999$MDEyMzQ1Njc4OWFi$${"A".repeat(86)}==`,
    `$7$MDEyMzQ1Njc4OWFi$${"A".repeat(86)}==`,
    "$2b$10$N9qo8uLOickgx2ZMRZoMyeIjZAgcfl7p92ldGxad68LJZdL17lhWy",
    sha512Text("pw").replace("=", "!"),
  ])("refuses %j", (text) => {
    expect(parseHash(text)).toBeUndefined();
  });
});
