import { describe, expect, it } from "vitest";
import { parseAcl } from "../../../plugins/vmq_acl/acl-file.ts";

/** Rules as short text, faults as line numbers. */
function parse(text: string, depth = 10) {
  const rules: string[] = [];
  const faults: number[] = [];
  for (const line of parseAcl(text, depth)) {
    if (line.type === "fault") {
      faults.push(line.fault.line);
      continue;
    }
    const { holder, access, filter } = line.rule;
    const who = holder.part === "user" ? `user=${holder.user}` : holder.part;
    rules.push(`${line.rule.line} ${who} ${access.join("+")} [${filter}]`);
  }
  return { rules, faults };
}

describe("ACL file", () => {
  it("reads every kind of line", () => {
    const text = [
      "# comment",
      "topic a/b",
      "topic read r/#",
      "topic write w/+",
      "topic readwrite rw",
      "",
      "user bob",
      "topic b",
      "pattern read %m/%u/%c",
      "user zoë müller",
      "topic write z",
    ];
    expect(parse(text.join("\n"))).toEqual({
      rules: [
        "2 all read+write [a/b]",
        "3 all read [r/#]",
        "4 all write [w/+]",
        "5 all read+write [rw]",
        "8 user=bob read+write [b]",
        "9 pattern read [%m/%u/%c]",
        "11 user=zoë müller write [z]",
      ],
      faults: [],
    });
  });

  it("check 39: trims around topics and users, keeps inner spaces, takes UTF-8", () => {
    const text =
      "topic read  a/b/c \ntopic\ttab\ntopic v/w x/y\ntopic \t ü/日本/🎉\t\nuser  bob \t\ntopic x";
    expect(parse(text)).toEqual({
      rules: [
        "1 all read [a/b/c]",
        "3 all read+write [v/w x/y]",
        "4 all read+write [ü/日本/🎉]",
        "6 user=bob read+write [x]",
      ],
      faults: [2],
    });
  });

  it("takes CRLF, blank lines of any kind, a byte order mark and indented comments", () => {
    expect(parse("\ufefftopic a\r\n\r\n  \t\r\n  # x\r\nuser bob\r\ntopic b\r\n")).toEqual({
      rules: ["1 all read+write [a]", "6 user=bob read+write [b]"],
      faults: [],
    });
  });

  it("takes an access word without topic as the topic, as VerneMQ", () => {
    expect(parse("topic read\ntopic reader/x\ntopic read \ntopic  read x").rules).toEqual([
      "1 all read+write [read]",
      "2 all read+write [reader/x]",
      "4 all read+write [read x]",
    ]);
  });

  it.each([
    "garbage",
    "Topic a",
    " topic a",
    "topic",
    "topic ",
    "topic read ",
    "topic a/#/b",
    "topic a+",
    "topic \u0000",
    "topic 1/2/3/4",
    "topic deny a",
    "pattern",
    "topics a",
    "\ufffd",
  ])("check 42: skips %j and keeps the lines around it", (line) => {
    expect(parse(`topic first\n${line}\ntopic last`, 3)).toEqual({
      rules: ["1 all read+write [first]", "3 all read+write [last]"],
      faults: [2],
    });
  });

  it.each(["user", "user ", "User bob", " user bob", "usr bob", "user: bob", "user\tbob"])(
    "gives the topics under %j to nobody, up to the next user line; patterns stay",
    (line) => {
      const text = `user ann\ntopic a\n${line}\ntopic secret\npattern %c\nuser eve\ntopic e`;
      expect(parse(text)).toEqual({
        rules: [
          "2 user=ann read+write [a]",
          "5 pattern read+write [%c]",
          "7 user=eve read+write [e]",
        ],
        faults: [3, 4],
      });
    },
  );

  it("takes rules that name a group of shared subscriptions", () => {
    expect(parse("topic read $share/g/a/b\ntopic read $share/+/a", 2).faults).toEqual([]);
    expect(parse("topic read $share/g/a/b/c", 2).faults).toEqual([1]);
  });
});
