import type { GroupCommit } from "./group-commit.ts";
import { RESERVE, textKey } from "./keys.ts";
import type { RecordWriter } from "./record-format.ts";
import { encodeNumber } from "./records.ts";

/** So many numbers are reserved on disk at once; a start skips what is left of them. */
const BLOCK = 1000;

/**
 * Gives out numbers that were never given out before, also not before a kill -9: all of them lie
 * below a limit that is on disk before (or in the same batch as) anything that uses them.
 */
export class NumberReserve {
  readonly #key: Buffer;
  readonly #commit: GroupCommit;
  readonly #out: RecordWriter;
  #next = 1;
  #limit = 1;

  constructor(name: string, commit: GroupCommit, out: RecordWriter) {
    this.#key = textKey(RESERVE, name);
    this.#commit = commit;
    this.#out = out;
  }

  get key(): Buffer {
    return this.#key;
  }

  /** Starts at the stored limit, or behind the highest number seen if that was lost. */
  start(limit: number, highestSeen: number): void {
    this.#next = Math.max(limit, highestSeen + 1);
    this.#limit = this.#next;
    this.#extend();
  }

  take(): number {
    const number = this.#next++;
    // Half a block ahead, so that the new limit is on disk before it is needed.
    if (this.#limit - this.#next < BLOCK / 2) this.#extend();
    return number;
  }

  #extend(): void {
    this.#limit += BLOCK;
    this.#commit.note().record(this.#key, encodeNumber(this.#out, this.#limit));
  }
}
