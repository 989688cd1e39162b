import { isPromise, type Link } from "./chain.ts";
import type { ConditionalHook, HookArgs, HookName } from "./types.ts";

/** Hears of the calls of conditional chains, for `trace client`. */
export interface ChainObserver {
  /** False for calls that are of no interest. */
  asks(hook: ConditionalHook, args: HookArgs[ConditionalHook]): boolean;
  /** A plugin has answered, or failed. */
  answered(link: AnsweringLink, answer: unknown, failure: unknown, ms: number): void;
  /** What the chain answers in the end. */
  decided(hook: ConditionalHook, verdict: unknown): void;
}

/** Which plugin answers, and by which of its hooks. */
export type AnsweringLink = Pick<Link, "plugin" | "hook" | "answeredBy">;

/** Links that tell an observer what their plugins answer, and ask them as before. */
export function observedLinks<H extends HookName>(
  links: readonly Link<H>[],
  observer: ChainObserver,
): Link<H>[] {
  return links.map((link) => ({
    ...link,
    call: (args: HookArgs[H]): unknown => {
      const startMs = performance.now();
      const tell = (answer: unknown, failure?: unknown): void =>
        observer.answered(link, answer, failure, performance.now() - startMs);
      let answer: unknown;
      try {
        answer = link.call(args);
      } catch (failure) {
        tell(undefined, failure);
        throw failure;
      }
      if (!isPromise(answer)) tell(answer);
      else void answer.then(tell, (failure: unknown) => tell(undefined, failure));
      return answer;
    },
  }));
}
