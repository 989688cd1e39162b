/** Settings of bridges: `vmq_bridge.<tcp|ssl>.<name>` and the keys below it. */
import { hostname } from "node:os";
import { errorMessage, type SettingsContext } from "../../core/plugin-api.ts";
import { parseRule, ruleFault, type TopicRule } from "./rules.ts";

export type Transport = "tcp" | "ssl";

export interface TlsOptions {
  readonly cafile: string;
  readonly capath: string;
  readonly certfile: string;
  readonly keyfile: string;
  readonly isVerified: boolean;
  readonly versions: readonly string[];
  /** Certificates that may stand between the server's and a root. */
  readonly depth: number;
  /** Server name of the handshake and of the host name check; "" = the host. */
  readonly serverName: string;
  readonly psk: { readonly identity: string; readonly key: Buffer } | undefined;
}

export interface BridgeSettings {
  readonly name: string;
  readonly transport: Transport;
  /** As written, for `bridge show`. */
  readonly endpoint: string;
  readonly host: string;
  readonly port: number;
  readonly family: 4 | 6;
  readonly clientId: string;
  readonly isClean: boolean;
  readonly keepAliveS: number;
  readonly username: string | undefined;
  readonly password: string | undefined;
  readonly mountpoint: string;
  readonly restartTimeoutS: number;
  readonly connectTimeoutS: number;
  readonly retryIntervalS: number;
  readonly tryPrivate: boolean;
  readonly version: 3 | 4 | 5;
  readonly loopProtection: "auto" | "on" | "off";
  /** `max_outgoing_buffered_messages` without the part for PUBREL. */
  readonly bufferMax: number;
  /** `persistent_queue`: QoS 0 messages survive a restart, too. */
  readonly isPersistent: boolean;
  /** The most that may be unacknowledged: `outgoing_batch_size`, or less. */
  readonly window: number;
  readonly rules: readonly TopicRule[];
  /** Rules that cannot be used, with the reason. */
  readonly skipped: readonly string[];
  readonly tls: TlsOptions | undefined;
}

/** What was changed at run time: keys with their texts, undefined = removed. */
export type Overrides = ReadonlyMap<string, string | undefined>;

/** Where `outgoing_batch_size` is not written: what keeps a fast remote broker busy. */
const WINDOW = 1000;
/**
 * MQTT 3 has no Receive Maximum: Mosquitto ends a connection with more unreleased QoS 2 messages than its
 * `max_inflight_messages`, of which this is the default.
 */
const WINDOW_QOS2 = 20;

const PORTS = { tcp: 1883, ssl: 8883 } as const;

/** Reads all bridges; throws an Error that names the key at fault. */
export function readBridges(context: SettingsContext, overrides: Overrides): BridgeSettings[] {
  const keys = new Set(context.keysBelow("vmq_bridge."));
  for (const [key, text] of overrides) {
    if (text === undefined) keys.delete(key);
    else keys.add(key);
  }
  const heads = [...keys].filter((key) => /^vmq_bridge\.(tcp|ssl)\.[^.]+$/.test(key));
  for (const key of keys) {
    const head = key.split(".").slice(0, 3).join(".");
    // A bridge that was removed takes its keys with it.
    if (keys.has(head) || (overrides.has(head) && !overrides.has(key))) continue;
    throw new Error(`${context.originOf(key)}: there is no ${head} = HOST:PORT for this bridge`);
  }
  return heads.map((head) => new Reader(context, overrides, keys, head).read());
}

class Reader {
  private readonly context: SettingsContext;
  private readonly overrides: Overrides;
  private readonly keys: ReadonlySet<string>;
  private readonly head: string;

  constructor(context: SettingsContext, overrides: Overrides, keys: Set<string>, head: string) {
    this.context = context;
    this.overrides = overrides;
    this.keys = keys;
    this.head = head;
  }

  read(): BridgeSettings {
    const [, transport, name = ""] = this.head.split(".") as [string, Transport, string];
    const { host, port } = this.endpoint(transport);
    const id = this.text("client_id");
    const buffered = this.number("max_outgoing_buffered_messages");
    const { rules, skipped } = this.rules();
    return {
      name,
      transport,
      endpoint: `${host.includes(":") ? `[${host}]` : host}:${port}`,
      host,
      port,
      family: this.text("inet_version") === "inet6" ? 6 : 4,
      clientId: id === "auto" || id === "" ? `${hostname()}.${name}` : id,
      isClean: this.flag("cleansession"),
      keepAliveS: this.number("keepalive_interval"),
      username: this.text("username") || undefined,
      password: this.text("password") || undefined,
      mountpoint: this.text("mountpoint").replace(/\/$/, ""),
      restartTimeoutS: Math.max(1, this.number("restart_timeout")),
      connectTimeoutS: this.number("connect_timeout"),
      retryIntervalS: this.number("retry_interval"),
      tryPrivate: this.flag("try_private"),
      version: Number(this.text("mqtt_version")) as 3 | 4 | 5,
      loopProtection: this.text("loop_protection") as "auto" | "on" | "off",
      bufferMax: Math.floor((buffered * (100 - this.number("pubrel_queue_ratio"))) / 100),
      isPersistent: this.flag("persistent_queue"),
      window: this.window(rules),
      rules,
      skipped,
      tls: transport === "ssl" ? this.tls() : undefined,
    };
  }

  /** `host:port`, `[::1]:port`, or a host alone. */
  private endpoint(transport: Transport): { host: string; port: number } {
    const text = this.text();
    const found = /^(?:\[([^\]]+)\]|([^:]+))(?::(\d+))?$/.exec(text.trim());
    const port = Number(found?.[3] ?? PORTS[transport]);
    const host = found?.[1] ?? found?.[2];
    if (host === undefined || port < 1 || port > 65_535) {
      throw this.fault("", `"${text}" is not HOST:PORT, an IPv6 address goes in brackets`);
    }
    return { host, port };
  }

  private window(rules: readonly TopicRule[]): number {
    // Differs from VerneMQ: also the window of messages that did not wait, which has none there.
    const isWritten = this.keys.has(`${this.head}.outgoing_batch_size`);
    const size = isWritten ? this.number("outgoing_batch_size") : WINDOW;
    const window = Math.min(65_535, Math.max(1, size));
    const hasQos2 = rules.some(({ direction, qos }) => direction !== "in" && qos === 2);
    const isTold = this.text("mqtt_version") === "5";
    return hasQos2 && !isTold ? Math.min(window, WINDOW_QOS2) : window;
  }

  private rules(): { rules: TopicRule[]; skipped: string[] } {
    const rules: TopicRule[] = [];
    const skipped: string[] = [];
    const depth = Number(this.context.config("topic_max_depth"));
    const prefix = `${this.head}.topic.`;
    const ids = [...this.keys]
      .filter((key) => key.startsWith(prefix))
      .map((key) => key.slice(prefix.length));
    for (const id of ids.sort((a, b) => Number(a) - Number(b))) {
      const option = `topic.${id}`;
      if (!/^[1-9]\d*$/.test(id)) throw this.fault(option, "topic rules have numbers from 1 on");
      const rule = this.rule(option);
      const fault = ruleFault(rule, depth);
      if (fault === undefined) rules.push(rule);
      else skipped.push(`${this.context.originOf(`${this.head}.${option}`)}: ${fault}`);
    }
    return { rules, skipped };
  }

  private rule(option: string): TopicRule {
    try {
      return parseRule(this.text(option));
    } catch (error) {
      throw this.fault(option, errorMessage(error));
    }
  }

  private tls(): TlsOptions {
    const { context } = this;
    const path = (option: string): string => {
      const text = this.text(option);
      return text === "" ? "" : context.resolvePath(text);
    };
    const versions = this.value("tls_version");
    const tls = {
      cafile: path("cafile"),
      capath: path("capath"),
      certfile: path("certfile"),
      keyfile: path("keyfile"),
      isVerified: !this.flag("insecure"),
      versions: Array.isArray(versions) ? versions.map(String) : ["tlsv1.2"],
      depth: this.number("depth"),
      serverName: this.text("sni"),
      psk: this.psk(),
    };
    if ((tls.certfile === "") !== (tls.keyfile === "")) {
      const missing = tls.certfile === "" ? "certfile" : "keyfile";
      throw this.fault(missing, "certfile and keyfile go together");
    }
    return tls;
  }

  private psk(): TlsOptions["psk"] {
    const [identity, key] = [this.text("identity"), this.text("psk")];
    if (identity === "" && key === "") return undefined;
    if (identity === "" || key === "") {
      throw this.fault(identity === "" ? "identity" : "psk", "identity and psk go together");
    }
    if (!/^([0-9a-f]{2})+$/i.test(key)) {
      throw this.fault("psk", "is not an even number of hex digits, without 0x");
    }
    return { identity, key: Buffer.from(key, "hex") };
  }

  private fault(option: string, reason: string): Error {
    const key = option === "" ? this.head : `${this.head}.${option}`;
    return new Error(`${this.context.originOf(key)}: ${reason}`);
  }

  private value(option = ""): unknown {
    const key = option === "" ? this.head : `${this.head}.${option}`;
    // The configuration gives no default for a bridge that it does not know.
    const written = this.overrides.has(key) ? undefined : this.context.config(key);
    return written ?? this.context.readValue(key, this.overrides.get(key));
  }

  private text(option = ""): string {
    const value = this.value(option);
    return value === undefined ? "" : String(value);
  }

  private number(option: string): number {
    return Number(this.value(option) ?? 0);
  }

  private flag(option: string): boolean {
    return this.value(option) === true;
  }
}

/** The settings as a text that two readings have in common when nothing changed. */
export function fingerprint(settings: BridgeSettings): string {
  return JSON.stringify(settings);
}
