import { describe, expect, it } from "vitest";
import { NautilusError } from "../../../core/errors.ts";
import { CHAIN_EXHAUSTED, NO_HOOK } from "../../../core/hooks/chain.ts";
import { HOOK_NAMES, HookRegistry } from "../../../core/hooks/registry.ts";
import type { Plugin, PublishArgs } from "../../../core/hooks/types.ts";

const ARGS: PublishArgs = {
  username: undefined,
  subscriber_id: { mountpoint: "", client_id: "c" },
  qos: 0,
  topic: "t",
  payload: Buffer.alloc(0),
  retain: false,
};

function setUp() {
  const called: string[] = [];
  const registry = new HookRegistry(() => called.push("failure"));
  const plugin = (name: string, priority?: number, answer: "ok" | "next" = "next"): Plugin => ({
    name,
    ...(priority === undefined ? {} : { priority }),
    hooks: {
      auth_on_publish: () => {
        called.push(name);
        return answer;
      },
      on_publish: () => void called.push(`told ${name}`),
    },
  });
  const order = (): string[] => {
    called.length = 0;
    registry.ask("auth_on_publish", ARGS);
    return [...called];
  };
  return { registry, plugin, called, order };
}

function codeOf(run: () => unknown): string {
  try {
    run();
  } catch (error) {
    if (error instanceof NautilusError) return error.code;
    throw error;
  }
  return "none";
}

describe("registry", () => {
  it("asks plugins by priority, then those without one, each by name", () => {
    const { registry, plugin, order } = setUp();
    registry.enableAll([
      plugin("z"),
      plugin("b", 10),
      plugin("c", -1),
      plugin("a"),
      plugin("a10", 10),
    ]);
    expect(order()).toEqual(["c", "a10", "b", "a", "z"]);
    expect(registry.names()).toEqual(["c", "a10", "b", "a", "z"]);
  });

  it("puts a plugin that is enabled later at the end, whatever its priority", () => {
    const { registry, plugin, order } = setUp();
    registry.enableAll([plugin("a"), plugin("b"), plugin("c")]);
    expect(registry.disable("a")).toBe(true);
    expect(order()).toEqual(["b", "c"]);
    registry.enable(plugin("a", -100));
    expect(order()).toEqual(["b", "c", "a"]);
    expect(registry.disable("unknown")).toBe(false);
    expect([registry.has("a"), registry.has("unknown")]).toEqual([true, false]);
  });

  it("asks exactly the plugins a listener names, in its order", () => {
    const { registry, plugin, called } = setUp();
    registry.enableAll([plugin("a", undefined, "ok"), plugin("b"), plugin("c")]);
    expect(registry.ask("auth_on_publish", ARGS, ["c", "b"])).toBe(CHAIN_EXHAUSTED);
    expect(called).toEqual(["c", "b"]);
    expect(registry.ask("auth_on_publish", ARGS, ["unknown"])).toBe(NO_HOOK);
    expect(registry.ask("auth_on_publish", ARGS, [])).toBe(NO_HOOK);
    expect(registry.ask("auth_on_publish", ARGS)).toBe("ok");
  });

  it("refuses a second plugin of the same name and keeps the first", () => {
    const { registry, plugin, order } = setUp();
    registry.enable(plugin("a"));
    expect(codeOf(() => registry.enable(plugin("a")))).toBe("PLUGIN_ALREADY_ENABLED");
    expect(order()).toEqual(["a"]);
  });

  it("refuses a plugin with a hook nobody knows, as a whole", () => {
    const { registry, plugin, order } = setUp();
    const wrong = plugin("a") as { hooks: Record<string, unknown> };
    wrong.hooks.on_pubish = () => undefined;
    expect(codeOf(() => registry.enable(wrong as unknown as Plugin))).toBe("PLUGIN_UNKNOWN_HOOK");
    expect(order()).toEqual([]);
    expect(registry.has("a")).toBe(false);
  });

  it("tells everybody an event, and knows whether anybody wants it", () => {
    const { registry, plugin, called } = setUp();
    expect(registry.wants("on_publish")).toBe(false);
    registry.enableAll([plugin("a"), plugin("b")]);
    expect(registry.wants("on_publish")).toBe(true);
    expect(registry.wants("on_client_gone")).toBe(false);
    registry.tell("on_publish", ARGS);
    expect(called).toEqual(["told a", "told b"]);
  });

  it("lets a chain that is running end as it began when a plugin goes", () => {
    const { registry, plugin, called } = setUp();
    registry.enableAll([
      { name: "a", hooks: { on_publish: () => void registry.disable("b") } },
      plugin("b"),
      plugin("c"),
    ]);
    registry.tell("on_publish", ARGS);
    expect(called).toEqual(["told b", "told c"]);
    called.length = 0;
    registry.tell("on_publish", ARGS);
    expect(called).toEqual(["told c"]);
  });

  it("has a chain for every hook of the catalogue", () => {
    const { registry } = setUp();
    expect(Object.keys(registry.chains).sort()).toEqual([...HOOK_NAMES].sort());
    expect(HOOK_NAMES).toHaveLength(25);
  });
});
