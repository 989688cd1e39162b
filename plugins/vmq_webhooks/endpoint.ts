import { Breaker } from "../../core/plugin-api.ts";
import { Connections, type PoolSettings } from "./connections.ts";
import { EventQueue } from "./events.ts";
import type { Call, Exchange, Failure, Outcome } from "./exchange.ts";
import { addressOf, type EndpointAddress } from "./options.ts";

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
  private readonly forCalls: Connections;
  /**
   * Connections for events are their own: an endpoint that connects as a client while it handles an
   * event must not wait for a connection that this event holds.
   */
  private readonly forEvents: Connections;
  /** Registrations that use it. */
  users = 0;

  constructor(url: string, limits: EndpointLimits) {
    this.url = url;
    this.address = addressOf(url) as EndpointAddress;
    const judge = (outcome: Outcome): void => this.judge(outcome);
    this.forCalls = new Connections(this.address, limits.pool, judge);
    this.forEvents = new Connections(this.address, limits.pool, judge);
    this.events = new EventQueue(
      () => ({
        queued: limits.queuedEvents(),
        inflight: Math.min(limits.inflightEvents(), limits.pool().connectionsMax),
      }),
      () => !this.breaker.isTroubled || this.breaker.admits(),
    );
  }

  /** Calls under way. */
  get pending(): number {
    return this.forCalls.pending + this.forEvents.pending;
  }

  /** Asks. Gives what ends the call early; undefined when it has failed already. */
  ask(call: Call): Exchange | undefined {
    const { breaker } = this;
    if (breaker.isTroubled && !breaker.admits()) {
      return refuse(call, "suspended", "not asked for a while after repeated failures");
    }
    if (this.forCalls.pending >= CALLS_MAX) {
      return refuse(call, "overloaded", `${CALLS_MAX} calls wait for it already`);
    }
    return this.forCalls.send(call);
  }

  /** Tells; the queue has asked the breaker. */
  tell(call: Call): void {
    this.forEvents.send(call);
  }

  /** New connections take the settings of now; those in use end with their call. */
  renew(): void {
    this.forCalls.renew();
    this.forEvents.renew();
  }

  /** Ends the connections; running calls may finish first. Gives the events that are lost. */
  close(isAtOnce: boolean): number {
    const lost = this.events.close();
    this.forCalls.close(isAtOnce);
    this.forEvents.close(isAtOnce);
    return lost;
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
}

function refuse(call: Call, kind: Failure["kind"], reason: string): undefined {
  call.done({ failure: { kind, reason } });
  return undefined;
}
