import type { Broker } from "../broker-types.ts";
import type { Config } from "../config/types.ts";
import type { PluginManager } from "../hooks/plugin-manager.ts";
import type { RootLogger } from "../logger.ts";
import type { Core } from "../session/manager.ts";
import type { ApiKeys } from "./api-keys.ts";
import type { ListenerControl } from "./listener-control.ts";
import type { MetricSources } from "./metrics.ts";

/** What the commands work with: the broker's parts, and what its own program may do with it. */
export interface AdminTarget {
  readonly core: Core;
  readonly config: Config;
  readonly broker: Broker;
  readonly pluginManager: PluginManager;
  readonly listeners: ListenerControl;
  readonly apiKeys: ApiKeys;
  readonly logs: RootLogger;
  readonly version: string;
  metricSources(): MetricSources;
}
