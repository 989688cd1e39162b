import type { IPublishPacket, MqttClient } from "mqtt";
import { beforeAll, describe, expect, it } from "vitest";
import { waitFor } from "../../support/broker.ts";
import { type LuaBroker, startLua } from "../../support/lua.ts";
import { answeringScript, type Recorded, recordedAnswers, recordedText } from "./recorded.ts";

/**
 * Recordings of VerneMQ 2.2.0: what a hook's answer does to the client, and the keys and types of
 * the argument tables.
 */

/** Answers that VerneMQ meets with a closed socket or an error, and we take as what they say. */
const BETTER = new Set([
  "auth_on_register {}",
  "auth_on_register_m5 {}",
  "auth_on_register_m5 {properties={}}",
  "auth_on_publish {}",
  "auth_on_publish_m5 {}",
  "auth_on_publish_m5 {properties={}}",
  // The mountpoint stays; both names mean the same; CONNACK tells the client.
  'auth_on_register {subscriber_id={client_id="new"}}',
  'auth_on_register_m5 {subscriber_id={client_id="new"}}',
  "auth_on_register {clean_start=false}",
  "auth_on_register_m5 {clean_start=false}",
  "auth_on_register_m5 {properties={p_max_qos=0}}",
]);

/** A script's error is told as what it is, not as a wrong password. */
const OTHER_CODE: Readonly<Record<string, number>> = {
  'auth_on_register_m5 error("boom")': 0x88,
};

/** As the recordings show them. */
function propertiesText(properties: NonNullable<IPublishPacket["properties"]>): string {
  const parts = [
    ["content_type", properties.contentType],
    ["correlation_data", properties.correlationData],
    ["message_expiry", properties.messageExpiryInterval],
    ["payload_format", properties.payloadFormatIndicator === true ? 1 : undefined],
    ["response_topic", properties.responseTopic],
    ...Object.entries(properties.userProperties ?? {}).map(([key, value]) => [
      "user_property",
      `${key}=${value}`,
    ]),
  ].flatMap(([name, value]) => (value === undefined ? [] : [`${name}=${value}`]));
  return parts.length === 0 ? "" : ` {${parts.join(", ")}}`;
}

describe.each(["auth_on_register", "auth_on_register_m5"])("answers of %s", (hook) => {
  const cases = recordedAnswers(hook);
  let lua: LuaBroker;
  beforeAll(async () => {
    lua = await startLua({ scripts: { "a.lua": answeringScript(hook, cases) }, scope: "file" });
  });

  it.each(cases.map((recorded, i) => [recorded.lua_returned, i] as const))(
    "%s",
    async (returned, i) => {
      const isV5 = hook.endsWith("_m5");
      const { client } = cases[i] as Recorded;
      const connack = client.find((line) => line.startsWith("A< CONNACK"));
      const code = Number.parseInt(/rc=0x(\w+)/.exec(connack ?? "")?.[1] ?? "-1", 16);
      const outcome = await lua
        .connect({ clientId: `g${i}`, username: "u", password: "p", protocolVersion: isV5 ? 5 : 4 })
        .then(
          () => 0,
          (error: { code: number }) => error.code,
        );
      if (BETTER.has(`${hook} ${returned}`)) expect(outcome).toBe(0);
      else if (code < 0) expect(outcome).not.toBe(0);
      else expect(outcome).toBe(OTHER_CODE[`${hook} ${returned}`] ?? code);
    },
  );
});

describe.each(["auth_on_publish", "auth_on_publish_m5"])("answers of %s", (hook) => {
  const cases = recordedAnswers(hook);
  const isV5 = hook.endsWith("_m5");
  let lua: LuaBroker;
  let subscriber: MqttClient;
  const received: string[] = [];
  beforeAll(async () => {
    lua = await startLua({ scripts: { "a.lua": answeringScript(hook, cases) }, scope: "file" });
    subscriber = await lua.connect({
      clientId: "S",
      username: "u",
      password: "p",
      protocolVersion: 5,
    });
    await subscriber.subscribeAsync(["t/#", "rw/#"], { qos: 2 });
    subscriber.on("message", (topic, payload, { qos, properties }) => {
      const shown = isV5 ? propertiesText(properties ?? {}) : "";
      received.push(`q${qos} "${topic}"${shown} payload="${payload}"`);
    });
  });

  it.each(cases.map((recorded, i) => [recorded.lua_returned, i] as const))(
    "%s",
    async (returned, i) => {
      const { client: lines } = cases[i] as Recorded;
      const delivered = lines.find((line) => line.startsWith("S< PUBLISH"));
      const isAccepted = lines.some((line) => /^A< PUBACK m5( rc=\(absent\))?$/.test(line));
      const id = `g${i}`;
      const client = await lua.connect({
        ...{ clientId: id, username: "u", password: "p" },
        protocolVersion: isV5 ? 5 : 4,
      });
      const properties = { contentType: "ct", userProperties: { k1: "v1" } };
      const closed = new Promise<string>((resolve) =>
        client.once("close", () => resolve("closed")),
      );
      const acknowledged = client
        .publishAsync(`t/${id}`, "orig", { qos: 1, ...(isV5 ? { properties } : {}) })
        .then(
          () => "accepted",
          () => "refused",
        );
      const outcome = await Promise.race([acknowledged, closed]);
      if (BETTER.has(`${hook} ${returned}`)) {
        expect(outcome).toBe("accepted");
        return;
      }
      expect(outcome === "accepted").toBe(isAccepted);
      if (delivered === undefined) return;
      const recordedId = /"t\/(\w+)"/.exec(
        lines.find((line) => line.startsWith("A> PUBLISH")) ?? "",
      )?.[1];
      const expected = delivered
        .replaceAll(recordedId ?? "?", id)
        .replace(/^S< PUBLISH (q\d) r\d d\d (m\d+ )?/, "$1 ");
      await waitFor(`${expected} among ${received.slice(-3).join(" | ")}`, () =>
        received.includes(expected),
      );
    },
  );
});

describe("argument tables", () => {
  type Call = { case: string; args: Record<string, unknown>; lua_types?: Record<string, unknown> };
  const recorded = JSON.parse(recordedText("arguments.json")) as Record<string, Call[]>;

  it("have the keys and types that VerneMQ's have, for every hook", async () => {
    const note = (hook: string): string =>
      `hooks.${hook} = function(a) kv.insert("args", { ${hook} = { types = types(a), args = json.encode(a) } }) return true end`;
    const names = Object.keys(recorded);
    const lua = await startLua({
      scripts: {
        "a.lua": `kv.ensure_table { name = "args", type = "duplicate_bag" }
          local function types(v)
            if type(v) ~= "table" then return math.type(v) or type(v) end
            local t = {} for k, x in pairs(v) do t[tostring(k)] = types(x) end return t
          end
          hooks = {}
          ${names.map(note).join("\n")}
          local answer = hooks.auth_on_publish
          hooks.auth_on_publish = function(a)
            if a.topic ~= "report" then return answer(a) end
            local all = {}
            for _, hook in ipairs { ${names.map((name) => `"${name}"`).join(", ")} } do
              all[hook] = kv.lookup("args", hook)
            end
            return { payload = json.encode(all) }
          end`,
      },
    });
    const connect = (id: string, more: object = {}): Promise<MqttClient> =>
      lua.connect({ clientId: id, username: "u", password: "p", ...more });
    const watcher = await connect("watcher");
    const away = await connect("away", { clean: false });
    await away.subscribeAsync("off", { qos: 1 });
    await away.endAsync();
    const v4 = await connect("v4", { will: { topic: "w", payload: "x", qos: 1, retain: false } });
    await v4.subscribeAsync({ a: { qos: 1 }, "$share/g/b": { qos: 2 } });
    await v4.publishAsync("a", "x", { qos: 1 });
    await v4.publishAsync("off", "x", { qos: 1 });
    await v4.unsubscribeAsync("a");
    const v5 = await connect("v5", {
      protocolVersion: 5,
      properties: {
        sessionExpiryInterval: 1,
        receiveMaximum: 5,
        userProperties: { k: ["1", "2"] },
      },
    });
    const options = { qos: 1 as const, nl: true, rap: true, rh: 1 };
    await v5.subscribeAsync("m", { ...options, properties: { subscriptionIdentifier: 7 } });
    const other = await connect("v5b", { protocolVersion: 5 });
    await other.subscribeAsync("p5");
    await v5.publishAsync("p5", "x", {
      properties: {
        payloadFormatIndicator: true,
        messageExpiryInterval: 30,
        contentType: "ct",
        responseTopic: "re",
        correlationData: Buffer.from("cd"),
        userProperties: { k: "v" },
      },
    });
    await other.unsubscribeAsync("p5");
    await v5.endAsync();
    await v4.endAsync();
    await connect("auth", {
      protocolVersion: 5,
      properties: { authenticationMethod: "M", authenticationData: Buffer.from("d") },
    }).catch(() => undefined);
    await watcher.subscribeAsync("report");
    type Seen = Record<string, { types: Record<string, unknown>; args: string }[]>;
    const seen = await waitFor(
      "all hooks were called",
      async () => {
        const received = new Promise<Buffer>((resolve) =>
          watcher.once("message", (_, payload) => resolve(payload)),
        );
        await watcher.publishAsync("report", "");
        const all = JSON.parse((await received).toString()) as Seen;
        return names.every((name) => (all[name] ?? []).length > 0) ? all : false;
      },
      15_000,
    );
    for (const [hook, calls] of Object.entries(recorded)) {
      const keys = new Set(calls.flatMap(({ args }) => Object.keys(args)));
      const meta = ["listener_addr", "listener_port", "listener_type", "password_decrypted"];
      for (const key of meta) keys.delete(key);
      // VerneMQ does not know the client yet.
      if (hook === "on_auth_m5") keys.add("username");
      const ours = new Set((seen[hook] ?? []).flatMap(({ types }) => Object.keys(types)));
      expect([hook, [...ours].sort()]).toEqual([hook, [...keys].sort()]);
      const types: Record<string, unknown> = Object.assign(
        {},
        ...calls.map((call) => call.lua_types),
      );
      for (const { types: own } of seen[hook] ?? []) {
        for (const [key, type] of Object.entries(own)) {
          const known = types[key];
          if (typeof known === "string") expect([hook, key, type]).toEqual([hook, key, known]);
        }
      }
    }
    const subscribed = seen.auth_on_subscribe_m5?.map(({ args }) => JSON.parse(args) as object);
    expect(subscribed).toContainEqual({
      ...{ client_id: "v5", mountpoint: "", username: "u" },
      topics: [
        ["m", [1, { no_local: true, rap: true, retain_handling: "send_if_new_sub", sub_id: 7 }]],
      ],
      properties: { p_subscription_id: [7] },
    });
  }, 60_000);
});
