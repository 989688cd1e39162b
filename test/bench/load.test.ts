// The load generator tells the truth: against a real broker, and against brokers that misbehave.
import { execFile } from "node:child_process";
import { existsSync } from "node:fs";
import { createServer, type Server, type Socket } from "node:net";
import { join } from "node:path";
import { promisify } from "node:util";
import { generate, parser } from "mqtt-packet";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { runConnect } from "./load/connect.ts";
import { Histogram } from "./load/histogram.ts";
import {
  connectOptions,
  LoadError,
  type PubsubOptions,
  parsePubsub,
  pubsubOptions,
} from "./load/options.ts";
import { runPubsub } from "./load/pubsub.ts";
import { SEEN, SequenceTrack } from "./load/track.ts";
import { type Peer, probePeer, startPeer } from "./peers.ts";
import { repositoryRoot } from "./process.ts";

/** Says loudly that something is missing; under REQUIRE_SERVICES=1 that is a failure. */
function has(found: boolean, missing: string): boolean {
  if (found) return true;
  if (process.env.REQUIRE_SERVICES === "1") throw new Error(`required by this test: ${missing}`);
  console.warn(`SKIPPED: ${missing}`);
  return false;
}

const probe = probePeer("mosquitto");
const hasMosquitto = has("version" in probe, "missing" in probe ? probe.missing : "");
const compiled = join(repositoryRoot(), "dist/test/bench/load/main.js");
const hasCompiled = has(existsSync(compiled), `${compiled}; run npm run build`);

/** In this thread, so that the tests need no compiled worker. */
const IN_THREAD = { threads: 0, drain: 1, strictOrder: 1 } as const;

describe.skipIf(!hasMosquitto)("load generator against Mosquitto", () => {
  let peer: Peer;
  beforeAll(async () => {
    peer = await startPeer("mosquitto");
  });
  afterAll(() => peer.stop());

  const load = (given: Partial<PubsubOptions>) =>
    runPubsub(pubsubOptions({ ...IN_THREAD, port: peer.port, pid: peer.pid, ...given }));

  const patterns = [
    { pattern: "pairs", pubs: 3, subs: 3, fan: 1 },
    { pattern: "fanin", pubs: 5, subs: 2, fan: 2 },
    { pattern: "fanout", pubs: 2, subs: 4, fan: 4 },
    { pattern: "shared", pubs: 4, subs: 3, fan: 1 },
  ];
  for (const { fan, ...shape } of patterns) {
    for (const qos of [0, 1, 2]) {
      for (const version of [4, 5]) {
        it(`counts deliveries of ${shape.pattern} at QoS ${qos}, version ${version}`, async () => {
          const messages = 1001; // does not divide by the publishers
          const result = await load({ ...shape, qos, version, messages, verify: 1 });
          expect(result).toMatchObject({
            sent: messages,
            expected: messages * fan,
            received: messages * fan,
            lost: 0,
            dups: 0,
            misordered: 0,
            misrouted: 0,
            bad: 0,
            odd_acks: 0,
            disconnects: 0,
            ok: true,
          });
        });
      }
    }
  }

  it("keeps to a rate and ends after the duration", async () => {
    const result = await load({ rate: 500, duration: 1, messages: 100_000, qos: 1 });
    expect(result.ok).toBe(true);
    expect(result.sent).toBeGreaterThan(400);
    expect(result.sent).toBeLessThan(600);
  });

  it("sends big messages in pieces of the socket and compares them whole", async () => {
    const result = await load({ size: 300_000, messages: 40, verify: 1, inflightTotal: 20 });
    expect(result).toMatchObject({ received: 40, bad: 0, ok: true });
  });

  it("runs with persistent sessions", async () => {
    const result = await load({ clean: 0, qos: 1, messages: 500, pubs: 2, subs: 2 });
    expect(result).toMatchObject({ received: 500, ok: true });
  });

  it("reads the broker's memory", async () => {
    const result = await load({ messages: 100 });
    expect(result.broker_rss_kb).toBeGreaterThan(1000);
  });

  it("connects many clients and counts them", async () => {
    const options = connectOptions({ port: peer.port, pid: peer.pid, count: 300, subscribe: 1 });
    const result = await runConnect(options);
    expect(result).toMatchObject({ up: 300, failed: 0, drops: 0, reasons: {}, ok: true });
    expect(result.connect_rate).toBeGreaterThan(0);
  });

  it.skipIf(!hasCompiled)("gives the same verdict from worker threads", async () => {
    const args = `pubsub --port ${peer.port} --pattern fanin --pubs 4 --subs 4 --qos 1
      --messages 2000 --threads 3 --strict-order 1 --json`;
    const { stdout } = await promisify(execFile)(process.execPath, [
      compiled,
      ...args.split(/\s+/),
    ]);
    const result = JSON.parse(stdout.trim().split("\n").pop() ?? "");
    expect(result).toMatchObject({ sent: 2000, received: 8000, lost: 0, ok: true });
  });
});

/** What a stub does with message number n of a subscriber: the packets to send now. */
type Fault = (message: Publish, n: number) => Publish[];
interface Publish {
  readonly topic: string;
  readonly payload: Buffer;
}

const held: Publish[] = [];
const FAULTS = {
  none: (message) => [message],
  drop: (message, n) => (n % 100 === 50 ? [] : [message]),
  repeat: (message, n) => (n % 100 === 50 ? [message, message] : [message]),
  swap: (message, n) => {
    if (n % 100 === 50) {
      held.push(message);
      return [];
    }
    return [message, ...held.splice(0)];
  },
  misroute: (message, n) => (n === 50 ? [{ ...message, topic: "bench/999" }] : [message]),
  damage: (message, n) => {
    const payload = Buffer.from(message.payload);
    payload[40] = 0;
    return [n === 50 ? { ...message, payload } : message];
  },
  shorten: (message, n) => [
    n === 50 ? { ...message, payload: message.payload.subarray(0, 30) } : message,
  ],
} satisfies Record<string, Fault>;

/** A QoS 0 broker of exact topics that applies a fault to what it delivers. */
async function withStub(
  fault: Fault,
  use: (port: number) => Promise<void>,
  onMessage: (socket: Socket) => void = () => {},
): Promise<void> {
  const subscribers = new Map<string, Socket>();
  const sockets = new Set<Socket>();
  let delivered = 0;
  const server: Server = createServer((socket) => {
    sockets.add(socket);
    const decoder = parser({ protocolVersion: 4 });
    decoder.on("packet", (packet) => {
      if (packet.cmd === "connect")
        socket.write(generate({ cmd: "connack", returnCode: 0, sessionPresent: false }));
      if (packet.cmd === "subscribe") {
        for (const { topic } of packet.subscriptions) subscribers.set(topic, socket);
        const granted = packet.subscriptions.map(() => 0);
        const { messageId = 1 } = packet;
        socket.write(generate({ cmd: "suback", messageId, granted }));
      }
      if (packet.cmd === "publish") {
        const message = { topic: packet.topic, payload: Buffer.from(packet.payload) };
        const to = subscribers.get(packet.topic);
        for (const out of fault(message, delivered++))
          to?.write(generate({ cmd: "publish", qos: 0, dup: false, retain: false, ...out }));
        onMessage(socket);
      }
      if (packet.cmd === "disconnect") socket.end();
    });
    socket.on("data", (chunk) => decoder.parse(chunk));
    socket.on("error", () => socket.destroy());
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  try {
    await use(address !== null && typeof address === "object" ? address.port : 0);
  } finally {
    for (const socket of sockets) socket.destroy();
    await new Promise((resolve) => server.close(resolve));
  }
}

describe("load generator against a stub that misbehaves", () => {
  const cases: { fault: keyof typeof FAULTS; finds: object }[] = [
    { fault: "none", finds: { lost: 0, dups: 0, misordered: 0, bad: 0, ok: true } },
    { fault: "drop", finds: { lost: 5, dups: 0, misordered: 0, ok: false } },
    { fault: "repeat", finds: { lost: 0, dups: 5, misordered: 0, ok: false } },
    { fault: "swap", finds: { lost: 0, dups: 0, misordered: 5, ok: false } },
    { fault: "misroute", finds: { misrouted: 1, lost: 1, ok: false } },
    { fault: "damage", finds: { bad: 1, lost: 1, ok: false } },
    { fault: "shorten", finds: { bad: 1, lost: 1, ok: false } },
  ];
  for (const { fault, finds } of cases) {
    it(`reports what ${fault} does`, async () => {
      await withStub(FAULTS[fault], async (port) => {
        const options = { ...IN_THREAD, port, messages: 500, coalesce: 0, verify: 1 };
        expect(await runPubsub(pubsubOptions(options))).toMatchObject(finds);
      });
    });
  }

  it("takes misordering as a fault only when it is asked to", async () => {
    await withStub(FAULTS.swap, async (port) => {
      const options = { ...IN_THREAD, port, messages: 500, coalesce: 0, strictOrder: 0 };
      expect(await runPubsub(pubsubOptions(options))).toMatchObject({ misordered: 5, ok: true });
    });
  });

  it("goes on after a loss that fills the bound of what is in flight", async () => {
    await withStub(FAULTS.drop, async (port) => {
      const options = { ...IN_THREAD, port, messages: 200, coalesce: 0, inflightTotal: 1 };
      const result = await runPubsub(pubsubOptions(options));
      expect(result).toMatchObject({ sent: 200, lost: 2, ok: false });
      expect(result.stalls).toBeGreaterThan(0);
    });
  });

  it("fails the run when the broker cuts a connection", async () => {
    let messages = 0;
    const cut = (socket: Socket) => {
      if (++messages === 100) socket.destroy();
    };
    const use = async (port: number) => {
      const options = { ...IN_THREAD, port, messages: 100_000, coalesce: 0 };
      const result = await runPubsub(pubsubOptions(options));
      expect(result).toMatchObject({ disconnects: 1, ok: false });
      expect(result.disconnect_reason).not.toBe("");
    };
    await withStub(FAULTS.none, use, cut);
  });

  it("says so when nobody listens on the port", async () => {
    await expect(runPubsub(pubsubOptions({ ...IN_THREAD, port: 1 }))).rejects.toThrow(LoadError);
  });
});

describe("load generator options", () => {
  it("refuse any address outside the loopback network", () => {
    for (const host of ["10.0.0.1", "example.com", "::1", "0.0.0.0"])
      expect(() => parsePubsub(["--host", host])).toThrow(/127\.0\.0\.0\/8/);
    expect(parsePubsub(["--host", "localhost"]).host).toBe("127.0.0.1");
  });

  it("refuse what is unknown, out of range or does not fit together", () => {
    expect(() => parsePubsub(["--colour", "red"])).toThrow(/unknown option/);
    expect(() => parsePubsub(["--qos", "3"])).toThrow(/0\.\.2/);
    expect(() => parsePubsub(["--messages", "1e3"])).toThrow(/must be/);
    expect(() => parsePubsub(["--pubs"])).toThrow(/needs a value/);
    expect(() => parsePubsub(["--pubs", "2"])).toThrow(/as many/);
    expect(() => parsePubsub(["--topic-prefix", "a/#"])).toThrow(/topic-prefix/);
  });
});

describe("sequence track", () => {
  it("tells late and repeated numbers from those in order", () => {
    const track = new SequenceTrack(2);
    const seen = [0, 1, 5, 5, 3, 3, 1, 6, 200, 100].map((n) => track.record(1, n));
    const { inOrder, late, already } = SEEN;
    const expected = [inOrder, inOrder, inOrder, already, late, already, already, inOrder];
    expect(seen).toEqual([...expected, inOrder, late]);
    expect(track.record(0, 0)).toBe(inOrder);
  });
});

describe("histogram", () => {
  it("finds quantiles to within two percent and keeps the largest", () => {
    const histogram = new Histogram();
    for (let us = 1; us <= 100_000; us++) histogram.add(us);
    const { p50, p99, max } = histogram.quantiles();
    expect(Math.abs(p50 / 50_000 - 1)).toBeLessThan(0.02);
    expect(Math.abs(p99 / 99_000 - 1)).toBeLessThan(0.02);
    expect(max).toBe(100_000);
  });
});
