import { expect, test } from "vitest";
import { startBroker } from "../support/broker.ts";
import { connectClient } from "../support/raw-client.ts";

test("smoke", async () => {
  const broker = await startBroker();
  const s = await connectClient(broker, 5, { clientId: "s" });
  expect(await s.subscribed("a/#", { qos: 2 })).toEqual([2]);
  const p = await connectClient(broker, 4, { clientId: "p" });
  await p.published({ topic: "a/b", payload: "x", qos: 2 });
  await s.delivered({ topic: "a/b", payload: "x", qos: 2 });
  await s.expectNothing();
});
