import { describe, expect, test } from "vitest";
import { startBroker, waitFor, waitOffline } from "../support/broker.ts";
import { pluginWith } from "../support/plugins.ts";
import {
  bytes,
  type ConnectOptions,
  connectClient,
  encodeConnect,
  encodePublish,
  field,
  openClient,
  packet,
  type Version,
} from "../support/raw-client.ts";

/** Connection start-up and parsing errors, details to M-05, M-07 and M-11. */

const BAD_UTF8 = Buffer.from([0x61, 0xc0, 0x80]);
const SURROGATE = Buffer.from([0xed, 0xa0, 0x80]);

/** Malformed for every version: 3.x closes silently, MQTT 5 answers with one of these codes. */
const MALFORMED: readonly [string, ConnectOptions, readonly number[]][] = [
  ["invalid UTF-8 in the client id", { clientId: BAD_UTF8 }, [0x81]],
  ["a surrogate in the client id", { clientId: SURROGATE }, [0x81]],
  ["NUL in the client id", { clientId: "a\0b" }, [0x81]],
  ["invalid UTF-8 in the user name", { clientId: "c", username: BAD_UTF8 }, [0x81]],
  ["NUL in the user name", { clientId: "c", username: "a\0" }, [0x81]],
  ["the reserved flag", { clientId: "c", flags: 0x03 }, [0x81]],
  ["will QoS without will", { clientId: "c", flags: 0x0a }, [0x81]],
  ["will retain without will", { clientId: "c", flags: 0x22 }, [0x81]],
  ["will QoS 3", { clientId: "c", will: { topic: "w", qos: 3 } }, [0x81]],
  ["an empty will topic", { clientId: "c", will: { topic: "" } }, [0x81, 0x82, 0x90]],
  ["a will topic with +", { clientId: "c", will: { topic: "a/+" } }, [0x81, 0x82, 0x90]],
  ["a will topic with #", { clientId: "c", will: { topic: "#" } }, [0x81, 0x82, 0x90]],
  ["a will flag without will", { clientId: "c", flags: 0x06 }, [0x81]],
];

describe("malformed CONNECT (2.1)", () => {
  test.each(MALFORMED)("%s: v3 and v4 are closed without a reply", async (_name, options) => {
    const broker = await startBroker();
    for (const version of [3, 4] as const) {
      const client = await openClient(broker, version);
      client.connect(options);
      await client.closed();
      expect(client.rawBytes).toEqual([]);
    }
    expect(broker.sessions()).toEqual([]);
  });

  test.each(MALFORMED)(
    "[W-02] %s: v5 gets CONNACK and is closed",
    async (_name, options, codes) => {
      const broker = await startBroker();
      const client = await openClient(broker, 5);
      client.connect(options);
      const connack = await client.expect("connack", { sessionPresent: false });
      expect(codes).toContain(connack.code);
      await client.closed();
      expect(broker.sessions()).toEqual([]);
    },
  );

  test("a password without a user name: v3 and v4 are closed, v5 allows it", async () => {
    const broker = await startBroker();
    for (const version of [3, 4] as const) {
      const client = await openClient(broker, version);
      client.connect({ clientId: "c", password: "p" });
      await client.closed();
    }
    await connectClient(broker, 5, { clientId: "c", password: "p" });
  });

  test("bytes after the last field", async () => {
    const broker = await startBroker();
    for (const version of [3, 4, 5] as const) {
      const good = encodeConnect(version, { clientId: "c" });
      const body = Buffer.concat([good.subarray(2), Buffer.from([0])]);
      const client = await openClient(broker, version);
      client.send(packet(0x10, body));
      if (version === 5) await client.expect("connack", { code: 0x81 });
      await client.closed();
    }
  });

  test.each<[string, string, number]>([
    ["an unknown property", "7f00", 0x81],
    ["a property of another packet (server keep alive)", "13000a", 0x81],
    ["a topic alias", "230001", 0x81],
    ["a will property outside the will", "180000000a", 0x81],
    ["a repeated property", "110000000a110000000a", 0x82],
    ["receive maximum 0", "210000", 0x82],
    ["maximum packet size 0", "2700000000", 0x82],
    ["request problem information 2", "1702", 0x82],
    ["request response information 2", "1902", 0x82],
    ["authentication data without method", "16000161", 0x82],
    ["a property cut short", "11000000", 0x81],
    ["invalid UTF-8 in a user property", "260002c08000016b", 0x81],
  ])("[W-02] v5 %s → CONNACK", async (_name, hex, code) => {
    const broker = await startBroker();
    const client = await openClient(broker, 5);
    const properties = bytes(hex);
    client.send(
      packet(
        0x10,
        field("MQTT"),
        Buffer.from([5, 2, 0, 60, properties.length]),
        properties,
        field("c"),
      ),
    );
    await client.expect("connack", { code, sessionPresent: false });
    await client.closed();
  });

  test("user properties may repeat", async () => {
    const broker = await startBroker();
    const userProperties: [string, string][] = [
      ["k", "1"],
      ["k", "1"],
    ];
    await connectClient(broker, 5, { clientId: "c", properties: { userProperties } });
  });
});

describe("first packet (2)", () => {
  test.each<[string, Buffer]>([
    ["PINGREQ", bytes("c000")],
    ["PUBLISH", encodePublish(4, { topic: "t" })],
    ["DISCONNECT", bytes("e000")],
    ["CONNACK", bytes("20020000")],
    ["AUTH", bytes("f000")],
    ["packet type 0", bytes("0000")],
    ["CONNECT with flags", bytes("1110 00044d5154540402003c000463303031")],
    ["HTTP", Buffer.from("GET / HTTP/1.1\r\n\r\n")],
    ["a remaining length of five bytes", bytes("10ffffffff7f00044d515454")],
  ])("%s before CONNECT is closed without a reply", async (_name, data) => {
    const broker = await startBroker();
    const client = await openClient(broker);
    client.send(data);
    await client.closed(1000);
    expect(client.rawBytes).toEqual([]);
  });

  test.each([3, 4, 5] as const)(
    "v%i a second CONNECT ends the session with its will",
    async (version) => {
      const broker = await startBroker();
      const watcher = await connectClient(broker, 4, { clientId: "w" });
      await watcher.subscribed("will");
      const options: ConnectOptions = { clientId: "c", will: { topic: "will" } };
      const client = await connectClient(broker, version, options);
      client.connect(options);
      await client.ended(0x82);
      await watcher.expect("publish", { topic: "will" });
    },
  );
});

describe("limits of a listener (2)", () => {
  test("max_connections: one more is not served, the others are not disturbed", async () => {
    const broker = await startBroker({ "listener.tcp.default.max_connections": "2" });
    const one = await connectClient(broker, 4, { clientId: "1" });
    const two = await connectClient(broker, 4, { clientId: "2" });
    const three = await openClient(broker, 4).catch(() => undefined);
    three?.connect({ clientId: "3" });
    await one.ping();
    await two.ping();
    expect(three?.received ?? []).toEqual([]);
    expect(broker.sessions()).toHaveLength(2);
    await one.disconnected();
    await waitFor("a place for a new client", async () => {
      const next = await openClient(broker, 4).catch(() => undefined);
      next?.connect({ clientId: "4" });
      const answer = await next?.next(200).catch(() => undefined);
      if (answer === undefined) next?.cut();
      return answer?.type === "connack" && answer.code === 0;
    });
    await two.ping();
  });

  test.each([4, 5] as const)(
    "v%i max_connection_lifetime: 0x98, will published",
    async (version) => {
      const broker = await startBroker({ "listener.tcp.default.max_connection_lifetime": "1" });
      const other = await startBroker({}, []);
      expect(other.sessions()).toEqual([]);
      const recorder: string[] = [];
      const watch = pluginWith({ on_publish: ({ topic }) => void recorder.push(topic) }, "watch");
      const watchM5 = pluginWith({ on_publish_m5: ({ topic }) => void recorder.push(topic) }, "w5");
      broker.enablePlugin(watch);
      broker.enablePlugin(watchM5);
      const client = await connectClient(broker, version, {
        clientId: "c",
        will: { topic: "will" },
      });
      const started = performance.now();
      await client.ended(0x98);
      const elapsed = performance.now() - started;
      expect(elapsed).toBeGreaterThan(900);
      expect(elapsed).toBeLessThan(2100);
      await waitFor("the will", () => recorder.includes("will"));
    },
  );

  test("the register hook may set the lifetime", async () => {
    const short = pluginWith({
      auth_on_register_m5: () => ({ ok: { max_connection_lifetime: 1 } }),
    });
    const broker = await startBroker({ allow_anonymous: "off" }, [short]);
    const client = await connectClient(broker, 5, { clientId: "c" });
    await client.ended(0x98);
  });
});

test.each([3, 4, 5] as const)(
  "v%i any prefix of a CONNECT is buffered, never rejected",
  async (version) => {
    const broker = await startBroker();
    const whole = encodeConnect(version as Version, {
      clientId: "prefix",
      username: "u",
      password: "p",
      will: { topic: "w", payload: "x", qos: 2 },
      ...(version === 5
        ? { properties: { sessionExpiryInterval: 3, userProperties: [["a", "b"]] } }
        : {}),
    });
    const cuts = Array.from({ length: whole.length - 1 }, (_, index) => index + 1);
    await Promise.all(
      cuts.map(async (cut) => {
        const client = await openClient(broker, version as Version);
        client.send(whole.subarray(0, cut));
        await client.expectSilence(50);
        client.cut();
      }),
    );
    expect(broker.sessions()).toEqual([]);
    const last = await openClient(broker, version as Version);
    last.send(whole.subarray(0, whole.length - 1));
    await last.expectSilence(20);
    last.send(whole.subarray(whole.length - 1));
    await last.expect("connack", { code: 0 });
    last.cut();
    await waitOffline(broker, "prefix");
  },
);
