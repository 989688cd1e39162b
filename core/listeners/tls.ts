/** TLS in front of a transport: handshake, client certificates, pre-shared keys, reload. */
import type { Socket } from "node:net";
import tls from "node:tls";
import { errorMessage } from "../errors.ts";
import type { Acceptor, ListenerDependencies } from "./acceptor.ts";
import { FileWatch } from "./file-watch.ts";
import { type Origin, peerOfSocket } from "./peer.ts";
import { StreamTransport } from "./stream-transport.ts";
import {
  type MaterialPart,
  MaterialReader,
  type TlsMaterial,
  verifiesClients,
  watchedFiles,
} from "./tls-material.ts";
import type {
  ListenerEvents,
  ListenerSettings,
  RefusalEvents,
  SocketSettings,
  TlsSettings,
} from "./types.ts";

/** How often certificates, keys and PSK files are looked at when nobody says otherwise. */
const FILE_POLL_MS = 1000;

/** Called with each connection whose handshake and client certificate are in order. */
export type Secured = (socket: tls.TLSSocket, origin: Origin, clientCert?: Buffer) => void;

/** Turns accepted sockets into TLS sockets; used for `ssl` and, in front of HTTP, for `wss` and `https`. */
export class TlsFront {
  private readonly listener: SocketSettings;
  private readonly settings: TlsSettings;
  private readonly events: RefusalEvents;
  private readonly deps: ListenerDependencies;
  private readonly secured: Secured;
  private readonly reader: MaterialReader;
  private readonly origins = new WeakMap<Socket, Origin>();
  private readonly pskIdentities = new WeakMap<Socket, string>();
  private material: TlsMaterial | undefined = undefined;
  private server: tls.Server | undefined = undefined;
  private watches: FileWatch[] = [];

  constructor(
    listener: SocketSettings,
    events: RefusalEvents,
    deps: ListenerDependencies,
    secured: Secured,
  ) {
    if (listener.tls === undefined) throw new Error(`${listener.name} has no TLS settings`);
    this.listener = listener;
    this.settings = listener.tls;
    this.events = events;
    this.deps = deps;
    this.secured = secured;
    this.reader = new MaterialReader(listener, this.settings);
  }

  /** Reads all files; throws LISTENER_FILE or LISTENER_TLS. */
  start(): void {
    const { settings } = this;
    this.watch(watchedFiles(settings), this.deps.filePollMs ?? FILE_POLL_MS, [
      "ca",
      "identity",
      "pskKeys",
    ]);
    if (settings.crlfile !== "") {
      this.watch([settings.crlfile], settings.crlRefreshIntervalMs, ["crls"]);
    }
    try {
      this.material = this.reader.readAll((message) => this.warn(message));
      this.server = this.createServer(this.material);
    } catch (error) {
      this.stop();
      throw error;
    }
  }

  rereadFiles(): void {
    const { crlfile } = this.settings;
    const files = [...watchedFiles(this.settings), ...(crlfile === "" ? [] : [crlfile])];
    this.reload(files, ["ca", "identity", "crls", "pskKeys"]);
  }

  accept(socket: Socket, origin: Origin): void {
    this.origins.set(socket, origin);
    this.server?.emit("connection", socket);
  }

  stop(): void {
    for (const watch of this.watches) watch.stop();
    this.watches = [];
  }

  private createServer(material: TlsMaterial): tls.Server {
    const { settings } = this;
    const server = tls.createServer({
      ...this.reader.contextOptions(material),
      handshakeTimeout: settings.handshakeTimeoutMs,
      requestCert: verifiesClients(settings),
      rejectUnauthorized: settings.requireCertificate,
      ...(settings.pskSupport ? this.pskOptions() : {}),
    });
    server.on("secureConnection", (socket) => this.handshaken(socket));
    server.on("tlsClientError", (error, socket) => {
      // A refused certificate shows as "socket hang up"; the reason is beside it.
      this.refuse(socket, String(socket.authorizationError ?? error.message));
      socket.destroy(); // Node leaves a handshake that timed out open
    });
    return server;
  }

  private pskOptions(): tls.TlsOptions {
    return {
      pskIdentityHint: this.settings.pskIdentityHint,
      pskCallback: (socket, identity) => {
        // TLS 1.3 goes on without the key if it does not fit: the identity would be a mere claim.
        if (socket.getProtocol() === "TLSv1.3") return null;
        this.pskIdentities.set(socket, identity);
        return this.material?.pskKeys.get(identity) ?? null;
      },
    };
  }

  private handshaken(socket: tls.TLSSocket): void {
    const certificate = verifiesClients(this.settings) ? certificateOf(socket) : undefined;
    const fault =
      certificate === undefined ? undefined : this.certificateFault(socket, certificate);
    if (fault !== undefined) {
      socket.on("error", () => {}); // the refusal is reported, a reset on top of it is not news
      this.refuse(socket, fault);
      socket.destroy();
      return;
    }
    const origin = this.originOf(socket);
    const identity = this.settings.useIdentityAsUsername
      ? (this.pskIdentities.get(socket) ?? commonNameOf(certificate))
      : undefined;
    const preAuthUsername = identity ?? origin.preAuthUsername;
    this.secured(socket, { peer: origin.peer, preAuthUsername }, certificate?.raw);
  }

  /** Without `require_certificate` a certificate is optional, but a bad one is still refused. */
  private certificateFault(
    socket: tls.TLSSocket,
    certificate: tls.DetailedPeerCertificate,
  ): string | undefined {
    if (!socket.authorized) return String(socket.authorizationError);
    const count = intermediatesOf(certificate);
    if (count <= this.settings.depth) return undefined;
    return `certificate chain of ${count} intermediates, depth is ${this.settings.depth}`;
  }

  private originOf(socket: tls.TLSSocket): Origin {
    // `_parent` is the accepted socket inside; without it only a PROXY header would be lost.
    const { _parent: inner } = socket as unknown as { _parent?: Socket };
    const origin = inner === undefined ? undefined : this.origins.get(inner);
    const peer = (): Origin["peer"] => peerOfSocket(socket, this.listener.unixSocket);
    return origin ?? { peer: peer(), preAuthUsername: undefined };
  }

  private watch(files: readonly string[], intervalMs: number, parts: MaterialPart[]): void {
    if (files.length === 0 || intervalMs === 0) return;
    this.watches.push(new FileWatch(files, intervalMs, () => this.reload(files, parts)));
  }

  private reload(files: readonly string[], parts: readonly MaterialPart[]): void {
    if (this.material === undefined) return;
    const warnings: string[] = [];
    const material = this.reader.reread(this.material, parts, (text) => warnings.push(text));
    try {
      this.server?.setSecureContext(this.reader.contextOptions(material));
      this.material = material;
    } catch (error) {
      warnings.push(errorMessage(error));
    }
    for (const warning of warnings) this.warn(warning);
    const { kind, name } = this.listener;
    if (warnings.length === 0) {
      this.deps.logger.info(`listener.${kind}.${name}: read again: ${files.join(", ")}`);
    }
  }

  private refuse(socket: tls.TLSSocket, reason: string): void {
    this.events.onRefused(this.listener, this.originOf(socket).peer, `TLS: ${reason}`);
  }

  private warn(message: string): void {
    this.deps.logger.warn(message);
  }
}

/**
 * The client's certificate with its chain. `getPeerX509Certificate` must not be used beside it: it
 * takes the chain out of OpenSSL's hands (Node 20.20), and `depth` could not be checked any more.
 */
function certificateOf(socket: tls.TLSSocket): tls.DetailedPeerCertificate | undefined {
  const certificate = socket.getPeerCertificate(true);
  return Buffer.isBuffer(certificate.raw) ? certificate : undefined; // {} when there is none
}

/** First common name of the subject. */
function commonNameOf(certificate: tls.DetailedPeerCertificate | undefined): string | undefined {
  // A subject may have several, or none; the type of Node 20 knows neither.
  const name: string | string[] | undefined = certificate?.subject?.CN;
  return Array.isArray(name) ? name[0] : name;
}

/** Certificates between the client's and the self-signed root, what Erlang's `depth` counts. */
function intermediatesOf(certificate: tls.DetailedPeerCertificate): number {
  let count = 0;
  let current = certificate;
  while (isIssuedByAnother(current)) {
    current = current.issuerCertificate;
    if (isIssuedByAnother(current)) count += 1;
  }
  return count;
}

function isIssuedByAnother(certificate: tls.DetailedPeerCertificate): boolean {
  const issuer: tls.DetailedPeerCertificate | undefined = certificate.issuerCertificate;
  return issuer !== undefined && issuer.fingerprint256 !== certificate.fingerprint256;
}

/** `ssl`: MQTT straight over TLS. */
export class TlsAcceptor implements Acceptor {
  private readonly front: TlsFront;

  constructor(settings: ListenerSettings, events: ListenerEvents, deps: ListenerDependencies) {
    this.front = new TlsFront(settings, events, deps, (socket, origin, clientCert) => {
      const transport = new StreamTransport(socket, settings, origin, clientCert);
      events.onTransport(transport);
      if (!transport.isStarted) transport.destroy();
    });
  }

  start(): void {
    this.front.start();
  }

  accept(socket: Socket, origin: Origin): void {
    this.front.accept(socket, origin);
  }

  stop(): void {
    this.front.stop();
  }

  rereadFiles(): void {
    this.front.rereadFiles();
  }
}
