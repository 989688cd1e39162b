import type { ListenerSettings, TlsSettings } from "../../../core/listeners/types.ts";

/** Settings as the configuration would give them for a listener with nothing but an address. */
export function plainSettings(kind: ListenerSettings["kind"]): ListenerSettings {
  return {
    kind,
    name: "test",
    address: "127.0.0.1",
    port: 0,
    unixSocket: false,
    mountpoint: "",
    maxConnections: Number.POSITIVE_INFINITY,
    maxConnectionLifetimeS: 0,
    allowedProtocolVersions: [3, 4, 5, 131],
    allowAnonymousOverride: false,
    authPlugins: undefined,
    authzPlugins: undefined,
    forwardConnectionOpts: false,
    proxyProtocol: false,
    proxyProtocolUseCnAsUsername: true,
    proxyXff: { enabled: false, trusted: [], useCnAsUsername: false, cnHeader: "x-ssl-client-cn" },
    maxWsFrameSize: 268_435_456,
    maxRequestLineLength: 8000,
    maxHeaderValueLength: 4096,
    tls: undefined,
  };
}

export function plainTls(): TlsSettings {
  return {
    cafile: "",
    certfile: "",
    keyfile: "",
    keypasswd: "",
    ciphers: "",
    eccs: [],
    depth: 1,
    versions: ["tlsv1.2"],
    crlfile: "",
    crlRefreshIntervalMs: 60_000,
    requireCertificate: false,
    useIdentityAsUsername: false,
    handshakeTimeoutMs: 5000,
    pskSupport: false,
    pskfile: "",
    pskfileSeparator: ":",
    pskIdentityHint: "VMQ_PSK",
  };
}
