import { errorMessage } from "../errors.ts";
import type {
  ForwardedMessage,
  LinkedSession,
  PluginSession,
  PluginSessionOptions,
  SessionLink,
} from "../hooks/define-plugin.ts";
import { HookRegistry } from "../hooks/registry.ts";
import type { ListenerSettings } from "../listeners/types.ts";
import { encodeConnect } from "../mqtt/client-codec.ts";
import type { Message } from "../mqtt/message.ts";
import { validateFilter, validateTopic } from "../mqtt/topics.ts";
import { type Subscription, subscriptionOf } from "../routing/subscription.ts";
import type { Core } from "./core.ts";
import { LinkTransport, listenerOf } from "./link-transport.ts";
import { copyOf, ForwardView } from "./message-view.ts";
import { Session } from "./session.ts";
import type { SessionSettings } from "./settings.ts";
import { NEVER_EXPIRES, type Subscriber } from "./subscriber.ts";

/** Retained messages are handed on while fewer than this wait for the link. */
const REPLAY_WAITING_MAX = 500;
/** How often it is looked whether more of them can follow. */
const REPLAY_MS = 20;

/** A session of a plugin: the state of a client, driven by frames instead of a socket. */
export class HeldSession implements PluginSession {
  /** The broker without its hooks, and with this session's limits. */
  private readonly core: Core;
  private readonly plugin: string;
  private readonly options: PluginSessionOptions;
  private readonly listener: ListenerSettings;
  private readonly subscriptions = new Map<string, Subscription>();
  /** Overlapping filters deliver a message more than once; it is forwarded once. */
  private readonly seen = new WeakSet<Message>();
  private subscriber: Subscriber;
  private plain: Subscription;
  private current: { session: Session; transport: LinkTransport } | undefined;
  /** QoS 0 messages for a peer that is away. */
  private waiting0: Message[] = [];
  private droppedHere = 0;
  private droppedBefore = 0;
  private replay: Message[] = [];
  private replayTimer: NodeJS.Timeout | undefined;
  private isEnded = false;
  /** Of the link there is, or was last. */
  private window = 1;

  constructor(core: Core, plugin: string, options: PluginSessionOptions) {
    this.plugin = plugin;
    this.options = options;
    this.listener = listenerOf(plugin, options.mountpoint ?? "");
    const hooks = new HookRegistry(() => undefined, { denyWithoutAuthorizer: false });
    this.core = Object.create(core, {
      hooks: { value: hooks },
      settings: { get: () => this.settings(core.settings) },
    });
    const subscriber = this.hold();
    if (subscriber === undefined) {
      throw new Error(`the client id "${options.clientId}" belongs to another plugin's session`);
    }
    this.subscriber = subscriber;
    this.plain = plainDelivery(subscriber);
    this.droppedBefore = subscriber.queue.droppedTotal;
  }

  private hold(): Subscriber | undefined {
    const { core, options, plugin } = this;
    return core.manager.hold(this.listener, options.clientId, core.settings, ownerName(plugin));
  }

  private settings(common: SessionSettings): SessionSettings {
    const { options } = this;
    return {
      ...common,
      allowAnonymous: "on",
      maxClientIdSize: 65_535,
      maxMessageSize: 0,
      maxMessageRate: 0,
      maxInflightMessages: this.window,
      isInflightFromHook: true,
      receiveMaxClient: 65_535,
      receiveMaxBroker: 65_535,
      retryIntervalMs: options.retryIntervalS * 1000,
      maxOnlineMessages: options.onlineQueueMax,
      maxOfflineMessages: options.queueMax,
      overrideMaxOnlineMessages: true,
      storesQos0: options.storesQos0,
      queueType: "fifo",
      queueDropPolicy: "drop_new",
      upgradeOutgoingQos: false,
      allowMultipleSessions: false,
      persistentClientExpirationS: 0,
      topicAliasMaxClient: 0,
      topicAliasMaxBroker: 0,
      sharedRequeueOfflineAfterS: 0,
      cleanupOnDisconnect: undefined,
      sessionExpiryIntervalS: undefined,
      maximumQoS: 2,
      retainAvailable: true,
    };
  }

  get queued(): number {
    const { session } = this.subscriber;
    const waiting = session?.out.queue.size ?? this.subscriber.queue.offlineSize;
    return waiting + this.waiting0.length;
  }

  get inflight(): number {
    return this.subscriber.session?.out.inflight.count ?? 0;
  }

  get dropped(): number {
    return this.droppedHere + this.subscriber.queue.droppedTotal - this.droppedBefore;
  }

  // ---- from this broker to the peer

  subscribe(filter: string): void {
    const fault = validateFilter(filter, this.core.settings.topicMaxDepth);
    if (fault !== undefined) throw new TypeError(`subscribe: "${filter}" is no topic filter`);
    if (this.subscriptions.has(filter)) return;
    const subscription = this.subscriptionOf(filter);
    this.subscriptions.set(filter, subscription);
    this.core.router.subscribe(subscription);
  }

  private subscriptionOf(filter: string): Subscription {
    return subscriptionOf(this.subscriber, filter, {
      noLocal: true,
      retainAsPublished: true,
      take: (message, by) => this.take(message, by),
    });
  }

  private take(message: Message, by: Subscription): number {
    const shared = by.group === "" ? undefined : by.filter;
    if (shared === undefined && this.subscriptions.size > 1) {
      if (this.seen.has(message)) return 0;
      this.seen.add(message);
    }
    // Its state was removed by an admin's command: the bridge goes on with an empty queue.
    if (!this.subscriber.isStored) this.holdAgain();
    let copies: readonly ForwardedMessage[];
    try {
      copies = this.options.forward(new ForwardView(message, this.core), shared);
    } catch (failure) {
      this.failed("forward a message", failure);
      return 0;
    }
    let batch = 0;
    for (const copy of copies) batch = Math.max(batch, this.put(message, copy));
    return batch;
  }

  private failed(what: string, failure: unknown): void {
    const cause = errorMessage(failure);
    this.core.log
      .limited(`plugin session ${this.plugin}`, 1)
      .error(`plugin failed to ${what}`, { plugin: this.plugin, cause });
  }

  private put(message: Message, copy: ForwardedMessage): number {
    if (validateTopic(copy.topic, Number.POSITIVE_INFINITY) !== undefined) {
      this.failed("forward a message", `"${copy.topic}" is no topic name`);
      return 0;
    }
    const forwarded = copyOf(message, copy);
    const isAway = this.subscriber.session === undefined;
    if (copy.qos === 0 && isAway && !this.options.storesQos0) return this.keepQos0(forwarded);
    return this.subscriber.deliver(forwarded, this.plain);
  }

  private keepQos0(message: Message): number {
    if (this.queued >= this.options.queueMax) {
      this.droppedHere++;
      this.core.counters.queueMessageDrop++;
    } else {
      message.own();
      this.waiting0.push(message);
    }
    return 0;
  }

  replayRetained(): void {
    const { retained } = this.core.router;
    retained.whenLoaded(() => {
      const topics = new Map<string, Message>();
      for (const { group, match } of this.subscriptions.values()) {
        // MQTT 5.0, 3.3.1.3: never for shared ones
        if (group !== "") continue;
        for (const message of retained.match(this.listener.mountpoint, match, this.core.wallMs())) {
          topics.set(message.topic, message);
        }
      }
      this.replay = [...topics.values()];
      this.continueReplay();
    });
  }

  private continueReplay(): void {
    clearTimeout(this.replayTimer);
    if (this.isEnded) this.replay = [];
    const by = [...this.subscriptions.values()].find(({ group }) => group === "");
    if (by === undefined) return;
    let at = 0;
    if (this.subscriber.session !== undefined) {
      while (at < this.replay.length && this.queued < REPLAY_WAITING_MAX) {
        const message = this.replay[at++] as Message;
        this.seen.delete(message);
        this.take(message, by);
      }
    }
    this.replay = this.replay.slice(at);
    if (this.replay.length === 0) return;
    this.replayTimer = setTimeout(() => this.continueReplay(), REPLAY_MS);
    this.replayTimer.unref();
  }

  // ---- the link

  link(link: SessionLink): LinkedSession {
    if (this.isEnded) throw new Error("the session has ended");
    this.close();
    this.window = link.window;
    this.holdAgain();
    if (link.isNew) this.forgetInboundIds();
    const transport = new LinkTransport(this.listener, link, {
      opened: () => this.opened(link),
      ended: () => {
        if (this.current?.session === session) this.current = undefined;
        this.widenQueue(0);
        link.closed();
      },
    });
    const session = new Session(this.core, transport);
    transport.start(session);
    this.current = { session, transport };
    const connect = encodeConnect({
      type: "connect",
      version: link.version,
      level: link.version,
      bridge: false,
      clean: false,
      keepAliveS: 0,
      clientId: this.options.clientId,
      username: ownerName(this.plugin),
      password: undefined,
      will: undefined,
      properties:
        link.version < 5
          ? undefined
          : {
              sessionExpiryInterval: NEVER_EXPIRES,
              receiveMaximum: link.window,
              ...(link.packetBytesMax === undefined
                ? {}
                : { maximumPacketSize: link.packetBytesMax }),
            },
    });
    session.onData(connect, connect.length);
    return {
      receive: (frames, length) => session.onData(frames, length),
      hasInbound: (packetId) => this.subscriber.inboundIds?.has(packetId) === true,
      drained: () => transport.drained(),
      close: () => {
        if (this.current?.session === session) this.close();
      },
    };
  }

  private opened(link: SessionLink): void {
    const waiting = this.waiting0;
    this.waiting0 = [];
    link.ready();
    for (const message of waiting) this.subscriber.deliver(message, this.plain);
  }

  private close(): void {
    const current = this.current;
    if (current === undefined) return;
    this.current = undefined;
    const inflight = current.session.out.inflight.count;
    current.transport.isQuiet = true;
    current.session.end({ reason: "link closed", publishWill: false });
    this.widenQueue(inflight);
  }

  /** What was in flight when the link went is not part of what may wait for the next one. */
  private widenQueue(inflight: number): void {
    const settings = this.core.settings;
    this.subscriber.settings = {
      ...settings,
      maxOfflineMessages: settings.maxOfflineMessages + inflight,
    };
  }

  private forgetInboundIds(): void {
    const { subscriber, core } = this;
    for (const id of subscriber.inboundIds ?? []) core.store.deleteInboundId(subscriber.id, id);
    subscriber.inboundIds = undefined;
  }

  /** The state as the manager has it; another object when it was removed meanwhile. */
  private holdAgain(): void {
    const { settings } = this.subscriber;
    const found = this.hold();
    if (found === undefined) throw new Error("the session is held by somebody else");
    if (found === this.subscriber) {
      if (this.subscriber.session === undefined) this.subscriber.settings = settings;
      return;
    }
    this.droppedHere = this.dropped;
    this.droppedBefore = found.queue.droppedTotal;
    this.subscriber = found;
    this.plain = plainDelivery(found);
    for (const [filter, old] of this.subscriptions) {
      this.core.router.unsubscribe(old);
      const subscription = this.subscriptionOf(filter);
      this.subscriptions.set(filter, subscription);
      this.core.router.subscribe(subscription);
    }
  }

  end(): void {
    this.finish(false);
  }

  remove(): void {
    this.finish(true);
  }

  private finish(cleanup: boolean): void {
    if (this.isEnded) return;
    this.isEnded = true;
    clearTimeout(this.replayTimer);
    this.replay = [];
    this.close();
    for (const subscription of this.subscriptions.values()) {
      this.core.router.unsubscribe(subscription);
    }
    this.subscriptions.clear();
    this.core.manager.letGo(this.subscriber, cleanup);
  }
}

/** User name of a plugin's sessions: by it they are found again after a restart. */
export function ownerName(plugin: string): string {
  return `plugin ${plugin}`;
}

/** A delivery exactly as the message says: with its QoS and its RETAIN flag. */
function plainDelivery(receiver: Subscriber): Subscription {
  return subscriptionOf(receiver, "", { retainAsPublished: true });
}
