import { createHmac, hash, randomBytes } from "node:crypto";
import { LRUCache } from "lru-cache";
import type { HookArgs, SubscriberId } from "../../core/plugin-api.ts";
import type { AnyVerdict } from "./answers.ts";
import { keyTextOf } from "./bodies.ts";
import type { WebhookHook } from "./hooks.ts";

/** An answer that is kept. */
export interface Entry {
  readonly key: string;
  readonly target: CacheTarget;
  readonly clientId: string;
  readonly verdict: AnyVerdict;
  /** On the clock of `performance.now()`. */
  readonly expiresAtMs: number;
  /** It is in the cache no more. */
  isGone: boolean;
}

/** What answers are kept for: one hook of one endpoint, with its statistics. */
export class CacheTarget {
  readonly hook: WebhookHook;
  readonly endpoint: string;
  readonly number: number;
  entries = 0;
  hits = 0;
  misses = 0;
  /** Last answer of each client to auth_on_publish: most clients repeat their topic. */
  memo = new WeakMap<SubscriberId, Memo>();

  constructor(hook: WebhookHook, endpoint: string, number: number) {
    this.hook = hook;
    this.endpoint = endpoint;
    this.number = number;
  }
}

interface Memo {
  readonly topic: string;
  readonly qos: number;
  readonly retain: boolean;
  readonly username: string | undefined;
  readonly entry: Entry;
}

/** Which entries a purge takes; without any of them: all. */
export interface Purge {
  readonly endpoint?: string;
  readonly hook?: string;
  readonly clientId?: string;
}

/** How often expired entries are looked for, and how many are looked at in one turn. */
export const CACHE_SWEEP_MS = 1_000;
const SWEEP_ENTRIES = 2_000;

/**
 * Answers of endpoints, for as long as their `cache-control` says. Keys are hashes with a key of this
 * process: neither passwords nor anything else of a call can be found in memory by them.
 */
export class AnswerCache {
  private lru: LRUCache<string, Entry> | undefined;
  private readonly secret = randomBytes(32);
  private readonly salt = randomBytes(32).toString("base64");
  private readonly targets = new Map<string, CacheTarget>();
  private sweep: IterableIterator<Entry> | undefined;
  private numbers = 0;
  /** How often answers were purged. */
  purges = 0;

  constructor(entriesMax: number) {
    this.resize(entriesMax);
  }

  get isOn(): boolean {
    return this.lru !== undefined;
  }

  get size(): number {
    return this.lru?.size ?? 0;
  }

  /** Another bound; the entries go. 0 = nothing is kept. */
  resize(entriesMax: number): void {
    this.purge({});
    this.sweep = undefined;
    this.lru =
      entriesMax === 0
        ? undefined
        : new LRUCache<string, Entry>({
            max: entriesMax,
            dispose: (entry) => {
              entry.isGone = true;
              entry.target.entries--;
            },
          });
  }

  target(hook: WebhookHook, endpoint: string): CacheTarget {
    const name = `${hook} ${endpoint}`;
    let target = this.targets.get(name);
    if (target === undefined) {
      target = new CacheTarget(hook, endpoint, this.numbers++);
      this.targets.set(name, target);
    }
    return target;
  }

  /** Statistics of all hooks and endpoints that have any. */
  stats(): readonly CacheTarget[] {
    return [...this.targets.values()].filter(
      ({ entries, hits, misses }) => entries + hits + misses > 0,
    );
  }

  resetStats(): void {
    for (const target of this.targets.values()) {
      target.hits = 0;
      target.misses = 0;
    }
  }

  /** The key of a call: its arguments without payload and peer port, hashed. */
  keyOf<H extends WebhookHook>(target: CacheTarget, args: HookArgs[H]): string {
    const text = `${target.number} ${keyTextOf(target.hook as H, args)}`;
    // Passwords are worth guessing: an HMAC. For the others the hash of a secret prefix will do.
    if (target.hook.startsWith("auth_on_register")) {
      return createHmac("sha256", this.secret).update(text).digest("base64");
    }
    return hash("sha256", this.salt + text, "base64");
  }

  /** The answer that is still good. */
  get(key: string): Entry | undefined {
    const entry = this.lru?.get(key);
    if (entry === undefined) return undefined;
    if (entry.expiresAtMs > performance.now()) return entry;
    this.lru?.delete(key);
    return undefined;
  }

  set(
    key: string,
    target: CacheTarget,
    clientId: string,
    verdict: AnyVerdict,
    lifetimeMs: number,
  ): Entry {
    const expiresAtMs = performance.now() + lifetimeMs;
    const entry = { key, target, clientId, verdict, expiresAtMs, isGone: false };
    target.entries++;
    this.lru?.set(key, entry);
    return entry;
  }

  /** Removes entries; gives how many. */
  purge({ endpoint, hook, clientId }: Purge): number {
    this.purges++;
    let removed = 0;
    for (const entry of this.lru?.values() ?? []) {
      if (endpoint !== undefined && entry.target.endpoint !== endpoint) continue;
      if (hook !== undefined && entry.target.hook !== hook) continue;
      if (clientId !== undefined && entry.clientId !== clientId) continue;
      this.lru?.delete(entry.key);
      removed++;
    }
    return removed;
  }

  /** All entries and statistics. */
  clear(): void {
    this.purge({});
    this.resetStats();
  }

  /** What is expired goes, some entries at a time. Called every `CACHE_SWEEP_MS`. */
  sweepSome(): void {
    const now = performance.now();
    this.sweep ??= this.lru?.values() as IterableIterator<Entry> | undefined;
    for (let looked = 0; looked < SWEEP_ENTRIES; looked++) {
      const next = this.sweep?.next();
      if (next === undefined || next.done === true) {
        this.sweep = undefined;
        return;
      }
      if (next.value.expiresAtMs <= now) this.lru?.delete(next.value.key);
    }
  }
}

/** Seconds of `max-age`, as VerneMQ finds it; 0 = not to be kept. */
export function maxAgeS(cacheControl: string | undefined): number {
  if (cacheControl === undefined) return 0;
  if (/\bno-(store|cache)\b/i.test(cacheControl)) return 0;
  const found = /max-age=(\d+)/.exec(cacheControl);
  return found === null ? 0 : Math.min(Number(found[1]), YEAR_S);
}

const YEAR_S = 31_536_000;
