import type { HookArgs, Logger, SubscriberId, Verdict } from "../../core/plugin-api.ts";
import { type AclRule, publishRule, readAcl, subscribeRule } from "./auth-rules.ts";
import type { ServiceCall, Services } from "./services.ts";
import { type ClonedTable, type ClonedValue, plain, verdictOfTable } from "./verdicts.ts";

/** What is cached for one client. */
interface Entry {
  /** Until its session is accepted what the script said, then what the session has. */
  mountpoint: string;
  clientId: string;
  readonly username: string;
  readonly publish: readonly AclRule[];
  readonly subscribe: readonly AclRule[];
  /** Clients repeat their topics: what was asked last, and the rule for it. */
  last: { topic: string; qos: number; retain: boolean; rule: AclRule | undefined } | undefined;
}

export interface CacheOptions {
  readonly log: Logger;
  /** `topic_max_depth` */
  readonly depthMax: number;
  /** `vmq_diversity.auth_cache_size`: entries; the oldest goes. */
  readonly entriesMax: number;
}

export interface CacheRow {
  readonly client_id: string;
  readonly mountpoint: string;
  readonly username: string;
  readonly publish_acl: string;
  readonly subscribe_acl: string;
}

type AnyVerdict = Verdict<never>;
type WithContext = { readonly context?: object };

const REFUSED: AnyVerdict = { error: "not_authorized" };

/**
 * ACLs that scripts put in while a client registers; they answer its publish and subscribe checks here,
 * at once and without Lua. An entry belongs to the session whose register hook made it and goes with
 * that session; one that a script inserts at another time belongs to the client until it leaves.
 */
export class AuthCache {
  private readonly options: CacheOptions;
  private readonly sessions = new WeakMap<object, Entry>();
  /** By client, oldest first: for entries without a session, and to show and bound all. */
  private readonly byClient = new Map<
    string,
    { entry: Entry; session: WeakRef<object> | undefined }
  >();
  /** Inserted by a register hook that has not answered yet, by call. */
  private readonly staged = new Map<number, { entry: Entry; session: object | undefined }>();
  hits = 0;
  misses = 0;
  evictions = 0;

  constructor(options: CacheOptions) {
    this.options = options;
  }

  get entries(): number {
    return this.byClient.size;
  }

  /** What the `auth_cache` library asks for. */
  services(): Services {
    return {
      "auth_cache.insert": (args, from) => this.insert(args as InsertArgs, from),
      "auth_cache.match_publish": (args) => this.matchPublish(args as MatchArgs),
      "auth_cache.match_subscribe": (args) => this.matchSubscribe(args as MatchArgs),
    };
  }

  private insert(given: InsertArgs, from: ServiceCall): true {
    const { mountpoint, clientId, username } = given;
    const read = (acl: ClonedValue, name: string): AclRule[] =>
      readAcl(acl, given, {
        depthMax: this.options.depthMax,
        fault: (key, reason) =>
          this.options.log.warn("rule of an ACL is not valid: what it matches is refused", {
            script: from.script,
            client_id: clientId,
            key: `${name}${key}`,
            reason,
          }),
      });
    const entry: Entry = {
      mountpoint,
      clientId,
      username,
      publish: read(given.publish, "publish_acl"),
      subscribe: read(given.subscribe, "subscribe_acl"),
      last: undefined,
    };
    const session = registeringSession(from, mountpoint, clientId);
    if (session === undefined) this.keep(entry, undefined);
    else this.staged.set(from.id, { entry, session });
    return true;
  }

  /** A register hook has answered: its entry counts for the client it accepted, or is forgotten. */
  settle(call: number, id: SubscriberId | undefined): void {
    const staged = this.staged.get(call);
    if (staged === undefined) return;
    this.staged.delete(call);
    if (id === undefined) return;
    const { entry, session } = staged;
    entry.mountpoint = id.mountpoint;
    entry.clientId = id.client_id;
    this.keep(entry, session);
  }

  private keep(entry: Entry, session: object | undefined): void {
    const key = keyOf(entry.mountpoint, entry.clientId);
    this.byClient.delete(key);
    this.byClient.set(key, { entry, session: session && new WeakRef(session) });
    if (session !== undefined) this.sessions.set(session, entry);
    if (this.byClient.size <= this.options.entriesMax) return;
    for (const [oldest, { session: of }] of this.byClient) {
      const owner = of?.deref();
      if (owner !== undefined) this.sessions.delete(owner);
      this.byClient.delete(oldest);
      this.evictions++;
      return;
    }
  }

  /** A client has left, or its session has expired. */
  forget(args: { readonly subscriber_id: SubscriberId } & WithContext): void {
    const { mountpoint, client_id } = args.subscriber_id;
    const key = keyOf(mountpoint, client_id);
    const kept = this.byClient.get(key);
    if (kept === undefined) return;
    // After a takeover the key is the new session's.
    const owner = kept.session?.deref();
    const isOther = owner !== undefined && args.context !== undefined && owner !== args.context;
    if (isOther) return;
    if (owner !== undefined) this.sessions.delete(owner);
    this.byClient.delete(key);
  }

  private find(args: { readonly subscriber_id: SubscriberId } & WithContext): Entry | undefined {
    if (this.byClient.size === 0) return undefined;
    const { context, subscriber_id: id } = args;
    const own = context === undefined ? undefined : this.sessions.get(context);
    const entry = own ?? this.withoutSession(id);
    if (entry === undefined) this.misses++;
    else this.hits++;
    return entry;
  }

  private withoutSession({ mountpoint, client_id }: SubscriberId): Entry | undefined {
    const kept = this.byClient.get(keyOf(mountpoint, client_id));
    return kept?.session === undefined ? kept?.entry : undefined;
  }

  // ---- checks; undefined: nothing is cached for the client, ask the scripts

  publish(
    args: HookArgs["auth_on_publish_m5"] & WithContext,
    isV5: boolean,
  ): AnyVerdict | undefined {
    const entry = this.find(args);
    if (entry === undefined) return undefined;
    const rule = ruleOf(entry, args);
    if (rule === undefined) return REFUSED;
    if (rule.modifiers === undefined) return "ok";
    const hook = isV5 ? "auth_on_publish_m5" : "auth_on_publish";
    const modifiers = isV5 ? rule.modifiers : withoutProperties(rule.modifiers);
    return verdictOfTable(hook, modifiers, isV5 ? args.properties : undefined);
  }

  subscribe(
    args: HookArgs["auth_on_subscribe_m5"] & WithContext,
    isV5: boolean,
  ): AnyVerdict | undefined {
    const entry = this.find(args);
    if (entry === undefined) return undefined;
    const topics: object[] = [];
    let isChanged = false;
    for (const asked of args.topics) {
      const rule = subscribeRule(entry.subscribe, asked.topic, asked.qos);
      // As in VerneMQ one forbidden filter refuses all of the packet.
      if (rule === undefined) return REFUSED;
      if (rule.modifiers === undefined) topics.push(asked);
      else {
        isChanged = true;
        const { topic: _, qos: __, ...options } = asked;
        topics.push(...pairs(rule.modifiers).map((pair) => ({ ...options, ...pair })));
      }
    }
    if (!isChanged) return "ok";
    return { ok: (isV5 ? { topics } : topics) as never };
  }

  unsubscribe(
    args: HookArgs["on_unsubscribe_m5"] & WithContext,
    isV5: boolean,
  ): AnyVerdict | undefined {
    const entry = this.find(args);
    if (entry === undefined) return undefined;
    let isChanged = false;
    const topics = args.topics.flatMap((topic) => {
      const modifiers = subscribeRule(entry.subscribe, topic, 0)?.modifiers;
      if (modifiers === undefined) return [topic];
      isChanged = true;
      return pairs(modifiers).map((pair) => pair.topic);
    });
    if (!isChanged) return "ok";
    return { ok: (isV5 ? { topics } : topics) as never };
  }

  // ---- test helpers of the library

  private entryOf({ mountpoint, clientId }: MatchArgs): Entry | undefined {
    for (const { entry } of this.staged.values()) {
      if (entry.mountpoint === mountpoint && entry.clientId === clientId) return entry;
    }
    return this.byClient.get(keyOf(mountpoint, clientId))?.entry;
  }

  private matchPublish(args: MatchArgs): unknown {
    const { topic, qos, payload, retain = false } = args;
    const rules = this.entryOf(args)?.publish ?? [];
    const rule = publishRule(rules, { topic, qos, payloadBytes: payload?.length ?? 0, retain });
    return rule === undefined ? false : (rule.modifiers ?? true);
  }

  private matchSubscribe(args: MatchArgs): unknown {
    const rule = subscribeRule(this.entryOf(args)?.subscribe ?? [], args.topic, args.qos);
    return rule === undefined ? false : (rule.modifiers ?? true);
  }

  // ---- for the operator

  show(clientId?: string): CacheRow[] {
    const rows: CacheRow[] = [];
    for (const { entry } of this.byClient.values()) {
      if (clientId !== undefined && entry.clientId !== clientId) continue;
      rows.push({
        client_id: entry.clientId,
        mountpoint: entry.mountpoint,
        username: entry.username,
        publish_acl: entry.publish.map(shown).join(", "),
        subscribe_acl: entry.subscribe.map(shown).join(", "),
      });
    }
    return rows;
  }
}

interface InsertArgs {
  readonly mountpoint: string;
  readonly clientId: string;
  readonly username: string;
  readonly publish: ClonedValue;
  readonly subscribe: ClonedValue;
}

interface MatchArgs {
  readonly mountpoint: string;
  readonly clientId: string;
  readonly topic: string;
  readonly qos: number;
  readonly payload?: Uint8Array;
  readonly retain?: boolean;
}

function keyOf(mountpoint: string, clientId: string): string {
  return mountpoint === "" ? clientId : `${mountpoint}\0${clientId}`;
}

/** The session that registers while a script inserts for its client. */
function registeringSession(
  { args }: ServiceCall,
  mountpoint: string,
  clientId: string,
): object | undefined {
  if (args === undefined || !("peer" in args)) return undefined;
  const { subscriber_id: id, context } = args as HookArgs["auth_on_register"] & WithContext;
  if (id.mountpoint !== mountpoint || id.client_id !== clientId) return undefined;
  return context;
}

function ruleOf(entry: Entry, args: HookArgs["auth_on_publish"]): AclRule | undefined {
  const { topic, qos, retain } = args;
  const { last } = entry;
  if (last?.topic === topic && last.qos === qos && last.retain === retain) return last.rule;
  // The payload is made when it is looked at: only a rule that asks for its size needs it.
  const isSized = entry.publish.some((rule) => rule.maxPayloadBytes < PAYLOAD_BYTES_ANY);
  const payloadBytes = isSized ? args.payload.length : 0;
  const rule = publishRule(entry.publish, { topic, qos, payloadBytes, retain });
  if (!isSized) entry.last = { topic, qos, retain, rule };
  return rule;
}

/** Limits from here on allow every MQTT payload. */
const PAYLOAD_BYTES_ANY = 268_435_455;

/** MQTT 3 has none. */
function withoutProperties(table: ClonedTable): ClonedTable {
  if (!table.hash.has("properties")) return table;
  const hash = new Map(table.hash);
  hash.delete("properties");
  return { array: table.array, hash };
}

/** `{{topic, qos}, ...}` */
function pairs({ array }: ClonedTable): { topic: string; qos: number | string }[] {
  return array.map((pair) => {
    const [topic, qos] = (plain(pair, false) ?? []) as [string, number | string];
    return { topic, qos };
  });
}

function shown(rule: AclRule): string {
  if (rule.pattern === undefined) return "(nothing)";
  const parts = [rule.pattern];
  if (rule.isInvalid) parts.push("refused");
  if (rule.maxQos < 2) parts.push(`qos<=${rule.maxQos}`);
  if (rule.maxPayloadBytes < PAYLOAD_BYTES_ANY) parts.push(`size<=${rule.maxPayloadBytes}`);
  if (!rule.allowedRetain) parts.push("no retain");
  if (rule.modifiers !== undefined) parts.push("modified");
  return parts.join(" ");
}
