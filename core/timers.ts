/** Something with a deadline on the wheel. `timerSlot` and `timerAtMs` belong to the wheel. */
export interface Timed {
  timerSlot: number;
  timerAtMs: number;
  /** Called once when due; may schedule again. */
  onTimer(nowMs: number): void;
}

/** Resolution of all broker timers. Coarse on purpose: keep-alive and retry count in seconds. */
export const TICK_MS = 50;
const SLOTS = 1024;
/** Marks a Timed that is on no slot. */
export const NOT_SCHEDULED = -1;

/**
 * One timing wheel for every coarse deadline (keep-alive, retry, expiry, will delay, time limits), on
 * a monotonic clock, so that neither clock jumps nor the number of clients matter.
 */
export class TimerWheel {
  /** Monotonic ms, refreshed with each tick and by `refresh`. */
  nowMs = performance.now();
  /** A timer threw: its owner's fault, the others go on. */
  onFailure: ((failure: unknown) => void) | undefined;
  private readonly slots: Set<Timed>[] = Array.from({ length: SLOTS }, () => new Set());
  private lastTick = Math.floor(this.nowMs / TICK_MS);
  private interval: NodeJS.Timeout | undefined;

  start(): void {
    this.interval = setInterval(() => this.advance(performance.now()), TICK_MS);
    this.interval.unref();
  }

  stop(): void {
    clearInterval(this.interval);
  }

  refresh(): number {
    this.nowMs = performance.now();
    return this.nowMs;
  }

  /** (Re)schedules; a deadline in the past is due at the next tick. */
  schedule(item: Timed, atMs: number): void {
    if (item.timerSlot !== NOT_SCHEDULED) this.cancel(item);
    const tick = Math.max(this.lastTick + 1, Math.ceil(atMs / TICK_MS));
    item.timerAtMs = atMs;
    item.timerSlot = tick % SLOTS;
    (this.slots[item.timerSlot] as Set<Timed>).add(item);
  }

  cancel(item: Timed): void {
    if (item.timerSlot === NOT_SCHEDULED) return;
    this.slots[item.timerSlot]?.delete(item);
    item.timerSlot = NOT_SCHEDULED;
  }

  /** Fires what is due; every slot passed since the last call is looked at once. */
  advance(nowMs: number): void {
    this.nowMs = nowMs;
    const tick = Math.floor(nowMs / TICK_MS);
    const from = Math.max(this.lastTick, tick - SLOTS);
    for (let at = from + 1; at <= tick; at++) {
      // What a timer schedules for the past is due at the next tick, not a rotation later.
      this.lastTick = at;
      const slot = this.slots[at % SLOTS] as Set<Timed>;
      if (slot.size > 0) this.fire(slot, nowMs);
    }
  }

  private fire(slot: Set<Timed>, nowMs: number): void {
    for (const item of [...slot]) {
      if (item.timerAtMs > nowMs || !slot.delete(item)) continue;
      item.timerSlot = NOT_SCHEDULED;
      try {
        item.onTimer(nowMs);
      } catch (failure) {
        this.onFailure?.(failure);
      }
    }
  }
}
