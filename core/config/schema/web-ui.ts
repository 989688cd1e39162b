import type { SchemaRow } from "../schema.ts";

/** Keys of vmq_web_ui. */
export const WEB_UI_ROWS: readonly SchemaRow[] = [
  {
    key: "vmq_web_ui.admin.auth",
    type: "string",
    default: "password",
    doc: "Web UI login method; only password exists.",
  },
  { key: "vmq_web_ui.admin.user_name", type: "string", default: "admin", doc: "Web UI user." },
  {
    key: "vmq_web_ui.admin.user_pwd",
    type: "string",
    isSecret: true,
    default: "",
    doc: "Web UI password.",
  },
  {
    key: "vmq_web_ui.mgmt_api.key",
    type: "string",
    default: "",
    doc: "API key the Web UI uses towards the management API.",
  },
  {
    key: "vmq_web_ui.mgmt_api.port",
    type: "string",
    default: "",
    doc: "Port of the management API the Web UI calls on each node.",
  },
  {
    key: "vmq_web_ui.mgmt_api.scheme",
    type: "string",
    default: "",
    doc: "http or https for those calls.",
  },
  {
    key: "vmq_web_ui.file_access.allow_read",
    type: "flag",
    default: "off",
    doc: "Let the Web UI read password, ACL and configuration file.",
  },
  { key: "vmq_web_ui.file_access.allow_write", type: "flag", default: "off", doc: "Reserved." },
];
