import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import {
  CHAIN_EXHAUSTED,
  HOOK_TIMEOUT_MS,
  type Link,
  NO_HOOK,
  PLUGIN_FAILED,
  runAll,
  runOnly,
  runTillOk,
} from "../../../core/hooks/chain.ts";
import type { PublishArgs } from "../../../core/hooks/types.ts";

type Hook = "auth_on_publish";

const ARGS: PublishArgs = {
  username: undefined,
  subscriber_id: { mountpoint: "", client_id: "c" },
  qos: 0,
  topic: "t",
  payload: Buffer.alloc(0),
  retain: false,
};

const failures: string[] = [];
const report = (plugin: string, hook: string, failure: unknown): void => {
  failures.push(`${plugin} ${hook} ${failure instanceof Error ? failure.message : failure}`);
};

beforeEach(() => {
  failures.length = 0;
});

afterEach(() => {
  vi.useRealTimers();
});

/** Links that note that they were called. */
function links(...answers: unknown[]): { chain: Link<Hook>[]; called: string[] } {
  const called: string[] = [];
  const chain = answers.map((answer, i) => ({
    plugin: `p${i}`,
    hook: "auth_on_publish" as const,
    call: () => {
      called.push(`p${i}`);
      return typeof answer === "function" ? answer() : answer;
    },
  }));
  return { chain, called };
}

const ask = (...answers: unknown[]): unknown => runTillOk(links(...answers).chain, ARGS, report);
const later = (answer: unknown) => () => Promise.resolve(answer);
const failing = (message: string) => () => {
  throw new Error(message);
};

describe("all till ok", () => {
  it("asks in order and stops at the first verdict", async () => {
    for (const verdict of ["ok", { ok: { topic: "x" } }, { error: "no" }]) {
      const { chain, called } = links("next", verdict, "ok", failing("never asked"));
      expect(runTillOk(chain, ARGS, report)).toEqual(verdict);
      expect(called).toEqual(["p0", "p1"]);
      const slow = links("next", later("next"), later(verdict), failing("never asked"));
      expect(await runTillOk(slow.chain, ARGS, report)).toEqual(verdict);
      expect(slow.called).toEqual(["p0", "p1", "p2"]);
    }
    expect(failures).toEqual([]);
  });

  it("makes no promise as long as the plugins make none", () => {
    for (const result of [ask("ok"), ask("next", { ok: {} }), ask("next"), ask(failing("x"))]) {
      expect(result).not.toBeInstanceOf(Promise);
    }
    expect(ask(later("ok"))).toBeInstanceOf(Promise);
  });

  it("says whether nobody was there or everybody said next", async () => {
    expect(ask()).toBe(NO_HOOK);
    expect(ask("next", "next")).toBe(CHAIN_EXHAUSTED);
    expect(await ask("next", later("next"))).toBe(CHAIN_EXHAUSTED);
  });

  it("never accepts when a plugin throws or rejects, and asks nobody else", async () => {
    const rejecting = () => Promise.reject(new Error("rejected"));
    for (const [answers, expected] of [
      [[failing("thrown"), "ok"], "p0 auth_on_publish thrown"],
      [[rejecting, "ok"], "p0 auth_on_publish rejected"],
      [[later("next"), failing("thrown late"), "ok"], "p1 auth_on_publish thrown late"],
      [[() => Promise.reject(undefined), "ok"], "p0 auth_on_publish undefined"],
    ] as const) {
      failures.length = 0;
      const { chain, called } = links(...answers);
      expect(await runTillOk(chain, ARGS, report)).toBe(PLUGIN_FAILED);
      expect(failures).toEqual([expected]);
      expect(called).not.toContain(`p${answers.length - 1}`);
    }
  });

  it.each([
    ["yes", "yes"],
    ["OK", "OK"],
    ["", ""],
    [true, "invalid_answer"],
    [1, "invalid_answer"],
    [undefined, "invalid_answer"],
    [null, "invalid_answer"],
    [{}, "invalid_answer"],
    [[], "invalid_answer"],
    [["ok"], "invalid_answer"],
    [{ ok: true }, "invalid_answer"],
    [{ ok: null }, "invalid_answer"],
    [{ ok: undefined }, "invalid_answer"],
    [{ error: undefined }, "invalid_answer"],
    [() => () => "ok", "invalid_answer"],
  ])("takes the unknown answer %j as an error and reports it", async (answer, error) => {
    expect(ask("next", answer, "ok")).toEqual({ error });
    const plain = typeof answer === "function" ? answer() : answer;
    expect(await ask(later(plain), "ok")).toEqual({ error });
    expect(failures).toHaveLength(2);
    expect(failures[0]).toMatch(/^p1 auth_on_publish unknown answer/);
  });

  it("refuses an answer that has both ok and error", () => {
    const both = ask({ ok: {}, error: "no" });
    expect(both).toMatchObject({ error: "no" });
  });

  it("gives each call its own deadline and does not wait beyond it", async () => {
    vi.useFakeTimers();
    const never = () => new Promise(() => undefined);
    const slow = () =>
      new Promise((resolve) => setTimeout(() => resolve("next"), HOOK_TIMEOUT_MS - 1));
    let verdict: unknown;
    const { chain, called } = links(slow, slow, never, "ok");
    Promise.resolve(runTillOk(chain, ARGS, report)).then((value) => {
      verdict = value;
    });
    await vi.advanceTimersByTimeAsync(2 * HOOK_TIMEOUT_MS);
    expect(verdict).toBeUndefined();
    expect(called).toEqual(["p0", "p1", "p2"]);
    await vi.advanceTimersByTimeAsync(HOOK_TIMEOUT_MS);
    expect(verdict).toBe(PLUGIN_FAILED);
    expect(failures).toEqual([`p2 auth_on_publish no answer within ${HOOK_TIMEOUT_MS} ms`]);
    expect(vi.getTimerCount()).toBe(0);
  });

  it("leaves no timer behind when the answer comes in time", async () => {
    vi.useFakeTimers();
    expect(await ask(later("ok"))).toBe("ok");
    expect(vi.getTimerCount()).toBe(0);
  });

  it("ignores an answer or a failure that comes after the deadline", async () => {
    vi.useFakeTimers();
    for (const end of ["resolve", "reject"] as const) {
      let settle: (value: unknown) => void = () => undefined;
      const result = ask(
        () =>
          new Promise((resolve, reject) => {
            settle = end === "resolve" ? resolve : reject;
          }),
      );
      await vi.advanceTimersByTimeAsync(HOOK_TIMEOUT_MS);
      settle("ok");
      expect(await result).toBe(PLUGIN_FAILED);
    }
  });

  it("takes anything with `then` for a promise", async () => {
    const thenable = () => ({
      // biome-ignore lint/suspicious/noThenProperty: this is what is tested
      then: (done: (value: string) => void) => done("ok"),
    });
    expect(await ask(thenable)).toBe("ok");
  });
});

describe("all", () => {
  it("tells everyone in order, whatever each of them does, and waits for nobody", async () => {
    const { chain, called } = links(
      failing("thrown"),
      () => Promise.reject(new Error("rejected")),
      () => new Promise(() => undefined),
      { error: "ignored" },
      "ok",
    );
    expect(runAll(chain, ARGS, report)).toBeUndefined();
    expect(called).toEqual(["p0", "p1", "p2", "p3", "p4"]);
    await Promise.resolve();
    await Promise.resolve();
    expect(failures).toEqual(["p0 auth_on_publish thrown", "p1 auth_on_publish rejected"]);
  });
});

describe("only", () => {
  it("asks the first plugin alone", () => {
    const { chain, called } = links("next", "ok");
    expect(runOnly(chain, ARGS)).toBe("next");
    expect(called).toEqual(["p0"]);
    expect(runOnly([], ARGS)).toBe(NO_HOOK);
  });
});
