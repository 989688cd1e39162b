import { describe, expect, test } from "vitest";
import type { Broker } from "../../core/broker-types.ts";
import { startBroker, tempDir, waitFor, waitOffline } from "../support/broker.ts";
import { hourglass } from "../support/hourglass.ts";
import { pluginWith, recordingPlugin, refusing } from "../support/plugins.ts";
import {
  bytes,
  type ConnectOptions,
  connectClient,
  openClient,
  type Properties,
  type RawClient,
  type Version,
  type WillOptions,
} from "../support/raw-client.ts";

/**
 * Checks M-51 to M-56: wills. M-55's part across two nodes needs a cluster and is not
 * a test of one broker.
 */

const VERSIONS = [3, 4, 5] as const;
const WILL: WillOptions = { topic: "will", payload: "gone" };

/** Nobody may publish to `forbidden`. */
const forbidding = refusing(
  "auth_on_publish",
  (args) => "topic" in args && args.topic === "forbidden",
);

async function watched(broker: Broker): Promise<RawClient> {
  const s = await connectClient(broker, 5, { clientId: "watcher" });
  await s.subscribed("will/#", { qos: 2 });
  return s;
}

/** Has the session of `clientId` really ended? Then its will, if any, is on its way. */
async function over(broker: Broker, s: RawClient, clientId = "dying"): Promise<void> {
  await waitOffline(broker, clientId);
  await s.expectNothing();
}

describe("M-51 when a will is published", () => {
  test.each(VERSIONS)("M-51 v%i socket cut → will, once", async (version) => {
    const broker = await startBroker();
    const s = await watched(broker);
    const dying = await connectClient(broker, version, { clientId: "dying", will: WILL });
    dying.cut();
    await s.delivered({ topic: "will", payload: "gone", qos: 0, retain: false });
    await over(broker, s);
  });

  test.each(VERSIONS)("M-51 v%i orderly end of TCP without DISCONNECT → will", async (version) => {
    const broker = await startBroker();
    const s = await watched(broker);
    const dying = await connectClient(broker, version, { clientId: "dying", will: WILL });
    dying.end();
    await s.delivered({ payload: "gone" });
  });

  test("M-51 [W] TCP reset → will", async () => {
    const broker = await startBroker();
    const s = await watched(broker);
    const dying = await connectClient(broker, 4, { clientId: "dying", will: WILL });
    dying.cut(true);
    await s.delivered({ payload: "gone" });
  });

  test.each(VERSIONS)("M-51 v%i DISCONNECT → no will", async (version) => {
    const broker = await startBroker();
    const s = await watched(broker);
    const dying = await connectClient(broker, version, { clientId: "dying", will: WILL });
    await dying.disconnected();
    await over(broker, s);
  });

  test.each([0x04, 0x80, 0x81, 0x82, 0x83, 0x90, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99])(
    "M-51 v5 DISCONNECT 0x%s → will",
    async (code) => {
      const broker = await startBroker();
      const s = await watched(broker);
      const dying = await connectClient(broker, 5, { clientId: "dying", will: WILL });
      await dying.disconnected(code);
      await s.delivered({ payload: "gone" });
    },
  );

  test.each([0, 1, 2])("M-51 QoS %i and RETAIN of the will are kept", async (qos) => {
    for (const version of VERSIONS) {
      const broker = await startBroker();
      const s = await watched(broker);
      const will = { ...WILL, qos, retain: true };
      const dying = await connectClient(broker, version, { clientId: "dying", will });
      dying.cut();
      await s.delivered({ payload: "gone", qos, retain: false });
      const late = await connectClient(broker, 4);
      await late.subscribed("will", { qos: 2 });
      await late.delivered({ payload: "gone", qos, retain: true });
    }
  });

  test("M-51 keep-alive, admin disconnect and refused publish (v4) → will", async () => {
    const broker = await startBroker({}, [forbidding]);
    const s = await watched(broker);
    const kicked = await connectClient(broker, 4, { clientId: "kicked", will: WILL });
    expect(broker.disconnectClient("kicked")).toBe(true);
    await s.delivered({ payload: "gone" });
    await kicked.closed();
    const forbidden = await connectClient(broker, 4, { clientId: "forbidden", will: WILL });
    forbidden.publish({ topic: "forbidden" });
    await s.delivered({ payload: "gone" });
    const silent = await connectClient(broker, 4, { keepAlive: 1, will: WILL });
    await s.expect("publish", { payload: "gone" });
    await silent.closed();
  });

  test("M-51 a stopped listener with its sessions killed → will", async () => {
    const broker = await startBroker({ "listener.tcp.second": "127.0.0.1:0" });
    const s = await watched(broker);
    const dying = await connectClient({ port: broker.port("tcp", "second") }, 5, {
      clientId: "dying",
      will: WILL,
    });
    expect(await broker.stopListener("tcp", "second", { killSessions: true })).toBe(true);
    await s.delivered({ payload: "gone" });
    await dying.expect("disconnect");
    await dying.closed();
  });

  test("M-51 the will passes on_publish but is not authorised again", async () => {
    for (const version of [4, 5] as const) {
      const recorder = recordingPlugin();
      const broker = await startBroker({}, [recorder.plugin]);
      const s = await watched(broker);
      const dying = await connectClient(broker, version, { clientId: "dying", will: WILL });
      const asked = version === 5 ? "auth_on_publish_m5" : "auth_on_publish";
      expect(recorder.of(asked)).toHaveLength(1);
      dying.cut();
      await s.delivered({ payload: "gone" });
      const told = await recorder.wait(version === 5 ? "on_publish_m5" : "on_publish");
      expect(told).toMatchObject({
        topic: "will",
        subscriber_id: { mountpoint: "", client_id: "dying" },
      });
      expect(recorder.of(asked)).toHaveLength(1);
    }
  });

  test("M-51 no will is published for a connection that was refused", async () => {
    const broker = await startBroker({ allow_anonymous: "off" }, [refusing("auth_on_register")]);
    broker.set("allow_anonymous", "on");
    const s = await watched(broker);
    broker.set("allow_anonymous", "off");
    const refused = await openClient(broker, 4);
    await refused.refused({ clientId: "refused", will: WILL }, 5);
    await s.expectNothing();
  });
});

describe("M-52 empty wills", () => {
  test.each(VERSIONS)(
    "M-52 v%i empty payload → delivered empty, clears retained",
    async (version) => {
      const broker = await startBroker();
      const p = await connectClient(broker, 4);
      await p.published({ topic: "will", payload: "old", retain: true, qos: 1 });
      const s = await watched(broker);
      await s.delivered({ payload: "old", retain: true });
      const will = { topic: "will", payload: "", retain: true };
      const dying = await connectClient(broker, version, { clientId: "dying", will });
      dying.cut();
      await s.delivered({ topic: "will", payload: "" });
      expect(broker.retained()).toEqual([]);
    },
  );

  test.each([
    { what: "empty", topic: "" },
    { what: "with +", topic: "a/+" },
    { what: "with #", topic: "#" },
    { what: "with NUL", topic: "a\0" },
  ])("M-52 will topic $what → connection refused", async ({ topic }) => {
    const broker = await startBroker();
    for (const version of [3, 4] as const) {
      const client = await openClient(broker, version);
      client.connect({ clientId: "c", will: { topic, payload: "x" } });
      await client.closed();
    }
    const client = await openClient(broker, 5);
    client.connect({ clientId: "c", will: { topic, payload: "x" } });
    const { code } = await client.expect("connack", { sessionPresent: false });
    expect([0x81, 0x82, 0x90]).toContain(code);
    await client.closed();
    expect(broker.sessions()).toEqual([]);
  });
});

describe("M-53 a refused will", () => {
  test.each([
    { version: 3 as const, code: 5 },
    { version: 4 as const, code: 5 },
    { version: 5 as const, code: 0x87 },
  ])(
    "M-53 v$version → CONNACK $code; [W] a running session of that id stays as it was",
    async ({ version, code }) => {
      const recorder = recordingPlugin();
      const broker = await startBroker({}, [recorder.plugin, forbidding]);
      const running = await connectClient(broker, version, { clientId: "same" });
      await running.subscribed("a", { qos: 1 });
      recorder.clear();

      const second = await openClient(broker, version);
      await second.refused({ clientId: "same", will: { topic: "forbidden" } }, code);
      await running.expectNothing();
      const p = await connectClient(broker, 4);
      await p.published({ topic: "a", payload: "still here", qos: 1 });
      await running.delivered({ payload: "still here" });
      const told = ["on_register", "on_register_m5", "on_client_wakeup"] as const;
      const own = recorder.calls.filter(
        ({ hook, args }) =>
          told.includes(hook as (typeof told)[number]) &&
          "subscriber_id" in args &&
          args.subscriber_id.client_id === "same",
      );
      expect(own).toEqual([]);
    },
  );

  test("M-53 the hook may rewrite the will", async () => {
    const rewrite = () => ({ ok: { topic: "will/new", payload: "changed", qos: 1, retain: true } });
    for (const version of [4, 5] as const) {
      const broker = await startBroker({}, [
        pluginWith({ auth_on_publish: rewrite, auth_on_publish_m5: rewrite }),
      ]);
      const s = await watched(broker);
      const dying = await connectClient(broker, version, { clientId: "dying", will: WILL });
      dying.cut();
      await s.delivered({ topic: "will/new", payload: "changed", qos: 1 });
      expect(broker.retained()).toMatchObject([{ topic: "will/new", qos: 1 }]);
    }
  });

  test("M-53 a will to a $ topic is refused", async () => {
    const broker = await startBroker();
    const client = await openClient(broker, 4);
    await client.refused({ clientId: "c", will: { topic: "$SYS/x", payload: "x" } }, 5);
    const client5 = await openClient(broker, 5);
    client5.connect({ clientId: "c", will: { topic: "$SYS/x", payload: "x" } });
    const { code } = await client5.expect("connack");
    expect(code).toBeGreaterThanOrEqual(0x80);
    await client5.closed();
  });
});

describe("M-54 will delay", () => {
  const DELAY_S = 1;

  function delayed(expiryS: number, willDelayInterval = DELAY_S): ConnectOptions {
    const properties: Properties = expiryS > 0 ? { sessionExpiryInterval: expiryS } : {};
    return {
      clientId: "dying",
      clean: false,
      properties,
      will: { ...WILL, properties: { willDelayInterval } },
    };
  }

  /** Milliseconds from now until the watcher gets the will. */
  async function arrival(s: RawClient): Promise<number> {
    const startedAt = performance.now();
    await s.expect("publish", { payload: "gone" });
    return performance.now() - startedAt;
  }

  test("M-54 delay 1 s, expiry 10 s, cut → S gets it after 1 s or more", async () => {
    const broker = await startBroker();
    const s = await watched(broker);
    const dying = await connectClient(broker, 5, delayed(10));
    dying.cut();
    const tookMs = await arrival(s);
    expect(tookMs).toBeGreaterThanOrEqual(950);
    expect(tookMs).toBeLessThan(4000);
  });

  test("M-54 DISCONNECT 0x04 waits for the delay as well", async () => {
    const broker = await startBroker();
    const s = await watched(broker);
    const dying = await connectClient(broker, 5, delayed(10));
    await dying.disconnected(0x04);
    expect(await arrival(s)).toBeGreaterThanOrEqual(950);
  });

  test("M-54 reconnect within the delay → never", async () => {
    const broker = await startBroker();
    const s = await watched(broker);
    const dying = await connectClient(broker, 5, delayed(10));
    dying.cut();
    await waitOffline(broker, "dying");
    await connectClient(broker, 5, { ...delayed(10), will: undefined } as ConnectOptions);
    await hourglass(1, broker);
    await s.expectNothing();
  });

  test("M-54 [W] cut, reconnect in time, then normal DISCONNECT → no will", async () => {
    const broker = await startBroker();
    const s = await watched(broker);
    const dying = await connectClient(broker, 5, delayed(10));
    dying.cut();
    await waitOffline(broker, "dying");
    const again = await connectClient(broker, 5, {
      clientId: "dying",
      clean: false,
      properties: { sessionExpiryInterval: 10 },
    });
    await again.disconnected();
    await hourglass(1, broker);
    await s.expectNothing();
  });

  test("M-54 [W] a new Clean Start session publishes the pending will", async () => {
    const broker = await startBroker();
    const s = await watched(broker);
    const dying = await connectClient(broker, 5, delayed(100, 60));
    dying.cut();
    await waitOffline(broker, "dying");
    await connectClient(broker, 5, { clientId: "dying", clean: true });
    await s.delivered({ payload: "gone" });
  });

  test("M-54 session expiry 0 → at once, whatever the delay", async () => {
    const broker = await startBroker();
    const s = await watched(broker);
    const dying = await connectClient(broker, 5, delayed(0, 60));
    dying.cut();
    expect(await arrival(s)).toBeLessThan(4000);
  });

  test("M-54 session expiry before the delay → at expiry", async () => {
    const broker = await startBroker();
    const s = await watched(broker);
    const dying = await connectClient(broker, 5, delayed(1, 60));
    dying.cut();
    const tookMs = await arrival(s);
    expect(tookMs).toBeGreaterThanOrEqual(950);
    expect(tookMs).toBeLessThan(4000);
  });

  test("M-54 max_last_will_delay caps the client's wish", async () => {
    const broker = await startBroker({ max_last_will_delay: "1s" });
    const s = await watched(broker);
    const dying = await connectClient(broker, 5, delayed(100, 60));
    dying.cut();
    const tookMs = await arrival(s);
    expect(tookMs).toBeGreaterThanOrEqual(950);
    expect(tookMs).toBeLessThan(4000);
  });

  test("M-54 [W] a delayed will survives a restart of the broker", async () => {
    const dataDir = tempDir();
    const before = await startBroker({}, [], { dataDir });
    const dying = await connectClient(before, 5, delayed(100, 2));
    dying.cut();
    await waitOffline(before, "dying");
    await before.close();
    const after = await startBroker({}, [], { dataDir });
    const s = await watched(after);
    expect(await arrival(s)).toBeLessThan(4000);
  });

  test("M-54 [W] properties and expiry of a delayed will survive the restart, too", async () => {
    const dataDir = tempDir();
    const before = await startBroker({}, [], { dataDir });
    const dying = await connectClient(before, 5, {
      ...delayed(100, 1),
      will: {
        ...WILL,
        properties: { willDelayInterval: 1, messageExpiryInterval: 100, contentType: "t" },
      },
    });
    dying.cut();
    await waitOffline(before, "dying");
    await before.close();
    const after = await startBroker({}, [], { dataDir });
    const s = await watched(after);
    const got = await s.delivered({ payload: "gone", properties: { contentType: "t" } });
    expect(got.properties?.messageExpiryInterval).toBeGreaterThan(90);
  });

  test("M-54 will properties: Message Expiry Interval is applied and counted down", async () => {
    const broker = await startBroker();
    const s = await watched(broker);
    const will = { ...WILL, retain: true, properties: { messageExpiryInterval: 1 } };
    const dying = await connectClient(broker, 5, { clientId: "dying", will });
    dying.cut();
    const live = await s.delivered({ payload: "gone" });
    expect(live.properties?.messageExpiryInterval).toBe(1);
    await hourglass();
    const late = await connectClient(broker, 5);
    await late.subscribed("will");
    await late.expectNothing();
  });
});

describe("M-55 takeover", () => {
  /** Second CONNECT with the same id; waits until the first connection is closed. */
  async function takeOver(
    broker: Broker,
    version: Version,
    connect: ConnectOptions = {},
  ): Promise<RawClient> {
    const options = { clientId: "same", clean: false, ...connect };
    const old = await connectClient(broker, version, { ...options, will: WILL });
    const second = await connectClient(broker, version, options);
    await old.ended(0x8e);
    return second;
  }

  test.each(VERSIONS)("M-55 v%i the will of the old session is published", async (version) => {
    const broker = await startBroker();
    const s = await watched(broker);
    await takeOver(broker, version);
    await s.delivered({ payload: "gone" });
    await s.expectNothing();
  });

  test.each(VERSIONS)(
    "M-55 v%i suppress_lwt_on_session_takeover = on → not published",
    async (version) => {
      for (const clean of [true, false]) {
        const broker = await startBroker({ suppress_lwt_on_session_takeover: "on" });
        const s = await watched(broker);
        const properties = { sessionExpiryInterval: 100 };
        await takeOver(broker, version, { clean, properties });
        await s.expectNothing();
        // Only takeover is suppressed.
        const dying = await connectClient(broker, version, { clientId: "dying", will: WILL });
        dying.cut();
        await s.delivered({ payload: "gone" });
      }
    },
  );

  test("M-55 the setting is the one at the old session's CONNECT", async () => {
    const broker = await startBroker({ suppress_lwt_on_session_takeover: "on" });
    const s = await watched(broker);
    await connectClient(broker, 4, { clientId: "same", will: WILL });
    broker.set("suppress_lwt_on_session_takeover", "off");
    const second = await connectClient(broker, 4, { clientId: "same", will: WILL });
    await s.expectNothing();
    await connectClient(broker, 4, { clientId: "same" });
    await s.delivered({ payload: "gone" });
    await second.closed();
  });

  test("M-55 v5 takeover with a will delay: the session goes on, so the will is never sent", async () => {
    const broker = await startBroker();
    const s = await watched(broker);
    const options = {
      clientId: "same",
      clean: false,
      properties: { sessionExpiryInterval: 100 },
    };
    const will = { ...WILL, properties: { willDelayInterval: 1 } };
    const old = await connectClient(broker, 5, { ...options, will });
    await connectClient(broker, 5, options);
    await old.ended(0x8e);
    await hourglass(1, broker);
    await s.expectNothing();
  });
});

describe("M-56 malformed packets", () => {
  const MALFORMED = [
    { what: "reserved packet type 0", frame: bytes("00 00") },
    { what: "QoS 3", frame: bytes("36 05 0001 61 0001") },
    { what: "remaining length of five bytes", frame: bytes("30 ff ff ff ff 01") },
    { what: "topic longer than the packet", frame: bytes("30 04 00ff 61 61") },
  ];

  test.each(MALFORMED)(
    "M-56 [W] v4 client sends $what → closed, will published",
    async ({ frame }) => {
      const broker = await startBroker();
      const s = await watched(broker);
      const dying = await connectClient(broker, 4, { clientId: "dying", will: WILL });
      dying.send(frame);
      await dying.closed();
      await s.delivered({ payload: "gone" });
    },
  );

  test.each(MALFORMED)("M-56 v5 client sends $what → 0x81, will published", async ({ frame }) => {
    const broker = await startBroker();
    const s = await watched(broker);
    const dying = await connectClient(broker, 5, { clientId: "dying", will: WILL });
    dying.send(frame);
    await dying.ended(0x81);
    await s.delivered({ payload: "gone" });
  });

  test("M-56 [W] a packet above max_message_size → will published", async () => {
    const broker = await startBroker({ max_message_size: "100" });
    const s = await watched(broker);
    const dying = await connectClient(broker, 4, { clientId: "dying", will: WILL });
    dying.publish({ topic: "a", payload: "x".repeat(200) });
    await dying.closed();
    await s.delivered({ payload: "gone" });
  });

  test.each([4, 5] as const)(
    "M-56 [W] v%i its un-acknowledged messages are redelivered after reconnect",
    async (version) => {
      const broker = await startBroker();
      const options: ConnectOptions = {
        clientId: "s",
        clean: false,
        properties: { sessionExpiryInterval: 100 },
      };
      const first = await connectClient(broker, version, options);
      await first.subscribed("a", { qos: 2 });
      const p = await connectClient(broker, 4);
      for (const qos of [1, 2]) await p.published({ topic: "a", payload: `${qos}`, qos });
      const unacked = [await first.expect("publish"), await first.expect("publish")];
      first.send("00 00");
      await first.ended(0x81);
      await waitFor("the session is offline", () => broker.sessions().length === 2);

      const second = await connectClient(broker, version, options);
      expect(second.connack?.sessionPresent).toBe(true);
      for (const { packetId, payload, qos } of unacked) {
        await second.delivered({
          packetId: packetId ?? 0,
          payload: payload ?? "",
          qos: qos ?? 0,
          dup: true,
        });
      }
      await second.expectNothing();
    },
  );
});
