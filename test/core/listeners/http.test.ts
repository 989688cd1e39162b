import { readFileSync } from "node:fs";
import { connect, type Socket } from "node:net";
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from "vitest";
import { createHttpListener } from "../../../core/listeners/listener.ts";
import type { HttpListenerSettings, Listener, Peer } from "../../../core/listeners/types.ts";
import { waitFor } from "../../support/broker.ts";
import { createCa, type KeyPair, type TestCa, tempFolder } from "../../support/certs.ts";
import { answerOf, call, exchange } from "../../support/http.ts";
import { V2_LOCAL } from "./proxy-headers.ts";
import { plainTls } from "./settings.ts";

const SETTINGS: HttpListenerSettings = {
  kind: "http",
  name: "test",
  address: "127.0.0.1",
  port: 0,
  unixSocket: false,
  maxConnections: Number.POSITIVE_INFINITY,
  proxyProtocol: false,
  proxyProtocolUseCnAsUsername: false,
  maxRequestLineLength: 8000,
  maxHeaderValueLength: 4096,
  tls: undefined,
  modules: [],
  authModes: new Map(),
};

interface Host {
  readonly listener: Listener;
  readonly port: number;
  readonly refusals: string[];
  readonly peers: Peer[];
}

/** A listener that answers each request with its method and body. */
async function listen(
  settings: Partial<HttpListenerSettings> = {},
  deps: { requestTimeoutMs?: number } = {},
): Promise<Host> {
  const refusals: string[] = [];
  const peers: Peer[] = [];
  const listener = createHttpListener(
    { ...SETTINGS, ...settings },
    {
      onRequest: (request, response, peer) => {
        peers.push(peer);
        const chunks: Buffer[] = [];
        request.on("data", (chunk) => chunks.push(chunk));
        request.on("end", () => response.end(`${request.method} ${Buffer.concat(chunks)}`));
      },
      onRefused: (_, __, reason) => refusals.push(reason),
    },
    { logger: { warn: () => {}, info: () => {} }, ...deps },
  );
  await listener.start();
  onTestFinished(() => listener.stop());
  return { listener, port: listener.boundPort, refusals, peers };
}

function dial(port: number): { socket: Socket; text: () => string; closed: Promise<void> } {
  const socket = connect(port, "127.0.0.1");
  let received = "";
  socket.on("data", (chunk) => {
    received += chunk.toString();
  });
  socket.on("error", () => {});
  const closed = new Promise<void>((resolve) => socket.on("close", () => resolve()));
  onTestFinished(() => void socket.destroy());
  return { socket, text: () => received, closed };
}

describe("an HTTP listener", () => {
  it("hands over requests with who they are from", async () => {
    const { port, peers } = await listen();
    expect(await call(port, "/x", { method: "POST", body: "hello" })).toMatchObject({
      status: 200,
      body: "POST hello",
    });
    expect(peers).toEqual([{ address: "127.0.0.1", port: expect.any(Number) }]);
  });

  it("keeps a connection for the next request", async () => {
    const { port } = await listen();
    const { socket, text } = dial(port);
    socket.write("GET /a HTTP/1.1\r\nHost: x\r\n\r\n");
    await waitFor("first answer", () => text().includes("GET "));
    socket.write("PUT /b HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nok");
    await waitFor("second answer", () => text().includes("PUT ok"));
  });

  it("refuses a request line above max_request_line_length with 414", async () => {
    const { port, refusals } = await listen({ maxRequestLineLength: 100 });
    expect((await call(port, `/${"a".repeat(80)}`)).status).toBe(200);
    expect(await call(port, `/${"a".repeat(120)}`)).toMatchObject({ status: 414, body: "" });
    expect(refusals).toEqual([expect.stringContaining("HTTP 414")]);
  });

  it("refuses a header above max_header_value_length with 431", async () => {
    const { port } = await listen();
    const headers = (length: number) => ({ headers: { "X-Big": "a".repeat(length) } });
    expect((await call(port, "/", headers(4096))).status).toBe(200);
    expect(await call(port, "/", headers(4097))).toMatchObject({ status: 431, body: "" });
    expect((await call(port, "/", headers(100_000))).status).toBe(431);
  });

  it.each([
    ["garbage", "garbage\r\n\r\n"],
    ["no Host", "GET / HTTP/1.1\r\nConnection: close\r\n\r\n"],
    [
      "two lengths",
      "GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
    ],
  ])("answers %s with 400 and closes", async (_, text) => {
    const { port } = await listen();
    const answer = answerOf(await exchange(port, Buffer.from(text)));
    expect(answer).toMatchObject({ status: 400, body: "" });
  });

  it("gives up a request that takes too long, with 408", async () => {
    const { port } = await listen({}, { requestTimeoutMs: 200 });
    const { socket, text, closed } = dial(port);
    socket.write("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc");
    await closed;
    expect(text()).toMatch(/^HTTP\/1.1 408 /);
  });

  it("accepts max_connections and no more", async () => {
    const { port, listener, refusals } = await listen({ maxConnections: 2 });
    const [first, second] = [dial(port), dial(port)];
    await waitFor("two connections", () => listener.connections === 2);
    await dial(port).closed;
    expect(refusals).toEqual(["max_connections"]);
    first.socket.destroy();
    await waitFor("one has gone", () => listener.connections === 1);
    second.socket.write("GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    await second.closed;
    expect(second.text()).toContain("200 OK");
  });

  it("takes the caller from a PROXY header", async () => {
    const { port, peers, refusals } = await listen({ proxyProtocol: true });
    const request = Buffer.from("GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    const header = Buffer.from("PROXY TCP4 192.0.2.7 127.0.0.1 4711 80\r\n");
    expect(answerOf(await exchange(port, Buffer.concat([header, request]))).status).toBe(200);
    expect(answerOf(await exchange(port, Buffer.concat([V2_LOCAL, request]))).status).toBe(200);
    expect(peers).toEqual([
      { address: "192.0.2.7", port: 4711 },
      { address: "127.0.0.1", port: expect.any(Number) },
    ]);
    expect(await exchange(port, request)).toHaveLength(0);
    expect(refusals).toEqual([expect.stringContaining("PROXY header")]);
  });

  it("that stops ends idle connections at once and others with their answer", async () => {
    const { port, listener } = await listen();
    const [idle, busy] = [dial(port), dial(port)];
    idle.socket.write("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    await waitFor("an answer", () => idle.text().includes("200 OK"));
    busy.socket.write("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\na");
    await waitFor("two connections", () => listener.connections === 2);
    expect(listener.isRunning).toBe(true);
    await listener.stop();
    expect(listener.isRunning).toBe(false);
    await idle.closed;
    busy.socket.write("b");
    await busy.closed;
    expect(busy.text()).toContain("POST ab");
  });
});

describe("an HTTPS listener", () => {
  let temp: ReturnType<typeof tempFolder>;
  let ca: TestCa;
  let server: KeyPair;
  let client: KeyPair;

  beforeAll(() => {
    temp = tempFolder();
    ca = createCa(temp.folder, "ca");
    server = ca.issue("server");
    client = ca.issue("client");
  });

  const tlsSettings = (more: Partial<NonNullable<HttpListenerSettings["tls"]>> = {}) => ({
    kind: "https" as const,
    tls: { ...plainTls(), certfile: server.cert, keyfile: server.key, ...more },
  });

  it("answers over TLS", async () => {
    const { port } = await listen(tlsSettings());
    expect((await call(port, "/", { tls: {} })).body).toBe("GET ");
  });

  it("with require_certificate refuses clients without one", async () => {
    const { port } = await listen(tlsSettings({ cafile: ca.cert, requireCertificate: true }));
    const pair = { cert: readFileSync(client.cert), key: readFileSync(client.key) };
    expect((await call(port, "/", { tls: pair })).status).toBe(200);
    await expect(
      call(port, "/", { tls: {} }).then(({ status }) => {
        if (!(status > 0)) throw new Error("closed without an answer");
      }),
    ).rejects.toThrow();
  });

  it("speaks the TLS versions of tls_version only", async () => {
    const { port } = await listen(tlsSettings({ versions: ["tlsv1.3"] }));
    await expect(call(port, "/", { tls: { maxVersion: "TLSv1.2" } })).rejects.toThrow();
    expect((await call(port, "/", { tls: { minVersion: "TLSv1.3" } })).status).toBe(200);
  });

  afterAll(() => temp.remove());
});
