import { describe, expect, test } from "vitest";
import { startBroker, waitGone, waitOffline } from "../support/broker.ts";
import { hourglass } from "../support/hourglass.ts";
import { pluginWith, recordingPlugin, refusing } from "../support/plugins.ts";
import {
  bytes,
  type ConnectOptions,
  connectClient,
  encodeConnect,
  encodePublish,
  encodeSubscribe,
  field,
  openClient,
  packet,
  propertyBlock,
  type RawClient,
  u16,
  type Version,
} from "../support/raw-client.ts";
import { persistent } from "../support/sessions.ts";
import { MALFORMED, PROTOCOL_ERROR, violated } from "../support/violations.ts";

/** Normative statements on CONNECT (MQTT 5.0, 3.1; "3.1.1:" the older number). */

const VERSIONS = [3, 4, 5] as const;

async function opened(version: Version): Promise<RawClient> {
  return openClient(await startBroker(), version);
}

describe("CONNECT comes first and once", () => {
  test.each([
    { what: "PUBLISH", frame: encodePublish(4, { topic: "a" }) },
    { what: "SUBSCRIBE", frame: encodeSubscribe(4, 1, [{ filter: "a" }]) },
    { what: "PINGREQ", frame: bytes("c0 00") },
    { what: "DISCONNECT", frame: bytes("e0 00") },
    { what: "AUTH", frame: bytes("f0 00") },
    { what: "CONNACK", frame: bytes("20 02 00 00") },
    { what: "text of another protocol", frame: Buffer.from("GET / HTTP/1.1\r\n\r\n") },
  ])("[MQTT-3.1.0-1] $what as the first packet → closed, nothing sent", async ({ frame }) => {
    const client = await opened(4);
    client.send(frame);
    // Bytes of another protocol may look like the head of a longer packet.
    await client.closed(8000);
    expect(client.received).toEqual([]);
  });

  test.each(VERSIONS)(
    "[MQTT-3.1.0-2] v%i a second CONNECT is a protocol error",
    async (version) => {
      const broker = await startBroker();
      const s = await connectClient(broker, 4, { clientId: "s" });
      await s.subscribed("will");
      const will = { topic: "will", payload: "gone" };
      const client = await connectClient(broker, version, { clientId: "c", will });
      client.connect({ clientId: "c" });
      await violated(client, PROTOCOL_ERROR);
      await s.delivered({ payload: "gone" });
    },
  );

  test("[MQTT-3.2.0-2] only one CONNACK is sent", async () => {
    const broker = await startBroker();
    const client = await openClient(broker, 5);
    const connect = encodeConnect(5, { clientId: "c" });
    client.sendTogether(connect, connect);
    await client.expect("connack", { code: 0 });
    client.connack = client.received[0];
    await violated(client, PROTOCOL_ERROR);
  });
});

describe("CONNECT flags and payload", () => {
  test.each([
    { what: "[MQTT-3.1.2-3] reserved flag", flags: 0x03 },
    { what: "[MQTT-3.1.2-11] will QoS 1 without will", flags: 0x0a },
    { what: "[MQTT-3.1.2-11] will QoS 2 without will", flags: 0x12 },
    { what: "[MQTT-3.1.2-13] will RETAIN without will", flags: 0x22 },
  ])("$what → refused", async ({ flags }) => {
    for (const version of VERSIONS) {
      const client = await opened(version);
      client.connect({ clientId: "c", flags });
      await violated(client, MALFORMED);
    }
  });

  test("[MQTT-3.1.2-12] [3.1.1: MQTT-3.1.2-14] will QoS 3 → refused", async () => {
    for (const version of VERSIONS) {
      const client = await opened(version);
      client.connect({ clientId: "c", will: { topic: "w", qos: 3 } });
      await violated(client, MALFORMED);
    }
  });

  test.each([
    { what: "[MQTT-3.1.2-17] user name flag without user name", flags: 0x82 },
    { what: "[MQTT-3.1.2-19] password flag without password", flags: 0xc2, username: "u" },
    { what: "[MQTT-3.1.2-9] will flag without will", flags: 0x06 },
  ])("$what → refused", async ({ flags, username }) => {
    for (const version of [4, 5] as const) {
      const client = await opened(version);
      // The flags promise more than the packet has; a user name is only written when it is given.
      const head = [field("MQTT"), Buffer.from([version, flags]), u16(60)];
      const user = username === undefined ? [] : [field(username)];
      client.send(packet(0x10, ...head, propertyBlock(version), field("c"), ...user));
      await violated(client, MALFORMED);
    }
  });

  test("[3.1: 3.1] the user name flag without a user name is valid in MQTT 3.1", async () => {
    const client = await opened(3);
    client.connect({ clientId: "c", flags: 0x82 });
    await client.expect("connack", { code: 0 });
  });

  test.each([
    { what: "[MQTT-3.1.2-16] user name without its flag", options: { username: "u", flags: 0x02 } },
    { what: "[MQTT-3.1.2-18] password without its flag", options: { password: "p", flags: 0x02 } },
    { what: "will without its flag", options: { will: { topic: "w" }, flags: 0x02 } },
  ])("$what (bytes left over) → refused", async ({ options }) => {
    for (const version of VERSIONS) {
      const client = await opened(version);
      client.connect({ clientId: "c", ...options });
      await violated(client, MALFORMED);
    }
  });

  test("[3.1.1: MQTT-3.1.2-22] a password without user name: 3.x closed, v5 allowed", async () => {
    for (const version of [3, 4] as const) {
      const client = await opened(version);
      client.connect({ clientId: "c", password: "secret" });
      await client.closed();
    }
    const recorder = recordingPlugin();
    const broker = await startBroker({ allow_anonymous: "off" }, [recorder.plugin]);
    await connectClient(broker, 5, { clientId: "c", password: "secret" });
    const [asked] = recorder.of("auth_on_register_m5");
    expect(asked?.username).toBeUndefined();
    expect(asked?.password?.toString()).toBe("secret");
  });

  test("3.1.3.5 user name and password may be empty; the password is binary", async () => {
    const recorder = recordingPlugin();
    const broker = await startBroker({ allow_anonymous: "off" }, [recorder.plugin]);
    const password = Buffer.from([0, 255, 128, 0]);
    await connectClient(broker, 4, { clientId: "c1", username: "", password: "" });
    await connectClient(broker, 4, { clientId: "c2", username: "ä😀", password });
    const [first, second] = recorder.of("auth_on_register");
    expect(first).toMatchObject({ username: "", password: Buffer.alloc(0) });
    expect(second).toMatchObject({ username: "ä😀", password });
  });

  test("[MQTT-3.1.3-1] the order of the payload: client id, will, user name, password", async () => {
    const recorder = recordingPlugin();
    const broker = await startBroker({ allow_anonymous: "off" }, [recorder.plugin]);
    for (const version of VERSIONS) {
      recorder.clear();
      await connectClient(broker, version, {
        clientId: `id${version}`,
        will: { topic: "will topic", payload: "will payload", qos: 1, retain: true },
        username: "user",
        password: "word",
      });
      const [asked] = recorder.of(version === 5 ? "auth_on_register_m5" : "auth_on_register");
      expect(asked).toMatchObject({
        subscriber_id: { mountpoint: "", client_id: `id${version}` },
        username: "user",
        password: Buffer.from("word"),
      });
      const [will] = recorder.of(version === 5 ? "auth_on_publish_m5" : "auth_on_publish");
      expect(will).toMatchObject({ topic: "will topic", qos: 1, retain: true });
      expect(will?.payload.toString()).toBe("will payload");
    }
  });

  test("[MQTT-3.1.4-1] every cut of a CONNECT is refused or waited for, never accepted", async () => {
    const broker = await startBroker();
    const will = { topic: "w", payload: "p" };
    const options: ConnectOptions = { clientId: "c", username: "u", password: "p", will };
    for (const version of [4, 5] as const) {
      const whole = encodeConnect(version, options);
      for (let length = 1; length < whole.length - 2; length++) {
        const client = await openClient(broker, version);
        // The remaining length says that this is all.
        client.send(packet(0x10, whole.subarray(2, 2 + length)));
        const last = await client.next().catch(() => undefined);
        if (last !== undefined) {
          expect(last.type, `${length} bytes`).toBe("connack");
          expect(last.code, `${length} bytes`).toBeGreaterThanOrEqual(version === 5 ? 0x80 : 1);
          await client.closed();
        }
      }
    }
    expect(broker.sessions()).toEqual([]);
  }, 60_000);
});

describe("client identifiers", () => {
  test("[MQTT-3.1.3-5] all of 1 to 23 letters and digits are accepted", async () => {
    const broker = await startBroker();
    const all = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
    for (const version of VERSIONS) {
      for (const clientId of ["a", all.slice(0, 23), all.slice(23, 46), all.slice(40)]) {
        await connectClient(broker, version, { clientId });
      }
    }
  });

  test("3.1.3.1 other characters are accepted, too, and seen unchanged", async () => {
    const broker = await startBroker();
    const clientId = "a/b+#ä 😀$";
    await connectClient(broker, 4, { clientId });
    expect(broker.sessions()[0]?.client_id).toBe(clientId);
  });

  test("[MQTT-3.1.3-6] [MQTT-3.1.3-7] [MQTT-3.2.2-16] empty → a new unique id, returned, and used", async () => {
    const broker = await startBroker();
    const ids = new Set<string>();
    for (let i = 0; i < 20; i++) {
      const client = await connectClient(broker, 5, { clientId: "" });
      const id = client.connack?.properties?.assignedClientIdentifier ?? "";
      expect(id).not.toBe("");
      ids.add(id);
    }
    expect(ids.size).toBe(20);
    expect(new Set(broker.sessions().map((one) => one.client_id))).toEqual(ids);
    const named = await connectClient(broker, 5, { clientId: "named" });
    expect(named.connack?.properties?.assignedClientIdentifier).toBeUndefined();
  });

  test("[MQTT-3.1.3-7] an assigned id can be used to come back to the session", async () => {
    const broker = await startBroker();
    const properties = { sessionExpiryInterval: 100 };
    const first = await connectClient(broker, 5, { clientId: "", properties });
    const clientId = first.connack?.properties?.assignedClientIdentifier ?? "";
    await first.disconnected();
    const second = await connectClient(broker, 5, { clientId, clean: false, properties });
    expect(second.connack?.sessionPresent).toBe(true);
  });

  test("[3.1.1: MQTT-3.1.3-8] v4 empty id with clean session 0 → 0x02 and close", async () => {
    const client = await opened(4);
    await client.refused({ clientId: "", clean: false }, 2);
  });

  test("[MQTT-3.1.3-2] the id names the session: ids are compared byte by byte", async () => {
    const broker = await startBroker();
    const all = ["id", "ID", "id ", "\u00e9", "e\u0301"];
    const clients = [];
    for (const clientId of all) clients.push(await connectClient(broker, 4, { clientId }));
    for (const client of clients) await client.ping();
    expect(broker.sessions()).toHaveLength(all.length);
  });
});

describe("sessions at CONNECT", () => {
  const BOTH = [4, 5] as const;

  test.each(BOTH)(
    "[MQTT-3.1.2-4] [MQTT-3.2.2-2] v%i clean start discards the session, Session Present 0",
    async (version) => {
      const broker = await startBroker();
      const first = await connectClient(broker, version, persistent(version, "c"));
      await first.subscribed("a", { qos: 1 });
      await first.disconnected();
      const p = await connectClient(broker, 4);
      await p.published({ topic: "a", qos: 1 });
      const clean = { ...persistent(version, "c"), clean: true };
      const second = await connectClient(broker, version, clean);
      expect(second.connack?.sessionPresent).toBe(false);
      await p.published({ topic: "a", qos: 1 });
      await second.expectNothing();
    },
  );

  test.each(BOTH)(
    "[MQTT-3.1.2-5] [MQTT-3.1.2-6] [MQTT-3.2.2-3] v%i Session Present says whether there was a session",
    async (version) => {
      const broker = await startBroker();
      for (const isPresent of [false, true, true]) {
        const client = await connectClient(broker, version, persistent(version, "c"));
        expect(client.connack?.sessionPresent).toBe(isPresent);
        await client.disconnected();
      }
    },
  );

  test("[MQTT-3.1.2-23] [MQTT-4.1.0-2] the state is kept for the expiry interval, then discarded", async () => {
    const broker = await startBroker();
    const properties = { sessionExpiryInterval: 1 };
    const client = await connectClient(broker, 5, { clientId: "c", properties });
    client.cut();
    await waitOffline(broker, "c");
    expect(broker.sessions()).toHaveLength(1);
    await waitGone(broker, "c", 3000);
  });

  test("[MQTT-4.1.0-1] the state is not discarded while the connection is open", async () => {
    const broker = await startBroker();
    const s = await connectClient(broker, 5, {
      clientId: "c",
      properties: { sessionExpiryInterval: 1 },
    });
    await s.subscribed("a");
    await hourglass(1, broker);
    await s.publish({ topic: "a", payload: "x" });
    await s.delivered({ payload: "x" });
  });

  test("[MQTT-3.1.2-23] an expiry interval of 0 or none: gone with the connection", async () => {
    const broker = await startBroker();
    for (const properties of [{}, { sessionExpiryInterval: 0 }]) {
      const client = await connectClient(broker, 5, { clientId: "c", clean: false, properties });
      client.cut();
      await waitGone(broker, "c");
    }
  });

  test.each(BOTH)(
    "[MQTT-3.1.4-3] v%i the same id again: the first is told and closed",
    async (version) => {
      const broker = await startBroker();
      const first = await connectClient(broker, version, { clientId: "c" });
      const second = await connectClient(broker, version, { clientId: "c" });
      await first.ended(0x8e);
      await second.ping();
      expect(broker.sessions()).toHaveLength(1);
    },
  );

  test("3.1.2.11.2 the interval of the newest CONNECT counts", async () => {
    const broker = await startBroker();
    const first = await connectClient(broker, 5, persistent(5, "c"));
    await first.subscribed("a", { qos: 1 });
    await first.disconnected();
    const second = await connectClient(broker, 5, { clientId: "c", clean: false });
    expect(second.connack?.sessionPresent).toBe(true);
    await second.disconnected();
    await waitGone(broker, "c");
    const third = await connectClient(broker, 5, persistent(5, "c"));
    expect(third.connack?.sessionPresent).toBe(false);
  });

  test("a client may come back with another protocol version", async () => {
    const broker = await startBroker();
    const first = await connectClient(broker, 4, persistent(4, "c"));
    await first.subscribed("a", { qos: 2 });
    await first.disconnected();
    const p = await connectClient(broker, 5);
    await p.published({ topic: "a", payload: "x", qos: 2, properties: { contentType: "t" } });
    const second = await connectClient(broker, 5, persistent(5, "c"));
    expect(second.connack?.sessionPresent).toBe(true);
    await second.delivered({ payload: "x", exactProperties: { contentType: "t" } });
    await second.disconnected();
    await p.published({ topic: "a", payload: "y", qos: 2, properties: { contentType: "t" } });
    const third = await connectClient(broker, 3, persistent(3, "c"));
    await third.delivered({ payload: "y" });
  });
});

describe("around CONNECT", () => {
  test("[MQTT-3.1.4-5] [MQTT-3.2.0-1] packets sent with CONNECT are answered after CONNACK, in order", async () => {
    for (const version of VERSIONS) {
      const client = await opened(version);
      client.sendTogether(
        encodeConnect(version, { clientId: "c" }),
        encodeSubscribe(version, 1, [{ filter: "a", qos: 1 }]),
        encodePublish(version, { topic: "b", qos: 1, packetId: 2 }),
        bytes("c0 00"),
      );
      await client.expect("connack", { code: 0 });
      await client.expect("suback", { packetId: 1, codes: [1] });
      await client.expect("puback", { packetId: 2 });
      await client.expect("pingresp");
    }
  });

  test("[MQTT-3.2.0-1] with a hook that takes its time, too", async () => {
    const answer = () => new Promise<"ok">((resolve) => setTimeout(() => resolve("ok"), 30));
    const broker = await startBroker({ allow_anonymous: "off" }, [
      pluginWith({ auth_on_register: answer, auth_on_register_m5: answer }),
    ]);
    for (const version of VERSIONS) {
      const client = await openClient(broker, version);
      client.sendTogether(encodeConnect(version, { clientId: "c" }), bytes("c0 00"));
      client.send(encodeSubscribe(version, 1, [{ filter: "a" }]));
      await client.expect("connack", { code: 0 });
      await client.expect("pingresp");
      await client.expect("suback", { packetId: 1 });
    }
  });

  test("[MQTT-3.2.0-1] stored messages come after CONNACK", async () => {
    const broker = await startBroker();
    const first = await connectClient(broker, 5, persistent(5, "c"));
    await first.subscribed("a", { qos: 1 });
    await first.disconnected();
    const p = await connectClient(broker, 5);
    await p.published({ topic: "a", payload: "kept", qos: 1 });
    const again = await openClient(broker, 5);
    again.connect(persistent(5, "c"));
    await again.expect("connack", { code: 0, sessionPresent: true });
    await again.delivered({ payload: "kept" });
  });

  test("[MQTT-3.1.4-6] [3.1.1: MQTT-3.1.4-5] nothing behind a refused CONNECT is processed", async () => {
    for (const version of VERSIONS) {
      const broker = await startBroker({ allow_anonymous: "off" }, [
        refusing("auth_on_register", (args) => args.username === "bad"),
      ]);
      const s = await connectClient(broker, 4, { clientId: "s", username: "good" });
      await s.subscribed("a");
      const client = await openClient(broker, version);
      client.sendTogether(
        encodeConnect(version, { clientId: "c", username: "bad" }),
        encodePublish(version, { topic: "a", payload: "x", retain: true }),
      );
      const { code } = await client.expect("connack", { sessionPresent: false });
      expect(code).not.toBe(0);
      await client.closed();
      await s.expectNothing();
      expect(broker.retained()).toEqual([]);
    }
  });

  test("[MQTT-3.14.0-1] no DISCONNECT is sent before a successful CONNACK", async () => {
    const broker = await startBroker({ mqtt_connect_timeout: "200" });
    const silent = await openClient(broker, 5);
    await silent.closed(3000);
    const malformed = await openClient(broker, 5);
    malformed.connect({ clientId: "c", flags: 3 });
    const { type } = await malformed.next();
    expect(type).toBe("connack");
    await malformed.closed();
  });
});
