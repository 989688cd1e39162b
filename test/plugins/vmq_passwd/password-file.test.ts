import { describe, expect, it } from "vitest";
import { parsePasswordFile } from "../../../plugins/vmq_passwd/password-file.ts";

const HASH = `$6$MDEyMzQ1Njc4OWFi$${"A".repeat(86)}==`;
const OTHER = `$6$MDEyMzQ1Njc4OWFj$${"B".repeat(86)}==`;
const SLOW = `$7$5000$MDEyMzQ1Njc4OWFi$${"A".repeat(86)}==`;

async function parse(text: string | Buffer) {
  const { set, faults } = await parsePasswordFile(Buffer.from(text));
  return { users: Object.fromEntries(set.users), slowest: set.slowest?.iterations, faults };
}

describe("password file", () => {
  it("takes comments, blank lines, CRLF, a byte order mark and a last line without line feed", async () => {
    expect(await parse(`\ufeff# us\r\nbob:${HASH}\r\n\r\n  \nzoë müller:${OTHER}  `)).toEqual({
      users: { bob: HASH, "zoë müller": OTHER },
      slowest: undefined,
      faults: [],
    });
  });

  it("skips lines that cannot be used, names them, and never repeats their text", async () => {
    const { users, faults } = await parse(
      `nocolon\n:${HASH}\neve:secret\nbob:${HASH}\nx:y:${HASH}\n`,
    );
    expect(users).toEqual({ bob: HASH });
    expect(faults.map(({ line }) => line)).toEqual([1, 2, 3, 5]);
    expect(JSON.stringify(faults)).not.toContain("secret");
  });

  it("skips a user name that is no UTF-8", async () => {
    const { users, faults } = await parse(
      Buffer.concat([Buffer.from([0xff, 0x61]), Buffer.from(`:${HASH}\nbob:${HASH}\n`)]),
    );
    expect(users).toEqual({ bob: HASH });
    expect(faults).toEqual([{ line: 1, reason: "the user name is not UTF-8" }]);
  });

  it("takes the later of two lines for one user and says so", async () => {
    const { users, faults } = await parse(`bob:${HASH}\nbob:${OTHER}\n`);
    expect(users).toEqual({ bob: OTHER });
    expect(faults[0]?.line).toBe(2);
  });

  it("knows the most expensive hash", async () => {
    expect((await parse(`a:${SLOW}\nb:${SLOW.replace("5000", "7")}\nc:${HASH}\n`)).slowest).toBe(
      5000,
    );
  });

  it("reads a hundred thousand users without holding the event loop", async () => {
    let text = "";
    for (let i = 0; i < 100_000; i++) text += `user${i}:${HASH}\n`;
    let turns = 0;
    const timer = setInterval(() => turns++, 1);
    const { set } = await parsePasswordFile(Buffer.from(text));
    clearInterval(timer);
    expect(set.users.size).toBe(100_000);
    expect(turns).toBeGreaterThan(10);
  });
});
