import { resolve } from "node:path";
import type { ListenerSettings, SocketSettings, TlsSettings } from "../listeners/types.ts";
import { fileProblem } from "./checks.ts";
import type { Setting } from "./config.ts";
import { keyWords, rowOf } from "./schema.ts";
import type { ConfigValue } from "./types.ts";
import { readValue, splitAddress } from "./values.ts";

type MqttKind = ListenerSettings["kind"];

/** VerneMQ: tls_handshake_timeout unset or -1. */
const TLS_HANDSHAKE_TIMEOUT_MS = 5000;

/** Names of elliptic curves that OpenSSL calls otherwise. */
const OPENSSL_CURVES: Readonly<Record<string, string>> = {
  secp256r1: "prime256v1",
  secp192r1: "prime192v1",
  x25519: "X25519",
  x448: "X448",
};

/** Options whose -1 means "not set at this level". */
const UNSET_AT_MINUS_ONE = ["max_connections", "tls_handshake_timeout"];

/** A complaint about one setting. */
export interface Complaint {
  readonly setting: Setting;
  readonly wrong: string;
}

export interface ListenerContext {
  readonly settings: ReadonlyMap<string, Setting>;
  readonly cwd: string;
  readonly isPluginEnabled: (name: string) => boolean;
  /** Also true for a key whose value was refused. */
  readonly isWritten: (key: string) => boolean;
}

/**
 * MQTT listeners with inheritance applied: named, then protocol, then global, then built-in.
 * Differs from VerneMQ: that order holds for every option (VerneMQ ignores the protocol level of
 * some, though its documentation promises it).
 */
export function listenerSettings(context: ListenerContext): {
  listeners: ListenerSettings[];
  complaints: Complaint[];
  notices: string[];
} {
  const complaints: Complaint[] = [];
  const notices: string[] = [];
  const listeners: ListenerSettings[] = [];
  for (const setting of context.settings.values()) {
    const [, kind = "", name = ""] = keyWords(setting.key);
    if (setting.row.key !== `listener.${kind}.$name` || !isMqttKind(kind)) continue;
    const options = optionReader(context, kind, name);
    const listener = readListener(setting, kind, name, options, context);
    complaints.push(...listenerComplaints(setting, listener, options, context));
    const twin = listeners.findIndex((earlier) => isSamePlace(earlier, listener));
    for (const { kind, name } of twin < 0 ? [] : listeners.splice(twin, 1)) {
      notices.push(`${setting.key}: same address as listener.${kind}.${name}, which is left out`);
    }
    listeners.push(listener);
  }
  return { listeners, complaints, notices };
}

/** Port 0 asks for any free port, so two of them are not the same. */
function isSamePlace(a: ListenerSettings, b: ListenerSettings): boolean {
  return a.address === b.address && a.port === b.port && (a.unixSocket || a.port !== 0);
}

export function isMqttKind(kind: string): kind is MqttKind {
  return kind === "tcp" || kind === "ssl" || kind === "ws" || kind === "wss";
}

/** Reads options with inheritance applied. */
export interface OptionReader {
  /** True when some level mentions the option, even with a refused value. */
  isMentioned(option: string): boolean;
  /** The setting that decides an option, when one was written. */
  written(option: string): Setting | undefined;
  value(option: string): ConfigValue;
  flag(option: string): boolean;
  int(option: string): number;
  text(option: string): string;
  texts(option: string): readonly string[];
}

export function optionReader(
  context: ListenerContext,
  kind: SocketSettings["kind"],
  name: string,
): OptionReader {
  const keysOf = (option: string) => [
    `listener.${kind}.${name}.${option}`,
    `listener.${kind}.${option}`,
    `listener.${option}`,
  ];
  const isUnset = (option: string, value: ConfigValue) =>
    value === undefined || (value === -1 && UNSET_AT_MINUS_ONE.includes(option));

  function written(option: string): Setting | undefined {
    return keysOf(option)
      .map((key) => context.settings.get(key))
      .find((setting) => setting !== undefined && !isUnset(option, setting.value));
  }

  function builtIn(option: string): ConfigValue {
    return keysOf(option)
      .slice(1)
      .map((key) => {
        const row = rowOf(key);
        if (row?.default === undefined || row.key.includes("$")) return undefined;
        const reading = readValue(row, row.default);
        return reading.ok ? reading.value : undefined;
      })
      .find((value) => !isUnset(option, value));
  }

  function value(option: string): ConfigValue {
    return written(option)?.value ?? builtIn(option);
  }

  return {
    isMentioned: (option) => keysOf(option).some(context.isWritten),
    written,
    value,
    flag: (option) => value(option) === true,
    int: (option) => Number(value(option) ?? 0),
    text: (option) => String(value(option) ?? ""),
    texts: (option) => {
      const items = value(option);
      return Array.isArray(items) ? items.map(String) : [];
    },
  };
}

function readListener(
  setting: Setting,
  kind: MqttKind,
  name: string,
  options: OptionReader,
  context: ListenerContext,
): ListenerSettings {
  const mountpoint = options.text("mountpoint");
  return Object.freeze({
    ...readSocket(setting.text, name, options, context),
    kind,
    mountpoint: mountpoint === "off" ? "" : mountpoint.replace(/\/+$/, ""),
    maxConnectionLifetimeS: options.int("max_connection_lifetime"),
    allowedProtocolVersions: options.texts("allowed_protocol_versions").map(Number),
    allowAnonymousOverride: options.flag("allow_anonymous_override"),
    authPlugins: pluginChain(options, "auth_plugins"),
    authzPlugins: pluginChain(options, "authz_plugins"),
    forwardConnectionOpts: options.flag("forward_connection_opts"),
    proxyXff: {
      enabled: options.flag("proxy_xff_support"),
      trusted: options.texts("proxy_xff_trusted_intermediate"),
      useCnAsUsername: options.flag("proxy_xff_use_cn_as_username"),
      cnHeader: options.text("proxy_xff_cn_header").toLowerCase(),
    },
    maxWsFrameSize: globalInt(context, "max_ws_frame_size"),
    tls: kind === "ssl" || kind === "wss" ? readTls(options, context) : undefined,
  });
}

/** What every kind of listener has, but TLS. */
export function readSocket(
  address: string,
  name: string,
  options: OptionReader,
  context: ListenerContext,
): Omit<SocketSettings, "kind" | "tls"> {
  const place = splitAddress(address) ?? { address: "", port: 0, unixSocket: false };
  return {
    name,
    address: place.unixSocket ? resolve(context.cwd, place.address) : place.address,
    port: place.port,
    unixSocket: place.unixSocket,
    maxConnections: options.int("max_connections"),
    proxyProtocol: options.flag("proxy_protocol"),
    proxyProtocolUseCnAsUsername: options.flag("proxy_protocol_use_cn_as_username"),
    maxRequestLineLength: options.int("max_request_line_length"),
    maxHeaderValueLength: options.int("max_header_value_length"),
  };
}

function pluginChain(options: OptionReader, option: string): readonly string[] | undefined {
  return options.value(option) === undefined ? undefined : options.texts(option);
}

/** Settings of a TLS listener. */
export function readTls(options: OptionReader, context: ListenerContext): TlsSettings {
  const file = (option: string) => {
    const path = options.text(option);
    return path === "" ? "" : resolve(context.cwd, path);
  };
  return Object.freeze({
    cafile: file("cafile"),
    certfile: file("certfile"),
    keyfile: file("keyfile"),
    keypasswd: options.text("keypasswd"),
    ciphers: options.texts("ciphers").join(":"),
    eccs: options.texts("eccs").map((curve) => OPENSSL_CURVES[curve] ?? curve),
    depth: options.int("depth"),
    versions: options.texts("tls_version"),
    crlfile: file("crlfile"),
    crlRefreshIntervalMs: globalInt(context, "crl_refresh_interval"),
    requireCertificate: options.flag("require_certificate"),
    useIdentityAsUsername: options.flag("use_identity_as_username"),
    handshakeTimeoutMs: Number(options.value("tls_handshake_timeout") ?? TLS_HANDSHAKE_TIMEOUT_MS),
    pskSupport: options.flag("psk_support"),
    pskfile: file("pskfile"),
    pskfileSeparator: options.text("pskfile_separator"),
    pskIdentityHint: options.text("psk_identity_hint"),
  });
}

function globalInt(context: ListenerContext, key: string): number {
  const row = rowOf(key);
  const text = context.settings.get(key)?.text ?? row?.default ?? "0";
  const reading = row === undefined ? undefined : readValue(row, text);
  return reading?.ok === true ? Number(reading.value) : 0;
}

/** Faults that show only when all options of a listener are known. */
function listenerComplaints(
  setting: Setting,
  listener: ListenerSettings,
  options: OptionReader,
  context: ListenerContext,
): Complaint[] {
  const complaints: Complaint[] = [];
  for (const option of ["auth_plugins", "authz_plugins"]) {
    const chain = options.written(option);
    if (chain === undefined) continue;
    const names = options.texts(option);
    for (const name of new Set(names)) {
      if (!context.isPluginEnabled(name)) {
        const wrong = `"${name}" is unknown or disabled, allowed: plugins that are on`;
        complaints.push({ setting: chain, wrong });
      }
      if (names.filter((other) => other === name).length > 1) {
        complaints.push({
          setting: chain,
          wrong: `"${name}" is there twice, allowed: each plugin once`,
        });
      }
    }
  }
  return [...complaints, ...tlsComplaints(setting, listener, options, context)];
}

/** Faults of a listener's TLS settings taken together; none without TLS. */
export function tlsComplaints(
  setting: Setting,
  { kind, name, tls }: SocketSettings,
  options: OptionReader,
  context: ListenerContext,
): Complaint[] {
  if (tls === undefined) return [];
  const complaints: Complaint[] = [];
  for (const [option, path] of [
    ["certfile", tls.certfile],
    ["keyfile", tls.keyfile],
  ]) {
    if (path !== "" || tls.pskSupport || options.isMentioned(option)) continue;
    const wrong = `a TLS listener needs listener.${kind}.${name}.${option} (or listener.${kind}.${option})`;
    complaints.push({ setting, wrong });
  }
  const problem = tls.pskSupport ? fileProblem(tls.pskfile, context.cwd) : undefined;
  if (problem !== undefined) {
    const decisive = options.written("pskfile") ?? options.written("psk_support") ?? setting;
    complaints.push({ setting: decisive, wrong: `pskfile: ${problem}` });
  }
  if (tls.requireCertificate && tls.cafile === "") {
    const decisive = options.written("require_certificate") ?? setting;
    complaints.push({
      setting: decisive,
      wrong: "client certificates need a cafile to be checked",
    });
  }
  return complaints;
}
