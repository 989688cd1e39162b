import type { Packet, RawClient } from "./raw-client.ts";
import { encodePublish, type PublishOptions } from "./wire.ts";

/** Rows of messages whose payloads are their numbers, so that loss, repetition and order show. */

/** Texts of the numbers `from` to `to`, downwards when `to` is smaller. */
export function numbers(from: number, to: number): string[] {
  const step = from <= to ? 1 : -1;
  return Array.from({ length: Math.abs(to - from) + 1 }, (_, i) => String(from + i * step));
}

export function payloads(packets: readonly Packet[]): string[] {
  return packets.map((packet) => packet.payload?.toString() ?? "");
}

/**
 * Publishes messages `from` .. `to` in one write and completes their exchanges. Acknowledgements must
 * come in the order of the messages [MQTT-4.6.0-2] [MQTT-4.6.0-3].
 */
export async function publishSeries(
  client: RawClient,
  to: number,
  options: Omit<PublishOptions, "payload" | "packetId">,
  from = 1,
): Promise<void> {
  const qos = options.qos ?? 0;
  const ids: number[] = [];
  const frames = numbers(from, to).map((payload) => {
    if (qos === 0) return encodePublish(client.version, { ...options, payload });
    const packetId = client.nextPacketId();
    ids.push(packetId);
    return encodePublish(client.version, { ...options, payload, packetId });
  });
  client.sendTogether(...frames);
  if (qos === 0) await client.ping();
  for (const packetId of ids) await client.expect(qos === 1 ? "puback" : "pubrec", { packetId });
  if (qos !== 2) return;
  for (const packetId of ids) client.pubrel(packetId);
  for (const packetId of ids) await client.expect("pubcomp", { packetId });
}

/**
 * Receives `count` QoS 1 or 2 messages in rounds of `window`: after each round the broker must fall
 * silent until the exchanges of the round are complete.
 */
export async function receiveInWindow(
  client: RawClient,
  window: number,
  count: number,
): Promise<Packet[]> {
  const all: Packet[] = [];
  while (all.length < count) {
    const round: Packet[] = [];
    while (round.length < Math.min(window, count - all.length)) {
      round.push(await client.expect("publish"));
    }
    await client.expectNothing();
    all.push(...round);
    await acknowledgeRound(client, round);
  }
  await client.expectNothing();
  return all;
}

/** PUBACKs in one go; QoS 2 step by step, so that nothing new may come before the first PUBCOMP. */
async function acknowledgeRound(client: RawClient, round: readonly Packet[]): Promise<void> {
  for (const { qos, packetId } of round) {
    if (qos === 1) client.puback(packetId);
    else client.pubrec(packetId);
  }
  const released = round.filter(({ qos }) => qos === 2);
  for (const { packetId } of released) await client.expect("pubrel", { packetId: packetId ?? 0 });
  for (const { packetId } of released) client.pubcomp(packetId);
}
