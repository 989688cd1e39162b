import { isPromise } from "../hooks/chain.ts";
import type { SessionContext } from "../hooks/define-plugin.ts";
import type { ChainSet } from "../hooks/registry.ts";
import type { SubscriberId } from "../hooks/types.ts";
import type { Transport, TransportHandler } from "../listeners/types.ts";
import {
  ConnectError,
  decodeControl,
  encodeConnack,
  encodeDisconnect,
  PINGRESP_FRAME,
} from "../mqtt/codec.ts";
import { Framer, type PacketSink, REMAINING_LENGTH_MAX } from "../mqtt/framer.ts";
import {
  AUTH,
  CONNECT,
  DISCONNECT,
  MqttError,
  PINGREQ,
  type Properties,
  PUBACK,
  PUBCOMP,
  PUBLISH,
  PUBREC,
  PUBREL,
} from "../mqtt/packets.ts";
import { malformed, protocolError, RETURN_CODES, reasonName } from "../mqtt/reason-codes.ts";
import type { Mount, Route } from "../routing/routes.ts";
import type { StoredWill } from "../store/types.ts";
import { NOT_SCHEDULED, type Timed } from "../timers.ts";
import { DEFERRED_MAX } from "./answers.ts";
import type { Core } from "./core.ts";
import { handleAck, handleShortAck } from "./handlers/acks.ts";
import { type EnhancedAuth, handleAuth } from "./handlers/auth.ts";
import { handleConnect } from "./handlers/connect.ts";
import { handleDisconnect } from "./handlers/disconnect.ts";
import { type AskedPublish, handlePublish } from "./handlers/publish.ts";
import { handleSubscribe } from "./handlers/subscribe.ts";
import { handleUnsubscribe } from "./handlers/unsubscribe.ts";
import { Outbound } from "./outbound.ts";
import { Pipeline } from "./pipeline.ts";
import type { RateLimit } from "./rate.ts";
import type { Run } from "./run.ts";
import type { SessionSettings } from "./settings.ts";
import type { Subscriber } from "./subscriber.ts";

/** States of a connection, in order. */
export const AWAITING_CONNECT = 0;
/** CONNECT is being decided (hooks, takeover, store). */
export const CONNECTING = 1;
/** Enhanced authentication: the client must send AUTH. */
export const AUTHENTICATING = 2;
export const CONNECTED = 3;
export const CLOSED = 4;

/** Largest CONNECT while nothing is known of the client: five strings of 64 KB and properties. */
const CONNECT_BYTES_MAX = 1_048_576;
/** Answers a client has not read before nothing more is read from it. */
const UNREAD_BYTES_MAX = 1_048_576;
/** Packets whose order among PUBLISH packets has no meaning. */
const MAY_OVERTAKE = new Set([PUBACK, PUBREC, PUBREL, PUBCOMP, PINGREQ, CONNECT]);
/** Unparsed input above this stops the reading of the socket while a hook is awaited. */
const HELD_BYTES_MAX = 65_536;

/** How and why a session ends. */
export interface Ending {
  /** DISCONNECT reason code for a v5 client; undefined = close without a packet. */
  code?: number;
  properties?: Properties;
  /** For logs and the `reason` of on_client_gone and on_client_offline. */
  reason: string;
  /** False only for an orderly DISCONNECT and a suppressed will. */
  publishWill: boolean;
  /** `session disconnect --cleanup`: the client's state goes too. */
  cleanup?: boolean;
}

/** [MQTT-3.1.0-1] [MQTT-2.1.3-1] */
function isConnect(buffer: Buffer): boolean {
  return buffer[0] === CONNECT << 4;
}

/** One connection and the client behind it. Handlers work on it; sockets are behind `transport`. */
export class Session implements TransportHandler, PacketSink, Timed {
  timerSlot = NOT_SCHEDULED;
  timerAtMs = 0;
  readonly core: Core;
  readonly transport: Transport;
  readonly out: Outbound;
  readonly framer: Framer;
  /** The chains that clients of this listener are asked through. */
  readonly chainSet: ChainSet;
  phase = AWAITING_CONNECT;
  /** Encoding of packets: 3, 4 or 5. */
  version: 3 | 4 | 5 = 4;
  /** As sent in CONNECT, with the bridge bit. */
  level = 4;
  settings: SessionSettings;
  clientId = "";
  username: string | undefined;
  hookId: SubscriberId;
  /** What plugins keep about this client; undefined until one asks. */
  ownContext: SessionContext | undefined;
  subscriber: Subscriber | undefined;
  mount: Mount;
  /** Will of this connection, authorised at CONNECT. */
  will: StoredWill | undefined;
  suppressWillOnTakeover = false;
  cleanStart = true;
  /** PUBLISH packets received. */
  published = 0;
  /** Seconds; 0 = never checked. */
  keepAliveS = 0;
  /** MQTT 5: what the client asked for. */
  requestProblemInfo = true;
  packetBytesMax: number | undefined;
  enhancedAuth: EnhancedAuth | undefined;
  /** Topic of the last PUBLISH: most clients repeat it. */
  lastRoute: Route | undefined;
  run: Run | undefined;
  /** Topic aliases of the client, by number. */
  aliasesIn: (Route | undefined)[] | undefined;
  rate: RateLimit | undefined;
  /** PUBLISH packets that plugins are asked about; undefined until one answers later. */
  private asked: Pipeline<AskedPublish> | undefined;
  /** Pauses that hooks or a rate limit asked for. */
  private pauses = 0;
  /** Reasons why input waits now: hooks, the store, a rate limit, a client that does not read. */
  private waits = 0;
  /** Too many answers wait for the store. */
  private isHeldBack = false;
  /** The client sends but does not read its answers. */
  private isChoked = false;
  readonly connectedAtMs: number;
  /** Made when a plugin asks whether the client is still there. */
  private ownClosing: AbortController | undefined;
  /** Set when the socket has closed. */
  private closedBecause: string | undefined;
  private lastInputMs: number;
  private lifetimeAtMs = 0;

  constructor(core: Core, transport: Transport) {
    this.core = core;
    this.transport = transport;
    this.chainSet = core.hooks.chainsOf(transport.listener);
    this.settings = core.settings;
    this.mount = core.router.mount(transport.listener.mountpoint);
    this.hookId = { mountpoint: transport.listener.mountpoint, client_id: "" };
    this.out = new Outbound(this);
    this.framer = new Framer(this);
    this.framer.remainingMax = this.settings.maxMessageSize || CONNECT_BYTES_MAX;
    this.connectedAtMs = core.wheel.nowMs;
    this.lastInputMs = core.wheel.nowMs;
    core.counters.socketOpen++;
    core.early.add(this);
    core.wheel.schedule(this, core.wheel.refresh() + this.settings.mqttConnectTimeoutMs);
  }

  // ---- transport

  onData(buffer: Buffer, length: number): void {
    this.core.counters.bytesReceived += length;
    this.lastInputMs = this.core.wheel.refresh();
    if (this.phase === CLOSED) return;
    if (this.phase === AWAITING_CONNECT && this.framer.waitingBytes === 0 && !isConnect(buffer)) {
      // Not MQTT at all: no reason to wait for what its bytes announce.
      this.fault(new ConnectError(0x81, "first packet is no CONNECT", "MQTT-3.1.0-1", "none"));
      return;
    }
    try {
      this.framer.push(buffer, length);
    } catch (error) {
      this.flushRun();
      this.fault(error);
    }
    this.flushRun();
    if (!this.isChoked && this.out.outbox.unreadBytes > UNREAD_BYTES_MAX) {
      this.isChoked = true;
      this.wait();
    }
    if (this.isWaiting && this.framer.waitingBytes > HELD_BYTES_MAX) this.transport.pause();
  }

  onDrain(): void {
    if (this.phase === CLOSED) return;
    try {
      this.out.drained();
    } catch (error) {
      this.fault(error);
    }
    if (!this.isChoked) return;
    this.isChoked = false;
    this.release();
  }

  onClose(error: Error | undefined): void {
    this.core.counters.socketClose++;
    if (error !== undefined) this.core.counters.socketError++;
    this.closedBecause = error === undefined ? "closed by client" : error.message;
    this.endIfClosed();
  }

  /** The socket is gone; what arrived before is still handled, when input has to wait. */
  private endIfClosed(): void {
    if (this.closedBecause === undefined) return;
    if (this.phase === CONNECTED && this.isWaiting && !this.isChoked) return;
    if (this.phase === CONNECTED && this.askedCount > 0) return;
    this.end({ reason: this.closedBecause, publishWill: true });
  }

  // ---- packets

  onPacket(
    header: number,
    buffer: Buffer,
    start: number,
    body: number,
    end: number,
  ): boolean | "later" {
    const type = header >>> 4;
    if (this.phase === CONNECTED) {
      if (type === PUBLISH) {
        if (!handlePublish(this, header, buffer, start, body, end)) return this.later();
        return !this.isWaiting && this.phase === CONNECTED;
      }
      if (this.askedCount > 0 && !MAY_OVERTAKE.has(type)) return this.later();
      this.flushRun();
      if (type >= PUBACK && type <= PUBCOMP && end - body === 2) {
        handleShortAck(this, header, buffer, body);
      } else this.onControl(type, header & 0x0f, buffer, body, end);
    } else {
      this.onEarlyPacket(type, header & 0x0f, buffer, body, end);
    }
    return !this.isWaiting && this.phase !== CLOSED;
  }

  /** Before CONNACK. */
  private onEarlyPacket(
    type: number,
    flags: number,
    buffer: Buffer,
    body: number,
    end: number,
  ): void {
    if (this.phase === AWAITING_CONNECT) {
      // [MQTT-3.1.0-1] the first packet is CONNECT
      if (type !== CONNECT) throw new ConnectError(0x82, "no CONNECT", "MQTT-3.1.0-1", "none");
      if (flags !== 0) throw new ConnectError(0x81, "flags", "MQTT-2.1.3-1", "none");
      this.core.tracer?.connecting(this, buffer, body, end);
      handleConnect(this, buffer, body, end);
      return;
    }
    if (type !== AUTH && type !== DISCONNECT) {
      this.end({ code: 0x82, reason: "packet during authentication", publishWill: false });
      return;
    }
    this.onControl(type, flags, buffer, body, end);
  }

  private onControl(type: number, flags: number, buffer: Buffer, body: number, end: number): void {
    if (type === PINGREQ) {
      if (flags !== 0 || end !== body) throw malformed("PINGREQ with content", "MQTT-2.1.3-1");
      this.core.counters.pingreqReceived[this.versionIndex]++;
      this.core.counters.pingrespSent[this.versionIndex]++;
      this.out.outbox.append(PINGRESP_FRAME);
      return;
    }
    const depth = this.settings.topicMaxDepth;
    const packet = decodeControl(type, flags, buffer, body, end, this.version, depth);
    switch (packet.type) {
      case "subscribe":
        handleSubscribe(this, packet);
        break;
      case "unsubscribe":
        handleUnsubscribe(this, packet);
        break;
      case "disconnect":
        handleDisconnect(this, packet);
        break;
      case "auth":
        handleAuth(this, packet);
        break;
      case "connect":
        throw protocolError("second CONNECT", "MQTT-3.1.0-2");
      default:
        handleAck(this, packet);
    }
  }

  /** The session is (still) one of its subscriber's. */
  get isAttached(): boolean {
    return this.phase !== CLOSED;
  }

  /** Routes QoS 0 messages collected from the bytes just read; they are borrowed until then. */
  flushRun(): void {
    const run = this.run;
    if (run === undefined) return;
    this.run = undefined;
    this.core.router.publishRun(run, this.subscriber);
  }

  /** 0 for 3.1 and 3.1.1, 1 for 5: index into counters by version. */
  get versionIndex(): 0 | 1 {
    return this.version === 5 ? 1 : 0;
  }

  get context(): SessionContext {
    this.ownContext ??= {};
    return this.ownContext;
  }

  /** Aborted when this session ends. */
  get closing(): AbortSignal {
    this.ownClosing ??= new AbortController();
    return this.ownClosing.signal;
  }

  // ---- messages that plugins are asked about

  get askedCount(): number {
    return this.asked === undefined ? 0 : this.asked.length;
  }

  /** Adds a PUBLISH that cannot take effect yet (see pipeline.ts). */
  addAsked(entry: AskedPublish, isLast: boolean): void {
    this.asked ??= new Pipeline<AskedPublish>(this);
    this.asked.add(entry, isLast);
  }

  askedAnswered(): void {
    this.asked?.drain();
  }

  get isOpen(): boolean {
    return this.phase !== CLOSED;
  }

  get isPaused(): boolean {
    return this.pauses > 0;
  }

  pipelineEmptied(): void {
    this.endIfClosed();
  }

  /** The packet must not overtake messages under way: it is read again when they have taken effect. */
  private later(): "later" {
    this.asked?.hold(0);
    return "later";
  }

  // ---- waiting

  get isWaiting(): boolean {
    return this.waits > 0;
  }

  /** Nothing more is read from the client until as many `release`. */
  wait(): void {
    this.waits++;
    this.framer.stop();
  }

  release(): void {
    this.waits--;
    this.resumeInput();
  }

  /**
   * Goes on with a value that may still be a promise. Only then the session waits: its later packets
   * stay unread, in order, and no other session notices.
   */
  proceed<T>(value: T | Promise<T>, then: (value: T) => void): void {
    if (!isPromise(value)) {
      then(value);
      return;
    }
    this.wait();
    (value as Promise<T>).then(
      (result) => {
        if (this.phase === CLOSED) return;
        try {
          then(result);
        } catch (error) {
          this.fault(error);
        }
        this.release();
      },
      (error: unknown) => this.fault(error),
    );
  }

  /** Reads nothing more for `ms` milliseconds (throttle, max_message_rate). */
  pauseFor(ms: number): void {
    this.wait();
    this.pauses++;
    setTimeout(() => {
      this.pauses--;
      this.release();
      this.asked?.drain();
    }, ms).unref();
  }

  /** Too many answers wait for the store: read on when half of them are out. */
  holdBack(): void {
    if (this.isHeldBack) return;
    this.isHeldBack = true;
    this.wait();
  }

  commitsProgressed(deferred: number): void {
    if (!this.isHeldBack || deferred > DEFERRED_MAX / 2) return;
    this.isHeldBack = false;
    this.release();
  }

  resumeInput(): void {
    if (this.isWaiting || this.phase === CLOSED) return;
    this.lastInputMs = this.core.wheel.refresh();
    try {
      this.framer.resume();
    } catch (error) {
      this.flushRun();
      this.fault(error);
    }
    this.flushRun();
    if (this.closedBecause !== undefined) this.endIfClosed();
    else if (!this.isWaiting) this.transport.resume();
  }

  // ---- deadlines

  /** Starts keep-alive and lifetime once the client is connected. */
  startDeadlines(): void {
    this.core.early.delete(this);
    const listenerS = this.transport.listener.maxConnectionLifetimeS;
    const hookS = this.settings.maxConnectionLifetimeS;
    const lifetimeS = Math.min(listenerS || Infinity, hookS || Infinity);
    if (lifetimeS < Infinity) this.lifetimeAtMs = this.connectedAtMs + lifetimeS * 1000;
    this.armTimer();
  }

  private armTimer(): void {
    const { wheel } = this.core;
    const keepAliveAt = this.keepAliveS > 0 ? this.lastInputMs + this.keepAliveS * 1500 : Infinity;
    const at = Math.min(keepAliveAt, this.lifetimeAtMs || Infinity);
    if (at < Infinity) wheel.schedule(this, at);
    else wheel.cancel(this);
  }

  onTimer(nowMs: number): void {
    if (this.phase === CONNECTING) {
      // CONNECT is here; hooks and store have limits of their own.
      this.core.wheel.schedule(this, nowMs + this.settings.mqttConnectTimeoutMs);
      return;
    }
    if (this.phase < CONNECTED) {
      this.core.counters.socketCloseTimeout++;
      this.core.log.debug("no CONNECT in time", { peer: this.transport.peer.address });
      this.end({ reason: "mqtt_connect_timeout", publishWill: false });
      this.transport.destroy();
      return;
    }
    if (this.lifetimeAtMs !== 0 && nowMs >= this.lifetimeAtMs) {
      this.end({ code: 0x98, reason: "max_connection_lifetime", publishWill: true });
      return;
    }
    if (this.isWaiting && !this.isChoked) this.lastInputMs = nowMs;
    // [MQTT-3.1.2-22] one and a half times the keep alive without input
    if (this.keepAliveS > 0 && nowMs - this.lastInputMs >= this.keepAliveS * 1500) {
      this.core.counters.keepaliveExpired[this.versionIndex]++;
      const level = this.settings.keepaliveAsWarning ? "warn" : "info";
      this.core.log.limited("keep alive", 10)[level]("client stayed silent beyond its keep alive", {
        client_id: this.clientId,
        keep_alive_s: this.keepAliveS,
      });
      this.end({ code: 0x8d, reason: "keep_alive_timeout", publishWill: true });
      return;
    }
    this.armTimer();
  }

  // ---- ending

  /** A violation of the protocol, or a fault of ours: ends this connection, never the broker. */
  fault(error: unknown): void {
    if (this.phase === CLOSED) return;
    if (!(error instanceof MqttError)) {
      this.core.log
        .limited("packet fault", 1)
        .fault("internal error while handling a packet", error, { client_id: this.clientId });
      this.end({ code: 0x80, reason: "internal error", publishWill: true });
      return;
    }
    if (error.reasonCode === 0x95) this.core.counters.invalidMsgSizeError[this.versionIndex]++;
    this.core.log.limited("protocol violation", 10).info("protocol violation", {
      client_id: this.clientId,
      peer: this.transport.peer.address,
      violation: error.message,
      statement: error.statement,
    });
    if (error instanceof ConnectError && error.answer !== "none") {
      this.version = error.answer.version;
      this.refuse(error.answer.returnCode);
      return;
    }
    if (this.phase === CONNECTING && this.version === 5) {
      this.refuse(error.reasonCode);
      return;
    }
    this.end({ code: error.reasonCode, reason: error.message, publishWill: true });
  }

  /** CONNACK with an error, then close. `code` is in the form of the session's version. */
  refuse(code: number, properties?: Properties, why?: string): void {
    if (this.phase === CLOSED) return;
    if (this.phase >= CONNECTING) {
      this.core.log.limited("client refused", 10).warn("client refused", {
        client_id: this.clientId,
        username: this.username,
        peer: this.transport.peer.address,
        reason: why ?? properties?.reasonString,
        code: this.version === 5 ? reasonName(code) : (RETURN_CODES[code] ?? code),
      });
    }
    const frame = encodeConnack(
      this.version,
      { sessionPresent: false, code, properties },
      { maximumPacketSize: this.packetBytesMax },
    );
    if (frame !== undefined) this.out.outbox.append(frame);
    this.countConnack(code);
    this.end({ reason: `refused with ${code}`, publishWill: false });
  }

  countConnack(code: number): void {
    const sent = this.core.counters.connackSent;
    const by = this.version === 5 ? sent.v5 : sent.v4;
    by[code] = (by[code] as number) + 1;
  }

  /** Ends the session once: last packet, will, queue, hooks, socket. */
  end(ending: Ending): void {
    if (this.phase === CLOSED) return;
    const wasConnected = this.phase >= AUTHENTICATING;
    this.phase = CLOSED;
    this.ownClosing?.abort();
    this.core.early.delete(this);
    this.core.wheel.cancel(this);
    if (this.version === 5 && wasConnected && ending.code !== undefined) {
      const frame = encodeDisconnect(ending.code, ending.properties, {
        maximumPacketSize: this.packetBytesMax,
      });
      if (frame !== undefined) this.out.outbox.append(frame);
      const by = this.core.counters.disconnectSent.v5;
      by[ending.code] = (by[ending.code] as number) + 1;
    }
    this.out.outbox.flush();
    this.out.close();
    this.out.outbox.close();
    this.transport.end();
    this.core.tracer?.ended(this);
    if (this.subscriber !== undefined) this.core.manager.detach(this, ending);
    const level = this.subscriber === undefined ? "debug" : "info";
    if (!this.core.log.isEnabled(level)) return;
    this.core.log[level]("client disconnected", {
      client_id: this.clientId,
      ...(this.mount.name === "" ? {} : { mountpoint: this.mount.name }),
      username: this.username,
      peer: `${this.transport.peer.address}:${this.transport.peer.port}`,
      reason: ending.reason,
      ...(ending.code === undefined ? {} : { code: reasonName(ending.code) }),
    });
  }

  /** Inbound limit once the client is known. */
  applySizeLimit(): void {
    this.framer.remainingMax = this.settings.maxMessageSize || REMAINING_LENGTH_MAX;
  }
}
