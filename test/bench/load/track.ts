// Which sequence numbers of which publisher have been seen.

/** What `record` says about a sequence number. */
export const SEEN = { inOrder: 0, late: 1, already: 2 } as const;

/** Sequence numbers seen of some publishers. Bits are kept once something is out of sequence. */
export class SequenceTrack {
  readonly #next: Uint32Array;
  readonly #bits: (Uint32Array | undefined)[] = [];

  constructor(publishers: number) {
    this.#next = new Uint32Array(publishers);
  }

  /** Notes a sequence number of a publisher: one of SEEN. A gap is no fault yet: it may fill. */
  record(publisher: number, sequence: number): number {
    if (this.#bits[publisher] === undefined && this.#next[publisher] === sequence) {
      this.#next[publisher] = sequence + 1;
      return SEEN.inOrder;
    }
    return this.#recordSlow(publisher, sequence);
  }

  #recordSlow(publisher: number, sequence: number): number {
    const next = this.#next[publisher] ?? 0;
    const bits = this.#bitsFor(publisher, Math.max(sequence, next));
    const word = bits[sequence >>> 5] ?? 0;
    const bit = 1 << (sequence & 31);
    if (word & bit) return SEEN.already;
    bits[sequence >>> 5] = word | bit;
    if (sequence < next) return SEEN.late;
    this.#next[publisher] = sequence + 1;
    return SEEN.inOrder;
  }

  #bitsFor(publisher: number, sequence: number): Uint32Array {
    const old = this.#bits[publisher];
    const words = (sequence >>> 5) + 1;
    if (old !== undefined && old.length >= words) return old;
    const bits = new Uint32Array(words + (words >>> 1) + 16);
    if (old) bits.set(old);
    else for (let i = 0; i < (this.#next[publisher] ?? 0); i++) markBit(bits, i);
    this.#bits[publisher] = bits;
    return bits;
  }
}

function markBit(bits: Uint32Array, index: number): void {
  bits[index >>> 5] = (bits[index >>> 5] ?? 0) | (1 << (index & 31));
}
