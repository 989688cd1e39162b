import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { startInBackground, stopBroker } from "../../../core/admin/background.ts";
import { runningPid } from "../../../core/admin/pid-file.ts";

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "nautilus-background-"));
});
afterEach(() => rmSync(folder, { recursive: true }));

/** A process that stands for the broker. */
function script(source: string): string[] {
  const path = join(folder, "broker.mjs");
  writeFileSync(path, `import { writeFileSync } from "node:fs";\n${source}`);
  return [path, folder];
}
const GOOD = `
  const dir = process.argv[2];
  writeFileSync(dir + "/vernemq.pid", process.pid + "\\n");
  setInterval(() => {}, 1000);
  process.on("SIGTERM", () => process.exit(0));
  console.log("a line");
  process.send("something else");
  process.send("ready");
`;

describe("starting in the background", () => {
  test("is silent when the broker gets ready, and stop waits for its end", async () => {
    const answer = await startInBackground(folder, script(GOOD), process.env);
    expect(answer).toEqual({ exit: 0, stdout: "", stderr: "" });
    const pid = runningPid(folder) ?? 0;
    expect(pid).toBeGreaterThan(0);
    expect(readFileSync(join(folder, "console.log"), "utf8")).toBe("a line\n");
    expect(await stopBroker(folder)).toEqual({ exit: 0, stdout: "ok\n", stderr: "" });
    expect(runningPid(folder)).toBeUndefined();
  });

  test("prints what the broker said when it ended at once, and nothing of earlier runs", async () => {
    writeFileSync(join(folder, "console.log"), "old\n");
    const command = script(`console.error("v.conf:1: bad"); process.exit(1);`);
    const answer = await startInBackground(folder, command, process.env);
    expect(answer).toEqual({ exit: 1, stdout: "", stderr: "v.conf:1: bad\n" });
  });

  test("gives up after WAIT_FOR_ERLANG seconds", async () => {
    const command = script(`
      writeFileSync(process.argv[2] + "/vernemq.pid", process.pid + "\\n");
      setInterval(() => {}, 1000);
    `);
    const env = { ...process.env, WAIT_FOR_ERLANG: "0.5" };
    const answer = await startInBackground(folder, command, env);
    expect(answer.exit).toBe(1);
    expect(answer.stderr).toMatch(/did not get ready within 0\.5 s/);
    await stopBroker(folder);
  });
});

test("stop says so when nothing runs", async () => {
  expect(await stopBroker(folder)).toEqual({
    exit: 1,
    stdout: "",
    stderr: "Node is not running\n",
  });
});
