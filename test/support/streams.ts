import { connect as netConnect, type Socket } from "node:net";
import { type ConnectionOptions, connect as tlsConnect } from "node:tls";
import { WebSocket } from "ws";

/** Where and how a raw client connects. */
export interface Target {
  port?: number;
  /** Default 127.0.0.1. */
  host?: string;
  /** Path of a unix socket, instead of a port. */
  path?: string;
  /** Default `tcp`, or `unix` when there is a path. */
  transport?: "tcp" | "tls" | "ws" | "wss" | "unix";
  tls?: ConnectionOptions;
  /** WebSocket only; default `["mqtt"]`. */
  subprotocols?: string[];
  /** WebSocket only; default `/mqtt`. */
  urlPath?: string;
  headers?: Record<string, string>;
  /** Bytes to send before anything else, such as a PROXY header (not for `tls`, `ws`, `wss`). */
  prefix?: Buffer;
}

export interface StreamEvents {
  onData(data: Buffer): void;
  onClose(): void;
}

/** The few things a raw client does with a connection, whatever it runs on. */
export interface ByteStream {
  write(data: Buffer): void;
  /** Closes in an orderly way (FIN, close frame). */
  end(): void;
  /** Ends at once; with `reset` TCP sends RST. */
  destroy(reset?: boolean): void;
  /** Stops and restarts taking bytes from the socket. */
  pause(): void;
  resume(): void;
  /** WebSocket: the subprotocol the server chose. */
  readonly subprotocol: string | undefined;
  /** Undefined for WebSocket. */
  readonly socket: Socket | undefined;
}

const OPEN_TIMEOUT_MS = 10_000;

/** Opens a stream; rejects when the connection, the TLS handshake or the HTTP upgrade fails. */
export function openStream(target: Target, events: StreamEvents): Promise<ByteStream> {
  const transport = target.transport ?? (target.path === undefined ? "tcp" : "unix");
  return transport === "ws" || transport === "wss"
    ? openWebSocket(target, transport, events)
    : openSocket(target, transport === "tls", events);
}

function openSocket(target: Target, secure: boolean, events: StreamEvents): Promise<ByteStream> {
  const host = target.host ?? "127.0.0.1";
  const port = target.port ?? 0;
  return new Promise((resolve, reject) => {
    const socket = secure
      ? tlsConnect({ host, port, rejectUnauthorized: false, ...target.tls })
      : netConnect(target.path === undefined ? { host, port } : { path: target.path });
    const timer = setTimeout(() => {
      socket.destroy();
      reject(new Error(`no connection to ${target.path ?? `${host}:${port}`} within 10 s`));
    }, OPEN_TIMEOUT_MS);
    socket.setNoDelay(true);
    socket.on("data", (data: Buffer) => events.onData(data));
    socket.once("close", () => {
      clearTimeout(timer);
      reject(new Error("closed during the handshake"));
      events.onClose();
    });
    // A reset is a close like any other for a test: "close" follows.
    socket.on("error", (error) => reject(error));
    socket.once(secure ? "secureConnect" : "connect", () => {
      clearTimeout(timer);
      if (target.prefix !== undefined) socket.write(target.prefix);
      resolve({
        socket,
        subprotocol: undefined,
        write: (data) => void (socket.writable && socket.write(data)),
        end: () => void socket.end(),
        destroy: (reset) => void (reset ? socket.resetAndDestroy() : socket.destroy()),
        pause: () => void socket.pause(),
        resume: () => void socket.resume(),
      });
    });
  });
}

function openWebSocket(
  target: Target,
  scheme: "ws" | "wss",
  events: StreamEvents,
): Promise<ByteStream> {
  const url = `${scheme}://${target.host ?? "127.0.0.1"}:${target.port}${target.urlPath ?? "/mqtt"}`;
  return new Promise((resolve, reject) => {
    const socket = new WebSocket(url, target.subprotocols ?? ["mqtt"], {
      rejectUnauthorized: false,
      handshakeTimeout: OPEN_TIMEOUT_MS,
      ...(target.headers === undefined ? {} : { headers: target.headers }),
      ...target.tls,
    });
    socket.on("message", (data, isBinary) => {
      if (!isBinary) return reject(new Error("a broker must send binary frames only"));
      events.onData(Buffer.isBuffer(data) ? data : Buffer.concat([data].flat() as Buffer[]));
    });
    socket.on("error", (error) => reject(error));
    socket.once("close", () => {
      reject(new Error("closed during the handshake"));
      events.onClose();
    });
    socket.once("open", () =>
      resolve({
        socket: undefined,
        subprotocol: socket.protocol,
        write: (data) => void (socket.readyState === WebSocket.OPEN && socket.send(data)),
        end: () => socket.close(),
        destroy: () => socket.terminate(),
        pause: () => socket.pause(),
        resume: () => socket.resume(),
      }),
    );
  });
}
