import { expect } from "vitest";
import type { RawClient } from "./raw-client.ts";

/**
 * The broker ends the connection because of what the client did: MQTT 5 with one of these codes in
 * DISCONNECT (in CONNACK if there was none yet), 3.x without a packet [MQTT-4.13.1-1].
 */
export async function violated(client: RawClient, ...codes: number[]): Promise<void> {
  if (client.version === 5) {
    const last = await client.next();
    const isConnected = client.connack !== undefined;
    expect(last.type).toBe(isConnected ? "disconnect" : "connack");
    const hex = (code: number) => `0x${code.toString(16)}`;
    expect(codes.map(hex), "reason code").toContain(hex(last.code ?? 0));
  }
  await client.closed();
}

export const MALFORMED = 0x81;
export const PROTOCOL_ERROR = 0x82;
