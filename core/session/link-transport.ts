import type { SessionLink } from "../hooks/define-plugin.ts";
import type { ListenerSettings, Peer, Transport, TransportHandler } from "../listeners/types.ts";

/** Carries a session's frames to and from a plugin. CONNACK stays here: the plugin sent no CONNECT. */
export class LinkTransport implements Transport {
  readonly listener: ListenerSettings;
  readonly peer: Peer;
  readonly preAuthUsername = undefined;
  readonly clientCert = undefined;
  bufferedBytes = 0;
  /** The plugin ends the link itself: it need not be told, and no DISCONNECT is for the peer. */
  isQuiet = false;
  private readonly link: SessionLink;
  private readonly events: { opened(): void; ended(): void };
  private handler: TransportHandler | undefined;
  private isOpen = false;
  private isOver = false;

  constructor(
    listener: ListenerSettings,
    link: SessionLink,
    events: { opened(): void; ended(): void },
  ) {
    this.listener = listener;
    this.peer = link.peer;
    this.link = link;
    this.events = events;
  }

  start(handler: TransportHandler): void {
    this.handler = handler;
  }

  write(data: Buffer): boolean {
    if (this.isQuiet || this.isOver) return true;
    let frames = data;
    if (!this.isOpen) {
      // CONNACK: type, a length below 128 or of two bytes, flags, code
      const head = (data[1] as number) < 128 ? 2 : 3;
      const length = ((data[1] as number) & 0x7f) + (head === 3 ? (data[2] as number) << 7 : 0);
      if (data[head + 1] !== 0) return true;
      this.isOpen = true;
      frames = data.subarray(head + length);
      this.events.opened();
    }
    if (frames.length === 0 || this.link.send(frames)) return true;
    this.bufferedBytes += frames.length;
    return false;
  }

  drained(): void {
    if (this.bufferedBytes === 0 || this.isOver) return;
    this.bufferedBytes = 0;
    this.handler?.onDrain();
  }

  pause(): void {
    if (!this.isOver) this.link.pause();
  }

  resume(): void {
    if (!this.isOver) this.link.resume();
  }

  /** The session is over; its state is handed on first. */
  end(): void {
    if (this.isOver) return;
    this.isOver = true;
    queueMicrotask(() => {
      this.handler?.onClose(undefined);
      if (!this.isQuiet) this.events.ended();
    });
  }

  destroy(): void {
    this.end();
  }
}

/** What stands for the listener of a session without one. */
export function listenerOf(plugin: string, mountpoint: string): ListenerSettings {
  return {
    kind: "tcp",
    name: plugin,
    address: plugin,
    port: 0,
    unixSocket: false,
    mountpoint,
    maxConnections: Number.POSITIVE_INFINITY,
    maxConnectionLifetimeS: 0,
    allowedProtocolVersions: [3, 4, 5],
    allowAnonymousOverride: true,
    authPlugins: undefined,
    authzPlugins: undefined,
    forwardConnectionOpts: false,
    proxyProtocol: false,
    proxyProtocolUseCnAsUsername: false,
    proxyXff: { enabled: false, trusted: [], useCnAsUsername: false, cnHeader: "" },
    maxWsFrameSize: 0,
    maxRequestLineLength: 0,
    maxHeaderValueLength: 0,
    tls: undefined,
  };
}
