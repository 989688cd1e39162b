import type { SchemaRow } from "../schema.ts";

/** Which plugins run, and in which order they start. */
export const PLUGIN_ROWS: readonly SchemaRow[] = [
  {
    key: "plugins.$name",
    type: "flag",
    example: "on",
    doc: "Enable (on) or disable a plugin by name.",
  },
  {
    key: "plugins.$name.path",
    type: "directory",
    example: "/path/to/myplugin",
    doc: "Folder, file or installed package of a plugin that is not shipped with the broker.",
  },
  {
    key: "plugins.$name.priority",
    type: "integer",
    example: "5",
    doc: "Start order; lower numbers first, plugins without number afterwards in name order.",
  },
  {
    key: "plugins.vmq_passwd",
    type: "flag",
    default: "on",
    doc: "Password-file authentication plugin.",
  },
  { key: "plugins.vmq_acl", type: "flag", default: "on", doc: "ACL-file authorization plugin." },
  { key: "plugins.vmq_diversity", type: "flag", default: "off", doc: "Lua scripting plugin." },
  { key: "plugins.vmq_webhooks", type: "flag", default: "off", doc: "Webhooks plugin." },
  { key: "plugins.vmq_bridge", type: "flag", default: "off", doc: "Bridge plugin." },
];
