// A pubsub run: starts the shards, watches over the run, judges it.
import { availableParallelism } from "node:os";
import { nowMs, sleep } from "./clock.ts";
import type { ShardFigures } from "./flow.ts";
import { Histogram, type Quantiles } from "./histogram.ts";
import { AUTO, type PubsubOptions } from "./options.ts";
import { processUsage } from "./process-usage.ts";
import { COUNTER, planRun, type RunPlan, SharedCounters } from "./run-state.ts";
import { localShard, type ShardHandle, workerShard } from "./shards.ts";

const WATCH_MS = 5;
/** Without a delivery for this long, what is missing is written off and sending goes on. */
const STALL_MS = 1000;
/** After set-up, so that the broker is at rest; and after the run, since duplicates may come. */
const SETTLE_MS = { before: 50, after: 100 } as const;
/** More threads than this have nothing left to do. */
const THREADS_MAX = 4;

/** What a run found. Fields and units are those of `mqttload pubsub --json`. */
export interface PubsubResult {
  readonly pattern: string;
  readonly version: number;
  readonly qos: number;
  readonly size: number;
  readonly pubs: number;
  readonly subs: number;
  readonly window: number;
  readonly rate: number;
  readonly coalesce_us: number;
  readonly sent: number;
  readonly received: number;
  readonly expected: number;
  readonly lost: number;
  readonly dups: number;
  readonly misordered: number;
  readonly misrouted: number;
  readonly bad: number;
  readonly foreign: number;
  readonly rejected: number;
  readonly odd_acks: number;
  readonly redelivered: number;
  readonly stalls: number;
  readonly disconnects: number;
  /** Why the first connection broke; empty when none did. */
  readonly disconnect_reason: string;
  readonly elapsed_s: number;
  readonly send_rate: number;
  readonly recv_rate: number;
  readonly lat_us: Quantiles;
  readonly ack_us: Quantiles;
  readonly gen_cpu_s: number;
  readonly broker_cpu_s: number;
  readonly broker_rss_kb: number;
  readonly ok: boolean;
}

/** Runs the load once. Throws LoadError when the broker cannot be reached or refuses clients. */
export async function runPubsub(options: PubsubOptions): Promise<PubsubResult> {
  const threads = threadsFor(options);
  const plan = planRun(options, Math.max(1, threads), nowMs());
  const shards =
    threads === 0
      ? [localShard(plan)]
      : Array.from({ length: threads }, (_, index) => workerShard(plan, index));
  const onAll = (act: (shard: ShardHandle) => Promise<void>) => Promise.all(shards.map(act));
  try {
    await onAll((shard) => shard.bringUp("subscriber"));
    await onAll((shard) => shard.bringUp("publisher"));
    await sleep(SETTLE_MS.before);
    const before = processUsage(options.pid);
    const ownBefore = process.cpuUsage();
    await onAll((shard) => shard.run());
    const stalls = await watch(plan);
    const own = process.cpuUsage(ownBefore);
    const after = processUsage(options.pid);
    await onAll((shard) => shard.stop());
    await sleep(SETTLE_MS.after);
    const figures = await Promise.all(shards.map((shard) => shard.figures()));
    return judge(plan, figures, {
      stalls,
      generatorCpuS: (own.user + own.system) / 1e6,
      brokerCpuS: Math.max(0, after.cpuS - before.cpuS),
      brokerRssKb: after.rssKb,
    });
  } finally {
    await onAll((shard) => shard.tearDown()).catch(() => {}); // the first error is the one to tell
    await onAll((shard) => shard.close());
  }
}

function threadsFor(options: PubsubOptions): number {
  if (options.threads !== AUTO) return options.threads;
  return Math.max(1, Math.min(THREADS_MAX, availableParallelism() - 1));
}

/** Resolves when all is delivered or nothing more comes; gives how often the run stalled. */
async function watch(plan: RunPlan): Promise<number> {
  const { options, fan } = plan;
  const counters = new SharedCounters(plan);
  let seen = -1;
  let since = nowMs();
  let stalls = 0;
  for (;;) {
    await sleep(WATCH_MS);
    const now = nowMs();
    const sent = counters.total(COUNTER.sent);
    const received = counters.total(COUNTER.received);
    const isSending = counters.total(COUNTER.isSending) > 0;
    const progress = sent + received + counters.total(COUNTER.acks) + counters.total(COUNTER.extra);
    if (!isSending && received >= sent * fan && counters.total(COUNTER.inflight) <= 0)
      return stalls;
    if (progress !== seen) {
      seen = progress;
      since = now;
    } else if (isSending && now - since > STALL_MS) {
      const open = sent * fan - received;
      if (options.rate === 0 && open > counters.writtenOff) {
        counters.writtenOff = open;
        stalls++;
      }
      since = now;
    } else if (!isSending && now - since > options.drain * 1000) {
      return stalls;
    }
  }
}

/** Adds the shards up and decides whether the run was fine. */
function judge(
  { options, fan }: RunPlan,
  figures: readonly ShardFigures[],
  run: { stalls: number; generatorCpuS: number; brokerCpuS: number; brokerRssKb: number },
): PubsubResult {
  const sum = (of: (shard: ShardFigures) => number) => figures.reduce((n, f) => n + of(f), 0);
  const last = (of: (shard: ShardFigures) => number) => Math.max(...figures.map(of));
  const latency = new Histogram();
  const acks = new Histogram();
  for (const shard of figures) {
    latency.merge(shard.latencyUs);
    acks.merge(shard.ackUs);
  }
  const start = Math.min(...figures.map((shard) => shard.startMs));
  const seconds = (ms: number) => Math.max(0, (ms - start) / 1000);
  const lastReceive = last((f) => f.lastReceiveMs);
  const lastSend = last((f) => f.lastSendMs);
  const elapsed = seconds(
    Math.max(
      lastSend,
      lastReceive,
      last((f) => f.lastAckMs),
    ),
  );
  // one batch is no rate: count from the start to the end of the run
  const sendS = seconds(lastSend) < elapsed / 100 ? elapsed : seconds(lastSend);
  const sent = sum((f) => f.sent);
  const received = sum((f) => f.received);
  const naps = sum((f) => f.naps);
  const result = {
    pattern: options.pattern,
    version: options.version,
    qos: options.qos,
    size: options.size,
    pubs: options.pubs,
    subs: options.subs,
    window: options.qos ? options.window : 0,
    rate: options.rate,
    coalesce_us: naps ? Math.round((sum((f) => f.napMsTotal) / naps) * 1000) : 0,
    sent,
    received,
    expected: sent * fan,
    lost: Math.max(0, sent * fan - received),
    dups: sum((f) => f.dups),
    misordered: sum((f) => f.misordered),
    misrouted: sum((f) => f.misrouted),
    bad: sum((f) => f.bad),
    foreign: sum((f) => f.foreign),
    rejected: sum((f) => f.rejected),
    odd_acks: sum((f) => f.oddAcks + f.oddReleases),
    redelivered: sum((f) => f.redelivered),
    stalls: run.stalls,
    disconnects: sum((f) => f.disconnects),
    disconnect_reason: figures.find((f) => f.disconnects)?.disconnectReason ?? "",
    elapsed_s: round(elapsed, 4),
    send_rate: perSecond(sent, sendS),
    recv_rate: perSecond(received, seconds(lastReceive)),
    lat_us: latency.quantiles(),
    ack_us: acks.quantiles(),
    gen_cpu_s: round(run.generatorCpuS, 3),
    broker_cpu_s: round(run.brokerCpuS, 2),
    broker_rss_kb: run.brokerRssKb,
  };
  return { ...result, ok: isFine(result, options.strictOrder === 1) };
}

function isFine(result: Omit<PubsubResult, "ok">, isStrict: boolean): boolean {
  const { lost, bad, misrouted, disconnects, rejected, dups, misordered, qos } = result;
  if (lost || bad || misrouted || disconnects || rejected) return false;
  if (qos !== 1 && dups) return false; // at least once may be twice
  return !(isStrict && misordered);
}

function perSecond(count: number, seconds: number): number {
  return seconds > 0 ? round(count / seconds, 1) : 0;
}

function round(value: number, digits: number): number {
  return Number(value.toFixed(digits));
}
