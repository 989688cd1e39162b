import { describe, expect, it } from "vitest";
import { tempDir, waitFor } from "../../support/broker.ts";
import { startProcess } from "../../support/process.ts";
import { linked, PLAIN, publish, scripted } from "./scripted-remote.ts";
import { bridged, bridgeTo, client, show, state } from "./world.ts";

/** What a bridge promises about messages, against a remote that answers when the test says. */

function payloads(messages: readonly { payload?: unknown }[]): string[] {
  return messages.map(({ payload }) => String(payload));
}

function numbers(from: number, to: number): string[] {
  return Array.from({ length: to - from + 1 }, (_, i) => `m${from + i}`);
}

describe("incoming messages of a bridge", () => {
  it("at QoS 1 are acknowledged on the connection that they came by (B-22)", async () => {
    const { remote, broker, link } = await linked({ "topic.1": "a in 1" }, 1);
    const near = await client(broker.port(), "a");
    publish(link, { topic: "a", qos: 1, messageId: 3, payload: "first" });
    link.close();
    const again = await remote.next();
    await again.accept();
    await again.grant();
    publish(again, { topic: "a", qos: 1, messageId: 20, payload: "second" });
    expect(await again.next("puback")).toMatchObject({ messageId: 20 });
    expect(again.all("puback")).toHaveLength(1);
    await waitFor("the message", () => near.payloads().includes("second"));
  });

  it("at QoS 2 come once, however often either side repeats itself (B-23)", async () => {
    const { remote, broker, link } = await linked({ "topic.1": "a in 2" }, 1);
    const near = await client(broker.port(), "a", { qos: 1 });
    publish(link, { topic: "a", qos: 2, messageId: 4 });
    await link.next("pubrec");
    link.close();
    const second = await remote.next();
    await second.accept(0, true);
    await second.grant();
    publish(second, { topic: "a", qos: 2, messageId: 4, dup: true });
    expect(await second.next("pubrec")).toMatchObject({ messageId: 4 });
    second.send({ cmd: "pubrel", messageId: 4 });
    await second.next("pubcomp");
    second.close();
    const third = await remote.next();
    await third.accept(0, true);
    await third.grant();
    // PUBCOMP was lost: the remote repeats PUBREL, and later uses the identifier again.
    third.send({ cmd: "pubrel", messageId: 4 });
    expect(await third.next("pubcomp")).toMatchObject({ messageId: 4 });
    publish(third, { topic: "a", qos: 2, messageId: 4, payload: "another" });
    await third.next("pubrec");
    await near.got(2);
    expect(near.payloads()).toEqual(["p", "another"]);
  });

  it("are not taken for known by a remote that lost its session", async () => {
    const { remote, broker, link } = await linked({ "topic.1": "a in 2" }, 1);
    const near = await client(broker.port(), "a", { qos: 1 });
    publish(link, { topic: "a", qos: 2, messageId: 4, payload: "one" });
    await link.next("pubrec");
    link.close();
    const again = await remote.next();
    await again.accept(0, false);
    await again.grant();
    publish(again, { topic: "a", qos: 2, messageId: 4, payload: "two" });
    await again.next("pubrec");
    await near.got(2);
    expect(near.payloads()).toEqual(["one", "two"]);
  });

  it("may come right behind CONNACK", async () => {
    const remote = await scripted();
    const broker = await bridged(bridgeTo(remote.port, { ...PLAIN, "topic.1": "a in 1" }));
    const near = await client(broker.port(), "a", { qos: 1 });
    const link = await remote.next();
    await link.next("connect");
    link.sendTogether(
      { cmd: "connack", sessionPresent: true, returnCode: 0 },
      { cmd: "publish", topic: "a", payload: "1", qos: 1, messageId: 1, dup: true, retain: false },
      { cmd: "publish", topic: "a", payload: "2", qos: 1, messageId: 2, dup: false, retain: false },
    );
    await near.got(2);
    expect(near.payloads()).toEqual(["1", "2"]);
    await link.grant();
    await waitFor("both acknowledged", () => link.all("puback").length === 2);
  });

  it("that get several topics here do not leave by a rule for one of them", async () => {
    const { broker, link } = await linked(
      { "topic.1": "a in 1", "topic.2": "a in 1 copy", "topic.3": "copy/* out", "topic.4": "end" },
      1,
    );
    const near = await client(broker.port(), "#", { qos: 1 });
    publish(link, { topic: "a", qos: 1, messageId: 1 });
    publish(link, { topic: "a", qos: 2, messageId: 2 });
    await near.got(4);
    await near.publish("end", "end");
    await waitFor("the end", () => link.all("publish").length > 0);
    expect(link.all("publish").map(({ topic }) => topic)).toEqual(["end"]);
  });

  it("that no rule maps are acknowledged and go nowhere", async () => {
    const { broker, link } = await linked({ "topic.1": "a in 2" }, 1);
    const near = await client(broker.port(), "#", { qos: 1 });
    publish(link, { topic: "b", qos: 1, messageId: 1 });
    expect(await link.next("puback")).toMatchObject({ messageId: 1 });
    publish(link, { topic: "b", qos: 2, messageId: 2 });
    expect(await link.next("pubrec")).toMatchObject({ messageId: 2 });
    link.send({ cmd: "pubrel", messageId: 2 });
    expect(await link.next("pubcomp")).toMatchObject({ messageId: 2 });
    publish(link, { topic: "a", payload: "end" });
    await near.got(1);
    expect(near.payloads()).toEqual(["end"]);
  });
});

describe("outgoing messages of a bridge", () => {
  it("at QoS 1 are repeated with the same identifier until they are acknowledged (B-24)", async () => {
    const { remote, broker, link } = await linked({ "topic.1": "a 1", retry_interval: "1" });
    const near = await client(broker.port());
    await near.publish("a", "x", { qos: 1 });
    const { messageId } = await link.next("publish");
    link.close();
    const again = await remote.next();
    await again.accept(0, true);
    expect(await again.next("publish")).toMatchObject({ messageId, dup: true });
    expect(await again.next("publish")).toMatchObject({ messageId, dup: true });
    again.send({ cmd: "puback", messageId: messageId ?? 0 });
    await waitFor("nothing is left", async () => (await show(broker)).unacknowledged === "0");
    again.close();
    const last = await remote.next();
    await last.accept(0, true);
    await state(broker, "connected");
    await near.publish("a", "y", { qos: 1 });
    expect(payloads([await last.next("publish")])).toEqual(["y"]);
  });

  it("at QoS 2 go on where they were (B-25)", async () => {
    const { remote, broker, link } = await linked({ "topic.1": "a 2" });
    const near = await client(broker.port());
    await near.publish("a", "x", { qos: 1 });
    const messageId = (await link.next("publish")).messageId ?? 0;
    link.close();
    const second = await remote.next();
    await second.accept(0, true);
    expect(await second.next("publish")).toMatchObject({ messageId, dup: true, qos: 2 });
    second.send({ cmd: "pubrec", messageId });
    await second.next("pubrel");
    second.close();
    const third = await remote.next();
    await third.accept(0, true);
    expect(await third.next("pubrel")).toMatchObject({ messageId });
    third.send({ cmd: "pubcomp", messageId });
    await waitFor("nothing is left", async () => (await show(broker)).unacknowledged === "0");
  });

  it("wait in a buffer of the size that is set; more are dropped and counted (B-26)", async () => {
    const remote = await scripted();
    const broker = await bridged(
      bridgeTo(remote.port, {
        ...PLAIN,
        "topic.1": "a 1",
        max_outgoing_buffered_messages: "10",
      }),
    );
    const near = await client(broker.port());
    for (const payload of numbers(1, 5)) await near.publish("a", payload, { qos: 1 });
    expect(await show(broker)).toMatchObject({
      "buffer size": "5",
      "buffer max": "10",
      "buffer dropped msgs": "0",
    });
    const link = await remote.next();
    await link.next("connect");
    for (const payload of numbers(6, 12)) await near.publish("a", payload, { qos: 1 });
    expect(await show(broker)).toMatchObject({ "buffer size": "10", "buffer dropped msgs": "2" });
    expect(broker.metrics().vmq_bridge_dropped_msgs).toBe(2);
    link.send({ cmd: "connack", sessionPresent: false, returnCode: 0 });
    await waitFor("ten messages", () => link.all("publish").length >= 10);
    await near.publish("a", "m13", { qos: 1 });
    await waitFor("the live message", () => link.all("publish").length >= 11);
    expect(payloads(link.all("publish"))).toEqual([...numbers(1, 10), "m13"]);
    expect(await show(broker)).toMatchObject({ "buffer size": "0", "buffer dropped msgs": "2" });
  });

  it("that were sent already take no place in the buffer", async () => {
    const { remote, broker, link } = await linked({
      "topic.1": "a 1",
      max_outgoing_buffered_messages: "3",
    });
    const near = await client(broker.port());
    for (const payload of numbers(1, 2)) await near.publish("a", payload, { qos: 1 });
    await waitFor("two messages", () => link.all("publish").length === 2);
    link.close();
    await remote.next().then((next) => next.next("connect"));
    for (const payload of numbers(3, 6)) await near.publish("a", payload, { qos: 1 });
    expect((await show(broker))["buffer dropped msgs"]).toBe("1");
    const connection = remote.connections.at(-1);
    connection?.send({ cmd: "connack", sessionPresent: true, returnCode: 0 });
    await waitFor("five messages", () => connection?.all("publish").length === 5);
    expect(payloads(connection?.all("publish") ?? [])).toEqual(numbers(1, 5));
  });

  it("at QoS 0 wait in the same buffer", async () => {
    const remote = await scripted();
    const broker = await bridged(
      bridgeTo(remote.port, { ...PLAIN, "topic.1": "a", max_outgoing_buffered_messages: "3" }),
    );
    const near = await client(broker.port());
    for (const payload of numbers(1, 5)) await near.publish("a", payload, { qos: 1 });
    expect(await show(broker)).toMatchObject({ "buffer size": "3", "buffer dropped msgs": "2" });
    const link = await remote.next();
    await link.accept();
    await waitFor("three messages", () => link.all("publish").length >= 3);
    expect(payloads(link.all("publish"))).toEqual(numbers(1, 3));
  });

  it("are dropped and counted where there is no buffer (B-27)", async () => {
    const remote = await scripted();
    const broker = await bridged(bridgeTo(remote.port, { ...PLAIN, "topic.1": "a 1" }));
    const near = await client(broker.port());
    for (const payload of numbers(1, 5)) await near.publish("a", payload, { qos: 1 });
    expect(await show(broker)).toMatchObject({ "buffer size": "0", "buffer dropped msgs": "5" });
    const link = await remote.next();
    await link.accept();
    await state(broker, "connected");
    await near.publish("a", "live", { qos: 1 });
    expect(payloads([await link.next("publish")])).toEqual(["live"]);
  });

  it("leave as far as outgoing_batch_size lets them, new ones last (B-28)", async () => {
    const remote = await scripted();
    const broker = await bridged(
      bridgeTo(remote.port, {
        ...PLAIN,
        "topic.1": "a 1",
        max_outgoing_buffered_messages: "100",
        outgoing_batch_size: "10",
      }),
    );
    const near = await client(broker.port());
    for (const payload of numbers(1, 30)) await near.publish("a", payload, { qos: 1 });
    const link = await remote.next();
    await link.accept();
    await link.next("publish");
    await near.publish("a", "m31", { qos: 1 });
    let most = 0;
    for (let acknowledged = 0; acknowledged < 31; acknowledged++) {
      const sent = await waitFor("the next one", () => link.all("publish")[acknowledged]);
      most = Math.max(most, link.all("publish").length - acknowledged);
      link.send({ cmd: "puback", messageId: sent.messageId ?? 0 });
    }
    expect(most).toBe(10);
    expect(payloads(link.all("publish"))).toEqual(numbers(1, 31));
  });

  it("have a part of the buffer less with pubrel_queue_ratio (B-31)", async () => {
    const { broker } = await linked({
      max_outgoing_buffered_messages: "100",
      pubrel_queue_ratio: "10",
    });
    expect((await show(broker))["buffer max"]).toBe("90");
  });

  for (const qos of ["0", "1", "2"]) {
    it(`at QoS ${qos} survive a restart in a persistent queue, in order (B-29)`, async () => {
      const dataDir = tempDir();
      const remote = await scripted();
      const settings = bridgeTo(remote.port, {
        ...PLAIN,
        "topic.1": `a ${qos}`,
        persistent_queue: "on",
        max_outgoing_buffered_messages: "100",
      });
      const first = await bridged(settings, { dataDir });
      const near = await client(first.port());
      for (const payload of numbers(1, 50)) await near.publish("a", payload, { qos: 1 });
      expect((await show(first))["buffer size"]).toBe("50");
      await near.mqtt.endAsync(true);
      await first.close();
      const second = await bridged(settings, { dataDir });
      const link = await waitFor("a connection", async () => {
        const next = await remote.next();
        await next.next("connect").catch(() => undefined);
        return next.isClosed ? undefined : next;
      });
      link.send({ cmd: "connack", sessionPresent: false, returnCode: 0 });
      let [answered, released] = [0, 0];
      await waitFor("50 messages", () => {
        const [sent, releases] = [link.all("publish"), link.all("pubrel")];
        for (const { messageId = 0 } of sent.slice(answered)) {
          if (qos !== "0") link.send({ cmd: qos === "1" ? "puback" : "pubrec", messageId });
        }
        for (const { messageId = 0 } of releases.slice(released)) {
          link.send({ cmd: "pubcomp", messageId });
        }
        [answered, released] = [sent.length, releases.length];
        return sent.length >= 50;
      });
      expect(payloads(link.all("publish"))).toEqual(numbers(1, 50));
      // Nothing is left of those that are done.
      await waitFor("an empty queue", async () => {
        const row = await show(second);
        return row["buffer size"] === "0" && (qos === "2" || row.unacknowledged === "0");
      });
      await second.control("bridge", ["stop"]);
      const left = second.sessions().find(({ client_id }) => client_id === "bridge.tcp.br0");
      if (qos !== "2") expect(left?.queue_size).toBe(0);
    });
  }

  it("at QoS 0 are gone after a restart without a persistent queue", async () => {
    const dataDir = tempDir();
    const remote = await scripted();
    const settings = bridgeTo(remote.port, {
      ...PLAIN,
      "topic.1": "a",
      "topic.2": "b 1",
      max_outgoing_buffered_messages: "100",
    });
    const first = await bridged(settings, { dataDir });
    const near = await client(first.port());
    await near.publish("a", "zero", { qos: 1 });
    await near.publish("b", "one", { qos: 1 });
    await near.mqtt.endAsync(true);
    await first.close();
    const second = await bridged(settings, { dataDir });
    expect((await show(second))["buffer size"]).toBe("1");
  });

  it("sent and not acknowledged are sent again after kill -9 (B-30)", async () => {
    const remote = await scripted();
    const broker = await startProcess({
      settings: bridgeTo(remote.port, { ...PLAIN, "topic.1": "a 1" }),
    });
    const link = await remote.next();
    await link.accept();
    await waitFor("connected", async () =>
      (await broker.control("bridge", "show")).includes("| connected"),
    );
    const near = await client(broker.port);
    for (const payload of numbers(1, 20)) await near.publish("a", payload, { qos: 1 });
    await waitFor("20 messages", () => link.all("publish").length >= 20);
    await near.mqtt.endAsync(true);
    await broker.kill();
    await broker.start();
    const again = await remote.next();
    await again.accept(0, true);
    await waitFor("20 messages again", () => again.all("publish").length >= 20);
    expect(payloads(again.all("publish"))).toEqual(numbers(1, 20));
  }, 60_000);

  it("are counted when they are sent first, by QoS, as those that come in (B-46)", async () => {
    const { remote, broker, link } = await linked({ "topic.1": "a 1", "topic.2": "b in 0" }, 1);
    const near = await client(broker.port(), "b");
    for (const payload of numbers(1, 3)) await near.publish("a", payload, { qos: 1 });
    publish(link, { topic: "b" });
    publish(link, { topic: "b" });
    await near.got(2);
    await waitFor("3 messages", () => link.all("publish").length >= 3);
    link.close();
    const again = await remote.next();
    await again.accept(0, true);
    await again.grant();
    await waitFor("3 messages again", () => again.all("publish").length >= 3);
    expect(broker.metrics()).toMatchObject({
      br0_vmq_bridge_publish_out_1: 3,
      br0_vmq_bridge_publish_in_0: 2,
      br0_vmq_bridge_publish_out_0: 0,
    });
    expect(broker.metricSeries()).toMatchObject({
      'vmq_bridge_publish_out{bridge="br0",transport="tcp",qos="1"}': 3,
      'vmq_bridge_connects{bridge="br0",transport="tcp"}': 2,
    });
  });

  it("respect what a v5 remote says it can do", async () => {
    const remote = await scripted();
    const broker = await bridged(
      bridgeTo(remote.port, { mqtt_version: "5", "topic.1": "a 2 retain" }),
    );
    const link = await remote.next();
    await link.accept(0, false, {
      maximumQoS: 1,
      retainAvailable: false,
      receiveMaximum: 2,
      maximumPacketSize: 150,
    });
    await state(broker, "connected");
    const near = await client(broker.port());
    await near.publish("a", "kept", { qos: 2, retain: true });
    expect(await link.next("publish")).toMatchObject({ qos: 1, retain: false });
    // Fits alone, but not with the id of this broker.
    await near.publish("a", "x".repeat(100), { qos: 1 });
    for (const payload of ["2", "3"]) await near.publish("a", payload, { qos: 1 });
    await waitFor("the window is full", () => link.all("publish").length >= 2);
    expect((await show(broker))["buffer size"]).toBe("1");
    for (const { messageId = 0 } of link.all("publish")) link.send({ cmd: "puback", messageId });
    await waitFor("the last", () => link.all("publish").length >= 3);
    expect(payloads(link.all("publish"))).toEqual(["kept", "2", "3"]);
    expect((await show(broker))["buffer dropped msgs"]).toBe("1");
  });

  it("are acknowledged by a v5 remote that has no subscribers, or refuses them, which is counted", async () => {
    const { broker, link } = await linked({
      mqtt_version: "5",
      "topic.1": "a 1",
      "topic.2": "b 2",
    });
    const near = await client(broker.port());
    for (const [topic, cmd] of [
      ["a", "puback"],
      ["b", "pubrec"],
    ] as const) {
      for (const reasonCode of [0x10, 0x87]) {
        await near.publish(topic, `${topic} ${reasonCode}`, { qos: 1 });
        const { messageId = 0 } = await link.next("publish");
        link.send({ cmd, messageId, reasonCode });
        if (cmd !== "pubrec" || reasonCode === 0x87) continue;
        expect(await link.next("pubrel")).toMatchObject({ messageId });
        link.send({ cmd: "pubcomp", messageId });
      }
    }
    await waitFor("all is answered", async () => (await show(broker)).unacknowledged === "0");
    expect(await show(broker)).toMatchObject({ state: "connected", "buffer dropped msgs": "2" });
    expect(broker.metrics().vmq_bridge_dropped_msgs).toBe(2);
    expect(link.isClosed).toBe(false);
  });
});
