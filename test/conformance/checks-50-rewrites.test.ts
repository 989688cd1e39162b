import { describe, expect, test } from "vitest";
import type { PluginHooks } from "../../core/hooks/types.ts";
import { startBroker } from "../support/broker.ts";
import { pluginWith, recordingPlugin } from "../support/plugins.ts";
import { connectClient, type Properties } from "../support/raw-client.ts";

/** Check M-50: hooks that rewrite a message. */

const VERSIONS = [4, 5] as const;

describe("M-50 hooks that rewrite", () => {
  const REWRITE: PluginHooks = {
    auth_on_publish: ({ topic }) =>
      topic === "in" ? { ok: { topic: "out", payload: "new", qos: 2, retain: true } } : "next",
    auth_on_publish_m5: ({ topic }) =>
      topic === "in" ? { ok: { topic: "out", payload: "new", qos: 2, retain: true } } : "next",
  };

  test.each(VERSIONS)(
    "M-50 v%i publish hook rewrites topic, payload, QoS and RETAIN",
    async (version) => {
      const recorder = recordingPlugin();
      const broker = await startBroker({}, [recorder.plugin, pluginWith(REWRITE)]);
      const s = await connectClient(broker, 4);
      await s.subscribed(["in", "out"], { qos: 2 });
      const p = await connectClient(broker, version);
      // The publisher is answered for the QoS it used.
      await p.published({ topic: "in", payload: "old", qos: 1 });
      await s.delivered({ topic: "out", payload: "new", qos: 2 });
      await s.expectNothing();
      expect(broker.retained().map((one) => one.topic)).toEqual(["out"]);
      const event = version === 5 ? "on_publish_m5" : "on_publish";
      const seen = await recorder.wait(event);
      expect(seen).toMatchObject({ topic: "out", qos: 2, retain: true });
      expect(seen.payload.toString()).toBe("new");
    },
  );

  test("M-50 v5 publish hook replaces the properties", async () => {
    const broker = await startBroker({}, [
      pluginWith({
        auth_on_publish_m5: ({ topic }) => ({
          ok: {
            properties: topic === "empty" ? {} : { p_user_property: [{ key: "a", val: "b" }] },
          },
        }),
      }),
    ]);
    const s = await connectClient(broker, 5);
    await s.subscribed("#");
    const p = await connectClient(broker, 5);
    const properties: Properties = {
      responseTopic: "r",
      correlationData: "c",
      userProperties: [["x", "y"]],
    };
    await p.published({ topic: "empty", properties });
    await s.delivered({ topic: "empty", exactProperties: {} });
    await p.published({ topic: "other", properties });
    await s.delivered({ topic: "other", exactProperties: { userProperties: [["a", "b"]] } });
  });

  test.each(VERSIONS)(
    "M-50 v%i on_deliver rewrites for one subscriber; others see the original",
    async (version) => {
      const rewrite: PluginHooks["on_deliver"] = ({ subscriber_id }) =>
        subscriber_id.client_id === "changed"
          ? { ok: { topic: "new/topic", payload: Buffer.from("new") } }
          : "next";
      const broker = await startBroker({}, [
        pluginWith({ on_deliver: rewrite, on_deliver_m5: rewrite }),
      ]);
      const changed = await connectClient(broker, version, { clientId: "changed" });
      const plain = await connectClient(broker, version, { clientId: "plain" });
      for (const s of [changed, plain]) await s.subscribed("a", { qos: 2 });
      const p = await connectClient(broker, version);
      for (const qos of [0, 1, 2]) {
        await p.published({ topic: "a", payload: "old", qos });
        await changed.delivered({ topic: "new/topic", payload: "new", qos });
        await plain.delivered({ topic: "a", payload: "old", qos });
      }
    },
  );

  test("M-50 v5 on_deliver_m5 replaces properties", async () => {
    const broker = await startBroker({}, [
      pluginWith({
        on_deliver_m5: () => ({ ok: { properties: { p_content_type: "changed" } } }),
      }),
    ]);
    const s = await connectClient(broker, 5);
    await s.subscribed("a");
    const p = await connectClient(broker, 5);
    await p.published({ topic: "a", properties: { contentType: "old", responseTopic: "r" } });
    await s.delivered({ exactProperties: { contentType: "changed" } });
  });

  test.each([{ error: "no" }, "next" as const])(
    "M-50 on_deliver answering %j changes nothing: delivery cannot be refused",
    async (answer) => {
      const broker = await startBroker({}, [
        pluginWith({ on_deliver: () => answer, on_deliver_m5: () => answer }),
      ]);
      const s = await connectClient(broker, 4);
      await s.subscribed("a", { qos: 1 });
      const p = await connectClient(broker, 5);
      await p.published({ topic: "a", payload: "x", qos: 1 });
      await s.delivered({ topic: "a", payload: "x" });
    },
  );

  test("M-50 [W] a v4 retry carries what the client saw first", async () => {
    let calls = 0;
    const broker = await startBroker({ retry_interval: "1" }, [
      pluginWith({ on_deliver: () => ({ ok: { payload: `call ${++calls}` } }) }),
    ]);
    const s = await connectClient(broker, 4);
    await s.subscribed("a", { qos: 1 });
    const p = await connectClient(broker, 4);
    await p.published({ topic: "a", payload: "old", qos: 1 });
    const first = await s.expect("publish", { payload: "call 1", dup: false });
    await s.expect("publish", {
      payload: "call 1",
      dup: true,
      packetId: first.packetId ?? 0,
    });
  });
});
