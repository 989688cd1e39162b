/** A transport over one WebSocket: MQTT bytes in binary frames, cut anywhere. */
import type { RawData, WebSocket } from "ws";
import type { Origin } from "./peer.ts";
import { IGNORE, LINGER_MS } from "./tcp.ts";
import type { ListenerSettings, Peer, Transport, TransportHandler } from "./types.ts";

/** RFC 6455, 7.4.1. */
const CLOSE_NORMAL = 1000;
const CLOSE_UNSUPPORTED_DATA = 1003;

const BINARY = { binary: true };

interface OwnedWebSocket extends WebSocket {
  transport: WebSocketTransport;
}

function onMessage(this: WebSocket, data: RawData, isBinary: boolean): void {
  // `binaryType` is nodebuffer, ws' default: data is one Buffer even for a fragmented message.
  (this as OwnedWebSocket).transport.received(data as Buffer, isBinary);
}

function onError(this: WebSocket, error: Error): void {
  (this as OwnedWebSocket).transport.failed(error);
}

function onClose(this: WebSocket): void {
  (this as OwnedWebSocket).transport.socketClosed();
}

function terminate(socket: WebSocket): void {
  socket.terminate();
}

export class WebSocketTransport implements Transport {
  readonly listener: ListenerSettings;
  readonly peer: Peer;
  readonly preAuthUsername: string | undefined;
  readonly clientCert: Buffer | undefined;

  private readonly socket: WebSocket;
  private readonly afterWrite: (error?: Error | null) => void;
  private handler: TransportHandler = IGNORE;
  private isEnding = false;
  private isWaiting = false;
  /** Messages of the chunk in which the session paused; the socket gives no more until resumed. */
  private held: Buffer[] = [];
  private error: Error | undefined = undefined;
  private linger: NodeJS.Timeout | undefined = undefined;

  constructor(socket: WebSocket, settings: ListenerSettings, origin: Origin, clientCert?: Buffer) {
    this.socket = socket;
    this.listener = settings;
    this.peer = origin.peer;
    this.preAuthUsername = origin.preAuthUsername;
    this.clientCert = clientCert;
    this.afterWrite = (error) => {
      if (!error) this.drained();
    };
    (socket as OwnedWebSocket).transport = this;
    socket.on("error", onError);
    socket.on("close", onClose);
  }

  get bufferedBytes(): number {
    return this.socket.bufferedAmount;
  }

  get isStarted(): boolean {
    return this.handler !== IGNORE;
  }

  start(handler: TransportHandler): void {
    this.handler = handler;
    this.socket.on("message", onMessage);
  }

  write(data: Buffer): boolean {
    if (this.isEnding || this.socket.readyState !== this.socket.OPEN) return true;
    this.socket.send(data, BINARY, this.afterWrite);
    if (this.socket.bufferedAmount === 0) return true;
    this.isWaiting = true;
    return false;
  }

  pause(): void {
    if (!this.isEnding) this.socket.pause();
  }

  resume(): void {
    if (!this.socket.isPaused) return;
    this.socket.resume();
    const { held } = this;
    this.held = [];
    for (const message of held) this.received(message, true); // the handler may pause again
  }

  end(): void {
    this.close(CLOSE_NORMAL);
  }

  destroy(): void {
    this.isEnding = true;
    this.socket.terminate();
  }

  /** @internal */
  received(data: Buffer, isBinary: boolean): void {
    if (this.isEnding) return;
    if (!isBinary) {
      // MQTT 5.0, 6: other than binary frames MUST close the connection [MQTT-6.0.0-1]
      this.error = new Error("text frame");
      this.close(CLOSE_UNSUPPORTED_DATA);
    } else if (this.socket.isPaused) this.held.push(data);
    else this.handler.onData(data, data.length);
  }

  /** @internal A broken frame (ws has sent the close frame with its code) or a broken socket. */
  failed(error: Error): void {
    this.error ??= error;
    this.isEnding = true;
    this.lingerOn();
  }

  /** @internal */
  socketClosed(): void {
    const { handler } = this;
    this.handler = IGNORE;
    this.isEnding = true;
    clearTimeout(this.linger);
    handler.onClose(this.error);
  }

  /** The close frame leaves after all that was written. */
  private close(code: number): void {
    if (this.isEnding) return;
    this.isEnding = true;
    this.socket.resume(); // to see the peer's close frame
    this.socket.close(code);
    this.lingerOn();
  }

  private lingerOn(): void {
    this.linger ??= setTimeout(terminate, LINGER_MS, this.socket).unref();
  }

  private drained(): void {
    if (!this.isWaiting || this.socket.bufferedAmount > 0) return;
    this.isWaiting = false;
    const isOpen = this.socket.readyState === this.socket.OPEN;
    if (!this.isEnding && isOpen) this.handler.onDrain();
  }
}
