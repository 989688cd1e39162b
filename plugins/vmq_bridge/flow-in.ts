/** From the remote broker into this one: topics mapped, loops cut, what is not wanted acknowledged. */
import { type HookProperties, PUBACK, PUBLISH, PUBREC } from "../../core/plugin-api.ts";
import type { BridgeCounters } from "./counters.ts";
import {
  encodeAck,
  FrameBatch,
  type PublishFrame,
  propertiesOf,
  type Rewrite,
  readPublish,
} from "./frames.ts";
import type { GuardedBridge, LoopGuard } from "./loops.ts";
import type { Rules, Target } from "./rules.ts";

export interface FlowInParts {
  readonly settings: GuardedBridge;
  readonly rules: Rules;
  readonly guard: LoopGuard;
  readonly counters: BridgeCounters;
  readonly topicMaxDepth: number;
  /** Publishes here besides the session; resolves when it is stored. */
  publish(message: {
    topic: string;
    payload: Buffer;
    qos: 0 | 1 | 2;
    retain: boolean;
    properties: HookProperties;
  }): Promise<void>;
  /** A QoS 2 message with this identifier was taken in and is not released yet. */
  hasInbound(packetId: number): boolean;
  /** The remote broker sends back what it had from us. */
  isEcho(frame: PublishFrame): boolean;
  /** The remote broker's id for loop protection, once it is known. */
  remoteId(): string | undefined;
  /** Hands frames to the session. */
  receive(bytes: Buffer, length: number): void;
  /** Answers the remote broker. */
  answer(type: number, packetId: number): void;
  hold(): void;
  release(): void;
  /** The remote broker does not take a message of ours. MQTT 5 */
  refused(code: number): void;
  dropped(topic: string, why: string): void;
}

export class FlowIn {
  /** Messages are being published that must not go back through this bridge. */
  isPublishing = false;
  private readonly parts: FlowInParts;
  private readonly batch: FrameBatch;
  private readonly isV5: boolean;
  private readonly topics = new Map<string, Buffer>();
  /** Counts the connections: what was awaited for an old one is of no use. */
  private epoch = 0;
  /** Its other copies are being stored: what is collected waits for them. */
  private isAwaiting = false;

  constructor(parts: FlowInParts) {
    this.parts = parts;
    this.isV5 = parts.settings.version === 5;
    this.batch = new FrameBatch((bytes, length) => parts.receive(bytes, length));
  }

  /** A frame of the message flow. */
  frame(bytes: Buffer, start: number, body: number, end: number): void {
    const type = (bytes[start] as number) >> 4;
    if (type === PUBLISH) {
      this.publish(readPublish(bytes, start, body, end, this.isV5));
    } else if ((type === PUBACK || type === PUBREC) && this.isV5 && end - body > 2) {
      this.answered(type, bytes, start, body, end);
    } else {
      this.batch.add(bytes, start, end);
    }
  }

  /** PUBACK or PUBREC with a reason code. */
  private answered(type: number, bytes: Buffer, start: number, body: number, end: number): void {
    const code = bytes[body + 2] as number;
    if (code < 0x80) {
      // No Matching Subscribers: only a server says it, and the session takes the peer for a client.
      const ack = encodeAck(type, bytes.readUInt16BE(body));
      this.batch.add(ack, 0, ack.length);
      return;
    }
    this.parts.refused(code);
    this.batch.add(bytes, start, end);
  }

  /** Hands on what was collected. */
  flush(): void {
    if (!this.isAwaiting) this.batch.flush();
  }

  /** The connection is gone. */
  reset(): void {
    this.epoch++;
    this.isAwaiting = false;
    this.batch.clear();
  }

  private publish(frame: PublishFrame): void {
    const { rules, guard, counters, settings } = this.parts;
    // Sent again, and taken in before: only the answer was lost.
    const isKnown = frame.qos === 2 && this.parts.hasInbound(frame.packetId);
    const all = rules.inTargets(frame.topic);
    const targets = all.every(this.isPossible, this) ? all : all.filter(this.check, this);
    const [first, ...others] = targets;
    if (first === undefined) {
      this.acknowledge(frame);
      return;
    }
    if (!isKnown && this.parts.isEcho(frame)) {
      counters.loops++;
      this.acknowledge(frame);
      return;
    }
    const added = isKnown
      ? undefined
      : guard.incoming(settings, frame, first.topic, this.parts.remoteId());
    if (added === "loop") {
      counters.loops++;
      this.acknowledge(frame);
      return;
    }
    if (!isKnown) counters.in[frame.qos as 0 | 1 | 2]++;
    const rewrite = {
      topic: this.bytesOf(first.topic),
      retain: frame.retain && first.retain,
      added,
    };
    if (others.length === 0 || isKnown) this.batch.addPublish(frame, this.isV5, rewrite);
    else this.publishSeveral(frame, others, rewrite);
  }

  /** A client may publish to it. */
  private isPossible({ topic }: Target): boolean {
    return !topic.startsWith("$") && topic.split("/").length <= this.parts.topicMaxDepth;
  }

  private check(target: Target): boolean {
    if (this.isPossible(target)) return true;
    const { topic } = target;
    const why = topic.startsWith("$") ? "it begins with $" : "more levels than topic_max_depth";
    this.parts.dropped(topic, why);
    return false;
  }

  /**
   * A message with more than one topic here. QoS 2: all in one turn and so in one batch of the store.
   * QoS 1: the session's, which is acknowledged, comes when the others are stored.
   */
  private publishSeveral(frame: PublishFrame, others: readonly Target[], rewrite: Rewrite): void {
    const payload = Buffer.from(frame.bytes.subarray(frame.propertiesEnd, frame.end));
    const properties = this.isV5 ? propertiesOf(frame) : {};
    // What came before stays before.
    this.flush();
    this.isPublishing = true;
    const stored = others.map(({ topic, retain }) =>
      this.parts.publish({
        topic,
        payload,
        qos: frame.qos as 0 | 1 | 2,
        retain: frame.retain && retain,
        properties,
      }),
    );
    this.isPublishing = false;
    this.batch.addPublish(frame, this.isV5, rewrite);
    if (frame.qos !== 1) {
      this.flush();
      return;
    }
    const { epoch } = this;
    this.isAwaiting = true;
    this.parts.hold();
    void Promise.allSettled(stored).then(() => {
      if (epoch !== this.epoch) return;
      this.isAwaiting = false;
      this.flush();
      this.parts.release();
    });
  }

  /** Nothing here wants it: the remote broker is told that it has arrived. */
  private acknowledge({ qos, packetId }: PublishFrame): void {
    if (qos === 0) return;
    this.flush();
    this.parts.answer(qos === 1 ? PUBACK : PUBREC, packetId);
  }

  private bytesOf(topic: string): Buffer {
    let bytes = this.topics.get(topic);
    if (bytes === undefined) {
      bytes = Buffer.from(topic);
      if (this.topics.size >= 10_000) this.topics.clear();
      this.topics.set(topic, bytes);
    }
    return bytes;
  }
}
