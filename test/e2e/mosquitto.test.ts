import { beforeAll, describe, expect, test } from "vitest";
import { requireTool } from "../support/tools.ts";
import { type FourTransports, startFourTransports } from "./four-transports.ts";
import { MosquittoSub, mosquittoPub } from "./mosquitto-tools.ts";

/** mosquitto_pub and mosquitto_sub against the real process. */

const VERSIONS = ["mqttv31", "mqttv311", "mqttv5"] as const;
const hasTools =
  requireTool("mosquitto_pub", "mosquitto-clients") &&
  requireTool("mosquitto_sub", "mosquitto-clients");

describe.skipIf(!hasTools)("mosquitto clients", () => {
  let four: FourTransports;
  let where: string[];
  let lastTopic = 0;

  beforeAll(async () => {
    four = await startFourTransports();
    where = ["-h", "127.0.0.1", "-p", String(four.ports.tcp)];
  });

  /** Tests share a broker, not topics. */
  function newTopic(): string {
    return `mosquitto/${++lastTopic}`;
  }

  describe.each(VERSIONS)("%s", (version) => {
    test.each([0, 1, 2])("QoS %i from pub to sub", async (qos) => {
      const topic = newTopic();
      const args = [...where, "-V", version, "-q", String(qos), "-t", topic];
      const sub = await new MosquittoSub([...args, "-C", "2"]).subscribed();
      await mosquittoPub([...args, "-m", "first"]);
      await mosquittoPub([...args, "-m", "zweite ü"]);
      expect(await sub.ended()).toBe(0);
      expect(sub.messages).toEqual([
        { topic, qos, retain: false, payload: "first" },
        { topic, qos, retain: false, payload: "zweite ü" },
      ]);
    });

    test("a retained message waits, is replaced and cleared", async () => {
      const topic = newTopic();
      const args = [...where, "-V", version, "-q", "1"];
      await mosquittoPub([...args, "-t", topic, "-r", "-m", "old"]);
      await mosquittoPub([...args, "-t", topic, "-r", "-m", "new"]);
      const sub = new MosquittoSub([...args, "-t", `${topic}/#`, "-C", "1"]);
      expect(await sub.ended()).toBe(0);
      expect(sub.messages).toEqual([{ topic, qos: 1, retain: true, payload: "new" }]);
      await mosquittoPub([...args, "-t", topic, "-r", "-n"]);
      const after = await new MosquittoSub([...args, "-t", topic, "-C", "1"]).subscribed();
      await mosquittoPub([...args, "-t", topic, "-m", "live"]);
      expect(await after.ended()).toBe(0);
      expect(after.messages).toEqual([{ topic, qos: 1, retain: false, payload: "live" }]);
    });

    test("the will of a killed client", async () => {
      const topic = newTopic();
      const args = [...where, "-V", version];
      const watcher = await new MosquittoSub([
        ...args,
        "-q",
        "2",
        "-t",
        topic,
        "-C",
        "1",
      ]).subscribed();
      const will = ["--will-topic", topic, "--will-payload", "gone", "--will-qos", "1"];
      const victim = await new MosquittoSub([
        ...args,
        "-t",
        `${topic}/other`,
        ...will,
      ]).subscribed();
      victim.kill();
      expect(await watcher.ended()).toBe(0);
      expect(watcher.messages).toEqual([{ topic, qos: 1, retain: false, payload: "gone" }]);
    });

    test("a persistent session gets what came while it was away", async () => {
      const topic = newTopic();
      const session = [
        "-i",
        `away-${version}`,
        "-c",
        ...(version === "mqttv5" ? ["-x", "60"] : []),
      ];
      const args = [...where, "-V", version, "-q", "1", "-t", topic];
      const first = await new MosquittoSub([...args, ...session, "-E"]).subscribed();
      expect(await first.ended()).toBe(0);
      for (const text of ["1", "2", "3"]) await mosquittoPub([...args, "-m", text]);
      const second = new MosquittoSub([...args, ...session, "-C", "3"]);
      expect(await second.ended()).toBe(0);
      expect(second.messages.map(({ payload }) => payload)).toEqual(["1", "2", "3"]);
    });

    test("500 lines in one connection keep their order at QoS 2", async () => {
      const topic = newTopic();
      const args = [...where, "-V", version, "-q", "2", "-t", topic];
      const sub = await new MosquittoSub([...args, "-C", "500"]).subscribed();
      const lines = Array.from({ length: 500 }, (_, i) => String(i));
      await mosquittoPub([...args, "-l"], `${lines.join("\n")}\n`);
      expect(await sub.ended()).toBe(0);
      expect(sub.messages.map(({ payload }) => payload)).toEqual(lines);
    });

    test("over TLS, with the certificate checked", async () => {
      const topic = newTopic();
      const tls = ["-h", "127.0.0.1", "-p", String(four.ports.tls), "--cafile", four.cafile];
      const args = [...tls, "-V", version, "-q", "1", "-t", topic];
      const sub = await new MosquittoSub([...args, "-C", "1"]).subscribed();
      await mosquittoPub([...args, "-m", "secret"]);
      expect(await sub.ended()).toBe(0);
      expect(sub.messages).toMatchObject([{ payload: "secret" }]);
    });

    test("a megabyte", async () => {
      const topic = newTopic();
      const args = [...where, "-V", version, "-q", "1", "-t", topic];
      const payload = "0123456789abcdef".repeat(65_536);
      const sub = await new MosquittoSub([...args, "-C", "1"]).subscribed();
      await mosquittoPub([...args, "-s"], payload);
      expect(await sub.ended()).toBe(0);
      expect(sub.messages[0]?.payload === payload).toBe(true);
    });
  });

  test("mqttv5 properties arrive, expiry counts down", async () => {
    const topic = newTopic();
    const args = [...where, "-V", "mqttv5", "-q", "1", "-t", topic];
    const properties = [
      ...["-D", "publish", "content-type", "text/plain"],
      ...["-D", "publish", "response-topic", "answer/here"],
      ...["-D", "publish", "correlation-data", "abc"],
      ...["-D", "publish", "user-property", "k", "1"],
      ...["-D", "publish", "user-property", "k", "2"],
      ...["-D", "publish", "message-expiry-interval", "100"],
    ];
    const sub = await new MosquittoSub([
      ...args,
      ...["-C", "1", "-F", "SEEN %C|%R|%D|%P|%E|%p"],
    ]).subscribed();
    await mosquittoPub([...args, "-m", "x", ...properties]);
    expect(await sub.ended()).toBe(0);
    expect(sub.output).toMatch(/SEEN text\/plain\|answer\/here\|abc\|k:1 k:2\|(100|99|98)\|x/);
  });

  test("mqttv5 shared subscriptions share", async () => {
    const topic = newTopic();
    const args = [...where, "-V", "mqttv5", "-q", "1"];
    const shared = [...args, "-t", `$share/g/${topic}`];
    const members = await Promise.all([
      new MosquittoSub(shared).subscribed(),
      new MosquittoSub(shared).subscribed(),
    ]);
    const lines = Array.from({ length: 40 }, (_, i) => String(i));
    await mosquittoPub([...args, "-t", topic, "-l"], `${lines.join("\n")}\n`);
    const all = () => members.flatMap((member) => member.messages.map(({ payload }) => payload));
    await expect.poll(() => all().length, { timeout: 5000 }).toBe(40);
    expect(all().toSorted((a, b) => Number(a) - Number(b))).toEqual(lines);
  });
});
