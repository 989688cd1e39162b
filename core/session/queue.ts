import type { DropReason } from "../hooks/types.ts";
import type { Message } from "../mqtt/message.ts";
import type { Subscription } from "../routing/subscription.ts";
import { ENTRY_QUEUED, STORED_NO } from "../store/types.ts";
import { NOT_SCHEDULED, type Timed } from "../timers.ts";
import { Delivery } from "./delivery.ts";
import { Deque } from "./deque.ts";
import type { Outbound } from "./outbound.ts";
import { PAGE_BYTES, PAGE_ENTRIES, StoredWork } from "./stored-work.ts";
import type { Subscriber } from "./subscriber.ts";

/** Waiting stored messages kept in memory per client; the rest stays in the store until needed. */
const MEMORY_ENTRIES = 1000;
const MEMORY_BYTES = 1_048_576;
/** Fewer waiting messages in memory, and the next page is fetched. */
const REFILL_BELOW = 100;
/** Shortest time between two background searches for expired messages. */
const SWEEP_MS = 2_000;
/** A full queue tells the log so often at most. */
const DROP_LINE_MS = 1_000;

/**
 * Messages that wait for one client. Those of a persistent session are in the store from the first
 * moment; memory holds the end that is delivered next. Everything is bounded by
 * `max_online_messages`, `max_offline_messages` and `max_queue_bytes`.
 */
export class ClientQueue implements Timed {
  timerSlot = NOT_SCHEDULED;
  timerAtMs = 0;
  session: Outbound | undefined;
  private readonly subscriber: Subscriber;
  private readonly isAdditional: boolean;
  readonly stored: StoredWork;
  /** QoS 1 and 2, ascending seq. */
  private waiting: Deque<Delivery> | undefined;
  /** QoS 0: not limited by the in-flight window. */
  private waiting0: Deque<Delivery> | undefined;
  private bytes = 0;
  /** Stored entries that are not in memory. */
  private diskCount = 0;
  private cursor = 0;
  private isPaging = false;
  /** Changes with every attach and detach: a page read for another session is thrown away. */
  epoch = 0;
  /** Earliest expiry among what waits, wall-clock ms; 0 = none expires. */
  private earliestExpiryMs = 0;
  /** Messages dropped that no line of the log has told of. */
  private dropped = 0;
  private dropLineAtMs = -DROP_LINE_MS;
  /** Messages lost since the queue was made, because it was full or they were too large. */
  droppedTotal = 0;

  constructor(subscriber: Subscriber, isAdditional = false) {
    this.subscriber = subscriber;
    this.isAdditional = isAdditional;
    this.stored = new StoredWork(this, subscriber);
  }

  /** Queue of a second session of the same client (`allow_multiple_sessions`): memory only. */
  static additional(subscriber: Subscriber): ClientQueue {
    return new ClientQueue(subscriber, true);
  }

  /** Messages waiting, in memory and in the store, without those in flight. */
  get size(): number {
    return (this.waiting?.length ?? 0) + (this.waiting0?.length ?? 0) + this.diskCount;
  }

  /** Messages that wait in memory, at most `limit`, for operators. */
  inMemory(limit: number): Delivery[] {
    const found: Delivery[] = [];
    for (const from of [this.waiting, this.waiting0]) {
      for (const delivery of from ?? []) {
        if (found.length >= limit) return found;
        found.push(delivery);
      }
    }
    return found;
  }

  get offlineSize(): number {
    return this.subscriber.storedCount - this.stored.trims;
  }

  /** A message for an attached session: sent at once when nothing is in the way. */
  offer(message: Message, by: Subscription, qos: number, retain: boolean): number {
    const session = this.session as Outbound;
    if (qos === 0) {
      if (session.isDirect && (this.waiting0 === undefined || this.waiting0.length === 0)) {
        this.subscriber.core.counters.queueMessageOut++;
        session.sendQos0(message, by.ids, retain);
        return 0;
      }
      return this.enqueue(this.delivery(message, by, qos, retain));
    }
    const delivery = this.delivery(message, by, qos, retain);
    if (session.isDirect && session.hasCredit && this.isClear) {
      message.own();
      this.subscriber.core.counters.queueMessageOut++;
      return session.begin(delivery);
    }
    return this.enqueue(delivery);
  }

  /** A message for a client that is not connected. Only QoS 1 and 2 are kept (but see `storesQos0`). */
  offerOffline(message: Message, by: Subscription, qos: number, retain: boolean): number {
    const { core, settings } = this.subscriber;
    const delivery = this.delivery(message, by, qos, retain);
    if (qos === 0 && settings.storesQos0 !== true) {
      core.counters.queueMessageUnhandled++;
      return 0;
    }
    const limit = settings.maxOfflineMessages;
    if (limit >= 0 && this.offlineSize >= limit && !this.makeRoomOffline(limit)) {
      this.drop(delivery, "queue_full");
      return 0;
    }
    message.own();
    this.noteExpiry(message);
    const batch = this.subscriber.save(delivery);
    core.store.forgetEntry(delivery);
    this.subscriber.tellOffline(message, qos, retain);
    return batch;
  }

  /** Retained messages for a new subscription: before live ones that wait. */
  offerRetained(messages: readonly Message[], by: Subscription): void {
    const { core, settings } = this.subscriber;
    const inFront: Delivery[] = [];
    for (const message of messages) {
      core.counters.queueMessageIn++;
      const qos = settings.upgradeOutgoingQos ? by.qos : Math.min(message.qos, by.qos);
      const isBehind = this.hasWaiting && !this.isPaging && this.diskCount === 0;
      if (isBehind) inFront.push(this.delivery(message, by, qos, true));
      else this.offer(message, by, qos, true);
    }
    const limit = settings.maxOnlineMessages;
    for (const delivery of inFront.reverse()) {
      if (limit >= 0 && this.size >= limit) {
        this.drop(delivery, "queue_full");
        continue;
      }
      if (delivery.qos > 0 && this.subscriber.isStored) this.subscriber.save(delivery);
      this.waiting ??= new Deque();
      this.waiting0 ??= new Deque();
      const deque = delivery.qos === 0 ? this.waiting0 : this.waiting;
      if (this.isLifo) deque.pushBack(delivery);
      else deque.pushFront(delivery);
      this.bytes += delivery.message?.payloadBytes ?? 0;
    }
    this.session?.pump();
  }

  private delivery(message: Message, by: Subscription, qos: number, retain: boolean): Delivery {
    const delivery = new Delivery(this.subscriber.nextSeq++, message, qos, retain, by.ids);
    if (by.group !== "") delivery.sharedBy = by;
    return delivery;
  }

  private get isClear(): boolean {
    return (
      this.diskCount === 0 &&
      !this.isPaging &&
      (this.waiting === undefined || this.waiting.length === 0)
    );
  }

  private enqueue(delivery: Delivery): number {
    const { settings, core } = this.subscriber;
    const message = delivery.message as Message;
    const limit = settings.maxOnlineMessages;
    if (limit >= 0 && this.size >= limit && !this.makeRoom(delivery, limit)) {
      this.drop(delivery, "queue_full");
      return 0;
    }
    const bytesMax = settings.maxQueueBytes;
    if (bytesMax > 0 && this.bytes + message.payloadBytes > bytesMax) {
      this.drop(delivery, "queue_full");
      return 0;
    }
    message.own();
    this.noteExpiry(message);
    if (delivery.qos === 0) {
      this.waiting0 ??= new Deque();
      this.waiting0.pushBack(delivery);
      this.bytes += message.payloadBytes;
      this.session?.pump();
      return 0;
    }
    const batch = this.subscriber.isStored ? this.subscriber.save(delivery) : 0;
    if (this.subscriber.isStored && !this.isAdditional && this.isMemoryFull()) {
      this.diskCount++;
      core.store.forgetEntry(delivery);
    } else {
      this.keep(delivery);
    }
    this.session?.pump();
    return batch;
  }

  /** Stored messages behind a page that is still on disk must not overtake it. */
  private isMemoryFull(): boolean {
    // Several sessions share what is stored: only memory tells whose a message is.
    if (this.subscriber.others !== undefined) return false;
    if (this.diskCount > 0 || this.isPaging) return !this.isLifo;
    return (this.waiting?.length ?? 0) >= MEMORY_ENTRIES || this.bytes >= MEMORY_BYTES;
  }

  private keep(delivery: Delivery): void {
    this.waiting ??= new Deque();
    if (this.isLifo && this.subscriber.isStored && this.waiting.length >= MEMORY_ENTRIES) {
      this.evictOldest(this.waiting);
    }
    this.waiting.pushBack(delivery);
    if (!this.isLifo) this.cursor = Math.max(this.cursor, delivery.seq + 1);
    this.bytes += delivery.message?.payloadBytes ?? 0;
  }

  private evictOldest(waiting: Deque<Delivery>): void {
    const oldest = waiting.popFront();
    if (oldest === undefined) return;
    this.bytes -= oldest.message?.payloadBytes ?? 0;
    this.cursor = Math.max(this.cursor, oldest.seq);
    this.diskCount++;
    this.subscriber.core.store.forgetEntry(oldest);
  }

  private get isLifo(): boolean {
    return this.subscriber.settings.queueType === "lifo";
  }

  /** Whether a full queue gives up its oldest message, not the new one. */
  get dropsOld(): boolean {
    const policy = this.subscriber.settings.queueDropPolicy;
    return policy === "auto" ? this.isLifo : policy === "drop_old";
  }

  /** Frees a place in a full online queue: expired first, then QoS 0, then by the drop policy. */
  private makeRoom(incoming: Delivery, limit: number): boolean {
    if (limit === 0) return false;
    if (this.hasExpired()) {
      this.dropExpiredInMemory();
      if (this.size < limit) return true;
    }
    if (incoming.qos > 0) {
      const victim = this.waiting0?.popBack();
      if (victim !== undefined) {
        this.bytes -= victim.message?.payloadBytes ?? 0;
        this.drop(victim, "queue_full");
        return true;
      }
    }
    if (!this.dropsOld) return false;
    if (this.isLifo && this.diskCount > 0) {
      this.diskCount--;
      this.stored.trimOldest();
      return true;
    }
    const oldest =
      incoming.qos === 0 && this.waiting0?.length ? this.waiting0.popFront() : this.popOldest();
    if (oldest === undefined) return false;
    this.drop(oldest, "queue_full");
    return true;
  }

  private popOldest(): Delivery | undefined {
    const oldest = this.waiting?.popFront() ?? this.waiting0?.popFront();
    if (oldest !== undefined) this.bytes -= oldest.message?.payloadBytes ?? 0;
    return oldest;
  }

  private makeRoomOffline(limit: number): boolean {
    if (limit === 0) return false;
    if (this.stored.isSweeping || this.hasExpired()) {
      // Places of expired messages become free in a moment; what was too much is dropped then.
      if (!this.stored.isSweeping) this.sweep();
      return this.offlineSize < 2 * limit;
    }
    if (!this.dropsOld) return false;
    this.stored.trimOldest();
    return true;
  }

  /**
   * A queue found in the store: removals that a crash interrupted are made up for, and some of it may
   * have expired.
   */
  restored(): void {
    if (this.subscriber.storedCount > 0) this.earliestExpiryMs = 1;
    const limit = this.subscriber.settings.maxOfflineMessages;
    const excess = this.subscriber.storedCount - limit;
    if (limit > 0 && excess > 0 && this.dropsOld) this.stored.trimOldest(excess);
  }

  /** Next message to send: in queue order, QoS 1 and 2 only when the window has room. */
  take(hasCredit: boolean): Delivery | undefined {
    const first = hasCredit ? this.peek(this.waiting) : undefined;
    const first0 = this.peek(this.waiting0);
    if (first === undefined && first0 === undefined) return undefined;
    const zero =
      first === undefined ||
      (first0 !== undefined && (this.isLifo ? first0.seq > first.seq : first0.seq < first.seq));
    const from = (zero ? this.waiting0 : this.waiting) as Deque<Delivery>;
    const next = this.isLifo ? from.popBack() : from.popFront();
    this.bytes -= next?.message?.payloadBytes ?? 0;
    this.refill();
    return next;
  }

  private peek(from: Deque<Delivery> | undefined): Delivery | undefined {
    if (from === undefined || from.length === 0) return undefined;
    return this.isLifo ? from.back() : from.front();
  }

  /** True while something could be sent if the socket and the window let it. */
  get hasWaiting(): boolean {
    return (
      (this.waiting !== undefined && this.waiting.length > 0) ||
      (this.waiting0 !== undefined && this.waiting0.length > 0)
    );
  }

  /**
   * A session takes the queue over. Stored messages are read page by page: in-flight ones first come
   * back with their packet ids, then what waited, up to `max_online_messages` (unless overridden).
   */
  attach(session: Outbound): void {
    this.session = session;
    this.epoch++;
    this.diskCount = this.isAdditional ? 0 : this.subscriber.storedCount;
    this.cursor = this.isLifo ? this.subscriber.nextSeq - 1 : 0;
    this.isPaging = this.diskCount > 0;
  }

  /** The session may be sent to: what is stored is read now. */
  start(): void {
    if (!this.isPaging) {
      this.session?.pump();
      return;
    }
    this.subscriber.core.counters.queueInitializedFromStorage++;
    const epoch = this.epoch;
    const limit = this.subscriber.settings.overrideMaxOnlineMessages
      ? -1
      : this.subscriber.settings.maxOnlineMessages;
    if (limit < 0 || this.subscriber.storedCount <= limit) {
      this.stored.run(() => this.readPage(epoch));
    } else {
      this.stored.run(() => this.readLimited(epoch, limit));
    }
  }

  private page(): void {
    if (this.isPaging) return;
    this.isPaging = true;
    const epoch = this.epoch;
    this.stored.run(() => this.readPage(epoch));
  }

  private async read(): Promise<Delivery[]> {
    const entries = await this.subscriber.core.store.readEntries(this.subscriber, this.cursor, {
      limit: PAGE_ENTRIES,
      bytesMax: PAGE_BYTES,
      descending: this.isLifo,
    });
    return entries.map((entry) => Delivery.from(entry));
  }

  private async readPage(epoch: number): Promise<void> {
    if (epoch !== this.epoch) return;
    const page = await this.read();
    if (epoch !== this.epoch) {
      for (const delivery of page) this.subscriber.core.store.forgetEntry(delivery);
      return;
    }
    this.isPaging = false;
    this.diskCount = page.length === 0 ? 0 : Math.max(0, this.diskCount - page.length);
    this.admit(page);
    this.refill();
    this.session?.pump();
  }

  /** Fetches the next page when little is left in memory; a page may hold nothing that waits. */
  private refill(): void {
    if (this.diskCount > 0 && (this.waiting?.length ?? 0) < REFILL_BELOW) this.page();
  }

  /** Offline content above `max_online_messages`: fifo keeps the oldest, lifo the newest. */
  private async readLimited(epoch: number, limit: number): Promise<void> {
    let room = limit;
    const until = this.subscriber.nextSeq;
    while (epoch === this.epoch) {
      const page = await this.read();
      if (epoch !== this.epoch) {
        for (const delivery of page) this.subscriber.core.store.forgetEntry(delivery);
        return;
      }
      const admitted: Delivery[] = [];
      for (const delivery of page) {
        if (delivery.state !== ENTRY_QUEUED || delivery.seq >= until) admitted.push(delivery);
        else if (room > 0) {
          room--;
          admitted.push(delivery);
        } else {
          this.moveCursor(delivery);
          this.drop(delivery, "queue_full");
        }
      }
      this.diskCount = page.length === 0 ? 0 : Math.max(0, this.diskCount - page.length);
      this.admit(admitted);
      this.session?.pump();
      const last = page.at(-1);
      if (last === undefined || this.diskCount === 0 || (!this.isLifo && last.seq >= until)) break;
      if (admitted.length > 0 && (this.waiting?.length ?? 0) >= MEMORY_ENTRIES && room > 0) {
        await new Promise((resolve) => setImmediate(resolve));
      }
    }
    if (epoch !== this.epoch) return;
    this.isPaging = false;
    this.refill();
    this.session?.pump();
  }

  private moveCursor(delivery: Delivery): void {
    this.cursor = this.isLifo ? delivery.seq - 1 : delivery.seq + 1;
  }

  private admit(page: Delivery[]): void {
    for (const delivery of page) {
      this.moveCursor(delivery);
      if (this.subscriber.isOfSeveral(delivery.seq)) {
        this.subscriber.core.store.forgetEntry(delivery);
        continue;
      }
      if (delivery.state !== ENTRY_QUEUED) {
        this.session?.resume(delivery);
        continue;
      }
      this.waiting ??= new Deque();
      if (this.isLifo) this.waiting.pushFront(delivery);
      else this.waiting.pushBack(delivery);
      this.bytes += delivery.message?.payloadBytes ?? 0;
      if (delivery.message !== undefined) this.noteExpiry(delivery.message);
    }
  }

  /**
   * The session left. What is in memory is returned in order for the caller to hand over or to count
   * as unhandled, with `keepStored` without those that stay in the store.
   */
  detach(keepStored: boolean): Delivery[] {
    this.session = undefined;
    this.epoch++;
    this.isPaging = false;
    this.diskCount = 0;
    this.bytes = 0;
    const left: Delivery[] = [];
    for (const delivery of this.waiting ?? []) {
      if (delivery.stored === STORED_NO || !keepStored) left.push(delivery);
      else this.subscriber.core.store.forgetEntry(delivery);
    }
    for (const delivery of this.waiting0 ?? []) left.push(delivery);
    this.waiting = undefined;
    this.waiting0 = undefined;
    return left;
  }

  /** Puts messages of a session that left in front, for another session of the same client. */
  giveBack(deliveries: Delivery[]): void {
    for (const delivery of deliveries.reverse()) {
      if (delivery.message === undefined) continue;
      delivery.state = ENTRY_QUEUED;
      delivery.packetId = 0;
      this.waiting ??= new Deque();
      this.waiting.pushFront(delivery);
      this.bytes += delivery.message?.payloadBytes ?? 0;
    }
    this.session?.pump();
  }

  /** Ends a delivery that will not happen: counted, hooked, removed from the store. */
  drop(delivery: Delivery, reason: DropReason): void {
    const { core } = this.subscriber;
    if (reason === "expired") core.counters.queueMessageExpired++;
    else core.counters.queueMessageDrop++;
    if (delivery.stored !== STORED_NO) this.subscriber.erase(delivery);
    this.subscriber.tellDrop(delivery, reason);
    if (reason !== "queue_full") return;
    this.dropped++;
    this.droppedTotal++;
    const { nowMs } = core.wheel;
    if (nowMs - this.dropLineAtMs < DROP_LINE_MS) return;
    this.dropLineAtMs = nowMs;
    this.logDropped();
  }

  /** One line for what was dropped since the last one. */
  logDropped(): void {
    if (this.dropped === 0) return;
    const { core, hookId: id } = this.subscriber;
    core.log.limited("messages dropped", 10).warn("messages dropped, queue full", {
      client_id: id.client_id,
      ...(id.mountpoint === "" ? {} : { mountpoint: id.mountpoint }),
      dropped: this.dropped,
      waiting: this.size,
      is_online: this.session !== undefined,
    });
    this.dropped = 0;
  }

  /** A message that waits may expire: it is looked for then. */
  noteExpiry(message: Message): void {
    const at = message.expiresAtMs;
    if (at === 0 || (this.earliestExpiryMs !== 0 && at >= this.earliestExpiryMs)) return;
    this.earliestExpiryMs = at;
    const { core } = this.subscriber;
    const inMs = Math.max(SWEEP_MS, at - core.wallMs());
    core.wheel.schedule(this, core.wheel.nowMs + inMs);
  }

  private hasExpired(): boolean {
    return this.earliestExpiryMs !== 0 && this.earliestExpiryMs <= this.subscriber.core.wallMs();
  }

  onTimer(): void {
    if (this.session !== undefined) this.dropExpiredInMemory();
    if (this.subscriber.isStored) this.sweep();
  }

  private dropExpiredInMemory(): void {
    const now = this.subscriber.core.wallMs();
    this.earliestExpiryMs = 0;
    for (const deque of [this.waiting, this.waiting0]) {
      deque?.filter((delivery) => {
        const at = delivery.message?.expiresAtMs ?? 0;
        if (at === 0 || at > now) {
          if (delivery.message !== undefined) this.noteExpiry(delivery.message);
          return true;
        }
        this.bytes -= delivery.message?.payloadBytes ?? 0;
        this.drop(delivery, "expired");
        return false;
      });
    }
  }

  /** Looks for expired messages in the store while the client is away. */
  private sweep(): void {
    if (this.session !== undefined || this.stored.isSweeping) return;
    this.earliestExpiryMs = 0;
    this.stored.sweep();
  }

  /** The store could not be read: the session goes on with what comes now. */
  pagingFailed(): void {
    this.isPaging = false;
  }

  /** The client's state is gone. */
  close(): void {
    this.epoch++;
    this.subscriber.core.wheel.cancel(this);
  }
}
