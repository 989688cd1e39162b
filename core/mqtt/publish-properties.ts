import { MqttError, type Properties, PUBLISH } from "./packets.ts";
import { decodeProperties, encodeProperties } from "./properties.ts";
import { malformed, protocolError, RC_TOPIC_ALIAS_INVALID } from "./reason-codes.ts";
import { isMqttUtf8 } from "./utf8.ts";

/**
 * Properties of a PUBLISH on their way through the broker. What is forwarded stays the bytes that
 * were read (MQTT 5.0, 3.3.2.3: order and values unchanged); topic alias, message expiry interval and
 * subscription identifier belong to one connection or one moment and are taken out.
 */

const PAYLOAD_FORMAT_INDICATOR = 0x01;
const MESSAGE_EXPIRY_INTERVAL = 0x02;
const CONTENT_TYPE = 0x03;
const RESPONSE_TOPIC = 0x08;
const CORRELATION_DATA = 0x09;
const SUBSCRIPTION_IDENTIFIER = 0x0b;
const TOPIC_ALIAS = 0x23;
const USER_PROPERTY = 0x26;

const PLUS = 0x2b;
const HASH = 0x23;

/** What a client's PUBLISH says to the broker itself, and what it leaves for the receivers. */
export interface PublishScan {
  /** 0 = none. MQTT 5.0, 3.3.2.3.4. */
  topicAlias: number;
  /** Seconds, -1 = none. MQTT 5.0, 3.3.2.3.3. */
  messageExpiryInterval: number;
  /**
   * `none`: nothing to forward; `whole`: the block can be forwarded as it is; `part`: forwardBytes
   * takes out what must stay here.
   */
  forward: "none" | "whole" | "part";
}

/**
 * Validates the property block `start`..`end` (without length prefix) of a client's PUBLISH in one
 * pass, building nothing for what is only forwarded. Refuses what decodeProperties refuses, with the
 * same codes, and a Subscription Identifier with 0x82. MQTT 5.0, 3.3.2.3 [MQTT-3.3.4-6]
 */
export function scanPublishProperties(buf: Buffer, start: number, end: number): PublishScan {
  let topicAlias = 0;
  let messageExpiryInterval = -1;
  let forwarded = 0;
  /** Identifiers seen, one bit each; none of those that must not repeat is above 0x1f but the alias. */
  let seen = 0;
  let pos = start;
  while (pos < end) {
    const id = buf[pos];
    const next = nextProperty(buf, pos, end);
    if (id !== USER_PROPERTY && id !== TOPIC_ALIAS) {
      if ((seen & (1 << id)) !== 0)
        throw protocolError(`property ${id} appears more than once`, "3.3.2.3");
      seen |= 1 << id;
    }
    if (id === TOPIC_ALIAS) {
      if (topicAlias !== 0) throw protocolError("topic alias appears more than once", "3.3.2.3.4");
      topicAlias = buf.readUInt16BE(pos + 1);
      // [MQTT-3.3.2-8]
      if (topicAlias === 0)
        throw new MqttError(RC_TOPIC_ALIAS_INVALID, "topic alias is 0", "MQTT-3.3.2-8");
    } else if (id === MESSAGE_EXPIRY_INTERVAL) {
      messageExpiryInterval = buf.readUInt32BE(pos + 1);
    } else {
      checkForwarded(buf, pos, next);
      forwarded += next - pos;
    }
    pos = next;
  }
  const forward = forwarded === 0 ? "none" : forwarded === end - start ? "whole" : "part";
  return { topicAlias, messageExpiryInterval, forward };
}

/**
 * A copy of a scanned property block without Topic Alias, Message Expiry Interval and Subscription
 * Identifier, else byte for byte in order; undefined if nothing is left. MQTT 5.0, 3.3.2.3.
 */
export function forwardBytes(buf: Buffer, start: number, end: number): Buffer | undefined {
  const copy = Buffer.allocUnsafe(end - start);
  let length = 0;
  let pos = start;
  while (pos < end) {
    const id = buf[pos];
    const next =
      id === SUBSCRIPTION_IDENTIFIER ? endOfVarInt(buf, pos + 1) : nextProperty(buf, pos, end);
    if (id !== TOPIC_ALIAS && id !== MESSAGE_EXPIRY_INTERVAL && id !== SUBSCRIPTION_IDENTIFIER) {
      length += buf.copy(copy, length, pos, next);
    }
    pos = next;
  }
  return length === 0 ? undefined : copy.subarray(0, length);
}

/** Properties of a message as its receivers get them; see encodePublishProperties. */
export interface ForwardedProperties {
  /** Property block without length prefix, undefined = none. */
  forward: Buffer | undefined;
  /** Seconds, -1 = none. */
  messageExpiryInterval: number;
}

/**
 * Splits the properties of a will or of a PUBLISH changed by a hook: what receivers get as bytes, and
 * the message expiry interval. All others (topic alias, subscription identifiers, will delay ...) are
 * left out. MQTT 5.0, 3.3.2.3, 3.1.3.2.
 */
export function encodePublishProperties(properties: Properties): ForwardedProperties {
  const { payloadFormatIndicator, contentType, responseTopic, correlationData, userProperties } =
    properties;
  const bytes = encodeProperties({
    payloadFormatIndicator,
    contentType,
    responseTopic,
    correlationData,
    userProperties,
  });
  return {
    forward: bytes.length === 0 ? undefined : bytes,
    messageExpiryInterval: properties.messageExpiryInterval ?? -1,
  };
}

/** The properties in the bytes that forwardBytes or encodePublishProperties gave. MQTT 5.0, 3.3.2.3. */
export function decodeForwardBytes(buf: Buffer): Properties {
  return decodeProperties(buf, 0, buf.length, PUBLISH) ?? {};
}

/** Position behind the property at `pos`; throws if it passes `end` or a client may not send it. */
function nextProperty(buf: Buffer, pos: number, end: number): number {
  const next = unboundedNext(buf, pos, end);
  if (next > end) throw malformed("property block ends inside a property", "2.2.2.2");
  return next;
}

function unboundedNext(buf: Buffer, pos: number, end: number): number {
  const id = buf[pos];
  switch (id) {
    case PAYLOAD_FORMAT_INDICATOR:
      return pos + 2;
    case TOPIC_ALIAS:
      return pos + 3;
    case MESSAGE_EXPIRY_INTERVAL:
      return pos + 5;
    case CONTENT_TYPE:
    case RESPONSE_TOPIC:
    case CORRELATION_DATA:
      return skipString(buf, pos + 1, end);
    case USER_PROPERTY:
      return skipString(buf, skipString(buf, pos + 1, end), end);
    case SUBSCRIPTION_IDENTIFIER:
      throw protocolError("subscription identifier in a PUBLISH from a client", "MQTT-3.3.4-6");
    default:
      throw malformed(`property 0x${id.toString(16)} is not allowed in a PUBLISH`, "2.2.2.2");
  }
}

/** Position behind the string or binary data whose length is at `pos`; past `end` if that is cut. */
function skipString(buf: Buffer, pos: number, end: number): number {
  return pos + 2 > end ? end + 1 : pos + 2 + buf.readUInt16BE(pos);
}

function endOfVarInt(buf: Buffer, pos: number): number {
  let at = pos;
  while (buf[at] >= 0x80) at++;
  return at + 1;
}

/** Validates one forwarded property `pos`..`next`. MQTT 5.0, 3.3.2.3.2, 3.3.2.3.5 to 3.3.2.3.9. */
function checkForwarded(buf: Buffer, pos: number, next: number): void {
  const id = buf[pos];
  if (id === CORRELATION_DATA) return;
  if (id === PAYLOAD_FORMAT_INDICATOR) {
    if (buf[pos + 1] > 1) throw malformed("payload format indicator is not 0 or 1", "3.3.2.3.2");
    return;
  }
  if (id === USER_PROPERTY) {
    const value = pos + 3 + buf.readUInt16BE(pos + 1);
    checkText(buf, pos + 3, value, "user property name");
    checkText(buf, value + 2, next, "user property value");
    return;
  }
  checkText(buf, pos + 3, next, id === CONTENT_TYPE ? "content type" : "response topic");
  if (id === RESPONSE_TOPIC) checkResponseTopic(buf, pos + 3, next);
}

function checkText(buf: Buffer, start: number, end: number, what: string): void {
  if (isMqttUtf8(buf, start, end)) return;
  throw malformed(`${what} is not UTF-8 or contains NUL`, "MQTT-1.5.4-1, MQTT-1.5.4-2");
}

/** [MQTT-3.3.2-14] */
function checkResponseTopic(buf: Buffer, start: number, end: number): void {
  for (let i = start; i < end; i++) {
    if (buf[i] === PLUS || buf[i] === HASH) {
      throw protocolError("response topic contains a wildcard", "MQTT-3.3.2-14");
    }
  }
}
