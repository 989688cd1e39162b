import { type LibraryHost, type LuaCall, LuaError, type PoolStats } from "../worker/library.ts";

/** Longest wait for a free connection, VerneMQ's. */
const WAIT_MS = 5_000;
/** Calls that may wait for a connection of one pool. */
const WAITING_MAX = 10_000;
/** Pause after a failed connection; doubles up to the last. Differs from VerneMQ: always 1 s there. */
const RETRY_MIN_MS = 100;
const RETRY_MAX_MS = 5_000;
/** A connection beyond the pool's size is closed when it was not needed for so long. */
const SURPLUS_MS = 10_000;

/** What a pool needs to know of its driver. */
export interface Driver<C> {
  /** Opens a connection; `lost` is to be called when it ends by itself. */
  connect(lost: () => void): Promise<C>;
  close(connection: C): unknown;
  /** Asks the server to end the work of a connection that is about to be closed. */
  cancel?(connection: C): void;
  /** True when an error says that the connection, not the request, is at fault. */
  isLost(error: unknown): boolean;
}

/** Name and bounds of a pool in one thread. */
export interface PoolSize {
  readonly id: string;
  /** Connections that stay open. */
  readonly size: number;
  /** Connections beyond that, while calls wait. */
  readonly overflow: number;
}

interface Waiting<C> {
  readonly take: (connection: C) => void;
  readonly fail: (error: LuaError) => void;
  readonly untilMs: number;
}

/** Work that holds a connection. */
interface Running {
  readonly untilMs: number;
  readonly cut: (error: LuaError) => void;
}

/** How often deadlines are looked at: a timer for each call would cost more than a short query. */
const LOOK_MS = 50;

/**
 * Connections to one server, shared by all scripts of the thread. They are opened when they are needed;
 * a server that cannot be reached is tried again after a pause that grows, and until then every call is
 * told at once that it is unavailable.
 */
export class Pool<C extends object> {
  private readonly kind: string;
  private readonly id: string;
  private readonly size: number;
  private readonly overflow: number;
  private readonly driver: Driver<C>;
  private readonly host: LibraryHost;
  private readonly idle: C[] = [];
  private readonly all = new Set<C>();
  private waiting: Waiting<C>[] = [];
  private readonly running = new Set<Running>();
  private timer: NodeJS.Timeout | undefined;
  private retryTimer: NodeJS.Timeout | undefined;
  private surplusTimer: NodeJS.Timeout | undefined;
  private opening = 0;
  private pauseMs = 0;
  private retryAtMs = 0;
  private downReason = "not connected";
  private calls = 0;
  private errors = 0;
  private totalMs = 0;
  private lastError: string | undefined;

  constructor(host: LibraryHost, options: PoolSize & { kind: string; driver: Driver<C> }) {
    this.host = host;
    this.kind = options.kind;
    this.id = options.id;
    this.size = options.size;
    this.overflow = options.overflow;
    this.driver = options.driver;
    host.pool(() => this.stats());
  }

  private stats(): PoolStats {
    const { kind, id, calls, errors, totalMs, lastError } = this;
    const size = this.size + this.overflow;
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

  private work<T>(call: LuaCall, connection: C, work: (connection: C) => Promise<T>): Promise<T> {
    return new Promise((resolve, reject) => {
      const finish = (isUsable: boolean): boolean => {
        takeBack();
        if (!this.running.delete(running)) return false;
        if (isUsable) this.release(connection);
        else this.drop(connection);
        return true;
      };
      const running: Running = {
        untilMs: call.deadlineMs,
        cut: (error) => {
          if (!this.running.has(running)) return;
          this.driver.cancel?.(connection);
          finish(false);
          reject(error);
        },
      };
      const takeBack = call.onCancel(() => running.cut(this.unavailable("the call was given up")));
      this.running.add(running);
      this.watch();
      work(connection).then(
        (result) => {
          if (finish(true)) resolve(result);
        },
        (error: unknown) => {
          const isLost = !(error instanceof LuaError) && this.driver.isLost(error);
          if (!finish(!isLost)) return;
          reject(isLost ? this.unavailable(reasonOf(error)) : error);
        },
      );
    });
  }

  private acquire(call: LuaCall): C | Promise<C> {
    const connection = this.idle.pop();
    if (connection !== undefined) return connection;
    const nowMs = performance.now();
    const isDown = this.all.size === 0 && nowMs < this.retryAtMs;
    if (isDown) throw this.unavailable(this.downReason);
    if (this.waiting.length >= WAITING_MAX) {
      throw this.unavailable(`${WAITING_MAX} calls wait for a connection`);
    }
    return new Promise((resolve, reject) => {
      const one: Waiting<C> = {
        untilMs: Math.min(nowMs + WAIT_MS, call.deadlineMs),
        take: (free) => {
          takeBack();
          resolve(free);
        },
        fail: (error) => {
          takeBack();
          reject(error);
        },
      };
      const takeBack = call.onCancel(() => {
        this.waiting = this.waiting.filter((other) => other !== one);
        one.fail(this.unavailable("the call was given up"));
      });
      this.waiting.push(one);
      this.watch();
      this.openForWaiting();
    });
  }

  /** Opens a connection when a call waits for one and there may be more; not while the server is down. */
  private openForWaiting(): void {
    const isFull = this.all.size + this.opening >= this.size + this.overflow;
    if (isFull || this.waiting.length <= this.opening) return;
    const pauseMs = this.retryAtMs - performance.now();
    if (pauseMs <= 0) {
      this.open();
    } else {
      this.retryTimer ??= setTimeout(() => {
        this.retryTimer = undefined;
        this.openForWaiting();
      }, pauseMs).unref();
    }
  }

  /** Looks at deadlines while there are some. */
  private watch(): void {
    if (this.timer !== undefined) return;
    this.timer = setInterval(() => {
      const nowMs = performance.now();
      for (const running of this.running) {
        if (nowMs >= running.untilMs) running.cut(this.unavailable("no answer in time"));
      }
      const late = this.waiting.filter(({ untilMs }) => nowMs >= untilMs);
      if (late.length > 0) {
        this.waiting = this.waiting.filter(({ untilMs }) => nowMs < untilMs);
        const what = this.all.size === 0 ? "could be opened" : "was free";
        for (const one of late) one.fail(this.unavailable(`no connection ${what} in time`));
      }
      if (this.running.size + this.waiting.length > 0) return;
      clearInterval(this.timer);
      this.timer = undefined;
    }, LOOK_MS);
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
        this.openForWaiting();
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
      const what = this.all.size === 0 ? "is unavailable" : "cannot open another connection";
      this.host.log("error", `${this.kind} ${this.id} ${what}`, { cause: reason });
    }
    this.lastError = reason;
    this.downReason = reason;
    this.pauseMs = Math.min(Math.max(this.pauseMs * 2, RETRY_MIN_MS), RETRY_MAX_MS);
    // Half of it by chance, so that many brokers do not come back at the same moment.
    this.retryAtMs = performance.now() + this.pauseMs * (0.5 + Math.random() / 2);
    this.serveWaiting();
  }

  /** While connections are left, or may come, calls wait for their turn; else they are told at once. */
  private serveWaiting(): void {
    const isDown = this.all.size + this.opening === 0 && performance.now() < this.retryAtMs;
    if (!isDown) this.openForWaiting();
    else for (const one of this.waiting.splice(0)) one.fail(this.unavailable(this.downReason));
  }

  private release(connection: C): void {
    if (!this.all.has(connection)) return;
    const next = this.waiting.shift();
    if (next !== undefined) {
      next.take(connection);
      return;
    }
    this.idle.push(connection);
    if (this.all.size > this.size) this.closeSurplusLater();
  }

  /** Those that were idle longest go first. */
  private closeSurplusLater(): void {
    this.surplusTimer ??= setTimeout(() => {
      this.surplusTimer = undefined;
      while (this.all.size > this.size) {
        const [oldest] = this.idle;
        if (oldest === undefined) return;
        this.drop(oldest);
      }
    }, SURPLUS_MS).unref();
  }

  private drop(connection: C): void {
    if (!this.all.delete(connection)) return;
    const at = this.idle.indexOf(connection);
    if (at >= 0) this.idle.splice(at, 1);
    Promise.resolve(this.driver.close(connection)).catch(() => undefined);
    this.serveWaiting();
  }
}

/** The reason in one line; of several addresses that were tried, the first. */
export function reasonOf(error: unknown): string {
  if (error instanceof AggregateError && error.errors.length > 0) return reasonOf(error.errors[0]);
  if (!(error instanceof Error)) return String(error);
  return error.message || (error as { code?: string }).code || error.name;
}

/** What `ensure_pool` was given, to compare. */
interface Given {
  readonly digest: string;
  /** Says in the log that a pool has other options. */
  warnOfOther(id: string): void;
}

/** The pools of one provider by `pool_id`. */
export class Pools<P> {
  private readonly provider: string;
  private readonly pools = new Map<string, { pool: P; digests: Set<string> }>();

  constructor(provider: string) {
    this.provider = provider;
  }

  /** A second pool with the same id is the first one; who asks for other options is told once. */
  ensure(id: string, given: Given, make: () => P): true {
    const found = this.pools.get(id);
    if (found === undefined) {
      this.pools.set(id, { pool: make(), digests: new Set([given.digest]) });
    } else if (!found.digests.has(given.digest) && found.digests.size < DIGESTS_MAX) {
      found.digests.add(given.digest);
      given.warnOfOther(id);
    }
    return true;
  }

  get(id: string): P {
    const found = this.pools.get(id);
    if (found !== undefined) return found.pool;
    throw new LuaError(
      `${this.provider}: there is no pool "${id}": ${this.provider}.ensure_pool makes one`,
    );
  }
}

/** Different options for one pool that are told apart: a script may make them up. */
const DIGESTS_MAX = 100;
