import type { LatencyHistogram } from "../counters.ts";

/** At most one PUBLISH in this time is timed: reading the clock for each would cost too much. */
const EVERY_MS = 50;
/** A sample that was not finished by then never will be: its client has gone. */
const GIVE_UP_MS = 10_000;

/** Times one PUBLISH now and then, from its arrival to its routing or refusal, hooks included. */
export class PublishTimer {
  private readonly histogram: LatencyHistogram;
  private message: object | undefined;
  private startMs: number;

  constructor(histogram: LatencyHistogram, nowMs: number) {
    this.histogram = histogram;
    this.startMs = nowMs;
  }

  /** True when the next PUBLISH is to be timed; `nowMs` may be some ticks old. */
  isDue(nowMs: number): boolean {
    const sinceMs = nowMs - this.startMs;
    return sinceMs >= EVERY_MS && (this.message === undefined || sinceMs >= GIVE_UP_MS);
  }

  begin(message: object, nowMs: number): void {
    this.message = message;
    this.startMs = nowMs;
  }

  isTiming(message: object): boolean {
    return this.message === message;
  }

  end(nowMs: number): void {
    this.message = undefined;
    this.histogram.timed(nowMs - this.startMs);
  }
}
