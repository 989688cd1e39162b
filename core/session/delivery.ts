import type { Message } from "../mqtt/message.ts";
import type { Subscription } from "../routing/subscription.ts";
import { ENTRY_QUEUED, type EntryState, STORED_NO, type StoreEntry } from "../store/types.ts";

/** One message on its way to one subscriber: waiting, in flight, or both in memory and in the store. */
export class Delivery implements StoreEntry {
  seq: number;
  message: Message | undefined;
  qos: number;
  retain: boolean;
  subscriptionIds: readonly number[] | undefined;
  packetId = 0;
  state: EntryState = ENTRY_QUEUED;
  stored = STORED_NO;
  /** Kept by the store. */
  sharedRef = 0;
  /** Sent before on an earlier connection or by a retry: DUP is set. */
  isDuplicate = false;
  /** Monotonic ms of the last sending, for `retry_interval`. */
  sentAtMs = 0;
  /** What on_deliver made of the message; resent as the client saw it first. */
  rewritten: Message | undefined;
  /** Set for members of a shared subscription, who may have to give it back. */
  sharedBy: Subscription | undefined;

  constructor(
    seq: number,
    message: Message | undefined,
    qos: number,
    retain: boolean,
    subscriptionIds: readonly number[] | undefined,
  ) {
    this.seq = seq;
    this.message = message;
    this.qos = qos;
    this.retain = retain;
    this.subscriptionIds = subscriptionIds;
  }

  /** An entry the store read. */
  static from(entry: StoreEntry): Delivery {
    const delivery = new Delivery(
      entry.seq,
      entry.message,
      entry.qos,
      entry.retain,
      entry.subscriptionIds,
    );
    delivery.packetId = entry.packetId;
    delivery.state = entry.state;
    delivery.stored = entry.stored;
    delivery.sharedRef = entry.sharedRef ?? 0;
    return delivery;
  }
}
