import { describe, expect, it } from "vitest";
import { entryKey } from "../../../../core/store/embedded/keys.ts";
import { DamagedRecord, RecordWriter } from "../../../../core/store/embedded/record-format.ts";
import * as records from "../../../../core/store/embedded/records.ts";
import {
  describeEntry,
  entryOf,
  messageOf,
  seededRandom,
  sessionOf,
  subscriptionOf,
} from "../model.ts";

const key = entryKey(1, 1);
const out = new RecordWriter();
const queue = { id: 3, storedCount: 2 ** 40, nextSeq: 2 ** 47, nextPacketId: 65_535 };

const SAMPLES: [name: string, value: Buffer, decode: (value: Buffer) => unknown][] = [
  [
    "entry",
    records.encodeEntry(out, entryOf(1, messageOf(12), 12)),
    (v) => records.decodeEntry(key, v),
  ],
  ["body", records.encodeBody(out, { message: messageOf(12), count: 3 }), records.decodeBody],
  ["session", records.encodeSession(out, sessionOf(3, 12)), (v) => records.decodeSession(3, v)],
  [
    "subscription",
    records.encodeSubscription(out, subscriptionOf("a", 7)),
    (v) => records.decodeSubscription("a", v),
  ],
  [
    "retained",
    records.encodeRetained(out, { message: messageOf(9), storedAtMs: 1 }),
    records.decodeRetained,
  ],
  ["counters", records.encodeCounters(out, queue), (v) => records.decodeCounters(3, v)],
  ["number", records.encodeNumber(out, 2 ** 48 - 1), records.decodeNumber],
  ["text", records.encodeText(out, "ü🐋"), records.decodeText],
];

describe("records", () => {
  it.each(SAMPLES)("refuse every single flipped bit: %s", (_, value, decode) => {
    expect(() => decode(value)).not.toThrow();
    for (let bit = 0; bit < value.length * 8; bit++) {
      const damaged = Buffer.from(value);
      damaged[bit >> 3] = (damaged[bit >> 3] ?? 0) ^ (1 << (bit & 7));
      expect(() => decode(damaged)).toThrow(DamagedRecord);
    }
  });

  it.each(SAMPLES)("refuse every shorter record: %s", (_, value, decode) => {
    for (let length = 0; length < value.length; length++) {
      expect(() => decode(value.subarray(0, length))).toThrow(DamagedRecord);
    }
  });

  it("refuse fields that do not fit, also with a right check sum", () => {
    const random = seededRandom(5);
    for (let i = 0; i < 3000; i++) {
      out.begin(100);
      for (let n = random(60); n > 0; n--) out.u8(random(4) === 0 ? random(256) : random(3));
      const value = out.end();
      for (const [, , decode] of SAMPLES) {
        try {
          decode(value);
        } catch (error) {
          expect(error).toBeInstanceOf(DamagedRecord);
        }
      }
    }
  });

  it("keep the numbers of counters and reserves whole", () => {
    const [counters, number] = [SAMPLES[5], SAMPLES[6]];
    expect(counters?.[2](counters[1])).toEqual(queue);
    expect(number?.[2](number[1])).toBe(2 ** 48 - 1);
  });

  it("stay as they are while more are written, up to reuse", () => {
    const writer = new RecordWriter();
    const random = seededRandom(6);
    const written = Array.from({ length: 400 }, (_, i) => {
      const m = random(50);
      return {
        entry: entryOf(i + 1, messageOf(m), m),
        value: records.encodeEntry(writer, entryOf(i + 1, messageOf(m), m)),
      };
    });
    for (const { entry, value } of written) {
      const decoded = records.decodeEntry(entryKey(1, entry.seq), value);
      expect(describeEntry(decoded.entry)).toEqual(describeEntry(entry));
    }
  });
});
