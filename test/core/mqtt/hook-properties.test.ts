import { describe, expect, expectTypeOf, it } from "vitest";
import type { HookProperties } from "../../../core/hooks/types.ts";
import {
  fromHookProperties,
  HOOK_PROPERTY_NAMES,
  type PluginProperties,
  toHookProperties,
} from "../../../core/mqtt/hook-properties.ts";
import { CONNACK, type Properties, PUBLISH, SUBSCRIBE } from "../../../core/mqtt/packets.ts";
import { WILL } from "../../../core/mqtt/properties.ts";
import { Random, randomProperties } from "./random-packets.ts";

const faultOf = (value: unknown, where?: number): unknown => {
  const result = fromHookProperties(value, where);
  return "error" in result ? `${result.error.field} ${result.error.message}` : result;
};

describe("properties in plugins' hands", () => {
  it("have the type of the hook contract", () => {
    expectTypeOf<PluginProperties>().toEqualTypeOf<HookProperties>();
  });

  it("come back unchanged", () => {
    const random = new Random(9);
    for (const where of [CONNACK, PUBLISH, WILL, SUBSCRIBE]) {
      for (let round = 0; round < 300; round++) {
        const properties: Properties = randomProperties(random, where) ?? {};
        const back = fromHookProperties(toHookProperties(properties), where);
        expect(back).toEqual({ properties });
      }
    }
  });

  it("show text, lists and bytes under VerneMQ's names", () => {
    const properties: Properties = {
      payloadFormatIndicator: 1,
      userProperties: [
        ["b", "1"],
        ["a", "2"],
        ["b", "3"],
      ],
      correlationData: Buffer.from([1, 2]),
      subscriptionIdentifiers: [7],
      requestProblemInformation: false,
    };
    expect(toHookProperties(properties)).toEqual({
      p_payload_format_indicator: "utf8",
      p_user_property: [
        { key: "b", val: "1" },
        { key: "a", val: "2" },
        { key: "b", val: "3" },
      ],
      p_correlation_data: Buffer.from([1, 2]),
      p_subscription_id: [7],
      p_request_problem_info: false,
    });
    expect(toHookProperties({ payloadFormatIndicator: 0 })).toEqual({
      p_payload_format_indicator: "unspecified",
    });
    expect(toHookProperties(undefined)).toEqual({});
  });

  it("have 27 different names", () => {
    expect(new Set(Object.values(HOOK_PROPERTY_NAMES)).size).toBe(27);
  });
});

describe("properties from a plugin", () => {
  it("may name the payload format `undefined` for unspecified, as VerneMQ's do", () => {
    const given = { p_payload_format_indicator: "undefined" };
    expect(fromHookProperties(given)).toEqual({ properties: { payloadFormatIndicator: 0 } });
  });

  it("may be absent or undefined", () => {
    expect(fromHookProperties({})).toEqual({ properties: {} });
    expect(fromHookProperties({ p_reason_string: undefined })).toEqual({ properties: {} });
  });

  it("may give bytes as any Uint8Array", () => {
    const result = fromHookProperties({ p_correlation_data: new Uint8Array([1, 2]) });
    expect(result).toEqual({ properties: { correlationData: Buffer.from([1, 2]) } });
  });

  it.each([
    [null, "properties must be an object"],
    [[], "properties must be an object"],
    ["x", "properties must be an object"],
    [{ reason: "x" }, "reason is not a property"],
    [{ constructor: "x" }, "constructor is not a property"],
    [
      { p_payload_format_indicator: 1 },
      'p_payload_format_indicator must be "utf8" or "unspecified"',
    ],
    [{ p_max_qos: 2 }, "p_max_qos must be an integer from 0 to 1"],
    [{ p_retain_available: 1 }, "p_retain_available must be true or false"],
    [{ p_receive_max: 0 }, "p_receive_max must be an integer from 1 to 65535"],
    [{ p_receive_max: "5" }, "p_receive_max must be an integer from 1 to 65535"],
    [{ p_server_keep_alive: 65536 }, "p_server_keep_alive must be an integer from 0 to 65535"],
    [{ p_max_packet_size: 0 }, "p_max_packet_size must be an integer from 1 to 4294967295"],
    [
      { p_message_expiry_interval: 1.5 },
      "p_message_expiry_interval must be an integer from 0 to 4294967295",
    ],
    [
      { p_session_expiry_interval: 2 ** 32 },
      "p_session_expiry_interval must be an integer from 0 to 4294967295",
    ],
    [{ p_subscription_id: 3 }, "p_subscription_id must be a list of integers"],
    [
      { p_subscription_id: [1, 0] },
      "p_subscription_id entry 2 must be an integer from 1 to 268435455",
    ],
    [{ p_reason_string: 5 }, "p_reason_string must be a string"],
    [{ p_reason_string: null }, "p_reason_string must be a string"],
    [{ p_reason_string: "a\0" }, "p_reason_string contains NUL"],
    [{ p_content_type: "\ud800" }, "p_content_type contains half a surrogate pair"],
    [{ p_reason_string: "x".repeat(65536) }, "p_reason_string is longer than 65535 bytes"],
    [{ p_response_topic: "a/+" }, "p_response_topic contains a wildcard"],
    [{ p_correlation_data: "text" }, "p_correlation_data must be a Buffer"],
    [{ p_correlation_data: Buffer.alloc(65536) }, "p_correlation_data is longer than 65535 bytes"],
    [{ p_user_property: { a: "b" } }, "p_user_property must be a list of {key, val}"],
    [{ p_user_property: ["a"] }, "p_user_property entry 1 must be {key, val}"],
    [{ p_user_property: [{ key: "a" }] }, "p_user_property entry 1 must be a string"],
    [
      {
        p_user_property: [
          { key: "a", val: "b" },
          { key: "\0", val: "" },
        ],
      },
      "p_user_property entry 2 contains NUL",
    ],
    [
      { p_authentication_data: Buffer.from("x") },
      "p_authentication_data needs p_authentication_method",
    ],
  ])("that cannot be sent name the field at fault: %j", (value, message) => {
    expect(faultOf(value)).toBe(message);
  });

  it("that do not belong to the packet are refused", () => {
    expect(faultOf({ p_topic_alias: 1 }, CONNACK)).toBe(
      "p_topic_alias is not allowed in packet type 2",
    );
    expect(faultOf({ p_receive_max: 1 }, WILL)).toBe("p_receive_max is not allowed in a will");
    expect(fromHookProperties({ p_topic_alias: 1 }, PUBLISH)).toEqual({
      properties: { topicAlias: 1 },
    });
  });
});
