import { describe, expect, it } from "vitest";
import { sslField, V2_LOCAL, v2Header } from "./proxy-headers.ts";
import { dial, listen, readAll } from "./support.ts";

describe.each([true, false])("M-80 PROXY protocol on tcp (raw: %s)", (useRawTcp) => {
  async function proxied(settings = {}, deps = {}) {
    const host = await listen(
      { kind: "tcp", proxyProtocol: true, ...settings },
      { useRawTcp, ...deps },
    );
    const client = await dial({ host: "127.0.0.1", port: host.port });
    return { ...host, client };
  }

  it("shows the source of a v1 header and gives the bytes behind it to the session", async () => {
    const { client, sessions } = await proxied();
    client.write("PROXY TCP4 192.0.2.7 10.0.0.1 4711 1883\r\nCONNECT");
    const session = await sessions.next();
    expect(session.transport.peer).toEqual({ address: "192.0.2.7", port: 4711 });
    expect(session.transport.preAuthUsername).toBeUndefined();
    expect((await session.received(7)).toString()).toBe("CONNECT");
    client.write(" more");
    expect((await session.received(12)).toString()).toBe("CONNECT more");
  });

  it("takes user name and IPv6 source from a v2 header that comes byte by byte", async () => {
    const { client, sessions } = await proxied();
    client.setNoDelay(true);
    const addresses = Buffer.from(`20010db8${"0".repeat(22)}01${"0".repeat(32)}`, "hex");
    const header = v2Header({ family: 0x21, addresses, fields: [sslField("alice")] });
    for (const byte of header) {
      await new Promise((resolve) => client.write(Buffer.from([byte]), resolve));
    }
    const session = await sessions.next();
    expect(session.transport.peer).toEqual({ address: "2001:db8::1", port: 4711 });
    expect(session.transport.preAuthUsername).toBe("alice");
    client.write("x");
    await session.received(1);
  });

  it("leaves the user name alone with proxy_protocol_use_cn_as_username off", async () => {
    const { client, sessions } = await proxied({ proxyProtocolUseCnAsUsername: false });
    client.write(v2Header({ fields: [sslField("alice")] }));
    expect((await sessions.next()).transport.preAuthUsername).toBeUndefined();
  });

  it("keeps the socket's address for LOCAL and UNKNOWN", async () => {
    const { client, sessions, port } = await proxied();
    client.write(V2_LOCAL);
    const here = { address: "127.0.0.1", port: client.localPort };
    expect((await sessions.next()).transport.peer).toMatchObject(here);
    const other = await dial({ host: "127.0.0.1", port });
    other.write("PROXY UNKNOWN\r\n");
    const there = { address: "127.0.0.1", port: other.localPort };
    expect((await sessions.next()).transport.peer).toMatchObject(there);
  });

  it("closes a connection that starts with MQTT, and no byte reaches a session", async () => {
    const { client, sessions, refused, listener } = await proxied();
    client.write(Buffer.from("100c00044d5154540402003c0000", "hex"));
    await readAll(client);
    expect((await refused.next()).reason).toMatch(/^PROXY header: neither/);
    expect(sessions.all).toEqual([]);
    expect(listener.connections).toBe(0);
  });

  it("closes when the header does not come in time", async () => {
    const { client, sessions, refused } = await proxied({}, { proxyTimeoutMs: 20 });
    client.write("PROXY TCP4 ");
    await readAll(client);
    expect((await refused.next()).reason).toBe("PROXY header timeout");
    expect(sessions.all).toEqual([]);
  });

  it("keeps a connection whose header came in time", async () => {
    const { client, sessions, port, refused } = await proxied({}, { proxyTimeoutMs: 20 });
    client.write(V2_LOCAL);
    const session = await sessions.next();
    await dial({ host: "127.0.0.1", port }); // says nothing: its time runs out later than ours
    await refused.next();
    client.write("x");
    await session.received(1);
  });

  it("reports a client that leaves before the header", async () => {
    const { client, refused, sessions } = await proxied();
    client.end("PROXY");
    expect((await refused.next()).reason).toBe("closed before the PROXY header");
    expect(sessions.all).toEqual([]);
  });

  it("frees the place of a refused connection", async () => {
    const { client, refused, sessions, port } = await proxied({ maxConnections: 1 });
    client.write("garbage");
    await refused.next();
    await readAll(client);
    const second = await dial({ host: "127.0.0.1", port });
    second.write(V2_LOCAL);
    await sessions.next();
  });
});
