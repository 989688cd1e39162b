import {
  type ConditionalHook,
  Later,
  type Logger,
  type PluginHookTable,
  type PublishArgs,
  type PublishM5Args,
  type SubscriberId,
  withoutPassword,
} from "../../core/plugin-api.ts";
import { type AnyVerdict, readAnswer } from "./answers.ts";
import { bodyOf } from "./bodies.ts";
import { type AnswerCache, type Entry, maxAgeS } from "./cache.ts";
import { Endpoint, type EndpointLimits } from "./endpoint.ts";
import type { Response } from "./exchange.ts";
import { WEBHOOKS, type WebhookHook } from "./hooks.ts";
import type { WebhookMetrics } from "./metrics.ts";
import type { WebhookSpec } from "./options.ts";
import { type CallFailure, Registration } from "./registration.ts";
import { NotText } from "./text.ts";

export interface WebhooksParts {
  readonly cache: AnswerCache;
  readonly metrics: WebhookMetrics;
  readonly log: Logger;
  readonly limits: EndpointLimits;
  /** Hooks that endpoints are registered for have changed. */
  readonly onChange: () => void;
}

/** Arguments of any hook, as far as they are looked at here. */
interface AnyArgs {
  readonly subscriber_id: SubscriberId;
  readonly signal?: AbortSignal;
}

type Answered = AnyVerdict | Later<AnyVerdict>;

/** A call that is being made. */
interface Asked {
  readonly registration: Registration;
  readonly args: AnyArgs;
  /** Of its answer, if it has been made already. */
  readonly key: string | undefined;
  /** Purges before it: an answer asked for before one may be what the purge was about. */
  readonly purges: number;
}

/** What a call came to: the verdict, and the entry it is kept in. */
interface Decision {
  readonly verdict: AnyVerdict;
  readonly isKept: boolean;
}

/** Events that come per message: their order costs throughput. */
const MESSAGE_EVENTS: ReadonlySet<string> = new Set([
  "on_publish",
  "on_publish_m5",
  "on_offline_message",
]);

/** Who is registered for what, and the way of a call through them. */
export class Webhooks {
  private readonly parts: WebhooksParts;
  private readonly chains = new Map<WebhookHook, readonly Registration[]>();
  private readonly endpoints = new Map<string, Endpoint>();
  /** Calls under way whose answer others may take. */
  private readonly pending = new Map<string, Later<Decision>>();

  constructor(parts: WebhooksParts) {
    this.parts = parts;
  }

  /** Adds to the end of its hook's chain; false: that endpoint is registered for it already. */
  register(spec: WebhookSpec): boolean {
    const { hook, endpoint: url } = spec;
    const chain = this.chains.get(hook) ?? [];
    if (chain.some((one) => one.spec.endpoint === url)) return false;
    const { limits, cache, metrics, log } = this.parts;
    const endpoint = this.endpoints.get(url) ?? new Endpoint(url, limits);
    this.endpoints.set(url, endpoint);
    endpoint.users++;
    const target = cache.target(hook, url);
    const registration = new Registration(spec, { endpoint, cache: target, metrics, log });
    this.chains.set(hook, [...chain, registration]);
    if (chain.length === 0) this.parts.onChange();
    return true;
  }

  /** Calls under way still get their answer; what was kept of it goes. */
  deregister(hook: WebhookHook, url: string): boolean {
    const chain = this.chains.get(hook) ?? [];
    const found = chain.find((one) => one.spec.endpoint === url);
    if (found === undefined) return false;
    const left = chain.filter((one) => one !== found);
    if (left.length > 0) this.chains.set(hook, left);
    else this.chains.delete(hook);
    this.parts.cache.purge({ hook, endpoint: url });
    const { endpoint } = found;
    endpoint.users--;
    if (endpoint.users === 0) {
      this.endpoints.delete(url);
      this.lost(endpoint, endpoint.close(false));
    }
    if (left.length === 0) this.parts.onChange();
    return true;
  }

  /** Every registration, by hook in the order they are asked. */
  list(): Registration[] {
    return WEBHOOKS.flatMap(({ hook }) => this.chains.get(hook) ?? []);
  }

  get queuedEvents(): number {
    return this.sum(({ events }) => events.length);
  }

  get pendingCalls(): number {
    return this.sum(({ pending }) => pending);
  }

  /** Settings of connections have changed. */
  renewPools(): void {
    for (const endpoint of this.endpoints.values()) endpoint.renew();
  }

  close(): void {
    for (const endpoint of this.endpoints.values()) this.lost(endpoint, endpoint.close(true));
    this.endpoints.clear();
    this.chains.clear();
  }

  /** A function for each hook that somebody is registered for. */
  hooks(): PluginHookTable {
    const table: Record<string, (args: AnyArgs) => unknown> = {};
    for (const { hook, kind } of WEBHOOKS) {
      if (!this.chains.has(hook)) continue;
      table[hook] =
        kind === "decides"
          ? (args) => this.ask(this.chains.get(hook) ?? [], args, 0)
          : (args) => this.tell(this.chains.get(hook) ?? [], args);
    }
    return table as PluginHookTable;
  }

  private sum(of: (endpoint: Endpoint) => number): number {
    let total = 0;
    for (const endpoint of this.endpoints.values()) total += of(endpoint);
    return total;
  }

  private lost(endpoint: Endpoint, events: number): void {
    if (events === 0) return;
    this.parts.metrics.eventsDropped.increment(events);
    this.parts.log.warn("webhook events lost, the endpoint is no longer registered", {
      endpoint: withoutPassword(endpoint.url),
      events,
    });
  }

  // ---- events

  private tell(chain: readonly Registration[], args: AnyArgs): void {
    for (const registration of chain) {
      const { options, spec } = registration;
      try {
        const body = bodyOf(spec.hook, args as never, options);
        const isFree = MESSAGE_EVENTS.has(spec.hook) && !options.isOrdered;
        const { mountpoint, client_id } = args.subscriber_id;
        registration.tell(body, isFree ? undefined : `${mountpoint}\0${client_id}`);
      } catch (error) {
        if (!(error instanceof NotText)) throw error;
        registration.failed("not_utf8", error.message);
      }
    }
  }

  // ---- decisions

  /** Asks one endpoint after the other until one answers something else than `next`. */
  private ask(chain: readonly Registration[], args: AnyArgs, from: number): Answered {
    for (let i = from; i < chain.length; i++) {
      const answer = this.decide(chain[i] as Registration, args);
      if (answer instanceof Later) {
        return i === chain.length - 1 ? answer : this.goOn(chain, args, i + 1, answer);
      }
      if (answer !== "next") return answer;
    }
    return "next";
  }

  private goOn(
    chain: readonly Registration[],
    args: AnyArgs,
    from: number,
    pending: Later<AnyVerdict>,
  ): Later<AnyVerdict> {
    const whole = new Later<AnyVerdict>();
    pending.then((verdict) => {
      const rest = verdict === "next" ? this.ask(chain, args, from) : verdict;
      if (rest instanceof Later) rest.then((late) => whole.settle(late));
      else whole.settle(rest);
    });
    return whole;
  }

  /** At once from the cache, else by a request. */
  private decide(registration: Registration, args: AnyArgs): Answered {
    const { cache, metrics } = this.parts;
    const { row, cache: target } = registration;
    if (!row.isCached || !cache.isOn) return verdictOf(this.request(registration, args, undefined));
    // Nothing is kept of an endpoint that never says how long: no need to look.
    if (registration.isCaching === false && target.entries === 0) {
      target.misses++;
      metrics.cacheMisses.increment();
      return verdictOf(this.request(registration, args, undefined));
    }
    const known = recall(registration, args);
    if (known !== undefined) {
      target.hits++;
      metrics.cacheHits.increment();
      return known;
    }
    const key = cache.keyOf(target, args as never);
    const entry = cache.get(key);
    if (entry !== undefined) {
      target.hits++;
      metrics.cacheHits.increment();
      remember(registration, args, entry);
      return entry.verdict;
    }
    target.misses++;
    metrics.cacheMisses.increment();
    const running = this.pending.get(key);
    if (running !== undefined) return this.share(registration, args, key, running);
    const started = this.request(registration, args, key);
    if (started instanceof Later) {
      this.pending.set(key, started);
      started.then(() => this.pending.delete(key));
    }
    return verdictOf(started);
  }

  /** An equal call is under way: its answer will do if it may be kept, else this one is made, too. */
  private share(
    registration: Registration,
    args: AnyArgs,
    key: string,
    running: Later<Decision>,
  ): Later<AnyVerdict> {
    const shared = new Later<AnyVerdict>();
    running.then(({ verdict, isKept }) => {
      if (isKept) {
        this.parts.metrics.shared.increment();
        shared.settle(verdict);
        return;
      }
      const own = verdictOf(this.request(registration, args, key));
      if (own instanceof Later) own.then((late) => shared.settle(late));
      else shared.settle(own);
    });
    return shared;
  }

  private request(
    registration: Registration,
    args: AnyArgs,
    key: string | undefined,
  ): Decision | Later<Decision> {
    let body: () => string;
    try {
      body = bodyLater(registration, args);
    } catch (error) {
      if (!(error instanceof NotText)) throw error;
      registration.failed("not_utf8", error.message);
      return { verdict: onError(registration, "not_utf8"), isKept: false };
    }
    const later = new Later<Decision>();
    const asked: Asked = { registration, args, key, purges: this.parts.cache.purges };
    const { signal } = args;
    let cancel: (() => void) | undefined;
    let atOnce: Decision | undefined;
    const exchange = registration.ask(body, (answer) => {
      if (cancel !== undefined) signal?.removeEventListener("abort", cancel);
      atOnce = this.judge(asked, answer);
      later.settle(atOnce);
    });
    // Whoever asks must not be called back while it is still asking.
    if (atOnce !== undefined) return atOnce;
    if (signal !== undefined && exchange !== undefined) {
      cancel = () => exchange.cancel();
      if (signal.aborted) cancel();
      else signal.addEventListener("abort", cancel, { once: true });
    }
    return later;
  }

  /** What an answer means; what may be kept is. */
  private judge(asked: Asked, answer: Response | CallFailure): Decision {
    const { registration } = asked;
    const { spec, options } = registration;
    const fail = (name: string, reason: string): Decision => {
      registration.failed(name, reason);
      return { verdict: onError(registration, name), isKept: false };
    };
    if ("name" in answer) {
      if (answer.kind !== "cancelled") return fail(answer.name, answer.reason);
      return { verdict: { error: answer.name }, isKept: false };
    }
    if (answer.status !== 200) {
      return fail("invalid_response_code", `HTTP status ${answer.status}, not 200`);
    }
    const read = readAnswer(spec.hook as ConditionalHook, answer.body, options.base64);
    if ("malformed" in read) {
      registration.all.malformed.increment();
      const { field, reason } = read.malformed;
      const name = field === "body" ? "received_payload_not_json" : "malformed_answer";
      return fail(name, `${field} ${reason}`);
    }
    const { verdict, warning } = read;
    if (warning !== undefined) registration.warn("webhook answer with a fault", { ...warning });
    if (typeof verdict === "object" && "error" in verdict) registration.refused(verdict.error);
    return { verdict, isKept: this.keep(asked, answer, verdict) };
  }

  private keep(
    { registration, args, key, purges }: Asked,
    answer: Response,
    verdict: AnyVerdict,
  ): boolean {
    const { cache } = this.parts;
    const { row, options, cache: target } = registration;
    if (!row.isCached || !cache.isOn) return false;
    const isOk = verdict === "ok" || (typeof verdict === "object" && "ok" in verdict);
    const ms = isOk ? maxAgeS(answer.cacheControl) * 1000 : options.negativeCacheMs;
    if (isOk && options.negativeCacheMs === 0) registration.isCaching = ms > 0;
    // A payload belongs to the message it was made for.
    if (ms === 0 || changesPayload(verdict) || purges !== cache.purges) return false;
    const { client_id } = args.subscriber_id;
    const entryKey = key ?? cache.keyOf(target, args as never);
    remember(registration, args, cache.set(entryKey, target, client_id, verdict, ms));
    return true;
  }
}

/**
 * Messages are there until they are decided, so their bodies are made when they go out; that of a client
 * that connects is made at once, and so is one that may not be made at all.
 */
function bodyLater({ spec, options }: Registration, args: AnyArgs): () => string {
  if (spec.hook.startsWith("auth_on_publish") && options.notUtf8 !== "deny") {
    return () => bodyOf(spec.hook, args as never, options);
  }
  const body = bodyOf(spec.hook, args as never, options);
  return () => body;
}

function verdictOf(decision: Decision | Later<Decision>): Answered {
  if (!(decision instanceof Later)) return decision.verdict;
  const later = new Later<AnyVerdict>();
  decision.then(({ verdict }) => later.settle(verdict));
  return later;
}

/** What a failed call means for the client. */
function onError({ options }: Registration, name: string): AnyVerdict {
  return options.onError === "deny" ? { error: name } : options.onError;
}

function changesPayload(verdict: AnyVerdict): boolean {
  return typeof verdict === "object" && "ok" in verdict && "payload" in verdict.ok;
}

/** A message without properties: all that its answer is kept by is in a memo. */
function isPlainPublish(hook: WebhookHook, args: AnyArgs): boolean {
  if (hook === "auth_on_publish") return true;
  if (hook !== "auth_on_publish_m5") return false;
  return Object.keys((args as unknown as PublishM5Args).properties).length === 0;
}

/** The answer to the client's last publish if this one is alike: no key has to be made for it. */
function recall({ spec, cache }: Registration, args: AnyArgs): AnyVerdict | undefined {
  if (!isPlainPublish(spec.hook, args)) return undefined;
  const { topic, qos, retain, username } = args as unknown as PublishArgs;
  const memo = cache.memo.get(args.subscriber_id);
  if (memo === undefined || memo.topic !== topic || memo.qos !== qos) return undefined;
  if (memo.retain !== retain || memo.username !== username) return undefined;
  const { entry } = memo;
  return entry.isGone || entry.expiresAtMs <= performance.now() ? undefined : entry.verdict;
}

function remember({ spec, cache }: Registration, args: AnyArgs, entry: Entry): void {
  if (!isPlainPublish(spec.hook, args)) return;
  const { topic, qos, retain, username } = args as unknown as PublishArgs;
  cache.memo.set(args.subscriber_id, { topic, qos, retain, username, entry });
}
