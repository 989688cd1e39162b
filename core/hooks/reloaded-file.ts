/** Keeps what a plugin read from a file current. */
import { createHash } from "node:crypto";
import { readFile, stat } from "node:fs/promises";
import { setTimeout as delay } from "node:timers/promises";

/** Far above any real file (1.5 million users); bounds what a mistaken path can cost. */
const FILE_BYTES_MAX = 256 * 1024 * 1024;
/** A change is noticed after this time, whatever the reload interval is. */
const LOOK_MS = 1000;
/** A file must lie still so long before it is read: some editors truncate first and write then. */
const SETTLE_MS = 50;

export interface PluginLog {
  info(message: string, fields?: Readonly<Record<string, unknown>>): void;
  warn(message: string, fields?: Readonly<Record<string, unknown>>): void;
  error(message: string, fields?: Readonly<Record<string, unknown>>): void;
}

export interface ReloadOptions {
  readonly path: string;
  /** Seconds after which the content is compared even if the file looks untouched; 0 = never look. */
  readonly intervalS: number;
  /** Takes new content as a whole or throws and keeps what it had. */
  apply(content: Buffer, path: string): Promise<void>;
  /** The file could not be read or was refused; told once per problem. */
  failed(error: Error, path: string): void;
}

/**
 * Reads a file, then polls it: a watch is lost when the file is replaced by a rename, as editors and
 * Kubernetes do. One `stat` a second, one read per change and interval, `apply` only for new content.
 */
export class ReloadedFile {
  private readonly options: ReloadOptions;
  private path: string;
  private intervalMs: number;
  private timer: NodeJS.Timeout | undefined;
  private fingerprint = "";
  private digest = "";
  private readAtMs = 0;
  private lastProblem = "";
  private isLooking = false;
  /** Reads happen one after the other, so that an old content never replaces a newer one. */
  private turn: Promise<void> = Promise.resolve();

  constructor(options: ReloadOptions) {
    this.options = options;
    this.path = options.path;
    this.intervalMs = options.intervalS * 1000;
    this.startTimer();
  }

  /** Reads now; rejects if the file is missing, unreadable or refused. */
  load(): Promise<void> {
    const done = this.turn.then(() => this.read());
    this.turn = done.catch(() => undefined);
    return done;
  }

  /** Reads now; a problem goes to `failed`. */
  async tryLoad(): Promise<void> {
    await this.load().then(
      () => {
        this.lastProblem = "";
      },
      (error: Error) => this.report(error),
    );
  }

  /** What the timer does: reads if the file changed or the interval is over. */
  async look(): Promise<void> {
    if (this.isLooking) return; // a hanging network file system must not pile up calls
    this.isLooking = true;
    try {
      const now = await fingerprintOf(this.path);
      if (now !== this.fingerprint) {
        await delay(SETTLE_MS);
        if ((await fingerprintOf(this.path)) !== now) return; // still being written: next look
        await this.tryLoad();
      } else if (performance.now() - this.readAtMs >= this.intervalMs) await this.tryLoad();
    } finally {
      this.isLooking = false;
    }
  }

  /** Another file from now on. If it cannot be read, the old content stays and the new path is watched. */
  async setPath(path: string): Promise<void> {
    this.path = path;
    this.digest = "";
    this.lastProblem = "";
    await this.tryLoad();
  }

  /** 0 stops looking. */
  setInterval(intervalS: number): void {
    this.intervalMs = intervalS * 1000;
    this.stop();
    this.startTimer();
    if (intervalS > 0) void this.look();
  }

  stop(): void {
    clearInterval(this.timer);
    this.timer = undefined;
  }

  private startTimer(): void {
    if (this.intervalMs <= 0) return;
    const everyMs = Math.min(this.intervalMs, LOOK_MS);
    this.timer = setInterval(() => void this.look(), everyMs).unref();
  }

  private async read(): Promise<void> {
    const { path } = this;
    this.fingerprint = await fingerprintOf(path);
    this.readAtMs = performance.now();
    const { size } = await stat(path);
    if (size > FILE_BYTES_MAX) throw new Error(`${size} bytes are more than ${FILE_BYTES_MAX}`);
    const content = await readFile(path);
    const digest = createHash("sha256").update(content).digest("base64");
    if (digest === this.digest) return;
    // Also of content that is refused: it is reported once, not at every look.
    this.digest = digest;
    await this.options.apply(content, path);
  }

  private report(error: Error): void {
    if (error.message === this.lastProblem) return;
    this.lastProblem = error.message;
    this.options.failed(error, this.path);
  }
}

/** Identity of a file's content as far as `stat` tells; a rename over it changes the inode. */
function fingerprintOf(path: string): Promise<string> {
  return stat(path).then(
    ({ ino, size, mtimeMs, ctimeMs }) => `${ino}:${size}:${mtimeMs}:${ctimeMs}`,
    (error: NodeJS.ErrnoException) => error.code ?? "missing",
  );
}
