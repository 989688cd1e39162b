import { isIP } from "node:net";
import { loadConfig } from "../../config/load.ts";
import type { Config } from "../../config/types.ts";
import { errorMessage, NautilusError } from "../../errors.ts";
import type { AnyListenerSettings, Listener } from "../../listeners/types.ts";
import {
  BadCommand,
  type Call,
  type Command,
  hasFlag,
  isBoolean,
  isInt,
  type Parameter,
} from "../command.ts";
import { alert, type Cell, DONE, type Element, table } from "../elements.ts";
import { isMqtt, LISTENER_TYPES } from "../listener-control.ts";
import { pidOf } from "../session-rows.ts";
import type { AdminTarget } from "../target.ts";

const PLACE: readonly Parameter[] = [
  {
    name: "address",
    value: "IpAddr",
    isRequired: true,
    help: "IP address, or local:/path of a unix socket",
    isValid: (value) => isIP(value) !== 0 || value.startsWith("local:"),
  },
  {
    name: "port",
    value: "Port",
    isRequired: true,
    help: "port, 0 for a unix socket",
    isValid: (value) => isInt(value) && Number(value) <= 65_535,
  },
];

const isCountOrInfinity = (value: string): boolean => isInt(value) || value === "infinity";

/** Flags that are options of `listener.<kind>.<name>` under the same name. */
const OPTIONS: readonly Parameter[] = [
  { name: "mountpoint", short: "m", value: "Mountpoint", help: "mountpoint of its clients" },
  {
    name: "max_connections",
    value: "Number|infinity",
    help: "connections at a time",
    isValid: isCountOrInfinity,
  },
  { name: "nr_of_acceptors", value: "Number", help: "accepted, without effect", isValid: isInt },
  {
    name: "tls_handshake_timeout",
    value: "Milliseconds|infinity",
    help: "limit of a TLS handshake",
    isValid: isCountOrInfinity,
  },
  {
    name: "allowed_protocol_versions",
    value: "3,4,5",
    help: "versions of MQTT, by default 3,4",
    isValid: (value) => /^\d+(,\d+)*$/.test(value),
  },
  flag("allow_anonymous_override", "clients need no user name here"),
  { name: "auth_plugins", value: "[a,b]", help: "plugins asked who may connect here" },
  { name: "authz_plugins", value: "[a,b]", help: "plugins asked about messages here" },
  flag("proxy_protocol_use_cn_as_username", "user name from the PROXY header"),
  flag("proxy_xff_support", "addresses from X-Forwarded-For"),
  { name: "proxy_xff_trusted_intermediate", value: "Addresses", help: "proxies that are believed" },
  flag("proxy_xff_use_cn_as_username", "user name from a header of the proxy"),
  { name: "proxy_xff_cn_header", value: "Header", help: "that header" },
  file("cafile", "certificate authorities"),
  file("certfile", "certificate"),
  file("keyfile", "its key"),
  file("pskfile", "pre-shared keys"),
  file("crlfile", "revoked certificates"),
  { name: "keypasswd", value: "Text", help: "password of the key file" },
  { name: "ciphers", value: "List", help: "ciphers" },
  { name: "eccs", value: "List", help: "curves" },
  flag("psk_support", "pre-shared keys are accepted"),
  flag("require_certificate", "clients need a certificate"),
  flag("use_identity_as_username", "user name from the certificate"),
  flag("forward_connection_opts", "plugins see the certificate"),
  { name: "tls_version", value: "tlsv1.2,...", help: "versions of TLS" },
  { name: "http_modules", value: "[a,b]", help: "modules of an HTTP listener" },
];

/** Flags that VerneMQ's HTTP listeners need and that say nothing here. */
const IGNORED: ReadonlySet<string> = new Set(["nr_of_acceptors"]);

const KIND_FLAGS: readonly Parameter[] = [
  { name: "websocket", help: "MQTT over WebSocket" },
  { name: "http", help: "HTTP" },
  { name: "ssl", help: "with TLS" },
  { name: "proxy_protocol", help: "connections begin with a PROXY header" },
  { name: "config_mod", value: "Module", help: "accepted, without effect" },
  { name: "config_fun", value: "Function", help: "accepted, without effect" },
];

function flag(name: string, help: string): Parameter {
  return { name, value: "true|false", help, isValid: isBoolean };
}

function file(name: string, help: string): Parameter {
  return { name, value: "File", help, isPath: true };
}

const KILL: Parameter = {
  name: "kill_sessions",
  short: "k",
  help: "ends its connections and removes the listener",
};

/** `vmq-admin listener ...` */
export function listenerCommands(target: AdminTarget): Command[] {
  const { listeners } = target;
  return [
    {
      path: ["listener", "show"],
      help: "shows listeners and their connections",
      flags: [
        { name: "tls", short: "t", help: "with their TLS settings" },
        { name: "mqtt", short: "m", help: "with their MQTT settings" },
      ],
      run: (call) => [shown(listeners.all(), hasFlag(call, "tls"), hasFlag(call, "mqtt"))],
    },
    {
      path: ["listener", "start"],
      help: "starts a listener, until the next restart",
      details:
        "MQTT over TCP without --websocket or --http. All options have their usual defaults.",
      args: PLACE,
      flags: [...KIND_FLAGS, ...OPTIONS],
      run: (call) => start(target, call),
    },
    {
      path: ["listener", "stop"],
      help: "stops accepting; open connections stay",
      args: PLACE,
      flags: [KILL],
      run: async (call) => {
        const listener = at(target, call);
        await listeners.stop(listener, hasFlag(call, "kill_sessions"));
        return DONE;
      },
    },
    {
      path: ["listener", "restart"],
      help: "accepts again after a stop",
      args: PLACE,
      run: async (call) => {
        try {
          await listeners.restart(at(target, call));
          return DONE;
        } catch (error) {
          return [alert(`can't restart listener due to '${errorMessage(error)}'`)];
        }
      },
    },
    {
      path: ["listener", "delete"],
      help: "removes a listener; open connections stay",
      args: PLACE,
      run: async (call) => {
        const [address, port] = placeOf(call);
        const listener = listeners.at(address, port);
        if (listener !== undefined) await listeners.remove(listener);
        return DONE;
      },
    },
  ];
}

function placeOf({ args }: Call): [address: string, port: number] {
  const address = args.get("address") ?? "";
  return [address.replace(/^local:/, ""), Number(args.get("port"))];
}

function at({ listeners }: AdminTarget, call: Call): Listener {
  const [address, port] = placeOf(call);
  const found = listeners.at(address, port);
  if (found !== undefined) return found;
  throw new NautilusError("NO_SUCH_LISTENER", { listener: `${address}:${port}` });
}

async function start(target: AdminTarget, call: Call): Promise<readonly Element[]> {
  const [address, port] = placeOf(call);
  const other = target.listeners.at(address, port);
  if (other !== undefined && port !== 0) {
    return [alert(`can't start listener due to '{already_started,${pidOf(other)}}'`)];
  }
  try {
    await target.listeners.start(settingsOf(target, call));
    return DONE;
  } catch (error) {
    if (error instanceof BadCommand) throw error;
    return [alert(`can't start listener due to '${errorMessage(error)}'`)];
  }
}

/** The settings such a listener would have in vernemq.conf, read and checked the same way. */
function settingsOf(
  { config, listeners, pluginManager }: AdminTarget,
  call: Call,
): AnyListenerSettings {
  const isHttp = hasFlag(call, "http");
  const isSecure = hasFlag(call, "ssl");
  const plain = isHttp ? "http" : hasFlag(call, "websocket") ? "ws" : "tcp";
  const kind = isSecure ? ({ http: "https", ws: "wss", tcp: "ssl" } as const)[plain] : plain;
  const [address, port] = placeOf(call);
  let number = 1;
  while (listeners.all().some(({ settings }) => settings.name === `admin${number}`)) number++;
  const name = `listener.${kind}.admin${number}`;
  const place = isIP(address) === 0 ? `local:${address}:0` : `${address}:${port}`;
  const values: Record<string, string> = { ...inherited(config), [name]: place };
  if (!isHttp) values[`${name}.allowed_protocol_versions`] = "3,4";
  if (hasFlag(call, "proxy_protocol")) values[`${name}.proxy_protocol`] = "on";
  const options = new Set(OPTIONS.map((option) => option.name));
  for (const { name: option, value } of call.flags) {
    if (value === undefined || !options.has(option) || IGNORED.has(option)) continue;
    values[`${name}.${option}`] = value === "true" ? "on" : value === "false" ? "off" : value;
  }
  const loaded = loadConfig({
    isEmbedded: true,
    values,
    cwd: config.cwd,
    plugins: pluginManager.list().map(({ plugin }) => plugin.name),
  });
  const [settings] = [...(loaded.config?.listeners ?? []), ...(loaded.config?.httpListeners ?? [])];
  if (settings !== undefined) return settings;
  throw new Error(loaded.errors.map((line) => line.replace(`--set ${name}.`, "")).join("; "));
}

/** What was written for all listeners. */
function inherited(config: Config): Record<string, string> {
  const values: Record<string, string> = {};
  for (const { key, row, text } of config.written()) {
    const isForAll = row.key.startsWith("listener.") && !row.key.includes("$");
    if (isForAll || /^http_modules?\b/.test(key)) values[key] = text;
  }
  return values;
}

/** All columns, as VerneMQ orders them. */
function shown(listeners: readonly Listener[], withTls: boolean, withMqtt: boolean): Element {
  const columns = [
    ...["type", "status", "address", "port", "mountpoint"],
    ...["max_conns", "active_conns", "all_conns"],
    ...(withTls
      ? [
          ...["tls_version", "certfile", "cafile", "keyfile", "require_certificate"],
          ...["use_identity_as_username", "psk_support", "pskfile"],
        ]
      : []),
    ...(withMqtt ? ["allowed_protocol_versions", "allow_anonymous_override"] : []),
  ];
  return table(
    columns,
    listeners.map(({ settings, boundPort, connections, isRunning }) => [
      LISTENER_TYPES[settings.kind],
      isRunning ? "running" : "suspended",
      settings.unixSocket ? `local:${settings.address}` : settings.address,
      String(boundPort || settings.port),
      isMqtt(settings) ? settings.mountpoint : "",
      Number.isFinite(settings.maxConnections) ? settings.maxConnections : "infinity",
      connections,
      connections,
      ...(withTls ? tlsCells(settings) : []),
      ...(withMqtt ? mqttCells(settings) : []),
    ]),
  );
}

function tlsCells({ tls }: AnyListenerSettings): Cell[] {
  if (tls === undefined) return ["", "", "", "", "", "", "", ""];
  return [
    tls.versions.join(", "),
    tls.certfile,
    tls.cafile,
    tls.keyfile,
    tls.requireCertificate,
    tls.useIdentityAsUsername,
    tls.pskSupport,
    tls.pskfile,
  ];
}

const VERSIONS: Readonly<Record<number, string>> = {
  3: "mqtt 3.1",
  4: "mqtt 3.1.1",
  5: "mqtt 5",
  131: "mqtt 3.1 (bridge)",
  132: "mqtt 3.1.1 (bridge)",
};

function mqttCells(settings: AnyListenerSettings): Cell[] {
  if (!isMqtt(settings)) return ["", ""];
  const versions = settings.allowedProtocolVersions.map((level) => VERSIONS[level] ?? level);
  return [versions.join(", "), settings.allowAnonymousOverride];
}
