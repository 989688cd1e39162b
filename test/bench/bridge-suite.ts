// The bridge suite: messages from one broker to another of its kind by a bridge, beside Mosquitto's.

import { join } from "node:path";
import mqtt, { type MqttClient } from "mqtt";
import { faultOf, type Generator, runLoad } from "./generator.ts";
import { sleep } from "./load/clock.ts";
import { type Peer, type PeerName, probePeer, startPeer } from "./peers.ts";
import { repositoryRoot } from "./process.ts";
import { median } from "./report.ts";
import type { SuiteOptions } from "./suites.ts";

/** Added to the time of a run: set-up, drain, tear-down. */
const RUN_SLACK_MS = 25_000;
/**
 * Unacknowledged messages of each publisher: enough that the bridge, and not the generator on the same two
 * cores, is what is measured; not so many that its queue grows during the run.
 */
const WINDOW = 50;
/** A bridge is up long before. */
const BRIDGE_MS = 20_000;

interface Row {
  readonly name: string;
  readonly what: string;
  /** Times Mosquitto's figure. */
  readonly target: number;
  readonly version: 4 | 5;
}

const ROWS: readonly Row[] = [
  { name: "bridge-1", what: "10→10 by a bridge, QoS 1, MQTT 3.1.1", target: 2, version: 4 },
  { name: "bridge-5", what: "10→10 by a bridge, QoS 1, MQTT 5", target: 2, version: 5 },
];

const BROKERS = ["nautilus", "mosquitto"] as const satisfies readonly PeerName[];
type Bridging = (typeof BROKERS)[number];

/** Settings of a bridge that sends everything of the load out. */
const BRIDGE: Readonly<Record<Bridging, (port: number, version: number) => string[]>> = {
  nautilus: (port, version) => [
    "plugins.vmq_bridge = on",
    `vmq_bridge.tcp.bench = 127.0.0.1:${port}`,
    `vmq_bridge.tcp.bench.mqtt_version = ${version}`,
    "vmq_bridge.tcp.bench.topic.1 = bench/* out 1",
    "vmq_bridge.tcp.bench.restart_timeout = 1",
    "vmq_bridge.tcp.bench.max_outgoing_buffered_messages = 1000000",
  ],
  // Mosquitto 2.0 connects no bridge of MQTT 5 while its in-flight messages are not limited.
  mosquitto: (port) => [
    "connection bench",
    `address 127.0.0.1:${port}`,
    "bridge_protocol_version mqttv311",
    "topic bench/# out 1",
    "notifications false",
    "restart_timeout 1",
  ],
};

/** Only ours can subscribe at another broker than it publishes at. */
const GENERATOR: Generator = {
  name: "test/bench/load (TypeScript)",
  command: [process.execPath, join(repositoryRoot(), "dist/test/bench/load/main.js")],
};

/** Publishes at one broker until it comes out of the other. */
async function untilBridged(near: Peer, far: Peer): Promise<void> {
  const clients: MqttClient[] = [];
  try {
    for (const { port } of [near, far]) {
      clients.push(await mqtt.connectAsync({ host: "127.0.0.1", port }));
    }
    const [from, to] = clients as [MqttClient, MqttClient];
    let hasArrived = false;
    to.on("message", () => {
      hasArrived = true;
    });
    await to.subscribeAsync("bench/probe", { qos: 0 });
    const end = performance.now() + BRIDGE_MS;
    while (!hasArrived) {
      if (performance.now() > end) throw new Error(`no bridge: ${near.output().slice(-300)}`);
      await from.publishAsync("bench/probe", "probe", { qos: 0 });
      await sleep(50);
    }
  } finally {
    for (const client of clients) await client.endAsync(true);
  }
}

async function measure(broker: Bridging, row: Row, seconds: number): Promise<number> {
  // The window of MQTT 5 is what the far side says.
  const bounds = broker === "nautilus" ? ["receive_max_broker = 65535"] : [];
  const far = await startPeer(broker, false, bounds);
  try {
    const near = await startPeer(broker, false, BRIDGE[broker](far.port, row.version));
    try {
      await untilBridged(near, far);
      const args = [
        ...["pubsub", "--pattern", "pairs", "--pubs", "10", "--subs", "10", "--qos", "1"],
        ...["--window", String(WINDOW)],
        ...["--messages", "4000000000", "--duration", String(seconds)],
        ...["--version", String(row.version), "--sub-port", String(far.port)],
      ];
      const result = await runLoad(GENERATOR, near, args, seconds * 1000 + RUN_SLACK_MS);
      const fault = faultOf(result);
      if (fault !== "") throw new Error(`${row.name} ${broker}: ${fault}`);
      return result.recv_rate ?? 0;
    } finally {
      await near.stop();
    }
  } finally {
    await far.stop();
  }
}

/** Runs the suite and prints its table. Gives the exit status: 1 when a target is missed. */
export async function runBridgeSuite(options: SuiteOptions): Promise<number> {
  const probe = probePeer("mosquitto");
  const brokers = BROKERS.filter(
    (name) => options.only?.has(name) !== false && !(name === "mosquitto" && "missing" in probe),
  );
  if ("missing" in probe) console.error(`mosquitto is left out: ${probe.missing}`);
  const lines: { row: Row; rates: Partial<Record<Bridging, number>> }[] = [];
  for (const row of ROWS) {
    if (options.rows?.has(row.name) === false) continue;
    const all: Record<Bridging, number[]> = { nautilus: [], mosquitto: [] };
    for (let run = 0; run < options.runs; run++) {
      for (const broker of brokers) {
        const rate = await measure(broker, row, options.seconds);
        all[broker].push(rate);
        console.error(`${row.name} ${run + 1}/${options.runs} ${broker}: ${rate.toFixed(0)}`);
      }
    }
    const rates = Object.fromEntries(brokers.map((name) => [name, median(all[name])]));
    lines.push({ row, rates });
  }
  if (options.isJson) {
    const rows = lines.map(({ row, rates }) => ({ name: row.name, target: row.target, ...rates }));
    console.log(JSON.stringify({ suite: "bridge", rows }));
  } else {
    console.log(`bridge: medians of ${options.runs} runs of ${options.seconds} s`);
  }
  let isMissed = false;
  for (const { row, rates } of lines) {
    const { nautilus = 0, mosquitto } = rates;
    const ratio = mosquitto === undefined ? undefined : nautilus / mosquitto;
    if (ratio !== undefined && ratio < row.target && rates.nautilus !== undefined) isMissed = true;
    if (options.isJson) continue;
    const against =
      ratio === undefined
        ? "no Mosquitto"
        : `${ratio.toFixed(2)} × Mosquitto (${mosquitto?.toFixed(0)}), target ${row.target}`;
    console.log(
      `${row.name.padEnd(10)} ${row.what.padEnd(42)} ${nautilus.toFixed(0).padStart(8)}/s, ${against}`,
    );
  }
  return isMissed ? 1 : 0;
}
