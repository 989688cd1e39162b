import { describe, expect, test } from "vitest";
import { MODIFIERS } from "../../../core/hooks/modifier-table.ts";
import { checkVerdict } from "../../../core/hooks/modifiers.ts";
import type { ConditionalHook } from "../../../core/hooks/types.ts";

/** The modifiers a session gets; fails on a fault. */
function accepted(hook: ConditionalHook, ok: unknown): unknown {
  const { verdict, fault } = checkVerdict(hook, { ok });
  expect(fault).toBeUndefined();
  return typeof verdict === "object" && "ok" in verdict ? verdict.ok : verdict;
}

/** `field message` of the fault; fails when the answer was accepted. */
function fault(hook: ConditionalHook, ok: unknown): string {
  const { verdict, fault: found } = checkVerdict(hook, { ok });
  expect(verdict).toEqual({ error: "invalid_modifiers" });
  return `${found?.field} ${found?.message}`;
}

const EVERY: readonly ConditionalHook[] = [...new Set(MODIFIERS.flatMap(({ hooks }) => hooks))];

describe("every hook", () => {
  test.each(EVERY)("%s: ok and next are themselves; no modifiers are a plain ok", (hook) => {
    for (const plain of ["ok", { ok: {} }, { ok: { topic: undefined, retain: null } }]) {
      expect(checkVerdict(hook, plain)).toEqual({ verdict: "ok" });
    }
    expect(checkVerdict(hook, "next")).toEqual({ verdict: "next" });
  });

  test.each(EVERY)(
    "%s: an unknown modifier is refused, naming it and those that are allowed",
    (hook) => {
      const message = fault(hook, { thorttle: 1 });
      expect(message).toContain(`thorttle is no modifier of ${hook}; allowed: `);
      for (const row of MODIFIERS) {
        const isListed = message.split(/[ ,]+/).includes(row.name);
        if (row.hooks.includes(hook) && row.shape.kind !== "refused") expect(isListed).toBe(true);
      }
    },
  );

  test.each(EVERY)("%s: errors by name, number and object pass as they are", (hook) => {
    for (const error of ["no", 0x97, { reason_code: "quota_exceeded", reason_string: "q" }]) {
      expect(checkVerdict(hook, { error })).toEqual({ verdict: { error } });
    }
    expect(checkVerdict(hook, { error: "no", ok: {} }).verdict).toEqual({ error: "no" });
    expect(checkVerdict(hook, { error: true })).toMatchObject({
      verdict: { error: "invalid_answer" },
      fault: { field: "error" },
    });
  });
});

describe("values", () => {
  // Each range of the table is tried at its ends and one beyond.
  const integers = MODIFIERS.flatMap((row) =>
    row.shape.kind === "integer"
      ? row.hooks.map((hook) => ({
          hook,
          name: row.name,
          shape: row.shape as { min: number; max: number },
        }))
      : [],
  );

  test.each(integers)("$hook $name: numbers in range, rounded", ({ hook, name, shape }) => {
    for (const value of [shape.min, shape.max]) {
      expect(accepted(hook, { [name]: value })).toEqual({ [name]: value });
    }
    expect(accepted(hook, { [name]: shape.min + 0.6 })).toEqual({ [name]: shape.min + 1 });
    for (const value of [
      shape.min - 1,
      shape.max + 1,
      "1",
      Number.NaN,
      Number.POSITIVE_INFINITY,
      true,
      {},
    ]) {
      const text = fault(hook, { [name]: value });
      expect(text).toContain(`${name} must be a number from ${shape.min} to ${shape.max}`);
    }
  });

  const flags = MODIFIERS.filter((row) => row.shape.kind === "flag");

  test.each(flags)("$name: true or false, nothing like it", ({ hooks, name }) => {
    for (const hook of hooks) {
      expect(accepted(hook, { [name]: false })).toEqual({ [name]: false });
      for (const value of [0, 1, "true", "on", []]) {
        expect(fault(hook, { [name]: value })).toContain(`${name} must be true or false`);
      }
    }
  });

  const choices = MODIFIERS.filter((row) => row.shape.kind === "choice");

  test.each(choices)("$name: one of its names", ({ hooks, name, shape }) => {
    const values = shape.kind === "choice" ? shape.values : [];
    for (const hook of hooks) {
      for (const value of values)
        expect(accepted(hook, { [name]: value })).toEqual({ [name]: value });
      expect(fault(hook, { [name]: "FIFO" })).toContain(
        `${name} must be one of ${values.join(", ")}`,
      );
    }
  });

  const refused = MODIFIERS.filter((row) => row.shape.kind === "refused");

  test.each(refused)(
    "$name of VerneMQ is refused and says why: $effect",
    ({ hooks, name, effect }) => {
      for (const hook of hooks) expect(fault(hook, { [name]: 1 })).toBe(`${name} ${effect}`);
    },
  );

  test("subscriber_id: both fields, or the client id alone", () => {
    const hook = "auth_on_register";
    const whole = { mountpoint: "mp/", client_id: "c" };
    expect(accepted(hook, { subscriber_id: whole })).toEqual({
      subscriber_id: { mountpoint: "mp", client_id: "c" },
    });
    expect(accepted(hook, { subscriber_id: { client_id: "c" } })).toEqual({
      subscriber_id: { client_id: "c" },
    });
    expect(fault(hook, { subscriber_id: "c" })).toContain("subscriber_id must be {");
    expect(fault(hook, { subscriber_id: { client_id: "" } })).toContain(
      "subscriber_id.client_id must not",
    );
    expect(fault(hook, { subscriber_id: { mountpoint: "m" } })).toContain(
      "subscriber_id.client_id must be a string",
    );
    expect(fault(hook, { subscriber_id: { ...whole, clientid: 1 } })).toContain(
      "subscriber_id.clientid is not",
    );
    expect(fault(hook, { subscriber_id: { client_id: "\0" } })).toContain(
      "subscriber_id.client_id",
    );
  });

  test("properties: only those of the hook, with valid values", () => {
    const hook = "auth_on_register_m5";
    const properties = {
      p_session_expiry_interval: 5,
      p_max_qos: 1,
      p_user_property: [{ key: "k", val: "v" }],
    };
    expect(accepted(hook, { properties })).toEqual({ properties });
    expect(fault(hook, { properties: { p_max_qos: 2 } })).toContain(
      "properties.p_max_qos must be an integer from 0 to 1",
    );
    expect(fault(hook, { properties: { p_receive_max: 2 } })).toContain(
      "properties.p_receive_max is not possible here; allowed: p_session",
    );
    expect(fault(hook, { properties: 1 })).toContain("properties must be an object");
    expect(fault("auth_on_register", { properties })).toContain(
      "properties is no modifier of auth_on_register;",
    );
    const format = { p_payload_format_indicator: "unspecified" };
    expect(accepted("auth_on_publish_m5", { properties: format })).toEqual({ properties: format });
    expect(accepted("on_deliver_m5", { properties: {} })).toEqual({ properties: {} });
    expect(fault("on_deliver", { properties: {} })).toContain(
      "properties is no modifier of on_deliver;",
    );
    expect(fault("auth_on_subscribe_m5", { properties: { p_content_type: "x" } })).toContain(
      "properties.p_content_type",
    );
  });

  test("on_auth_m5: reason codes by name and number, authentication data without a method", () => {
    for (const [given, code] of [
      ["success", 0],
      [0, 0],
      ["continue_authentication", 24],
      [24, 24],
    ] as const) {
      expect(accepted("on_auth_m5", { reason_code: given })).toEqual({ reason_code: code });
    }
    for (const bad of ["banned", 25, -1, "continue"]) {
      expect(fault("on_auth_m5", { reason_code: bad })).toContain("reason_code must be success");
    }
    const properties = { p_authentication_data: Buffer.from("x") };
    expect(accepted("on_auth_m5", { properties })).toEqual({ properties });
  });
});

describe("payloads", () => {
  const HOOKS = ["auth_on_publish", "auth_on_publish_m5", "on_deliver", "on_deliver_m5"] as const;

  test.each(HOOKS)("%s: text and bytes, alone or as a modifier, become a Buffer", (hook) => {
    for (const payload of ["é", Buffer.from("é"), new Uint8Array(Buffer.from("é"))]) {
      expect(accepted(hook, payload)).toEqual({ payload: Buffer.from("é") });
      expect(accepted(hook, { payload })).toEqual({ payload: Buffer.from("é") });
    }
    expect(accepted(hook, "")).toEqual({ payload: Buffer.alloc(0) });
    expect(fault(hook, { payload: 5 })).toContain("payload must be a string or Buffer");
    expect(fault(hook, 5)).toContain("ok must be an object of modifiers, or a payload");
  });

  test("other hooks take no payload", () => {
    expect(fault("auth_on_register", "x")).toContain("ok must be an object of modifiers, not");
    expect(fault("auth_on_subscribe", "x")).toContain("ok must be a list of topics");
  });

  test.each(HOOKS)("%s: topics are topic names", (hook) => {
    for (const topic of ["", "a/+", "#", "a\0", 1]) {
      expect(fault(hook, { topic })).toMatch(/^topic /);
    }
  });
});

describe("lists", () => {
  const SUBSCRIBE = ["auth_on_subscribe", "auth_on_subscribe_m5"] as const;
  const UNSUBSCRIBE = ["on_unsubscribe", "on_unsubscribe_m5"] as const;

  test.each(SUBSCRIBE)(
    "%s: QoS, not_allowed and reasons by name and number, as a list or { topics }",
    (hook) => {
      const topics = [
        { topic: "a/#", qos: 2 },
        { topic: "b", qos: "not_allowed" },
        { topic: "c", qos: "quota_exceeded" },
        { topic: "not#valid", qos: 128 },
      ];
      const checked = {
        topics: topics.map(({ topic }, i) => ({ topic, qos: [2, 0x87, 0x97, 128][i] })),
      };
      expect(accepted(hook, topics)).toEqual(checked);
      expect(accepted(hook, { topics })).toEqual(checked);
    },
  );

  test.each(SUBSCRIBE)("%s: a bad entry is named", (hook) => {
    expect(
      fault(hook, [
        { topic: "a", qos: 0 },
        { topic: "a/b#", qos: 1 },
      ]),
    ).toMatch(/^topics\.\[1\]\.topic /);
    for (const qos of [3, 127, 256, -1, 0.5, "yes", undefined]) {
      expect(fault(hook, [{ topic: "a", qos }])).toMatch(/^topics\.\[0\]\.qos must be 0, 1, 2 or/);
    }
    expect(fault(hook, ["a"])).toContain("topics.[0] must be { topic, qos }");
    expect(fault(hook, [{ topic: "a", qos: 0, nolocal: true }])).toContain("topics.[0].nolocal");
    expect(fault(hook, [{ topic: "a", qos: 0, sub_id: 0 }])).toContain("topics.[0].sub_id");
  });

  test.each(SUBSCRIBE)("%s: an empty list is not a plain ok: it grants nothing", (hook) => {
    expect(accepted(hook, [])).toEqual({ topics: [] });
    expect(accepted(hook, { topics: [] })).toEqual({ topics: [] });
  });

  test.each(UNSUBSCRIBE)("%s: a list of filters; an empty one changes nothing", (hook) => {
    expect(accepted(hook, ["a/#"])).toEqual({ topics: ["a/#"] });
    expect(accepted(hook, { topics: ["a"] })).toEqual({ topics: ["a"] });
    expect(accepted(hook, [])).toBe("ok");
    expect(fault(hook, ["a", 1])).toContain("topics.[1] must be a string");
  });
});
