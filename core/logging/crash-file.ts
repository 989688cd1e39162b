import { appendFileSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";
import { gzipSync } from "node:zlib";
import { errorMessage } from "../errors.ts";
import { makeFolder } from "../folder.ts";
import type { LogFileOptions } from "./log-file.ts";
import type { LogSink } from "./types.ts";

/**
 * The crash log: few lines, each written at once, since the process may end with it. Rotates as
 * other log files do.
 */
export class CrashFile implements LogSink {
  private readonly options: LogFileOptions;

  constructor(options: LogFileOptions) {
    this.options = options;
  }

  write(line: string): void {
    const { file } = this.options;
    try {
      makeFolder(dirname(file));
      if (this.isFull()) this.rotate();
      appendFileSync(file, line, { mode: 0o640 });
    } catch (error) {
      const reason = errorMessage(error);
      process.stderr.write(`log file ${file} cannot be written: ${reason}\n`);
    }
  }

  close(): Promise<void> {
    return Promise.resolve();
  }

  private isFull(): boolean {
    const { file, sizeMax } = this.options;
    return (statSync(file, { throwIfNoEntry: false })?.size ?? 0) >= sizeMax;
  }

  /** `.0` is the newest; the oldest goes. */
  private rotate(): void {
    const { file, keep, isCompressed } = this.options;
    const ending = isCompressed ? ".gz" : "";
    if (keep === 0) {
      rmSync(file);
      return;
    }
    for (let index = keep - 1; index > 0; index--) {
      const older = `${file}.${index - 1}${ending}`;
      const isThere = statSync(older, { throwIfNoEntry: false }) !== undefined;
      if (isThere) renameSync(older, `${file}.${index}${ending}`);
    }
    if (!isCompressed) {
      renameSync(file, `${file}.0`);
      return;
    }
    writeFileSync(`${file}.0.gz`, gzipSync(readFileSync(file)), { mode: 0o640 });
    rmSync(file);
  }
}
