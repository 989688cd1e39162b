import { describe, expect, it } from "vitest";
import {
  AUTH,
  CONNACK,
  DISCONNECT,
  PUBACK,
  PUBCOMP,
  PUBREC,
  PUBREL,
  SUBACK,
  UNSUBACK,
} from "../../../core/mqtt/packets.ts";
import {
  checkReasonCode,
  isClientReasonCode,
  isServerReasonCode,
  REASON_CODES,
  reasonCodeOf,
  reasonName,
} from "../../../core/mqtt/reason-codes.ts";
import { violation } from "./frames.ts";

/** The names of VerneMQ's plugin API with their numbers. */
const NAMES = `success 00, continue_authentication 18, reauthenticate 19, unspecified_error 80,
  malformed_packet 81, protocol_error 82, impl_specific_error 83, unsupported_protocol_version 84,
  client_identifier_not_valid 85, bad_username_or_password 86, not_authorized 87,
  server_unavailable 88, server_busy 89, banned 8A, server_shutting_down 8B,
  bad_authentication_method 8C, keep_alive_timeout 8D, session_taken_over 8E,
  topic_filter_invalid 8F, topic_name_invalid 90, packet_id_in_use 91, packet_id_not_found 92,
  receive_max_exceeded 93, topic_alias_invalid 94, packet_too_large 95, message_rate_too_high 96,
  quota_exceeded 97, administrative_action 98, payload_format_invalid 99, retain_not_supported 9A,
  qos_not_supported 9B, use_another_server 9C, server_moved 9D, shared_subs_not_supported 9E,
  connection_rate_exceeded 9F, max_connect_time A0, subscription_ids_not_supported A1,
  wildcard_subs_not_supported A2, granted_qos1 01, granted_qos2 02, disconnect_with_will_msg 04,
  no_matching_subscribers 10, no_subscription_existed 11`
  .split(",")
  .map((entry) => entry.trim().split(" "))
  .map(([name, code]) => [name, Number.parseInt(code, 16)] as const);

const codesOf = (isLegal: (type: number, code: number) => boolean, type: number): number[] =>
  Array.from({ length: 256 }, (_, code) => code).filter((code) => isLegal(type, code));

describe("reason codes", () => {
  it.each(NAMES)("%s has its number and back", (name, code) => {
    expect(reasonCodeOf(name)).toBe(code);
    expect(reasonCodeOf(code)).toBe(code);
    expect(reasonName(code)).toBe(name);
  });

  it("number 0 has three names", () => {
    expect(["success", "normal_disconnect", "granted_qos0"].map(reasonCodeOf)).toEqual([0, 0, 0]);
  });

  it("there are no others", () => {
    expect(REASON_CODES).toHaveLength(NAMES.length);
    expect(reasonCodeOf("Success")).toBeUndefined();
    expect(reasonCodeOf("constructor")).toBeUndefined();
    for (const code of [0x03, 0x05, 0x7f, 0xa3, 0xff, -1, 256, 0.5]) {
      expect(reasonCodeOf(code)).toBeUndefined();
    }
    expect(reasonName(0x05)).toBe("unknown_0x05");
  });
});

describe("who may send a reason code", () => {
  const ROUTED = [0x00, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99];

  it.each([
    ["PUBACK [MQTT-3.4.2-1]", PUBACK, ROUTED],
    ["PUBREC [MQTT-3.5.2-1]", PUBREC, ROUTED],
    ["PUBREL [MQTT-3.6.2-1]", PUBREL, [0x00, 0x92]],
    ["PUBCOMP [MQTT-3.7.2-1]", PUBCOMP, [0x00, 0x92]],
    ["AUTH [MQTT-3.15.2-1]", AUTH, [0x18, 0x19]],
    [
      "DISCONNECT [MQTT-3.14.2-1]",
      DISCONNECT,
      [0x00, 0x04, 0x80, 0x81, 0x82, 0x83, 0x90, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99],
    ],
  ])("a client in %s", (_, type, codes) => {
    expect(codesOf(isClientReasonCode, type)).toEqual(codes);
    expect(violation(() => checkReasonCode(type, 0x05, "client")).reasonCode).toBe(0x82);
    expect(checkReasonCode(type, codes[1], "client")).toBeUndefined();
  });

  const WITH_10 = [0x00, 0x10, ...ROUTED.slice(1)];
  it.each([
    ["PUBACK [MQTT-3.4.2-1]", PUBACK, WITH_10],
    ["PUBREC [MQTT-3.5.2-1]", PUBREC, WITH_10],
    ["AUTH [MQTT-3.15.2-1]", AUTH, [0x00, 0x18]],
    [
      "SUBACK [MQTT-3.9.3-2]",
      SUBACK,
      [0, 1, 2, 0x80, 0x83, 0x87, 0x8f, 0x91, 0x97, 0x9e, 0xa1, 0xa2],
    ],
    ["UNSUBACK [MQTT-3.11.3-2]", UNSUBACK, [0x00, 0x11, 0x80, 0x83, 0x87, 0x8f, 0x91]],
    [
      "CONNACK [MQTT-3.2.2-8]",
      CONNACK,
      [
        0x00, 0x80, 0x81, 0x82, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8a, 0x8c, 0x90, 0x95,
        0x97, 0x99, 0x9a, 0x9b, 0x9c, 0x9d, 0x9f,
      ],
    ],
    [
      "DISCONNECT [MQTT-3.14.2-1]",
      DISCONNECT,
      [
        0x00, 0x80, 0x81, 0x82, 0x83, 0x87, 0x89, 0x8b, 0x8d, 0x8e, 0x8f, 0x90, 0x93, 0x94, 0x95,
        0x96, 0x97, 0x98, 0x99, 0x9a, 0x9b, 0x9c, 0x9d, 0x9e, 0x9f, 0xa0, 0xa1, 0xa2,
      ],
    ],
  ])("a server in %s", (_, type, codes) => {
    expect(codesOf(isServerReasonCode, type)).toEqual(codes);
    expect(violation(() => checkReasonCode(type, 0x04, "server")).reasonCode).toBe(0x82);
  });
});
