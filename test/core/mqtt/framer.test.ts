import { describe, expect, it } from "vitest";
import { Framer, REMAINING_LENGTH_MAX } from "../../../core/mqtt/framer.ts";
import { violation } from "./frames.ts";
import { Random } from "./random-packets.ts";

/** A packet with a body of `size` bytes. */
function packetOf(header: number, size: number, fill = header): Buffer {
  const head = [header];
  let rest = size;
  do {
    head.push((rest & 0x7f) | (rest > 127 ? 0x80 : 0));
    rest >>>= 7;
  } while (rest > 0);
  return Buffer.concat([Buffer.from(head), Buffer.alloc(size, fill)]);
}

interface Seen {
  header: number;
  whole: Buffer;
  body: Buffer;
}

/** Collects packets; `stopAt` names the packets (by number) that stop the framer. */
function collector(stopAt: (index: number) => boolean = () => false) {
  const seen: Seen[] = [];
  const framer = new Framer({
    onPacket(header, buffer, start, body, end) {
      seen.push({
        header,
        whole: Buffer.from(buffer.subarray(start, end)),
        body: Buffer.from(buffer.subarray(body, end)),
      });
      return !stopAt(seen.length - 1);
    },
  });
  return { framer, seen };
}

describe("a packet that must wait", () => {
  it("is given again, whole, when the framer goes on; what came behind it waits, too", () => {
    const stream = Buffer.concat([
      packetOf(0x30, 3, 1),
      packetOf(0x82, 300, 2),
      packetOf(0x30, 2, 3),
    ]);
    for (const size of [1, 7, stream.length]) {
      const seen: string[] = [];
      let isReady = false;
      const framer = new Framer({
        onPacket(header, buffer, start, _body, end) {
          if (header === 0x82 && !isReady) return "later";
          seen.push(buffer.subarray(start, end).toString("hex"));
          return true;
        },
      });
      for (let at = 0; at < stream.length; at += size) push(framer, stream.subarray(at, at + size));
      expect(seen).toHaveLength(1);
      framer.resume();
      expect(seen).toHaveLength(1);
      isReady = true;
      framer.resume();
      expect(seen.join("")).toBe(stream.toString("hex"));
    }
  });
});

/** Pushes as a socket does: from a buffer that is overwritten after the call. */
function push(framer: Framer, bytes: Buffer): void {
  const read = Buffer.from(bytes);
  framer.push(read, read.length);
  read.fill(0xee);
}

function randomPackets(random: Random): Buffer[] {
  const sizes = [0, 0, 1, 2, 5, 50, 126, 127, 128, 129, 300, 5000, 16_383, 16_384, 70_000];
  return random.list(1, 20, () =>
    packetOf(random.int(0, 255), random.pick(sizes), random.int(0, 255)),
  );
}

function randomReads(random: Random, stream: Buffer): Buffer[] {
  const reads: Buffer[] = [];
  const sizes = stream.length < 5000 ? [1, 2, 3, 7, 100] : [100, 1460, 4096, 65_536];
  const size = random.pick(sizes);
  for (let at = 0; at < stream.length; ) {
    const end = Math.min(stream.length, at + random.int(1, size));
    reads.push(stream.subarray(at, end));
    at = end;
  }
  return reads;
}

const whole = (seen: readonly Seen[]): Buffer => Buffer.concat(seen.map((one) => one.whole));

describe("framer", () => {
  it("gives header, body and whole packet", () => {
    const { framer, seen } = collector();
    push(framer, Buffer.from([0xc0, 0, 0x31, 3, 1, 2, 3]));
    expect(seen).toEqual([
      { header: 0xc0, whole: Buffer.from([0xc0, 0]), body: Buffer.alloc(0) },
      { header: 0x31, whole: Buffer.from([0x31, 3, 1, 2, 3]), body: Buffer.from([1, 2, 3]) },
    ]);
  });

  it("gives the same packets however the stream is split into reads", () => {
    const random = new Random(42);
    for (let round = 0; round < 300; round++) {
      const packets = randomPackets(random);
      const stream = Buffer.concat(packets);
      const { framer, seen } = collector();
      for (const read of randomReads(random, stream)) push(framer, read);
      expect(seen).toHaveLength(packets.length);
      expect(seen.every((one, i) => one.whole.equals(packets[i]))).toBe(true);
      expect(framer.waitingBytes).toBe(0);
    }
  });

  it("loses, repeats and reorders nothing when it is stopped anywhere and resumed any time", () => {
    const random = new Random(43);
    for (let round = 0; round < 150; round++) {
      const packets = randomPackets(random);
      const stream = Buffer.concat(packets);
      const stops = new Set(packets.map((_, i) => i).filter(() => random.next() < 0.4));
      const { framer, seen } = collector((index) => stops.has(index));
      let pushed = 0;
      for (const read of randomReads(random, stream)) {
        push(framer, read);
        pushed += read.length;
        if (random.next() < 0.1) {
          expect(whole(seen).length + framer.waitingBytes).toBe(pushed);
          framer.resume();
        }
      }
      for (let i = 0; i <= packets.length; i++) framer.resume();
      expect(whole(seen).equals(stream)).toBe(true);
      expect(seen).toHaveLength(packets.length);
    }
  });

  it("hands nothing out between a stop and the next resume, whatever arrives", () => {
    const { framer, seen } = collector((index) => index === 0);
    push(framer, Buffer.concat([packetOf(1, 2), packetOf(2, 2)]));
    push(framer, packetOf(3, 2));
    expect(seen.map(({ header }) => header)).toEqual([1]);
    framer.resume();
    expect(seen.map(({ header }) => header)).toEqual([1, 2, 3]);
    framer.stop();
    push(framer, packetOf(4, 2));
    expect(seen).toHaveLength(3);
    framer.resume();
    expect(seen).toHaveLength(4);
  });

  it("keeps the bytes of the packet at hand intact when its handler pushes into held memory", () => {
    const bodies: string[] = [];
    const framer: Framer = new Framer({
      onPacket(header, buffer, _start, body, end) {
        if (header === 1) push(framer, packetOf(2, 3000, 0x62));
        bodies.push(buffer.toString("latin1", body, end).replace(/(.)\1*/g, "$1"));
        return true;
      },
    });
    const first = packetOf(1, 2000, 0x61);
    push(framer, first.subarray(0, 1000));
    push(framer, first.subarray(1000));
    framer.resume();
    expect(bodies).toEqual(["a", "b"]);
  });

  it("refuses a Remaining Length of five bytes with 0x81 [MQTT-1.5.5-1]", () => {
    const header = Buffer.from([0x30, 0x80, 0x80, 0x80, 0x80, 0x01]);
    for (let cut = 1; cut <= header.length; cut++) {
      const { framer, seen } = collector();
      const error = violation(() => {
        push(framer, header.subarray(0, cut));
        push(framer, header.subarray(cut));
        push(framer, Buffer.alloc(10));
      });
      expect(error.reasonCode).toBe(0x81);
      expect(seen).toEqual([]);
    }
  });

  it("refuses it as soon as the fourth byte says that a fifth follows", () => {
    const { framer } = collector();
    expect(violation(() => push(framer, Buffer.from([0x30, 255, 255, 255, 255]))).reasonCode).toBe(
      0x81,
    );
  });

  it("accepts four bytes, also for a length that needed fewer", () => {
    const { framer, seen } = collector();
    push(framer, Buffer.from([0x30, 0x82, 0x80, 0x80, 0x00, 7, 8]));
    expect(seen.map(({ body }) => body)).toEqual([Buffer.from([7, 8])]);
  });

  it("refuses a packet above the limit with 0x95 from its header alone [MQTT-3.1.2-24]", () => {
    const large = packetOf(0x30, 1001);
    for (let cut = 3; cut < 10; cut++) {
      const { framer, seen } = collector();
      framer.remainingMax = 1000;
      const fine = packetOf(0x30, 1000);
      push(framer, fine);
      const error = violation(() => push(framer, large.subarray(0, cut)));
      expect(error.reasonCode).toBe(0x95);
      expect(seen).toHaveLength(1);
    }
  });

  it("hands out the packets before a broken header first", () => {
    const { framer, seen } = collector();
    framer.remainingMax = 100;
    const error = violation(() => push(framer, Buffer.concat([packetOf(1, 5), packetOf(2, 101)])));
    expect(error.reasonCode).toBe(0x95);
    expect(seen.map(({ header }) => header)).toEqual([1]);
  });

  it("applies a limit that is set while a packet is handled to the next one", () => {
    const headers: number[] = [];
    const framer: Framer = new Framer({
      onPacket(header) {
        headers.push(header);
        framer.remainingMax = REMAINING_LENGTH_MAX;
        return true;
      },
    });
    framer.remainingMax = 10;
    push(framer, Buffer.concat([packetOf(1, 10), packetOf(2, 5000)]));
    expect(headers).toEqual([1, 2]);
  });

  it("holds little more than what has arrived of a huge announced packet", () => {
    const { framer } = collector();
    const before = process.memoryUsage().arrayBuffers;
    const framers = Array.from({ length: 50 }, () => collector().framer);
    for (const each of [framer, ...framers]) {
      push(each, Buffer.from([0x30, 0xff, 0xff, 0xff, 0x7f]));
      for (let i = 0; i < 10; i++) push(each, Buffer.alloc(100));
      expect(each.waitingBytes).toBe(1005);
    }
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(5_000_000);
  });

  it("gives large memory back when it is empty", () => {
    const framers = Array.from({ length: 30 }, () => collector().framer);
    const large = packetOf(0x30, 1_000_000);
    const before = process.memoryUsage().arrayBuffers;
    for (const framer of framers) {
      push(framer, large.subarray(0, 10));
      push(framer, large.subarray(10));
    }
    // The collectors keep one copy of each packet; a framer that kept another would double that.
    expect(framers.every((framer) => framer.waitingBytes === 0)).toBe(true);
    expect(before).toBeGreaterThan(0);
    const held = framers.map(
      (framer) => (framer as unknown as { held?: Buffer }).held?.length ?? 0,
    );
    expect(Math.max(...held)).toBeLessThanOrEqual(4096);
  });

  /** Bytes copied while `work` runs. */
  function copiedBy(work: () => void): number {
    let copied = 0;
    const copy = Buffer.prototype.copy;
    Buffer.prototype.copy = function count(
      this: Buffer,
      target: Uint8Array,
      at = 0,
      from = 0,
      to = this.length,
    ) {
      copied += to - from;
      return copy.call(this, target, at, from, to);
    };
    try {
      work();
    } finally {
      Buffer.prototype.copy = copy;
    }
    return copied;
  }

  it("copies each byte a few times at most when a large packet arrives in small reads", () => {
    const { framer, seen } = collector();
    const large = packetOf(0x30, 8_000_000);
    const copied = copiedBy(() => {
      for (let at = 0; at < large.length; at += 1000) {
        framer.push(large.subarray(at, at + 1000), Math.min(1000, large.length - at));
      }
    });
    expect(seen).toHaveLength(1);
    expect(copied).toBeLessThan(4 * large.length);
  });

  it("copies each byte a few times at most when small reads arrive while it is stopped", () => {
    const { framer } = collector();
    framer.stop();
    const read = Buffer.from([0xc0, 0]);
    const copied = copiedBy(() => {
      for (let i = 0; i < 20_000; i++) framer.push(read, 2);
    });
    expect(framer.waitingBytes).toBe(40_000);
    expect(copied).toBeLessThan(4 * 40_000);
  });
});
