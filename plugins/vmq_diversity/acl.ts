/** ACLs of `auth_cache`, compiled once per content, and what they decide. */
import {
  contains,
  type HookProperties,
  matches,
  type PublishM5Args,
  type PublishModifiers,
  parseShared,
  type SubscriptionDecision,
  type Verdict,
  validateFilter,
} from "../../core/plugin-api.ts";
import type { AclRule, PublishChange, RuleFault } from "./acl-rule.ts";

/** More no packet can carry. */
const PAYLOAD_ANY = 268_435_456;
/** A client's last topic is kept with its ACL unless it is longer. */
export const KEPT_TOPIC_CHARS = 200;
const NO_RULES: readonly Rule[] = [];

/** Answer for what no rule allows. */
export const REFUSED = { error: "not_authorized" } as const;

/** Whose values stand in for `%m`, `%c` and `%u`. */
export interface AclOwner {
  readonly mountpoint: string;
  readonly clientId: string;
  readonly username: string;
}

/** A rule as it is asked. */
export interface Rule {
  readonly source: AclRule;
  /** Filter of a pattern that is the same for all clients; undefined: see `levels`. */
  readonly filter: string | undefined;
  /** Levels of a pattern in which values of the client stand. */
  readonly levels: readonly string[] | undefined;
  /** It refuses what it covers: the script's rule cannot be used. */
  readonly isInvalid: boolean;
  readonly maxQos: number;
  readonly payloadBytesMax: number;
  readonly allowsRetain: boolean;
  /** Answer to a publish, without properties. */
  readonly publish: "ok" | { ok: PublishModifiers };
  readonly properties: HookProperties | undefined;
  readonly subscribe: readonly SubscriptionDecision[] | undefined;
}

/** One list of rules. Shared by all clients whose script gave the same. */
export class Acl {
  readonly text: string;
  readonly rules: readonly Rule[];
  /** Filters by rule where they are the same for all clients. */
  readonly filters: readonly (string | undefined)[];
  /** Some pattern has values of the client in it. */
  readonly isFilled: boolean;
  /** The first rule that cannot be used, counted from 1 as scripts do. */
  readonly fault: (RuleFault & { readonly rule: number }) | undefined;
  /** Lists of clients that use it. */
  users = 0;

  constructor(text: string, topicMaxDepth: number) {
    this.text = text;
    const rules = (JSON.parse(text) as AclRule[]).map((rule) => compile(rule, topicMaxDepth));
    this.rules = rules;
    this.filters = rules.map(({ filter }) => filter);
    this.isFilled = rules.some(({ levels }) => levels !== undefined);
    const index = rules.findIndex(({ source }) => source.fault !== undefined);
    const fault = rules[index]?.source.fault;
    this.fault = fault === undefined ? undefined : { ...fault, rule: index + 1 };
  }
}

/** An ACL with the values of one client. */
export class OwnedAcl {
  readonly acl: Acl;
  /** By rule; undefined: the rule matches nothing. */
  readonly filters: readonly (string | undefined)[];
  private lastTopic = "";
  private lastRules = NO_RULES;

  constructor(acl: Acl, owner: AclOwner) {
    this.acl = acl;
    this.filters = acl.isFilled
      ? acl.rules.map(({ filter, levels }) => (levels === undefined ? filter : fill(levels, owner)))
      : acl.filters;
  }

  /** Characters that are this client's alone. */
  get ownChars(): number {
    if (!this.acl.isFilled) return 0;
    return this.filters.reduce((sum, filter) => sum + 8 + (filter?.length ?? 0), 0);
  }

  /** The first rule, in order, that allows a publish; undefined when none does. On every publish's way. */
  publishRule(asked: PublishAsked): Rule | undefined {
    const { topic, qos, retain } = asked;
    const rules = topic === this.lastTopic ? this.lastRules : this.rulesFor(topic);
    for (let i = 0; i < rules.length; i++) {
      const rule = rules[i] as Rule;
      if (rule.isInvalid) return undefined;
      if (qos > rule.maxQos || (retain && !rule.allowsRetain)) continue;
      // The broker makes the payload when somebody looks at it.
      if (rule.payloadBytesMax < PAYLOAD_ANY && asked.payload.length > rule.payloadBytesMax)
        continue;
      return rule;
    }
    return undefined;
  }

  /** The first rule that covers the whole filter and allows the QoS; undefined when none does. */
  subscribeRule(filter: string, qos: number): Rule | undefined {
    const { rules } = this.acl;
    const shared = parseShared(filter);
    for (let i = 0; i < rules.length; i++) {
      const own = this.filters[i];
      if (own === undefined || !covers(own, filter, shared)) continue;
      const rule = rules[i] as Rule;
      if (rule.isInvalid) return undefined;
      if (qos <= rule.maxQos) return rule;
    }
    return undefined;
  }

  /** Most clients repeat their topic: the rules that match it are kept. */
  private rulesFor(topic: string): readonly Rule[] {
    const { filters } = this;
    let found: Rule[] | undefined;
    for (let i = 0; i < filters.length; i++) {
      const filter = filters[i];
      if (filter === undefined || !matches(filter, topic)) continue;
      found ??= [];
      found.push(this.acl.rules[i] as Rule);
    }
    if (topic.length <= KEPT_TOPIC_CHARS) {
      this.lastTopic = topic;
      this.lastRules = found ?? NO_RULES;
    }
    return found ?? NO_RULES;
  }
}

/** What a rule for publishes looks at. */
export interface PublishAsked {
  readonly topic: string;
  readonly qos: number;
  readonly retain: boolean;
  readonly payload: { readonly length: number };
}

/** Answer to a publish that a rule allows. */
export function publishAnswer(rule: Rule, args: object, isV5: boolean): Verdict<PublishModifiers> {
  if (rule.properties === undefined || !isV5) return rule.publish;
  const fields = rule.publish === "ok" ? {} : rule.publish.ok;
  const properties = merge((args as PublishM5Args).properties, rule.properties);
  return { ok: { ...fields, properties } };
}

/**
 * Properties of a packet with those of a rule laid over them. Of the packet's user properties those
 * stay whose key the rule has not. As VerneMQ does for scripts.
 */
function merge(incoming: HookProperties, own: HookProperties): HookProperties {
  const merged = { ...incoming, ...own };
  const [theirs, ours] = [incoming.p_user_property, own.p_user_property];
  if (theirs !== undefined && ours !== undefined) {
    const keys = new Set(ours.map(({ key }) => key));
    merged.p_user_property = [...theirs.filter(({ key }) => !keys.has(key)), ...ours];
  }
  return merged;
}

/** A shared filter needs the right to the filter behind its group, or a rule that names the group. */
function covers(
  rule: string,
  filter: string,
  shared: { group: string; filter: string } | undefined,
): boolean {
  const own = splitShared(rule);
  if (own === undefined) return contains(rule, shared?.filter ?? filter);
  if (shared === undefined || (own.group !== "+" && own.group !== shared.group)) return false;
  return contains(own.filter, shared.filter);
}

/** As `parseShared`, but the group of a rule may be `+`: any. */
function splitShared(rule: string): { group: string; filter: string } | undefined {
  if (!rule.startsWith("$share/")) return undefined;
  const any = "$share/+/";
  if (!rule.startsWith(any)) return parseShared(rule);
  return rule.length > any.length ? { group: "+", filter: rule.slice(any.length) } : undefined;
}

const PLACEHOLDERS: ReadonlyMap<string, keyof AclOwner> = new Map([
  ["%m", "mountpoint"],
  ["%c", "clientId"],
  ["%u", "username"],
]);

/**
 * A value is one level and stands for itself. Undefined, so that the rule matches nothing, for a client
 * whose id or name would be more: a wildcard, several levels, or the way to a `$` tree.
 */
function fill(levels: readonly string[], owner: AclOwner): string | undefined {
  let filter = "";
  for (let i = 0; i < levels.length; i++) {
    const level = levels[i] as string;
    const name = PLACEHOLDERS.get(level);
    const value = name === undefined ? level : owner[name];
    if (name !== undefined && (/[+#/\0]/.test(value) || (i === 0 && value.startsWith("$")))) {
      return undefined;
    }
    filter += i === 0 ? value : `/${value}`;
  }
  return filter === "" ? undefined : filter;
}

function compile(given: AclRule, topicMaxDepth: number): Rule {
  const fault = given.fault ?? faultOf(given, topicMaxDepth);
  const source = fault === undefined ? given : { ...given, fault };
  // Without a usable pattern nobody knows what the rule is about: it grants nothing.
  const isUsable =
    given.pattern !== undefined && patternFault(given.pattern, topicMaxDepth) === undefined;
  const levels = isUsable ? given.pattern?.split("/") : undefined;
  const isFilled = levels?.some((level) => PLACEHOLDERS.has(level)) === true;
  const { properties: _, ...change } = given.publish ?? {};
  return {
    source,
    filter: isUsable && !isFilled ? given.pattern : undefined,
    levels: isFilled ? levels : undefined,
    isInvalid: fault !== undefined,
    maxQos: given.maxQos ?? 2,
    payloadBytesMax: given.maxPayloadSize ?? PAYLOAD_ANY,
    allowsRetain: given.allowedRetain ?? true,
    publish: Object.keys(change).length === 0 ? "ok" : { ok: publishFields(change) },
    properties: propertiesOf(given.publish?.properties),
    subscribe: given.subscribe,
  };
}

function faultOf({ pattern, subscribe }: AclRule, topicMaxDepth: number): RuleFault | undefined {
  if (pattern === undefined) return { key: "pattern", why: "is missing: the rule matches nothing" };
  const why = patternFault(pattern, topicMaxDepth);
  if (why !== undefined) return { key: "pattern", why };
  for (const [i, { topic, qos }] of (subscribe ?? []).entries()) {
    const bad = qos < 128 ? validateFilter(topic, topicMaxDepth) : undefined;
    if (bad !== undefined) return { key: `modifiers[${i + 1}]`, why: bad.message };
  }
  return undefined;
}

function patternFault(pattern: string, topicMaxDepth: number): string | undefined {
  const shared = splitShared(pattern);
  return validateFilter(shared?.filter ?? pattern, topicMaxDepth)?.message;
}

function publishFields({
  payload,
  ...fields
}: Omit<PublishChange, "properties">): PublishModifiers {
  return payload === undefined ? fields : { ...fields, payload: Buffer.from(payload, "base64") };
}

function propertiesOf(given: PublishChange["properties"]): HookProperties | undefined {
  if (given === undefined) return undefined;
  const { p_correlation_data: data, ...rest } = given;
  return data === undefined ? rest : { ...rest, p_correlation_data: Buffer.from(data, "base64") };
}
