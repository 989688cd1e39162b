import type { ConfigValue } from "../config/types.ts";
import type { Peer } from "../listeners/types.ts";
import type { Logger } from "../logger.ts";
import type { Later } from "./later.ts";
import type { PluginSession, PluginSessionOptions } from "./plugin-session.ts";
import type { PluginSettings, SettingValues } from "./plugin-settings.ts";
import type {
  ConditionalHook,
  HookAnswers,
  HookArgs,
  HookName,
  HookProperties,
  Verdict,
} from "./types.ts";

export type * from "./plugin-session.ts";

/**
 * Facts about one client, kept with its session from auth_on_register on: whatever a plugin puts in,
 * later hooks of the same client find. All plugins share it: use a key of your own.
 */
export type SessionContext = Record<string, unknown>;

/** Hooks without a session of their own: they may speak of clients that are not connected. */
type WithoutContext =
  | "on_topic_unsubscribed"
  | "on_offline_message"
  | "on_message_drop"
  | "on_client_wakeup"
  | "on_session_expired"
  | "change_config";

export type PluginHookArgs<H extends HookName> = H extends WithoutContext
  ? HookArgs[H]
  : HookArgs[H] & { readonly context: SessionContext };

/** The function of one hook. Answer without a promise where you can: it costs the least. */
export type PluginHook<H extends HookName> = H extends ConditionalHook
  ? (
      args: PluginHookArgs<H>,
    ) =>
      | Verdict<HookAnswers[H]>
      | Promise<Verdict<HookAnswers[H]>>
      | Pick<Later<Verdict<HookAnswers[H]>>, "then">
  : (args: PluginHookArgs<H>) => void | Promise<void>;

export type PluginHookTable = { readonly [H in HookName]?: PluginHook<H> };

/** A message as a plugin publishes or receives it. */
export interface PluginMessage {
  topic: string;
  payload: Buffer | string;
  /** Default 0. */
  qos?: 0 | 1 | 2;
  /** Default false. */
  retain?: boolean;
  /** Default "". */
  mountpoint?: string;
  /** MQTT 5 properties under their plugin names. */
  properties?: HookProperties;
}

/** A client without a connection, in whose name a plugin publishes. */
export interface PublishingClient {
  readonly clientId: string;
  readonly username?: string | undefined;
  readonly password?: Buffer | undefined;
  /** Where its request came from. */
  readonly peer: Peer;
}

/** What became of a message that was published in the name of a client. */
export type ClientPublishResult =
  | { result: "published" }
  | { result: "topic_invalid" }
  | { result: "properties_invalid" }
  | { result: "not_authenticated" }
  | { result: "not_authorized" }
  | { result: "too_large" };

/** A path that the HTTP listeners serve where their `http_modules` name it. */
export interface PluginHttpModule {
  /** As in `http_modules`. */
  readonly name: string;
  /** The whole path, such as `/restmqtt/api/v1/publish`. */
  readonly path: string;
  /** Others are answered with 405. */
  readonly methods: readonly string[];
  /** Others are answered with 415; undefined = any. */
  readonly contentTypes?: readonly string[];
  /** Scope of API keys for it, where `http_module.<name>.auth.mode = apikey`, the default. */
  readonly scope: string;
  /** Longest body in bytes, default 65 536; more is answered with 413. */
  readonly bodyBytesMax?: number;
  /** Called for requests that access control let in. An error is logged and answered with 500. */
  handle(request: PluginHttpRequest): PluginHttpResponse | Promise<PluginHttpResponse>;
}

export interface PluginHttpRequest {
  readonly method: string;
  readonly path: string;
  /** Behind the question mark, as it came. */
  readonly query: string;
  /** Names in lower case. */
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  readonly body: Buffer;
  readonly peer: Peer;
  /** `listener.<kind>.<name>`. */
  readonly listener: { readonly kind: "http" | "https"; readonly name: string };
}

export interface PluginHttpResponse {
  readonly status: number;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: string | Buffer;
}

/** What a plugin may ask of the broker. Only `publishAs` asks hooks. */
export interface PluginBroker {
  /** Routes a message to all subscribers; resolves when it is stored for the persistent ones. */
  publish(message: PluginMessage): Promise<void>;
  /**
   * As if the client had connected and published it: auth_on_register decides about the client (not
   * with `allow_anonymous = on`), auth_on_publish about the message, on_publish hears of it. Both are
   * asked as for a 3.1.1 client with a clean session. Their modifiers are obeyed.
   */
  publishAs(client: PublishingClient, message: PluginMessage): Promise<ClientPublishResult>;
  /** Hands every message on a filter to the plugin; gives the function that ends it. */
  subscribe(
    filter: string,
    receive: (message: Required<PluginMessage> & { payload: Buffer }) => void,
    options?: { mountpoint?: string },
  ): () => void;
  /** A persistent session of the plugin's own, for a peer that it speaks to. Throws when the id is taken. */
  session(options: PluginSessionOptions): PluginSession;
  /** Removes the plugin's sessions of earlier starts that it has not asked for again; gives their ids. */
  removeOldSessions(): string[];
  /** Ends a client's session (v5: reason 0x98); with `cleanup` its state goes too. False = no such client. */
  disconnect(clientId: string, options?: { mountpoint?: string; cleanup?: boolean }): boolean;
  /** Asks the subscribe hooks again for each subscription of a client. */
  reauthorise(
    clientId: string,
    options?: { mountpoint?: string; username?: string },
  ): Promise<{ removed: string[]; added: string[] }>;
}

/** Rows of a command's answer, for people a table, in JSON objects by column name. */
export interface PluginTable {
  readonly columns: readonly string[];
  /** Undefined and null are shown as words and are null in JSON. */
  readonly rows: readonly (readonly (string | number | boolean | null | undefined)[])[];
}

/** A refusal in words, such as `can't register endpoint`; the exit code stays 0. */
export interface PluginAlert {
  readonly alert: string;
}

/** What a command answers: text, a table, a refusal, or several of them. */
export type PluginAnswer = string | PluginTable | PluginAlert | readonly PluginAnswer[];

/** A `key=value` argument or a `--flag` of a plugin's command. */
export interface PluginParameter {
  readonly name: string;
  /** Flags only: one letter, `-n`. */
  readonly short?: string;
  /** What stands for its value in the help; undefined = a flag without a value. */
  readonly value?: string;
  /** Arguments only: without it the command answers with its usage. */
  readonly isRequired?: true;
  readonly help: string;
  /** Says whether a value can be one; others are refused before the command runs. */
  readonly isValid?: (value: string) => boolean;
}

/** An admin command of a plugin: `vmq-admin <path> name=value ... --flag ...`. */
export interface PluginCommand {
  /** Words that name it, such as `["acl", "test"]`. */
  readonly path: readonly string[];
  /**
   * The path with its arguments, such as `acl test topic=T [--write]`. Where `args` and `flags` are
   * absent, they are read from it: `name=` is an argument, `--name` a flag.
   */
  readonly usage: string;
  readonly help: string;
  /** Arguments with their meaning. */
  readonly args?: readonly PluginParameter[];
  /** Arguments that may be typed without their names, in this order, behind the path. */
  readonly words?: readonly string[];
  /** Any `key=value` is an argument, such as a setting; the help names them so. */
  readonly anyArgs?: string;
  /** Flags with their meaning. */
  readonly flags?: readonly PluginParameter[];
  /**
   * Arguments and flags by name, a flag without value as "". An Error's message is printed with exit
   * code 1.
   */
  run(args: ReadonlyMap<string, string>): PluginAnswer | Promise<PluginAnswer>;
}

/** Everything the broker gives a plugin. */
export interface PluginContext<S extends PluginSettings = PluginSettings> {
  readonly name: string;
  /** Lines carry `plugin=<name>`. Passwords and payloads are never written. */
  readonly log: Logger;
  /** The plugin's settings; each read gives what is in force now. */
  readonly settings: SettingValues<S>;
  /** True when somebody wrote the setting, false for its default. */
  isSet(setting: keyof S & string): boolean;
  /** Any other key of the configuration, such as `topic_max_depth`. */
  config(key: string): ConfigValue;
  /**
   * Reads a text as the value of a key, without one its default; throws naming both when it is none.
   * Nothing is changed.
   */
  readValue(key: string, text?: string): ConfigValue;
  /** Keys written below a prefix, such as `vmq_bridge.`, in the order of the file. */
  keysBelow(prefix: string): string[];
  /** A key as messages name it: `vernemq.conf:12: key`, or the key alone when it is in no file. */
  originOf(key: string): string;
  /** Resolves a path of the configuration as the broker does: from its working directory. */
  resolvePath(path: string): string;
  readonly metrics: {
    /** A number that only grows, in `broker.metrics()` under this name; begin it with the plugin's name. */
    counter(name: string): { increment(by?: number): void };
    /**
     * A number that is read when somebody asks for metrics, with type counter one that only grows; gives
     * the function that removes it.
     */
    gauge(
      name: string,
      read: () => number,
      options?: { labels?: Readonly<Record<string, string>>; type?: "counter" | "gauge" },
    ): () => void;
  };
  readonly broker: PluginBroker;
  /** As the global functions, but they end with the plugin and an error in them is only logged. */
  setTimeout(run: () => unknown, ms: number): NodeJS.Timeout;
  setInterval(run: () => unknown, ms: number): NodeJS.Timeout;
  /** Adds a path to the HTTP listeners that name the module; only in `start`. */
  http(module: PluginHttpModule): void;
  /** Adds an admin command that lives as long as the plugin. */
  command(command: PluginCommand): void;
  /**
   * Tells which hooks of this plugin never answer `next` and why, so that the broker can warn about
   * plugins behind it that are never asked. Replaces what was told before.
   */
  settlesAll(hooks: readonly HookName[], why: string): void;
  /**
   * Replaces the plugin's hooks between two calls, for a plugin whose own plugins come and go. Only
   * while it runs: in `start` it has no effect, since `hooks` is asked afterwards.
   */
  setHooks(hooks: PluginHookTable): void;
}

/** The part of the context that reads the configuration. */
export type SettingsContext = Pick<
  PluginContext,
  "config" | "readValue" | "keysBelow" | "originOf" | "resolvePath"
>;

/** What `definePlugin` takes. */
export interface PluginDefinition<S extends PluginSettings = PluginSettings> {
  /** As in `plugins.<name> = on`. */
  readonly name: string;
  readonly settings?: S;
  /** Where `plugins.<name>.priority` and its like are not written. */
  readonly priority?: number;
  /** 0: the plugin answers every call in time by itself. */
  readonly hookTimeoutMs?: number;
  readonly onError?: "deny" | "next";
  readonly v5Compat?: boolean;
  readonly isPipelined?: boolean;
  /** The hooks, or a function that makes them when the plugin starts, after `start`. */
  readonly hooks: PluginHookTable | ((context: PluginContext<S>) => PluginHookTable);
  /**
   * Called by `vernemq config check`: throws an Error with what is wrong, a line each, and starts
   * nothing.
   */
  check?(context: SettingsContext): void | Promise<void>;
  /**
   * Called once before the first hook; the broker waits for it. An error keeps the plugin off. Several
   * brokers of one process share a definition: keep state by context.
   */
  start?(context: PluginContext<S>): void | Promise<void>;
  /** Called when the plugin goes, after its last running hook has answered. */
  stop?(context: PluginContext<S>): void | Promise<void>;
}

/**
 * A definition whose settings are anybody's: what the broker works with. Methods keep it assignable
 * from every definition.
 */
export interface AnyPlugin {
  readonly name: string;
  readonly settings?: PluginSettings;
  readonly hooks: object;
  readonly priority?: number;
  readonly hookTimeoutMs?: number;
  readonly onError?: "deny" | "next";
  readonly v5Compat?: boolean;
  readonly isPipelined?: boolean;
  check?(context: SettingsContext): void | Promise<void>;
  start?(context: never): void | Promise<void>;
  stop?(context: never): void | Promise<void>;
}

/** Marks what `definePlugin` made, also across two copies of this module. */
const DEFINED = Symbol.for("nautilus-mq.plugin");

/**
 * Makes a plugin; its module exports it as default:
 *
 *     export default definePlugin({ name: "mine", hooks: { auth_on_publish: ({ topic }) => "ok" } });
 */
export function definePlugin<const S extends PluginSettings = Record<never, never>>(
  definition: PluginDefinition<S>,
): PluginDefinition<S> {
  return Object.defineProperty({ ...definition }, DEFINED, { value: true });
}

/** True for what `definePlugin` gave. */
export function isDefinedPlugin(value: unknown): value is AnyPlugin {
  return typeof value === "object" && value !== null && DEFINED in value;
}
