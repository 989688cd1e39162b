import type { SessionContext } from "../hooks/define-plugin.ts";
import type { HookProperties, PublishM5Args, SubscriberId } from "../hooks/types.ts";
import { toHookProperties } from "../mqtt/hook-properties.ts";
import type { Message } from "../mqtt/message.ts";
import type { Properties } from "../mqtt/packets.ts";
import { decodeForwardBytes } from "../mqtt/publish-properties.ts";

/** MQTT 5 properties of a message under their plugin names. */
export function hookPropertiesOf(message: Message, nowMs: number): HookProperties {
  const properties: HookProperties =
    message.properties === undefined
      ? {}
      : toHookProperties(decodeForwardBytes(message.properties));
  if (message.expiresAtMs !== 0) {
    properties.p_message_expiry_interval = Math.max(
      0,
      Math.ceil((message.expiresAtMs - nowMs) / 1000),
    );
  }
  return properties;
}

/** Wall-clock ms; the core is one. */
interface Clock {
  wallMs(): number;
}

/** A session, or what is left of it. */
export interface ContextOwner {
  readonly context: SessionContext;
}

/** Adds the session's context, out of the way of whoever lists or serialises the arguments. */
export function withContext<A extends object>(args: A, owner: ContextOwner): A {
  return Object.defineProperty(args, "context", { value: owner.context });
}

/** Context and, made when a plugin asks for it, what tells that the client has gone meanwhile. */
export function withSignal<A extends object>(
  args: A,
  owner: ContextOwner & { readonly closing: AbortSignal },
): A {
  return Object.defineProperty(withContext(args, owner), "signal", { get: () => owner.closing });
}

/** Arguments of the publish hooks; payload and properties are made only when a plugin looks at them. */
export class PublishCall implements PublishM5Args {
  readonly username: string | undefined;
  readonly subscriber_id: SubscriberId;
  readonly qos: number;
  readonly topic: string;
  readonly retain: boolean;
  private readonly message: Message;
  private readonly clock: Clock;
  private readonly owner: ContextOwner;

  constructor(
    clock: Clock,
    username: string | undefined,
    subscriber: SubscriberId,
    message: Message,
    owner: ContextOwner,
  ) {
    this.username = username;
    this.subscriber_id = subscriber;
    this.qos = message.qos;
    this.topic = message.topic;
    this.retain = message.retain;
    this.message = message;
    this.clock = clock;
    this.owner = owner;
  }

  get context(): SessionContext {
    return this.owner.context;
  }

  get payload(): Buffer {
    return this.message.payload;
  }

  get properties(): HookProperties {
    return hookPropertiesOf(this.message, this.clock.wallMs());
  }
}

/** Arguments of the publish hooks for a will: its delay and expiry are not the message's yet. */
export class WillCall extends PublishCall {
  private readonly given: Properties | undefined;

  constructor(
    clock: Clock,
    username: string | undefined,
    subscriber: SubscriberId,
    message: Message,
    owner: ContextOwner,
    given: Properties | undefined,
  ) {
    super(clock, username, subscriber, message, owner);
    this.given = given;
  }

  override get properties(): HookProperties {
    return toHookProperties(this.given);
  }
}
