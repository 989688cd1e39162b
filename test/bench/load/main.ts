// The load generator as a program: `node dist/test/bench/load/main.js pubsub|connect [options]`.
import { type ConnectResult, runConnect } from "./connect.ts";
import type { Quantiles } from "./histogram.ts";
import { EXIT, help, LoadError, parseConnect, parsePubsub } from "./options.ts";
import { type PubsubResult, runPubsub } from "./pubsub.ts";

async function main(args: readonly string[]): Promise<number> {
  const [command, ...rest] = args;
  if (command !== "pubsub" && command !== "connect")
    throw new LoadError(EXIT.usage, "the first argument must be pubsub or connect");
  if (rest.includes("--help")) {
    console.log(help(command));
    return EXIT.fine;
  }
  return command === "pubsub" ? await pubsub(rest) : await connect(rest);
}

async function pubsub(args: readonly string[]): Promise<number> {
  const options = parsePubsub(args);
  const result = await runPubsub(options);
  printPubsub(result);
  if (options.json) console.log(JSON.stringify(result));
  return result.ok ? EXIT.fine : EXIT.failed;
}

async function connect(args: readonly string[]): Promise<number> {
  const options = parseConnect(args);
  const result = await runConnect(options);
  printConnect(result);
  if (options.json) console.log(JSON.stringify(result));
  if (result.up === 0 && result.failed > 0) return EXIT.unreachable;
  return result.ok ? EXIT.fine : EXIT.failed;
}

function printPubsub(r: PubsubResult): void {
  console.log(
    `${r.pattern} qos ${r.qos} v${r.version}, ${r.pubs} pub, ${r.subs} sub, ${r.size} bytes: ` +
      `sent ${r.sent}, received ${r.received} of ${r.expected}, ` +
      `lost ${r.lost}, dups ${r.dups}, misordered ${r.misordered}`,
  );
  console.log(
    `${r.elapsed_s} s: sent ${r.send_rate}/s, received ${r.recv_rate}/s; ` +
      `cpu: generator ${r.gen_cpu_s} s, broker ${r.broker_cpu_s} s; rss ${r.broker_rss_kb} KiB`,
  );
  printQuantiles("latency", r.lat_us);
  if (r.qos) printQuantiles("ack", r.ack_us);
  const { bad, misrouted, foreign, rejected, odd_acks, redelivered, stalls, disconnects } = r;
  const troubles = {
    bad,
    misrouted,
    foreign,
    rejected,
    odd_acks,
    redelivered,
    stalls,
    disconnects,
  };
  const found = Object.entries(troubles).filter(([, count]) => count > 0);
  if (found.length > 0)
    console.log(`trouble: ${found.map(([k, n]) => `${k} ${n}`).join(", ")} ${r.disconnect_reason}`);
}

function printConnect(r: ConnectResult): void {
  console.log(
    `connect v${r.version}: ${r.up} of ${r.count} up in ${r.elapsed_s} s, ${r.connect_rate}/s; ` +
      `failed ${r.failed}; held ${r.held_s} s, dropped ${r.drops}`,
  );
  console.log(
    `cpu: generator ${r.gen_cpu_s} s, broker ${r.broker_cpu_s} s; ` +
      `broker rss ${r.broker_rss_before_kb} -> ${r.broker_rss_after_kb} KiB, ` +
      `${r.bytes_per_conn} bytes a connection`,
  );
  printQuantiles("connack", r.connack_us);
  for (const [reason, count] of Object.entries(r.reasons)) console.log(`  ${reason}: ${count}`);
}

function printQuantiles(name: string, q: Quantiles): void {
  const values = `p50 ${q.p50}  p90 ${q.p90}  p99 ${q.p99}  p99.9 ${q.p999}  max ${q.max}`;
  console.log(`${name.padEnd(8)} us: ${values}`);
}

try {
  process.exitCode = await main(process.argv.slice(2));
} catch (error) {
  if (!(error instanceof LoadError)) throw error;
  console.error(`load: ${error.message}`);
  process.exitCode = error.status;
}
