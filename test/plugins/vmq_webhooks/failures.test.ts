import { createHmac } from "node:crypto";
import { writeFileSync } from "node:fs";
import { createServer, type Socket } from "node:net";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import type { Broker } from "../../../core/broker-types.ts";
import { acceptingPlugin, freePort, tempDir, waitFor } from "../../support/broker.ts";
import { atEnd } from "../../support/cleanup.ts";
import { hourglass } from "../../support/hourglass.ts";
import { connectClient, openClient } from "../../support/raw-client.ts";
import {
  AUTH_HOOKS,
  OK,
  okWith,
  registered,
  startEndpoint,
  startWebhooks,
  webhooksCommand,
} from "../../support/webhooks.ts";

/** Endpoints that fail, and what becomes of their clients. */

const WHO = { clientId: "c", username: "u", password: "p" };
const HOOK = ["auth_on_register"];

async function refused(broker: Broker, times = 1): Promise<void> {
  for (let i = 0; i < times; i++) await (await openClient(broker, 4)).refused(WHO, 5);
}

describe("on_error", () => {
  const failures = {
    "no server": undefined,
    "status 500": () => ({ status: 500 }),
    "a cut connection": () => ({ cut: true as const }),
    "a late answer": () => ({ hold: true as const }),
    "a malformed answer": () => okWith({ nosuch: 1 }),
  };

  test.each(Object.entries(failures))(
    "%s: deny refuses, next asks on, ok accepts",
    async (_, handler) => {
      const endpoint =
        handler === undefined
          ? { url: `http://127.0.0.1:${await freePort()}/` }
          : await startEndpoint(handler);
      const start = (on_error: string, plugins = [acceptingPlugin]): Promise<Broker> =>
        startWebhooks(registered(endpoint, HOOK, { on_error, response_timeout: "200" }), plugins);
      await refused(await start("deny"));
      await connectClient(await start("next"), 4, WHO);
      await refused(await start("next", []));
      await connectClient(await start("ok", []), 4, WHO);
    },
  );

  test("ok never turns a refusal into an acceptance", async () => {
    const endpoint = await startEndpoint(() => '{"result":{"error":"no","reason_code":"nosuch"}}');
    await refused(await startWebhooks(registered(endpoint, HOOK, { on_error: "ok" })));
  });
});

describe("the circuit breaker", () => {
  test("stops asking a dead endpoint, probes, and goes on when it is back", async () => {
    const port = await freePort();
    const url = `http://127.0.0.1:${port}/hook`;
    const broker = await startWebhooks(registered({ url }, HOOK));
    await refused(broker, 5);
    expect(broker.metrics().webhooks_auth_on_register_requests).toBe(5);
    expect(await webhooksCommand(broker, "show --full")).toContain("open");
    await refused(broker, 3);
    const metrics = broker.metrics();
    expect(metrics.webhooks_auth_on_register_requests).toBe(5);
    expect(metrics.webhooks_suspended).toBe(3);
    expect(metrics.webhooks_auth_on_register_errors).toBe(8);
    const endpoint = await startEndpoint(() => OK, { port });
    await waitFor("a client gets in again", async () => {
      const client = await openClient(broker, 4);
      client.connect(WHO);
      return (await client.expect("connack")).code === 0;
    });
    expect(endpoint.seen).toHaveLength(1);
    expect(await webhooksCommand(broker, "show --full")).toContain("closed");
  });

  test("is not opened by refusals, malformed answers and statuses such as 500", async () => {
    const answers = ['{"result":{"error":"no"}}', "{}", { status: 500 }, { status: 404 }];
    let next = 0;
    const endpoint = await startEndpoint(() => answers[next++ % answers.length] as string);
    const broker = await startWebhooks(registered(endpoint, HOOK));
    await refused(broker, 12);
    expect(endpoint.seen).toHaveLength(12);
  });

  test("is opened by a gateway that has nobody behind it", async () => {
    const endpoint = await startEndpoint(() => ({ status: 503 }));
    const broker = await startWebhooks(registered(endpoint, HOOK));
    await refused(broker, 7);
    expect(endpoint.seen).toHaveLength(5);
  });

  test("holds events back instead of losing them", async () => {
    const port = await freePort();
    const url = `http://127.0.0.1:${port}/hook`;
    const broker = await startWebhooks(
      { ...registered({ url }, ["on_publish"]), "vmq_webhooks.max_inflight_events": "1" },
      [acceptingPlugin],
    );
    const client = await connectClient(broker, 4, WHO);
    for (let i = 0; i < 20; i++) await client.published({ topic: "a", payload: String(i), qos: 1 });
    await waitFor("it is suspended", () => broker.metrics().webhooks_on_publish_errors === 5);
    expect(broker.metrics().webhooks_queued_events).toBe(15);
    const endpoint = await startEndpoint(() => "{}", { port });
    await endpoint.wait("on_publish", 15);
    const payloads = endpoint.seen.map(({ body }) =>
      Buffer.from(body.payload, "base64").toString(),
    );
    expect(payloads).toEqual(Array.from({ length: 15 }, (_, i) => String(i + 5)));
  });
});

describe("a probe", () => {
  test("is a single event, whatever may be in flight", async () => {
    const endpoint = await startEndpoint(() => ({ status: 503 }));
    const broker = await startWebhooks(
      { ...registered(endpoint, ["on_publish"]), "vmq_webhooks.max_inflight_events": "5" },
      [acceptingPlugin],
    );
    const client = await connectClient(broker, 4, WHO);
    for (let i = 0; i < 40; i++) client.publish({ topic: "a", qos: 1 });
    const requests = (): number => Number(broker.metrics().webhooks_on_publish_requests);
    await waitFor("it is suspended", async () => {
      const shown = await webhooksCommand(broker, "show --full");
      return shown.includes("| open ") && broker.metrics().webhooks_pending === 0;
    });
    const before = requests();
    expect(before).toBeLessThan(20);
    endpoint.handler = () => ({ hold: true });
    const probe = await endpoint.wait("on_publish", before + 1);
    expect(requests()).toBe(before + 1);
    endpoint.handler = () => "{}";
    probe.answer({ body: "{}" });
    await endpoint.wait("on_publish", 40);
  });
});

describe("connections", () => {
  test("are kept and used again", async () => {
    const endpoint = await startEndpoint();
    const broker = await startWebhooks(registered(endpoint, AUTH_HOOKS));
    const client = await connectClient(broker, 4, WHO);
    for (let i = 0; i < 5; i++) await client.published({ topic: "a", payload: String(i), qos: 1 });
    expect(new Set(endpoint.seen.map(({ port }) => port)).size).toBe(1);
    expect(endpoint.seen).toHaveLength(6);
  });

  test("are no more than pool_max_connections", async () => {
    const endpoint = await startEndpoint((request) => {
      setImmediate(() => request.answer({ body: OK }));
      return { hold: true };
    });
    const broker = await startWebhooks({
      ...registered(endpoint, AUTH_HOOKS),
      "vmq_webhooks.pool_max_connections": "3",
    });
    const clients = await Promise.all(
      Array.from({ length: 20 }, (_, i) => connectClient(broker, 4, { clientId: `c${i}` })),
    );
    await Promise.all(clients.map((client) => client.published({ topic: "a", qos: 1 })));
    expect(new Set(endpoint.seen.map(({ port }) => port)).size).toBe(3);
  });

  test("that break after they served are tried again, once and only for auth hooks", async () => {
    const server = await startFickle();
    const broker = await startWebhooks(
      registered(server, ["auth_on_register", "auth_on_publish", "on_deliver"]),
      [acceptingPlugin],
    );
    const client = await connectClient(broker, 4, WHO);
    await client.published({ topic: "a", payload: "1", qos: 1 });
    expect(server.requests.map(({ path, connection }) => `${path} ${connection}`)).toEqual([
      "auth_on_register 1",
      // The second request of a connection gets no answer.
      "auth_on_publish 1",
      "auth_on_publish 2",
    ]);
    expect(broker.metrics()).toMatchObject({
      webhooks_retries: 1,
      webhooks_auth_on_publish_requests: 2,
      webhooks_auth_on_publish_errors: 0,
    });
  });

  test("that break are not tried again for what may not be asked twice", async () => {
    const server = await startFickle();
    const hooks = ["auth_on_register", "on_unsubscribe"];
    const broker = await startWebhooks(registered(server, hooks), [acceptingPlugin]);
    const client = await connectClient(broker, 4, WHO);
    await client.unsubscribed("a");
    expect(server.requests.map(({ path, connection }) => `${path} ${connection}`)).toEqual([
      "auth_on_register 1",
      "on_unsubscribe 1",
    ]);
    expect(broker.metrics()).toMatchObject({
      webhooks_retries: 0,
      webhooks_on_unsubscribe_errors: 1,
    });
  });

  test("of calls that ended early are used again", async () => {
    const endpoint = await startEndpoint(({ body }) => {
      return body.client_id !== "c" ? { hold: true } : OK;
    });
    const broker = await startWebhooks({
      ...registered(endpoint, HOOK, { response_timeout: "300" }),
      "vmq_webhooks.pool_max_connections": "1",
    });
    // One has the connection, one waits for it; the second leaves, the first has no answer in time.
    const [first, second] = [await openClient(broker, 4), await openClient(broker, 4)];
    first.connect({ ...WHO, clientId: "first" });
    await endpoint.wait("auth_on_register");
    second.connect({ ...WHO, clientId: "second" });
    await waitFor("two wait", () => broker.metrics().webhooks_pending === 2);
    second.cut();
    await waitFor("the first is refused", () => first.isClosed);
    await connectClient(broker, 4, WHO);
    expect(broker.metrics()).toMatchObject({
      webhooks_pending: 0,
      // What waited for a connection in vain was not sent.
      webhooks_auth_on_register_requests: 2,
      webhooks_auth_on_register_cancelled: 1,
      webhooks_auth_on_register_timeouts: 1,
    });
  });

  test("that break before they served are not tried again", async () => {
    const endpoint = await startEndpoint(() => ({ cut: true }));
    const broker = await startWebhooks(registered(endpoint, HOOK));
    await refused(broker);
    expect(endpoint.seen).toHaveLength(1);
    expect(broker.metrics().webhooks_retries).toBe(0);
  });

  test("go over unix sockets, too", async () => {
    const socketPath = join(tempDir(), "endpoint.sock");
    const endpoint = await startEndpoint(undefined, { socketPath, path: "/hook?a=b" });
    const broker = await startWebhooks(registered(endpoint, HOOK));
    await connectClient(broker, 4, WHO);
    expect(endpoint.seen[0]?.url).toBe("/hook?a=b");
  });

  test("settings of the pool can be changed at run time", async () => {
    const endpoint = await startEndpoint();
    const broker = await startWebhooks(registered(endpoint, AUTH_HOOKS));
    const client = await connectClient(broker, 4, WHO);
    broker.set("vmq_webhooks.pool_max_connections", "1");
    await client.published({ topic: "a", qos: 1 });
    expect(new Set(endpoint.seen.map(({ port }) => port)).size).toBe(2);
  });

  test("an endpoint that connects as a client itself while it decides gets its answer", async () => {
    const broker: { current?: Broker } = {};
    const endpoint = await startEndpoint((request) => {
      if (request.body.client_id === "helper") return OK;
      void (async () => {
        const helper = await connectClient(broker.current as Broker, 4, { clientId: "helper" });
        await helper.published({ topic: "decided", qos: 1 });
        request.answer({ body: OK });
      })();
      return { hold: true };
    });
    broker.current = await startWebhooks(registered(endpoint, AUTH_HOOKS));
    await connectClient(broker.current, 4, WHO);
    expect(endpoint.seen.map(({ hook }) => hook)).toEqual([
      ...["auth_on_register", "auth_on_register", "auth_on_publish"],
    ]);
  });

  test("an endpoint that connects as a client while its connections are all in use gets its answer", async () => {
    const broker: { current?: Broker } = {};
    let helpers = 0;
    const endpoint = await startEndpoint((request) => {
      if (request.body.client_id.startsWith("helper")) return OK;
      void (async () => {
        const clientId = `helper${helpers++}`;
        const helper = await connectClient(broker.current as Broker, 4, { clientId });
        await helper.published({ topic: "decided", qos: 1 });
        request.answer({ body: OK });
      })();
      return { hold: true };
    });
    broker.current = await startWebhooks({
      ...registered(endpoint, AUTH_HOOKS),
      "vmq_webhooks.pool_max_connections": "2",
    });
    const { current } = broker;
    await Promise.all(
      Array.from({ length: 6 }, (_, i) => connectClient(current, 4, { clientId: `c${i}` })),
    );
    expect(helpers).toBe(6);
    expect(current.metrics()).toMatchObject({
      webhooks_auth_on_register_timeouts: 0,
      webhooks_pending: 0,
    });
  });

  test("no more than twice pool_max_connections are opened when nothing is answered", async () => {
    const endpoint = await startEndpoint(() => ({ hold: true }));
    const broker = await startWebhooks({
      ...registered(endpoint, HOOK, { response_timeout: "60000" }),
      "vmq_webhooks.pool_max_connections": "2",
    });
    for (let i = 0; i < 8; i++) {
      const client = await openClient(broker, 4);
      client.connect({ clientId: `c${i}` });
    }
    await endpoint.wait("auth_on_register", 4);
    await waitFor("all wait", () => broker.metrics().webhooks_pending === 8);
    // Time to open more.
    await hourglass();
    expect(endpoint.seen.length).toBe(4);
    expect(new Set(endpoint.seen.map(({ port }) => port)).size).toBe(4);
  });

  test("an endpoint that connects as a client while it handles an event gets its answer", async () => {
    const broker: { current?: Broker } = {};
    const endpoint = await startEndpoint((request) => {
      if (request.hook !== "on_register" || request.body.client_id === "helper") return OK;
      void connectClient(broker.current as Broker, 4, { clientId: "helper" }).then(() =>
        request.answer({ body: "{}" }),
      );
      return { hold: true };
    });
    // One connection only: that of the event must not be the one for the decision.
    broker.current = await startWebhooks({
      ...registered(endpoint, [...HOOK, "on_register"]),
      "vmq_webhooks.pool_max_connections": "1",
    });
    await connectClient(broker.current, 4, WHO);
    await endpoint.wait("on_register", 2);
    expect(broker.current.metrics().webhooks_on_register_errors).toBe(0);
  });

  test("an answer without end is cut off", async () => {
    const endpoint = await startEndpoint(() => ({
      chunks: Array.from({ length: 40 }, () => [0, " ".repeat(1024 * 1024)] as [number, string]),
    }));
    const broker = await startWebhooks(registered(endpoint, HOOK));
    await refused(broker);
    expect(broker.metrics().webhooks_auth_on_register_timeouts).toBe(0);
  });
});

describe("headers", () => {
  test("of the configuration are sent, credentials of the URL as basic authentication", async () => {
    const endpoint = await startEndpoint();
    const url = endpoint.url.replace("http://", "http://me:s%20cret@");
    const broker = await startWebhooks(
      registered({ url }, HOOK, { "header.X-Api-Key": "abc", "header.User-Agent": "mine" }),
    );
    await connectClient(broker, 4, WHO);
    expect(endpoint.seen[0]?.headers).toMatchObject({
      "x-api-key": "abc",
      "user-agent": "mine",
      authorization: `Basic ${Buffer.from("me:s cret").toString("base64")}`,
    });
  });

  test.each(["secret", "secret_file"])("%s signs time, hook and body", async (option) => {
    const file = join(tempDir(), "key");
    writeFileSync(file, "sesame\n");
    const endpoint = await startEndpoint();
    const value = option === "secret" ? "sesame" : file;
    const broker = await startWebhooks(registered(endpoint, HOOK, { [option]: value }));
    await connectClient(broker, 4, WHO);
    const [request] = endpoint.seen;
    const header = String(request?.headers["nautilus-signature"]);
    const [, time, signature] = /^t=(\d+),v1=([0-9a-f]{64})$/.exec(header) ?? [];
    expect(Math.abs(Number(time) - Date.now() / 1000)).toBeLessThan(60);
    const wanted = createHmac("sha256", "sesame")
      .update(`${time}.auth_on_register.${request?.text}`)
      .digest("hex");
    expect(signature).toBe(wanted);
  });

  test("without a secret there is no signature", async () => {
    const endpoint = await startEndpoint();
    const broker = await startWebhooks(registered(endpoint, HOOK));
    await connectClient(broker, 4, WHO);
    expect(endpoint.seen[0]?.headers).not.toHaveProperty("nautilus-signature");
  });
});

/** An HTTP server that answers the first request of each connection and closes at the second. */
async function startFickle() {
  const requests: { path: string; connection: number }[] = [];
  const sockets = new Set<Socket>();
  let connections = 0;
  const server = createServer((socket) => {
    const connection = ++connections;
    sockets.add(socket);
    let served = 0;
    socket.on("error", () => undefined);
    socket.on("data", (data) => {
      const hook = /vernemq-hook: (\w+)/i.exec(data.toString())?.[1] ?? "";
      requests.push({ path: hook, connection });
      if (served++ > 0) socket.destroy();
      else {
        socket.write(
          `HTTP/1.1 200 OK\r\ncontent-length: ${OK.length}\r\nconnection: keep-alive\r\n\r\n${OK}`,
        );
      }
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  atEnd(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  const { port } = server.address() as { port: number };
  return { url: `http://127.0.0.1:${port}/`, requests };
}
