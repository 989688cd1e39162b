import { createServer } from "node:net";
import { describe, expect, it } from "vitest";
import { createBroker } from "../../core/broker.ts";
import { NautilusError } from "../../core/errors.ts";
import type { Plugin } from "../../core/hooks/types.ts";
import { freePort, startBroker, tempDir, waitFor, waitGone } from "../support/broker.ts";
import { connectClient, openClient } from "../support/raw-client.ts";

async function codeOf(run: () => unknown): Promise<string> {
  try {
    await run();
  } catch (error) {
    if (error instanceof NautilusError) return error.code;
    throw error;
  }
  return "none";
}

/** Does anybody listen there? */
async function isOpen(port: number): Promise<boolean> {
  const server = createServer();
  return new Promise((resolve) => {
    server.once("error", () => resolve(true));
    server.listen(port, "127.0.0.1", () => server.close(() => resolve(false)));
  });
}

const persistent = (clientId: string) => ({
  clientId,
  clean: false,
  properties: { sessionExpiryInterval: 600 },
});

describe("start", () => {
  it("fails with everything that is wrong with the settings", async () => {
    const start = createBroker({ settings: { no_such_key: "1", retry_interval: "soon" } });
    const error = await start.then(
      () => undefined,
      (reason: unknown) => reason,
    );
    expect(error).toMatchObject({ code: "CONFIG_INVALID" });
    expect(String(error)).toContain("no_such_key");
    expect(String(error)).toContain("retry_interval");
  });

  it("fails and lets go of the store when its only listener cannot listen", async () => {
    const dataDir = tempDir();
    const taken = await startBroker();
    const settings = {
      allow_anonymous: "on",
      "listener.tcp.default": `127.0.0.1:${taken.port()}`,
    };
    await expect(createBroker({ settings, dataDir, logLevel: "silent" })).rejects.toMatchObject({
      code: "LISTENER_BIND",
    });
    const again = await startBroker({}, [], { dataDir });
    expect(again.port()).toBeGreaterThan(0);
  });

  it("goes on without a listener that cannot listen when there are others", async () => {
    const taken = await startBroker();
    const broker = await startBroker({ "listener.tcp.second": `127.0.0.1:${taken.port()}` });
    expect(await codeOf(() => broker.port("tcp", "second"))).toBe("NO_SUCH_LISTENER");
    await connectClient(broker.port("tcp", "default"), 4, { clientId: "c" });
  });

  it("opens its listeners only when all stored clients are known", async () => {
    const dataDir = tempDir();
    const first = await startBroker({}, [], { dataDir });
    const subscriber = await connectClient(first, 5, persistent("s"));
    await subscriber.subscribed("t", { qos: 1 });
    await first.close();
    const second = await startBroker({}, [], { dataDir });
    expect(second.sessions()).toMatchObject([
      { client_id: "s", is_online: false, subscriptions: [{ topic: "t", qos: 1 }] },
    ]);
  });

  it("refuses two plugins of one name", async () => {
    const plugin: Plugin = { name: "p", hooks: {} };
    expect(await codeOf(() => startBroker({}, [plugin, plugin]))).toBe("PLUGIN_ALREADY_ENABLED");
  });
});

describe("close", () => {
  it("tells v5 clients 0x8B, stops listening, keeps stored sessions, and may be called twice", async () => {
    const dataDir = tempDir();
    const port = await freePort();
    const settings = { "listener.tcp.default": `127.0.0.1:${port}` };
    const broker = await startBroker(settings, [], { dataDir });
    const five = await connectClient(broker, 5, persistent("five"));
    const four = await connectClient(broker, 4, { clientId: "four" });
    await Promise.all([broker.close(), broker.close()]);
    await five.expect("disconnect", { code: 0x8b });
    await five.closed();
    await four.closed();
    expect(await isOpen(port)).toBe(false);
    const again = await startBroker(settings, [], { dataDir });
    expect(again.sessions().map(({ client_id }) => client_id)).toEqual(["five"]);
  });

  it("ends connections that have not sent CONNECT yet", async () => {
    const broker = await startBroker();
    const idle = await openClient(broker, 4);
    await waitFor("accepted", () => (broker.metrics().socket_open ?? 0) > 0);
    await broker.close();
    await idle.closed();
  });
});

describe("a running broker", () => {
  it("applies a live setting to sessions that connect after it, and refuses others", async () => {
    const broker = await startBroker();
    broker.set("max_client_id_size", "3");
    const refused = await openClient(broker, 4);
    refused.connect({ clientId: "long id" });
    await refused.expect("connack", { code: 2 });
    expect(await codeOf(() => broker.set("listener.max_connections", "x"))).not.toBe("none");
  });

  it("stops one listener, with its sessions when told so, and leaves the others", async () => {
    const broker = await startBroker({ "listener.tcp.second": "127.0.0.1:0" });
    const port = broker.port("tcp", "second");
    const onFirst = await connectClient(broker.port("tcp", "default"), 5, { clientId: "a" });
    const onSecond = await connectClient(port, 5, { clientId: "b" });
    expect(await broker.stopListener("tcp", "nobody")).toBe(false);
    expect(await broker.stopListener("tcp", "second", { killSessions: true })).toBe(true);
    await onSecond.expect("disconnect", { code: 0x98 });
    await onFirst.ping();
    expect(await isOpen(port)).toBe(false);
    expect(await broker.stopListener("tcp", "second")).toBe(false);
  });

  it("disconnects a client and cleans up after it", async () => {
    const broker = await startBroker();
    const client = await connectClient(broker, 5, persistent("c"));
    expect(broker.disconnectClient("nobody")).toBe(false);
    expect(broker.disconnectClient("c", { cleanup: true })).toBe(true);
    await client.expect("disconnect", { code: 0x98 });
    await waitGone(broker, "c");
  });

  it("takes plugins while it runs", async () => {
    const broker = await startBroker();
    const topics: string[] = [];
    broker.enablePlugin({
      name: "late",
      hooks: { on_publish: ({ topic }: { topic: string }) => void topics.push(topic) },
    });
    const client = await connectClient(broker, 4, { clientId: "c" });
    client.publish({ topic: "one" });
    await client.ping();
    expect(broker.disablePlugin("late")).toBe(true);
    expect(broker.disablePlugin("late")).toBe(false);
    client.publish({ topic: "two" });
    await client.ping();
    expect(topics).toEqual(["one"]);
  });

  it("survives plugins that throw in every hook", async () => {
    const fail = (): never => {
      throw new Error("broken plugin");
    };
    const hooks = {
      on_register: fail,
      on_publish: fail,
      on_subscribe: fail,
      on_client_gone: fail,
      on_deliver: fail,
      on_client_wakeup: fail,
    };
    const broker = await startBroker({}, [{ name: "broken", hooks }]);
    const client = await connectClient(broker, 4, { clientId: "c" });
    await client.subscribed("t");
    client.publish({ topic: "t", payload: "x" });
    await client.expect("publish", { payload: "x" });
  });

  it("never accepts a client, message or subscription because a plugin failed", async () => {
    const fail = (): never => {
      throw new Error("broken plugin");
    };
    const hooks = { auth_on_register: fail, auth_on_publish_m5: fail, auth_on_subscribe_m5: fail };
    const broker = await startBroker({ allow_anonymous: "hooks" }, [
      { name: "broken", priority: 1, v5Compat: false, hooks },
    ]);
    const four = await openClient(broker, 4);
    four.connect({ clientId: "four" });
    await four.expect("connack", { code: 3 });
    const five = await connectClient(broker, 5, { clientId: "five" });
    five.publish({ topic: "t", qos: 1, packetId: 9 });
    await five.expect("puback", { packetId: 9, code: 0x83 });
    expect(broker.metrics().router_subscriptions).toBe(0);
  });

  it("publishes $SYS in its interval", async () => {
    const broker = await startBroker({ systree_enabled: "on", systree_interval: "20" });
    const client = await connectClient(broker, 4, { clientId: "c" });
    await client.subscribed("$SYS/+/socket/open");
    const packet = await client.expect("publish", { retain: false, qos: 0 });
    expect(String(packet.payload)).toMatch(/^\d+$/);
  });

  it("shows and deletes retained messages", async () => {
    const broker = await startBroker();
    const client = await connectClient(broker, 4, { clientId: "c" });
    client.publish({ topic: "a/b", payload: "x", retain: true });
    await client.ping();
    expect(broker.retained()).toMatchObject([{ topic: "a/b", qos: 0 }]);
    expect(broker.retained("other")).toEqual([]);
    expect(broker.deleteRetained("a/b")).toBe(true);
    expect(broker.deleteRetained("a/b")).toBe(false);
    expect(broker.retained()).toEqual([]);
  });

  it("answers admin commands", async () => {
    const broker = await startBroker();
    expect(await broker.control("ping", [])).toMatchObject({ exit: 0, stdout: "pong\n" });
    const port = broker.port();
    expect((await broker.control("listener", ["show"])).stdout).toContain(String(port));
  });
});
