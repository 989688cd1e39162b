import { describe, expect, test } from "vitest";
import type { Broker } from "../../core/broker-types.ts";
import { startBroker, tempDir } from "../support/broker.ts";
import { hourglass } from "../support/hourglass.ts";
import { pluginWith, recordingPlugin } from "../support/plugins.ts";
import {
  connectClient,
  encodePublish,
  type Properties,
  type RawClient,
} from "../support/raw-client.ts";
import { persistent } from "../support/sessions.ts";

/** Checks M-48 and M-49: Maximum Packet Size of the client, and message expiry. */

describe("M-48 Maximum Packet Size of the client", () => {
  const USER: [string, string][] = [["k", "v".repeat(40)]];

  async function limited(maximumPacketSize: number, more: Properties = {}) {
    const recorder = recordingPlugin();
    const broker = await startBroker({}, [recorder.plugin]);
    const properties = { maximumPacketSize, ...more };
    const s = await connectClient(broker, 5, { clientId: "s", properties });
    await s.subscribed("a", { qos: 2 });
    const p = await connectClient(broker, 5, { clientId: "p" });
    return { broker, recorder, s, p };
  }

  test.each([0, 1, 2])(
    "M-48 QoS %i: a larger message is dropped, hooked and counted; the connection stays",
    async (qos) => {
      const { broker, recorder, s, p } = await limited(50);
      await p.published({ topic: "a", payload: "x".repeat(60), qos });
      const drop = await recorder.wait("on_message_drop");
      expect(drop).toMatchObject({
        subscriber_id: { mountpoint: "", client_id: "s" },
        topic: "a",
        reason: "max_packet_size_exceeded",
      });
      expect(drop.payload.toString()).toBe("x".repeat(60));
      expect(broker.metrics().queue_message_drop).toBe(1);
      await p.published({ topic: "a", payload: "fits", qos });
      await s.delivered({ payload: "fits", qos });
      await s.expectNothing();
    },
  );

  test("M-48 the limit is the whole packet, to the byte", async () => {
    const topic = "a";
    const properties = { userProperties: USER };
    const exact = encodePublish(5, { topic, payload: "12345", properties }).length;
    const { recorder, s, p } = await limited(exact);
    await p.published({ topic, payload: "123456", properties });
    await recorder.wait("on_message_drop");
    await p.published({ topic, payload: "12345", properties });
    await s.delivered({ payload: "12345", exactProperties: properties });
  });

  test("M-48 [W] user properties are never cut from a PUBLISH to make it fit", async () => {
    const { recorder, s, p } = await limited(50);
    await p.published({ topic: "a", payload: "x", qos: 1, properties: { userProperties: USER } });
    const drop = await recorder.wait("on_message_drop");
    expect(drop.properties.p_user_property).toEqual([{ key: "k", val: "v".repeat(40) }]);
    await s.expectNothing();
  });

  test("M-48 [W] the window has its credit back", async () => {
    const { s, p } = await limited(50, { receiveMaximum: 1 });
    for (const qos of [1, 2]) {
      await p.published({ topic: "a", payload: "x".repeat(60), qos });
      await p.published({ topic: "a", payload: `small ${qos}`, qos });
      await s.delivered({ payload: `small ${qos}`, qos });
    }
  });

  test("M-48 other subscribers get the message, retained ones are checked, too", async () => {
    const { broker, recorder, s, p } = await limited(50);
    const roomy = await connectClient(broker, 5);
    await roomy.subscribed("a");
    await p.published({ topic: "a", payload: "x".repeat(60), retain: true });
    await roomy.delivered({ payload: "x".repeat(60) });
    await recorder.wait("on_message_drop");
    await s.subscribed("a", { qos: 1 });
    await recorder.wait("on_message_drop", 2);
    await s.expectNothing();
  });

  test("M-48 Reason String and User Properties leave other packets to make them fit", async () => {
    const broker = await startBroker({}, [
      pluginWith({
        auth_on_subscribe_m5: ({ topics }) => ({
          ok: {
            topics,
            properties: {
              p_reason_string: "r".repeat(100),
              p_user_property: [{ key: "k", val: "v".repeat(100) }],
            },
          },
        }),
      }),
    ]);
    const s = await connectClient(broker, 5, {
      clientId: "s",
      properties: { maximumPacketSize: 40 },
    });
    const packetId = s.subscribe("a");
    await s.expect("suback", { packetId, codes: [0], exactProperties: {} });
  });
});

describe("M-49 message expiry", () => {
  async function offlineWithTwo(broker: Broker): Promise<RawClient> {
    const s = await connectClient(broker, 5, persistent(5, "s"));
    await s.subscribed("a", { qos: 1 });
    await s.disconnected();
    const p = await connectClient(broker, 5, { clientId: "p" });
    for (const seconds of [60, 1]) {
      const properties = { messageExpiryInterval: seconds };
      await p.published({ topic: "a", payload: `lives ${seconds}`, qos: 1, properties });
    }
    return p;
  }

  async function onlyTheFirst(broker: Broker, recorder: ReturnType<typeof recordingPlugin>) {
    const s = await connectClient(broker, 5, persistent(5, "s"));
    const got = await s.delivered({ payload: "lives 60" });
    const left = got.properties?.messageExpiryInterval ?? 0;
    expect(left).toBeGreaterThan(50);
    expect(left).toBeLessThan(60);
    await s.expectNothing();
    expect(broker.metrics().queue_message_expired).toBe(1);
    const drop = await recorder.wait("on_message_drop");
    expect(drop).toMatchObject({ topic: "a", reason: "expired" });
    expect(drop.payload.toString()).toBe("lives 1");
  }

  test("M-49 offline: only the message that still lives comes, with the seconds left", async () => {
    const recorder = recordingPlugin();
    const broker = await startBroker({}, [recorder.plugin]);
    await offlineWithTwo(broker);
    await hourglass();
    await onlyTheFirst(broker, recorder);
  });

  test("M-49 [W] the same with a restart of the broker in between", async () => {
    const dataDir = tempDir();
    const before = await startBroker({}, [], { dataDir });
    await offlineWithTwo(before);
    await before.close();
    await hourglass();
    const recorder = recordingPlugin();
    const after = await startBroker({}, [recorder.plugin], { dataDir });
    await onlyTheFirst(after, recorder);
  });

  test("M-49 [W] expired messages leave their places in a full queue to new ones", async () => {
    const broker = await startBroker({ max_offline_messages: "1" });
    const s = await connectClient(broker, 5, persistent(5, "s"));
    await s.subscribed("a", { qos: 1 });
    await s.disconnected();
    const p = await connectClient(broker, 5);
    const properties = { messageExpiryInterval: 1 };
    await p.published({ topic: "a", payload: "dies", qos: 1, properties });
    await hourglass();
    await p.published({ topic: "a", payload: "stays", qos: 1 });
    const again = await connectClient(broker, 5, persistent(5, "s"));
    await again.delivered({ payload: "stays" });
    expect(broker.metrics().queue_message_drop).toBe(0);
  });

  test("M-49 [W] a message that expires while it waits for the window is not sent", async () => {
    const broker = await startBroker();
    const s = await connectClient(broker, 5, { properties: { receiveMaximum: 1 } });
    await s.subscribed("a", { qos: 1 });
    const p = await connectClient(broker, 5);
    await p.published({ topic: "a", payload: "first", qos: 1 });
    const properties = { messageExpiryInterval: 1 };
    await p.published({ topic: "a", payload: "dies", qos: 1, properties });
    await p.published({ topic: "a", payload: "last", qos: 1 });
    const first = await s.expect("publish", { payload: "first" });
    await hourglass();
    s.puback(first.packetId);
    await s.delivered({ payload: "last" });
  });

  test("M-49 online it passes with its interval; v4 subscribers get it without", async () => {
    const broker = await startBroker();
    const s = await connectClient(broker, 5);
    await s.subscribed("a");
    const old = await connectClient(broker, 4);
    await old.subscribed("a");
    const p = await connectClient(broker, 5);
    await p.published({ topic: "a", payload: "x", properties: { messageExpiryInterval: 1000 } });
    const got = await s.delivered({ payload: "x" });
    expect(got.properties?.messageExpiryInterval).toBeGreaterThanOrEqual(990);
    expect(got.properties?.messageExpiryInterval).toBeLessThanOrEqual(1000);
    await old.delivered({ payload: "x" });
  });
});
