import { isPromise } from "../../hooks/chain.ts";
import type { HookModifiers, Verdict } from "../../hooks/types.ts";
import { encodeUnsuback } from "../../mqtt/codec.ts";
import { toHookProperties } from "../../mqtt/hook-properties.ts";
import type { Properties, UnsubscribePacket } from "../../mqtt/packets.ts";
import { withContext } from "../hook-arguments.ts";
import type { Session } from "../session.ts";
import type { Subscriber } from "../subscriber.ts";
import { ackProperties } from "./subscribe.ts";

/** UNSUBSCRIBE: on_unsubscribe may rewrite the filters, never refuse. */
export function handleUnsubscribe(session: Session, packet: UnsubscribePacket): void {
  const { core } = session;
  core.counters.unsubscribeReceived[session.versionIndex]++;
  const who = {
    username: session.username,
    subscriber_id: session.hookId,
    topics: packet.filters,
  };
  if (session.version === 5) {
    if (!core.hooks.wants("on_unsubscribe_m5")) {
      unsubscribe(session, packet, packet.filters);
      return;
    }
    const properties = toHookProperties(packet.properties);
    const args = withContext({ ...who, properties }, session);
    const verdict = core.hooks.ask("on_unsubscribe_m5", args);
    if (isPromise(verdict)) session.proceed(verdict, (late) => decide(session, packet, late));
    else decide(session, packet, verdict);
    return;
  }
  if (!core.hooks.wants("on_unsubscribe")) {
    unsubscribe(session, packet, packet.filters);
    return;
  }
  const verdict = core.hooks.ask("on_unsubscribe", withContext(who, session));
  if (isPromise(verdict)) session.proceed(verdict, (late) => decide(session, packet, late));
  else decide(session, packet, verdict);
}

function decide(session: Session, packet: UnsubscribePacket, verdict: unknown): void {
  const answer = verdict as Verdict<
    HookModifiers["on_unsubscribe"] | HookModifiers["on_unsubscribe_m5"]
  >;
  if (typeof answer === "object" && "ok" in answer) {
    const { topics = packet.filters, properties } = answer.ok;
    unsubscribe(session, packet, topics, ackProperties(session, properties));
    return;
  }
  unsubscribe(session, packet, packet.filters);
}

function unsubscribe(
  session: Session,
  packet: UnsubscribePacket,
  filters: readonly string[],
  properties?: Properties,
): void {
  const { core } = session;
  const subscriber = session.subscriber as Subscriber;
  const removed: string[] = [];
  let batch = 0;
  // One code per requested filter; a rewritten list counts position by position.
  const codes = packet.filters.map((requested, i) => {
    const filter = filterOf(subscriber, filters[i] ?? requested);
    if (!subscriber.removeSubscription(filter)) return 0x11;
    removed.push(filter);
    if (subscriber.isStored) {
      batch = Math.max(batch, core.store.deleteSubscription(subscriber.id, filter));
    }
    return 0;
  });
  for (const filter of filters.slice(packet.filters.length)) {
    if (subscriber.removeSubscription(filter)) {
      removed.push(filter);
      if (subscriber.isStored) core.store.deleteSubscription(subscriber.id, filter);
    }
  }
  core.hooks.tell("on_topic_unsubscribed", {
    subscriber_id: session.hookId,
    topics: filters,
  });
  session.out.answers.after(batch, () => {
    const frame = encodeUnsuback(
      session.version,
      { packetId: packet.packetId, codes, properties },
      {
        maximumPacketSize: session.packetBytesMax,
        requestProblemInformation: session.requestProblemInfo,
      },
    );
    if (frame !== undefined) session.out.outbox.append(frame);
    core.counters.unsubackSent[session.versionIndex]++;
  });
}

/** A filter that a hook rewrote at SUBSCRIBE is found by what the client asked for. */
function filterOf(subscriber: Subscriber, filter: string): string {
  if (subscriber.subscriptions === undefined || subscriber.subscriptions.has(filter)) return filter;
  for (const subscription of subscriber.subscriptions.values()) {
    if (subscription.requestedFilter === filter) return subscription.filter;
  }
  return filter;
}
