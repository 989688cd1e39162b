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
 * Connections of one endpoint for one purpose. What finds all of them in use waits here and not in the pool:
 * there, each call that waits costs a third of its time in memory that grows old.
 */
export class Connections implements ExchangeOwner {
  private readonly address: EndpointAddress;
  private readonly settings: () => PoolSettings;
  private readonly judge: (outcome: Outcome) => void;
  /** By connect timeout. */
  private readonly pools = new Map<number, Pool>();
  private readonly waiting = new WaitingCalls();
  private connectionsMax: number;
  private inUse = 0;
  private isStarting = false;
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
    else this.waiting.add(exchange);
    return exchange;
  }

  settled(exchange: Exchange, outcome: Outcome): void {
    this.pending--;
    if (!exchange.isStarted) this.waiting.remove(exchange);
    this.judge(outcome);
    exchange.call.done(outcome);
  }

  released(): void {
    this.inUse--;
    this.startNext();
  }

  /** New connections take the settings of now; those in use end with their call. */
  renew(): void {
    this.connectionsMax = this.settings().connectionsMax;
    for (const pool of this.pools.values()) void pool.close();
    this.pools.clear();
    this.startNext();
  }

  /** Ends the connections; unless `isAtOnce`, calls get their answer first. */
  close(isAtOnce: boolean): void {
    this.isClosed = true;
    if (!isAtOnce) {
      if (this.inUse === 0) this.closePools();
      return;
    }
    for (let one = this.waiting.oldest; one !== undefined; one = this.waiting.oldest) one.cancel();
    const pools = [...this.pools.values()];
    this.pools.clear();
    for (const pool of pools) void pool.destroy();
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
    if (this.isClosed && this.inUse === 0) this.closePools();
  }

  private closePools(): void {
    for (const pool of this.pools.values()) void pool.close();
    this.pools.clear();
  }

  private start(exchange: Exchange): void {
    this.inUse++;
    exchange.start(() => this.poolFor(exchange.call.connectTimeoutMs));
  }

  private poolFor(timeoutMs: number): Pool {
    const known = this.pools.get(timeoutMs);
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
    this.pools.set(timeoutMs, pool);
    return pool;
  }
}
