import { NautilusError } from "../errors.ts";
import type { Breaker } from "./breaker.ts";
import { Later } from "./later.ts";
import type { CheckedAnswer } from "./modifiers.ts";
import { type HookStats, SAMPLE_MASK } from "./stats.ts";
import type { ConditionalHook, HookArgs, HookModifiers, HookName, Verdict } from "./types.ts";

/** What the chain knows of a plugin's hook whatever its arguments are. */
interface LinkState {
  readonly plugin: string;
  /** The plugin's hook that answers: for MQTT 5 perhaps its 3.x hook (compat.ts). */
  readonly answeredBy: HookName;
  readonly priority: number | undefined;
  /** Brings an answer of a conditional hook into one form. */
  readonly check: (answer: unknown) => CheckedAnswer<ConditionalHook>;
  readonly timeoutMs: number;
  readonly isPipelined: boolean;
  readonly onError: "deny" | "next";
  readonly stats: HookStats;
  readonly breaker: Breaker;
}

/** One plugin's function for one hook, in call order. */
export interface Link<H extends HookName = HookName> extends LinkState {
  /** The hook that is asked. */
  readonly hook: H;
  readonly call: (args: HookArgs[H]) => unknown;
}

/** The answer of a whole chain. */
export type ChainVerdict<H extends ConditionalHook> = Exclude<
  Verdict<HookModifiers[H]>,
  "next" | "unavailable"
>;

/** Answer when every plugin said next. VerneMQ's reason names. */
const CHAIN_EXHAUSTED = { error: "plugin_chain_exhausted" } as const;
/** Answer when no plugin implements the hook. */
const NO_HOOK = { error: "no_matching_hook_found" } as const;
/**
 * Answer when a plugin threw, rejected, or did not answer in time, and no other plugin answered in its
 * place. Never an acceptance.
 */
const PLUGIN_FAILED = { error: "plugin_error" } as const;

/** Answer when a plugin said that it cannot decide now, and no other plugin did. Never an acceptance. */
export const UNAVAILABLE = { error: "plugin_unavailable" } as const;

/** Why a chain that nobody decided is no ordinary end. */
type Trouble = typeof PLUGIN_FAILED | typeof UNAVAILABLE | undefined;

/** Deadline of a call that returned a promise, unless the plugin has its own. */
export const HOOK_TIMEOUT_MS = 5_000;

export type FailureReport = (plugin: string, hook: HookName, failure: unknown) => void;

/**
 * "All till ok": asks link after link until one answers something else than `next`. Stays synchronous
 * (no promise is made) as long as the plugins do. `before` tells of trouble with a link before `from`.
 */
export function runTillOk<H extends ConditionalHook>(
  links: readonly Link<H>[],
  args: HookArgs[H],
  report: FailureReport,
  from = 0,
  before: Trouble = undefined,
): ChainVerdict<H> | Promise<ChainVerdict<H>> {
  let trouble = before;
  for (let i = from; i < links.length; i++) {
    const link = links[i] as Link<H>;
    const { stats } = link;
    if (link.breaker.isTroubled && !link.breaker.admits()) {
      stats.skipped++;
      if (link.onError === "deny") return PLUGIN_FAILED;
      trouble = PLUGIN_FAILED;
      continue;
    }
    const isSampled = (stats.calls++ & SAMPLE_MASK) === 0;
    const startMs = isSampled ? performance.now() : 0;
    let answer: unknown;
    try {
      answer = link.call(args);
    } catch (failure) {
      noteFailure(link, failure, report);
      if (link.onError === "deny") return PLUGIN_FAILED;
      trouble = PLUGIN_FAILED;
      continue;
    }
    if (isPromise(answer)) {
      const sinceMs = isSampled ? startMs : performance.now();
      if (answer instanceof Later && link.timeoutMs === 0) {
        // Stays what it is: whoever asks tells both apart by nothing but `then`.
        const later = continueAtOnce(links, i, answer, args, report, sinceMs, trouble);
        return later as unknown as Promise<ChainVerdict<H>>;
      }
      return continueLater(links, i, answer, args, report, sinceMs, trouble);
    }
    if (isSampled) stats.timed(performance.now() - startMs);
    if (link.breaker.isTroubled) link.breaker.succeeded();
    if (answer === "next") {
      stats.next++;
      continue;
    }
    if (answer === "ok") {
      stats.ok++;
      return "ok";
    }
    const verdict = settle(link, answer, report);
    if (verdict === "unavailable") trouble ??= UNAVAILABLE;
    else if (verdict !== "next") return verdict;
  }
  if (trouble !== undefined) return trouble;
  return links.length === 0 ? NO_HOOK : CHAIN_EXHAUSTED;
}

/** The rest of a chain behind a plugin that keeps its own deadline and answers by `Later`. */
function continueAtOnce<H extends ConditionalHook>(
  links: readonly Link<H>[],
  index: number,
  pending: Later<unknown>,
  args: HookArgs[H],
  report: FailureReport,
  startMs: number,
  before: Trouble,
): Later<ChainVerdict<H>> {
  const link = links[index] as Link<H>;
  const chain = new Later<ChainVerdict<H>>();
  pending.then((answer) => {
    link.stats.timed(performance.now() - startMs);
    if (link.breaker.isTroubled) link.breaker.succeeded();
    const verdict = settle(link, answer, report);
    if (verdict !== "next" && verdict !== "unavailable") {
      chain.settle(verdict);
      return;
    }
    const rest = runTillOk(links, args, report, index + 1, troubleAfter(verdict, before));
    if (isPromise(rest)) void rest.then((late) => chain.settle(late));
    else chain.settle(rest);
  });
  return chain;
}

async function continueLater<H extends ConditionalHook>(
  links: readonly Link<H>[],
  index: number,
  pending: Promise<unknown>,
  args: HookArgs[H],
  report: FailureReport,
  startMs: number,
  before: Trouble,
): Promise<ChainVerdict<H>> {
  const link = links[index] as Link<H>;
  let answer: unknown;
  try {
    answer = await withDeadline(pending, link);
  } catch (failure) {
    link.stats.timed(performance.now() - startMs);
    noteFailure(link, failure, report);
    if (link.onError === "deny") return PLUGIN_FAILED;
    return runTillOk(links, args, report, index + 1, PLUGIN_FAILED);
  }
  link.stats.timed(performance.now() - startMs);
  if (link.breaker.isTroubled) link.breaker.succeeded();
  const verdict = settle(link, answer, report);
  if (verdict !== "next" && verdict !== "unavailable") return verdict;
  return runTillOk(links, args, report, index + 1, troubleAfter(verdict, before));
}

function troubleAfter(verdict: "next" | "unavailable", before: Trouble): Trouble {
  return before ?? (verdict === "unavailable" ? UNAVAILABLE : undefined);
}

/** Checks an answer, counts it, reports what is wrong with it. */
function settle<H extends ConditionalHook>(
  link: Link<H>,
  answer: unknown,
  report: FailureReport,
): Verdict<HookModifiers[H]> {
  const { stats } = link;
  const { verdict, fault } = link.check(answer);
  if (fault !== undefined) {
    stats.invalid++;
    const { plugin, answeredBy: hook } = link;
    const fields = { plugin, hook, field: fault.field, reason: fault.message };
    report(plugin, hook, new NautilusError("HOOK_ANSWER_INVALID", fields));
  } else if (verdict === "ok") stats.ok++;
  else if (verdict === "next" || verdict === "unavailable") stats.next++;
  else if ("ok" in verdict) stats.modified++;
  else stats.error++;
  return verdict as Verdict<HookModifiers[H]>;
}

function noteFailure(link: LinkState, failure: unknown, report: FailureReport): void {
  if (failure instanceof NautilusError && failure.code === "HOOK_TIMEOUT") link.stats.timeouts++;
  else link.stats.failures++;
  report(link.plugin, link.answeredBy, failure);
  if (!link.breaker.failed()) return;
  const { plugin, answeredBy: hook } = link;
  report(plugin, hook, new NautilusError("HOOK_SUSPENDED", { plugin, hook }));
}

/** "All": every link is called, nobody waits, answers are ignored. */
export function runAll<H extends HookName>(
  links: readonly Link<H>[],
  args: HookArgs[H],
  report: FailureReport,
): void {
  for (const link of links) {
    const { stats, breaker } = link;
    if (breaker.isTroubled && !breaker.admits()) {
      stats.skipped++;
      continue;
    }
    const isSampled = (stats.calls++ & SAMPLE_MASK) === 0;
    const startMs = isSampled ? performance.now() : 0;
    try {
      const answer = link.call(args);
      if (isPromise(answer)) {
        void watch(link, answer, isSampled ? startMs : performance.now(), report);
        continue;
      }
      if (isSampled) stats.timed(performance.now() - startMs);
      if (breaker.isTroubled) breaker.succeeded();
      stats.ok++;
    } catch (failure) {
      noteFailure(link, failure, report);
    }
  }
}

async function watch(
  link: LinkState,
  pending: Promise<unknown>,
  startMs: number,
  report: FailureReport,
): Promise<void> {
  try {
    await withDeadline(pending, link);
    link.stats.ok++;
    if (link.breaker.isTroubled) link.breaker.succeeded();
  } catch (failure) {
    noteFailure(link, failure, report);
  }
  link.stats.timed(performance.now() - startMs);
}

export function isPromise(value: unknown): value is Promise<unknown> {
  return (
    typeof value === "object" &&
    value !== null &&
    typeof (value as { then?: unknown }).then === "function"
  );
}

/** A late answer is ignored; whatever the plugin still does then is its own matter. */
function withDeadline<T>(pending: Promise<T>, link: LinkState): Promise<T> {
  const { plugin, answeredBy: hook, timeoutMs } = link;
  if (timeoutMs === 0) return pending;
  return new Promise((resolve, reject) => {
    const timer = setTimeout(
      () => reject(new NautilusError("HOOK_TIMEOUT", { plugin, hook, timeoutMs })),
      timeoutMs,
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
