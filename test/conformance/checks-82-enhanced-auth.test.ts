import { describe, expect, test } from "vitest";
import type { Broker } from "../../core/broker-types.ts";
import type { AuthArgs, AuthModifiers, Verdict } from "../../core/hooks/types.ts";
import { startBroker } from "../support/broker.ts";
import { pluginWith, recordingPlugin } from "../support/plugins.ts";
import { connectClient, openClient, type RawClient } from "../support/raw-client.ts";

/** Check M-82: enhanced authentication. */

describe("M-82 enhanced authentication", () => {
  const METHOD = "method1";

  /** client1 → continue server1, client2 → continue server2, client3 → success, as a challenge game. */
  function challenge({ properties }: AuthArgs): Verdict<AuthModifiers> {
    const { p_authentication_method: method, p_authentication_data: data } = properties;
    if (method !== METHOD) return { error: { reason_code: "bad_authentication_method" } };
    const said = data?.toString() ?? "";
    const step = /^client(\d)$/.exec(said)?.[1];
    if (step === undefined) {
      return {
        error: { reason_code: "not_authorized", reason_string: `Bad authentication data: ${said}` },
      };
    }
    return {
      ok: {
        reason_code: step === "3" ? "success" : "continue_authentication",
        properties: {
          p_authentication_method: METHOD,
          p_authentication_data: Buffer.from(`server${step}`),
        },
      },
    };
  }

  async function authBroker(settings: Record<string, string> = {}) {
    const recorder = recordingPlugin();
    const broker = await startBroker(settings, [
      recorder.plugin,
      pluginWith({ on_auth_m5: challenge }),
    ]);
    return { broker, recorder };
  }

  function said(data: string, method = METHOD) {
    return { authenticationMethod: method, authenticationData: Buffer.from(data) };
  }

  async function started(broker: Broker): Promise<RawClient> {
    const client = await openClient(broker, 5);
    client.connect({ clientId: "c", username: "u", properties: said("client1") });
    await client.expect("auth", { code: 0x18, exactProperties: said("server1") });
    return client;
  }

  async function authenticated(broker: Broker): Promise<RawClient> {
    const client = await started(broker);
    client.auth(0x18, said("client2"));
    await client.expect("auth", { code: 0x18, exactProperties: said("server2") });
    client.auth(0x18, said("client3"));
    await client.expect("connack", { code: 0, properties: said("server3") });
    return client;
  }

  test("M-82 AUTH 0x18 twice, then CONNACK with Method and Data", async () => {
    const { broker, recorder } = await authBroker();
    const client = await authenticated(broker);
    await client.subscribed("a");
    // Differs from VerneMQ: the hook knows who is asked for.
    const [asked] = recorder.of("on_auth_m5");
    expect(asked).toMatchObject({ username: "u", subscriber_id: { client_id: "c" } });
    expect(recorder.of("on_auth_m5")).toHaveLength(3);
  });

  test("M-82 success at once → CONNACK with Method and Data", async () => {
    const { broker } = await authBroker();
    const client = await openClient(broker, 5);
    client.connect({ clientId: "c", properties: said("client3") });
    await client.expect("connack", { code: 0, properties: said("server3") });
  });

  test("M-82 afterwards auth_on_register_m5 is asked as well, unless anonymous", async () => {
    for (const anonymous of ["off", "on"]) {
      const { broker, recorder } = await authBroker({ allow_anonymous: anonymous });
      await authenticated(broker);
      expect(recorder.of("auth_on_register_m5")).toHaveLength(anonymous === "on" ? 0 : 1);
    }
  });

  test.each([
    { what: "PINGREQ", act: (c: RawClient) => c.pingreq() },
    { what: "PUBLISH", act: (c: RawClient) => c.publish({ topic: "a" }) },
    { what: "SUBSCRIBE", act: (c: RawClient) => c.subscribe("a") },
    { what: "CONNECT", act: (c: RawClient) => c.connect({ clientId: "c" }) },
    {
      what: "AUTH of another method",
      act: (c: RawClient) => c.auth(0x18, said("client2", "other")),
    },
  ])("M-82 $what before CONNACK → DISCONNECT 0x82", async ({ act }) => {
    const { broker } = await authBroker();
    const client = await started(broker);
    act(client);
    await client.ended(0x82);
    expect(broker.sessions()).toEqual([]);
  });

  test("M-82 DISCONNECT before CONNACK is allowed", async () => {
    const { broker } = await authBroker();
    const client = await started(broker);
    await client.disconnected();
  });

  test("M-82 unsupported method → CONNACK 0x8C", async () => {
    const { broker } = await authBroker();
    const client = await openClient(broker, 5);
    await client.refused({ clientId: "c", properties: said("client1", "other") }, 0x8c);
    const none = await startBroker();
    const nobody = await openClient(none, 5);
    await nobody.refused({ clientId: "c", properties: said("client1") }, 0x8c);
  });

  test("M-82 [W] a refusal during the exchange is a CONNACK with the code and text", async () => {
    const { broker } = await authBroker();
    const client = await started(broker);
    client.auth(0x18, said("nonsense"));
    await client.expect("connack", {
      code: 0x87,
      properties: { reasonString: "Bad authentication data: nonsense" },
    });
    await client.closed();
  });

  test("M-82 [W] the exchange has the time limit of CONNECT", async () => {
    const { broker } = await authBroker({ mqtt_connect_timeout: "300" });
    const client = await started(broker);
    const startedAt = performance.now();
    const last = await client.next(3000).catch(() => undefined);
    expect([undefined, "connack", "disconnect"]).toContain(last?.type);
    if (last !== undefined) await client.closed();
    expect(client.isClosed).toBe(true);
    expect(performance.now() - startedAt).toBeLessThan(3500);
  });

  test("M-82 re-authentication: ok → AUTH 0x00, in steps → AUTH 0x18, the session goes on", async () => {
    const { broker } = await authBroker();
    const client = await authenticated(broker);
    await client.subscribed("a");
    client.auth(0x19, said("client3"));
    await client.expect("auth", { code: 0, exactProperties: said("server3") });
    client.auth(0x19, said("client1"));
    await client.expect("auth", { code: 0x18, exactProperties: said("server1") });
    // Other packets may flow meanwhile.
    await client.published({ topic: "a", payload: "x", qos: 1 }).catch(() => undefined);
    expect(client.received.some((one) => one.type === "publish")).toBe(true);
    client.auth(0x18, said("client3"));
    const rest = [];
    for (;;) {
      const one = await client.next();
      rest.push(one.type);
      if (one.type === "auth") {
        expect(one.code).toBe(0);
        break;
      }
    }
    await client.expectNothing();
  });

  test("M-82 re-authentication bad → DISCONNECT 0x87 with the text; the will is published", async () => {
    const { broker } = await authBroker();
    const s = await connectClient(broker, 4, { clientId: "s" });
    await s.subscribed("will");
    const client = await openClient(broker, 5);
    const will = { topic: "will", payload: "gone" };
    client.connect({ clientId: "c", will, properties: said("client3") });
    await client.expect("connack", { code: 0 });
    client.auth(0x19, said("baddata"));
    await client.ended(0x87, {
      properties: { reasonString: "Bad authentication data: baddata" },
    });
    await s.delivered({ payload: "gone" });
  });

  test("M-82 [W] re-authentication with another method → DISCONNECT 0x82", async () => {
    const { broker } = await authBroker();
    const client = await authenticated(broker);
    client.auth(0x19, said("client3", "other"));
    await client.ended(0x82);
  });

  test("M-82 [W] AUTH on a session that did not use it → DISCONNECT 0x82", async () => {
    const { broker } = await authBroker();
    const client = await connectClient(broker, 5, { clientId: "c" });
    client.auth(0x19, said("client3"));
    await client.ended(0x82);
  });

  test("M-82 AUTH before MQTT 5 → closed", async () => {
    const { broker } = await authBroker();
    for (const version of [3, 4] as const) {
      const client = await connectClient(broker, version, { clientId: "c" });
      client.auth(0x19, said("client3"));
      await client.closed();
    }
  });
});
