import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import {
  matchesWildcard,
  parseText,
  parseValue,
  readConfigFile,
} from "../../../core/config/parse.ts";

function settings(source: string): Record<string, string> {
  const { statements, problems } = parseText(source, "f.conf");
  expect(problems).toEqual([]);
  return Object.fromEntries(
    statements.flatMap((found) => ("key" in found ? [[found.key, found.text]] : [])),
  );
}

function problem(source: string): string {
  const { problems } = parseText(source, "f.conf");
  expect(problems).toHaveLength(1);
  return problems[0] ?? "";
}

describe("a line of vernemq.conf", () => {
  test("may have blanks, tabs or nothing around key and value", () => {
    expect(settings("a=b\n \t c \t = \t d e \t \nf.g-h_1 = i")).toEqual({
      a: "b",
      c: "d e",
      "f.g-h_1": "i",
    });
  });

  test("C-08 may end with CRLF, and the last one with nothing", () => {
    expect(settings("a = 1\r\nb = 2")).toEqual({ a: "1", b: "2" });
  });

  test("C-04 ends its value at a # that is not quoted, with or without a blank before it", () => {
    expect(settings("a = b # c\nd = e#f\ng = 'h # i' # j")).toEqual({ a: "b", d: "e", g: "h # i" });
  });

  test("C-05 needs a value: an empty one is written in quotes", () => {
    expect(problem("x = 1\ny =\n")).toBe(
      "f.conf:2: syntax error at column 4: no value, did you mean ''?",
    );
    expect(problem("y = # only a comment")).toContain("no value");
    expect(settings("y = ''")).toEqual({ y: "" });
  });

  test("C-06 keeps double quotes", () => {
    expect(settings('a = "abc"')).toEqual({ a: '"abc"' });
  });

  test("C-07 that is nothing known is reported with its line, the others still count", () => {
    const { statements, problems } = parseText("a = 1\nbad line here\nb = 2\n", "f.conf");
    expect(problems).toEqual([
      'f.conf:2: syntax error at column 5: no "=" after the key, allowed: "key = value", ' +
        '"include <path>", a blank line or a # comment',
    ]);
    expect(statements).toHaveLength(2);
  });

  test("with a colon for the equals sign is recognised", () => {
    expect(problem("allow_anonymous: on")).toMatch(/did you mean "allow_anonymous = …"\?$/);
  });

  test("belongs to the value after its first equals sign", () => {
    expect(settings("a = b = c")).toEqual({ a: "b = c" });
  });

  test("may have escaped dots in its key", () => {
    expect(settings("plugins.my\\.plugin = on")).toEqual({ "plugins.my\\.plugin": "on" });
  });

  test("may have its value go on over several lines in triple quotes", () => {
    expect(settings("a = '''one\r\ntwo # no comment\n'three' ''' # c\nb = 1")).toEqual({
      a: "one\ntwo # no comment\n'three' ",
      b: "1",
    });
    const place = parseText("a = '''1\n2\n3'''\nb = 1", "f").statements[1];
    expect(place).toMatchObject({ key: "b", line: 4, column: 1 });
  });

  test("must close its quotes and have nothing behind them", () => {
    expect(problem("a = 'b")).toMatch(
      /^f\.conf:1: syntax error at column 5: the quote is not closed/,
    );
    expect(problem("a = 'b' c")).toMatch(/column 8: text after the closing quote/);
    expect(parseText("a = '''b\nc = d", "f").problems).toEqual([
      "f:1: syntax error at column 5: the ''' is not closed",
    ]);
    expect(parseText("a = '''b\nc = d", "f").statements).toMatchObject([{ key: "c" }]);
  });

  test("may be a comment, blank, or begin the file after a byte order mark", () => {
    expect(settings("\uFEFFa = 1\n\n  # b = 2\n\t\n#")).toEqual({ a: "1" });
  });

  test("reports the column of its key", () => {
    expect(parseText("\n  a = 1", "f").statements[0]).toMatchObject({ line: 2, column: 3 });
  });
});

describe("a value alone", () => {
  test("follows the rules of a line", () => {
    expect(parseValue("'a # b'")).toEqual({ text: "a # b" });
    expect(parseValue("a # b")).toEqual({ text: "a" });
    expect(parseValue("'''a\nb'''")).toEqual({ text: "a\nb" });
    expect(parseValue("")).toMatchObject({ problem: expect.stringContaining("no value") });
    expect(parseValue("a\nb")).toMatchObject({ problem: "the value has a second line" });
  });
});

describe("wildcards", () => {
  test.each([
    ["a.conf", "*.conf", true],
    ["a.conf.bak", "*.conf", false],
    ["10-a.conf", "1*-*.conf", true],
    ["aba", "a*ba", true],
    ["aa", "a*aa", false],
    ["x", "*", true],
    ["a", "a", true],
    ["ab", "a", false],
  ])("%s matches %s: %s", (name, pattern, expected) => {
    expect(matchesWildcard(name, pattern)).toBe(expected);
  });
});

describe("a file", () => {
  let folder: string;
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), "nautilus-parse-"));
  });
  afterEach(() => rmSync(folder, { recursive: true }));

  function write(name: string, source: string | Buffer): void {
    mkdirSync(dirname(join(folder, name)), { recursive: true });
    writeFileSync(join(folder, name), source);
  }
  function read(): { pairs: string[]; problems: string[] } {
    const { entries, problems } = readConfigFile("main.conf", folder);
    const pairs = entries.map(({ key, text, file, line }) => `${file}:${line} ${key}=${text}`);
    return { pairs, problems };
  }

  test("C-09 includes others at the place of the directive, in alphabetical order", () => {
    write("main.conf", "k = main\ninclude conf.d/*.conf\nlast = 1\n");
    write("conf.d/b.conf", "k = b");
    write("conf.d/a.conf", "k = a");
    write("conf.d/.hidden.conf", "k = hidden");
    write("conf.d/c.txt", "k = c");
    write("conf.d/sub.conf/x", "k = folder");
    expect(read()).toEqual({
      pairs: [
        "main.conf:1 k=main",
        "conf.d/a.conf:1 k=a",
        "conf.d/b.conf:1 k=b",
        "main.conf:3 last=1",
      ],
      problems: [],
    });
  });

  test("C-10 may include what is not there", () => {
    write("main.conf", "include missing.conf\ninclude no/such/*.conf\n");
    expect(read()).toEqual({ pairs: [], problems: [] });
  });

  test("includes relative to the including file", () => {
    write("main.conf", "include sub/one.conf # c");
    write("sub/one.conf", "include two.conf");
    write("sub/two.conf", "a = 1");
    expect(read().pairs).toEqual(["sub/two.conf:1 a=1"]);
  });

  test("that includes itself is a fault, and so is a wildcard in a folder", () => {
    write("main.conf", "include sub.conf\ninclude con*/x.conf");
    write("sub.conf", "include main.conf");
    expect(read().problems).toEqual([
      "sub.conf:1: include: main.conf includes itself",
      "main.conf:2: include: * is only allowed in the last part of the path",
    ]);
  });

  test("cannot multiply without end by its includes", () => {
    write("main.conf", "include l0.conf");
    for (let level = 0; level < 12; level++) {
      write(`l${level}.conf`, `include l${level + 1}.conf\n`.repeat(4));
    }
    write("l12.conf", "a = 1");
    expect(read().problems).toEqual([expect.stringMatching(/include: too many files$/)]);
  });

  test("C-12 gives its content for $(<file), without one line end", () => {
    write("main.conf", "a = $(<secret.txt)\nb = $(<none.txt)\ninclude sub/x.conf");
    write("secret.txt", "geheim\n\n");
    write("sub/x.conf", "c = $(<../secret.txt)");
    const { pairs, problems } = read();
    expect(pairs).toEqual([
      "main.conf:1 a=geheim\n",
      "main.conf:2 b=$(<none.txt)",
      "sub/x.conf:1 c=geheim\n",
    ]);
    expect(problems).toEqual(["main.conf:2: b: none.txt: there is no such file"]);
  });

  test("that cannot be read or is no text says so", () => {
    expect(read().problems).toEqual(["main.conf: there is no such file"]);
    write("main.conf", Buffer.from([97, 61, 98, 10, 97, 61, 0xff, 10]));
    expect(read().problems).toEqual(["main.conf:2: not UTF-8 text"]);
  });
});

test("any text gives settings or problems with a line number, and never throws", () => {
  // A small generator with a fixed seed, so that a failure comes back.
  let state = 42;
  const random = (below: number) => {
    state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0;
    return (state >>> 8) % below;
  };
  const pieces = [
    "a",
    "key",
    ".",
    "=",
    " = ",
    "'",
    "'''",
    "#",
    "\n",
    "\r\n",
    "\t",
    "\\.",
    "include ",
    "*",
    "$(",
    ")",
    "<",
    "ä",
    "\u0000",
    "\u2028",
    '"',
    "-1",
    "off",
  ];
  for (let round = 0; round < 5000; round++) {
    const source = Array.from({ length: random(40) }, () => pieces[random(pieces.length)]).join("");
    const lineCount = source.split("\n").length;
    const { statements, problems } = parseText(source, "f");
    for (const found of problems) {
      const line = Number(/^f:(\d+): syntax error at column \d+: \S/.exec(found)?.[1]);
      expect(line, source).toBeGreaterThanOrEqual(1);
      expect(line, source).toBeLessThanOrEqual(lineCount);
    }
    for (const found of statements) {
      expect(found.line, source).toBeLessThanOrEqual(lineCount);
      if ("key" in found) expect(found.key, source).toMatch(/^[\w\\.-]+$/);
    }
    // Nothing gets lost: a text of one line is blank, a comment, a statement or a problem.
    if (lineCount === 1 && !/^[ \t]*(#.*)?\r?$/s.test(source.replace(/^\uFEFF/, ""))) {
      expect(statements.length + problems.length, source).toBe(1);
    }
  }
});
