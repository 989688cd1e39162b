import type { ForwardedMessage, MessageView } from "../hooks/define-plugin.ts";
import type { HookProperties } from "../hooks/types.ts";
import { Message } from "../mqtt/message.ts";
import { encodePublishProperties } from "../mqtt/publish-properties.ts";
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

type UserProperties = NonNullable<ForwardedMessage["userProperties"]>;

/** As on the wire; plugins add the same to many messages. */
const encoded = new WeakMap<UserProperties, Buffer | undefined>();

function encodedOf(added: UserProperties): Buffer | undefined {
  if (!encoded.has(added)) {
    const userProperties = added.map(([key, value]): [string, string] => [key, value]);
    encoded.set(added, encodePublishProperties({ userProperties }).forward);
  }
  return encoded.get(added);
}

/** The message itself where nothing is changed: its publisher is then answered as soon as the peer is. */
export function copyOf(message: Message, copy: ForwardedMessage): Message {
  let { properties } = message;
  const isSame =
    copy.topic === message.topic && copy.qos === message.qos && copy.retain === message.retain;
  if (isSame && copy.userProperties === undefined) return message;
  const added = copy.userProperties === undefined ? undefined : encodedOf(copy.userProperties);
  if (added !== undefined) {
    properties = properties === undefined ? added : Buffer.concat([properties, added]);
  }
  const { mountpoint, payload, expiresAtMs } = message;
  const { topic, qos, retain } = copy;
  return new Message(mountpoint, topic, payload, qos, retain, properties, expiresAtMs);
}
