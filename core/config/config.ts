import { NautilusError } from "../errors.ts";
import type { HttpListenerSettings, ListenerSettings } from "../listeners/types.ts";
import { checkValue } from "./checks.ts";
import { fillNames, keyWords, type Schema, type SchemaRow } from "./schema.ts";
import { type Support, supportOf } from "./support.ts";
import type { Config, ConfigValue, Origin, WrittenSetting } from "./types.ts";
import { unknownKey } from "./unknown-key.ts";
import { complaint, readValue } from "./values.ts";

/** One setting that was written, or that a start without a file adds. */
export interface Setting {
  readonly key: string;
  readonly row: SchemaRow;
  /** As written, after substitution. */
  readonly text: string;
  readonly value: ConfigValue;
  readonly origin: Origin;
}

/** A setting of which nothing is known yet. */
export type Unchecked = Pick<Setting, "key" | "text" | "origin">;

export interface ConfigParts {
  readonly schema: Schema;
  /** Written for plugins that are off: checked when one is switched on. */
  readonly unchecked: ReadonlyMap<string, Unchecked>;
  /** In the order in which they count; a key is there once. */
  readonly settings: ReadonlyMap<string, Setting>;
  readonly listeners: readonly ListenerSettings[];
  readonly httpListeners: readonly HttpListenerSettings[];
  readonly isFirstRun: boolean;
  readonly dataDir: string;
  readonly cwd: string;
}

/** The text of a value that a later feature accepts already, since it asks for nothing. */
export function isAcceptedEarly(row: SchemaRow, support: Support, value: ConfigValue): boolean {
  if (support.kind !== "later") return true;
  const accepted = support.accept ?? [row.default ?? "off", "off", ""];
  return accepted.some((text) => {
    const reading = readValue(row, text);
    return reading.ok && JSON.stringify(reading.value) === JSON.stringify(value);
  });
}

/** What may be written for now for a key of a later feature. */
export function acceptedEarlyText(row: SchemaRow, support: Support & { kind: "later" }): string {
  const accepted = support.accept ?? [row.default ?? "off"];
  if (accepted.length === 0) return "leaving it out";
  return accepted.map((text) => (text === "" ? "''" : text)).join(", ");
}

/** Checked configuration. Only live settings change, through `set`. */
export class LoadedConfig implements Config {
  readonly listeners: readonly ListenerSettings[];
  readonly httpListeners: readonly HttpListenerSettings[];
  readonly isFirstRun: boolean;
  readonly dataDir: string;
  readonly #settings: Map<string, Setting>;
  readonly cwd: string;
  readonly #unchecked: Map<string, Unchecked>;
  #schema: Schema;
  readonly #watchers: ((key: string) => void)[] = [];
  /** Names in use below a row's free name: "listener.tcp.$name" to its names. */
  readonly #names = new Map<string, Set<string>>();
  readonly #defaults = new Map<string, ConfigValue>();

  constructor(parts: ConfigParts) {
    this.listeners = parts.listeners;
    this.httpListeners = parts.httpListeners;
    this.isFirstRun = parts.isFirstRun;
    this.dataDir = parts.dataDir;
    this.#settings = new Map(parts.settings);
    this.cwd = parts.cwd;
    this.#schema = parts.schema;
    this.#unchecked = new Map(parts.unchecked);
    for (const setting of parts.settings.values()) {
      const family = familyOf(setting.row);
      if (family === undefined) continue;
      const names = this.#names.get(family) ?? new Set();
      names.add(keyWords(setting.key)[keyWords(family).length - 1] ?? "");
      this.#names.set(family, names);
    }
  }

  flag(key: string): boolean {
    const value = this.value(key);
    if (this.#schema.rowOf(key)?.type !== "flag") throw wrongType(key, "flag", value);
    return value === true;
  }

  int(key: string): number {
    const value = this.value(key);
    if (typeof value !== "number") throw wrongType(key, "number", value);
    return value;
  }

  text(key: string): string {
    const value = this.value(key);
    if (value === undefined) return "";
    if (typeof value === "string") return value;
    if (typeof value === "boolean") return value ? "on" : "off";
    throw wrongType(key, "text", value);
  }

  list(key: string): readonly (string | number)[] {
    const value = this.value(key);
    if (value === undefined) return [];
    if (!isList(value)) throw wrongType(key, "list", value);
    return value;
  }

  value(key: string): ConfigValue {
    const setting = this.#settings.get(key);
    if (setting !== undefined) return setting.value;
    const row = this.#schema.rowOf(key);
    if (row === undefined) throw new NautilusError("CONFIG_UNKNOWN_KEY", { key, reason: "" });
    return this.#isNameInUse(row, key) ? this.#defaultOf(row) : undefined;
  }

  *entries(): IterableIterator<{ key: string; value: ConfigValue; origin: Origin }> {
    for (const { key, value, origin } of this.settings()) yield { key, value, origin };
  }

  /** Every setting with its text: in schema order, written ones and defaults. */
  *settings(): IterableIterator<Setting> {
    const written = new Map<SchemaRow, Setting[]>();
    for (const setting of this.#settings.values()) {
      const others = written.get(setting.row) ?? [];
      others.push(setting);
      written.set(setting.row, others);
    }
    for (const row of this.#schema.rows) {
      yield* written.get(row) ?? [];
      if (row.default === undefined) continue;
      for (const key of this.#keysWithDefault(row)) {
        if (this.#settings.has(key)) continue;
        const value = this.#defaultOf(row);
        yield { key, row, text: row.default, value, origin: { kind: "default" } };
      }
    }
  }

  keysBelow(prefix: string): string[] {
    return [...this.#settings.keys()].filter((key) => key.startsWith(prefix));
  }

  originOf(key: string): string {
    const origin = this.#settings.get(key)?.origin;
    return origin?.kind === "file" ? `${origin.file}:${origin.line}: ${key}` : key;
  }

  set(key: string, text: string): void {
    this.#settings.set(key, this.#checked(key, text));
    for (const watcher of this.#watchers) watcher(key);
  }

  check(key: string, text: string): void {
    this.#checked(key, text);
  }

  rowOf(key: string): SchemaRow | undefined {
    return this.#schema.rowOf(key);
  }

  written(): WrittenSetting[] {
    return [...this.#settings.values()].filter(({ origin }) => origin.kind !== "default");
  }

  #checked(key: string, text: string): Setting {
    const row = this.#schema.rowOf(key);
    if (row === undefined) {
      throw new NautilusError("CONFIG_UNKNOWN_KEY", { key, reason: unknownKey(key, this.#schema) });
    }
    if (row.live !== true) throw new NautilusError("CONFIG_NOT_LIVE", { key });
    const value = this.read(key, text);
    const support = supportOf(row);
    if (support.kind === "later" && !isAcceptedEarly(row, support, value)) {
      throw refused(key, `"${text}" is not supported yet (${support.feature})`);
    }
    return { key, row, text, value, origin: { kind: "set" } };
  }

  read(key: string, text?: string): ConfigValue {
    const row = this.#schema.rowOf(key);
    if (row === undefined) {
      throw new NautilusError("CONFIG_UNKNOWN_KEY", { key, reason: unknownKey(key, this.#schema) });
    }
    if (text === undefined) return this.#defaultOf(row);
    const reading = readValue(row, text);
    if (!reading.ok) throw refused(key, complaint(row, reading));
    const problem = checkValue(row, text, this.cwd);
    if (problem !== undefined) throw refused(key, problem);
    return reading.value;
  }

  isWritten(key: string): boolean {
    const setting = this.#settings.get(key);
    return setting !== undefined && setting.origin.kind !== "default";
  }

  addRows(rows: readonly SchemaRow[]): void {
    const schema = this.#schema.with(rows);
    const found: Setting[] = [];
    for (const { key } of rows) {
      const raw = this.#unchecked.get(key) ?? this.#settings.get(key);
      const row = schema.rowOf(key);
      if (raw === undefined || row === undefined) continue;
      const reading = readValue(row, raw.text);
      if (!reading.ok) throw refused(key, complaint(row, reading));
      const problem = checkValue(row, raw.text, this.cwd);
      if (problem !== undefined) throw refused(key, problem);
      found.push({ key, text: raw.text, origin: raw.origin, row, value: reading.value });
    }
    this.#schema = schema;
    for (const { key } of rows) this.#defaults.delete(key);
    for (const setting of found) {
      this.#unchecked.delete(setting.key);
      this.#settings.set(setting.key, setting);
    }
  }

  onChange(listener: (key: string) => void): void {
    this.#watchers.push(listener);
  }

  #defaultOf(row: SchemaRow): ConfigValue {
    if (row.default === undefined) return undefined;
    if (!this.#defaults.has(row.key)) {
      const reading = readValue(row, row.default);
      this.#defaults.set(row.key, reading.ok ? reading.value : row.default);
    }
    return this.#defaults.get(row.key);
  }

  /** A default with a free name counts only when another key mentions the name. */
  #isNameInUse(row: SchemaRow, key: string): boolean {
    const family = familyOf(row);
    if (family === undefined) return true;
    const name = keyWords(key)[keyWords(family).length - 1] ?? "";
    return this.#names.get(family)?.has(name) === true;
  }

  #keysWithDefault(row: SchemaRow): string[] {
    const family = familyOf(row);
    if (family === undefined) return [row.key];
    const at = keyWords(family).length - 1;
    return [...(this.#names.get(family) ?? [])]
      .map((name) => fillNames(row.key, [...Array.from<string>({ length: at }), name]))
      .filter((key) => !key.includes("$"));
  }
}

/** The part of a row's key up to its first free name; undefined = no free name. */
function familyOf(row: SchemaRow): string | undefined {
  const words = keyWords(row.key);
  const at = words.findIndex((word) => word.startsWith("$"));
  return at < 0 ? undefined : words.slice(0, at + 1).join(".");
}

function isList(value: ConfigValue): value is readonly (string | number)[] {
  return Array.isArray(value);
}

function wrongType(key: string, wanted: string, value: ConfigValue): NautilusError {
  return new NautilusError("INTERNAL", {
    where: "core/config",
    reason: `${key} was read as ${wanted} but is ${JSON.stringify(value) ?? "unset"}`,
  });
}

function refused(key: string, reason: string): NautilusError {
  return new NautilusError("CONFIG_VALUE_REFUSED", { key, reason });
}
