import { describe, expect, test } from "vitest";
import type { HookArgs, PluginHooks, RegisterModifiers } from "../../../core/hooks/types.ts";
import { PUBLISH, rig, WHO } from "./support.ts";

const REGISTER: HookArgs["auth_on_register_m5"] = {
  ...WHO,
  peer: { address: "127.0.0.1", port: 1 } as HookArgs["auth_on_register_m5"]["peer"],
  password: Buffer.from("p"),
  connection_meta: undefined,
  clean_start: true,
  properties: { p_receive_max: 5 },
};

function v3(hooks: PluginHooks) {
  return rig([{ name: "v3", hooks }]).registry;
}

describe("a plugin with 3.x hooks only is asked for MQTT 5 clients through them", () => {
  test("auth_on_register: clean_start comes as clean_session, properties do not come", () => {
    const seen: unknown[] = [];
    const registry = v3({
      auth_on_register: (args) => {
        seen.push(args);
        return "ok";
      },
    });
    expect(registry.ask("auth_on_register_m5", REGISTER)).toBe("ok");
    const { clean_start, properties, ...rest } = REGISTER;
    expect(seen).toEqual([{ ...rest, clean_session: true }]);
  });

  test("auth_on_register: modifiers stay, retry_interval has no meaning, errors stay errors", () => {
    const answers: [RegisterModifiers, unknown][] = [
      [{ clean_session: false, username: "n" }, { ok: { clean_session: false, username: "n" } }],
      [{ retry_interval: 500, upgrade_qos: true }, { ok: { upgrade_qos: true } }],
      [{ retry_interval: 500 }, "ok"],
    ];
    for (const [given, expected] of answers) {
      const registry = v3({ auth_on_register: () => ({ ok: given }) });
      expect(registry.ask("auth_on_register_m5", REGISTER)).toEqual(expected);
    }
    const registry = v3({ auth_on_register: () => ({ error: { reason_code: 0x97 } }) });
    expect(registry.ask("auth_on_register_m5", REGISTER)).toEqual({ error: { reason_code: 0x97 } });
  });

  test("modifiers of MQTT 5 alone are refused in a 3.x answer, naming the hook that gave it", () => {
    const { registry, failures } = rig([
      { name: "v3", hooks: { auth_on_register: () => ({ ok: { session_expiry_interval: 5 } }) } },
    ]);
    expect(registry.ask("auth_on_register_m5", REGISTER)).toEqual({ error: "invalid_modifiers" });
    expect(String(failures[0]?.failure)).toContain(
      "plugin v3, auth_on_register: session_expiry_interval is no modifier of auth_on_register",
    );
  });

  test("auth_on_publish: {ok, payload} and modifiers", () => {
    const registry = v3({ auth_on_publish: ({ topic }) => ({ ok: topic }) });
    expect(registry.ask("auth_on_publish_m5", PUBLISH)).toEqual({
      ok: { payload: Buffer.from("a/b") },
    });
  });

  test("auth_on_subscribe: sees topic and qos alone; its list becomes { topics }", () => {
    const seen: unknown[] = [];
    const registry = v3({
      auth_on_subscribe: ({ topics, ...rest }) => {
        seen.push({ topics, ...rest });
        return { ok: topics.map(({ topic }) => ({ topic: `new/${topic}`, qos: "not_allowed" })) };
      },
    });
    const args = {
      ...WHO,
      topics: [{ topic: "a", qos: 1, rap: true, no_local: true, sub_id: 5 }],
      properties: { p_subscription_id: [5] },
    };
    expect(registry.ask("auth_on_subscribe_m5", args)).toEqual({
      ok: { topics: [{ topic: "new/a", qos: 0x87 }] },
    });
    expect(seen).toEqual([{ ...WHO, topics: [{ topic: "a", qos: 1 }] }]);
  });

  test("on_unsubscribe: its list becomes { topics }", () => {
    const registry = v3({
      on_unsubscribe: ({ topics }) => ({ ok: topics.map((one) => `x/${one}`) }),
    });
    const args = { ...WHO, topics: ["a"], properties: {} };
    expect(registry.ask("on_unsubscribe_m5", args)).toEqual({ ok: { topics: ["x/a"] } });
  });

  test("events come without properties; the context of the session comes along", () => {
    const seen: unknown[] = [];
    const registry = v3({
      on_register: (args) => void seen.push(args, (args as { context?: unknown }).context),
      on_subscribe: (args) => void seen.push(args),
    });
    const args = { ...WHO, peer: REGISTER.peer, properties: {}, connect_properties: {} };
    Object.defineProperty(args, "context", { value: { claim: 1 } });
    registry.tell("on_register_m5", args);
    registry.tell("on_subscribe_m5", {
      ...WHO,
      topics: [{ topic: "a", qos: 0, rap: true }],
      properties: {},
    });
    expect(seen).toEqual([
      { ...WHO, peer: REGISTER.peer },
      { claim: 1 },
      { ...WHO, topics: [{ topic: "a", qos: 0 }] },
    ]);
  });

  test("on_deliver rewrites for MQTT 5 receivers; on_publish is told of their messages", () => {
    let told = 0;
    const registry = v3({
      on_deliver: () => ({ ok: { topic: "t" } }),
      on_publish: () => void told++,
    });
    expect(registry.ask("on_deliver_m5", PUBLISH)).toEqual({ ok: { topic: "t" } });
    registry.tell("on_publish_m5", PUBLISH);
    expect(told).toBe(1);
  });
});

describe("limits of it", () => {
  test("a plugin with the MQTT 5 hook is asked through that one alone", () => {
    const registry = v3({
      auth_on_publish: () => ({ error: "v3" }),
      auth_on_publish_m5: () => "ok",
    });
    expect(registry.ask("auth_on_publish_m5", PUBLISH)).toBe("ok");
    expect(registry.chains.auth_on_publish_m5).toHaveLength(1);
  });

  test("v5Compat = false switches it off: MQTT 5 clients find no hook", () => {
    const { registry } = rig([
      { name: "v3", v5Compat: false, hooks: { auth_on_publish: () => "ok", on_publish: () => {} } },
    ]);
    expect(registry.ask("auth_on_publish_m5", PUBLISH)).toEqual({
      error: "no_matching_hook_found",
    });
    expect(registry.wants("on_publish_m5")).toBe(false);
    expect(registry.ask("auth_on_publish", PUBLISH)).toBe("ok");
  });

  test("never the other way round: an MQTT 5 hook does not answer for 3.x clients", () => {
    const registry = v3({ auth_on_publish_m5: () => "ok" });
    expect(registry.ask("auth_on_publish", PUBLISH)).toEqual({ error: "no_matching_hook_found" });
  });

  test("a chain link says which hook answers", () => {
    const registry = v3({ auth_on_publish: () => "ok" });
    expect(registry.chains.auth_on_publish_m5[0]).toMatchObject({
      plugin: "v3",
      hook: "auth_on_publish_m5",
      answeredBy: "auth_on_publish",
    });
  });
});
