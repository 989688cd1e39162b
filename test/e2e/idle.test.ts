import { expect, test } from "vitest";
import { waitFor } from "../support/broker.ts";
import { startProcess } from "../support/process.ts";
import { connectClient, encodePublish, openClient, type RawClient } from "../support/raw-client.ts";

/** Clients that do nothing: some that never read, many that only stay connected. */

const MEGABYTE = 1024 * 1024;

test("a subscriber that never reads: memory bounded, drops counted, others unaffected", {
  timeout: 120_000,
}, async () => {
  const payloadBytes = 10_000;
  const count = 30_000;
  const broker = await startProcess();
  const slow = [
    await connectClient(broker.port, 4, { clientId: "slow-0" }),
    await connectClient(broker.port, 5, { clientId: "slow-1" }),
  ];
  for (const [qos, client] of slow.entries()) {
    await client.subscribed("flood", { qos });
    client.pause();
  }
  const other = await connectClient(broker.port, 4, { clientId: "other" });
  await other.subscribed("quiet", { qos: 1 });
  const publisher = await connectClient(broker.port, 4, { clientId: "p" });
  const asker = await connectClient(broker.port, 4, { clientId: "asker" });
  const before = broker.rssBytes();
  let highest = before;
  let slowestMs = 0;

  const payload = Buffer.alloc(payloadBytes, 0x78);
  for (let sent = 0; sent < count; sent += 100) {
    for (let i = 1; i <= 100; i++) {
      publisher.publish({ topic: "flood", payload, qos: 1, packetId: i });
    }
    for (let i = 1; i <= 100; i++) await publisher.expect("puback", { packetId: i }, 20_000);
    publisher.forget();
    if (sent % 3000 === 0) {
      const started = performance.now();
      await asker.published({ topic: "quiet", payload: String(sent), qos: 1 });
      await other.delivered({ payload: String(sent) });
      slowestMs = Math.max(slowestMs, performance.now() - started);
      highest = Math.max(highest, broker.rssBytes());
    }
  }
  const grownMb = (highest - before) / MEGABYTE;
  console.log(
    `slow readers: ${grownMb.toFixed(0)} MB more, slowest other ${slowestMs.toFixed(0)} ms`,
  );
  // 300 MB went in. Two queues of max_online_messages (1000) and two socket buffers may stay.
  expect(grownMb).toBeLessThan(120);
  expect(slowestMs).toBeLessThan(1000);
  const dropped = (await broker.metrics()).queue_message_drop ?? 0;
  expect(dropped).toBeGreaterThan(2 * (count - 4000));

  // When they read again they get what was kept, in order, and what is new.
  for (const [qos, client] of slow.entries()) {
    client.resume();
    const got = await drain(client);
    expect(got).toBeGreaterThan(900);
    expect(got + dropped / 2).toBeGreaterThan(count * 0.9);
    await publisher.published({ topic: "flood", payload: "end", qos: 1 });
    await client.delivered({ payload: "end", qos });
  }
});

/** Takes and acknowledges everything that is there; returns how many messages it was. */
async function drain(client: RawClient): Promise<number> {
  let got = 0;
  for (;;) {
    const packet = await client.next(700).catch(() => undefined);
    if (packet === undefined) return got;
    got++;
    if (packet.qos === 1) client.puback(packet.packetId);
    if (got % 1000 === 0) client.forget();
  }
}

const IDLE = process.env.SCALE === "1" ? 10_000 : 2000;

test(`${IDLE} idle connections`, { timeout: 180_000 }, async () => {
  const broker = await startProcess({
    settings: { "listener.tcp.default.max_connections": "infinity" },
  });
  const witness = await connectClient(broker.port, 5, { clientId: "witness" });
  await witness.subscribed("idle/#", { qos: 1 });
  const before = broker.rssBytes();
  const clients: RawClient[] = [];
  const started = performance.now();
  let next = 0;
  await Promise.all(
    Array.from({ length: 50 }, async () => {
      for (let index = next++; index < IDLE; index = next++) {
        const client = await openClient(broker.port, index % 2 === 0 ? 4 : 5);
        await client.connected({ clientId: `idle-${index}`, keepAlive: 300 });
        await client.subscribed(`idle/${index}`);
        clients.push(client);
      }
    }),
  );
  const seconds = (performance.now() - started) / 1000;
  const bytesEach = (broker.rssBytes() - before) / IDLE;
  console.log(`${IDLE} idle: ${seconds.toFixed(1)} s, ${(bytesEach / 1024).toFixed(1)} KB each`);
  expect(bytesEach).toBeLessThan(40 * 1024);
  // The broker still serves: one message to each, all back to the witness.
  const publisher = await connectClient(broker.port, 4, { clientId: "p" });
  const packets = clients.map((_, index) =>
    encodePublish(4, { topic: `idle/${index}`, payload: "x" }),
  );
  publisher.sendTogether(...packets);
  await publisher.ping();
  for (const client of clients) await client.expect("publish", { payload: "x" }, 20_000);
  for (let i = 0; i < IDLE; i++) await witness.expect("publish", {}, 20_000);
  // All leave at once.
  for (const client of clients) client.cut();
  await waitFor("all are gone", async () => (await broker.metrics()).queue_processes === 2, 20_000);
  await publisher.published({ topic: "idle/after", payload: "end", qos: 1 });
  await witness.delivered({ payload: "end" });
});
