import { describe, expect, test } from "vitest";
import type { HookError, RegisterModifiers } from "../../core/hooks/types.ts";
import { startBroker, waitFor } from "../support/broker.ts";
import { pluginWith, recordingPlugin } from "../support/plugins.ts";
import {
  connectClient,
  encodeConnect,
  encodePublish,
  encodeSubscribe,
  openClient,
  type Version,
} from "../support/raw-client.ts";

/** Checks M-01 to M-15: CONNECT. Its parsing errors: connect-errors.test.ts. */

const VERSIONS: readonly Version[] = [3, 4, 5];
const V3_AND_4: readonly Version[] = [3, 4];
const ASK = { allow_anonymous: "off" };

/** A plugin that answers every registration alike. */
function registering(answer: "ok" | "next" | { ok: RegisterModifiers } | { error: HookError }) {
  return pluginWith({ auth_on_register: () => answer, auth_on_register_m5: () => answer });
}

describe("M-01 no plugin and allow_anonymous=off", () => {
  test.each([
    [3, 5],
    [4, 5],
    [5, 0x86],
  ] as const)("M-01 v%i CONNECT is refused with %i and closed", async (version, code) => {
    const broker = await startBroker(ASK, [], { acceptAll: false });
    const client = await openClient(broker, version);
    await client.refused({ clientId: "c" }, code);
  });

  test.each([
    [3, 5],
    [4, 5],
    [5, 0x86],
  ] as const)("M-01 v%i the same when all plugins pass it on", async (version, code) => {
    const broker = await startBroker(ASK, [registering("next")], { acceptAll: false });
    const client = await openClient(broker, version);
    await client.refused({ clientId: "c", username: "u", password: "p" }, code);
  });
});

describe("M-02 allow_anonymous=on", () => {
  test.each(VERSIONS)("M-02 v%i CONNACK 0 and no register hook is called", async (version) => {
    const recorder = recordingPlugin();
    const broker = await startBroker({ allow_anonymous: "on" }, [recorder.plugin]);
    const client = await connectClient(broker, version, { clientId: "c", username: "bob" });
    expect(recorder.names("auth_on_register", "auth_on_register_m5")).toEqual([]);
    const told = await recorder.wait(version === 5 ? "on_register_m5" : "on_register");
    expect(told).toMatchObject({ username: "bob", subscriber_id: { client_id: "c" } });
    // The user name is kept for later hooks, which still run.
    await client.published({ topic: "t", qos: 1 });
    const asked = recorder.of(version === 5 ? "auth_on_publish_m5" : "auth_on_publish");
    expect(asked[0]).toMatchObject({ username: "bob", topic: "t" });
  });

  test("M-02 allow_anonymous_override opens one listener only", async () => {
    const recorder = recordingPlugin();
    const broker = await startBroker(
      {
        ...ASK,
        "listener.tcp.open": "127.0.0.1:0",
        "listener.tcp.open.allow_anonymous_override": "on",
      },
      [recorder.plugin],
      { acceptAll: false },
    );
    await connectClient(broker.port("tcp", "open"), 4, { clientId: "c" });
    expect(recorder.names("auth_on_register")).toEqual([]);
    const refused = await openClient(broker.port("tcp", "default"), 4);
    await refused.refused({ clientId: "d" }, 5);
  });

  test("M-02 [W-04] allow_anonymous=hooks asks, and no verdict means accepted", async () => {
    const recorder = recordingPlugin();
    const judge = pluginWith({
      auth_on_register: ({ username }) =>
        username === "bad" ? { error: "invalid_credentials" } : "next",
    });
    const settings = { allow_anonymous: "hooks" };
    const broker = await startBroker(settings, [recorder.plugin, judge], { acceptAll: false });
    await connectClient(broker, 4, { clientId: "c" });
    expect(recorder.of("auth_on_register")).toHaveLength(1);
    const bad = await openClient(broker, 4);
    await bad.refused({ clientId: "d", username: "bad" }, 4);
    const bare = await startBroker(settings, [], { acceptAll: false });
    await connectClient(bare, 5, { clientId: "c" });
  });
});

describe("M-03 and M-04 empty client id", () => {
  test("M-03 v3 → 2; v4 clean → 0; v4 not clean → 2; bridge levels like their version", async () => {
    const allowed = { "listener.tcp.default.allowed_protocol_versions": "3,4,5,131,132" };
    const broker = await startBroker(allowed);
    for (const clean of [true, false]) {
      await (await openClient(broker, 3)).refused({ clean }, 2);
      await (await openClient(broker, 3)).refused({ clean, level: 131 }, 2);
    }
    await (await openClient(broker, 4)).refused({ clean: false }, 2);
    await (await openClient(broker, 4)).refused({ clean: false, level: 132 }, 2);
    await connectClient(broker, 4, { clean: true, level: 132 });
    await connectClient(broker, 4, { clean: true });
    const ids = broker.sessions().map((session) => session.client_id);
    expect(ids).toHaveLength(2);
    expect(new Set(ids).size).toBe(2);
    // `anon-` and 21 random bytes in base64.
    for (const id of ids) expect(id).toMatch(/^anon-[A-Za-z0-9+/_-]{28}$/);
  });

  test("M-04 v5 gets an id whatever Clean Start says, a different one each time", async () => {
    // Generated ids are not subject to the limit.
    const broker = await startBroker({ max_client_id_size: "10" });
    const ids: (string | undefined)[] = [];
    for (const clean of [true, false]) {
      const client = await connectClient(broker, 5, { clean });
      expect(client.connack).toMatchObject({ code: 0, sessionPresent: false });
      ids.push(client.connack?.properties?.assignedClientIdentifier);
    }
    for (const id of ids) expect(id).toMatch(/^anon-[A-Za-z0-9+/_-]{28}$/);
    expect(ids[0]).not.toBe(ids[1]);
    const named = await connectClient(broker, 5, { clientId: "mine" });
    expect(named.connack?.properties?.assignedClientIdentifier).toBeUndefined();
  });
});

describe("M-05 CONNECT without a client id field", () => {
  test.each(V3_AND_4)("M-05 v%i closed, no bytes sent", async (version) => {
    const broker = await startBroker();
    const client = await openClient(broker, version);
    client.connect({ withoutPayload: true });
    await client.closed();
    expect(client.rawBytes).toEqual([]);
  });

  test("M-05 [W-02] v5 CONNACK 0x81", async () => {
    const broker = await startBroker();
    const client = await openClient(broker, 5);
    await client.refused({ withoutPayload: true }, 0x81);
  });
});

test("M-06 an id longer than max_client_id_size, in bytes → CONNACK 2, v5 0x85", async () => {
  const broker = await startBroker({ max_client_id_size: "10" });
  for (const version of VERSIONS) {
    const code = version === 5 ? 0x85 : 2;
    await (await openClient(broker, version)).refused({ clientId: "12345678901" }, code);
    // Six characters, twelve bytes.
    await (await openClient(broker, version)).refused({ clientId: "éééééé" }, code);
    await connectClient(broker, version, { clientId: `${version}-ééé12` });
  }
  // Changeable at run time.
  broker.set("max_client_id_size", "11");
  await connectClient(broker, 4, { clientId: "12345678901" });
});

describe("M-07 protocol name and level", () => {
  test("M-07 MQIsdp level 2 → CONNACK 1", async () => {
    const broker = await startBroker();
    await (await openClient(broker, 3)).refused({ clientId: "c", level: 2 }, 1);
  });

  test("M-07 a level the listener does not allow → CONNACK 1, v5 0x84", async () => {
    const broker = await startBroker({
      "listener.tcp.default.allowed_protocol_versions": "3,4",
      "listener.tcp.five": "127.0.0.1:0",
      "listener.tcp.five.allowed_protocol_versions": "5",
    });
    await (await openClient(broker, 5)).refused({ clientId: "c" }, 0x84);
    await (await openClient(broker, 3)).refused({ clientId: "c", level: 131 }, 1);
    const five = broker.port("tcp", "five");
    await (await openClient(five, 4)).refused({ clientId: "c" }, 1);
    await (await openClient(five, 3)).refused({ clientId: "c" }, 1);
    await connectClient(five, 5, { clientId: "c" });
  });

  test("M-07 allowed by default are 3, 4, 5 and 131", async () => {
    const broker = await startBroker();
    for (const version of VERSIONS)
      await connectClient(broker, version, { clientId: `${version}` });
    await connectClient(broker, 3, { clientId: "b", level: 131 });
    await connectClient(broker, 3, { clientId: "d", level: 131, protocolName: "MQTT" });
    await (await openClient(broker, 4)).refused({ clientId: "e", level: 132 }, 1);
  });

  test("M-07 [W-01] MQTT with another level: 1 below 5, 0x84 in v5 form above", async () => {
    const broker = await startBroker();
    for (const level of [0, 1, 2, 3]) {
      await (await openClient(broker, 4)).refused({ clientId: "c", level }, 1);
    }
    for (const level of [6, 7, 127, 130]) {
      await (await openClient(broker, 5)).refused({ clientId: "c", level }, 0x84);
    }
  });

  test("M-07 unknown protocol names are closed without an answer", async () => {
    const broker = await startBroker();
    for (const protocolName of ["HTTP", "mqtt", "MQIsdq", "", "MQTTT", "MQISDP"]) {
      const client = await openClient(broker, 4, { name: `name ${protocolName}` });
      client.connect({ clientId: "c", protocolName });
      await client.closed(1000);
      expect(client.rawBytes).toEqual([]);
    }
  });
});

describe("M-08 credentials", () => {
  const judge = pluginWith({
    auth_on_register: ({ username, password }) =>
      username === "bob" && password?.toString() === "pw"
        ? "ok"
        : { error: username === "banned" ? "not_allowed" : "invalid_credentials" },
    auth_on_register_m5: ({ username, password }) =>
      username === "bob" && password?.toString() === "pw" ? "ok" : { error: "invalid_credentials" },
  });

  test.each(V3_AND_4)("M-08 v%i: refused 4, other reasons 5, accepted 0", async (version) => {
    const broker = await startBroker(ASK, [judge]);
    await (await openClient(broker, version)).refused({ clientId: "c", username: "bob" }, 4);
    const wrong = { clientId: "c", username: "bob", password: "no" };
    await (await openClient(broker, version)).refused(wrong, 4);
    const banned = { clientId: "c", username: "banned", password: "pw" };
    await (await openClient(broker, version)).refused(banned, 5);
    await connectClient(broker, version, { clientId: "c", username: "bob", password: "pw" });
  });

  test("M-08 v5: refused 0x86, accepted 0; a password alone is allowed and reaches the hook", async () => {
    const recorder = recordingPlugin();
    const broker = await startBroker(ASK, [recorder.plugin, judge]);
    await (await openClient(broker, 5)).refused({ clientId: "c", username: "bob" }, 0x86);
    await connectClient(broker, 5, { clientId: "c", username: "bob", password: "pw" });
    await (await openClient(broker, 5)).refused({ clientId: "c", password: "pw" }, 0x86);
    const last = recorder.of("auth_on_register_m5").at(-1);
    expect(last?.username).toBeUndefined();
    expect(last?.password?.toString()).toBe("pw");
  });

  test("M-08 the hook sees peer, id, user, password bytes and the clean flag", async () => {
    const recorder = recordingPlugin();
    const broker = await startBroker(ASK, [recorder.plugin]);
    const password = Buffer.from([0, 0xff, 1]);
    const v4 = await connectClient(broker, 4, {
      clientId: "c4",
      username: "ü",
      password,
      clean: false,
    });
    expect(recorder.of("auth_on_register")[0]).toEqual({
      peer: { address: "127.0.0.1", port: v4.localPort },
      subscriber_id: { mountpoint: "", client_id: "c4" },
      username: "ü",
      password,
      clean_session: false,
      connection_meta: undefined,
    });
    await connectClient(broker, 5, {
      clientId: "c5",
      properties: { sessionExpiryInterval: 7, userProperties: [["k", "v"]] },
    });
    expect(recorder.of("auth_on_register_m5")[0]).toMatchObject({
      subscriber_id: { mountpoint: "", client_id: "c5" },
      clean_start: true,
      properties: { p_session_expiry_interval: 7, p_user_property: [{ key: "k", val: "v" }] },
    });
  });
});

test.each(VERSIONS)(
  "M-09 v%i a register hook changes subscriber id and user name",
  async (version) => {
    const recorder = recordingPlugin();
    const change = registering({
      ok: { subscriber_id: { mountpoint: "mp", client_id: "other" }, username: "boss" },
    });
    const broker = await startBroker(ASK, [recorder.plugin, change]);
    const client = await connectClient(broker, version, { clientId: "c", username: "u" });
    await client.subscribed("t", { qos: 1 });
    client.publish({ topic: "t", qos: 1 });
    const answers = [await client.next(), await client.next()].map((packet) => packet.type);
    expect(answers.toSorted()).toEqual(["puback", "publish"]);
    const who = { username: "boss", subscriber_id: { mountpoint: "mp", client_id: "other" } };
    const v5 = version === 5;
    expect(recorder.of(v5 ? "on_register_m5" : "on_register")[0]).toMatchObject(who);
    expect(recorder.of(v5 ? "auth_on_subscribe_m5" : "auth_on_subscribe")[0]).toMatchObject(who);
    expect(recorder.of(v5 ? "auth_on_publish_m5" : "auth_on_publish")[0]).toMatchObject(who);
    expect(recorder.of(v5 ? "on_deliver_m5" : "on_deliver")[0]).toMatchObject(who);
    expect(await recorder.wait("on_client_wakeup")).toMatchObject({
      subscriber_id: who.subscriber_id,
    });
    expect(broker.sessions()).toMatchObject([
      { client_id: "other", mountpoint: "mp", user: "boss", is_online: true },
    ]);
    const shown = await broker.control("session", ["show"]);
    expect(shown.stdout).toMatch(/other/);
    expect(shown.stdout).toMatch(/boss/);
  },
);

describe("M-10 CONNECT timeout", () => {
  test("M-10 a silent socket is closed after mqtt_connect_timeout, without bytes", async () => {
    const broker = await startBroker({ mqtt_connect_timeout: "1000" });
    const client = await openClient(broker);
    const started = performance.now();
    await client.closed(3000);
    const elapsed = performance.now() - started;
    expect(elapsed).toBeGreaterThan(900);
    expect(elapsed).toBeLessThan(1200);
    expect(client.rawBytes).toEqual([]);
    await waitFor("socket_close_timeout", () => broker.metrics().socket_close_timeout === 1);
  });

  test("M-10 half a CONNECT is no CONNECT", async () => {
    const broker = await startBroker({ mqtt_connect_timeout: "500" });
    const client = await openClient(broker);
    client.send(encodeConnect(4, { clientId: "abc" }).subarray(0, 12));
    await client.closed(2000);
    expect(broker.metrics().socket_close_timeout).toBe(1);
  });

  test.each(VERSIONS)("M-10 v%i CONNECT one byte at a time → CONNACK", async (version) => {
    const broker = await startBroker();
    const client = await openClient(broker, version);
    const packet = encodeConnect(version, {
      clientId: "slow",
      username: "u",
      password: "p",
      will: { topic: "w", payload: "gone" },
    });
    for (const [i, byte] of packet.entries()) {
      client.send(Buffer.from([byte]));
      await waitFor(`byte ${i}`, () => broker.metrics().bytes_received === i + 1);
    }
    await client.expect("connack", { code: 0 });
  });

  test("M-10 [W] what follows CONNECT in the same segment is handled at once", async () => {
    const broker = await startBroker(ASK);
    const client = await openClient(broker, 4);
    client.sendTogether(
      encodeConnect(4, { clientId: "c" }),
      encodeSubscribe(4, 1, [{ filter: "t", qos: 1 }]),
      encodePublish(4, { topic: "t", payload: "x", qos: 1, packetId: 2 }),
      Buffer.from([0xc0, 0]),
    );
    await client.expect("connack", { code: 0 });
    await client.expect("suback", { packetId: 1, codes: [1] });
    const types = [await client.next(), await client.next(), await client.next()].map(
      (packet) => packet.type,
    );
    expect(types.toSorted()).toEqual(["pingresp", "puback", "publish"]);
  });
});

describe("M-11 v5 Authentication Data without Authentication Method", () => {
  test("M-11 [W] CONNACK 0x82", async () => {
    const broker = await startBroker();
    const client = await openClient(broker, 5);
    await client.refused({ clientId: "c", properties: { authenticationData: "x" } }, 0x82);
  });
});

describe("M-12 v5 refusals with properties", () => {
  test.each<[string, HookError, number, object]>([
    [
      "quota exceeded with text",
      { reason_code: "quota_exceeded", reason_string: "too many" },
      0x97,
      { reasonString: "too many" },
    ],
    [
      "use another server",
      { reason_code: "use_another_server", properties: { p_server_ref: "other:1883" } },
      0x9c,
      { serverReference: "other:1883" },
    ],
    [
      "server moved",
      { reason_code: "server_moved", properties: { p_server_ref: "new:1883" } },
      0x9d,
      { serverReference: "new:1883" },
    ],
    ["a code by number", { reason_code: 0x8a }, 0x8a, {}],
    ["no code", { reason_string: "no" }, 0x86, { reasonString: "no" }],
    ["a name alone", "banned", 0x86, {}],
  ])("M-12 %s", async (_name, error, code, exactProperties) => {
    const broker = await startBroker(ASK, [registering({ error })]);
    const client = await openClient(broker, 5);
    await client.refused({ clientId: "c" }, code, { exactProperties });
    const series = Object.entries(broker.metricSeries());
    const sent = series.filter(([key]) => key.startsWith("mqtt_connack_sent") && /"5"/.test(key));
    expect(sent.reduce((sum, [, count]) => sum + count, 0)).toBe(1);
  });
});

describe("M-13 v5 capabilities given by the hook", () => {
  const capabilities = registering({
    ok: {
      properties: {
        p_max_qos: 0,
        p_retain_available: false,
        p_wildcard_subs_available: false,
        p_sub_ids_available: false,
        p_shared_subs_available: false,
      },
    },
  });

  test("M-13 the five properties are in CONNACK", async () => {
    const broker = await startBroker(ASK, [capabilities]);
    const client = await connectClient(broker, 5, { clientId: "c" });
    expect(client.connack?.properties).toMatchObject({
      maximumQoS: 0,
      retainAvailable: false,
      wildcardSubscriptionAvailable: false,
      subscriptionIdentifiersAvailable: false,
      sharedSubscriptionAvailable: false,
    });
  });

  test("M-13 [W] and they are enforced", async () => {
    const broker = await startBroker(ASK, [capabilities]);
    const open = (clientId: string) => connectClient(broker, 5, { clientId });
    for (const qos of [1, 2]) {
      const client = await open(`q${qos}`);
      client.publish({ topic: "t", qos });
      await client.ended(0x9b);
    }
    const retainer = await open("r");
    retainer.publish({ topic: "t", retain: true });
    await retainer.ended(0x9a);
    // 3.2.2.3.11 to 13: a server that does not support it refuses the filter or ends the session.
    const subscriber = await open("s");
    expect(await subscriber.subscribed(["plain"])).toEqual([0]);
    for (const [filter, code] of [
      ["a/+", 0xa2],
      ["$share/g/t", 0x9e],
    ] as const) {
      const client = await open(`f${code}`);
      client.subscribe(filter);
      const answer = await client.next();
      expect(answer.type === "suback" ? answer.codes?.[0] : answer.code).toBe(code);
    }
    const identified = await open("i");
    identified.subscribe("t", { properties: { subscriptionIdentifiers: [3] } });
    const answer = await identified.next();
    expect(answer.type === "suback" ? answer.codes?.[0] : answer.code).toBe(0xa1);
  });

  test("M-13 [W] a will above these limits is refused", async () => {
    const broker = await startBroker(ASK, [capabilities]);
    // [MQTT-3.2.2-12] QoS; [MQTT-3.2.2-13] retain
    const qos = await openClient(broker, 5);
    await qos.refused({ clientId: "a", will: { topic: "w", qos: 1 } }, 0x9b);
    const retain = await openClient(broker, 5);
    await retain.refused({ clientId: "b", will: { topic: "w", retain: true } }, 0x9a);
  });

  test("M-13 response information only for a client that asked for it", async () => {
    const information = registering({ ok: { properties: { p_response_info: "resp/1" } } });
    const broker = await startBroker(ASK, [information]);
    const asked = await connectClient(broker, 5, {
      clientId: "a",
      properties: { requestResponseInformation: true },
    });
    expect(asked.connack?.properties?.responseInformation).toBe("resp/1");
    const silent = await connectClient(broker, 5, { clientId: "b" });
    expect(silent.connack?.properties?.responseInformation).toBeUndefined();
  });

  test("M-13 [W-05] limits of the configuration and changes by the hook are announced", async () => {
    const change = registering({ ok: { session_expiry_interval: 30 } });
    const settings = {
      ...ASK,
      max_message_size: "2000",
      receive_max_broker: "7",
      topic_alias_max_client: "4",
    };
    const broker = await startBroker(settings, [change]);
    const properties = { sessionExpiryInterval: 100 };
    const client = await connectClient(broker, 5, { clientId: "c", properties });
    expect(client.connack?.properties).toEqual({
      sessionExpiryInterval: 30,
      maximumPacketSize: 2000,
      receiveMaximum: 7,
      topicAliasMaximum: 4,
    });
    const plain = await connectClient(await startBroker(), 5, { clientId: "c", properties });
    expect(plain.connack?.properties).toEqual({});
  });
});

describe("M-14 mountpoints", () => {
  test("M-14 listeners with different mountpoints are different worlds", async () => {
    const broker = await startBroker({
      "listener.tcp.a": "127.0.0.1:0",
      "listener.tcp.a.mountpoint": "A",
      "listener.tcp.b": "127.0.0.1:0",
      "listener.tcp.b.mountpoint": "B/",
    });
    const a = broker.port("tcp", "a");
    const b = broker.port("tcp", "b");
    const subscriber = await connectClient(a, 4, { clientId: "same" });
    await subscriber.subscribed("t", { qos: 1 });
    const publisher = await connectClient(b, 4, { clientId: "same" });
    await publisher.published({ topic: "t", payload: "1", qos: 1, retain: true });
    await subscriber.expectNothing();
    // Retained messages are apart, too.
    await subscriber.subscribed("#", { qos: 1 });
    await subscriber.expectNothing();
    const neighbour = await connectClient(b, 4, { clientId: "n" });
    await neighbour.subscribed("t", { qos: 1 });
    await neighbour.delivered({ topic: "t", payload: "1", retain: true });
    await publisher.expectNothing();
    const shown = broker
      .sessions()
      .map(({ client_id, mountpoint }) => `${mountpoint}:${client_id}`);
    // A trailing slash is removed.
    expect(shown.toSorted()).toEqual(["A:same", "B:n", "B:same"]);
  });

  test("M-14 hooks see the mountpoint; a publish hook may send one message elsewhere", async () => {
    const recorder = recordingPlugin();
    const redirect = pluginWith({
      auth_on_publish: ({ topic }) => (topic === "away" ? { ok: { mountpoint: "" } } : "ok"),
    });
    const settings = {
      "listener.tcp.a": "127.0.0.1:0",
      "listener.tcp.a.mountpoint": "A",
    };
    const broker = await startBroker(settings, [recorder.plugin, redirect]);
    const subscriber = await connectClient(broker.port("tcp", "default"), 4, { clientId: "s" });
    await subscriber.subscribed("#", { qos: 1 });
    const publisher = await connectClient(broker.port("tcp", "a"), 4, { clientId: "p" });
    await publisher.published({ topic: "home", qos: 1 });
    await publisher.published({ topic: "away", qos: 1 });
    await subscriber.delivered({ topic: "away" });
    await subscriber.expectNothing();
    expect(recorder.of("auth_on_publish")[0]?.subscriber_id).toEqual({
      mountpoint: "A",
      client_id: "p",
    });
  });
});

describe("M-15 keep-alive", () => {
  test.each([4, 5] as const)("M-15 v%i keep-alive 2: cut between 3 s and 4 s", async (version) => {
    const broker = await startBroker();
    const watcher = await connectClient(broker, 4, { clientId: "w", keepAlive: 0 });
    await watcher.subscribed("will");
    const silent = await connectClient(broker, version, {
      clientId: "silent",
      keepAlive: 2,
      will: { topic: "will" },
    });
    await silent.subscribed("noise");
    const started = performance.now();
    const alive = await connectClient(broker, version, { clientId: "alive", keepAlive: 2 });
    const never = await connectClient(broker, version, { clientId: "never", keepAlive: 0 });
    const pings = setInterval(() => {
      alive.pingreq();
      // Outgoing traffic does not count.
      watcher.publish({ topic: "noise" });
    }, 1000);
    try {
      // Noise may come first; the end is what counts.
      for (;;) {
        const packet = await silent.next(6000).catch(() => undefined);
        if (packet?.type === "publish") continue;
        if (version === 5) expect(packet).toMatchObject({ type: "disconnect", code: 0x8d });
        else expect(packet).toBeUndefined();
        break;
      }
      await silent.closed();
    } finally {
      clearInterval(pings);
    }
    const elapsed = performance.now() - started;
    expect(elapsed).toBeGreaterThan(2900);
    expect(elapsed).toBeLessThan(4000);
    await watcher.expect("publish", { topic: "will" });
    expect(alive.isClosed).toBe(false);
    await never.expectNothing();
    expect(broker.metrics().client_keepalive_expired).toBe(1);
  });
});
