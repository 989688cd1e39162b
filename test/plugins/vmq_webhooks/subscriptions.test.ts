import { describe, expect, test } from "vitest";
import { connectClient } from "../../support/raw-client.ts";
import {
  AUTH_HOOKS,
  type Handler,
  OK,
  okWith,
  registered,
  startEndpoint,
  startWebhooks,
} from "../../support/webhooks.ts";

/** Checks of SUBSCRIBE and UNSUBSCRIBE (numbers in brackets), with real clients. */

const ALL = [
  ...AUTH_HOOKS,
  "on_subscribe",
  "on_subscribe_m5",
  "on_unsubscribe",
  "on_unsubscribe_m5",
];

async function clientOf(version: 4 | 5, handler: Handler, hooks: readonly string[] = ALL) {
  const endpoint = await startEndpoint(handler);
  const broker = await startWebhooks(registered(endpoint, hooks));
  const client = await connectClient(broker, version, { clientId: "c", username: "u" });
  const filters = (): string[] => (broker.sessions()[0]?.subscriptions ?? []).map((s) => s.topic);
  return { endpoint, broker, client, filters };
}

const only =
  (hook: string, answer: string): Handler =>
  (request) =>
    request.hook === hook ? answer : OK;

describe("auth_on_subscribe", () => {
  test("[10] filters come in reverse order, and so does the returned list", async () => {
    const topics = [
      { topic: "rewritten/topic", qos: 2 },
      { topic: "forbidden/topic", qos: 128 },
    ];
    const { endpoint, client, filters } = await clientOf(
      4,
      only("auth_on_subscribe", JSON.stringify({ result: "ok", topics })),
    );
    const codes = await client.subscribed([
      { filter: "one", qos: 0 },
      { filter: "two", qos: 1 },
    ]);
    expect(codes).toEqual([0x80, 2]);
    expect(filters()).toEqual(["rewritten/topic"]);
    expect(endpoint.of("auth_on_subscribe")[0]?.text).toBe(
      '{"username":"u","mountpoint":"","client_id":"c","topics":[{"topic":"two","qos":1},{"topic":"one","qos":0}]}',
    );
    expect((await endpoint.wait("on_subscribe")).body.topics).toEqual([
      { topic: "rewritten/topic", qos: 2 },
    ]);
  });

  test("[10] an endpoint that answers in the order it was asked decides each filter", async () => {
    const { client, filters } = await clientOf(4, ({ hook, body }) => {
      if (hook !== "auth_on_subscribe") return OK;
      const topics = body.topics.map(({ topic, qos }: { topic: string; qos: number }) => ({
        topic,
        qos: topic === "s/b" ? 128 : qos,
      }));
      return JSON.stringify({ result: "ok", topics });
    });
    const codes = await client.subscribed([
      { filter: "s/a", qos: 0 },
      { filter: "s/b", qos: 1 },
      { filter: "s/c", qos: 2 },
    ]);
    expect(codes).toEqual([0, 0x80, 2]);
    expect(filters().sort()).toEqual(["s/a", "s/c"]);
  });

  test.each([
    ["no topics", OK, [1]],
    ["an empty list", '{"result":"ok","topics":[]}', [1]],
    ["modifiers, which are not read", okWith({ nosuchkey: 1 }), [1]],
    ["an error", '{"result":{"error":"not_allowed"}}', [0x80]],
    ["next", '{"result":"next"}', [0x80]],
    ["no list", '{"result":"ok","topics":"a"}', [0x80]],
    ["no QoS", '{"result":"ok","topics":[{"topic":"a"}]}', [0x80]],
  ])("%s", async (_, answer, codes) => {
    const { client } = await clientOf(4, only("auth_on_subscribe", answer));
    expect(await client.subscribed("a", { qos: 1 })).toEqual(codes);
    await client.ping();
  });
});

describe("auth_on_subscribe_m5", () => {
  const HOOK = "auth_on_subscribe_m5";

  test("[11] modifiers.topics decide, in reverse order", async () => {
    const topics = [
      { topic: "rewritten/topic", qos: 2 },
      { topic: "forbidden/topic", qos: 135 },
    ];
    const { client, filters } = await clientOf(5, only(HOOK, okWith({ topics })));
    expect(await client.subscribed(["one", "two"])).toEqual([0x87, 2]);
    expect(filters()).toEqual(["rewritten/topic"]);
  });

  test("[11] topics beside result are ignored", async () => {
    const topics = [{ topic: "other", qos: 2 }];
    const answer = JSON.stringify({ result: "ok", topics });
    const { client, filters } = await clientOf(5, only(HOOK, answer));
    expect(await client.subscribed("a", { qos: 1 })).toEqual([1]);
    expect(filters()).toEqual(["a"]);
  });

  test("[12] the body has the options of each filter and the subscription identifier", async () => {
    const { endpoint, client } = await clientOf(5, () => OK);
    await client.subscribed(
      [
        { filter: "a/b", qos: 1 },
        { filter: "x", qos: 2, noLocal: true, retainAsPublished: true, retainHandling: 2 },
        { filter: "y", retainHandling: 1 },
      ],
      { properties: { subscriptionIdentifiers: [7] } },
    );
    for (const hook of [HOOK, "on_subscribe_m5"]) {
      expect((await endpoint.wait(hook)).text).toBe(
        '{"username":"u","mountpoint":"","client_id":"c","topics":[' +
          '{"topic":"y","qos":0,"no_local":false,"rap":false,"retain_handling":"send_if_new_sub"},' +
          '{"topic":"x","qos":2,"no_local":true,"rap":true,"retain_handling":"dont_send"},' +
          '{"topic":"a/b","qos":1,"no_local":false,"rap":false,"retain_handling":"send_retain"}],' +
          '"properties":{"p_subscription_id":[7]}}',
      );
    }
  });

  test("a rewritten filter keeps the client's options and identifier", async () => {
    const answer = okWith({ topics: [{ topic: "new", qos: 1 }] });
    const { client } = await clientOf(5, only(HOOK, answer));
    await client.subscribed([{ filter: "old", qos: 1, noLocal: true }], {
      properties: { subscriptionIdentifiers: [7] },
    });
    client.publish({ topic: "new", payload: "own" });
    await client.expectNothing();
  });

  test.each([
    ["quota_exceeded", '{"result":{"error":"quota_exceeded"}}', [0x97]],
    ["another error", '{"result":{"error":"whatever"}}', [0x87]],
    ["a list that is none", okWith({ topics: {} }), [0x87]],
    [
      "a retain handling that is none",
      okWith({ topics: [{ topic: "a", qos: 1, retain_handling: "x" }] }),
      [0x87],
    ],
  ])("%s", async (_, answer, codes) => {
    const { client } = await clientOf(5, only(HOOK, answer));
    expect(await client.subscribed("a", { qos: 1 })).toEqual(codes);
    await client.ping();
  });
});

describe("on_unsubscribe", () => {
  const FILTERS = ["rewritten/topic", "anotherrewrittentopic", "other"];

  test.each([4, 5] as const)("[13] [14] v%i the list replaces the filters", async (version) => {
    const hook = version === 5 ? "on_unsubscribe_m5" : "on_unsubscribe";
    const topics = ["rewritten/topic", "anotherrewrittentopic"];
    const answer = version === 5 ? okWith({ topics }) : JSON.stringify({ result: "ok", topics });
    const { endpoint, client, filters } = await clientOf(version, only(hook, answer));
    await client.subscribed(FILTERS);
    await client.unsubscribed(["other", "second"]);
    expect(filters()).toEqual(["other"]);
    expect(endpoint.of(hook)[0]?.body).toEqual({
      username: "u",
      mountpoint: "",
      client_id: "c",
      topics: ["second", "other"],
      ...(version === 5 ? { properties: {} } : {}),
    });
  });

  test.each([
    [4, OK],
    [5, OK],
    [4, '{"result":{"error":"no"}}'],
    [5, '{"result":{"error":"no"}}'],
    [4, "foo"],
    [5, "{}"],
    [4, '{"result":"ok","topics":5}'],
  ] as const)("[13] v%i %s unsubscribes what was asked for", async (version, answer) => {
    const hook = version === 5 ? "on_unsubscribe_m5" : "on_unsubscribe";
    const { client, filters } = await clientOf(version, only(hook, answer));
    await client.subscribed(FILTERS);
    await client.unsubscribed(["other"]);
    expect(filters().sort()).toEqual(["anotherrewrittentopic", "rewritten/topic"]);
  });
});
