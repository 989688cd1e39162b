import { describe, expect, it } from "vitest";
import { matches } from "../../../core/mqtt/topics.ts";
import { Mount, type Route } from "../../../core/routing/routes.ts";
import type { Subscription } from "../../../core/routing/subscription.ts";
import { violation } from "../mqtt/frames.ts";
import { Random } from "../mqtt/random-packets.ts";
import { subscriptionOf, TestReceiver } from "./receivers.ts";

const receivers = ["r0", "r1", "r2", "r3"].map((id) => new TestReceiver(id));
const LEVELS = ["a", "b", "c", "", "$S", "ü"];

function randomTopic(random: Random): string {
  return random.list(1, 3, () => random.pick(LEVELS)).join("/") || "a";
}

function randomFilter(random: Random): string {
  const levels = random.list(1, 3, () => (random.next() < 0.2 ? "+" : random.pick(LEVELS)));
  if (random.next() < 0.2) levels.push("#");
  const filter = levels.join("/") || "+";
  return random.next() < 0.2 ? `$share/${random.pick(["g", "h"])}/${filter}` : filter;
}

/** What a route must hold. */
function check(route: Route, topic: string, held: Iterable<Subscription>): void {
  const all = [...held].filter(({ match }) => matches(match, topic));
  expect(route.topic).toBe(topic);
  const plain = all.filter(({ group }) => group === "");
  expect(route.receivers).toHaveLength(plain.length);
  expect(plain.every((one) => route.receivers.includes(one))).toBe(true);
  const shared = all.filter(({ group }) => group !== "");
  const groups = new Map<string, Set<Subscription>>();
  for (const subscription of shared) {
    const members = groups.get(subscription.filter) ?? new Set();
    groups.set(subscription.filter, members.add(subscription));
  }
  expect(new Map(route.groups?.map(({ name, members }) => [name, new Set(members)]) ?? [])).toEqual(
    groups,
  );
}

describe("routes of a mountpoint", () => {
  it("are never stale, whoever looks them up, over random subscribes and unsubscribes", () => {
    const random = new Random(31);
    for (let round = 0; round < 15; round++) {
      const mount = new Mount("", 10, false);
      const held = new Set<Subscription>();
      const kept: Route[] = [];
      for (let i = 0; i < 400; i++) {
        const action = random.next();
        if (action < 0.25) {
          const subscription = subscriptionOf(random.pick(receivers), randomFilter(random));
          mount.add(subscription);
          held.add(subscription);
        } else if (action < 0.4 && held.size > 0) {
          const gone = random.pick([...held]);
          mount.remove(gone);
          held.delete(gone);
        } else if (action < 0.7) {
          const topic = randomTopic(random);
          const bytes = Buffer.from(`..${topic}..`);
          const route = mount.lookup(bytes, 2, bytes.length - 2);
          check(route, topic, held);
          expect(mount.isFresh(route)).toBe(true);
          kept.push(route);
        } else if (action < 0.85) {
          const topic = randomTopic(random);
          check(mount.lookupText(topic), topic, held);
        } else if (kept.length > 0) {
          // As a session does with the topic it published to last.
          const route = random.pick(kept);
          check(mount.fresh(route), route.topic, held);
        }
      }
    }
  });

  it("are not stale for those who kept one while 70000 other topics were used", () => {
    const mount = new Mount("", 10, false);
    const first = subscriptionOf(receivers[0], "kept");
    mount.add(first);
    const route = mount.lookupText("kept");
    for (let i = 0; i < 70_000; i++) mount.lookupText(`other/${i}`);
    const second = subscriptionOf(receivers[1], "kept");
    mount.add(second);
    check(mount.fresh(route), "kept", [first, second]);
    mount.remove(first);
    check(mount.fresh(route), "kept", [second]);
    check(mount.lookupText("kept"), "kept", [second]);
  });

  it("come from the cache: the same topic gives the same route", () => {
    const mount = new Mount("", 10, false);
    const bytes = Buffer.from("a/ü");
    const route = mount.lookup(bytes, 0, bytes.length);
    expect(mount.lookupText("a/ü")).toBe(route);
    bytes.fill(0x61);
    expect(route.bytes).toEqual(Buffer.from("a/ü"));
    expect(route.topic).toBe("a/ü");
  });

  it("are held for a bounded number of topics", () => {
    const mount = new Mount("", 10, false);
    for (let i = 0; i < 150_000; i++) mount.lookupText(String(i));
    const { recent, older } = mount as unknown as Record<string, Map<string, Route>>;
    expect(recent.size + older.size).toBeLessThanOrEqual(65_536);
  });

  it("refuse topics that MQTT does not allow, with a code", () => {
    const mount = new Mount("", 3, false);
    const lookup = (bytes: Buffer) => violation(() => mount.lookup(bytes, 0, bytes.length));
    expect(lookup(Buffer.from([0x61, 0xff])).reasonCode).toBe(0x81);
    for (const topic of ["a/+", "#", "", "a/b/c/d", "a\0b"]) {
      expect(lookup(Buffer.from(topic)).reasonCode).toBe(0x90);
    }
  });

  it("know that `$` topics are reserved", () => {
    const mount = new Mount("", 10, false);
    expect(mount.lookupText("$SYS/a").isReserved).toBe(true);
    expect(mount.lookupText("a/$SYS").isReserved).toBe(false);
  });

  it("merge overlapping subscriptions of a client when told to, and of nobody else", () => {
    const mount = new Mount("", 10, true);
    const own = [
      subscriptionOf(receivers[0], "a/b", { qos: 1, noLocal: true, ids: [1] }),
      subscriptionOf(receivers[0], "a/+", { qos: 2, retainAsPublished: true, ids: [2] }),
      subscriptionOf(receivers[0], "#", { qos: 0 }),
    ];
    const other = subscriptionOf(receivers[1], "a/#", { qos: 1 });
    for (const subscription of [...own, other]) mount.add(subscription);
    const { receivers: found } = mount.lookupText("a/b");
    expect(found).toHaveLength(2);
    const merged = found.find(({ receiver }) => receiver === receivers[0]);
    expect(merged).toMatchObject({ qos: 2, noLocal: false, retainAsPublished: true });
    expect([...(merged?.ids ?? [])].sort()).toEqual([1, 2]);
    expect(found.find(({ receiver }) => receiver === receivers[1])).toBe(other);
    mount.remove(own[1]);
    expect(mount.lookupText("a/b").receivers).toHaveLength(2);
    expect(
      mount
        .lookupText("a/b")
        .receivers.map(({ qos }) => qos)
        .sort(),
    ).toEqual([1, 1]);
  });
});
