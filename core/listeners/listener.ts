/** One `listener.<kind>.<name>`: binds, counts, refuses, and hands accepted sockets to its kind. */
import { unlink } from "node:fs/promises";
import net from "node:net";
import { getSystemErrorName } from "node:util";
import { errorMessage, NautilusError } from "../errors.ts";
import type { Acceptor, ListenerDependencies } from "./acceptor.ts";
import { HttpAcceptor, type HttpEvents } from "./http.ts";
import { type Origin, peerOfSocket } from "./peer.ts";
import { ProxyGate, readProxyHeader } from "./proxy-gate.ts";
import { isRawHandle, type RawHandle, rawServerHandle } from "./raw-handle.ts";
import { StreamTransport } from "./stream-transport.ts";
import { peerOfHandle, RAW_AVAILABLE, type RawOwner, RawTransport } from "./tcp.ts";
import { TlsAcceptor } from "./tls.ts";
import type {
  AnyListenerSettings,
  HttpListenerSettings,
  Listener,
  ListenerEvents,
  ListenerSettings,
  Peer,
  RefusalEvents,
} from "./types.ts";
import { WebSocketAcceptor } from "./websocket.ts";

/** Connections the kernel may hold until we accept them; it cuts this to net.core.somaxconn. */
const BACKLOG = 4096;

/** Out of file handles every attempt fails; one line in this time says so. */
const ACCEPT_WARNING_MS = 10_000;

class TcpAcceptor implements Acceptor {
  private readonly settings: ListenerSettings;
  private readonly events: ListenerEvents;

  constructor(settings: ListenerSettings, events: ListenerEvents) {
    this.settings = settings;
    this.events = events;
  }

  start(): void {}

  accept(socket: net.Socket, origin: Origin): void {
    const transport = new StreamTransport(socket, this.settings, origin);
    this.events.onTransport(transport);
    if (!transport.isStarted) transport.destroy();
  }

  stop(): void {}

  rereadFiles(): void {}
}

function createAcceptor(
  settings: ListenerSettings,
  events: ListenerEvents,
  deps: ListenerDependencies,
): Acceptor {
  switch (settings.kind) {
    case "tcp":
      return new TcpAcceptor(settings, events);
    case "ssl":
      return new TlsAcceptor(settings, events, deps);
    case "ws":
    case "wss":
      return new WebSocketAcceptor(settings, events, deps);
    default:
      settings.kind satisfies never;
      throw new Error("unreachable");
  }
}

/** What takes accepted handles from under `net.Server`: plain TCP only. */
interface RawIntake {
  readonly owner: RawOwner;
  readonly events: ListenerEvents;
}

class SocketListener implements Listener {
  readonly settings: AnyListenerSettings;
  connections = 0;
  boundPort = 0;

  private readonly events: RefusalEvents;
  private readonly deps: ListenerDependencies;
  private readonly acceptor: Acceptor;
  private readonly raw: RawIntake | undefined;
  private server: net.Server | undefined = undefined;
  private quietUntilMs = 0;

  constructor(
    settings: AnyListenerSettings,
    acceptor: Acceptor,
    events: RefusalEvents,
    deps: ListenerDependencies,
    raw?: { readonly settings: ListenerSettings; readonly events: ListenerEvents },
  ) {
    this.settings = settings;
    this.acceptor = acceptor;
    this.events = events;
    this.deps = deps;
    this.raw =
      raw === undefined
        ? undefined
        : { events: raw.events, owner: { settings: raw.settings, closed: () => this.closed() } };
  }

  get isRunning(): boolean {
    return this.server !== undefined;
  }

  async start(): Promise<void> {
    this.acceptor.start();
    try {
      await this.bind();
    } catch (error) {
      this.acceptor.stop();
      throw this.bindError(error);
    }
  }

  stop(): Promise<void> {
    this.acceptor.stop();
    this.server?.close();
    this.server = undefined;
    // The listening socket is closed at once; `close`'s callback would wait for open connections.
    return new Promise((resolve) => setImmediate(resolve));
  }

  rereadFiles(): void {
    if (this.isRunning) this.acceptor.rereadFiles();
  }

  private closed(): void {
    this.connections -= 1;
  }

  private async bind(): Promise<void> {
    const { unixSocket, address, port } = this.settings;
    if (unixSocket) await removeDeadSocket(address);
    const server = net.createServer({ allowHalfOpen: true, noDelay: true }, (socket) =>
      this.acceptSocket(socket),
    );
    const where = unixSocket ? { path: address } : { host: address, port };
    await new Promise<void>((resolve, reject) => {
      server.once("error", reject);
      server.listen({ ...where, backlog: BACKLOG }, resolve);
    });
    server.removeAllListeners("error");
    server.on("error", (error) => this.warn(`cannot accept: ${error.message}`));
    const bound = server.address();
    this.boundPort = typeof bound === "object" && bound !== null ? bound.port : 0;
    this.server = server;
    // Nothing was accepted yet: the event loop has not polled since the socket was bound.
    if (this.raw !== undefined) this.acceptRaw(server, this.raw);
  }

  /** Takes accepted handles from under `net.Server`; without the internals nothing changes. */
  private acceptRaw(server: net.Server, raw: RawIntake): void {
    const handle = rawServerHandle(server);
    if (handle === undefined || !RAW_AVAILABLE || this.deps.useRawTcp === false) return;
    const viaStream = handle.onconnection;
    const listener = this;
    handle.onconnection = function onconnection(status, client) {
      if (status !== 0) listener.acceptFailed(status);
      else if (client !== undefined && isRawHandle(client)) listener.acceptHandle(client, raw);
      else viaStream.call(handle, status, client);
    };
  }

  private acceptHandle(handle: RawHandle, { owner, events }: RawIntake): void {
    const peer = peerOfHandle(handle);
    if (this.connections >= this.settings.maxConnections) {
      handle.close();
      this.refuse(peer, "max_connections");
      return;
    }
    this.connections += 1;
    const transport = new RawTransport(handle, peer, owner);
    if (this.settings.proxyProtocol) {
      transport.start(new ProxyGate(transport, events, this.deps.proxyTimeoutMs));
      return;
    }
    events.onTransport(transport);
    if (!transport.isStarted) transport.destroy();
  }

  private acceptSocket(socket: net.Socket): void {
    const peer = peerOfSocket(socket, this.settings.unixSocket);
    socket.on("error", ignoreError);
    if (this.connections >= this.settings.maxConnections) {
      socket.destroy();
      this.refuse(peer, "max_connections");
      return;
    }
    this.connections += 1;
    socket.once("close", () => this.closed());
    const origin: Origin = { peer, preAuthUsername: undefined };
    if (!this.settings.proxyProtocol) {
      this.acceptor.accept(socket, origin);
      return;
    }
    readProxyHeader(socket, this.settings, origin, {
      timeoutMs: this.deps.proxyTimeoutMs,
      accepted: (proxied) => this.acceptor.accept(socket, proxied),
      refused: (reason) => this.refuse(peer, reason),
    });
  }

  private refuse(peer: Peer, reason: string): void {
    this.events.onRefused(this.settings, peer, reason);
  }

  private acceptFailed(status: number): void {
    const nowMs = Date.now();
    if (nowMs < this.quietUntilMs) return;
    this.quietUntilMs = nowMs + ACCEPT_WARNING_MS;
    this.warn(`cannot accept: ${getSystemErrorName(status)}`);
  }

  private warn(what: string): void {
    this.deps.logger.warn(`listener.${this.settings.kind}.${this.settings.name}: ${what}`);
  }

  private bindError(cause: unknown): NautilusError {
    if (cause instanceof NautilusError) return cause;
    const { kind, name, address, port, unixSocket } = this.settings;
    const where = unixSocket
      ? address
      : net.isIPv6(address)
        ? `[${address}]:${port}`
        : `${address}:${port}`;
    const reason = errorMessage(cause);
    return new NautilusError("LISTENER_BIND", { kind, name, where, reason }, cause);
  }
}

/** The session learns of errors in `onClose`; before that there is nobody to tell. */
function ignoreError(): void {}

/** A unix socket whose broker was killed stays as a file; it is removed if nobody answers on it. */
async function removeDeadSocket(path: string): Promise<void> {
  const code = await new Promise<string | undefined>((resolve) => {
    const probe = net.connect(path, () => {
      probe.destroy();
      resolve(undefined);
    });
    probe.once("error", (error: NodeJS.ErrnoException) => resolve(error.code));
  });
  if (code === "ECONNREFUSED") await unlink(path);
}

/** An MQTT listener of the given kind; nothing is bound until `start`. */
export function createListener(
  settings: ListenerSettings,
  events: ListenerEvents,
  deps: ListenerDependencies,
): Listener {
  const acceptor = createAcceptor(settings, events, deps);
  const raw = settings.kind === "tcp" ? { settings, events } : undefined;
  return new SocketListener(settings, acceptor, events, deps, raw);
}

/** An `http` or `https` listener; nothing is bound until `start`. */
export function createHttpListener(
  settings: HttpListenerSettings,
  events: HttpEvents,
  deps: ListenerDependencies,
): Listener {
  return new SocketListener(settings, new HttpAcceptor(settings, events, deps), events, deps);
}
