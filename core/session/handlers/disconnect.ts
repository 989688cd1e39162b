import type { DisconnectPacket } from "../../mqtt/packets.ts";
import { protocolError, reasonName } from "../../mqtt/reason-codes.ts";
import type { Session } from "../session.ts";

/** DISCONNECT from a client: no will after 0x00, will after any other code. */
export function handleDisconnect(session: Session, packet: DisconnectPacket): void {
  const received = session.core.counters.disconnectReceived;
  const by = session.version === 5 ? received.v5 : received.v4;
  by[packet.reasonCode] = (by[packet.reasonCode] as number) + 1;
  const expiry = packet.properties?.sessionExpiryInterval;
  const subscriber = session.subscriber;
  if (expiry !== undefined && subscriber !== undefined) {
    // [MQTT-3.14.2-2] from 0 to something else is not allowed.
    if (expiry > 0 && subscriber.sessionExpiryS === 0) {
      throw protocolError("session expiry set only at DISCONNECT", "MQTT-3.14.2-2");
    }
    subscriber.sessionExpiryS = expiry;
  }
  session.end({
    reason:
      packet.reasonCode === 0 ? "normal_disconnect" : `disconnect ${reasonName(packet.reasonCode)}`,
    publishWill: packet.reasonCode !== 0,
  });
}
