import { describe, expect, test } from "vitest";
import { startBroker, waitFor } from "../support/broker.ts";
import { watch } from "../support/pair.ts";
import { pluginWith, recordingPlugin, refusing } from "../support/plugins.ts";
import {
  bytes,
  connectClient,
  encodePublish,
  openClient,
  type Version,
} from "../support/raw-client.ts";

/** Checks M-35 to M-40: what a client may publish. */

const VERSIONS: readonly Version[] = [3, 4, 5];

describe("M-35 to M-37 publishes that are not allowed", () => {
  const judge = refusing("auth_on_publish", (args) => "topic" in args && args.topic === "no");

  /** Rows of table 7.2: what a client sees for each QoS. */
  const ROWS: readonly [Version, number, number, "dropped" | "puback" | "pubrec" | "closed"][] = [
    [3, 3, 0, "dropped"],
    [3, 3, 1, "puback"],
    [3, 3, 2, "pubrec"],
    [3, 131, 0, "dropped"],
    [3, 131, 1, "puback"],
    [3, 131, 2, "pubrec"],
    [4, 4, 0, "closed"],
    [4, 4, 1, "closed"],
    [4, 4, 2, "closed"],
    [4, 132, 0, "closed"],
    [4, 132, 1, "closed"],
    [4, 132, 2, "closed"],
    [5, 5, 0, "dropped"],
    [5, 5, 1, "puback"],
    [5, 5, 2, "pubrec"],
  ];

  test.each(ROWS)("M-35 v%i (level %i) QoS %i → %s", async (version, level, qos, answer) => {
    const allowed = { "listener.tcp.default.allowed_protocol_versions": "3,4,5,131,132" };
    const broker = await startBroker(allowed, [judge]);
    const watcher = await watch(broker);
    const client = await connectClient(broker, version, {
      clientId: "p",
      level,
      will: { topic: "will", payload: "w" },
    });
    client.publish({ topic: "no", payload: "x", qos, ...(qos > 0 ? { packetId: 9 } : {}) });
    if (answer === "closed") {
      await client.closed();
      // The will is published when the connection is closed for it.
      await watcher.delivered({ topic: "will" });
    } else if (answer !== "dropped") {
      await client.expect(answer, { packetId: 9, ...(version === 5 ? { code: 0x87 } : {}) });
    }
    if (answer !== "closed") await client.expectNothing();
    await watcher.expectNothing();
    expect(broker.metrics().mqtt_publish_auth_error).toBe(1);
  });

  test.each([0, 1, 2])(
    "M-36 disconnect_on_unauthorized_publish_v3: v3 QoS %i → closed",
    async (qos) => {
      const broker = await startBroker({ disconnect_on_unauthorized_publish_v3: "on" }, [judge]);
      const client = await connectClient(broker, 3, { clientId: "p" });
      client.publish({ topic: "no", qos });
      await client.closed();
      // MQTT 5 is not concerned.
      const v5 = await connectClient(broker, 5, { clientId: "p5" });
      v5.publish({ topic: "no", qos });
      if (qos > 0) await v5.expect(qos === 1 ? "puback" : "pubrec", { code: 0x87 });
      await v5.expectNothing();
    },
  );

  test("M-37 code 0x90 and text from the hook → in PUBACK and PUBREC", async () => {
    const error = { reason_code: "topic_name_invalid", reason_string: "Invalid topic name" };
    const broker = await startBroker({}, [pluginWith({ auth_on_publish_m5: () => ({ error }) })]);
    const client = await connectClient(broker, 5, { clientId: "p" });
    const answer = { code: 0x90, exactProperties: { reasonString: "Invalid topic name" } };
    client.publish({ topic: "t", qos: 1, packetId: 1 });
    await client.expect("puback", { packetId: 1, ...answer });
    client.publish({ topic: "t", qos: 2, packetId: 2 });
    await client.expect("pubrec", { packetId: 2, ...answer });
    client.publish({ topic: "t", qos: 0 });
    await client.expectNothing();
    // PUBREC with an error ends the exchange: the id is free.
    client.pubrel(2);
    await client.expect("pubcomp", { packetId: 2, code: 0x92 });
  });

  test("M-37 Request Problem Information 0 keeps the text away, not the code", async () => {
    const error = { reason_code: 0x97, reason_string: "text" };
    const broker = await startBroker({}, [pluginWith({ auth_on_publish_m5: () => ({ error }) })]);
    const client = await connectClient(broker, 5, {
      clientId: "p",
      properties: { requestProblemInformation: false },
    });
    client.publish({ topic: "t", qos: 1 });
    await client.expect("puback", { code: 0x97, exactProperties: {} });
  });

  test("M-37 with no plugin left to say yes a publish is refused", async () => {
    const undecided = pluginWith({
      auth_on_publish: () => "next",
      auth_on_publish_m5: () => "next",
    });
    const broker = await startBroker({}, [undecided], { acceptAll: false });
    const client = await connectClient(broker, 5, { clientId: "p" });
    client.publish({ topic: "t", qos: 1 });
    await client.expect("puback", { code: 0x87 });
  });

  test("M-37 a plugin that throws refuses the packet and harms nobody else", async () => {
    const broken = pluginWith({
      auth_on_publish_m5: ({ topic }) => {
        if (topic === "boom") throw new Error("broken plugin");
        return "next";
      },
    });
    const broker = await startBroker({}, [broken]);
    const client = await connectClient(broker, 5, { clientId: "p" });
    client.publish({ topic: "boom", qos: 1 });
    await client.expect("puback", { code: 0x83 });
    await client.published({ topic: "fine", qos: 1 });
  });
});

describe("M-38 topics beginning with $", () => {
  test.each(VERSIONS)("M-38 [W] v%i not routed, acknowledged, connection open", async (version) => {
    const recorder = recordingPlugin();
    const broker = await startBroker({}, [recorder.plugin]);
    const watcher = await watch(broker, "$test/#");
    const client = await connectClient(broker, version, { clientId: "p" });
    const code = version === 5 ? { code: 0x90 } : {};
    client.publish({ topic: "$test/x", qos: 0 });
    client.publish({ topic: "$test/x", qos: 1, packetId: 1 });
    await client.expect("puback", { packetId: 1, ...code });
    client.publish({ topic: "$test/x", qos: 2, packetId: 2 });
    await client.expect("pubrec", { packetId: 2, ...code });
    if (version < 5) {
      client.pubrel(2);
      await client.expect("pubcomp", { packetId: 2 });
    }
    client.publish({ topic: "$SYS/x", qos: 1, packetId: 3, retain: true });
    await client.expect("puback", { packetId: 3, ...code });
    await client.expectNothing();
    await watcher.expectNothing();
    expect(broker.retained()).toEqual([]);
    expect(recorder.names("auth_on_publish", "auth_on_publish_m5")).toEqual([]);
  });
});

describe("M-39 max_message_size", () => {
  test.each(VERSIONS)("M-39 v%i 1024 bytes of payload → ended, counted, will", async (version) => {
    const broker = await startBroker({ max_message_size: "1024" });
    const watcher = await watch(broker);
    const client = await connectClient(broker, version, { clientId: "p", will: { topic: "will" } });
    client.publish({ topic: "t", payload: Buffer.alloc(1024), qos: 1 });
    await client.ended(0x95);
    await watcher.delivered({ topic: "will" });
    await watcher.expectNothing();
    expect(broker.metrics().mqtt_invalid_msg_size_error).toBe(1);
  });

  test.each(VERSIONS)("M-39 v%i the remaining length is what counts", async (version) => {
    const broker = await startBroker({ max_message_size: "1024" });
    const client = await connectClient(broker, version, { clientId: "p" });
    // Topic of 2 + 1 bytes, packet id of 2 and, in MQTT 5, one byte of properties.
    const overhead = version === 5 ? 6 : 5;
    await client.published({ topic: "t", payload: Buffer.alloc(1024 - overhead), qos: 1 });
    client.publish({ topic: "t", payload: Buffer.alloc(1025 - overhead), qos: 1 });
    await client.ended(0x95);
  });

  test.each(VERSIONS)(
    "M-39 [W-15] v%i ten packets of 200 bytes in one segment",
    async (version) => {
      const broker = await startBroker({ max_message_size: "1024" });
      const watcher = await watch(broker);
      const client = await connectClient(broker, version, { clientId: "p" });
      const packets = Array.from({ length: 10 }, (_, i) =>
        encodePublish(version, {
          topic: "t",
          payload: String(i).padEnd(200, "."),
          qos: 1,
          packetId: i + 1,
        }),
      );
      client.sendTogether(...packets);
      for (let i = 0; i < 10; i++) await client.expect("puback", { packetId: i + 1 });
      const got = await watcher.receive(10);
      expect(got.map((packet) => packet.payload?.toString()[0]).join("")).toBe("0123456789");
    },
  );

  test("M-39 only the header of a packet that is too large has come: already ended", async () => {
    const broker = await startBroker({ max_message_size: "1024" });
    const client = await connectClient(broker, 5, { clientId: "p" });
    client.send(bytes("30 ffffff7f 0001"));
    await client.ended(0x95);
  });

  test("M-39 the register hook may set the limit of one client", async () => {
    const hook = pluginWith({ auth_on_register: () => ({ ok: { max_message_size: 50 } }) });
    const broker = await startBroker({ allow_anonymous: "off" }, [hook]);
    const client = await connectClient(broker, 4, { clientId: "p" });
    await client.published({ topic: "t", payload: "x".repeat(40), qos: 1 });
    client.publish({ topic: "t", payload: "x".repeat(60), qos: 1 });
    await client.closed();
  });
});

describe("M-40 receive_max_broker", () => {
  test("M-40 one more than N unreleased QoS 2 → 0x93", async () => {
    const broker = await startBroker({ receive_max_broker: "3" });
    const client = await connectClient(broker, 5, { clientId: "p" });
    expect(client.connack?.properties?.receiveMaximum).toBe(3);
    for (const packetId of [1, 2, 3]) {
      client.publish({ topic: "t", qos: 2, packetId });
      await client.expect("pubrec", { packetId });
    }
    // [W] A DUP of an id already counted is no fourth message.
    client.publish({ topic: "t", qos: 2, packetId: 2, dup: true });
    await client.expect("pubrec", { packetId: 2 });
    // PUBREL frees a place.
    client.pubrel(1);
    await client.expect("pubcomp", { packetId: 1 });
    client.publish({ topic: "t", qos: 2, packetId: 4 });
    await client.expect("pubrec", { packetId: 4 });
    client.publish({ topic: "t", qos: 2, packetId: 5 });
    await client.ended(0x93);
  });

  test("M-40 QoS 1 is refused as well when the count is full", async () => {
    const broker = await startBroker({ receive_max_broker: "1" });
    const client = await connectClient(broker, 5, { clientId: "p" });
    for (let i = 0; i < 5; i++) await client.published({ topic: "t", qos: 1 });
    client.publish({ topic: "t", qos: 2, packetId: 100 });
    await client.expect("pubrec", { packetId: 100 });
    client.publish({ topic: "t", qos: 1, packetId: 101 });
    await client.ended(0x93);
  });

  test("M-40 a refused QoS 2 (PUBREC 0x80 and above) does not count", async () => {
    const judge = refusing("auth_on_publish", (args) => "topic" in args && args.topic === "no");
    const broker = await startBroker({ receive_max_broker: "1" }, [judge]);
    const client = await connectClient(broker, 5, { clientId: "p" });
    for (const packetId of [1, 2, 3]) {
      client.publish({ topic: "no", qos: 2, packetId });
      await client.expect("pubrec", { packetId, code: 0x87 });
    }
    await client.published({ topic: "t", qos: 2 });
  });

  test.each([3, 4] as const)("M-40 v%i has no such limit", async (version) => {
    const broker = await startBroker({ receive_max_broker: "1" });
    const client = await connectClient(broker, version, { clientId: "p" });
    for (const packetId of [1, 2, 3]) {
      client.publish({ topic: "t", qos: 2, packetId });
      await client.expect("pubrec", { packetId });
    }
  });
});

describe("malformed PUBLISH (14, 7.4)", () => {
  /** Name, bytes, the reason codes that are right. */
  const ROWS: readonly [string, string, readonly number[]][] = [
    ["QoS 3", "36 05 0001 74 0001", [0x81]],
    ["+ in the topic", "30 06 0003 612f2b 00", [0x90]],
    ["# in the topic", "30 06 0003 612f23 00", [0x90]],
    ["NUL in the topic", "30 06 0003 610062 00", [0x81, 0x90]],
    ["invalid UTF-8 in the topic", "30 05 0002 c080 00", [0x81, 0x90]],
    ["a topic longer than the packet", "30 04 0010 6162", [0x81]],
    ["packet id 0", "32 06 0001 74 0000 00", [0x81, 0x82]],
    ["no packet id", "32 03 0001 74", [0x81]],
  ];

  test.each(ROWS)("%s: v5 DISCONNECT, v4 closed, will published", async (_name, hex, codes) => {
    const broker = await startBroker();
    const watcher = await watch(broker, "will");
    for (const version of [4, 5] as const) {
      const client = await connectClient(broker, version, {
        clientId: `p${version}`,
        will: { topic: "will", payload: String(version) },
      });
      client.send(bytes(hex));
      if (version === 5) expect(codes).toContain((await client.expect("disconnect")).code);
      await client.closed();
      await watcher.delivered({ topic: "will", payload: String(version) });
    }
  });

  test("an empty topic: v4 closed, v5 without alias 0x82", async () => {
    const broker = await startBroker();
    const v4 = await connectClient(broker, 4, { clientId: "a" });
    v4.publish({ topic: "" });
    await v4.closed();
    const v5 = await connectClient(broker, 5, { clientId: "b" });
    v5.publish({ topic: "" });
    await v5.ended(0x82);
  });

  test("topics are compared byte by byte; empty levels count", async () => {
    const broker = await startBroker();
    const client = await connectClient(broker, 4, { clientId: "c" });
    const topics = ["finance", "/finance", "finance/", "Finance", "fin ance", "ﬁnance", "/"];
    for (const topic of topics) {
      const subscriber = await connectClient(broker, 4, { clientId: `s${topic}` });
      await subscriber.subscribed(topic);
      for (const other of topics) client.publish({ topic: other, payload: other });
      await client.ping();
      await subscriber.expect("publish", { topic, payload: topic });
      await subscriber.expectNothing();
    }
  });
});

test("waiting for a plugin stalls that client only, and in order", async () => {
  let release: () => void = () => undefined;
  const slow = pluginWith({
    auth_on_publish: ({ topic }) =>
      topic === "slow" ? new Promise((resolve) => (release = () => resolve("ok"))) : "next",
  });
  const broker = await startBroker({}, [slow]);
  const watcher = await watch(broker);
  const client = await connectClient(broker, 4, { clientId: "p" });
  client.publish({ topic: "slow", payload: "1", qos: 1, packetId: 1 });
  client.publish({ topic: "fast", payload: "2", qos: 1, packetId: 2 });
  await client.expectSilence(50);
  const other = await connectClient(broker, 4, { clientId: "o" });
  await other.published({ topic: "other", payload: "0", qos: 1 });
  await watcher.delivered({ payload: "0" });
  release();
  await client.expect("puback", { packetId: 1 });
  await client.expect("puback", { packetId: 2 });
  await watcher.delivered({ payload: "1" });
  await watcher.delivered({ payload: "2" });
  await waitFor("sessions are intact", () => broker.sessions().length === 3);
  await (await openClient(broker)).connected({ clientId: "n" });
});
