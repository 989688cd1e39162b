import { type AckPacket, PUBACK, PUBCOMP, PUBREC, PUBREL } from "../../mqtt/packets.ts";
import { malformed, protocolError } from "../../mqtt/reason-codes.ts";
import { ENTRY_PUBLISHED } from "../../store/types.ts";
import type { Session } from "../session.ts";
import type { Subscriber } from "../subscriber.ts";

const TYPE_OF = { puback: PUBACK, pubrec: PUBREC, pubrel: PUBREL, pubcomp: PUBCOMP } as const;

/** PUBACK, PUBREC, PUBREL or PUBCOMP of two bytes: all of 3.x, and success in MQTT 5. */
export function handleShortAck(
  session: Session,
  header: number,
  buffer: Buffer,
  body: number,
): void {
  const type = header >>> 4;
  const flags = header & 0x0f;
  // MQTT 3.1 may repeat PUBREL with DUP.
  if (flags !== (type === PUBREL ? 2 : 0) && !(session.version === 3 && type === PUBREL)) {
    throw malformed("flags of an acknowledgement", "MQTT-2.1.3-1");
  }
  const packetId = ((buffer[body] as number) << 8) | (buffer[body + 1] as number);
  if (packetId === 0) throw protocolError("packet identifier 0", "MQTT-2.2.1-3");
  acknowledge(session, type, packetId, 0);
}

export function handleAck(session: Session, packet: AckPacket): void {
  acknowledge(session, TYPE_OF[packet.type], packet.packetId, packet.reasonCode);
}

function acknowledge(session: Session, type: number, packetId: number, code: number): void {
  const { counters } = session.core;
  if (type === PUBACK) {
    count(counters.pubackReceived, session, code);
    puback(session, packetId);
  } else if (type === PUBREC) {
    count(counters.pubrecReceived, session, code);
    pubrec(session, packetId, code);
  } else if (type === PUBREL) {
    count(counters.pubrelReceived, session, code);
    pubrel(session, packetId);
  } else {
    count(counters.pubcompReceived, session, code);
    pubcomp(session, packetId);
  }
}

function count(
  counter: { v4: Float64Array; v5: Float64Array },
  session: Session,
  code: number,
): void {
  const by = session.version === 5 ? counter.v5 : counter.v4;
  by[code] = (by[code] as number) + 1;
}

function puback(session: Session, packetId: number): void {
  const delivery = session.out.inflight.get(packetId);
  if (delivery === undefined) {
    session.core.counters.pubackInvalidError[session.versionIndex]++;
    return;
  }
  if (delivery.qos !== 1) throw protocolError("PUBACK for a QoS 2 message", "MQTT-4.3.3-4");
  session.out.finish(packetId);
  if (session.out.queue.hasWaiting) session.out.pump();
}

/** Differs from VerneMQ: an unknown id is answered, not a reason to close. */
function pubrec(session: Session, packetId: number, code: number): void {
  const { out } = session;
  const delivery = out.inflight.get(packetId);
  if (delivery === undefined) {
    session.core.counters.pubrecInvalidError[session.versionIndex]++;
    out.answers.acknowledge(PUBREL, packetId, session.version === 5 ? 0x92 : 0, 0);
    return;
  }
  if (delivery.qos !== 2) throw protocolError("PUBREC for a QoS 1 message", "MQTT-4.3.3-4");
  if (code >= 0x80) {
    // The client refused it: the exchange is over [MQTT-4.3.3-4], the window has its credit back.
    if (delivery.state === ENTRY_PUBLISHED) out.finish(packetId);
    out.pump();
    return;
  }
  out.release(delivery);
}

function pubrel(session: Session, packetId: number): void {
  const subscriber = session.subscriber as Subscriber;
  const known = subscriber.inboundIds?.delete(packetId) === true;
  // Also for an unknown id: its removal may only be noted yet.
  const batch = subscriber.isStored
    ? session.core.store.deleteInboundId(subscriber.id, packetId)
    : 0;
  session.out.answers.acknowledge(
    PUBCOMP,
    packetId,
    known || session.version < 5 ? 0 : 0x92,
    batch,
  );
}

function pubcomp(session: Session, packetId: number): void {
  const delivery = session.out.inflight.get(packetId);
  if (delivery === undefined) {
    session.core.counters.pubcompInvalidError[session.versionIndex]++;
    return;
  }
  if (delivery.qos !== 2) throw protocolError("PUBCOMP for a QoS 1 message", "MQTT-4.3.3-4");
  session.out.finish(packetId);
  session.out.pump();
}
