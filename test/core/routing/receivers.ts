import type { Message } from "../../../core/mqtt/message.ts";
import { parseShared } from "../../../core/mqtt/topics.ts";
import type { Receiver, Subscription } from "../../../core/routing/subscription.ts";

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
    qos: 0,
    noLocal: false,
    retainAsPublished: false,
    retainHandling: 0,
    ids: undefined,
    requestedFilter: undefined,
    ...more,
  };
}
