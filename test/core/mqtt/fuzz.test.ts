import { describe, expect, it } from "vitest";
import { decodeServerPacket } from "../../../core/mqtt/client-codec.ts";
import {
  ConnectError,
  decodeConnect,
  decodeControl,
  REQUIRED_FLAGS,
} from "../../../core/mqtt/codec.ts";
import { MqttError, PINGREQ, PUBLISH } from "../../../core/mqtt/packets.ts";
import { encodeControl, encodeServerPacket } from "./frames.ts";
import {
  open,
  Random,
  randomConnect,
  randomControl,
  randomServerPacket,
  type Version,
} from "./random-packets.ts";

/** Any bytes give a packet or an MqttError with a known code and a statement. */

const ROUNDS = 6_000;
const CODES = [0x81, 0x82, 0x8f, 0x90, 0x94, 0x84];

/** 1 = a packet, 0 = refused; fails on anything else. Plain checks: `expect` is slow in such loops. */
function survives(decode: () => object): number {
  try {
    if (!("type" in decode())) throw new Error("not a packet");
    return 1;
  } catch (error) {
    if (!(error instanceof MqttError)) throw error;
    if (!CODES.includes(error.reasonCode)) throw new Error(`reason code ${error.reasonCode}`);
    if (error.statement === "") throw new Error("no statement");
    return 0;
  }
}

/** Changes, inserts, removes or cuts a few bytes of the body. */
function mutate(random: Random, body: Buffer): Buffer {
  let out: Buffer = Buffer.from(body);
  for (let count = random.int(1, 3); count > 0; count--) {
    const at = random.int(0, Math.max(0, out.length - 1));
    const byte = Buffer.from([random.pick([0, 1, 0x7f, 0x80, 0xff, random.int(0, 255)])]);
    const kind = random.int(0, 3);
    if (kind === 0 && out.length > 0) out[at] = byte[0];
    else if (kind === 1) out = Buffer.concat([out.subarray(0, at), byte, out.subarray(at)]);
    else if (kind === 2) out = Buffer.concat([out.subarray(0, at), out.subarray(at + 1)]);
    else out = out.subarray(0, at);
  }
  return out;
}

/** decodeConnect, where every refusal must say what to answer. */
function connectOrAnswer(body: Buffer): object {
  try {
    return decodeConnect(body, 0, body.length);
  } catch (error) {
    if (error instanceof ConnectError && error.answer !== undefined) throw error;
    throw new Error("refused without an answer", { cause: error });
  }
}

describe.each([3, 4, 5] as const)("level %i", (version: Version) => {
  it("changed packets of a client give a packet or a coded error", () => {
    const random = new Random(version + 100);
    let accepted = 0;
    for (let round = 0; round < ROUNDS; round++) {
      const frame = encodeControl(version, randomControl(random, version));
      const { type, flags, start, end } = open(frame);
      const body = mutate(random, frame.subarray(start, end));
      accepted += survives(() => decodeControl(type, flags, body, 0, body.length, version, 10));
    }
    expect(accepted).toBeGreaterThan(ROUNDS / 50);
    expect(accepted).toBeLessThan(ROUNDS);
  });

  it("changed CONNECTs give a packet or an error with its answer", () => {
    const random = new Random(version + 200);
    let accepted = 0;
    for (let round = 0; round < ROUNDS; round++) {
      const frame = encodeControl(version, randomConnect(random, version));
      const { start, end } = open(frame);
      const body = mutate(random, frame.subarray(start, end));
      accepted += survives(() => connectOrAnswer(body));
    }
    expect(accepted).toBeGreaterThan(ROUNDS / 50);
  });

  it("changed packets of a server give a packet or a coded error", () => {
    const random = new Random(version + 300);
    for (let round = 0; round < ROUNDS; round++) {
      const frame = encodeServerPacket(version, randomServerPacket(random, version));
      const { type, flags, start, end } = open(frame);
      const body = mutate(random, frame.subarray(start, end));
      survives(() => decodeServerPacket(type, flags, body, 0, body.length, version));
    }
  });

  it("random bytes give a packet or a coded error", () => {
    const random = new Random(version + 400);
    for (let round = 0; round < ROUNDS; round++) {
      const type = random.int(0, 15);
      const flags = random.bool() ? (REQUIRED_FLAGS[type] ?? random.int(0, 15)) : random.int(0, 15);
      const body = random.bytes(40);
      survives(() => connectOrAnswer(body));
      survives(() => decodeServerPacket(type, flags, body, 0, body.length, version));
      if (type === PUBLISH || type === PINGREQ) continue;
      survives(() => decodeControl(type, flags, body, 0, body.length, version, 10));
    }
  });
});
