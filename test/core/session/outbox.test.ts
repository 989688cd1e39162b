import { describe, expect, it } from "vitest";
import { Counters } from "../../../core/counters.ts";
import { COPY_MAX, Flusher, Outbox } from "../../../core/session/outbox.ts";
import { Random } from "../mqtt/random-packets.ts";
import { FakeTransport, turn } from "./world.ts";

function setUp() {
  const transport = new FakeTransport();
  const counters = new Counters();
  const flusher = new Flusher();
  return { transport, counters, flusher, outbox: new Outbox(transport, flusher, counters) };
}

const filled = (size: number, value: number): Buffer => Buffer.alloc(size, value);

describe("outbox", () => {
  it("writes once per turn, at its end", async () => {
    const { transport, outbox, counters } = setUp();
    for (let i = 0; i < 100; i++) outbox.append(filled(7, i));
    expect(transport.writes).toEqual([]);
    await turn();
    expect(transport.writes).toHaveLength(1);
    expect(transport.writes[0]).toEqual(
      Buffer.concat(Array.from({ length: 100 }, (_, i) => filled(7, i))),
    );
    expect(counters.bytesSent).toBe(700);
    await turn();
    expect(transport.writes).toHaveLength(1);
  });

  it("puts bytes of a later turn into a write of their own", async () => {
    const { transport, outbox } = setUp();
    outbox.append(filled(3, 1));
    await turn();
    outbox.append(filled(3, 2));
    await turn();
    expect(transport.writes).toEqual([filled(3, 1), filled(3, 2)]);
  });

  it("hands large memory to the socket as it is, behind what waits", async () => {
    const { transport, outbox } = setUp();
    const large = filled(COPY_MAX + 1, 2);
    outbox.append(filled(3, 1));
    outbox.append(large);
    outbox.append(filled(3, 3));
    await turn();
    expect(transport.writes).toEqual([filled(3, 1), large, filled(3, 3)]);
    expect(transport.given[1]).toBe(large);
  });

  it("copies up to COPY_MAX", async () => {
    const { transport, outbox } = setUp();
    const bytes = filled(COPY_MAX, 2);
    outbox.append(bytes);
    bytes.fill(9);
    await turn();
    expect(transport.writes).toEqual([filled(COPY_MAX, 2)]);
  });

  it("keeps order and content over any mixture of ways to append", async () => {
    const random = new Random(5);
    for (let round = 0; round < 40; round++) {
      const { transport, outbox, counters } = setUp();
      transport.isStuck = random.bool();
      const expected: Buffer[] = [];
      for (let i = 0; i < 60; i++) {
        const sizes = [0, 1, 4, 200, 201, 1023, 1024, 1025, 16_384, 16_385, 70_000];
        const bytes = filled(random.pick(sizes), random.int(0, 255));
        const way = random.int(0, 3);
        if (way === 0) outbox.appendShared(bytes);
        else if (way === 1) outbox.appendLarge(bytes);
        else if (way === 2 || bytes.length > COPY_MAX) outbox.append(bytes);
        else {
          const at = outbox.reserve(bytes.length);
          bytes.copy(outbox.chunk as Buffer, at);
        }
        expected.push(bytes);
        if (random.next() < 0.1) await turn();
        if (random.next() < 0.05) {
          transport.unstick();
          transport.isStuck = random.bool();
        }
      }
      await turn();
      const whole = Buffer.concat(expected);
      expect(Buffer.concat(transport.writes).equals(whole)).toBe(true);
      expect(counters.bytesSent).toBe(whole.length);
      // Fails when memory that the transport kept was used again.
      transport.unstick();
    }
  });

  it("sends shared memory without a copy, at the end of the turn, in order", async () => {
    const { transport, outbox } = setUp();
    const shared = [filled(5000, 2), filled(5000, 3)];
    outbox.append(filled(3, 1));
    outbox.appendShared(shared[0]);
    expect(transport.given.includes(shared[0])).toBe(false);
    outbox.appendShared(shared[1]);
    outbox.append(filled(3, 4));
    await turn();
    expect(Buffer.concat(transport.writes)).toEqual(
      Buffer.concat([filled(3, 1), ...shared, filled(3, 4)]),
    );
    expect(transport.given.slice(1, 3)).toEqual(shared);
    expect(transport.given[1]).toBe(shared[0]);
  });

  it("is blocked only above 256 KB in the socket", async () => {
    const { transport, outbox } = setUp();
    transport.isStuck = true;
    outbox.appendLarge(filled(262_144, 1));
    expect(outbox.blocked).toBe(false);
    outbox.append(filled(1, 1));
    await turn();
    expect(outbox.blocked).toBe(true);
  });

  it("sends nothing after it is closed, whatever was or is appended", async () => {
    const { transport, outbox, counters } = setUp();
    outbox.append(filled(3, 1));
    outbox.appendShared(filled(3, 2));
    const sent = transport.writes.length;
    outbox.append(filled(3, 3));
    const before = [...transport.writes];
    outbox.close();
    outbox.append(filled(3, 4));
    outbox.appendShared(filled(3, 5));
    outbox.appendLarge(filled(3, 6));
    outbox.flush();
    await turn();
    expect(transport.writes).toEqual(before);
    expect(before.length).toBeGreaterThanOrEqual(sent);
    expect(counters.bytesSent).toBe(Buffer.concat(before).length);
  });

  it("never lends the same chunk to two outboxes", async () => {
    const flusher = new Flusher();
    const counters = new Counters();
    const all = Array.from({ length: 50 }, (_, i) => {
      const transport = new FakeTransport();
      transport.isStuck = i % 2 === 0;
      return { transport, outbox: new Outbox(transport, flusher, counters), sent: [] as Buffer[] };
    });
    for (let round = 0; round < 10; round++) {
      for (const [i, { outbox, sent }] of all.entries()) {
        const bytes = filled(500 + 700 * (round % 3), i * 5 + (round % 5));
        outbox.append(bytes);
        sent.push(bytes);
      }
      await turn();
    }
    for (const { transport, sent } of all) {
      expect(Buffer.concat(transport.writes).equals(Buffer.concat(sent))).toBe(true);
      transport.unstick();
    }
  });
});

describe("flusher", () => {
  it("writes all outboxes of a turn in the order in which they first got bytes", async () => {
    const flusher = new Flusher();
    const order: number[] = [];
    const outboxes = [0, 1, 2].map((i) => {
      const transport = new FakeTransport();
      const write = transport.write.bind(transport);
      transport.write = (data) => {
        order.push(i);
        return write(data);
      };
      return new Outbox(transport, flusher, new Counters());
    });
    for (const i of [2, 0, 1, 2, 0]) outboxes[i]?.append(filled(1, i));
    await turn();
    expect(order).toEqual([2, 0, 1]);
  });

  it("takes what is appended during a flush in the next turn", async () => {
    const { transport, outbox, flusher, counters } = setUp();
    const other = new FakeTransport();
    const second = new Outbox(other, flusher, counters);
    const write = transport.write.bind(transport);
    transport.write = (data) => {
      if (transport.writes.length === 0) second.append(filled(2, 2));
      return write(data);
    };
    outbox.append(filled(2, 1));
    await turn();
    await turn();
    expect(other.writes).toEqual([filled(2, 2)]);
  });
});
