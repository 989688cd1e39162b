import { buildConnector, Pool } from "undici";
import {
  type Call,
  CountingClient,
  Exchange,
  type ExchangeOwner,
  type Outcome,
} from "./exchange.ts";
import type { EndpointAddress } from "./options.ts";
import { type TlsSettings, tlsConnector } from "./tls.ts";
import { WaitingCalls } from "./waiting.ts";

/** What pools are made with; read anew for each. */
export interface PoolSettings {
  readonly connectionsMax: number;
  readonly idleMs: number;
  /** Read when a connection needs it; throws when the files cannot be used. */
  readonly tls: () => TlsSettings;
}

/**
 * So often it is looked whether an endpoint answers while calls wait, and after so many looks without an
 * answer more connections are opened. Looks, not time: a busy moment of the broker's own is one of them.
 */
const LOOK_MS = 50;
const LOOKS_MAX = 4;

/**
 * Connections of one endpoint for one purpose. What finds all of them in use waits here and not in the pool:
 * there, each call that waits costs a third of its time in memory that grows old.
 */
export class Connections implements ExchangeOwner {
  private readonly address: EndpointAddress;
  private readonly settings: () => PoolSettings;
  private readonly judge: (outcome: Outcome) => void;
  /** By connect timeout; the second one has the connections that are opened in a stall. */
  private readonly pools = [new Map<number, Pool>(), new Map<number, Pool>()] as const;
  private readonly waiting = new WaitingCalls();
  private connectionsMax: number;
  private inUse = 0;
  private extraInUse = 0;
  private isStarting = false;
  /** Runs while calls wait. */
  private look: NodeJS.Timeout | undefined;
  /** Looks since a connection became free. */
  private looks = 0;
  private isClosed = false;
  /** Calls without an outcome. */
  pending = 0;

  constructor(
    address: EndpointAddress,
    settings: () => PoolSettings,
    judge: (outcome: Outcome) => void,
  ) {
    this.address = address;
    this.settings = settings;
    this.judge = judge;
    this.connectionsMax = settings().connectionsMax;
  }

  /** Sends a call, as soon as a connection is free. */
  send(call: Call): Exchange {
    this.pending++;
    const exchange = new Exchange(this, call);
    if (this.inUse < this.connectionsMax) this.start(exchange);
    else {
      if (this.look === undefined) this.looks = 0;
      this.waiting.add(exchange);
      this.watch();
    }
    return exchange;
  }

  settled(exchange: Exchange, outcome: Outcome): void {
    this.pending--;
    if (!exchange.isStarted) this.waiting.remove(exchange);
    this.judge(outcome);
    exchange.call.done(outcome);
  }

  released({ isExtra }: Exchange): void {
    if (isExtra) this.extraInUse--;
    else this.inUse--;
    this.looks = 0;
    this.startNext();
  }

  /** New connections take the settings of now; those in use end with their call. */
  renew(): void {
    this.connectionsMax = this.settings().connectionsMax;
    this.closePools();
    this.startNext();
  }

  /** Ends the connections; unless `isAtOnce`, calls get their answer first. */
  close(isAtOnce: boolean): void {
    this.isClosed = true;
    if (!isAtOnce) {
      if (this.isIdle) this.closePools();
      return;
    }
    clearTimeout(this.look);
    for (let one = this.waiting.oldest; one !== undefined; one = this.waiting.oldest) one.cancel();
    for (const pool of this.takePools()) void pool.destroy();
  }

  private get isIdle(): boolean {
    return this.inUse + this.extraInUse === 0;
  }

  private startNext(): void {
    // Those that fail at once are released at once.
    if (this.isStarting) return;
    this.isStarting = true;
    while (this.inUse < this.connectionsMax) {
      const next = this.waiting.oldest;
      if (next === undefined) break;
      this.waiting.remove(next);
      this.start(next);
    }
    this.isStarting = false;
    if (this.isClosed && this.isIdle) this.closePools();
  }

  private watch(): void {
    this.look ??= setTimeout(() => {
      this.look = undefined;
      if (this.waiting.oldest === undefined) return;
      if (++this.looks >= LOOKS_MAX) this.relieve();
      this.watch();
    }, LOOK_MS).unref();
  }

  /**
   * Nobody is answered: perhaps the endpoint waits for us, as a client that it has to decide about itself.
   * Such a call is younger than those that it is for, so the youngest go first, on as many connections again.
   */
  private relieve(): void {
    this.looks = 0;
    while (this.extraInUse < this.connectionsMax) {
      const next = this.waiting.youngest;
      if (next === undefined) return;
      this.waiting.remove(next);
      next.isExtra = true;
      this.start(next);
    }
  }

  private closePools(): void {
    for (const pool of this.takePools()) void pool.close();
  }

  private takePools(): Pool[] {
    const taken = this.pools.flatMap((pools) => [...pools.values()]);
    for (const pools of this.pools) pools.clear();
    return taken;
  }

  private start(exchange: Exchange): void {
    const { call, isExtra } = exchange;
    if (isExtra) this.extraInUse++;
    else this.inUse++;
    exchange.start(() => this.poolFor(call.connectTimeoutMs, this.pools[isExtra ? 1 : 0]));
  }

  private poolFor(timeoutMs: number, pools: Map<number, Pool>): Pool {
    const known = pools.get(timeoutMs);
    if (known !== undefined) return known;
    const { connectionsMax, idleMs, tls } = this.settings();
    const { origin, isTls, socketPath } = this.address;
    const pool = new Pool(origin, {
      connections: connectionsMax,
      factory: (url, options) => new CountingClient(url, options as object),
      connect: isTls
        ? tlsConnector(tls(), { timeoutMs, socketPath })
        : buildConnector({
            timeout: timeoutMs,
            ...(socketPath === undefined ? {} : { socketPath }),
          }),
      keepAliveTimeout: idleMs,
      keepAliveMaxTimeout: idleMs,
      // Calls have their own deadline.
      headersTimeout: 0,
      bodyTimeout: 0,
      pipelining: 1,
    });
    pools.set(timeoutMs, pool);
    return pool;
  }
}
