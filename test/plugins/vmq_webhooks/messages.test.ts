import { describe, expect, test } from "vitest";
import { waitFor } from "../../support/broker.ts";
import { connectClient } from "../../support/raw-client.ts";
import {
  AUTH_HOOKS,
  type Handler,
  NEXT,
  OK,
  okWith,
  registered,
  startEndpoint,
  startWebhooks,
} from "../../support/webhooks.ts";

/** Checks of PUBLISH and delivery (numbers in brackets), with real clients. */

const base64 = (text: string): string => Buffer.from(text).toString("base64");

/** A broker that asks one endpoint about everything, and two clients. */
async function pair(
  version: 4 | 5,
  handler: Handler,
  options: Record<string, string> = {},
  hooks: readonly string[] = AUTH_HOOKS,
) {
  const endpoint = await startEndpoint(handler);
  const broker = await startWebhooks(registered(endpoint, hooks, options));
  const subscriber = await connectClient(broker, version, { clientId: "s" });
  await subscriber.subscribed("#", { qos: 2 });
  const publisher = await connectClient(broker, version, { clientId: "p", username: "u" });
  return { endpoint, broker, subscriber, publisher };
}

const publishHook = (version: 4 | 5): string =>
  version === 5 ? "auth_on_publish_m5" : "auth_on_publish";

/** Accepts everything, and publishes with these modifiers. */
const changing =
  (modifiers: object): Handler =>
  ({ hook }) =>
    hook.startsWith("auth_on_publish") ? okWith(modifiers) : OK;

describe.each([4, 5] as const)("v%i auth_on_publish", (version) => {
  test("[7] topic, payload, qos and retain replace those of the client", async () => {
    const { subscriber, publisher, broker } = await pair(
      version,
      changing({ topic: "rewritten/topic", payload: base64("new"), qos: 2, retain: true }),
    );
    await publisher.published({ topic: "a", payload: "old", qos: 1 });
    await subscriber.delivered({ topic: "rewritten/topic", payload: "new", qos: 2 });
    expect(broker.retained()).toMatchObject([{ topic: "rewritten/topic", qos: 2 }]);
  });

  test("[8] the payload is base64 in both directions", async () => {
    const { endpoint, subscriber, publisher } = await pair(
      version,
      changing({ payload: base64("hello back") }),
    );
    await publisher.published({ topic: "a", payload: "hello world", qos: 1 });
    expect(endpoint.of(publishHook(version))[0]?.body.payload).toBe("aGVsbG8gd29ybGQ=");
    await subscriber.delivered({ payload: "hello back" });
  });

  test("[8] with base64encode = off it is text in both directions", async () => {
    const { endpoint, subscriber, publisher } = await pair(
      version,
      changing({ payload: "hello back" }),
      { base64encode: "off" },
    );
    await publisher.published({ topic: "a", payload: 'hello "wörld"', qos: 1 });
    expect(endpoint.of(publishHook(version))[0]?.body.payload).toBe('hello "wörld"');
    await subscriber.delivered({ payload: "hello back" });
  });

  test("[9] with no_payload the body has no payload, that of on_publish has", async () => {
    const event = version === 5 ? "on_publish_m5" : "on_publish";
    const { endpoint, publisher } = await pair(version, () => OK, { no_payload: "on" }, [
      ...AUTH_HOOKS,
      event,
    ]);
    await publisher.published({ topic: "a", payload: "x", qos: 1 });
    expect(endpoint.of(publishHook(version))[0]?.body).not.toHaveProperty("payload");
    expect((await endpoint.wait(event)).body.payload).toBe("eA==");
  });

  test("[22] a failing on_publish does not matter to the publish", async () => {
    const event = version === 5 ? "on_publish_m5" : "on_publish";
    const { broker, publisher, subscriber } = await pair(
      version,
      ({ hook }) => (hook === event ? { status: 500 } : OK),
      {},
      [...AUTH_HOOKS, event],
    );
    await publisher.published({ topic: "a", payload: "x", qos: 1 });
    await subscriber.delivered({ payload: "x" });
    await waitFor("the error", () => broker.metrics()[`webhooks_${event}_errors`] === 1);
    expect(broker.metrics()[`webhooks_${event}_requests`]).toBe(1);
  });

  test("[40] bytes that are no UTF-8 become U+FFFD each with base64encode = off", async () => {
    const { endpoint, subscriber, publisher } = await pair(version, () => OK, {
      base64encode: "off",
    });
    const payload = Buffer.from([0x00, 0xff, 0xfe, 0x80, 0xe2, 0x82, 0x41]);
    await publisher.published({ topic: "a", payload, qos: 1 });
    const text = "\u0000\ufffd\ufffd\ufffd\ufffd\ufffdA";
    expect(endpoint.of(publishHook(version))[0]?.body.payload).toBe(text);
    await subscriber.delivered({ payload });
  });

  test("[40] with not_utf8 = base64 they come as base64, and are named", async () => {
    const { endpoint, subscriber, publisher } = await pair(version, () => OK, {
      base64encode: "off",
      not_utf8: "base64",
    });
    await publisher.published({ topic: "a", payload: Buffer.from([0xff, 0xfe]), qos: 1 });
    await publisher.published({ topic: "a", payload: "text", qos: 1 });
    const bodies = endpoint.of(publishHook(version)).map(({ body }) => body);
    expect(bodies[0]).toMatchObject({ payload: "//4=", base64: ["payload"] });
    expect(bodies[1]).toMatchObject({ payload: "text" });
    expect(bodies[1]).not.toHaveProperty("base64");
    await subscriber.delivered({ payload: Buffer.from([0xff, 0xfe]) });
  });

  test("[40] with not_utf8 = deny they are refused without a request", async () => {
    const { endpoint, broker, publisher } = await pair(version, () => OK, {
      base64encode: "off",
      not_utf8: "deny",
    });
    publisher.publish({ topic: "a", payload: Buffer.from([0xff, 0xfe]), qos: 1 });
    if (version === 5) await publisher.expect("puback", { code: 0x87 });
    else await publisher.closed();
    expect(endpoint.of(publishHook(version))).toEqual([]);
    expect(broker.metrics()[`webhooks_${publishHook(version)}_errors`]).toBe(1);
  });

  test.each([
    [{ payload: "not base64 !" }],
    [{ payload: 5 }],
    [{ topic: "a/#" }],
    [{ qos: 5 }],
    [{ client_id: "x", mountpoint: "" }],
    [{ thorttle: 5 }],
  ])("%j refuses the publish, the session lives on", async (modifiers) => {
    const { publisher } = await pair(version, changing(modifiers));
    publisher.publish({ topic: "a", payload: "x", qos: 1 });
    if (version === 5) {
      await publisher.expect("puback", { code: 0x87 });
      await publisher.ping();
    } else await publisher.closed();
  });

  test("publishes to other mountpoints", async () => {
    const { subscriber, publisher } = await pair(version, changing({ mountpoint: "other" }));
    await publisher.published({ topic: "a", payload: "x", qos: 1 });
    await subscriber.expectNothing();
  });

  test("a client's messages keep their order whatever the answers' order is", async () => {
    const waiting: (() => void)[] = [];
    const { endpoint, subscriber, publisher } = await pair(version, (request) => {
      if (request.body.topic !== "a" || !request.hook.startsWith("auth_on_publish")) return OK;
      waiting.unshift(() => request.answer({ body: OK }));
      if (waiting.length === 10) for (const answer of waiting) answer();
      return { hold: true };
    });
    // Now it is known that nothing of this endpoint's is kept, so equal calls are all made.
    await publisher.published({ topic: "first", qos: 1 });
    await subscriber.delivered({ topic: "first" });
    const payloads = Array.from({ length: 10 }, (_, i) => String(i));
    for (const payload of payloads) publisher.publish({ topic: "a", payload, qos: 1 });
    const received = await subscriber.receive(10);
    expect(received.map(({ payload }) => payload?.toString())).toEqual(payloads);
    expect(endpoint.of(publishHook(version))).toHaveLength(11);
  });

  test("a will is asked about at CONNECT", async () => {
    const { endpoint, broker } = await pair(version, () => OK);
    await connectClient(broker, version, {
      clientId: "w",
      will: { topic: "will", payload: "gone", qos: 1, retain: true },
    });
    expect(endpoint.of(publishHook(version))[0]?.body).toMatchObject({
      client_id: "w",
      topic: "will",
      payload: "Z29uZQ==",
      retain: true,
    });
  });
});

describe("MQTT 5 properties", () => {
  const PROPERTIES = {
    payloadFormatIndicator: 1,
    contentType: "t",
    responseTopic: "r/t",
    correlationData: Buffer.from("cd"),
    userProperties: [["k1", "v1"]] as [string, string][],
  };

  test("[16] are sent with user properties in base64 even where the payload is text", async () => {
    const { endpoint, publisher, subscriber } = await pair(
      5,
      changing({
        properties: {
          p_response_topic: "other/t",
          p_correlation_data: "dc",
          p_user_property: [{ key: base64("k2"), val: base64("v2") }],
        },
      }),
      { base64encode: "off" },
    );
    await publisher.published({ topic: "a", payload: "x", qos: 1, properties: PROPERTIES });
    expect(endpoint.of("auth_on_publish_m5")[0]?.body.properties).toEqual({
      p_content_type: "t",
      p_correlation_data: "cd",
      p_payload_format_indicator: "utf8",
      p_response_topic: "r/t",
      p_user_property: [{ key: "azE=", val: "djE=" }],
    });
    // [17] what is not returned is gone
    await subscriber.delivered({
      exactProperties: {
        responseTopic: "other/t",
        correlationData: Buffer.from("dc"),
        userProperties: [["k2", "v2"]],
      },
    });
  });

  test.each(["undefined", "unspecified"])(
    "[18] payload format %s is none, and no subscriber suffers",
    async (format) => {
      const { publisher, subscriber } = await pair(
        5,
        changing({ properties: { p_payload_format_indicator: format } }),
      );
      await publisher.published({ topic: "a", payload: "x", qos: 1, properties: PROPERTIES });
      const { properties } = await subscriber.delivered({ payload: "x" });
      expect(properties?.payloadFormatIndicator ?? 0).toBe(0);
      await subscriber.ping();
    },
  );

  test("[39] members of user properties are read by name", async () => {
    const { publisher, subscriber } = await pair(
      5,
      changing({ properties: { p_user_property: [{ val: "djE=", key: "azE=" }] } }),
    );
    await publisher.published({ topic: "a", payload: "x", qos: 1 });
    await subscriber.delivered({ exactProperties: { userProperties: [["k1", "v1"]] } });
  });

  test("correlation data that is no UTF-8 can come and go as base64", async () => {
    const correlationData = Buffer.from([0xff, 0x00, 0xfe]);
    const { endpoint, publisher, subscriber } = await pair(
      5,
      ({ hook, body }) =>
        hook === "auth_on_publish_m5"
          ? okWith({ properties: body.properties, base64: body.base64 })
          : OK,
      { not_utf8: "base64" },
    );
    await publisher.published({ topic: "a", qos: 1, properties: { correlationData } });
    expect(endpoint.of("auth_on_publish_m5")[0]?.body).toMatchObject({
      properties: { p_correlation_data: "/wD+" },
      base64: ["p_correlation_data"],
    });
    await subscriber.delivered({ exactProperties: { correlationData } });
  });

  test.each([
    [
      '{"result":{"error":"x","reason_code":"topic_name_invalid","reason_string":"rs"}}',
      0x90,
      "rs",
    ],
    ['{"result":{"error":"quota_exceeded"}}', 0x97, undefined],
    ['{"result":{"error":"not_allowed"}}', 0x87, undefined],
    [NEXT, 0x87, undefined],
  ])("%s is PUBACK %i", async (answer, code, reasonString) => {
    const { publisher } = await pair(5, ({ hook }) =>
      hook === "auth_on_publish_m5" ? answer : OK,
    );
    publisher.publish({ topic: "a", payload: "x", qos: 1 });
    await publisher.expect("puback", { code, properties: { reasonString } });
    await publisher.ping();
  });
});

describe.each([4, 5] as const)("v%i on_deliver", (version) => {
  const hook = version === 5 ? "on_deliver_m5" : "on_deliver";
  const hooks = [...AUTH_HOOKS, hook];

  test("[15] is asked about each delivery; ok changes nothing", async () => {
    const { endpoint, publisher, subscriber } = await pair(version, () => OK, {}, hooks);
    await publisher.published({ topic: "a/b", payload: "hello", qos: 1 });
    await subscriber.delivered({ topic: "a/b", payload: "hello" });
    expect(endpoint.of(hook)[0]?.text).toMatch(
      /^\{"username":null,"mountpoint":"","client_id":"s","qos":\d,"topic":"a\/b","payload":"aGVsbG8=","retain":false,"properties":\{\}\}$/,
    );
  });

  test("topic and payload may be changed for this client", async () => {
    const { publisher, subscriber } = await pair(
      version,
      (request) => (request.hook === hook ? okWith({ topic: "mine", payload: base64("new") }) : OK),
      {},
      hooks,
    );
    await publisher.published({ topic: "a", payload: "old", qos: 1 });
    await subscriber.delivered({ topic: "mine", payload: "new" });
  });

  test.each([
    ["an error", '{"result":{"error":"no"}}'],
    ["next", NEXT],
    ["nonsense", "foo"],
    ["an unknown modifier", okWith({ nosuchkey: 1 })],
    ["bad base64", okWith({ payload: "*" })],
  ])("%s delivers the message as it is", async (_, answer) => {
    const { publisher, subscriber } = await pair(
      version,
      (request) => (request.hook === hook ? answer : OK),
      {},
      hooks,
    );
    await publisher.published({ topic: "a", payload: "x", qos: 1 });
    await subscriber.delivered({ topic: "a", payload: "x" });
    await subscriber.ping();
  });
});
