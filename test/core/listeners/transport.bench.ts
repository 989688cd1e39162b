/**
 * A listener with a handler that only counts, to measure the transports alone. In one shell
 *   npx vite-node test/core/listeners/transport.bench.ts raw|stream [port]
 * in another `mqttload connect|pubsub --port 1999 --pid PID`; SIGUSR2 prints what was counted.
 * Speaks just enough MQTT: CONNACK for the first chunk, no look into later ones. `--echo` sends
 * each chunk back, which shows the cost of a small write.
 */
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { createListener } from "../../../core/listeners/listener.ts";
import type { Transport, TransportHandler } from "../../../core/listeners/types.ts";
import { plainSettings } from "./settings.ts";

const args = process.argv.slice(2).filter((arg) => arg !== "--");
const mode = args[0] ?? "raw";
const port = Number(args[1] ?? 1999);
const isEcho = process.argv.includes("--echo");
const CONNACK = Buffer.from([0x20, 2, 0, 0]);
let bytes = 0;
let reads = 0;

class Counter implements TransportHandler {
  private readonly transport: Transport;
  private isConnected = false;

  constructor(transport: Transport) {
    this.transport = transport;
  }

  onData(buffer: Buffer, length: number): void {
    reads += 1;
    bytes += length;
    if (!this.isConnected) this.transport.write(CONNACK);
    else if (isEcho) this.transport.write(Buffer.from(buffer.subarray(0, length)));
    this.isConnected = true;
  }
  onDrain(): void {}
  onClose(): void {}
}

const listener = createListener(
  { ...plainSettings("tcp"), port },
  { onTransport: (transport) => transport.start(new Counter(transport)), onRefused() {} },
  { logger: console, useRawTcp: mode === "raw" },
);
await listener.start();
setFlagsFromString("--expose-gc");
const collect = runInNewContext("gc") as () => void;
process.on("SIGUSR2", () => {
  collect();
  const { user, system } = process.cpuUsage();
  const heapBytes = process.memoryUsage().heapUsed;
  const cpuMs = Math.round((user + system) / 1000);
  console.log(JSON.stringify({ mode, open: listener.connections, heapBytes, cpuMs, reads, bytes }));
});
console.log(`pid ${process.pid} port ${listener.boundPort}`);
