import type { Message } from "../mqtt/message.ts";

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
}
