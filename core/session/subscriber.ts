import type { SessionContext } from "../hooks/define-plugin.ts";
import type { DropReason, SubscriberId } from "../hooks/types.ts";
import type { Message } from "../mqtt/message.ts";
import type { Mount } from "../routing/routes.ts";
import type { MessageRun, Receiver, Subscription } from "../routing/subscription.ts";
import {
  STORED_NO,
  STORED_PENDING,
  type StoredSession,
  type StoredWill,
  type StoreQueue,
} from "../store/types.ts";
import { NOT_SCHEDULED, type Timed } from "../timers.ts";
import type { Core } from "./core.ts";
import type { Delivery } from "./delivery.ts";
import { hookPropertiesOf } from "./hook-arguments.ts";
import { ClientQueue } from "./queue.ts";
import type { Session } from "./session.ts";
import type { SessionSettings } from "./settings.ts";

/** MQTT 5.0, 3.1.2.11.2: the session does not expire. */
export const NEVER_EXPIRES = 0xffff_ffff;

/**
 * What outlives a connection of one client: subscriptions, queue, packet ids, inbound QoS 2 ids, will
 * and deadline. Stored when the session expiry is not 0.
 */
export class Subscriber implements Receiver, StoreQueue, Timed {
  timerSlot = NOT_SCHEDULED;
  timerAtMs = 0;
  readonly core: Core;
  readonly mountpoint: string;
  readonly clientId: string;
  readonly hookId: SubscriberId;
  readonly mount: Mount;
  readonly queue: ClientQueue;
  /** Wall-clock ms when the queue was made in this process. */
  readonly startedAtMs: number;

  /** Queue number in the store, 0 = nothing of this client is stored. */
  id = 0;
  storedCount = 0;
  nextSeq = 1;
  nextPacketId = 1;

  settings: SessionSettings;
  username: string | undefined;
  protocolLevel = 4;
  sessionExpiryS = 0;
  /** Wall-clock ms, 0 = attached or never. */
  expiresAtMs = 0;
  /** Delayed will of the last session, and when it is due (wall-clock ms). */
  will: StoredWill | undefined;
  willAtMs = 0;
  /** When waiting messages of shared subscriptions go to other members, wall-clock ms; 0 = never. */
  requeueAtMs = 0;
  session: Session | undefined;
  /** Of the last session, while there is none. */
  lastContext: SessionContext | undefined;
  /** `allow_multiple_sessions`: every attached session, when there is more than one. */
  others: Session[] | undefined;
  /** Range of seq given out while several sessions were attached; 0 = none, or still going on. */
  severalFrom = 0;
  severalUntil = 0;
  subscriptions: Map<string, Subscription> | undefined;
  inboundIds: Set<number> | undefined;

  constructor(core: Core, mountpoint: string, clientId: string, settings: SessionSettings) {
    this.core = core;
    this.mountpoint = mountpoint;
    this.clientId = clientId;
    this.settings = settings;
    this.hookId = { mountpoint, client_id: clientId };
    this.mount = core.router.mount(mountpoint);
    this.queue = new ClientQueue(this);
    this.startedAtMs = core.wallMs();
  }

  get context(): SessionContext {
    if (this.session !== undefined) return this.session.context;
    this.lastContext ??= {};
    return this.lastContext;
  }

  /** Every attached session. */
  get sessions(): readonly Session[] {
    if (this.others !== undefined) return this.others;
    return this.session === undefined ? [] : [this.session];
  }

  get isOnline(): boolean {
    return this.session !== undefined;
  }

  get isStored(): boolean {
    return this.id !== 0;
  }

  deliver(message: Message, by: Subscription): number {
    if (by.take !== undefined) return by.take(message, by);
    let qos = Math.min(message.qos, by.qos);
    if (this.settings.upgradeOutgoingQos) qos = by.qos;
    const retain = by.retainAsPublished && message.retain;
    this.core.counters.queueMessageIn++;
    const session = this.session;
    if (session === undefined) {
      return this.queue.offerOffline(message, by, qos, retain);
    }
    if (this.others === undefined) return session.out.queue.offer(message, by, qos, retain);
    return this.deliverToSeveral(this.others, message, by, qos, retain);
  }

  deliverRun(run: MessageRun, by: Subscription): boolean {
    const session = this.session;
    if (session === undefined || this.others !== undefined || by.ids !== undefined) return false;
    if (by.take !== undefined) return false;
    if (this.settings.upgradeOutgoingQos && by.qos > 0) return false;
    if (!session.out.sendRun(run)) return false;
    this.core.counters.queueMessageIn += run.count;
    this.core.counters.queueMessageOut += run.count;
    return true;
  }

  /** Belongs to one of several sessions, in whose memory it is. */
  isOfSeveral(seq: number): boolean {
    return (
      this.severalFrom > 0 &&
      seq >= this.severalFrom &&
      (this.severalUntil === 0 || seq < this.severalUntil)
    );
  }

  private deliverToSeveral(
    sessions: Session[],
    message: Message,
    by: Subscription,
    qos: number,
    retain: boolean,
  ): number {
    if (this.settings.queueDeliverMode === "balance") {
      const chosen = sessions[Math.floor(this.core.random() * sessions.length)] as Session;
      return chosen.out.queue.offer(message, by, qos, retain);
    }
    let batch = 0;
    for (const session of sessions) {
      batch = Math.max(batch, session.out.queue.offer(message, by, qos, retain));
    }
    return batch;
  }

  /** Notes a delivery (new or changed) for the store. */
  save(delivery: Delivery): number {
    const { message } = delivery;
    if (delivery.stored === STORED_NO) {
      this.storedCount++;
      if (message !== undefined) message.unsafeCopies++;
    }
    return this.core.store.putEntry(this, delivery, message?.shared === true);
  }

  /**
   * A delivery is over. One that was never handed to the database is never written, and no longer keeps
   * its publisher waiting.
   */
  erase(delivery: Delivery): number {
    const { message } = delivery;
    const wasNeverWritten = delivery.stored === STORED_PENDING;
    this.storedCount--;
    const batch = this.core.store.deleteEntry(this, delivery);
    if (wasNeverWritten && message !== undefined && --message.unsafeCopies === 0) {
      message.answer?.settle();
    }
    return batch;
  }

  addSubscription(subscription: Subscription): void {
    this.subscriptions ??= new Map();
    const old = this.subscriptions.get(subscription.filter);
    if (old !== undefined) this.core.router.unsubscribe(old);
    this.subscriptions.set(subscription.filter, subscription);
    this.core.router.subscribe(subscription);
  }

  /** False when there was none. */
  removeSubscription(filter: string): boolean {
    const old = this.subscriptions?.get(filter);
    if (old === undefined) return false;
    this.subscriptions?.delete(filter);
    this.core.router.unsubscribe(old);
    return true;
  }

  /** Drops every subscription; tells on_topic_unsubscribed. */
  removeAllSubscriptions(tell: boolean): void {
    for (const subscription of this.subscriptions?.values() ?? []) {
      this.core.router.unsubscribe(subscription);
    }
    this.subscriptions = undefined;
    if (tell) {
      this.core.hooks.tell("on_topic_unsubscribed", {
        subscriber_id: this.hookId,
        topics: "all_topics",
      });
    }
  }

  /** The record for the store. */
  record(online: boolean): StoredSession {
    return {
      queueId: this.id,
      mountpoint: this.mountpoint,
      clientId: this.clientId,
      username: this.username,
      protocolLevel: this.protocolLevel,
      sessionExpiryS: this.sessionExpiryS,
      expiresAtMs: this.expiresAtMs,
      online,
      will: online ? this.session?.will : this.will,
      willAtMs: this.willAtMs,
    };
  }

  saveRecord(): number {
    return this.isStored ? this.core.store.putSession(this.record(this.isOnline), this) : 0;
  }

  onTimer(): void {
    this.core.manager.deadline(this);
  }

  tellDrop(delivery: Delivery, reason: DropReason): void {
    const message = delivery.message;
    if (message === undefined || !this.core.hooks.wants("on_message_drop")) return;
    this.core.hooks.tell("on_message_drop", {
      subscriber_id: this.hookId,
      topic: message.topic,
      qos: delivery.qos,
      payload: message.payload,
      properties: hookPropertiesOf(message, this.core.wallMs()),
      reason,
    });
  }

  /** Differs from VerneMQ: only for what is kept, with its true QoS and RETAIN flag. */
  tellOffline(message: Message, qos: number, retain: boolean): void {
    if (!this.core.hooks.wants("on_offline_message")) return;
    this.core.hooks.tell("on_offline_message", {
      subscriber_id: this.hookId,
      qos,
      topic: message.topic,
      payload: message.payload,
      retain,
    });
  }
}
