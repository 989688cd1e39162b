import { execFileSync } from "node:child_process";
import { existsSync } from "node:fs";
import net from "node:net";
import { join } from "node:path";
import { describe, expect, it, onTestFinished } from "vitest";
import { tempFolder } from "../../support/certs.ts";
import { dial, listen, readAll } from "./support.ts";

function socketPath(): string {
  const { folder, remove } = tempFolder();
  onTestFinished(remove);
  return join(folder, "mqtt.sock");
}

describe("listener", () => {
  it("listens on IPv6", async () => {
    const { port, sessions } = await listen({ kind: "tcp", address: "::1" });
    const client = await dial({ host: "::1", port });
    const { transport } = await sessions.next();
    expect(transport.peer).toMatchObject({ address: "::1", port: client.localPort });
  });

  it("shows IPv4 clients of a listener on :: by their IPv4 address", async () => {
    const { port, sessions } = await listen({ kind: "tcp", address: "::" });
    await dial({ host: "127.0.0.1", port });
    expect((await sessions.next()).transport.peer.address).toBe("127.0.0.1");
  });

  it.each([true, false])("listens on a unix socket (raw: %s)", async (useRawTcp) => {
    const address = socketPath();
    const unix = { kind: "tcp", unixSocket: true, address } as const;
    const { sessions, listener } = await listen(unix, { useRawTcp });
    const client = await dial({ path: address });
    const session = await sessions.next();
    expect(session.transport.peer).toEqual({ address: "127.0.0.1", port: 0 });
    expect(listener.boundPort).toBe(0);
    client.write("hello");
    await session.received(5);
    session.transport.write(Buffer.from("bye"));
    session.transport.end();
    expect((await readAll(client)).toString()).toBe("bye");
    await listener.stop();
    expect(existsSync(address)).toBe(false);
  });

  it("takes over the unix socket file of a broker that was killed", async () => {
    const address = socketPath();
    const script = `require("net").createServer().listen(${JSON.stringify(address)}, () => process.kill(process.pid, "SIGKILL"))`;
    expect(() => execFileSync(process.execPath, ["-e", script])).toThrow();
    expect(existsSync(address)).toBe(true);
    const { sessions } = await listen({ kind: "tcp", unixSocket: true, address });
    await dial({ path: address });
    await sessions.next();
  });

  it("does not take the unix socket of a living broker", async () => {
    const address = socketPath();
    await listen({ kind: "tcp", unixSocket: true, address });
    await expect(listen({ kind: "tcp", unixSocket: true, address })).rejects.toMatchObject({
      code: "LISTENER_BIND",
    });
  });

  it("says which listener cannot bind, and where", async () => {
    const { port } = await listen({ kind: "tcp" });
    await expect(listen({ kind: "tcp", name: "second", port })).rejects.toMatchObject({
      code: "LISTENER_BIND",
      message: expect.stringContaining(`listener.tcp.second: cannot listen on 127.0.0.1:${port}`),
    });
  });

  it.each([true, false])("stop frees the port and leaves connections (raw: %s)", async (raw) => {
    const { listener, port, sessions } = await listen({ kind: "tcp" }, { useRawTcp: raw });
    const client = await dial({ host: "127.0.0.1", port });
    const session = await sessions.next();
    await listener.stop();
    const refused = net.connect({ host: "127.0.0.1", port });
    await expect(new Promise((_, reject) => refused.once("error", reject))).rejects.toMatchObject({
      code: "ECONNREFUSED",
    });
    await listen({ kind: "tcp", port });
    client.write("alive");
    await session.received(5);
    expect(listener.connections).toBe(1);
  });

  it("serves 2000 connections that come at once", async () => {
    const { port, sessions, listener } = await listen({ kind: "tcp" });
    await Promise.all(Array.from({ length: 2000 }, () => dial({ host: "127.0.0.1", port })));
    for (let i = 0; i < 2000; i++) await sessions.next();
    expect(listener.connections).toBe(2000);
  });
});
