import { describe, expect, test } from "vitest";
import type { PluginHooks, TopicQos } from "../../core/hooks/types.ts";
import { startBroker, waitFor, waitGone, waitOffline } from "../support/broker.ts";
import { pluginWith, recordingPlugin } from "../support/plugins.ts";
import {
  connectClient,
  encodeCoded,
  encodePublish,
  encodeSubscribe,
  openClient,
} from "../support/raw-client.ts";
import { numbers, payloads, publishSeries } from "../support/series.ts";
import { persistent } from "../support/sessions.ts";

/** Hooks seen from the wire: rewrites, answers that come later, plugins that fail, their order. */

const VERSIONS = [4, 5] as const;

describe("allow_anonymous = hooks", () => {
  const settings = { allow_anonymous: "hooks" };

  test("no plugin answers → accepted", async () => {
    for (const hooks of [
      {},
      { auth_on_register: () => "next", auth_on_register_m5: () => "next" },
    ]) {
      const broker = await startBroker(settings, [pluginWith(hooks as PluginHooks)], {
        acceptAll: false,
      });
      for (const version of VERSIONS) {
        await connectClient(broker, version, { clientId: `c${version}` });
      }
    }
  });

  test("a refusal refuses, a modifier counts", async () => {
    const answer = ({ username }: { username: string | undefined }) =>
      username === "bad" ? { error: "invalid_credentials" } : { ok: { username: "changed" } };
    const broker = await startBroker(
      settings,
      [pluginWith({ auth_on_register: answer, auth_on_register_m5: answer })],
      { acceptAll: false },
    );
    const old = await openClient(broker, 4);
    await old.refused({ clientId: "c4", username: "bad" }, 4);
    const v5 = await openClient(broker, 5);
    await v5.refused({ clientId: "c5", username: "bad" }, 0x86);
    await connectClient(broker, 4, { clientId: "ok", username: "good" });
    expect(broker.sessions()).toMatchObject([{ client_id: "ok", user: "changed" }]);
  });

  test("a plugin that fails is no missing verdict: refused", async () => {
    const fail = () => {
      throw new Error("boom");
    };
    const broker = await startBroker(
      settings,
      [pluginWith({ auth_on_register: fail, auth_on_register_m5: fail })],
      { acceptAll: false },
    );
    for (const version of VERSIONS) {
      const client = await openClient(broker, version);
      client.connect({ clientId: "c" });
      const { code } = await client.expect("connack");
      expect(code).not.toBe(0);
      await client.closed();
    }
  });

  test("on: no register hook is asked at all, the user name is kept", async () => {
    const recorder = recordingPlugin();
    const broker = await startBroker({ allow_anonymous: "on" }, [recorder.plugin]);
    for (const version of VERSIONS) {
      await connectClient(broker, version, { clientId: `c${version}`, username: "u" });
    }
    expect(recorder.names("auth_on_register", "auth_on_register_m5")).toEqual([]);
    expect((await recorder.wait("on_register")).username).toBe("u");
  });
});

describe("subscriptions that a hook rewrites", () => {
  const rewrite = (topics: readonly TopicQos[]) =>
    topics.map(({ topic, qos }) => ({ topic: topic.replace(/^my\//, "users/42/"), qos }));
  const hooks: PluginHooks = {
    auth_on_subscribe: ({ topics }) => ({ ok: rewrite(topics) }),
    auth_on_subscribe_m5: ({ topics }) => ({ ok: { topics: rewrite(topics) } }),
  };

  test.each(VERSIONS)("v%i the client unsubscribes with what it asked for", async (version) => {
    const recorder = recordingPlugin();
    const broker = await startBroker({}, [recorder.plugin, pluginWith(hooks)]);
    const s = await connectClient(broker, version, persistent(version, "s"));
    expect(await s.subscribed(["my/a", "my/b"], { qos: 1 })).toEqual([1, 1]);
    expect(broker.sessions()[0]?.subscriptions.map((one) => one.topic)).toEqual([
      "users/42/a",
      "users/42/b",
    ]);
    const p = await connectClient(broker, 4, { clientId: "p" });
    await p.published({ topic: "users/42/a", payload: "x", qos: 1 });
    await p.published({ topic: "my/a", payload: "not this", qos: 1 });
    await s.delivered({ topic: "users/42/a", payload: "x" });

    const unsuback = await s.unsubscribed("my/a");
    expect(unsuback.codes).toEqual(version === 5 ? [0] : undefined);
    expect(broker.sessions()[0]?.subscriptions.map((one) => one.topic)).toEqual(["users/42/b"]);
    await p.published({ topic: "users/42/a", qos: 1 });
    await s.expectNothing();

    // It works on a stored subscription, too.
    await s.disconnected();
    const again = await connectClient(broker, version, persistent(version, "s"));
    await again.unsubscribed("my/b");
    expect(broker.sessions().find((one) => one.client_id === "s")?.subscriptions).toEqual([]);
  });
});

describe("hooks that answer later", () => {
  /** Takes longer for the first messages than for the last: order shows. */
  function later<T>(value: T, ms: number): Promise<T> {
    return new Promise((resolve) => setTimeout(() => resolve(value), ms));
  }

  test.each(VERSIONS)("v%i keep the order of a client's packets", async (version) => {
    const publish: PluginHooks["auth_on_publish"] = ({ payload }) =>
      later("ok" as const, payload.toString() === "1" ? 40 : 1);
    const subscribe = () => later("ok" as const, 20);
    const broker = await startBroker({}, [
      pluginWith({
        auth_on_publish: publish,
        auth_on_publish_m5: publish,
        auth_on_subscribe: subscribe,
        auth_on_subscribe_m5: subscribe,
      }),
    ]);
    const client = await connectClient(broker, version, { clientId: "c" });
    const frame = (n: number) =>
      encodePublish(version, { topic: "a", payload: `${n}`, qos: 1, packetId: 10 + n });
    client.sendTogether(
      frame(1),
      encodeSubscribe(version, 5, [{ filter: "a", qos: 0 }]),
      frame(2),
      frame(3),
    );
    client.pingreq();
    const seen = [];
    while (seen.at(-1) !== "pingresp") {
      const one = await client.next();
      seen.push(one.type === "publish" ? `publish ${one.payload}` : one.type);
    }
    expect(seen.filter((one) => !one.startsWith("publish"))).toEqual([
      "puback",
      "suback",
      "puback",
      "puback",
      "pingresp",
    ]);
    expect(seen.filter((one) => one.startsWith("publish"))).toEqual(["publish 2", "publish 3"]);
  });

  test("make no other client wait", async () => {
    let release = () => {};
    const gate = new Promise<"ok">((resolve) => {
      release = () => resolve("ok");
    });
    const broker = await startBroker({}, [
      pluginWith({
        auth_on_publish: ({ subscriber_id }) =>
          subscriber_id.client_id === "waits" ? gate : "next",
      }),
    ]);
    const waits = await connectClient(broker, 4, { clientId: "waits" });
    const s = await connectClient(broker, 4, { clientId: "s" });
    await s.subscribed("a");
    const packetId = waits.publish({ topic: "a", payload: "late", qos: 1 });
    const quick = await connectClient(broker, 4, { clientId: "quick" });
    await quick.published({ topic: "a", payload: "soon", qos: 1 });
    await s.delivered({ payload: "soon" });
    expect(waits.waiting).toEqual([]);
    release();
    await waits.expect("puback", { packetId });
    await s.delivered({ payload: "late" });
  });

  test("on_deliver that answers later keeps the order of deliveries", async () => {
    const broker = await startBroker({}, [
      pluginWith({
        on_deliver: ({ payload }) =>
          later({ ok: { payload: `${payload}!` } }, payload.toString() === "1" ? 30 : 0),
      }),
    ]);
    const s = await connectClient(broker, 4, { clientId: "s" });
    await s.subscribed("a", { qos: 1 });
    const p = await connectClient(broker, 4, { clientId: "p" });
    await publishSeries(p, 10, { topic: "a", qos: 1 });
    expect(payloads(await s.receive(10))).toEqual(numbers(1, 10).map((one) => `${one}!`));
  });

  test.each(VERSIONS)(
    "v%i a client that publishes, disconnects and closes meanwhile: all is routed, no will",
    async (version) => {
      const slow = () => later("ok" as const, 40);
      const broker = await startBroker({}, [
        pluginWith({
          auth_on_publish: ({ topic }) => (topic === "will" ? "ok" : slow()),
          auth_on_publish_m5: ({ topic }) => (topic === "will" ? "ok" : slow()),
        }),
      ]);
      const s = await connectClient(broker, 4, { clientId: "s" });
      await s.subscribed(["a", "will"]);
      const will = { topic: "will", payload: "wrong" };
      const client = await connectClient(broker, version, { clientId: "c", will });
      client.sendTogether(
        ...numbers(1, 3).map((payload) => encodePublish(version, { topic: "a", payload })),
        encodeCoded("disconnect"),
      );
      client.end();
      for (const payload of numbers(1, 3)) await s.delivered({ topic: "a", payload });
      await waitGone(broker, "c");
      await s.expectNothing();
    },
  );

  test("mqtt_connect_timeout is about CONNECT, not about the time a plugin takes", async () => {
    const broker = await startBroker({ allow_anonymous: "off", mqtt_connect_timeout: "200" }, [
      pluginWith({
        auth_on_register: () => later("ok" as const, 600),
        auth_on_register_m5: () => later("ok" as const, 600),
      }),
    ]);
    for (const version of VERSIONS) await connectClient(broker, version, { clientId: "c" });
    expect(broker.metrics().socket_close_timeout).toBe(0);
  });

  test("two clients of one id that are asked at the same time: the later one stays", async () => {
    const broker = await startBroker({ allow_anonymous: "off" }, [
      pluginWith({ auth_on_register_m5: () => later("ok" as const, 30) }),
    ]);
    const first = await openClient(broker, 5);
    const second = await openClient(broker, 5);
    first.connect({ clientId: "same" });
    second.connect({ clientId: "same" });
    await second.expect("connack", { code: 0 });
    await first.expect("connack", { code: 0 });
    await first.ended(0x8e);
    await second.ping();
    expect(broker.sessions()).toHaveLength(1);
  });

  test("a subscription decided after its client has left is not made", async () => {
    let asked = () => {};
    const isAsked = new Promise<void>((resolve) => {
      asked = resolve;
    });
    const broker = await startBroker({}, [
      pluginWith({
        auth_on_subscribe: () => {
          asked();
          return later("ok" as const, 30);
        },
      }),
    ]);
    const s = await connectClient(broker, 4, { clientId: "s" });
    s.subscribe("a", { qos: 1 });
    await isAsked;
    s.cut();
    await waitGone(broker, "s");
    await later(undefined, 60);
    expect(broker.metrics().router_subscriptions).toBe(0);
    const p = await connectClient(broker, 5, { clientId: "p" });
    expect((await p.published({ topic: "a", qos: 1 })).code).toBe(0x10);
  });

  test("on_deliver that answers after the client has left loses no message", async () => {
    const broker = await startBroker({}, [
      pluginWith({ on_deliver: () => later("ok" as const, 40) }),
    ]);
    const first = await connectClient(broker, 4, persistent(4, "s"));
    await first.subscribed("a", { qos: 1 });
    const p = await connectClient(broker, 4, { clientId: "p" });
    await publishSeries(p, 5, { topic: "a", qos: 1 });
    first.cut();
    await waitOffline(broker, "s");
    const s = await connectClient(broker, 4, persistent(4, "s"));
    expect(payloads(await s.receive(5))).toEqual(numbers(1, 5));
  });

  test("the same for a member of a shared subscription: its group gets them", async () => {
    const broker = await startBroker({}, [
      pluginWith({
        on_deliver: ({ subscriber_id }) =>
          subscriber_id.client_id === "dying" ? later("ok" as const, 10_000) : "next",
      }),
    ]);
    const dying = await connectClient(broker, 4, { clientId: "dying" });
    await dying.subscribed("$share/g/a", { qos: 1 });
    const p = await connectClient(broker, 4, { clientId: "p" });
    await publishSeries(p, 3, { topic: "a", qos: 1 });
    const heir = await connectClient(broker, 4, { clientId: "heir" });
    await heir.subscribed("$share/g/a", { qos: 1 });
    dying.cut();
    expect(payloads(await heir.receive(3)).sort()).toEqual(numbers(1, 3));
  });

  test("[MQTT-4.6.0-1] on_deliver that answers later keeps the order of redelivery", async () => {
    const broker = await startBroker({}, [
      pluginWith({
        on_deliver: ({ payload }) => later("ok" as const, payload.toString() === "1" ? 40 : 1),
      }),
    ]);
    const first = await connectClient(broker, 4, persistent(4, "s"));
    await first.subscribed("a", { qos: 1 });
    const p = await connectClient(broker, 4, { clientId: "p" });
    await publishSeries(p, 5, { topic: "a", qos: 1 });
    for (const payload of numbers(1, 5)) await first.expect("publish", { payload });
    first.cut();
    await waitOffline(broker, "s");
    const s = await connectClient(broker, 4, persistent(4, "s"));
    const got = await s.receive(5);
    expect(payloads(got)).toEqual(numbers(1, 5));
    expect(got.every((one) => one.dup)).toBe(true);
  });

  test.each([
    { when: "after the hook has answered", isEarly: false },
    { when: "while the hook is still asked", isEarly: true },
  ])(
    "QoS 2 stays exactly once when the client is cut and repeats it $when",
    async ({ isEarly }) => {
      for (const version of VERSIONS) {
        const answers: (() => void)[] = [];
        const ask = () =>
          new Promise<"ok">((resolve) => {
            answers.push(() => resolve("ok"));
          });
        const broker = await startBroker({}, [
          pluginWith({ auth_on_publish: ask, auth_on_publish_m5: ask }),
        ]);
        const s = await connectClient(broker, 4, { clientId: "s" });
        await s.subscribed("a", { qos: 2 });
        const first = await connectClient(broker, version, persistent(version, "p"));
        first.publish({ topic: "a", payload: "once", qos: 2, packetId: 5 });
        await waitFor("the hook is asked", () => answers.length === 1);
        first.cut();
        if (!isEarly) {
          answers[0]?.();
          await waitOffline(broker, "p");
        }
        const second = await connectClient(broker, version, persistent(version, "p"));
        second.publish({ topic: "a", payload: "once", qos: 2, packetId: 5, dup: true });
        second.pingreq();
        const timer = setInterval(() => {
          for (const answer of answers) answer();
        }, 5);
        try {
          await second.expect("pubrec", { packetId: 5 });
          await second.expect("pingresp");
          second.pubrel(5);
          await second.expect("pubcomp", { packetId: 5 });
          await s.delivered({ payload: "once", qos: 2 });
          await s.expectNothing();
        } finally {
          clearInterval(timer);
        }
      }
    },
  );

  test("a client that leaves while its hook is asked is no trouble", async () => {
    const broker = await startBroker({ allow_anonymous: "off" }, [
      pluginWith({ auth_on_register: () => later("ok" as const, 50) }),
    ]);
    const leaving = await openClient(broker, 4);
    leaving.connect({ clientId: "leaving" });
    leaving.cut();
    const client = await connectClient(broker, 4, { clientId: "stays" });
    await client.ping();
    await waitGone(broker, "leaving");
  });
});

describe("hooks that fail", () => {
  const WAYS = [
    {
      way: "throws",
      fail: (): never => {
        throw new Error("boom");
      },
    },
    { way: "rejects", fail: () => Promise.reject(new Error("boom")) },
    { way: "rejects later", fail: () => new Promise<never>((_, no) => setTimeout(no, 10)) },
  ];

  test.each(WAYS)("register hook $way → refused: v4 3 or 5, v5 0x80 or 0x83", async ({ fail }) => {
    const broker = await startBroker({ allow_anonymous: "off" }, [
      pluginWith({ auth_on_register: fail, auth_on_register_m5: fail }),
    ]);
    const old = await openClient(broker, 4);
    old.connect({ clientId: "c" });
    expect([3, 5]).toContain((await old.expect("connack")).code);
    await old.closed();
    const v5 = await openClient(broker, 5);
    v5.connect({ clientId: "c" });
    expect([0x80, 0x83]).toContain((await v5.expect("connack")).code);
    await v5.closed();
    expect(broker.sessions()).toEqual([]);
  });

  test.each(WAYS)(
    "publish hook $way → v5 0x80 or 0x83, the session lives, nothing is routed",
    async ({ fail }) => {
      const broker = await startBroker({}, [pluginWith({ auth_on_publish_m5: fail })]);
      const s = await connectClient(broker, 4, { clientId: "s" });
      await s.subscribed("a");
      const p = await connectClient(broker, 5, { clientId: "p" });
      for (const [qos, type] of [
        [1, "puback"],
        [2, "pubrec"],
      ] as const) {
        const packetId = p.publish({ topic: "a", qos });
        const { code } = await p.expect(type, { packetId });
        expect([0x80, 0x83]).toContain(code);
      }
      p.publish({ topic: "a", qos: 0 });
      await p.ping();
      await s.expectNothing();
    },
  );

  test.each(WAYS)(
    "publish hook $way → v4 as a refusal: closed, never accepted",
    async ({ fail }) => {
      const broker = await startBroker({}, [pluginWith({ auth_on_publish: fail })]);
      const s = await connectClient(broker, 5, { clientId: "s" });
      await s.subscribed(["a", "will"]);
      const will = { topic: "will", payload: "gone" };
      // A will is asked for in the same hook: it is refused at CONNECT already.
      const refused = await openClient(broker, 4);
      refused.connect({ clientId: "w", will });
      expect((await refused.expect("connack")).code).not.toBe(0);
      const p = await connectClient(broker, 4, { clientId: "p" });
      p.publish({ topic: "a", qos: 1 });
      await p.closed();
      await s.expectNothing();
    },
  );

  test.each(WAYS)(
    "subscribe hook $way → 0x80 or 0x83 for each filter, the session lives",
    async ({ fail }) => {
      const broker = await startBroker({}, [
        pluginWith({ auth_on_subscribe: fail, auth_on_subscribe_m5: fail }),
      ]);
      for (const version of VERSIONS) {
        const s = await connectClient(broker, version, { clientId: `s${version}` });
        const codes = await s.subscribed(["a", "b"]);
        expect(codes).toHaveLength(2);
        for (const code of codes) expect(version === 5 ? [0x80, 0x83] : [0x80]).toContain(code);
        await s.ping();
      }
      expect(broker.sessions().flatMap((one) => one.subscriptions)).toEqual([]);
    },
  );

  test.each(WAYS)(
    "on_unsubscribe and on_deliver $way → as if they were not there",
    async ({ fail }) => {
      const broker = await startBroker({}, [
        pluginWith({
          on_unsubscribe: fail,
          on_unsubscribe_m5: fail,
          on_deliver: fail,
          on_deliver_m5: fail,
        }),
      ]);
      const p = await connectClient(broker, 4, { clientId: "p" });
      for (const version of VERSIONS) {
        const s = await connectClient(broker, version, { clientId: `s${version}` });
        await s.subscribed("a", { qos: 1 });
        await p.published({ topic: "a", payload: "x", qos: 1 });
        await s.delivered({ topic: "a", payload: "x" });
        await s.unsubscribed("a");
        await p.published({ topic: "a", qos: 1 });
        await s.expectNothing();
      }
    },
  );

  test.each(WAYS)("events that fail ($way) change nothing", async ({ fail }) => {
    const broker = await startBroker({}, [
      pluginWith({
        on_register: fail,
        on_publish: fail,
        on_subscribe: fail,
        on_topic_unsubscribed: fail,
        on_client_wakeup: fail,
        on_client_gone: fail,
        on_client_offline: fail,
        on_offline_message: fail,
        on_message_drop: fail,
      }),
    ]);
    const first = await connectClient(broker, 4, persistent(4, "s"));
    await first.subscribed("a", { qos: 1 });
    await first.disconnected();
    const p = await connectClient(broker, 4, { clientId: "p" });
    await p.published({ topic: "a", payload: "x", qos: 1 });
    const s = await connectClient(broker, 4, persistent(4, "s"));
    await s.delivered({ payload: "x" });
    await s.unsubscribed("a");
  });

  test("an answer of an unknown form is a refusal, not an acceptance", async () => {
    for (const answer of ["foo", {}, 17, undefined, null, { ok: 5 }]) {
      const wrong = (() => answer) as unknown as () => "next";
      const broker = await startBroker({ allow_anonymous: "off" }, [
        pluginWith({ auth_on_register: wrong, auth_on_register_m5: wrong }),
      ]);
      for (const version of VERSIONS) {
        const client = await openClient(broker, version);
        client.connect({ clientId: "c" });
        const { code } = await client.expect("connack");
        expect(code, JSON.stringify(answer)).not.toBe(0);
        await client.closed();
      }
    }
  });
});

describe("chain of plugins", () => {
  test("the first answer that is not next counts, by priority, then by name", async () => {
    const asked: string[] = [];
    const plugin = (
      name: string,
      answer: "next" | "ok" | { error: string },
      priority?: number,
    ) => ({
      name,
      ...(priority === undefined ? {} : { priority }),
      hooks: {
        auth_on_register: () => {
          asked.push(name);
          return answer;
        },
      },
    });
    const broker = await startBroker({ allow_anonymous: "off" }, [
      plugin("b", { error: "no" }),
      plugin("a", "ok"),
      plugin("z", "next", 1),
    ]);
    await connectClient(broker, 4, { clientId: "c" });
    expect(asked).toEqual(["z", "a"]);
  });

  test("a plugin that is disabled is not asked any more", async () => {
    const broker = await startBroker({}, [
      pluginWith({ auth_on_publish_m5: () => ({ error: "not_authorized" }) }, "strict"),
    ]);
    const p = await connectClient(broker, 5, { clientId: "p" });
    const packetId = p.publish({ topic: "a", qos: 1 });
    await p.expect("puback", { packetId, code: 0x87 });
    expect(broker.disablePlugin("strict")).toBe(true);
    await p.published({ topic: "a", qos: 1 });
    expect(broker.disablePlugin("strict")).toBe(false);
  });
});
