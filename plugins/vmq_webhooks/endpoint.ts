import { buildConnector, Pool } from "undici";
import { Breaker } from "../../core/plugin-api.ts";
import { EventQueue } from "./events.ts";
import { type Call, CountingClient, Exchange, type Failure, type Outcome } from "./exchange.ts";
import { addressOf, type EndpointAddress } from "./options.ts";
import { type TlsSettings, tlsConnector } from "./tls.ts";

/** What pools are made with; read anew for each. */
export interface PoolSettings {
  readonly connectionsMax: number;
  readonly idleMs: number;
  /** Read when a connection needs it; throws when the files cannot be used. */
  readonly tls: () => TlsSettings;
}

/** Settings in force now. */
export interface EndpointLimits {
  pool(): PoolSettings;
  queuedEvents(): number;
  inflightEvents(): number;
}

/**
 * Clients that may wait for one endpoint; the next one is answered as by a failure. Each waits no longer
 * than its `response_timeout`.
 */
const CALLS_MAX = 50_000;

/** Statuses of gateways that say: the endpoint behind is not there. */
const UNAVAILABLE: ReadonlySet<number> = new Set([502, 503, 504]);

/** One URL: connections, circuit breaker and events, shared by the hooks that are registered for it. */
export class Endpoint {
  readonly url: string;
  readonly address: EndpointAddress;
  readonly breaker = new Breaker(() => performance.now());
  readonly events: EventQueue;
  private readonly limits: EndpointLimits;
  /**
   * Connections for events are their own: an endpoint that connects as a client while it handles an
   * event must not wait for a connection that this event holds.
   */
  private readonly pools = new Map<string, Pool>();
  private isClosed = false;
  /** Registrations that use it. */
  users = 0;
  /** Calls under way. */
  pending = 0;

  constructor(url: string, limits: EndpointLimits) {
    this.url = url;
    this.address = addressOf(url) as EndpointAddress;
    this.limits = limits;
    this.events = new EventQueue(
      () => ({
        queued: limits.queuedEvents(),
        inflight: Math.min(limits.inflightEvents(), limits.pool().connectionsMax),
      }),
      () => !this.breaker.isTroubled || this.breaker.state !== "open" || this.breaker.admits(),
    );
  }

  /** Asks. Gives what ends the call early; undefined when it has failed already. */
  ask(call: Call, connectTimeoutMs: number): Exchange | undefined {
    const { breaker } = this;
    if (breaker.isTroubled && !breaker.admits()) {
      return refuse(call, "suspended", "not asked for a while after repeated failures");
    }
    if (this.pending >= CALLS_MAX) {
      return refuse(call, "overloaded", `${CALLS_MAX} calls wait for it already`);
    }
    return this.send("calls", call, connectTimeoutMs);
  }

  /** Tells; the queue has asked the breaker. */
  tell(call: Call, connectTimeoutMs: number): void {
    this.send("events", call, connectTimeoutMs);
  }

  /** New connections take the settings of now; those in use end with their call. */
  renew(): void {
    for (const pool of this.pools.values()) void pool.close();
    this.pools.clear();
  }

  /** Ends the connections; running calls may finish first. Gives the events that are lost. */
  close(isAtOnce: boolean): number {
    this.isClosed = true;
    const lost = this.events.close();
    for (const pool of this.pools.values()) {
      if (isAtOnce) void pool.destroy();
      else void pool.close();
    }
    this.pools.clear();
    return lost;
  }

  private send(
    kind: "calls" | "events",
    call: Call,
    connectTimeoutMs: number,
  ): Exchange | undefined {
    let pool: Pool;
    try {
      pool = this.poolFor(kind, connectTimeoutMs);
    } catch (error) {
      return refuse(call, "connection", error instanceof Error ? error.message : String(error));
    }
    this.pending++;
    return new Exchange(pool, {
      ...call,
      done: (outcome) => {
        this.pending--;
        this.judge(outcome);
        call.done(outcome);
      },
    });
  }

  private judge(outcome: Outcome): void {
    const { breaker } = this;
    if ("response" in outcome) {
      if (UNAVAILABLE.has(outcome.response.status)) breaker.failed();
      else if (breaker.isTroubled) breaker.succeeded();
      return;
    }
    const { kind } = outcome.failure;
    if (kind === "timeout" || kind === "connection") breaker.failed();
    // A probe whose client has gone says nothing; another one must be possible.
    else if (breaker.isTroubled && breaker.state === "half-open") breaker.failed();
  }

  private poolFor(kind: "calls" | "events", connectTimeoutMs: number): Pool {
    const key = `${kind} ${connectTimeoutMs}`;
    const known = this.pools.get(key);
    if (known !== undefined) return known;
    const { connectionsMax, idleMs, tls } = this.limits.pool();
    const { origin, isTls, socketPath } = this.address;
    const timeoutMs = connectTimeoutMs;
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
    if (!this.isClosed) this.pools.set(key, pool);
    return pool;
  }
}

function refuse(call: Call, kind: Failure["kind"], reason: string): undefined {
  call.done({ failure: { kind, reason } });
  return undefined;
}
