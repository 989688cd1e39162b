/** Lines that one script may log in a second: more is a mistake, and would keep the broker busy writing. */
export const LINES_PER_S = 1_000;

/** Counts the lines of each script in windows, which `next` ends. */
export class LogLimit {
  private readonly written = new Map<string, number>();

  /** Whether a line may be written. */
  admits(script: string): boolean {
    const count = (this.written.get(script) ?? 0) + 1;
    this.written.set(script, count);
    return count <= LINES_PER_S;
  }

  /** Begins a new window; gives how many lines each script lost in the last one. */
  next(): { script: string; lost: number }[] {
    const lost = [...this.written]
      .map(([script, count]) => ({ script, lost: count - LINES_PER_S }))
      .filter((one) => one.lost > 0);
    this.written.clear();
    return lost;
  }
}
