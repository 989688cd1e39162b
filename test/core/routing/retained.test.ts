import { describe, expect, it } from "vitest";
import { Message } from "../../../core/mqtt/message.ts";
import { matches } from "../../../core/mqtt/topics.ts";
import { Retained } from "../../../core/routing/retained.ts";
import { EmbeddedStore } from "../../../core/store/embedded/embedded-store.ts";
import { MemoryStore } from "../../../core/store/memory/memory-store.ts";
import type { Store, StoredRetained } from "../../../core/store/types.ts";
import { tempDir } from "../../support/broker.ts";
import { Random } from "../mqtt/random-packets.ts";

function message(topic: string, payload: string, expiresAtMs = 0, mountpoint = ""): Message {
  return new Message(mountpoint, topic, Buffer.from(payload), 1, true, undefined, expiresAtMs);
}

async function loaded(store: Store = new MemoryStore()): Promise<Retained> {
  const retained = new Retained(store);
  await retained.load();
  return retained;
}

const topics = (messages: readonly Message[]): string[] => messages.map(({ topic }) => topic);

/** A store whose retained messages arrive when the test lets them. */
class SlowStore extends MemoryStore {
  letGo: () => void = () => undefined;
  private readonly gate = new Promise<void>((resolve) => {
    this.letGo = resolve;
  });

  override async *loadRetained(): AsyncGenerator<StoredRetained> {
    const all: StoredRetained[] = [];
    for await (const one of super.loadRetained()) all.push(one);
    await this.gate;
    yield* all;
  }
}

async function slowStoreWith(...stored: Message[]): Promise<SlowStore> {
  const store = new SlowStore();
  for (const one of stored) store.putRetained({ message: one, storedAtMs: 1 });
  return store;
}

describe("retained messages", () => {
  it("match what brute force matches, over random changes", async () => {
    const random = new Random(61);
    const retained = await loaded();
    const model = new Map<string, string>();
    const level = () => random.pick(["a", "b", "", "$c", "ü"]);
    for (let i = 0; i < 3000; i++) {
      const topic = random.list(1, 4, level).join("/") || "a";
      const payload = random.next() < 0.35 ? "" : String(i);
      retained.set(message(topic, payload), i);
      if (payload === "") model.delete(topic);
      else model.set(topic, payload);
      const filter =
        random.list(1, 3, () => (random.next() < 0.4 ? "+" : level())).join("/") || "a";
      const wanted = random.next() < 0.4 ? `${filter}/#` : filter;
      const expected = [...model.keys()].filter((one) => matches(wanted, one)).sort();
      expect(topics(retained.match("", wanted, 0)).sort()).toEqual(expected);
      expect(retained.count).toBe(model.size);
    }
    expect(new Map(retained.list("").map((one) => [one.topic, String(one.payload)]))).toEqual(
      model,
    );
    for (const topic of [...model.keys()]) retained.set(message(topic, ""), 0);
    expect(retained.count).toBe(0);
    expect(retained.bytes).toBe(0);
  });

  it("never match a leading wildcard with `$` topics [MQTT-4.7.2-1]", async () => {
    const retained = await loaded();
    retained.set(message("$SYS/x", "1"), 1);
    retained.set(message("a/$b", "1"), 2);
    expect(topics(retained.match("", "#", 0))).toEqual(["a/$b"]);
    expect(topics(retained.match("", "+/x", 0))).toEqual([]);
    expect(topics(retained.match("", "$SYS/#", 0))).toEqual(["$SYS/x"]);
    expect(topics(retained.match("", "a/+", 0))).toEqual(["a/$b"]);
  });

  it("come oldest first, a replaced one as new", async () => {
    const retained = await loaded();
    for (const [i, topic] of ["b", "a", "c", "b"].entries()) retained.set(message(topic, "x"), i);
    expect(topics(retained.match("", "+", 0))).toEqual(["a", "c", "b"]);
  });

  it("are kept per mountpoint", async () => {
    const retained = await loaded();
    retained.set(message("t", "1", 0, "m"), 1);
    expect(retained.match("", "t", 0)).toEqual([]);
    expect(retained.match("m", "t", 0)).toHaveLength(1);
    expect(retained.delete("", "t")).toBe(false);
    expect(retained.delete("m", "t")).toBe(true);
  });

  it("keep their bytes when the read buffer they came in is used again", async () => {
    const retained = await loaded();
    const read = Buffer.from("....payload");
    const made = new Message("", "t", read, 0, true, undefined, 0);
    made.borrow(read, 0, read.length, 4, -1, 1);
    retained.set(made, 1);
    read.fill(0);
    expect(String(retained.match("", "t", 0)[0]?.payload)).toBe("payload");
  });

  it("go when they expire: on a match and in the background, from the store as well", async () => {
    const store = new MemoryStore();
    const retained = await loaded(store);
    retained.set(message("a", "1", 1000), 1);
    retained.set(message("b", "1", 2000), 1);
    retained.set(message("c", "1"), 1);
    expect(topics(retained.match("", "+", 999))).toEqual(["a", "b", "c"]);
    expect(topics(retained.match("", "+", 1000))).toEqual(["b", "c"]);
    expect(retained.dropExpired(1500)).toBe(0);
    expect(retained.dropExpired(2000)).toBe(1);
    expect(topics((await loaded(store)).list(""))).toEqual(["c"]);
  });

  it("come back after a restart with properties, expiry and order", async () => {
    const folder = tempDir();
    const store = new EmbeddedStore({ folder });
    await store.open();
    const retained = await loaded(store);
    const made = new Message("m", "t/1", Buffer.from("x"), 2, true, Buffer.from([1, 1]), 9e12);
    retained.set(message("t/2", "y", 0, "m"), 10);
    retained.set(made, 20);
    retained.set(message("t/3", "z", 0, "m"), 15);
    retained.set(message("t/3", "", 0, "m"), 16);
    await store.flush();
    await store.close();
    const again = new EmbeddedStore({ folder });
    await again.open();
    try {
      const found = (await loaded(again)).match("m", "t/+", 0);
      expect(topics(found)).toEqual(["t/2", "t/1"]);
      expect(found[1]).toMatchObject({ qos: 2, retain: true, expiresAtMs: 9e12 });
      expect(found[1]?.properties).toEqual(Buffer.from([1, 1]));
    } finally {
      await again.close();
    }
  });
});

describe("while stored retained messages are being read", () => {
  it("subscribers wait for them, then run at once", async () => {
    const store = await slowStoreWith(message("a", "stored"));
    const retained = new Retained(store);
    const loading = retained.load();
    const seen: string[] = [];
    retained.whenLoaded(() => seen.push(...topics(retained.match("", "#", 0))));
    expect(seen).toEqual([]);
    store.letGo();
    await loading;
    expect(seen).toEqual(["a"]);
    retained.whenLoaded(() => seen.push("now"));
    expect(seen).toEqual(["a", "now"]);
  });

  it("newer changes win over what is stored, in memory and in the store", async () => {
    const store = await slowStoreWith(
      message("set", "old"),
      message("cleared", "old"),
      message("deleted", "old"),
      message("same", "old"),
    );
    const retained = new Retained(store);
    const loading = retained.load();
    retained.set(message("set", "new"), 9);
    retained.set(message("cleared", ""), 9);
    retained.delete("", "deleted");
    store.letGo();
    await loading;
    const contents = (from: Retained) =>
      from.list("").map(({ topic, payload }) => `${topic}=${payload}`);
    expect(contents(retained)).toEqual(["same=old", "set=new"]);
    // What another process would find.
    const second = new Retained(store);
    await second.load();
    expect(contents(second)).toEqual(["same=old", "set=new"]);
    expect(retained.count).toBe(2);
  });
});
