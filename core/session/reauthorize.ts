import { parseShared } from "../mqtt/topics.ts";
import type { Subscription } from "../routing/subscription.ts";
import type { Core } from "./core.ts";
import { withContext } from "./hook-arguments.ts";
import { storedSubscription } from "./manager.ts";
import type { Subscriber } from "./subscriber.ts";

/**
 * `session reauthorize`: asks auth_on_subscribe(_m5) again for each stored subscription, one by one on
 * the chain of the client's listener, the global one while it is away. Refused ones are removed,
 * topics of a modifier added.
 */
export async function reauthorize(
  core: Core,
  clientId: string,
  options: { mountpoint?: string; username?: string },
): Promise<{ removed: string[]; added: string[] }> {
  const removed: string[] = [];
  const added: string[] = [];
  const subscriber = core.manager.find(options.mountpoint ?? "", clientId);
  for (const subscription of [...(subscriber?.subscriptions?.values() ?? [])]) {
    if (subscriber === undefined) break;
    const verdict = await ask(core, subscriber, subscription, options.username);
    if (verdict === "ok") continue;
    if (typeof verdict === "object" && "ok" in verdict) {
      const { topics } = verdict.ok;
      for (const topic of topics ?? []) {
        if (topic.qos > 2 || topic.topic === subscription.filter) continue;
        add(core, subscriber, subscription, topic.topic, topic.qos);
        added.push(topic.topic);
      }
      // A list that refuses the only topic asked for, or is empty, is a refusal.
      if (topics === undefined || topics.some((topic) => topic.qos <= 2)) continue;
    }
    subscriber.removeSubscription(subscription.filter);
    if (subscriber.isStored) core.store.deleteSubscription(subscriber.id, subscription.filter);
    removed.push(subscription.filter);
  }
  if (subscriber !== undefined && removed.length > 0) {
    core.hooks.tell("on_topic_unsubscribed", { subscriber_id: subscriber.hookId, topics: removed });
  }
  return { removed, added };
}

async function ask(
  core: Core,
  subscriber: Subscriber,
  { filter, qos }: Subscription,
  username: string | undefined,
) {
  const isV5 = subscriber.protocolLevel === 5;
  const hook = isV5 ? "auth_on_subscribe_m5" : "auth_on_subscribe";
  const chains = subscriber.session?.chainSet ?? core.hooks.global;
  if (!chains.isAsked(hook)) return "ok";
  const who = {
    username: username ?? subscriber.username,
    subscriber_id: subscriber.hookId,
    topics: [{ topic: filter, qos }],
  };
  return isV5
    ? core.hooks.ask(
        "auth_on_subscribe_m5",
        withContext({ ...who, properties: {} }, subscriber),
        chains,
      )
    : core.hooks.ask("auth_on_subscribe", withContext(who, subscriber), chains);
}

function add(
  core: Core,
  subscriber: Subscriber,
  like: Subscription,
  filter: string,
  qos: number,
): void {
  const shared = parseShared(filter);
  const subscription: Subscription = {
    ...like,
    filter,
    group: shared?.group ?? "",
    match: shared?.filter ?? filter,
    qos,
    requestedFilter: undefined,
  };
  subscriber.addSubscription(subscription);
  if (subscriber.isStored) {
    core.store.putSubscription(subscriber.id, storedSubscription(subscription));
  }
}
