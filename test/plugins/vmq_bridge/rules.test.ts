import { describe, expect, it } from "vitest";
import { parseRule, Rules, ruleFault } from "../../../plugins/vmq_bridge/rules.ts";
import { bridged, bridgeTo } from "./world.ts";

function rule(text: string) {
  const { direction, qos, retain, localFilter, remoteFilter } = parseRule(text);
  return { direction, qos, retain, localFilter, remoteFilter };
}

/** A topic that goes out and one that comes in, by one rule. */
function mapped(text: string, local: string, remote: string): [string[], string[]] {
  const rules = new Rules([parseRule(text)]);
  return [
    rules.outTargets(local, undefined).map(({ topic }) => topic),
    rules.inTargets(remote).map(({ topic }) => topic),
  ];
}

describe("a topic rule", () => {
  it("is out at QoS 0 when it says nothing; direction and QoS stand alone (B-08)", () => {
    expect(rule("x")).toMatchObject({ direction: "out", qos: 0, retain: false });
    expect(rule("x 1")).toMatchObject({ direction: "out", qos: 1 });
    expect(rule("x in")).toMatchObject({ direction: "in", qos: 0 });
    expect(rule("x both 2 retain")).toMatchObject({ direction: "both", qos: 2, retain: true });
    expect(rule("x retain")).toMatchObject({ direction: "out", qos: 0, retain: true });
    expect(rule("  a/*   in\t1  p  q ")).toMatchObject({
      localFilter: "p/a/#",
      remoteFilter: "q/a/#",
      qos: 1,
    });
  });

  it("has no prefix on the side of $empty (B-09)", () => {
    expect(rule("x both 0 $empty q")).toMatchObject({ localFilter: "x", remoteFilter: "q/x" });
    expect(rule("x both 0 p $empty")).toMatchObject({ localFilter: "p/x", remoteFilter: "x" });
    expect(rule("x $empty $empty")).toMatchObject({ localFilter: "x", remoteFilter: "x" });
  });

  it("takes one prefix as the local one, and a trailing slash makes no level (B-11)", () => {
    expect(rule("b out 0 a/ c/")).toMatchObject({ localFilter: "a/b", remoteFilter: "c/b" });
    expect(rule("b in 0 a")).toMatchObject({ localFilter: "a/b", remoteFilter: "b" });
    expect(rule("b in 0 a/d")).toMatchObject({ localFilter: "a/d/b", remoteFilter: "b" });
  });

  it("names what is left over, with file and line where it has them (B-10)", async () => {
    expect(() => parseRule("x in 0 a b c")).toThrow('"a b c" is left');
    expect(() => parseRule("x sideways a b")).toThrow('"sideways a b" is left');
    expect(() => parseRule("x out 0 a/# b")).toThrow('"a/#" is no prefix');
    expect(() => parseRule(" ")).toThrow("no pattern");
    await expect(bridged(bridgeTo(1, { "topic.3": "x in 0 a b c" }))).rejects.toThrow(
      /vmq_bridge\.tcp\.br0\.topic\.3: "a b c" is left/,
    );
  });

  it("maps topics both ways: prefixes change, the rest stays", () => {
    expect(mapped("s/* both 0 p q", "p/s/1", "q/s/1")).toEqual([["q/s/1"], ["p/s/1"]]);
    expect(mapped("* both 0 p/1 q", "p/1/a/b", "q/a/b")).toEqual([["q/a/b"], ["p/1/a/b"]]);
    expect(mapped("* both 0 p $empty", "p/a", "a")).toEqual([["a"], ["p/a"]]);
    expect(mapped("+/x both", "a/x", "b/x")).toEqual([["a/x"], ["b/x"]]);
    expect(mapped("s/* both 0 p q", "s/1", "p/s/1")).toEqual([[], []]);
    // p/# matches p as well.
    expect(mapped("* both 0 p q", "p", "q")).toEqual([["q"], ["p"]]);
    expect(mapped("* both 0 p $empty", "p", "p")).toEqual([[], ["p/p"]]);
    // An empty level is a level.
    expect(mapped("* both 0 p q", "p//a", "q//a")).toEqual([["q//a"], ["p//a"]]);
  });

  it("asks the remote broker once for what another rule has already, unless with less", () => {
    const asked = (...texts: string[]) =>
      new Rules(texts.map(parseRule)).remote.map(({ filter, qos }) => `${filter} ${qos}`);
    expect(asked("a/* in 1", "a/b in 1", "a/+ in 0")).toEqual(["a/# 1"]);
    expect(asked("a/* in 0", "a/b in 1")).toEqual(["a/# 0", "a/b 1"]);
    expect(asked("a/* in 1", "a/b in 1 retain")).toEqual(["a/# 1", "a/b 1"]);
    expect(asked("a in 0", "a in 2 p")).toEqual(["a 2"]);
  });

  it("is refused when it would write below $ here, or share both ways", () => {
    const fault = (text: string) => ruleFault(parseRule(text), 10);
    expect(fault("$SYS/* in")).toContain("topics that begin with $");
    expect(fault("$SYS/* in 0 far")).toBeUndefined();
    expect(fault("$SYS/* out")).toBeUndefined();
    expect(fault("$share/g/x both")).toContain("shared pattern");
    expect(fault("a/#/b")).toContain("no topic filter");
    expect(fault("a/b/c/d/e/f/g/h/i/j/k")).toContain("topic_max_depth");
  });
});
