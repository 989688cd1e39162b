import {
  AUTH,
  CONNACK,
  DISCONNECT,
  MqttError,
  PUBACK,
  PUBCOMP,
  PUBREC,
  PUBREL,
  SUBACK,
  UNSUBACK,
} from "./packets.ts";

/** Reason codes of MQTT 5.0, 2.4, that the codec gives or asks for; REASON_CODES has all of them. */
export const RC_SUCCESS = 0x00;
export const RC_GRANTED_QOS2 = 0x02;
export const RC_MALFORMED_PACKET = 0x81;
export const RC_PROTOCOL_ERROR = 0x82;
export const RC_UNSUPPORTED_PROTOCOL_VERSION = 0x84;
export const RC_TOPIC_FILTER_INVALID = 0x8f;
export const RC_TOPIC_NAME_INVALID = 0x90;
export const RC_TOPIC_ALIAS_INVALID = 0x94;

/** CONNACK return code of MQTT 3.1.1, 3.2.2.3. */
export const CONNACK_UNACCEPTABLE_VERSION = 1;
/** SUBACK failure of MQTT 3.1.1, 3.9.3. */
export const SUBACK_FAILURE = 0x80;

/** CONNACK return codes of MQTT 3.1.1 (table 3.1) by number, as VerneMQ's metrics name them. */
export const RETURN_CODES: readonly string[] = [
  "success",
  "unsupported_protocol_version",
  "client_identifier_not_valid",
  "server_unavailable",
  "bad_username_or_password",
  "not_authorized",
];

/** One reason code: its plugin names (first = the one we print) and who may send it in what. */
export interface ReasonCodeRow {
  readonly code: number;
  readonly names: readonly string[];
  /** Packet types in which a client may send it. */
  readonly client: readonly number[];
  /** Packet types in which a server may send it. */
  readonly server: readonly number[];
}

const ROUTED = [PUBACK, PUBREC];
const RELEASED = [PUBREL, PUBCOMP];
const ACKS = [...ROUTED, ...RELEASED];
const SUBS = [SUBACK, UNSUBACK];

function row(
  code: number,
  names: string,
  client: readonly number[],
  server: readonly number[],
): ReasonCodeRow {
  return { code, names: names.split(" "), client, server };
}

/** All reason codes. MQTT 5.0, 2.4; "sent by" from 3.2.2.2, 3.4.2.1 ... 3.7.2.1, 3.9.3, 3.11.3, 3.14.2.1, 3.15.2.1. */
export const REASON_CODES: readonly ReasonCodeRow[] = [
  row(
    0x00,
    "success normal_disconnect granted_qos0",
    [...ACKS, DISCONNECT],
    [CONNACK, ...ACKS, ...SUBS, DISCONNECT, AUTH],
  ),
  row(0x01, "granted_qos1", [], [SUBACK]),
  row(0x02, "granted_qos2", [], [SUBACK]),
  row(0x04, "disconnect_with_will_msg", [DISCONNECT], []),
  row(0x10, "no_matching_subscribers", [], ROUTED),
  row(0x11, "no_subscription_existed", [], [UNSUBACK]),
  row(0x18, "continue_authentication", [AUTH], [AUTH]),
  row(0x19, "reauthenticate", [AUTH], []),
  row(
    0x80,
    "unspecified_error",
    [...ROUTED, DISCONNECT],
    [CONNACK, ...ROUTED, ...SUBS, DISCONNECT],
  ),
  row(0x81, "malformed_packet", [DISCONNECT], [CONNACK, DISCONNECT]),
  row(0x82, "protocol_error", [DISCONNECT], [CONNACK, DISCONNECT]),
  row(
    0x83,
    "impl_specific_error",
    [...ROUTED, DISCONNECT],
    [CONNACK, ...ROUTED, ...SUBS, DISCONNECT],
  ),
  row(0x84, "unsupported_protocol_version", [], [CONNACK]),
  row(0x85, "client_identifier_not_valid", [], [CONNACK]),
  row(0x86, "bad_username_or_password", [], [CONNACK]),
  row(0x87, "not_authorized", ROUTED, [CONNACK, ...ROUTED, ...SUBS, DISCONNECT]),
  row(0x88, "server_unavailable", [], [CONNACK]),
  row(0x89, "server_busy", [], [CONNACK, DISCONNECT]),
  row(0x8a, "banned", [], [CONNACK]),
  row(0x8b, "server_shutting_down", [], [DISCONNECT]),
  // 2.4 lists DISCONNECT too, but the list that a server must keep to, 3.14.2.1, does not.
  row(0x8c, "bad_authentication_method", [], [CONNACK]),
  row(0x8d, "keep_alive_timeout", [], [DISCONNECT]),
  row(0x8e, "session_taken_over", [], [DISCONNECT]),
  row(0x8f, "topic_filter_invalid", [], [...SUBS, DISCONNECT]),
  row(0x90, "topic_name_invalid", [...ROUTED, DISCONNECT], [CONNACK, ...ROUTED, DISCONNECT]),
  row(0x91, "packet_id_in_use", ROUTED, [...ROUTED, ...SUBS]),
  row(0x92, "packet_id_not_found", RELEASED, RELEASED),
  row(0x93, "receive_max_exceeded", [DISCONNECT], [DISCONNECT]),
  row(0x94, "topic_alias_invalid", [DISCONNECT], [DISCONNECT]),
  row(0x95, "packet_too_large", [DISCONNECT], [CONNACK, DISCONNECT]),
  row(0x96, "message_rate_too_high", [DISCONNECT], [DISCONNECT]),
  row(0x97, "quota_exceeded", [...ROUTED, DISCONNECT], [CONNACK, ...ROUTED, SUBACK, DISCONNECT]),
  row(0x98, "administrative_action", [DISCONNECT], [DISCONNECT]),
  row(0x99, "payload_format_invalid", [...ROUTED, DISCONNECT], [CONNACK, ...ROUTED, DISCONNECT]),
  row(0x9a, "retain_not_supported", [], [CONNACK, DISCONNECT]),
  row(0x9b, "qos_not_supported", [], [CONNACK, DISCONNECT]),
  row(0x9c, "use_another_server", [], [CONNACK, DISCONNECT]),
  row(0x9d, "server_moved", [], [CONNACK, DISCONNECT]),
  row(0x9e, "shared_subs_not_supported", [], [SUBACK, DISCONNECT]),
  row(0x9f, "connection_rate_exceeded", [], [CONNACK, DISCONNECT]),
  row(0xa0, "max_connect_time", [], [DISCONNECT]),
  row(0xa1, "subscription_ids_not_supported", [], [SUBACK, DISCONNECT]),
  row(0xa2, "wildcard_subs_not_supported", [], [SUBACK, DISCONNECT]),
];

/** Row by code: a byte indexes it, undefined = no such code. */
const BY_CODE: readonly (ReasonCodeRow | undefined)[] = Array.from({ length: 256 }, (_, code) =>
  REASON_CODES.find((entry) => entry.code === code),
);

const BY_NAME: ReadonlyMap<string, number> = new Map(
  REASON_CODES.flatMap((entry) => entry.names.map((name) => [name, entry.code] as const)),
);

/** The code of a plugin name or number; undefined if MQTT 5.0, 2.4 knows no such code. */
export function reasonCodeOf(nameOrNumber: string | number): number | undefined {
  if (typeof nameOrNumber === "string") return BY_NAME.get(nameOrNumber);
  return BY_CODE[nameOrNumber]?.code;
}

/** The plugin name of a code (`success` for 0x00), `unknown_0x..` for others. MQTT 5.0, 2.4. */
export function reasonName(code: number): string {
  return BY_CODE[code]?.names[0] ?? `unknown_0x${code.toString(16).padStart(2, "0")}`;
}

/** May a client send `code` in packet type `type`? MQTT 5.0, 2.4. */
export function isClientReasonCode(type: number, code: number): boolean {
  return BY_CODE[code]?.client.includes(type) ?? false;
}

/** May a server send `code` in packet type `type`? MQTT 5.0, 2.4. */
export function isServerReasonCode(type: number, code: number): boolean {
  return BY_CODE[code]?.server.includes(type) ?? false;
}

/** The statement "MUST use one of the ... Reason Codes" by packet type. */
const REASON_CODE_STATEMENTS: Readonly<Record<number, string>> = {
  [CONNACK]: "MQTT-3.2.2-8",
  [PUBACK]: "MQTT-3.4.2-1",
  [PUBREC]: "MQTT-3.5.2-1",
  [PUBREL]: "MQTT-3.6.2-1",
  [PUBCOMP]: "MQTT-3.7.2-1",
  [SUBACK]: "MQTT-3.9.3-2",
  [UNSUBACK]: "MQTT-3.11.3-2",
  [DISCONNECT]: "MQTT-3.14.2-1",
  [AUTH]: "MQTT-3.15.2-1",
};

/**
 * Throws MqttError 0x82 if the sender may not use `code` in `type`: the packet can be parsed, but
 * holds "data that is not allowed by the protocol". MQTT 5.0, 1.2 Protocol Error.
 */
export function checkReasonCode(type: number, code: number, sender: "client" | "server"): void {
  const isLegal = sender === "client" ? isClientReasonCode : isServerReasonCode;
  if (isLegal(type, code)) return;
  throw protocolError(
    `a ${sender} must not send reason code 0x${code.toString(16).padStart(2, "0")} in packet type ${type}`,
    REASON_CODE_STATEMENTS[type] ?? "2.4",
  );
}

/** A packet that cannot be parsed: MqttError 0x81. MQTT 5.0, 1.2 Malformed Packet, 4.13. */
export function malformed(message: string, statement: string): MqttError {
  return new MqttError(RC_MALFORMED_PACKET, message, statement);
}

/** A packet that is not allowed here: MqttError 0x82. MQTT 5.0, 1.2 Protocol Error, 4.13. */
export function protocolError(message: string, statement: string): MqttError {
  return new MqttError(RC_PROTOCOL_ERROR, message, statement);
}
