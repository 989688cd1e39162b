import { describe, expect, it } from "vitest";
import { logLibrary } from "../../../plugins/vmq_diversity/libs/log.ts";
import { lua, luaCall, luaHost } from "../../support/lua-host.ts";

describe("log", () => {
  it("writes at the level of its name, any text as it is", () => {
    const host = luaHost();
    const log = logLibrary(host);
    for (const name of ["debug", "info", "warning", "error"]) {
      expect(log[name]?.(luaCall(), lua("~p %s 100%"))).toBeUndefined();
    }
    expect(host.lines.map(({ level }) => level)).toEqual(["debug", "info", "warn", "error"]);
    expect(new Set(host.lines.map(({ message }) => message))).toEqual(new Set(["~p %s 100%"]));
  });

  it("cuts long lines", () => {
    const host = luaHost();
    logLibrary(host).info?.(luaCall(), lua("x".repeat(100_000)));
    expect(host.lines[0]?.message).toMatch(/^x{8192}\.\.\. \(91808 more\)$/);
  });

  it("raises for what is no string", () => {
    const log = logLibrary(luaHost());
    expect(() => log.info?.(luaCall(), 5)).toThrow("log.info: the message must be a string");
    expect(() => log.warning?.(luaCall(), undefined)).toThrow("not nil");
  });
});
