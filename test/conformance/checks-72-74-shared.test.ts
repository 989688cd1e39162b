import { describe, expect, test } from "vitest";
import type { Broker } from "../../core/broker-types.ts";
import { startBroker, waitFor, waitGone, waitOffline } from "../support/broker.ts";
import { pluginWith } from "../support/plugins.ts";
import { connectClient, type Packet, type RawClient } from "../support/raw-client.ts";
import { numbers, payloads, publishSeries } from "../support/series.ts";
import { persistent } from "../support/sessions.ts";

/** Checks M-72 to M-74: shared subscriptions. */

const FILTER = "$share/group/jobs";
const VERSIONS = [3, 4, 5] as const;

function count(broker: Broker, clientId: string): number {
  return broker.sessions().find((one) => one.client_id === clientId)?.queue_size ?? -1;
}

describe("M-72 only an offline persistent member", () => {
  test.each(VERSIONS)("M-72 v%i 10 messages → all 10 in order after reconnect", async (version) => {
    const broker = await startBroker();
    const first = await connectClient(broker, version, persistent(version, "m"));
    expect(await first.subscribed(FILTER, { qos: 1 })).toEqual([1]);
    await first.disconnected();
    const p = await connectClient(broker, version, { clientId: "p" });
    await publishSeries(p, 10, { topic: "jobs", qos: 1 });
    expect(count(broker, "m")).toBe(10);
    const again = await connectClient(broker, version, persistent(version, "m"));
    expect(payloads(await again.receive(10))).toEqual(numbers(1, 10));
    await again.expectNothing();
  });

  test("M-72 two offline members: every message once", async () => {
    const broker = await startBroker();
    for (const name of ["m1", "m2"]) {
      const s = await connectClient(broker, 4, persistent(4, name));
      await s.subscribed(FILTER, { qos: 1 });
      await s.disconnected();
    }
    const p = await connectClient(broker, 4);
    await publishSeries(p, 20, { topic: "jobs", qos: 1 });
    expect(count(broker, "m1") + count(broker, "m2")).toBe(20);
  });
});

describe("M-73 one online and one offline member", () => {
  test.each(["prefer_local", "random", "local_only", "prefer_online_before_local"])(
    "M-73 %s: 10 messages → all to the online one, in order",
    async (policy) => {
      const broker = await startBroker({ shared_subscription_policy: policy });
      const off = await connectClient(broker, 4, persistent(4, "off"));
      await off.subscribed(FILTER, { qos: 1 });
      await off.disconnected();
      const on = await connectClient(broker, 4, { clientId: "on" });
      await on.subscribed(FILTER, { qos: 1 });
      const p = await connectClient(broker, 4);
      await publishSeries(p, 10, { topic: "jobs", qos: 1 });
      expect(payloads(await on.receive(10))).toEqual(numbers(1, 10));
      expect(count(broker, "off")).toBe(0);
    },
  );

  test("M-73 QoS 0 goes to the online member, never to the offline one", async () => {
    const broker = await startBroker();
    const off = await connectClient(broker, 4, persistent(4, "off"));
    await off.subscribed(FILTER, { qos: 1 });
    await off.disconnected();
    const on = await connectClient(broker, 4, { clientId: "on" });
    await on.subscribed(FILTER, { qos: 1 });
    const p = await connectClient(broker, 4);
    await publishSeries(p, 10, { topic: "jobs" });
    expect(payloads(await on.receive(10))).toEqual(numbers(1, 10));
  });

  test("M-73 an unknown policy from the register hook does not end the client", async () => {
    const broker = await startBroker({ allow_anonymous: "off" }, [
      pluginWith({
        auth_on_register: () => ({ ok: { shared_subscription_policy: "random" } }),
      }),
    ]);
    const s = await connectClient(broker, 4, { clientId: "s" });
    await s.subscribed(FILTER);
    const p = await connectClient(broker, 4, { clientId: "p" });
    await p.published({ topic: "jobs", payload: "x" });
    await s.delivered({ payload: "x" });
  });
});

describe("M-74 many online members", () => {
  /** Members that acknowledge all they get. */
  async function members(broker: Broker, howMany: number, qos: number): Promise<RawClient[]> {
    const all: RawClient[] = [];
    for (let i = 0; i < howMany; i++) {
      const member = await connectClient(broker, 5, { clientId: `m${i}` });
      await member.subscribed(FILTER, { qos });
      all.push(member);
    }
    return all;
  }

  test.each([0, 1, 2])(
    "M-74 QoS %i: 10 members, 1000 messages → each exactly once, spread over all",
    async (qos) => {
      const broker = await startBroker({ max_online_messages: "-1" });
      const group = await members(broker, 10, qos);
      const p = await connectClient(broker, 5, { clientId: "p" });
      await publishSeries(p, 1000, { topic: "jobs", qos });
      await waitFor("all 1000 came", () => {
        const publishes = group.flatMap((one) => one.waiting.filter(isPublish));
        return publishes.length >= 1000;
      });
      for (const member of group) await member.ping().catch(() => undefined);
      const seen = group.map((one) => one.received.filter(isPublish));
      expect(seen.every((one) => one.length > 0)).toBe(true);
      const sorted = payloads(seen.flat()).sort((a, b) => Number(a) - Number(b));
      expect(sorted).toEqual(numbers(1, 1000));
      // Each member sees its share in order.
      for (const share of seen) {
        const own = payloads(share).map(Number);
        expect(own).toEqual([...own].sort((a, b) => a - b));
      }
    },
  );

  function isPublish({ type }: Packet): boolean {
    return type === "publish";
  }

  test("M-74 [W] a clean member dies with un-acknowledged messages → the group gets them", async () => {
    const broker = await startBroker();
    const dying = await connectClient(broker, 4, { clientId: "dying" });
    await dying.subscribed(FILTER, { qos: 2 });
    const p = await connectClient(broker, 4, { clientId: "p" });
    await publishSeries(p, 20, { topic: "jobs", qos: 1 });
    await publishSeries(p, 40, { topic: "jobs", qos: 2 }, 21);
    // The window is 20: half is in flight, half waits in the queue.
    for (let i = 0; i < 20; i++) await dying.expect("publish");
    const heir = await connectClient(broker, 5, { clientId: "heir" });
    await heir.subscribed(FILTER, { qos: 2 });
    dying.cut();
    const got = await heir.receive(40);
    expect(payloads(got).sort((a, b) => Number(a) - Number(b))).toEqual(numbers(1, 40));
    await waitGone(broker, "dying");
    await heir.expectNothing();
  });

  test("M-74 [W] an acknowledged message is not given to the group again", async () => {
    const broker = await startBroker();
    const dying = await connectClient(broker, 4, { clientId: "dying" });
    await dying.subscribed(FILTER, { qos: 1 });
    const p = await connectClient(broker, 4, { clientId: "p" });
    await publishSeries(p, 4, { topic: "jobs", qos: 1 });
    for (let i = 0; i < 2; i++) await dying.delivered();
    for (let i = 0; i < 2; i++) await dying.expect("publish");
    await dying.expectNothing();
    const heir = await connectClient(broker, 4, { clientId: "heir" });
    await heir.subscribed(FILTER, { qos: 1 });
    dying.cut();
    expect(payloads(await heir.receive(2)).sort()).toEqual(["3", "4"]);
    await waitGone(broker, "dying");
    await heir.expectNothing();
  });

  test("M-74 a persistent member keeps its messages", async () => {
    const broker = await startBroker();
    const first = await connectClient(broker, 4, persistent(4, "m"));
    await first.subscribed(FILTER, { qos: 1 });
    const p = await connectClient(broker, 4, { clientId: "p" });
    await publishSeries(p, 3, { topic: "jobs", qos: 1 });
    const other = await connectClient(broker, 4, { clientId: "other" });
    await other.subscribed(FILTER, { qos: 1 });
    first.cut();
    await waitOffline(broker, "m");
    await other.expectNothing();
    const again = await connectClient(broker, 4, persistent(4, "m"));
    expect(payloads(await again.receive(3))).toEqual(numbers(1, 3));
  });

  test("M-74 groups are independent; a client may be in several and subscribe normally", async () => {
    const broker = await startBroker();
    const both = await connectClient(broker, 4, { clientId: "both" });
    await both.subscribed(["$share/one/jobs", "$share/two/jobs", "jobs"], { qos: 1 });
    const p = await connectClient(broker, 4, { clientId: "p" });
    await p.published({ topic: "jobs", payload: "x", qos: 1 });
    expect(payloads(await both.receive(3))).toEqual(["x", "x", "x"]);
    await both.expectNothing();
  });

  test("M-74 the member's own QoS applies; wildcards work below $share", async () => {
    const broker = await startBroker();
    const s = await connectClient(broker, 4, { clientId: "s" });
    await s.subscribed("$share/g/jobs/+/#", { qos: 1 });
    const p = await connectClient(broker, 4, { clientId: "p" });
    await p.published({ topic: "jobs/a/b/c", qos: 2 });
    await s.delivered({ topic: "jobs/a/b/c", qos: 1 });
    await p.published({ topic: "jobs", qos: 2 });
    await s.expectNothing();
  });

  test("M-74 different filters of one group name are different groups", async () => {
    const broker = await startBroker();
    const one = await connectClient(broker, 4, { clientId: "one" });
    const two = await connectClient(broker, 4, { clientId: "two" });
    await one.subscribed("$share/g/jobs");
    await two.subscribed("$share/g/+");
    const p = await connectClient(broker, 4, { clientId: "p" });
    await p.published({ topic: "jobs", payload: "x" });
    await one.delivered({ payload: "x" });
    await two.delivered({ payload: "x" });
  });

  test("M-74 a member that unsubscribes gets no more; the last one ends the group", async () => {
    const broker = await startBroker();
    const one = await connectClient(broker, 5, { clientId: "one" });
    const two = await connectClient(broker, 5, { clientId: "two" });
    for (const member of [one, two]) await member.subscribed(FILTER, { qos: 1 });
    await one.unsubscribed(FILTER);
    const p = await connectClient(broker, 5, { clientId: "p" });
    await publishSeries(p, 5, { topic: "jobs", qos: 1 });
    expect(payloads(await two.receive(5))).toEqual(numbers(1, 5));
    await one.expectNothing();
    await two.unsubscribed(FILTER);
    const puback = await p.published({ topic: "jobs", qos: 1 });
    // Nobody is left: No matching subscribers.
    expect(puback.code).toBe(0x10);
  });
});
