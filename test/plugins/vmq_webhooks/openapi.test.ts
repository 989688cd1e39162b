import { Validator } from "@seriousme/openapi-schema-validator";
import { Ajv2020, type ValidateFunction } from "ajv/dist/2020.js";
import { describe, expect, test } from "vitest";
import type { ConditionalHook } from "../../../core/plugin-api.ts";
import { readAnswer } from "../../../plugins/vmq_webhooks/answers.ts";
import { WEBHOOKS } from "../../../plugins/vmq_webhooks/hooks.ts";
import { openApi } from "../../../plugins/vmq_webhooks/openapi.ts";
import { recorded } from "./recorded.ts";

/** plugins/vmq_webhooks/openapi.json; made anew with `npx vitest run test/plugins/vmq_webhooks/openapi.test.ts -u`. */

const ajv = new Ajv2020({ strict: false, allErrors: false });
ajv.addSchema(openApi(), "openapi");

function validatorOf(hook: string, what: "Request" | "Answer"): ValidateFunction {
  const name = hook
    .split("_")
    .map((part) => part.slice(0, 1).toUpperCase() + part.slice(1))
    .join("");
  return ajv.compile({ $ref: `openapi#/components/schemas/${name}${what}` });
}

const DECIDING = WEBHOOKS.filter(({ kind }) => kind === "decides").map(({ hook }) => hook);
const answers = new Map(DECIDING.map((hook) => [hook as string, validatorOf(hook, "Answer")]));
const requests = new Map(
  WEBHOOKS.map(({ hook }) => [hook as string, validatorOf(hook, "Request")]),
);

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

test("openapi.json is what the tables say", async () => {
  const file = "../../../plugins/vmq_webhooks/openapi.json";
  await expect(`${JSON.stringify(openApi(), null, 2)}\n`).toMatchFileSnapshot(file);
});

test("openapi.json is an OpenAPI 3.1 document", async () => {
  const validator = new Validator();
  const { valid, errors } = await validator.validate(structuredClone(openApi()));
  expect(errors ?? []).toEqual([]);
  expect([valid, validator.version]).toEqual([true, "3.1"]);
});

test("every recorded request is one of the document, and no other one", () => {
  const cases = recorded<{ hook: string; body: string }>("requests.jsonl");
  expect(new Set(cases.map(({ hook }) => hook)).size).toBe(WEBHOOKS.length);
  for (const { hook, body } of cases) {
    const validate = requests.get(hook) as ValidateFunction;
    const document = JSON.parse(body) as Record<string, unknown>;
    expect([validate(document), body, validate.errors]).toEqual([true, body, null]);
    expect(validate({ ...document, more: 1 })).toBe(false);
    for (const name of Object.keys(document)) {
      const { [name]: _, ...rest } = document;
      const isOptional = /^(payload|listener_\w+|client_cert)$/.test(name);
      if (!isOptional) expect([hook, name, validate(rest)]).toEqual([hook, name, false]);
    }
  }
});

/** Taken, but better not relied on: numbers are rounded, MQTT 3.1.1 has no properties. */
const TOLERATED = /100\.4|"properties": \{\}/;
/** Not for a schema to say: payloads may be text, and what a filter is. */
const BEYOND = /not base64 !|a\/#\/b/;

describe("every recorded answer is one of the document if the broker takes it", () => {
  const cases = recorded<{ hook: string; status: number; body: string }>("answers.jsonl").filter(
    ({ status }) => status === 200,
  );

  test.each(DECIDING.filter((hook) => cases.some((one) => one.hook === hook)))("%s", (hook) => {
    const validate = answers.get(hook) as ValidateFunction;
    const taken = cases
      .filter((one) => one.hook === hook)
      .map(({ body }) => {
        const isTaken = !("malformed" in readAnswer(hook as ConditionalHook, body, true));
        return { body, isTaken, isDescribed: validate(parsed(body)) };
      });
    expect(taken.length).toBeGreaterThan(10);
    const other = taken.filter(({ isTaken, isDescribed }) => isTaken !== isDescribed);
    const isKnown = ({ body, isTaken }: (typeof taken)[number]): boolean =>
      (isTaken ? TOLERATED : BEYOND).test(body);
    expect(other.filter((one) => !isKnown(one))).toEqual([]);
  });
});

test.each([
  ["auth_on_register", { result: "ok", modifiers: { client_id: "c" } }, false],
  ["auth_on_register", { result: "ok", modifiers: { client_id: "c", mountpoint: "" } }, true],
  ["auth_on_register_m5", { result: { error: "x", reason_code: "quota_exceeded" } }, true],
  ["auth_on_publish_m5", { result: "ok", modifiers: { properties: { p_max_qos: 1 } } }, false],
  ["on_deliver", { result: "ok", modifiers: { payload: "aGVsbG8=" } }, true],
  ["on_deliver", { result: "ok", modifiers: { qos: 1 } }, false],
  ["on_unsubscribe", { result: "ok", topics: ["a"] }, true],
  ["on_unsubscribe_m5", { result: "ok", modifiers: { topics: [1] } }, false],
  ["on_auth_m5", { result: "ok", modifiers: { reason_code: 24 } }, true],
  ["on_auth_m5", { result: "ok", modifiers: { reason_code: 1 } }, false],
  ["on_auth_m5", { result: "deny" }, false],
])("the document and the broker agree: %s %j is an answer: %s", (hook, answer, isOne) => {
  const validate = answers.get(hook) as ValidateFunction;
  expect(validate(answer)).toBe(isOne);
  const read = readAnswer(hook as ConditionalHook, JSON.stringify(answer), true);
  expect("malformed" in read).toBe(!isOne);
});

test.each([
  ["auth_on_register_m5", '{"__proto__":{"username":"root"}}', "modifiers.__proto__"],
  [
    "auth_on_publish_m5",
    '{"properties":{"__proto__":{"p_content_type":"x"}}}',
    "modifiers.properties.__proto__",
  ],
  ["auth_on_publish_m5", '{"properties":{"constructor":1}}', "modifiers.properties.constructor"],
  [
    "auth_on_subscribe_m5",
    '{"topics":[{"topic":"a","qos":0,"__proto__":{"rap":true}}]}',
    "modifiers.topics.[0].__proto__",
  ],
  [
    "auth_on_subscribe_m5",
    '{"topics":[{"topic":"a","qos":0,"constructor":1}]}',
    "modifiers.topics.[0].constructor",
  ],
] as const)(
  "names that JavaScript has for itself are no members: %s %s",
  (hook, modifiers, field) => {
    const body = `{"result":"ok","modifiers":${modifiers}}`;
    expect(readAnswer(hook, body, true)).toMatchObject({ malformed: { field } });
    expect(({} as { username?: string }).username).toBeUndefined();
  },
);
