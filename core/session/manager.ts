import type { ListenerSettings } from "../listeners/types.ts";
import { parseShared } from "../mqtt/topics.ts";
import type { Subscription } from "../routing/subscription.ts";
import type { LoadedSession, StoredSubscription } from "../store/types.ts";
import type { Core } from "./core.ts";
import type { Delivery } from "./delivery.ts";
import { withContext } from "./hook-arguments.ts";
import { ClientQueue } from "./queue.ts";
import type { Ending, Session } from "./session.ts";
import type { SessionSettings } from "./settings.ts";
import { NEVER_EXPIRES, Subscriber } from "./subscriber.ts";
import { TopicCounts } from "./topic-counts.ts";
import type { SessionTracer } from "./tracer.ts";
import { publishWill, willDelay } from "./will.ts";

export type { Core, SessionTracer, Subscriber };
export { TopicCounts };

export interface Attachment {
  /** Seconds the state survives the connection. */
  expiryS: number;
  window: number;
  packetBytesMax: number;
  aliasMax: number;
}

/**
 * Every client known here by (mountpoint, client id): takeover, attachment, departure, expiry. On one
 * node a takeover needs no waiting state: the old session is ended and its state handed on within one
 * call, so a new CONNECT always wins at once.
 */
export class SessionManager {
  readonly subscribers = new Map<string, Subscriber>();
  /** Client ids of plugins' sessions, with the listener that stands for each. */
  private readonly held = new Map<string, ListenerSettings>();
  private readonly core: Core;
  /** Batch that holds the removal of the client forgotten last. */
  private removedIn = 0;

  constructor(core: Core) {
    this.core = core;
  }

  find(mountpoint: string, clientId: string): Subscriber | undefined {
    return this.subscribers.get(keyOf(mountpoint, clientId));
  }

  /**
   * The state of a plugin's session, found or made: it is kept without a connection and never expires.
   * While it is held nobody else can connect with its client id; undefined = somebody holds it already.
   */
  hold(
    listener: ListenerSettings,
    clientId: string,
    settings: SessionSettings,
    username: string,
  ): Subscriber | undefined {
    const { core } = this;
    const { mountpoint } = listener;
    const key = keyOf(mountpoint, clientId);
    const holder = this.held.get(key);
    if (holder !== undefined && holder !== listener) return undefined;
    this.held.set(key, listener);
    const known = this.subscribers.get(key);
    known?.session?.end({ code: 0x8e, reason: "session_taken_over", publishWill: true });
    const subscriber =
      this.subscribers.get(key) ?? new Subscriber(core, mountpoint, clientId, settings);
    if (!this.subscribers.has(key)) core.counters.queueSetup++;
    this.subscribers.set(key, subscriber);
    core.wheel.cancel(subscriber);
    subscriber.settings = settings;
    subscriber.username = username;
    subscriber.sessionExpiryS = NEVER_EXPIRES;
    subscriber.expiresAtMs = 0;
    if (!subscriber.isStored) subscriber.id = core.store.newQueueId();
    subscriber.saveRecord();
    return subscriber;
  }

  /** A plugin's session is no longer held; with `cleanup` its state goes too. */
  letGo(subscriber: Subscriber, cleanup: boolean): void {
    const key = keyOf(subscriber.mountpoint, subscriber.clientId);
    this.held.delete(key);
    if (cleanup && this.subscribers.get(key) === subscriber) this.discard(subscriber);
  }

  /** Sessions of a plugin, by their user name, that it does not hold: left from an earlier start. */
  *leftBy(username: string): IterableIterator<Subscriber> {
    for (const [key, subscriber] of this.subscribers) {
      if (subscriber.username === username && !this.held.has(key)) yield subscriber;
    }
  }

  /** True for the state of a plugin's session. */
  isOfPlugin({ mountpoint, clientId }: Subscriber): boolean {
    return this.held.has(keyOf(mountpoint, clientId));
  }

  /** True when the client id is that of a plugin's session and somebody else connects with it. */
  isHeld(session: Session): boolean {
    const holder = this.held.get(keyOf(session.mount.name, session.clientId));
    return holder !== undefined && holder !== session.transport.listener;
  }

  /** Sessions attached now. */
  *sessions(): IterableIterator<Session> {
    for (const subscriber of this.subscribers.values()) {
      if (subscriber.others !== undefined) yield* subscriber.others;
      else if (subscriber.session !== undefined) yield subscriber.session;
    }
  }

  /**
   * Makes the session the one of its client. Returns Session Present and the batch CONNACK waits for.
   */
  attach(session: Session, how: Attachment): { sessionPresent: boolean; batch: number } {
    const { core, settings } = session;
    const mountpoint = session.mount.name;
    const key = keyOf(mountpoint, session.clientId);
    let existing = this.subscribers.get(key);
    let batch = 0;
    if (settings.allowMultipleSessions && existing?.session !== undefined) {
      return { sessionPresent: true, batch: this.attachAnother(existing, session, how) };
    }
    const isClean = session.cleanStart && !settings.allowMultipleSessions;
    if (existing?.session !== undefined) {
      this.removedIn = 0;
      const reason = "session_taken_over";
      existing.session.end({ code: 0x8e, reason, publishWill: true, cleanup: isClean });
      batch = this.removedIn;
    } else if (existing !== undefined) {
      // Its deadline may have passed since the wheel last turned.
      this.deadline(existing);
    }
    existing = this.subscribers.get(key);
    if (existing !== undefined && isClean) {
      batch = this.discard(existing);
      existing = undefined;
    }
    const subscriber = existing ?? new Subscriber(core, mountpoint, session.clientId, settings);
    if (existing === undefined) {
      this.subscribers.set(key, subscriber);
      core.counters.queueSetup++;
    }
    core.wheel.cancel(subscriber);
    // A reconnect in time cancels a delayed will. MQTT 5.0, 3.1.3.2.2
    subscriber.will = undefined;
    subscriber.willAtMs = 0;
    subscriber.requeueAtMs = 0;
    subscriber.severalFrom = 0;
    subscriber.severalUntil = 0;
    this.adopt(subscriber, session, how);
    subscriber.session = session;
    if (how.expiryS > 0 && !subscriber.isStored) subscriber.id = core.store.newQueueId();
    batch = Math.max(batch, subscriber.saveRecord());
    session.out.attach(subscriber, subscriber.queue, how);
    core.hooks.tell("on_client_wakeup", { subscriber_id: subscriber.hookId });
    return { sessionPresent: existing !== undefined, batch };
  }

  private adopt(subscriber: Subscriber, session: Session, how: Attachment): void {
    session.subscriber = subscriber;
    session.suppressWillOnTakeover = session.settings.suppressLwtOnTakeover;
    subscriber.settings = session.settings;
    subscriber.username = session.username;
    subscriber.protocolLevel = session.level;
    subscriber.sessionExpiryS = how.expiryS;
    subscriber.expiresAtMs = 0;
  }

  /** `allow_multiple_sessions`: the others stay; clean session is ignored. */
  private attachAnother(subscriber: Subscriber, session: Session, how: Attachment): number {
    this.adopt(subscriber, session, how);
    subscriber.others ??= [subscriber.session as Session];
    if (subscriber.severalFrom === 0) subscriber.severalFrom = subscriber.nextSeq;
    subscriber.severalUntil = 0;
    subscriber.others.push(session);
    session.out.attach(subscriber, ClientQueue.additional(subscriber), how);
    this.core.hooks.tell("on_client_wakeup", { subscriber_id: subscriber.hookId });
    return 0;
  }

  /** A session ended, for whatever reason. */
  detach(session: Session, ending: Ending): void {
    const subscriber = session.subscriber as Subscriber;
    const isLast = subscriber.others === undefined;
    const suppressed = ending.code === 0x8e && session.suppressWillOnTakeover;
    const will = ending.publishWill && !suppressed ? session.will : undefined;
    session.will = undefined;
    if (!isLast) {
      if (will !== undefined) publishWill(this.core, subscriber, will);
      this.leaveOthers(subscriber, session);
      return;
    }
    if (subscriber.session !== session) return;
    subscriber.session = undefined;
    subscriber.lastContext = session.ownContext;
    const left = [...session.out.unacknowledged(true), ...session.out.queue.detach(true)];
    const keeps = subscriber.sessionExpiryS > 0 && ending.cleanup !== true;
    if (keeps) this.goOffline(subscriber, left, will, ending);
    else this.goAway(subscriber, left, will, ending);
  }

  private goOffline(
    subscriber: Subscriber,
    left: Delivery[],
    will: Session["will"],
    ending: Ending,
  ): void {
    const { core } = this;
    core.counters.queueMessageUnhandled += left.length;
    const now = core.wallMs();
    const expiryS = subscriber.sessionExpiryS;
    subscriber.expiresAtMs = expiryS === NEVER_EXPIRES ? 0 : now + expiryS * 1000;
    if (will !== undefined) {
      const delayS = willDelay(will, subscriber.settings.maxLastWillDelayS, expiryS);
      if (delayS === 0) publishWill(core, subscriber, will);
      else {
        subscriber.will = will;
        subscriber.willAtMs = now + delayS * 1000;
      }
    }
    this.planRequeue(subscriber);
    if (!subscriber.isStored) subscriber.id = core.store.newQueueId();
    core.store.putSession(subscriber.record(false), subscriber);
    this.armDeadline(subscriber);
    tellLeft(core, "on_client_offline", subscriber, ending.reason);
  }

  private goAway(
    subscriber: Subscriber,
    left: Delivery[],
    will: Session["will"],
    ending: Ending,
  ): void {
    const { core } = this;
    if (will !== undefined) publishWill(core, subscriber, will);
    const isTakeover = ending.code === 0x8e;
    this.removedIn = this.forget(subscriber, !isTakeover);
    this.handOver(left);
    tellLeft(core, "on_client_gone", subscriber, ending.reason);
  }

  /**
   * QoS 1 and 2 messages of a leaving member go back to its group; the rest counts as unhandled.
   * Differs from VerneMQ, which loses them.
   */
  private handOver(left: readonly Delivery[]): void {
    for (const delivery of left) {
      const { sharedBy, message } = delivery;
      // [MQTT-4.8.2-5] a QoS 2 delivery that has begun is for nobody else.
      const mayMove = delivery.qos === 1 || (delivery.qos === 2 && delivery.packetId === 0);
      const isOpen = mayMove && message !== undefined && sharedBy !== undefined;
      if (isOpen && this.core.router.handOver(sharedBy, message)) continue;
      this.core.counters.queueMessageUnhandled++;
    }
  }

  private leaveOthers(subscriber: Subscriber, session: Session): void {
    const others = (subscriber.others as Session[]).filter((other) => other !== session);
    const heir = others[0] as Session;
    const left = [...session.out.unacknowledged(false), ...session.out.queue.detach(false)];
    if (subscriber.settings.queueDeliverMode === "balance") {
      heir.out.queue.giveBack(left);
    } else {
      for (const delivery of left) if (delivery.stored !== 0) subscriber.erase(delivery);
    }
    subscriber.others = others.length > 1 ? others : undefined;
    if (subscriber.others === undefined) subscriber.severalUntil = subscriber.nextSeq;
    subscriber.session = heir;
  }

  /** Removes a client's state; a pending delayed will is due now. Returns the store batch. */
  private discard(subscriber: Subscriber): number {
    if (subscriber.will !== undefined) publishWill(this.core, subscriber, subscriber.will);
    subscriber.will = undefined;
    return this.forget(subscriber, false);
  }

  private forget(subscriber: Subscriber, tell: boolean): number {
    const { core } = this;
    subscriber.removeAllSubscriptions(tell);
    this.subscribers.delete(keyOf(subscriber.mountpoint, subscriber.clientId));
    core.cluster.release(subscriber.hookId);
    core.wheel.cancel(subscriber);
    subscriber.queue.close();
    core.counters.queueTeardown++;
    core.counters.queueMessageUnhandled += subscriber.storedCount;
    if (!subscriber.isStored) return 0;
    const batch = core.store.deleteSession(subscriber.id);
    subscriber.id = 0;
    return batch;
  }

  // ---- deadlines of clients that are away

  private planRequeue(subscriber: Subscriber): void {
    const afterS = subscriber.settings.sharedRequeueOfflineAfterS;
    if (afterS > 0) subscriber.requeueAtMs = this.core.wallMs() + afterS * 1000;
  }

  private armDeadline(subscriber: Subscriber): void {
    const at = Math.min(
      subscriber.expiresAtMs || Infinity,
      subscriber.willAtMs || Infinity,
      subscriber.requeueAtMs || Infinity,
    );
    if (at === Infinity) return;
    const { wheel } = this.core;
    wheel.schedule(subscriber, wheel.refresh() + Math.max(0, at - this.core.wallMs()));
  }

  /** Called by the wheel: publishes a delayed will, expires a session. */
  deadline(subscriber: Subscriber): void {
    if (subscriber.isOnline) return;
    const { core } = this;
    const now = core.wallMs();
    const isExpired = subscriber.expiresAtMs !== 0 && subscriber.expiresAtMs <= now;
    if (subscriber.will !== undefined && (isExpired || subscriber.willAtMs <= now)) {
      const will = subscriber.will;
      subscriber.will = undefined;
      subscriber.willAtMs = 0;
      publishWill(core, subscriber, will);
      if (!isExpired) subscriber.saveRecord();
    }
    if (!isExpired) {
      if (subscriber.requeueAtMs !== 0 && subscriber.requeueAtMs <= now) {
        subscriber.requeueAtMs = 0;
        subscriber.queue.stored.requeueShared();
      }
      this.armDeadline(subscriber);
      return;
    }
    this.forget(subscriber, true);
    core.hooks.tell("on_session_expired", { subscriber_id: subscriber.hookId });
  }

  // ---- admin

  /** `session disconnect`; false when there is no such client. */
  disconnect(mountpoint: string, clientId: string, cleanup: boolean): boolean {
    const subscriber = this.find(mountpoint, clientId);
    if (subscriber === undefined) return false;
    const sessions = [...subscriber.sessions];
    if (sessions.length === 0 && !cleanup) return false;
    for (const session of sessions) {
      session.end({ code: 0x98, reason: "administrative_action", publishWill: true, cleanup });
    }
    if (cleanup && sessions.length === 0) {
      this.discard(subscriber);
      this.core.hooks.tell("on_topic_unsubscribed", {
        subscriber_id: subscriber.hookId,
        topics: "all_topics",
      });
      this.core.hooks.tell("on_client_gone", { subscriber_id: subscriber.hookId });
    }
    return true;
  }

  // ---- start and stop

  /** Brings stored clients back: subscriptions, counters, deadlines. No message is read. */
  async restore(): Promise<void> {
    const interrupted = new Set<Subscriber>();
    for await (const loaded of this.core.store.loadSessions()) {
      const subscriber = this.restoreOne(loaded);
      if (loaded.session.online) interrupted.add(subscriber);
    }
    for (const subscriber of this.subscribers.values()) {
      if (!interrupted.has(subscriber)) this.deadline(subscriber);
    }
    for (const subscriber of interrupted) this.endInterrupted(subscriber);
  }

  private restoreOne({ session, queue, subscriptions, inboundIds }: LoadedSession): Subscriber {
    const subscriber = new Subscriber(
      this.core,
      session.mountpoint,
      session.clientId,
      this.core.settings,
    );
    subscriber.id = session.queueId;
    subscriber.storedCount = queue.storedCount;
    subscriber.nextSeq = queue.nextSeq;
    subscriber.nextPacketId = queue.nextPacketId;
    subscriber.username = session.username;
    subscriber.protocolLevel = session.protocolLevel;
    subscriber.sessionExpiryS = session.sessionExpiryS;
    subscriber.expiresAtMs = session.expiresAtMs;
    subscriber.will = session.will;
    subscriber.willAtMs = session.willAtMs;
    subscriber.queue.restored();
    this.planRequeue(subscriber);
    if (inboundIds.length > 0) subscriber.inboundIds = new Set(inboundIds);
    for (const stored of subscriptions) {
      subscriber.addSubscription(fromStored(subscriber, stored));
    }
    this.subscribers.set(keyOf(session.mountpoint, session.clientId), subscriber);
    this.core.counters.queueSetup++;
    return subscriber;
  }

  /** The broker died while the client was connected: its connection ends now. */
  private endInterrupted(subscriber: Subscriber): void {
    const { will } = subscriber;
    subscriber.will = undefined;
    if (subscriber.sessionExpiryS > 0) {
      this.goOffline(subscriber, [], will, { reason: "broker restart", publishWill: true });
    } else {
      if (will !== undefined) publishWill(this.core, subscriber, will);
      this.forget(subscriber, true);
    }
  }

  /** Ends every session for a shutdown: v5 clients get DISCONNECT 0x8B. */
  stop(): void {
    for (const session of [...this.sessions()]) {
      session.end({ code: 0x8b, reason: "server_shutting_down", publishWill: true });
    }
    for (const session of [...this.core.early]) {
      session.end({ reason: "server_shutting_down", publishWill: false });
    }
    for (const subscriber of this.subscribers.values()) this.core.wheel.cancel(subscriber);
  }
}

function keyOf(mountpoint: string, clientId: string): string {
  return mountpoint === "" ? clientId : `${mountpoint}\0${clientId}`;
}

export function storedSubscription(subscription: Subscription): StoredSubscription {
  return {
    filter: subscription.filter,
    qos: subscription.qos,
    noLocal: subscription.noLocal,
    retainAsPublished: subscription.retainAsPublished,
    retainHandling: subscription.retainHandling,
    subscriptionId: subscription.ids?.[0] ?? 0,
    ...(subscription.requestedFilter === undefined
      ? {}
      : { requestedFilter: subscription.requestedFilter }),
  };
}

function fromStored(subscriber: Subscriber, stored: StoredSubscription): Subscription {
  const shared = parseShared(stored.filter);
  return {
    receiver: subscriber,
    filter: stored.filter,
    group: shared?.group ?? "",
    match: shared?.filter ?? stored.filter,
    qos: stored.qos,
    noLocal: stored.noLocal,
    retainAsPublished: stored.retainAsPublished,
    retainHandling: stored.retainHandling,
    ids: stored.subscriptionId === 0 ? undefined : [stored.subscriptionId],
    requestedFilter: stored.requestedFilter,
  };
}

function tellLeft(
  core: Core,
  hook: "on_client_offline" | "on_client_gone",
  subscriber: Subscriber,
  reason: string,
): void {
  if (!core.hooks.wants(hook)) return;
  core.hooks.tell(hook, withContext({ subscriber_id: subscriber.hookId, reason }, subscriber));
}
