import { describe, expect, test } from "vitest";
import { startBroker, waitGone, waitOffline } from "../support/broker.ts";
import { pair } from "../support/pair.ts";
import { pluginWith } from "../support/plugins.ts";
import {
  connectClient,
  encodePublish,
  encodeSubscribe,
  encodeUnsubscribe,
  type Filter,
  field,
  packet,
  propertyBlock,
  u16,
} from "../support/raw-client.ts";
import { numbers, payloads, publishSeries } from "../support/series.ts";
import { persistent } from "../support/sessions.ts";
import { MALFORMED, PROTOCOL_ERROR, violated } from "../support/violations.ts";

/**
 * Normative statements on SUBSCRIBE, UNSUBSCRIBE, topic filters and shared subscriptions (MQTT 5.0,
 * 3.8 to 3.11, 4.7, 4.8).
 */

const VERSIONS = [4, 5] as const;

describe("SUBSCRIBE payload", () => {
  test.each(VERSIONS)(
    "[MQTT-3.8.3-2] [3.1.1: MQTT-3.8.3-3] v%i no filter at all → refused",
    async (version) => {
      const { s } = await pair(version);
      s.send(packet(0x82, u16(1), propertyBlock(version)));
      await violated(s, PROTOCOL_ERROR, MALFORMED);
    },
  );

  test.each(VERSIONS)("[MQTT-3.8.3-1] v%i an empty filter → refused", async (version) => {
    const { s } = await pair(version);
    s.subscribe("");
    await violated(s, MALFORMED, PROTOCOL_ERROR, 0x8f);
  });

  test.each([
    { what: "QoS 3", options: 0x03 },
    { what: "[MQTT-3.8.3-5] reserved bit 6", options: 0x40 },
    { what: "[MQTT-3.8.3-5] reserved bit 7", options: 0x80 },
  ])("$what in the options → refused", async ({ options }) => {
    for (const version of VERSIONS) {
      const { s } = await pair(version);
      s.subscribe([{ filter: "a", options }]);
      await violated(s, MALFORMED, PROTOCOL_ERROR);
    }
  });

  test("[3.1.1: MQTT-3.8.3-4] v4 knows no options: bits 2 to 5 are reserved", async () => {
    for (const options of [0x04, 0x08, 0x10, 0x20]) {
      const { s } = await pair(4);
      s.subscribe([{ filter: "a", options }]);
      await s.closed();
    }
  });

  test("a filter without options byte → refused", async () => {
    for (const version of VERSIONS) {
      const { s } = await pair(version);
      s.send(packet(0x82, u16(1), propertyBlock(version), field("a")));
      await violated(s, MALFORMED);
    }
  });

  test("all options of v5 together are accepted", async () => {
    const { s } = await pair(5);
    const all: Filter[] = [];
    for (let options = 0; options < 0x30; options++) {
      if ((options & 3) !== 3) all.push({ filter: `f/${options}`, options });
    }
    expect(await s.subscribed(all)).toEqual(all.map((one) => (one.options ?? 0) & 3));
  });

  test.each([
    { what: "content type", properties: { contentType: "x" } },
    { what: "reason string", properties: { reasonString: "x" } },
    { what: "topic alias", properties: { topicAlias: 1 } },
  ])("3.8.2.1 a property that SUBSCRIBE does not have: $what → refused", async ({ properties }) => {
    const { s } = await pair(5);
    s.subscribe("a", { properties });
    await violated(s, MALFORMED, PROTOCOL_ERROR);
  });

  test("3.8.2.1.3 user properties of SUBSCRIBE and UNSUBSCRIBE reach the hooks", async () => {
    const seen: unknown[] = [];
    const broker = await startBroker({}, [
      pluginWith({
        auth_on_subscribe_m5: ({ properties }) => {
          seen.push(properties.p_user_property);
          return "next";
        },
        on_unsubscribe_m5: ({ properties }) => {
          seen.push(properties.p_user_property);
          return "next";
        },
      }),
    ]);
    const s = await connectClient(broker, 5, { clientId: "s" });
    const properties = { userProperties: [["k", "v"]] as [string, string][] };
    s.subscribe("a", { properties });
    await s.expect("suback");
    s.unsubscribe("a", { properties });
    await s.expect("unsuback");
    expect(seen).toEqual([[{ key: "k", val: "v" }], [{ key: "k", val: "v" }]]);
  });
});

describe("SUBSCRIBE and its answer", () => {
  test.each(VERSIONS)(
    "[MQTT-3.8.4-1] [MQTT-3.8.4-2] [MQTT-3.8.4-6] [MQTT-3.9.3-1] v%i one code per filter, in order",
    async (version) => {
      const { s } = await pair(version);
      const filters = [2, 1, 0, 0, 1, 2].map((qos, i) => ({ filter: `f/${i}`, qos }));
      s.subscribe(filters, { packetId: 999 });
      await s.expect("suback", { packetId: 999, codes: [2, 1, 0, 0, 1, 2] });
    },
  );

  test.each(VERSIONS)(
    "[MQTT-3.8.4-3] v%i an identical filter replaces: one copy, the new QoS; no message is lost",
    async (version) => {
      const broker = await startBroker();
      const first = await connectClient(broker, version, persistent(version, "s"));
      await first.subscribed("a", { qos: 1 });
      const p = await connectClient(broker, version, { clientId: "p" });
      await publishSeries(p, 3, { topic: "a", qos: 1 });
      await first.subscribed("a", { qos: 2 }).catch(() => undefined);
      expect(first.received.filter((one) => one.type === "publish")).toHaveLength(3);
      first.cut();
      await waitOffline(broker, "s");
      const s = await connectClient(broker, version, persistent(version, "s"));
      expect(payloads(await s.receive(3))).toEqual(numbers(1, 3));
      await p.published({ topic: "a", payload: "4", qos: 2 });
      await s.delivered({ payload: "4", qos: 2 });
      await s.expectNothing();
    },
  );

  test("[MQTT-3.8.4-4] re-subscribing while messages flow loses and repeats none", async () => {
    const { s, p } = await pair(5);
    await s.subscribed("a", { qos: 1 });
    for (let i = 1; i <= 50; i++) {
      p.publish({ topic: "a", payload: `${i}`, qos: 1 });
      s.subscribe("a", { qos: 1 });
    }
    const got: string[] = [];
    let subacks = 0;
    while (got.length < 50 || subacks < 50) {
      const one = await s.next();
      if (one.type === "suback") subacks++;
      else {
        got.push(one.payload?.toString() ?? "");
        s.puback(one.packetId);
      }
    }
    expect(got).toEqual(numbers(1, 50));
    await s.expectNothing();
  });

  test("[MQTT-3.8.4-5] many filters are as many packets, with one answer", async () => {
    const { s, p } = await pair(4);
    const filters = numbers(1, 500).map((n) => ({ filter: `f/${n}`, qos: Number(n) % 3 }));
    expect(await s.subscribed(filters)).toEqual(filters.map((one) => one.qos));
    for (const n of [1, 250, 500]) await p.published({ topic: `f/${n}`, qos: 2 });
    for (const n of [1, 250, 500]) await s.delivered({ topic: `f/${n}`, qos: n % 3 });
  });

  test("[MQTT-3.9.3-2] a hook's code that SUBACK does not know is not sent", async () => {
    const allowed = [0, 1, 2, 0x80, 0x83, 0x87, 0x8f, 0x91, 0x97, 0x9e, 0xa1, 0xa2, 0x85];
    for (const qos of [0x8e, 0x04, 3, 255, 0x92]) {
      const broker = await startBroker({}, [
        pluginWith({ auth_on_subscribe_m5: () => ({ ok: { topics: [{ topic: "a", qos }] } }) }),
      ]);
      const s = await connectClient(broker, 5, { clientId: "s" });
      const [code = 0] = await s.subscribed("a");
      expect(allowed).toContain(code);
      expect(code).toBeGreaterThanOrEqual(0x80);
    }
  });

  test("3.8.4 SUBACK comes before what matches the new subscription", async () => {
    const { s, p } = await pair(5);
    await p.published({ topic: "a", payload: "kept", qos: 1, retain: true });
    for (let i = 0; i < 20; i++) {
      p.publish({ topic: "a", payload: "live", qos: 1 });
      const packetId = s.subscribe("a", { qos: 1 });
      await s.expect("suback", { packetId });
      s.unsubscribe("a");
      for (;;) {
        const one = await s.next();
        if (one.type === "unsuback") break;
        s.puback(one.packetId);
      }
    }
  });
});

describe("UNSUBSCRIBE", () => {
  test.each(VERSIONS)("[MQTT-3.10.3-2] v%i no filter at all → refused", async (version) => {
    const { s } = await pair(version);
    s.send(packet(0xa2, u16(1), propertyBlock(version)));
    await violated(s, PROTOCOL_ERROR, MALFORMED);
  });

  test.each(VERSIONS)(
    "[MQTT-3.10.4-4] [MQTT-3.10.4-5] v%i UNSUBACK also when nothing was subscribed",
    async (version) => {
      const { s } = await pair(version);
      s.unsubscribe(["a", "b"], { packetId: 4321 });
      const unsuback = await s.expect("unsuback", { packetId: 4321 });
      expect(unsuback.codes).toEqual(version === 5 ? [0x11, 0x11] : undefined);
    },
  );

  test("[MQTT-3.10.4-6] [MQTT-3.11.3-1] several filters as a sequence, codes in order", async () => {
    const { s } = await pair(5);
    await s.subscribed(["a", "b", "c"]);
    const unsuback = await s.unsubscribed(["c", "x", "a", "a"]);
    expect(unsuback.codes).toEqual([0, 0x11, 0, 0x11]);
  });

  test.each(VERSIONS)("[MQTT-3.10.4-2] v%i no new messages after UNSUBACK", async (version) => {
    const { s, p } = await pair(version);
    await s.subscribed(["a", "a/#"]);
    await s.unsubscribed(["a", "a/#"]);
    for (const qos of [0, 1, 2]) await p.published({ topic: "a", qos });
    await s.expectNothing();
  });

  test.each(VERSIONS)(
    "[MQTT-3.10.4-3] v%i a delivery that was begun is completed",
    async (version) => {
      const broker = await startBroker();
      const first = await connectClient(broker, version, persistent(version, "s"));
      await first.subscribed("a", { qos: 2 });
      const p = await connectClient(broker, version, { clientId: "p" });
      await p.published({ topic: "a", payload: "1", qos: 1 });
      await p.published({ topic: "a", payload: "2", qos: 2 });
      const one = await first.expect("publish", { payload: "1" });
      const two = await first.expect("publish", { payload: "2" });
      await first.unsubscribed("a");
      first.pubrec(two.packetId);
      await first.expect("pubrel", { packetId: two.packetId ?? 0 });
      first.cut();
      await waitOffline(broker, "s");
      const s = await connectClient(broker, version, persistent(version, "s"));
      const seen = [await s.next(), await s.next()];
      expect(seen.map((each) => each.type).sort()).toEqual(["publish", "pubrel"]);
      expect(seen.map((each) => each.packetId)).toContain(one.packetId);
    },
  );
});

describe("topic filters", () => {
  const GOOD = ["#", "+", "/", "//", "+/+", "/+", "+/", "a/+/b", "a/#", "/#", "+/#", "$x/#", " "];

  test("[MQTT-4.7.1-1] [MQTT-4.7.1-2] valid filters", async () => {
    for (const version of VERSIONS) {
      const { s } = await pair(version);
      expect(await s.subscribed(GOOD)).toEqual(GOOD.map(() => 0));
    }
  });

  test.each(["a#", "a/#/", "#/", "##", "a/b#", "#a", "++", "a+", "+a/b", "a/b+/c", "a/+b"])(
    "[MQTT-4.7.1-1] [MQTT-4.7.1-2] filter %s → refused, v5 0x8F",
    async (filter) => {
      for (const version of VERSIONS) {
        const { s } = await pair(version);
        s.subscribe(["good", filter]);
        await violated(s, 0x8f);
      }
    },
  );

  test("[MQTT-4.7.3-3] a filter of 65535 bytes is accepted", async () => {
    const { s, p } = await pair(5);
    const filter = `${"f".repeat(65_533)}/#`;
    expect(await s.subscribed(filter)).toEqual([0]);
    await p.published({ topic: filter.slice(0, -2), payload: "x" });
    await s.delivered({ payload: "x" });
  });

  test("[MQTT-4.7.2-1] a leading wildcard does not match topics that begin with $", async () => {
    const broker = await startBroker({}, [
      pluginWith({
        auth_on_publish: ({ topic }) => (topic === "x" ? { ok: { topic: "$own/x" } } : "next"),
      }),
    ]);
    const s = await connectClient(broker, 4, { clientId: "s" });
    await s.subscribed(["#", "+/x", "+/#"]);
    const exact = await connectClient(broker, 4, { clientId: "exact" });
    await exact.subscribed("$own/+");
    const p = await connectClient(broker, 4, { clientId: "p" });
    await p.published({ topic: "x" });
    await exact.delivered({ topic: "$own/x" });
    await s.expectNothing();
  });
});

describe("shared subscriptions", () => {
  test.each([
    "$share",
    "$share/",
    "$share/g",
    "$share//a",
    "$share/+/a",
    "$share/g#/a",
    "$share/g/",
  ])("[MQTT-4.8.2-1] [MQTT-4.8.2-2] %s is no shared filter → refused", async (filter) => {
    for (const version of VERSIONS) {
      const { s } = await pair(version);
      s.subscribe(filter);
      await violated(s, 0x8f, MALFORMED, PROTOCOL_ERROR);
    }
  });

  test("$SHARE and $shared are filters like others", async () => {
    const { s } = await pair(5);
    expect(await s.subscribed(["$SHARE/g/a", "$shared/g/a", "$share/g/a", "$share/g//"])).toEqual([
      0, 0, 0, 0,
    ]);
  });

  test("[MQTT-4.8.2-3] each member gets its granted QoS", async () => {
    const broker = await startBroker();
    const members = [];
    for (const qos of [0, 1, 2]) {
      const member = await connectClient(broker, 5, { clientId: `m${qos}` });
      await member.subscribed("$share/g/a", { qos });
      members.push(member);
    }
    const p = await connectClient(broker, 5, { clientId: "p" });
    await publishSeries(p, 60, { topic: "a", qos: 2 });
    for (const [qos, member] of members.entries()) {
      await member.expectNothing().catch(() => undefined);
      const got = member.received.filter((one) => one.type === "publish");
      expect(got.length).toBeGreaterThan(0);
      expect(got.every((one) => one.qos === qos)).toBe(true);
    }
  });

  test("[MQTT-4.8.2-4] QoS 2 begun with a persistent member is completed with that member", async () => {
    const broker = await startBroker();
    const first = await connectClient(broker, 5, persistent(5, "m"));
    await first.subscribed("$share/g/a", { qos: 2 });
    const p = await connectClient(broker, 5, { clientId: "p" });
    await publishSeries(p, 2, { topic: "a", qos: 2 });
    const one = await first.expect("publish");
    const two = await first.expect("publish");
    first.pubrec(one.packetId);
    await first.expect("pubrel");
    const other = await connectClient(broker, 5, { clientId: "other" });
    await other.subscribed("$share/g/a", { qos: 2 });
    first.cut();
    await waitOffline(broker, "m");
    await other.expectNothing();
    const again = await connectClient(broker, 5, persistent(5, "m"));
    const seen = [await again.next(), await again.next()];
    expect(seen.map((each) => [each.type, each.packetId]).sort()).toEqual([
      ["publish", two.packetId],
      ["pubrel", one.packetId],
    ]);
    await other.expectNothing();
  });

  test("[MQTT-4.8.2-5] QoS 2 begun with a member whose session ends goes to no other", async () => {
    const broker = await startBroker();
    const dying = await connectClient(broker, 5, { clientId: "dying" });
    await dying.subscribed("$share/g/a", { qos: 2 });
    const p = await connectClient(broker, 5, { clientId: "p" });
    await p.published({ topic: "a", payload: "x", qos: 2 });
    await dying.expect("publish", { qos: 2 });
    const other = await connectClient(broker, 5, { clientId: "other" });
    await other.subscribed("$share/g/a", { qos: 2 });
    dying.cut();
    await waitGone(broker, "dying");
    await other.expectNothing();
  });

  test("[MQTT-4.8.2-6] a message refused with a code of 0x80 or more goes to no other member", async () => {
    const broker = await startBroker();
    const one = await connectClient(broker, 5, { clientId: "one" });
    await one.subscribed("$share/g/a", { qos: 2 });
    const p = await connectClient(broker, 5, { clientId: "p" });
    await publishSeries(p, 1, { topic: "a", qos: 1 });
    await publishSeries(p, 2, { topic: "a", qos: 2 }, 2);
    const other = await connectClient(broker, 5, { clientId: "other" });
    await other.subscribed("$share/g/a", { qos: 2 });
    one.puback((await one.expect("publish", { payload: "1" })).packetId, 0x83);
    one.pubrec((await one.expect("publish", { payload: "2" })).packetId, 0x83);
    await one.expectNothing();
    one.cut();
    await waitGone(broker, "one");
    await other.expectNothing();
  });
});

describe("one write, many packets", () => {
  test("[MQTT-3.8.4-5] SUBSCRIBE, PUBLISH and UNSUBSCRIBE take effect in the order sent", async () => {
    const { s } = await pair(5);
    const publish = (payload: string) => encodePublish(5, { topic: "a", payload });
    s.sendTogether(
      publish("before"),
      encodeSubscribe(5, 1, [{ filter: "a" }]),
      publish("between"),
      encodeUnsubscribe(5, 2, ["a"]),
      publish("after"),
    );
    await s.expect("suback", { packetId: 1 });
    await s.expect("publish", { payload: "between" });
    await s.expect("unsuback", { packetId: 2 });
    await s.expectNothing();
  });
});
