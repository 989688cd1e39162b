import { errorMessage } from "../errors.ts";
import { decodeServerPacket, type PublishPacket, type ServerPacket } from "../mqtt/client-codec.ts";
import { decodeControl } from "../mqtt/codec.ts";
import { decodeConnect } from "../mqtt/connect-codec.ts";
import { toHookProperties } from "../mqtt/hook-properties.ts";
import { CONNECT, type ControlPacket, PINGREQ, type Properties, PUBLISH } from "../mqtt/packets.ts";
import { reasonName } from "../mqtt/reason-codes.ts";

/** How packets are shown. */
export interface PacketView {
  readonly version: 3 | 4 | 5;
  /** Bytes of a payload that are shown. */
  readonly payloadMax: number;
}

/** Longest list of properties or arguments; the rest is cut. */
const FACTS_MAX = 4000;

/** A packet of a client, given as in `Framer`, in VerneMQ's words; passwords are never shown. */
export function clientPacketText(
  header: number,
  buffer: Buffer,
  body: number,
  end: number,
  view: PacketView,
): string {
  const type = header >>> 4;
  const flags = header & 0x0f;
  try {
    if (type === CONNECT) return connectText(decodeConnect(buffer, body, end), view);
    if (type === PINGREQ) return "PINGREQ()";
    if (type === PUBLISH) return serverPacketText(header, buffer, body, end, view);
    return packetText(decodeControl(type, flags, buffer, body, end, view.version), view);
  } catch (error) {
    return brokenText(type, end - body, error);
  }
}

/** A packet of the broker. */
export function serverPacketText(
  header: number,
  buffer: Buffer,
  body: number,
  end: number,
  view: PacketView,
): string {
  const type = header >>> 4;
  try {
    return packetText(
      decodeServerPacket(type, header & 0x0f, buffer, body, end, view.version),
      view,
    );
  } catch (error) {
    return brokenText(type, end - body, error);
  }
}

function brokenText(type: number, bytes: number, error: unknown): string {
  const reason = errorMessage(error);
  return `packet of type ${type} with ${bytes} bytes that breaks the protocol: ${clean(reason)}`;
}

type Connect = ReturnType<typeof decodeConnect>;

function connectText(packet: Connect, view: PacketView): string {
  const { clientId, level, username, password, clean: isClean, keepAliveS, will } = packet;
  const secret = password === undefined ? "undefined" : "pw_no_print";
  const facts = [
    `c: ${clean(clientId)}, v: ${level}, u: ${clean(username ?? "undefined")}`,
    `p: ${secret}, cs: ${isClean}, ka: ${keepAliveS}`,
  ];
  const lines = [`CONNECT(${facts.join(", ")})`];
  if (will !== undefined) {
    lines.push(
      `    with LWT(wr: ${will.retain}, wq: ${will.qos}, wt: ${quoted(will.topic)}) with payload:`,
      payloadText(will.payload, view.payloadMax),
    );
    lines.push(...propertyLines(will.properties));
  }
  return [...lines, ...propertyLines(packet.properties)].join("\n");
}

function packetText(packet: ControlPacket | ServerPacket, view: PacketView): string {
  const isV5 = view.version === 5;
  const code = (number: number): string =>
    isV5 ? `${reasonName(number)}(${number})` : String(number);
  const withProperties = (text: string, properties: Properties | undefined): string =>
    [text, ...propertyLines(properties)].join("\n");
  switch (packet.type) {
    case "connect":
      return connectText(packet, view);
    case "connack": {
      const text = `CONNACK(sp: ${packet.sessionPresent ? 1 : 0}, rc: ${code(packet.code)})`;
      return withProperties(text, packet.properties);
    }
    case "publish":
      return publishText(packet, view);
    case "puback":
    case "pubrec":
    case "pubrel":
    case "pubcomp": {
      const reason = isV5 ? `, rc: ${code(packet.reasonCode)}` : "";
      const text = `${packet.type.toUpperCase()}(m${packet.packetId}${reason})`;
      return withProperties(text, packet.properties);
    }
    case "subscribe":
      return withProperties(
        [
          `SUBSCRIBE(m${packet.packetId}) with topics:`,
          ...packet.subscriptions.map((one) => {
            const more = `nl: ${one.noLocal}, rap: ${one.retainAsPublished}, rh: ${one.retainHandling}, `;
            return `    q:${one.qos}, ${isV5 ? more : ""}t: ${quoted(one.filter)}`;
          }),
        ].join("\n"),
        packet.properties,
      );
    case "unsubscribe":
      return withProperties(
        [
          `UNSUBSCRIBE(m${packet.packetId}) with topics:`,
          ...packet.filters.map((filter) => `    t: ${quoted(filter)}`),
        ].join("\n"),
        packet.properties,
      );
    case "suback":
    case "unsuback": {
      const codes = packet.codes.length === 0 ? "" : `, qt[${packet.codes.join(",")}]`;
      const text = `${packet.type.toUpperCase()}(m${packet.packetId}${codes})`;
      return withProperties(text, packet.properties);
    }
    case "pingresp":
      return "PINGRESP()";
    case "disconnect":
      return withProperties(
        `DISCONNECT(${isV5 ? `rc: ${code(packet.reasonCode)}` : ""})`,
        packet.properties,
      );
    case "auth":
      return withProperties(`AUTH(rc: ${code(packet.reasonCode)})`, packet.properties);
    default:
      return packet satisfies never;
  }
}

function publishText(packet: PublishPacket, { payloadMax }: PacketView): string {
  const { dup, qos, retain, packetId, topic, payload } = packet;
  const head = `PUBLISH(d${dup ? 1 : 0}, q${qos}, r${retain ? 1 : 0}, m${packetId}, ${quoted(topic)})`;
  return [
    `${head} with payload:`,
    payloadText(payload, payloadMax),
    ...propertyLines(packet.properties),
  ].join("\n");
}

function propertyLines(properties: Properties | undefined): string[] {
  if (properties === undefined || Object.keys(properties).length === 0) return [];
  return [`    with properties: ${factsText(toHookProperties(properties))}`];
}

/** Payload as text, cut; what is no text shows as U+FFFD. */
export function payloadText(payload: Buffer, bytesMax: number): string {
  const shown = clean(payload.subarray(0, bytesMax).toString("utf8")).replaceAll("\n", "\n    ");
  return `    ${shown}${payload.length > bytesMax ? " (truncated)" : ""}`;
}

/** A value as JSON on one line; bytes are shown as their number, passwords not at all. */
export function factsText(value: unknown): string {
  const json =
    JSON.stringify(value, (key, one: unknown) => {
      if (key === "password") return "pw_no_print";
      if (typeof one !== "object" || one === null) return one;
      const { type, data } = one as { type?: unknown; data?: unknown };
      return type === "Buffer" && Array.isArray(data) ? `<${data.length} bytes>` : one;
    }) ?? "undefined";
  const text = clean(json);
  return text.length > FACTS_MAX ? `${text.slice(0, FACTS_MAX)}…` : text;
}

function quoted(text: string): string {
  return `"${clean(text)}"`;
}

/** Control characters of clients must not reach an operator's terminal; line ends stay. */
export function clean(text: string): string {
  return text.replace(/[^\P{C}\n]/gu, "\ufffd");
}
