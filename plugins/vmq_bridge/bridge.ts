/** One bridge: a session of this broker and a connection to the remote one, frames in between. */
import {
  DISCONNECT,
  errorMessage,
  type ForwardedMessage,
  type LinkedSession,
  type Logger,
  type MessageView,
  type PluginContext,
  type PluginSession,
  PUBLISH,
} from "../../core/plugin-api.ts";
import { Backoff } from "./backoff.ts";
import { BridgeCounters } from "./counters.ts";
import { FlowIn } from "./flow-in.ts";
import { encodeAck, growthBy, lengthAt, readPublish, withAdded } from "./frames.ts";
import { Echoes, IDENTITY_TOPIC, type LoopGuard } from "./loops.ts";
import { type Ending, Remote, type RemoteLimits } from "./remote.ts";
import { Rules } from "./rules.ts";
import type { BridgeSettings } from "./settings.ts";

export type BridgeState = "stopped" | "connecting" | "subscribing" | "connected" | "waiting";

/** CONNACK codes that say "not this protocol level". MQTT 3.1.1, 3.2.2.3 */
const UNACCEPTABLE_PROTOCOL = 1;
/** How long a remote that said goodbye is left alone (VerneMQ: 5 s). */
const GOODBYE_MS = 5_000;

export class Bridge {
  readonly settings: BridgeSettings;
  readonly counters = new BridgeCounters();
  state: BridgeState = "stopped";
  /** Why it is not connected, or was not last. */
  lastError = "";
  refused: readonly string[] = [];
  roundTripMs: number | undefined;
  private readonly context: PluginContext;
  private readonly log: Logger;
  private readonly rules: Rules;
  private readonly guard: LoopGuard;
  private readonly session: PluginSession;
  private readonly backoff: Backoff;
  private readonly flowIn: FlowIn;
  private remote: Remote | undefined;
  private linked: LinkedSession | undefined;
  private limits: RemoteLimits | undefined;
  /** Frames for the remote while its answers to SUBSCRIBE are awaited. */
  private held: Buffer[] | undefined;
  private timer: NodeJS.Timeout | undefined;
  private isPrivate: boolean;
  private remoteId: string | undefined;
  private hasReplayed = false;
  /** Goes along with every message; MQTT 5 only. */
  private readonly added: Buffer | undefined;
  private readonly echoes = new Echoes(() => performance.now());

  constructor(context: PluginContext, settings: BridgeSettings, guard: LoopGuard) {
    this.context = context;
    this.settings = settings;
    this.guard = guard;
    this.log = context.log.child({ bridge: settings.name });
    this.rules = new Rules(settings.rules);
    this.isPrivate = settings.tryPrivate && settings.version < 5;
    this.added =
      settings.version === 5 && settings.loopProtection !== "off" ? guard.own : undefined;
    this.backoff = new Backoff(settings.restartTimeoutS * 1000);
    const online = Number(context.config("max_online_messages"));
    this.session = context.broker.session({
      clientId: sessionId(settings),
      mountpoint: settings.mountpoint,
      queueMax: settings.bufferMax,
      storesQos0: settings.isPersistent,
      onlineQueueMax: online < 0 ? -1 : Math.max(settings.bufferMax, online),
      retryIntervalS: settings.version === 5 ? 0 : settings.retryIntervalS,
      forward: (message, shared) => this.forward(message, shared),
    });
    this.flowIn = new FlowIn({
      settings,
      rules: this.rules,
      guard,
      counters: this.counters,
      topicMaxDepth: Number(context.config("topic_max_depth")),
      publish: (message) => context.broker.publish({ ...message, mountpoint: settings.mountpoint }),
      receive: (bytes, length) => this.linked?.receive(bytes, length),
      hasInbound: (packetId) => this.linked?.hasInbound(packetId) === true,
      remoteId: () => this.remoteId,
      isEcho: (frame) => this.isEchoed && this.echoes.isEcho(frame),
      answer: (type, packetId) => this.remote?.wire.send(encodeAck(type, packetId)),
      hold: () => this.remote?.wire.hold(),
      release: () => this.remote?.wire.release(),
      refused: (code) => {
        this.counters.refused++;
        this.log.limited(`bridge refused ${settings.name}`, 1).warn("message refused", {
          reason: `reason code 0x${code.toString(16)} of the remote broker`,
        });
      },
      dropped: (topic, why) =>
        this.log.limited(`bridge drop ${settings.name}`, 1).warn("message not taken in", {
          topic,
          why,
        }),
    });
    for (const reason of settings.skipped) this.log.warn("topic rule skipped", { reason });
    for (const filter of this.rules.localFilters) this.session.subscribe(filter);
  }

  get queued(): number {
    return this.session.queued;
  }

  get inflight(): number {
    return this.session.inflight;
  }

  get dropped(): number {
    return this.session.dropped + this.counters.refused;
  }

  // ---- life

  start(): void {
    if (this.state !== "stopped") return;
    this.backoff.reset();
    this.connect();
  }

  /** Ends the connection; messages go on waiting for the next start. */
  stop(): void {
    clearTimeout(this.timer);
    this.state = "stopped";
    this.leave();
  }

  /** The bridge is no longer wanted; with `cleanup` neither is what waits. */
  end(cleanup: boolean): void {
    this.stop();
    if (cleanup) this.session.remove();
    else this.session.end();
  }

  private leave(): void {
    const { remote, linked } = this;
    this.remote = undefined;
    this.linked = undefined;
    this.held = undefined;
    this.flowIn.reset();
    linked?.close();
    remote?.end();
  }

  private connect(): void {
    this.state = "connecting";
    try {
      const remote = new Remote(this.settings, this.isPrivate, {
        frame: (bytes, start, body, end) => {
          if (!this.isIdentity(bytes, start, body, end)) {
            this.flowIn.frame(bytes, start, body, end);
          }
        },
        endOfRead: () => this.flowIn.flush(),
        drained: () => this.linked?.drained(),
        accepted: (limits) => this.accepted(remote, limits),
        subscribed: (refused) => this.subscribed(remote, refused),
        roundTrip: (ms) => {
          this.roundTripMs = ms;
        },
        ended: (ending) => this.ended(remote, ending),
      });
      this.remote = remote;
    } catch (error) {
      // A file that cannot be read.
      this.remote = undefined;
      this.again(errorMessage(error), this.backoff.slow());
    }
  }

  private accepted(remote: Remote, limits: RemoteLimits): void {
    if (remote !== this.remote) return;
    this.state = "subscribing";
    this.limits = limits;
    this.held = [];
    this.linked = this.session.link({
      version: this.settings.version,
      window: limits.window,
      packetBytesMax: this.packetBytesMax(limits),
      isNew: !limits.isResumed,
      peer: { address: this.settings.host, port: this.settings.port },
      ready: () => {
        if (remote !== this.remote) return;
        this.remoteId = undefined;
        remote.subscribe(this.rules.remote, this.counters.connects > 0);
        if (this.asksIdentity) remote.ask(IDENTITY_TOPIC);
        remote.wire.release();
      },
      send: (frames) => this.send(remote, frames),
      pause: () => remote.wire.hold(),
      resume: () => remote.wire.release(),
      closed: () => {
        if (remote !== this.remote) return;
        this.linked = undefined;
        this.again("the session was ended by the broker", this.backoff.next(), "info");
        this.leave();
      },
    });
  }

  private packetBytesMax({ packetBytesMax: most }: RemoteLimits): number | undefined {
    const { added } = this;
    return most === undefined || added === undefined ? most : Math.max(1, most - growthBy(added));
  }

  private subscribed(remote: Remote, refused: readonly string[]): void {
    if (remote !== this.remote) return;
    this.refused = refused;
    for (const filter of refused) {
      this.log.warn("the remote broker refuses a subscription", { filter });
    }
    this.state = "connected";
    this.lastError = "";
    this.backoff.reset();
    this.counters.connects++;
    this.log.info("bridge connected", { endpoint: this.settings.endpoint });
    const held = this.held ?? [];
    this.held = undefined;
    if (held.length > 0 && remote.wire.send(Buffer.concat(held))) this.linked?.drained();
    if (this.hasReplayed) return;
    this.hasReplayed = true;
    this.session.replayRetained();
  }

  /** The remote broker tells who it is; see loops.ts. */
  private isIdentity(bytes: Buffer, start: number, body: number, end: number): boolean {
    if (!this.asksIdentity || this.remoteId !== undefined) return false;
    if ((bytes[start] as number) >> 4 !== PUBLISH) return false;
    const frame = readPublish(bytes, start, body, end, true);
    if (frame.topic !== IDENTITY_TOPIC || frame.qos !== 0) return false;
    this.remoteId = bytes.toString("utf8", frame.propertiesEnd, end);
    return true;
  }

  private get asksIdentity(): boolean {
    const { version, loopProtection } = this.settings;
    return version === 5 && loopProtection !== "off" && this.rules.remote.length > 0;
  }

  private ended(remote: Remote, ending: Ending): void {
    if (remote !== this.remote || this.state === "stopped") return;
    const { reason, refusedWith, isSilent, isOrderly } = ending;
    this.leave();
    // Brokers that know no bridges may close without a word: each form has its turn.
    const isUnknownLevel = refusedWith === UNACCEPTABLE_PROTOCOL && !isOrderly;
    const isPlainNext = this.isPrivate && (isSilent || isUnknownLevel);
    if (isPlainNext) {
      this.isPrivate = false;
      this.log.info("the remote broker may not know bridges, trying as a client", { reason });
    } else if (isSilent) {
      this.isPrivate = this.settings.tryPrivate && this.settings.version < 5;
    }
    const isAtOnce = isPlainNext && refusedWith !== undefined;
    this.again(reason, isAtOnce ? 0 : this.delayAfter(ending));
  }

  private delayAfter({ refusedWith, isOrderly }: Ending): number {
    if (refusedWith !== undefined) return this.backoff.slow();
    const delayMs = this.backoff.next();
    return isOrderly ? Math.max(delayMs, Math.min(GOODBYE_MS, this.backoff.maxMs)) : delayMs;
  }

  private again(reason: string, delayMs: number, level: "info" | "warn" = "warn"): void {
    if (this.state === "stopped") return;
    this.state = "waiting";
    this.lastError = reason;
    this.log[level]("bridge not connected", {
      endpoint: this.settings.endpoint,
      reason,
      retry_in_ms: Math.round(delayMs),
    });
    clearTimeout(this.timer);
    this.timer = this.context.setTimeout(() => this.connect(), delayMs);
  }

  // ---- messages

  private forward(message: MessageView, shared: string | undefined): readonly ForwardedMessage[] {
    if (this.flowIn.isPublishing) return [];
    const targets = this.rules.outTargets(message.topic, shared);
    if (targets.length === 0) return [];
    if (!this.guard.outgoing(this.settings, message)) {
      this.counters.loops++;
      return [];
    }
    const { maxQos = 2, hasRetain = true } = this.limits ?? {};
    return targets.map(({ topic, qos, retain }) => ({
      topic,
      qos: Math.min(qos, maxQos) as 0 | 1 | 2,
      retain: retain && message.retain && hasRetain,
    }));
  }

  /** The remote broker sends our own messages back where both directions overlap. */
  private get isEchoed(): boolean {
    const { version, loopProtection } = this.settings;
    return version < 5 && !this.isPrivate && loopProtection !== "off";
  }

  private noteEcho(bytes: Buffer, start: number, body: number, end: number): void {
    const frame = readPublish(bytes, start, body, end, false);
    if (this.rules.inTargets(frame.topic).length > 0) this.echoes.sent(frame);
  }

  /** Frames of the session for the remote broker; only messages and acknowledgements go there. */
  private send(remote: Remote, frames: Buffer): boolean {
    if (remote !== this.remote) return true;
    let at = 0;
    let publishes = 0;
    while (at < frames.length) {
      const header = frames[at] as number;
      const head = lengthAt(frames, at + 1);
      if (head === undefined) break;
      const type = header >> 4;
      if (type === PUBLISH) {
        publishes++;
        if ((header & 0x08) === 0) this.counters.out[(header >> 1) & 3]++;
        if (this.isEchoed) this.noteEcho(frames, at, head.next, head.next + head.value);
      } else if (type === DISCONNECT) {
        break;
      }
      at = head.next + head.value;
    }
    if (at === 0) return true;
    let bytes = at === frames.length ? frames : frames.subarray(0, at);
    if (publishes > 0 && this.added !== undefined) bytes = withAdded(bytes, publishes, this.added);
    if (this.held === undefined) return remote.wire.send(bytes);
    this.held.push(bytes);
    return false;
  }
}

/** The client id of a bridge's session in this broker. */
function sessionId(settings: BridgeSettings): string {
  return `bridge.${settings.transport}.${settings.name}`;
}
