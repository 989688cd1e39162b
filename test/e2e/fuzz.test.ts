import { expect, test } from "vitest";
import { corpus, mutate } from "../support/mutate.ts";
import { type BrokerProcess, startProcess } from "../support/process.ts";
import { type Random, seededRandom, seedFrom } from "../support/random.ts";
import {
  connectClient,
  encodeConnect,
  openClient,
  type RawClient,
  type Version,
} from "../support/raw-client.ts";

/**
 * Damaged packets: each connection gets some until the broker closes it. Whatever they do to their own
 * connection, the broker stays healthy. FUZZ_CASES and FUZZ_SEED in the environment.
 */
const CASES = Number(process.env.FUZZ_CASES ?? 5000);
const PACKETS_PER_CONNECTION = 3;
const CONNECTIONS_AT_ONCE = 8;
const BATCHES_PER_CHECK = 200;
/** A connection that neither closes nor answers was fed half a packet. */
const ANSWER_MS = 20;
const MEMORY_GROWTH_MAX_BYTES = 100_000_000;

test(`${CASES} damaged packets per version leave the broker healthy`, {
  timeout: 60_000 + CASES * 10,
}, async () => {
  const seed = seedFrom("FUZZ_SEED");
  console.log(`fuzz: FUZZ_SEED=${seed}`);
  const random = seededRandom(seed);
  const broker = await startProcess({
    settings: {
      mqtt_connect_timeout: "1000",
      max_message_size: "100000",
      topic_alias_max_client: "10",
      receive_max_broker: "50",
    },
  });
  const witness = await connectClient(broker.port, 5, { clientId: "witness" });
  await witness.subscribed("witness", { qos: 2 });
  const memoryBefore = broker.rssBytes();

  for (const version of [4, 5, 3] as const) {
    // All chosen beforehand: the order in which connections end must not matter to the choice.
    const batches = choose(version, random);
    let next = 0;
    const worker = async (until: number) => {
      for (let index = next++; index < until; index = next++) {
        await feed(broker, version, batches[index] ?? [], index);
      }
    };
    for (let until = 0; until < batches.length; until += BATCHES_PER_CHECK) {
      next = until;
      const end = Math.min(until + BATCHES_PER_CHECK, batches.length);
      await Promise.all(Array.from({ length: CONNECTIONS_AT_ONCE }, () => worker(end)));
      await checkHealth(broker, witness);
    }
  }
  expect(broker.rssBytes() - memoryBefore).toBeLessThan(MEMORY_GROWTH_MAX_BYTES);
  // Everybody has left but the witness.
  await expect
    .poll(
      async () => {
        const { socket_open = 0, socket_close = 0 } = await broker.metrics();
        return socket_open - socket_close;
      },
      { timeout: 5000 },
    )
    .toBe(1);
});

test("every prefix and every single changed byte of a CONNECT", { timeout: 60_000 }, async () => {
  const broker = await startProcess({ settings: { mqtt_connect_timeout: "1000" } });
  const witness = await connectClient(broker.port, 5, { clientId: "witness" });
  await witness.subscribed("witness", { qos: 2 });
  for (const version of [3, 4, 5] as const) {
    const whole = encodeConnect(version, {
      clientId: "fuzz",
      username: "u",
      password: "p",
      will: { topic: "will", payload: "w" },
      ...(version === 5 ? { properties: { sessionExpiryInterval: 0, receiveMaximum: 9 } } : {}),
    });
    for (let at = 0; at < whole.length; at++) {
      const changes = [0x00, 0x7f, 0x80, 0xff].map((value) => {
        const changed = Buffer.from(whole);
        changed[at] = value;
        return changed;
      });
      await Promise.all(changes.map((data) => offer(broker, version, data)));
    }
    await checkHealth(broker, witness);
  }
});

/** Damaged packets for each connection, and now and then where they are cut in two. */
function choose(version: Version, random: Random): Buffer[][] {
  const packets = corpus(version);
  const pieces = () => {
    const data = mutate(random.pick(packets), packets, random);
    const at = random.between(0, 3) === 0 ? random.between(0, data.length) : 0;
    return [data.subarray(0, at), data.subarray(at)];
  };
  return Array.from({ length: CASES / PACKETS_PER_CONNECTION }, () =>
    Array.from({ length: PACKETS_PER_CONNECTION }, pieces).flat(),
  );
}

/** Connects with a good CONNECT and sends one piece after the other until the broker closes. */
async function feed(
  broker: BrokerProcess,
  version: Version,
  pieces: readonly Buffer[],
  index: number,
): Promise<void> {
  const client = await openClient(broker.port, version);
  // Few names, so that they also take over each other's sessions.
  client.connect({ clientId: `fuzz-${index % 20}`, clean: index % 3 === 0 });
  for (const data of pieces) {
    if (client.isClosed) break;
    client.send(data);
    await new Promise((resolve) => setImmediate(resolve));
  }
  client.pingreq();
  await settled(client);
  wellFormed(client, pieces);
}

/** Sends one thing instead of a CONNECT. */
async function offer(broker: BrokerProcess, version: Version, data: Buffer): Promise<void> {
  const client = await openClient(broker.port, version);
  client.send(data);
  await settled(client);
  client.cut();
}

/** Waits until the broker closes, or has nothing more to say. */
async function settled(client: RawClient): Promise<void> {
  try {
    for (;;) await client.next(ANSWER_MS);
  } catch {
    // Closed, silent, or bytes that are no packet: wellFormed looks.
  }
}

/** What the broker sent to a damaged client are still packets. */
function wellFormed(client: RawClient, packets: readonly Buffer[]): void {
  const shown = packets.map((data) => data.toString("hex").slice(0, 200)).join("\n  ");
  expect(client.fault?.message, `version ${client.version}, after\n  ${shown}`).toBeUndefined();
  client.cut();
}

async function checkHealth(broker: BrokerProcess, witness: RawClient): Promise<void> {
  // Faults of clients are no errors; what the broker logs as one is a fault of ours.
  expect(broker.output).not.toMatch(/ error |internal/);
  const publisher = await connectClient(broker.port, 4, { clientId: "healthy" });
  for (const qos of [0, 1, 2]) {
    await publisher.published({ topic: "witness", payload: String(qos), qos });
    await witness.delivered({ payload: String(qos), qos });
  }
  await publisher.disconnected();
}
