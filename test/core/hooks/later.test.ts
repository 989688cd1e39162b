import { describe, expect, it } from "vitest";
import { HookRegistry } from "../../../core/hooks/registry.ts";
import type { Plugin, PublishArgs, Verdict } from "../../../core/hooks/types.ts";
import { Later } from "../../../core/plugin-api.ts";

const ARGS: PublishArgs = {
  username: "u",
  subscriber_id: { mountpoint: "", client_id: "c" },
  qos: 0,
  topic: "t",
  payload: Buffer.alloc(0),
  retain: false,
};

function chainOf(...plugins: Plugin[]): HookRegistry {
  const registry = new HookRegistry((plugin, hook, failure) => {
    throw new Error(`${plugin} ${hook}: ${failure}`);
  });
  registry.enableAll(plugins);
  return registry;
}

describe("an answer that comes later", () => {
  it("is given to all who wait, at once, and only the first one counts", () => {
    const later = new Later<number>();
    const seen: number[] = [];
    later.then((value) => seen.push(value));
    later.then((value) => seen.push(value + 10));
    later.settle(1);
    later.settle(2);
    later.then((value) => seen.push(value + 20));
    expect(seen).toEqual([1, 11, 21]);
  });

  it("can be awaited", async () => {
    const later = new Later<string>();
    setImmediate(() => later.settle("there"));
    expect(await later).toBe("there");
  });

  it("goes through a chain without a promise, to the next plugin after next", () => {
    const first = new Later<Verdict<never>>();
    const second = new Later<Verdict<never>>();
    const chain = chainOf(
      { name: "a", hookTimeoutMs: 0, hooks: { auth_on_publish: () => first } },
      { name: "b", hooks: { auth_on_publish: () => "next" } },
      { name: "c", hookTimeoutMs: 0, hooks: { auth_on_publish: () => second } },
    );
    const verdicts: unknown[] = [];
    (chain.ask("auth_on_publish", ARGS) as Promise<unknown>).then((verdict) =>
      verdicts.push(verdict),
    );
    first.settle("next");
    expect(verdicts).toEqual([]);
    second.settle({ error: "no" });
    expect(verdicts).toEqual([{ error: "no" }]);
    const calls = chain.stats().filter(({ hook }) => hook === "auth_on_publish");
    expect(calls.map(({ stats }) => [stats.calls, stats.next, stats.error])).toEqual([
      [1, 1, 0],
      [1, 1, 0],
      [1, 0, 1],
    ]);
  });

  it("is checked like every other answer", () => {
    const later = new Later<{ ok: object }>();
    const faults: string[] = [];
    const registry = new HookRegistry((_plugin, _hook, failure) => faults.push(String(failure)));
    registry.enableAll([
      { name: "a", hookTimeoutMs: 0, hooks: { auth_on_publish: () => later as never } },
    ]);
    let verdict: unknown;
    (registry.ask("auth_on_publish", ARGS) as Promise<unknown>).then((given) => {
      verdict = given;
    });
    later.settle({ ok: { nosuch: 1 } });
    expect(verdict).toEqual({ error: "invalid_modifiers" });
    expect(faults.join()).toContain("nosuch");
  });
});
