import { appendFileSync, rmSync, statSync } from "node:fs";
import { basename, dirname } from "node:path";
import { createStream, type RotatingFileStream } from "rotating-file-stream";
import { errorMessage } from "../errors.ts";
import { makeFolder } from "../folder.ts";
import type { LogSink } from "./types.ts";

export interface LogFileOptions {
  /** Absolute. */
  readonly file: string;
  /** `log.<x>.rotation.size` in bytes; Infinity = never. */
  readonly sizeMax: number;
  /** `log.<x>.rotation.keep`: rotated files `.0`, `.1` ...; 0 = none. */
  readonly keep: number;
  /** `log.<x>.rotation.compress_on_rotate`. */
  readonly isCompressed: boolean;
}

/** Bytes that may wait for a slow disk; more lines are lost and counted. */
const WAITING_BYTES_MAX = 1024 * 1024;
/** After a failure the file is tried again, and a failure told again, no sooner. */
const RETRY_MS = 10_000;
/** Whether somebody has renamed the file is looked at no sooner again. */
const LOOK_MS = 1000;
/** The end of the process waits so long for the last lines. */
const CLOSE_MS = 2000;

/**
 * A log file that rotates by size, or is rotated from outside: when it was renamed or removed, the next
 * lines go to a new one. It is made with its first line, so that a log without lines leaves no file.
 * Lines that cannot be written are lost; the broker goes on.
 */
export class LogFile implements LogSink {
  private readonly options: LogFileOptions;
  private stream: RotatingFileStream | undefined;
  /** Number of the open file in its file system; undefined while the stream opens or rotates it. */
  private inode: number | undefined;
  private lookedAtMs = 0;
  private failedAtMs = -RETRY_MS;
  private lost = 0;

  constructor(options: LogFileOptions) {
    this.options = options;
  }

  write(line: string): void {
    if (Date.now() - this.lookedAtMs >= LOOK_MS) this.reopen();
    const stream = this.stream ?? this.open();
    if (stream === undefined || stream.writableLength > WAITING_BYTES_MAX) {
      this.lost++;
      return;
    }
    if (this.lost > 0) {
      stream.write(`${this.lost} lines before this one could not be written\n`);
      this.lost = 0;
    }
    stream.write(line);
  }

  /** Leaves the file when its name means another one by now, or none. */
  reopen(): void {
    this.lookedAtMs = Date.now();
    if (this.inode === undefined || this.inode === inodeOf(this.options.file)) return;
    this.stream?.end();
    this.stream = undefined;
    this.inode = undefined;
  }

  /** At once and past everything that waits: for the last words of a process. */
  writeNow(line: string): void {
    try {
      makeFolder(dirname(this.options.file));
      appendFileSync(this.options.file, line, { mode: 0o640 });
    } catch (error) {
      this.failed(error);
    }
  }

  close(): Promise<void> {
    const { stream } = this;
    if (stream === undefined) return Promise.resolve();
    this.stream = undefined;
    return new Promise((done) => {
      const timer = setTimeout(done, CLOSE_MS);
      stream.once("close", () => {
        clearTimeout(timer);
        done();
      });
      stream.end();
    });
  }

  private open(): RotatingFileStream | undefined {
    const { file, sizeMax, keep, isCompressed } = this.options;
    if (Date.now() - this.failedAtMs < RETRY_MS) return undefined;
    const name = basename(file);
    const ending = isCompressed ? ".gz" : "";
    try {
      makeFolder(dirname(file));
      const stream = createStream(
        // In classical rotation the first argument is the number of the rotated file, from 1 on.
        (index) => (index ? `${name}.${Number(index) - 1}${ending}` : name),
        {
          path: dirname(file),
          mode: 0o640,
          rotate: Math.max(1, keep),
          ...(Number.isFinite(sizeMax) ? { size: `${sizeMax}B` } : {}),
          ...(isCompressed ? { compress: "gzip" } : {}),
        },
      );
      stream.on("open", () => {
        // Gone already: no file has the number 0, so that the next look finds that out.
        if (this.stream === stream) this.inode = inodeOf(file) ?? 0;
      });
      stream.on("rotation", () => {
        if (this.stream === stream) this.inode = undefined;
      });
      if (keep === 0) stream.on("rotated", (rotated) => rmSync(rotated, { force: true }));
      stream.on("error", (error) => {
        if (this.stream === stream) {
          this.stream = undefined;
          this.inode = undefined;
        }
        this.failed(error);
      });
      stream.on("warning", (error) => this.failed(error));
      this.stream = stream;
      return stream;
    } catch (error) {
      this.failed(error);
      return undefined;
    }
  }

  /** There is no log to tell it to. */
  private failed(error: unknown): void {
    this.failedAtMs = Date.now();
    const reason = errorMessage(error);
    process.stderr.write(`log file ${this.options.file} cannot be written: ${reason}\n`);
  }
}

function inodeOf(file: string): number | undefined {
  return statSync(file, { throwIfNoEntry: false })?.ino;
}
