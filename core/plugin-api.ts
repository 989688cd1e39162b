/** Door for plugins: the only file of the core that a plugin imports. */
export { NautilusError } from "./errors.ts";
export type * from "./hooks/types.ts";
export { contains, matches, parseShared, validateFilter } from "./mqtt/topics.ts";
