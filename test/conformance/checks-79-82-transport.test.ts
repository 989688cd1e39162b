import { readFileSync, writeFileSync } from "node:fs";
import { request } from "node:http";
import { join } from "node:path";
import type { ConnectionOptions } from "node:tls";
import { beforeAll, describe, expect, test } from "vitest";
import { WebSocket } from "ws";
import type { Broker } from "../../core/broker-types.ts";
import type { AuthArgs, AuthModifiers, Verdict } from "../../core/hooks/types.ts";
import { startBroker, tempDir, waitFor } from "../support/broker.ts";
import { createCa, createSelfSigned, type KeyPair, type TestCa } from "../support/certs.ts";
import { pluginWith, recordingPlugin } from "../support/plugins.ts";
import {
  type ConnectOptions,
  connectClient,
  encodeConnect,
  encodePublish,
  openClient,
  type RawClient,
  type Target,
} from "../support/raw-client.ts";
import { proxyV1, proxyV2, proxyV2Local, startRelay } from "../support/relay.ts";

/** Checks M-79 to M-82: WebSocket, PROXY protocol, TLS, enhanced authentication. */

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

describe("M-81 TLS", () => {
  let ca: TestCa;
  let server: KeyPair;
  let good: KeyPair;
  let expired: KeyPair;
  let revoked: KeyPair;
  let stranger: KeyPair;
  let selfSigned: KeyPair;
  let crl: string;

  beforeAll(() => {
    const folder = tempDir("file");
    ca = createCa(join(folder, "ca"), "Test CA");
    server = ca.issue("localhost");
    good = ca.issue("good client", { subject: "/CN=good client/O=tests" });
    expired = ca.issue("expired", { from: "20200101", to: "20210101" });
    revoked = ca.issue("revoked");
    ca.revoke(revoked);
    crl = join(folder, "list.crl");
    ca.writeCrl(crl);
    stranger = createCa(join(folder, "other"), "Other CA").issue("stranger");
    selfSigned = createSelfSigned(folder, "self");
  });

  function tlsBroker(
    settings: Record<string, string> = {},
    kind: "ssl" | "wss" = "ssl",
    plugins: Parameters<typeof startBroker>[1] = [],
  ): Promise<Broker> {
    const own = {
      cafile: ca.cert,
      certfile: server.cert,
      keyfile: server.key,
      ...settings,
    };
    const named = Object.entries(own).map(([key, value]) =>
      key.includes(".") || key === "allow_anonymous"
        ? [key, value]
        : [`listener.${kind}.default.${key}`, value],
    );
    return startBroker(
      { [`listener.${kind}.default`]: "127.0.0.1:0", ...Object.fromEntries(named) },
      plugins,
    );
  }

  function secure(
    broker: Broker,
    pair?: KeyPair,
    tls: ConnectionOptions = {},
    kind: "ssl" | "wss" = "ssl",
  ): Target {
    return {
      transport: kind === "ssl" ? "tls" : "wss",
      port: broker.port(kind),
      tls: {
        ca: [readFileSync(ca.cert)],
        rejectUnauthorized: true,
        servername: "localhost",
        ...(pair === undefined
          ? {}
          : { cert: readFileSync(pair.cert), key: readFileSync(pair.key) }),
        ...tls,
      },
    };
  }

  /** No MQTT: the handshake fails, or with TLS 1.3 the connection right behind it. */
  async function isRefused(target: Target): Promise<void> {
    let client: RawClient;
    try {
      client = await openClient(target);
    } catch {
      return;
    }
    client.connect({ clientId: "c" });
    await client.closed();
  }

  test("M-81 the server's certificate is enough by default", async () => {
    const broker = await tlsBroker();
    const client = await connectClient(secure(broker), 5, { clientId: "c" });
    await client.subscribed("a", { qos: 1 });
    await client.published({ topic: "b", qos: 1 });
    const plain = await connectClient(broker, 4, { clientId: "p" });
    await plain.published({ topic: "a", payload: "over TLS", qos: 1 });
    await client.delivered({ payload: "over TLS" });
  });

  test("M-81 a client that does not know the CA does not connect", async () => {
    const broker = await tlsBroker();
    await expect(openClient(secure(broker, undefined, { ca: [] }))).rejects.toThrow();
  });

  test.each(["ssl", "wss"] as const)(
    "M-81 %s require_certificate: good one in, none at all fails",
    async (kind) => {
      const broker = await tlsBroker({ require_certificate: "on" }, kind);
      await connectClient(secure(broker, good, {}, kind), 4, { clientId: "c" });
      await isRefused(secure(broker, undefined, {}, kind));
      expect(broker.sessions()).toHaveLength(1);
    },
  );

  test("M-81 expired, unknown CA, self-signed and revoked certificates fail", async () => {
    const broker = await tlsBroker({ require_certificate: "on", crlfile: crl });
    for (const pair of [expired, stranger, selfSigned, revoked]) {
      await isRefused(secure(broker, pair));
    }
    await connectClient(secure(broker, good), 4, { clientId: "c" });
    expect(broker.sessions()).toHaveLength(1);
  });

  test("M-81 without the CRL the revoked certificate passes", async () => {
    const broker = await tlsBroker({ require_certificate: "on" });
    await connectClient(secure(broker, revoked), 4, { clientId: "c" });
  });

  test.each(["tlsv1.2", "tlsv1.3"])(
    "M-81 tls_version %s: refusals work there, too",
    async (version) => {
      const broker = await tlsBroker({
        tls_version: version,
        require_certificate: "on",
        crlfile: crl,
      });
      await connectClient(secure(broker, good), 4, { clientId: "c" });
      for (const pair of [expired, revoked]) await isRefused(secure(broker, pair));
      const other = version === "tlsv1.2" ? "TLSv1.3" : "TLSv1.2";
      await isRefused(secure(broker, good, { minVersion: other, maxVersion: other }));
      expect(broker.sessions()).toHaveLength(1);
    },
  );

  test.each(["ssl", "wss"] as const)("M-81 %s the CN becomes the user name", async (kind) => {
    const recorder = recordingPlugin();
    const broker = await tlsBroker(
      {
        require_certificate: "on",
        use_identity_as_username: "on",
        forward_connection_opts: "on",
        allow_anonymous: "off",
      },
      kind,
      [recorder.plugin],
    );
    const connect = { clientId: "c", username: "mqtt", password: "p" };
    await connectClient(secure(broker, good, {}, kind), 4, connect);
    expect(broker.sessions()[0]?.user).toBe("good client");
    const [asked] = recorder.of("auth_on_register");
    expect(asked?.username).toBe("good client");
    expect(asked?.connection_meta?.listener_type).toBe(kind === "ssl" ? "mqtts" : "mqttwss");
    expect(asked?.connection_meta?.client_cert?.length).toBeGreaterThan(100);
  });

  test("M-81 identity: allow_anonymous_override on → CONNACK 0, off → hooks decide", async () => {
    for (const [flag, code] of [
      ["on", 0],
      ["off", 5],
    ] as const) {
      const recorder = recordingPlugin();
      const broker = await tlsBroker(
        {
          require_certificate: "on",
          use_identity_as_username: "on",
          allow_anonymous_override: flag,
          allow_anonymous: "off",
        },
        "ssl",
        [recorder.plugin, pluginWith({ auth_on_register: () => ({ error: "not_authorized" }) })],
      );
      const client = await openClient(secure(broker, good), 4);
      client.connect({ clientId: "c" });
      await client.expect("connack", { code });
      expect(recorder.of("auth_on_register")).toHaveLength(flag === "on" ? 0 : 1);
    }
  });

  test("M-81 a plain TCP client on a TLS listener gets no MQTT", async () => {
    const broker = await tlsBroker();
    const client = await openClient(broker.port("ssl"));
    client.connect({ clientId: "c" });
    // A TLS alert may come; it is no packet.
    await waitFor("the broker closed", () => client.isClosed);
    expect(client.received).toEqual([]);
    expect(broker.sessions()).toEqual([]);
  });

  test("M-81 tls_handshake_timeout closes a client that is silent", async () => {
    const broker = await tlsBroker({ tls_handshake_timeout: "300" });
    const client = await openClient(broker.port("ssl"));
    await client.closed(3000);
  });

  describe("PSK", () => {
    function psk(identity: string, key: string): ConnectionOptions {
      return {
        ciphers: "PSK-AES256-GCM-SHA384:PSK-AES128-GCM-SHA256",
        maxVersion: "TLSv1.2",
        pskCallback: () => ({ identity, psk: Buffer.from(key) }),
        checkServerIdentity: () => undefined,
        ca: [],
      };
    }

    function pskBroker(separator = ":"): Promise<Broker> {
      const pskfile = join(tempDir(), "vmq.psk");
      writeFileSync(pskfile, `alice${separator}secret one\nbob${separator}two\n`);
      // No certificate is needed.
      return startBroker({
        "listener.ssl.default": "127.0.0.1:0",
        "listener.ssl.psk_support": "on",
        "listener.ssl.pskfile": pskfile,
        ...(separator === ":" ? {} : { "listener.ssl.pskfile_separator": separator }),
      });
    }

    test("M-81 PSK right identity and key → works", async () => {
      const broker = await pskBroker();
      await connectClient(secure(broker, undefined, psk("alice", "secret one")), 4);
      await connectClient(secure(broker, undefined, psk("bob", "two")), 5);
    });

    test("M-81 PSK with another separator", async () => {
      const broker = await pskBroker("|");
      await connectClient(secure(broker, undefined, psk("alice", "secret one")), 4);
    });

    test.each([
      { what: "wrong identity", identity: "mallory", key: "secret one" },
      { what: "wrong key", identity: "alice", key: "two" },
    ])("M-81 PSK $what → handshake fails", async ({ identity, key }) => {
      const broker = await pskBroker();
      const opening = openClient(secure(broker, undefined, psk(identity, key)));
      await expect(opening).rejects.toThrow();
    });
  });
});

describe("M-82 enhanced authentication", () => {
  const METHOD = "method1";

  /** client1 → continue server1, client2 → continue server2, client3 → success, as a challenge game. */
  function challenge({ properties }: AuthArgs): Verdict<AuthModifiers> {
    const { p_authentication_method: method, p_authentication_data: data } = properties;
    if (method !== METHOD) return { error: { reason_code: "bad_authentication_method" } };
    const said = data?.toString() ?? "";
    const step = /^client(\d)$/.exec(said)?.[1];
    if (step === undefined) {
      return {
        error: { reason_code: "not_authorized", reason_string: `Bad authentication data: ${said}` },
      };
    }
    return {
      ok: {
        reason_code: step === "3" ? "success" : "continue_authentication",
        properties: {
          p_authentication_method: METHOD,
          p_authentication_data: Buffer.from(`server${step}`),
        },
      },
    };
  }

  async function authBroker(settings: Record<string, string> = {}) {
    const recorder = recordingPlugin();
    const broker = await startBroker(settings, [
      recorder.plugin,
      pluginWith({ on_auth_m5: challenge }),
    ]);
    return { broker, recorder };
  }

  function said(data: string, method = METHOD) {
    return { authenticationMethod: method, authenticationData: Buffer.from(data) };
  }

  async function started(broker: Broker): Promise<RawClient> {
    const client = await openClient(broker, 5);
    client.connect({ clientId: "c", username: "u", properties: said("client1") });
    await client.expect("auth", { code: 0x18, exactProperties: said("server1") });
    return client;
  }

  async function authenticated(broker: Broker): Promise<RawClient> {
    const client = await started(broker);
    client.auth(0x18, said("client2"));
    await client.expect("auth", { code: 0x18, exactProperties: said("server2") });
    client.auth(0x18, said("client3"));
    await client.expect("connack", { code: 0, properties: said("server3") });
    return client;
  }

  test("M-82 AUTH 0x18 twice, then CONNACK with Method and Data", async () => {
    const { broker, recorder } = await authBroker();
    const client = await authenticated(broker);
    await client.subscribed("a");
    // Differs from VerneMQ: the hook knows who is asked for.
    const [asked] = recorder.of("on_auth_m5");
    expect(asked).toMatchObject({ username: "u", subscriber_id: { client_id: "c" } });
    expect(recorder.of("on_auth_m5")).toHaveLength(3);
  });

  test("M-82 success at once → CONNACK with Method and Data", async () => {
    const { broker } = await authBroker();
    const client = await openClient(broker, 5);
    client.connect({ clientId: "c", properties: said("client3") });
    await client.expect("connack", { code: 0, properties: said("server3") });
  });

  test("M-82 afterwards auth_on_register_m5 is asked as well, unless anonymous", async () => {
    for (const anonymous of ["off", "on"]) {
      const { broker, recorder } = await authBroker({ allow_anonymous: anonymous });
      await authenticated(broker);
      expect(recorder.of("auth_on_register_m5")).toHaveLength(anonymous === "on" ? 0 : 1);
    }
  });

  test.each([
    { what: "PINGREQ", act: (c: RawClient) => c.pingreq() },
    { what: "PUBLISH", act: (c: RawClient) => c.publish({ topic: "a" }) },
    { what: "SUBSCRIBE", act: (c: RawClient) => c.subscribe("a") },
    { what: "CONNECT", act: (c: RawClient) => c.connect({ clientId: "c" }) },
    {
      what: "AUTH of another method",
      act: (c: RawClient) => c.auth(0x18, said("client2", "other")),
    },
  ])("M-82 $what before CONNACK → DISCONNECT 0x82", async ({ act }) => {
    const { broker } = await authBroker();
    const client = await started(broker);
    act(client);
    await client.ended(0x82);
    expect(broker.sessions()).toEqual([]);
  });

  test("M-82 DISCONNECT before CONNACK is allowed", async () => {
    const { broker } = await authBroker();
    const client = await started(broker);
    await client.disconnected();
  });

  test("M-82 unsupported method → CONNACK 0x8C", async () => {
    const { broker } = await authBroker();
    const client = await openClient(broker, 5);
    await client.refused({ clientId: "c", properties: said("client1", "other") }, 0x8c);
    const none = await startBroker();
    const nobody = await openClient(none, 5);
    await nobody.refused({ clientId: "c", properties: said("client1") }, 0x8c);
  });

  test("M-82 [W] a refusal during the exchange is a CONNACK with the code and text", async () => {
    const { broker } = await authBroker();
    const client = await started(broker);
    client.auth(0x18, said("nonsense"));
    await client.expect("connack", {
      code: 0x87,
      properties: { reasonString: "Bad authentication data: nonsense" },
    });
    await client.closed();
  });

  test("M-82 [W] the exchange has the time limit of CONNECT", async () => {
    const { broker } = await authBroker({ mqtt_connect_timeout: "300" });
    const client = await started(broker);
    const startedAt = performance.now();
    const last = await client.next(3000).catch(() => undefined);
    expect([undefined, "connack", "disconnect"]).toContain(last?.type);
    if (last !== undefined) await client.closed();
    expect(client.isClosed).toBe(true);
    expect(performance.now() - startedAt).toBeLessThan(3500);
  });

  test("M-82 re-authentication: ok → AUTH 0x00, in steps → AUTH 0x18, the session goes on", async () => {
    const { broker } = await authBroker();
    const client = await authenticated(broker);
    await client.subscribed("a");
    client.auth(0x19, said("client3"));
    await client.expect("auth", { code: 0, exactProperties: said("server3") });
    client.auth(0x19, said("client1"));
    await client.expect("auth", { code: 0x18, exactProperties: said("server1") });
    // Other packets may flow meanwhile.
    await client.published({ topic: "a", payload: "x", qos: 1 }).catch(() => undefined);
    expect(client.received.some((one) => one.type === "publish")).toBe(true);
    client.auth(0x18, said("client3"));
    const rest = [];
    for (;;) {
      const one = await client.next();
      rest.push(one.type);
      if (one.type === "auth") {
        expect(one.code).toBe(0);
        break;
      }
    }
    await client.expectNothing();
  });

  test("M-82 re-authentication bad → DISCONNECT 0x87 with the text; the will is published", async () => {
    const { broker } = await authBroker();
    const s = await connectClient(broker, 4, { clientId: "s" });
    await s.subscribed("will");
    const client = await openClient(broker, 5);
    const will = { topic: "will", payload: "gone" };
    client.connect({ clientId: "c", will, properties: said("client3") });
    await client.expect("connack", { code: 0 });
    client.auth(0x19, said("baddata"));
    await client.ended(0x87, {
      properties: { reasonString: "Bad authentication data: baddata" },
    });
    await s.delivered({ payload: "gone" });
  });

  test("M-82 [W] re-authentication with another method → DISCONNECT 0x82", async () => {
    const { broker } = await authBroker();
    const client = await authenticated(broker);
    client.auth(0x19, said("client3", "other"));
    await client.ended(0x82);
  });

  test("M-82 [W] AUTH on a session that did not use it → DISCONNECT 0x82", async () => {
    const { broker } = await authBroker();
    const client = await connectClient(broker, 5, { clientId: "c" });
    client.auth(0x19, said("client3"));
    await client.ended(0x82);
  });

  test("M-82 AUTH before MQTT 5 → closed", async () => {
    const { broker } = await authBroker();
    for (const version of [3, 4] as const) {
      const client = await connectClient(broker, version, { clientId: "c" });
      client.auth(0x19, said("client3"));
      await client.closed();
    }
  });
});
