import { expect, it } from "vitest";
import { Batched } from "../../../core/logging/batched.ts";
import { waitFor } from "../../support/broker.ts";

function setUp() {
  const calls: string[] = [];
  const sink = new Batched({
    write: (text, level) => void calls.push(`${level} ${text}`),
    flushSync: () => void calls.push("flush"),
    close: async () => void calls.push("close"),
  });
  return { calls, sink };
}

it("lines of one moment are written together, with the highest of their levels", async () => {
  const { calls, sink } = setUp();
  sink.write("a\n", 30);
  sink.write("b\n", 50);
  sink.write("c\n", 30);
  expect(calls).toEqual([]);
  await waitFor("the batch", () => calls.length > 0);
  expect(calls).toEqual(["50 a\nb\nc\n"]);
});

it("a long batch does not wait", () => {
  const { calls, sink } = setUp();
  sink.write("x".repeat(20_000), 30);
  expect(calls).toHaveLength(1);
});

it("what waits is written before the end, and last words at once", async () => {
  const { calls, sink } = setUp();
  sink.write("a\n", 30);
  sink.flushSync();
  sink.write("b\n", 30);
  sink.writeNow("dying\n");
  sink.write("c\n", 30);
  await sink.close();
  expect(calls).toEqual(["30 a\n", "flush", "30 b\ndying\n", "flush", "30 c\n", "close"]);
});
