import { describe, expect, test } from "vitest";
import type { HookName } from "../../core/hooks/types.ts";
import { startBroker, tempDir, waitFor, waitGone } from "../support/broker.ts";
import { pluginWith, recordingPlugin } from "../support/plugins.ts";
import { connectClient, openClient, type Version } from "../support/raw-client.ts";
import { payloads } from "../support/series.ts";
import { leave, persistent, sessionPresent } from "../support/sessions.ts";

/** Checks M-24 to M-27: takeover, hooks in a session's life, ends by the administrator. */

const VERSIONS: readonly Version[] = [3, 4, 5];

describe("M-24 and M-25 takeover", () => {
  test("M-24 v5: the first gets 0x8E and is closed, the second CONNACK 0x00", async () => {
    const broker = await startBroker();
    const first = await connectClient(broker, 5, { clientId: "c" });
    const second = await connectClient(broker, 5, { clientId: "c" });
    await first.expect("disconnect", { code: 0x8e });
    await first.closed();
    await second.ping();
    expect(broker.sessions()).toHaveLength(1);
  });

  test.each([3, 4] as const)("M-24 v%i: the first is just closed", async (version) => {
    const broker = await startBroker();
    const first = await connectClient(broker, version, { clientId: "c" });
    const second = await connectClient(broker, version, { clientId: "c" });
    await first.closed();
    await second.ping();
  });

  test.each([
    [3, 5],
    [5, 4],
    [4, 3],
  ] as const)("M-24 v%i is taken over by v%i with its subscriptions", async (old, young) => {
    const broker = await startBroker();
    const first = await connectClient(broker, old, persistent(old, "c"));
    await first.subscribed("t", { qos: 2 });
    const second = await connectClient(broker, young, persistent(young, "c"));
    expect(second.connack?.sessionPresent).toBe(true);
    await first.ended(0x8e);
    const publisher = await connectClient(broker, 4, { clientId: "p" });
    await publisher.published({ topic: "t", payload: "x", qos: 2 });
    await second.delivered({ payload: "x", qos: 2 });
  });

  test.each(VERSIONS)(
    "M-24 v%i un-acked messages come again, same id, DUP, in order",
    async (version) => {
      const broker = await startBroker();
      const first = await connectClient(broker, version, persistent(version, "c"));
      await first.subscribed("t", { qos: 2 });
      const publisher = await connectClient(broker, 4, { clientId: "p" });
      for (const [payload, qos] of [
        ["1", 1],
        ["2", 2],
        ["3", 1],
      ] as const) {
        await publisher.published({ topic: "t", payload, qos });
      }
      const seen = [await first.next(), await first.next(), await first.next()];
      expect(payloads(seen)).toEqual(["1", "2", "3"]);
      const second = await connectClient(broker, version, persistent(version, "c"));
      for (const before of seen) {
        await second.expect("publish", {
          dup: true,
          packetId: before.packetId ?? 0,
          payload: before.payload ?? "",
          qos: before.qos ?? 0,
        });
      }
      await second.expectNothing();
    },
  );

  test("M-24 clean start on a live persistent session destroys it first", async () => {
    const broker = await startBroker();
    const first = await connectClient(broker, 5, persistent(5, "c"));
    await first.subscribed("t", { qos: 1 });
    const publisher = await connectClient(broker, 4, { clientId: "p" });
    await publisher.published({ topic: "t", payload: "lost", qos: 1 });
    await first.expect("publish", { payload: "lost" });
    const second = await connectClient(broker, 5, { ...persistent(5, "c"), clean: true });
    expect(second.connack?.sessionPresent).toBe(false);
    await publisher.published({ topic: "t", payload: "also", qos: 1 });
    await second.expectNothing();
  });

  test.each([4, 5] as const)(
    "M-25 v%i takeovers under load lose nothing and keep order",
    async (version) => {
      const messages = 400;
      const broker = await startBroker();
      let subscriber = await connectClient(broker, version, persistent(version, "s"));
      await subscriber.subscribed("t", { qos: 1 });
      const publisher = await connectClient(broker, 4, { clientId: "p" });
      const publishing = (async () => {
        for (let i = 0; i < messages; i++) {
          await publisher.published({ topic: "t", payload: String(i), qos: 1 });
        }
      })();
      const received: number[] = [];
      for (let round = 0; round < 8; round++) {
        // Some stay un-acknowledged, some unread.
        for (let i = 0; i < 30; i++) {
          const publish = await subscriber.expect("publish");
          received.push(Number(publish.payload));
          if (i < 20) subscriber.puback(publish.packetId);
        }
        const started = performance.now();
        subscriber = await connectClient(broker, version, persistent(version, "s"));
        expect(performance.now() - started).toBeLessThan(5000);
        expect(subscriber.connack?.sessionPresent).toBe(true);
      }
      while (received.at(-1) !== messages - 1) {
        const publish = await subscriber.expect("publish");
        received.push(Number(publish.payload));
        subscriber.puback(publish.packetId);
      }
      await publishing;
      await subscriber.expectNothing();
      // The first appearance of each message is in the order of the publisher.
      const first = [...new Set(received)];
      expect(first).toEqual(Array.from({ length: messages }, (_, i) => i));
    },
  );

  test("M-25 many clients fight for one id: exactly one is left", async () => {
    const broker = await startBroker();
    const clients = await Promise.all(
      Array.from({ length: 20 }, async () => {
        const client = await openClient(broker, 5);
        client.connect(persistent(5, "c"));
        await client.expect("connack", { code: 0 });
        return client;
      }),
    );
    await waitFor("all but one are closed", () => clients.filter((c) => !c.isClosed).length === 1);
    const winner = clients.find((client) => !client.isClosed);
    await winner?.ping();
    expect(broker.sessions()).toMatchObject([{ client_id: "c", is_online: true }]);
  });
});

describe("M-26 hooks in a session's life", () => {
  const LIFE: readonly HookName[] = [
    "on_register",
    "on_register_m5",
    "on_client_wakeup",
    "on_client_offline",
    "on_client_gone",
    "on_topic_unsubscribed",
    "on_session_expired",
    "on_offline_message",
  ];

  test.each(VERSIONS)("M-26 v%i clean: wakeup, unsubscribed(all), gone", async (version) => {
    const recorder = recordingPlugin();
    const broker = await startBroker({}, [recorder.plugin]);
    const client = await connectClient(broker, version, { clientId: "c" });
    await client.subscribed("t");
    await client.disconnected();
    await recorder.wait("on_client_gone");
    expect(recorder.names(...LIFE).filter((name) => !name.startsWith("on_register"))).toEqual([
      "on_client_wakeup",
      "on_topic_unsubscribed",
      "on_client_gone",
    ]);
    expect(recorder.of("on_topic_unsubscribed")).toEqual([
      { subscriber_id: { mountpoint: "", client_id: "c" }, topics: "all_topics" },
    ]);
  });

  test.each(VERSIONS)(
    "M-26 v%i persistent: wakeup, offline, on_offline_message",
    async (version) => {
      const recorder = recordingPlugin();
      const broker = await startBroker({}, [recorder.plugin]);
      const client = await connectClient(broker, version, persistent(version, "c"));
      await client.subscribed("t", { qos: 1 });
      await leave(broker, client, "c");
      await recorder.wait("on_client_offline");
      const publisher = await connectClient(broker, 4, { clientId: "p" });
      await publisher.published({ topic: "t", payload: "x", qos: 2 });
      expect(await recorder.wait("on_offline_message")).toEqual({
        subscriber_id: { mountpoint: "", client_id: "c" },
        qos: 1,
        topic: "t",
        payload: Buffer.from("x"),
        retain: false,
      });
      const back = await connectClient(broker, version, persistent(version, "c"));
      await back.delivered({ payload: "x" });
      const own = recorder.calls
        .filter((call) => "subscriber_id" in call.args && call.args.subscriber_id.client_id === "c")
        .map((call) => call.hook)
        .filter((name) => LIFE.includes(name) && !name.startsWith("on_register"));
      expect(own).toEqual([
        "on_client_wakeup",
        "on_client_offline",
        "on_offline_message",
        "on_client_wakeup",
      ]);
    },
  );

  test("M-26 [W] on_offline_message only for what is kept, with its true RETAIN flag", async () => {
    const recorder = recordingPlugin();
    const broker = await startBroker({}, [recorder.plugin]);
    const client = await connectClient(broker, 5, persistent(5, "c"));
    await client.subscribed([{ filter: "t", qos: 2, retainAsPublished: true }]);
    await leave(broker, client, "c");
    const publisher = await connectClient(broker, 4, { clientId: "p" });
    await publisher.published({ topic: "t", payload: "not kept", qos: 0 });
    await publisher.published({ topic: "t", payload: "kept", qos: 1, retain: true });
    await recorder.wait("on_offline_message");
    expect(recorder.of("on_offline_message")).toMatchObject([
      { payload: Buffer.from("kept"), qos: 1, retain: true },
    ]);
  });

  test("M-26 takeover of a clean session: gone without unsubscribed, then wakeup", async () => {
    const recorder = recordingPlugin();
    const broker = await startBroker({}, [recorder.plugin]);
    const first = await connectClient(broker, 4, { clientId: "c" });
    await first.subscribed("t");
    recorder.clear();
    await connectClient(broker, 4, { clientId: "c" });
    await recorder.wait("on_register");
    expect(recorder.names("on_topic_unsubscribed", "on_client_gone", "on_client_wakeup")).toEqual([
      "on_client_gone",
      "on_client_wakeup",
    ]);
  });

  test("M-26 takeover of a persistent session: offline, then wakeup", async () => {
    const recorder = recordingPlugin();
    const broker = await startBroker({}, [recorder.plugin]);
    await connectClient(broker, 4, persistent(4, "c"));
    recorder.clear();
    await connectClient(broker, 4, persistent(4, "c"));
    await recorder.wait("on_register");
    expect(recorder.names("on_client_offline", "on_client_gone", "on_client_wakeup")).toEqual([
      "on_client_offline",
      "on_client_wakeup",
    ]);
  });

  test("M-26 clean start: gone if the old one was online, nothing if it was offline", async () => {
    const recorder = recordingPlugin();
    const broker = await startBroker({}, [recorder.plugin]);
    const first = await connectClient(broker, 4, persistent(4, "c"));
    recorder.clear();
    const second = await connectClient(broker, 4, { clientId: "c" });
    await first.closed();
    await recorder.wait("on_register");
    expect(recorder.names("on_client_gone", "on_client_wakeup")).toEqual([
      "on_client_gone",
      "on_client_wakeup",
    ]);
    await second.disconnected();
    const offline = await connectClient(broker, 4, persistent(4, "d"));
    await leave(broker, offline, "d");
    recorder.clear();
    await connectClient(broker, 4, { clientId: "d" });
    await recorder.wait("on_register");
    expect(recorder.names(...LIFE).filter((name) => name !== "on_register")).toEqual([
      "on_client_wakeup",
    ]);
  });
});

describe("M-27 ends by the administrator", () => {
  test.each(VERSIONS)("M-27 v%i disconnect: 0x98, will, state kept", async (version) => {
    const broker = await startBroker();
    const watcher = await connectClient(broker, 4, { clientId: "w" });
    await watcher.subscribed("will");
    const options = { ...persistent(version, "c"), will: { topic: "will", payload: "x" } };
    const client = await connectClient(broker, version, options);
    await client.subscribed("t", { qos: 1 });
    expect(broker.disconnectClient("c")).toBe(true);
    await client.ended(0x98);
    await watcher.expect("publish", { topic: "will" });
    await watcher.published({ topic: "t", payload: "kept", qos: 1 });
    const back = await connectClient(broker, version, persistent(version, "c"));
    expect(back.connack?.sessionPresent).toBe(true);
    await back.delivered({ payload: "kept" });
    expect(broker.disconnectClient("nobody")).toBe(false);
    expect(broker.disconnectClient("c", { mountpoint: "elsewhere" })).toBe(false);
  });

  test.each(VERSIONS)(
    "M-27 v%i with clean-up: SP 0, no subscriptions, store empty",
    async (version) => {
      const recorder = recordingPlugin();
      const dataDir = tempDir();
      const broker = await startBroker({}, [recorder.plugin], { dataDir });
      const client = await connectClient(broker, version, persistent(version, "c"));
      await client.subscribed("t", { qos: 1 });
      const publisher = await connectClient(broker, 4, { clientId: "p" });
      await publisher.published({ topic: "t", payload: "lost", qos: 1 });
      await client.expect("publish", { payload: "lost" });
      recorder.clear();
      expect(broker.disconnectClient("c", { cleanup: true })).toBe(true);
      await client.ended(0x98);
      await waitGone(broker, "c");
      await recorder.wait("on_client_gone");
      expect(recorder.names()).toEqual(["on_topic_unsubscribed", "on_client_gone"]);
      expect(broker.metrics().router_subscriptions).toBe(0);
      const back = await connectClient(broker, version, persistent(version, "c"));
      expect(back.connack?.sessionPresent).toBe(false);
      await publisher.published({ topic: "t", qos: 1 });
      await back.expectNothing();
      expect(broker.disconnectClient("c", { cleanup: true })).toBe(true);
      await broker.close();
      expect((await startBroker({}, [], { dataDir })).sessions()).toEqual([]);
    },
  );

  test("M-27 clean-up of an offline client", async () => {
    const broker = await startBroker();
    const client = await connectClient(broker, 4, persistent(4, "c"));
    await client.subscribed("t", { qos: 1 });
    await leave(broker, client, "c");
    const publisher = await connectClient(broker, 4, { clientId: "p" });
    await publisher.published({ topic: "t", qos: 1 });
    const answer = await broker.control("session", ["disconnect", "client-id=c", "--cleanup"]);
    expect(answer.exit).toBe(0);
    await waitGone(broker, "c");
    expect(await sessionPresent(broker, 4, persistent(4, "c"))).toBe(false);
  });

  test("M-27 (22) reauthorize drops what the hooks now refuse", async () => {
    let isRefused = false;
    const guard = pluginWith({
      auth_on_subscribe: ({ topics }) =>
        isRefused && topics.some(({ topic }) => topic === "b") ? { error: "not_allowed" } : "next",
    });
    const broker = await startBroker({}, [guard]);
    const client = await connectClient(broker, 4, { clientId: "c", username: "u" });
    await client.subscribed(["a", "b"], { qos: 1 });
    isRefused = true;
    expect(await broker.reauthorize("c", { username: "u" })).toEqual({ removed: ["b"], added: [] });
    const publisher = await connectClient(broker, 4, { clientId: "p" });
    await publisher.published({ topic: "b", qos: 1 });
    await publisher.published({ topic: "a", payload: "a", qos: 1 });
    await client.delivered({ topic: "a" });
    await client.expectNothing();
  });

  test("M-27 (22) listener stop leaves connections; with kill they end with their will", async () => {
    const broker = await startBroker({ "listener.tcp.extra": "127.0.0.1:0" });
    const watcher = await connectClient(broker, 4, { clientId: "w" });
    await watcher.subscribed("will/#");
    const port = broker.port("tcp", "extra");
    const v4 = await connectClient(port, 4, { clientId: "c4", will: { topic: "will/4" } });
    const v5 = await connectClient(port, 5, { clientId: "c5", will: { topic: "will/5" } });
    expect(await broker.stopListener("tcp", "extra")).toBe(true);
    await expect(openClient(port)).rejects.toThrow();
    await v4.ping();
    await v5.ping();
    await watcher.expectNothing();
    expect(await broker.stopListener("tcp", "nosuch")).toBe(false);
  });

  test("M-27 (22) listener stop with kill ends them with their will", async () => {
    const broker = await startBroker({ "listener.tcp.extra": "127.0.0.1:0" });
    const watcher = await connectClient(broker, 4, { clientId: "w" });
    await watcher.subscribed("will/#");
    const port = broker.port("tcp", "extra");
    const client = await connectClient(port, 4, { clientId: "c4", will: { topic: "will/4" } });
    expect(await broker.stopListener("tcp", "extra", { killSessions: true })).toBe(true);
    await client.closed();
    await watcher.expect("publish", { topic: "will/4" });
    await watcher.ping();
  });

  test("M-27 (19) a broker that shuts down says 0x8B to v5 clients", async () => {
    const broker = await startBroker();
    const v5 = await connectClient(broker, 5, { clientId: "c5" });
    const v4 = await connectClient(broker, 4, { clientId: "c4" });
    await broker.close();
    await v5.ended(0x8b);
    await v4.closed();
  });
});
