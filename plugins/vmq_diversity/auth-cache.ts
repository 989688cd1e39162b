/**
 * `auth_cache` on the broker's thread: ACLs that register hooks gave answer publish, subscribe and
 * unsubscribe checks at once, without any script.
 */
import type {
  HookAnswers,
  HookProperties,
  PluginHookArgs,
  PublishModifiers,
  SessionContext,
  SubscriberId,
  SubscriptionDecision,
  SubscriptionInfo,
  Verdict,
} from "../../core/plugin-api.ts";
import { publishAnswer, REFUSED, type Rule } from "./acl.ts";
import type { CacheInsert, CacheMatch, PublishChange } from "./acl-rule.ts";
import type { AclOwner } from "./acl-tree.ts";
import { CacheEntries, type CacheEntry, type CacheParts } from "./cache-entries.ts";
import { type CacheRow, type RuleRow, rowOf, rulesOf } from "./cache-rows.ts";
import type { ServiceCall } from "./services.ts";

/** Inserts that wait for the verdicts of their hook calls. Each call has one or two. */
const STAGED_CALLS_MAX = 100_000;
const STAGED_PER_CALL_MAX = 8;

type PublishCheck = PluginHookArgs<"auth_on_publish"> & { readonly properties?: HookProperties };
type SubscribeCheck = PluginHookArgs<"auth_on_subscribe">;
type UnsubscribeCheck = PluginHookArgs<"on_unsubscribe">;

/** Where a session's context has its entry: quicker than a WeakMap, and as hidden. */
const ENTRY = Symbol("vmq_diversity.auth_cache");

/** As in the modifier `subscriber_id`: without mountpoint that of the hook call stays. */
export interface FinalId {
  readonly client_id: string;
  readonly mountpoint?: string;
}

export interface CacheMetrics {
  readonly entries: number;
  readonly bytes: number;
  readonly hits: number;
  readonly misses: number;
  readonly evictions: number;
}

/** The cache of a broker. */
export class AuthCache {
  private readonly entries: CacheEntries;
  private readonly staged = new Map<number, { entry: CacheEntry; args: RegisterCall }[]>();
  /** Sessions that ended without a hook, such as those refused after their register hook. */
  private readonly gone = new FinalizationRegistry<CacheEntry>((entry) => this.entries.drop(entry));
  private hits = 0;
  private misses = 0;

  constructor(parts: CacheParts) {
    this.entries = new CacheEntries(parts, (entry) => this.unbind(entry));
  }

  /** Numbers of now; hits, misses and evictions since the start. */
  get metrics(): CacheMetrics {
    const { hits, misses } = this;
    const { size: entries, bytes, evictions } = this.entries;
    return { entries, bytes, hits, misses, evictions };
  }

  // ---- checks

  /** auth_on_publish(_m5). Undefined: no entry, the scripts decide. */
  publish(args: PublishCheck, isV5: boolean): Verdict<PublishModifiers> | undefined {
    const entry = this.find(args.context, args.subscriber_id);
    if (entry === undefined) return undefined;
    const rule = entry.publish.publishRule(args);
    return rule === undefined ? REFUSED : publishAnswer(rule, args, isV5);
  }

  /**
   * auth_on_subscribe(_m5). As in VerneMQ one forbidden filter refuses the whole packet. A rule's modifiers
   * stand where the request stood; what they have beyond one follows behind all requests.
   */
  subscribe(
    args: SubscribeCheck,
    isV5: boolean,
  ): Verdict<HookAnswers["auth_on_subscribe"] & HookAnswers["auth_on_subscribe_m5"]> | undefined {
    const entry = this.find(args.context, args.subscriber_id);
    if (entry === undefined) return undefined;
    const { topics } = args;
    const rules: Rule[] = [];
    for (const { topic, qos } of topics) {
      const rule = entry.subscribe.subscribeRule(topic, qos);
      if (rule === undefined) return REFUSED;
      rules.push(rule);
    }
    if (rules.every((rule) => rule.subscribe === undefined)) return "ok";
    const decisions: SubscriptionDecision[] = [];
    const more: SubscriptionDecision[] = [];
    for (const [i, asked] of topics.entries()) {
      const [first, ...rest] = subscribeDecisions(rules[i] as Rule, asked, isV5);
      if (first !== undefined) decisions.push(first);
      more.push(...rest);
    }
    return { ok: decisions.concat(more) };
  }

  /** on_unsubscribe(_m5): the filters that subscribe modifiers of the same rules made. */
  unsubscribe(
    args: UnsubscribeCheck,
  ): Verdict<HookAnswers["on_unsubscribe"] & HookAnswers["on_unsubscribe_m5"]> | undefined {
    const entry = this.find(args.context, args.subscriber_id);
    if (entry === undefined) return undefined;
    const topics: string[] = [];
    const more: string[] = [];
    let isChanged = false;
    for (const topic of args.topics) {
      const made = entry.subscribe.subscribeRule(topic, 0)?.subscribe ?? [];
      const [first = topic, ...rest] = made
        .filter(({ qos }) => Number(qos) < 3)
        .map((one) => one.topic);
      topics.push(first);
      more.push(...rest);
      isChanged ||= first !== topic || rest.length > 0;
    }
    return isChanged ? { ok: topics.concat(more) } : "ok";
  }

  /** `auth_cache.match_publish`: true, false, or the modifiers as a script wrote them. */
  matchPublish(asked: CacheMatch, from?: ServiceCall): boolean | object {
    const { topic, qos, retain, payloadBytes } = asked;
    const payload = { length: payloadBytes };
    const rule = this.named(asked, from)?.publish.publishRule({ topic, qos, retain, payload });
    if (rule === undefined) return false;
    return rule.source.publish === undefined ? true : scriptChange(rule.source.publish);
  }

  /** `auth_cache.match_subscribe`: likewise; modifiers are a list of { topic, qos }. */
  matchSubscribe(asked: CacheMatch, from?: ServiceCall): boolean | readonly (string | number)[][] {
    const rule = this.named(asked, from)?.subscribe.subscribeRule(asked.topic, asked.qos);
    if (rule === undefined) return false;
    return rule.source.subscribe?.map(({ topic, qos }) => [topic, qos]) ?? true;
  }

  // ---- life of entries

  /**
   * `auth_cache.insert`. During a register hook the entry waits for `settle`; during another hook of
   * the client it replaces that of its session; else it counts for whoever has the client id.
   */
  insert(given: CacheInsert, from: ServiceCall): void {
    const entry = this.entries.make(given, from.script);
    const { args } = from;
    if (isRegisterCall(args)) this.stage(from.id, args, entry);
    else if (isSessionCall(args) && isOf(entry, args.subscriber_id)) this.bind(args.context, entry);
    else this.entries.add(entry);
  }

  /**
   * Ends a register hook call. With the id that the session will have (the client's, or that of a
   * modifier) the call's entries are in force at once, for the will too; without one they are dropped.
   * Call it also with the id when the scripts said `next`: the entry ends with the session.
   */
  settle(callId: number, subscriberId: FinalId | undefined): void {
    const staged = this.staged.get(callId);
    if (staged === undefined) return;
    this.staged.delete(callId);
    for (const { entry, args } of staged) {
      if (subscriberId === undefined) {
        this.entries.release(entry);
        continue;
      }
      const final: SubscriberId = {
        mountpoint: subscriberId.mountpoint ?? args.subscriber_id.mountpoint,
        client_id: subscriberId.client_id,
      };
      if (isOf(entry, args.subscriber_id) || isOf(entry, final)) {
        entry.mountpoint = final.mountpoint;
        entry.clientId = final.client_id;
        this.bind(args.context, entry);
      } else this.entries.add(entry);
    }
  }

  /** on_client_offline, on_client_gone (with the session's context) and on_session_expired. */
  forget(args: { readonly subscriber_id: SubscriberId; readonly context?: SessionContext }): void {
    if (this.entries.size === 0) return;
    const own = args.context === undefined ? undefined : entryOf(args.context);
    if (own !== undefined) this.entries.drop(own);
    if (this.entries.unbound === 0) return;
    const loose = this.entries.unboundOf(
      args.subscriber_id.mountpoint,
      args.subscriber_id.client_id,
    );
    if (loose !== undefined) this.entries.drop(loose);
  }

  /** Drops the entries of a client id, or all. Gives their number; the scripts are asked from then on. */
  clear(clientId?: string): number {
    const entries = [...this.entries.select(clientId)];
    for (const entry of entries) this.entries.drop(entry);
    return entries.length;
  }

  /** What is there, of one client id or of all up to `max`. */
  show(clientId?: string, max = Number.POSITIVE_INFINITY): CacheRow[] {
    const rows: CacheRow[] = [];
    for (const entry of this.entries.select(clientId)) {
      if (rows.length >= max) break;
      rows.push(rowOf(entry));
    }
    return rows;
  }

  /** The rules of a client id's entries, patterns with its values; `nothing` for one that cannot match. */
  rules(clientId: string): RuleRow[] {
    return [...this.entries.select(clientId)].flatMap(rulesOf);
  }

  // ---- inside

  /** The newest of the session's entry and that of its id. Counts. */
  private find(context: SessionContext, id: SubscriberId): CacheEntry | undefined {
    let entry = this.entries.size === 0 ? undefined : entryOf(context);
    if (this.entries.unbound > 0) {
      const loose = this.entries.unboundOf(id.mountpoint, id.client_id);
      if (loose !== undefined && loose.order > (entry?.order ?? -1)) entry = loose;
    }
    if (entry === undefined) {
      this.misses++;
      return undefined;
    }
    this.hits++;
    entry.hits++;
    entry.isUsed = true;
    return entry;
  }

  /** For questions of scripts: what the running call inserted, else the newest of the id. */
  private named(asked: CacheMatch, from: ServiceCall | undefined): CacheEntry | undefined {
    const { mountpoint, clientId } = asked;
    const id = { mountpoint, client_id: clientId };
    const own = this.staged.get(from?.id ?? 0)?.findLast(({ entry }) => isOf(entry, id));
    return own?.entry ?? this.entries.newest(mountpoint, clientId);
  }

  private stage(callId: number, args: RegisterCall, entry: CacheEntry): void {
    const staged = this.staged.get(callId) ?? [];
    this.staged.set(callId, staged);
    staged.push({ entry, args });
    const [first] = staged;
    if (staged.length > STAGED_PER_CALL_MAX && first !== undefined) {
      staged.shift();
      this.entries.release(first.entry);
    }
    const [oldest] = this.staged;
    if (this.staged.size <= STAGED_CALLS_MAX || oldest === undefined) return;
    this.settle(oldest[0], undefined);
  }

  private bind(context: SessionContext, entry: CacheEntry): void {
    const replaced = entryOf(context);
    if (replaced !== undefined) this.entries.drop(replaced);
    setEntry(context, entry);
    this.gone.register(context, entry, entry);
    entry.session = new WeakRef(context);
    this.entries.add(entry);
  }

  /** An entry went out of force. */
  private unbind(entry: CacheEntry): void {
    const context = entry.session?.deref();
    if (context !== undefined) setEntry(context, undefined);
    this.gone.unregister(entry);
  }
}

type WithEntry = { [ENTRY]?: CacheEntry | undefined };

function entryOf(context: SessionContext): CacheEntry | undefined {
  return (context as WithEntry)[ENTRY];
}

/** Never deleted: that would make the object slow for all plugins. */
function setEntry(context: SessionContext, entry: CacheEntry | undefined): void {
  (context as WithEntry)[ENTRY] = entry;
}

interface SessionCall {
  readonly subscriber_id: SubscriberId;
  readonly context: SessionContext;
}

/** Of auth_on_register or auth_on_register_m5. */
interface RegisterCall extends SessionCall {
  readonly password: Buffer | undefined;
}

function isSessionCall(args: object | undefined): args is SessionCall {
  return args !== undefined && "subscriber_id" in args && "context" in args;
}

function isRegisterCall(args: object | undefined): args is RegisterCall {
  return isSessionCall(args) && ("clean_session" in args || "clean_start" in args);
}

function isOf({ mountpoint, clientId }: AclOwner, id: SubscriberId): boolean {
  return clientId === id.client_id && mountpoint === id.mountpoint;
}

/** What becomes of one requested topic. The first stands in its place. */
function subscribeDecisions(
  rule: Rule,
  asked: SubscriptionInfo,
  isV5: boolean,
): readonly SubscriptionDecision[] {
  if (rule.subscribe === undefined) return [{ topic: asked.topic, qos: asked.qos }];
  if (!isV5) return rule.subscribe.map(({ topic, qos }) => ({ topic, qos }));
  const { topic: _, qos: __, ...options } = asked;
  return rule.subscribe.map((one) => ({ ...options, ...one }));
}

/** Modifiers for a script: bytes as bytes. */
function scriptChange({ payload, properties, ...fields }: PublishChange): object {
  const data = properties?.p_correlation_data;
  const bytes = (text: string): Uint8Array => new Uint8Array(Buffer.from(text, "base64"));
  return {
    ...fields,
    ...(payload === undefined ? {} : { payload: bytes(payload) }),
    ...(properties === undefined ? {} : { properties }),
    ...(data === undefined
      ? {}
      : { properties: { ...properties, p_correlation_data: bytes(data) } }),
  };
}
