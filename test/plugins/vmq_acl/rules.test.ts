import { describe, expect, it } from "vitest";
import { contains, matches, validateFilter } from "../../../core/mqtt/topics.ts";
import { type AclRule, parseAcl } from "../../../plugins/vmq_acl/acl-file.ts";
import { AclRules, type Asker } from "../../../plugins/vmq_acl/rules.ts";

function rulesOf(text: string): AclRules {
  const rules = new AclRules();
  for (const line of parseAcl(text, 10)) if (line.type === "rule") rules.add(line.rule);
  return rules;
}

const BOB: Asker = { username: "bob", clientId: "c1", mountpoint: "" };

/** Which of these subscriptions are allowed. */
function allowed(text: string, filters: string[], asker = BOB): string[] {
  const rules = rulesOf(text);
  return filters.filter((filter) => rules.subscribeLine(asker, filter) !== 0);
}

describe("rules", () => {
  it("check 41: a subscription needs a rule that covers its whole filter", () => {
    const asked = ["a/b", "a/+", "a/#", "a", "a/b/c", "+/b", "#"];
    expect(allowed("topic read a/+", asked)).toEqual(["a/b", "a/+"]);
    expect(allowed("topic read a/#", asked)).toEqual(["a/b", "a/+", "a/#", "a", "a/b/c"]);
    expect(allowed("topic read +/#", asked)).toEqual(asked);
  });

  it("check 41: a leading wildcard covers no $ topic", () => {
    const asked = ["$SYS/#", "$SYS/x", "$share/g/$SYS/#", "$share/g/a", "#"];
    expect(allowed("topic #", asked)).toEqual(["$share/g/a", "#"]);
    expect(allowed("topic +/x\npattern %c/#", asked, { ...BOB, clientId: "$SYS" })).toEqual([]);
    expect(allowed("topic $SYS/#", asked)).toEqual(["$SYS/#", "$SYS/x", "$share/g/$SYS/#"]);
    expect(rulesOf("topic #").publishLine(BOB, "$SYS/x")).toBe(0);
  });

  it("asks for the filter behind $share/<group>/, or for a rule that names the group", () => {
    const asked = ["$share/g/t", "$share/h/t", "$share/g/t/#", "t"];
    expect(allowed("topic read t", asked)).toEqual(["$share/g/t", "$share/h/t", "t"]);
    expect(allowed("topic read $share/g/t", asked)).toEqual(["$share/g/t"]);
    expect(allowed("topic read $share/+/#", ["$share/g/$SYS/#", "$share/g/#"])).toEqual([
      "$share/g/#",
    ]);
  });

  it("check 38: user rules and patterns with mountpoint, user name and client id", () => {
    const rules = rulesOf(
      "topic read a/b/c\ntopic write x/y/z\nuser test\ntopic x/y/z/#\npattern write %m/%u/%c\n",
    );
    const test = { username: "test", clientId: "my-client-id", mountpoint: "" };
    expect(rules.publishLine(test, "/test/my-client-id")).toBe(5);
    expect(rules.publishLine(test, "x/y/z/blabla")).toBe(4);
    expect(rules.publishLine(test, "x/y/z")).toBe(2);
    expect(rules.publishLine(test, "a/b/c")).toBe(0);
    expect(rules.subscribeLine(test, "a/b/c")).toBe(1);
    expect(rules.publishLine(test, "/test/other")).toBe(0);
    const invalid = { ...test, username: "invalid-user" };
    expect(rules.publishLine(invalid, "x/y/z/blabla")).toBe(0);
    expect(rules.publishLine({ ...test, username: undefined }, "/test/my-client-id")).toBe(0);
  });

  it("compares %c, %u and %m as whole levels and literally", () => {
    const asked = ["d/+", "d/#", "d/a/b", "d/c1", "d/"];
    const as = (clientId: string) => allowed("pattern d/%c", asked, { ...BOB, clientId });
    expect(as("c1")).toEqual(["d/c1"]);
    for (const id of ["+", "#", "a/b"]) expect(as(id)).toEqual([]);
    expect(allowed("pattern d/x%c", ["d/xc1", "d/x%c"])).toEqual(["d/x%c"]);
    expect(allowed("topic d/%c", ["d/c1", "d/%c"])).toEqual(["d/%c"]);
    expect(allowed("pattern %u/#", ["/#", "undefined/x"], { ...BOB, username: undefined })).toEqual(
      [],
    );
  });

  it("is not confused by names of JavaScript's own", () => {
    const words = ["__proto__", "constructor", "toString"];
    for (const word of words) {
      expect(allowed(`pattern ${word}/%c`, [`${word}/c1`, `${word}/c2`])).toEqual([`${word}/c1`]);
      expect(allowed("user bob\ntopic a", ["a"], { ...BOB, username: word })).toEqual([]);
    }
  });

  it("takes as long for ten thousand rules as for ten", () => {
    const text = (count: number) =>
      `user bob\n${Array.from({ length: count }, (_, i) => `topic a/${i}/+`).join("\n")}`;
    const timed = (rules: AclRules) => {
      const start = performance.now();
      for (let i = 0; i < 20_000; i++) rules.publishLine(BOB, `a/${i % 10}/x`);
      return performance.now() - start;
    };
    const [few, many] = [rulesOf(text(10)), rulesOf(text(10_000))];
    timed(few);
    const best = (rules: AclRules) => Math.min(...Array.from({ length: 5 }, () => timed(rules)));
    // A scan would take a thousand times as long; the factor leaves room for a busy machine.
    expect(best(many)).toBeLessThan(20 * best(few));
  });
});

describe("rules against brute force", () => {
  const WORDS = ["a", "b", "", "$SYS", "c1", "+", "#", "%c", "%u", "%m"];
  const ASKERS: Asker[] = [
    { username: "a", clientId: "c1", mountpoint: "" },
    { username: undefined, clientId: "$SYS", mountpoint: "b" },
    { username: "+", clientId: "#", mountpoint: "a" },
    { username: "", clientId: "a/b", mountpoint: "a/b" },
  ];

  /** xorshift32: the same cases in every run. */
  function randomInts(seed: number): (below: number) => number {
    let state = seed;
    return (below) => {
      state ^= state << 13;
      state ^= state >>> 17;
      state ^= state << 5;
      return (state >>> 0) % below;
    };
  }

  /** A word no client can send stands for a value that must match nothing. */
  function fill(word: string, asker: Asker, isFirst: boolean): string {
    const values = { "%c": asker.clientId, "%u": asker.username, "%m": asker.mountpoint };
    if (!(word in values)) return word;
    const value = values[word as keyof typeof values];
    if (value === undefined || /[+#/]/.test(value)) return "\u0001";
    return isFirst && value.startsWith("$") ? "\u0001" : value;
  }

  function concrete({ filter, holder }: AclRule, asker: Asker): string | undefined {
    if (holder.part === "user" && holder.user !== asker.username) return undefined;
    if (holder.part !== "pattern") return filter;
    return filter
      .split("/")
      .map((word, i) => fill(word, asker, i === 0))
      .join("/");
  }

  it("agrees with comparing each rule by the core's functions", () => {
    const below = randomInts(20_26);
    const filter = (words: string[]) =>
      Array.from({ length: 1 + below(4) }, () => words[below(words.length)]).join("/");
    let grants = 0;
    for (let round = 0; round < 1500; round++) {
      const lines = Array.from({ length: 1 + below(8) }, () => {
        const keyword = ["topic", "topic", "pattern", "user"][below(4)];
        if (keyword === "user") return `user ${["a", "+", "x"][below(3)]}`;
        return `${keyword} ${["", "read ", "write "][below(3)]}${filter(WORDS)}`;
      });
      const parsed = [...parseAcl(lines.join("\n"), 10)].flatMap((line) =>
        line.type === "rule" ? [line.rule] : [],
      );
      const rules = rulesOf(lines.join("\n"));
      for (let question = 0; question < 20; question++) {
        const asked = filter(WORDS.slice(0, 7));
        const asker = ASKERS[below(ASKERS.length)] ?? BOB;
        if (validateFilter(asked, 10) !== undefined) continue;
        const holds = (access: "read" | "write", test: (rule: string) => boolean) =>
          parsed.some((rule) => {
            const own = rule.access.includes(access) ? concrete(rule, asker) : undefined;
            return own !== undefined && test(own);
          });
        const about = `${lines.join("; ")} | ${asked} | ${JSON.stringify(asker)}`;
        const mayRead = holds("read", (rule) => contains(rule, asked));
        expect(rules.subscribeLine(asker, asked) !== 0, about).toBe(mayRead);
        expect(rules.subscribeLine(asker, `$share/g/${asked}`) !== 0, about).toBe(mayRead);
        if (mayRead) grants += 1;
        if (/[+#]/.test(asked)) continue;
        const mayWrite = holds("write", (rule) => matches(rule, asked));
        expect(rules.publishLine(asker, asked) !== 0, about).toBe(mayWrite);
      }
    }
    expect(grants).toBeGreaterThan(1000);
  });
});
