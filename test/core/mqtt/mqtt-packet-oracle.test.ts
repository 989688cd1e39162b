import * as oracle from "mqtt-packet";
import { describe, expect, it } from "vitest";
import { decodeServerPacket, type ServerPacket } from "../../../core/mqtt/client-codec.ts";
import { decodeConnect, decodeControl } from "../../../core/mqtt/codec.ts";
import type { ControlPacket, Properties, UserProperty } from "../../../core/mqtt/packets.ts";
import { encodeControl, encodeServerPacket } from "./frames.ts";
import {
  open,
  Random,
  randomConnect,
  randomControl,
  randomServerPacket,
  type Version,
} from "./random-packets.ts";

/** mqtt-packet is an independent codec: on valid packets it must say the same as ours, both ways. */

const ROUNDS = 1500;
const VERSIONS: readonly Version[] = [3, 4, 5];

type Loose = Record<string, unknown>;

function toOracleProperties(properties: Properties | undefined): Loose | undefined {
  if (properties === undefined) return undefined;
  const { userProperties, subscriptionIdentifiers, payloadFormatIndicator, ...same } = properties;
  const out: Loose = { ...same };
  if (payloadFormatIndicator !== undefined)
    out.payloadFormatIndicator = payloadFormatIndicator === 1;
  if (subscriptionIdentifiers !== undefined) out.subscriptionIdentifier = subscriptionIdentifiers;
  if (userProperties !== undefined) {
    const grouped: Record<string, string[]> = {};
    for (const [key, value] of userProperties) {
      grouped[key] ??= [];
      grouped[key].push(value);
    }
    out.userProperties = grouped;
  }
  return out;
}

function fromOracleProperties(properties: Loose | undefined): Properties | undefined {
  if (properties === undefined) return undefined;
  const { userProperties, subscriptionIdentifier, payloadFormatIndicator, ...same } = properties;
  const out: Properties = { ...same };
  if (payloadFormatIndicator !== undefined)
    out.payloadFormatIndicator = Number(payloadFormatIndicator);
  if (subscriptionIdentifier !== undefined) {
    out.subscriptionIdentifiers = [subscriptionIdentifier].flat() as number[];
  }
  if (userProperties !== undefined) {
    out.userProperties = Object.entries(
      userProperties as Record<string, string | string[]>,
    ).flatMap(([key, values]) => [values].flat().map((value): UserProperty => [key, value]));
  }
  return out;
}

/** Our packet as mqtt-packet names its fields. */
function toOracle(version: Version, packet: ControlPacket | ServerPacket): Loose {
  const properties = "properties" in packet ? toOracleProperties(packet.properties) : undefined;
  const common = { cmd: packet.type, ...(properties === undefined ? {} : { properties }) };
  switch (packet.type) {
    case "connect": {
      const { will } = packet;
      return {
        ...common,
        protocolId: version === 3 ? "MQIsdp" : "MQTT",
        protocolVersion: version,
        bridgeMode: packet.bridge,
        clean: packet.clean,
        keepalive: packet.keepAliveS,
        clientId: packet.clientId,
        username: packet.username,
        password: packet.password,
        will: will && { ...will, properties: toOracleProperties(will.properties) },
      };
    }
    case "subscribe": {
      const subscriptions = packet.subscriptions.map((one) => {
        const sent = { topic: one.filter, qos: one.qos };
        if (version < 5) return sent;
        return { ...sent, nl: one.noLocal, rap: one.retainAsPublished, rh: one.retainHandling };
      });
      return { ...common, messageId: packet.packetId, subscriptions };
    }
    case "unsubscribe":
      return { ...common, messageId: packet.packetId, unsubscriptions: packet.filters };
    case "connack": {
      const code = version === 5 ? { reasonCode: packet.code } : { returnCode: packet.code };
      return { ...common, sessionPresent: packet.sessionPresent, ...code };
    }
    case "publish": {
      const { topic, payload, qos, retain, dup, packetId } = packet;
      return {
        ...common,
        topic,
        payload,
        qos,
        retain,
        dup,
        ...(qos > 0 && { messageId: packetId }),
      };
    }
    case "suback":
    case "unsuback": {
      const granted = packet.type === "suback" || version === 5 ? { granted: packet.codes } : {};
      return { ...common, messageId: packet.packetId, ...granted };
    }
    case "pingresp":
      return common;
    case "disconnect":
    case "auth":
      return version === 5 ? { ...common, reasonCode: packet.reasonCode } : common;
    default: {
      const code = version === 5 ? { reasonCode: packet.reasonCode } : {};
      return { ...common, messageId: packet.packetId, ...code };
    }
  }
}

function parseWithOracle(version: Version, frame: Buffer): Loose {
  const packets: Loose[] = [];
  const parser = oracle.parser({ protocolVersion: version });
  parser.on("packet", (packet) => packets.push(packet as unknown as Loose));
  parser.on("error", (error) => {
    throw error;
  });
  parser.parse(frame);
  expect(packets).toHaveLength(1);
  return packets[0];
}

/** What mqtt-packet parsed, with its properties in our form and only the fields we compare. */
function comparable(parsed: Loose, expected: Loose): Loose {
  const out: Loose = {};
  for (const key of Object.keys(expected)) out[key] = parsed[key];
  if (expected.bridgeMode === false) out.bridgeMode = parsed.bridgeMode ?? false;
  return withOurProperties(out);
}

function withOurProperties(packet: Loose): Loose {
  const out = { ...packet };
  if (out.properties !== undefined) out.properties = fromOracleProperties(out.properties as Loose);
  if (out.will !== undefined) {
    const will = out.will as Loose;
    out.will = { ...will, properties: fromOracleProperties(will.properties as Loose | undefined) };
  }
  return out;
}

/** mqtt-packet cannot generate these although they are legal. */
function canOracleGenerate(packet: ControlPacket | ServerPacket): boolean {
  if (packet.type !== "connect") return true;
  if (packet.password !== undefined && packet.username === undefined) return false;
  return packet.clientId !== "" || packet.clean;
}

describe.each(VERSIONS)("level %i: mqtt-packet and our codec agree", (version) => {
  const check = (
    make: (random: Random) => ControlPacket | ServerPacket,
    side: "client" | "server",
  ) => {
    const random = new Random(version * 1000 + (side === "client" ? 1 : 2));
    let generated = 0;
    for (let round = 0; round < ROUNDS; round++) {
      const packet = make(random);
      const theirs = toOracle(version, packet);
      const frame =
        side === "client"
          ? encodeControl(version, packet as ControlPacket)
          : encodeServerPacket(version, packet as ServerPacket);
      const parsed = parseWithOracle(version, frame);
      expect(comparable(parsed, theirs)).toEqual(withOurProperties(theirs));
      if (!canOracleGenerate(packet)) continue;
      generated++;
      const bytes = oracle.generate(theirs as unknown as oracle.Packet, {
        protocolVersion: version,
      });
      const { type, flags, start, end } = open(bytes);
      const decoded =
        packet.type === "connect"
          ? decodeConnect(bytes, start, end)
          : side === "client"
            ? decodeControl(type, flags, bytes, start, end, version)
            : decodeServerPacket(type, flags, bytes, start, end, version);
      expect(decoded).toEqual(packet);
    }
    expect(generated).toBeGreaterThan(ROUNDS / 3);
  };

  it("on CONNECT", () => {
    check((random) => randomConnect(random, version), "client");
  });

  it("on every other packet of a client", () => {
    check((random) => randomControl(random, version), "client");
  });

  it("on every packet of a server", () => {
    check((random) => randomServerPacket(random, version), "server");
  });
});
