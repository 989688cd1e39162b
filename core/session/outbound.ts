import { isPromise } from "../hooks/chain.ts";
import type { HookModifiers, Verdict } from "../hooks/types.ts";
import { fromHookProperties } from "../mqtt/hook-properties.ts";
import {
  copyBytes,
  FRAME_V4,
  FRAME_V4_ID,
  FRAME_V5,
  FRAME_V5_ID,
  lengthBytes,
  Message,
  type WaitingAnswer,
  writeLength,
} from "../mqtt/message.ts";
import { PUBACK, PUBLISH, PUBREC, PUBREL } from "../mqtt/packets.ts";
import { encodePublishProperties } from "../mqtt/publish-properties.ts";
import type { MessageRun } from "../routing/subscription.ts";
import { ENTRY_PUBLISHED, ENTRY_RELEASED, STORED_NO } from "../store/types.ts";
import { NOT_SCHEDULED, type Timed } from "../timers.ts";
import type { CommitWaiter } from "./commits.ts";
import type { Delivery } from "./delivery.ts";
import { Deque } from "./deque.ts";
import { hookPropertiesOf, withContext } from "./hook-arguments.ts";
import { Inflight } from "./inflight.ts";
import { COPY_MAX, Outbox } from "./outbox.ts";
import type { ClientQueue } from "./queue.ts";
import type { Session } from "./session.ts";
import type { Subscriber } from "./subscriber.ts";

/** Something that may only be sent once a store batch is durable; sent in order. */
class Deferred implements WaitingAnswer {
  batch: number;
  /** PUBACK, PUBREC, PUBREL, PUBCOMP; PUBLISH sends `delivery`; 0 runs `action`. */
  readonly type: number;
  readonly packetId: number;
  readonly reasonCode: number;
  readonly delivery: Delivery | undefined;
  readonly action: (() => void) | undefined;
  private readonly out: Outbound;

  constructor(
    out: Outbound,
    batch: number,
    type: number,
    packetId: number,
    reasonCode: number,
    what?: Delivery | (() => void),
  ) {
    this.out = out;
    this.batch = batch;
    this.type = type;
    this.packetId = packetId;
    this.reasonCode = reasonCode;
    this.action = typeof what === "function" ? what : undefined;
    this.delivery = typeof what === "function" ? undefined : what;
  }

  settle(): void {
    this.batch = 0;
    this.out.settled(this);
  }
}

/** Ranges of frames below this are copied behind what waits; larger ones are handed over as they are. */
const SHARE_MIN = 4096;

/** Answers waiting for the store above this stop the reading of the client's socket. */
export const DEFERRED_MAX = 4096;

/** The sending half of a session: in-flight window, frames, and answers that wait for the store. */
export class Outbound implements CommitWaiter, Timed {
  timerSlot = NOT_SCHEDULED;
  timerAtMs = 0;
  readonly outbox: Outbox;
  readonly inflight = new Inflight();
  /** PUBLISH packets sent. */
  sent = 0;
  private readonly session: Session;
  /** Set by `attach`. */
  private subscriber: Subscriber | undefined;
  private ownQueue: ClientQueue | undefined;
  private deferred: Deque<Deferred> | undefined;
  private isWaitingForCommit = false;
  /** CONNACK is out. */
  private isOpen = false;
  private isPumping = false;
  /** An on_deliver hook has not answered yet. */
  private isAsking = false;
  /** The delivery it is asked about, when it has left the queue. */
  private asked: Delivery | undefined;
  /** In-flight deliveries of an earlier connection that on_deliver must see again, in order. */
  private resuming: Deque<Delivery> | undefined;
  private isV5 = false;
  /** QoS 1 and 2 messages that may be unacknowledged. */
  private window = 0;
  private packetBytesMax = Number.POSITIVE_INFINITY;
  private aliasMax = 0;
  private aliases: Map<string, number> | undefined;

  constructor(session: Session) {
    this.session = session;
    this.outbox = new Outbox(session.transport, session.core.flusher, session.core.counters);
  }

  get queue(): ClientQueue {
    return this.ownQueue as ClientQueue;
  }

  /** Connects the session to the subscriber's queue; nothing is sent before `open`. */
  attach(
    subscriber: Subscriber,
    queue: ClientQueue,
    limits: { window: number; packetBytesMax: number; aliasMax: number },
  ): void {
    this.subscriber = subscriber;
    this.ownQueue = queue;
    this.isV5 = this.session.version === 5;
    this.window = limits.window;
    this.packetBytesMax = limits.packetBytesMax;
    this.aliasMax = limits.aliasMax;
    queue.attach(this);
  }

  /** CONNACK is written: messages may follow. */
  open(): void {
    this.isOpen = true;
    this.queue.start();
  }

  close(): void {
    this.isOpen = false;
    this.session.core.wheel.cancel(this);
    this.deferred = undefined;
  }

  /** A message may be sent now without waiting for anything but the window. */
  get isDirect(): boolean {
    if (!this.isOpen || this.outbox.blocked || this.isAsking) return false;
    const chains = this.session.core.hooks.chains;
    return (this.isV5 ? chains.on_deliver_m5 : chains.on_deliver).length === 0 && this.allowsDirect;
  }

  /** `max_online_messages = 0`: nothing is ever delivered. */
  private get allowsDirect(): boolean {
    return this.subscriber?.settings.maxOnlineMessages !== 0;
  }

  get hasCredit(): boolean {
    return this.inflight.count < this.window;
  }

  /** The socket took everything: go on with what waits. */
  drained(): void {
    this.outbox.unblock();
    this.pump();
  }

  sendQos0(message: Message, ids: readonly number[] | undefined, retain: boolean): void {
    const first = retain ? 0x31 : 0x30;
    if (!this.writePublish(message, this.isV5 ? FRAME_V5 : FRAME_V4, first, 0, ids)) {
      this.dropTooLarge(message);
    }
  }

  /** Sends neighbouring QoS 0 messages as one range; false when something is in the way. */
  sendRun(run: MessageRun): boolean {
    if (run.layout !== (this.isV5 ? FRAME_V5 : FRAME_V4) || !this.isDirect) return false;
    // Aliases and size limits are per frame; what waits must not be overtaken.
    if (this.aliasMax > 0 || run.size > this.packetBytesMax || this.queue.hasWaiting) return false;
    if (run.size >= SHARE_MIN) this.outbox.appendShared(run.frames());
    else this.outbox.append(run.frames());
    this.session.core.counters.publishSent[this.isV5 ? 1 : 0] += run.count;
    this.sent += run.count;
    return true;
  }

  /**
   * Takes a delivery into the window: packet id, store, frame. Returns the batch the publisher's
   * acknowledgement waits for. QoS 2 of a stored session is sent once its packet id is durable:
   * otherwise a crash could give the id to another message, or send this one twice.
   */
  begin(delivery: Delivery): number {
    const subscriber = this.subscriber as Subscriber;
    const id = this.inflight.freeId(subscriber.nextPacketId);
    subscriber.nextPacketId = id === 65_535 ? 1 : id + 1;
    delivery.packetId = id;
    delivery.state = ENTRY_PUBLISHED;
    this.inflight.add(delivery);
    if (!subscriber.isStored) {
      this.sendDelivery(delivery);
      return 0;
    }
    const batch = subscriber.save(delivery);
    if (delivery.qos === 2 && !this.session.core.commits.isDurable(batch)) {
      this.defer(new Deferred(this, batch, PUBLISH, id, 0, delivery));
    } else {
      this.sendDelivery(delivery);
    }
    return batch;
  }

  /** An in-flight entry of an earlier connection: same packet id, DUP [MQTT-4.4.0-1]. */
  resume(delivery: Delivery): void {
    if (this.inflight.get(delivery.packetId) !== undefined) return;
    this.inflight.add(delivery);
    delivery.isDuplicate = true;
    if (delivery.state === ENTRY_RELEASED) {
      this.writeAck(PUBREL, delivery.packetId, 0);
      delivery.sentAtMs = this.session.core.wheel.nowMs;
      this.armRetry();
    } else if (delivery.message === undefined) {
      this.finish(delivery.packetId);
    } else if (this.hasDeliverHook) {
      this.resuming ??= new Deque();
      this.resuming.pushBack(delivery);
    } else {
      this.sendDelivery(delivery);
    }
  }

  private get hasDeliverHook(): boolean {
    return this.session.core.hooks.wants(this.isV5 ? "on_deliver_m5" : "on_deliver");
  }

  private sendDelivery(delivery: Delivery): void {
    const message = delivery.rewritten ?? (delivery.message as Message);
    const first =
      0x30 | (delivery.isDuplicate ? 0x08 : 0) | (delivery.qos << 1) | (delivery.retain ? 0x01 : 0);
    const layout = this.isV5 ? FRAME_V5_ID : FRAME_V4_ID;
    if (!this.writePublish(message, layout, first, delivery.packetId, delivery.subscriptionIds)) {
      this.dropTooLarge(message);
      this.finish(delivery.packetId);
      return;
    }
    delivery.sentAtMs = this.session.core.wheel.nowMs;
    this.armRetry();
  }

  /** A message above the client's Maximum Packet Size is dropped as a whole (W-19); its credit returns. */
  private dropTooLarge(message: Message): void {
    const { core } = this.session;
    core.counters.queueMessageDrop++;
    this.queue.droppedTotal++;
    core.log.limited("message too large", 10).warn("message dropped, too large for the client", {
      client_id: this.session.clientId,
      topic: message.topic,
      maximum_packet_size: this.session.packetBytesMax,
    });
    core.hooks.tell("on_message_drop", {
      subscriber_id: (this.subscriber as Subscriber).hookId,
      topic: message.topic,
      qos: message.qos,
      payload: message.payload,
      properties: hookPropertiesOf(message, core.wallMs()),
      reason: "max_packet_size_exceeded",
    });
  }

  /** Acknowledged for good (PUBACK, PUBCOMP, PUBREC with an error): frees the id and the store. */
  finish(packetId: number): Delivery | undefined {
    const delivery = this.inflight.remove(packetId);
    if (delivery !== undefined && delivery.stored !== STORED_NO) {
      (this.subscriber as Subscriber).erase(delivery);
    }
    return delivery;
  }

  /** PUBREC of a QoS 2 delivery: from now on only PUBREL is repeated. */
  release(delivery: Delivery): void {
    const subscriber = this.subscriber as Subscriber;
    if (delivery.state !== ENTRY_RELEASED) {
      delivery.state = ENTRY_RELEASED;
      delivery.message = undefined;
      delivery.rewritten = undefined;
    }
    delivery.sentAtMs = this.session.core.wheel.nowMs;
    const batch = delivery.stored === STORED_NO ? 0 : subscriber.save(delivery);
    this.acknowledge(PUBREL, delivery.packetId, 0, batch);
  }

  /** Sends what waits as far as window and socket allow. */
  pump(): void {
    if (this.isPumping || !this.isOpen) return;
    this.isPumping = true;
    const queue = this.queue;
    while (!this.outbox.blocked && !this.isAsking && this.isOpen) {
      const resumed = this.resuming?.popFront();
      if (resumed !== undefined) {
        this.rewrite(resumed, () => this.sendDelivery(resumed));
        continue;
      }
      const delivery = queue.take(this.hasCredit);
      if (delivery === undefined) break;
      this.dispatch(delivery, queue);
    }
    this.isPumping = false;
    queue.logDropped();
  }

  private dispatch(delivery: Delivery, queue: ClientQueue): void {
    const { core } = this.session;
    const message = delivery.message;
    if (message === undefined) {
      if (delivery.stored !== STORED_NO) (this.subscriber as Subscriber).erase(delivery);
      return;
    }
    if (message.expiresAtMs !== 0 && message.expiresAtMs <= core.wallMs()) {
      queue.drop(delivery, "expired");
      return;
    }
    core.counters.queueMessageOut++;
    if (this.hasDeliverHook) this.rewrite(delivery, () => this.launch(delivery));
    else this.launch(delivery);
  }

  private launch(delivery: Delivery): void {
    if (delivery.qos === 0) {
      const message = delivery.rewritten ?? (delivery.message as Message);
      this.sendQos0(message, delivery.subscriptionIds, delivery.retain);
      if (delivery.stored !== STORED_NO) (this.subscriber as Subscriber).erase(delivery);
    } else {
      this.begin(delivery);
    }
  }

  /** on_deliver: may change topic, payload and properties; cannot refuse. */
  private rewrite(delivery: Delivery, then: () => void): void {
    const { core, username } = this.session;
    const message = delivery.message as Message;
    const properties = hookPropertiesOf(message, core.wallMs());
    if (this.isV5 && delivery.subscriptionIds !== undefined) {
      properties.p_subscription_id = [...delivery.subscriptionIds];
    }
    const args = {
      username,
      subscriber_id: (this.subscriber as Subscriber).hookId,
      qos: delivery.qos,
      topic: message.topic,
      payload: message.payload,
      retain: delivery.retain,
      properties,
    };
    const verdict = core.hooks.ask(
      this.isV5 ? "on_deliver_m5" : "on_deliver",
      withContext(args, this.session),
    );
    if (!isPromise(verdict)) {
      delivery.rewritten = this.rewritten(message, verdict);
      then();
      return;
    }
    this.isAsking = true;
    this.asked = delivery;
    (verdict as Promise<unknown>).then((answer) => {
      this.isAsking = false;
      this.asked = undefined;
      if (!this.isOpen) return;
      delivery.rewritten = this.rewritten(message, answer);
      then();
      this.pump();
    });
  }

  /** The message as on_deliver wants it; undefined when nothing changes. */
  private rewritten(message: Message, answer: unknown): Message | undefined {
    const verdict = answer as Verdict<HookModifiers["on_deliver_m5"]>;
    if (typeof verdict !== "object" || !("ok" in verdict)) return undefined;
    const { topic = message.topic, payload = message.payload } = verdict.ok;
    let { properties, expiresAtMs } = message;
    const checked = verdict.ok.properties && fromHookProperties(verdict.ok.properties, PUBLISH);
    if (checked !== undefined && "properties" in checked) {
      const encoded = encodePublishProperties(checked.properties);
      const expiryS = encoded.messageExpiryInterval;
      properties = encoded.forward;
      if (expiryS >= 0) expiresAtMs = this.session.core.wallMs() + expiryS * 1000;
    }
    const { mountpoint, qos, retain } = message;
    return new Message(mountpoint, topic, payload, qos, retain, properties, expiresAtMs);
  }

  /**
   * The session ends: what is in flight leaves the window. Returned in order, with `keepStored` without
   * those that stay in the store.
   */
  unacknowledged(keepStored: boolean): Delivery[] {
    const left: Delivery[] = [];
    for (const delivery of this.inflight.ordered()) {
      if (delivery.stored === STORED_NO || !keepStored) left.push(delivery);
      else this.session.core.store.forgetEntry(delivery);
    }
    this.inflight.clear();
    this.resuming = undefined;
    const asked = this.asked;
    this.asked = undefined;
    if (asked !== undefined && asked.packetId === 0) {
      if (asked.stored === STORED_NO || !keepStored) left.push(asked);
      else this.session.core.store.forgetEntry(asked);
    }
    return left;
  }

  // ---- answers that wait for the store

  /** Sends PUBACK, PUBREC, PUBREL or PUBCOMP once `batch` is durable, in the order of the calls. */
  acknowledge(type: number, packetId: number, reasonCode: number, batch: number): void {
    if (this.isUpToDate(batch)) this.writeAck(type, packetId, reasonCode);
    else this.defer(new Deferred(this, batch, type, packetId, reasonCode));
  }

  /** PUBACK for a message that waits for nothing but its receivers' copies. */
  acknowledgeMessage(message: Message, packetId: number, reasonCode: number, batch: number): void {
    if (this.isUpToDate(batch)) {
      this.writeAck(PUBACK, packetId, reasonCode);
      return;
    }
    const item = new Deferred(this, batch, PUBACK, packetId, reasonCode);
    if (message.unsafeCopies > 0) message.answer = item;
    this.defer(item);
  }

  /** Runs an action once `batch` is durable, in order with the acknowledgements. */
  after(batch: number, action: () => void): void {
    if (this.isUpToDate(batch)) action();
    else this.defer(new Deferred(this, batch, 0, 0, 0, action));
  }

  private isUpToDate(batch: number): boolean {
    return this.deferredCount === 0 && this.session.core.commits.isDurable(batch);
  }

  get deferredCount(): number {
    return this.deferred?.length ?? 0;
  }

  private defer(item: Deferred): void {
    this.deferred ??= new Deque();
    this.deferred.pushBack(item);
    if (this.isWaitingForCommit) return;
    this.isWaitingForCommit = true;
    this.session.core.commits.add(this);
  }

  onCommitted(batch: number): boolean {
    this.isWaitingForCommit = false;
    this.sendDeferred(batch);
    this.isWaitingForCommit = this.deferredCount > 0;
    return this.isWaitingForCommit;
  }

  /** An answer need not wait any longer; it goes out unless an earlier one still waits. */
  settled(item: Deferred): void {
    if (this.deferred?.front() === item) this.sendDeferred(this.session.core.store.committedBatch);
  }

  private sendDeferred(batch: number): void {
    const deferred = this.deferred;
    if (deferred === undefined) return;
    for (let item = deferred.front(); item !== undefined; item = deferred.front()) {
      if (item.batch > batch) break;
      deferred.popFront();
      this.emit(item);
      if (this.deferred === undefined) return;
    }
    this.session.commitsProgressed(deferred.length);
  }

  private emit(item: Deferred): void {
    if (item.type === PUBLISH) {
      const delivery = item.delivery as Delivery;
      if (this.inflight.get(delivery.packetId) === delivery) this.sendDelivery(delivery);
    } else if (item.type === 0) {
      item.action?.();
    } else {
      this.writeAck(item.type, item.packetId, item.reasonCode);
    }
  }

  /** Four bytes, or six with a reason code in MQTT 5. */
  writeAck(type: number, packetId: number, reasonCode: number): void {
    const hasReason = this.session.version === 5 && reasonCode !== 0;
    const at = this.outbox.reserve(hasReason ? 6 : 4);
    const chunk = this.outbox.chunk as Buffer;
    chunk[at] = (type << 4) | (type === PUBREL ? 0x02 : 0);
    chunk[at + 1] = hasReason ? 4 : 2;
    chunk[at + 2] = packetId >>> 8;
    chunk[at + 3] = packetId & 0xff;
    if (hasReason) {
      chunk[at + 4] = reasonCode;
      chunk[at + 5] = 0;
    }
    this.countAck(type, reasonCode);
  }

  private countAck(type: number, reasonCode: number): void {
    const { counters } = this.session.core;
    const counter =
      type === PUBACK
        ? counters.pubackSent
        : type === PUBREC
          ? counters.pubrecSent
          : type === PUBREL
            ? counters.pubrelSent
            : counters.pubcompSent;
    const by = this.session.version === 5 ? counter.v5 : counter.v4;
    by[reasonCode] = (by[reasonCode] as number) + 1;
  }

  // ---- PUBLISH frames

  /** False when the frame exceeds the client's Maximum Packet Size: nothing was written. */
  private writePublish(
    message: Message,
    layout: number,
    first: number,
    packetId: number,
    ids: readonly number[] | undefined,
  ): boolean {
    if (this.isV5 && (ids !== undefined || message.expiresAtMs !== 0 || this.aliasMax > 0)) {
      return this.writeTailored(message, first, packetId, ids);
    }
    let buffer = message.source;
    let start = message.sourceStart;
    let end = message.sourceEnd;
    if (message.sourceLayout !== layout) {
      buffer = message.frame(layout);
      start = 0;
      end = buffer.length;
    }
    const size = end - start;
    if (size > this.packetBytesMax) return false;
    if (size > COPY_MAX) {
      this.writeLarge(message, layout, first, packetId);
      return true;
    }
    const at = this.outbox.reserve(size);
    const chunk = this.outbox.chunk as Buffer;
    copyBytes(buffer, start, end, chunk, at);
    chunk[at] = first;
    if (packetId !== 0) {
      const idAt = at + headBytes(size) + 2 + message.topicLength();
      chunk[idAt] = packetId >>> 8;
      chunk[idAt + 1] = packetId & 0xff;
    }
    this.countPublish();
    return true;
  }

  /** Head per receiver, payload shared by all. */
  private writeLarge(message: Message, layout: number, first: number, packetId: number): void {
    message.own();
    const whole = message.sourceLayout === layout ? message.source : message.frame(layout);
    const head = Buffer.from(whole.subarray(0, whole.length - message.payloadBytes));
    head[0] = first;
    if (packetId !== 0) {
      head.writeUInt16BE(packetId, headBytes(whole.length) + 2 + message.topicLength());
    }
    this.outbox.append(head);
    this.outbox.appendLarge(message.payload);
    this.countPublish();
  }

  /** A frame of its own: subscription identifiers, remaining expiry, topic alias. */
  private writeTailored(
    message: Message,
    first: number,
    packetId: number,
    ids: readonly number[] | undefined,
  ): boolean {
    const known = this.aliases?.get(message.topic);
    const fresh =
      known === undefined && (this.aliases?.size ?? 0) < this.aliasMax
        ? (this.aliases?.size ?? 0) + 1
        : 0;
    const alias = known ?? fresh;
    const topicBytes = known === undefined ? message.topicLength() : 0;
    const forwarded = message.properties?.length ?? 0;
    let propertyBytes = forwarded + (message.expiresAtMs !== 0 ? 5 : 0) + (alias !== 0 ? 3 : 0);
    for (const id of ids ?? []) propertyBytes += 1 + lengthBytes(id);
    const remaining =
      2 +
      topicBytes +
      (packetId !== 0 ? 2 : 0) +
      lengthBytes(propertyBytes) +
      propertyBytes +
      message.payloadBytes;
    const size = 1 + lengthBytes(remaining) + remaining;
    if (size > this.packetBytesMax) return false;

    const head = Buffer.allocUnsafe(size - message.payloadBytes);
    head[0] = first;
    let at = writeLength(head, 1, remaining);
    at = head.writeUInt16BE(topicBytes, at);
    if (topicBytes > 0) at += head.utf8Write(message.topic, at, topicBytes);
    if (packetId !== 0) at = head.writeUInt16BE(packetId, at);
    at = writeLength(head, at, propertyBytes);
    if (message.properties !== undefined) at += message.properties.copy(head, at);
    if (message.expiresAtMs !== 0) {
      const leftMs = message.expiresAtMs - this.session.core.wallMs();
      head[at++] = 0x02; // Message Expiry Interval, remaining seconds [MQTT-3.3.2-6]
      at = head.writeUInt32BE(Math.max(1, Math.ceil(leftMs / 1000)), at);
    }
    for (const id of ids ?? []) {
      head[at++] = 0x0b; // Subscription Identifier
      at = writeLength(head, at, id);
    }
    if (alias !== 0) {
      head[at++] = 0x23; // Topic Alias
      at = head.writeUInt16BE(alias, at);
    }
    this.outbox.append(head);
    this.outbox.append(message.payload);
    if (fresh !== 0) {
      this.aliases ??= new Map();
      this.aliases.set(message.topic, fresh);
    }
    this.countPublish();
    return true;
  }

  private countPublish(): void {
    const sent = this.session.core.counters.publishSent;
    if (this.isV5) sent[1]++;
    else sent[0]++;
    this.sent++;
  }

  // ---- retry_interval, 3.x only

  private armRetry(): void {
    const interval = this.session.settings.retryIntervalMs;
    if (this.isV5 || interval === 0 || this.timerSlot !== NOT_SCHEDULED) return;
    const { wheel } = this.session.core;
    wheel.schedule(this, wheel.nowMs + interval);
  }

  /** Sends again what was not acknowledged in time; DUP on PUBLISH, never on PUBREL. */
  onTimer(nowMs: number): void {
    const interval = this.session.settings.retryIntervalMs;
    let next = Number.POSITIVE_INFINITY;
    for (const delivery of this.inflight.ordered()) {
      if (delivery.sentAtMs === 0) continue; // waits for the store
      if (delivery.sentAtMs + interval <= nowMs && !this.outbox.blocked) {
        if (delivery.state === ENTRY_RELEASED) {
          delivery.sentAtMs = nowMs;
          this.writeAck(PUBREL, delivery.packetId, 0);
        } else {
          delivery.isDuplicate = true;
          this.sendDelivery(delivery);
        }
      }
      next = Math.min(next, delivery.sentAtMs + interval);
    }
    if (this.inflight.count > 0) {
      this.session.core.wheel.schedule(this, Math.max(nowMs, Math.min(next, nowMs + interval)));
    }
  }
}

/** Bytes of the fixed header of a frame of `size` bytes. */
function headBytes(size: number): number {
  return size <= 129 ? 2 : size <= 16_386 ? 3 : size <= 2_097_155 ? 4 : 5;
}
