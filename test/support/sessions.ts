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
