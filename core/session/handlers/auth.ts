import { isPromise } from "../../hooks/chain.ts";
import type { HookError, HookModifiers, Verdict } from "../../hooks/types.ts";
import { encodeAuth } from "../../mqtt/codec.ts";
import { fromHookProperties, toHookProperties } from "../../mqtt/hook-properties.ts";
import { AUTH, type AuthPacket, CONNACK, DISCONNECT, type Properties } from "../../mqtt/packets.ts";
import { isServerReasonCode, protocolError, reasonCodeOf } from "../../mqtt/reason-codes.ts";
import { withContext } from "../hook-arguments.ts";
import { AUTHENTICATING, CONNECTED, type Session } from "../session.ts";

/** State of an enhanced authentication. MQTT 5.0, 4.12. */
export interface EnhancedAuth {
  readonly method: string;
  /** Goes on with CONNECT after success; undefined once connected. */
  proceed: ((properties: Properties) => void) | undefined;
}

export type AuthOutcome =
  | { kind: "success"; properties: Properties }
  | { kind: "continue"; properties: Properties }
  | { kind: "refused"; code: number; properties: Properties | undefined };

/** Asks on_auth_m5 and reduces its answer to one of three outcomes. */
export function askAuth(
  session: Session,
  method: string,
  properties: Properties | undefined,
): AuthOutcome | Promise<AuthOutcome> {
  const verdict = session.core.hooks.ask(
    "on_auth_m5",
    withContext(
      {
        username: session.username,
        subscriber_id: session.hookId,
        properties: toHookProperties(properties),
      },
      session,
    ),
    session.chainSet,
  );
  if (isPromise(verdict)) {
    // A `Later` has no result of its own `then`.
    return Promise.resolve(verdict).then((late) => outcome(method, late as AuthVerdict));
  }
  return outcome(method, verdict as AuthVerdict);
}

type AuthVerdict = Verdict<HookModifiers["on_auth_m5"]>;

function outcome(method: string, verdict: AuthVerdict): AuthOutcome {
  if (verdict === "ok") {
    return { kind: "success", properties: { authenticationMethod: method } };
  }
  if (typeof verdict === "object" && "ok" in verdict) {
    const { reason_code: code = 0, properties } = verdict.ok;
    const checked = fromHookProperties({ p_authentication_method: method, ...properties }, AUTH);
    // Another method than the client's is not possible [MQTT-4.12.0-5].
    if ("error" in checked || checked.properties.authenticationMethod !== method) {
      return { kind: "refused", code: 0x83, properties: undefined };
    }
    return { kind: code === 0 ? "success" : "continue", properties: checked.properties };
  }
  return { kind: "refused", ...refusal(typeof verdict === "string" ? verdict : verdict.error) };
}

/** Without a code of its own a refusal is 0x8C before CONNACK: the method is not supported. */
function refusal(error: HookError): { code: number; properties: Properties | undefined } {
  if (error === "plugin_error" || error === "plugin_unavailable") {
    return { code: 0x83, properties: undefined };
  }
  if (typeof error !== "object") {
    const code = reasonCodeOf(error);
    return { code: code !== undefined && code >= 0x80 ? code : 0x8c, properties: undefined };
  }
  const given = error.reason_code === undefined ? undefined : reasonCodeOf(error.reason_code);
  // Sent in CONNACK or DISCONNECT, whichever applies.
  const isKnown = given !== undefined && given >= 0x80 && isServerReasonCode(CONNACK, given);
  const reasonString = error.reason_string ?? error.properties?.p_reason_string;
  return {
    code: isKnown ? given : 0x87,
    properties: reasonString === undefined ? undefined : { reasonString },
  };
}

export function sendAuth(session: Session, code: number, properties: Properties): void {
  const frame = encodeAuth(code, properties, {
    maximumPacketSize: session.packetBytesMax,
    requestProblemInformation: session.requestProblemInfo,
  });
  if (frame !== undefined) session.out.outbox.append(frame);
  const sent = session.core.counters.authSent.v5;
  sent[code] = (sent[code] as number) + 1;
}

/** AUTH from a client: the next step of CONNECT, or re-authentication. MQTT 5.0, 3.15, 4.12.1. */
export function handleAuth(session: Session, packet: AuthPacket): void {
  const received = session.core.counters.authReceived.v5;
  received[packet.reasonCode] = (received[packet.reasonCode] as number) + 1;
  const auth = session.enhancedAuth;
  if (auth === undefined) throw protocolError("AUTH without a method in CONNECT", "MQTT-4.12.0-6");
  if (packet.properties?.authenticationMethod !== auth.method) {
    throw protocolError("another authentication method", "MQTT-4.12.0-5");
  }
  session.proceed(askAuth(session, auth.method, packet.properties), (result) =>
    step(session, auth, result),
  );
}

function step(session: Session, auth: EnhancedAuth, result: AuthOutcome): void {
  if (result.kind === "continue") {
    sendAuth(session, 0x18, result.properties);
    return;
  }
  if (session.phase === CONNECTED) {
    if (result.kind === "success") sendAuth(session, 0, result.properties);
    else {
      session.end({
        // 0x8C, the answer of an unknown method, is none of DISCONNECT. MQTT 5.0, 3.14.2.1
        code: isServerReasonCode(DISCONNECT, result.code) ? result.code : 0x87,
        ...(result.properties === undefined ? {} : { properties: result.properties }),
        reason: "re-authentication refused",
        publishWill: true,
      });
    }
    return;
  }
  if (session.phase !== AUTHENTICATING) return;
  // Differs from VerneMQ: a refusal before CONNACK is a CONNACK.
  if (result.kind === "refused") session.refuse(result.code, result.properties);
  else auth.proceed?.(result.properties);
}
