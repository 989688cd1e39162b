/** One connection to the remote broker: MQTT.js for all but the messages. */
import { type IClientOptions, type IConnackPacket, MqttClient } from "mqtt";
import type { RemoteSubscription } from "./rules.ts";
import type { BridgeSettings } from "./settings.ts";
import { Wire, type WireEvents } from "./wire.ts";

/** Never given up: the remote keeps our session until we come back. MQTT 5.0, 3.1.2.11.2 */
const NEVER_EXPIRES = 0xffff_ffff;
/** DISCONNECT has left by then, or the peer does not read. */
const END_MS = 2_000;

/** Why a connection ended, or never was. */
export interface Ending {
  readonly reason: string;
  /** Return or reason code of a CONNACK that refused. */
  readonly refusedWith: number | undefined;
  /** The remote was there, but closed before any answer. */
  readonly isSilent: boolean;
  /** The remote said goodbye (MQTT 5). */
  readonly isOrderly: boolean;
}

/** What the remote broker can do, from CONNACK. */
export interface RemoteLimits {
  readonly isResumed: boolean;
  readonly window: number;
  readonly packetBytesMax: number | undefined;
  readonly maxQos: number;
  readonly hasRetain: boolean;
}

export interface RemoteEvents extends WireEvents {
  /** CONNACK: the message flow is held until `wire.release`. */
  accepted(limits: RemoteLimits): void;
  /** Every subscription is answered; those that were refused are named. */
  subscribed(refused: readonly string[]): void;
  roundTrip(ms: number): void;
  ended(ending: Ending): void;
}

export class Remote {
  readonly wire: Wire;
  private readonly client: MqttClient;
  private readonly settings: BridgeSettings;
  private readonly events: RemoteEvents;
  private reason = "";
  private refusedWith: number | undefined;
  private isOrderly = false;
  private isEnded = false;
  private askedAtMs = performance.now();
  private deadline: NodeJS.Timeout | undefined;

  constructor(settings: BridgeSettings, isPrivate: boolean, events: RemoteEvents) {
    this.settings = settings;
    this.events = events;
    this.wire = new Wire(settings, isPrivate, events);
    this.client = new MqttClient(() => this.wire, this.options());
    this.client.on("connect", (packet) => this.connected(packet));
    this.client.on("error", (error) => this.failed(error));
    this.client.on("disconnect", ({ reasonCode }) => {
      this.isOrderly = true;
      this.reason = `the remote broker ended it with reason code 0x${(reasonCode ?? 0).toString(16)}`;
    });
    this.client.on("packetsend", ({ cmd }) => {
      if (cmd === "pingreq" || cmd === "subscribe") this.askedAtMs = performance.now();
    });
    this.client.on("packetreceive", ({ cmd }) => {
      if (cmd !== "connack" && cmd !== "pingresp") return;
      events.roundTrip(performance.now() - this.askedAtMs);
    });
    this.wire.on("error", (error) => this.failed(error));
    this.wire.once("close", () => this.ended());
  }

  private options(): IClientOptions {
    const { version, isClean, connectTimeoutS, keepAliveS, clientId, username, password } =
      this.settings;
    return {
      protocolVersion: version,
      protocolId: version === 3 ? "MQIsdp" : "MQTT",
      clientId,
      clean: isClean,
      keepalive: keepAliveS,
      connectTimeout: connectTimeoutS * 1000,
      ...(username === undefined ? {} : { username }),
      ...(password === undefined ? {} : { password }),
      ...(version === 5
        ? { properties: { sessionExpiryInterval: isClean ? 0 : NEVER_EXPIRES } }
        : {}),
      // Each attempt is a client of its own: the bridge decides when and how to try again.
      reconnectPeriod: 0,
      resubscribe: false,
      queueQoSZero: false,
      timerVariant: "native",
    };
  }

  private connected(packet: IConnackPacket): void {
    const { properties } = packet;
    const { version, isClean, window } = this.settings;
    this.events.accepted({
      // MQTT 3.1 does not tell.
      isResumed: version === 3 ? !isClean : packet.sessionPresent,
      window: Math.min(window, properties?.receiveMaximum ?? window),
      packetBytesMax: properties?.maximumPacketSize,
      maxQos: properties?.maximumQoS ?? 2,
      hasRetain: properties?.retainAvailable !== false,
    });
  }

  /**
   * Asks for all filters at once, each with a packet of its own so that one refusal is only its own.
   * `isAgain`: the remote may have these subscriptions; retained messages come for new ones (MQTT 5).
   */
  subscribe(subscriptions: readonly RemoteSubscription[], isAgain: boolean): void {
    const refused: string[] = [];
    let open = subscriptions.length;
    const answered = (): void => {
      if (--open > 0 || this.isEnded) return;
      clearTimeout(this.deadline);
      this.events.subscribed(refused);
    };
    if (open === 0) {
      this.events.subscribed(refused);
      return;
    }
    this.deadline = setTimeout(() => {
      this.reason = `${open} SUBSCRIBE without an answer within ${this.settings.connectTimeoutS} s`;
      this.wire.destroy();
    }, this.settings.connectTimeoutS * 1000);
    for (const { filter, qos, retain } of subscriptions) {
      // [MQTT-3.8.3-4] No Local on a shared subscription is a protocol error
      const nl = !filter.startsWith("$share/");
      const options = { qos, nl, rap: retain, rh: isAgain ? (1 as const) : (0 as const) };
      this.client.subscribe(filter, options, (error) => {
        if (error !== null && error !== undefined) refused.push(filter);
        answered();
      });
    }
  }

  /** Subscribes to something that the remote may not have; nothing waits for the answer. */
  ask(filter: string): void {
    this.client.subscribe(filter, { qos: 0, nl: true, rap: false, rh: 0 }, () => undefined);
  }

  private failed(error: Error): void {
    const { code } = error as { code?: unknown };
    if (typeof code === "number") this.refusedWith = code;
    // The first one is the cause of those that follow.
    if (this.reason === "") this.reason = error.message === "" ? String(code) : error.message;
  }

  private ended(): void {
    if (this.isEnded) return;
    this.isEnded = true;
    clearTimeout(this.deadline);
    const { isOpen, hasAnswered } = this.wire;
    this.events.ended({
      reason: this.reason === "" ? "the remote broker closed the connection" : this.reason,
      refusedWith: this.refusedWith,
      isSilent: isOpen && !hasAnswered,
      isOrderly: this.isOrderly,
    });
  }

  /** Ends the connection, with DISCONNECT where there is one. */
  end(): void {
    this.reason = this.reason === "" ? "ended here" : this.reason;
    const isConnected = this.client.connected;
    this.client.end(!isConnected, () => undefined);
    const timer = setTimeout(() => this.wire.destroy(), END_MS);
    this.wire.once("close", () => clearTimeout(timer));
    if (!isConnected) this.wire.destroy();
  }
}
