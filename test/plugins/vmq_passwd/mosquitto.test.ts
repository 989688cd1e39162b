import { spawn, spawnSync } from "node:child_process";
import { chmodSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { connectAsync } from "mqtt";
import { describe, expect, it } from "vitest";
import { createPasswordHash } from "../../../plugins/vmq_passwd/hashes.ts";
import { parsePasswordFile } from "../../../plugins/vmq_passwd/password-file.ts";
import { Verifier } from "../../../plugins/vmq_passwd/verifier.ts";
import { freePort, tempDir, waitFor } from "../../support/broker.ts";
import { atEnd } from "../../support/cleanup.ts";
import { requireTool } from "../../support/tools.ts";

const hasMosquitto =
  requireTool("mosquitto_passwd", "mosquitto") && requireTool("mosquitto", "mosquitto");

describe.skipIf(!hasMosquitto)("password files of Mosquitto", () => {
  it("we read what mosquitto_passwd writes", async () => {
    const file = join(tempDir(), "passwd");
    for (const [flags, user] of [
      [["-c"], "default"],
      [["-H", "sha512"], "old"],
      [["-H", "sha512-pbkdf2"], "new"],
    ] as const) {
      const { status } = spawnSync("mosquitto_passwd", [...flags, "-b", file, user, `pä ${user}`]);
      expect(status).toBe(0);
    }
    const content = readFileSync(file);
    expect(content.toString()).toMatch(/^default:\$7\$\d+\$[^$]{16}\$[^$]{88}\nold:\$6\$/);
    const { set, faults } = await parsePasswordFile(content);
    expect(faults).toEqual([]);
    const verifier = new Verifier();
    for (const user of ["default", "old", "new"]) {
      expect(await verifier.check(set, user, Buffer.from(`pä ${user}`))).toBe("right");
      expect(await verifier.check(set, user, Buffer.from(`pä ${user}!`))).toBe("wrong");
    }
  });

  it("mosquitto reads what we write", async () => {
    const dir = tempDir();
    const port = await freePort();
    const slow = await createPasswordHash("pä slow");
    const quick = await createPasswordHash("pä quick", { form: "sha512" });
    writeFileSync(join(dir, "passwd"), `slow:${slow}\nquick:${quick}\n`);
    const conf = `listener ${port} 127.0.0.1\npassword_file ${join(dir, "passwd")}\n`;
    writeFileSync(join(dir, "conf"), conf);
    // As root it changes to the user `mosquitto`.
    chmodSync(dir, 0o755);
    chmodSync(join(dir, "passwd"), 0o644);
    const child = spawn("mosquitto", ["-c", join(dir, "conf")], { stdio: "ignore" });
    atEnd(() => child.kill());
    const connect = async (username: string, password: string) => {
      try {
        const client = await connectAsync(`mqtt://127.0.0.1:${port}`, {
          username,
          password,
          reconnectPeriod: 0,
        });
        await client.endAsync();
        return 0;
      } catch (error) {
        return (error as { code?: number | string }).code;
      }
    };
    await waitFor("mosquitto listens", async () => (await connect("slow", "pä slow")) === 0);
    expect(await connect("quick", "pä quick")).toBe(0);
    expect(await connect("slow", "wrong")).toBe(5);
    expect(await connect("quick", "wrong")).toBe(5);
  });
});
