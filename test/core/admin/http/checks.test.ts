import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import type { Broker } from "../../../../core/broker-types.ts";
import { freePort, startBroker, waitFor, waitOffline } from "../../../support/broker.ts";
import { basic, call, type HttpAnswer } from "../../../support/http.ts";
import { connectClient } from "../../../support/raw-client.ts";

/** VerneMQ's HTTP modules on one node. */

const HTTP = { "listener.http.default": "127.0.0.1:0" };
const OPEN_V2 = { "http_module.vmq_http_v2_api.auth.mode": "noauth" };

/** A plugin that says hello to everybody with a key. */
const HELLO = {
  name: "hello_plugin",
  hooks: {},
  start: (context: { http(module: object): void }) =>
    context.http({
      name: "hello",
      path: "/hello",
      methods: ["GET"],
      scope: "hello",
      handle: ({ query, peer }: { query: string; peer: { address: string } }) => ({
        status: 203,
        headers: { "x-from": peer.address },
        body: `hello ${query}`,
      }),
    }),
} as never;

function get(broker: Broker, path: string, listener?: string): Promise<HttpAnswer> {
  return call(broker.port("http", listener), path);
}

describe("/health", () => {
  it("is OK while every listener runs, with any method", async () => {
    const broker = await startBroker(HTTP);
    for (const path of [
      "/health",
      "/health/ping",
      "/health/listeners",
      "/health/listeners_full_cluster",
    ]) {
      for (const method of ["GET", "POST", "DELETE"]) {
        expect(
          await call(broker.port("http"), path, { method }),
          `${method} ${path}`,
        ).toMatchObject({
          status: 200,
          body: '{"status":"OK"}',
          headers: { "content-type": "application/json" },
        });
      }
    }
  });

  it("names the listeners that were stopped; ping does not care (checks 6, 7, 8)", async () => {
    const broker = await startBroker({ ...HTTP, "listener.ws.b": "127.0.0.1:0" });
    await broker.stopListener("tcp", "default");
    await broker.stopListener("ws", "b");
    const reason = "Listeners are not ready: [mqtt,mqttws]";
    const down = { status: 503, headers: { "content-type": "application/json" } };
    for (const path of ["/health", "/health/listeners_full_cluster"]) {
      const answer = await get(broker, path);
      expect(answer, path).toMatchObject(down);
      expect(JSON.parse(answer.body)).toEqual({ status: "DOWN", reasons: [reason] });
    }
    const answer = await get(broker, "/health/listeners");
    expect(answer).toMatchObject(down);
    expect(JSON.parse(answer.body)).toEqual({ status: "DOWN", reason });
    expect((await get(broker, "/health/ping")).body).toBe('{"status":"OK"}');
  });

  it("can be given access control, too", async () => {
    const broker = await startBroker({
      ...HTTP,
      "http_module.vmq_health_http.auth.mode": "apikey",
    });
    expect((await get(broker, "/health/ping")).status).toBe(401);
  });
});

describe("/status", () => {
  it("has VerneMQ's figures, members and listeners in JSON (check 10)", async () => {
    const broker = await startBroker({
      ...HTTP,
      "listener.tcp.b": "127.0.0.1:0",
      "listener.tcp.b.max_connections": "infinity",
    });
    const client = await connectClient(broker, 4, { clientId: "c", clean: false });
    await client.subscribed(["a", "b"], { qos: 1 });
    await client.disconnected();
    await connectClient(broker, 5, { clientId: "d" });
    await waitOffline(broker, "c");
    const answer = await get(broker, "/status.json");
    expect(answer).toMatchObject({ status: 200, headers: { "content-type": "application/json" } });
    const parsed = JSON.parse(answer.body) as Record<string, Record<string, unknown>>[];
    expect(parsed).toHaveLength(1);
    expect(Object.keys(parsed[0] ?? {})).toEqual(["VerneMQ@127.0.0.1"]);
    const node = parsed[0]?.["VerneMQ@127.0.0.1"] ?? {};
    expect(Object.keys(node)).toEqual([
      ...["num_online", "num_offline", "msg_in", "msg_out", "queue_in", "queue_out"],
      ...["queue_drop", "queue_unhandled", "num_subscriptions", "num_retained"],
      ...["matches_local", "matches_remote", "version", "mystatus", "listeners"],
    ]);
    expect(node).toMatchObject({
      num_online: 1,
      num_offline: 1,
      num_subscriptions: 2,
      mystatus: [{ "VerneMQ@127.0.0.1": true }],
    });
    const common = { status: "running", ip: "127.0.0.1", mountpoint: "" };
    expect(node.listeners).toEqual([
      { type: "mqtt", ...common, port: broker.port("tcp", "default"), max_conns: 10_000 },
      { type: "mqtt", ...common, port: broker.port("tcp", "b"), max_conns: "infinity" },
      { type: "http", ...common, port: broker.port("http"), max_conns: 10_000 },
    ]);
  });

  it("is a page that is open also where its figures need a key (check 11)", async () => {
    const broker = await startBroker({
      ...HTTP,
      "http_module.vmq_status_http.auth.mode": "apikey",
    });
    for (const path of ["/status", "/status/"]) {
      const page = await get(broker, path);
      expect(page).toMatchObject({
        status: 200,
        headers: { "content-type": "text/html; charset=utf-8" },
      });
      expect(page.headers["content-security-policy"]).toContain("default-src 'none'");
    }
    for (const asset of [
      "page.js",
      "model.js",
      "charts.js",
      "page.css",
      "icon.svg",
      "uPlot.esm.js",
    ]) {
      expect((await get(broker, `/status/${asset}`)).status, asset).toBe(200);
    }
    for (const path of ["/status.json", "/status/overview.json"]) {
      expect((await get(broker, path)).status, path).toBe(401);
    }
    for (const path of [
      "/status/nosuch.css",
      "/status/../package.json",
      "/status/%2e%2e/server.ts",
    ]) {
      expect((await get(broker, path)).status, path).toBe(404);
    }
  });
});

describe("modules", () => {
  it("are those a listener names; others are not found (check 28)", async () => {
    const broker = await startBroker({
      ...HTTP,
      "listener.http.x": "127.0.0.1:0",
      "listener.http.x.http_modules": "vmq_health_http",
    });
    expect((await get(broker, "/health", "x")).status).toBe(200);
    expect(await get(broker, "/metrics", "x")).toMatchObject({ status: 404, body: "" });
    expect((await get(broker, "/metrics", "default")).status).toBe(200);
  });

  it("have the access of their listener (checks 27, 29)", async () => {
    const broker = await startBroker({
      ...HTTP,
      "http_module.vmq_metrics_http.auth.mode": "apikey",
      "listener.http.x": "127.0.0.1:0",
      "listener.http.x.http_module.vmq_metrics_http.auth.mode": "noauth",
      "listener.http.x.http_module.vmq_http_v2_api.auth.mode": "noauth",
    });
    expect((await get(broker, "/metrics", "default")).status).toBe(401);
    expect((await get(broker, "/metrics", "x")).status).toBe(200);
    expect((await get(broker, "/api/v2/client?client_id=c", "default")).status).toBe(401);
    expect((await get(broker, "/api/v2/client?client_id=c", "x")).status).toBe(200);
  });

  it("that nobody knows leave the others in place", async () => {
    const broker = await startBroker({
      ...HTTP,
      "listener.http.default.http_modules": "vmq_nosuch, vmq_health_http",
    });
    expect((await get(broker, "/health")).status).toBe(200);
  });

  it("of a plugin of one's own are served as it says", async () => {
    const broker = await startBroker(
      {
        ...HTTP,
        "listener.http.default.http_modules": "vmq_health_http, hello",
        "listener.http.default.http_module.hello.auth.mode": "noauth",
        "http_module.hello.auth.mode": "apikey",
      },
      [HELLO],
    );
    const answer = await get(broker, "/hello?you");
    expect(answer).toMatchObject({
      status: 203,
      body: "hello you",
      headers: { "x-from": "127.0.0.1" },
    });
    expect(await call(broker.port("http"), "/hello", { method: "POST" })).toMatchObject({
      status: 405,
      headers: { allow: "GET" },
    });
  });
});

describe("an HTTP listener started by command", () => {
  it("answers as those of the configuration, with the modules of plugins while they run", async () => {
    const broker = await startBroker({ ...HTTP, http_modules: "[vmq_health_http, hello]" }, [
      HELLO,
    ]);
    const place = ["address=127.0.0.1", `port=${await freePort()}`];
    const started = await broker.control("listener", ["start", ...place, "--http"]);
    expect(started.stdout).toBe("Done\n");
    expect((await get(broker, "/health", "admin1")).body).toBe('{"status":"OK"}');
    expect((await get(broker, "/hello", "admin1")).status).toBe(401);
    broker.disablePlugin("hello_plugin");
    await waitFor("its end", async () => (await get(broker, "/hello", "admin1")).status === 404);
    await broker.control("listener", ["delete", ...place]);
    await expect(call(Number(place[1]?.slice(5)), "/health")).rejects.toThrow();
  });
});

describe("/api/v2", () => {
  it("tells whether a client is online, and its topics (check 24)", async () => {
    const broker = await startBroker({ ...HTTP, ...OPEN_V2 });
    const state = async (query: string) =>
      JSON.parse((await get(broker, `/api/v2/client?${query}`)).body);
    const client = await connectClient(broker, 4, { clientId: "c1", clean: false });
    expect(await state("client_id=c1")).toEqual({ status: "online" });
    expect(await state("client_id=c1&topics")).toEqual({ status: "online", topics: [] });
    await client.subscribed([
      { filter: "a/#", qos: 1 },
      { filter: "b", qos: 2 },
    ]);
    const topics = { "a/#": 1, b: 2 };
    expect(await state("client_id=c1&topics")).toEqual({ status: "online", topics });
    expect(await state("client_id=c1&topics=true")).toEqual({ status: "online" });
    const modern = await connectClient(broker, 5, { clientId: "c5" });
    await modern.subscribed("x", { qos: 1 });
    expect(await state("client_id=c5&topics")).toEqual({ status: "online", topics: { x: 1 } });
    await client.disconnected();
    await waitOffline(broker, "c1");
    expect(await state("client_id=c1&topics")).toEqual({ status: "offline", topics });
    expect(await state("client_id=nobody")).toEqual({ status: "unknown" });
    expect(await state("topics")).toEqual({ status: "unknown" });
  });

  it("finds clients of a mountpoint", async () => {
    const broker = await startBroker({
      ...HTTP,
      ...OPEN_V2,
      "listener.tcp.default.mountpoint": "mp",
    });
    await connectClient(broker, 4, { clientId: "c1" });
    expect((await get(broker, "/api/v2/client?client_id=c1")).body).toBe('{"status":"unknown"}');
    expect((await get(broker, "/api/v2/client?client_id=c1&mountpoint=mp")).body).toBe(
      '{"status":"online"}',
    );
  });

  it("disconnects a client, with its state when asked to (check 25)", async () => {
    const broker = await startBroker({ ...HTTP, ...OPEN_V2 });
    const client = await connectClient(broker, 5, {
      clientId: "c1",
      properties: { sessionExpiryInterval: 100 },
    });
    expect((await get(broker, "/api/v2/disconnect?client_id=c1")).body).toBe('"ok"');
    await client.expect("disconnect", { code: 0x98 });
    expect((await get(broker, "/api/v2/client?client_id=c1")).body).toBe('{"status":"offline"}');
    expect((await get(broker, "/api/v2/disconnect?client_id=c1&cleanup")).body).toBe('"ok"');
    expect((await get(broker, "/api/v2/client?client_id=c1")).body).toBe('{"status":"unknown"}');
    expect((await get(broker, "/api/v2/disconnect?client_id=c1")).body).toBe('"unknown"');
  });

  it("knows no other command (check 26)", async () => {
    const broker = await startBroker({ ...HTTP, ...OPEN_V2 });
    expect(await get(broker, "/api/v2/foo")).toMatchObject({
      status: 400,
      body: "invalid_command",
    });
    expect((await get(broker, "/api/v2/")).status).toBe(404);
    expect((await call(broker.port("http"), "/api/v2/client", { method: "POST" })).status).toBe(
      405,
    );
    expect((await get(broker, "/api/v2/client?client_id=%zz")).status).toBe(400);
  });
});

describe("/api/v1", () => {
  async function start(settings: Readonly<Record<string, string>> = {}) {
    const broker = await startBroker({ ...HTTP, ...settings });
    const { stdout } = await broker.control("api-key", ["create"]);
    const key = stdout.trim();
    const ask = async (path: string): Promise<HttpAnswer> =>
      call(broker.port("http"), path, { headers: { "x-api-key": key } });
    return { broker, key, ask, json: async (path: string) => JSON.parse((await ask(path)).body) };
  }

  it("needs a key of scope mgmt that has not expired (checks 12, 13, 14)", async () => {
    const { broker, key, ask } = await start();
    const path = "/api/v1/cluster/show";
    expect(await get(broker, path)).toMatchObject({
      status: 401,
      headers: { "www-authenticate": 'Authorization realm="VerneMQ"' },
    });
    const table = [{ Node: "VerneMQ@127.0.0.1", Running: true }];
    expect(JSON.parse((await ask(path)).body)).toEqual({ type: "table", table });
    const withBasic = await call(broker.port("http"), path, { headers: basic(key) });
    expect(withBasic.status).toBe(200);
    const { stdout } = await broker.control("api-key", ["create", "scope=metrics"]);
    const other = await call(broker.port("http"), path, { headers: basic(stdout.trim()) });
    expect(other.status).toBe(401);
    await broker.control("api-key", ["delete", `key=${key}`]);
    expect((await ask(path)).status).toBe(401);
  });

  it("gives sessions as rows, none as an empty table (checks 18, 23)", async () => {
    const { broker, ask, json } = await start();
    const empty = { type: "table", table: [] };
    expect(await json("/api/v1/session/show")).toEqual(empty);
    await connectClient(broker, 4, { clientId: "meter-7", username: "bob" });
    await connectClient(broker, 4, { clientId: "other" });
    const row = {
      client_id: "meter-7",
      is_online: true,
      mountpoint: "",
      peer_host: "127.0.0.1",
      peer_port: expect.any(Number),
      user: "bob",
    };
    expect(await json("/api/v1/session/show?--client_id=meter-7")).toEqual({
      type: "table",
      table: [row],
    });
    expect((await json("/api/v1/session/show?--client_id=~%5Emeter")).table).toHaveLength(1);
    expect(await json("/api/v1/session/show?--client_id=nobody")).toEqual(empty);
    const all = await ask("/api/v1/session/show");
    expect((await ask("/api/v1/sessions")).body).toBe(all.body);
    expect(JSON.parse(all.body).table[1].user).toBeNull();
  });

  it("disconnects a client (check 19), and says what is missing as an alert (check 20)", async () => {
    const { broker, json } = await start();
    const client = await connectClient(broker, 5, { clientId: "x" });
    expect(await json("/api/v1/session/disconnect?client-id=x&--cleanup")).toEqual({
      type: "text",
      text: "Done",
    });
    await client.expect("disconnect", { code: 0x98 });
    const alert = await json("/api/v1/session/disconnect");
    expect(alert).toMatchObject({ type: "alert", alert: [{ type: "text" }] });
    expect(alert.alert[0].text).toContain("client-id=<ClientId>");
  });

  it("tells nobody without a key which files and settings there are", async () => {
    const { broker, ask } = await start();
    for (const file of [fileURLToPath(import.meta.url), "/nosuch/file"]) {
      for (const path of [
        `/api/v1/plugin/enable?--name=x&--path=${encodeURIComponent(file)}`,
        `/api/v1/set?vmq_acl.acl_file=${encodeURIComponent(file)}`,
      ]) {
        expect((await get(broker, path)).status).toBe(401);
      }
    }
    expect((await ask("/api/v1/plugin/enable?--name=x&--path=/nosuch/file")).status).toBe(400);
  });

  it("changes settings; a bad value is refused and changes nothing (check 21)", async () => {
    const { ask, json } = await start();
    expect((await ask("/api/v1/set?max_client_id_size=50")).status).toBe(200);
    expect((await ask("/api/v1/set?retry_interval=abc")).status).toBe(400);
    expect((await ask("/api/v1/set?nosuch=1")).status).toBe(400);
    expect((await ask("/api/v1/session/show?--nosuch")).status).toBe(400);
    expect(await json("/api/v1/session/show")).toEqual({ type: "table", table: [] });
  });

  it("is open on a listener that says so (check 29)", async () => {
    const own = "listener.http.x.http_module.vmq_http_mgmt_api.auth.mode";
    const { broker } = await start({ "listener.http.x": "127.0.0.1:0", [own]: "noauth" });
    expect((await get(broker, "/api/v1/cluster/show", "x")).status).toBe(200);
    expect((await get(broker, "/api/v1/cluster/show", "default")).status).toBe(401);
  });

  it("serves /metrics with a key of scope metrics where it needs one (check 27)", async () => {
    const { broker } = await start({ "http_module.vmq_metrics_http.auth.mode": "apikey" });
    const { stdout } = await broker.control("api-key", ["create", "scope=metrics"]);
    expect((await get(broker, "/metrics")).status).toBe(401);
    const headers = basic(stdout.trim());
    expect((await call(broker.port("http"), "/metrics", { headers })).status).toBe(200);
  });
});
