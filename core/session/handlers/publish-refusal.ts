import type { HookError } from "../../hooks/types.ts";
import { encodeAck } from "../../mqtt/codec.ts";
import { PUBACK, PUBREC } from "../../mqtt/packets.ts";
import { isServerReasonCode, reasonCodeOf } from "../../mqtt/reason-codes.ts";
import type { Route } from "../../routing/routes.ts";
import type { Session } from "../session.ts";

/** Marks the packet id of a QoS 2 PUBLISH where id and QoS travel as one number (0 = QoS 0). */
export const QOS2 = 0x10000;

/** What a client gets for a publish that is not allowed. */
export function refuse(session: Session, route: Route, answer: number, why: HookError): void {
  const { core, settings } = session;
  core.counters.publishAuthError[session.versionIndex]++;
  core.log.limited("publish refused", 10).warn("publish refused", {
    client_id: session.clientId,
    peer: session.transport.peer.address,
    topic: route.topic,
    reason: typeof why === "object" ? String(why.reason_code ?? "not_authorized") : String(why),
  });
  if (session.version < 5) {
    if (session.version === 4 || settings.disconnectOnUnauthorizedPublishV3) {
      session.end({ reason: "publish not authorized", publishWill: true });
    } else {
      acknowledge(session, answer, 0);
    }
    return;
  }
  if (answer === 0) return;
  const type = answer >= QOS2 ? PUBREC : PUBACK;
  const packetId = answer & 0xffff;
  const { code, reasonString } = publishError(why);
  if (reasonString === undefined) {
    session.out.answers.acknowledge(type, packetId, code, 0);
    return;
  }
  session.out.answers.after(0, () => {
    const frame = encodeAck(
      type,
      5,
      { packetId, reasonCode: code, properties: { reasonString } },
      {
        maximumPacketSize: session.packetBytesMax,
        requestProblemInformation: session.requestProblemInfo,
      },
    );
    if (frame !== undefined) session.out.outbox.append(frame);
    const sent = type === PUBREC ? core.counters.pubrecSent : core.counters.pubackSent;
    sent.v5[code] = (sent.v5[code] as number) + 1;
  });
}

function publishError(why: HookError): { code: number; reasonString: string | undefined } {
  const given = typeof why === "object" ? why.reason_code : why;
  const known = given === undefined ? undefined : reasonCodeOf(given);
  // [MQTT-3.4.2-1] [MQTT-3.5.2-1] PUBACK and PUBREC know the same refusals.
  const isKnown = known !== undefined && known >= 0x80 && isServerReasonCode(PUBACK, known);
  const code = isKnown ? known : why === "plugin_error" ? 0x83 : 0x87;
  const reasonString =
    typeof why === "object" ? (why.reason_string ?? why.properties?.p_reason_string) : undefined;
  return { code, reasonString };
}

/** Positive or negative PUBACK or PUBREC for something that was not stored. */
export function acknowledge(session: Session, answer: number, code: number): void {
  if (answer === 0) return;
  session.out.answers.acknowledge(answer >= QOS2 ? PUBREC : PUBACK, answer & 0xffff, code, 0);
}
