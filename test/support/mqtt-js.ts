import { connectAsync, type IClientOptions, type MqttClient } from "mqtt";
import type { Broker } from "../../core/broker-types.ts";
import { atEnd } from "./cleanup.ts";

/** A client as programs use it, which ends with the test. Rejects when the broker refuses it. */
export async function connect(
  broker: Broker,
  clientId: string,
  options: IClientOptions = {},
): Promise<MqttClient> {
  const client = await connectAsync(`mqtt://127.0.0.1:${broker.port()}`, {
    clientId,
    reconnectPeriod: 0,
    ...options,
  });
  client.on("error", () => undefined);
  atEnd(() => client.endAsync(true));
  return client;
}
