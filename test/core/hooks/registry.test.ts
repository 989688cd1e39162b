import { describe, expect, test } from "vitest";
import type { Plugin } from "../../../core/hooks/types.ts";
import { PUBLISH, publisher, rig } from "./support.ts";

/** Plugins that all pass on; `order` says who was asked. */
function passing(...plugins: (string | [name: string, priority: number])[]) {
  const order: string[] = [];
  const made = plugins.map((one): Plugin => {
    const [name, priority] = typeof one === "string" ? [one] : one;
    const hook = () => {
      order.push(name);
      return "next" as const;
    };
    return {
      name,
      hooks: { auth_on_publish: hook, auth_on_register: hook, on_deliver: hook },
      ...(priority === undefined ? {} : { priority }),
    };
  });
  return { plugins: made, order, asked: () => order.splice(0) };
}

describe("order", () => {
  test("H-11 by priority, then by name; disabled and enabled again: at the end", () => {
    const { plugins, asked } = passing("b", "a", ["z", 1]);
    const { registry, publish } = rig(plugins);
    publish();
    expect(asked()).toEqual(["z", "a", "b"]);
    expect(registry.disable("a")).toBe(true);
    registry.enable(plugins[1] as Plugin);
    publish();
    expect(asked()).toEqual(["z", "b", "a"]);
    expect(registry.names()).toEqual(["z", "b", "a"]);
  });

  test("a new version takes the place of the old one", () => {
    const { plugins, asked } = passing("a", "b", "c");
    const { registry, publish } = rig(plugins);
    const other = passing("b");
    expect(registry.replace(other.plugins[0] as Plugin)).toBe(true);
    publish();
    expect([asked(), other.asked()]).toEqual([["a", "c"], ["b"]]);
    expect(registry.names()).toEqual(["a", "b", "c"]);
    expect(registry.replace({ name: "unknown", hooks: {} })).toBe(false);
  });

  test("priorities: lower first, negative before 0, equal ones by name", () => {
    const { plugins, asked } = passing(["d", 2], ["c", 0], ["a", 2], ["b", -5], "0");
    rig(plugins).publish();
    expect(asked()).toEqual(["b", "c", "a", "d", "0"]);
  });
});

describe("enable and disable", () => {
  test("H-12 the same plugin twice is an error and changes nothing", () => {
    const { registry } = rig([publisher("a", () => "ok")]);
    expect(() => registry.enable(publisher("a", () => "next"))).toThrow(
      "plugin a is already enabled",
    );
    expect(registry.chains.auth_on_publish).toHaveLength(1);
  });

  test("H-13 a function for an unknown hook: refused by name, the chains stay as they are", () => {
    const { registry, publish } = rig([publisher("a", () => "ok")]);
    const wrong = { name: "b", hooks: { auth_on_publsh: () => "ok" } } as unknown as Plugin;
    expect(() => registry.enable(wrong)).toThrow("unknown hook auth_on_publsh");
    expect(() => registry.replace({ ...wrong, name: "a" })).toThrow("unknown hook auth_on_publsh");
    expect(registry.names()).toEqual(["a"]);
    expect(publish()).toBe("ok");
  });

  test("a plugin that is not there cannot be disabled", () => {
    const { registry } = rig([]);
    expect(registry.disable("a")).toBe(false);
  });
});

describe("chains of a listener", () => {
  test("H-14 exactly the plugins named, in the order given", () => {
    const { plugins, asked } = passing("a", "b", "c");
    const { registry } = rig(plugins);
    const set = registry.chainsOf({ authzPlugins: ["c", "a"] });
    registry.ask("auth_on_publish", PUBLISH, set);
    expect(asked()).toEqual(["c", "a"]);
    // authz_plugins say nothing about registration, and other hooks are global.
    registry.ask("auth_on_register", {} as never, set);
    expect(asked()).toEqual(["a", "b", "c"]);
    registry.ask("on_deliver", PUBLISH, set);
    expect(asked()).toEqual(["a", "b", "c"]);
  });

  test("the same plugins share one set of chains, which follows every change", () => {
    const { plugins, asked } = passing("a", "b");
    const { registry } = rig(plugins);
    const listener = { authPlugins: ["b"], authzPlugins: ["b", "a"] };
    const set = registry.chainsOf(listener);
    expect(registry.chainsOf({ ...listener })).toBe(set);
    expect(registry.chainsOf({})).toBe(registry.global);
    registry.disable("b");
    registry.ask("auth_on_publish", PUBLISH, set);
    expect(asked()).toEqual(["a"]);
    expect(registry.ask("auth_on_register", {} as never, set)).toEqual({
      error: "no_matching_hook_found",
    });
    registry.enable(plugins[1] as Plugin);
    registry.ask("auth_on_publish", PUBLISH, set);
    expect(asked()).toEqual(["b", "a"]);
  });

  test("an empty chain refuses, also where nobody else needs to be asked", () => {
    const { registry } = rig([publisher("a", () => "ok")]);
    const set = registry.chainsOf({ authzPlugins: [] });
    expect(set.isAsked("auth_on_publish")).toBe(true);
    expect(registry.ask("auth_on_publish", PUBLISH, set)).toEqual({
      error: "no_matching_hook_found",
    });
    const bare = rig([]).registry;
    expect(bare.global.isAsked("auth_on_publish")).toBe(false);
    expect(bare.chainsOf({ authzPlugins: ["a"] }).isAsked("auth_on_publish")).toBe(true);
  });
});

describe("a broker without plugins for a hook", () => {
  test("asks nobody; with denyWithoutAuthorizer it refuses, as VerneMQ", () => {
    for (const denyWithoutAuthorizer of [false, true]) {
      const { registry, publish } = rig([], { denyWithoutAuthorizer });
      expect(registry.global.isAsked("auth_on_publish")).toBe(denyWithoutAuthorizer);
      expect(registry.global.isAsked("auth_on_subscribe_m5")).toBe(denyWithoutAuthorizer);
      expect(publish()).toEqual({ error: "no_matching_hook_found" });
    }
  });
});
