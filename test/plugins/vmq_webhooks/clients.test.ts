import { expect, test } from "vitest";
import { connectClient, openClient } from "../../support/raw-client.ts";
import {
  AUTH_HOOKS,
  OK,
  registered,
  startEndpoint,
  startWebhooks,
} from "../../support/webhooks.ts";

/** The main road: an endpoint decides about real clients. */

test.each([4, 5] as const)("v%i an endpoint lets clients in, publish and subscribe", async (v) => {
  const endpoint = await startEndpoint(({ body }) =>
    body.topic === "forbidden" || body.username === "eve"
      ? '{"result":{"error":"not_allowed"}}'
      : OK,
  );
  const broker = await startWebhooks(registered(endpoint, AUTH_HOOKS));
  const subscriber = await connectClient(broker, v, { clientId: "s", username: "ann" });
  expect(await subscriber.subscribed("a/#", { qos: 1 })).toEqual([1]);
  const publisher = await connectClient(broker, v, {
    clientId: "p",
    username: "bob",
    password: "pw",
  });
  await publisher.published({ topic: "a/b", payload: "hello", qos: 1 });
  await subscriber.delivered({ topic: "a/b", payload: "hello" });
  await (await openClient(broker, v)).refused(
    { clientId: "x", username: "eve" },
    v === 5 ? 0x86 : 5,
  );
  const suffix = v === 5 ? "_m5" : "";
  expect(endpoint.of(`auth_on_publish${suffix}`)[0]?.body).toEqual({
    username: "bob",
    mountpoint: "",
    client_id: "p",
    qos: 1,
    topic: "a/b",
    payload: "aGVsbG8=",
    retain: false,
    ...(v === 5 ? { properties: {} } : {}),
  });
});
