/** A ring above this is given back when it is empty. */
const KEEP = 512;

/** Double-ended queue on a ring: constant time at both ends, shrinks when empty. */
export class Deque<T> {
  length = 0;
  private ring: (T | undefined)[] = [];
  private head = 0;

  pushBack(item: T): void {
    if (this.length === this.ring.length) this.grow();
    this.ring[(this.head + this.length) & (this.ring.length - 1)] = item;
    this.length++;
  }

  pushFront(item: T): void {
    if (this.length === this.ring.length) this.grow();
    this.head = (this.head - 1) & (this.ring.length - 1);
    this.ring[this.head] = item;
    this.length++;
  }

  front(): T | undefined {
    return this.length === 0 ? undefined : this.ring[this.head];
  }

  back(): T | undefined {
    return this.length === 0
      ? undefined
      : this.ring[(this.head + this.length - 1) & (this.ring.length - 1)];
  }

  popFront(): T | undefined {
    if (this.length === 0) return undefined;
    const item = this.ring[this.head];
    this.ring[this.head] = undefined;
    this.head = (this.head + 1) & (this.ring.length - 1);
    this.length--;
    if (this.length === 0 && this.ring.length > KEEP) this.clear();
    return item;
  }

  popBack(): T | undefined {
    if (this.length === 0) return undefined;
    const at = (this.head + this.length - 1) & (this.ring.length - 1);
    const item = this.ring[at];
    this.ring[at] = undefined;
    this.length--;
    return item;
  }

  /** Items front to back. */
  *[Symbol.iterator](): IterableIterator<T> {
    for (let i = 0; i < this.length; i++) {
      yield this.ring[(this.head + i) & (this.ring.length - 1)] as T;
    }
  }

  /** Keeps the items the test accepts, in order. */
  filter(keep: (item: T) => boolean): void {
    const kept = [...this].filter(keep);
    this.clear();
    for (const item of kept) this.pushBack(item);
  }

  clear(): void {
    this.ring = [];
    this.head = 0;
    this.length = 0;
  }

  private grow(): void {
    const items = [...this];
    const size = Math.max(8, this.ring.length * 2);
    this.ring = items;
    this.ring.length = size;
    this.head = 0;
  }
}
