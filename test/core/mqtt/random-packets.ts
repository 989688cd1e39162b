import type { ServerPacket } from "../../../core/mqtt/client-codec.ts";
import {
  AUTH,
  CONNACK,
  CONNECT,
  type ConnectPacket,
  type ControlPacket,
  DISCONNECT,
  type Properties,
  PUBACK,
  PUBCOMP,
  PUBLISH,
  PUBREC,
  PUBREL,
  SUBACK,
  SUBSCRIBE,
  UNSUBACK,
  UNSUBSCRIBE,
  type UserProperty,
} from "../../../core/mqtt/packets.ts";
import { PROPERTY_TABLE, WILL } from "../../../core/mqtt/properties.ts";
import { isServerReasonCode, REASON_CODES } from "../../../core/mqtt/reason-codes.ts";

/** Seeded random packets, all of them valid. */

export type Version = 3 | 4 | 5;

/** Random numbers that repeat for a seed (mulberry32). */
export class Random {
  #state: number;

  constructor(seed: number) {
    this.#state = seed;
  }

  /** 0 <= n < 1 */
  next(): number {
    this.#state = (this.#state + 0x6d2b79f5) | 0;
    let t = Math.imul(this.#state ^ (this.#state >>> 15), 1 | this.#state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  }

  /** min <= n <= max */
  int(min: number, max: number): number {
    return min + Math.floor(this.next() * (max - min + 1));
  }

  bool(): boolean {
    return this.next() < 0.5;
  }

  pick<T>(list: readonly T[]): T {
    return list[this.int(0, list.length - 1)];
  }

  list<T>(min: number, max: number, make: () => T): T[] {
    return Array.from({ length: this.int(min, max) }, make);
  }

  /** Text of one to four byte characters, without `/`, `+`, `#`, `$`. */
  text(min: number, max: number): string {
    const chars = ["a", "b", "Z", "0", " ", ".", "\u0001", "é", "ÿ", "\ufeff", "€", "\uffff", "😀"];
    return this.list(min, max, () => this.pick(chars)).join("");
  }

  bytes(max: number): Buffer {
    return Buffer.from(this.list(0, max, () => this.int(0, 255)));
  }

  /** Mostly small, sometimes on a boundary of `max`. */
  number(min: number, max: number): number {
    const edges = [min, max, 127, 128, 255, 256, 16383, 16384, 65535, 65536, 2097151, 2097152];
    const fitting = edges.filter((edge) => edge >= min && edge <= max);
    return this.bool() ? this.pick(fitting) : this.int(min, max);
  }

  topic(): string {
    return this.list(1, 4, () => this.text(0, 5)).join("/") || "t";
  }

  filter(): string {
    const share = this.next() < 0.2 ? "$share/g/" : "";
    const levels = this.list(1, 4, () => (this.next() < 0.3 ? "+" : this.text(1, 3)));
    if (this.next() < 0.3) levels.push("#");
    return share + levels.join("/");
  }

  packetId(): number {
    return this.number(1, 65535);
  }
}

/** Some of the properties allowed in `where`, undefined for none. */
export function randomProperties(random: Random, where: number): Properties | undefined {
  const out: Record<string, unknown> = {};
  for (const row of PROPERTY_TABLE) {
    if (!row.places.includes(where) || random.next() < 0.6) continue;
    out[row.name] = randomValue(random, row.name, row.kind, row.min);
  }
  const properties = out as Properties;
  const { subscriptionIdentifiers } = properties;
  if (where === SUBSCRIBE && subscriptionIdentifiers !== undefined)
    subscriptionIdentifiers.length = 1;
  if (where === AUTH) properties.authenticationMethod ??= "M";
  if (properties.authenticationMethod === undefined) delete properties.authenticationData;
  return Object.keys(properties).length === 0 ? undefined : properties;
}

function randomValue(random: Random, name: string, kind: string, min: number): unknown {
  if (kind === "boolean") return random.bool();
  if (kind === "bit") return random.int(0, 1);
  if (kind === "uint16") return random.number(min, 0xffff);
  if (kind === "uint32") return random.number(min, 0xffffffff);
  if (kind === "varInt") return random.list(1, 3, () => random.number(min, 268435455));
  if (kind === "binary") return random.bytes(20);
  if (kind === "pair") return groupedPairs(random);
  return name === "responseTopic" ? random.topic() : random.text(0, 10);
}

/** User properties with repeated keys side by side and values mqtt-packet keeps: not empty, keys no integers. */
function groupedPairs(random: Random): UserProperty[] {
  const keys = new Set(random.list(1, 3, () => `k${random.text(0, 3)}`));
  return [...keys].flatMap((key) =>
    random.list(1, 3, (): UserProperty => [key, random.text(1, 5)]),
  );
}

export function randomConnect(random: Random, version: Version): ConnectPacket {
  const username = random.bool() ? random.text(1, 8) : undefined;
  const mayHavePassword = version === 5 || username !== undefined;
  const isBridge = version !== 5 && random.next() < 0.2;
  return {
    type: "connect",
    version,
    level: isBridge ? version + 128 : version,
    bridge: isBridge,
    clean: random.bool(),
    keepAliveS: random.number(0, 65535),
    clientId: random.text(version === 3 ? 1 : 0, 20),
    username,
    password: mayHavePassword && random.bool() ? random.bytes(20) : undefined,
    will: random.bool()
      ? {
          topic: random.topic(),
          payload: random.bytes(30),
          qos: random.int(0, 2),
          retain: random.bool(),
          properties: version === 5 ? randomProperties(random, WILL) : undefined,
        }
      : undefined,
    properties: version === 5 ? randomProperties(random, CONNECT) : undefined,
  };
}

export const ACK_TYPES = [PUBACK, PUBREC, PUBREL, PUBCOMP] as const;
const ACK_NAMES = ["puback", "pubrec", "pubrel", "pubcomp"] as const;

/** A code that `sender` may use in `type`. */
export function randomCode(random: Random, type: number, sender: "client" | "server"): number {
  return random.pick(REASON_CODES.filter((row) => row[sender].includes(type))).code;
}

function randomAck(
  random: Random,
  version: Version,
  sender: "client" | "server",
): ControlPacket & ServerPacket {
  const index = random.int(0, 3);
  const type = ACK_TYPES[index];
  const packetId = random.packetId();
  if (version < 5)
    return { type: ACK_NAMES[index], packetId, reasonCode: 0, properties: undefined };
  const reasonCode = randomCode(random, type, sender);
  return {
    type: ACK_NAMES[index],
    packetId,
    reasonCode,
    properties: randomProperties(random, type),
  };
}

/** A packet that a client may send after CONNECT, except PUBLISH and PINGREQ. */
export function randomControl(random: Random, version: Version): ControlPacket {
  const v5 = version === 5;
  switch (random.int(0, v5 ? 4 : 3)) {
    case 0: {
      const subscriptions = random.list(1, 4, () => {
        const filter = random.filter();
        const noLocal = v5 && !filter.startsWith("$share") && random.bool();
        const retainAsPublished = v5 && random.bool();
        const retainHandling = v5 ? random.int(0, 2) : 0;
        return { filter, qos: random.int(0, 2), noLocal, retainAsPublished, retainHandling };
      });
      const properties = v5 ? randomProperties(random, SUBSCRIBE) : undefined;
      return { type: "subscribe", packetId: random.packetId(), subscriptions, properties };
    }
    case 1: {
      const filters = random.list(1, 4, () => random.filter());
      const properties = v5 ? randomProperties(random, UNSUBSCRIBE) : undefined;
      return { type: "unsubscribe", packetId: random.packetId(), filters, properties };
    }
    case 2:
      if (!v5) return { type: "disconnect", reasonCode: 0, properties: undefined };
      return {
        type: "disconnect",
        reasonCode: randomCode(random, DISCONNECT, "client"),
        properties: randomProperties(random, DISCONNECT),
      };
    case 3:
      return randomAck(random, version, "client");
    default:
      return {
        type: "auth",
        reasonCode: randomCode(random, AUTH, "client"),
        properties: randomProperties(random, AUTH),
      };
  }
}

/** A packet that a server may send. */
export function randomServerPacket(random: Random, version: Version): ServerPacket {
  const v5 = version === 5;
  switch (random.int(0, v5 ? 7 : 5)) {
    case 0: {
      const code = v5 ? randomCode(random, CONNACK, "server") : random.int(0, 5);
      const sessionPresent = code === 0 && random.bool();
      const properties = v5 ? randomProperties(random, CONNACK) : undefined;
      return { type: "connack", sessionPresent, code, properties };
    }
    case 1: {
      const qos = random.int(0, 2);
      return {
        type: "publish",
        topic: random.topic(),
        payload: random.bytes(40),
        qos,
        retain: random.bool(),
        dup: qos > 0 && random.bool(),
        packetId: qos > 0 ? random.packetId() : 0,
        properties: v5 ? randomProperties(random, PUBLISH) : undefined,
      };
    }
    case 2: {
      const codes = random.list(1, 5, () =>
        v5 ? randomCode(random, SUBACK, "server") : random.pick([0, 1, 2, 0x80]),
      );
      const properties = v5 ? randomProperties(random, SUBACK) : undefined;
      return { type: "suback", packetId: random.packetId(), codes, properties };
    }
    case 3: {
      const codes = v5 ? random.list(1, 5, () => randomCode(random, UNSUBACK, "server")) : [];
      const properties = v5 ? randomProperties(random, UNSUBACK) : undefined;
      return { type: "unsuback", packetId: random.packetId(), codes, properties };
    }
    case 4:
      return randomAck(random, version, "server");
    case 5:
      return { type: "pingresp" };
    case 6:
      return {
        type: "disconnect",
        reasonCode: randomCode(random, DISCONNECT, "server"),
        properties: randomProperties(random, DISCONNECT),
      };
    default: {
      const codes = [0x00, 0x18].filter((code) => isServerReasonCode(AUTH, code));
      return {
        type: "auth",
        reasonCode: random.pick(codes),
        properties: randomProperties(random, AUTH),
      };
    }
  }
}

/** Fixed header of a whole packet: type, flags and the range of its body. */
export function open(packet: Buffer): { type: number; flags: number; start: number; end: number } {
  let start = 1;
  let length = 0;
  for (let shift = 0; ; shift += 7) {
    const byte = packet[start++];
    length |= (byte & 0x7f) << shift;
    if (byte < 0x80) break;
  }
  if (start + length !== packet.length) throw new Error("remaining length is wrong");
  return { type: packet[0] >> 4, flags: packet[0] & 0x0f, start, end: start + length };
}
