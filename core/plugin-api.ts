/** Door for plugins: the only file of the core that a plugin imports. */

export { textTable as table } from "./admin/render.ts";
export { nearest } from "./config/nearest.ts";
export { withoutPassword } from "./config/schema.ts";
export { errorMessage, NautilusError } from "./errors.ts";
export { Breaker } from "./hooks/breaker.ts";
export * from "./hooks/define-plugin.ts";
export { CONDITIONAL_HOOKS } from "./hooks/explain.ts";
export { Later } from "./hooks/later.ts";
export { MODIFIERS, type Shape } from "./hooks/modifier-table.ts";
export { type AnswerFault, type CheckedAnswer, checkVerdict } from "./hooks/modifiers.ts";
export type { PluginSetting, PluginSettings, SettingValues } from "./hooks/plugin-settings.ts";
export { type PluginLog, ReloadedFile, type ReloadOptions } from "./hooks/reloaded-file.ts";
export type * from "./hooks/types.ts";
export type { Logger } from "./logger.ts";
export { Framer } from "./mqtt/framer.ts";
export { HOOK_PROPERTY_NAMES, toHookProperties } from "./mqtt/hook-properties.ts";
export { lengthBytes, writeLength } from "./mqtt/message.ts";
export {
  CONNACK,
  CONNECT,
  DISCONNECT,
  PUBACK,
  PUBCOMP,
  PUBLISH,
  PUBREC,
} from "./mqtt/packets.ts";
export {
  type PatternOwner,
  PatternTree,
  PLACEHOLDERS,
  withoutEmptyTopic,
} from "./mqtt/pattern-tree.ts";
export {
  decodeProperties,
  encodeProperties,
  PROPERTY_TABLE,
  type PropertyRow,
} from "./mqtt/properties.ts";
export { reasonCodeOf } from "./mqtt/reason-codes.ts";
export { contains, matches, parseShared, validateFilter } from "./mqtt/topics.ts";
