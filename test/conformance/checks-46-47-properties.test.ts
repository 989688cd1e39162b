import { describe, expect, test } from "vitest";
import { startBroker } from "../support/broker.ts";
import {
  bytes,
  connectClient,
  field,
  type Properties,
  packet,
  propertyBlock,
} from "../support/raw-client.ts";
import { persistent } from "../support/sessions.ts";

/** Checks M-46 and M-47: properties of PUBLISH, forwarded and refused. */

describe("M-46 forwarded properties", () => {
  const ALL: Properties = {
    payloadFormatIndicator: 1,
    contentType: "text/plain; charset=utf-8",
    responseTopic: "answers/to/me",
    correlationData: Buffer.from([0, 1, 254, 255]),
    userProperties: [
      ["key", "1"],
      ["other", "ä€😀"],
      ["key", "2"],
      ["", ""],
    ],
  };
  const CASES: { what: string; properties: Properties }[] = [
    { what: "all of them", properties: ALL },
    { what: "payload format 0", properties: { payloadFormatIndicator: 0 } },
    { what: "payload format 1", properties: { payloadFormatIndicator: 1 } },
    { what: "response topic", properties: { responseTopic: "r" } },
    { what: "empty correlation data", properties: { correlationData: Buffer.alloc(0) } },
    { what: "empty content type", properties: { contentType: "" } },
    { what: "user properties", properties: { userProperties: ALL.userProperties ?? [] } },
  ];

  test.each(CASES)("M-46 $what arrive unchanged, live and retained", async ({ properties }) => {
    const broker = await startBroker();
    const s = await connectClient(broker, 5, { clientId: "s" });
    const old = await connectClient(broker, 4, { clientId: "old" });
    await s.subscribed("a", { qos: 2 });
    await old.subscribed("a", { qos: 2 });
    const p = await connectClient(broker, 5, { clientId: "p" });
    for (const qos of [0, 1, 2]) {
      await p.published({ topic: "a", payload: "x", qos, retain: true, properties });
      await s.delivered({ topic: "a", payload: "x", qos, exactProperties: properties });
      // To 3.1.1 clients all properties are dropped: the payload is just the payload.
      await old.delivered({ topic: "a", payload: "x", qos });
    }
    const late = await connectClient(broker, 5, { clientId: "late" });
    await late.subscribed("a", { qos: 1 });
    await late.delivered({ retain: true, exactProperties: properties });
  });

  test("M-46 offline and with a subscription identifier they arrive, too", async () => {
    const broker = await startBroker();
    const first = await connectClient(broker, 5, persistent(5, "s"));
    await first.subscribed("a", { qos: 1, properties: { subscriptionIdentifiers: [9] } });
    await first.disconnected();
    const p = await connectClient(broker, 5);
    await p.published({ topic: "a", qos: 1, properties: ALL });
    const s = await connectClient(broker, 5, persistent(5, "s"));
    await s.delivered({ exactProperties: { ...ALL, subscriptionIdentifiers: [9] } });
  });

  test("M-46 properties of a will are forwarded, the delay is not", async () => {
    const broker = await startBroker();
    const s = await connectClient(broker, 5, { clientId: "s" });
    await s.subscribed("will", { qos: 2 });
    const dying = await connectClient(broker, 5, {
      clientId: "dying",
      will: { topic: "will", payload: "gone", properties: { ...ALL, willDelayInterval: 0 } },
    });
    dying.cut();
    await s.delivered({ payload: "gone", exactProperties: ALL });
  });

  test("M-46 user properties keep their order among other properties of the packet", async () => {
    const broker = await startBroker();
    const s = await connectClient(broker, 5);
    await s.subscribed("a");
    const p = await connectClient(broker, 5);
    // 0x26 a=1, 0x01 format 1, 0x26 b=2, 0x26 a=3
    const scattered = bytes("26 000161 000131  01 01  26 000162 000132  26 000161 000133");
    p.send(packet(0x30, field("a"), propertyBlock(5, scattered)));
    await s.delivered({
      properties: {
        payloadFormatIndicator: 1,
        userProperties: [
          ["a", "1"],
          ["b", "2"],
          ["a", "3"],
        ],
      },
    });
  });
});

describe("M-47 properties that a PUBLISH must not have", () => {
  /** 2.2.2.2 makes this malformed (0x81); the statements on single properties say 0x82. */
  const EITHER = [0x81, 0x82];
  const FORBIDDEN: Properties[] = [
    { serverReference: "elsewhere" },
    { reasonString: "because" },
    { receiveMaximum: 1 },
    { sessionExpiryInterval: 1 },
    { authenticationMethod: "m" },
    { willDelayInterval: 1 },
    { assignedClientIdentifier: "x" },
    { maximumQoS: 1 },
  ];

  test.each(FORBIDDEN)(
    "M-47 PUBLISH with %j → DISCONNECT, closed, not routed",
    async (properties) => {
      const broker = await startBroker();
      const s = await connectClient(broker, 5);
      await s.subscribed("a");
      const p = await connectClient(broker, 5);
      p.publish({ topic: "a", qos: 1, properties });
      const { code } = await p.expect("disconnect");
      expect(EITHER).toContain(code);
      await p.closed();
      await s.expectNothing();
    },
  );

  test("M-47 [W] PUBLISH of a client with a Subscription Identifier → 0x82", async () => {
    const broker = await startBroker();
    const p = await connectClient(broker, 5);
    p.publish({ topic: "a", properties: { subscriptionIdentifiers: [1] } });
    await p.ended(0x82);
  });
});
