import { beforeAll, describe, expect, it } from "vitest";
import { type LuaBroker, startLua } from "../../support/lua.ts";
import { openClient, type Packet, type RawClient } from "../../support/raw-client.ts";
import { recordedAnswers } from "./recorded.ts";

/**
 * Answers of on_auth_m5. VerneMQ 2.2.0 closes the socket after every one of those that were recorded, the
 * right ones too, so the same scripts are asked here for what they say [MQTT-4.12.0].
 */

/** What follows the CONNECT with method M and data D0, and an AUTH with D2 if there was a challenge. */
const DATA = '{p_authentication_method="M",p_authentication_data="D1"}';
const OURS: Readonly<Record<string, readonly string[]>> = {
  true: ["connack 0x0 M"],
  false: ["connack 0x87"],
  // No other script or plugin knows the method [MQTT-4.12.0-1].
  nil: ["connack 0x8c"],
  next: ["connack 0x8c"],
  '"next"': ["connack 0x8c"],
  [`{reason_code=0,properties=${DATA}}`]: ["connack 0x0 M D1"],
  // The script answers every AUTH with a further challenge.
  [`{reason_code=24,properties=${DATA}}`]: ["auth 0x18 M D1", "auth 0x18 M D1"],
  [`{reason_code="success",properties=${DATA}}`]: ["connack 0x0 M D1"],
};

const cases = recordedAnswers("on_auth_m5");
/** The client asks with its user name, since the id is not in every case known by then. */
const script = `local cases = { ${cases.map(({ lua_returned }, i) => `u${i} = function() return ${lua_returned} end`).join(",\n")} }
  local function yes() return true end
  hooks = { auth_on_register_m5 = yes, auth_on_publish_m5 = yes,
    on_auth_m5 = function(a) return cases[a.username](a) end }`;

function shown({ type, code, properties }: Packet): string {
  const { authenticationMethod: method, authenticationData: data } = properties ?? {};
  const auth = method === undefined ? "" : ` ${method} ${data ?? ""}`;
  return `${type} 0x${(code ?? 0).toString(16)}${auth}`.trimEnd();
}

describe("answers of on_auth_m5", () => {
  let lua: LuaBroker;
  beforeAll(async () => {
    lua = await startLua({ scripts: { "a.lua": script }, scope: "file" });
  });
  const ask = async (client: RawClient, username: string): Promise<string[]> => {
    client.connect({
      ...{ clientId: username, username, password: "p" },
      properties: { authenticationMethod: "M", authenticationData: Buffer.from("D0") },
    });
    const seen: string[] = [];
    const first = await client.next();
    seen.push(shown(first));
    if (first.type === "auth") {
      client.auth(0x18, { authenticationMethod: "M", authenticationData: Buffer.from("D2") });
      seen.push(shown(await client.next()));
    }
    return seen;
  };

  it.each(cases.map(({ lua_returned }, i) => [lua_returned, i] as const))("%s", async (text, i) => {
    const client = await openClient(lua.port, 5);
    expect(await ask(client, `u${i}`)).toEqual(OURS[text]);
  });
});

it("a script leads a client through several steps, and again while it is connected", async () => {
  const { port } = await startLua({
    scripts: {
      "a.lua": `local function yes() return true end
        local answers = { D0 = { 24, "more" }, D2 = { "success", "welcome" }, D3 = { "continue_authentication", "again" } }
        hooks = { auth_on_register_m5 = yes, auth_on_publish_m5 = yes, auth_on_subscribe_m5 = yes,
          on_auth_m5 = function(a)
            if a.client_id ~= "c" or a.mountpoint ~= "" or a.username ~= "bob" then return false end
            if a.properties.p_authentication_method ~= "M" then return false end
            local answer = answers[a.properties.p_authentication_data]
            if answer == nil then return false end
            return { reason_code = answer[1], properties = {
              p_authentication_method = "M", p_authentication_data = answer[2] } } end }`,
    },
  });
  const client = await openClient(port, 5);
  const step = async (code: number, data: string): Promise<string> => {
    client.auth(code, { authenticationMethod: "M", authenticationData: Buffer.from(data) });
    return shown(await client.next());
  };
  client.connect({
    ...{ clientId: "c", username: "bob", password: "p" },
    properties: { authenticationMethod: "M", authenticationData: Buffer.from("D0") },
  });
  expect(shown(await client.next())).toBe("auth 0x18 M more");
  expect(await step(0x18, "D2")).toBe("connack 0x0 M welcome");
  expect(await step(0x19, "D3")).toBe("auth 0x18 M again");
  expect(await step(0x18, "D2")).toBe("auth 0x0 M welcome");
  await client.published({ topic: "t", qos: 1, payload: "" });
  expect(await step(0x19, "wrong")).toBe("disconnect 0x87");
});
