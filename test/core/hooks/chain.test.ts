import { createHook } from "node:async_hooks";
import { afterEach, describe, expect, test, vi } from "vitest";
import { isPromise } from "../../../core/hooks/chain.ts";
import type { HookFunction, Verdict } from "../../../core/hooks/types.ts";
import { PUBLISH, publisher, rig, WHO } from "./support.ts";

/** Answers that the types forbid and plugins give. */
function any(answer: unknown): HookFunction<"auth_on_publish"> {
  return () => answer as Verdict<never>;
}

afterEach(() => {
  vi.useRealTimers();
});

describe("all till ok", () => {
  test("H-01 next, ok, …: the first ok counts, nobody behind it is asked", () => {
    const last = vi.fn(() => "ok" as const);
    const { publish } = rig([
      publisher("a", () => "next"),
      publisher("b", () => ({ ok: { topic: "new" } })),
      publisher("c", last),
    ]);
    expect(publish()).toEqual({ ok: { topic: "new" } });
    expect(last).not.toHaveBeenCalled();
  });

  test("H-02 an error ends the chain with its reason", () => {
    const second = vi.fn(() => "ok" as const);
    const { publish } = rig([publisher("a", () => ({ error: "x" })), publisher("b", second)]);
    expect(publish()).toEqual({ error: "x" });
    expect(second).not.toHaveBeenCalled();
  });

  test("H-03 all next: plugin_chain_exhausted; no plugin: no_matching_hook_found", () => {
    const next = rig([publisher("a", () => "next"), publisher("b", () => "next")]);
    expect(next.publish()).toEqual({ error: "plugin_chain_exhausted" });
    expect(rig([]).publish()).toEqual({ error: "no_matching_hook_found" });
    expect(next.failures).toEqual([]);
  });

  test("unavailable asks the next plugin, and is the reason when nobody decides", async () => {
    const away = publisher("a", () => "unavailable" as const);
    const late = publisher("a", async () => "unavailable" as const);
    const broken = publisher(
      "b",
      () => {
        throw new Error("broken");
      },
      { onError: "next" },
    );
    for (const first of [away, late]) {
      expect(await rig([first, publisher("b", () => "ok")]).publish()).toBe("ok");
      const ended = { error: "plugin_unavailable" };
      expect(await rig([first]).publish()).toEqual(ended);
      expect(await rig([first, publisher("b", () => "next")]).publish()).toEqual(ended);
      expect(await rig([first, publisher("b", async () => "next" as const)]).publish()).toEqual(
        ended,
      );
      expect(await rig([first, broken]).publish()).toEqual({ error: "plugin_error" });
    }
  });

  test("H-04 an answer of no known form is an error that carries it, never an acceptance", () => {
    for (const [answer, error] of [
      ["foo", "foo"],
      [17, 17],
      [undefined, "invalid_answer"],
      [null, "invalid_answer"],
      [true, "invalid_answer"],
      [{}, "invalid_answer"],
      [{ ok: true }, "invalid_modifiers"],
      [{ ok: undefined }, "invalid_answer"],
      [[], "invalid_answer"],
    ] as const) {
      const { publish, failures } = rig([publisher("a", any(answer)), publisher("b", () => "ok")]);
      expect(publish(), JSON.stringify(answer)).toEqual({ error });
      expect(String(failures[0]?.failure)).toContain("plugin a, auth_on_publish");
    }
  });

  test("a synchronous chain gives its verdict at once and makes no promise", () => {
    const { publish } = rig([
      publisher("a", () => "next"),
      publisher("b", () => "next"),
      publisher("c", () => "ok"),
    ]);
    let promises = 0;
    const hook = createHook({ init: (_, type) => (type === "PROMISE" ? promises++ : 0) }).enable();
    const verdict = publish();
    hook.disable();
    expect(verdict).toBe("ok");
    expect(promises).toBe(0);
  });

  test("a promise makes the rest of the chain wait, in order", async () => {
    const order: string[] = [];
    const { publish } = rig([
      publisher("a", async () => {
        await Promise.resolve();
        order.push("a");
        return "next" as const;
      }),
      publisher("b", () => {
        order.push("b");
        return "next";
      }),
      publisher("c", async () => {
        order.push("c");
        return { ok: "text" };
      }),
    ]);
    const verdict = publish();
    expect(isPromise(verdict)).toBe(true);
    expect(await verdict).toEqual({ ok: { payload: Buffer.from("text") } });
    expect(order).toEqual(["a", "b", "c"]);
  });
});

describe("a plugin that fails", () => {
  const FAILING: [string, HookFunction<"auth_on_publish">][] = [
    [
      "throws",
      () => {
        throw new Error("boom");
      },
    ],
    ["rejects", () => Promise.reject(new Error("boom"))],
  ];

  test.each(FAILING)(
    "H-47 %s: a refusal by default, with its name, whatever comes behind",
    async (_, hook) => {
      const second = vi.fn(() => "ok" as const);
      const { publish, failures } = rig([publisher("a", hook), publisher("b", second)]);
      expect(await publish()).toEqual({ error: "plugin_error" });
      expect(second).not.toHaveBeenCalled();
      expect(failures).toEqual([
        {
          plugin: "a",
          hook: "auth_on_publish",
          failure: expect.objectContaining({ message: "boom" }),
        },
      ]);
    },
  );

  test.each(FAILING)("%s with on_error = next: the next plugin decides", async (_, hook) => {
    const { publish } = rig([
      publisher("a", hook, { onError: "next" }),
      publisher("b", () => ({ ok: { qos: 1 } })),
    ]);
    expect(await publish()).toEqual({ ok: { qos: 1 } });
  });

  test.each(FAILING)(
    "%s with on_error = next and nobody else answers: no acceptance, and no plain exhaustion",
    async (_, hook) => {
      const { publish } = rig([
        publisher("a", hook, { onError: "next" }),
        publisher("b", () => "next"),
        publisher("c", async () => "next" as const),
      ]);
      expect(await publish()).toEqual({ error: "plugin_error" });
    },
  );

  test("on_deliver and on_unsubscribe, which cannot refuse, go on to the next plugin", () => {
    const fail = (): never => {
      throw new Error("boom");
    };
    const { registry } = rig([
      { name: "a", hooks: { on_deliver: fail, on_unsubscribe: fail } },
      {
        name: "b",
        hooks: { on_deliver: () => ({ ok: "new" }), on_unsubscribe: () => ({ ok: ["x"] }) },
      },
    ]);
    expect(registry.ask("on_deliver", PUBLISH)).toEqual({ ok: { payload: Buffer.from("new") } });
    expect(registry.ask("on_unsubscribe", { ...WHO, topics: ["a"] })).toEqual({
      ok: { topics: ["x"] },
    });
  });

  test("no answer by the deadline is a failure; a late answer is ignored", async () => {
    vi.useFakeTimers();
    let answer: (verdict: "ok") => void = () => {};
    const { publish, failures, registry } = rig([
      publisher("slow", () => new Promise<"ok">((resolve) => (answer = resolve)), {
        hookTimeoutMs: 200,
      }),
    ]);
    let verdict: unknown;
    void Promise.resolve(publish()).then((given) => (verdict = given));
    await vi.advanceTimersByTimeAsync(199);
    expect(verdict).toBeUndefined();
    await vi.advanceTimersByTimeAsync(1);
    expect(verdict).toEqual({ error: "plugin_error" });
    answer("ok");
    await vi.advanceTimersByTimeAsync(1);
    expect(String(failures[0]?.failure)).toContain("no answer within 200 ms");
    expect(registry.stats().find((one) => one.hook === "auth_on_publish")?.stats).toMatchObject({
      calls: 1,
      timeouts: 1,
      failures: 0,
      ok: 0,
    });
  });

  test("the deadline is 5 s unless the plugin has its own", async () => {
    vi.useFakeTimers();
    const { publish } = rig([publisher("slow", () => new Promise(() => {}))]);
    let verdict: unknown;
    void Promise.resolve(publish()).then((given) => (verdict = given));
    await vi.advanceTimersByTimeAsync(4_999);
    expect(verdict).toBeUndefined();
    await vi.advanceTimersByTimeAsync(1);
    expect(verdict).toEqual({ error: "plugin_error" });
  });
});

describe("all", () => {
  test("everybody is told, in order, whatever the others do", async () => {
    const told: string[] = [];
    const { registry, failures } = rig([
      {
        name: "a",
        hooks: {
          on_publish: () => {
            told.push("a");
            throw new Error("sync");
          },
        },
      },
      {
        name: "b",
        hooks: {
          on_publish: () => {
            told.push("b");
            return Promise.reject(new Error("later"));
          },
        },
      },
      { name: "c", hooks: { on_publish: () => void told.push("c") } },
    ]);
    registry.tell("on_publish", PUBLISH);
    expect(told).toEqual(["a", "b", "c"]);
    await vi.waitFor(() => expect(failures.map((one) => one.plugin)).toEqual(["a", "b"]));
  });

  test("an event hook that never settles is a timeout, and nobody waits for it", async () => {
    vi.useFakeTimers();
    const { registry, failures } = rig([
      { name: "a", hookTimeoutMs: 50, hooks: { on_publish: () => new Promise(() => {}) } },
    ]);
    expect(registry.tell("on_publish", PUBLISH)).toBeUndefined();
    await vi.advanceTimersByTimeAsync(50);
    expect(String(failures[0]?.failure)).toContain("plugin a, on_publish: no answer within 50 ms");
  });
});

describe("circuit breaker", () => {
  /** A plugin that fails while `isDown`, under a clock of ours. */
  function breaking(onError: "deny" | "next") {
    const state = { nowMs: 1_000_000, isDown: true, calls: 0 };
    const made = rig(
      [
        publisher(
          "a",
          () => {
            state.calls++;
            if (state.isDown) throw new Error("down");
            return "ok";
          },
          { onError },
        ),
        publisher("b", () => ({ error: "b was asked" })),
      ],
      { nowMs: () => state.nowMs },
    );
    return { ...made, state };
  }

  test("after five failures in a row the plugin is not called; a probe after 1 s opens the way again", () => {
    const { publish, state } = breaking("deny");
    for (let i = 0; i < 20; i++) expect(publish()).toEqual({ error: "plugin_error" });
    expect(state.calls).toBe(5);
    state.isDown = false;
    state.nowMs += 999;
    expect(publish()).toEqual({ error: "plugin_error" });
    state.nowMs += 1;
    expect(publish()).toBe("ok");
    expect(publish()).toBe("ok");
    expect(state.calls).toBe(7);
  });

  test("with on_error = next it is skipped meanwhile, and others decide", () => {
    const { publish, state, registry } = breaking("next");
    for (let i = 0; i < 20; i++) expect(publish()).toEqual({ error: "b was asked" });
    expect(state.calls).toBe(5);
    const own = registry
      .stats()
      .find((one) => one.plugin === "a" && one.hook === "auth_on_publish");
    expect(own?.stats).toMatchObject({ calls: 5, failures: 5, skipped: 15 });
    expect(own?.breaker.state).toBe("open");
  });

  test("an open breaker alone in the chain is a refusal with on_error = next, too", () => {
    const nowMs = (): number => 0;
    const { publish } = rig(
      [
        publisher(
          "a",
          () => {
            throw new Error("down");
          },
          { onError: "next" },
        ),
      ],
      { nowMs },
    );
    for (let i = 0; i < 10; i++) expect(publish()).toEqual({ error: "plugin_error" });
  });

  test("another plugin being enabled does not close it; a new version of the plugin does", () => {
    const { publish, state, registry } = breaking("deny");
    for (let i = 0; i < 5; i++) publish();
    registry.enable({ name: "z", hooks: {} });
    publish();
    expect(state.calls).toBe(5);
    registry.replace(publisher("a", () => "ok"));
    expect(publish()).toBe("ok");
  });
});

describe("statistics", () => {
  test("verdicts are counted by kind, per plugin and hook", () => {
    const answers: unknown[] = [
      "ok",
      "next",
      { ok: {} },
      { ok: { qos: 1 } },
      { error: "no" },
      "bad",
    ];
    const { publish, registry } = rig([publisher("a", () => answers.shift() as "ok")]);
    for (let i = 0; i < 6; i++) publish();
    const { stats } = registry.stats().find((one) => one.hook === "auth_on_publish") ?? {};
    expect(stats).toMatchObject({ calls: 6, ok: 2, next: 1, modified: 1, error: 1, invalid: 1 });
  });

  test("each promise is timed, and one synchronous call in 16", async () => {
    const sync = rig([publisher("a", () => "ok")]);
    for (let i = 0; i < 160; i++) sync.publish();
    expect(samples(sync)).toBe(10);
    const late = rig([publisher("a", async () => "ok" as const)]);
    for (let i = 0; i < 20; i++) await late.publish();
    expect(samples(late)).toBe(20);
  });

  function samples({ registry }: ReturnType<typeof rig>): number {
    const own = registry.stats().find((one) => one.hook === "auth_on_publish");
    return own?.stats.latency.counts.reduce((sum, count) => sum + count, 0) ?? 0;
  }
});
