/**
 * An answer that comes later, for plugins that answer very many calls: it costs a tenth of a promise, since
 * whoever waits is called at once, in the same turn. Settled once; `await` takes it like a promise.
 */
export class Later<T> {
  private isSettled = false;
  private value: T | undefined;
  private done: ((value: T) => void) | undefined;
  private others: ((value: T) => void)[] | undefined;

  /** Calls `done` with the answer, at once if it is there. A plugin's failure is an answer, too. */
  // biome-ignore lint/suspicious/noThenProperty: callers treat it and a promise alike
  then(done: (value: T) => void): void {
    if (this.isSettled) done(this.value as T);
    else if (this.done === undefined) this.done = done;
    else {
      this.others ??= [];
      this.others.push(done);
    }
  }

  /** Gives the answer; only the first one counts. */
  settle(value: T): void {
    if (this.isSettled) return;
    this.isSettled = true;
    this.value = value;
    this.done?.(value);
    if (this.others !== undefined) for (const other of this.others) other(value);
  }
}
