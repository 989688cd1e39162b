import type { Random } from "./random.ts";
import {
  bytes,
  encodeAck,
  encodeCoded,
  encodeConnect,
  encodePublish,
  encodeSubscribe,
  encodeUnsubscribe,
  type Properties,
  type Version,
} from "./wire.ts";

/** Valid packets of every kind a client sends, with everything in them that they may have. */
export function corpus(version: Version): Buffer[] {
  const isV5 = version === 5;
  const common: Properties = { userProperties: [["key", "value"]] };
  const publish: Properties = {
    payloadFormatIndicator: 1,
    messageExpiryInterval: 60,
    contentType: "text/plain",
    responseTopic: "answer",
    correlationData: "abc",
    topicAlias: 1,
    ...common,
  };
  const packets = [
    encodePublish(version, { topic: "fuzz/a", payload: "payload" }),
    encodePublish(version, { topic: "fuzz/b", payload: "payload", qos: 1, packetId: 1 }),
    encodePublish(version, { topic: "fuzz/c", qos: 2, packetId: 2, retain: true, payload: "x" }),
    encodePublish(version, { topic: "f/ü/€", payload: Buffer.alloc(300, 7), qos: 1, packetId: 3 }),
    encodeSubscribe(version, 4, [{ filter: "fuzz/+", qos: 2 }, { filter: "$share/g/fuzz/#" }]),
    encodeUnsubscribe(version, 5, ["fuzz/+", "other/#"]),
    encodeAck("puback", 1),
    encodeAck("pubrec", 2),
    encodeAck("pubrel", 2),
    encodeAck("pubcomp", 2),
    bytes("c000"),
    encodeConnect(version, {
      clientId: "fuzz-second",
      username: "user",
      password: "password",
      will: { topic: "will", payload: "w", qos: 1, ...(isV5 ? { properties: common } : {}) },
    }),
  ];
  if (!isV5) return [...packets, bytes("e000")];
  return [
    ...packets,
    encodePublish(5, { topic: "fuzz/d", qos: 1, packetId: 6, payload: "é", properties: publish }),
    encodeSubscribe(5, 7, [{ filter: "fuzz/#", noLocal: true, retainHandling: 2 }], {
      subscriptionIdentifiers: [300],
      ...common,
    }),
    encodeUnsubscribe(5, 8, ["fuzz/#"], common),
    encodeAck("puback", 1, 0x10, { reasonString: "why", ...common }),
    encodeAck("pubrec", 2, 0x80, common),
    encodeAck("pubrel", 2, 0x92, {}),
    encodeCoded("disconnect", 4, { sessionExpiryInterval: 0, reasonString: "bye", ...common }),
    encodeCoded("auth", 0x18, { authenticationMethod: "m", authenticationData: "d" }),
  ];
}

/** One packet with one to three faults in it. */
export function mutate(packet: Buffer, others: readonly Buffer[], random: Random): Buffer {
  let result: Buffer = Buffer.from(packet);
  for (let faults = random.between(1, 3); faults > 0; faults--) {
    result = random.pick(MUTATIONS)(result, random, others);
  }
  return result;
}

type Mutation = (data: Buffer, random: Random, others: readonly Buffer[]) => Buffer;

const INTERESTING = [0x00, 0x01, 0x7f, 0x80, 0xff, 0x2b, 0x23, 0x2f, 0x24, 0xc0, 0xed];

const MUTATIONS: readonly Mutation[] = [
  function flipBit(data, random) {
    const at = random.between(0, data.length - 1);
    data[at] = (data[at] ?? 0) ^ (1 << random.between(0, 7));
    return data;
  },
  function replaceByte(data, random) {
    data[random.between(0, data.length - 1)] = random.pick(INTERESTING);
    return data;
  },
  function insertBytes(data, random) {
    const at = random.between(0, data.length);
    return Buffer.concat([
      data.subarray(0, at),
      random.bytes(random.between(1, 5)),
      data.subarray(at),
    ]);
  },
  function removeBytes(data, random) {
    const at = random.between(0, data.length - 1);
    const result = Buffer.concat([data.subarray(0, at), data.subarray(at + random.between(1, 4))]);
    return result.length === 0 ? data : result;
  },
  function cutEnd(data, random) {
    return data.subarray(0, random.between(1, data.length));
  },
  function otherLength(data, random) {
    if (data.length > 1) data[1] = random.between(0, 255);
    return data;
  },
  function hugeLength(data) {
    return Buffer.concat([data.subarray(0, 1), bytes("ffffff7f"), data.subarray(2)]);
  },
  function fiveByteLength(data) {
    return Buffer.concat([data.subarray(0, 1), bytes("8080808001"), data.subarray(2)]);
  },
  function otherTypeOrFlags(data, random) {
    data[0] = random.between(0, 255);
    return data;
  },
  function splice(data, random, others) {
    const other = random.pick(others);
    const at = random.between(1, data.length);
    return Buffer.concat([data.subarray(0, at), other.subarray(random.between(0, other.length))]);
  },
  function repeatPart(data, random) {
    const from = random.between(0, data.length - 1);
    const part = data.subarray(from, from + random.between(1, 8));
    return Buffer.concat([data.subarray(0, from), part, part, part, data.subarray(from)]);
  },
  function fixLength(data) {
    // The body keeps its faults, the framing is right: the decoder behind it is reached.
    if (data.length < 2 || data.length > 129) return data;
    data[1] = data.length - 2;
    return data;
  },
];
