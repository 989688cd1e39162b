import { describe, expect, test } from "vitest";
import { startBroker } from "../support/broker.ts";
import { pluginWith, refusing } from "../support/plugins.ts";
import { connectClient, openClient } from "../support/raw-client.ts";
import { persistent } from "../support/sessions.ts";

/** Normative statements on CONNACK and server redirect (MQTT 5.0, 3.2, 4.11; "3.1.1:" the older number). */

const VERSIONS = [3, 4, 5] as const;

describe("CONNACK", () => {
  test("[MQTT-3.2.2-1] the reserved bits of the flags are 0", async () => {
    const broker = await startBroker();
    for (const version of VERSIONS) {
      const first = await connectClient(broker, version, persistent(version, `c${version}`));
      expect(first.connack?.raw[2]).toBe(0);
      await first.disconnected();
      const second = await connectClient(broker, version, persistent(version, `c${version}`));
      // MQTT 3.1 has no Session Present; VerneMQ sends it all the same.
      if (version > 3) expect(second.connack?.raw[2]).toBe(1);
      expect((second.connack?.raw[2] ?? 0) & 0xfe).toBe(0);
    }
  });

  test("[MQTT-3.2.2-6] [MQTT-3.2.2-7] a refusal has Session Present 0 and ends in a close", async () => {
    const broker = await startBroker({ allow_anonymous: "off" }, [
      refusing("auth_on_register", (args) => args.username === "bad"),
    ]);
    for (const version of VERSIONS) {
      const kept = { ...persistent(version, `c${version}`), username: "good" };
      const first = await connectClient(broker, version, kept);
      await first.disconnected();
      const second = await openClient(broker, version);
      const code = version === 5 ? 0x87 : 5;
      second.connect({ ...kept, username: "bad" });
      const connack = await second.expect("connack", { sessionPresent: false });
      expect(version === 5 ? [0x86, 0x87] : [code]).toContain(connack.code);
      await second.closed();
      // The session that was there is untouched.
      const third = await connectClient(broker, version, kept);
      expect(third.connack?.sessionPresent).toBe(true);
    }
  });

  test("[MQTT-3.2.2-8] a hook's code that CONNACK does not know is not sent", async () => {
    for (const reason_code of [0x10, 0x92, 0x04, 0xff, "no_such_name"]) {
      const refuse = () => ({ error: { reason_code } });
      const broker = await startBroker({ allow_anonymous: "off" }, [
        pluginWith({ auth_on_register_m5: refuse }),
      ]);
      const client = await openClient(broker, 5);
      client.connect({ clientId: "c" });
      const { code = 0 } = await client.expect("connack");
      expect(CONNACK_CODES).toContain(code);
      expect(code).toBeGreaterThanOrEqual(0x80);
      await client.closed();
    }
  });

  /** MQTT 5.0, 3.2.2.2. */
  const CONNACK_CODES = [
    0x00, 0x80, 0x81, 0x82, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8a, 0x8c, 0x90, 0x95, 0x97,
    0x99, 0x9a, 0x9b, 0x9c, 0x9d, 0x9f,
  ];

  test("[MQTT-3.2.2-19] [MQTT-3.2.2-20] Reason String and User Property go if CONNACK is too large", async () => {
    const refuse = () => ({
      error: { reason_code: "quota_exceeded", reason_string: "r".repeat(200) },
    });
    const broker = await startBroker({ allow_anonymous: "off" }, [
      pluginWith({ auth_on_register_m5: refuse }),
    ]);
    const small = await openClient(broker, 5);
    const connack = await small.refused(
      { clientId: "c", properties: { maximumPacketSize: 50 } },
      0x97,
    );
    expect(connack.properties?.reasonString).toBeUndefined();
    const large = await openClient(broker, 5);
    await large.refused({ clientId: "c" }, 0x97, {
      properties: { reasonString: "r".repeat(200) },
    });
  });

  test("[MQTT-3.2.2-21] Server Keep Alive of the hook is announced and used", async () => {
    const broker = await startBroker({ allow_anonymous: "off" }, [
      pluginWith({
        auth_on_register_m5: () => ({ ok: { properties: { p_server_keep_alive: 1 } } }),
      }),
    ]);
    const client = await connectClient(broker, 5, { clientId: "c", keepAlive: 0 });
    expect(client.connack?.properties?.serverKeepAlive).toBe(1);
    await client.ended(0x8d);
  });

  test("[MQTT-3.2.2-22] [MQTT-3.1.2-22] without it the client's Keep Alive counts, 1.5 times", async () => {
    const broker = await startBroker();
    for (const version of [4, 5] as const) {
      const client = await connectClient(broker, version, { clientId: "c", keepAlive: 1 });
      expect(client.connack?.properties?.serverKeepAlive).toBeUndefined();
      const startedAt = performance.now();
      await client.ended(0x8d);
      const tookMs = performance.now() - startedAt;
      expect(tookMs).toBeGreaterThanOrEqual(1450);
      expect(tookMs).toBeLessThan(3000);
    }
  });

  test("[MQTT-3.1.2-22] any packet counts as life, QoS 0 PUBLISH included; what is received does not", async () => {
    const broker = await startBroker();
    const talker = await connectClient(broker, 4, { clientId: "talker", keepAlive: 1 });
    const listener = await connectClient(broker, 4, { clientId: "listener", keepAlive: 1 });
    await listener.subscribed("a");
    const connectedAt = performance.now();
    const timer = setInterval(() => talker.publish({ topic: "a" }), 300);
    try {
      while (!listener.isClosed) {
        const one = await listener.next(4000).catch(() => undefined);
        if (one === undefined) break;
      }
      expect(performance.now() - connectedAt).toBeLessThan(3000);
      await talker.ping();
      expect(broker.sessions().map((one) => one.client_id)).toEqual(["talker"]);
    } finally {
      clearInterval(timer);
    }
  });

  test("[MQTT-3.2.2-9] [MQTT-3.2.2-10] Maximum QoS 1: announced; subscriptions with QoS 2 are accepted", async () => {
    const broker = await startBroker({ allow_anonymous: "off" }, [
      pluginWith({
        auth_on_register_m5: () => ({ ok: { properties: { p_max_qos: 1 } } }),
      }),
    ]);
    const client = await connectClient(broker, 5, { clientId: "c" });
    expect(client.connack?.properties?.maximumQoS).toBe(1);
    expect(await client.subscribed("a", { qos: 2 })).toEqual([1]);
    await client.published({ topic: "b", qos: 1 });
    client.publish({ topic: "b", qos: 2 });
    await client.ended(0x9b);
  });

  test.each([
    { what: "[MQTT-3.2.2-12] will QoS", limit: { p_max_qos: 0 }, will: { qos: 1 }, code: 0x9b },
    {
      what: "[MQTT-3.2.2-13] will RETAIN",
      limit: { p_retain_available: false },
      will: { retain: true },
      code: 0x9a,
    },
  ])("$what above what the session may → refused", async ({ limit, will, code }) => {
    const broker = await startBroker({ allow_anonymous: "off" }, [
      pluginWith({ auth_on_register_m5: () => ({ ok: { properties: limit } }) }),
    ]);
    const client = await openClient(broker, 5);
    await client.refused({ clientId: "c", will: { topic: "w", ...will } }, code);
  });

  test.each([
    {
      what: "wildcards 0xA2",
      limit: { p_wildcard_subs_available: false },
      filter: "a/#",
      code: 0xa2,
    },
    {
      what: "shared 0x9E",
      limit: { p_shared_subs_available: false },
      filter: "$share/g/a",
      code: 0x9e,
    },
    {
      what: "identifiers 0xA1",
      limit: { p_sub_ids_available: false },
      filter: "a",
      ids: [1],
      code: 0xa1,
    },
  ])("3.2.2.3 what CONNACK says is not available is refused: $what", async (row) => {
    const broker = await startBroker({ allow_anonymous: "off" }, [
      pluginWith({ auth_on_register_m5: () => ({ ok: { properties: row.limit } }) }),
    ]);
    const client = await connectClient(broker, 5, { clientId: "c" });
    expect(await client.subscribed("plain")).toEqual([0]);
    const properties = row.ids === undefined ? {} : { subscriptionIdentifiers: row.ids };
    client.subscribe(row.filter, { properties });
    await client.ended(row.code);
  });

  test("[MQTT-3.1.2-28] Response Information only for a client that asked for it", async () => {
    const broker = await startBroker({ allow_anonymous: "off" }, [
      pluginWith({
        auth_on_register_m5: () => ({ ok: { properties: { p_response_info: "answers/" } } }),
      }),
    ]);
    for (const [asked, got] of [
      [true, "answers/"],
      [false, undefined],
      [undefined, undefined],
    ] as const) {
      const properties = asked === undefined ? {} : { requestResponseInformation: asked };
      const client = await connectClient(broker, 5, { clientId: "c", properties });
      expect(client.connack?.properties?.responseInformation).toBe(got);
    }
  });

  test("3.2.2.3 a limit is announced exactly when it is enforced", async () => {
    const open = await connectClient(await startBroker(), 5, { clientId: "c" });
    expect(open.connack?.properties).toEqual({});
    const limited = await connectClient(
      await startBroker({
        max_message_size: "5000",
        receive_max_broker: "7",
        topic_alias_max_client: "9",
      }),
      5,
      { clientId: "c" },
    );
    expect(limited.connack?.properties).toEqual({
      maximumPacketSize: 5000,
      receiveMaximum: 7,
      topicAliasMaximum: 9,
    });
  });

  test("3.2.2.3.2 a session expiry that the broker changed is returned", async () => {
    const broker = await startBroker({ allow_anonymous: "off" }, [
      pluginWith({ auth_on_register_m5: () => ({ ok: { session_expiry_interval: 5 } }) }),
    ]);
    const asked = { properties: { sessionExpiryInterval: 1000 } };
    const client = await connectClient(broker, 5, { clientId: "c", ...asked });
    expect(client.connack?.properties?.sessionExpiryInterval).toBe(5);
    const same = await connectClient(await startBroker(), 5, { clientId: "c", ...asked });
    expect(same.connack?.properties?.sessionExpiryInterval).toBeUndefined();
  });
});

describe("server redirect", () => {
  test.each([
    { name: "use_another_server", code: 0x9c },
    { name: "server_moved", code: 0x9d },
  ])("4.11 $name → CONNACK with Server Reference, closed", async ({ name, code }) => {
    const refuse = () => ({
      error: { reason_code: name, properties: { p_server_ref: "other.example:1883" } },
    });
    const broker = await startBroker({ allow_anonymous: "off" }, [
      pluginWith({ auth_on_register_m5: refuse, auth_on_register: refuse }),
    ]);
    const client = await openClient(broker, 5);
    await client.refused({ clientId: "c" }, code, {
      properties: { serverReference: "other.example:1883" },
    });
    const old = await openClient(broker, 4);
    await old.refused({ clientId: "c" }, 5);
  });
});
