/** ACLs of `auth_cache` on their way from a script to the broker's thread: plain values, written as JSON. */
import type { HookProperties } from "../../core/plugin-api.ts";

/** What is wrong with a rule: the key of the script's table, and what is allowed there. */
export interface RuleFault {
  readonly key: string;
  readonly why: string;
}

/** Changes of a publish. Bytes are base64, here and in `p_correlation_data`. */
export interface PublishChange {
  readonly topic?: string;
  readonly payload?: string;
  readonly qos?: number;
  readonly retain?: boolean;
  readonly mountpoint?: string;
  readonly throttle?: number;
  readonly properties?: Omit<HookProperties, "p_correlation_data"> & {
    readonly p_correlation_data?: string;
  };
}

/** One entry of the list that replaces a requested subscription; QoS 128 and more refuses it. */
export interface SubscribeChange {
  readonly topic: string;
  readonly qos: number;
  readonly rap?: boolean;
  readonly no_local?: boolean;
  readonly retain_handling?: "send_retain" | "send_if_new_sub" | "dont_send";
  readonly sub_id?: number;
}

/** One entry of `publish_acl` or `subscribe_acl`. */
export interface AclRule {
  /** Undefined: the rule matches nothing. */
  readonly pattern?: string;
  /** Default 2. */
  readonly maxQos?: number;
  /** Bytes, publish only. Default: any. */
  readonly maxPayloadSize?: number;
  /** Publish only. Default true. */
  readonly allowedRetain?: boolean;
  readonly publish?: PublishChange;
  readonly subscribe?: readonly SubscribeChange[];
  /** The rule refuses what its pattern covers. */
  readonly fault?: RuleFault;
}

export type AclKind = "publish_acl" | "subscribe_acl";

/** Arguments of the service `auth_cache.insert`; the ACLs are JSON texts of `AclRule[]`. */
export interface CacheInsert {
  readonly mountpoint: string;
  readonly clientId: string;
  readonly username: string;
  readonly publish: string;
  readonly subscribe: string;
}

/** Arguments of `auth_cache.match_publish` and, without size and retain, `auth_cache.match_subscribe`. */
export interface CacheMatch {
  readonly mountpoint: string;
  readonly clientId: string;
  readonly topic: string;
  readonly qos: number;
  readonly payloadBytes: number;
  readonly retain: boolean;
}
