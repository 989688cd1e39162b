import { type LuaCall, LuaError } from "../worker/library.ts";

/** Lets a bounded number of calls do something at a time; the others wait in order, up to a bound. */
export class Gate {
  private readonly slots: number;
  private readonly waitingMax: number;
  private readonly name: string;
  private readonly waiting = new Set<() => void>();
  private running = 0;

  /** `name` begins the message of the error that a call beyond `waitingMax` gets. */
  constructor(slots: number, waitingMax: number, name: string) {
    this.slots = slots;
    this.waitingMax = waitingMax;
    this.name = name;
  }

  /** Number of calls that wait. */
  get size(): number {
    return this.waiting.size;
  }

  /** Runs `work` when it is the call's turn, not at all when the call has ended before. */
  async run<T>(call: LuaCall, work: () => Promise<T>): Promise<T> {
    if (this.running >= this.slots) await this.turn(call);
    else this.running++;
    try {
      return await work();
    } finally {
      const [next] = this.waiting;
      if (next === undefined) this.running--;
      else next();
    }
  }

  /** The slot of the call that leaves is handed over: `running` stays. */
  private turn(call: LuaCall): Promise<void> {
    if (this.waiting.size >= this.waitingMax) {
      throw new LuaError(`${this.name}: ${this.waitingMax} calls are waiting already`);
    }
    return new Promise((resolve, reject) => {
      const go = (): void => {
        this.waiting.delete(go);
        keep();
        resolve();
      };
      this.waiting.add(go);
      const keep = call.onCancel(() => {
        this.waiting.delete(go);
        reject(new LuaError(`${this.name}: the call ended while it waited`));
      });
    });
  }
}
