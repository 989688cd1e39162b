/** Packets by kind and MQTT version: index 0 counts 3.1 and 3.1.1, index 1 counts 5. */
export type ByVersion = [v4: number, v5: number];

/** Reason codes counted per packet of one kind. */
export class ReasonCounter {
  /** 3.x packets, or CONNACK return codes by number. */
  readonly v4 = new Float64Array(256);
  readonly v5 = new Float64Array(256);

  total(): number {
    let sum = 0;
    for (let i = 0; i < 256; i++) sum += (this.v4[i] as number) + (this.v5[i] as number);
    return sum;
  }
}

/** Buckets of a latency histogram: the first ends at 0.25 µs, each next one at twice as much. */
const BUCKETS = 27;
const TICKS_PER_MS = 4000;
const TICKS_MAX = 2 ** (BUCKETS - 1);

/** Upper ends of the buckets but the last, which has none; seconds. */
export const LATENCY_BOUNDS_S: readonly number[] = Array.from(
  { length: BUCKETS - 1 },
  (_, i) => (2 ** i * 0.25) / 1e6,
);

/** How long something took, from 0.25 µs to 8 s; adding to it makes no garbage. */
export class LatencyHistogram {
  /** Own count of each bucket. */
  readonly counts = new Uint32Array(BUCKETS);
  sumMs = 0;

  timed(ms: number): void {
    this.sumMs += ms;
    const ticks = ms * TICKS_PER_MS;
    const at = ticks < TICKS_MAX ? 32 - Math.clz32(ticks) : BUCKETS - 1;
    (this.counts[at] as number)++;
  }
}

/**
 * The broker's own counters: plain numbers, added to on the hot path and read at scrape. Names follow
 * VerneMQ's metrics in camel case.
 */
export class Counters {
  socketOpen = 0;
  socketClose = 0;
  socketError = 0;
  socketCloseTimeout = 0;
  bytesReceived = 0;
  bytesSent = 0;

  readonly connectReceived: ByVersion = [0, 0];
  readonly publishReceived: ByVersion = [0, 0];
  readonly subscribeReceived: ByVersion = [0, 0];
  readonly unsubscribeReceived: ByVersion = [0, 0];
  readonly pingreqReceived: ByVersion = [0, 0];
  readonly pubackReceived = new ReasonCounter();
  readonly pubrecReceived = new ReasonCounter();
  readonly pubrelReceived = new ReasonCounter();
  readonly pubcompReceived = new ReasonCounter();
  readonly disconnectReceived = new ReasonCounter();
  readonly authReceived = new ReasonCounter();

  readonly connackSent = new ReasonCounter();
  readonly publishSent: ByVersion = [0, 0];
  readonly pubackSent = new ReasonCounter();
  readonly pubrecSent = new ReasonCounter();
  readonly pubrelSent = new ReasonCounter();
  readonly pubcompSent = new ReasonCounter();
  readonly subackSent: ByVersion = [0, 0];
  readonly unsubackSent: ByVersion = [0, 0];
  readonly pingrespSent: ByVersion = [0, 0];
  readonly disconnectSent = new ReasonCounter();
  readonly authSent = new ReasonCounter();

  readonly publishAuthError: ByVersion = [0, 0];
  readonly subscribeAuthError: ByVersion = [0, 0];
  readonly invalidMsgSizeError: ByVersion = [0, 0];
  readonly pubackInvalidError: ByVersion = [0, 0];
  readonly pubrecInvalidError: ByVersion = [0, 0];
  readonly pubcompInvalidError: ByVersion = [0, 0];
  readonly publishError: ByVersion = [0, 0];
  readonly subscribeError: ByVersion = [0, 0];
  readonly unsubscribeError: ByVersion = [0, 0];
  readonly keepaliveExpired: ByVersion = [0, 0];

  queueSetup = 0;
  queueTeardown = 0;
  queueInitializedFromStorage = 0;
  queueMessageIn = 0;
  queueMessageOut = 0;
  queueMessageDrop = 0;
  queueMessageExpired = 0;
  queueMessageUnhandled = 0;
  routerMatchesLocal = 0;
  routerMatchesRemote = 0;

  /** From reading a PUBLISH to its routing, hooks included; sampled (session/publish-timer.ts). */
  readonly publishLatency = new LatencyHistogram();
  /** Group commits of the store. */
  readonly storeCommit = new LatencyHistogram();

  /** `metrics reset`: every counter of the broker back to 0, histograms too. */
  reset(): void {
    const numbers = this as unknown as Record<string, unknown>;
    for (const [name, value] of Object.entries(numbers)) {
      if (typeof value === "number") numbers[name] = 0;
      else if (Array.isArray(value)) value.fill(0);
      else if (value instanceof ReasonCounter) {
        value.v4.fill(0);
        value.v5.fill(0);
      } else if (value instanceof LatencyHistogram) {
        value.counts.fill(0);
        value.sumMs = 0;
      }
    }
  }
}
