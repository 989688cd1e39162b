import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import type { Broker } from "../../../core/broker-types.ts";
import { readAnswer } from "../../../plugins/vmq_webhooks/answers.ts";
import { freePort, tempDir, waitFor } from "../../support/broker.ts";
import { createCa } from "../../support/certs.ts";
import { recordingPlugin } from "../../support/plugins.ts";
import { startProcess } from "../../support/process.ts";
import { connectClient, openClient } from "../../support/raw-client.ts";
import {
  type Handler,
  NEXT,
  okWith,
  registered,
  startEndpoint,
  startWebhooks,
} from "../../support/webhooks.ts";

/** Checks of CONNECT (numbers in brackets), with real clients. */

const REGISTER = ["auth_on_register", "auth_on_register_m5"];
const WHO = { clientId: "c", username: "u", password: "p" };

async function brokerWith(handler: Handler, settings: Record<string, string> = {}) {
  const endpoint = await startEndpoint(handler);
  const broker = await startWebhooks({ ...registered(endpoint, REGISTER), ...settings });
  return { endpoint, broker };
}

/** CONNACK codes of a refused 3.1.1 and MQTT 5 client. */
async function refusals(broker: Broker): Promise<[number | undefined, number | undefined]> {
  const codes: (number | undefined)[] = [];
  for (const version of [4, 5] as const) {
    const client = await openClient(broker, version);
    client.connect(WHO);
    codes.push((await client.expect("connack")).code);
    await client.closed();
  }
  return [codes[0], codes[1]];
}

describe("the request", () => {
  test("[1] is a POST of JSON that names its hook", async () => {
    const { endpoint, broker } = await brokerWith(() => undefined);
    const v4 = await connectClient(broker, 4, { ...WHO, clean: false });
    const [request] = endpoint.seen;
    expect(request).toMatchObject({ method: "POST", url: "/hook", hook: "auth_on_register" });
    expect(request?.headers).toMatchObject({
      "content-type": "application/json",
      "vernemq-hook": "auth_on_register",
    });
    expect(request?.text).toBe(
      `{"peer_addr":"127.0.0.1","peer_port":${v4.localPort},"mountpoint":"","client_id":"c","username":"u","password":"p","clean_session":false}`,
    );
    const v5 = await connectClient(broker, 5, {
      ...WHO,
      clientId: "d",
      properties: {
        sessionExpiryInterval: 5,
        receiveMaximum: 10,
        userProperties: [["k1", "v1"]],
      },
    });
    expect(endpoint.of("auth_on_register_m5")[0]?.text).toBe(
      `{"peer_addr":"127.0.0.1","peer_port":${v5.localPort},"mountpoint":"","client_id":"d","username":"u","password":"p","clean_start":true,"properties":{"p_receive_max":10,"p_session_expiry_interval":5,"p_user_property":[{"key":"azE=","val":"djE="}]}}`,
    );
  });

  test("[2] has null for a user name and password that are not there", async () => {
    const { endpoint, broker } = await brokerWith(() => undefined);
    await connectClient(broker, 4, { clientId: "c" });
    expect(endpoint.seen[0]?.body).toMatchObject({ username: null, password: null });
  });

  test("[20] tells the listener when it forwards its options", async () => {
    const port = await freePort();
    const { endpoint, broker } = await brokerWith(() => undefined, {
      "listener.tcp.default": `127.0.0.1:${port}`,
      "listener.tcp.default.forward_connection_opts": "on",
    });
    await connectClient(broker, 4, { clientId: "c" });
    expect(endpoint.seen[0]?.body).toMatchObject({
      listener_addr: "127.0.0.1",
      listener_port: port,
      listener_type: "mqtt",
    });
    expect(endpoint.seen[0]?.body).not.toHaveProperty("client_cert");
  });

  test("[20] carries the client's certificate in base64 from a TLS listener", async () => {
    const folder = tempDir();
    const ca = createCa(join(folder, "ca"), "ca");
    const server = ca.issue("server");
    const client = ca.issue("device");
    const endpoint = await startEndpoint();
    const broker = await startWebhooks({
      ...registered(endpoint, REGISTER),
      "listener.ssl.default": "127.0.0.1:0",
      "listener.ssl.default.cafile": ca.cert,
      "listener.ssl.default.certfile": server.cert,
      "listener.ssl.default.keyfile": server.key,
      "listener.ssl.default.require_certificate": "on",
      "listener.ssl.default.forward_connection_opts": "on",
    });
    const tls = {
      ca: readFileSync(ca.cert),
      cert: readFileSync(client.cert),
      key: readFileSync(client.key),
    };
    const target = { port: broker.port("ssl"), transport: "tls" as const, tls };
    await connectClient(target, 4, { clientId: "c" });
    const { listener_type, client_cert } = endpoint.seen[0]?.body ?? {};
    expect(listener_type).toBe("mqtts");
    const pem = readFileSync(client.cert, "utf8");
    const base64 = /BEGIN CERTIFICATE-----([^-]+)/.exec(pem)?.[1]?.replace(/\s/g, "");
    expect(client_cert).toBe(base64);
  });

  test("[20] [43] a client on a unix socket is local, and the verdict counts", async () => {
    const path = join(tempDir(), "mqtt.sock");
    const { endpoint, broker } = await brokerWith(
      ({ body }) => (body.client_id === "no" ? '{"result":{"error":"no"}}' : undefined),
      {
        "listener.tcp.local": `local:${path}:0`,
        "listener.tcp.local.forward_connection_opts": "on",
      },
    );
    expect(broker).toBeDefined();
    await connectClient({ path }, 4, { clientId: "c" });
    await (await openClient({ path }, 4)).refused({ clientId: "no" }, 5);
    expect(endpoint.seen[0]?.body).toMatchObject({
      peer_addr: "local",
      peer_port: 0,
      listener_addr: "local",
      listener_port: 0,
      listener_type: "mqtt",
    });
  });
});

describe("the answer", () => {
  test("[3] ok lets in, next alone refuses, an error refuses", async () => {
    let answer = '{"result":"ok"}';
    const { broker } = await brokerWith(() => answer);
    await connectClient(broker, 4, WHO);
    answer = NEXT;
    expect(await refusals(broker)).toEqual([5, 0x86]);
    answer = '{"result":{"error":"not_allowed"}}';
    expect(await refusals(broker)).toEqual([5, 0x86]);
  });

  test.each([
    ['{"result":{}}', 5, 0x86],
    ['{"result":{"error":"invalid_credentials"}}', 4, 0x86],
    // Differs from VerneMQ: names and numbers of reason codes reach MQTT 5 clients.
    ['{"result":{"error":"quota_exceeded"}}', 5, 0x97],
    ['{"result":{"error":"whatever","reason_code":"banned"}}', 5, 0x8a],
    ['{"result":{"error":"whatever","reason_code":151}}', 5, 0x97],
    ['{"result":{"error":{"reason_code":"server_busy"}}}', 5, 0x89],
    ['{"result":{"error":"whatever","reason_code":"nosuchcode"}}', 5, 0x86],
  ])("%s refuses with %i, MQTT 5 with %i", async (answer, v4, v5) => {
    const { broker } = await brokerWith(() => answer);
    expect(await refusals(broker)).toEqual([v4, v5]);
  });

  test("a reason string of a refusal is told to MQTT 5 clients", async () => {
    const { broker } = await brokerWith(
      () => '{"result":{"error":"x","reason_code":"quota_exceeded","reason_string":"too many"}}',
    );
    const client = await openClient(broker, 5);
    await client.refused(WHO, 0x97, { exactProperties: { reasonString: "too many" } });
  });

  test.each([4, 5] as const)(
    "[4] v%i mountpoint and client_id replace the session's",
    async (v) => {
      const { broker } = await brokerWith(() =>
        okWith({ mountpoint: "mynewmount", client_id: "changed_client_id" }),
      );
      await connectClient(broker, v, WHO);
      expect(broker.sessions()).toMatchObject([
        { client_id: "changed_client_id", mountpoint: "mynewmount" },
      ]);
    },
  );

  test.each([4, 5] as const)("[5] v%i username replaces the client's", async (v) => {
    const endpoint = await startEndpoint(({ hook }) =>
      hook.startsWith("auth") ? okWith({ username: "changed_username" }) : "{}",
    );
    const hook = v === 5 ? "on_register_m5" : "on_register";
    const broker = await startWebhooks(registered(endpoint, [...REGISTER, hook]));
    await connectClient(broker, v, WHO);
    expect((await endpoint.wait(hook)).body.username).toBe("changed_username");
  });

  test.each(["mountpoint", "client_id"])("[6] %s alone is a refusal", async (name) => {
    const { broker } = await brokerWith(() => okWith({ [name]: "x" }));
    expect(await refusals(broker)).toEqual([5, 0x86]);
  });

  test("modifiers of the session take effect", async () => {
    const { broker } = await brokerWith(() =>
      okWith({ max_message_size: 100, properties: { p_session_expiry_interval: 60 } }),
    );
    const client = await openClient(broker, 5);
    const connack = await client.connected(WHO);
    expect(connack.properties?.sessionExpiryInterval).toBe(60);
    client.publish({ topic: "t", payload: Buffer.alloc(200) });
    await client.ended(0x95);
  });

  test.each([
    ["{}", "result"],
    ['{"result":"deny"}', "result"],
    ['{"result":["ok"]}', "result"],
    ['{"result":true}', "result"],
    ["[]", "body"],
    ['"ok"', "body"],
    ["null", "body"],
    ["foo", "body"],
    ["", "body"],
    [okWith([]), "modifiers"],
    [okWith({ nosuchkey: 1 }), "modifiers.nosuchkey"],
    [okWith({ username: 5 }), "modifiers.username"],
    [okWith({ max_message_size: -1 }), "modifiers.max_message_size"],
    [okWith({ queue_type: "nosuchtype" }), "modifiers.queue_type"],
    [okWith({ properties: [] }), "modifiers.properties"],
  ])(
    "[21] [37] [38] %s is a clean refusal because of %s, and nobody else is asked",
    async (answer, field) => {
      const read = readAnswer("auth_on_register_m5", answer, true);
      expect(read).toMatchObject({ malformed: { field } });
      const endpoint = await startEndpoint(() => answer);
      const later = await startEndpoint();
      const broker = await startWebhooks({
        ...registered(endpoint, ["auth_on_register_m5"]),
        "vmq_webhooks.b.hook": "auth_on_register_m5",
        "vmq_webhooks.b.endpoint": later.url,
      });
      await (await openClient(broker, 5)).refused(WHO, 0x86);
      expect(later.seen).toEqual([]);
      expect(broker.metrics().webhooks_auth_on_register_m5_errors).toBe(1);
      expect(broker.metrics().webhooks_malformed).toBe(1);
    },
  );

  test("[38] the log names endpoint, hook and field of a malformed answer", async () => {
    const endpoint = await startEndpoint(() => okWith({ nosuchkey: 1 }), { scope: "test" });
    const broker = await startProcess({
      settings: {
        ...registered(endpoint, ["auth_on_register"]),
        "plugins.vmq_webhooks": "on",
        allow_anonymous: "off",
      },
    });
    await (await openClient(broker.port, 4)).refused(WHO, 5);
    const line = await waitFor("a line in the log", () =>
      broker.output.split("\n").find((text) => text.includes("webhook failed")),
    );
    expect(line).toContain(endpoint.url);
    expect(line).toContain("auth_on_register");
    expect(line).toContain("modifiers.nosuchkey is no modifier");
    expect(broker.output).not.toContain('"p"');
  });

  test.each(["{}", "null"])("[37] empty modifiers (%s) are none", async (modifiers) => {
    const { broker } = await brokerWith(() => `{"result":"ok","modifiers":${modifiers}}`);
    await connectClient(broker, 4, WHO);
    await connectClient(broker, 5, { ...WHO, clientId: "d" });
  });

  test("empty properties are none; members that are not known beside result do not matter", async () => {
    const { broker } = await brokerWith(
      () => '{"foo":1,"result":"ok","modifiers":{"properties":{}}}',
    );
    await connectClient(broker, 5, WHO);
  });

  test.each([404, 500, 201, 302, 204])("[21] status %i is a refusal", async (status) => {
    const { endpoint, broker } = await brokerWith(() => ({
      status,
      headers: { location: "http://127.0.0.1:1/" },
    }));
    expect(await refusals(broker)).toEqual([5, 0x86]);
    expect(endpoint.seen).toHaveLength(2);
    expect(broker.metrics().webhooks_auth_on_register_errors).toBe(1);
  });

  test("the type of its content does not matter", async () => {
    const { broker } = await brokerWith(() => ({ headers: { "content-type": "text/plain" } }));
    await connectClient(broker, 4, WHO);
  });

  test("chains of endpoints: next asks the next one, ok and errors end it", async () => {
    const first = await startEndpoint(({ body }) =>
      body.username === "a" ? NEXT : '{"result":{"error":"no"}}',
    );
    const second = await startEndpoint();
    const broker = await startWebhooks({
      ...registered(first, ["auth_on_register"]),
      "vmq_webhooks.z.hook": "auth_on_register",
      "vmq_webhooks.z.endpoint": second.url,
    });
    await connectClient(broker, 4, { clientId: "1", username: "a" });
    expect(second.seen).toHaveLength(1);
    await (await openClient(broker, 4)).refused({ clientId: "2", username: "b" }, 5);
    expect(second.seen).toHaveLength(1);
  });

  test("next of all endpoints asks the next plugin", async () => {
    const endpoint = await startEndpoint(() => NEXT);
    const recorder = recordingPlugin("zz");
    const broker = await startWebhooks(
      { ...registered(endpoint, REGISTER), "plugins.vmq_webhooks.priority": "1" },
      [{ ...recorder.plugin, priority: 2 }],
    );
    await (await openClient(broker, 4)).refused(WHO, 5);
    expect(recorder.names("auth_on_register")).toHaveLength(1);
  });
});

describe("late answers", () => {
  test("[23] chunks that come too slowly are a refusal within the deadline", async () => {
    const { broker } = await brokerWith(
      () => ({ chunks: [..."          "].map((text) => [60, text] as [number, string]) }),
      { "vmq_webhooks.auth_on_register.response_timeout": "100" },
    );
    await (await openClient(broker, 4)).refused(WHO, 5);
    const metrics = broker.metrics();
    expect(metrics.webhooks_auth_on_register_timeouts).toBe(1);
    expect(metrics.webhooks_auth_on_register_errors).toBe(1);
    expect(metrics.webhooks_auth_on_register_elapsed_ms).toBeGreaterThan(90);
  });

  test("[24] a client that leaves while it is decided ends the request", async () => {
    const { endpoint, broker } = await brokerWith(() => ({ hold: true }));
    const client = await openClient(broker, 4);
    client.connect(WHO);
    const request = await endpoint.wait("auth_on_register");
    client.cut();
    await request.aborted;
    await waitFor("cancelled", () => broker.metrics().webhooks_auth_on_register_cancelled === 1);
    expect(broker.metrics()).toMatchObject({
      webhooks_auth_on_register_timeouts: 0,
      webhooks_auth_on_register_errors: 0,
      webhooks_auth_on_register_requests: 1,
    });
  });
});

describe("enhanced authentication", () => {
  const METHOD = { authenticationMethod: "METHOD1" };
  const DATA = (text: string) => ({ ...METHOD, authenticationData: Buffer.from(text) });

  test("[19] steps of it are asked and answered", async () => {
    const endpoint = await startEndpoint(({ hook, body }) => {
      if (hook !== "on_auth_m5") return undefined;
      const data = body.properties.p_authentication_data;
      const last = data === Buffer.from("AUTH_DATA1").toString("base64");
      return okWith({
        reason_code: last ? 0 : 24,
        properties: {
          p_authentication_method: "METHOD1",
          p_authentication_data: Buffer.from(last ? "END" : "GO_ON").toString("base64"),
        },
      });
    });
    const broker = await startWebhooks(registered(endpoint, ["on_auth_m5", "auth_on_register_m5"]));
    const client = await openClient(broker, 5);
    client.connect({ ...WHO, properties: DATA("AUTH_DATA0") });
    await client.expect("auth", { code: 0x18, properties: DATA("GO_ON") });
    // Differs from VerneMQ: client id and user name of CONNECT.
    expect(endpoint.seen[0]?.body).toEqual({
      username: "u",
      mountpoint: "",
      client_id: "c",
      properties: {
        p_authentication_method: "METHOD1",
        p_authentication_data: "QVVUSF9EQVRBMA==",
      },
    });
    client.auth(0x18, DATA("AUTH_DATA1"));
    await client.expect("connack", { code: 0, properties: DATA("END") });
  });

  test("[19] an error is a refusal with its reason code", async () => {
    const endpoint = await startEndpoint(
      () => '{"result":{"error":"x","reason_code":"not_authorized"}}',
    );
    const broker = await startWebhooks(registered(endpoint, ["on_auth_m5"]));
    const client = await openClient(broker, 5);
    await client.refused({ ...WHO, properties: DATA("bad") }, 0x87);
  });
});
