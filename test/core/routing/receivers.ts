import type { Message } from "../../../core/mqtt/message.ts";
import {
  subscriptionOf as ownSubscription,
  type Receiver,
  type Subscription,
} from "../../../core/routing/subscription.ts";

/** A subscriber that notes what it is given. */
export class TestReceiver implements Receiver {
  readonly clientId: string;
  readonly mountpoint: string;
  isOnline = true;
  /** What `deliver` answers. */
  batch = 0;
  readonly got: { message: Message; by: Subscription }[] = [];

  constructor(clientId: string, mountpoint = "") {
    this.clientId = clientId;
    this.mountpoint = mountpoint;
  }

  deliver(message: Message, by: Subscription): number {
    this.got.push({ message, by });
    return this.batch;
  }

  deliverRun(): boolean {
    return false;
  }

  texts(): string[] {
    return this.got.map(({ message }) => message.payload.toString());
  }
}

/** As a client's SUBSCRIBE with QoS 0 makes it. */
export function subscriptionOf(
  receiver: Receiver,
  filter: string,
  more: Partial<Subscription> = {},
): Subscription {
  return ownSubscription(receiver, filter, { qos: 0, retainHandling: 0, ...more });
}
