// A connect run: many clients, how fast they get in and what they cost.
import { nowMs, sleep } from "./clock.ts";
import {
  connackText,
  DISCONNECT_BYTES,
  encodeConnect,
  encodeSubscribe,
  parseConnack,
  parseSuback,
  TYPE,
} from "./codec.ts";
import { Connection, type ConnectionEvents, Reactor } from "./connection.ts";
import { Histogram, type Quantiles } from "./histogram.ts";
import type { ConnectOptions } from "./options.ts";
import { processUsage } from "./process-usage.ts";

/** Before memory is read, so that the broker is at rest. */
const SETTLE_MS = 200;
const LEAVE_MS = 10_000;

/** What a run found. Fields and units are those of `mqttload connect --json`. */
export interface ConnectResult {
  readonly count: number;
  readonly version: number;
  readonly up: number;
  readonly failed: number;
  readonly elapsed_s: number;
  readonly connect_rate: number;
  readonly connack_us: Quantiles;
  readonly reasons: Readonly<Record<string, number>>;
  readonly held_s: number;
  readonly drops: number;
  readonly broker_rss_before_kb: number;
  readonly broker_rss_after_kb: number;
  readonly broker_rss_end_kb: number;
  readonly bytes_per_conn: number;
  readonly gen_cpu_s: number;
  readonly broker_cpu_s: number;
  readonly hold_broker_cpu_s: number;
  readonly ok: boolean;
}

/** Connects the clients, holds them, lets them go. */
export async function runConnect(options: ConnectOptions): Promise<ConnectResult> {
  const crowd = new Crowd(options);
  const before = processUsage(options.pid);
  const ownBefore = process.cpuUsage();
  const start = nowMs();
  await crowd.connectAll();
  const own = process.cpuUsage(ownBefore);
  await sleep(SETTLE_MS);
  const after = processUsage(options.pid);
  const holdStart = nowMs();
  while (nowMs() - holdStart < options.hold * 1000 && crowd.up > crowd.drops) await sleep(50);
  const end = processUsage(options.pid);
  const heldS = (nowMs() - holdStart) / 1000;
  const { up, failed, drops, reasons } = crowd;
  const elapsed = up ? (crowd.lastUpMs - start) / 1000 : 0;
  const grownKb = Math.max(0, after.rssKb - before.rssKb);
  await crowd.leave();
  return {
    count: options.count,
    version: options.version,
    up,
    failed,
    elapsed_s: Number(elapsed.toFixed(4)),
    connect_rate: elapsed ? Math.round(up / elapsed) : 0,
    connack_us: crowd.connackUs.quantiles(),
    reasons: Object.fromEntries(reasons),
    held_s: Number(heldS.toFixed(2)),
    drops,
    broker_rss_before_kb: before.rssKb,
    broker_rss_after_kb: after.rssKb,
    broker_rss_end_kb: end.rssKb,
    bytes_per_conn: up ? Math.round((grownKb * 1024) / up) : 0,
    gen_cpu_s: (own.user + own.system) / 1e6,
    broker_cpu_s: Number((after.cpuS - before.cpuS).toFixed(2)),
    hold_broker_cpu_s: Number((end.cpuS - after.cpuS).toFixed(2)),
    ok: up === options.count && drops === 0,
  };
}

/** The clients of one run. */
class Crowd {
  up = 0;
  failed = 0;
  drops = 0;
  lastUpMs = 0;
  readonly connackUs: Histogram = new Histogram();
  readonly reasons: Map<string, number> = new Map();
  readonly #options: ConnectOptions;
  readonly #reactor: Reactor = new Reactor(() => this.#reactor.flush());
  readonly #open = new Set<Connection>();
  #isLeaving = false;

  constructor(options: ConnectOptions) {
    this.#options = options;
  }

  async connectAll(): Promise<void> {
    const { count, rate, concurrency, duration } = this.#options;
    const start = nowMs();
    const end = start + duration * 1000;
    let next = 0;
    const lane = async () => {
      while (next < count && nowMs() < end) {
        const index = next++;
        const dueMs = rate ? start + (index / rate) * 1000 : 0;
        if (dueMs > nowMs()) await sleep(dueMs - nowMs());
        await this.#connect(index);
      }
    };
    await Promise.all(Array.from({ length: Math.min(concurrency, count) }, lane));
    this.failed += count - next;
  }

  async leave(): Promise<void> {
    this.#isLeaving = true;
    for (const connection of this.#open) connection.send(DISCONNECT_BYTES);
    const end = nowMs() + LEAVE_MS;
    while (this.#open.size > 0 && nowMs() < end) await sleep(10);
    for (const connection of this.#open) connection.close("over");
  }

  /** Resolves when the client is in or has failed. */
  #connect(index: number): Promise<void> {
    const { host, port, srcCount, timeout, version, subscribe } = this.#options;
    return new Promise((resolve) => {
      let sentMs = 0;
      let isDone = false;
      const done = (failure?: string) => {
        if (isDone) return;
        isDone = true;
        clearTimeout(deadline);
        if (failure === undefined) {
          this.up++;
          this.lastUpMs = nowMs();
        } else {
          this.failed++;
          this.#count(failure);
        }
        resolve();
      };
      const events: ConnectionEvents = {
        onUp: (connection) => {
          sentMs = nowMs();
          connection.send(this.#connectPacket(index));
          connection.flush();
        },
        onPacket: (connection, header, bytes, start, end) => {
          const body = bytes.subarray(start, end);
          if (header === TYPE.connack << 4 && !isDone) {
            const connack = parseConnack(version, body);
            if (!connack) return "malformed connack";
            if (connack.code) return `connack: ${connackText(version, connack.code)}`;
            this.connackUs.add(Math.round((nowMs() - sentMs) * 1000));
            if (subscribe) connection.send(encodeSubscribe(version, 1, [`bench/c/${index}`], 0));
            else done();
          } else if (header === TYPE.suback << 4 && !isDone) {
            if (parseSuback(version, body) !== 0) return "suback: refused";
            done();
          } else if (header >> 4 !== TYPE.disconnect) {
            return "protocol error";
          }
          connection.trim();
          return undefined;
        },
        onClosed: (connection, reason) => {
          this.#open.delete(connection);
          if (!isDone) done(reason);
          else if (!this.#isLeaving) {
            this.drops++;
            this.#count(`dropped: ${reason}`);
          }
        },
        onDrain: () => {},
      };
      const localAddress = srcCount ? { localAddress: `127.0.0.${1 + (index % srcCount)}` } : {};
      const connection = new Connection(this.#reactor, events, { host, port, ...localAddress });
      const deadline = setTimeout(() => connection.close("timeout"), timeout * 1000);
      this.#open.add(connection);
    });
  }

  #connectPacket(index: number): Buffer {
    const { version, clean, username, password } = this.#options;
    return encodeConnect({
      version,
      clientId: `nlc${process.pid}-${index}`,
      isClean: clean === 1,
      username,
      password,
      expiryS: clean ? 0 : 600,
      receiveMaximum: 0,
    });
  }

  #count(reason: string): void {
    this.reasons.set(reason, (this.reasons.get(reason) ?? 0) + 1);
  }
}
