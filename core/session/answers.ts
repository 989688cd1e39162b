import type { Message, WaitingAnswer } from "../mqtt/message.ts";
import { PUBACK, PUBLISH, PUBREC, PUBREL } from "../mqtt/packets.ts";
import type { CommitWaiter } from "./commits.ts";
import type { Delivery } from "./delivery.ts";
import { Deque } from "./deque.ts";
import type { Outbox } from "./outbox.ts";
import type { Session } from "./session.ts";

/** Something that may only be sent once a store batch is durable; sent in order. */
class Deferred implements WaitingAnswer {
  batch: number;
  /** PUBACK, PUBREC, PUBREL, PUBCOMP; PUBLISH sends `delivery`; 0 runs `action`. */
  readonly type: number;
  readonly packetId: number;
  readonly reasonCode: number;
  readonly delivery: Delivery | undefined;
  readonly action: (() => void) | undefined;
  private readonly answers: Answers;

  constructor(
    answers: Answers,
    batch: number,
    type: number,
    packetId: number,
    reasonCode: number,
    what?: Delivery | (() => void),
  ) {
    this.answers = answers;
    this.batch = batch;
    this.type = type;
    this.packetId = packetId;
    this.reasonCode = reasonCode;
    this.action = typeof what === "function" ? what : undefined;
    this.delivery = typeof what === "function" ? undefined : what;
  }

  settle(): void {
    this.batch = 0;
    this.answers.settled(this);
  }
}

/** Answers waiting for the store above this stop the reading of the client's socket. */
export const DEFERRED_MAX = 4096;

/** Acknowledgements of one session, and what else must not be sent before the store has it. */
export class Answers implements CommitWaiter {
  private readonly session: Session;
  private readonly outbox: Outbox;
  /** Sends a delivery that waited. */
  private readonly send: (delivery: Delivery) => void;
  private deferred: Deque<Deferred> | undefined;
  private isWaitingForCommit = false;

  constructor(session: Session, outbox: Outbox, send: (delivery: Delivery) => void) {
    this.session = session;
    this.outbox = outbox;
    this.send = send;
  }

  /** Nothing is sent any more. */
  close(): void {
    this.deferred = undefined;
  }

  /** Sends PUBACK, PUBREC, PUBREL or PUBCOMP once `batch` is durable, in the order of the calls. */
  acknowledge(type: number, packetId: number, reasonCode: number, batch: number): void {
    if (this.isUpToDate(batch)) this.write(type, packetId, reasonCode);
    else this.defer(new Deferred(this, batch, type, packetId, reasonCode));
  }

  /** PUBACK for a message that waits for nothing but its receivers' copies. */
  acknowledgeMessage(message: Message, packetId: number, reasonCode: number, batch: number): void {
    if (this.isUpToDate(batch)) {
      this.write(PUBACK, packetId, reasonCode);
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

  /** Sends a delivery once `batch` is durable, in order with the acknowledgements. */
  deliver(batch: number, delivery: Delivery): void {
    this.defer(new Deferred(this, batch, PUBLISH, delivery.packetId, 0, delivery));
  }

  private isUpToDate(batch: number): boolean {
    return this.count === 0 && this.session.core.commits.isDurable(batch);
  }

  /** How many wait. */
  get count(): number {
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
    this.isWaitingForCommit = this.count > 0;
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
      this.send(item.delivery as Delivery);
    } else if (item.type === 0) {
      item.action?.();
    } else {
      this.write(item.type, item.packetId, item.reasonCode);
    }
  }

  /** Four bytes, or six with a reason code in MQTT 5. */
  write(type: number, packetId: number, reasonCode: number): void {
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
}
