import type { PluginContext } from "../../core/plugin-api.ts";

/**
 * What runs on the broker's own thread for the scripts: `kv`, `auth_cache`, `vmq_api`. Libraries reach
 * it through `LibraryHost.ask` and `tell`; arguments and answers are structured clones.
 */
export type Services = Readonly<Record<string, Service>>;

/** Gives the answer of `ask`; of `tell` nobody sees it. An error's message is raised in the script. */
export type Service = (args: unknown, from: ServiceCall) => unknown;

/** Where a request comes from. */
export interface ServiceCall {
  /** Path of the script. */
  readonly script: string;
  /** The hook call, 0 while a script is loaded. */
  readonly id: number;
  /** Arguments of that hook call as the broker gave them; undefined while a script is loaded. */
  readonly args: object | undefined;
}

/** What services are made of. */
export interface ServiceParts {
  readonly context: PluginContext;
}
