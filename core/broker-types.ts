import type { AnyPlugin, PluginCommand } from "./hooks/define-plugin.ts";
import type { ExplainQuery, Explanation, ShownLink, Unreachable } from "./hooks/explain.ts";

/** What a caller may ask of `createBroker`. */
export interface BrokerOptions {
  /** vernemq.conf keys with their text values; they win over the file, as `--set` does. */
  settings?: Readonly<Record<string, string>>;
  /** A vernemq.conf; without one the settings alone count (no default listeners, environment ignored). */
  configFile?: string;
  /** Folder of the embedded store; without one messages live in memory. */
  dataDir?: string;
  /** Plugins of the program, made with `definePlugin` or plain `{ name, hooks }`. */
  plugins?: readonly AnyPlugin[];
  /** Log level of the console, default `error` for embedded brokers. */
  logLevel?: "silent" | "error" | "warn" | "info" | "debug";
}

/** One client as `session show` sees it. */
export interface SessionInfo {
  client_id: string;
  mountpoint: string;
  user: string | undefined;
  is_online: boolean;
  peer_host: string | undefined;
  peer_port: number | undefined;
  protocol: number;
  clean_session: boolean;
  /** Messages waiting, in memory and in the store, without those in flight. */
  queue_size: number;
  inflight: number;
  subscriptions: { topic: string; qos: number }[];
}

/** Handles plugins while the broker runs; no client's connection is touched. */
export interface PluginControl {
  /** Loads and starts a bundled plugin, or the one at `path`; it goes to the end of the chains. */
  enable(name: string, path?: string): Promise<void>;
  /** False = no such plugin. */
  disable(name: string): boolean;
  /** Loads a plugin's files again in its place; rejects and keeps the old version when that fails. */
  reload(name: string): Promise<void>;
  /** Each hook's chain in call order. */
  show(filter?: { plugin?: string; hook?: string }): ShownLink[];
  /** Asks a chain without a client: what each plugin says to this request. */
  explain(query: ExplainQuery): Promise<Explanation>;
  /** Plugins that are never asked, since one before them always answers. */
  unreachable(): Unreachable[];
  /** Commands that plugins added to `vmq-admin`. */
  commands(): PluginCommand[];
}

/** A running broker. */
export interface Broker {
  /** Bound port of the first listener of a kind, or of the one with that name. */
  port(kind?: "tcp" | "ssl" | "ws" | "wss" | "http" | "https", name?: string): number;
  /** Counters summed over labels by VerneMQ's metric name, such as `queue_message_drop`. */
  metrics(): Record<string, number>;
  /** Series with labels, keys like `mqtt_connack_sent{mqtt_version="5",reason_code="success"}`. */
  metricSeries(): Record<string, number>;
  sessions(): SessionInfo[];
  /** `session disconnect`: 0x98; with cleanup also queue and subscriptions go. False = no such client. */
  disconnectClient(clientId: string, options?: { mountpoint?: string; cleanup?: boolean }): boolean;
  /** `session reauthorize`: asks the subscribe hooks again for each stored subscription. */
  reauthorize(
    clientId: string,
    options?: { mountpoint?: string; username?: string },
  ): Promise<{ removed: string[]; added: string[] }>;
  retained(mountpoint?: string): { topic: string; payload: Buffer; qos: number }[];
  deleteRetained(topic: string, mountpoint?: string): boolean;
  /** Changes a live setting, as `vmq-admin set`. */
  set(key: string, value: string): void;
  stopListener(kind: string, name: string, options?: { killSessions?: boolean }): Promise<boolean>;
  /** Adds a plugin of the program that needs no start, at the end of the chains. */
  enablePlugin(plugin: AnyPlugin): void;
  disablePlugin(name: string): boolean;
  /** Plugins as `vmq-admin plugin` handles them. */
  readonly plugins: PluginControl;
  /**
   * Runs an admin command as typed after `vmq-admin`. One that goes on until it is interrupted, such as
   * `trace client`, needs `say` for what it tells and a `signal` that ends it.
   */
  control(
    command: string,
    args: readonly string[],
    options?: { readonly say?: (text: string) => void; readonly signal?: AbortSignal },
  ): Promise<{ exit: number; stdout: string; stderr: string }>;
  /** Stops listening, DISCONNECT 0x8B to v5 clients, flushes and closes the store. */
  close(): Promise<void>;
}
