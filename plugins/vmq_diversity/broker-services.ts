import type { PluginBroker } from "../../core/plugin-api.ts";
import type { Services } from "./services.ts";

interface ClientArgs {
  readonly mountpoint: string;
  readonly clientId: string;
}

/** What `vmq_api` asks of the broker. */
export function brokerServices(broker: PluginBroker): Services {
  return {
    "vmq_api.disconnect": (args) => {
      const { mountpoint, clientId, cleanup } = args as ClientArgs & { cleanup: boolean };
      return broker.disconnect(clientId, { mountpoint, cleanup }) ? "ok" : "not_found";
    },
    // Nobody waits for the hooks that this asks: the script that calls may be one of them.
    "vmq_api.reauthorize": (args) => {
      const { mountpoint, clientId, username } = args as ClientArgs & { username?: string };
      const user = username === undefined ? {} : { username };
      broker.reauthorise(clientId, { mountpoint, ...user }).catch(() => undefined);
      return "ok";
    },
  };
}
