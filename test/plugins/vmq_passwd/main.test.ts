import { spawn, spawnSync } from "node:child_process";
import { existsSync, readFileSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { parseHash } from "../../../plugins/vmq_passwd/hashes.ts";
import { runPasswd } from "../../../plugins/vmq_passwd/main.ts";
import { tempDir, waitFor } from "../../support/broker.ts";
import { built, ROOT } from "../../support/build.ts";

const SLOW_LINE = /^u:\$7\$100000\$[A-Za-z0-9+/=]{16}\$[A-Za-z0-9+/=]{88}\n$/;
const QUICK_LINE = /^u:\$6\$[A-Za-z0-9+/=]{16}\$[A-Za-z0-9+/=]{88}\n$/;
/** Cheap hashes where the hash is not the subject. */
const CHEAP = ["--iterations", "1"];

async function run(argv: string[], typed: string[] = []) {
  let out = "";
  let error = "";
  const exit = await runPasswd(argv, {
    ask: async () => typed,
    out: (text) => {
      out += text;
    },
    error: (text) => {
      error += text;
    },
  });
  return { exit, out, error };
}

const path = () => join(tempDir(), "f");
const read = (file: string) => readFileSync(file, "utf8");

describe("vmq-passwd", () => {
  it("-c creates a file of mode 0600 with a $7$ line, and refuses an existing one", async () => {
    const file = path();
    expect(await run(["-c", file, "u"], ["pw", "pw"])).toEqual({ exit: 0, out: "", error: "" });
    expect(read(file)).toMatch(SLOW_LINE);
    expect(statSync(file).mode & 0o777).toBe(0o600);
    const again = await run(["-c", file, "v"], ["pw", "pw"]);
    expect(again.exit).toBe(1);
    expect(again.error).toContain("-cf");
    expect(read(file)).toMatch(SLOW_LINE);
  });

  it("admin-cli check 40: --vernemq -c creates a line that VerneMQ reads", async () => {
    const file = path();
    expect((await run(["--vernemq", "-c", file, "u"], ["pw", "pw"])).exit).toBe(0);
    expect(read(file)).toMatch(QUICK_LINE);
  });

  it("-cf overwrites", async () => {
    const file = path();
    writeFileSync(file, "old:line\n");
    expect((await run([...CHEAP, "-cf", file, "u"], ["pw", "pw"])).exit).toBe(0);
    expect(read(file)).toMatch(/^u:\$7\$1\$.+\n$/);
  });

  it("adds and replaces a user and leaves everything else, the mode included", async () => {
    const file = path();
    writeFileSync(file, "# head\nann:x\n\nu:old\nbob:y", { mode: 0o640 });
    expect((await run([...CHEAP, "-b", file, "u", "pw"])).exit).toBe(0);
    expect(read(file)).toMatch(/^# head\nann:x\n\nu:\$7\$1\$.+\nbob:y\n$/);
    expect((await run([...CHEAP, "-b", file, "new", "pw"])).exit).toBe(0);
    expect(read(file)).toMatch(/\nbob:y\nnew:\$7\$1\$.+\n$/);
    expect(statSync(file).mode & 0o777).toBe(0o640);
    expect(existsSync(`${file}.tmp`)).toBe(false);
  });

  it("follows a link instead of replacing it", async () => {
    const file = path();
    writeFileSync(file, "");
    symlinkSync(file, `${file}.link`);
    expect((await run([...CHEAP, "-b", `${file}.link`, "u", "pw"])).exit).toBe(0);
    expect(read(file)).toMatch(/^u:/);
  });

  it("loses no user when several run at once", async () => {
    const file = path();
    writeFileSync(file, "");
    const users = Array.from({ length: 8 }, (_, i) => `user${i}`);
    const exits = await Promise.all(
      users.map(async (user) => (await run([...CHEAP, "-b", file, user, "pw"])).exit),
    );
    expect(exits).toEqual(users.map(() => 0));
    const found = read(file)
      .split("\n")
      .map((line) => line.split(":")[0]);
    expect(found.sort()).toEqual(["", ...users]);
  });

  it("-D removes a user; an unknown one is a warning", async () => {
    const file = path();
    writeFileSync(file, "# head\nann:x\nbob:y\n");
    expect(await run(["-D", file, "ann"])).toEqual({ exit: 0, out: "", error: "" });
    expect(read(file)).toBe("# head\nbob:y\n");
    const unknown = await run(["-D", file, "ann"]);
    expect(unknown.exit).toBe(0);
    expect(unknown.error).toBe("Warning: User ann not found in password file.\n");
    expect(read(file)).toBe("# head\nbob:y\n");
  });

  it("-U hashes plain text and leaves comments and hashes", async () => {
    const file = path();
    writeFileSync(file, "# head\nann: a:b \r\n\nbob:pw\n");
    expect((await run(["--vernemq", "-U", file])).exit).toBe(0);
    const once = read(file);
    expect(once).toMatch(/^# head\nann:\$6\$.+\n\nbob:\$6\$.+\n$/);
    const again = await run(["-U", file]);
    expect([again.exit, read(file)]).toEqual([0, once]);
    expect(again.error).toContain("2 lines already hold hashes");
  });

  it("-U names a line without password and changes nothing", async () => {
    const file = path();
    writeFileSync(file, "ann:pw\nbroken\n");
    const { exit, error } = await run([...CHEAP, "-U", file]);
    expect([exit, read(file)]).toEqual([1, "ann:pw\nbroken\n"]);
    expect(error).toContain("line 2");
    expect(existsSync(`${file}.tmp`)).toBe(false);
  });

  it.each([
    [[], []],
    [["f"], []],
    [["-c", "-D", "f", "u"], []],
    [["-f", "f", "u"], []],
    [["--nosuch", "f", "u"], []],
    [["-b", "f", "u"], []],
    [
      ["/nonexistent/f", "u"],
      ["pw", "pw"],
    ],
    [
      ["-c", "/nonexistent/f", "u"],
      ["pw", "pw"],
    ],
    [["-D", "/nonexistent/f", "u"], []],
    [["-U", "/nonexistent/f"], []],
    [
      ["-c", "--iterations", "0", "/tmp/nautilus-never", "u"],
      ["pw", "pw"],
    ],
    [
      ["-c", "/tmp/nautilus-never", "a:b"],
      ["pw", "pw"],
    ],
    [
      ["-c", "/tmp/nautilus-never", "#a"],
      ["pw", "pw"],
    ],
    [
      ["-c", "/tmp/nautilus-never", "a\nb"],
      ["pw", "pw"],
    ],
    [
      ["-c", "/tmp/nautilus-never", ""],
      ["pw", "pw"],
    ],
    [
      ["-c", "/tmp/nautilus-never", "u"],
      ["", ""],
    ],
    [
      ["-c", "/tmp/nautilus-never", "u"],
      ["pw", "other"],
    ],
    [["-c", "/tmp/nautilus-never", "u"], ["pw"]],
    [["-c", "-b", "/tmp/nautilus-never", "u", ""], []],
  ])("ends %j %j with 1 and says why", async (argv, typed) => {
    const { exit, error } = await run(argv, typed);
    expect(exit).toBe(1);
    expect(error).not.toBe("");
    expect(existsSync("/tmp/nautilus-never")).toBe(false);
  });
});

describe("vmq-passwd as a process", () => {
  it("takes two piped lines", async () => {
    await built();
    const file = path();
    const main = join(ROOT, "dist/plugins/vmq_passwd/main.js");
    const { status, stdout } = spawnSync(process.execPath, [main, "-c", file, "u"], {
      input: "pw\npw\n",
      encoding: "utf8",
    });
    expect(status).toBe(0);
    expect(stdout).toBe("Password: \nReenter password: \n");
    const hash = parseHash(read(file).trim().slice(2));
    expect(hash?.type).toBe("pbkdf2");
  });

  it("does not echo what is typed on a terminal", async () => {
    await built();
    const file = path();
    const main = join(ROOT, "dist/plugins/vmq_passwd/main.js");
    // util-linux's script gives the command a terminal.
    const command = `${process.execPath} ${main} --vernemq -c ${file} u`;
    const child = spawn("script", ["-qec", command, "/dev/null"]);
    let shown = "";
    child.stdout.on("data", (data: Buffer) => {
      shown += data.toString();
    });
    const ended = new Promise((resolve) => child.once("exit", resolve));
    await waitFor("the first prompt", () => shown.includes("Password: "));
    child.stdin.write("geheiX\u007fm\r"); // with a backspace, as a person types
    await waitFor("the second prompt", () => shown.includes("Reenter password: "));
    child.stdin.write("geheim\r");
    expect(await ended).toBe(0);
    expect(shown.replaceAll("\r", "")).toBe("Password: \nReenter password: \n");
    expect(read(file)).toMatch(QUICK_LINE);
  });

  it("ends with 1 and no file after Ctrl-C", async () => {
    await built();
    const file = path();
    const main = join(ROOT, "dist/plugins/vmq_passwd/main.js");
    const command = `${process.execPath} ${main} -c ${file} u`;
    const child = spawn("script", ["-qec", command, "/dev/null"]);
    let shown = "";
    child.stdout.on("data", (data: Buffer) => {
      shown += data.toString();
    });
    const ended = new Promise((resolve) => child.once("exit", resolve));
    await waitFor("the first prompt", () => shown.includes("Password: "));
    child.stdin.write("gehe\u0003");
    expect(await ended).toBe(1);
    expect(shown).not.toContain("gehe");
    expect(existsSync(file)).toBe(false);
  });
});
