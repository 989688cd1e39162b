/** A transport over a Node stream socket: TLS, and TCP where `RawTransport` is not possible. */
import type { Socket } from "node:net";
import type { Origin } from "./peer.ts";
import { IGNORE, LINGER_MS } from "./tcp.ts";
import type { ListenerSettings, Peer, Transport, TransportHandler } from "./types.ts";

interface OwnedSocket extends Socket {
  transport: StreamTransport;
}

function onData(this: Socket, chunk: Buffer): void {
  (this as OwnedSocket).transport.received(chunk);
}

function onEnd(this: Socket): void {
  // Answers to the last packets may still be in the session's outbox: they go out this turn.
  setImmediate(endTransport, (this as OwnedSocket).transport);
}

function onError(this: Socket, error: Error): void {
  (this as OwnedSocket).transport.failed(error);
}

function onClose(this: Socket): void {
  (this as OwnedSocket).transport.socketClosed();
}

function endTransport(transport: StreamTransport): void {
  transport.end();
}

function destroySocket(socket: Socket): void {
  socket.destroy();
}

/** The socket must have `allowHalfOpen`, so that the last answers can leave after the peer's FIN. */
export class StreamTransport implements Transport {
  readonly listener: ListenerSettings;
  readonly peer: Peer;
  readonly preAuthUsername: string | undefined;
  readonly clientCert: Buffer | undefined;

  private readonly socket: Socket;
  private readonly afterWrite: (error?: Error | null) => void;
  private handler: TransportHandler = IGNORE;
  private isEnding = false;
  private isWaiting = false;
  private error: Error | undefined = undefined;

  constructor(socket: Socket, settings: ListenerSettings, origin: Origin, clientCert?: Buffer) {
    this.socket = socket;
    this.listener = settings;
    this.peer = origin.peer;
    this.preAuthUsername = origin.preAuthUsername;
    this.clientCert = clientCert;
    this.afterWrite = (error) => {
      if (!error) this.drained();
    };
    (socket as OwnedSocket).transport = this;
    socket.on("error", onError);
    socket.on("close", onClose);
  }

  get bufferedBytes(): number {
    return this.socket.writableLength;
  }

  get isStarted(): boolean {
    return this.handler !== IGNORE;
  }

  start(handler: TransportHandler): void {
    this.handler = handler;
    this.socket.on("end", onEnd);
    this.socket.on("data", onData);
    this.socket.resume();
  }

  write(data: Buffer): boolean {
    if (this.isEnding || this.socket.destroyed) return true;
    this.socket.write(data, this.afterWrite);
    if (this.socket.writableLength === 0) return true;
    this.isWaiting = true;
    return false;
  }

  pause(): void {
    if (!this.isEnding) this.socket.pause();
  }

  resume(): void {
    this.socket.resume();
  }

  end(): void {
    if (this.isEnding || this.socket.destroyed) return;
    this.isEnding = true;
    this.socket.end();
    this.socket.resume(); // see RawTransport.end: unread bytes would turn the close into a reset
    setTimeout(destroySocket, LINGER_MS, this.socket).unref();
  }

  destroy(): void {
    this.isEnding = true;
    this.socket.destroy();
  }

  /** @internal */
  received(chunk: Buffer): void {
    if (!this.isEnding) this.handler.onData(chunk, chunk.length);
  }

  /** @internal */
  failed(error: Error): void {
    this.error ??= error;
  }

  /** @internal */
  socketClosed(): void {
    const { handler } = this;
    this.handler = IGNORE;
    this.isEnding = true;
    handler.onClose(this.error);
  }

  private drained(): void {
    if (!this.isWaiting || this.socket.writableLength > 0) return;
    this.isWaiting = false;
    if (!this.isEnding && !this.socket.destroyed) this.handler.onDrain();
  }
}
