import { connectAsync, type MqttClient } from "mqtt";
import { describe, expect, it } from "vitest";
import type { Plugin, PublishArgs, Verdict } from "../../../core/hooks/types.ts";
import { PIPELINE_MAX } from "../../../core/session/pipeline.ts";
import { startBroker, waitFor } from "../../support/broker.ts";
import { atEnd } from "../../support/cleanup.ts";

/** Messages whose authorisation is under way (core/session/pipeline.ts). */

type Answer = (verdict: Verdict<never>) => void;

/** A plugin that answers when the test says so. */
function slowPlugin(isPipelined: boolean): {
  plugin: Plugin;
  asked: { args: PublishArgs; answer: Answer }[];
} {
  const asked: { args: PublishArgs; answer: Answer }[] = [];
  const ask = (args: PublishArgs): Promise<Verdict<never>> =>
    new Promise((answer) => asked.push({ args, answer }));
  const hooks = { auth_on_publish: ask, auth_on_publish_m5: ask };
  return { plugin: { name: "slow", isPipelined, hooks }, asked };
}

async function start(isPipelined = true, version: 4 | 5 = 4) {
  const { plugin, asked } = slowPlugin(isPipelined);
  const broker = await startBroker({ topic_alias_max_client: "10" }, [plugin], {
    acceptAll: false,
  });
  const client = async (
    clientId: string,
    protocolVersion: 4 | 5 = version,
  ): Promise<MqttClient> => {
    const url = `mqtt://127.0.0.1:${broker.port()}`;
    const made = await connectAsync(url, { clientId, reconnectPeriod: 0, protocolVersion });
    made.on("error", () => undefined);
    atEnd(() => made.endAsync(true));
    return made;
  };
  const receiver = await client("receiver");
  await receiver.subscribeAsync("#", { qos: 2 });
  const received: string[] = [];
  receiver.on("message", (_topic, payload) => received.push(payload.toString()));
  return { broker, asked, received, sender: await client("sender") };
}

describe("a plugin that may be asked about several messages at once", () => {
  it("is asked about the next before it has answered, and each takes effect in its turn", async () => {
    const { asked, received, sender } = await start();
    for (let i = 0; i < 10; i++) sender.publish("t", String(i), { qos: (i % 2) as 0 | 1 });
    await waitFor("all were asked about", () => asked.length === 10);
    expect(asked.map(({ args }) => args.payload.toString())).toEqual([..."0123456789"]);
    for (const { answer } of [...asked].reverse().slice(0, 9)) answer("ok");
    const acknowledged = sender.publishAsync("after", "10", { qos: 1 });
    await waitFor("the last one is asked about", () => asked.length === 11);
    expect(received).toEqual([]);
    asked[10]?.answer("ok");
    asked[0]?.answer("ok");
    await acknowledged;
    await waitFor("all messages", () => received.length === 11);
    const ofQos = (rest: number): number[] =>
      received.map(Number).filter((n) => n < 10 && n % 2 === rest);
    expect(ofQos(0)).toEqual([0, 2, 4, 6, 8]);
    expect(ofQos(1)).toEqual([1, 3, 5, 7, 9]);
  });

  it("is asked about no more than the pipeline holds", async () => {
    const { asked, received, sender } = await start();
    const count = PIPELINE_MAX * 2 + 10;
    for (let i = 0; i < count; i++) sender.publish("t", String(i));
    await waitFor("as many as may be", () => asked.length >= PIPELINE_MAX);
    expect(asked.length).toBe(PIPELINE_MAX);
    let answered = 0;
    await waitFor("all messages", () => {
      while (answered < asked.length) asked[answered++]?.answer("ok");
      return received.length === count;
    });
    expect(received.map(Number)).toEqual(Array.from({ length: count }, (_, i) => i));
  });

  it("SUBSCRIBE, DISCONNECT and the end of the socket do not overtake messages under way", async () => {
    const { asked, received, sender, broker } = await start();
    sender.publish("own", "before", { qos: 0 });
    const subscribed = sender.subscribeAsync("own");
    let isSubscribed = false;
    void subscribed.then(() => {
      isSubscribed = true;
    });
    await waitFor("it is asked about", () => asked.length === 1);
    sender.publish("own", "second");
    const own: string[] = [];
    sender.on("message", (_topic, payload) => own.push(payload.toString()));
    expect(isSubscribed).toBe(false);
    asked[0]?.answer("ok");
    await subscribed;
    await waitFor("the second is asked about", () => asked.length === 2);
    sender.publish("own", "last");
    await waitFor("the last is asked about", () => asked.length === 3);
    const ended = sender.endAsync();
    asked[1]?.answer("ok");
    await waitFor("the second was delivered", () => received.includes("second"));
    expect(broker.sessions().some((s) => s.client_id === "sender" && s.is_online)).toBe(true);
    asked[2]?.answer("ok");
    await ended;
    await waitFor("the last was delivered", () => received.includes("last"));
    expect(received).toEqual(["before", "second", "last"]);
    expect(own).not.toContain("before");
  });

  it("a refusal closes an MQTT 3.1.1 client in its turn, and what came after has no effect", async () => {
    const { asked, received, sender } = await start();
    for (const payload of ["good", "bad", "late"]) sender.publish("t", payload, { qos: 1 });
    await waitFor("all were asked about", () => asked.length === 3);
    const closed = new Promise<void>((resolve) => sender.once("close", () => resolve()));
    asked[2]?.answer("ok");
    asked[1]?.answer({ error: "not_authorized" });
    asked[0]?.answer("ok");
    await closed;
    await waitFor("the first was delivered", () => received.length > 0);
    expect(received).toEqual(["good"]);
  });

  it("a message with a topic alias waits for those before it", async () => {
    const { asked, received, sender } = await start(true, 5);
    sender.publish("t", "plain");
    sender.publish("aliased", "sets", { properties: { topicAlias: 1 } });
    sender.publish("", "uses", { properties: { topicAlias: 1 } });
    await waitFor("the first is asked about", () => asked.length === 1);
    for (let i = 0; i < 3; i++) {
      await waitFor(`message ${i} is asked about`, () => asked.length === i + 1);
      asked[i]?.answer("ok");
    }
    await waitFor("all messages", () => received.length === 3);
    expect(asked.map(({ args }) => args.topic)).toEqual(["t", "aliased", "aliased"]);
  });

  it("a pause that one asked for holds back those that are decided already", async () => {
    const { asked, received, sender } = await start();
    for (const payload of ["throttled", "waits"]) sender.publish("t", payload, { qos: 1 });
    await waitFor("both were asked about", () => asked.length === 2);
    asked[1]?.answer("ok");
    const startMs = performance.now();
    asked[0]?.answer({ ok: { throttle: 300 } as never });
    await waitFor("both", () => received.length === 2);
    expect(performance.now() - startMs).toBeGreaterThanOrEqual(290);
  });
});

describe("a plugin without isPipelined", () => {
  it("is asked about one message at a time", async () => {
    const { asked, received, sender } = await start(false);
    for (let i = 0; i < 3; i++) sender.publish("t", String(i), { qos: 1 });
    for (let i = 0; i < 3; i++) {
      await waitFor(`message ${i} is asked about`, () => asked.length === i + 1);
      expect(received.length).toBe(i);
      asked[i]?.answer("ok");
      await waitFor(`message ${i}`, () => received.length === i + 1);
    }
    expect(received).toEqual(["0", "1", "2"]);
  });
});
