import { describe, expect, test } from "vitest";
import { startBroker } from "../support/broker.ts";
import { pluginWith } from "../support/plugins.ts";
import { connectClient, type Properties } from "../support/raw-client.ts";
import { persistent } from "../support/sessions.ts";

/** Checks M-44 and M-45: topic aliases of clients and of the broker. */

describe("M-44 topic aliases of the client", () => {
  async function aliasing() {
    const broker = await startBroker({ topic_alias_max_client: "3" });
    const s = await connectClient(broker, 5, { clientId: "s" });
    await s.subscribed("#", { qos: 2 });
    const p = await connectClient(broker, 5, { clientId: "p" });
    expect(p.connack?.properties?.topicAliasMaximum).toBe(3);
    return { s, p };
  }

  test("M-44 alias 1 with a topic, then alone: both arrive with the full topic and no alias", async () => {
    const { s, p } = await aliasing();
    for (const qos of [0, 1, 2]) {
      const topic = `t/${qos}`;
      await p.published({ topic, payload: "with", qos, properties: { topicAlias: 1 } });
      await s.delivered({ topic, payload: "with", exactProperties: {} });
      await p.published({ topic: "", payload: "alone", qos, properties: { topicAlias: 1 } });
      await s.delivered({ topic, payload: "alone", exactProperties: {} });
    }
  });

  test("M-44 an alias may be given another topic; aliases are independent", async () => {
    const { s, p } = await aliasing();
    await p.published({ topic: "one", properties: { topicAlias: 1 } });
    await p.published({ topic: "three", properties: { topicAlias: 3 } });
    await p.published({ topic: "other", properties: { topicAlias: 1 } });
    await p.published({ topic: "", properties: { topicAlias: 3 } });
    await p.published({ topic: "", properties: { topicAlias: 1 } });
    for (const topic of ["one", "three", "other", "three", "other"]) await s.delivered({ topic });
  });

  test("M-44 an alias stands for the topic that the hook made of it", async () => {
    const broker = await startBroker({ topic_alias_max_client: "3" }, [
      pluginWith({
        auth_on_publish_m5: ({ topic }) =>
          topic === "raw" ? { ok: { topic: "rewritten" } } : "next",
      }),
    ]);
    const s = await connectClient(broker, 5);
    await s.subscribed("#");
    const p = await connectClient(broker, 5);
    await p.published({ topic: "raw", properties: { topicAlias: 2 } });
    await p.published({ topic: "", properties: { topicAlias: 2 } });
    await s.delivered({ topic: "rewritten" });
    await s.delivered({ topic: "rewritten" });
  });

  test("M-44 aliases are forgotten with the connection", async () => {
    const broker = await startBroker({ topic_alias_max_client: "3" });
    const first = await connectClient(broker, 5, persistent(5, "p"));
    await first.published({ topic: "t", properties: { topicAlias: 1 } });
    await first.disconnected();
    const second = await connectClient(broker, 5, persistent(5, "p"));
    second.publish({ topic: "", qos: 1, properties: { topicAlias: 1 } });
    await second.ended(0x94);
  });

  test.each([
    { what: "alias 4, above the maximum", topic: "t", properties: { topicAlias: 4 }, code: 0x94 },
    { what: "alias 0", topic: "t", properties: { topicAlias: 0 }, code: 0x94 },
    { what: "unknown alias", topic: "", properties: { topicAlias: 2 }, code: 0x94 },
    { what: "empty topic without alias", topic: "", properties: {}, code: 0x82 },
  ])("M-44 [W] $what → DISCONNECT", async ({ topic, properties, code }) => {
    for (const qos of [0, 1, 2]) {
      const { s, p } = await aliasing();
      p.publish({ topic, qos, properties });
      await p.ended(code);
      await s.expectNothing();
    }
  });

  test("M-44 [W] topic_alias_max_client = 0: none announced, alias 1 → DISCONNECT 0x94", async () => {
    const broker = await startBroker();
    const p = await connectClient(broker, 5);
    expect(p.connack?.properties?.topicAliasMaximum).toBeUndefined();
    p.publish({ topic: "t", properties: { topicAlias: 1 } });
    await p.ended(0x94);
  });
});

describe("M-45 topic aliases of the broker", () => {
  async function aliased(client: Properties) {
    const broker = await startBroker({ topic_alias_max_broker: "3" });
    const s = await connectClient(broker, 5, persistent(5, "s", client));
    await s.subscribed("#", { qos: 1 });
    const p = await connectClient(broker, 5, { clientId: "p" });
    return { broker, s, p };
  }

  test("M-45 client announces 3: topic and alias first, then the alias alone", async () => {
    const { s, p } = await aliased({ topicAliasMaximum: 3 });
    for (const [index, topic] of ["a", "b", "c"].entries()) {
      await p.published({ topic, qos: index % 2 });
      await s.delivered({ topic, exactProperties: { topicAlias: index + 1 } });
    }
    for (const [index] of ["a", "b", "c"].entries()) {
      await p.published({ topic: ["a", "b", "c"][index] ?? "", payload: "again" });
      await s.delivered({
        topic: "",
        payload: "again",
        exactProperties: { topicAlias: index + 1 },
      });
    }
    // First come, first served: the fourth topic gets none.
    await p.published({ topic: "d" });
    await p.published({ topic: "d" });
    await s.delivered({ topic: "d", exactProperties: {} });
    await s.delivered({ topic: "d", exactProperties: {} });
  });

  test("M-45 the smaller of both limits counts", async () => {
    const { s, p } = await aliased({ topicAliasMaximum: 1 });
    await p.published({ topic: "a" });
    await p.published({ topic: "b" });
    await s.delivered({ topic: "a", exactProperties: { topicAlias: 1 } });
    await s.delivered({ topic: "b", exactProperties: {} });
  });

  test.each([
    { what: "announces none", properties: {} },
    { what: "announces 0", properties: { topicAliasMaximum: 0 } },
  ])("M-45 [W] client $what: never an alias", async ({ properties }) => {
    const { s, p } = await aliased(properties);
    for (let i = 0; i < 3; i++) {
      await p.published({ topic: "a", qos: 1 });
      await s.delivered({ topic: "a", exactProperties: {} });
    }
  });

  test("M-45 aliases are forgotten at reconnect", async () => {
    const { broker, s, p } = await aliased({ topicAliasMaximum: 3 });
    await p.published({ topic: "a" });
    await s.delivered({ topic: "a", exactProperties: { topicAlias: 1 } });
    await s.disconnected();
    const again = await connectClient(broker, 5, persistent(5, "s", { topicAliasMaximum: 3 }));
    await p.published({ topic: "b" });
    await again.delivered({ topic: "b", exactProperties: { topicAlias: 1 } });
  });

  test("M-45 [W] an alias of a message that was too large to send is not known", async () => {
    const { s, p } = await aliased({ topicAliasMaximum: 3, maximumPacketSize: 60 });
    await p.published({ topic: "a", payload: "x".repeat(100), qos: 1 });
    await p.published({ topic: "a", payload: "small", qos: 1 });
    await s.delivered({ topic: "a", payload: "small", exactProperties: { topicAlias: 1 } });
  });

  test("M-45 a redelivered message carries its topic on the new connection", async () => {
    const { broker, s, p } = await aliased({ topicAliasMaximum: 3 });
    await p.published({ topic: "a", payload: "1" });
    await p.published({ topic: "a", payload: "2", qos: 1 });
    await s.expect("publish", { topic: "a", payload: "1" });
    await s.expect("publish", { topic: "", payload: "2" });
    s.cut();
    const again = await connectClient(broker, 5, persistent(5, "s", { topicAliasMaximum: 3 }));
    await again.delivered({ topic: "a", payload: "2", dup: true, properties: { topicAlias: 1 } });
  });
});
