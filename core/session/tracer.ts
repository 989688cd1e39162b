import type { Session } from "./session.ts";

/** Watches the connections of a client, for `trace client`. */
export interface SessionTracer {
  /** A connection's first packet, a CONNECT, before it is looked at: its body is `start`..`end`. */
  connecting(session: Session, buffer: Buffer, start: number, end: number): void;
  ended(session: Session): void;
}
