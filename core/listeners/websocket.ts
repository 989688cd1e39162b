/** `ws` and `wss`: an HTTP server whose only resource is the WebSocket `/mqtt`. */
import http from "node:http";
import type { BlockList, Socket } from "node:net";
import type { Duplex } from "node:stream";
import { WebSocketServer } from "ws";
import type { Acceptor, ListenerDependencies } from "./acceptor.ts";
import { forwardedOrigin, trustedProxies } from "./forwarded-for.ts";
import type { Origin } from "./peer.ts";
import { LINGER_MS } from "./tcp.ts";
import { TlsFront } from "./tls.ts";
import type { ListenerEvents, ListenerSettings } from "./types.ts";
import { WebSocketTransport } from "./websocket-transport.ts";

const PATH = "/mqtt";

/** What a client may ask for; `mqttv3.1` is what old JavaScript clients say. */
const SUBPROTOCOLS = ["mqtt", "mqttv3.1"];

/** Time for a whole request, as long as VerneMQ's default for CONNECT. */
const REQUEST_TIMEOUT_MS = 5000;

/** All headers together; single lines have their own, configurable limits below it. */
const HEADER_BYTES_MIN = 65_536;

/** " HTTP/1.1" and the blank after the method. */
const REQUEST_LINE_EXTRA = 10;

/** Below this a frame gets bigger, or not worth the CPU, when compressed (ws' own default). */
const COMPRESS_FROM_BYTES = 1024;

/** zlib jobs at a time per process, so that they do not take the thread pool from the store. */
const ZLIB_JOBS_MAX = 10;

/** An HTTP connection that is not a WebSocket yet. */
interface Visitor {
  readonly origin: Origin;
  readonly clientCert: Buffer | undefined;
  readonly deadline: NodeJS.Timeout;
}

interface Refusal {
  readonly status: number;
  readonly reason: string;
}

export class WebSocketAcceptor implements Acceptor {
  private readonly settings: ListenerSettings;
  private readonly events: ListenerEvents;
  private readonly front: TlsFront | undefined;
  private readonly http: http.Server;
  private readonly webSockets: WebSocketServer;
  private readonly trusted: BlockList;
  private readonly visitors = new WeakMap<Duplex, Visitor>();

  constructor(settings: ListenerSettings, events: ListenerEvents, deps: ListenerDependencies) {
    this.settings = settings;
    this.events = events;
    this.trusted = trustedProxies(settings.proxyXff.trusted);
    this.front =
      settings.kind === "wss"
        ? new TlsFront(settings, events, deps, (socket, origin, clientCert) =>
            this.serve(socket, origin, clientCert),
          )
        : undefined;
    this.http = this.createHttpServer();
    this.webSockets = this.createWebSocketServer();
  }

  start(): void {
    this.front?.start();
  }

  accept(socket: Socket, origin: Origin): void {
    if (this.front === undefined) this.serve(socket, origin);
    else this.front.accept(socket, origin);
  }

  stop(): void {
    this.front?.stop();
  }

  rereadFiles(): void {
    this.front?.rereadFiles();
  }

  private createHttpServer(): http.Server {
    const { maxRequestLineLength, maxHeaderValueLength } = this.settings;
    const server = http.createServer({
      maxHeaderSize: HEADER_BYTES_MIN + maxRequestLineLength + maxHeaderValueLength,
    });
    server.on("upgrade", (request, socket, head) => this.upgrade(request, socket, head));
    server.on("request", (request, response) => {
      const refusal = this.requestFault(request) ?? { status: 426, reason: "not a WebSocket" };
      this.refused(request.socket, refusal);
      const upgrade = refusal.status === 426 ? { upgrade: "websocket" } : {};
      response.writeHead(refusal.status, { connection: "close", ...upgrade }).end();
    });
    server.on("clientError", (error: NodeJS.ErrnoException, socket) => {
      const status = error.code === "HPE_HEADER_OVERFLOW" ? 431 : 400;
      this.answer(socket, { status, reason: error.message });
    });
    return server;
  }

  private createWebSocketServer(): WebSocketServer {
    const { settings } = this;
    const server = new WebSocketServer({
      noServer: true,
      clientTracking: false,
      maxPayload: Number.isFinite(settings.maxWsFrameSize) ? settings.maxWsFrameSize : 0,
      perMessageDeflate: {
        threshold: COMPRESS_FROM_BYTES,
        concurrencyLimit: ZLIB_JOBS_MAX,
        // A kept window would cost each client some 300 KB.
        serverNoContextTakeover: true,
        clientNoContextTakeover: true,
      },
      handleProtocols: (offered) => chooseSubprotocol(offered) ?? false,
    });
    server.on("wsClientError", (error, socket) => {
      this.answer(socket, { status: 400, reason: error.message });
    });
    return server;
  }

  private serve(socket: Socket, origin: Origin, clientCert?: Buffer): void {
    const deadline = setTimeout(
      () => this.answer(socket, { status: 408, reason: "no request in time" }),
      REQUEST_TIMEOUT_MS,
    ).unref();
    socket.once("close", () => clearTimeout(deadline));
    this.visitors.set(socket, { origin, clientCert, deadline });
    this.http.emit("connection", socket);
    socket.resume(); // it was paused behind a PROXY header
  }

  private upgrade(request: http.IncomingMessage, socket: Duplex, head: Buffer): void {
    socket.on("error", () => {}); // ws takes over; until then there is nobody to tell
    const visitor = this.visitors.get(socket);
    if (visitor === undefined) {
      socket.destroy();
      return;
    }
    const fault = this.requestFault(request) ?? subprotocolFault(request);
    if (fault !== undefined) {
      this.answer(socket, fault);
      return;
    }
    const forwarded = this.originOf(request, visitor.origin);
    if (!forwarded.accepted) {
      this.answer(socket, forwarded);
      return;
    }
    clearTimeout(visitor.deadline);
    this.webSockets.handleUpgrade(request, socket, head, (webSocket) => {
      const { settings, events } = this;
      const { clientCert } = visitor;
      this.visitors.delete(socket);
      const transport = new WebSocketTransport(webSocket, settings, forwarded.origin, clientCert);
      events.onTransport(transport);
      if (!transport.isStarted) transport.destroy();
    });
  }

  private originOf(request: http.IncomingMessage, origin: Origin) {
    const { proxyXff } = this.settings;
    if (!proxyXff.enabled) return { accepted: true, origin } as const;
    return forwardedOrigin(request.headers, origin, proxyXff, this.trusted);
  }

  private requestFault(request: http.IncomingMessage): Refusal | undefined {
    const { maxRequestLineLength, maxHeaderValueLength } = this.settings;
    const { method = "", url = "" } = request;
    if (method.length + url.length + REQUEST_LINE_EXTRA > maxRequestLineLength) {
      return { status: 414, reason: "request line too long" };
    }
    // rawHeaders: name, value, name, value ...
    const isTooLong = request.rawHeaders.some(
      (text, i) => i % 2 === 1 && text.length > maxHeaderValueLength,
    );
    if (isTooLong) return { status: 431, reason: "header value too long" };
    if (url.split("?", 1)[0] !== PATH) return { status: 404, reason: "path is not /mqtt" };
    return undefined;
  }

  /** Answers in place of the HTTP server, and closes. */
  private answer(socket: Duplex, refusal: Refusal): void {
    this.refused(socket, refusal);
    const { status } = refusal;
    if (!socket.writable) {
      socket.destroy();
      return;
    }
    socket.end(
      `HTTP/1.1 ${status} ${http.STATUS_CODES[status]}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n`,
    );
    socket.resume(); // unread bytes would turn the close into a reset, and the answer be lost
    const linger = setTimeout(() => socket.destroy(), LINGER_MS).unref();
    socket.once("close", () => clearTimeout(linger));
  }

  private refused(socket: Duplex, { status, reason }: Refusal): void {
    const visitor = this.visitors.get(socket);
    if (visitor === undefined) return; // reported already
    this.visitors.delete(socket);
    clearTimeout(visitor.deadline);
    this.events.onRefused(this.settings, visitor.origin.peer, `HTTP ${status}: ${reason}`);
  }
}

/** The first of the client's list that we speak. */
function chooseSubprotocol(offered: Iterable<string>): string | undefined {
  for (const name of offered) if (SUBPROTOCOLS.includes(name)) return name;
  return undefined;
}

function subprotocolFault(request: http.IncomingMessage): Refusal | undefined {
  const offered = request.headers["sec-websocket-protocol"] ?? "";
  const names = offered.split(",").map((name) => name.trim());
  if (chooseSubprotocol(names) !== undefined) return undefined;
  return { status: 400, reason: "subprotocol is neither mqtt nor mqttv3.1" };
}
