import { hostname } from "node:os";
import { describe, expect, it } from "vitest";
import { waitFor } from "../../support/broker.ts";
import { linked, PLAIN, publish, ScriptedRemote, scripted } from "./scripted-remote.ts";
import { bridged, bridgeTo, client, show, state } from "./world.ts";

/** The checks of a bridge against a remote broker that does what the test says. */

describe("the connection of a bridge", () => {
  it("is not made while the plugin is off, and its commands are not there (B-01)", async () => {
    const remote = await scripted();
    const broker = await bridged({ ...bridgeTo(remote.port), "plugins.vmq_bridge": "off" });
    const { exit } = await broker.control("bridge", ["show"]);
    expect(exit).toBe(1);
    expect(remote.connections).toHaveLength(0);
  });

  it("begins with CONNECT: keep-alive 60, the configured id, a session to keep, user and password (B-01, B-04)", async () => {
    const { connect } = await linked({ client_id: "me", username: "u", password: "secret" });
    expect(connect).toMatchObject({
      clientId: "me",
      keepalive: 60,
      clean: false,
      username: "u",
      protocolVersion: 4,
    });
    expect(String((connect as { password?: unknown }).password)).toBe("secret");
  });

  it("has the id of host and bridge when it is auto (B-02)", async () => {
    const { connect } = await linked({});
    expect(connect).toMatchObject({ clientId: `${hostname()}.br0` });
  });

  for (const [version, isPrivate, level] of [
    ["3", "on", 131],
    ["4", "on", 132],
    ["5", "on", 5],
    ["3", "off", 3],
    ["4", "off", 4],
    ["5", "off", 5],
  ] as const) {
    it(`has level ${level} with version ${version} and try_private ${isPrivate} (B-03)`, async () => {
      const remote = await scripted();
      await bridged(bridgeTo(remote.port, { mqtt_version: version, try_private: isPrivate }));
      const link = await remote.next();
      await link.accept();
      expect(link.level).toBe(level);
    });
  }

  it("falls back to the plain level when the private one is refused (B-36)", async () => {
    const remote = await scripted();
    const broker = await bridged(
      bridgeTo(remote.port, { mqtt_version: "4", restart_timeout: "60" }),
    );
    const first = await remote.next();
    await first.accept(1);
    const second = await remote.next();
    await second.accept();
    expect([first.level, second.level]).toEqual([132, 4]);
    await state(broker, "connected");
  });

  it("falls back to the plain level when a broker closes without a word (B-36)", async () => {
    const remote = await scripted();
    await bridged(bridgeTo(remote.port, { mqtt_version: "3" }));
    const first = await remote.next();
    await first.next("connect");
    first.close();
    const second = await remote.next();
    await second.next("connect");
    expect([first.level, second.level]).toEqual([131, 3]);
  });

  it("is tried again when the remote accepts and never answers (B-32)", async () => {
    const remote = await scripted();
    const broker = await bridged(bridgeTo(remote.port, { ...PLAIN, connect_timeout: "1" }));
    await remote.next();
    expect((await show(broker)).state).toBe("connecting");
    const second = await remote.next();
    await second.accept();
    await state(broker, "connected");
  });

  it("is given up when SUBSCRIBE is not answered", async () => {
    const remote = await scripted();
    const broker = await bridged(
      bridgeTo(remote.port, { ...PLAIN, connect_timeout: "1", "topic.1": "a in" }),
    );
    const link = await remote.next();
    await link.accept();
    await waitFor("the connection is closed", () => link.isClosed);
    expect((await show(broker)).remark).toContain("SUBSCRIBE without an answer");
    await (await remote.next()).accept();
  });

  it("ends when PINGREQ is not answered (B-33)", async () => {
    const remote = await scripted();
    const broker = await bridged(bridgeTo(remote.port, { ...PLAIN, keepalive_interval: "1" }));
    const link = await remote.next();
    await link.accept();
    await link.next("pingreq");
    await waitFor("the connection is closed", () => link.isClosed);
    expect((await show(broker)).remark).toContain("Keepalive timeout");
    await remote.next();
  });

  it("is not tried in a hurry after a refusal, which is shown (B-34)", async () => {
    const remote = await scripted();
    const broker = await bridged(bridgeTo(remote.port, { ...PLAIN, restart_timeout: "2" }));
    const link = await remote.next();
    const before = performance.now();
    await link.accept(5);
    await state(broker, "waiting");
    expect((await show(broker)).remark).toContain("Not authorized");
    await remote.next();
    // At least restart_timeout, whatever the machine does.
    expect(performance.now() - before).toBeGreaterThan(1_900);
  });

  it("goes on without a filter that is refused, and shows it (B-35)", async () => {
    const remote = await scripted();
    const broker = await bridged(
      bridgeTo(remote.port, { ...PLAIN, "topic.1": "bad in 1", "topic.2": "good in 1" }),
    );
    const link = await remote.next();
    await link.accept();
    await link.grant(0x80);
    await link.grant();
    await state(broker, "connected");
    expect((await show(broker)).remark).toContain("refused: bad");
    const near = await client(broker.port(), "#");
    publish(link, { topic: "good", payload: "x" });
    await near.got(1);
  });

  it("ends with DISCONNECT, and only that of the bridge that is changed or removed (B-45)", async () => {
    const remote = await scripted();
    const broker = await bridged({
      ...bridgeTo(remote.port, { ...PLAIN, client_id: "a" }, "a"),
      ...bridgeTo(remote.port, { ...PLAIN, client_id: "b" }, "b"),
    });
    const links = [await remote.next(), await remote.next()];
    const names = await Promise.all(links.map((link) => link.accept()));
    await state(broker, "connected", "a");
    await state(broker, "connected", "b");
    const linkOf = (id: string) =>
      links[names.findIndex((connect) => "clientId" in connect && connect.clientId === id)];
    expect(await broker.control("bridge", ["set", "tcp.a.keepalive_interval=30"])).toMatchObject({
      exit: 0,
    });
    await linkOf("a")?.next("disconnect");
    const again = await remote.next();
    expect(await again.accept()).toMatchObject({ clientId: "a", keepalive: 30 });
    expect(linkOf("b")?.isClosed).toBe(false);
    await broker.control("bridge", ["remove", "--name=b"]);
    await linkOf("b")?.next("disconnect");
    expect(await broker.control("bridge", ["show", "--name=b"])).toMatchObject({ exit: 1 });
    expect(again.isClosed).toBe(false);
  });

  it("is made over IPv6 (B-41)", async () => {
    const remote = await new ScriptedRemote().start("::1");
    const broker = await bridged({
      ...bridgeTo(remote.port, { ...PLAIN, inet_version: "inet6" }),
      "vmq_bridge.tcp.br0": `[::1]:${remote.port}`,
    });
    await (await remote.next()).accept();
    await state(broker, "connected");
  });
});

describe("the topic rules of a bridge", () => {
  it("subscribe with the remote prefix and publish with the local one (B-05)", async () => {
    const remote = await scripted();
    const broker = await bridged(
      bridgeTo(remote.port, {
        ...PLAIN,
        "topic.1": "bridge-in in 0 local-in-prefix remote-in-prefix",
      }),
    );
    const link = await remote.next();
    await link.accept();
    const { subscriptions } = await link.grant();
    expect(subscriptions).toEqual([
      expect.objectContaining({ topic: "remote-in-prefix/bridge-in", qos: 0 }),
    ]);
    await state(broker, "connected");
    const near = await client(broker.port(), "local-in-prefix/bridge-in");
    publish(link, { topic: "remote-in-prefix/bridge-in", payload: "x" });
    expect((await near.got(1))[0]).toMatchObject({ payload: "x", qos: 0 });
  });

  it("forward with the remote prefix (B-06), with and without rules in between (B-12)", async () => {
    const { broker, link } = await linked({
      "topic.1": "bridge-out out 0 local-out-prefix remote-out-prefix",
      "topic.7": "seven",
    });
    const near = await client(broker.port());
    await near.publish("local-out-prefix/bridge-out", "x");
    expect(await link.next("publish")).toMatchObject({
      topic: "remote-out-prefix/bridge-out",
      qos: 0,
    });
    await near.publish("seven", "y");
    expect(await link.next("publish")).toMatchObject({ topic: "seven" });
  });

  it("say * for # and go both ways (B-07); what comes in does not go back (B-20)", async () => {
    const remote = await scripted();
    const broker = await bridged(bridgeTo(remote.port, { ...PLAIN, "topic.1": "bridge/* both 1" }));
    const link = await remote.next();
    await link.accept();
    expect((await link.grant()).subscriptions).toEqual([
      expect.objectContaining({ topic: "bridge/#", qos: 1 }),
    ]);
    await state(broker, "connected");
    const near = await client(broker.port(), "bridge/#");
    publish(link, { topic: "bridge/a", payload: "theirs", qos: 1, messageId: 5 });
    await near.got(1);
    await near.publish("bridge/a", "ours", { qos: 1 });
    await link.next("puback");
    // The first PUBLISH is ours: theirs was not sent back.
    expect(await link.next("publish")).toMatchObject({ payload: Buffer.from("ours") });
  });

  it("forward with the QoS of the rule, whatever the message had (B-13)", async () => {
    const { broker, link } = await linked({ "topic.1": "a 1", "topic.2": "b 2", "topic.3": "c" });
    const near = await client(broker.port());
    for (const [topic, qos, wanted] of [
      ["a", 0, 1],
      ["a", 2, 1],
      ["b", 0, 2],
      ["c", 2, 0],
    ] as const) {
      await near.publish(topic, "x", { qos });
      const sent = await link.next("publish");
      expect(sent).toMatchObject({ topic, qos: wanted });
      if (wanted === 1) link.send({ cmd: "puback", messageId: sent.messageId ?? 0 });
    }
  });

  it("forward once where several of them give the same topic, with the highest QoS (B-14)", async () => {
    const { broker, link } = await linked({
      "topic.1": "a/* 0",
      "topic.2": "a/b 1",
      "topic.3": "# 0 $empty p",
    });
    const near = await client(broker.port());
    await near.publish("a/b", "x");
    await near.publish("a/b", "y");
    await waitFor("four messages", () => link.all("publish").length >= 4);
    const sent = link.all("publish").map(({ topic, qos, payload }) => `${topic} ${qos} ${payload}`);
    expect(sent.sort()).toEqual(["a/b 1 x", "a/b 1 y", "p/a/b 0 x", "p/a/b 0 y"]);
  });

  it("put the prefix behind $share (B-16), and share among bridges (B-15)", async () => {
    const remote = await scripted();
    const rule = { ...PLAIN, "topic.1": "$share/g/x out 0 p q" };
    const broker = await bridged({
      ...bridgeTo(remote.port, { ...rule, client_id: "a" }, "a"),
      ...bridgeTo(remote.port, { ...rule, client_id: "b" }, "b"),
    });
    const links = [await remote.next(), await remote.next()];
    for (const link of links) await link.accept();
    await state(broker, "connected", "a");
    await state(broker, "connected", "b");
    const near = await client(broker.port());
    for (let i = 0; i < 100; i++) await near.publish("p/x", String(i));
    const all = () => links.flatMap((link) => link.all("publish"));
    await waitFor("100 messages", () => all().length >= 100);
    expect(
      all()
        .map(({ payload }) => String(payload))
        .sort(),
    ).toEqual(Array.from({ length: 100 }, (_, i) => String(i)).sort());
    expect(new Set(all().map(({ topic }) => topic))).toEqual(new Set(["q/x"]));
    for (const link of links) expect(link.all("publish").length).toBeGreaterThan(0);
  });

  it("ask a v5 broker for Retain As Published and No Local (B-19)", async () => {
    const remote = await scripted();
    const broker = await bridged(
      bridgeTo(remote.port, {
        mqtt_version: "5",
        "topic.1": "a in 1 retain",
        loop_protection: "off",
      }),
    );
    // Retained messages come with the first connection, not again with each one.
    for (const rh of [0, 1]) {
      const link = await remote.next();
      await link.accept(0, rh === 1);
      expect((await link.grant()).subscriptions).toEqual([
        expect.objectContaining({ topic: "a", qos: 1, nl: true, rap: true, rh }),
      ]);
      await state(broker, "connected");
      link.close();
    }
  });

  it("keep the RETAIN flag of what comes in only when they say so (B-18)", async () => {
    const { broker, link } = await linked({ "topic.1": "a in 1 retain", "topic.2": "b in 1" }, 2);
    publish(link, { topic: "a", retain: true, qos: 1, messageId: 1 });
    publish(link, { topic: "b", retain: true, qos: 1, messageId: 2 });
    await link.next("puback");
    await link.next("puback");
    expect(broker.retained().map(({ topic }) => topic)).toEqual(expect.arrayContaining(["a"]));
    expect(broker.retained().map(({ topic }) => topic)).not.toContain("b");
    const late = await client(broker.port(), "a");
    expect((await late.got(1))[0]).toMatchObject({ retain: true });
  });

  it("bring the remote $SYS under a prefix, and are skipped without one (B-44)", async () => {
    const remote = await scripted();
    const broker = await bridged(
      bridgeTo(remote.port, {
        ...PLAIN,
        "topic.1": "$SYS/* in 0 remote $empty",
        "topic.2": "$SYS/x in",
      }),
    );
    const link = await remote.next();
    await link.accept();
    expect((await link.grant()).subscriptions).toMatchObject([{ topic: "$SYS/#" }]);
    await state(broker, "connected");
    expect((await show(broker)).remark).toContain("1 rules skipped");
    const near = await client(broker.port(), "remote/#");
    publish(link, { topic: "$SYS/uptime", payload: "5" });
    expect((await near.got(1))[0]).toMatchObject({ topic: "remote/$SYS/uptime" });
    expect(link.all("subscribe")).toHaveLength(1);
  });

  it("stay in the mountpoint of the bridge (B-42)", async () => {
    const remote = await scripted();
    const broker = await bridged({
      ...bridgeTo(remote.port, {
        ...PLAIN,
        mountpoint: "mp1",
        "topic.1": "o/* out",
        "topic.2": "i/* in",
      }),
      "listener.tcp.other": "127.0.0.1:0",
      "listener.tcp.other.mountpoint": "mp1",
    });
    const link = await remote.next();
    await link.accept();
    await link.grant();
    await state(broker, "connected");
    const inside = await client(broker.port("tcp", "other"), "i/#");
    const outside = await client(broker.port("tcp", "default"), "i/#");
    publish(link, { topic: "i/x", payload: "1" });
    await inside.got(1);
    await outside.publish("o/x", "outside", { qos: 1 });
    await inside.publish("o/x", "inside", { qos: 1 });
    expect(await link.next("publish")).toMatchObject({ payload: Buffer.from("inside") });
    expect(outside.received).toEqual([]);
  });

  it("publish a message under every topic that they give it, and acknowledge it once", async () => {
    const { broker, link } = await linked(
      { "topic.1": "a in 2", "topic.2": "a in 2 copy", "topic.3": "a in 1 third" },
      1,
    );
    const near = await client(broker.port(), "#", { qos: 1 });
    publish(link, { topic: "a", qos: 1, messageId: 7, payload: "one" });
    expect(await link.next("puback")).toMatchObject({ messageId: 7 });
    publish(link, { topic: "a", qos: 2, messageId: 8, payload: "two" });
    expect(await link.next("pubrec")).toMatchObject({ messageId: 8 });
    publish(link, { topic: "a", qos: 2, messageId: 8, payload: "two", dup: true });
    expect(await link.next("pubrec")).toMatchObject({ messageId: 8 });
    link.send({ cmd: "pubrel", messageId: 8 });
    expect(await link.next("pubcomp")).toMatchObject({ messageId: 8 });
    publish(link, { topic: "a", payload: "end" });
    await near.got(9);
    for (const topic of ["a", "copy/a", "third/a"]) {
      expect(near.payloads(topic)).toEqual(["one", "two", "end"]);
    }
  });
});
