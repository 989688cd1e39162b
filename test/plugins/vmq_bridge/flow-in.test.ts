import mqttPacket from "mqtt-packet";
import { expect, it } from "vitest";
import { BridgeCounters } from "../../../plugins/vmq_bridge/counters.ts";
import { FlowIn } from "../../../plugins/vmq_bridge/flow-in.ts";
import { LoopGuard } from "../../../plugins/vmq_bridge/loops.ts";
import { parseRule, Rules } from "../../../plugins/vmq_bridge/rules.ts";

/** What a bridge takes in, with a store that the test lets finish. */
function flow() {
  const events: string[] = [];
  const stored: (() => void)[] = [];
  const flowIn = new FlowIn({
    settings: { name: "br0", version: 4, loopProtection: "off" },
    rules: new Rules([parseRule("a in 1"), parseRule("a in 1 copy")]),
    guard: new LoopGuard({ brokerId: "here", nowMs: () => 0 }),
    counters: new BridgeCounters(),
    topicMaxDepth: 10,
    publish: ({ topic }) => {
      events.push(topic);
      return new Promise((done) => stored.push(done));
    },
    receive: (bytes, length) => events.push(bytes.toString("latin1", 4, length)),
    hasInbound: () => false,
    remoteId: () => undefined,
    isEcho: () => false,
    answer: () => events.push("answer"),
    hold: () => events.push("hold"),
    release: () => events.push("release"),
    refused: () => events.push("refused"),
    dropped: () => events.push("dropped"),
  });
  const frame = mqttPacket.generate({
    ...{ cmd: "publish", topic: "a", payload: "x", qos: 1, messageId: 7 },
    ...{ dup: false, retain: false },
  });
  flowIn.frame(frame, 0, 2, frame.length);
  // The read ends, and its buffer is used again.
  flowIn.flush();
  frame.fill(0);
  return { flowIn, events, stored };
}

it("a message with several topics is acknowledged when all of it is stored", async () => {
  const { events, stored } = flow();
  expect(events).toEqual(["copy/a", "hold"]);
  for (const done of stored) done();
  await expect.poll(() => events).toEqual(["copy/a", "hold", "a\x00\x07x", "release"]);
});

it("and not at all by a connection that has ended meanwhile", async () => {
  const { flowIn, events, stored } = flow();
  flowIn.reset();
  for (const done of stored) done();
  await new Promise((done) => setImmediate(done));
  flowIn.flush();
  expect(events).toEqual(["copy/a", "hold"]);
});
