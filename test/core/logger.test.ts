import { describe, expect, test } from "vitest";
import { createLogger, type LoggerOptions } from "../../core/logger.ts";

const START_MS = Date.UTC(2026, 0, 2, 3, 4, 5, 678);

const AT = "2026-01-02T03:04:05.678000+00:00";
const PID = `<${process.pid}>`;

function capture(options: Partial<LoggerOptions> = {}) {
  const lines: string[] = [];
  const clock = { ms: START_MS };
  const logger = createLogger({
    level: "debug",
    format: "text",
    now: () => clock.ms,
    destination: { write: (line) => lines.push(line) },
    ...options,
  });
  return { logger, lines, clock };
}

describe("a line", () => {
  test("is time, level, message and fields", () => {
    const { logger, lines } = capture();
    logger.info("client connected", { client: "c 1", count: 3, ok: true, none: undefined });
    logger.warn("careful");
    expect(lines).toEqual([
      `${AT} [info] ${PID} client connected client="c 1" count=3 ok=true\n`,
      `${AT} [warning] ${PID} careful\n`,
    ]);
  });

  test("stays one line and one field each, whatever a client puts in", () => {
    const { logger, lines } = capture();
    logger.info("a\r\n  b", { client: 'x\ny="z', escape: "\u001b[31m" });
    expect(lines[0]).toBe(`${AT} [info] ${PID} a, b client="x\\ny=\\"z" escape="\\u001b[31m"\n`);
  });

  test("never holds payloads or passwords, and cuts what is long", () => {
    const { logger, lines } = capture();
    const secret = { password: "pw1", payload: "pay1" };
    logger.info("m", {
      ...secret,
      data: Buffer.from("pay2"),
      nested: { ...secret, body: new Uint8Array(4) },
    });
    logger.child(secret).info("m", { text: "x".repeat(5000) });
    expect(lines.join("")).not.toMatch(/pw1|pay1|pay2/);
    expect(lines[0]).toContain('data="<4 bytes>"');
    expect(lines[1]?.length).toBeLessThan(1200);
  });

  test("may hold any value", () => {
    const { logger, lines } = capture();
    const circle: Record<string, unknown> = {};
    circle.self = circle;
    logger.error("m", { error: new Error("boom"), big: 1n, circle, list: [1, { a: 2 }] });
    expect(lines[0]).toContain("error=boom big=1");
    expect(lines[0]).toContain('list="[1,{\\"a\\":2}]"');
  });

  test("is one JSON object in json format, with microseconds", () => {
    const { logger, lines } = capture({ format: "json" });
    logger.warn("m", { a: 1 });
    expect(JSON.parse(lines[0] ?? "")).toEqual({
      level: "warning",
      time: START_MS * 1000,
      a: 1,
      msg: "m",
    });
  });

  test("is short and coloured on a terminal", () => {
    const { logger, lines } = capture({ format: "tty" });
    logger.error("m", { a: 1 });
    expect(lines[0]).toBe("03:04:05.678 \u001b[31merror  \u001b[0m m\u001b[2m a=1\u001b[0m\n");
  });
});

describe("levels", () => {
  test("are those of log.console.level and can change", () => {
    const { logger, lines } = capture({ level: "warning" });
    logger.info("no");
    expect(logger.isEnabled("info")).toBe(false);
    logger.setLevel("info");
    logger.info("yes");
    logger.setLevel("emergency");
    logger.error("no");
    expect(lines).toHaveLength(1);
    expect(logger.isEnabled("error")).toBe(false);
  });
});

describe("a child", () => {
  test("adds its fields to each line", () => {
    const { logger, lines } = capture();
    logger.child({ part: "store" }).child({ n: 1 }).info("m", { a: 2 });
    expect(lines[0]).toContain("m part=store n=1 a=2");
  });
});

describe("a limited logger", () => {
  test("writes so many lines a second under its key and counts the others", () => {
    const { logger, lines, clock } = capture();
    const limited = () => logger.limited("drop", 2);
    for (let line = 0; line < 10; line++) limited().warn("dropped", { line });
    logger.limited("other", 2).warn("other");
    expect(lines).toHaveLength(3);
    clock.ms += 999;
    limited().warn("dropped");
    expect(lines).toHaveLength(3);
    clock.ms += 1;
    limited().warn("dropped");
    limited().warn("dropped");
    expect(lines.slice(3).map((line) => line.slice(line.indexOf("dropped")))).toEqual([
      "dropped suppressed=9\n",
      "dropped\n",
    ]);
  });

  test("does not count lines below the level", () => {
    const { logger, lines } = capture({ level: "info" });
    const limited = logger.limited("x", 1);
    limited.debug("no");
    limited.info("yes");
    expect(lines).toHaveLength(1);
  });

  test("keeps the fields of a child", () => {
    const { logger, lines } = capture();
    logger.limited("x", 1).child({ a: 1 }).info("m");
    expect(lines[0]).toContain("m a=1");
  });
});
