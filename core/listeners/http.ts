/** `http` and `https`: accepted sockets -> HTTP requests within limits of size and time. */
import http from "node:http";
import type { Socket } from "node:net";
import type { Duplex } from "node:stream";
import type { Acceptor, ListenerDependencies } from "./acceptor.ts";
import { type Origin, UNKNOWN_PEER } from "./peer.ts";
import { TlsFront } from "./tls.ts";
import type { HttpListenerSettings, Peer, RefusalEvents } from "./types.ts";

/** Time for all headers, and for the whole request. */
const HEADERS_TIMEOUT_MS = 5000;
const REQUEST_TIMEOUT_MS = 30_000;

/** Longer than usual scrape intervals would need; shorter than what proxies keep idle connections. */
const KEEP_ALIVE_MS = 30_000;

/** How often requests that take too long are looked for. */
const CHECK_MS = 2000;

/** An answer that nobody reads is given up after this. */
const SOCKET_IDLE_MS = 120_000;

/** All headers together; single lines have their own, configurable limits below it. */
const HEADER_BYTES_MIN = 65_536;
const HEADERS_MAX = 100;

/** " HTTP/1.1" and the blank after the method. */
const REQUEST_LINE_EXTRA = 10;

/** Who takes the requests of a listener. */
export interface HttpEvents extends RefusalEvents {
  /** A request whose line and headers are within the limits; `peer` is known through proxies too. */
  onRequest(request: http.IncomingMessage, response: http.ServerResponse, peer: Peer): void;
}

export class HttpAcceptor implements Acceptor {
  private readonly settings: HttpListenerSettings;
  private readonly events: HttpEvents;
  private readonly front: TlsFront | undefined;
  private readonly origins = new WeakMap<Duplex, Origin>();
  private readonly deps: ListenerDependencies;
  private server: http.Server | undefined;

  constructor(settings: HttpListenerSettings, events: HttpEvents, deps: ListenerDependencies) {
    this.settings = settings;
    this.events = events;
    this.deps = deps;
    this.front =
      settings.kind === "https"
        ? new TlsFront(settings, events, deps, (socket, origin) => this.serve(socket, origin))
        : undefined;
  }

  start(): void {
    this.front?.start();
    this.server = this.createServer();
    // Its sockets come from us, and it watches their time limits only once it listens.
    this.server.emit("listening");
  }

  accept(socket: Socket, origin: Origin): void {
    if (this.front === undefined) this.serve(socket, origin);
    else this.front.accept(socket, origin);
  }

  /** Idle connections end at once, others with the answer they wait for. */
  stop(): void {
    this.front?.stop();
    const { server } = this;
    this.server = undefined;
    // Ends idle connections, and the watch over slow ones; the error says that it never bound a port.
    server?.close(() => {});
  }

  rereadFiles(): void {
    this.front?.rereadFiles();
  }

  private createServer(): http.Server {
    const { maxRequestLineLength, maxHeaderValueLength } = this.settings;
    const requestTimeout = this.deps.requestTimeoutMs ?? REQUEST_TIMEOUT_MS;
    const server = http.createServer({
      maxHeaderSize: HEADER_BYTES_MIN + maxRequestLineLength + maxHeaderValueLength,
      headersTimeout: Math.min(HEADERS_TIMEOUT_MS, requestTimeout),
      requestTimeout,
      keepAliveTimeout: KEEP_ALIVE_MS,
      connectionsCheckingInterval: Math.min(CHECK_MS, requestTimeout),
    });
    server.maxHeadersCount = HEADERS_MAX;
    server.timeout = SOCKET_IDLE_MS;
    server.on("request", (request, response) => this.take(request, response));
    server.on("clientError", (error: NodeJS.ErrnoException, socket) => {
      this.answer(socket, statusOf(error.code), error.message);
    });
    server.on("connect", (_, socket) => this.answer(socket, 405, "CONNECT"));
    return server;
  }

  private serve(socket: Socket, origin: Origin): void {
    const { server } = this;
    if (server === undefined) {
      socket.destroy();
      return;
    }
    this.origins.set(socket, origin);
    server.emit("connection", socket);
    socket.resume(); // it was paused behind a PROXY header
  }

  private take(request: http.IncomingMessage, response: http.ServerResponse): void {
    const fault = this.requestFault(request);
    if (fault !== undefined) {
      this.refused(request.socket, `HTTP ${fault}: request line or header too long`);
      response.writeHead(fault, { connection: "close", "content-length": 0 }).end();
      return;
    }
    // A listener that stops keeps no connection open.
    response.once("finish", () => {
      if (this.server === undefined) request.socket.end();
    });
    this.events.onRequest(request, response, this.peerOf(request.socket));
  }

  private requestFault(request: http.IncomingMessage): 414 | 431 | undefined {
    const { maxRequestLineLength, maxHeaderValueLength } = this.settings;
    const { method = "", url = "" } = request;
    if (method.length + url.length + REQUEST_LINE_EXTRA > maxRequestLineLength) return 414;
    // rawHeaders: name, value, name, value ...
    const isTooLong = request.rawHeaders.some(
      (text, i) => i % 2 === 1 && text.length > maxHeaderValueLength,
    );
    return isTooLong ? 431 : undefined;
  }

  /** Answers in place of the HTTP server, and closes. */
  private answer(socket: Duplex, status: number, reason: string): void {
    this.refused(socket, `HTTP ${status}: ${reason}`);
    if (!socket.writable) {
      socket.destroy();
      return;
    }
    const text = http.STATUS_CODES[status];
    socket.end(`HTTP/1.1 ${status} ${text}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n`, () =>
      socket.destroy(),
    );
  }

  private refused(socket: Duplex, reason: string): void {
    this.events.onRefused(this.settings, this.peerOf(socket), reason);
  }

  private peerOf(socket: Duplex): Peer {
    return this.origins.get(socket)?.peer ?? UNKNOWN_PEER;
  }
}

function statusOf(code: string | undefined): number {
  if (code === "HPE_HEADER_OVERFLOW") return 431;
  return code === "ERR_HTTP_REQUEST_TIMEOUT" ? 408 : 400;
}
