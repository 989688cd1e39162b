/** Notices when files are replaced on disk. */
import { type Stats, statSync } from "node:fs";
import { stat } from "node:fs/promises";

const MISSING = "missing";

/** Identity of a file's content as far as `stat` tells; a rename over it changes the inode. */
function fingerprint({ ino, size, mtimeMs }: Stats): string {
  return `${ino}:${size}:${mtimeMs}`;
}

/**
 * Polls, since a watch on a path is lost when the file is replaced by a rename (as certbot and
 * Kubernetes do), and needs no platform support. One `stat` per file and interval.
 */
export class FileWatch {
  private readonly files: readonly string[];
  private readonly changed: () => void;
  private readonly timer: NodeJS.Timeout;
  private last: string;
  private isLooking = false;

  /**
   * `changed` is called after any of `files` changed, appeared or vanished. Make the watch before
   * reading the files, so that no change is missed in between.
   */
  constructor(files: readonly string[], intervalMs: number, changed: () => void) {
    this.files = files;
    this.changed = changed;
    this.last = files
      .map((file) => statSync(file, { throwIfNoEntry: false }))
      .map((stats) => (stats === undefined ? MISSING : fingerprint(stats)))
      .join("|");
    this.timer = setInterval(() => void this.look(), intervalMs).unref();
  }

  stop(): void {
    clearInterval(this.timer);
  }

  private async look(): Promise<void> {
    if (this.isLooking) return; // a hanging network file system must not pile up calls
    this.isLooking = true;
    const seen = this.files.map((file) => stat(file).then(fingerprint, () => MISSING));
    const now = (await Promise.all(seen)).join("|");
    this.isLooking = false;
    if (now === this.last) return;
    this.last = now;
    this.changed();
  }
}
