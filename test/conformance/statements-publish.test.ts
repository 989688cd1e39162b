import { describe, expect, test } from "vitest";
import { startBroker } from "../support/broker.ts";
import { persistentPair } from "../support/pair.ts";
import {
  bytes,
  connectClient,
  encodePublish,
  type Properties,
  type Version,
} from "../support/raw-client.ts";
import { numbers, payloads } from "../support/series.ts";
import { MALFORMED, PROTOCOL_ERROR, violated } from "../support/violations.ts";

/** Normative statements on PUBLISH (MQTT 5.0, 3.3). */

const VERSIONS = [4, 5] as const;

describe("PUBLISH flags", () => {
  test.each([
    { what: "[MQTT-3.3.1-4] QoS 3", first: 0x36 },
    { what: "[MQTT-3.3.1-4] QoS 3 with DUP", first: 0x3e },
    { what: "[MQTT-3.3.1-2] DUP with QoS 0", first: 0x38 },
    { what: "[MQTT-3.3.1-2] DUP with QoS 0 and RETAIN", first: 0x39 },
  ])("$what → closed", async ({ first }) => {
    for (const version of VERSIONS) {
      const { s, p } = await persistentPair(version);
      await s.subscribed("a");
      const frame = encodePublish(version, { topic: "a", qos: first & 4 ? 1 : 0, packetId: 1 });
      frame[0] = first;
      p.send(first & 4 ? frame : encodeWithFirst(version, first));
      await violated(p, MALFORMED);
      await s.expectNothing();
    }
  });

  function encodeWithFirst(version: Version, first: number): Buffer {
    const frame = encodePublish(version, { topic: "a" });
    frame[0] = first;
    return frame;
  }

  test("[MQTT-3.3.1-3] DUP of an incoming PUBLISH is not passed on", async () => {
    for (const version of VERSIONS) {
      const { s, p } = await persistentPair(version);
      await s.subscribed("a", { qos: 2 });
      for (const qos of [1, 2]) {
        await p.published({ topic: "a", qos, dup: true });
        await s.delivered({ qos, dup: false });
      }
    }
  });

  test("[MQTT-3.3.1-1] [MQTT-4.3.2-2] [MQTT-4.3.3-2] DUP is 0 first and 1 when sent again", async () => {
    for (const version of VERSIONS) {
      const { s, p, again } = await persistentPair(version);
      await s.subscribed("a", { qos: 2 });
      for (const qos of [1, 2]) await p.published({ topic: "a", payload: `${qos}`, qos });
      for (const qos of [1, 2]) await s.expect("publish", { qos, dup: false });
      const second = await again();
      for (const qos of [1, 2]) await second.delivered({ qos, payload: `${qos}`, dup: true });
    }
  });

  test("[MQTT-3.3.1-5] [MQTT-3.3.1-6] [MQTT-3.3.1-7] [MQTT-3.3.1-8] retained messages per topic", async () => {
    const broker = await startBroker();
    const p = await connectClient(broker, 5);
    const kept = () => broker.retained().map((one) => [one.topic, one.payload.toString()]);
    await p.published({ topic: "a", payload: "1", qos: 1, retain: true });
    await p.published({ topic: "b", payload: "2", qos: 1, retain: true });
    await p.published({ topic: "a", payload: "3", qos: 1, retain: true });
    await p.published({ topic: "a", payload: "4", qos: 1 });
    expect(kept()).toEqual([
      ["a", "3"],
      ["b", "2"],
    ]);
    await p.published({ topic: "a", payload: "", qos: 1 });
    await p.published({ topic: "c", payload: "", qos: 1, retain: true });
    expect(kept()).toHaveLength(2);
    await p.published({ topic: "a", payload: "", qos: 2, retain: true });
    expect(kept()).toEqual([["b", "2"]]);
  });
});

describe("topic names", () => {
  test.each(["a/+", "+", "#", "a/#", "a+b", "a#b"])(
    "[MQTT-3.3.2-2] [MQTT-4.7.0-1] topic name %s → closed, v5 0x90",
    async (topic) => {
      for (const version of VERSIONS) {
        const { s, p } = await persistentPair(version);
        await s.subscribed("#");
        p.publish({ topic });
        await violated(p, 0x90);
        await s.expectNothing();
      }
    },
  );

  test("[MQTT-4.7.3-1] an empty topic name: v4 closed, v5 protocol error", async () => {
    for (const version of VERSIONS) {
      const { p } = await persistentPair(version);
      p.publish({ topic: "" });
      await violated(p, PROTOCOL_ERROR);
    }
  });

  test("[MQTT-4.7.3-3] 65535 bytes of topic pass", async () => {
    for (const version of VERSIONS) {
      const { s, p } = await persistentPair(version);
      const topic = "t".repeat(65_535);
      await s.subscribed([topic]);
      await p.published({ topic, payload: "x" });
      await s.delivered({ topic, payload: "x" });
    }
  });

  test("[MQTT-4.7.3-4] no normalisation: spaces, case, slashes and code points count", async () => {
    const { s, p } = await persistentPair(5);
    const topics = ["a b", "a  b", "A b", "/a", "a/", "a//b", "a/b", "é", "e\u0301"];
    await s.subscribed(topics);
    for (const topic of topics) {
      await p.published({ topic });
      await s.delivered({ topic });
      await s.expectNothing();
    }
  });

  test("[MQTT-3.3.2-3] the topic of a delivered message matches the filter", async () => {
    const { s, p } = await persistentPair(4);
    await s.subscribed("a/+/c");
    for (const topic of ["a/b/c", "a//c", "a/c", "a/b/d", "a/b/c/d"]) await p.published({ topic });
    await s.delivered({ topic: "a/b/c" });
    await s.delivered({ topic: "a//c" });
    await s.expectNothing();
  });
});

describe("properties of PUBLISH", () => {
  async function refusesProperties(properties: Properties, ...codes: number[]): Promise<void> {
    const { p } = await persistentPair(5);
    p.publish({ topic: "a", properties });
    await violated(p, ...codes);
  }

  test("[MQTT-3.3.2-14] a response topic with wildcards → protocol error", async () => {
    for (const responseTopic of ["a/+", "#"]) {
      await refusesProperties({ responseTopic }, PROTOCOL_ERROR, 0x90);
    }
  });

  test("[MQTT-3.3.4-6] a subscription identifier from a client → protocol error", async () => {
    await refusesProperties({ subscriptionIdentifiers: [5] }, PROTOCOL_ERROR);
  });

  test("[MQTT-3.3.2-4] payload format 1 with a payload that is not UTF-8 is passed on or refused with 0x99", async () => {
    const { s, p } = await persistentPair(5);
    await s.subscribed("a");
    const packetId = p.publish({
      topic: "a",
      qos: 1,
      payload: Buffer.from([0xff]),
      properties: { payloadFormatIndicator: 1 },
    });
    const { code } = await p.expect("puback", { packetId });
    if (code === 0x99) await s.expectNothing();
    else {
      expect(code).toBe(0);
      await s.delivered({
        payload: Buffer.from([0xff]),
        properties: { payloadFormatIndicator: 1 },
      });
    }
  });

  test("[MQTT-3.3.2-15] [MQTT-3.3.2-16] request and response over the broker", async () => {
    const broker = await startBroker();
    const requester = await connectClient(broker, 5, { clientId: "requester" });
    const responder = await connectClient(broker, 5, { clientId: "responder" });
    await requester.subscribed("answers/requester", { qos: 1 });
    await responder.subscribed("requests", { qos: 1 });
    const correlationData = Buffer.from([1, 2, 3, 0, 255]);
    await requester.published({
      topic: "requests",
      payload: "?",
      qos: 1,
      properties: { responseTopic: "answers/requester", correlationData },
    });
    const asked = await responder.delivered({ payload: "?" });
    await responder.published({
      topic: asked.properties?.responseTopic ?? "",
      payload: "!",
      qos: 1,
      properties: { correlationData: asked.properties?.correlationData ?? "" },
    });
    await requester.delivered({ payload: "!", exactProperties: { correlationData } });
  });

  test("[MQTT-3.3.2-17] [MQTT-3.3.2-18] 1000 user properties stay in order", async () => {
    const { s, p } = await persistentPair(5);
    await s.subscribed("a");
    const userProperties = numbers(1, 1000).map((n): [string, string] => [`k${Number(n) % 7}`, n]);
    await p.published({ topic: "a", properties: { userProperties } });
    await s.delivered({ exactProperties: { userProperties } });
  });

  test("[MQTT-3.3.2-6] the largest expiry interval passes; 0 is expired at once", async () => {
    const { s, p } = await persistentPair(5);
    await s.subscribed("a", { qos: 1 });
    const longest = 0xffff_ffff;
    await p.published({ topic: "a", properties: { messageExpiryInterval: longest } });
    const got = await s.delivered();
    expect(got.properties?.messageExpiryInterval).toBeGreaterThan(longest - 5);
    await p.published({ topic: "a", payload: "dead", properties: { messageExpiryInterval: 0 } });
    await p.published({ topic: "a", payload: "next" });
    const next = await s.next();
    // Either it was too late from the start, or it was handed on at once.
    if (next.payload?.toString() === "dead") await s.expect("publish", { payload: "next" });
    else expect(next.payload?.toString()).toBe("next");
  });
});

describe("large and many", () => {
  test("payloads of 0 bytes to 5 MB arrive byte by byte", async () => {
    for (const version of VERSIONS) {
      const { s, p } = await persistentPair(version);
      await s.subscribed("a", { qos: 1 });
      for (const size of [0, 1, 65_535, 65_536, 5_000_000]) {
        const payload = Buffer.alloc(size, bytes("00 01 02 ff fe c3"));
        for (const qos of [0, 1]) {
          await p.published({ topic: "a", payload, qos });
          await s.delivered({ payload, qos });
        }
      }
    }
  });

  test("packets byte by byte and many in one write are the same", async () => {
    const { s, p } = await persistentPair(5);
    await s.subscribed("a", { qos: 1 });
    const frames = numbers(1, 50).map((payload) =>
      encodePublish(5, { topic: "a", payload, qos: 1, packetId: Number(payload) }),
    );
    p.sendTogether(...frames);
    expect(payloads(await s.receive(50))).toEqual(numbers(1, 50));
    for (const byte of Buffer.concat(frames.slice(0, 5))) {
      p.send(Buffer.from([byte]));
      await new Promise((resolve) => setImmediate(resolve));
    }
    expect(payloads(await s.receive(5))).toEqual(numbers(1, 5));
  });
});
