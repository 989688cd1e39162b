import type { HookProperties } from "./types.ts";

/** A message of this broker as a plugin's session sees it, before it decides what becomes of it. */
export interface MessageView {
  readonly topic: string;
  readonly qos: 0 | 1 | 2;
  /** As published; true for messages that were retained before, too. */
  readonly retain: boolean;
  /** Made when asked for. */
  readonly payload: Buffer;
  /** Made when asked for. */
  readonly properties: HookProperties;
}

/** A copy of a message for the session's queue; payload, properties and expiry stay as they are. */
export interface ForwardedMessage {
  readonly topic: string;
  readonly qos: 0 | 1 | 2;
  readonly retain: boolean;
}

/** The peer that a session's messages go to, such as another broker. */
export interface SessionLink {
  /** Encoding of the frames. */
  readonly version: 3 | 4 | 5;
  /** QoS 1 and 2 messages that may be unacknowledged. */
  readonly window: number;
  /** Frames above are dropped and counted; undefined = no limit. */
  readonly packetBytesMax?: number | undefined;
  /** The peer knows nothing of us: its packet identifiers of QoS 2 messages count from new. */
  readonly isNew: boolean;
  /** Shown in `session show`. */
  readonly peer: { readonly address: string; readonly port: number };
  /** Frames may be received from now on. */
  ready(): void;
  /**
   * Whole frames from the broker: PUBLISH and acknowledgements, at the end DISCONNECT. True: the bytes
   * were taken and may change; false: the link keeps them and calls `drained` when nothing waits.
   */
  send(frames: Buffer): boolean;
  /** Nothing more should be received until `resume`. */
  pause(): void;
  resume(): void;
  /** The broker ended it: shutdown, an admin's command, a violation of the protocol. */
  closed(): void;
}

/** The broker's end of a link. */
export interface LinkedSession {
  /**
   * Takes `length` bytes of frames as a client would send them: PUBLISH and acknowledgements. The bytes
   * are only read during the call.
   */
  receive(frames: Buffer, length: number): void;
  /** A QoS 2 message of the peer with this packet identifier was taken, and PUBREL has not come yet. */
  hasInbound(packetId: number): boolean;
  /** All bytes that `send` kept have left. */
  drained(): void;
  /** The peer is gone; the session waits with its queue for the next one. */
  close(): void;
}

export interface PluginSessionOptions {
  /** No client can connect with it while the plugin runs. */
  readonly clientId: string;
  /** Default "". */
  readonly mountpoint?: string;
  /** Messages kept while there is no link. */
  readonly queueMax: number;
  /** QoS 0 messages wait in the store, too; otherwise in memory. */
  readonly storesQos0: boolean;
  /** The same while there is one: what waits for a slow peer. */
  readonly onlineQueueMax: number;
  /** Seconds until an unacknowledged frame is repeated, 0 = never; 3.x only. */
  readonly retryIntervalS: number;
  /**
   * What to queue for a message on one of the filters; called once per message, and once per message
   * and shared subscription with its `filter`. It must not throw; a throw is logged and drops the message.
   */
  forward(message: MessageView, shared: string | undefined): readonly ForwardedMessage[];
}

/**
 * A persistent session of a plugin's own: queue, packet identifiers and exactly-once state are kept
 * in the store as those of any client, but no hook is asked. What the peer publishes over its link is
 * not forwarded to it.
 */
export interface PluginSession {
  /** Messages that wait, without those in flight. */
  readonly queued: number;
  /** Sent and not acknowledged. */
  readonly inflight: number;
  /** Lost since the start because the queue was full or they were too large. */
  readonly dropped: number;
  /** Messages of a filter (also `$share/<group>/...`) go through `forward` from now on. */
  subscribe(filter: string): void;
  /** Forwards the retained messages of all filters, at the pace at which the link takes them. */
  replayRetained(): void;
  /** Connects a peer; one at a time. */
  link(link: SessionLink): LinkedSession;
  /** Ends subscriptions and link; the queue stays for a session with the same id. */
  end(): void;
  /** As `end`, and the queue goes too. */
  remove(): void;
}
