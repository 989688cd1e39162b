import { once } from "node:events";
import net from "node:net";
import { onTestFinished } from "vitest";
import type { ListenerDependencies } from "../../../core/listeners/acceptor.ts";
import { createListener } from "../../../core/listeners/listener.ts";
import type {
  Listener,
  ListenerSettings,
  Peer,
  Transport,
  TransportHandler,
} from "../../../core/listeners/types.ts";
import { plainSettings } from "./settings.ts";

/** A queue of things that happened, and of those who wait for them. */
export class Inbox<T> {
  readonly all: T[] = [];
  private taken = 0;
  private waiting: ((item: T) => void)[] = [];

  push(item: T): void {
    this.all.push(item);
    const next = this.waiting.shift();
    if (next === undefined) return;
    this.taken += 1;
    next(item);
  }

  next(): Promise<T> {
    if (this.taken < this.all.length) return Promise.resolve(this.all[this.taken++] as T);
    return new Promise((resolve) => this.waiting.push(resolve));
  }
}

/** A session that only takes notes. */
export class Recorder implements TransportHandler {
  readonly transport: Transport;
  readonly drains = new Inbox<number>();
  readonly closed: Promise<Error | undefined>;
  closeCalls = 0;
  bytes = Buffer.alloc(0);
  chunks: Buffer[] = [];
  /** Runs inside `onData`. */
  onBytes: (bytes: Buffer) => void = () => {};
  private resolveClosed: (error: Error | undefined) => void = () => {};
  private waiting: { readonly count: number; readonly resolve: (bytes: Buffer) => void }[] = [];

  constructor(transport: Transport) {
    this.transport = transport;
    this.closed = new Promise((resolve) => {
      this.resolveClosed = resolve;
    });
  }

  /** Resolves with everything received once that is at least `count` bytes. */
  received(count: number): Promise<Buffer> {
    if (this.bytes.length >= count) return Promise.resolve(this.bytes);
    return new Promise((resolve) => this.waiting.push({ count, resolve }));
  }

  onData(buffer: Buffer, length: number): void {
    const chunk = Buffer.from(buffer.subarray(0, length));
    this.chunks.push(chunk);
    this.bytes = Buffer.concat([this.bytes, chunk]);
    this.onBytes(chunk);
    for (const { count, resolve } of this.waiting)
      if (this.bytes.length >= count) resolve(this.bytes);
  }

  onDrain(): void {
    this.drains.push(this.transport.bufferedBytes);
  }

  onClose(error: Error | undefined): void {
    this.closeCalls += 1;
    this.resolveClosed(error);
  }
}

export interface Refused {
  readonly peer: Peer;
  readonly reason: string;
}

export interface TestListener {
  readonly listener: Listener;
  readonly port: number;
  readonly sessions: Inbox<Recorder>;
  readonly refused: Inbox<Refused>;
  readonly warnings: Inbox<string>;
  readonly infos: Inbox<string>;
}

/** Starts a listener whose sessions are recorders; it ends with the test. */
export async function listen(
  settings: Partial<ListenerSettings> & Pick<ListenerSettings, "kind">,
  deps: Partial<ListenerDependencies> & { autoStart?: boolean } = {},
): Promise<TestListener> {
  const sessions = new Inbox<Recorder>();
  const refused = new Inbox<Refused>();
  const warnings = new Inbox<string>();
  const infos = new Inbox<string>();
  const logger = {
    warn: (text: string) => warnings.push(text),
    info: (text: string) => infos.push(text),
  };
  const open: Transport[] = [];
  const listener = createListener(
    { ...plainSettings(settings.kind), ...settings },
    {
      onTransport(transport) {
        open.push(transport);
        const session = new Recorder(transport);
        if (deps.autoStart !== false) transport.start(session);
        sessions.push(session);
      },
      onRefused: (_, peer, reason) => refused.push({ peer, reason }),
    },
    { logger, ...deps },
  );
  await listener.start();
  onTestFinished(async () => {
    for (const transport of open) transport.destroy();
    await listener.stop();
  });
  return { listener, port: listener.boundPort, sessions, refused, warnings, infos };
}

/** A connected client socket that dies with the test. */
export async function dial(where: net.NetConnectOpts): Promise<net.Socket> {
  const socket = net.connect(where);
  socket.on("error", () => {});
  onTestFinished(() => {
    socket.destroy();
  });
  await once(socket, "connect");
  return socket;
}

/** Everything a socket gives until its end, or until it is closed. */
export async function readAll(socket: NodeJS.ReadableStream): Promise<Buffer> {
  const chunks: Buffer[] = [];
  socket.on("data", (chunk: Buffer) => chunks.push(chunk));
  await new Promise<void>((resolve) => {
    socket.once("end", resolve);
    socket.once("close", resolve);
  });
  return Buffer.concat(chunks);
}

/** The next `count` bytes of a socket. */
export async function readBytes(socket: NodeJS.ReadableStream, count: number): Promise<Buffer> {
  let bytes = Buffer.alloc(0);
  return new Promise((resolve) => {
    const onData = (chunk: Buffer): void => {
      bytes = Buffer.concat([bytes, chunk]);
      if (bytes.length < count) return;
      socket.off("data", onData);
      resolve(bytes);
    };
    socket.on("data", onData);
  });
}
