// The webhooks suite: what decisions of an HTTP endpoint cost, in the same run as the same load without.
import { join } from "node:path";
import { faultOf, type LoadResult, pickGenerator, runLoad } from "./generator.ts";
import { startPeer } from "./peers.ts";
import { type Child, freePort, repositoryRoot, startChild } from "./process.ts";
import { median } from "./report.ts";
import type { SuiteOptions } from "./suites.ts";

/** Added to the time of a run: set-up, drain, tear-down. */
const RUN_SLACK_MS = 25_000;
/** Of the events row: as many are published while the endpoint sleeps. */
const EVENTS = 1000;
const SLEEP_MS = 100;

/** Keeps every answer for the whole run. */
const CACHING = "cache-control:max-age=3600";

interface Measure {
  readonly name: string;
  readonly of: (result: LoadResult) => number;
  readonly unit: string;
  /** The goal, with the value of the same load without webhooks. */
  readonly isMet: (value: number, without: number) => boolean;
  readonly goal: string;
}

interface Row {
  readonly name: string;
  readonly what: string;
  readonly hook: string;
  readonly header: string;
  readonly sleepMs: number;
  readonly args: (seconds: number) => string[];
  readonly measures: readonly Measure[];
}

const PAIRS = ["pubsub", "--pattern", "pairs", "--pubs", "100", "--subs", "100", "--qos", "1"];
const WARM_UP_SECONDS = 2;
const WARM_UP = [
  ...PAIRS,
  ...["--rate", "3000", "--messages", String(3000 * WARM_UP_SECONDS), "--drain", "15"],
];
const atFullRate = (seconds: number): string[] => [
  ...PAIRS,
  ...["--messages", "4000000000", "--duration", String(seconds), "--strict-order", "1"],
];
const atRate = (messages: (seconds: number) => number) => (seconds: number) => [
  ...PAIRS,
  ...["--rate", "1000", "--messages", String(messages(seconds)), "--strict-order", "1"],
];

const rate: Omit<Measure, "isMet" | "goal"> = {
  name: "messages/s",
  of: ({ recv_rate }) => recv_rate ?? 0,
  unit: "",
};
const latency = (quantile: "p50" | "p99"): Omit<Measure, "isMet" | "goal"> => ({
  name: quantile,
  of: ({ lat_us }) => (lat_us?.[quantile] ?? Number.NaN) / 1000,
  unit: " ms",
});

const ROWS: readonly Row[] = [
  {
    name: "uncached",
    what: "auth_on_publish, pairs 100→100, QoS 1",
    hook: "auth_on_publish",
    header: "",
    sleepMs: 0,
    args: atFullRate,
    measures: [{ ...rate, isMet: (value) => value >= 8000, goal: "≥ 8000" }],
  },
  {
    name: "latency",
    what: "the same at 1000 messages/s",
    hook: "auth_on_publish",
    header: "",
    sleepMs: 0,
    args: atRate((seconds) => seconds * 1000),
    measures: [
      { ...latency("p50"), isMet: (value) => value <= 1.5, goal: "≤ 1.5 ms" },
      { ...latency("p99"), isMet: (value) => value <= 5, goal: "≤ 5 ms" },
    ],
  },
  {
    name: "cached",
    what: "auth_on_publish from the cache, pairs 100→100, QoS 1",
    hook: "auth_on_publish",
    header: CACHING,
    sleepMs: 0,
    args: atFullRate,
    measures: [
      {
        ...rate,
        isMet: (value, without) => value >= 0.8 * without,
        goal: "≥ 80 % of that without",
      },
    ],
  },
  {
    name: "events",
    what: `${EVENTS} on_publish, ${SLEEP_MS} ms each at the endpoint`,
    hook: "on_publish",
    header: "",
    sleepMs: SLEEP_MS,
    args: atRate(() => EVENTS),
    measures: [
      { ...latency("p50"), isMet: (value) => value <= SLEEP_MS / 10, goal: "≤ 10 ms" },
      // One that waited for an answer would be all of it later.
      {
        ...latency("p99"),
        isMet: (value, without) => value <= without + SLEEP_MS / 2,
        goal: "≤ 50 ms above that without",
      },
    ],
  },
];

async function startEndpoint({ header, sleepMs }: Row): Promise<{ child: Child; url: string }> {
  const port = await freePort();
  const file = join(repositoryRoot(), "dist/test/bench/webhook-endpoint.js");
  const child = startChild([process.execPath, file, String(port), header, String(sleepMs)]);
  const url = `http://127.0.0.1:${port}/`;
  const endMs = Date.now() + 10_000;
  for (;;) {
    const answer = await fetch(url, { method: "POST", body: "{}" }).catch(() => undefined);
    if (answer?.ok === true) return { child, url };
    if (Date.now() > endMs || child.hasEnded()) throw new Error(`no endpoint: ${child.output()}`);
  }
}

function settings(row: Row, url: string): string[] {
  const isEvent = row.hook.startsWith("on_");
  return [
    ...(isEvent ? [] : ["plugins.vmq_acl = off", "plugins.vmq_passwd = off"]),
    "plugins.vmq_webhooks = on",
    `vmq_webhooks.bench.hook = ${row.hook}`,
    `vmq_webhooks.bench.endpoint = ${url}`,
    ...(isEvent
      ? []
      : [
          "vmq_webhooks.subscribe.hook = auth_on_subscribe",
          `vmq_webhooks.subscribe.endpoint = ${url}`,
        ]),
  ];
}

async function run(row: Row, seconds: number, withWebhooks: boolean): Promise<LoadResult> {
  const endpoint = withWebhooks ? await startEndpoint(row) : undefined;
  try {
    const peer = await startPeer(
      "nautilus",
      false,
      endpoint === undefined ? [] : settings(row, endpoint.url),
    );
    try {
      const timeoutMs = seconds * 1000 + RUN_SLACK_MS;
      // Connections are open and hot code is compiled before it counts.
      await runLoad(pickGenerator(), peer, WARM_UP, WARM_UP_SECONDS * 1000 + RUN_SLACK_MS);
      const result = await runLoad(pickGenerator(), peer, row.args(seconds), timeoutMs);
      const fault = faultOf(result);
      if (fault !== "") throw new Error(`${row.name}: ${fault}`);
      return result;
    } finally {
      await peer.stop();
    }
  } finally {
    await endpoint?.child.stop();
  }
}

/** Runs the suite and prints its table. Gives the exit status: 1 when a goal is missed. */
export async function runWebhooksSuite(options: SuiteOptions): Promise<number> {
  const lines: object[] = [];
  let isMissed = false;
  if (!options.isJson) {
    const { runs, seconds } = options;
    console.log(`webhooks: medians of ${runs} runs of ${seconds} s, ${pickGenerator().name}`);
  }
  for (const row of ROWS) {
    if (options.rows?.has(row.name) === false) continue;
    const [webhooks, without]: [LoadResult[], LoadResult[]] = [[], []];
    for (let i = 0; i < options.runs; i++) {
      webhooks.push(await run(row, options.seconds, true));
      without.push(await run(row, options.seconds, false));
    }
    for (const measure of row.measures) {
      const [value, base] = [webhooks, without].map((all) => median(all.map(measure.of)));
      const isMet = measure.isMet(value as number, base as number);
      isMissed ||= !isMet;
      const { name, unit, goal } = measure;
      lines.push({ row: row.name, measure: name, webhooks: value, without: base, goal, isMet });
      if (options.isJson) continue;
      const shown = [value, base].map((one) => (one as number).toFixed(unit === "" ? 0 : 2) + unit);
      console.log(
        `${row.name.padEnd(9)} ${row.what.padEnd(54)} ${name.padEnd(10)} ${shown[0]?.padStart(9)}, ` +
          `without ${shown[1]}, goal ${goal}: ${isMet ? "pass" : "fail"}`,
      );
    }
  }
  if (options.isJson) console.log(JSON.stringify({ suite: "webhooks", rows: lines }));
  return isMissed ? 1 : 0;
}
