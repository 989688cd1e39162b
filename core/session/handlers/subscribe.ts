import { isPromise } from "../../hooks/chain.ts";
import type { HookError, HookModifiers, SubscriptionInfo, Verdict } from "../../hooks/types.ts";
import { encodeSuback } from "../../mqtt/codec.ts";
import { fromHookProperties, toHookProperties } from "../../mqtt/hook-properties.ts";
import {
  MqttError,
  type Properties,
  SUBACK,
  type SubscribePacket,
  type SubscriptionRequest,
} from "../../mqtt/packets.ts";
import { reasonCodeOf, reasonName } from "../../mqtt/reason-codes.ts";
import { hasWildcard, parseShared, validateFilter } from "../../mqtt/topics.ts";
import { stringFault } from "../../mqtt/utf8.ts";
import type { Subscription } from "../../routing/subscription.ts";
import { withContext } from "../hook-arguments.ts";
import { storedSubscription } from "../manager.ts";
import type { Session } from "../session.ts";
import type { Subscriber } from "../subscriber.ts";

/** One position of the SUBACK: a subscription to make, or the code of its refusal. */
type Decision =
  | { request: SubscriptionRequest; requested: string; id?: number | undefined }
  | { refused: number };

const RETAIN_HANDLING = ["send_retain", "send_if_new_sub", "dont_send"] as const;

/**
 * SUBSCRIBE: auth_on_subscribe once for the whole packet, limits, routing and store, then SUBACK, then
 * retained messages.
 */
export function handleSubscribe(session: Session, packet: SubscribePacket): void {
  const { core } = session;
  core.counters.subscribeReceived[session.versionIndex]++;
  checkCapabilities(session, packet);
  const chain = session.version === 5 ? "auth_on_subscribe_m5" : "auth_on_subscribe";
  if (!session.chainSet.isAsked(chain)) {
    subscribe(session, packet, packet.subscriptions.map(granted), undefined);
    return;
  }
  const verdict =
    session.version === 5
      ? core.hooks.ask(
          "auth_on_subscribe_m5",
          withContext(
            {
              username: session.username,
              subscriber_id: session.hookId,
              topics: packet.subscriptions.map((each) => subscriptionInfo(each, packet.properties)),
              properties: toHookProperties(packet.properties),
            },
            session,
          ),
          session.chainSet,
        )
      : core.hooks.ask(
          "auth_on_subscribe",
          withContext(
            {
              username: session.username,
              subscriber_id: session.hookId,
              topics: packet.subscriptions.map((each) => ({ topic: each.filter, qos: each.qos })),
            },
            session,
          ),
          session.chainSet,
        );
  if (isPromise(verdict)) {
    session.proceed<unknown>(verdict as Promise<unknown>, (late) => decide(session, packet, late));
  } else decide(session, packet, verdict);
}

type SubscribeVerdict = Verdict<
  HookModifiers["auth_on_subscribe"] | HookModifiers["auth_on_subscribe_m5"]
>;

function decide(session: Session, packet: SubscribePacket, verdict: unknown): void {
  const answer = verdict as SubscribeVerdict;
  if (answer === "ok") {
    subscribe(session, packet, packet.subscriptions.map(granted), undefined);
    return;
  }
  if (typeof answer === "object" && "ok" in answer) {
    const { topics, properties } = answer.ok;
    const decisions =
      topics === undefined
        ? packet.subscriptions.map(granted)
        : decisionsOf(session, packet, topics);
    subscribe(session, packet, decisions, ackProperties(session, properties));
    return;
  }
  session.core.counters.subscribeAuthError[session.versionIndex]++;
  const error = typeof answer === "string" ? answer : answer.error;
  const code = refusalCode(error);
  const refused = packet.subscriptions.map(() => ({ refused: code }));
  const text = typeof error === "object" ? errorText(error) : undefined;
  const why = typeof error === "object" ? String(error.reason_code) : String(error);
  subscribe(session, packet, refused, text === undefined ? undefined : { reasonString: text }, why);
}

/** Refusals a SUBACK may carry [MQTT-3.9.3-2], and 0x85, which VerneMQ passes on too. */
const SUBACK_CODES = new Set([0x80, 0x83, 0x87, 0x8f, 0x91, 0x97, 0x9e, 0xa1, 0xa2, 0x85]);

function refusalCode(error: HookError): number {
  const given = typeof error === "object" ? error.reason_code : error;
  if (error === "plugin_error") return 0x83;
  const code = given === undefined ? undefined : reasonCodeOf(given);
  return code !== undefined && SUBACK_CODES.has(code) ? code : 0x87;
}

function errorText(error: Exclude<HookError, string | number>): string | undefined {
  const text = error.reason_string ?? error.properties?.p_reason_string;
  return text === undefined || stringFault(text) !== undefined ? undefined : text;
}

/** Properties a plugin may put into SUBACK and UNSUBACK: Reason String and User Property. */
export function ackProperties(session: Session, given: unknown): Properties | undefined {
  if (given === undefined) return undefined;
  const checked = fromHookProperties(given, SUBACK);
  if ("properties" in checked) return checked.properties;
  session.core.log.limited("ack properties", 10).warn("properties of a hook refused", {
    client_id: session.clientId,
    field: checked.error.field,
    why: checked.error.message,
  });
  return undefined;
}

function granted(request: SubscriptionRequest): Decision {
  return { request, requested: request.filter };
}

/**
 * A hook's list by position: one decision for each request, what the list lacks is refused, what it has
 * beyond them is subscribed too. Differs from VerneMQ, whose SUBACK has a code per entry of the list
 * [MQTT-3.9.3-1].
 */
function decisionsOf(
  session: Session,
  packet: SubscribePacket,
  topics: readonly SubscriptionInfo[],
): Decision[] {
  const decisions = topics.map((topic, i) => decisionOf(session, topic, packet, i));
  while (decisions.length < packet.subscriptions.length) decisions.push({ refused: 0x87 });
  return decisions;
}

/** One entry of a hook's list. What it leaves out it takes from the same filter, or position, of the request. */
function decisionOf(
  session: Session,
  given: SubscriptionInfo,
  packet: SubscribePacket,
  index: number,
): Decision {
  const { subscriptions } = packet;
  const base =
    subscriptions.find((request) => request.filter === given.topic) ??
    subscriptions[index] ??
    (subscriptions[0] as SubscriptionRequest);
  if (given.qos > 2) return { refused: SUBACK_CODES.has(given.qos) ? given.qos : 0x87 };
  if (validateFilter(given.topic, session.settings.topicMaxDepth) !== undefined) {
    return { refused: 0x8f };
  }
  const handling = given.retain_handling;
  return {
    request: {
      filter: given.topic,
      qos: given.qos,
      noLocal: given.no_local ?? base.noLocal,
      retainAsPublished: given.rap ?? base.retainAsPublished,
      retainHandling: handling ? RETAIN_HANDLING.indexOf(handling) : base.retainHandling,
    },
    requested: subscriptions[index]?.filter ?? given.topic,
    id: given.sub_id,
  };
}

function subscriptionInfo(
  request: SubscriptionRequest,
  properties: Properties | undefined,
): SubscriptionInfo {
  const id = properties?.subscriptionIdentifiers?.[0];
  return {
    topic: request.filter,
    qos: request.qos,
    rap: request.retainAsPublished,
    no_local: request.noLocal,
    retain_handling: RETAIN_HANDLING[request.retainHandling] ?? "send_retain",
    ...(id === undefined ? {} : { sub_id: id }),
  };
}

/** What CONNACK said is not available is a protocol error to use. MQTT 5.0, 3.2.2.3. */
function checkCapabilities(session: Session, packet: SubscribePacket): void {
  if (session.version < 5) return;
  const { settings } = session;
  if (
    !settings.subscriptionIdentifiersAvailable &&
    packet.properties?.subscriptionIdentifiers !== undefined
  ) {
    throw new MqttError(0xa1, "subscription identifiers are not available", "3.2.2.3.12");
  }
  for (const { filter } of packet.subscriptions) {
    if (!settings.wildcardSubscriptionAvailable && hasWildcard(filter)) {
      throw new MqttError(0xa2, "wildcard subscriptions are not available", "3.2.2.3.11");
    }
    if (!settings.sharedSubscriptionAvailable && parseShared(filter) !== undefined) {
      throw new MqttError(0x9e, "shared subscriptions are not available", "3.2.2.3.13");
    }
  }
}

function subscribe(
  session: Session,
  packet: SubscribePacket,
  decisions: readonly Decision[],
  properties: Properties | undefined,
  why?: string,
): void {
  const { core } = session;
  const subscriber = session.subscriber as Subscriber;
  const packetIds = packet.properties?.subscriptionIdentifiers;
  const isBridge = session.level > 128;
  const made: { subscription: Subscription; isNew: boolean }[] = [];
  let batch = 0;
  const codes = decisions.map((decision) => {
    if ("refused" in decision) return decision.refused;
    const { request } = decision;
    const ids = decision.id === undefined ? packetIds : [decision.id];
    const isNew = subscriber.subscriptions?.has(request.filter) !== true;
    const limit = session.settings.maxSubscriptionsPerClient;
    if (isNew && limit > 0 && (subscriber.subscriptions?.size ?? 0) >= limit) return 0x97;
    const shared = parseShared(request.filter);
    const subscription: Subscription = {
      receiver: subscriber,
      filter: request.filter,
      group: shared?.group ?? "",
      match: shared?.filter ?? request.filter,
      qos: Math.min(request.qos, session.settings.maximumQoS),
      noLocal: request.noLocal || isBridge,
      retainAsPublished: request.retainAsPublished || isBridge,
      retainHandling: request.retainHandling,
      ids: ids === undefined || ids.length === 0 ? undefined : ids,
      requestedFilter: decision.requested === request.filter ? undefined : decision.requested,
    };
    subscriber.addSubscription(subscription);
    if (subscriber.isStored) {
      batch = Math.max(
        batch,
        core.store.putSubscription(subscriber.id, storedSubscription(subscription)),
      );
    }
    made.push({ subscription, isNew });
    return subscription.qos;
  });
  logRefused(session, packet, codes, why);
  tellSubscribed(session, packet, made);
  session.out.answers.after(batch, () => {
    const frame = encodeSuback(
      session.version,
      { packetId: packet.packetId, codes: codes.slice(0, packet.subscriptions.length), properties },
      {
        maximumPacketSize: session.packetBytesMax,
        requestProblemInformation: session.requestProblemInfo,
      },
    );
    if (frame !== undefined) session.out.outbox.append(frame);
    core.counters.subackSent[session.versionIndex]++;
    sendRetained(session, made);
  });
}

function logRefused(
  session: Session,
  { subscriptions }: SubscribePacket,
  codes: readonly number[],
  why: string | undefined,
): void {
  const first = codes.findIndex((code) => code >= 0x80);
  if (first < 0) return;
  session.core.log.limited("subscribe refused", 10).warn("subscribe refused", {
    client_id: session.clientId,
    peer: session.transport.peer.address,
    filters: subscriptions
      .filter((_, i) => (codes[i] ?? 0) >= 0x80)
      .map(({ filter }) => filter)
      .slice(0, 5),
    reason: why ?? reasonName(codes[first] ?? 0x80),
  });
}

function tellSubscribed(
  session: Session,
  packet: SubscribePacket,
  made: readonly { subscription: Subscription }[],
): void {
  const { hooks } = session.core;
  if (made.length === 0) return;
  const who = { username: session.username, subscriber_id: session.hookId };
  if (session.version < 5) {
    if (!hooks.wants("on_subscribe")) return;
    const topics = made.map(({ subscription: { filter, qos } }) => ({ topic: filter, qos }));
    hooks.tell("on_subscribe", withContext({ ...who, topics }, session));
    return;
  }
  if (!hooks.wants("on_subscribe_m5")) return;
  const args = {
    ...who,
    topics: made.map(({ subscription }) => subscriptionInfo(subscription, packet.properties)),
    properties: toHookProperties(packet.properties),
  };
  hooks.tell("on_subscribe_m5", withContext(args, session));
}

/** Retained messages for new subscriptions; never for shared ones. MQTT 5.0, 3.3.1.3. */
function sendRetained(
  session: Session,
  made: readonly { subscription: Subscription; isNew: boolean }[],
): void {
  const { core } = session;
  const subscriber = session.subscriber as Subscriber;
  for (const { subscription, isNew } of made) {
    if (subscription.group !== "" || subscription.retainHandling === 2) continue;
    if (subscription.retainHandling === 1 && !isNew) continue;
    const send = (): void => {
      if (subscriber.subscriptions?.get(subscription.filter) !== subscription) return;
      if (!session.isAttached) return;
      const now = core.wallMs();
      const messages = core.router.retained.match(subscriber.mountpoint, subscription.match, now);
      if (messages.length > 0) session.out.queue.offerRetained(messages, subscription);
    };
    core.router.retained.whenLoaded(send);
  }
}
