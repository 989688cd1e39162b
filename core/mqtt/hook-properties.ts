import { REMAINING_LENGTH_MAX } from "./packet-writer.ts";
import type { Properties } from "./packets.ts";
import { PROPERTY_TABLE, type PropertyRow, WILL } from "./properties.ts";
import { STRING_BYTES_MAX, stringFault } from "./utf8.ts";

/** The names under which plugins see properties. VerneMQ plugin API; MQTT 5.0, 2.2.2.2. */
export const HOOK_PROPERTY_NAMES = {
  payloadFormatIndicator: "p_payload_format_indicator",
  messageExpiryInterval: "p_message_expiry_interval",
  contentType: "p_content_type",
  responseTopic: "p_response_topic",
  correlationData: "p_correlation_data",
  subscriptionIdentifiers: "p_subscription_id",
  sessionExpiryInterval: "p_session_expiry_interval",
  assignedClientIdentifier: "p_assigned_client_id",
  serverKeepAlive: "p_server_keep_alive",
  authenticationMethod: "p_authentication_method",
  authenticationData: "p_authentication_data",
  requestProblemInformation: "p_request_problem_info",
  willDelayInterval: "p_will_delay_interval",
  requestResponseInformation: "p_request_response_info",
  responseInformation: "p_response_info",
  serverReference: "p_server_ref",
  reasonString: "p_reason_string",
  receiveMaximum: "p_receive_max",
  topicAliasMaximum: "p_topic_alias_max",
  topicAlias: "p_topic_alias",
  maximumQoS: "p_max_qos",
  retainAvailable: "p_retain_available",
  userProperties: "p_user_property",
  maximumPacketSize: "p_max_packet_size",
  wildcardSubscriptionAvailable: "p_wildcard_subs_available",
  subscriptionIdentifiersAvailable: "p_sub_ids_available",
  sharedSubscriptionAvailable: "p_shared_subs_available",
} as const satisfies Record<keyof Properties, string>;

type HookNames = typeof HOOK_PROPERTY_NAMES;

/** Type of a property in a plugin's hands where it differs from ours. */
interface HookValueTypes {
  payloadFormatIndicator: "utf8" | "unspecified";
  userProperties: { key: string; val: string }[];
}

type HookValue<Name extends keyof Properties> = Name extends keyof HookValueTypes
  ? HookValueTypes[Name]
  : NonNullable<Properties[Name]>;

/** Properties under their plugin names: the shape of HookProperties in core/hooks/types.ts. */
export type PluginProperties = { [Name in keyof Properties as HookNames[Name]]?: HookValue<Name> };

/** Properties a plugin gave, or the field at fault and what is wrong with it. */
export type FromHookResult =
  | { properties: Properties }
  | { error: { field: string; message: string } };

const BY_HOOK_NAME: ReadonlyMap<string, PropertyRow> = new Map(
  PROPERTY_TABLE.map((entry) => [HOOK_PROPERTY_NAMES[entry.name], entry]),
);

/** Our properties as plugins see them; undefined gives an empty object. MQTT 5.0, 2.2.2.2. */
export function toHookProperties(properties: Properties | undefined): PluginProperties {
  const out: Record<string, unknown> = {};
  if (properties === undefined) return {};
  for (const { name } of PROPERTY_TABLE) {
    const value = properties[name];
    if (value !== undefined) out[HOOK_PROPERTY_NAMES[name]] = value;
  }
  // Names and types agree with the table; the two that differ are replaced.
  const plugin = out as PluginProperties;
  const { payloadFormatIndicator, userProperties } = properties;
  if (payloadFormatIndicator !== undefined) {
    plugin.p_payload_format_indicator = payloadFormatIndicator === 1 ? "utf8" : "unspecified";
  }
  if (userProperties !== undefined) {
    plugin.p_user_property = userProperties.map(([key, val]) => ({ key, val }));
  }
  return plugin;
}

/**
 * Properties from a plugin's answer, checked so that they can be encoded. `where` (a packet type or
 * WILL) also refuses properties which that packet may not carry. Fields set to undefined count as
 * absent. The payload format `undefined`, which VerneMQ accepts, means unspecified.
 * MQTT 5.0, 2.2.2.2.
 */
export function fromHookProperties(value: unknown, where?: number): FromHookResult {
  if (!isRecord(value)) return { error: { field: "properties", message: "must be an object" } };
  const out: Record<string, unknown> = {};
  for (const [field, given] of Object.entries(value)) {
    if (given === undefined) continue;
    const entry = BY_HOOK_NAME.get(field);
    if (entry === undefined) return { error: { field, message: "is not a property" } };
    if (where !== undefined && !entry.places.includes(where)) {
      const place = where === WILL ? "a will" : `packet type ${where}`;
      return { error: { field, message: `is not allowed in ${place}` } };
    }
    const own = normalize(entry, given);
    const fault = propertyFault(entry, own);
    if (fault !== undefined) return { error: { field, message: fault } };
    out[entry.name] = own;
  }
  const properties = out as Properties;
  if (
    properties.authenticationData !== undefined &&
    properties.authenticationMethod === undefined
  ) {
    const message = "needs p_authentication_method";
    return { error: { field: "p_authentication_data", message } };
  }
  return { properties };
}

/** A plugin's value in our form; a value of a wrong type passes and is found by propertyFault. */
function normalize(entry: PropertyRow, given: unknown): unknown {
  if (entry.name === "payloadFormatIndicator") {
    if (given === "utf8") return 1;
    return given === "unspecified" || given === "undefined" ? 0 : undefined;
  }
  if (entry.kind === "pair" && Array.isArray(given)) {
    return given.map((pair: unknown) => (isRecord(pair) ? [pair.key, pair.val] : pair));
  }
  if (given instanceof Uint8Array && !Buffer.isBuffer(given)) return Buffer.from(given);
  return given;
}

/** What is wrong with a value of the property `entry`, undefined if it can be encoded. */
function propertyFault(entry: PropertyRow, value: unknown): string | undefined {
  switch (entry.kind) {
    case "bit":
      if (entry.name === "payloadFormatIndicator") {
        return value === undefined ? 'must be "utf8" or "unspecified"' : undefined;
      }
      return integerFault(value, 0, 1);
    case "boolean":
      return typeof value === "boolean" ? undefined : "must be true or false";
    case "uint16":
      return integerFault(value, entry.min, 0xffff);
    case "uint32":
      return integerFault(value, entry.min, 0xffffffff);
    case "varInt":
      return listFault(value, "integers", (one) =>
        integerFault(one, entry.min, REMAINING_LENGTH_MAX),
      );
    case "string":
      return textFault(value) ?? wildcardFault(entry, value);
    case "binary":
      if (!Buffer.isBuffer(value)) return "must be a Buffer";
      return value.length > STRING_BYTES_MAX ? "is longer than 65535 bytes" : undefined;
    case "pair":
      return listFault(value, "{key, val}", pairFault);
    default:
      return entry.kind satisfies never;
  }
}

function integerFault(value: unknown, min: number, max: number): string | undefined {
  const isFine = Number.isInteger(value) && Number(value) >= min && Number(value) <= max;
  return isFine ? undefined : `must be an integer from ${min} to ${max}`;
}

function textFault(value: unknown): string | undefined {
  return typeof value === "string" ? stringFault(value) : "must be a string";
}

/** [MQTT-3.3.2-14] */
function wildcardFault(entry: PropertyRow, value: unknown): string | undefined {
  const isBad = entry.name === "responseTopic" && /[+#]/.test(String(value));
  return isBad ? "contains a wildcard" : undefined;
}

function pairFault(value: unknown): string | undefined {
  if (!Array.isArray(value)) return "must be {key, val}";
  const [key, val]: unknown[] = value;
  return textFault(key) ?? textFault(val);
}

function listFault(
  value: unknown,
  of: string,
  faultOf: (one: unknown) => string | undefined,
): string | undefined {
  if (!Array.isArray(value)) return `must be a list of ${of}`;
  for (const [index, one] of value.entries()) {
    const fault = faultOf(one);
    if (fault !== undefined) return `entry ${index + 1} ${fault}`;
  }
  return undefined;
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
