/** Reads the PROXY header of a fresh connection, then lets the connection through. */
import type { Socket } from "node:net";
import type { Origin } from "./peer.ts";
import { ProxyHeaderReader, type ProxyResult } from "./proxy-protocol.ts";
import type { RawTransport } from "./tcp.ts";
import type { ListenerEvents, SocketSettings, TransportHandler } from "./types.ts";

/** VerneMQ waits this long for the header. */
const PROXY_TIMEOUT_MS = 10_000;

/** Who the header says the client is; LOCAL and UNKNOWN keep the socket's own address. */
function originOf(
  header: Extract<ProxyResult, { state: "complete" }>,
  settings: SocketSettings,
  socketOrigin: Origin,
): Origin {
  return {
    peer: header.source ?? socketOrigin.peer,
    preAuthUsername: settings.proxyProtocolUseCnAsUsername ? header.commonName : undefined,
  };
}

/** The first handler of a raw transport on a listener with `proxy_protocol = on`. */
export class ProxyGate implements TransportHandler {
  private readonly transport: RawTransport;
  private readonly events: ListenerEvents;
  private readonly reader = new ProxyHeaderReader();
  private readonly deadline: NodeJS.Timeout;
  private refusedFor: string | undefined = undefined;
  private isDone = false;

  constructor(transport: RawTransport, events: ListenerEvents, timeoutMs = PROXY_TIMEOUT_MS) {
    this.transport = transport;
    this.events = events;
    this.deadline = setTimeout(() => this.refuse("PROXY header timeout"), timeoutMs).unref();
  }

  onData(buffer: Buffer, length: number): void {
    if (this.isDone) return;
    const result = this.reader.push(buffer.subarray(0, length));
    if (result.state === "malformed") this.refuse(`PROXY header: ${result.reason}`);
    if (result.state !== "complete") return;
    this.finish();
    const { transport } = this;
    transport.release(originOf(result, transport.listener, transport), this.events);
    if (result.used === length) return;
    // A handler expects its bytes at the start of the (shared) buffer.
    buffer.copyWithin(0, result.used, length);
    transport.received(length - result.used);
  }

  onDrain(): void {}

  onClose(error: Error | undefined): void {
    this.finish();
    const { listener, peer } = this.transport;
    const reason = this.refusedFor ?? error?.message ?? "closed before the PROXY header";
    this.events.onRefused(listener, peer, reason);
  }

  private finish(): void {
    this.isDone = true;
    clearTimeout(this.deadline);
  }

  private refuse(reason: string): void {
    this.refusedFor = reason;
    this.finish();
    this.transport.destroy();
  }
}

interface ProxyOutcome {
  readonly timeoutMs: number | undefined;
  accepted(origin: Origin): void;
  refused(reason: string): void;
}

/** The same for a stream socket: bytes after the header go back into the stream. */
export function readProxyHeader(
  socket: Socket,
  settings: SocketSettings,
  socketOrigin: Origin,
  outcome: ProxyOutcome,
): void {
  const reader = new ProxyHeaderReader();
  const settle = (): void => {
    clearTimeout(deadline);
    socket.off("data", onData).off("end", onEnd).off("close", onClose);
  };
  const refuse = (reason: string): void => {
    settle();
    socket.destroy();
    outcome.refused(reason);
  };
  const onEnd = (): void => refuse("closed before the PROXY header");
  const onClose = onEnd;
  const onData = (chunk: Buffer): void => {
    const result = reader.push(chunk);
    if (result.state === "malformed") refuse(`PROXY header: ${result.reason}`);
    if (result.state !== "complete") return;
    settle();
    socket.pause();
    if (result.used < chunk.length) socket.unshift(chunk.subarray(result.used));
    outcome.accepted(originOf(result, settings, socketOrigin));
  };
  const deadline = setTimeout(
    refuse,
    outcome.timeoutMs ?? PROXY_TIMEOUT_MS,
    "PROXY header timeout",
  );
  deadline.unref();
  socket.on("data", onData).on("end", onEnd).on("close", onClose);
}
