import type { ForwardedMessage, MessageView } from "../hooks/define-plugin.ts";
import type { HookProperties } from "../hooks/types.ts";
import { Message } from "../mqtt/message.ts";
import { hookPropertiesOf } from "./hook-arguments.ts";

/** A message for a plugin to look at; payload and properties are made only when it does. */
export class ForwardView implements MessageView {
  readonly topic: string;
  readonly qos: 0 | 1 | 2;
  readonly retain: boolean;
  private readonly message: Message;
  private readonly clock: { wallMs(): number };

  constructor(message: Message, clock: { wallMs(): number }) {
    this.topic = message.topic;
    this.qos = message.qos as 0 | 1 | 2;
    this.retain = message.retain;
    this.message = message;
    this.clock = clock;
  }

  get payload(): Buffer {
    return this.message.payload;
  }

  get properties(): HookProperties {
    return hookPropertiesOf(this.message, this.clock.wallMs());
  }
}

/** The message itself where nothing is changed: its publisher is then answered as soon as the peer is. */
export function copyOf(message: Message, { topic, qos, retain }: ForwardedMessage): Message {
  if (topic === message.topic && qos === message.qos && retain === message.retain) return message;
  const { mountpoint, payload, properties, expiresAtMs } = message;
  return new Message(mountpoint, topic, payload, qos, retain, properties, expiresAtMs);
}
