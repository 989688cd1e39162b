import { rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { connectAsync } from "mqtt";
import { afterEach, describe, expect, it } from "vitest";
import { createPasswordHash } from "../../../plugins/vmq_passwd/hashes.ts";
import { createPasswdPlugin } from "../../../plugins/vmq_passwd/index.ts";
import { startBroker, tempDir, waitFor } from "../../support/broker.ts";
import { atEnd } from "../../support/cleanup.ts";

const lines: string[] = [];
const note = (message: string, fields?: object) =>
  void lines.push(`${message} ${JSON.stringify(fields ?? {})}`);
const log = { info: note, warn: note, error: note };
afterEach(() => {
  lines.length = 0;
});

async function line(user: string, password: string, iterations?: number): Promise<string> {
  const options = iterations === undefined ? { form: "sha512" as const } : { iterations };
  return `${user}:${await createPasswordHash(password, options)}\n`;
}

/** A file with this text, the plugin over it (interval 1 s) and a broker with only this plugin. */
async function start(text: string | undefined) {
  const file = join(tempDir(), "vmq.passwd");
  if (text !== undefined) await writeFile(file, text);
  return startOver(file);
}

async function startOver(file: string) {
  const passwd = await createPasswdPlugin({ passwordFile: file, reloadIntervalS: 1, log });
  atEnd(() => passwd.stop());
  const broker = await startBroker(
    { allow_anonymous: "off", "plugins.vmq_passwd": "off", "plugins.vmq_acl": "off" },
    [passwd.plugin],
    { acceptAll: false },
  );
  /** 0 = accepted, else the code of CONNACK. */
  async function connect(options: { username?: string; password?: string }, version: 4 | 5 = 4) {
    try {
      const client = await connectAsync(`mqtt://127.0.0.1:${broker.port()}`, {
        ...options,
        protocolVersion: version,
        reconnectPeriod: 0,
        connectTimeout: 10_000,
      });
      await client.endAsync();
      return 0;
    } catch (error) {
      return (error as { code?: number }).code;
    }
  }
  return { file, passwd, connect };
}

describe.each([
  ["$6$", undefined],
  ["$7$", 2000],
] as const)("vmq_passwd with %s hashes", (_form, iterations) => {
  it("check 35: right password ok, wrong 4 / 0x86, unknown user 5 / 0x86", async () => {
    const { connect } = await start(await line("bob", "secret", iterations));
    for (let round = 0; round < 2; round++) {
      expect(await connect({ username: "bob", password: "secret" })).toBe(0);
      expect(await connect({ username: "bob", password: "Secret" })).toBe(4);
      expect(await connect({ username: "eve", password: "secret" })).toBe(5);
      expect(await connect({ username: "bob" })).toBe(5);
      expect(await connect({})).toBe(5);
    }
    expect(await connect({ username: "bob", password: "secret" }, 5)).toBe(0);
    expect(await connect({ username: "bob", password: "Secret" }, 5)).toBe(0x86);
    expect(await connect({ username: "eve", password: "secret" }, 5)).toBe(0x86);
  });

  it("check 37: a removed user is refused within a reload interval, a new one accepted", async () => {
    const { file, connect } = await start(await line("bob", "secret", iterations));
    expect(await connect({ username: "bob", password: "secret" })).toBe(0);
    await writeFile(`${file}.new`, await line("ann", "other", iterations));
    await rename(`${file}.new`, file);
    await waitFor("bob is refused", async () => {
      return (await connect({ username: "bob", password: "secret" })) === 5;
    });
    expect(await connect({ username: "ann", password: "other" })).toBe(0);
  });
});

describe("vmq_passwd reload", () => {
  it("keeps the users when the file vanishes or has no usable line, and names the lines", async () => {
    const { file, connect } = await start(await line("bob", "secret"));
    await rm(file);
    await waitFor("the loss is logged", () => lines.some((each) => each.includes("ENOENT")));
    expect(await connect({ username: "bob", password: "secret" })).toBe(0);
    await writeFile(file, "bob:plain text\n");
    await waitFor("the line is logged", () => lines.some((each) => each.includes(`${file}:1: `)));
    await waitFor("the refusal is logged", () =>
      lines.some((each) => each.includes("no usable line")),
    );
    expect(lines.join("\n")).not.toContain("plain text");
    expect(await connect({ username: "bob", password: "secret" })).toBe(0);
  });

  it("starts without a file and reads it when it appears", async () => {
    const { file, connect } = await start(undefined);
    expect(await connect({ username: "bob", password: "secret" })).toBe(5);
    await writeFile(file, await line("bob", "secret"));
    await waitFor("bob is accepted", async () => {
      return (await connect({ username: "bob", password: "secret" })) === 0;
    });
  });

  it("changes to another file at once, and keeps the users if that cannot be read", async () => {
    const { file, passwd, connect } = await start(await line("bob", "secret"));
    await passwd.setFile(`${file}.missing`);
    expect(await connect({ username: "bob", password: "secret" })).toBe(0);
    await writeFile(`${file}.2`, `garbage\n${await line("ann", "other")}`);
    await passwd.setFile(`${file}.2`);
    expect(await connect({ username: "bob", password: "secret" })).toBe(5);
    expect(await connect({ username: "ann", password: "other" })).toBe(0);
    expect(lines.some((each) => each.startsWith(`${file}.2:1: `))).toBe(true);
  });

  it("does not look at all with interval 0", async () => {
    const { file, passwd, connect } = await start(await line("bob", "secret"));
    passwd.setInterval(0);
    const watching = await startOver(file);
    // Twice, so that a whole interval lies behind the first change.
    for (const username of ["ann", "eve"]) {
      await writeFile(file, await line(username, "other"));
      await waitFor("another one has seen it", async () => {
        return (await watching.connect({ username, password: "other" })) === 0;
      });
    }
    expect(await connect({ username: "bob", password: "secret" })).toBe(0);
    passwd.setInterval(1);
    await waitFor("bob is refused", async () => {
      return (await connect({ username: "bob", password: "secret" })) === 5;
    });
  });
});
