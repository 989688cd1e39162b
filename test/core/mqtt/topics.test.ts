import { describe, expect, it } from "vitest";
import {
  contains,
  matches,
  parseShared,
  validateFilter,
  validateTopic,
} from "../../../core/mqtt/topics.ts";
import { Random } from "./random-packets.ts";

const codeOf = (fault: { reasonCode: number } | undefined): number | undefined => fault?.reasonCode;

describe("topic names", () => {
  it.each(["a", "/", "//", "/a", "a/", " ", "grüß", "a\uffffb", "a/b/c/d/e/f/g/h/i/j", "$SYS/x"])(
    "%j is one",
    (topic) => {
      expect(validateTopic(topic, 10)).toBeUndefined();
    },
  );

  it.each([
    ["empty [MQTT-4.7.3-1]", ""],
    ["with + [MQTT-4.7.0-1]", "a/+"],
    ["with # [MQTT-4.7.0-1]", "a#b"],
    ["with NUL [MQTT-4.7.3-2]", "a\0b"],
    ["longer than 65535 bytes [MQTT-4.7.3-3]", "é".repeat(32768)],
    ["of eleven levels", "a/b/c/d/e/f/g/h/i/j/k"],
    ["of eleven empty levels", "//////////"],
    ["with half a surrogate pair", "a\ud800"],
  ])("%s is refused with 0x90", (_, topic) => {
    expect(codeOf(validateTopic(topic, 10))).toBe(0x90);
  });

  it("of 65535 bytes is one [MQTT-4.7.3-3]", () => {
    expect(validateTopic("x".repeat(65535), 10)).toBeUndefined();
  });
});

describe("topic filters", () => {
  it.each([
    "a/b",
    "+",
    "#",
    "a/#",
    "a/+",
    "/",
    "+/+",
    "/+/",
    "+/#",
    "/#",
    "$SYS/#",
    "$share/g/t",
    "$share/g/#",
    "$share/g/+/x",
    "$share/g//",
    "$share/g/a/b/c/d/e/f/g/h/i/j",
    "$sharex/a",
    "a/b/c/d/e/f/g/h/i/j",
  ])("%j is one", (filter) => {
    expect(validateFilter(filter, 10)).toBeUndefined();
  });

  it.each([
    ["a#", "MQTT-4.7.1-1"],
    ["a/#/b", "MQTT-4.7.1-1"],
    ["#/a", "MQTT-4.7.1-1"],
    ["##", "MQTT-4.7.1-1"],
    ["a/b#", "MQTT-4.7.1-1"],
    ["a/#b", "MQTT-4.7.1-1"],
    ["#/", "MQTT-4.7.1-1"],
    ["a+", "MQTT-4.7.1-2"],
    ["+a", "MQTT-4.7.1-2"],
    ["a/+b/c", "MQTT-4.7.1-2"],
    ["a/b+/c", "MQTT-4.7.1-2"],
    ["++", "MQTT-4.7.1-2"],
    ["+#", "MQTT-4.7.1-2"],
    ["$share//t", "MQTT-4.8.2-1"],
    ["$share/+/t", "MQTT-4.8.2-2"],
    ["$share/#/t", "MQTT-4.8.2-2"],
    ["$share/g+/t", "MQTT-4.8.2-2"],
    ["$share/g/", "MQTT-4.8.2-2"],
    ["$share/g/a#", "MQTT-4.7.1-1"],
    ["a/b/c/d/e/f/g/h/i/j/k", "depth"],
    ["$share/g/a/b/c/d/e/f/g/h/i/j/k", "depth"],
  ])("%j is refused with 0x8F [%s]", (filter) => {
    expect(codeOf(validateFilter(filter, 10))).toBe(0x8f);
  });

  it.each([
    ["", "MQTT-4.7.3-1"],
    ["a\0b", "MQTT-4.7.3-2"],
    ["x".repeat(65536), "MQTT-4.7.3-3"],
    ["$share", "MQTT-4.8.2-1"],
    ["$share/", "MQTT-4.8.2-1"],
    ["$share/g", "MQTT-4.8.2-2"],
  ])("%.20j is refused with 0x81 [%s]", (filter) => {
    expect(codeOf(validateFilter(filter, 10))).toBe(0x81);
  });
});

describe("shared subscriptions", () => {
  it("split into group and filter", () => {
    expect(parseShared("$share/g/a/+/#")).toEqual({ group: "g", filter: "a/+/#" });
    expect(parseShared("$share/g//")).toEqual({ group: "g", filter: "/" });
    expect(parseShared("$share/a b/$SYS/#")).toEqual({ group: "a b", filter: "$SYS/#" });
  });

  it.each([
    "a/b",
    "share/g/t",
    "$SHARE/g/t",
    "$share",
    "$share/",
    "$share/g",
    "$share/g/",
    "$share//t",
    "$share/+/t",
    "$share/#/t",
    "$share/g#/t",
    "/$share/g/t",
  ])("%j is none", (filter) => {
    expect(parseShared(filter)).toBeUndefined();
  });
});

describe("matching", () => {
  it.each([
    ["#", "test/topic"],
    ["#", "/test/topic"],
    ["foo/#", "foo"],
    ["foo/#", "foo/"],
    ["foo/#", "foo/a/b"],
    ["foo/+/baz", "foo//baz"],
    ["+/+/+/+/+/+/+/+/+/test", "foo/foo/foo/foo/foo/foo/foo/foo/foo/test"],
    ["test/topic/+", "test/topic/"],
    ["/#", "////foo///bar"],
    ["/#", "/"],
    ["+", "a"],
    ["+/+", "/"],
    ["/+", "/a"],
    ["a//b", "a//b"],
    ["$SYS/#", "$SYS/x"],
    ["$SYS/+", "$SYS/x"],
    ["a/$x", "a/$x"],
    ["a/+", "a/$x"],
    ["é/+", "é/😀"],
  ])("%j matches %j", (filter, topic) => {
    expect(matches(filter, topic)).toBe(true);
  });

  it.each([
    ["foo", "foo/"],
    ["foo/", "foo"],
    ["/foo", "foo"],
    ["foo/+", "foo"],
    ["foo/+", "foo/a/b"],
    ["foo/#", "foob"],
    ["foo/#", "fo"],
    ["foo/+/#", "foo"],
    ["+", "/a"],
    ["+", "a/"],
    ["a", "A"],
    ["ab", "a"],
    ["a", "ab"],
    ["#", "$SYS/x"],
    ["+/x", "$SYS/x"],
    ["+/#", "$SYS"],
    ["a/b", "a"],
    ["a/bc", "a/b"],
  ])("%j does not match %j [MQTT-4.7.2-1]", (filter, topic) => {
    expect(matches(filter, topic)).toBe(false);
  });

  it("agrees with a translation to regular expressions on random filters and topics", () => {
    const random = new Random(7);
    let hits = 0;
    for (let round = 0; round < 50_000; round++) {
      const filter = randomFilter(random);
      const topic = randomTopic(random);
      const isMatch = byRegExp(filter, topic);
      if (isMatch) hits++;
      expect([filter, topic, matches(filter, topic)]).toEqual([filter, topic, isMatch]);
    }
    expect(hits).toBeGreaterThan(2000);
  });
});

describe("containment", () => {
  it.each([
    ["#", "a/b"],
    ["#", "+/#"],
    ["#", "#"],
    ["+/#", "#"],
    ["a/#", "a"],
    ["a/#", "a/#"],
    ["a/#", "a/+/c"],
    ["a/+", "a/+"],
    ["a/+/#", "a/+/+"],
    ["+/b", "a/b"],
    ["+", "+"],
    ["$SYS/#", "$SYS/a"],
    ["$SYS/#", "$SYS/#"],
  ])("%j contains %j", (rule, filter) => {
    expect(contains(rule, filter)).toBe(true);
  });

  it.each([
    ["a/+", "a/#"],
    ["a/+", "a"],
    ["a/+/#", "a/#"],
    ["a/b", "a/+"],
    ["+", "#"],
    ["+/+", "+"],
    ["#", "$SYS/#"],
    ["#", "$SYS"],
    ["+/#", "$SYS/a"],
    ["+/a", "$SYS/a"],
    ["$SYS/#", "#"],
    ["$SYS/#", "+/a"],
    ["a", "b"],
    ["a/b/c", "a/b"],
  ])("%j does not contain %j", (rule, filter) => {
    expect(contains(rule, filter)).toBe(false);
  });

  it("means what it says: every topic of the filter is a topic of the rule", () => {
    // Levels that no filter names stand for all others; one level more than any filter has.
    const words = ["", "a", "b", "$s", "other", "$other"];
    const topics = allTopics(words, 4).filter((topic) => topic !== "");
    const random = new Random(11);
    let hits = 0;
    for (let round = 0; round < 3000; round++) {
      const rule = randomFilter(random);
      const filter = random.bool() ? randomFilter(random) : narrowed(random, rule);
      const expected = topics.every((topic) => !matches(filter, topic) || matches(rule, topic));
      if (expected) hits++;
      expect([rule, filter, contains(rule, filter)]).toEqual([rule, filter, expected]);
    }
    expect(hits).toBeGreaterThan(300);
  });
});

function randomTopic(random: Random): string {
  return random.list(1, 4, () => random.pick(["a", "b", "", "$s"])).join("/") || "a";
}

/** Up to three levels, so that topics of four levels show what `#` adds. */
function randomFilter(random: Random): string {
  const levels = random.list(1, 3, () => random.pick(["a", "b", "", "+", "+", "$s"]));
  if (random.next() < 0.4) levels[levels.length - 1] = "#";
  return levels.join("/") || "+";
}

/** The rule with some wildcards filled in: often contained in it, often not quite. */
function narrowed(random: Random, rule: string): string {
  const levels = rule.split("/").flatMap((level) => {
    if (level === "+" && random.bool()) return random.pick(["a", "$s", "", "#"]);
    return level === "#" && random.bool() ? random.pick([[], ["a"], ["+"], ["+", "#"]]) : level;
  });
  const cut = levels.indexOf("#");
  return (cut === -1 ? levels : levels.slice(0, cut + 1)).slice(0, 3).join("/") || "a";
}

function allTopics(words: readonly string[], depth: number): string[] {
  const tops = [...words];
  if (depth === 1) return tops;
  const rest = allTopics(words, depth - 1);
  return [...tops, ...words.flatMap((word) => rest.map((tail) => `${word}/${tail}`))];
}

function byRegExp(filter: string, topic: string): boolean {
  if (topic.startsWith("$") && /^[+#]/.test(filter)) return false;
  const source = filter
    .replaceAll("$", "\\$")
    .replaceAll("+", "[^/]*")
    .replace(/^#$/, ".*")
    .replace(/\/#$/, "(/.*)?");
  return new RegExp(`^${source}$`, "s").test(topic);
}
