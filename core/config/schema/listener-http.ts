import { HTTP, type ListenerOption, NAMED } from "./listener-option.ts";

/** HTTP modules of a listener. */
export const HTTP_MODULE_OPTIONS: readonly ListenerOption[] = [
  {
    option: "config_mod",
    type: "string",
    kinds: HTTP,
    levels: NAMED,
    namedDefault: "vmq_http_config",
    erlangOnly: true,
    doc: "Erlang module that computes the HTTP routes.",
  },
  {
    option: "config_fun",
    type: "string",
    kinds: HTTP,
    levels: NAMED,
    namedDefault: "config",
    erlangOnly: true,
    doc: "Erlang function of config_mod that computes the HTTP routes.",
  },
  {
    option: "http_modules",
    type: "list",
    list: "words",
    kinds: HTTP,
    levels: NAMED,
    namedDefault: "[]",
    doc: "HTTP modules served here, separated by commas; empty = the global http_modules.",
  },
  {
    option: "http_module.$module.auth.mode",
    type: "enum",
    values: ["apikey", "noauth"],
    kinds: HTTP,
    levels: NAMED,
    doc: "Access to one HTTP module on this listener; wins over http_module.<module>.auth.mode.",
  },
  {
    option: "http_modules.vmq_http_pub.mqtt_auth.mode",
    type: "enum",
    values: ["on-behalf-of", "predefined"],
    kinds: HTTP,
    levels: NAMED,
    since: "1.13.0",
    doc: "REST publish: the identity comes with each request, or is fixed.",
  },
  ...["auth_plugin", "user", "password", "client_id"].map(
    (field): ListenerOption => ({
      option: `http_modules.vmq_http_pub.mqtt_auth.${field}`,
      type: "string",
      kinds: HTTP,
      levels: NAMED,
      since: "1.13.0",
      doc: `REST publish: the fixed ${field} of mode predefined on this listener.`,
      ...(field === "password" ? { isSecret: true as const } : {}),
    }),
  ),
  {
    option: "http_modules.vmq_http_pub.mountpoint",
    type: "string",
    kinds: HTTP,
    levels: NAMED,
    since: "1.13.0",
    doc: "REST publish: mountpoint of messages from this listener.",
  },
];
