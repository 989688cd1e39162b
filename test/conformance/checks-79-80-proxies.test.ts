import { request } from "node:http";
import { describe, expect, test } from "vitest";
import { WebSocket } from "ws";
import type { Broker } from "../../core/broker-types.ts";
import { startBroker } from "../support/broker.ts";
import { recordingPlugin } from "../support/plugins.ts";
import {
  type ConnectOptions,
  connectClient,
  encodeConnect,
  encodePublish,
  openClient,
  type Target,
} from "../support/raw-client.ts";
import { proxyV1, proxyV2, proxyV2Local, startRelay } from "../support/relay.ts";

/** Checks M-79 and M-80: WebSocket, PROXY protocol, X-Forwarded-For. */

const VERSIONS = [3, 4, 5] as const;

function websocketBroker(settings: Record<string, string> = {}): Promise<Broker> {
  return startBroker({ "listener.ws.default": "127.0.0.1:0", ...settings });
}

function ws(broker: Broker, more: Target = {}): Target {
  return { transport: "ws", port: broker.port("ws"), ...more };
}

describe("M-79 WebSocket", () => {
  test.each([
    { offered: ["foo", "mqtt", "bar"], chosen: "mqtt" },
    { offered: ["mqttv3.1", "mqtt"], chosen: "mqttv3.1" },
    { offered: ["mqtt", "mqttv3.1"], chosen: "mqtt" },
    { offered: ["mqtt"], chosen: "mqtt" },
  ])("M-79 subprotocols $offered → $chosen is echoed", async ({ offered, chosen }) => {
    const broker = await websocketBroker();
    for (const version of VERSIONS) {
      const target = ws(broker, { subprotocols: offered });
      const client = await connectClient(target, version, { clientId: "c" });
      expect(client.subprotocol).toBe(chosen);
    }
  });

  test.each([
    { what: "only unknown subprotocols", more: { subprotocols: ["foo", "bar"] }, status: 400 },
    { what: "no subprotocol", more: { subprotocols: [] }, status: 400 },
    { what: "subprotocol in capitals", more: { subprotocols: ["MQTT"] }, status: 400 },
    { what: "path /", more: { urlPath: "/" }, status: 404 },
    { what: "path /mqtt2", more: { urlPath: "/mqtt2" }, status: 404 },
    { what: "path /ws/mqtt", more: { urlPath: "/ws/mqtt" }, status: 404 },
  ])("M-79 $what → HTTP $status, no session", async ({ more, status }) => {
    const broker = await websocketBroker();
    const opening = openClient(ws(broker, more));
    await expect(opening).rejects.toThrow(`Unexpected server response: ${status}`);
    expect(broker.sessions()).toEqual([]);
  });

  test("M-79 a query behind the path does not matter", async () => {
    const broker = await websocketBroker();
    await connectClient(ws(broker, { urlPath: "/mqtt?token=1" }));
  });

  test("M-79 a packet split over 3 frames and two packets in one frame are handled", async () => {
    const broker = await websocketBroker();
    const client = await openClient(ws(broker));
    const connect = encodeConnect(4, { clientId: "c" });
    client.send(connect.subarray(0, 1));
    client.send(connect.subarray(1, 9));
    client.send(connect.subarray(9));
    await client.expect("connack", { code: 0 });
    await client.subscribed("a", { qos: 1 });
    const frame = (packetId: number) =>
      encodePublish(4, { topic: "a", payload: String(packetId), qos: 1, packetId });
    const [one, two] = [frame(1), frame(2)];
    const both = Buffer.concat([one, two]);
    client.send(both.subarray(0, one.length + 3));
    client.send(both.subarray(one.length + 3));
    const types = [];
    for (let i = 0; i < 4; i++) types.push((await client.next()).type);
    expect(types.sort()).toEqual(["puback", "puback", "publish", "publish"]);
  });

  test("M-79 messages larger than a frame buffer pass both ways", async () => {
    const broker = await websocketBroker();
    const s = await connectClient(ws(broker), 5, { clientId: "s" });
    await s.subscribed("a", { qos: 1 });
    const p = await connectClient(ws(broker), 5, { clientId: "p" });
    const payload = Buffer.alloc(3_000_000, 0x61);
    await p.published({ topic: "a", payload, qos: 1 });
    await s.delivered({ payload });
  });

  test("M-79 [W] a text frame → close 1003", async () => {
    const broker = await websocketBroker();
    const socket = new WebSocket(`ws://127.0.0.1:${broker.port("ws")}/mqtt`, ["mqtt"]);
    const closed = new Promise<number>((resolve) => socket.once("close", resolve));
    socket.on("open", () => socket.send("not MQTT"));
    expect(await closed).toBe(1003);
  });

  test("M-79 a frame above max_ws_frame_size → disconnected, will published", async () => {
    const broker = await websocketBroker({ max_ws_frame_size: "1000" });
    const s = await connectClient(broker, 4, { clientId: "s" });
    await s.subscribed("will");
    const will = { topic: "will", payload: "gone" };
    const big = await connectClient(ws(broker), 4, { clientId: "big", will });
    big.publish({ topic: "a", payload: "x".repeat(500) });
    await big.ping();
    big.publish({ topic: "a", payload: "x".repeat(2000) });
    await big.closed();
    await s.delivered({ payload: "gone" });
  });

  test("M-79 an unexpected close → will; DISCONNECT → none", async () => {
    const broker = await websocketBroker();
    const s = await connectClient(broker, 4, { clientId: "s" });
    await s.subscribed("will");
    const will = { topic: "will", payload: "gone" };
    const orderly = await connectClient(ws(broker), 4, { clientId: "c", will });
    await orderly.disconnected();
    await s.expectNothing();
    const cut = await connectClient(ws(broker), 4, { clientId: "c", will });
    cut.cut();
    await s.delivered({ payload: "gone" });
    const closing = await connectClient(ws(broker), 4, { clientId: "c", will });
    closing.end();
    await s.delivered({ payload: "gone" });
  });

  test("M-79 final packets are flushed before the close", async () => {
    const broker = await websocketBroker({ allow_anonymous: "off" });
    const refused = await openClient(ws(broker), 4);
    // The accepting plugin is there for publish and subscribe: an id that is too long is refused.
    await refused.refused({ clientId: "x".repeat(101) }, 2);
    const v5 = await connectClient(ws(broker), 5, { clientId: "c" });
    v5.send("00 00");
    await v5.ended(0x81);
  });

  test("M-79 a header value above max_header_value_length → HTTP 431", async () => {
    const broker = await websocketBroker();
    await connectClient(ws(broker, { headers: { cookie: "x".repeat(4000) } }));
    const opening = openClient(ws(broker, { headers: { cookie: "x".repeat(5000) } }));
    await expect(opening).rejects.toThrow("431");
  });

  test("M-79 a plain HTTP request gets an HTTP error", async () => {
    const broker = await websocketBroker();
    const status = await new Promise<number | undefined>((resolve, reject) => {
      const sent = request({ port: broker.port("ws"), path: "/mqtt" }, (response) => {
        response.resume();
        resolve(response.statusCode);
      });
      sent.on("error", reject).end();
    });
    expect(status).toBeGreaterThanOrEqual(400);
    expect(status).toBeLessThan(500);
  });

  test("M-79 the listener type reaches the register hook", async () => {
    const recorder = recordingPlugin();
    const broker = await startBroker(
      {
        allow_anonymous: "off",
        "listener.ws.default": "127.0.0.1:0",
        "listener.ws.default.forward_connection_opts": "on",
      },
      [recorder.plugin],
    );
    await connectClient(ws(broker), 4, { clientId: "c" });
    expect(recorder.of("auth_on_register")[0]?.connection_meta).toMatchObject({
      listener_type: "mqttws",
      listener_addr: "127.0.0.1",
    });
  });
});

describe("M-80 PROXY protocol", () => {
  const SOURCE = "192.0.2.7";
  const SOURCE_PORT = 4711;

  /** Brokers and recorders with a PROXY listener of one kind. */
  async function proxied(kind: "tcp" | "ws", settings: Record<string, string> = {}) {
    const recorder = recordingPlugin();
    const broker = await startBroker(
      {
        allow_anonymous: "off",
        [`listener.${kind}.proxied`]: "127.0.0.1:0",
        [`listener.${kind}.proxied.proxy_protocol`]: "on",
        ...settings,
      },
      [recorder.plugin],
    );
    const port = broker.port(kind, "proxied");
    const through = async (head: Buffer, connect: ConnectOptions = { clientId: "c" }) =>
      connectClient({ transport: kind, port: await startRelay(port, head) }, 4, connect);
    return { recorder, broker, port, through };
  }

  const HEADERS = [
    { what: "v1", head: proxyV1(SOURCE, SOURCE_PORT), address: SOURCE },
    { what: "v1 IPv6", head: proxyV1("2001:db8::7", SOURCE_PORT), address: "2001:db8::7" },
    { what: "v2", head: proxyV2(SOURCE, SOURCE_PORT), address: SOURCE },
  ];

  for (const kind of ["tcp", "ws"] as const) {
    test.each(HEADERS)(`M-80 ${kind} $what: peer = source of the header`, async (row) => {
      const { recorder, broker, through } = await proxied(kind);
      await through(row.head);
      expect(broker.sessions()).toMatchObject([{ peer_host: row.address, peer_port: SOURCE_PORT }]);
      const peer = { address: row.address, port: SOURCE_PORT };
      expect(recorder.of("auth_on_register")[0]?.peer).toMatchObject(peer);
      expect((await recorder.wait("on_register")).peer).toMatchObject(peer);
    });

    test.each([
      { what: "v2 LOCAL", head: proxyV2Local() },
      { what: "v1 UNKNOWN", head: Buffer.from("PROXY UNKNOWN\r\n") },
    ])(`M-80 ${kind} $what: the socket's address`, async ({ head }) => {
      const { broker, through } = await proxied(kind);
      await through(head);
      expect(broker.sessions()[0]?.peer_host).toBe("127.0.0.1");
    });

    test(`M-80 ${kind} v2 with CN: use-CN on → user name = CN, off → MQTT name`, async () => {
      const connect = { clientId: "c", username: "mqtt", password: "p" };
      for (const [flag, user] of [
        ["on", "common name"],
        ["off", "mqtt"],
      ] as const) {
        const { recorder, broker, through } = await proxied(kind, {
          [`listener.${kind}.proxied.proxy_protocol_use_cn_as_username`]: flag,
        });
        await through(proxyV2(SOURCE, SOURCE_PORT, "common name"), connect);
        expect(broker.sessions()[0]?.user).toBe(user);
        expect(recorder.of("auth_on_register")[0]?.username).toBe(user);
      }
    });

    test(`M-80 ${kind} v2 without CN: the MQTT name stays`, async () => {
      const { broker, through } = await proxied(kind);
      await through(proxyV2(SOURCE, SOURCE_PORT), { clientId: "c", username: "mqtt" });
      expect(broker.sessions()[0]?.user).toBe("mqtt");
    });
  }

  test("M-80 header missing → closed, no answer", async () => {
    const { broker, port } = await proxied("tcp");
    const client = await openClient(port);
    client.connect({ clientId: "c" });
    await client.closed();
    expect(broker.sessions()).toEqual([]);
  });

  test("M-80 nothing sent → closed within 10 s", async () => {
    const { port } = await proxied("tcp");
    const client = await openClient(port);
    const startedAt = performance.now();
    await client.closed(12_000);
    expect(performance.now() - startedAt).toBeGreaterThan(8000);
  });

  test.each([
    { what: "v1 with a bad address", head: Buffer.from("PROXY TCP4 300.1.1.1 10.0.0.1 1 2\r\n") },
    { what: "v1 without an end", head: Buffer.from(`PROXY TCP4 ${"1".repeat(200)}`) },
    {
      what: "v2 of version 3",
      head: Buffer.concat([proxyV2Local().subarray(0, 12), Buffer.from([0x31, 0, 0, 0])]),
    },
  ])("M-80 $what → closed", async ({ head }) => {
    const { port } = await proxied("tcp");
    const client = await openClient({ port, prefix: head });
    await client.closed();
  });

  test("M-80 a header in pieces, CONNECT right behind it", async () => {
    const { broker, port } = await proxied("tcp");
    const head = proxyV2(SOURCE, SOURCE_PORT);
    const client = await openClient({ port, prefix: head.subarray(0, 5) });
    client.send(head.subarray(5, 20));
    client.sendTogether(head.subarray(20), encodeConnect(4, { clientId: "c" }));
    await client.expect("connack", { code: 0 });
    expect(broker.sessions()[0]?.peer_host).toBe(SOURCE);
  });
});

describe("M-80 X-Forwarded-For", () => {
  const XFF = {
    "listener.ws.default": "127.0.0.1:0",
    "listener.ws.default.proxy_xff_support": "on",
    "listener.ws.default.proxy_xff_trusted_intermediate": "10.0.0.0/8;127.0.0.1",
  };
  const WITH_CN = { ...XFF, "listener.ws.default.proxy_xff_use_cn_as_username": "on" };

  test("M-80 first entry of the header = peer", async () => {
    const broker = await startBroker(XFF);
    const headers = { "x-forwarded-for": "198.51.100.4, 10.1.1.1" };
    await connectClient(ws(broker, { headers }), 4, { clientId: "c", username: "mqtt" });
    expect(broker.sessions()).toMatchObject([{ peer_host: "198.51.100.4", user: "mqtt" }]);
  });

  test.each([
    { header: undefined, name: "x-ssl-client-cn" },
    { header: "x-my-cn", name: "x-my-cn" },
  ])("M-80 CN header $name → user name", async ({ header, name }) => {
    const broker = await startBroker({
      ...WITH_CN,
      ...(header ? { "listener.ws.default.proxy_xff_cn_header": header } : {}),
    });
    const headers = { "x-forwarded-for": "198.51.100.4", [name]: "cn user" };
    await connectClient(ws(broker, { headers }), 4, { clientId: "c", username: "mqtt" });
    expect(broker.sessions()[0]?.user).toBe("cn user");
  });

  test.each([
    { what: "CN header missing", headers: { "x-forwarded-for": "198.51.100.4" }, status: 400 },
    {
      what: "CN header empty",
      headers: { "x-forwarded-for": "198.51.100.4", "x-ssl-client-cn": "" },
      status: 400,
    },
    { what: "[W] X-Forwarded-For missing", headers: { "x-ssl-client-cn": "x" }, status: 400 },
    {
      what: "[W] X-Forwarded-For not an address",
      headers: { "x-forwarded-for": "evil", "x-ssl-client-cn": "x" },
      status: 400,
    },
  ])("M-80 $what → refused", async ({ headers, status }) => {
    const broker = await startBroker(WITH_CN);
    const opening = openClient(ws(broker, { headers: headers as Record<string, string> }));
    await expect(opening).rejects.toThrow(String(status));
  });

  test("M-80 [W] an untrusted peer → HTTP 403", async () => {
    const broker = await startBroker({
      ...XFF,
      "listener.ws.default.proxy_xff_trusted_intermediate": "10.0.0.0/8",
    });
    const headers = { "x-forwarded-for": "198.51.100.4" };
    await expect(openClient(ws(broker, { headers }))).rejects.toThrow("403");
  });
});
