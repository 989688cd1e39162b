import { expect, it } from "vitest";
import { PatternTree } from "../../../core/mqtt/pattern-tree.ts";
import { contains } from "../../../core/mqtt/topics.ts";
import { seededRandom, seedFrom } from "../../support/random.ts";

const OWNER = { mountpoint: "m", clientId: "c", username: "u" };

it("finds the rules that contain a filter, as the core's own comparison does one by one", () => {
  const random = seededRandom(seedFrom("PATTERN_TREE_SEED"));
  const word = (more: readonly string[]) => random.pick(["a", "b", "", "$x", ...more]);
  const filter = (more: readonly string[]) => {
    const words = Array.from({ length: random.between(1, 4) }, () => word(["+", ...more]));
    if (random.next() < 0.3) words.push("#");
    return words.join("/") || "a";
  };
  for (let round = 0; round < 500; round++) {
    const tree = new PatternTree();
    const rules = Array.from({ length: random.between(1, 8) }, () => filter([]));
    for (const [i, rule] of rules.entries()) tree.add(rule, i, false);
    const asked = filter([]);
    // `#` alone is the caller's to widen, see withoutEmptyTopic.
    if (asked === "#" || asked === "/#") continue;
    const expected = rules.flatMap((rule, i) => (contains(rule, asked) ? [i] : []));
    expect(tree.all(asked, OWNER), `${random.seed}: ${rules} asked ${asked}`).toEqual(expected);
    const first = tree.first(asked, OWNER);
    if (expected.length === 0) expect(first).toBe(-1);
    else expect(expected).toContain(first);
  }
});

it("takes placeholders for the asker's values in patterns only, each as one literal word", () => {
  const tree = new PatternTree();
  tree.add("%c/%u/%m", 0, true);
  tree.add("%c/x", 1, false);
  tree.add("%c/#", 2, true);
  expect(tree.all("c/u/m", OWNER)).toEqual([0, 2]);
  expect(tree.all("%c/x", OWNER)).toEqual([1]);
  expect(tree.all("d/u/m", OWNER)).toEqual([]);
  for (const clientId of ["+", "#", "$SYS"]) {
    expect(tree.all(`${clientId}/a`, { ...OWNER, clientId })).toEqual([]);
  }
  expect(tree.all("c/a", { ...OWNER, username: undefined })).toEqual([2]);
});
