import { expect, test } from "vitest";
import { waitFor } from "../support/broker.ts";
import { hourglass } from "../support/hourglass.ts";
import { startProcess } from "../support/process.ts";
import { seededRandom, seedFrom } from "../support/random.ts";
import { connectClient } from "../support/raw-client.ts";
import { StubbornPublisher, StubbornSubscriber } from "./stubborn-clients.ts";

/**
 * `kill -9` at random moments: what was acknowledged is delivered, QoS 2 exactly once, in order, and
 * sessions, subscriptions and retained messages are still there. KILL9_ROUNDS and KILL9_SEED in the
 * environment change the number of kills and repeat a run.
 */
const ROUNDS = Number(process.env.KILL9_ROUNDS ?? 6);
/** Messages acknowledged between two kills. */
const RUN = { shortest: 20, longest: 3000 };
const DRAIN_MS = 20_000;

/** Numbers of a list at their first appearance. */
function firsts(list: readonly number[]): number[] {
  return [...new Set(list)];
}

test(`kill -9, ${ROUNDS} rounds: nothing acknowledged is lost, QoS 2 is not repeated, order is kept`, {
  timeout: 60_000 + ROUNDS * 20_000,
}, async () => {
  const random = seededRandom(seedFrom("KILL9_SEED"));
  console.log(`kill9: KILL9_SEED=${random.seed}`);
  const broker = await startProcess({
    settings: { max_online_messages: "-1", max_offline_messages: "-1" },
  });
  const { port } = broker;
  const online = [
    new StubbornSubscriber(port, 4, "online-4", ["kill/#"]),
    new StubbornSubscriber(port, 5, "online-5", ["kill/#"]),
  ];
  const offline = [
    new StubbornSubscriber(port, 4, "offline-4", ["kill/#"]),
    new StubbornSubscriber(port, 5, "offline-5", ["kill/+/2", "kill/+/1"]),
  ];
  const subscribers = [...online, ...offline];
  for (const subscriber of subscribers) subscriber.start();
  await waitFor("all have subscribed", () => subscribers.every((one) => one.hasSubscribed));
  for (const subscriber of offline) await subscriber.stop();

  const publishers = ([4, 5] as const).flatMap((version) =>
    ([1, 2] as const).map(
      (qos) =>
        new StubbornPublisher(port, version, {
          clientId: `publisher-${version}-${qos}`,
          topic: `kill/v${version}/${qos}`,
          qos,
        }),
    ),
  );
  const retainer = new StubbornPublisher(port, 4, {
    clientId: "retainer",
    topic: "kept/last",
    qos: 1,
    retain: true,
  });
  for (const publisher of [...publishers, retainer]) publisher.start();
  const acknowledged = (): number =>
    publishers.reduce((sum, one) => sum + one.acknowledged.size, 0);

  /** Adds to an error where everybody stands. */
  function fail(error: unknown): never {
    const states = [...publishers, ...subscribers].map((one) => `\n  ${one}`).join("");
    throw new Error(`${error}${states}\n${broker.output.slice(-2000)}`);
  }

  for (let round = 1; round <= ROUNDS; round++) {
    const run = random.between(RUN.shortest, RUN.longest);
    const before = publishers.map((one) => one.acknowledged.size);
    const goal = acknowledged() + run;
    await waitFor(`round ${round}: ${run} messages`, () => acknowledged() >= goal, 20_000);
    await broker.kill();
    // Each second time the offline ones come back for a moment and are cut off with it.
    if (round % 2 === 0) for (const subscriber of offline) subscriber.start();
    await broker.start();
    await waitFor(
      `round ${round}: every publisher goes on`,
      () => publishers.every((one, i) => one.acknowledged.size > (before[i] ?? 0)),
      20_000,
    ).catch(fail);
    if (round % 2 === 0) for (const subscriber of offline) await subscriber.stop();
  }

  for (const publisher of [...publishers, retainer]) publisher.finish();
  await waitFor(
    "everything is acknowledged",
    () => [...publishers, retainer].every((one) => one.isDone),
    DRAIN_MS,
  );
  for (const subscriber of offline) subscriber.start();
  for (const { topic, acknowledged } of publishers) {
    const total = acknowledged.size;
    for (const { clientId, got } of subscribers) {
      await waitFor(
        `${clientId} has all ${total} of ${topic} (has ${new Set(got.get(topic)).size})`,
        () => new Set(got.get(topic)).size >= total,
        DRAIN_MS,
      ).catch(fail);
    }
  }
  // Behind everything else: what came until then is all that comes.
  const last = await connectClient(port, 4, { clientId: "last" });
  await last.published({ topic: "kill/end/2", payload: "1", qos: 2 });
  for (const { clientId, got } of subscribers) {
    await waitFor(`the last message at ${clientId}`, () => got.has("kill/end/2"), DRAIN_MS);
  }

  for (const { topic, qos, acknowledged, lastSent } of publishers) {
    console.log(`kill9: ${topic} ${acknowledged.size} messages`);
    expect(acknowledged.size, `${topic}: every message ends acknowledged`).toBe(lastSent);
    const all = Array.from({ length: lastSent }, (_, i) => i + 1);
    for (const { clientId, got } of subscribers) {
      const list = got.get(topic) ?? [];
      // Complete and in order; QoS 2 without repetition.
      const seen = qos === 2 ? list : firsts(list);
      const wrongAt = all.findIndex((number, i) => seen[i] !== number);
      const around = seen.slice(Math.max(0, wrongAt - 3), wrongAt + 4);
      expect(wrongAt, `${clientId}, ${topic}: ${around} at position ${wrongAt}`).toBe(-1);
      expect(seen, `${clientId}, ${topic}`).toHaveLength(lastSent);
    }
  }
  for (const { clientId, sessionsLost } of [...subscribers, ...publishers]) {
    expect(sessionsLost, `${clientId} finds its session again`).toBe(0);
  }
  // The retained message: what the last acknowledged publish made it.
  await broker.kill();
  await broker.start();
  const reader = await connectClient(port, 4, { clientId: "reader" });
  await reader.subscribed("kept/#", { qos: 1 });
  await reader.expect("publish", {
    topic: "kept/last",
    retain: true,
    payload: String(retainer.lastSent),
  });
  for (const one of [...subscribers, ...publishers, retainer]) await one.stop();
});

test("kill -9 with 20 messages in flight: all 20 come again, same ids, DUP", async () => {
  const broker = await startProcess();
  const options = { clientId: "s", clean: false };
  const first = await connectClient(broker.port, 4, options);
  await first.subscribed("t", { qos: 2 });
  const publisher = await connectClient(broker.port, 4, { clientId: "p" });
  for (let i = 0; i < 20; i++) {
    await publisher.published({ topic: "t", payload: String(i), qos: (i % 2) + 1 });
  }
  const sent = [];
  for (let i = 0; i < 20; i++) sent.push(await first.expect("publish", { payload: String(i) }));
  await broker.kill();
  await broker.start();
  const second = await connectClient(broker.port, 4, options);
  expect(second.connack?.sessionPresent).toBe(true);
  for (const { packetId = 0, payload = "", qos = 0 } of sent) {
    await second.expect("publish", { packetId, payload, qos, dup: true });
  }
  await second.expectNothing();
});

test("kill -9 of a client's broker publishes its will and expires its session in time", async () => {
  const broker = await startProcess();
  const watcher = await connectClient(broker.port, 4, { clientId: "w", clean: false });
  await watcher.subscribed("will/#", { qos: 1 });
  await connectClient(broker.port, 5, {
    clientId: "c",
    clean: false,
    properties: { sessionExpiryInterval: 2 },
    will: { topic: "will/c", payload: "gone", qos: 1 },
  });
  await broker.kill();
  await broker.start();
  const back = await connectClient(broker.port, 4, { clientId: "w", clean: false });
  expect(back.connack?.sessionPresent).toBe(true);
  await back.delivered({ topic: "will/c", payload: "gone" });
  await hourglass(3, broker.port);
  const late = await connectClient(broker.port, 5, {
    clientId: "c",
    clean: false,
    properties: { sessionExpiryInterval: 2 },
  });
  expect(late.connack?.sessionPresent).toBe(false);
});
