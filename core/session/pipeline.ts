import { Deque } from "./deque.ts";

/** What the pipeline needs of its session. */
export interface PipelineOwner {
  readonly isOpen: boolean;
  /** A verdict asked for a pause: nothing more of the client takes effect until it is over. */
  readonly isPaused: boolean;
  wait(): void;
  release(): void;
  fault(error: unknown): void;
  /** Nothing is under way any more. */
  pipelineEmptied(): void;
}

/**
 * Messages of one client that may be asked about at once. Measured (`npm run bench -- lua`): 64 and 128
 * differ little, 256 costs a quarter of the rate, since then most messages outlive the young generation.
 */
export const PIPELINE_MAX = 128;

/**
 * PUBLISH packets whose authorisation is under way, in the client's order. A plugin that allows it
 * (`isPipelined`) is asked about the next ones before it has answered for the first; each takes effect
 * when it is the oldest and its verdict is there.
 */
export class Pipeline<T extends { readonly isDecided: boolean; takeEffect(): void }> {
  private readonly owner: PipelineOwner;
  private readonly entries = new Deque<T>();
  /** Input goes on when so many are left; undefined: it is not held. */
  private heldUntil: number | undefined;
  private isDraining = false;

  constructor(owner: PipelineOwner) {
    this.owner = owner;
  }

  get length(): number {
    return this.entries.length;
  }

  /** Adds the newest message, decided or not. With `isLast` nothing more is read before it has taken effect. */
  add(entry: T, isLast: boolean): void {
    this.entries.pushBack(entry);
    if (isLast) this.hold(0);
    else if (this.entries.length >= PIPELINE_MAX) this.hold(PIPELINE_MAX / 2);
  }

  /** Stops the input until no more than `left` messages are under way. */
  hold(left: number): void {
    if (this.heldUntil !== undefined) return;
    this.heldUntil = left;
    this.owner.wait();
  }

  /** Lets the oldest messages take effect as far as they are decided. */
  drain(): void {
    if (this.isDraining) return;
    this.isDraining = true;
    const { owner, entries } = this;
    try {
      for (;;) {
        const first = entries.front();
        if (first === undefined || !first.isDecided || !owner.isOpen || owner.isPaused) break;
        entries.popFront();
        first.takeEffect();
      }
    } catch (error) {
      owner.fault(error);
    } finally {
      this.isDraining = false;
    }
    if (this.heldUntil !== undefined && entries.length <= this.heldUntil) {
      this.heldUntil = undefined;
      owner.release();
    }
    if (entries.length === 0) owner.pipelineEmptied();
  }
}
