import { describe, expect, test } from "vitest";
import { startBroker, waitFor, waitOffline } from "../support/broker.ts";
import { connectClient } from "../support/raw-client.ts";

/** Several sessions with one client id (a feature of VerneMQ 1.x). */

const ON = { allow_multiple_sessions: "on" };
const FANOUT = { ...ON, queue_deliver_mode: "fanout" };
const BALANCE = { ...ON, queue_deliver_mode: "balance" };

describe("allow_multiple_sessions=on (4.4)", () => {
  test.each([4, 5] as const)(
    "v%i a second CONNECT with the id does not end the first",
    async (version) => {
      const broker = await startBroker(ON);
      const one = await connectClient(broker, version, { clientId: "c" });
      const two = await connectClient(broker, version, { clientId: "c" });
      await one.ping();
      await two.ping();
      expect(two.connack?.sessionPresent).toBe(true);
    },
  );

  test("fanout: each session gets each message, subscriptions are shared", async () => {
    const broker = await startBroker(FANOUT);
    const one = await connectClient(broker, 4, { clientId: "c" });
    await one.subscribed("a", { qos: 1 });
    const two = await connectClient(broker, 4, { clientId: "c" });
    await two.subscribed("b", { qos: 1 });
    const publisher = await connectClient(broker, 4, { clientId: "p" });
    for (const topic of ["a", "b"]) {
      await publisher.published({ topic, payload: topic, qos: 1 });
      await one.delivered({ topic });
      await two.delivered({ topic });
    }
  });

  test("balance: each message goes to one session, both get some", async () => {
    const broker = await startBroker(BALANCE);
    const one = await connectClient(broker, 4, { clientId: "c" });
    await one.subscribed("t", { qos: 1 });
    const two = await connectClient(broker, 4, { clientId: "c" });
    const publisher = await connectClient(broker, 4, { clientId: "p" });
    const count = 100;
    const got: number[][] = [[], []];
    for (let i = 0; i < count; i++) {
      await publisher.published({ topic: "t", payload: String(i), qos: 1 });
      for (const [index, client] of [one, two].entries()) {
        client.pingreq();
        for (let next = await client.next(); next.type !== "pingresp"; next = await client.next()) {
          client.puback(next.packetId);
          got[index]?.push(Number(next.payload));
        }
      }
    }
    expect(got.flat().toSorted((a, b) => a - b)).toEqual(
      Array.from({ length: count }, (_, i) => i),
    );
    for (const list of got) expect(list.length).toBeGreaterThan(10);
  });

  test("[W-09] balance: what a leaving session did not acknowledge goes to the others", async () => {
    const broker = await startBroker(BALANCE);
    const one = await connectClient(broker, 4, { clientId: "c" });
    await one.subscribed("t", { qos: 1 });
    const two = await connectClient(broker, 4, { clientId: "c" });
    const publisher = await connectClient(broker, 4, { clientId: "p" });
    for (let i = 0; i < 20; i++) {
      await publisher.published({ topic: "t", payload: String(i), qos: 1 });
    }
    one.cut();
    const seen = new Set<string>();
    await waitFor("all 20 at the one that stayed", async () => {
      const packet = await two.next(50).catch(() => undefined);
      if (packet?.type === "publish") {
        two.puback(packet.packetId);
        seen.add(String(packet.payload));
      }
      return seen.size === 20;
    });
  });

  test("the queue stays when all have left, clean session or not", async () => {
    const broker = await startBroker(FANOUT);
    const one = await connectClient(broker, 4, { clientId: "c", clean: true });
    await one.subscribed("t", { qos: 1 });
    one.cut();
    await waitOffline(broker, "c");
    const publisher = await connectClient(broker, 4, { clientId: "p" });
    await publisher.published({ topic: "t", payload: "kept", qos: 1 });
    const back = await connectClient(broker, 4, { clientId: "c", clean: true });
    expect(back.connack?.sessionPresent).toBe(true);
    await back.delivered({ payload: "kept" });
  });
});
