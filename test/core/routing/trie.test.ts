import { describe, expect, it } from "vitest";
import { matches } from "../../../core/mqtt/topics.ts";
import type { Subscription } from "../../../core/routing/subscription.ts";
import { Trie } from "../../../core/routing/trie.ts";
import { Random } from "../mqtt/random-packets.ts";
import { subscriptionOf, TestReceiver } from "./receivers.ts";

const receiver = new TestReceiver("r");
const LEVELS = ["a", "b", "", "$SYS", "$x", "é"];

function randomTopic(random: Random): string {
  return random.list(1, 4, () => random.pick(LEVELS)).join("/") || "a";
}

function randomFilter(random: Random): string {
  const levels = random.list(1, 4, () => (random.next() < 0.3 ? "+" : random.pick(LEVELS)));
  if (random.next() < 0.3) levels.push("#");
  return levels.join("/") || "#";
}

describe("tree of filters", () => {
  it("finds what brute force finds, over random changes", () => {
    const random = new Random(21);
    for (let round = 0; round < 30; round++) {
      const trie = new Trie();
      const model = new Set<Subscription>();
      for (let i = 0; i < 200; i++) {
        if (random.next() < 0.6 || model.size === 0) {
          const subscription = subscriptionOf(receiver, randomFilter(random));
          trie.add(subscription);
          model.add(subscription);
        } else {
          const gone = random.pick([...model]);
          trie.remove(gone);
          model.delete(gone);
        }
        const topic = randomTopic(random);
        const found = trie.match(topic);
        const expected = [...model].filter(({ match }) => matches(match, topic));
        expect(found).toHaveLength(expected.length);
        expect(expected.every((one) => found.includes(one))).toBe(true);
        expect(trie.size).toBe(model.size);
      }
      for (const subscription of model) trie.remove(subscription);
      expect(trie.size).toBe(0);
      expect((trie as unknown as { root: { children: unknown } }).root.children).toBeUndefined();
    }
  });

  it("does not match a leading wildcard with `$` topics [MQTT-4.7.2-1]", () => {
    const trie = new Trie();
    for (const filter of ["#", "+/a", "+/#", "$SYS/#", "$SYS/+"]) {
      trie.add(subscriptionOf(receiver, filter));
    }
    const filters = (topic: string) => trie.match(topic).map(({ filter }) => filter);
    expect(filters("$SYS/a").sort()).toEqual(["$SYS/#", "$SYS/+"]);
    expect(filters("a/$SYS").sort()).toEqual(["#", "+/#"]);
  });

  it("ignores the removal of what it does not hold", () => {
    const trie = new Trie();
    const held = subscriptionOf(receiver, "a/b");
    trie.add(held);
    for (const filter of ["a/b", "a", "a/b/c", "x/y"]) {
      trie.remove(subscriptionOf(receiver, filter));
    }
    expect(trie.size).toBe(1);
    expect(trie.match("a/b")).toEqual([held]);
  });

  it("keeps several subscriptions with the same filter apart", () => {
    const trie = new Trie();
    const both = [subscriptionOf(receiver, "a"), subscriptionOf(receiver, "a")];
    for (const subscription of both) trie.add(subscription);
    expect(trie.match("a")).toEqual(both);
    trie.remove(both[0]);
    expect(trie.match("a")).toEqual([both[1]]);
  });
});
