import { describe, expect, test } from "vitest";
import { startBroker, tempDir, waitFor, waitGone } from "../support/broker.ts";
import { hourglass } from "../support/hourglass.ts";
import { recordingPlugin } from "../support/plugins.ts";
import { type ConnectOptions, connectClient, type Version } from "../support/raw-client.ts";
import { leave, persistent, sessionPresent } from "../support/sessions.ts";

/** Checks M-16 to M-23: what of a session stays, and for how long. */

const VERSIONS: readonly Version[] = [3, 4, 5];
/** 0xFFFFFFFF: the session does not expire. MQTT 5.0, 3.1.2.11.2 */
const NEVER = 0xffff_ffff;

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
    const options = persistent(5, "c", { sessionExpiryInterval: 1 });
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
    const zero = persistent(5, "zero", { sessionExpiryInterval: 0 });
    for (const options of [absent, zero]) {
      expect(await sessionPresent(broker, 5, options)).toBe(false);
      await waitGone(broker, String(options.clientId));
      expect(await sessionPresent(broker, 5, options)).toBe(false);
    }
    for (const expiry of [3600, NEVER]) {
      expect(
        await sessionPresent(
          broker,
          5,
          persistent(5, `e${expiry}`, { sessionExpiryInterval: expiry }),
        ),
      ).toBe(false);
    }
    await hourglass(1, broker);
    for (const expiry of [3600, NEVER]) {
      expect(
        await sessionPresent(
          broker,
          5,
          persistent(5, `e${expiry}`, { sessionExpiryInterval: expiry }),
        ),
      ).toBe(true);
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
    const options = persistent(5, "c", { sessionExpiryInterval: 5 });
    const client = await connectClient(broker, 5, options);
    await client.disconnected(0, { sessionExpiryInterval: 0 });
    expect(await sessionPresent(broker, 5, options)).toBe(false);
  });

  test("M-20 (4.3) DISCONNECT may change it; without the property the CONNECT value stays", async () => {
    const broker = await startBroker();
    const options = persistent(5, "c", { sessionExpiryInterval: 3600 });
    const shorter = await connectClient(broker, 5, options);
    await shorter.disconnected(0, { sessionExpiryInterval: 1 });
    await waitGone(broker, "c", 2500);
    const longer = await connectClient(broker, 5, persistent(5, "l", { sessionExpiryInterval: 1 }));
    await longer.disconnected(0, { sessionExpiryInterval: NEVER });
    const same = await connectClient(broker, 5, persistent(5, "s", { sessionExpiryInterval: 1 }));
    await same.disconnected(0);
    await waitGone(broker, "s", 2500);
    expect(await sessionPresent(broker, 5, persistent(5, "l"))).toBe(true);
  });

  test("M-21 without expiry, DISCONNECT with expiry 100 → 0x82, closed", async () => {
    const broker = await startBroker();
    for (const connect of [{ clientId: "a" }, persistent(5, "b", { sessionExpiryInterval: 0 })]) {
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
  const v5 = await connectClient(broker, 5, persistent(5, "v5", { sessionExpiryInterval: 4 }));
  const v4 = await connectClient(broker, 4, persistent(4, "v4"));
  const keeper = await connectClient(
    broker,
    5,
    persistent(5, "keeper", { sessionExpiryInterval: NEVER }),
  );
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
  expect(await sessionPresent(again, 5, persistent(5, "v5", { sessionExpiryInterval: 4 }))).toBe(
    false,
  );
  expect(await sessionPresent(again, 4, persistent(4, "v4"))).toBe(false);
  expect(
    await sessionPresent(again, 5, persistent(5, "keeper", { sessionExpiryInterval: NEVER })),
  ).toBe(true);
});

test("M-23 [W] a session that expires while the broker is down is gone after the restart", async () => {
  const dataDir = tempDir();
  const broker = await startBroker({}, [], { dataDir });
  const client = await connectClient(broker, 5, persistent(5, "c", { sessionExpiryInterval: 1 }));
  await client.subscribed("t", { qos: 1 });
  await leave(broker, client, "c");
  await broker.close();
  await hourglass(1);
  const again = await startBroker({}, [], { dataDir });
  expect(await sessionPresent(again, 5, persistent(5, "c", { sessionExpiryInterval: 1 }))).toBe(
    false,
  );
});
