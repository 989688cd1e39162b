import { type LibraryHost, type LuaCall, LuaError, type PoolStats } from "../worker/library.ts";

/** Longest wait for a free connection, VerneMQ's. */
const WAIT_MS = 5_000;
/** Calls that may wait for a connection of one pool. */
const WAITING_MAX = 10_000;
/** Pause after a failed connection; doubles up to the last. Differs from VerneMQ: always 1 s there. */
const RETRY_MIN_MS = 100;
const RETRY_MAX_MS = 5_000;

/** What a pool needs to know of its driver. */
export interface Driver<C> {
  /** Opens a connection; `lost` is to be called when it ends by itself. */
  connect(lost: () => void): Promise<C>;
  close(connection: C): unknown;
  /** True when an error says that the connection, not the request, is at fault. */
  isLost(error: unknown): boolean;
}

interface Waiting<C> {
  readonly take: (connection: C) => void;
  readonly fail: (error: LuaError) => void;
  readonly timer: NodeJS.Timeout;
}

/**
 * Connections to one server, shared by all scripts of the thread. They are opened when they are needed;
 * a server that cannot be reached is tried again after a pause that grows, and until then every call is
 * told at once that it is unavailable.
 */
export class Pool<C extends object> {
  private readonly kind: string;
  private readonly id: string;
  private readonly size: number;
  private readonly driver: Driver<C>;
  private readonly host: LibraryHost;
  private readonly idle: C[] = [];
  private readonly all = new Set<C>();
  private readonly waiting: Waiting<C>[] = [];
  private opening = 0;
  private pauseMs = 0;
  private retryAtMs = 0;
  private calls = 0;
  private errors = 0;
  private totalMs = 0;
  private lastError: string | undefined;

  constructor(
    host: LibraryHost,
    options: { kind: string; id: string; size: number; driver: Driver<C> },
  ) {
    this.host = host;
    this.kind = options.kind;
    this.id = options.id;
    this.size = options.size;
    this.driver = options.driver;
    host.pool(() => this.stats());
  }

  private stats(): PoolStats {
    const { kind, id, size, calls, errors, totalMs, lastError } = this;
    const open = this.all.size;
    const busy = open - this.idle.length;
    return {
      ...{ kind, id, size, open, busy, waiting: this.waiting.length },
      ...{ calls, errors, totalMs, lastError },
    };
  }

  private unavailable(reason: string): LuaError {
    return new LuaError(`unavailable: ${this.kind} ${this.id}: ${reason}`);
  }

  /** Does work with a connection of its own. A connection whose work was cut off is not used again. */
  async use<T>(call: LuaCall, work: (connection: C) => Promise<T>): Promise<T> {
    const startMs = performance.now();
    this.calls++;
    try {
      const connection = await this.acquire(call);
      return await this.work(call, connection, work);
    } catch (error) {
      this.errors++;
      this.lastError = error instanceof Error ? error.message : String(error);
      throw error;
    } finally {
      this.totalMs += performance.now() - startMs;
    }
  }

  private async work<T>(
    call: LuaCall,
    connection: C,
    work: (connection: C) => Promise<T>,
  ): Promise<T> {
    let isOver = false;
    let cut: (error: LuaError) => void = () => undefined;
    const late = new Promise<never>((_, reject) => {
      cut = reject;
    });
    const leftMs = Math.max(1, call.deadlineMs - performance.now());
    const timer = setTimeout(() => cut(this.unavailable("no answer in time")), leftMs);
    const aborted = (): void => cut(this.unavailable("the call was given up"));
    call.signal.addEventListener("abort", aborted);
    try {
      const result = await Promise.race([work(connection), late]);
      isOver = true;
      return result;
    } catch (error) {
      isOver = !(error instanceof LuaError) && !this.driver.isLost(error);
      if (isOver || error instanceof LuaError) throw error;
      throw this.unavailable(error instanceof Error ? error.message : String(error));
    } finally {
      clearTimeout(timer);
      call.signal.removeEventListener("abort", aborted);
      if (isOver) this.release(connection);
      else this.drop(connection);
    }
  }

  private acquire(call: LuaCall): Promise<C> {
    const connection = this.idle.pop();
    if (connection !== undefined) return Promise.resolve(connection);
    const isDown = this.all.size === 0 && performance.now() < this.retryAtMs;
    if (isDown) return Promise.reject(this.unavailable(this.lastError ?? "not connected"));
    if (this.waiting.length >= WAITING_MAX) {
      return Promise.reject(this.unavailable(`${WAITING_MAX} calls wait for a connection`));
    }
    return new Promise((resolve, reject) => {
      const waitMs = Math.max(1, Math.min(WAIT_MS, call.deadlineMs - performance.now()));
      const one: Waiting<C> = {
        take: (given) => {
          clearTimeout(one.timer);
          resolve(given);
        },
        fail: (error) => {
          clearTimeout(one.timer);
          reject(error);
        },
        timer: setTimeout(() => {
          const at = this.waiting.indexOf(one);
          if (at >= 0) this.waiting.splice(at, 1);
          reject(this.unavailable(`no connection was free within ${Math.round(waitMs)} ms`));
        }, waitMs),
      };
      this.waiting.push(one);
      if (this.all.size + this.opening < this.size && this.opening < this.waiting.length)
        this.open();
    });
  }

  private open(): void {
    this.opening++;
    let connection: C | undefined;
    const lost = (): void => {
      if (connection !== undefined) this.drop(connection);
    };
    this.driver.connect(lost).then(
      (opened) => {
        connection = opened;
        this.opening--;
        if (this.retryAtMs > 0 && this.pauseMs > 0) {
          this.host.log("info", `${this.kind} ${this.id} is available again`);
        }
        this.retryAtMs = 0;
        this.pauseMs = 0;
        this.all.add(opened);
        this.release(opened);
      },
      (error: unknown) => {
        this.opening--;
        this.failedToOpen(error);
      },
    );
  }

  private failedToOpen(error: unknown): void {
    const reason = reasonOf(error);
    if (this.pauseMs === 0) {
      this.host.log("error", `${this.kind} ${this.id} is unavailable`, { cause: reason });
    }
    this.lastError = reason;
    this.pauseMs = Math.min(Math.max(this.pauseMs * 2, RETRY_MIN_MS), RETRY_MAX_MS);
    // Half of it by chance, so that many brokers do not come back at the same moment.
    this.retryAtMs = performance.now() + this.pauseMs * (0.5 + Math.random() / 2);
    // With connections left the waiting ones still get their turn.
    if (this.all.size > 0 || this.opening > 0) return;
    for (const one of this.waiting.splice(0)) one.fail(this.unavailable(reason));
  }

  private release(connection: C): void {
    if (!this.all.has(connection)) return;
    const next = this.waiting.shift();
    if (next === undefined) this.idle.push(connection);
    else next.take(connection);
  }

  private drop(connection: C): void {
    if (!this.all.delete(connection)) return;
    const at = this.idle.indexOf(connection);
    if (at >= 0) this.idle.splice(at, 1);
    Promise.resolve(this.driver.close(connection)).catch(() => undefined);
    const mayOpen = this.all.size + this.opening < this.size && performance.now() >= this.retryAtMs;
    if (this.waiting.length > this.opening && mayOpen) this.open();
  }
}

/** The reason in one line; of several addresses that were tried, the first. */
export function reasonOf(error: unknown): string {
  if (error instanceof AggregateError && error.errors.length > 0) return reasonOf(error.errors[0]);
  if (!(error instanceof Error)) return String(error);
  return error.message || (error as { code?: string }).code || error.name;
}

/** The pools of one provider by `pool_id`. */
export class Pools<P> {
  private readonly provider: string;
  private readonly pools = new Map<string, P>();

  constructor(provider: string) {
    this.provider = provider;
  }

  /** A second pool with the same id is the first one. */
  ensure(id: string, make: () => P): true {
    if (!this.pools.has(id)) this.pools.set(id, make());
    return true;
  }

  get(id: string): P {
    const pool = this.pools.get(id);
    if (pool !== undefined) return pool;
    throw new LuaError(
      `${this.provider}: there is no pool "${id}": ${this.provider}.ensure_pool makes one`,
    );
  }
}
