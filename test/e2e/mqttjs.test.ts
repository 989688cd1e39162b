import { readFileSync } from "node:fs";
import mqtt, { type IClientOptions, type IPublishPacket, type MqttClient } from "mqtt";
import { beforeAll, describe, expect, test } from "vitest";
import { waitFor } from "../support/broker.ts";
import {
  type FourTransports,
  quietly,
  startFourTransports,
  TRANSPORTS,
  type Transport,
} from "./four-transports.ts";

/** MQTT.js over all transports against the real process. */

const VERSIONS = [3, 4, 5] as const;
const SCHEMES = { tcp: "mqtt", tls: "mqtts", ws: "ws", wss: "wss" } as const;

interface Received {
  topic: string;
  payload: string;
  packet: IPublishPacket;
}

describe("MQTT.js", () => {
  let four: FourTransports;
  let lastName = 0;

  beforeAll(async () => {
    four = await startFourTransports({
      topic_alias_max_client: "10",
      topic_alias_max_broker: "10",
    });
  });

  function newName(): string {
    return `mqttjs-${++lastName}`;
  }

  async function connect(
    transport: Transport,
    version: 3 | 4 | 5,
    options: IClientOptions = {},
  ): Promise<MqttClient> {
    const path = transport === "ws" || transport === "wss" ? "/mqtt" : "";
    const url = `${SCHEMES[transport]}://localhost:${four.ports[transport]}${path}`;
    const client = await mqtt.connectAsync(url, {
      protocolVersion: version,
      ...(version === 3 ? { protocolId: "MQIsdp" } : {}),
      clientId: newName(),
      reconnectPeriod: 0,
      ...(transport === "tls" || transport === "wss" ? { ca: readFileSync(four.cafile) } : {}),
      // The listeners are on 127.0.0.1 only; localhost may also be ::1.
      ...(transport === "tcp" || transport === "tls" ? { family: 4 } : {}),
      ...options,
    });
    quietly(() => client.endAsync(true));
    return client;
  }

  function collect(client: MqttClient): Received[] {
    const received: Received[] = [];
    client.on("message", (topic, payload, packet) => {
      received.push({ topic, payload: payload.toString(), packet });
    });
    return received;
  }

  for (const transport of TRANSPORTS) {
    describe.each(VERSIONS)(`${transport}, version %i`, (version) => {
      test("QoS 0, 1 and 2 in order", async () => {
        const topic = newName();
        const subscriber = await connect(transport, version);
        const received = collect(subscriber);
        for (const qos of [0, 1, 2] as const) {
          await subscriber.subscribeAsync(`${topic}/${qos}`, { qos });
        }
        const publisher = await connect(transport, version);
        for (let i = 0; i < 30; i++) {
          const qos = (i % 3) as 0 | 1 | 2;
          await publisher.publishAsync(`${topic}/${qos}`, String(i), { qos });
        }
        await waitFor("30 messages", () => received.length === 30);
        for (const qos of [0, 1, 2]) {
          const own = received.filter((one) => one.topic === `${topic}/${qos}`);
          expect(own.map(({ payload }) => Number(payload) % 3)).toEqual(Array(10).fill(qos));
          expect(own.map(({ packet }) => packet.qos)).toEqual(Array(10).fill(qos));
          const numbers = own.map(({ payload }) => Number(payload));
          expect(numbers).toEqual(numbers.toSorted((a, b) => a - b));
        }
      });

      test("large payloads in both directions", async () => {
        const topic = newName();
        const client = await connect(transport, version);
        const received = collect(client);
        await client.subscribeAsync(topic, { qos: 1 });
        const payload = "x".repeat(3_000_000);
        await client.publishAsync(topic, payload, { qos: 1 });
        await waitFor("the message", () => received.length === 1, 10_000);
        expect(received[0]?.payload === payload).toBe(true);
      });

      test("retained message and will", async () => {
        const topic = newName();
        const will = { topic: `${topic}/will`, payload: Buffer.from("gone"), qos: 1, retain: true };
        const victim = await connect(transport, version, { will: { ...will, qos: 1 } });
        await victim.publishAsync(`${topic}/kept`, "here", { qos: 1, retain: true });
        victim.stream.destroy();
        const client = await connect(transport, version);
        const received = collect(client);
        await client.subscribeAsync(`${topic}/#`, { qos: 1 });
        await waitFor("both", () => received.length === 2);
        expect(received.map((one) => [one.topic, one.payload]).toSorted()).toEqual([
          [`${topic}/kept`, "here"],
          [`${topic}/will`, "gone"],
        ]);
      });

      test("a persistent session over reconnects", async () => {
        const topic = newName();
        const options: IClientOptions = {
          clientId: newName(),
          clean: false,
          ...(version === 5 ? { properties: { sessionExpiryInterval: 60 } } : {}),
        };
        const first = await connect(transport, version, options);
        await first.subscribeAsync(topic, { qos: 2 });
        await first.endAsync();
        const publisher = await connect(transport, version);
        for (const text of ["1", "2", "3"]) await publisher.publishAsync(topic, text, { qos: 2 });
        // connectAsync resolves too late to see what comes right behind CONNACK.
        const path = transport === "ws" || transport === "wss" ? "/mqtt" : "";
        const second = mqtt.connect(
          `${SCHEMES[transport]}://localhost:${four.ports[transport]}${path}`,
          {
            protocolVersion: version,
            ...(version === 3 ? { protocolId: "MQIsdp" } : {}),
            reconnectPeriod: 0,
            ...(transport === "tls" || transport === "wss"
              ? { ca: readFileSync(four.cafile) }
              : {}),
            ...(transport === "tcp" || transport === "tls" ? { family: 4 } : {}),
            ...options,
          },
        );
        quietly(() => second.endAsync(true));
        const received = collect(second);
        await waitFor("3 messages", () => received.length === 3);
        expect(received.map(({ payload }) => payload)).toEqual(["1", "2", "3"]);
      });
    });
  }

  test("version 5: properties, aliases and reason codes", async () => {
    const topic = newName();
    const properties = { topicAliasMaximum: 5 };
    const subscriber = await connect("tcp", 5, { properties });
    const received = collect(subscriber);
    await subscriber.subscribeAsync(topic, { qos: 1, properties: { subscriptionIdentifier: 7 } });
    const publisher = await connect("tcp", 5, { autoUseTopicAlias: true });
    const sent = {
      contentType: "text/plain",
      responseTopic: "r",
      correlationData: Buffer.from([0, 1]),
      userProperties: { a: ["1", "2"] },
    };
    for (let i = 0; i < 3; i++) {
      await publisher.publishAsync(topic, String(i), { qos: 1, properties: { ...sent } });
    }
    await waitFor("3 messages", () => received.length === 3);
    for (const { topic: seen, packet } of received) {
      expect(seen).toBe(topic);
      expect(packet.properties).toMatchObject({ ...sent, subscriptionIdentifier: 7 });
    }
  });

  test("many messages in flight at once over WebSocket", async () => {
    const topic = newName();
    const subscriber = await connect("ws", 5);
    const received = collect(subscriber);
    await subscriber.subscribeAsync(topic, { qos: 2 });
    const publisher = await connect("ws", 5);
    const numbers = Array.from({ length: 2000 }, (_, i) => String(i));
    await Promise.all(numbers.map((text) => publisher.publishAsync(topic, text, { qos: 2 })));
    await waitFor("2000 messages", () => received.length === 2000, 15_000);
    expect(received.map(({ payload }) => payload)).toEqual(numbers);
  });
});
