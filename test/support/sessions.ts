import type { Broker } from "../../core/broker-types.ts";
import { waitOffline } from "./broker.ts";
import { connectClient, type RawClient } from "./raw-client.ts";
import type { ConnectOptions, Properties, Version } from "./wire.ts";

/** Longer than any test. */
const SESSION_EXPIRY_S = 600;

/** CONNECT of a client whose session stays: clean 0, in MQTT 5 with a Session Expiry Interval. */
export function persistent(
  version: Version,
  clientId: string,
  properties: Properties = {},
): ConnectOptions {
  if (version !== 5) return { clientId, clean: false };
  return {
    clientId,
    clean: false,
    properties: { sessionExpiryInterval: SESSION_EXPIRY_S, ...properties },
  };
}

/** Cuts the client's connection and waits until the broker knows. */
export async function leave(broker: Broker, client: RawClient, clientId: string): Promise<void> {
  client.cut();
  await waitOffline(broker, clientId);
}

/** Connects, reads Session Present, cuts the connection again. */
export async function sessionPresent(
  broker: Broker,
  version: Version,
  options: ConnectOptions,
): Promise<boolean> {
  const client = await connectClient(broker, version, options);
  await leave(broker, client, String(options.clientId));
  return client.connack?.sessionPresent === true;
}
