// The rows of the broker suite: which load, which figure, which target.
import type { LoadResult } from "./generator.ts";
import type { PeerName } from "./peers.ts";

/** What Nautilus has to reach: a multiple of Mosquitto's figure, or a figure of its own. */
export type Target =
  | { readonly kind: "ratioAtLeast" | "ratioAtMost"; readonly value: number }
  | { readonly kind: "atLeast" | "atMost"; readonly value: number };

/** One figure taken from a run. */
export interface Measure {
  readonly label: string;
  readonly unit: string;
  readonly target: Target;
  of(result: LoadResult): number;
}

/** One row: a load that all brokers get. */
export interface Row {
  readonly name: string;
  readonly what: string;
  /** True: Mosquitto runs with its persistence on. */
  readonly isDurable: boolean;
  /** Brokers that have not got what the row needs, and what that is. */
  readonly unsupported: Readonly<Partial<Record<PeerName, string>>>;
  readonly measures: readonly Measure[];
  /** Arguments of the generator for a run of `seconds`. */
  args(seconds: number): string[];
}

interface Load {
  readonly pattern: "pairs" | "fanin" | "fanout" | "shared";
  readonly pubs: number;
  readonly subs: number;
  readonly qos: number;
  readonly size?: number;
  readonly more?: readonly string[];
}

/** More than any broker delivers while a run lasts: the duration ends the sending. */
const MESSAGES_MAX = 4_000_000_000;

function pubsubArgs(load: Load, seconds: number): string[] {
  const { pattern, pubs, subs, qos, size = 64, more = [] } = load;
  const numbers = { pubs, subs, qos, size, messages: MESSAGES_MAX, duration: seconds };
  const pairs = Object.entries(numbers).flatMap(([key, value]) => [`--${key}`, String(value)]);
  return ["pubsub", "--pattern", pattern, ...pairs, "--strict-order", "1", ...more];
}

function throughput(name: string, load: Load, factor: number, isDurable = false): Row {
  const { pattern, pubs, subs, qos, size = 64 } = load;
  const suffix = isDurable ? ", persistent sessions" : "";
  return {
    name,
    what: `${pattern} ${pubs}→${subs}, QoS ${qos}, ${size} B${suffix}`,
    isDurable,
    unsupported: pattern === "shared" ? { aedes: "no shared subscriptions" } : {},
    measures: [
      {
        label: "delivered",
        unit: "/s",
        target: { kind: "ratioAtLeast", value: factor },
        of: (result) => result.recv_rate ?? 0,
      },
    ],
    args: (seconds) => pubsubArgs(load, seconds),
  };
}

/** The table of the broker's targets. */
export const BROKER_ROWS: readonly Row[] = [
  throughput("pairs-0", { pattern: "pairs", pubs: 10, subs: 10, qos: 0 }, 8),
  throughput("fanout-0", { pattern: "fanout", pubs: 1, subs: 100, qos: 0 }, 20),
  throughput("fanout-1", { pattern: "fanout", pubs: 5, subs: 200, qos: 1, size: 24 }, 8),
  throughput("fanin-1", { pattern: "fanin", pubs: 100, subs: 1, qos: 1 }, 5),
  throughput("pairs-1", { pattern: "pairs", pubs: 10, subs: 10, qos: 1 }, 4),
  throughput("pairs-2", { pattern: "pairs", pubs: 10, subs: 10, qos: 2 }, 4),
  throughput("shared-1", { pattern: "shared", pubs: 100, subs: 5, qos: 1, size: 24 }, 4),
  {
    name: "cpu-1",
    what: "pairs 1000→1000, QoS 1, 64 B, 10 k/s in all",
    isDurable: false,
    unsupported: {},
    measures: [
      {
        label: "broker CPU",
        unit: "µs/msg",
        target: { kind: "ratioAtMost", value: 1.2 },
        of: (result) => ((result.broker_cpu_s ?? 0) * 1e6) / Math.max(1, result.received ?? 0),
      },
    ],
    // CPU time comes in steps of 10 ms: a second more makes the figure steadier
    args: (seconds) =>
      pubsubArgs(
        { pattern: "pairs", pubs: 1000, subs: 1000, qos: 1, more: ["--rate", "10000"] },
        seconds + 1,
      ),
  },
  throughput(
    "durable-1",
    { pattern: "pairs", pubs: 10, subs: 10, qos: 1, more: ["--clean", "0"] },
    1.5,
    true,
  ),
  {
    name: "connect",
    what: "connect 8000 clients",
    isDurable: false,
    unsupported: {},
    measures: [
      {
        label: "connects",
        unit: "/s",
        target: { kind: "atLeast", value: 10_000 },
        of: (result) => result.connect_rate ?? 0,
      },
      {
        label: "memory",
        unit: "B each",
        target: { kind: "atMost", value: 8192 },
        of: (result) => result.bytes_per_conn ?? 0,
      },
    ],
    args: () => ["connect", "--count", "8000"],
  },
];
