import type { LogSink } from "./types.ts";

/** Lines wait so long for others to be written with them. */
const WAIT_MS = 20;
/** As many characters are written at once. */
const CHARS_MAX = 16_384;

/** Hands lines on in batches: thousands of clients that come and go in a second cost few writes. */
export class Batched implements LogSink {
  private readonly to: LogSink;
  private waiting = "";
  private level = 0;
  private timer: NodeJS.Timeout | undefined;

  constructor(to: LogSink) {
    this.to = to;
  }

  write(line: string, level: number): void {
    this.waiting += line;
    if (level > this.level) this.level = level;
    if (this.waiting.length >= CHARS_MAX) this.give();
    else this.timer ??= setTimeout(() => this.give(), WAIT_MS);
  }

  private give(): void {
    clearTimeout(this.timer);
    this.timer = undefined;
    if (this.waiting === "") return;
    const { waiting, level } = this;
    this.waiting = "";
    this.level = 0;
    this.to.write(waiting, level);
  }

  flushSync(): void {
    this.give();
    this.to.flushSync?.();
  }

  reopen(): void {
    this.give();
    this.to.reopen?.();
  }

  writeNow(line: string): void {
    if (this.to.writeNow === undefined) {
      this.write(line, 0);
      this.flushSync();
    } else this.to.writeNow(line);
  }

  close(): Promise<void> {
    this.give();
    return this.to.close();
  }
}
