import { describe, expect, it } from "vitest";
import type { Broker } from "../../../core/broker-types.ts";
import type { Plugin } from "../../../core/hooks/types.ts";
import { startBroker } from "../../support/broker.ts";
import { call, type HttpAnswer, type HttpCall } from "../../support/http.ts";
import { pluginWith, recordingPlugin } from "../../support/plugins.ts";
import { connectClient, type RawClient, type Version } from "../../support/raw-client.ts";

const PATH = "/restmqtt/api/v1/publish";
const JSON_TYPE = { "Content-Type": "application/json" };
const BYTES_TYPE = { "Content-Type": "application/octet-stream" };

async function start(
  settings: Readonly<Record<string, string>> = {},
  plugins: readonly Plugin[] = [],
): Promise<Broker> {
  return startBroker(
    {
      "plugins.vmq_http_pub": "on",
      "listener.http.rest": "127.0.0.1:0",
      "listener.http.rest.http_modules": "vmq_http_pub",
      "listener.http.rest.http_module.vmq_http_pub.auth.mode": "noauth",
      ...settings,
    },
    plugins,
  );
}

function json(
  broker: Broker,
  message: object,
  query = "",
  more: HttpCall = {},
): Promise<HttpAnswer> {
  const body = JSON.stringify(message);
  return call(broker.port("http"), PATH + query, {
    method: "POST",
    headers: JSON_TYPE,
    body,
    ...more,
  });
}

async function receiver(broker: Broker, version: Version = 4, filter = "#"): Promise<RawClient> {
  const client = await connectClient(broker, version, { clientId: "receiver" });
  await client.subscribed(filter, { qos: 2 });
  return client;
}

describe("a REST publish", () => {
  it("in JSON reaches subscribers with payload, QoS and retain flag (check 30)", async () => {
    const broker = await start();
    const client = await receiver(broker);
    const message = { topic: "T1", qos: 1, retain: true, payload: "grüße" };
    expect(await json(broker, message)).toMatchObject({
      status: 200,
      body: "Published",
      headers: { "content-type": "text/plain" },
    });
    await client.delivered({ topic: "T1", qos: 1, payload: "grüße" });
    const [kept] = broker.retained();
    expect(kept).toMatchObject({ topic: "T1", qos: 1, payload: Buffer.from("grüße") });
    expect(broker.metrics().http_pub_published).toBe(1);
  });

  it("may be a PUT, and numbers and flags may be text (H-43)", async () => {
    const broker = await start();
    const client = await receiver(broker);
    const body = JSON.stringify({ topic: "T1", qos: "2", retain: "false", payload: "x" });
    const answer = await call(broker.port("http"), PATH, {
      method: "PUT",
      headers: JSON_TYPE,
      body,
    });
    expect(answer).toMatchObject({ status: 200, body: "Published" });
    await client.delivered({ topic: "T1", qos: 2, payload: "x" });
  });

  it("decodes base64 when the query says so (check 31, H-44)", async () => {
    const broker = await start();
    const client = await receiver(broker);
    const bytes = Buffer.from([0, 255, 254, 10]);
    const message = { topic: "b", payload: bytes.toString("base64") };
    expect((await json(broker, message, "?encoding=base64")).status).toBe(200);
    await client.delivered({ topic: "b", payload: bytes });
    for (const query of ["?encoding=hex", "?encoding=base64&x=1"]) {
      expect(await json(broker, message, query), query).toMatchObject({
        status: 400,
        body: "Only encoding plain or base64 allows. No more URL parameters supported.",
      });
    }
    const bad = { topic: "b", payload: "!!!" };
    expect(await json(broker, bad, "?encoding=base64")).toMatchObject({
      status: 400,
      body: "Invalid payload. Must be base64",
    });
  });

  it("in headers carries user properties to MQTT 5 subscribers (check 32)", async () => {
    const broker = await start();
    const client = await receiver(broker, 5);
    const headers = {
      ...BYTES_TYPE,
      topic: "h/1",
      qos: "1",
      user_properties: '[{"a":"b","c":"d"}]',
    };
    const answer = await call(broker.port("http"), PATH, { method: "POST", headers, body: "raw" });
    expect(answer.status).toBe(200);
    const userProperties = [
      ["a", "b"],
      ["c", "d"],
    ];
    await client.delivered({
      topic: "h/1",
      payload: "raw",
      qos: 1,
      properties: { userProperties } as never,
    });
  });

  it("in the query takes the body as it is", async () => {
    const broker = await start();
    const client = await receiver(broker);
    const bytes = Buffer.from([1, 0, 200]);
    const options = { method: "POST", headers: BYTES_TYPE, body: bytes };
    expect((await call(broker.port("http"), `${PATH}?topic=q%2F1&qos=1`, options)).status).toBe(
      200,
    );
    await client.delivered({ topic: "q/1", payload: bytes, qos: 1 });
  });

  it("with a topic in header and query is refused (H-44)", async () => {
    const broker = await start();
    const headers = { ...BYTES_TYPE, topic: "h" };
    for (const query of ["?topic=q", "?topic=q&encoding=plain"]) {
      const answer = await call(broker.port("http"), PATH + query, { method: "POST", headers });
      expect(answer).toMatchObject({
        status: 400,
        body: "Parameters found in header as well as url-encoded",
      });
    }
  });

  it.each([
    [{ topic: "", payload: "x" }, "Invalid topic"],
    [{ topic: "a/#", payload: "x" }, "Invalid topic"],
    [{ topic: "a/+/b", payload: "x" }, "Invalid topic"],
    [{ topic: "$SYS/x", payload: "x" }, "Invalid topic"],
    [{ payload: "x" }, "Invalid topic"],
    [{ topic: "a", payload: "x", qos: 3 }, "Invalid QoS value. Must be in range 0..2"],
    [{ topic: "a", payload: "x", qos: "abc" }, "Invalid QoS value. Must be in range 0..2"],
    [
      { topic: "a", payload: "x", retain: "maybe" },
      "Invalid retain flag. Must be in true or false",
    ],
    [
      { topic: "a", payload: "x", user_properties: "x" },
      "User properties need to be a key/value list (json encoded)",
    ],
    [
      { topic: "a", payload: "x", user_properties: [{ a: { b: 1 } }] },
      "User properties need to be a key/value list (json encoded)",
    ],
    [{ topic: "a" }, "Invalid payload. Must be a text"],
  ])("of %j is refused (check 33)", async (message, body) => {
    const broker = await start();
    expect(await json(broker, message)).toMatchObject({ status: 400, body });
    expect(broker.metrics().http_pub_api_error).toBe(1);
    expect(broker.metrics().http_pub_published).toBe(0);
  });

  it("of another form or content type is refused (check 34)", async () => {
    const broker = await start();
    const port = broker.port("http");
    const text = { method: "POST", headers: JSON_TYPE, body: "nope" };
    expect(await call(port, PATH, text)).toMatchObject({
      status: 400,
      body: "Content is not a valid json",
    });
    for (const headers of [{ "Content-Type": "text/plain" }, {}] as Record<string, string>[]) {
      const answer = await call(port, `${PATH}?topic=a`, { method: "POST", headers, body: "x" });
      expect(answer).toMatchObject({ status: 415, body: "" });
    }
    expect(await call(port, PATH)).toMatchObject({ status: 405, headers: { allow: "PUT, POST" } });
  });

  it("of more bytes than any message may have is refused before they are read", async () => {
    const broker = await start({ max_message_size: "1000" });
    const answer = await json(broker, { topic: "a", payload: "x".repeat(100_000) });
    expect(answer).toMatchObject({ status: 413, body: "" });
  });
});

describe("who publishes over REST", () => {
  const auth = pluginWith({
    auth_on_register: ({ username, password, subscriber_id }) =>
      username === "bob" && password?.toString() === "secret" && subscriber_id.client_id === "c1"
        ? "ok"
        : { error: "invalid_credentials" },
    auth_on_publish: ({ topic }) => (topic.startsWith("ok/") ? "ok" : { error: "not_authorized" }),
  });
  const bob = { client_id: "c1", user: "bob", password: "secret" };
  const closed = { allow_anonymous: "off" };

  it("is asked for like a client: 401 for the identity, 403 for the topic (check 35, H-45)", async () => {
    const broker = await start(closed, [auth]);
    const message = { topic: "ok/1", payload: "x" };
    expect(await json(broker, message)).toMatchObject({
      status: 401,
      body: "Authentication failure.",
    });
    const wrong = { ...message, ...bob, password: "no" };
    expect((await json(broker, wrong)).status).toBe(401);
    expect((await json(broker, { ...message, ...bob })).status).toBe(200);
    expect(await json(broker, { ...bob, topic: "no/1", payload: "x" })).toMatchObject({
      status: 403,
      body: "Authorization failure.",
    });
    expect(broker.metrics().http_pub_auth_error).toBe(3);
  });

  it("goes through the hooks of a client's publish, in their order", async () => {
    const recorder = recordingPlugin();
    const broker = await start(closed, [recorder.plugin, auth]);
    const headers = { ...JSON_TYPE };
    await json(broker, { topic: "ok/1", payload: "x", qos: 1, ...bob }, "", { headers });
    expect(recorder.names()).toEqual(["auth_on_register", "auth_on_publish", "on_publish"]);
    expect(recorder.of("auth_on_register")[0]).toMatchObject({
      subscriber_id: { mountpoint: "", client_id: "c1" },
      username: "bob",
      clean_session: true,
      peer: { address: "127.0.0.1" },
    });
    expect(recorder.of("on_publish")[0]).toMatchObject({
      username: "bob",
      topic: "ok/1",
      qos: 1,
      payload: Buffer.from("x"),
    });
  });

  it("is limited by what its hook says: payload, mountpoint, topic (H-45)", async () => {
    const limits = pluginWith({
      auth_on_register: () => ({
        ok: { max_message_size: 10, subscriber_id: { mountpoint: "mp", client_id: "c1" } },
      }),
      auth_on_publish: ({ topic }) => ({ ok: { topic: `changed/${topic}`, qos: 0 } }),
    });
    const recorder = recordingPlugin();
    const broker = await start(closed, [limits, recorder.plugin]);
    expect(await json(broker, { topic: "a", payload: "x".repeat(22) })).toMatchObject({
      status: 413,
      body: "Payload too large.",
    });
    expect((await json(broker, { topic: "a", payload: "short", qos: 1 })).status).toBe(200);
    expect(recorder.of("on_publish")[0]).toMatchObject({
      topic: "changed/a",
      qos: 0,
      subscriber_id: { mountpoint: "mp", client_id: "c1" },
    });
  });

  it("is not asked who it is with allow_anonymous = on, but what it may publish", async () => {
    const broker = await start({ allow_anonymous: "on" }, [auth]);
    expect((await json(broker, { topic: "ok/1", payload: "x" })).status).toBe(200);
    expect((await json(broker, { topic: "no/1", payload: "x" })).status).toBe(403);
  });

  it("comes from the configuration with mode predefined (check 36)", async () => {
    const predefined = {
      ...closed,
      "vmq_http_pub.mqtt_auth.mode": "predefined",
      "vmq_http_pub.mqtt_auth.user": "bob",
      "vmq_http_pub.mqtt_auth.password": "secret",
      "vmq_http_pub.mqtt_auth.client_id": "c1",
    };
    const broker = await start(predefined, [auth]);
    const message = { topic: "ok/1", payload: "x", client_id: "evil", user: "eve", password: "?" };
    expect((await json(broker, message)).status).toBe(200);
    const other = await start(
      {
        ...predefined,
        "listener.http.rest.http_modules.vmq_http_pub.mqtt_auth.user": "eve",
      },
      [auth],
    );
    expect((await json(other, message)).status).toBe(401);
  });

  it("publishes to the mountpoint of the setting, the listener's own first", async () => {
    const recorder = recordingPlugin();
    const broker = await start({ "vmq_http_pub.mountpoint": "all" }, [recorder.plugin]);
    await json(broker, { topic: "a", payload: "x" });
    const own = { "listener.http.rest.http_modules.vmq_http_pub.mountpoint": "a" };
    const other = await start({ "vmq_http_pub.mountpoint": "all", ...own }, [recorder.plugin]);
    await json(other, { topic: "a", payload: "x" });
    const mountpoints = recorder
      .of("on_publish")
      .map(({ subscriber_id }) => subscriber_id.mountpoint);
    expect(mountpoints).toEqual(["all", "a"]);
  });
});

describe("the module", () => {
  it("is served where a listener names it and the plugin is on", async () => {
    const broker = await startBroker({
      "listener.http.x": "127.0.0.1:0",
      "plugins.vmq_http_pub": "on",
    });
    expect(await json(broker, { topic: "a", payload: "x" })).toMatchObject({
      status: 404,
      body: "",
    });
  });

  it("comes and goes with the plugin", async () => {
    const broker = await start();
    const message = { topic: "a", payload: "x" };
    expect((await json(broker, message)).status).toBe(200);
    broker.disablePlugin("vmq_http_pub");
    await expect.poll(async () => (await json(broker, message)).status).toBe(404);
    await broker.plugins.enable("vmq_http_pub");
    await expect.poll(async () => (await json(broker, message)).status).toBe(200);
  });

  it("needs an API key unless the listener says noauth", async () => {
    const broker = await start({
      "listener.http.rest.http_module.vmq_http_pub.auth.mode": "apikey",
    });
    expect(await json(broker, { topic: "a", payload: "x" })).toMatchObject({
      status: 401,
      body: "",
    });
  });
});
