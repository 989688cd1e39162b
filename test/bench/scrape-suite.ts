// The scrape suite: what a scrape of /metrics costs the event loop of a broker with many clients.
import { fork } from "node:child_process";
import { once } from "node:events";
import { createBroker } from "../../core/broker.ts";
import { median } from "./report.ts";
import type { SuiteOptions } from "./suites.ts";

const CLIENTS = 10_000;
const SCRAPES = 40;
/** Milliseconds of the event loop for one scrape; more misses the goal. */
const LOOP_MS_MAX = 50;

/** The one that asks is in this process, so that its share counts, too; the clients are in one of their own. */
export async function runScrapeSuite({ isJson }: SuiteOptions): Promise<number> {
  const broker = await createBroker({
    settings: {
      "listener.tcp.default": "127.0.0.1:0",
      "listener.tcp.default.max_connections": "infinity",
      "listener.http.default": "127.0.0.1:0",
      allow_anonymous: "on",
      systree_enabled: "off",
    },
  });
  const script = new URL("scrape-clients.js", import.meta.url);
  const clients = fork(script, [String(broker.port()), String(CLIENTS)]);
  try {
    const failed = new AbortController();
    clients.once("exit", () => failed.abort());
    await once(clients, "message", { signal: failed.signal });
    const url = `http://127.0.0.1:${broker.port("http")}/metrics`;
    const loopMs: number[] = [];
    let bytes = 0;
    for (let n = 0; n < SCRAPES + 5; n++) {
      const before = performance.eventLoopUtilization();
      bytes = (await (await fetch(url)).text()).length;
      // The first ones find code that is not compiled yet.
      if (n >= 5) loopMs.push(performance.eventLoopUtilization(before).active);
    }
    const found = {
      clients: CLIENTS,
      bytes,
      loop_ms: median(loopMs),
      worst_ms: Math.max(...loopMs),
    };
    const isMet = found.loop_ms < LOOP_MS_MAX;
    const texts = [
      `scrape of ${CLIENTS} clients' broker, ${bytes} bytes: ${found.loop_ms.toFixed(1)} ms of the event loop`,
      `worst of ${SCRAPES}: ${found.worst_ms.toFixed(1)} ms, target ${LOOP_MS_MAX}: ${isMet ? "pass" : "fail"}`,
    ];
    process.stdout.write(isJson ? `${JSON.stringify(found)}\n` : `${texts.join("\n")}\n`);
    return isMet ? 0 : 1;
  } finally {
    clients.kill();
    await broker.close();
  }
}
