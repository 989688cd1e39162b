import type { Message } from "../mqtt/message.ts";
import { parseShared } from "../mqtt/topics.ts";

/** Neighbouring QoS 0 frames of one topic, ready to send; see session/run.ts. */
export interface MessageRun {
  /** FRAME_V4 or FRAME_V5. */
  readonly layout: number;
  readonly count: number;
  /** Bytes of all frames. */
  readonly size: number;
  /** The frames, shared by all receivers and never changed. */
  frames(): Buffer;
}

/** What the router needs to know of a subscriber: the receiving end of its subscriptions. */
export interface Receiver {
  readonly mountpoint: string;
  readonly clientId: string;
  readonly isOnline: boolean;
  /**
   * Takes a message for one subscription. Returns the store batch the acknowledgement must wait for,
   * 0 when none.
   */
  deliver(message: Message, subscription: Subscription): number;
  /** Takes neighbouring QoS 0 messages at once; false when they must come one by one. */
  deliverRun(run: MessageRun, subscription: Subscription): boolean;
}

/** One subscription of one subscriber; the router's entry and the options that shape each delivery. */
export interface Subscription {
  readonly receiver: Receiver;
  /** As subscribed, with `$share/<group>/`. */
  readonly filter: string;
  /** Group of a shared subscription, "" = none. */
  readonly group: string;
  /** Filter without `$share/<group>/`: what topics are matched with. */
  readonly match: string;
  readonly qos: number;
  readonly noLocal: boolean;
  readonly retainAsPublished: boolean;
  readonly retainHandling: number;
  /** Subscription Identifiers to send; undefined = none. */
  readonly ids: readonly number[] | undefined;
  /** Filter the client asked for, when a hook rewrote it. */
  readonly requestedFilter: string | undefined;
  /** A plugin's session decides what becomes of a message; returns the batch as `deliver`. */
  readonly take?: (message: Message, subscription: Subscription) => number;
}

/** A subscription without a SUBSCRIBE: each message at the QoS it has, live ones only. */
export function subscriptionOf(
  receiver: Receiver,
  filter: string,
  more: Partial<Subscription> = {},
): Subscription {
  const shared = parseShared(filter);
  return {
    receiver,
    filter,
    group: shared?.group ?? "",
    match: shared?.filter ?? filter,
    qos: 2,
    noLocal: false,
    retainAsPublished: false,
    retainHandling: 2,
    ids: undefined,
    requestedFilter: undefined,
    ...more,
  };
}
