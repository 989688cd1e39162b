import type { Exchange } from "./exchange.ts";

/** Calls that wait for a connection, the oldest first. Any of them may leave at any time. */
export class WaitingCalls {
  private first: Exchange | undefined;
  private last: Exchange | undefined;

  get oldest(): Exchange | undefined {
    return this.first;
  }

  get youngest(): Exchange | undefined {
    return this.last;
  }

  add(exchange: Exchange): void {
    exchange.before = this.last;
    if (this.last === undefined) this.first = exchange;
    else this.last.after = exchange;
    this.last = exchange;
  }

  /** Takes one out that is in. */
  remove(exchange: Exchange): void {
    const { before, after } = exchange;
    if (before === undefined) this.first = after;
    else before.after = after;
    if (after === undefined) this.last = before;
    else after.before = before;
    exchange.before = undefined;
    exchange.after = undefined;
  }
}
