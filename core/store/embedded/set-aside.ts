import type { GroupCommit } from "./group-commit.ts";
import { asideKey, describeKey } from "./keys.ts";
import { DamagedRecord } from "./record-format.ts";

/** Takes damaged records out of the way and keeps them under another key, for whoever can read them. */
export class SetAside {
  readonly #commit: GroupCommit;
  readonly #onDamaged: (key: string, reason: string) => void;
  /** Since open. */
  count = 0;

  constructor(commit: GroupCommit, onDamaged: (key: string, reason: string) => void) {
    this.#commit = commit;
    this.#onDamaged = onDamaged;
  }

  /** What `decode` makes of a record, or undefined when it is damaged; then it is set aside. */
  read<Result>(key: Buffer, value: Buffer, decode: () => Result): Result | undefined {
    try {
      return decode();
    } catch (error) {
      if (!(error instanceof DamagedRecord)) throw error;
      this.put(key, value, error.message);
      return undefined;
    }
  }

  put(key: Buffer, value: Buffer, reason: string): void {
    const open = this.#commit.note();
    open.record(asideKey(key), value);
    open.record(key, undefined);
    this.count++;
    this.#onDamaged(describeKey(key), reason);
  }
}
