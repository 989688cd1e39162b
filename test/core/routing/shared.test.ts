import { describe, expect, it } from "vitest";
import { Message } from "../../../core/mqtt/message.ts";
import { chooseMember, deliverShared } from "../../../core/routing/shared.ts";
import { Random } from "../mqtt/random-packets.ts";
import { subscriptionOf, TestReceiver } from "./receivers.ts";

function group(name: string, online: readonly boolean[]) {
  const receivers = online.map((isOnline, i) => {
    const receiver = new TestReceiver(`${name}${i}`);
    receiver.isOnline = isOnline;
    return receiver;
  });
  const filter = `$share/${name}/t`;
  const members = receivers.map((receiver) => subscriptionOf(receiver, filter));
  return { receivers, group: { name: filter, members } };
}

const message = (): Message => new Message("", "t", Buffer.from("x"), 1, false, undefined, 0);

describe("a shared subscription", () => {
  it("spreads messages evenly over its online members", () => {
    const random = new Random(1);
    const made = group("g", [true, true, true, true]);
    for (let i = 0; i < 4000; i++) deliverShared([made.group], message(), () => random.next());
    for (const { got } of made.receivers) {
      expect(got.length).toBeGreaterThan(900);
      expect(got.length).toBeLessThan(1100);
    }
  });

  it("chooses an online member as long as there is one", () => {
    const random = new Random(2);
    const made = group("g", [false, false, true, false]);
    for (let i = 0; i < 200; i++) deliverShared([made.group], message(), () => random.next());
    expect(made.receivers.map(({ got }) => got.length)).toEqual([0, 0, 200, 0]);
  });

  it("spreads evenly when some members are away, and over these when all are", () => {
    const random = new Random(3);
    for (const online of [
      [true, false, true, false],
      [false, false, false, false],
    ]) {
      const made = group("g", online);
      for (let i = 0; i < 4000; i++) deliverShared([made.group], message(), () => random.next());
      const counts = made.receivers.map(({ got }) => got.length);
      const able = online.includes(true) ? online : online.map(() => true);
      const share = 4000 / able.filter(Boolean).length;
      for (const [i, count] of counts.entries()) {
        if (able[i]) expect(Math.abs(count - share)).toBeLessThan(share * 0.15);
        else expect(count).toBe(0);
      }
    }
  });

  it("gives each group the message once, and returns the latest batch", () => {
    const one = group("g", [true, true]);
    const two = group("h", [true]);
    for (const receiver of one.receivers) receiver.batch = 3;
    two.receivers[0].batch = 9;
    expect(deliverShared([one.group, two.group], message(), () => 0.99)).toBe(9);
    const total = [...one.receivers, ...two.receivers].map(({ got }) => got.length);
    expect(total).toEqual([0, 1, 1]);
  });

  it("never chooses the member that gives a message away", () => {
    const random = new Random(4);
    const made = group("g", [true, true]);
    for (let i = 0; i < 50; i++) {
      const member = chooseMember(made.group, () => random.next(), made.receivers[0]);
      expect(member?.receiver).toBe(made.receivers[1]);
    }
    const alone = group("g", [true]);
    expect(chooseMember(alone.group, () => 0, alone.receivers[0])).toBeUndefined();
    expect(chooseMember({ name: "x", members: [] }, () => 0)).toBeUndefined();
  });
});
