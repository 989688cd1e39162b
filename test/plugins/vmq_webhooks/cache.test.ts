import { describe, expect, test, vi } from "vitest";
import type { Broker } from "../../../core/broker-types.ts";
import { Later, type Logger, type PluginContext } from "../../../core/plugin-api.ts";
import { AnswerCache, maxAgeS } from "../../../plugins/vmq_webhooks/cache.ts";
import { createMetrics } from "../../../plugins/vmq_webhooks/metrics.ts";
import { DEFAULT_OPTIONS } from "../../../plugins/vmq_webhooks/options.ts";
import type { TlsSettings } from "../../../plugins/vmq_webhooks/tls.ts";
import { Webhooks } from "../../../plugins/vmq_webhooks/webhooks.ts";
import { waitFor } from "../../support/broker.ts";
import { connectClient, openClient } from "../../support/raw-client.ts";
import {
  AUTH_HOOKS,
  type Handler,
  NEXT,
  OK,
  okWith,
  type Reply,
  registered,
  startEndpoint,
  startWebhooks,
  webhooksCommand,
} from "../../support/webhooks.ts";

/** Checks of the cache (numbers in brackets), with real clients. */

const kept = (body = OK, control = "max-age=86400"): Reply => ({
  body,
  headers: { "Cache-Control": control },
});
const WHO = { clientId: "c", username: "u", password: "p" };

async function brokerWith(handler: Handler, settings: Record<string, string> = {}) {
  const endpoint = await startEndpoint(handler);
  const broker = await startWebhooks({ ...registered(endpoint, AUTH_HOOKS), ...settings });
  return { endpoint, broker };
}

/** Statistics as `cache show` prints them, for the only endpoint. */
async function stats(broker: Broker, hook = "auth_on_register"): Promise<Record<string, number>> {
  const text = await webhooksCommand(broker, "cache show");
  const found = [...text.matchAll(/(entries|hits|misses)\W+http\S+\W+(\w+)\W+(\d+)/g)];
  const rows = found.filter(([, , name]) => name === hook);
  return Object.fromEntries(rows.map(([, stat, , value]) => [stat, Number(value)]));
}

async function connects(broker: Broker, who: object = WHO, times = 1): Promise<void> {
  for (let i = 0; i < times; i++) await (await connectClient(broker, 4, who)).disconnected();
}

describe("answers to CONNECT", () => {
  test("[25] are kept by everything but the port; another password asks again", async () => {
    const { endpoint, broker } = await brokerWith(() => kept());
    await connects(broker, WHO, 2);
    expect(endpoint.seen).toHaveLength(1);
    expect(await stats(broker)).toEqual({ entries: 1, hits: 1, misses: 1 });
    expect(broker.metrics()).toMatchObject({
      webhooks_cache_hits: 1,
      webhooks_cache_misses: 1,
      webhooks_cache_entries: 1,
      webhooks_auth_on_register_requests: 1,
    });
    for (const other of [
      { password: "q" },
      { username: "v" },
      { clientId: "d" },
      { clean: false },
    ]) {
      const before = endpoint.seen.length;
      await connects(broker, { ...WHO, ...other });
      expect(endpoint.seen).toHaveLength(before + 1);
    }
  });

  test("[25] a hit answers as the first answer did, modifiers included", async () => {
    const { endpoint, broker } = await brokerWith(() =>
      kept(okWith({ username: "changed", mountpoint: "mp", client_id: "other" })),
    );
    for (let i = 0; i < 2; i++) {
      const client = await connectClient(broker, 4, WHO);
      expect(broker.sessions()).toMatchObject([
        { client_id: "other", mountpoint: "mp", user: "changed" },
      ]);
      await client.disconnected();
    }
    expect(endpoint.seen).toHaveLength(1);
  });

  test("[26] an answer is used no longer than max-age says", async () => {
    const { endpoint, broker } = await brokerWith(() => kept(OK, "max-age=1"));
    await connects(broker, WHO, 2);
    await waitFor("it has expired", async () => (await stats(broker)).entries === 0);
    await connects(broker);
    expect(endpoint.seen).toHaveLength(2);
    expect(await stats(broker)).toEqual({ entries: 1, hits: 1, misses: 2 });
  });

  test.each([
    ["max-age=x", 0],
    ["max-age=", 0],
    [" foo, max-age=45,bar", 45],
    ["max-age=0", 0],
    ["no-store, max-age=45", 0],
    ["max-age=45, no-cache", 0],
    ["MAX-AGE=45", 0],
    ["max-age=45, max-age=99", 45],
    ["private", 0],
    [undefined, 0],
  ])("[28] cache-control: %s keeps an answer for %i s", (control, seconds) => {
    expect(maxAgeS(control)).toBe(seconds);
  });

  test.each([
    ["max-age=x", 2],
    ["max-age=", 2],
    [" foo, max-age=45,bar", 1],
    ["no-store, max-age=45", 2],
    ["no-cache, max-age=45", 2],
    ["max-age=0", 2],
  ])("[28] %s: two CONNECT are %i requests", async (control, requests) => {
    const { endpoint, broker } = await brokerWith(() => kept(OK, control));
    await connects(broker, WHO, 2);
    expect(endpoint.seen).toHaveLength(requests);
  });

  test.each([NEXT, '{"result":{"error":"no"}}', "foo", okWith({ nosuchkey: 1 })])(
    "[29] %s is not kept",
    async (answer) => {
      const { endpoint, broker } = await brokerWith(() => kept(answer));
      for (let i = 0; i < 2; i++) await (await openClient(broker, 4)).refused(WHO, 5);
      expect(endpoint.seen).toHaveLength(2);
    },
  );

  test.each([NEXT, '{"result":{"error":"no"}}'])(
    "with negative_cache %s is kept for that time",
    async (answer) => {
      const { endpoint, broker } = await brokerWith(() => answer, {
        "vmq_webhooks.auth_on_register.negative_cache": "600000",
      });
      for (let i = 0; i < 2; i++) await (await openClient(broker, 4)).refused(WHO, 5);
      expect(endpoint.seen).toHaveLength(1);
    },
  );

  test("with negative_cache a failure is not kept", async () => {
    const { endpoint, broker } = await brokerWith(() => ({ status: 500 }), {
      "vmq_webhooks.auth_on_register.negative_cache": "600000",
    });
    for (let i = 0; i < 2; i++) await (await openClient(broker, 4)).refused(WHO, 5);
    expect(endpoint.seen).toHaveLength(2);
  });

  test("next is not kept, but the answer of the endpoint behind is", async () => {
    const first = await startEndpoint(() => NEXT);
    const second = await startEndpoint(() => kept());
    const broker = await startWebhooks({
      ...registered(first, ["auth_on_register"]),
      "vmq_webhooks.z.hook": "auth_on_register",
      "vmq_webhooks.z.endpoint": second.url,
    });
    await connects(broker, WHO, 2);
    expect([first.seen.length, second.seen.length]).toEqual([2, 1]);
  });
});

describe.each([4, 5] as const)("v%i answers to PUBLISH and SUBSCRIBE", (version) => {
  test("[27] do not depend on the payload, but on topic, QoS and retain", async () => {
    const { endpoint, broker } = await brokerWith(() => kept());
    const client = await connectClient(broker, version, WHO);
    const hook = version === 5 ? "auth_on_publish_m5" : "auth_on_publish";
    const requests = (): number => endpoint.of(hook).length;
    for (const payload of ["1", "2", "3"]) await client.published({ topic: "a", payload, qos: 1 });
    expect(requests()).toBe(1);
    await client.published({ topic: "a", payload: "1", qos: 0 });
    expect(requests()).toBe(2);
    await client.published({ topic: "b", payload: "1", qos: 1 });
    expect(requests()).toBe(3);
    // Right behind an equal one that is not retained.
    await client.published({ topic: "a", payload: "1", qos: 1 });
    await client.published({ topic: "a", payload: "1", qos: 1, retain: true });
    expect(requests()).toBe(4);
    // All of them are still there.
    await client.published({ topic: "a", payload: "4", qos: 1 });
    await client.published({ topic: "b", payload: "5", qos: 1 });
    expect(requests()).toBe(4);
    expect(await stats(broker, hook)).toEqual({ entries: 4, hits: 5, misses: 4 });
  });

  test("of another client are asked for", async () => {
    const { endpoint, broker } = await brokerWith(() => kept());
    for (const clientId of ["a", "b"]) {
      const client = await connectClient(broker, version, { ...WHO, clientId });
      await client.subscribed("s");
      await client.subscribed("s");
      await client.published({ topic: "t", qos: 1 });
    }
    expect(endpoint.seen.map(({ hook }) => hook.replace("_m5", ""))).toEqual([
      ...["auth_on_register", "auth_on_subscribe", "auth_on_publish"],
      ...["auth_on_register", "auth_on_subscribe", "auth_on_publish"],
    ]);
  });

  test("a changed topic is kept, a changed payload is not", async () => {
    const { endpoint, broker } = await brokerWith(({ hook, body }) =>
      hook.startsWith("auth_on_publish")
        ? kept(okWith(body.topic === "a" ? { topic: "new" } : { payload: body.payload }))
        : OK,
    );
    const client = await connectClient(broker, version, WHO);
    const receiver = await connectClient(broker, version, { clientId: "r" });
    await receiver.subscribed("#");
    for (let i = 0; i < 2; i++) {
      await client.published({ topic: "a", payload: "x", qos: 1 });
      await receiver.delivered({ topic: "new", payload: "x" });
    }
    for (const payload of ["1", "2"]) {
      await client.published({ topic: "b", payload, qos: 1 });
      await receiver.delivered({ topic: "b", payload });
    }
    const hook = version === 5 ? "auth_on_publish_m5" : "auth_on_publish";
    expect(endpoint.of(hook)).toHaveLength(3);
  });

  test("MQTT 5 properties are part of what an answer is for", async () => {
    const { endpoint, broker } = await brokerWith(() => kept());
    const client = await connectClient(broker, version, WHO);
    if (version === 4) return;
    for (const contentType of ["a", "b", "a"]) {
      await client.published({ topic: "t", qos: 1, properties: { contentType } });
    }
    expect(endpoint.of("auth_on_publish_m5")).toHaveLength(2);
  });
});

test("what is kept is answered at once, without a promise", async () => {
  const endpoint = await startEndpoint(() => kept());
  const cache = new AnswerCache(10);
  const nothing = { increment() {} };
  const log = { limited: () => log, isEnabled: () => false, error() {}, warn() {} };
  const webhooks = new Webhooks({
    cache,
    log: log as unknown as Logger,
    metrics: createMetrics({
      metrics: { counter: () => nothing, gauge() {} },
    } as unknown as PluginContext),
    limits: {
      pool: () => ({ connectionsMax: 1, idleMs: 1000, tls: () => ({}) as TlsSettings }),
      queuedEvents: () => 1,
      inflightEvents: () => 1,
    },
    onChange() {},
  });
  const spec = { name: "a", endpoint: endpoint.url, options: DEFAULT_OPTIONS };
  webhooks.register({ ...spec, hook: "auth_on_publish" });
  webhooks.register({ ...spec, hook: "auth_on_subscribe" });
  const hooks = webhooks.hooks();
  const who = { username: "u", subscriber_id: { mountpoint: "", client_id: "c" } };
  const message = { ...who, qos: 1, topic: "t", payload: Buffer.from("x"), retain: false } as const;
  const filters = { ...who, topics: [{ topic: "t", qos: 1 }] } as const;
  for (const again of [false, true]) {
    const answers = [
      hooks.auth_on_publish?.(message as never),
      hooks.auth_on_subscribe?.(filters as never),
    ];
    expect(answers.map((answer) => answer instanceof Later)).toEqual([!again, !again]);
    expect(await Promise.all(answers)).toEqual(["ok", "ok"]);
  }
  webhooks.close();
});

describe("equal calls under way", () => {
  test("are one request when the answer may be kept", async () => {
    const held: (() => void)[] = [];
    const { endpoint, broker } = await brokerWith((request) => {
      held.push(() => request.answer(kept()));
      return { hold: true };
    });
    const clients = await Promise.all(Array.from({ length: 5 }, () => openClient(broker, 4)));
    for (const client of clients) client.connect(WHO);
    await waitFor("all wait", () => broker.metrics().webhooks_cache_misses === 5);
    for (const answer of held) answer();
    // One session is left: each takes over from the one before.
    await waitFor("all but one are closed", () => clients.filter((c) => c.isClosed).length === 4);
    expect(endpoint.seen).toHaveLength(1);
    expect(broker.metrics().webhooks_shared).toBe(4);
  });

  test("are all made when it may not, and when the one that asked leaves", async () => {
    const { endpoint, broker } = await brokerWith(() => ({ hold: true }));
    const clients = await Promise.all(Array.from({ length: 3 }, () => openClient(broker, 4)));
    for (const client of clients) client.connect(WHO);
    await waitFor("all wait", () => broker.metrics().webhooks_cache_misses === 3);
    expect(endpoint.seen).toHaveLength(1);
    clients[0]?.cut();
    await endpoint.wait("auth_on_register", 3);
    endpoint.seen[1]?.answer({ body: '{"result":{"error":"no"}}' });
    endpoint.seen[2]?.answer({ body: OK });
    await waitFor("one is in", () => broker.sessions().length === 1);
  });
});

describe("vmq-admin webhooks cache", () => {
  test("[30] clear forgets answers and statistics, show --reset keeps the answers", async () => {
    const { endpoint, broker } = await brokerWith(() => kept());
    await connects(broker, WHO, 2);
    expect(await webhooksCommand(broker, "cache show --reset")).toBe("Done\n");
    expect(await stats(broker)).toEqual({ entries: 1, hits: 0, misses: 0 });
    await connects(broker);
    expect(endpoint.seen).toHaveLength(1);
    expect(await webhooksCommand(broker, "cache clear")).toBe("Done\n");
    expect(await webhooksCommand(broker, "cache show")).toBe("");
    await connects(broker);
    expect(endpoint.seen).toHaveLength(2);
  });

  test("purge takes the entries of an endpoint, a hook or a client", async () => {
    const { endpoint, broker } = await brokerWith(() => kept());
    const fill = async (): Promise<number> => {
      for (const clientId of ["a", "b"]) {
        const client = await connectClient(broker, 4, { ...WHO, clientId });
        await client.published({ topic: "t", qos: 1 });
        await client.disconnected();
      }
      return endpoint.seen.length;
    };
    expect(await fill()).toBe(4);
    expect(await webhooksCommand(broker, "cache purge --client_id=a")).toBe("2 removed\n");
    expect(await fill()).toBe(6);
    expect(await webhooksCommand(broker, "cache purge --hook=auth_on_publish")).toBe("2 removed\n");
    expect(await fill()).toBe(8);
    expect(await webhooksCommand(broker, "cache purge --endpoint=http://other/")).toBe(
      "0 removed\n",
    );
    expect(await webhooksCommand(broker, `cache purge --endpoint=${endpoint.url}`)).toBe(
      "4 removed\n",
    );
    expect(await fill()).toBe(12);
    await expect(webhooksCommand(broker, "cache purge --hook=nosuch")).rejects.toThrow("nosuch");
  });

  test("an answer that was asked for before a purge is not kept after it", async () => {
    const { endpoint, broker } = await brokerWith((request) => {
      if (endpoint.seen.length > 1) return kept();
      void webhooksCommand(broker, "cache purge").then(() => request.answer(kept()));
      return { hold: true };
    });
    await connects(broker, WHO, 3);
    expect(endpoint.seen).toHaveLength(2);
  });

  test("an answer is used although the endpoint's last one could not be kept", async () => {
    const { endpoint, broker } = await brokerWith(({ body }) =>
      body.client_id === "a" ? kept() : OK,
    );
    for (const clientId of ["a", "b", "a", "b", "a"]) await connects(broker, { ...WHO, clientId });
    expect(endpoint.seen.map(({ body }) => body.client_id)).toEqual(["a", "b", "b"]);
  });

  test("an endpoint that is deregistered is forgotten", async () => {
    const { endpoint, broker } = await brokerWith(() => kept());
    await connects(broker);
    const target = `hook=auth_on_register endpoint=${endpoint.url}`;
    await webhooksCommand(broker, `deregister ${target}`);
    expect(broker.metrics().webhooks_cache_entries).toBe(0);
    await webhooksCommand(broker, `register ${target}`);
    await connects(broker);
    expect(endpoint.seen).toHaveLength(2);
  });
});

describe("the size", () => {
  test("is bounded: the least recently used answer goes first", async () => {
    const { endpoint, broker } = await brokerWith(() => kept(), { "vmq_webhooks.cache_size": "2" });
    for (const clientId of ["a", "b", "a", "c", "a"]) await connects(broker, { ...WHO, clientId });
    expect(endpoint.seen.map(({ body }) => body.client_id)).toEqual(["a", "b", "c"]);
    await connects(broker, { ...WHO, clientId: "b" });
    expect(endpoint.seen).toHaveLength(4);
    expect((await stats(broker)).entries).toBe(2);
  });

  test("of 0 keeps nothing; it can be changed at run time", async () => {
    const { endpoint, broker } = await brokerWith(() => kept(), { "vmq_webhooks.cache_size": "0" });
    await connects(broker, WHO, 2);
    expect(endpoint.seen).toHaveLength(2);
    broker.set("vmq_webhooks.cache_size", "10");
    await connects(broker, WHO, 2);
    expect(endpoint.seen).toHaveLength(3);
  });

  test("shrinks in the background by what has expired", () => {
    vi.useFakeTimers({ toFake: ["performance"] });
    try {
      const cache = new AnswerCache(10_000);
      const target = cache.target("auth_on_register", "http://h/");
      for (let i = 0; i < 5_000; i++) cache.set(`key ${i}`, target, "c", "ok", i < 4_000 ? 5 : 500);
      vi.advanceTimersByTime(10);
      for (let turn = 0; turn < 4; turn++) cache.sweepSome();
      expect(cache.size).toBe(1_000);
      expect(target.entries).toBe(1_000);
    } finally {
      vi.useRealTimers();
    }
  });
});

test("no password is in the keys", () => {
  const cache = new AnswerCache(10);
  const target = cache.target("auth_on_register", "http://h/");
  const args = {
    peer: { address: "127.0.0.1", port: 1 },
    subscriber_id: { mountpoint: "", client_id: "c" },
    username: "u",
    password: Buffer.from("secret-password"),
    clean_session: true,
    connection_meta: undefined,
  };
  const key = cache.keyOf<"auth_on_register">(target, args);
  expect(key).toMatch(/^[A-Za-z0-9+/]{43}=$/);
  const other = new AnswerCache(10);
  const otherKey = other.keyOf<"auth_on_register">(
    other.target("auth_on_register", "http://h/"),
    args,
  );
  expect(otherKey).not.toBe(key);
});
