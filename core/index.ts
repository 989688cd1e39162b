/** Door for applications: build and run a broker inside a program or a test. */

export { createBroker } from "./broker.ts";
export type { Broker, BrokerOptions, PluginControl, SessionInfo } from "./broker-types.ts";
export type * from "./hooks/types.ts";
