/** Door for tests of plugins: a plugin in a real broker inside the test's process. */
import type { IClientOptions, MqttClient } from "mqtt";
import { type Broker, createBroker } from "./index.ts";
import type { AnyPlugin } from "./plugin-api.ts";

/** A running broker with one plugin. */
export interface PluginTest {
  readonly broker: Broker;
  readonly port: number;
  /** Connects a client with MQTT.js, which the test's package must have installed. */
  connect(options?: IClientOptions): Promise<MqttClient>;
  /** Closes the clients and the broker. */
  close(): Promise<void>;
}

/**
 * Starts a broker on a free port of the loopback interface, with a store in memory and this plugin. The
 * settings are those of vernemq.conf, the plugin's own included. Whom the plugin does not decide about
 * may connect (`allow_anonymous = hooks`).
 */
export async function testPlugin(
  plugin: AnyPlugin,
  settings: Readonly<Record<string, string>> = {},
): Promise<PluginTest> {
  const broker = await createBroker({
    plugins: [plugin],
    settings: {
      "listener.tcp.default": "127.0.0.1:0",
      allow_anonymous: "hooks",
      systree_enabled: "off",
      ...settings,
    },
  });
  const port = broker.port();
  const clients: MqttClient[] = [];
  return {
    broker,
    port,
    connect: async (options = {}) => {
      const { connectAsync } = await import("mqtt");
      const url = `mqtt://127.0.0.1:${port}`;
      const client = await connectAsync(url, { reconnectPeriod: 0, ...options });
      // Without a listener, a client that the broker disconnects would end the test's process.
      client.on("error", () => undefined);
      clients.push(client);
      return client;
    },
    close: async () => {
      await Promise.all(clients.map((client) => client.endAsync(true)));
      await broker.close();
    },
  };
}
