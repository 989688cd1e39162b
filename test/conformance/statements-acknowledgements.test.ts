import { describe, expect, test } from "vitest";
import { startBroker } from "../support/broker.ts";
import { hourglass } from "../support/hourglass.ts";
import { persistentPair } from "../support/pair.ts";
import { pluginWith } from "../support/plugins.ts";
import { connectClient, encodeAck, packet, u16 } from "../support/raw-client.ts";
import { numbers, payloads, publishSeries } from "../support/series.ts";
import { persistent } from "../support/sessions.ts";
import { MALFORMED, PROTOCOL_ERROR, violated } from "../support/violations.ts";

/** Normative statements on acknowledgements, flow control and order (MQTT 5.0, 3.4 to 3.7, 4.3 to 4.6, 4.9). */

const VERSIONS = [4, 5] as const;

describe("acknowledging what clients publish", () => {
  test.each(VERSIONS)(
    "[MQTT-3.3.4-1] v%i QoS 0 nothing, QoS 1 PUBACK, QoS 2 PUBREC",
    async (version) => {
      const { p } = await persistentPair(version);
      p.publish({ topic: "a", qos: 0 });
      await p.expectNothing();
      p.publish({ topic: "a", qos: 1, packetId: 5 });
      await p.expect("puback", { packetId: 5 });
      p.publish({ topic: "a", qos: 2, packetId: 6 });
      await p.expect("pubrec", { packetId: 6 });
      await p.expectNothing();
    },
  );

  test.each(VERSIONS)(
    "[MQTT-4.3.2-5] v%i after PUBACK the same identifier is a new message, whatever DUP says",
    async (version) => {
      const { s, p } = await persistentPair(version);
      await s.subscribed("a", { qos: 1 });
      for (const dup of [false, true, true]) {
        p.publish({ topic: "a", qos: 1, packetId: 9, dup });
        await p.expect("puback", { packetId: 9 });
        await s.delivered({ qos: 1 });
      }
    },
  );

  test.each(VERSIONS)(
    "[MQTT-4.3.3-10] [MQTT-4.3.3-12] v%i QoS 2: one message until PUBREL, a new one after PUBCOMP",
    async (version) => {
      const { s, p } = await persistentPair(version);
      await s.subscribed("a", { qos: 2 });
      for (const payload of ["one", "two"]) {
        for (let i = 0; i < 3; i++) {
          p.publish({ topic: "a", payload, qos: 2, packetId: 9, dup: i > 0 });
          await p.expect("pubrec", { packetId: 9 });
        }
        p.pubrel(9);
        await p.expect("pubcomp", { packetId: 9 });
        await s.delivered({ payload, qos: 2 });
        await s.expectNothing();
      }
    },
  );

  test("[MQTT-4.3.3-9] after PUBREC with an error the same identifier is a new message", async () => {
    const broker = await startBroker({}, [
      pluginWith({
        auth_on_publish_m5: ({ payload }) =>
          payload.toString() === "bad" ? { error: { reason_code: "quota_exceeded" } } : "next",
      }),
    ]);
    const s = await connectClient(broker, 5, { clientId: "s" });
    await s.subscribed("a", { qos: 2 });
    const p = await connectClient(broker, 5, { clientId: "p" });
    p.publish({ topic: "a", payload: "bad", qos: 2, packetId: 9 });
    await p.expect("pubrec", { packetId: 9, code: 0x97 });
    p.publish({ topic: "a", payload: "good", qos: 2, packetId: 9 });
    const { code = 0 } = await p.expect("pubrec", { packetId: 9 });
    expect(code).toBeLessThan(0x80);
    p.pubrel(9);
    await p.expect("pubcomp", { packetId: 9, code: 0 });
    await s.delivered({ payload: "good" });
    await s.expectNothing();
  });

  test.each(VERSIONS)("[MQTT-4.3.3-11] v%i PUBREL is answered, known or not", async (version) => {
    const { p } = await persistentPair(version);
    p.pubrel(77);
    await p.expect("pubcomp", version === 5 ? { packetId: 77, code: 0x92 } : { packetId: 77 });
    await p.expectNothing();
  });

  test.each(VERSIONS)(
    "[MQTT-4.6.0-2] [MQTT-4.6.0-3] v%i acknowledgements in the order of the messages, hooks that wait included",
    async (version) => {
      let calls = 0;
      const slowEverySecond = () =>
        ++calls % 2 === 0 ? ("ok" as const) : new Promise<"ok">((done) => setImmediate(done, "ok"));
      const broker = await startBroker({}, [
        pluginWith({ auth_on_publish: slowEverySecond, auth_on_publish_m5: slowEverySecond }),
      ]);
      const s = await connectClient(broker, version, { clientId: "s" });
      await s.subscribed("a", { qos: 2 });
      const p = await connectClient(broker, version, { clientId: "p" });
      await publishSeries(p, 20, { topic: "a", qos: 1 });
      await publishSeries(p, 40, { topic: "a", qos: 2 }, 21);
      expect(payloads(await s.receive(40))).toEqual(numbers(1, 40));
    },
  );

  test("[MQTT-3.4.2-1] [MQTT-3.5.2-1] a hook's code that the packet does not know is not sent", async () => {
    const allowed = [0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99];
    for (const reason_code of ["session_taken_over", 0x04, 0x8c, 0x11]) {
      const broker = await startBroker({}, [
        pluginWith({ auth_on_publish_m5: () => ({ error: { reason_code } }) }),
      ]);
      const p = await connectClient(broker, 5, { clientId: "p" });
      for (const [qos, type] of [
        [1, "puback"],
        [2, "pubrec"],
      ] as const) {
        const packetId = p.publish({ topic: "a", qos });
        const { code } = await p.expect(type, { packetId });
        expect(allowed).toContain(code);
      }
    }
  });

  test("[MQTT-3.4.2-2] a Reason String that makes the packet too large is left out", async () => {
    const refuse = () => ({
      error: { reason_code: "quota_exceeded", reason_string: "r".repeat(100) },
    });
    const broker = await startBroker({}, [pluginWith({ auth_on_publish_m5: refuse })]);
    for (const [properties, reasonString] of [
      [{ maximumPacketSize: 50 }, undefined],
      [{ requestProblemInformation: false }, undefined],
      [{}, "r".repeat(100)],
    ] as const) {
      const p = await connectClient(broker, 5, { clientId: "p", properties });
      const packetId = p.publish({ topic: "a", qos: 1 });
      await p.expect("puback", { packetId, code: 0x97, properties: { reasonString } });
    }
  });
});

describe("acknowledgements of clients", () => {
  test.each(["puback", "pubrec", "pubrel", "pubcomp"] as const)(
    "3.4.2.1 %s with a reason code that it cannot have → refused",
    async (type) => {
      for (const code of [0x01, 0x8e, 0xff]) {
        const { p } = await persistentPair(5);
        p[type](1, code);
        await violated(p, PROTOCOL_ERROR, MALFORMED);
      }
    },
  );

  test("3.4.2.2 properties that an acknowledgement cannot have → refused; allowed ones pass", async () => {
    const { s, p } = await persistentPair(5);
    await s.subscribed("a", { qos: 1 });
    await p.published({ topic: "a", qos: 1 });
    const { packetId } = await s.expect("publish");
    s.puback(packetId, 0, { reasonString: "fine", userProperties: [["a", "b"]] });
    await s.expectNothing();
    s.puback(packetId, 0, { contentType: "no" });
    await violated(s, PROTOCOL_ERROR, MALFORMED);
  });

  test("[MQTT-3.6.1-1] PUBREL flags other than 2 → closed", async () => {
    for (const version of VERSIONS) {
      const { p } = await persistentPair(version);
      p.send(packet(0x60, u16(1)));
      await violated(p, MALFORMED);
    }
  });

  test.each(VERSIONS)("4.3 v%i PUBACK for an unknown identifier is ignored", async (version) => {
    const { p } = await persistentPair(version);
    p.puback(77);
    await p.expectNothing();
  });

  test.each(VERSIONS)(
    "[W-11] v%i PUBREC and PUBCOMP for unknown identifiers do not end the connection",
    async (version) => {
      const { p } = await persistentPair(version);
      p.pubrec(77);
      await p.expect("pubrel", version === 5 ? { packetId: 77, code: 0x92 } : { packetId: 77 });
      p.pubcomp(77);
      await p.expectNothing();
    },
  );

  test.each(VERSIONS)(
    "4.3 v%i the wrong acknowledgement for the QoS is a protocol error",
    async (version) => {
      for (const [qos, type] of [
        [2, "puback"],
        [1, "pubrec"],
        [1, "pubcomp"],
      ] as const) {
        const { s, p } = await persistentPair(version);
        await s.subscribed("a", { qos: 2 });
        await p.published({ topic: "a", qos });
        const { packetId } = await s.expect("publish", { qos });
        s[type](packetId);
        await violated(s, PROTOCOL_ERROR);
      }
    },
  );

  test("[MQTT-4.3.3-4] [MQTT-4.3.3-5] PUBREL follows PUBREC and is repeated after a reconnect", async () => {
    for (const version of VERSIONS) {
      const { s, p, again } = await persistentPair(version);
      await s.subscribed("a", { qos: 2 });
      await p.published({ topic: "a", qos: 2 });
      const { packetId = 0 } = await s.expect("publish");
      s.pubrec(packetId);
      await s.expect("pubrel", { packetId });
      const second = await again();
      // [MQTT-4.3.3-6] and never PUBLISH again
      await second.expect("pubrel", { packetId });
      second.pubcomp(packetId);
      await second.expectNothing();
    }
  });

  test("[MQTT-4.4.0-2] a message refused with PUBACK or PUBREC 0x80 is not sent again", async () => {
    const { s, p, again } = await persistentPair(5);
    await s.subscribed("a", { qos: 2 });
    await p.published({ topic: "a", qos: 1 });
    await p.published({ topic: "a", qos: 2 });
    const one = await s.expect("publish", { qos: 1 });
    const two = await s.expect("publish", { qos: 2 });
    s.puback(one.packetId, 0x97);
    s.pubrec(two.packetId, 0x80);
    await s.expectNothing();
    const second = await again();
    await second.expectNothing();
  });

  test("[MQTT-4.3.3-7] [MQTT-4.3.3-13] expiry does not touch a message that was sent", async () => {
    const { s, p, again } = await persistentPair(5);
    await s.subscribed("a", { qos: 2 });
    const properties = { messageExpiryInterval: 1 };
    for (const qos of [1, 2]) {
      await p.published({ topic: "a", payload: `${qos}`, qos, properties });
      await s.expect("publish", { payload: `${qos}` });
    }
    await hourglass(1);
    const second = await again();
    await second.delivered({ payload: "1", dup: true });
    await second.delivered({ payload: "2", dup: true });
  });

  test("[MQTT-4.4.0-1] v5: nothing is repeated on a live connection", async () => {
    const { s, p } = await persistentPair(5, { retry_interval: "1" });
    await s.subscribed("a", { qos: 2 });
    for (const qos of [1, 2]) await p.published({ topic: "a", qos });
    const one = await s.expect("publish");
    const two = await s.expect("publish");
    s.pubrec(two.packetId);
    await s.expect("pubrel");
    await s.expectSilence(2200);
    s.puback(one.packetId);
    s.pubcomp(two.packetId);
    await s.expectNothing();
  });
});

describe("flow control", () => {
  test("[MQTT-3.3.4-9] [MQTT-4.9.0-1] [MQTT-4.9.0-2] PUBACK, PUBCOMP and PUBREC with an error give credit", async () => {
    const broker = await startBroker();
    const s = await connectClient(broker, 5, { properties: { receiveMaximum: 2 } });
    await s.subscribed("a", { qos: 2 });
    const p = await connectClient(broker, 5);
    await publishSeries(p, 3, { topic: "a", qos: 1 });
    await publishSeries(p, 9, { topic: "a", qos: 2 }, 4);
    const open = [await s.expect("publish", { payload: "1" })];
    open.push(await s.expect("publish", { payload: "2" }));
    await s.expectNothing();
    // PUBACK
    s.puback(open[0]?.packetId);
    await s.expect("publish", { payload: "3", qos: 1 });
    s.puback(open[1]?.packetId);
    const four = await s.expect("publish", { payload: "4", qos: 2 });
    // PUBREC of success gives none, PUBCOMP does
    s.pubrec(four.packetId);
    await s.expect("pubrel");
    await s.expectNothing();
    s.pubcomp(four.packetId);
    const five = await s.expect("publish", { payload: "5", qos: 2 });
    // PUBREC with an error
    s.pubrec(five.packetId, 0x83);
    await s.expect("publish", { payload: "6", qos: 2 });
    await s.expectNothing();
  });

  test("[MQTT-4.9.0-3] [MQTT-3.3.4-10] with no credit left all other packets are processed", async () => {
    const broker = await startBroker();
    const s = await connectClient(broker, 5, { properties: { receiveMaximum: 1 } });
    await s.subscribed("a", { qos: 1 });
    const p = await connectClient(broker, 5);
    await publishSeries(p, 3, { topic: "a", qos: 1 });
    await s.expect("publish", { payload: "1" });
    await s.ping();
    expect(await s.subscribed("b", { qos: 1 })).toEqual([1]);
    await s.published({ topic: "x", qos: 2 });
    await s.unsubscribed("b");
  });

  test("[MQTT-3.3.4-7] more than the broker's Receive Maximum → 0x93; [MQTT-4.9.0-3] released ids give room", async () => {
    const broker = await startBroker({ receive_max_broker: "2" });
    const p = await connectClient(broker, 5, { clientId: "p" });
    expect(p.connack?.properties?.receiveMaximum).toBe(2);
    for (let i = 0; i < 10; i++) await p.published({ topic: "a", qos: 2 });
    p.publish({ topic: "a", qos: 2, packetId: 101 });
    p.publish({ topic: "a", qos: 2, packetId: 102 });
    await p.expect("pubrec", { packetId: 101 });
    await p.expect("pubrec", { packetId: 102 });
    // A repeated identifier is already counted.
    p.publish({ topic: "a", qos: 2, packetId: 102, dup: true });
    await p.expect("pubrec", { packetId: 102 });
    p.publish({ topic: "a", qos: 2, packetId: 103 });
    await p.ended(0x93);
  });
});

describe("ordering", () => {
  test.each(VERSIONS)(
    "[MQTT-4.6.0-5] [MQTT-4.6.0-6] v%i one publisher, one topic, one QoS: in order for everybody",
    async (version) => {
      const broker = await startBroker({ max_online_messages: "-1" });
      const all = [];
      for (const qos of [0, 1, 2]) {
        const s = await connectClient(broker, version, { clientId: `s${qos}` });
        await s.subscribed("a", { qos });
        all.push(s);
      }
      const p = await connectClient(broker, version, { clientId: "p" });
      await publishSeries(p, 300, { topic: "a", qos: 2 });
      for (const s of all) expect(payloads(await s.receive(300))).toEqual(numbers(1, 300));
    },
  );

  test("[MQTT-4.6.0-4] PUBREL in the order of the PUBRECs", async () => {
    const { s, p } = await persistentPair(5);
    await s.subscribed("a", { qos: 2 });
    await publishSeries(p, 5, { topic: "a", qos: 2 });
    const ids = [];
    for (let i = 0; i < 5; i++) ids.push((await s.expect("publish")).packetId ?? 0);
    const mixed = [ids[3], ids[0], ids[4], ids[2], ids[1]];
    s.sendTogether(...mixed.map((packetId) => encodeAck("pubrec", packetId ?? 0)));
    for (const packetId of mixed) await s.expect("pubrel", { packetId: packetId ?? 0 });
  });

  test("[MQTT-4.6.0-1] what is sent again comes in its original order, PUBREL with it", async () => {
    for (const version of VERSIONS) {
      const { s, p, again } = await persistentPair(version);
      await s.subscribed("a", { qos: 2 });
      for (let i = 1; i <= 6; i++)
        await p.published({ topic: "a", payload: `${i}`, qos: 1 + (i % 2) });
      const sent = [];
      for (let i = 0; i < 6; i++) sent.push(await s.expect("publish"));
      // Message 3 (QoS 2) is half-way, message 2 (QoS 1) is done.
      s.pubrec(sent[2]?.packetId);
      await s.expect("pubrel");
      s.puback(sent[1]?.packetId);
      await s.expectNothing();
      const second = await again();
      const seen = [];
      for (let i = 0; i < 5; i++) {
        const one = await second.next();
        seen.push(one.type === "publish" ? one.payload?.toString() : `${one.type} ${one.packetId}`);
      }
      expect(seen.filter((one) => !one?.startsWith("pubrel"))).toEqual(["1", "4", "5", "6"]);
      expect(seen).toContain(`pubrel ${sent[2]?.packetId}`);
    }
  });

  test("[MQTT-4.5.0-1] a message goes to every session that matches, online or not", async () => {
    const broker = await startBroker();
    for (const name of ["a", "b", "c"]) {
      const s = await connectClient(broker, 4, persistent(4, name));
      await s.subscribed("t", { qos: 1 });
      if (name !== "b") await s.disconnected();
    }
    const p = await connectClient(broker, 5, { clientId: "p" });
    const puback = await p.published({ topic: "t", payload: "x", qos: 1 });
    expect(puback.code).toBe(0);
    for (const name of ["a", "b", "c"]) {
      const s = await connectClient(broker, 4, persistent(4, name));
      await s.delivered({ payload: "x" });
    }
  });

  test("3.4.2.1 0x10 when nobody is subscribed", async () => {
    const { s, p } = await persistentPair(5);
    expect((await p.published({ topic: "nobody", qos: 1 })).code).toBe(0x10);
    const packetId = p.publish({ topic: "nobody", qos: 2 });
    await p.expect("pubrec", { packetId, code: 0x10 });
    p.pubrel(packetId);
    await p.expect("pubcomp", { packetId, code: 0 });
    await s.subscribed("somebody");
    expect((await p.published({ topic: "somebody", qos: 1 })).code).toBe(0);
  });
});
