import { once } from "node:events";
import { readFileSync } from "node:fs";
import http from "node:http";
import type net from "node:net";
import { join } from "node:path";
import tls from "node:tls";
import { afterAll, beforeAll, describe, expect, it, onTestFinished, vi } from "vitest";
import WebSocket from "ws";
import type { ListenerSettings } from "../../../core/listeners/types.ts";
import { createCa, type KeyPair, type TestCa, tempFolder } from "../../support/certs.ts";
import { sslField, V2_LOCAL, v2Header } from "./proxy-headers.ts";
import { plainTls } from "./settings.ts";
import { dial, listen, readAll } from "./support.ts";

interface Options extends WebSocket.ClientOptions {
  readonly path?: string;
  readonly protocols?: string[];
}

/** A WebSocket client over an already connected socket, or a new one. */
function open(port: number, options: Options = {}, inner?: net.Socket): WebSocket {
  const { path = "/mqtt", protocols = ["mqtt"], ...rest } = options;
  const client = new WebSocket(`ws://127.0.0.1:${port}${path}`, protocols, {
    ...rest,
    ...(inner === undefined ? {} : { createConnection: () => inner }),
  });
  client.on("error", () => {});
  onTestFinished(() => client.terminate());
  return client;
}

function opened(client: WebSocket): Promise<unknown> {
  return Promise.race([
    once(client, "open"),
    new Promise((_, reject) =>
      client.once("unexpected-response", (_r, response) => reject(response.statusCode)),
    ),
  ]);
}

/** `once` of node:events would reject when an error comes first. */
function closed(client: WebSocket): Promise<void> {
  return new Promise((resolve) => client.once("close", () => resolve()));
}

/** Status of the refusal, or `open`. */
async function outcome(port: number, options: Options = {}): Promise<number | "open"> {
  const client = open(port, options);
  return new Promise((resolve) => {
    client.once("open", () => resolve("open"));
    client.once("unexpected-response", (_, response) => resolve(response.statusCode ?? 0));
  });
}

async function nextMessage(client: WebSocket): Promise<Buffer> {
  const [data, isBinary] = await once(client, "message");
  expect(isBinary).toBe(true);
  return data as Buffer;
}

async function connected(settings: Partial<ListenerSettings> = {}, options: Options = {}) {
  const host = await listen({ kind: "ws", ...settings });
  const client = open(host.port, options);
  await opened(client);
  const session = await host.sessions.next();
  return { ...host, client, session, transport: session.transport };
}

describe("M-79 WebSocket handshake", () => {
  it.each([
    [["foo", "mqtt", "bar"], "mqtt"],
    [["mqttv3.1", "mqtt"], "mqttv3.1"],
    [["mqtt"], "mqtt"],
  ])("of %j takes %s", async (protocols, chosen) => {
    const { client } = await connected({}, { protocols });
    expect(client.protocol).toBe(chosen);
  });

  it("answers 400 when no subprotocol is known or none offered", async () => {
    const { port, sessions, refused } = await listen({ kind: "ws" });
    expect(await outcome(port, { protocols: ["foo", "bar"] })).toBe(400);
    expect(await outcome(port, { protocols: [] })).toBe(400);
    expect(sessions.all).toEqual([]);
    expect((await refused.next()).reason).toMatch(/^HTTP 400: subprotocol/);
  });

  it("answers 404 for another path", async () => {
    const { port, refused } = await listen({ kind: "ws" });
    for (const path of ["/", "/mqtt/x", "/mqttx", "/MQTT"]) {
      expect(await outcome(port, { path })).toBe(404);
      expect((await refused.next()).reason).toMatch(/^HTTP 404/);
    }
    expect(await outcome(port, { path: "/mqtt?client=1" })).toBe("open");
  });

  it("answers plain HTTP with 426 for /mqtt and 404 elsewhere, and closes", async () => {
    const { port, refused, listener } = await listen({ kind: "ws" });
    const agent = new http.Agent({ keepAlive: true });
    for (const [path, status] of [
      ["/mqtt", 426],
      ["/", 404],
    ] as const) {
      const [response] = await once(http.get({ host: "127.0.0.1", port, path, agent }), "response");
      expect(response.statusCode).toBe(status);
      response.resume();
      expect((await refused.next()).reason).toMatch(`HTTP ${status}`);
    }
    while (listener.connections > 0) await new Promise((resolve) => setImmediate(resolve));
  });

  it("holds the limits of request line and header value", async () => {
    const { port } = await listen({
      kind: "ws",
      maxRequestLineLength: 60,
      maxHeaderValueLength: 50,
    });
    // "GET /mqtt?" and " HTTP/1.1" are 19 bytes of the line.
    expect(await outcome(port, { path: `/mqtt?${"a".repeat(41)}` })).toBe("open");
    expect(await outcome(port, { path: `/mqtt?${"a".repeat(42)}` })).toBe(414);
    expect(await outcome(port, { headers: { cookie: "c".repeat(50) } })).toBe("open");
    expect(await outcome(port, { headers: { cookie: "c".repeat(51) } })).toBe(431);
    expect(await outcome(port, { headers: { cookie: "c".repeat(100_000) } })).toBe(431);
  });

  it.each([
    ["no key", ["Sec-WebSocket-Version: 13"]],
    [
      "an unknown version",
      ["Sec-WebSocket-Version: 3", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="],
    ],
  ])("answers 400 to a handshake with %s", async (_, lines) => {
    const { port, refused } = await listen({ kind: "ws" });
    const client = await dial({ host: "127.0.0.1", port });
    const head = ["GET /mqtt HTTP/1.1", "Host: x", "Connection: Upgrade", "Upgrade: websocket"];
    client.write([...head, "Sec-WebSocket-Protocol: mqtt", ...lines, "", ""].join("\r\n"));
    expect((await readAll(client)).toString()).toMatch(/^HTTP\/1.1 400/);
    expect((await refused.next()).reason).toMatch(/^HTTP 400/);
  });

  it("answers 400 to what is not HTTP", async () => {
    const { port, refused } = await listen({ kind: "ws" });
    const client = await dial({ host: "127.0.0.1", port });
    client.write(Buffer.from("100c00044d5154540402003c0000", "hex"));
    expect((await readAll(client)).toString()).toMatch(/^HTTP\/1.1 400/);
    expect((await refused.next()).reason).toMatch(/^HTTP 400/);
  });

  it("gives up on a request that does not come within 5 s", async () => {
    vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] });
    onTestFinished(() => void vi.useRealTimers());
    const { port, refused, listener } = await listen({ kind: "ws" });
    const client = await dial({ host: "127.0.0.1", port });
    await new Promise((resolve) => client.write("GET /mqtt HTT", resolve));
    while (listener.connections === 0) await new Promise((resolve) => setImmediate(resolve));
    vi.advanceTimersByTime(5000);
    expect((await readAll(client)).toString()).toMatch(/^HTTP\/1.1 408/);
    expect((await refused.next()).reason).toMatch(/^HTTP 408/);
  });

  it("holds max_connections", async () => {
    const { port, client, session, refused, sessions } = await connected({ maxConnections: 1 });
    const second = open(port);
    await closed(second);
    expect((await refused.next()).reason).toBe("max_connections");
    client.close();
    await session.closed;
    let third = await Promise.race([outcome(port), refused.next().then(() => 0)]);
    while (third !== "open")
      third = await Promise.race([outcome(port), refused.next().then(() => 0)]);
    await sessions.next();
  });
});

describe("M-79 WebSocket transport", () => {
  it("carries bytes both ways in binary frames", async () => {
    const { client, session, transport } = await connected();
    expect(transport.peer.address).toBe("127.0.0.1");
    client.send(Buffer.from("ping"));
    expect((await session.received(4)).toString()).toBe("ping");
    const answer = nextMessage(client);
    expect(transport.write(Buffer.from("pong"))).toBe(true);
    expect((await answer).toString()).toBe("pong");
  });

  it("takes packets split over frames, fragments, and several in one frame", async () => {
    const { client, session } = await connected();
    client.send(Buffer.from("one "));
    client.send(Buffer.from("two "), { fin: false });
    client.send(Buffer.from("three "), { fin: false });
    client.send(Buffer.from("four"), { fin: true });
    expect((await session.received(18)).toString()).toBe("one two three four");
  });

  it("takes a frame that comes with the handshake", async () => {
    const { port, sessions } = await listen({ kind: "ws" });
    const client = await dial({ host: "127.0.0.1", port });
    const head = [
      ...["GET /mqtt HTTP/1.1", "Host: x", "Connection: Upgrade", "Upgrade: websocket"],
      ...["Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="],
      ...["Sec-WebSocket-Protocol: mqtt", "", ""],
    ];
    const frame = Buffer.from([0x82, 0x82, 0, 0, 0, 0, 0x68, 0x69]); // "hi", mask 0
    client.write(Buffer.concat([Buffer.from(head.join("\r\n")), frame]));
    expect((await (await sessions.next()).received(2)).toString()).toBe("hi");
  });

  it("closes with 1003 on a text frame and gives no byte of it", async () => {
    const { client, session } = await connected();
    client.send("text");
    const [code] = await once(client, "close");
    expect(code).toBe(1003);
    expect(await session.closed).toBeInstanceOf(Error);
    expect(session.bytes.length).toBe(0);
  });

  it("closes with 1009 on a frame over max_ws_frame_size, compressed or not", async () => {
    for (const perMessageDeflate of [false, true]) {
      const { client, session } = await connected({ maxWsFrameSize: 2000 }, { perMessageDeflate });
      client.send(Buffer.alloc(2000));
      await session.received(2000);
      client.send(Buffer.alloc(2001));
      const [code] = await once(client, "close");
      expect(code).toBe(1009);
      expect(await session.closed).toBeInstanceOf(Error);
      expect(session.bytes.length).toBe(2000);
    }
  });

  it("takes a frame of any size when the limit is infinity", async () => {
    const { client, session } = await connected({ maxWsFrameSize: Number.POSITIVE_INFINITY });
    client.send(Buffer.alloc(3_000_000));
    await session.received(3_000_000);
  });

  it("compresses large messages only for clients that can", async () => {
    const bytes = Buffer.alloc(100_000, "x");
    const sizes: number[] = [];
    for (const perMessageDeflate of [true, false]) {
      const { client, transport, session, port } = await connected({}, { perMessageDeflate });
      expect(client.extensions).toContain(perMessageDeflate ? "permessage-deflate" : "");
      const message = nextMessage(client);
      transport.write(bytes);
      expect((await message).equals(bytes)).toBe(true);
      const { _socket: socket } = client as unknown as { _socket: net.Socket };
      expect(socket.remotePort).toBe(port);
      sizes.push(socket.bytesRead);
      client.close();
      await session.closed;
    }
    expect(sizes[0]).toBeLessThan(2000);
    expect(sizes[1]).toBeGreaterThan(100_000);
  });

  it("answers PING", async () => {
    const { client } = await connected();
    client.ping("there?");
    const [data] = await once(client, "pong");
    expect(String(data)).toBe("there?");
  });

  it("flushes what was written before it closes", async () => {
    const { client, session, transport } = await connected({}, { perMessageDeflate: true });
    const got: Buffer[] = [];
    client.on("message", (data) => got.push(data as Buffer));
    transport.write(Buffer.alloc(3_000_000, "x"));
    transport.write(Buffer.from("DISCONNECT"));
    transport.end();
    expect(transport.write(Buffer.from("late"))).toBe(true);
    const [code] = await once(client, "close");
    expect(code).toBe(1000);
    expect(got.map((message) => message.length)).toEqual([3_000_000, 10]);
    expect(await session.closed).toBeUndefined();
    expect(session.closeCalls).toBe(1);
  });

  it("after false calls onDrain once, when nothing is waiting", async () => {
    const { client, session, transport } = await connected({}, { perMessageDeflate: false });
    const block = Buffer.alloc(1_000_000);
    let blocks = 1;
    while (transport.write(block)) blocks += 1;
    for (; blocks < 12; blocks++) expect(transport.write(block)).toBe(false);
    expect(transport.bufferedBytes).toBeGreaterThan(1_000_000);
    const all = new Promise<void>((resolve) => {
      let count = 0;
      client.on("message", () => {
        count += 1;
        if (count === blocks) resolve();
      });
    });
    expect(await session.drains.next()).toBe(0);
    await all;
    client.close();
    await session.closed;
    expect(session.drains.all).toEqual([0]);
  });

  it("gives nothing while paused, in order after resume, and may pause again", async () => {
    const { client, session, transport } = await connected();
    session.onBytes = () => transport.pause();
    for (const text of ["a", "b", "c", "d"]) client.send(Buffer.from(text));
    await session.received(1);
    client.ping();
    await new Promise((resolve) => setImmediate(resolve));
    expect(session.bytes.toString()).toBe("a");
    transport.resume();
    await session.received(2);
    await new Promise((resolve) => setImmediate(resolve));
    expect(session.bytes.toString()).toBe("ab");
    session.onBytes = () => {};
    transport.resume();
    expect((await session.received(4)).toString()).toBe("abcd");
  });

  it("tells of a socket that breaks and of one that is closed, once", async () => {
    const broken = await connected();
    broken.client.terminate();
    await broken.session.closed;
    expect(broken.session.closeCalls).toBe(1);
    expect(broken.transport.write(Buffer.from("x"))).toBe(true);
    const polite = await connected();
    polite.client.close();
    expect(await polite.session.closed).toBeUndefined();
    const destroyed = await connected();
    destroyed.transport.destroy();
    await destroyed.session.closed;
    await once(destroyed.client, "close");
    expect(destroyed.session.closeCalls).toBe(1);
  });

  it("end gives up after 5 s on a client that does not answer", async () => {
    vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] });
    onTestFinished(() => void vi.useRealTimers());
    const { client, session, transport } = await connected();
    client.pause();
    transport.end();
    vi.advanceTimersByTime(4999);
    await new Promise((resolve) => setImmediate(resolve));
    expect(session.closeCalls).toBe(0);
    vi.advanceTimersByTime(1);
    await session.closed;
  });
});

describe("M-80 PROXY protocol on ws", () => {
  it.each([
    ["v1", Buffer.from("PROXY TCP4 192.0.2.7 10.0.0.1 4711 8080\r\n"), "192.0.2.7", undefined],
    ["v2", v2Header({ fields: [sslField("alice")] }), "192.0.2.7", "alice"],
    ["LOCAL", V2_LOCAL, "127.0.0.1", undefined],
  ])("%s comes before HTTP", async (_, header, address, username) => {
    const { port, sessions } = await listen({ kind: "ws", proxyProtocol: true });
    const inner = await dial({ host: "127.0.0.1", port });
    inner.write(header);
    const client = open(port, {}, inner);
    await opened(client);
    const { transport, ...session } = await sessions.next();
    expect(transport.peer.address).toBe(address);
    expect(transport.preAuthUsername).toBe(username);
    expect(session.closeCalls).toBe(0);
  });

  it("takes header, handshake and first frame from one segment", async () => {
    const { port, sessions } = await listen({ kind: "ws", proxyProtocol: true });
    const client = await dial({ host: "127.0.0.1", port });
    const head = [
      ...["PROXY TCP6 2001:db8::1 ::1 4711 8080"],
      ...["GET /mqtt HTTP/1.1", "Host: x", "Connection: Upgrade", "Upgrade: websocket"],
      ...["Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="],
      ...["Sec-WebSocket-Protocol: mqtt", "", ""],
    ];
    const frame = Buffer.from([0x82, 0x82, 0, 0, 0, 0, 0x68, 0x69]);
    client.write(Buffer.concat([Buffer.from(head.join("\r\n")), frame]));
    const session = await sessions.next();
    expect(session.transport.peer).toEqual({ address: "2001:db8::1", port: 4711 });
    expect((await session.received(2)).toString()).toBe("hi");
  });

  it("refuses HTTP without the header", async () => {
    const { port, refused, sessions } = await listen({ kind: "ws", proxyProtocol: true });
    await closed(open(port));
    expect((await refused.next()).reason).toMatch(/^PROXY header/);
    expect(sessions.all).toEqual([]);
  });
});

describe("W-39 X-Forwarded-For on ws", () => {
  const xff = (trusted: string[], useCnAsUsername = false): Partial<ListenerSettings> => ({
    proxyXff: { enabled: true, trusted, useCnAsUsername, cnHeader: "x-ssl-client-cn" },
  });
  const headers = { "x-forwarded-for": "192.0.2.7, 10.0.0.1", "x-ssl-client-cn": "alice" };

  it("shows the client's address, and its name when asked to", async () => {
    const plain = await connected(xff(["127.0.0.0/8"]), { headers });
    expect(plain.transport.peer.address).toBe("192.0.2.7");
    expect(plain.transport.preAuthUsername).toBeUndefined();
    const named = await connected(xff(["127.0.0.1"], true), { headers });
    expect(named.transport.preAuthUsername).toBe("alice");
  });

  it("answers 403 to a proxy that is not trusted", async () => {
    const { port, refused } = await listen({ kind: "ws", ...xff(["10.0.0.0/8"]) });
    expect(await outcome(port, { headers })).toBe(403);
    expect((await refused.next()).reason).toMatch(/^HTTP 403/);
  });

  it("answers 400 to a missing or invalid address or name", async () => {
    const { port, sessions } = await listen({ kind: "ws", ...xff(["127.0.0.1"], true) });
    expect(await outcome(port)).toBe(400);
    expect(await outcome(port, { headers: { ...headers, "x-forwarded-for": "me" } })).toBe(400);
    expect(await outcome(port, { headers: { "x-forwarded-for": "192.0.2.7" } })).toBe(400);
    expect(sessions.all).toEqual([]);
  });

  it("ignores the header when the listener does not ask for it", async () => {
    const { transport } = await connected({}, { headers });
    expect(transport.peer.address).toBe("127.0.0.1");
  });
});

describe("wss", () => {
  const temp = tempFolder();
  afterAll(temp.remove);
  let ca: TestCa;
  let server: KeyPair;
  let alice: KeyPair;
  beforeAll(() => {
    ca = createCa(join(temp.folder, "ca"), "Test Root");
    server = ca.issue("localhost");
    alice = ca.issue("alice");
  });

  const secure = (): Partial<ListenerSettings> & { kind: "wss" } => ({
    kind: "wss",
    tls: {
      ...plainTls(),
      ...{ cafile: ca.cert, certfile: server.cert, keyfile: server.key },
      ...{ requireCertificate: true, useIdentityAsUsername: true },
    },
  });
  const dialTls = (port: number, pair: KeyPair | undefined, socket?: net.Socket): tls.TLSSocket => {
    const identity = pair ? { cert: readFileSync(pair.cert), key: readFileSync(pair.key) } : {};
    const where = socket === undefined ? { host: "127.0.0.1", port } : { socket };
    const client = tls.connect({ ...where, ca: readFileSync(ca.cert), ...identity });
    client.on("error", () => {});
    return client;
  };

  it("carries MQTT over TLS and HTTP with the certificate's name", async () => {
    const { port, sessions, listener } = await listen(secure());
    const inner = dialTls(port, alice);
    await once(inner, "secureConnect");
    const client = open(port, {}, inner);
    await opened(client);
    const session = await sessions.next();
    expect(session.transport.preAuthUsername).toBe("alice");
    expect(session.transport.clientCert).toBeInstanceOf(Buffer);
    expect(session.transport.peer).toEqual({ address: "127.0.0.1", port: inner.localPort });
    client.send(Buffer.from("hi"));
    await session.received(2);
    const block = Buffer.alloc(2_000_000);
    const message = nextMessage(client);
    session.transport.write(block);
    session.transport.end();
    expect((await message).length).toBe(block.length);
    await session.closed;
    while (listener.connections > 0) await new Promise((resolve) => setImmediate(resolve));
  });

  it("takes the peer from a PROXY header in front of TLS", async () => {
    const { port, sessions } = await listen({ ...secure(), proxyProtocol: true });
    const outer = await dial({ host: "127.0.0.1", port });
    outer.write(v2Header());
    const inner = dialTls(port, alice, outer);
    await once(inner, "secureConnect");
    await opened(open(port, {}, inner));
    const { transport } = await sessions.next();
    expect(transport.peer).toEqual({ address: "192.0.2.7", port: 4711 });
    expect(transport.preAuthUsername).toBe("alice");
  });

  it("refuses a client without certificate before any HTTP", async () => {
    const { port, refused, sessions } = await listen(secure());
    const client = dialTls(port, undefined);
    await new Promise((resolve) => client.once("close", resolve));
    expect((await refused.next()).reason).toMatch(/^TLS: /);
    expect(sessions.all).toEqual([]);
  });
});
