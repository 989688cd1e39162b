/** What the admin commands show of `auth_cache`. */
import type { OwnedAcl } from "./acl.ts";
import { filled } from "./acl-tree.ts";
import type { CacheEntry } from "./cache-entries.ts";

/** One entry. */
export interface CacheRow {
  readonly mountpoint: string;
  readonly client_id: string;
  readonly username: string;
  /** Rules that the client has, and how many of all refuse because they are invalid. */
  readonly publish: number;
  readonly subscribe: number;
  readonly invalid: number;
  readonly hits: number;
  readonly script: string;
}

/** One rule of a client. */
export interface RuleRow {
  readonly access: "publish" | "subscribe";
  /** With the client's values in it. */
  readonly pattern: string;
  readonly max_qos: number;
  readonly modifiers: boolean;
  /** Why it refuses what it covers; empty for a good one. */
  readonly invalid: string;
}

export function rowOf(entry: CacheEntry): CacheRow {
  const { publish, subscribe } = entry;
  const rules = [...publish.acl.rules, ...subscribe.acl.rules];
  return {
    mountpoint: entry.mountpoint,
    client_id: entry.clientId,
    username: entry.username,
    publish: publish.acl.rules.length,
    subscribe: subscribe.acl.rules.length,
    invalid: rules.filter(({ isInvalid }) => isInvalid).length,
    hits: entry.hits,
    script: entry.script,
  };
}

export function rulesOf({ publish, subscribe }: CacheEntry): RuleRow[] {
  return [...ruleRows(publish, "publish"), ...ruleRows(subscribe, "subscribe")];
}

function ruleRows({ acl, owner }: OwnedAcl, access: RuleRow["access"]): RuleRow[] {
  return acl.rules.map(({ source, pattern, maxQos }) => ({
    access,
    pattern:
      pattern === undefined
        ? `nothing (${source.pattern ?? "no pattern"})`
        : filled(pattern, owner),
    max_qos: maxQos,
    modifiers: source.publish !== undefined || source.subscribe !== undefined,
    invalid: source.fault === undefined ? "" : `${source.fault.key} ${source.fault.why}`,
  }));
}
