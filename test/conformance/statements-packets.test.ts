import { describe, expect, test } from "vitest";
import type { Broker } from "../../core/broker-types.ts";
import { startBroker } from "../support/broker.ts";
import {
  bytes,
  connectClient,
  encodeConnect,
  encodePublish,
  field,
  openClient,
  packet,
  propertyBlock,
  type RawClient,
  u16,
  type Version,
  varint,
} from "../support/raw-client.ts";
import { MALFORMED, PROTOCOL_ERROR, violated } from "../support/violations.ts";

/** Normative statements of chapters 1 and 2 (MQTT 5.0; "3.1.1:" gives the older number). */

const VERSIONS = [4, 5] as const;

async function connected(version: Version): Promise<RawClient> {
  return connectClient(await startBroker(), version, { clientId: "c" });
}

/** Sends a frame on a fresh connection; v5 must be told one of the codes, v4 is closed. */
async function refuses(version: Version, frame: Buffer, ...codes: number[]): Promise<void> {
  const client = await connected(version);
  client.send(frame);
  await violated(client, ...codes);
}

describe("UTF-8 encoded strings", () => {
  const ILL_FORMED = [
    { what: "a lone continuation byte", raw: "80" },
    { what: "a cut sequence", raw: "e2 82" },
    { what: "an overlong slash", raw: "c0 af" },
    { what: "an overlong NUL", raw: "c0 80" },
    { what: "a high surrogate U+D800", raw: "ed a0 80" },
    { what: "a low surrogate U+DFFF", raw: "ed bf bf" },
    { what: "a surrogate pair (CESU-8)", raw: "ed a0 bd ed b8 80" },
    { what: "a code point above U+10FFFF", raw: "f4 90 80 80" },
    { what: "the byte 0xFF", raw: "ff" },
  ];

  /** A packet of each kind with `text` in a string field of it. */
  function carriers(version: Version, text: Buffer): [where: string, frame: Buffer][] {
    const none = propertyBlock(version);
    const found: [string, Buffer][] = [
      ["topic name", packet(0x30, field(text), none)],
      ["topic filter", packet(0x82, u16(1), none, field(text), Buffer.from([0]))],
      ["topic filter to unsubscribe", packet(0xa2, u16(1), none, field(text))],
    ];
    if (version === 5) {
      const property = (id: number, ...values: Buffer[]) =>
        packet(0x30, field("a"), propertyBlock(5, Buffer.concat([Buffer.from([id]), ...values])));
      found.push(
        ["user property name", property(0x26, field(text), field("v"))],
        ["user property value", property(0x26, field("n"), field(text))],
        ["content type", property(0x03, field(text))],
        ["response topic", property(0x08, field(text))],
      );
    }
    return found;
  }

  test.each(VERSIONS)(
    "[MQTT-1.5.4-1] [3.1.1: MQTT-1.5.3-1] v%i ill-formed UTF-8 ends the connection, wherever it is",
    async (version) => {
      for (const { what, raw } of ILL_FORMED) {
        for (const [where, frame] of carriers(version, bytes(raw))) {
          const codes = where === "topic name" ? [MALFORMED, 0x90] : [MALFORMED, 0x8f];
          await refuses(version, frame, ...codes).catch((error: unknown) => {
            throw new Error(`${what} in ${where}`, { cause: error });
          });
        }
      }
    },
  );

  test.each(VERSIONS)(
    "[MQTT-1.5.4-2] [3.1.1: MQTT-1.5.3-2] v%i U+0000 ends the connection",
    async (version) => {
      for (const [where, frame] of carriers(version, Buffer.from("a\0b"))) {
        await refuses(version, frame, MALFORMED, 0x8f, 0x90).catch((error: unknown) => {
          throw new Error(where, { cause: error });
        });
      }
    },
  );

  test.each(VERSIONS)(
    "[MQTT-1.5.4-1] [MQTT-1.5.4-2] v%i the same in the fields of CONNECT",
    async (version) => {
      const broker = await startBroker();
      for (const raw of [...ILL_FORMED.map((one) => bytes(one.raw)), Buffer.from("a\0")]) {
        for (const options of [{ clientId: raw }, { clientId: "c", username: raw }]) {
          const client = await openClient(broker, version);
          client.connect(options);
          await violated(client, MALFORMED, PROTOCOL_ERROR, 0x90);
        }
      }
      expect(broker.sessions()).toEqual([]);
    },
  );

  test("[MQTT-1.5.4-3] [3.1.1: MQTT-1.5.3-3] EF BB BF is U+FEFF and is never stripped", async () => {
    for (const version of VERSIONS) {
      const client = await connected(version);
      const topic = "\uFEFFa\uFEFF";
      await client.subscribed([topic, "a"]);
      await client.publish({ topic, payload: "\uFEFFx" });
      await client.publish({ topic: "a" });
      await client.delivered({ topic, payload: "\uFEFFx" });
      await client.delivered({ topic: "a" });
    }
  });

  test("valid texts of every length of sequence pass unchanged, also what is not a character", async () => {
    const client = await connected(5);
    await client.subscribed("#");
    for (const topic of ["a", "ä", "€", "😀", "\u{10FFFF}", "\uFDD0", "\u007F", "\u0001", "a b"]) {
      client.publish({ topic });
      await client.delivered({ topic });
    }
  });

  test("[MQTT-1.5.7-1] a user property is two strings: cut short it is malformed", async () => {
    const cut = propertyBlock(5, Buffer.concat([Buffer.from([0x26]), field("name")]));
    await refuses(5, packet(0x30, field("a"), cut), MALFORMED);
  });
});

describe("remaining length", () => {
  test("[MQTT-1.5.5-1] five bytes are refused after the fifth, none of them is waited for", async () => {
    for (const version of VERSIONS) {
      await refuses(version, bytes("30 ff ff ff ff 7f"), MALFORMED);
      await refuses(version, bytes("30 80 80 80 80 00"), MALFORMED);
    }
  });

  test("[MQTT-1.5.5-1] in CONNECT as well: closed, not timed out", async () => {
    const broker = await startBroker();
    const client = await openClient(broker, 4);
    client.send("10 ff ff ff ff 01");
    await client.closed(2000);
  });

  test.each([127, 128, 16_383, 16_384, 2_097_151, 2_097_152])(
    "2.1.4 a packet with remaining length %i passes both ways, with the shortest encoding",
    async (remaining) => {
      for (const version of VERSIONS) {
        const client = await connected(version);
        await client.subscribed("t");
        const payload = Buffer.alloc(remaining - 3 - propertyBlock(version).length, 0x61);
        const frame = encodePublish(version, { topic: "t", payload });
        expect(frame.length).toBe(1 + varint(remaining).length + remaining);
        client.send(frame);
        const got = await client.expect("publish", { payload });
        expect(got.raw.length).toBe(frame.length);
      }
    },
  );

  test.each(VERSIONS)(
    "v%i a body shorter than its fields say ends the connection",
    async (version) => {
      const none = propertyBlock(version);
      const short = [
        packet(0x30, Buffer.from([0])),
        packet(0x30, u16(10), Buffer.from("abc")),
        packet(0x32, field("a")),
        packet(0x32, field("a"), Buffer.from([0])),
        packet(0x82, u16(1), none, field("a")),
        packet(0x82, u16(1), none, u16(5), Buffer.from("a")),
        packet(0xa2, u16(1), none, u16(5), Buffer.from("a")),
        packet(0x40),
        packet(0x40, Buffer.from([0])),
        packet(0x62, Buffer.from([0])),
        packet(0x82),
      ];
      for (const frame of short) {
        await refuses(version, frame, MALFORMED, PROTOCOL_ERROR).catch((error: unknown) => {
          throw new Error(frame.toString("hex"), { cause: error });
        });
      }
    },
  );

  test.each(VERSIONS)("v%i bytes behind the last field end the connection", async (version) => {
    const extra = [
      packet(0xc0, Buffer.from([0])),
      packet(0x40, u16(1), Buffer.from([0, 0, 0])),
      ...(version === 4
        ? [packet(0x40, u16(1), Buffer.from([0])), packet(0xe0, Buffer.from([0]))]
        : [packet(0xe0, Buffer.from([0, 0, 0]))]),
    ];
    for (const frame of extra) await refuses(version, frame, MALFORMED, PROTOCOL_ERROR);
  });
});

describe("fixed header flags", () => {
  /** Type, flags that are required, a body that is valid. */
  const PACKETS: { name: string; type: number; flags: number; body: (v: Version) => Buffer[] }[] = [
    { name: "PUBACK", type: 4, flags: 0, body: () => [u16(1)] },
    { name: "PUBREC", type: 5, flags: 0, body: () => [u16(1)] },
    { name: "PUBREL", type: 6, flags: 2, body: () => [u16(1)] },
    { name: "PUBCOMP", type: 7, flags: 0, body: () => [u16(1)] },
    {
      name: "SUBSCRIBE",
      type: 8,
      flags: 2,
      body: (v) => [u16(1), propertyBlock(v), field("a"), Buffer.from([0])],
    },
    {
      name: "UNSUBSCRIBE",
      type: 10,
      flags: 2,
      body: (v) => [u16(1), propertyBlock(v), field("a")],
    },
    { name: "PINGREQ", type: 12, flags: 0, body: () => [] },
    { name: "DISCONNECT", type: 14, flags: 0, body: () => [] },
  ];

  test.each(PACKETS)(
    "[MQTT-2.1.3-1] [3.1.1: MQTT-2.2.2-2] $name with any other flags → closed",
    async ({ type, flags, body }) => {
      for (const version of VERSIONS) {
        for (let wrong = 0; wrong < 16; wrong++) {
          if (wrong === flags) continue;
          await refuses(version, packet((type << 4) | wrong, ...body(version)), MALFORMED);
        }
      }
    },
  );

  test("[MQTT-3.15.1-1] AUTH with flags → malformed", async () => {
    await refuses(5, packet(0xf1, Buffer.from([0x19]), propertyBlock(5)), MALFORMED);
  });

  test("[MQTT-2.1.3-1] CONNECT with flags → closed without CONNACK 0", async () => {
    const broker = await startBroker();
    for (const version of VERSIONS) {
      const client = await openClient(broker, version);
      const frame = encodeConnect(version, { clientId: "c" });
      frame[0] = 0x11;
      client.send(frame);
      await client.next().then(
        (one) => expect(one.code).toBeGreaterThanOrEqual(0x80),
        () => undefined,
      );
      expect(broker.sessions()).toEqual([]);
    }
  });

  test.each([
    { name: "CONNACK", frame: (_: Version) => bytes("20 03 00 00 00") },
    { name: "SUBACK", frame: (v: Version) => packet(0x90, u16(1), propertyBlock(v), bytes("00")) },
    {
      name: "UNSUBACK",
      frame: (v: Version) => packet(0xb0, u16(1), propertyBlock(v), bytes("00")),
    },
    { name: "PINGRESP", frame: (_: Version) => bytes("d0 00") },
  ])("2.1.2 $name from a client → protocol error", async ({ frame }) => {
    for (const version of VERSIONS)
      await refuses(version, frame(version), PROTOCOL_ERROR, MALFORMED);
  });

  test("2.1.2 packet types 0 (and 15 before MQTT 5) are reserved", async () => {
    for (const version of VERSIONS)
      await refuses(version, bytes("00 00"), MALFORMED, PROTOCOL_ERROR);
    await refuses(4, bytes("f0 00"));
  });
});

describe("packet identifiers", () => {
  test.each(VERSIONS)(
    "[MQTT-2.2.1-3] [3.1.1: MQTT-2.3.1-1] v%i identifier 0 from a client ends the connection",
    async (version) => {
      const none = propertyBlock(version);
      const frames = [
        packet(0x32, field("a"), u16(0), none),
        packet(0x34, field("a"), u16(0), none),
        packet(0x82, u16(0), none, field("a"), Buffer.from([0])),
        packet(0xa2, u16(0), none, field("a")),
      ];
      for (const frame of frames) await refuses(version, frame, PROTOCOL_ERROR, MALFORMED);
    },
  );

  test("[MQTT-2.2.1-2] [3.1.1: MQTT-2.3.1-5] QoS 0 PUBLISH from the broker has no identifier", async () => {
    for (const version of VERSIONS) {
      const client = await connected(version);
      await client.subscribed("a", { qos: 2 });
      client.publish({ topic: "a", payload: "xy" });
      const got = await client.expect("publish", { payload: "xy", qos: 0 });
      expect(got.raw).toEqual(encodePublish(version, { topic: "a", payload: "xy" }));
    }
  });

  test.each(VERSIONS)(
    "[MQTT-2.2.1-4] [3.1.1: MQTT-2.3.1-2] v%i identifiers of the broker are not 0 and not in use",
    async (version) => {
      const broker = await startBroker({ max_inflight_messages: "0" });
      const s = await connectClient(broker, version, { clientId: "s" });
      await s.subscribed("a", { qos: 2 });
      const p = await connectClient(broker, version, { clientId: "p" });
      const inUse = new Set<number>();
      for (let i = 0; i < 200; i++) {
        await p.published({ topic: "a", qos: 1 + (i % 2) });
        const { packetId = 0, qos } = await s.expect("publish");
        expect(packetId).toBeGreaterThan(0);
        expect(inUse.has(packetId)).toBe(false);
        inUse.add(packetId);
        // Every third exchange is completed, out of order.
        if (i % 3 !== 0) continue;
        await s.acknowledged({
          type: "publish",
          raw: Buffer.alloc(0),
          flags: 0,
          packetId,
          ...(qos === undefined ? {} : { qos }),
        });
        inUse.delete(packetId);
      }
    },
  );

  test.each(VERSIONS)(
    "[MQTT-2.2.1-5] [MQTT-2.2.1-6] v%i answers carry the identifier of the request, to the ends of the range",
    async (version) => {
      const client = await connected(version);
      for (const packetId of [1, 255, 256, 32_768, 65_535]) {
        client.subscribe("a", { packetId });
        await client.expect("suback", { packetId });
        client.unsubscribe("a", { packetId });
        await client.expect("unsuback", { packetId });
        client.publish({ topic: "b", qos: 1, packetId });
        await client.expect("puback", { packetId });
        client.publish({ topic: "b", qos: 2, packetId });
        await client.expect("pubrec", { packetId });
        client.pubrel(packetId);
        await client.expect("pubcomp", { packetId });
      }
    },
  );

  test("2.2.1 client and broker count apart: the same identifier may be in use in both directions", async () => {
    const broker = await startBroker();
    const both = await connectClient(broker, 5, { clientId: "both" });
    await both.subscribed("in", { qos: 2 });
    const p = await connectClient(broker, 5);
    await p.published({ topic: "in", qos: 2 });
    const got = await both.expect("publish");
    const packetId = got.packetId ?? 0;
    both.publish({ topic: "out", qos: 2, packetId });
    await both.expect("pubrec", { packetId });
    both.pubrec(packetId);
    await both.expect("pubrel", { packetId });
    both.pubrel(packetId);
    await both.expect("pubcomp", { packetId });
    both.pubcomp(packetId);
    await both.expectNothing();
  });
});

describe("properties", () => {
  test("[MQTT-2.2.2-1] a missing property length is malformed", async () => {
    await refuses(5, packet(0x30, field("a")), MALFORMED);
    await refuses(5, packet(0x82, u16(1)), MALFORMED);
  });

  test.each([
    { what: "an unknown identifier", block: "7f 00" },
    { what: "an identifier of two bytes", block: "80 01 00" },
    { what: "a value cut short", block: "02 00 00" },
    { what: "payload format 2", block: "01 02" },
  ])("2.2.2.2 $what in PUBLISH → refused", async ({ block }) => {
    const frame = packet(0x30, field("a"), propertyBlock(5, bytes(block)));
    await refuses(5, frame, MALFORMED, PROTOCOL_ERROR, 0x99);
  });

  test("2.2.2.1 a property length beyond the packet → malformed", async () => {
    await refuses(5, packet(0x30, field("a"), Buffer.from([20])), MALFORMED);
    await refuses(5, packet(0x30, field("a"), bytes("ff ff ff ff 01")), MALFORMED);
  });

  test.each([
    { what: "payload format", block: "01 00 01 00" },
    { what: "message expiry", block: "02 00000001 02 00000001" },
    { what: "content type", block: "03 000161 03 000161" },
    { what: "response topic", block: "08 000161 08 000161" },
    { what: "correlation data", block: "09 000161 09 000161" },
    { what: "topic alias", block: "23 0001 23 0001" },
  ])("3.3.2.3 $what twice in PUBLISH → protocol error", async ({ block }) => {
    const broker = await startBroker({ topic_alias_max_client: "5" });
    const client = await connectClient(broker, 5, { clientId: "c" });
    client.send(packet(0x30, field("a"), propertyBlock(5, bytes(block))));
    await violated(client, PROTOCOL_ERROR);
  });

  test.each([
    { what: "session expiry", block: "11 00000001 11 00000001" },
    { what: "receive maximum", block: "21 0001 21 0001" },
    { what: "receive maximum 0", block: "21 0000" },
    { what: "maximum packet size", block: "27 00000100 27 00000100" },
    { what: "maximum packet size 0", block: "27 00000000" },
    { what: "topic alias maximum", block: "22 0001 22 0001" },
    { what: "request response information", block: "19 01 19 01" },
    { what: "request response information 2", block: "19 02" },
    { what: "request problem information", block: "17 01 17 01" },
    { what: "request problem information 2", block: "17 02" },
    { what: "authentication data alone", block: "16 000161" },
    { what: "a property of PUBLISH", block: "01 00" },
    { what: "a property of CONNACK", block: "24 01" },
  ])("3.1.2.11 CONNECT with wrong properties: $what → refused", async ({ block }) => {
    const broker: Broker = await startBroker();
    const client = await openClient(broker, 5);
    const head = [field("MQTT"), Buffer.from([5, 2]), u16(60), propertyBlock(5, bytes(block))];
    client.send(packet(0x10, ...head, field("c")));
    await violated(client, PROTOCOL_ERROR, MALFORMED);
    expect(broker.sessions()).toEqual([]);
  });

  test("2.2.2.2 every property of CONNECT at once is accepted", async () => {
    const broker = await startBroker();
    await connectClient(broker, 5, {
      clientId: "c",
      properties: {
        sessionExpiryInterval: 0xffff_ffff,
        receiveMaximum: 65_535,
        maximumPacketSize: 0xffff_ffff,
        topicAliasMaximum: 65_535,
        requestResponseInformation: true,
        requestProblemInformation: true,
        userProperties: [
          ["a", "b"],
          ["a", "c"],
        ],
      },
      will: {
        topic: "w",
        properties: {
          willDelayInterval: 0xffff_ffff,
          payloadFormatIndicator: 1,
          messageExpiryInterval: 0xffff_ffff,
          contentType: "c",
          responseTopic: "r",
          correlationData: "x",
          userProperties: [["a", "b"]],
        },
      },
    });
  });
});
