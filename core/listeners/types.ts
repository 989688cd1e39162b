/** The seam between sockets and sessions: a listener accepts byte streams and hands them out as transports. */

/** Address of a client as seen by hooks and logs, after PROXY protocol or X-Forwarded-For. */
export interface Peer {
  readonly address: string;
  readonly port: number;
}

/** What every listener has, whatever it serves. All values are already inherited and checked. */
export interface SocketSettings {
  /** The second word of `listener.<kind>.<name>`. */
  readonly kind: "tcp" | "ssl" | "ws" | "wss" | "http" | "https";
  readonly name: string;
  /** IP address, or path of a unix socket (then `port` is 0). */
  readonly address: string;
  readonly port: number;
  readonly unixSocket: boolean;
  /** Infinity = unlimited. */
  readonly maxConnections: number;
  readonly proxyProtocol: boolean;
  readonly proxyProtocolUseCnAsUsername: boolean;
  /** HTTP and WebSocket only. */
  readonly maxRequestLineLength: number;
  readonly maxHeaderValueLength: number;
  /** `ssl`, `wss` and `https` only. */
  readonly tls: TlsSettings | undefined;
}

/** Everything a session must know about the listener it came in on. */
export interface ListenerSettings extends SocketSettings {
  readonly kind: "tcp" | "ssl" | "ws" | "wss";
  /** Without trailing slash; "" is the default mountpoint. */
  readonly mountpoint: string;
  /** Seconds, 0 = unlimited. */
  readonly maxConnectionLifetimeS: number;
  /** Protocol levels: 3, 4, 5, 131, 132. */
  readonly allowedProtocolVersions: readonly number[];
  readonly allowAnonymousOverride: boolean;
  /** Names of plugins asked for registration here, instead of the global chain; undefined = global. */
  readonly authPlugins: readonly string[] | undefined;
  readonly authzPlugins: readonly string[] | undefined;
  readonly forwardConnectionOpts: boolean;
  readonly proxyXff: {
    readonly enabled: boolean;
    /** Addresses or CIDR ranges. */
    readonly trusted: readonly string[];
    readonly useCnAsUsername: boolean;
    readonly cnHeader: string;
  };
  /** WebSocket only. */
  readonly maxWsFrameSize: number;
}

/** `listener.http.<name>` or `listener.https.<name>`. */
export interface HttpListenerSettings extends SocketSettings {
  readonly kind: "http" | "https";
  /** Modules served here, in the order written. */
  readonly modules: readonly string[];
  /** Access to each module of the list; whatever is not `noauth` or `apikey` is a fault. */
  readonly authModes: ReadonlyMap<string, "noauth" | "apikey">;
}

/** Any kind of listener. */
export type AnyListenerSettings = ListenerSettings | HttpListenerSettings;

export interface TlsSettings {
  readonly cafile: string;
  readonly certfile: string;
  readonly keyfile: string;
  readonly keypasswd: string;
  /** OpenSSL list separated by colons; "" = Node's default. */
  readonly ciphers: string;
  /** Curve names; empty = default. */
  readonly eccs: readonly string[];
  readonly depth: number;
  /** Of `tlsv1`, `tlsv1.1`, `tlsv1.2`, `tlsv1.3`. */
  readonly versions: readonly string[];
  readonly crlfile: string;
  /** Milliseconds between re-reads of the CRL, 0 = never. */
  readonly crlRefreshIntervalMs: number;
  readonly requireCertificate: boolean;
  readonly useIdentityAsUsername: boolean;
  readonly handshakeTimeoutMs: number;
  readonly pskSupport: boolean;
  readonly pskfile: string;
  readonly pskfileSeparator: string;
  readonly pskIdentityHint: string;
}

/** Called by a transport; every call returns quickly and never throws. */
export interface TransportHandler {
  /** `length` bytes of `buffer` from offset 0; the buffer is shared and only valid during the call. */
  onData(buffer: Buffer, length: number): void;
  /** Everything given to `write` has left the process. */
  onDrain(): void;
  /** Called exactly once, last. `error` is set when the socket failed (reset, timeout, TLS fault). */
  onClose(error: Error | undefined): void;
}

/** One accepted byte stream. */
export interface Transport {
  readonly listener: ListenerSettings;
  readonly peer: Peer;
  /** User name from a client certificate, PSK identity, PROXY header or trusted HTTP header. */
  readonly preAuthUsername: string | undefined;
  /** DER of the client certificate, when there is one. */
  readonly clientCert: Buffer | undefined;
  /** Bytes accepted by `write` that have not left the process. */
  readonly bufferedBytes: number;
  /** Sets the handler and starts reading. Called once, synchronously from the accept callback. */
  start(handler: TransportHandler): void;
  /**
   * Sends bytes. Returns true when they all left synchronously and the caller may reuse the memory at
   * once; false when the transport keeps the buffer (the caller must not touch it again). After a
   * false, `onDrain` is called once when nothing is waiting any more.
   */
  write(data: Buffer): boolean;
  /** Stops and restarts reading; idempotent. */
  pause(): void;
  resume(): void;
  /** Sends what waits, then closes both directions; destroys after 5 s if the peer does not take it. */
  end(): void;
  /** Closes at once. */
  destroy(): void;
}

/** Hears of connections that ended before anything came of them. */
export interface RefusalEvents {
  /** A bad PROXY header, a TLS or HTTP refusal, or one connection too many. */
  onRefused(listener: SocketSettings, peer: Peer, reason: string): void;
}

export interface ListenerEvents extends RefusalEvents {
  onTransport(transport: Transport): void;
}

export interface Listener {
  readonly settings: AnyListenerSettings;
  /** Connections open now. */
  readonly connections: number;
  /** Port really bound (for port 0). */
  readonly boundPort: number;
  /** False before `start` and after `stop`. */
  readonly isRunning: boolean;
  start(): Promise<void>;
  /** Stops accepting; open connections stay. */
  stop(): Promise<void>;
  /** Reads certificates and the like again now; broken ones are logged and stay as they were. */
  rereadFiles(): void;
}
