import type { SchemaRow } from "../schema.ts";

/** Keys of vmq_http_pub: publishing over HTTP. */
export const HTTP_PUB_ROWS: readonly SchemaRow[] = [
  {
    key: "vmq_http_pub.mqtt_auth.mode",
    type: "enum",
    values: ["on-behalf-of", "predefined"],
    default: "on-behalf-of",
    since: "1.13.0",
    doc: "REST publish: on-behalf-of (identity in each request) or predefined (fixed identity).",
  },
  {
    key: "vmq_http_pub.mqtt_auth.auth_plugin",
    type: "string",
    default: "mqtt",
    since: "1.13.0",
    doc: "REST publish: reserved, not evaluated.",
  },
  {
    key: "vmq_http_pub.mqtt_auth.user",
    type: "string",
    hidden: true,
    since: "1.13.0",
    doc: "REST publish: fixed user for mode predefined.",
  },
  {
    key: "vmq_http_pub.mqtt_auth.password",
    type: "string",
    isSecret: true,
    hidden: true,
    since: "1.13.0",
    doc: "REST publish: fixed password for mode predefined.",
  },
  {
    key: "vmq_http_pub.mqtt_auth.client_id",
    type: "string",
    hidden: true,
    since: "1.13.0",
    doc: "REST publish: fixed client id for mode predefined.",
  },
  {
    key: "vmq_http_pub.mountpoint",
    type: "string",
    hidden: true,
    since: "1.13.0",
    doc: "REST publish: mountpoint of published messages.",
  },
];
