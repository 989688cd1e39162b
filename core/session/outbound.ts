import { isPromise } from "../hooks/chain.ts";
import type { HookModifiers, Verdict } from "../hooks/types.ts";
import { fromHookProperties } from "../mqtt/hook-properties.ts";
import { FRAME_V4, FRAME_V4_ID, FRAME_V5, FRAME_V5_ID, Message } from "../mqtt/message.ts";
import { PUBLISH, PUBREL } from "../mqtt/packets.ts";
import { encodePublishProperties } from "../mqtt/publish-properties.ts";
import type { MessageRun } from "../routing/subscription.ts";
import { ENTRY_PUBLISHED, ENTRY_RELEASED, STORED_NO } from "../store/types.ts";
import { NOT_SCHEDULED, type Timed } from "../timers.ts";
import { Answers } from "./answers.ts";
import type { Delivery } from "./delivery.ts";
import { Deque } from "./deque.ts";
import { hookPropertiesOf, withContext } from "./hook-arguments.ts";
import { Inflight } from "./inflight.ts";
import { Outbox } from "./outbox.ts";
import { PublishWriter } from "./publish-writer.ts";
import type { ClientQueue } from "./queue.ts";
import type { Session } from "./session.ts";
import type { Subscriber } from "./subscriber.ts";

/** Ranges of frames below this are copied behind what waits; larger ones are handed over as they are. */
const SHARE_MIN = 4096;

/** The sending half of a session: what waits, what is in flight, and what on_deliver makes of it. */
export class Outbound implements Timed {
  timerSlot = NOT_SCHEDULED;
  timerAtMs = 0;
  readonly outbox: Outbox;
  readonly inflight = new Inflight();
  readonly answers: Answers;
  private readonly writer: PublishWriter;
  private readonly session: Session;
  /** Set by `attach`. */
  private subscriber: Subscriber | undefined;
  private ownQueue: ClientQueue | undefined;
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

  constructor(session: Session) {
    this.session = session;
    const { core, transport } = session;
    this.outbox = new Outbox(transport, core.flusher, core.counters);
    this.writer = new PublishWriter(core, this.outbox);
    this.answers = new Answers(session, this.outbox, (delivery) => {
      if (this.inflight.get(delivery.packetId) === delivery) this.sendDelivery(delivery);
    });
  }

  /** PUBLISH packets sent. */
  get sent(): number {
    return this.writer.sent;
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
    const { packetBytesMax, aliasMax } = limits;
    this.writer.limits = { isV5: this.isV5, packetBytesMax, aliasMax };
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
    this.answers.close();
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
    if (!this.writer.write(message, this.isV5 ? FRAME_V5 : FRAME_V4, first, 0, ids)) {
      this.dropTooLarge(message);
    }
  }

  /** Sends neighbouring QoS 0 messages as one range; false when something is in the way. */
  sendRun(run: MessageRun): boolean {
    if (run.layout !== (this.isV5 ? FRAME_V5 : FRAME_V4) || !this.isDirect) return false;
    // Aliases and size limits are per frame; what waits must not be overtaken.
    const { aliasMax, packetBytesMax } = this.writer.limits;
    if (aliasMax > 0 || run.size > packetBytesMax || this.queue.hasWaiting) return false;
    if (run.size >= SHARE_MIN) this.outbox.appendShared(run.frames());
    else this.outbox.append(run.frames());
    this.writer.count(run.count);
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
      this.answers.deliver(batch, delivery);
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
      this.answers.write(PUBREL, delivery.packetId, 0);
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
    if (!this.writer.write(message, layout, first, delivery.packetId, delivery.subscriptionIds)) {
      this.dropTooLarge(message);
      this.finish(delivery.packetId);
      return;
    }
    delivery.sentAtMs = this.session.core.wheel.nowMs;
    this.armRetry();
  }

  /** A message above the client's Maximum Packet Size is dropped as a whole; its credit returns. */
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
    this.answers.acknowledge(PUBREL, delivery.packetId, 0, batch);
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
          this.answers.write(PUBREL, delivery.packetId, 0);
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
