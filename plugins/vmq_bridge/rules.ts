/** Topic rules of a bridge: `pattern [in|out|both] [qos] [retain] [local-prefix [remote-prefix]]`. */
import { contains, matches, parseShared, validateFilter } from "../../core/plugin-api.ts";

export type QoS = 0 | 1 | 2;

/** One topic rule with its prefixes joined to the pattern. */
export interface TopicRule {
  readonly direction: "in" | "out" | "both";
  readonly qos: QoS;
  readonly retain: boolean;
  readonly localPrefix: string;
  readonly remotePrefix: string;
  /** What is subscribed here and there, with `$share/<group>/`. */
  readonly localFilter: string;
  readonly remoteFilter: string;
}

/** What the remote broker is asked for. */
export interface RemoteSubscription {
  readonly filter: string;
  readonly qos: QoS;
  readonly retain: boolean;
}

/** Where a message goes, and with what. */
export interface Target {
  readonly topic: string;
  readonly qos: QoS;
  readonly retain: boolean;
}

const DIRECTIONS = new Set(["in", "out", "both"]);
const EMPTY = "$empty";

/** Reads a rule; throws an Error that says what is wrong with it. */
export function parseRule(text: string): TopicRule {
  const words = text.split(/\s+/).filter((word) => word !== "");
  const pattern = words.shift()?.replaceAll("*", "#");
  if (pattern === undefined) throw new Error("there is no pattern");
  let direction: TopicRule["direction"] = "out";
  let qos: QoS = 0;
  if (DIRECTIONS.has(words[0] ?? "")) direction = words.shift() as TopicRule["direction"];
  if (/^[012]$/.test(words[0] ?? "")) qos = Number(words.shift()) as QoS;
  const retain = words[0] === "retain";
  if (retain) words.shift();
  if (words.length > 2) {
    throw new Error(
      `"${words.join(" ")}" is left after pattern, direction and qos; at most two prefixes are ` +
        "possible (local, remote)",
    );
  }
  const [localPrefix, remotePrefix] = [prefixOf(words[0]), prefixOf(words[1])];
  return {
    direction,
    qos,
    retain,
    localPrefix,
    remotePrefix,
    localFilter: joined(localPrefix, pattern),
    remoteFilter: joined(remotePrefix, pattern),
  };
}

/** One trailing slash makes no empty level. */
function prefixOf(word: string | undefined): string {
  if (word === undefined || word === EMPTY) return "";
  if (/[#+*]/.test(word)) throw new Error(`"${word}" is no prefix: it has a wildcard`);
  return word.endsWith("/") ? word.slice(0, -1) : word;
}

/** Differs from VerneMQ: the prefix goes to the topic part, behind `$share/<group>/`. */
function joined(prefix: string, pattern: string): string {
  const shared = parseShared(pattern);
  const filter = shared?.filter ?? pattern;
  const whole = prefix === "" ? filter : `${prefix}/${filter}`;
  return shared === undefined ? whole : `$share/${shared.group}/${whole}`;
}

/** Why a rule cannot be used, undefined = it can. */
export function ruleFault(rule: TopicRule, topicMaxDepth: number): string | undefined {
  const isIn = rule.direction !== "out";
  const isOut = rule.direction !== "in";
  if (validateFilter(rule.localFilter, topicMaxDepth) !== undefined) {
    return `"${rule.localFilter}" is no topic filter here (topic_max_depth = ${topicMaxDepth})`;
  }
  if (validateFilter(rule.remoteFilter, Number.POSITIVE_INFINITY) !== undefined) {
    return `"${rule.remoteFilter}" is no topic filter`;
  }
  const local = withoutShare(rule.localFilter);
  if (isIn && local.startsWith("$")) {
    return `messages would come in below "${local}": topics that begin with $ belong to this broker`;
  }
  if (isOut && rule.localFilter !== local && isIn) {
    return "a shared pattern cannot be both: its messages would come back";
  }
  return undefined;
}

function withoutShare(filter: string): string {
  return parseShared(filter)?.filter ?? filter;
}

/** Topics whose targets are remembered. */
const TOPICS_MAX = 10_000;

/** All rules of one bridge: what to subscribe to, and what becomes of a topic. */
export class Rules {
  readonly localFilters: readonly string[];
  readonly remote: readonly RemoteSubscription[];
  private readonly outgoing: readonly TopicRule[];
  private readonly incoming: readonly TopicRule[];
  private readonly out = new Map<string, readonly Target[]>();
  private readonly in = new Map<string, readonly Target[]>();

  constructor(rules: readonly TopicRule[]) {
    this.outgoing = rules.filter(({ direction }) => direction !== "in");
    this.incoming = rules.filter(({ direction }) => direction !== "out");
    this.localFilters = [...new Set(this.outgoing.map(({ localFilter }) => localFilter))];
    this.remote = subscriptionsOf(this.incoming);
  }

  /** Where a local message goes; `shared` is the shared filter that it came by. */
  outTargets(topic: string, shared: string | undefined): readonly Target[] {
    const key = shared === undefined ? topic : `${shared}\0${topic}`;
    return remembered(this.out, key, () =>
      targetsOf(
        this.outgoing.filter(({ localFilter }) =>
          shared === undefined ? parseShared(localFilter) === undefined : localFilter === shared,
        ),
        topic,
        (rule) => ({ filter: rule.localFilter, from: rule.localPrefix, to: rule.remotePrefix }),
      ),
    );
  }

  /** Where a message of the remote broker goes. */
  inTargets(topic: string): readonly Target[] {
    return remembered(this.in, topic, () =>
      targetsOf(this.incoming, topic, (rule) => ({
        filter: rule.remoteFilter,
        from: rule.remotePrefix,
        to: rule.localPrefix,
      })),
    );
  }
}

function remembered(
  cache: Map<string, readonly Target[]>,
  key: string,
  make: () => readonly Target[],
): readonly Target[] {
  let found = cache.get(key);
  if (found === undefined) {
    found = make();
    if (cache.size >= TOPICS_MAX) cache.clear();
    cache.set(key, found);
  }
  return found;
}

/** One target per resulting topic, with the highest QoS (VerneMQ: one per rule). */
function targetsOf(
  rules: readonly TopicRule[],
  topic: string,
  sides: (rule: TopicRule) => { filter: string; from: string; to: string },
): readonly Target[] {
  const targets = new Map<string, Target>();
  for (const rule of rules) {
    const { filter, from, to } = sides(rule);
    if (!matches(withoutShare(filter), topic)) continue;
    const mapped = mapTopic(topic, from, to);
    if (mapped === "") continue;
    const other = targets.get(mapped);
    targets.set(mapped, {
      topic: mapped,
      qos: Math.max(rule.qos, other?.qos ?? 0) as QoS,
      retain: rule.retain || other?.retain === true,
    });
  }
  return [...targets.values()];
}

/** The topic with another prefix; `p/#` matches `p` as well, of which only the prefix is left. */
function mapTopic(topic: string, from: string, to: string): string {
  if (from === to) return topic;
  const rest = from === "" ? topic : topic.slice(from.length + 1);
  if (rest === "") return topic === from || to === "" ? to : `${to}/`;
  return to === "" ? rest : `${to}/${rest}`;
}

/**
 * One subscription per filter. A filter that another one contains is left out: many brokers would send
 * its messages twice.
 */
function subscriptionsOf(rules: readonly TopicRule[]): RemoteSubscription[] {
  const byFilter = new Map<string, RemoteSubscription>();
  for (const { remoteFilter: filter, qos, retain } of rules) {
    const other = byFilter.get(filter);
    byFilter.set(filter, {
      filter,
      qos: Math.max(qos, other?.qos ?? 0) as QoS,
      retain: retain || other?.retain === true,
    });
  }
  const all = [...byFilter.values()];
  return all.filter(
    (one) =>
      !all.some(
        (other) =>
          other !== one &&
          other.qos >= one.qos &&
          (other.retain || !one.retain) &&
          contains(other.filter, one.filter),
      ),
  );
}
