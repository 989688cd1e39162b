import { describe, expect, test } from "vitest";
import { startBroker, waitGone, waitOffline } from "../support/broker.ts";
import { pluginWith } from "../support/plugins.ts";
import {
  bytes,
  connectClient,
  encodeCoded,
  encodePublish,
  openClient,
  packet,
  propertyBlock,
  type RawClient,
  type Version,
} from "../support/raw-client.ts";
import { numbers, payloads, publishSeries } from "../support/series.ts";
import { persistent } from "../support/sessions.ts";
import { MALFORMED, PROTOCOL_ERROR, violated } from "../support/violations.ts";

/**
 * Normative statements on PINGREQ, DISCONNECT, AUTH, session state, error handling and WebSocket (MQTT
 * 5.0, 3.12 to 3.15, 4.1, 4.2, 4.12, 4.13, 6).
 */

const VERSIONS = [3, 4, 5] as const;

async function connected(version: Version): Promise<RawClient> {
  return connectClient(await startBroker(), version, { clientId: "c" });
}

describe("PINGREQ", () => {
  test.each(VERSIONS)("[MQTT-3.12.4-1] v%i every PINGREQ has its PINGRESP", async (version) => {
    const client = await connected(version);
    client.sendTogether(...Array.from({ length: 100 }, () => bytes("c0 00")));
    for (let i = 0; i < 100; i++) {
      const { raw } = await client.expect("pingresp");
      expect(raw).toEqual(bytes("d0 00"));
    }
  });

  test.each(VERSIONS)("2.1.4 v%i PINGREQ with a body → refused", async (version) => {
    const client = await connected(version);
    client.send("c0 01 00");
    await violated(client, MALFORMED, PROTOCOL_ERROR);
  });
});

describe("DISCONNECT", () => {
  test("[MQTT-3.14.4-3] after 0x00 the will is discarded for good", async () => {
    const broker = await startBroker();
    const s = await connectClient(broker, 5, { clientId: "s" });
    await s.subscribed("will");
    const properties = { sessionExpiryInterval: 1 };
    for (const code of [undefined, 0]) {
      const client = await connectClient(broker, 5, {
        clientId: "c",
        properties,
        will: { topic: "will", properties: { willDelayInterval: 0 } },
      });
      await client.disconnected(code);
      await s.expectNothing();
    }
    await waitGone(broker, "c", 3000);
    await s.expectNothing();
  });

  test.each(VERSIONS)(
    "[MQTT-3.14.4-1] v%i what comes behind DISCONNECT is not processed",
    async (version) => {
      const broker = await startBroker();
      const s = await connectClient(broker, 4, { clientId: "s" });
      await s.subscribed("a");
      const client = await connectClient(broker, version, { clientId: "c" });
      client.sendTogether(
        encodePublish(version, { topic: "a", payload: "before" }),
        bytes("e0 00"),
        encodePublish(version, { topic: "a", payload: "behind" }),
      );
      await client.closed();
      await s.delivered({ payload: "before" });
      await s.expectNothing();
    },
  );

  test("[MQTT-3.14.1-1] reserved flags → 0x81 and the will", async () => {
    const broker = await startBroker();
    const s = await connectClient(broker, 4, { clientId: "s" });
    await s.subscribed("will");
    for (const version of VERSIONS) {
      const will = { topic: "will", payload: "gone" };
      const client = await connectClient(broker, version, { clientId: "c", will });
      client.send("e1 00");
      await violated(client, MALFORMED);
      await s.delivered({ payload: "gone" });
    }
  });

  test.each([0x01, 0x8b, 0x8d, 0x8e, 0x9c, 0xff])(
    "[MQTT-3.14.2-1] reason code %i is not for clients → refused, the will is published",
    async (code) => {
      const broker = await startBroker();
      const s = await connectClient(broker, 4, { clientId: "s" });
      await s.subscribed("will");
      const will = { topic: "will", payload: "gone" };
      const client = await connectClient(broker, 5, { clientId: "c", will });
      client.disconnect(code);
      await violated(client, PROTOCOL_ERROR, MALFORMED);
      await s.delivered({ payload: "gone" });
    },
  );

  test("3.14.2.2.2 session expiry: shorter, longer and none", async () => {
    for (const [given, isPresent] of [
      [undefined, true],
      [0, false],
      [1000, true],
      [0xffff_ffff, true],
    ] as const) {
      const broker = await startBroker();
      const options = persistent(5, "c");
      const first = await connectClient(broker, 5, options);
      await first.disconnected(0, given === undefined ? {} : { sessionExpiryInterval: given });
      const second = await connectClient(broker, 5, options);
      expect(second.connack?.sessionPresent, String(given)).toBe(isPresent);
    }
  });

  test("3.14.2.2.2 from 0 to more than 0 → protocol error", async () => {
    const client = await connected(5);
    client.disconnect(0, { sessionExpiryInterval: 10 });
    await violated(client, PROTOCOL_ERROR);
  });

  test.each([
    { what: "content type", properties: { contentType: "x" } },
    { what: "receive maximum", properties: { receiveMaximum: 5 } },
  ])("3.14.2.2 $what in DISCONNECT of a client → refused", async ({ properties }) => {
    const client = await connected(5);
    client.disconnect(0, properties);
    await violated(client, PROTOCOL_ERROR, MALFORMED);
  });

  test("[MQTT-3.14.2-2] [MQTT-3.14.4-2] the broker's DISCONNECT has no session expiry and is the last packet", async () => {
    const broker = await startBroker();
    const client = await connectClient(broker, 5, persistent(5, "c"));
    await client.subscribed("a");
    broker.disconnectClient("c");
    const last = await client.expect("disconnect", { code: 0x98 });
    expect(last.properties?.sessionExpiryInterval).toBeUndefined();
    await client.closed();
  });

  test("4.13 a broker that stops: v5 0x8B, older clients are closed", async () => {
    const broker = await startBroker();
    const clients = [];
    for (const version of VERSIONS) {
      clients.push(await connectClient(broker, version, { clientId: `c${version}` }));
    }
    await broker.close();
    for (const client of clients) await client.ended(0x8b);
  });
});

describe("AUTH", () => {
  test("[MQTT-4.12.0-6] without a method in CONNECT the broker sends no AUTH and no method", async () => {
    const broker = await startBroker({}, [pluginWith({ on_auth_m5: () => "ok" })]);
    const client = await connectClient(broker, 5, { clientId: "c" });
    expect(client.connack?.properties?.authenticationMethod).toBeUndefined();
    await client.expectNothing();
  });

  test("[MQTT-4.12.0-7] AUTH without a method in CONNECT → protocol error", async () => {
    const client = await connected(5);
    client.auth(0x19, { authenticationMethod: "m" });
    await violated(client, PROTOCOL_ERROR);
  });

  test("[MQTT-4.12.0-5] CONNACK carries the method of CONNECT, whatever the hook says", async () => {
    const broker = await startBroker({}, [
      pluginWith({
        on_auth_m5: () => ({
          ok: { reason_code: 0, properties: { p_authentication_data: Buffer.from("d") } },
        }),
      }),
    ]);
    const client = await openClient(broker, 5);
    client.connect({ clientId: "c", properties: { authenticationMethod: "m" } });
    await client.expect("connack", {
      code: 0,
      properties: { authenticationMethod: "m", authenticationData: "d" },
    });
  });

  test("[MQTT-3.15.2-1] AUTH with a code that is not for clients → refused", async () => {
    for (const code of [0x01, 0x87]) {
      const broker = await startBroker({}, [pluginWith({ on_auth_m5: () => "ok" })]);
      const client = await openClient(broker, 5);
      client.connect({ clientId: "c", properties: { authenticationMethod: "m" } });
      client.connack = await client.expect("connack", { code: 0 });
      client.auth(code, { authenticationMethod: "m" });
      await violated(client, PROTOCOL_ERROR, MALFORMED);
    }
  });

  test("3.15.2.2.2 AUTH without method → protocol error", async () => {
    const broker = await startBroker({}, [pluginWith({ on_auth_m5: () => "ok" })]);
    const client = await openClient(broker, 5);
    client.connect({ clientId: "c", properties: { authenticationMethod: "m" } });
    client.connack = await client.expect("connack", { code: 0 });
    client.send(packet(0xf0, Buffer.from([0x19]), propertyBlock(5)));
    await violated(client, PROTOCOL_ERROR);
  });

  test("[MQTT-4.12.0-1] no plugin knows the method → CONNACK 0x8C, closed", async () => {
    const client = await openClient(await startBroker(), 5);
    await client.refused({ clientId: "c", properties: { authenticationMethod: "m" } }, 0x8c);
  });

  test("[MQTT-4.12.0-4] a hook that fails refuses, it does not accept and does not hang", async () => {
    for (const fail of [
      () => {
        throw new Error("boom");
      },
      () => Promise.reject(new Error("boom")),
    ]) {
      const broker = await startBroker({}, [pluginWith({ on_auth_m5: fail })]);
      const client = await openClient(broker, 5);
      client.connect({ clientId: "c", properties: { authenticationMethod: "m" } });
      const { code } = await client.expect("connack");
      expect(code).toBeGreaterThanOrEqual(0x80);
      await client.closed();
    }
  });
});

describe("session state", () => {
  test.each([4, 5] as const)(
    "[MQTT-4.2.0-1] v%i subscriptions, queue, in-flight of both directions belong to the session",
    async (version) => {
      const broker = await startBroker();
      const first = await connectClient(broker, version, persistent(version, "c"));
      await first.subscribed(["a", "b/#"], { qos: 2 });
      const p = await connectClient(broker, version, { clientId: "p" });
      await p.published({ topic: "a", payload: "flying", qos: 1 });
      const flying = await first.expect("publish", { payload: "flying" });
      first.publish({ topic: "elsewhere", qos: 2, packetId: 7 });
      await first.expect("pubrec", { packetId: 7 });
      first.cut();
      await waitOffline(broker, "c");
      await p.published({ topic: "b/c", payload: "waiting", qos: 2 });

      const second = await connectClient(broker, version, persistent(version, "c"));
      expect(second.connack?.sessionPresent).toBe(true);
      await second.delivered({
        payload: "flying",
        dup: true,
        packetId: flying.packetId ?? 0,
      });
      await second.delivered({ payload: "waiting", dup: false });
      second.pubrel(7);
      await second.expect("pubcomp", version === 5 ? { packetId: 7, code: 0 } : { packetId: 7 });
      await p.published({ topic: "b/d", payload: "live", qos: 0 });
      await second.delivered({ payload: "live" });
    },
  );

  test("[MQTT-4.1.0-2] nothing of a clean session is left", async () => {
    const broker = await startBroker();
    const before = broker.metrics();
    const s = await connectClient(broker, 4, { clientId: "s" });
    await s.subscribed(["a", "$share/g/a"], { qos: 2 });
    const p = await connectClient(broker, 4, { clientId: "p" });
    for (const qos of [1, 2]) await p.published({ topic: "a", qos });
    s.cut();
    p.cut();
    await waitGone(broker, "s");
    await waitGone(broker, "p");
    const after = broker.metrics();
    for (const gauge of ["queue_processes", "router_subscriptions", "retain_messages"]) {
      expect(after[gauge], gauge).toBe(before[gauge]);
    }
  });

  test("packet identifiers are not used again while one is in flight, also past 65535", async () => {
    const broker = await startBroker({
      upgrade_outgoing_qos: "on",
      max_online_messages: "-1",
      max_inflight_messages: "0",
    });
    const s = await connectClient(broker, 4, { clientId: "s" });
    await s.subscribed("a", { qos: 1 });
    const p = await connectClient(broker, 4, { clientId: "p" });
    await publishSeries(p, 1, { topic: "a" });
    const held = await s.expect("publish", { payload: "1", qos: 1 });
    const BATCH = 5000;
    let seenAgain = 0;
    for (let from = 2; from < 66_000; from += BATCH) {
      await publishSeries(p, from + BATCH - 1, { topic: "a" }, from);
      const got = await s.receive(BATCH, 20_000);
      expect(payloads([got[0], got[BATCH - 1]].filter((one) => one !== undefined))).toEqual([
        String(from),
        String(from + BATCH - 1),
      ]);
      seenAgain += got.filter((one) => one.packetId === held.packetId).length;
    }
    expect(seenAgain).toBe(0);
  }, 120_000);
});

describe("error handling", () => {
  test.each(VERSIONS)(
    "[MQTT-4.13.1-1] [4.8.0-1] v%i random bytes never harm the broker",
    async (version) => {
      const broker = await startBroker();
      const other = await connectClient(broker, 4, { clientId: "other" });
      let seed = 12_345;
      const random = () => {
        seed = (seed * 1_103_515_245 + 12_345) & 0x7fff_ffff;
        return seed / 0x7fff_ffff;
      };
      for (let i = 0; i < 100; i++) {
        const client = await connectClient(broker, version, { clientId: "c" });
        const junk = Buffer.from(Array.from({ length: 64 }, () => Math.floor(random() * 256)));
        client.send(junk);
        client.end();
      }
      await other.ping();
      await other.subscribed("a", { qos: 1 });
      await other.published({ topic: "b", qos: 1 });
    },
  );

  test("[MQTT-4.13.2-1] a reason code of 0x80 in other packets leaves the connection open", async () => {
    const broker = await startBroker({ max_subscriptions_per_client: "1" }, [
      pluginWith({
        auth_on_publish_m5: ({ topic }) => (topic === "no" ? { error: "not_authorized" } : "next"),
      }),
    ]);
    const client = await connectClient(broker, 5, { clientId: "c" });
    const packetId = client.publish({ topic: "no", qos: 1 });
    await client.expect("puback", { packetId, code: 0x87 });
    expect(await client.subscribed(["a", "b"])).toEqual([0, 0x97]);
    client.pubrel(999);
    await client.expect("pubcomp", { code: 0x92 });
    await client.ping();
  });

  test("one client's fault is nobody else's: messages of the faulty one up to it are routed", async () => {
    const broker = await startBroker();
    const s = await connectClient(broker, 4, { clientId: "s" });
    await s.subscribed("a");
    const client = await connectClient(broker, 5, { clientId: "c" });
    const frames = numbers(1, 5).map((payload) => encodePublish(5, { topic: "a", payload }));
    client.sendTogether(...frames, bytes("00 00"), ...frames);
    await violated(client, MALFORMED);
    for (const payload of numbers(1, 5)) await s.delivered({ payload });
    await s.expectNothing();
  });

  test("a client that never reads does not stop the others", async () => {
    const broker = await startBroker({ max_online_messages: "10" });
    const stuck = await connectClient(broker, 4, { clientId: "stuck" });
    await stuck.subscribed("a");
    stuck.pause();
    const s = await connectClient(broker, 4, { clientId: "s" });
    await s.subscribed("a");
    const p = await connectClient(broker, 4, { clientId: "p" });
    const payload = Buffer.alloc(100_000);
    for (let i = 0; i < 200; i++) {
      await p.published({ topic: "a", payload });
      await s.delivered({ payload });
    }
    expect(broker.metrics().queue_message_drop).toBeGreaterThan(0);
    stuck.cut();
  });

  test("an answer to DISCONNECT is not waited for: the id is free at once", async () => {
    const broker = await startBroker();
    for (let i = 0; i < 30; i++) {
      const client = await connectClient(broker, 5, { clientId: "c" });
      client.send(encodeCoded("disconnect", 0));
      client.end();
    }
    await waitGone(broker, "c");
  });
});

describe("WebSocket", () => {
  test("[MQTT-6.0.0-1] [MQTT-6.0.0-2] packets need not keep to frames", async () => {
    const broker = await startBroker({ "listener.ws.default": "127.0.0.1:0" });
    const target = { transport: "ws" as const, port: broker.port("ws") };
    const client = await connectClient(target, 5, { clientId: "c" });
    expect(client.subprotocol).toBe("mqtt"); // [MQTT-6.0.0-4]
    await client.subscribed("a", { qos: 1 });
    const stream = Buffer.concat(
      numbers(1, 20).map((payload) =>
        encodePublish(5, { topic: "a", payload, qos: 1, packetId: Number(payload) }),
      ),
    );
    for (let at = 0; at < stream.length; at += 7) client.send(stream.subarray(at, at + 7));
    const got: string[] = [];
    let pubacks = 0;
    while (got.length < 20 || pubacks < 20) {
      const one = await client.next();
      if (one.type === "puback") pubacks++;
      else {
        got.push(one.payload?.toString() ?? "");
        client.puback(one.packetId);
      }
    }
    expect(got).toEqual(numbers(1, 20));
  });

  test("keep alive, takeover and order work on WebSocket as on TCP", async () => {
    const broker = await startBroker({ "listener.ws.default": "127.0.0.1:0" });
    const target = { transport: "ws" as const, port: broker.port("ws") };
    const first = await connectClient(target, 5, { clientId: "c" });
    const second = await connectClient(broker, 5, { clientId: "c" });
    await first.ended(0x8e);
    const third = await connectClient(target, 5, { clientId: "c", keepAlive: 1 });
    await second.ended(0x8e);
    await third.ended(0x8d);
  });
});
