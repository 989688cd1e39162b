import { describe, expect, it } from "vitest";
import { Counters } from "../../../core/counters.ts";
import { Message } from "../../../core/mqtt/message.ts";
import { matches } from "../../../core/mqtt/topics.ts";
import { Router } from "../../../core/routing/router.ts";
import type { Subscription } from "../../../core/routing/subscription.ts";
import { MemoryStore } from "../../../core/store/memory/memory-store.ts";
import { Random } from "../mqtt/random-packets.ts";
import { subscriptionOf, TestReceiver } from "./receivers.ts";

function setUp(random: () => number = () => 0) {
  const counters = new Counters();
  const router = new Router(new MemoryStore(), counters, {
    topicDepthMax: 10,
    overlappingOnce: false,
    random,
  });
  return { counters, router };
}

function message(topic: string, payload = "x", mountpoint = ""): Message {
  return new Message(mountpoint, topic, Buffer.from(payload), 1, false, undefined, 0);
}

describe("router", () => {
  it("delivers each publish to whom brute force says, through any changes", () => {
    const random = new Random(51);
    const { router } = setUp(() => random.next());
    const receivers = Array.from({ length: 6 }, (_, i) => new TestReceiver(`r${i}`));
    const held: Subscription[] = [];
    const pick = (list: readonly string[]) => random.pick(list);
    const levels = ["a", "b", "$c"];
    for (let i = 0; i < 3000; i++) {
      const action = random.next();
      if (action < 0.2) {
        const filter = random.list(1, 3, () => pick([...levels, "+"])).join("/");
        const tail = random.next() < 0.2 ? "/#" : "";
        const share = random.next() < 0.3 ? `$share/${pick(["g", "h"])}/` : "";
        const chosen = random.pick(receivers);
        const full = `${share}${filter}${tail}`;
        // A client has a filter once.
        if (held.some((one) => one.receiver === chosen && one.filter === full)) continue;
        const subscription = subscriptionOf(chosen, full);
        router.subscribe(subscription);
        held.push(subscription);
      } else if (action < 0.32 && held.length > 0) {
        const [gone] = held.splice(random.int(0, held.length - 1), 1);
        if (gone !== undefined) router.unsubscribe(gone);
      } else if (action < 0.4) {
        const receiver = random.pick(receivers);
        receiver.isOnline = !receiver.isOnline;
      } else {
        const topic = random.list(1, 3, () => pick(levels)).join("/");
        for (const receiver of receivers) receiver.got.length = 0;
        const route = router.mount("").lookupText(topic);
        const result = router.publish(route, message(topic), undefined);
        const matching = held.filter(({ match }) => matches(match, topic));
        const got = receivers.flatMap((receiver) => receiver.got.map(({ by }) => by));
        const plain = matching.filter(({ group }) => group === "");
        expect(new Set(got.filter(({ group }) => group === ""))).toEqual(new Set(plain));
        const groups = new Set(
          matching.filter(({ group }) => group !== "").map(({ filter }) => filter),
        );
        const chosen = got.filter(({ group }) => group !== "");
        expect(chosen.map(({ filter }) => filter).sort()).toEqual([...groups].sort());
        for (const member of chosen) {
          const peers = matching.filter(({ filter }) => filter === member.filter);
          expect(peers).toContain(member);
          const anyOnline = peers.some(({ receiver }) => receiver.isOnline);
          expect(member.receiver.isOnline).toBe(anyOnline);
        }
        expect(result).toBe(matching.length === 0 ? -1 : 0);
      }
      expect(router.subscriptions).toBe(held.length);
    }
  });

  it("returns -1 when nobody matches, else the latest batch of all receivers", () => {
    const { router, counters } = setUp();
    const publish = () => router.publish(router.mount("").lookupText("t"), message("t"), undefined);
    expect(publish()).toBe(-1);
    const [one, two, shared] = ["1", "2", "s"].map((id) => new TestReceiver(id));
    one.batch = 4;
    two.batch = 2;
    shared.batch = 7;
    router.subscribe(subscriptionOf(one, "t"));
    router.subscribe(subscriptionOf(two, "+"));
    expect(publish()).toBe(4);
    router.subscribe(subscriptionOf(shared, "$share/g/t"));
    expect(publish()).toBe(7);
    expect(counters.routerMatchesLocal).toBe(5);
  });

  it("does not send a message back to a publisher with No Local", () => {
    const { router } = setUp();
    const [one, two] = ["1", "2"].map((id) => new TestReceiver(id));
    router.subscribe(subscriptionOf(one, "t", { noLocal: true }));
    router.subscribe(subscriptionOf(two, "t", { noLocal: true }));
    router.publish(router.mount("").lookupText("t"), message("t"), one);
    expect([one.got.length, two.got.length]).toEqual([0, 1]);
  });

  it("keeps mountpoints apart", () => {
    const { router } = setUp();
    const [one, two] = ["one", "two"].map((mountpoint) => new TestReceiver("r", mountpoint));
    for (const receiver of [one, two]) router.subscribe(subscriptionOf(receiver, "#"));
    router.publish(router.mount("one").lookupText("t"), message("t", "x", "one"), undefined);
    expect([one.got.length, two.got.length]).toEqual([1, 0]);
  });

  it("marks a message as shared by several receivers for the store", () => {
    const { router } = setUp();
    const receivers = ["1", "2"].map((id) => new TestReceiver(id));
    const route = () => router.mount("").lookupText("t");
    router.subscribe(subscriptionOf(receivers[0], "t"));
    const single = message("t");
    router.publish(route(), single, undefined);
    expect(single.shared).toBe(false);
    router.subscribe(subscriptionOf(receivers[1], "t"));
    const both = message("t");
    router.publish(route(), both, undefined);
    expect(both.shared).toBe(true);
  });

  it("hands a message over to another member of exactly that group", () => {
    const { router } = setUp();
    const [leaving, member, stranger] = ["l", "m", "s"].map((id) => new TestReceiver(id));
    const own = subscriptionOf(leaving, "$share/g/t");
    router.subscribe(own);
    router.subscribe(subscriptionOf(stranger, "$share/h/t"));
    expect(router.handOver(own, message("t"))).toBe(false);
    router.subscribe(subscriptionOf(member, "$share/g/t"));
    expect(router.handOver(own, message("t", "y"))).toBe(true);
    expect(member.texts()).toEqual(["y"]);
    expect(stranger.got).toEqual([]);
  });

  it("keeps a retained message besides delivering it", () => {
    const { router } = setUp();
    const receiver = new TestReceiver("r");
    router.subscribe(subscriptionOf(receiver, "t"));
    const kept = new Message("", "t", Buffer.from("x"), 1, true, undefined, 0);
    router.publishRetained(router.mount("").lookupText("t"), kept, undefined, 5);
    expect(receiver.got).toHaveLength(1);
    expect(router.retained.list("")).toEqual([kept]);
  });
});
