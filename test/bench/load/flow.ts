// The message flow of one shard: who may send when, how long to nap, what was counted.

import { Histogram } from "./histogram.ts";
import { AUTO } from "./options.ts";
import { type Now, Publisher, type PublisherFigures } from "./publisher.ts";
import { COUNTER, type RunPlan, SharedCounters } from "./run-state.ts";
import { DeliveryCheck, Subscriber, type SubscriberFigures } from "./subscriber.ts";
import { SequenceTrack } from "./track.ts";

/** Shortest nap worth its system call. */
const NAP_MS_MIN = 0.02;
const NAP_MS_MAX = 20;
const NAP_SAMPLE_MS = 4;
/** Nap between batches at a rate: short, since batches would flatter the latencies. */
const RATE_NAP_MS = 0.02;

/** What one shard counted; can be handed over by a worker. */
export interface ShardFigures extends PublisherFigures, SubscriberFigures {
  readonly startMs: number;
  readonly disconnects: number;
  readonly disconnectReason: string;
  readonly napMsTotal: number;
  readonly naps: number;
}

/** One client of a shard. */
export type Client =
  | { readonly role: "publisher"; readonly state: Publisher }
  | { readonly role: "subscriber"; readonly state: Subscriber };

/** Publishers and subscribers of one shard while messages flow. */
export class Flow {
  readonly publishers: Publisher[];
  readonly subscribers: Subscriber[];
  /** True once the figures are taken: what arrives or breaks then no longer counts. */
  isOver = false;
  readonly #plan: RunPlan;
  readonly #shard: number;
  readonly #counters: SharedCounters;
  readonly #sending: PublisherFigures;
  readonly #receiving: SubscriberFigures;
  readonly #queue: Publisher[] = [];
  readonly #quota: number;
  #now: Now = { ms: 0, us: 0 };
  #startMs = 0;
  #isSending = false;
  #disconnects = 0;
  #disconnectReason = "";
  readonly #nap = { ms: 0, isAuto: false, sampledMs: 0, received: 0, acks: 0, total: 0, count: 0 };

  constructor(plan: RunPlan, shard: number) {
    const { options } = plan;
    this.#plan = plan;
    this.#shard = shard;
    this.#counters = new SharedCounters(plan);
    this.#sending = {
      sent: 0,
      inflight: 0,
      rejected: 0,
      oddAcks: 0,
      lastSendMs: 0,
      lastAckMs: 0,
      ackUs: new Histogram(),
    };
    this.#receiving = {
      received: 0,
      dups: 0,
      misordered: 0,
      misrouted: 0,
      bad: 0,
      foreign: 0,
      redelivered: 0,
      oddReleases: 0,
      lastReceiveMs: 0,
      latencyUs: new Histogram(),
    };
    this.publishers = mine(options.pubs, plan.shards, shard).map(
      (i) => new Publisher(plan, i, this.#sending),
    );
    this.#quota = this.publishers.reduce((sum, publisher) => sum + publisher.quota, 0);
    this.subscribers = this.#makeSubscribers();
    const canNap = options.rate === 0 && (options.subs > 0 || options.qos > 0);
    this.#nap.isAuto = options.coalesce === AUTO && canNap;
    if (options.coalesce !== AUTO) this.#nap.ms = options.coalesce / 1000;
  }

  get isSending(): boolean {
    return this.#isSending;
  }

  /** One packet for a client; gives what is wrong with it. */
  onPacket(
    { role, state }: Client,
    header: number,
    bytes: Buffer,
    start: number,
    end: number,
    nowMs: number,
  ): string | undefined {
    const fault = state.onPacket(header, bytes, start, end, this.#time(nowMs));
    if (role === "publisher") this.queue(state);
    return fault;
  }

  /** The clock in the units of the flow; one object as long as the time stands still. */
  #time(ms: number): Now {
    if (ms !== this.#now.ms) this.#now = { ms, us: Math.round((ms - this.#plan.epochMs) * 1000) };
    return this.#now;
  }

  begin(now: number): void {
    this.#startMs = now;
    this.#nap.sampledMs = now;
    this.#isSending = this.publishers.length > 0;
    this.#counters.set(this.#shard, COUNTER.isSending, this.#isSending ? 1 : 0);
    for (const publisher of this.publishers) this.queue(publisher);
  }

  stop(): void {
    this.#isSending = false;
    this.#publish();
  }

  /** A client that may send takes its place behind the others. */
  queue(publisher: Publisher): void {
    if (publisher.isQueued || !publisher.maySend) return;
    publisher.isQueued = true;
    this.#queue.push(publisher);
  }

  /** A connection broke: the run has failed, only drain. */
  onLost(client: Client, reason: string): void {
    if (this.#disconnects++ === 0) this.#disconnectReason = reason;
    this.#isSending = false;
    // its acknowledgements will never come
    if (client.role === "publisher") this.#sending.inflight -= client.state.inflight;
    this.#publish();
  }

  /** Sends what the bounds allow, in turns of all publishers, and shows the others the counters. */
  pump(now: number): void {
    const { options } = this.#plan;
    if (this.#counters.total(COUNTER.disconnects) > 0) this.#isSending = false;
    if (this.#isSending) {
      this.#send(this.#budget(now), now);
      if (this.#sending.sent >= this.#quota || now - this.#startMs >= options.duration * 1000)
        this.#isSending = false;
    }
    this.#publish();
  }

  figures(): ShardFigures {
    return {
      ...this.#sending,
      ...this.#receiving,
      startMs: this.#startMs,
      disconnects: this.#disconnects,
      disconnectReason: this.#disconnectReason,
      napMsTotal: this.#nap.total,
      naps: this.#nap.count,
    };
  }

  /**
   * Milliseconds to nap now. Naps make for fewer and bigger reads and writes, here and in the
   * broker. They stay below a quarter of the time in which the broker, at the speed it shows,
   * works through what is in flight; so it does not run dry.
   */
  napMs(now: number): number {
    const nap = this.#nap;
    if (!this.#isSending && !nap.isAuto) return 0;
    if (this.#plan.options.rate) return RATE_NAP_MS;
    if (nap.isAuto) this.#adaptNap(now);
    if (nap.ms === 0) return 0;
    nap.total += nap.ms;
    nap.count++;
    return nap.ms;
  }

  #adaptNap(now: number): void {
    const { options, fan } = this.#plan;
    const nap = this.#nap;
    const passedMs = now - nap.sampledMs;
    if (passedMs < NAP_SAMPLE_MS) return;
    const received = this.#counters.total(COUNTER.received) - nap.received;
    const acks = this.#counters.total(COUNTER.acks) - nap.acks;
    let ms = NAP_MS_MAX;
    if (fan > 0) ms = Math.min(ms, quarter(options.inflightTotal, passedMs, received));
    if (options.qos > 0) ms = Math.min(ms, quarter(options.pubs * options.window, passedMs, acks));
    ms = Math.min(ms, nap.ms * 2 + NAP_MS_MIN);
    nap.ms = ms < NAP_MS_MIN ? 0 : ms;
    nap.sampledMs = now;
    nap.received += received;
    nap.acks += acks;
  }

  /** Messages that this shard may send now. */
  #budget(now: number): number {
    const { options, fan, shards } = this.#plan;
    if (options.rate) {
      const due = Math.floor(((now - this.#startMs) * options.rate) / 1000 / shards) + 1;
      return Math.max(0, due - this.#sending.sent);
    }
    if (fan === 0) return 10_000; // nobody listens: TCP and the windows are the bound
    const made = this.#counters.total(COUNTER.sent) * fan;
    const gone = this.#counters.total(COUNTER.received) + this.#counters.writtenOff;
    const open = Math.max(0, made - gone);
    // at QoS 0 wait for a worthwhile batch
    if (options.qos === 0 && open > (options.inflightTotal / 8) * 7) return 0;
    const room = Math.floor((options.inflightTotal - open) / fan / shards);
    // a message with more deliveries than the bound goes alone
    return open === 0 ? Math.max(1, room) : Math.max(0, room);
  }

  #send(budget: number, now: number): void {
    const { us } = this.#time(now);
    let left = budget;
    while (left > 0 && this.#queue.length > 0) {
      const round = this.#queue.splice(0);
      const share = Math.max(1, Math.floor(left / round.length));
      for (const publisher of round) {
        publisher.isQueued = false;
        if (left > 0 && publisher.maySend) {
          left -= publisher.fill(Math.min(share, left), now, us);
          publisher.flushIfFull();
        }
        this.queue(publisher);
      }
    }
  }

  #publish(): void {
    const counters = this.#counters;
    const { sent, inflight, ackUs } = this.#sending;
    const { received, dups, redelivered, misrouted, bad } = this.#receiving;
    counters.set(this.#shard, COUNTER.sent, sent);
    counters.set(this.#shard, COUNTER.received, received);
    counters.set(this.#shard, COUNTER.inflight, inflight);
    counters.set(this.#shard, COUNTER.acks, ackUs.total);
    counters.set(this.#shard, COUNTER.disconnects, this.#disconnects);
    counters.set(this.#shard, COUNTER.extra, dups + redelivered + misrouted + bad);
    counters.set(this.#shard, COUNTER.isSending, this.#isSending ? 1 : 0);
  }

  /** Members of a shared subscription check against one track, so one shard has them all. */
  #makeSubscribers(): Subscriber[] {
    const { options, shards } = this.#plan;
    const check = new DeliveryCheck(this.#plan, this.#receiving);
    const isShared = options.pattern === "shared";
    if (isShared && this.#shard > 0) return [];
    const indexes = isShared ? mine(options.subs, 1, 0) : mine(options.subs, shards, this.#shard);
    const common = new SequenceTrack(isShared ? options.pubs : 0);
    const publishers = options.pattern === "pairs" ? 1 : options.pubs;
    return indexes.map((index) => {
      const track = isShared ? common : new SequenceTrack(publishers);
      return new Subscriber(this.#plan, index, check, track);
    });
  }
}

function mine(count: number, shards: number, shard: number): number[] {
  return Array.from({ length: count }, (_, i) => i).filter((i) => i % shards === shard);
}

/** A quarter of the time that `inflight` takes when `done` took `passedMs`. */
function quarter(inflight: number, passedMs: number, done: number): number {
  return done > 0 ? (inflight * passedMs) / done / 4 : 0;
}
