import { once } from "node:events";
import { describe, expect, it, onTestFinished, vi } from "vitest";
import { StreamTransport } from "../../../core/listeners/stream-transport.ts";
import { RAW_AVAILABLE, RawTransport } from "../../../core/listeners/tcp.ts";
import { dial, listen, readAll, readBytes } from "./support.ts";

it("this Node has the internals that the fast transport needs", () => {
  expect(RAW_AVAILABLE).toBe(true);
});

const variants = [
  { name: "raw handle", useRawTcp: true, type: RawTransport },
  { name: "net.Socket", useRawTcp: false, type: StreamTransport },
];

describe.each(variants)("tcp transport over $name", ({ useRawTcp, type }) => {
  async function connect() {
    const host = await listen({ kind: "tcp" }, { useRawTcp });
    const client = await dial({ host: "127.0.0.1", port: host.port, allowHalfOpen: true });
    const session = await host.sessions.next();
    return { ...host, client, session, transport: session.transport };
  }

  it("is the transport this variant is about", async () => {
    expect((await connect()).transport).toBeInstanceOf(type);
  });

  it("names the client's address and port, and no user", async () => {
    const { client, transport } = await connect();
    expect(transport.peer).toMatchObject({ address: "127.0.0.1", port: client.localPort });
    expect(transport.preAuthUsername).toBeUndefined();
    expect(transport.clientCert).toBeUndefined();
  });

  it("carries bytes both ways", async () => {
    const { client, session, transport } = await connect();
    client.write("ping");
    expect((await session.received(4)).toString()).toBe("ping");
    transport.write(Buffer.from("pong"));
    expect((await readBytes(client, 4)).toString()).toBe("pong");
  });

  it("keeps each connection's bytes apart although the read buffer is shared", async () => {
    const { client, session, sessions, port } = await connect();
    const other = await dial({ host: "127.0.0.1", port });
    const otherSession = await sessions.next();
    for (let i = 0; i < 200; i++) {
      client.write("a".repeat(100));
      other.write("b".repeat(100));
    }
    expect((await session.received(20_000)).toString()).toBe("a".repeat(20_000));
    expect((await otherSession.received(20_000)).toString()).toBe("b".repeat(20_000));
  });

  it("delivers 5 MB in order", async () => {
    const { client, session } = await connect();
    const bytes = Buffer.alloc(5_000_000, "0123456789abcdef-");
    client.write(bytes);
    expect((await session.received(bytes.length)).equals(bytes)).toBe(true);
  });

  it("says true for a write that left at once, and never calls onDrain for it", async () => {
    const { client, session, transport } = await connect();
    const memory = Buffer.from("first");
    expect(transport.write(memory)).toBe(true);
    memory.fill("X"); // allowed now
    expect(transport.bufferedBytes).toBe(0);
    expect((await readBytes(client, 5)).toString()).toBe("first");
    transport.end();
    client.end();
    await session.closed;
    expect(session.drains.all).toEqual([]);
  });

  it("after false calls onDrain exactly once, when nothing is waiting", async () => {
    const { client, session, transport } = await connect();
    const block = Buffer.alloc(1_000_000, "x");
    let blocks = 1;
    while (transport.write(block)) blocks += 1;
    for (let i = 0; i < 5; i++) {
      expect(transport.write(block)).toBe(false);
      blocks += 1;
    }
    expect(transport.bufferedBytes).toBeGreaterThan(5_000_000);
    const all = readBytes(client, blocks * block.length);
    expect(await session.drains.next()).toBe(0);
    await all;
    transport.end();
    client.end();
    await session.closed;
    expect(session.drains.all).toEqual([0]);
  });

  it("gives nothing while paused, and the rest after resume", async () => {
    const { client, session, sessions, port, transport } = await connect();
    transport.pause();
    transport.pause();
    client.write("held back");
    // The held bytes were on the wire before this round trip over another connection.
    const other = await dial({ host: "127.0.0.1", port });
    const otherSession = await sessions.next();
    other.write("x");
    await otherSession.received(1);
    expect(session.bytes.length).toBe(0);
    transport.resume();
    transport.resume();
    expect((await session.received(9)).toString()).toBe("held back");
  });

  it("may be paused from within onData and then gives no further chunk", async () => {
    const { client, session, transport } = await connect();
    session.onBytes = () => transport.pause();
    client.write(Buffer.alloc(1_000_000));
    await session.received(1);
    const before = session.chunks.length;
    await new Promise((resolve) => setImmediate(() => setImmediate(resolve)));
    expect(session.chunks.length).toBe(before);
    session.onBytes = () => {};
    transport.resume();
    expect((await session.received(1_000_000)).length).toBe(1_000_000);
  });

  it("end sends what waits, then closes, without error", async () => {
    const { client, session, transport } = await connect();
    const block = Buffer.alloc(8_000_000, "y");
    transport.write(block);
    transport.end();
    const got = readAll(client);
    expect((await got).length).toBe(block.length);
    client.end();
    expect(await session.closed).toBeUndefined();
  });

  it("end does not lose the last bytes although the client's own were never read", async () => {
    const { client, session, transport } = await connect();
    transport.pause();
    client.write(Buffer.alloc(200_000));
    transport.write(Buffer.from("why"));
    transport.end();
    expect((await readAll(client)).toString()).toBe("why");
    client.end();
    expect(await session.closed).toBeUndefined();
    expect(session.bytes.length).toBe(0);
  });

  it("end gives up after 5 s on a client that takes nothing", async () => {
    vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] });
    onTestFinished(() => void vi.useRealTimers());
    const { session, transport } = await connect();
    const block = Buffer.alloc(1_000_000);
    while (transport.write(block));
    transport.end();
    vi.advanceTimersByTime(4999);
    await new Promise((resolve) => setImmediate(resolve));
    expect(session.closeCalls).toBe(0);
    vi.advanceTimersByTime(1);
    await session.closed;
  });

  it("takes writes after end and destroy as done", async () => {
    const { client, session, transport } = await connect();
    transport.end();
    expect(transport.write(Buffer.from("late"))).toBe(true);
    transport.destroy();
    transport.destroy();
    expect(transport.write(Buffer.from("late"))).toBe(true);
    transport.pause();
    transport.resume();
    transport.end();
    expect((await readAll(client)).length).toBe(0);
    await session.closed;
    expect(session.closeCalls).toBe(1);
  });

  it("answers a client that has closed its side already", async () => {
    const { client, session, transport } = await connect();
    // As the session's outbox does: the answer is written later in the same turn.
    session.onBytes = () => setImmediate(() => transport.write(Buffer.from("answer")));
    client.end("question");
    expect((await readAll(client)).toString()).toBe("answer");
    expect(await session.closed).toBeUndefined();
    expect(session.closeCalls).toBe(1);
  });

  it("tells of a reset in onClose, once", async () => {
    const { client, session } = await connect();
    client.resetAndDestroy();
    expect(await session.closed).toMatchObject({ code: "ECONNRESET" });
    expect(session.closeCalls).toBe(1);
  });

  it("survives a reset while writes are waiting", async () => {
    const { client, session, transport } = await connect();
    const block = Buffer.alloc(1_000_000);
    while (transport.write(block));
    client.resetAndDestroy();
    expect(await session.closed).toBeInstanceOf(Error);
    expect(transport.write(block)).toBe(true);
    expect(transport.bufferedBytes).toBe(0);
    expect(session.closeCalls).toBe(1);
    expect(session.drains.all).toEqual([]);
  });

  it("survives a write to a paused connection that was reset", async () => {
    const { client, session, transport } = await connect();
    transport.pause();
    client.resetAndDestroy();
    await once(client, "close");
    while (session.closeCalls === 0) {
      transport.write(Buffer.from("x"));
      await new Promise((resolve) => setImmediate(resolve));
    }
    expect(await session.closed).toBeInstanceOf(Error);
  });

  it("destroy from within onData stops everything", async () => {
    const { client, session, transport } = await connect();
    session.onBytes = () => transport.destroy();
    client.write(Buffer.alloc(500_000));
    await session.closed;
    expect(session.chunks.length).toBe(1);
  });

  it("refuses connections over max_connections and serves again when one has gone", async () => {
    const host = await listen({ kind: "tcp", maxConnections: 1 }, { useRawTcp });
    const first = await dial({ host: "127.0.0.1", port: host.port });
    const session = await host.sessions.next();
    const second = await dial({ host: "127.0.0.1", port: host.port });
    expect((await readAll(second)).length).toBe(0);
    expect(await host.refused.next()).toMatchObject({
      peer: { address: "127.0.0.1", port: expect.any(Number) },
      reason: "max_connections",
    });
    expect(host.listener.connections).toBe(1);
    first.write("still here");
    await session.received(10);
    first.destroy();
    await session.closed;
    expect(host.listener.connections).toBe(0);
    await dial({ host: "127.0.0.1", port: host.port });
    await host.sessions.next();
  });

  it("closes a connection that nobody starts", async () => {
    const host = await listen({ kind: "tcp" }, { useRawTcp, autoStart: false });
    const client = await dial({ host: "127.0.0.1", port: host.port });
    expect((await readAll(client)).length).toBe(0);
  });
});
