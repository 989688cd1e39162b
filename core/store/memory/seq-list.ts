/** Deleted numbers are swept out when they are this many more than half. */
const SWEEP_SLACK = 32;

/**
 * Numbers in ascending order, mostly added at the end and deleted at the front. Deleted ones stay in
 * place until enough have gathered, so that neither costs more than a few steps.
 */
export class SeqList {
  #seqs: number[] = [];
  #deleted = new Set<number>();

  /** Adds a number that is not in the list. */
  add(seq: number): void {
    if (this.#deleted.delete(seq)) return;
    const last = this.#seqs.at(-1);
    if (last === undefined || last < seq) this.#seqs.push(seq);
    else this.#seqs.splice(this.#indexOf(seq), 0, seq);
  }

  /** Deletes a number that is in the list. */
  delete(seq: number): void {
    this.#deleted.add(seq);
    if (this.#deleted.size <= this.#seqs.length / 2 + SWEEP_SLACK) return;
    this.#seqs = this.#seqs.filter((kept) => !this.#deleted.has(kept));
    this.#deleted.clear();
  }

  /** Numbers from `seq` on upwards, or downwards. */
  *from(seq: number, descending: boolean): Generator<number> {
    const seqs = this.#seqs;
    const step = descending ? -1 : 1;
    let at = descending ? this.#indexOf(seq + 1) - 1 : this.#indexOf(seq);
    for (; at >= 0 && at < seqs.length; at += step) {
      const found = seqs[at];
      if (found !== undefined && !this.#deleted.has(found)) yield found;
    }
  }

  /** Index of the first number that is not below `seq`. */
  #indexOf(seq: number): number {
    let low = 0;
    let high = this.#seqs.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((this.#seqs[middle] ?? 0) < seq) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}
