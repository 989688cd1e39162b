import type { ConditionalHook, HookArgs, HookModifiers, HookName, Verdict } from "./types.ts";

/** One plugin's function for one hook, in call order. */
export interface Link<H extends HookName = HookName> {
  readonly plugin: string;
  readonly hook: H;
  readonly call: (args: HookArgs[H]) => unknown;
}

export type ChainVerdict<H extends ConditionalHook> = Exclude<Verdict<HookModifiers[H]>, "next">;

/** Answer when every plugin said next. VerneMQ's reason names. */
export const CHAIN_EXHAUSTED = { error: "plugin_chain_exhausted" } as const;
/** Answer when no plugin implements the hook. */
export const NO_HOOK = { error: "no_matching_hook_found" } as const;
/** Answer in place of a plugin that threw, rejected, or did not answer in time. Never an acceptance. */
export const PLUGIN_FAILED = { error: "plugin_error" } as const;

/** Deadline of one plugin call that returned a promise. */
export const HOOK_TIMEOUT_MS = 5_000;

export type FailureReport = (plugin: string, hook: HookName, failure: unknown) => void;

/**
 * "All till ok": asks link after link until one answers something else than `next`. Stays synchronous
 * (no promise is made) as long as the plugins do.
 */
export function runTillOk<H extends ConditionalHook>(
  links: readonly Link<H>[],
  args: HookArgs[H],
  report: FailureReport,
  from = 0,
): ChainVerdict<H> | Promise<ChainVerdict<H>> {
  for (let i = from; i < links.length; i++) {
    const link = links[i] as Link<H>;
    let answer: unknown;
    try {
      answer = link.call(args);
    } catch (failure) {
      report(link.plugin, link.hook, failure);
      return PLUGIN_FAILED;
    }
    if (answer === "next") continue;
    if (isPromise(answer)) return continueLater(links, i, answer, args, report);
    return checked<H>(link, answer, report);
  }
  return links.length === 0 ? NO_HOOK : CHAIN_EXHAUSTED;
}

async function continueLater<H extends ConditionalHook>(
  links: readonly Link<H>[],
  index: number,
  pending: Promise<unknown>,
  args: HookArgs[H],
  report: FailureReport,
): Promise<ChainVerdict<H>> {
  const link = links[index] as Link<H>;
  try {
    const answer = await withDeadline(pending);
    if (answer !== "next") return checked<H>(link, answer, report);
  } catch (failure) {
    report(link.plugin, link.hook, failure);
    return PLUGIN_FAILED;
  }
  return runTillOk(links, args, report, index + 1);
}

/** An answer of an unknown form is an error that carries it, as in VerneMQ; it never accepts. */
function checked<H extends ConditionalHook>(
  link: Link<H>,
  answer: unknown,
  report: FailureReport,
): ChainVerdict<H> {
  if (answer === "ok") return "ok";
  if (typeof answer === "object" && answer !== null) {
    if ("error" in answer && answer.error !== undefined) return answer as ChainVerdict<H>;
    if ("ok" in answer && typeof answer.ok === "object" && answer.ok !== null) {
      return answer as ChainVerdict<H>;
    }
  }
  report(link.plugin, link.hook, new TypeError(`unknown answer ${describe(answer)}`));
  return { error: typeof answer === "string" ? answer : "invalid_answer" };
}

function describe(answer: unknown): string {
  return typeof answer === "string" ? `"${answer.slice(0, 40)}"` : typeof answer;
}

/** "All": every link is called, nobody waits, answers are ignored. */
export function runAll<H extends HookName>(
  links: readonly Link<H>[],
  args: HookArgs[H],
  report: FailureReport,
): void {
  for (const link of links) {
    try {
      const answer = link.call(args);
      if (isPromise(answer)) answer.catch((failure) => report(link.plugin, link.hook, failure));
    } catch (failure) {
      report(link.plugin, link.hook, failure);
    }
  }
}

/** "Only": the first link alone. */
export function runOnly<H extends HookName>(links: readonly Link<H>[], args: HookArgs[H]): unknown {
  const first = links[0];
  return first === undefined ? NO_HOOK : first.call(args);
}

export function isPromise(value: unknown): value is Promise<unknown> {
  return (
    typeof value === "object" &&
    value !== null &&
    typeof (value as { then?: unknown }).then === "function"
  );
}

function withDeadline<T>(pending: Promise<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(
      () => reject(new Error(`no answer within ${HOOK_TIMEOUT_MS} ms`)),
      HOOK_TIMEOUT_MS,
    );
    pending.then(
      (value) => {
        clearTimeout(timer);
        resolve(value);
      },
      (failure) => {
        clearTimeout(timer);
        reject(failure);
      },
    );
  });
}
