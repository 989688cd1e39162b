import { errorMessage } from "../errors.ts";
import type { AnsweringLink, ChainObserver } from "../hooks/registry.ts";
import type { ConditionalHook, HookArgs } from "../hooks/types.ts";
import { decodeConnect } from "../mqtt/connect-codec.ts";
import { Framer, type PacketSink } from "../mqtt/framer.ts";
import { CONNECT } from "../mqtt/packets.ts";
import type { Core, SessionTracer } from "../session/manager.ts";
import type { Session } from "../session/session.ts";
import { pidOf } from "./session-rows.ts";
import { clean, clientPacketText, factsText, payloadText, serverPacketText } from "./trace-text.ts";

export interface TraceOptions {
  readonly clientId: string;
  readonly mountpoint: string;
  /** Packets and calls in `rateIntervalMs`; more end the trace. */
  readonly rateMax: number;
  readonly rateIntervalMs: number;
  /** Bytes of a payload that are shown. */
  readonly payloadMax: number;
  /** Gets whole lines. */
  readonly say: (text: string) => void;
}

/** Arguments of hooks that are shown, in this order; never what a plugin keeps with a session. */
const ARGUMENTS = [
  ...["peer", "username", "subscriber_id", "password", "clean_session", "clean_start"],
  ...["qos", "topic", "payload", "retain", "topics", "properties"],
] as const;

/**
 * What one client and the broker say to each other, and what plugins are asked about it. Costs nothing
 * while nobody traces, and other clients next to nothing while somebody does.
 */
export class Trace implements SessionTracer, ChainObserver {
  private readonly core: Core;
  private readonly options: TraceOptions;
  private readonly untap = new Map<Session, () => void>();
  private windowStartMs = 0;
  private inWindow = 0;
  private finish: () => void = () => undefined;
  /** Resolves when the trace is over. */
  readonly over: Promise<void>;
  private isOver = false;

  constructor(core: Core, options: TraceOptions) {
    this.core = core;
    this.options = options;
    this.over = new Promise((done) => {
      this.finish = done;
    });
  }

  start(): void {
    const { core, options } = this;
    core.tracer = this;
    core.hooks.observer = this;
    const { clientId, mountpoint } = options;
    const sessions = core.manager.find(mountpoint, clientId)?.sessions ?? [];
    if (sessions.length === 0) this.line(`No sessions found for client ${this.shownId}`);
    for (const session of sessions) this.tap(session);
  }

  /** Ends the trace, with a last line. */
  end(last?: string): void {
    if (this.isOver) return;
    if (last !== undefined) this.options.say(`${last}\n`);
    this.isOver = true;
    this.core.tracer = undefined;
    this.core.hooks.observer = undefined;
    for (const untap of this.untap.values()) untap();
    this.untap.clear();
    this.finish();
  }

  // ---- sessions

  connecting(session: Session, buffer: Buffer, start: number, end: number): void {
    let clientId: string;
    try {
      ({ clientId } = decodeConnect(buffer, start, end));
    } catch {
      // Nobody's, since it names no client; the session says what is wrong with it.
      return;
    }
    const { mountpoint } = session.transport.listener;
    if (clientId !== this.options.clientId || mountpoint !== this.options.mountpoint) return;
    this.tap(session);
    this.packet(
      session,
      "RECV",
      clientPacketText(CONNECT << 4, buffer, start, end, this.view(session)),
    );
  }

  ended(session: Session): void {
    const untap = this.untap.get(session);
    if (untap === undefined) return;
    untap();
    this.untap.delete(session);
    this.line(`${pidOf(session)} Trace session for ${clean(this.options.clientId)} stopped`);
  }

  private tap(session: Session): void {
    if (this.untap.has(session)) return;
    this.line(`New session with PID ${pidOf(session)} found for client ${this.shownId}`);
    const { framer } = session;
    const { sink } = framer;
    framer.sink = this.received(session, sink);
    const sent = new Framer({
      onPacket: (header, buffer, _, body, end) => {
        this.packet(
          session,
          "SEND",
          serverPacketText(header, buffer, body, end, this.view(session)),
        );
        return true;
      },
    });
    const unwatch = session.out.outbox.watch((bytes) => {
      try {
        sent.push(bytes, bytes.length);
      } catch (error) {
        // What looks on must not end what it looks at.
        this.end(`Trace failed: ${clean(errorMessage(error))}`);
      }
    });
    this.untap.set(session, () => {
      framer.sink = sink;
      unwatch();
    });
  }

  private received(session: Session, sink: PacketSink): PacketSink {
    let isRepeated = false;
    return {
      onPacket: (header, buffer, start, body, end) => {
        if (!isRepeated) {
          this.packet(
            session,
            "RECV",
            clientPacketText(header, buffer, body, end, this.view(session)),
          );
        }
        const goesOn = sink.onPacket(header, buffer, start, body, end);
        isRepeated = goesOn === "later";
        return goesOn;
      },
    };
  }

  private view({ version }: Session): { version: 3 | 4 | 5; payloadMax: number } {
    return { version, payloadMax: this.options.payloadMax };
  }

  private packet(session: Session, direction: "RECV" | "SEND", text: string): void {
    if (!this.admit()) return;
    const { mountpoint } = this.options;
    const mount = mountpoint === "" ? "" : `MP: "${clean(mountpoint)}" `;
    this.line(`${pidOf(session)} MQTT ${direction}: ${mount}CID: ${this.shownId} ${text}`);
  }

  // ---- hooks

  asks(hook: ConditionalHook, args: HookArgs[ConditionalHook]): boolean {
    const { client_id, mountpoint } = args.subscriber_id;
    if (client_id !== this.options.clientId || mountpoint !== this.options.mountpoint) return false;
    if (!this.admit()) return false;
    this.line(`Calling ${hook}(${this.argumentsText(args as unknown as Record<string, unknown>)})`);
    return true;
  }

  answered(link: AnsweringLink, answer: unknown, failure: unknown, ms: number): void {
    if (this.isOver) return;
    const told =
      failure === undefined ? factsText(answer) : `failed: ${clean(errorMessage(failure))}`;
    const by = link.answeredBy === link.hook ? "" : ` by ${link.answeredBy}`;
    this.line(`    ${link.plugin}${by}: ${told} in ${ms.toFixed(3)} ms`);
  }

  decided(hook: ConditionalHook, verdict: unknown): void {
    if (!this.isOver) this.line(`Hook ${hook} returned ${factsText(verdict)}`);
  }

  private argumentsText(args: Record<string, unknown>): string {
    const shown: Record<string, unknown> = {};
    for (const name of ARGUMENTS) {
      const value = args[name];
      if (value === undefined) continue;
      if (name === "password") shown[name] = "pw_no_print";
      else if (name === "payload" && Buffer.isBuffer(value)) {
        shown[name] = payloadText(value, this.options.payloadMax).trim();
      } else shown[name] = value;
    }
    return factsText(shown);
  }

  // ---- lines

  /** False, and the end of the trace, when more happens than a trace may show. */
  private admit(): boolean {
    if (this.isOver) return false;
    const nowMs = performance.now();
    if (nowMs - this.windowStartMs >= this.options.rateIntervalMs) {
      this.windowStartMs = nowMs;
      this.inWindow = 0;
    }
    if (this.inWindow++ < this.options.rateMax) return true;
    this.end("Trace rate limit triggered.");
    return false;
  }

  private line(text: string): void {
    if (this.isOver) return;
    this.options.say(`${new Date(this.core.wallMs()).toISOString().slice(0, 19)}Z ${text}\n`);
  }

  private get shownId(): string {
    return `"${clean(this.options.clientId)}"`;
  }
}
