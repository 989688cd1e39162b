import { describe, expect, test } from "vitest";
import { EventQueue, type QueuedEvent } from "../../../plugins/vmq_webhooks/events.ts";
import { acceptingPlugin, waitFor } from "../../support/broker.ts";
import { connectClient } from "../../support/raw-client.ts";
import {
  registered,
  startEndpoint,
  startWebhooks,
  webhooksCommand,
} from "../../support/webhooks.ts";

/** Events: nobody waits for them, and what is lost is counted. */

const LIFE = [
  "on_register",
  "on_client_wakeup",
  "on_subscribe",
  "on_publish",
  "on_client_offline",
  "on_client_gone",
];

describe("events of real clients", () => {
  test("a publish waits for no on_publish, and the client's next ones neither", async () => {
    const endpoint = await startEndpoint(() => ({ hold: true }));
    const broker = await startWebhooks(registered(endpoint, ["on_publish"]), [acceptingPlugin]);
    const subscriber = await connectClient(broker, 4, { clientId: "s" });
    await subscriber.subscribed("a");
    const publisher = await connectClient(broker, 4, { clientId: "p" });
    for (let i = 0; i < 1000; i++) publisher.publish({ topic: "a", payload: String(i), qos: 1 });
    // All of them are through while not one event was answered.
    await subscriber.receive(1000);
    expect(broker.metrics().webhooks_queued_events).toBe(1000);
    expect(broker.metrics().webhooks_events_dropped).toBe(0);
    expect(endpoint.seen.length).toBeLessThanOrEqual(50);
  });

  test("no more than max_inflight_events are under way, and all are posted in the end", async () => {
    let open = 0;
    let most = 0;
    const endpoint = await startEndpoint(() => {
      most = Math.max(most, ++open);
      return { hold: true };
    });
    const broker = await startWebhooks(
      { ...registered(endpoint, ["on_publish"]), "vmq_webhooks.max_inflight_events": "3" },
      [acceptingPlugin],
    );
    const publisher = await connectClient(broker, 4, { clientId: "p" });
    for (let i = 0; i < 50; i++) publisher.publish({ topic: "a", payload: String(i) });
    await endpoint.wait("on_publish", 3);
    for (let i = 0; i < 50; i++) {
      const request = await endpoint.wait("on_publish", i + 1);
      open--;
      request.answer({ body: "{}" });
    }
    await waitFor("all are done", () => broker.metrics().webhooks_queued_events === 0);
    expect(most).toBe(3);
    expect(endpoint.seen).toHaveLength(50);
  });

  test("what does not fit is dropped and counted", async () => {
    const endpoint = await startEndpoint(() => ({ hold: true }));
    const broker = await startWebhooks(
      { ...registered(endpoint, ["on_publish"]), "vmq_webhooks.max_queued_events": "10" },
      [acceptingPlugin],
    );
    const publisher = await connectClient(broker, 4, { clientId: "p" });
    for (let i = 0; i < 25; i++) await publisher.published({ topic: "a", qos: 1 });
    expect(broker.metrics()).toMatchObject({
      webhooks_events_dropped: 15,
      webhooks_queued_events: 10,
    });
    const shown = await webhooksCommand(broker, "show --full");
    expect(shown).toMatch(/on_publish .* 10 +\| \d+ +\| 0 +\| 15 /);
  });

  test("ordered = on posts a client's messages one after the other", async () => {
    const endpoint = await startEndpoint(() => ({ hold: true }));
    const broker = await startWebhooks(registered(endpoint, ["on_publish"], { ordered: "on" }), [
      acceptingPlugin,
    ]);
    const ids = ["a", "b", "c"];
    const clients = await Promise.all(
      ids.map((clientId) => connectClient(broker, 4, { clientId })),
    );
    for (let i = 0; i < 20; i++) {
      for (const client of clients) client.publish({ topic: "t", payload: String(i) });
    }
    await waitFor("all are queued", () => broker.metrics().webhooks_queued_events === 60);
    for (let i = 0; i < 20; i++) {
      await endpoint.wait("on_publish", 3 * (i + 1));
      // Nothing more is sent while these have no answer.
      expect(broker.metrics().webhooks_on_publish_requests).toBe(3 * (i + 1));
      const open = endpoint.seen.slice(3 * i);
      expect(open.map(({ body }) => body.client_id).sort()).toEqual(ids);
      for (const request of open) {
        expect(Buffer.from(request.body.payload, "base64").toString()).toBe(String(i));
        request.answer({ body: "{}" });
      }
    }
  });

  test("steps in a client's life are posted one after the other without being asked to", async () => {
    const endpoint = await startEndpoint((request) => {
      setImmediate(() => request.answer({ body: "{}" }));
      return { hold: true };
    });
    const broker = await startWebhooks({ ...registered(endpoint, LIFE), allow_anonymous: "on" }, [
      acceptingPlugin,
    ]);
    const client = await connectClient(broker, 4, { clientId: "c" });
    await client.subscribed("a");
    await client.disconnected();
    await endpoint.wait("on_client_gone");
    expect(endpoint.seen.map(({ hook }) => hook)).toEqual([
      "on_client_wakeup",
      "on_register",
      "on_subscribe",
      "on_client_gone",
    ]);
  });

  test.each(["[]", '"text"', "0", '{"result":{"error":"no"}}', '{"any":"thing"}'])(
    "any JSON (%s) is an answer",
    async (answer) => {
      const endpoint = await startEndpoint(() => answer);
      const broker = await startWebhooks(
        { ...registered(endpoint, ["on_register"]), allow_anonymous: "on" },
        [],
      );
      await connectClient(broker, 4, { clientId: "c" });
      await endpoint.wait("on_register");
      await waitFor("it is done", () => broker.metrics().webhooks_queued_events === 0);
      expect(broker.metrics().webhooks_on_register_errors).toBe(0);
    },
  );

  test("anything else is an error, and all endpoints are called", async () => {
    const endpoints = await Promise.all(["foo", "{}"].map((answer) => startEndpoint(() => answer)));
    const broker = await startWebhooks({
      allow_anonymous: "on",
      ...registered(endpoints[0] as { url: string }, ["on_register"]),
      "vmq_webhooks.z.hook": "on_register",
      "vmq_webhooks.z.endpoint": endpoints[1]?.url ?? "",
    });
    await connectClient(broker, 4, { clientId: "c" });
    for (const endpoint of endpoints) await endpoint.wait("on_register");
    await waitFor("the error", () => broker.metrics().webhooks_on_register_errors === 1);
    expect(broker.metrics().webhooks_on_register_requests).toBe(2);
  });
});

describe("the queue", () => {
  const LIMITS = { queued: 5, inflight: 2 };

  function queueWith(admits = () => true) {
    const sent: string[] = [];
    const done = new Map<string, () => void>();
    const queue = new EventQueue(() => LIMITS, admits);
    const push = (name: string, lane?: string, bytes = 1): boolean => {
      const event: QueuedEvent = {
        bytes,
        lane,
        send: (finish) => {
          sent.push(name);
          done.set(name, finish);
        },
      };
      return queue.push(event);
    };
    return { queue, sent, push, finish: (name: string) => done.get(name)?.() };
  }

  test("sends in order, as many at a time as it may", () => {
    const { sent, push, finish, queue } = queueWith();
    for (const name of ["a", "b", "c", "d"]) push(name);
    expect(sent).toEqual(["a", "b"]);
    finish("b");
    expect(sent).toEqual(["a", "b", "c"]);
    expect([queue.length, queue.inflight]).toEqual([3, 2]);
  });

  test("a lane has one event under way; others go on meanwhile", () => {
    const { sent, push, finish } = queueWith();
    push("a1", "a");
    push("a2", "a");
    push("a3", "a");
    push("b1", "b");
    expect(sent).toEqual(["a1", "b1"]);
    finish("b1");
    expect(sent).toEqual(["a1", "b1"]);
    finish("a1");
    finish("a2");
    expect(sent).toEqual(["a1", "b1", "a2", "a3"]);
  });

  test("is bounded by number and by bytes", () => {
    const { push, queue } = queueWith();
    for (let i = 0; i < 5; i++) expect(push(`e${i}`)).toBe(true);
    expect(push("late")).toBe(false);
    expect(queue.dropped).toBe(1);
    const other = queueWith();
    expect(other.push("big", undefined, 60 * 1024 * 1024)).toBe(true);
    expect(other.push("bigger", undefined, 5 * 1024 * 1024)).toBe(false);
    other.finish("big");
    expect(other.push("bigger", undefined, 5 * 1024 * 1024)).toBe(true);
  });

  test("events wait while the endpoint is suspended", async () => {
    let isOpen = false;
    const { sent, push, queue } = queueWith(() => isOpen);
    push("a");
    expect(sent).toEqual([]);
    isOpen = true;
    await waitFor("it is sent", () => sent.length === 1);
    expect(queue.inflight).toBe(1);
  });

  test("closed, it drops what waits and takes nothing more", () => {
    const { push, queue, finish, sent } = queueWith();
    for (const name of ["a", "b", "c"]) push(name, "lane");
    expect(queue.close()).toBe(2);
    finish("a");
    expect(sent).toEqual(["a"]);
    expect(push("d")).toBe(false);
  });
});
