import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { gunzipSync } from "node:zlib";
import { describe, expect, it } from "vitest";
import { LogFile, type LogFileOptions } from "../../../core/logging/log-file.ts";
import { tempDir, waitFor } from "../../support/broker.ts";
import { atEnd } from "../../support/cleanup.ts";

function open(options: Partial<LogFileOptions> = {}): {
  log: LogFile;
  folder: string;
  file: string;
} {
  const folder = tempDir();
  const file = join(folder, "log", "console.log");
  const log = new LogFile({ file, sizeMax: Infinity, keep: 5, isCompressed: false, ...options });
  atEnd(() => log.close());
  return { log, folder, file };
}

const LINE = `${"x".repeat(99)}\n`;

describe("a log file", () => {
  it("is made with its folder by the first line, readable for its group only", async () => {
    const { log, folder, file } = open();
    expect(existsSync(join(folder, "log"))).toBe(false);
    log.write("one\n");
    log.write("two\n");
    await log.close();
    expect(readFileSync(file, "utf8")).toBe("one\ntwo\n");
    expect(statSync(file).mode & 0o007).toBe(0);
  });

  it("goes on at the end of what is there", async () => {
    const { log, folder, file } = open();
    mkdirSync(join(folder, "log"));
    writeFileSync(file, "before\n");
    log.write("after\n");
    await log.close();
    expect(readFileSync(file, "utf8")).toBe("before\nafter\n");
  });

  it("rotates by size and keeps so many: .0 is the newest (check 32)", async () => {
    const { log, folder, file } = open({ sizeMax: 1024, keep: 2 });
    const names = () => readdirSync(join(folder, "log")).sort();
    for (let round = 0; round < 6; round++) {
      const before = existsSync(`${file}.0`) ? statSync(`${file}.0`).ino : 0;
      for (let line = 0; line < 11; line++) log.write(LINE);
      await waitFor(
        "it rotated",
        () => existsSync(`${file}.0`) && statSync(`${file}.0`).ino !== before,
      );
      expect(names().length).toBeLessThanOrEqual(3);
    }
    await log.close();
    expect(names().filter((name) => name !== "console.log")).toEqual([
      "console.log.0",
      "console.log.1",
    ]);
    expect(statSync(`${file}.0`).size).toBeGreaterThanOrEqual(1024);
  });

  it("compresses what it rotates, and keeps nothing with keep = 0", async () => {
    const zipped = open({ sizeMax: 1024, isCompressed: true });
    for (let line = 0; line < 11; line++) zipped.log.write(LINE);
    await waitFor("it rotated", () => existsSync(`${zipped.file}.0.gz`));
    await zipped.log.close();
    expect(gunzipSync(readFileSync(`${zipped.file}.0.gz`)).toString()).toContain(LINE);
    const none = open({ sizeMax: 1024, keep: 0 });
    for (let line = 0; line < 30; line++) none.log.write(LINE);
    await waitFor("nothing is kept", () => {
      const names = existsSync(none.file) ? readdirSync(join(none.folder, "log")) : [];
      return names.length === 1 && statSync(none.file).size < 3000;
    });
    await none.log.close();
  });

  it("that was renamed is left at once when told so, and soon by itself", async () => {
    const { log, file } = open();
    log.write("one\n");
    await waitFor("it is there", () => existsSync(file) && statSync(file).size === 4);
    renameSync(file, `${file}.old`);
    log.reopen();
    log.write("two\n");
    await waitFor("the new one", () => existsSync(file) && statSync(file).size === 4);
    rmSync(file);
    await waitFor("another", () => {
      log.write("three\n");
      return existsSync(file);
    });
    await log.close();
    expect(readFileSync(`${file}.old`, "utf8")).toBe("one\n");
    expect(readFileSync(file, "utf8")).toContain("three");
  });

  it("goes on in the file that is there when nobody renamed it", async () => {
    const { log, file } = open({ sizeMax: 1024 });
    for (let line = 0; line < 9; line++) log.write(LINE);
    await waitFor("it is there", () => existsSync(file) && statSync(file).size === 900);
    log.reopen();
    for (let line = 0; line < 2; line++) log.write(LINE);
    await waitFor("it rotated", () => existsSync(`${file}.0`));
    await log.close();
    expect(statSync(`${file}.0`).size).toBe(1100);
  });

  it("below a folder that cannot be made gives up", async () => {
    const { log } = open({ file: "/proc/nosuch/log/console.log" });
    log.write("x\n");
    log.writeNow("x\n");
    await log.close();
  });

  it("that cannot be written loses lines and nothing else", async () => {
    const { log, folder } = open();
    writeFileSync(join(folder, "log"), "a file where the folder should be");
    expect(() => log.write("x\n")).not.toThrow();
    expect(() => log.writeNow("x\n")).not.toThrow();
    await log.close();
  });
});
