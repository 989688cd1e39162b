import { beforeAll, describe, expect, it } from "vitest";
import { type LuaBroker, startLua } from "../../support/lua.ts";
import { connectClient, type Packet, type RawClient } from "../../support/raw-client.ts";
import { answeringScript, type Recorded, recordedAnswers } from "./recorded.ts";

/** Recordings of VerneMQ 2.2.0: what answers of the subscribe, unsubscribe and deliver hooks do to a client. */

/** What a client saw: the codes of its acknowledgement, or "closed", and what it received, in order of topics. */
interface Seen {
  readonly codes: readonly number[] | "closed";
  readonly received: readonly string[];
}

const RW = (qos: number, properties = ""): readonly string[] => [
  `q${qos} "rw/@"${properties} payload="rw/"`,
];
const UNSUBSCRIBED_B: readonly string[] = ['q0 "s/a/@" payload="s/a/"'];
const UNSUBSCRIBED_A: readonly string[] = ['q0 "s/b/@" payload="s/b/"'];
const ALL = (properties = ""): readonly string[] =>
  ["a", "b", "c"].map((name, qos) => `q${qos} "s/${name}/@"${properties} payload="s/${name}/"`);

/**
 * Where the recording breaks MQTT: an answer that cannot be used refuses, and closes nothing; each filter has
 * a code [MQTT-3.8.4-5], and what a list leaves out is refused; the packet's subscription identifier stays
 * [MQTT-3.3.4-3]; `{}` changes nothing; versions share their forms of answers.
 */
const BETTER: Readonly<Record<string, Seen>> = {
  "auth_on_subscribe {}": { codes: [0, 1, 2], received: ALL() },
  "auth_on_subscribe_m5 {}": { codes: [0, 1, 2], received: ALL(" {subscription_id=3}") },
  "auth_on_subscribe {nosuchkey_zzz=1}": { codes: [0x80, 0x80, 0x80], received: [] },
  "auth_on_subscribe_m5 {nosuchkey_zzz=1}": { codes: [0x87, 0x87, 0x87], received: [] },
  'auth_on_subscribe {{"rw/@",2}}': { codes: [2, 0x80, 0x80], received: RW(2) },
  'auth_on_subscribe {{"rw/@"}}': { codes: [0x80, 0x80, 0x80], received: [] },
  'auth_on_subscribe_m5 {topics={{"rw/@",{2,{rap=true}}}}}': {
    codes: [2, 0x87, 0x87],
    received: RW(2, " {subscription_id=3}"),
  },
  'auth_on_subscribe_m5 {topics={{"rw/@",{1,{rap=true,no_local=false,retain_handling="dont_send"}}},{"f/@",135}}}':
    { codes: [1, 0x87, 0x87], received: RW(1, " {subscription_id=3}") },
  'auth_on_subscribe_m5 {topics={{"rw/@",1}}}': {
    codes: [1, 0x87, 0x87],
    received: RW(1, " {subscription_id=3}"),
  },
  'auth_on_subscribe_m5 {{"rw/@",2}}': {
    codes: [2, 0x87, 0x87],
    received: RW(2, " {subscription_id=3}"),
  },
  "auth_on_subscribe_m5 {topics={}}": { codes: [0x87, 0x87, 0x87], received: [] },
  'auth_on_subscribe_m5 {topics={{"rw/@",{1,{sub_id=4}}}}}': {
    codes: [1, 0x87, 0x87],
    received: RW(1, " {subscription_id=4}"),
  },
  'auth_on_subscribe_m5 {topics={{"rw/@",{1,{}}}},properties={p_reason_string="rs"}}': {
    codes: [1, 0x87, 0x87],
    received: RW(1, " {subscription_id=3}"),
  },
  "on_unsubscribe {}": { codes: [], received: UNSUBSCRIBED_A },
  'on_unsubscribe {topics={"s/b/@"}}': { codes: [], received: UNSUBSCRIBED_B },
  'on_unsubscribe_m5 {"s/b/@"}': { codes: [0], received: UNSUBSCRIBED_B },
};

function recordedSeen({ client, hook, lua_returned }: Recorded): Seen {
  const id = /"\w+\/(?:\w\/)?(y\d+)"/.exec(client[0] ?? "")?.[1] ?? "?";
  const ack = client.find((line) => /^A< (SUB|UNSUB)ACK/.test(line));
  const listed = /\[(.*)\]/.exec(ack ?? "")?.[1];
  const codes = (listed ?? "").split(" ").filter((code) => code !== "");
  // VerneMQ's hooks see, and answer, the filters in reverse order.
  if (hook.startsWith("auth_on_subscribe") && lua_returned.startsWith("{")) codes.reverse();
  const isClosed = client.includes("A: close");
  return {
    codes: isClosed ? "closed" : codes.map((code) => Number.parseInt(code, 16)),
    received: client
      .filter((line) => line.startsWith("A< PUBLISH"))
      .map((line) =>
        line
          .replace(/^A< PUBLISH (q\d) r\d d\d (m\d+ )?/, "$1 ")
          .replace(/ @\d+ms$/, "")
          .replaceAll(id, "@"),
      )
      .sort(),
  };
}

function shown(packet: Packet, id: string): string {
  const { contentType, userProperties, subscriptionIdentifiers } = packet.properties ?? {};
  const parts = [
    ...(subscriptionIdentifiers ?? []).map((one) => `subscription_id=${one}`),
    ...(contentType === undefined ? [] : [`content_type=${contentType}`]),
    ...(userProperties ?? []).map(([key, value]) => `user_property=${key}=${value}`),
  ];
  const properties = parts.length === 0 ? "" : ` {${parts.join(", ")}}`;
  return `q${packet.qos} "${packet.topic}"${properties} payload="${packet.payload}"`.replaceAll(
    id,
    "@",
  );
}

describe.each([
  "auth_on_subscribe",
  "auth_on_subscribe_m5",
  "on_unsubscribe",
  "on_unsubscribe_m5",
  "on_deliver",
  "on_deliver_m5",
])("answers of %s", (hook) => {
  const cases = recordedAnswers(hook);
  const isV5 = hook.endsWith("_m5");
  const version = isV5 ? 5 : 4;
  let lua: LuaBroker;
  let publisher: RawClient;

  beforeAll(async () => {
    lua = await startLua({ scripts: { "a.lua": answeringScript(hook, cases) }, scope: "file" });
    publisher = await connectClient(lua.port, 5, { clientId: "p" }, { scope: "file" });
  });

  async function publish(topics: readonly string[], qos: number): Promise<void> {
    for (const topic of topics) {
      const properties = hook.startsWith("on_deliver")
        ? { contentType: "ct", userProperties: [["k1", "v1"]] as [string, string][] }
        : {};
      const [first = "", second = ""] = topic.split("/");
      const isTwo = topic.startsWith("s/");
      const payload = first === "d" ? "orig" : isTwo ? `s/${second}/` : `${first}/`;
      await publisher.published({ topic, qos, payload, properties });
    }
  }

  async function seen(client: RawClient, id: string, count: number): Promise<Seen> {
    const codes = await exchange(client, id);
    if (codes === "closed") return { codes, received: [] };
    const received = (await client.receive(count)).map((one) => shown(one, id));
    client.pingreq();
    for (let one = await client.next(); one.type !== "pingresp"; one = await client.next()) {
      received.push(shown(one, id));
    }
    return { codes, received: received.sort() };
  }

  async function exchange(client: RawClient, id: string): Promise<Seen["codes"]> {
    if (hook.startsWith("auth_on_subscribe")) {
      const filters = ["a", "b", "c"].map((name, qos) => ({ filter: `s/${name}/${id}`, qos }));
      const codes = await client
        .subscribed(filters, isV5 ? { properties: { subscriptionIdentifiers: [3] } } : {})
        .catch((error: unknown) => (client.isClosed ? ("closed" as const) : Promise.reject(error)));
      if (codes !== "closed") {
        await publish([`s/a/${id}`, `s/b/${id}`, `s/c/${id}`, `rw/${id}`], 2);
      }
      return codes;
    }
    if (hook.startsWith("on_unsubscribe")) {
      await client.subscribed([`s/a/${id}`, `s/b/${id}`]);
      const { codes } = await client.unsubscribed(`s/a/${id}`);
      await publish([`s/a/${id}`, `s/b/${id}`], 0);
      return codes ?? [];
    }
    await client.subscribed(`d/${id}`, { qos: 1 });
    await publish([`d/${id}`], 1);
    return [];
  }

  it.each(cases.map((recorded, i) => [recorded.lua_returned, i] as const))(
    "%s",
    async (text, i) => {
      const id = `g${i}`;
      const client = await connectClient(lua.port, version, {
        ...{ clientId: id, username: "u", password: "p" },
      });
      const expected = BETTER[`${hook} ${text}`] ?? recordedSeen(cases[i] as Recorded);
      expect(await seen(client, id, expected.received.length)).toEqual(expected);
    },
  );
});
