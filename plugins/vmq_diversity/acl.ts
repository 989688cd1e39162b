/** ACLs of `auth_cache`, compiled once per content, and what they decide. */
import {
  type HookProperties,
  type PublishM5Args,
  type PublishModifiers,
  type SubscriptionDecision,
  type Verdict,
  validateFilter,
} from "../../core/plugin-api.ts";
import type { AclRule, PublishChange, RuleFault } from "./acl-rule.ts";
import { type AclOwner, AclTree, splitShared } from "./acl-tree.ts";

/** More no packet can carry. */
const PAYLOAD_ANY = 268_435_456;
/** Topics that are kept with a client's ACL, unless they are longer. */
export const KEPT_TOPICS = 4;
export const KEPT_TOPIC_CHARS = 100;
const NO_RULES: readonly Rule[] = [];

/** Answer for what no rule allows. */
export const REFUSED = { error: "not_authorized" } as const;

/** A rule as it is asked. */
export interface Rule {
  readonly source: AclRule;
  /** Undefined: the rule matches nothing. */
  readonly pattern: string | undefined;
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
  /** The first rule that cannot be used, counted from 1 as scripts do. */
  readonly fault: (RuleFault & { readonly rule: number }) | undefined;
  /** Lists of clients that use it. */
  users = 0;
  private readonly tree = new AclTree();
  /** Each rule as a list of its own. */
  private readonly alone: readonly (readonly Rule[])[];

  constructor(text: string, topicMaxDepth: number) {
    this.text = text;
    this.rules = (JSON.parse(text) as AclRule[]).map((rule) => compile(rule, topicMaxDepth));
    this.alone = this.rules.map((rule) => [rule]);
    for (const [i, { pattern }] of this.rules.entries()) {
      if (pattern !== undefined) this.tree.add(pattern, i);
    }
    const index = this.rules.findIndex(({ source }) => source.fault !== undefined);
    const fault = this.rules[index]?.source.fault;
    this.fault = fault === undefined ? undefined : { ...fault, rule: index + 1 };
  }

  /** Rules that match a topic name, in order. */
  matching(topic: string, owner: AclOwner): readonly Rule[] {
    return this.named(this.tree.matching(topic, owner));
  }

  /** Rules that cover a filter, in order. */
  covering(filter: string, owner: AclOwner): readonly Rule[] {
    return this.named(this.tree.covering(filter, owner));
  }

  private named(indexes: readonly number[]): readonly Rule[] {
    const [first = -1] = indexes;
    // One rule or none is usual, and then nothing is made.
    if (indexes.length < 2) return this.alone[first] ?? NO_RULES;
    return indexes.map((index) => this.rules[index] as Rule);
  }
}

/** An ACL with the values of one client. */
export class OwnedAcl {
  readonly acl: Acl;
  readonly owner: AclOwner;
  /** Most clients repeat a few topics: the last ones, and the rules that match each. */
  private readonly topics: string[] = [];
  private readonly matched: (readonly Rule[])[] = [];
  /** Which of them goes next. */
  private turn = 0;

  constructor(acl: Acl, owner: AclOwner) {
    this.acl = acl;
    this.owner = owner;
  }

  /** The first rule, in order, that allows a publish; undefined when none does. On every publish's way. */
  publishRule(asked: PublishAsked): Rule | undefined {
    const { topic, qos, retain } = asked;
    const rules = this.rulesFor(topic);
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
    for (const rule of this.acl.covering(filter, this.owner)) {
      if (rule.isInvalid) return undefined;
      if (qos <= rule.maxQos) return rule;
    }
    return undefined;
  }

  private rulesFor(topic: string): readonly Rule[] {
    const { topics } = this;
    for (let i = 0; i < topics.length; i++) {
      // The broker keeps one text for a topic in use: this compares pointers.
      if (topics[i] === topic) return this.matched[i] as readonly Rule[];
    }
    const rules = this.acl.matching(topic, this.owner);
    if (topic.length <= KEPT_TOPIC_CHARS) {
      topics[this.turn] = topic;
      this.matched[this.turn] = rules;
      this.turn = (this.turn + 1) % KEPT_TOPICS;
    }
    return rules;
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

function compile(given: AclRule, topicMaxDepth: number): Rule {
  const fault = given.fault ?? faultOf(given, topicMaxDepth);
  const source = fault === undefined ? given : { ...given, fault };
  // Without a usable pattern nobody knows what the rule is about: it grants nothing.
  const isUsable =
    given.pattern !== undefined && patternFault(given.pattern, topicMaxDepth) === undefined;
  const { properties: _, ...change } = given.publish ?? {};
  return {
    source,
    pattern: isUsable ? given.pattern : undefined,
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
