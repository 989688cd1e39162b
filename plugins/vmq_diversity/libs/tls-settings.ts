import type { PluginSetting } from "../../../core/plugin-api.ts";

/** Settings `vmq_diversity.<provider>.<key>` of TLS, with the names and defaults of the other providers. */
export function tlsSettings<P extends string>(
  prefix: P,
  server: string,
): Record<`${P}${TlsKey}`, PluginSetting> {
  const rows = TLS_KEYS.map((key) => [`${prefix}${key}`, rowOf(key, server)] as const);
  return Object.fromEntries(rows) as Record<`${P}${TlsKey}`, PluginSetting>;
}

const TLS_KEYS = [
  "ssl",
  "cafile",
  "certfile",
  "keyfile",
  "ssl.depth",
  "ssl.sni",
  "ssl.verify",
  "ssl.use_system_cas",
] as const;
type TlsKey = (typeof TLS_KEYS)[number];

function rowOf(key: TlsKey, server: string): PluginSetting {
  const file = { type: "file", default: "", checks: ["readable"] } as const;
  switch (key) {
    case "ssl":
      return { type: "flag", default: "off", doc: `Use TLS to ${server}.` };
    case "cafile":
      return { ...file, doc: `CA file for ${server}.` };
    case "certfile":
      return { ...file, doc: `Client certificate for ${server}.` };
    case "keyfile":
      return { ...file, doc: `Key of the client certificate for ${server}.` };
    case "ssl.depth":
      return {
        ...{ type: "integer", default: "3", min: 0, max: 100 },
        doc: `Most CAs between the certificate of ${server} and the root.`,
      };
    case "ssl.sni":
      return { type: "string", doc: `Name of ${server} in its certificate, when not the host.` };
    case "ssl.verify":
      return {
        ...{ type: "enum", values: ["verify_none", "verify_peer"], default: "verify_peer" },
        doc: `Verify the certificate of ${server}.`,
      };
    case "ssl.use_system_cas":
      return { type: "flag", default: "on", doc: `Use the CA store of the system for ${server}.` };
    default:
      return key satisfies never;
  }
}
