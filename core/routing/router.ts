import type { Counters } from "../counters.ts";
import type { Message } from "../mqtt/message.ts";
import type { Store } from "../store/types.ts";
import { Retained } from "./retained.ts";
import { Mount, type Route } from "./routes.ts";
import { chooseMember, deliverShared } from "./shared.ts";
import type { Receiver, Subscription } from "./subscription.ts";

/** Messages that know how to reach everyone on their route. */
export interface DeliverableRun {
  readonly count: number;
  deliver(publisher: Receiver | undefined): number;
}

/** A subscription with its place in the tree, measured on a heap of 100 000. */
const SUBSCRIPTION_BYTES = 400;

export interface RouterOptions {
  topicDepthMax: number;
  /** `overlapping_subscriptions = once`. */
  overlappingOnce: boolean;
  random: () => number;
}

/** Takes one publish to all its receivers: the tables of every mountpoint, retained messages, shared groups. */
export class Router {
  readonly retained: Retained;
  private readonly mounts = new Map<string, Mount>();
  private readonly counters: Counters;
  private readonly options: RouterOptions;
  private subscriptionCount = 0;

  constructor(store: Store, counters: Counters, options: RouterOptions) {
    this.retained = new Retained(store);
    this.counters = counters;
    this.options = options;
  }

  mount(name: string): Mount {
    let mount = this.mounts.get(name);
    if (mount === undefined) {
      mount = new Mount(name, this.options.topicDepthMax, this.options.overlappingOnce);
      this.mounts.set(name, mount);
    }
    return mount;
  }

  /** About the memory of the subscription tables. */
  get memoryBytes(): number {
    return this.subscriptionCount * SUBSCRIPTION_BYTES;
  }

  get subscriptions(): number {
    return this.subscriptionCount;
  }

  subscribe(subscription: Subscription): void {
    this.mount(subscription.receiver.mountpoint).add(subscription);
    this.subscriptionCount++;
  }

  unsubscribe(subscription: Subscription): void {
    this.mount(subscription.receiver.mountpoint).remove(subscription);
    this.subscriptionCount--;
  }

  /**
   * Delivers to everyone on the route but the publisher's own No Local subscriptions. Returns the store
   * batch the acknowledgement must wait for (0 = none), or -1 when nobody matched.
   */
  publish(route: Route, message: Message, publisher: Receiver | undefined): number {
    const receivers = route.receivers;
    const count = receivers.length;
    let batch = 0;
    message.shared = count > 1;
    for (let i = 0; i < count; i++) {
      const subscription = receivers[i] as Subscription;
      if (subscription.noLocal && subscription.receiver === publisher) continue;
      const written = subscription.receiver.deliver(message, subscription);
      if (written > batch) batch = written;
    }
    this.counters.routerMatchesLocal += count;
    if (route.groups !== undefined) {
      this.counters.routerMatchesLocal += route.groups.length;
      return Math.max(batch, deliverShared(route.groups, message, this.options.random));
    }
    return count === 0 ? -1 : batch;
  }

  /** Delivers neighbouring QoS 0 messages that need no hook, no store and no shared group. */
  publishRun(run: DeliverableRun, publisher: Receiver | undefined): void {
    this.counters.routerMatchesLocal += run.deliver(publisher) * run.count;
  }

  /** As `publish`, and keeps the message when it is retained. `nowMs` is wall-clock time. */
  publishRetained(
    route: Route,
    message: Message,
    publisher: Receiver | undefined,
    nowMs: number,
  ): number {
    const kept = this.retained.set(message, nowMs);
    return Math.max(kept, this.publish(route, message, publisher));
  }

  /**
   * Gives a message of a leaving member to another member of its group. False when there is none.
   * Differs from VerneMQ: there it is lost.
   */
  handOver(subscription: Subscription, message: Message): boolean {
    const mount = this.mount(subscription.receiver.mountpoint);
    const groups = mount.lookupText(message.topic, true).groups;
    const group = groups?.find((each) => each.name === subscription.filter);
    if (group === undefined) return false;
    const member = chooseMember(group, this.options.random, subscription.receiver);
    if (member === undefined) return false;
    member.receiver.deliver(message, member);
    return true;
  }
}
