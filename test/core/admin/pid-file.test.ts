import { spawn } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, utimesSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { claimDataDir, isAlive, pidFilePath, runningPid } from "../../../core/admin/pid-file.ts";

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "nautilus-pid-"));
});
afterEach(() => rmSync(folder, { recursive: true }));

describe("claiming a data directory", () => {
  test("creates it and writes the process id, and release takes it away", () => {
    const dir = join(folder, "a", "b");
    const claim = claimDataDir(dir);
    expect(readFileSync(pidFilePath(dir), "utf8")).toBe(`${process.pid}\n`);
    claim.release();
    expect(existsSync(pidFilePath(dir))).toBe(false);
  });

  test("is refused with a coded error while another process holds it", () => {
    // The parent of the test is alive and older than the file.
    writeFileSync(pidFilePath(folder), `${process.ppid}\n`);
    expect(runningPid(folder)).toBe(process.ppid);
    expect(() => claimDataDir(folder)).toThrow(
      expect.objectContaining({
        code: "DATA_DIR_IN_USE",
        message: `data directory ${folder} is in use by process ${process.ppid}`,
      }),
    );
    expect(readFileSync(pidFilePath(folder), "utf8")).toBe(`${process.ppid}\n`);
  });

  test.each([
    ["of a process that ended", "4194305"],
    ["of an earlier life of the same number", String(process.pid)],
    ["that is damaged", "garbage"],
    ["that is empty", ""],
    ["with a number that would mean a group", "-1"],
  ])("replaces a file %s", (_, text) => {
    writeFileSync(pidFilePath(folder), text);
    expect(runningPid(folder)).toBeUndefined();
    claimDataDir(folder).release();
  });

  test("replaces a file whose number was given to a younger process", () => {
    writeFileSync(pidFilePath(folder), `${process.ppid}\n`);
    utimesSync(pidFilePath(folder), 1000, 1000);
    expect(runningPid(folder)).toBeUndefined();
  });

  test("fails with a coded error where nothing can be written", () => {
    writeFileSync(join(folder, "file"), "");
    expect(() => claimDataDir(join(folder, "file", "sub"))).toThrow(
      expect.objectContaining({ code: "DATA_DIR_UNUSABLE" }),
    );
  });

  test("leaves a file that somebody else wrote meanwhile", () => {
    const claim = claimDataDir(folder);
    writeFileSync(pidFilePath(folder), "1\n");
    claim.release();
    expect(readFileSync(pidFilePath(folder), "utf8")).toBe("1\n");
  });
});

test("a process is alive until it ends", async () => {
  const child = spawn(process.execPath, ["-e", "process.stdin.resume()"], { stdio: "pipe" });
  await new Promise((done) => child.once("spawn", done));
  const pid = child.pid ?? 0;
  expect(isAlive(pid)).toBe(true);
  const ended = new Promise((done) => child.once("exit", done));
  child.stdin.end();
  await ended;
  expect(isAlive(pid)).toBe(false);
});
