import { tlsSettings } from "./tls-settings.ts";

const TLS = [
  "ssl",
  "cafile",
  "certfile",
  "keyfile",
  "ssl.depth",
  "ssl.customize_hostname_check",
  "ssl.verify",
  "ssl.use_system_cas",
];
/** Of the providers for which VerneMQ has no TLS; the plugin's own settings. */
const OWN_TLS = Object.keys(tlsSettings("", ""));
const SQL = ["host", "port", "user", "password", "database", "pool_size", "password_hash_method"];

/** Keys of the configuration by provider, `vmq_diversity.<provider>.<key>`: the defaults of ensure_pool. */
export const PROVIDER_KEYS: Readonly<Record<string, readonly string[]>> = {
  postgres: [...SQL, ...TLS],
  cockroachdb: [...SQL, ...TLS],
  mysql: [...SQL, ...OWN_TLS],
  mysql2: [...SQL, ...TLS],
  mongodb: [
    ...["host", "srv", "port", "login", "password", "auth_source", "database", "pool_size"],
    ...["w_mode", "read_preference", ...TLS, "ssl.sni"],
  ],
  redis: ["host", "port", "user", "password", "database", "pool_size", ...OWN_TLS],
  memcache: ["host", "port", ...OWN_TLS],
};
