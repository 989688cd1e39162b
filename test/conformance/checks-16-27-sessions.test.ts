import { describe, expect, test } from "vitest";
import type { Broker } from "../../core/broker-types.ts";
import type { HookName } from "../../core/hooks/types.ts";
import { startBroker, tempDir, waitFor, waitGone, waitOffline } from "../support/broker.ts";
import { hourglass } from "../support/hourglass.ts";
import { pluginWith, recordingPlugin } from "../support/plugins.ts";
import {
  type ConnectOptions,
  connectClient,
  openClient,
  type Packet,
  type RawClient,
  type Version,
} from "../support/raw-client.ts";

/** Checks M-16 to M-27: sessions, expiry, takeover, ends by the administrator. */

const VERSIONS: readonly Version[] = [3, 4, 5];
/** 0xFFFFFFFF: the session does not expire. MQTT 5.0, 3.1.2.11.2 */
const NEVER = 0xffff_ffff;

/** CONNECT options of a client whose state stays. */
function persistent(version: Version, clientId: string, expiryS = 3600): ConnectOptions {
  return version === 5
    ? { clientId, clean: false, properties: { sessionExpiryInterval: expiryS } }
    : { clientId, clean: false };
}

async function leave(broker: Broker, client: RawClient, clientId: string): Promise<void> {
  client.cut();
  await waitOffline(broker, clientId);
}

/** Connects, reads Session Present, cuts the connection again. */
async function sessionPresent(
  broker: Broker,
  version: Version,
  options: ConnectOptions,
): Promise<boolean> {
  const client = await connectClient(broker, version, options);
  await leave(broker, client, String(options.clientId));
  return client.connack?.sessionPresent === true;
}

function texts(packets: readonly Packet[]): string[] {
  return packets.map((packet) => packet.payload?.toString() ?? "");
}

describe("M-16 Session Present", () => {
  test.each(VERSIONS)("M-16 v%i clean 0: connect, close, connect → 0 then 1", async (version) => {
    const broker = await startBroker();
    const options = persistent(version, "c");
    expect(await sessionPresent(broker, version, options)).toBe(false);
    // MQTT 3.1 has no such flag; VerneMQ and we send it all the same.
    expect(await sessionPresent(broker, version, options)).toBe(true);
    // By DISCONNECT as well as by a cut.
    const third = await connectClient(broker, version, options);
    await third.disconnected();
    expect(await sessionPresent(broker, version, options)).toBe(true);
  });

  test.each([3, 4] as const)("M-16 v%i clean 1: no state is kept", async (version) => {
    const broker = await startBroker();
    const client = await connectClient(broker, version, { clientId: "c" });
    await client.subscribed("t", { qos: 1 });
    client.cut();
    await waitGone(broker, "c");
    expect(await sessionPresent(broker, version, persistent(version, "c"))).toBe(false);
    const back = await connectClient(broker, version, persistent(version, "c"));
    await back.published({ topic: "t", qos: 1 });
    await back.expectNothing();
  });
});

describe("M-17 and M-18 stored messages", () => {
  test.each(VERSIONS)("M-17 v%i a message for an offline client waits for it", async (version) => {
    const broker = await startBroker();
    const options = persistent(version, "s");
    const first = await connectClient(broker, version, options);
    await first.subscribed("t", { qos: 1 });
    await first.disconnected();
    const publisher = await connectClient(broker, 4, { clientId: "p" });
    await publisher.published({ topic: "t", payload: "kept", qos: 1 });
    const shown = broker.sessions().find((session) => session.client_id === "s");
    expect(shown).toMatchObject({ is_online: false, queue_size: 1 });
    const second = await connectClient(broker, version, options);
    expect(second.connack?.sessionPresent).toBe(true);
    await second.expect("publish", { packetId: 1, dup: false, qos: 1, payload: "kept" });
    second.puback(1);
    await second.expectNothing();
  });

  test.each(VERSIONS)("M-18 v%i reconnect with clean 1: nothing is left of it", async (version) => {
    const broker = await startBroker();
    const first = await connectClient(broker, version, persistent(version, "s"));
    await first.subscribed("t", { qos: 1 });
    await leave(broker, first, "s");
    const publisher = await connectClient(broker, 4, { clientId: "p" });
    for (let i = 0; i < 3; i++) await publisher.published({ topic: "t", qos: 1 });
    const clean = await connectClient(broker, version, { clientId: "s" });
    expect(clean.connack?.sessionPresent).toBe(false);
    await publisher.published({ topic: "t", qos: 1 });
    // Neither messages nor subscriptions.
    await clean.expectNothing();
    await clean.disconnected();
    await publisher.disconnected();
    await waitFor("no session is left", () => broker.sessions().length === 0);
    const metrics = broker.metrics();
    expect(metrics.queue_processes).toBe(0);
    expect(metrics.router_subscriptions).toBe(0);
    expect(metrics.queue_setup).toBe(metrics.queue_teardown);
  });

  test("M-18 neither is it in the store after a restart", async () => {
    const dataDir = tempDir();
    const broker = await startBroker({}, [], { dataDir });
    const first = await connectClient(broker, 4, persistent(4, "s"));
    await first.subscribed("t", { qos: 1 });
    await leave(broker, first, "s");
    const publisher = await connectClient(broker, 4, { clientId: "p" });
    await publisher.published({ topic: "t", qos: 1 });
    const clean = await connectClient(broker, 4, { clientId: "s" });
    await clean.disconnected();
    await broker.close();
    const again = await startBroker({}, [], { dataDir });
    expect(again.sessions()).toEqual([]);
    const back = await connectClient(again, 4, persistent(4, "s"));
    expect(back.connack?.sessionPresent).toBe(false);
    await back.expectNothing();
  });
});

describe("M-19 to M-21 v5 session expiry", () => {
  test("M-19 expiry 1 s: at once → SP 1, after 1.1 s → SP 0", async () => {
    const broker = await startBroker();
    const options = persistent(5, "c", 1);
    expect(await sessionPresent(broker, 5, options)).toBe(false);
    expect(await sessionPresent(broker, 5, options)).toBe(true);
    const started = performance.now();
    await waitGone(broker, "c", 2500);
    expect(performance.now() - started).toBeGreaterThan(800);
    expect(await sessionPresent(broker, 5, options)).toBe(false);
  });

  test("M-19 (4.3) absent and 0 keep nothing, more keeps, 0xFFFFFFFF never expires", async () => {
    // Setting it must not matter to v5 clients.
    const broker = await startBroker({ persistent_client_expiration: "1s" });
    const absent: ConnectOptions = { clientId: "absent", clean: false };
    const zero = persistent(5, "zero", 0);
    for (const options of [absent, zero]) {
      expect(await sessionPresent(broker, 5, options)).toBe(false);
      await waitGone(broker, String(options.clientId));
      expect(await sessionPresent(broker, 5, options)).toBe(false);
    }
    for (const expiry of [3600, NEVER]) {
      expect(await sessionPresent(broker, 5, persistent(5, `e${expiry}`, expiry))).toBe(false);
    }
    await hourglass(1, broker);
    for (const expiry of [3600, NEVER]) {
      expect(await sessionPresent(broker, 5, persistent(5, `e${expiry}`, expiry))).toBe(true);
    }
  });

  test("M-19 (4.3) Clean Start with an expiry starts empty and is kept then", async () => {
    const broker = await startBroker();
    const options = persistent(5, "c");
    const first = await connectClient(broker, 5, options);
    await first.subscribed("old", { qos: 1 });
    await leave(broker, first, "c");
    const second = await connectClient(broker, 5, { ...options, clean: true });
    expect(second.connack?.sessionPresent).toBe(false);
    await second.subscribed("new", { qos: 1 });
    await leave(broker, second, "c");
    const publisher = await connectClient(broker, 5, { clientId: "p" });
    await publisher.published({ topic: "old", payload: "old", qos: 1 });
    await publisher.published({ topic: "new", payload: "new", qos: 1 });
    const third = await connectClient(broker, 5, options);
    expect(third.connack?.sessionPresent).toBe(true);
    await third.delivered({ payload: "new" });
    await third.expectNothing();
  });

  test("M-20 DISCONNECT with expiry 0 ends the session", async () => {
    const broker = await startBroker();
    const options = persistent(5, "c", 5);
    const client = await connectClient(broker, 5, options);
    await client.disconnected(0, { sessionExpiryInterval: 0 });
    expect(await sessionPresent(broker, 5, options)).toBe(false);
  });

  test("M-20 (4.3) DISCONNECT may change it; without the property the CONNECT value stays", async () => {
    const broker = await startBroker();
    const options = persistent(5, "c", 3600);
    const shorter = await connectClient(broker, 5, options);
    await shorter.disconnected(0, { sessionExpiryInterval: 1 });
    await waitGone(broker, "c", 2500);
    const longer = await connectClient(broker, 5, persistent(5, "l", 1));
    await longer.disconnected(0, { sessionExpiryInterval: NEVER });
    const same = await connectClient(broker, 5, persistent(5, "s", 1));
    await same.disconnected(0);
    await waitGone(broker, "s", 2500);
    expect(await sessionPresent(broker, 5, persistent(5, "l"))).toBe(true);
  });

  test("M-21 without expiry, DISCONNECT with expiry 100 → 0x82, closed", async () => {
    const broker = await startBroker();
    for (const connect of [{ clientId: "a" }, persistent(5, "b", 0)]) {
      const client = await connectClient(broker, 5, connect);
      client.disconnect(0, { sessionExpiryInterval: 100 });
      await client.ended(0x82);
      await waitGone(broker, String(connect.clientId));
    }
  });
});

describe("M-22 persistent_client_expiration", () => {
  test("M-22 the session, its messages and subscriptions go", async () => {
    const recorder = recordingPlugin();
    const broker = await startBroker({ persistent_client_expiration: "2s" }, [recorder.plugin]);
    const subscriber = await connectClient(broker, 4, persistent(4, "s"));
    await subscriber.subscribed("t", { qos: 1 });
    await leave(broker, subscriber, "s");
    const left = performance.now();
    const publisher = await connectClient(broker, 4, { clientId: "p" });
    for (let i = 0; i < 100; i++) await publisher.published({ topic: "t", qos: 1 });
    expect(broker.sessions().find((s) => s.client_id === "s")?.queue_size).toBe(100);
    recorder.clear();
    const expired = await recorder.wait("on_session_expired", 1, 4000);
    const elapsed = performance.now() - left;
    expect(elapsed).toBeGreaterThan(1800);
    expect(elapsed).toBeLessThan(3000);
    expect(expired.subscriber_id).toEqual({ mountpoint: "", client_id: "s" });
    expect(recorder.calls).toEqual([
      {
        hook: "on_topic_unsubscribed",
        args: { subscriber_id: expired.subscriber_id, topics: "all_topics" },
      },
      { hook: "on_session_expired", args: { subscriber_id: expired.subscriber_id } },
    ]);
    expect(broker.sessions().map((s) => s.client_id)).toEqual(["p"]);
    const metrics = broker.metrics();
    expect(metrics.queue_message_unhandled).toBe(100);
    expect(metrics.router_subscriptions).toBe(0);
    expect(await sessionPresent(broker, 4, persistent(4, "s"))).toBe(false);
  });

  test("M-22 the clock starts at each disconnect anew", async () => {
    const broker = await startBroker({ persistent_client_expiration: "1s" });
    const options = persistent(4, "s");
    for (let i = 0; i < 3; i++) {
      const client = await connectClient(broker, 4, options);
      expect(client.connack?.sessionPresent).toBe(i > 0);
      await hourglass(1);
      await leave(broker, client, "s");
    }
  });
});

test("M-23 [W] a restart does not move the deadline of v5 and 3.x sessions", async () => {
  const dataDir = tempDir();
  const settings = { persistent_client_expiration: "4s" };
  const broker = await startBroker(settings, [], { dataDir });
  const v5 = await connectClient(broker, 5, persistent(5, "v5", 4));
  const v4 = await connectClient(broker, 4, persistent(4, "v4"));
  const keeper = await connectClient(broker, 5, persistent(5, "keeper", NEVER));
  for (const client of [v5, v4, keeper]) await client.subscribed("t", { qos: 1 });
  await leave(broker, v5, "v5");
  await leave(broker, v4, "v4");
  const left = performance.now();
  await hourglass(2);
  await broker.close();
  const again = await startBroker(settings, [], { dataDir });
  expect(
    again
      .sessions()
      .map((s) => s.client_id)
      .toSorted(),
  ).toEqual(["keeper", "v4", "v5"]);
  for (const clientId of ["v5", "v4"]) await waitGone(again, clientId, 5000);
  const elapsed = performance.now() - left;
  expect(elapsed).toBeGreaterThan(3500);
  expect(elapsed).toBeLessThan(5500);
  expect(await sessionPresent(again, 5, persistent(5, "v5", 4))).toBe(false);
  expect(await sessionPresent(again, 4, persistent(4, "v4"))).toBe(false);
  expect(await sessionPresent(again, 5, persistent(5, "keeper", NEVER))).toBe(true);
});

test("M-23 [W] a session that expires while the broker is down is gone after the restart", async () => {
  const dataDir = tempDir();
  const broker = await startBroker({}, [], { dataDir });
  const client = await connectClient(broker, 5, persistent(5, "c", 1));
  await client.subscribed("t", { qos: 1 });
  await leave(broker, client, "c");
  await broker.close();
  await hourglass(1);
  const again = await startBroker({}, [], { dataDir });
  expect(await sessionPresent(again, 5, persistent(5, "c", 1))).toBe(false);
});

describe("M-24 and M-25 takeover", () => {
  test("M-24 v5: the first gets 0x8E and is closed, the second CONNACK 0x00", async () => {
    const broker = await startBroker();
    const first = await connectClient(broker, 5, { clientId: "c" });
    const second = await connectClient(broker, 5, { clientId: "c" });
    await first.expect("disconnect", { code: 0x8e });
    await first.closed();
    await second.ping();
    expect(broker.sessions()).toHaveLength(1);
  });

  test.each([3, 4] as const)("M-24 v%i: the first is just closed", async (version) => {
    const broker = await startBroker();
    const first = await connectClient(broker, version, { clientId: "c" });
    const second = await connectClient(broker, version, { clientId: "c" });
    await first.closed();
    await second.ping();
  });

  test.each([
    [3, 5],
    [5, 4],
    [4, 3],
  ] as const)("M-24 v%i is taken over by v%i with its subscriptions", async (old, young) => {
    const broker = await startBroker();
    const first = await connectClient(broker, old, persistent(old, "c"));
    await first.subscribed("t", { qos: 2 });
    const second = await connectClient(broker, young, persistent(young, "c"));
    expect(second.connack?.sessionPresent).toBe(true);
    await first.ended(0x8e);
    const publisher = await connectClient(broker, 4, { clientId: "p" });
    await publisher.published({ topic: "t", payload: "x", qos: 2 });
    await second.delivered({ payload: "x", qos: 2 });
  });

  test.each(VERSIONS)(
    "M-24 v%i un-acked messages come again, same id, DUP, in order",
    async (version) => {
      const broker = await startBroker();
      const first = await connectClient(broker, version, persistent(version, "c"));
      await first.subscribed("t", { qos: 2 });
      const publisher = await connectClient(broker, 4, { clientId: "p" });
      for (const [payload, qos] of [
        ["1", 1],
        ["2", 2],
        ["3", 1],
      ] as const) {
        await publisher.published({ topic: "t", payload, qos });
      }
      const seen = [await first.next(), await first.next(), await first.next()];
      expect(texts(seen)).toEqual(["1", "2", "3"]);
      const second = await connectClient(broker, version, persistent(version, "c"));
      for (const before of seen) {
        await second.expect("publish", {
          dup: true,
          packetId: before.packetId ?? 0,
          payload: before.payload ?? "",
          qos: before.qos ?? 0,
        });
      }
      await second.expectNothing();
    },
  );

  test("M-24 clean start on a live persistent session destroys it first", async () => {
    const broker = await startBroker();
    const first = await connectClient(broker, 5, persistent(5, "c"));
    await first.subscribed("t", { qos: 1 });
    const publisher = await connectClient(broker, 4, { clientId: "p" });
    await publisher.published({ topic: "t", payload: "lost", qos: 1 });
    await first.expect("publish", { payload: "lost" });
    const second = await connectClient(broker, 5, { ...persistent(5, "c"), clean: true });
    expect(second.connack?.sessionPresent).toBe(false);
    await publisher.published({ topic: "t", payload: "also", qos: 1 });
    await second.expectNothing();
  });

  test.each([4, 5] as const)(
    "M-25 v%i takeovers under load lose nothing and keep order",
    async (version) => {
      const messages = 400;
      const broker = await startBroker();
      let subscriber = await connectClient(broker, version, persistent(version, "s"));
      await subscriber.subscribed("t", { qos: 1 });
      const publisher = await connectClient(broker, 4, { clientId: "p" });
      const publishing = (async () => {
        for (let i = 0; i < messages; i++) {
          await publisher.published({ topic: "t", payload: String(i), qos: 1 });
        }
      })();
      const received: number[] = [];
      for (let round = 0; round < 8; round++) {
        // Some stay un-acknowledged, some unread.
        for (let i = 0; i < 30; i++) {
          const publish = await subscriber.expect("publish");
          received.push(Number(publish.payload));
          if (i < 20) subscriber.puback(publish.packetId);
        }
        const started = performance.now();
        subscriber = await connectClient(broker, version, persistent(version, "s"));
        expect(performance.now() - started).toBeLessThan(5000);
        expect(subscriber.connack?.sessionPresent).toBe(true);
      }
      while (received.at(-1) !== messages - 1) {
        const publish = await subscriber.expect("publish");
        received.push(Number(publish.payload));
        subscriber.puback(publish.packetId);
      }
      await publishing;
      await subscriber.expectNothing();
      // The first appearance of each message is in the order of the publisher.
      const first = [...new Set(received)];
      expect(first).toEqual(Array.from({ length: messages }, (_, i) => i));
    },
  );

  test("M-25 many clients fight for one id: exactly one is left", async () => {
    const broker = await startBroker();
    const clients = await Promise.all(
      Array.from({ length: 20 }, async () => {
        const client = await openClient(broker, 5);
        client.connect(persistent(5, "c"));
        await client.expect("connack", { code: 0 });
        return client;
      }),
    );
    await waitFor("all but one are closed", () => clients.filter((c) => !c.isClosed).length === 1);
    const winner = clients.find((client) => !client.isClosed);
    await winner?.ping();
    expect(broker.sessions()).toMatchObject([{ client_id: "c", is_online: true }]);
  });
});

describe("M-26 hooks in a session's life", () => {
  const LIFE: readonly HookName[] = [
    "on_register",
    "on_register_m5",
    "on_client_wakeup",
    "on_client_offline",
    "on_client_gone",
    "on_topic_unsubscribed",
    "on_session_expired",
    "on_offline_message",
  ];

  test.each(VERSIONS)("M-26 v%i clean: wakeup, unsubscribed(all), gone", async (version) => {
    const recorder = recordingPlugin();
    const broker = await startBroker({}, [recorder.plugin]);
    const client = await connectClient(broker, version, { clientId: "c" });
    await client.subscribed("t");
    await client.disconnected();
    await recorder.wait("on_client_gone");
    expect(recorder.names(...LIFE).filter((name) => !name.startsWith("on_register"))).toEqual([
      "on_client_wakeup",
      "on_topic_unsubscribed",
      "on_client_gone",
    ]);
    expect(recorder.of("on_topic_unsubscribed")).toEqual([
      { subscriber_id: { mountpoint: "", client_id: "c" }, topics: "all_topics" },
    ]);
  });

  test.each(VERSIONS)(
    "M-26 v%i persistent: wakeup, offline, on_offline_message",
    async (version) => {
      const recorder = recordingPlugin();
      const broker = await startBroker({}, [recorder.plugin]);
      const client = await connectClient(broker, version, persistent(version, "c"));
      await client.subscribed("t", { qos: 1 });
      await leave(broker, client, "c");
      await recorder.wait("on_client_offline");
      const publisher = await connectClient(broker, 4, { clientId: "p" });
      await publisher.published({ topic: "t", payload: "x", qos: 2 });
      expect(await recorder.wait("on_offline_message")).toEqual({
        subscriber_id: { mountpoint: "", client_id: "c" },
        qos: 1,
        topic: "t",
        payload: Buffer.from("x"),
        retain: false,
      });
      const back = await connectClient(broker, version, persistent(version, "c"));
      await back.delivered({ payload: "x" });
      const own = recorder.calls
        .filter((call) => "subscriber_id" in call.args && call.args.subscriber_id.client_id === "c")
        .map((call) => call.hook)
        .filter((name) => LIFE.includes(name) && !name.startsWith("on_register"));
      expect(own).toEqual([
        "on_client_wakeup",
        "on_client_offline",
        "on_offline_message",
        "on_client_wakeup",
      ]);
    },
  );

  test("M-26 [W] on_offline_message only for what is kept, with its true RETAIN flag", async () => {
    const recorder = recordingPlugin();
    const broker = await startBroker({}, [recorder.plugin]);
    const client = await connectClient(broker, 5, persistent(5, "c"));
    await client.subscribed([{ filter: "t", qos: 2, retainAsPublished: true }]);
    await leave(broker, client, "c");
    const publisher = await connectClient(broker, 4, { clientId: "p" });
    await publisher.published({ topic: "t", payload: "not kept", qos: 0 });
    await publisher.published({ topic: "t", payload: "kept", qos: 1, retain: true });
    await recorder.wait("on_offline_message");
    expect(recorder.of("on_offline_message")).toMatchObject([
      { payload: Buffer.from("kept"), qos: 1, retain: true },
    ]);
  });

  test("M-26 takeover of a clean session: gone without unsubscribed, then wakeup", async () => {
    const recorder = recordingPlugin();
    const broker = await startBroker({}, [recorder.plugin]);
    const first = await connectClient(broker, 4, { clientId: "c" });
    await first.subscribed("t");
    recorder.clear();
    await connectClient(broker, 4, { clientId: "c" });
    await recorder.wait("on_register");
    expect(recorder.names("on_topic_unsubscribed", "on_client_gone", "on_client_wakeup")).toEqual([
      "on_client_gone",
      "on_client_wakeup",
    ]);
  });

  test("M-26 takeover of a persistent session: offline, then wakeup", async () => {
    const recorder = recordingPlugin();
    const broker = await startBroker({}, [recorder.plugin]);
    await connectClient(broker, 4, persistent(4, "c"));
    recorder.clear();
    await connectClient(broker, 4, persistent(4, "c"));
    await recorder.wait("on_register");
    expect(recorder.names("on_client_offline", "on_client_gone", "on_client_wakeup")).toEqual([
      "on_client_offline",
      "on_client_wakeup",
    ]);
  });

  test("M-26 clean start: gone if the old one was online, nothing if it was offline", async () => {
    const recorder = recordingPlugin();
    const broker = await startBroker({}, [recorder.plugin]);
    const first = await connectClient(broker, 4, persistent(4, "c"));
    recorder.clear();
    const second = await connectClient(broker, 4, { clientId: "c" });
    await first.closed();
    await recorder.wait("on_register");
    expect(recorder.names("on_client_gone", "on_client_wakeup")).toEqual([
      "on_client_gone",
      "on_client_wakeup",
    ]);
    await second.disconnected();
    const offline = await connectClient(broker, 4, persistent(4, "d"));
    await leave(broker, offline, "d");
    recorder.clear();
    await connectClient(broker, 4, { clientId: "d" });
    await recorder.wait("on_register");
    expect(recorder.names(...LIFE).filter((name) => name !== "on_register")).toEqual([
      "on_client_wakeup",
    ]);
  });
});

describe("M-27 ends by the administrator", () => {
  test.each(VERSIONS)("M-27 v%i disconnect: 0x98, will, state kept", async (version) => {
    const broker = await startBroker();
    const watcher = await connectClient(broker, 4, { clientId: "w" });
    await watcher.subscribed("will");
    const options = { ...persistent(version, "c"), will: { topic: "will", payload: "x" } };
    const client = await connectClient(broker, version, options);
    await client.subscribed("t", { qos: 1 });
    expect(broker.disconnectClient("c")).toBe(true);
    await client.ended(0x98);
    await watcher.expect("publish", { topic: "will" });
    await watcher.published({ topic: "t", payload: "kept", qos: 1 });
    const back = await connectClient(broker, version, persistent(version, "c"));
    expect(back.connack?.sessionPresent).toBe(true);
    await back.delivered({ payload: "kept" });
    expect(broker.disconnectClient("nobody")).toBe(false);
    expect(broker.disconnectClient("c", { mountpoint: "elsewhere" })).toBe(false);
  });

  test.each(VERSIONS)(
    "M-27 v%i with clean-up: SP 0, no subscriptions, store empty",
    async (version) => {
      const recorder = recordingPlugin();
      const dataDir = tempDir();
      const broker = await startBroker({}, [recorder.plugin], { dataDir });
      const client = await connectClient(broker, version, persistent(version, "c"));
      await client.subscribed("t", { qos: 1 });
      const publisher = await connectClient(broker, 4, { clientId: "p" });
      await publisher.published({ topic: "t", payload: "lost", qos: 1 });
      await client.expect("publish", { payload: "lost" });
      recorder.clear();
      expect(broker.disconnectClient("c", { cleanup: true })).toBe(true);
      await client.ended(0x98);
      await waitGone(broker, "c");
      await recorder.wait("on_client_gone");
      expect(recorder.names()).toEqual(["on_topic_unsubscribed", "on_client_gone"]);
      expect(broker.metrics().router_subscriptions).toBe(0);
      const back = await connectClient(broker, version, persistent(version, "c"));
      expect(back.connack?.sessionPresent).toBe(false);
      await publisher.published({ topic: "t", qos: 1 });
      await back.expectNothing();
      expect(broker.disconnectClient("c", { cleanup: true })).toBe(true);
      await broker.close();
      expect((await startBroker({}, [], { dataDir })).sessions()).toEqual([]);
    },
  );

  test("M-27 clean-up of an offline client", async () => {
    const broker = await startBroker();
    const client = await connectClient(broker, 4, persistent(4, "c"));
    await client.subscribed("t", { qos: 1 });
    await leave(broker, client, "c");
    const publisher = await connectClient(broker, 4, { clientId: "p" });
    await publisher.published({ topic: "t", qos: 1 });
    const answer = await broker.control("session", ["disconnect", "client-id=c", "--cleanup"]);
    expect(answer.exit).toBe(0);
    await waitGone(broker, "c");
    expect(await sessionPresent(broker, 4, persistent(4, "c"))).toBe(false);
  });

  test("M-27 (22) reauthorize drops what the hooks now refuse", async () => {
    let isRefused = false;
    const guard = pluginWith({
      auth_on_subscribe: ({ topics }) =>
        isRefused && topics.some(({ topic }) => topic === "b") ? { error: "not_allowed" } : "next",
    });
    const broker = await startBroker({}, [guard]);
    const client = await connectClient(broker, 4, { clientId: "c", username: "u" });
    await client.subscribed(["a", "b"], { qos: 1 });
    isRefused = true;
    expect(await broker.reauthorize("c", { username: "u" })).toEqual({ removed: ["b"], added: [] });
    const publisher = await connectClient(broker, 4, { clientId: "p" });
    await publisher.published({ topic: "b", qos: 1 });
    await publisher.published({ topic: "a", payload: "a", qos: 1 });
    await client.delivered({ topic: "a" });
    await client.expectNothing();
  });

  test("M-27 (22) listener stop leaves connections; with kill they end with their will", async () => {
    const broker = await startBroker({ "listener.tcp.extra": "127.0.0.1:0" });
    const watcher = await connectClient(broker, 4, { clientId: "w" });
    await watcher.subscribed("will/#");
    const port = broker.port("tcp", "extra");
    const v4 = await connectClient(port, 4, { clientId: "c4", will: { topic: "will/4" } });
    const v5 = await connectClient(port, 5, { clientId: "c5", will: { topic: "will/5" } });
    expect(await broker.stopListener("tcp", "extra")).toBe(true);
    await expect(openClient(port)).rejects.toThrow();
    await v4.ping();
    await v5.ping();
    await watcher.expectNothing();
    expect(await broker.stopListener("tcp", "nosuch")).toBe(false);
  });

  test("M-27 (22) listener stop with kill ends them with their will", async () => {
    const broker = await startBroker({ "listener.tcp.extra": "127.0.0.1:0" });
    const watcher = await connectClient(broker, 4, { clientId: "w" });
    await watcher.subscribed("will/#");
    const port = broker.port("tcp", "extra");
    const client = await connectClient(port, 4, { clientId: "c4", will: { topic: "will/4" } });
    expect(await broker.stopListener("tcp", "extra", { killSessions: true })).toBe(true);
    await client.closed();
    await watcher.expect("publish", { topic: "will/4" });
    await watcher.ping();
  });

  test("M-27 (19) a broker that shuts down says 0x8B to v5 clients", async () => {
    const broker = await startBroker();
    const v5 = await connectClient(broker, 5, { clientId: "c5" });
    const v4 = await connectClient(broker, 4, { clientId: "c4" });
    await broker.close();
    await v5.ended(0x8b);
    await v4.closed();
  });
});
