/** Door for plugins: the only file of the core that a plugin imports. */
export { NautilusError } from "./errors.ts";
export type * from "./hooks/types.ts";
