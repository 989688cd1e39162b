import { generate } from "mqtt-packet";
import { describe, expect, it } from "vitest";
import { encodePublish } from "../../../core/mqtt/client-codec.ts";
import {
  copyBytes,
  FRAME_NONE,
  FRAME_V4,
  FRAME_V4_ID,
  FRAME_V5,
  FRAME_V5_ID,
  lengthBytes,
  Message,
  writeLength,
} from "../../../core/mqtt/message.ts";
import type { Properties } from "../../../core/mqtt/packets.ts";
import { encodePublishProperties } from "../../../core/mqtt/publish-properties.ts";
import { Random } from "./random-packets.ts";

const LAYOUTS = [FRAME_V4, FRAME_V4_ID, FRAME_V5, FRAME_V5_ID] as const;
type Layout = (typeof LAYOUTS)[number];

const SIZES = [0, 1, 100, 127, 128, 199, 200, 201, 16_370, 16_383, 16_384, 16_385, 2_097_152];

interface Case {
  topic: string;
  payload: Buffer;
  properties: Properties | undefined;
}

/** The frame as the client's codec writes it; a packet id of 0 where the layout has one. */
function expected(one: Case, layout: Layout): Buffer {
  const hasId = layout === FRAME_V4_ID || layout === FRAME_V5_ID;
  const frame = encodePublish(layout >= FRAME_V5 ? 5 : 4, {
    topic: one.topic,
    payload: one.payload,
    qos: hasId ? 1 : 0,
    retain: false,
    dup: false,
    packetId: hasId ? 0x1234 : 0,
    properties: layout >= FRAME_V5 ? one.properties : undefined,
  });
  frame[0] = 0x30;
  return frame;
}

function patched(frame: Buffer, topic: string, layout: Layout): Buffer {
  const copy = Buffer.from(frame);
  if (layout === FRAME_V4_ID || layout === FRAME_V5_ID) {
    const head = copy.findIndex((byte, at) => at > 0 && byte < 0x80) + 1;
    copy.writeUInt16BE(0x1234, head + 2 + Buffer.byteLength(topic));
  }
  return copy;
}

function randomCase(random: Random, payloadBytes: number): Case {
  const topic = random.list(1, 3, () => random.text(1, 12)).join("/");
  const properties: Properties = { contentType: random.text(0, 70), payloadFormatIndicator: 1 };
  return {
    topic,
    payload: Buffer.alloc(payloadBytes, random.int(0, 255)),
    properties: random.bool() ? properties : undefined,
  };
}

function messageOf(one: Case): Message {
  const forward =
    one.properties === undefined ? undefined : encodePublishProperties(one.properties).forward;
  return new Message("", one.topic, one.payload, 1, false, forward, 0);
}

/** The message as read from a frame of `layout`, in the middle of a read buffer. */
function borrowed(one: Case, layout: Layout): { message: Message; read: Buffer } {
  const frame = expected(one, layout);
  const read = Buffer.concat([Buffer.alloc(9, 0x77), frame, Buffer.alloc(5, 0x88)]);
  const forward =
    one.properties === undefined || layout < FRAME_V5
      ? undefined
      : encodePublishProperties(one.properties).forward;
  const message = new Message("", one.topic, read, 1, false, forward, 0);
  const end = 9 + frame.length;
  const topicBytes = Buffer.byteLength(one.topic);
  message.borrow(read, 9, end, end - one.payload.length, layout, topicBytes);
  return { message, read };
}

describe("frames of a message", () => {
  it.each(LAYOUTS)("in layout %i are what the client's codec writes, for all sizes", (layout) => {
    const random = new Random(layout + 1);
    for (const size of SIZES) {
      for (let round = 0; round < (size > 100_000 ? 1 : 10); round++) {
        const one = randomCase(random, size);
        const frame = patched(messageOf(one).frame(layout), one.topic, layout);
        expect(frame.equals(expected(one, layout))).toBe(true);
      }
    }
  });

  it("are what mqtt-packet writes", () => {
    const random = new Random(9);
    for (let round = 0; round < 60; round++) {
      const one = { ...randomCase(random, random.pick(SIZES.slice(0, -1))), properties: undefined };
      for (const layout of LAYOUTS) {
        const hasId = layout === FRAME_V4_ID || layout === FRAME_V5_ID;
        const theirs = generate(
          {
            cmd: "publish",
            topic: one.topic,
            payload: one.payload,
            qos: hasId ? 1 : 0,
            messageId: 0x1234,
            retain: false,
            dup: false,
          },
          { protocolVersion: layout >= FRAME_V5 ? 5 : 4 },
        );
        theirs[0] = 0x30;
        const ours = patched(messageOf(one).frame(layout), one.topic, layout);
        expect(ours.equals(theirs)).toBe(true);
      }
    }
  });

  it("are right from any layout to any other, before and after the message is owned", () => {
    const random = new Random(10);
    for (const from of LAYOUTS) {
      for (const to of LAYOUTS) {
        if (from === to) continue;
        for (const size of SIZES.slice(0, -1)) {
          const one = randomCase(random, size);
          if (from < FRAME_V5) one.properties = undefined;
          for (const owns of [false, true]) {
            const { message, read } = borrowed(one, from);
            if (owns) {
              message.own();
              read.fill(0);
            }
            const frame = patched(message.frame(to), one.topic, to);
            expect(frame.equals(expected(one, to))).toBe(true);
          }
        }
      }
    }
  });

  it("are built once", () => {
    const message = messageOf(randomCase(new Random(1), 50));
    for (const layout of LAYOUTS) expect(message.frame(layout)).toBe(message.frame(layout));
    expect(message.frame(FRAME_V4)).not.toBe(message.frame(FRAME_V5));
  });

  it("built from borrowed bytes stay right when these change", () => {
    const one = randomCase(new Random(2), 300);
    const { message, read } = borrowed(one, FRAME_V5);
    const frame = message.frame(FRAME_V4);
    read.fill(0);
    expect(frame.equals(expected(one, FRAME_V4))).toBe(true);
  });
});

describe("a borrowed message", () => {
  it("keeps frame and payload once owned, when the read buffer is overwritten", () => {
    const random = new Random(3);
    for (const layout of LAYOUTS) {
      for (const size of SIZES.slice(0, -1)) {
        const one = randomCase(random, size);
        const { message, read } = borrowed(one, layout);
        expect(message.payloadBytes).toBe(size);
        message.own();
        read.fill(0xee);
        expect(message.payload.equals(one.payload)).toBe(true);
        const source = message.source.subarray(message.sourceStart, message.sourceEnd);
        expect(source.equals(expected(one, layout))).toBe(true);
        expect(message.payloadBytes).toBe(size);
      }
    }
  });

  it("owns its bytes when somebody asks for the payload", () => {
    const one = randomCase(new Random(4), 40);
    const { message, read } = borrowed(one, FRAME_V4);
    const payload = message.payload;
    read.fill(0);
    expect(payload.equals(one.payload)).toBe(true);
    expect(message.payload.equals(one.payload)).toBe(true);
  });

  it("copies once, and nothing when it owns its bytes already", () => {
    const { message } = borrowed(randomCase(new Random(5), 40), FRAME_V4);
    message.own();
    const { source } = message;
    message.own();
    expect(message.source).toBe(source);
    const payload = Buffer.from("x");
    const made = new Message("", "t", payload, 0, false, undefined, 0);
    made.own();
    expect(made.source).toBe(payload);
  });

  it("whose frame nobody may take keeps its payload alone", () => {
    const one = randomCase(new Random(6), 500);
    const { message, read } = borrowed(one, FRAME_V5);
    message.sourceLayout = FRAME_NONE;
    message.own();
    read.fill(0);
    expect(message.sourceEnd - message.sourceStart).toBe(500);
    expect(message.payload.equals(one.payload)).toBe(true);
    expect(patched(message.frame(FRAME_V4_ID), one.topic, FRAME_V4_ID)).toEqual(
      expected(one, FRAME_V4_ID),
    );
  });
});

describe("variable byte integers", () => {
  it.each([
    [0, "00"],
    [127, "7f"],
    [128, "8001"],
    [16_383, "ff7f"],
    [16_384, "808001"],
    [2_097_151, "ffff7f"],
    [2_097_152, "80808001"],
    [268_435_455, "ffffff7f"],
  ])("%i is %s", (value, hex) => {
    const buffer = Buffer.alloc(6);
    const end = writeLength(buffer, 1, value);
    expect(buffer.toString("hex", 1, end)).toBe(hex);
    expect(lengthBytes(value)).toBe(end - 1);
  });
});

describe("copying", () => {
  it("copies exactly the range, of any length", () => {
    for (const size of [0, 1, 199, 200, 201, 5000]) {
      const from = Buffer.from(Array.from({ length: size + 20 }, (_, i) => i % 256));
      const to = Buffer.alloc(size + 30, 0xff);
      copyBytes(from, 7, 7 + size, to, 11);
      expect(to.subarray(11, 11 + size).equals(from.subarray(7, 7 + size))).toBe(true);
      expect(to.subarray(0, 11).equals(Buffer.alloc(11, 0xff))).toBe(true);
      expect(to.subarray(11 + size).equals(Buffer.alloc(19, 0xff))).toBe(true);
    }
  });
});
