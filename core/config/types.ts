import type { HttpListenerSettings, ListenerSettings } from "../listeners/types.ts";
import type { SchemaRow } from "./schema.ts";

/** A setting that somebody wrote, with its text after substitution. */
export interface WrittenSetting {
  readonly key: string;
  readonly row: SchemaRow;
  readonly text: string;
  readonly origin: Origin;
}

/** Where a value came from, for `config show --effective` and error messages. */
export type Origin =
  | { kind: "default" }
  | { kind: "file"; file: string; line: number }
  | { kind: "environment"; variable: string }
  | { kind: "set" };

export type ConfigValue = string | number | boolean | readonly (string | number)[] | undefined;

/** Checked configuration. Accessors throw on an unknown key or a wrong type: that is a programmer's mistake. */
export interface Config {
  /** A flag (`on`/`off`) as boolean. */
  flag(key: string): boolean;
  /** An integer, byte size (bytes), percent or duration (seconds) as number; literals such as `infinity`, `never` or `client` as documented at the schema row. */
  int(key: string): number;
  /** An enum, string, file or directory as text; "" when unset. */
  text(key: string): string;
  list(key: string): readonly (string | number)[];
  /** Raw typed value of any key, also of a free-name key such as `plugins.foo.path`; undefined when unset. */
  value(key: string): ConfigValue;
  /** Every key that is set or has a default, with its origin. */
  entries(): IterableIterator<{ key: string; value: ConfigValue; origin: Origin }>;
  /** Keys set below a prefix, such as `plugins.`, in file order. */
  keysBelow(prefix: string): string[];
  /**
   * Reads a text as the value of a key, without one its default; changes nothing. Throws a coded error
   * naming the key.
   */
  read(key: string, text?: string): ConfigValue;
  /** A key as messages name it: `vernemq.conf:12: key`, or the key alone when it is in no file. */
  originOf(key: string): string;
  /** MQTT listeners (tcp, ssl, ws, wss) with inheritance applied. */
  readonly listeners: readonly ListenerSettings[];
  /** HTTP listeners (http, https) with inheritance applied. */
  readonly httpListeners: readonly HttpListenerSettings[];
  /** True when no configuration file was given or found. */
  readonly isFirstRun: boolean;
  readonly dataDir: string;
  /** Changes a live (`runtime_settable`) setting; throws a coded error naming the key otherwise. */
  set(key: string, text: string): void;
  /** Throws what `set` would throw, and changes nothing. */
  check(key: string, text: string): void;
  /** The row of a key; undefined = no such setting. */
  rowOf(key: string): SchemaRow | undefined;
  /** Settings that somebody wrote, in the order in which they count. */
  written(): WrittenSetting[];
  /** True when somebody wrote the key; false for its default. */
  isWritten(key: string): boolean;
  /** What relative paths start from. */
  readonly cwd: string;
  /**
   * Adds the settings of a plugin that is switched on or reloaded while the broker runs, and checks
   * what was written for it; throws CONFIG_VALUE_REFUSED and changes nothing if that is wrong.
   */
  addRows(rows: readonly SchemaRow[]): void;
  /** Called after a live setting changed. */
  onChange(listener: (key: string) => void): void;
}
