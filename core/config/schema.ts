import { ACCESS_FILE_ROWS } from "./schema/access-files.ts";
import { BRIDGE_ROWS } from "./schema/bridge.ts";
import { CLUSTER_ROWS } from "./schema/cluster.ts";
import { CONNECTION_ROWS } from "./schema/connections.ts";
import { DIVERSITY_ROWS } from "./schema/diversity.ts";
import { ERLANG_ROWS } from "./schema/erlang.ts";
import { HTTP_PUB_ROWS } from "./schema/http-pub.ts";
import { LISTENER_ROWS } from "./schema/listeners.ts";
import { LOG_ROWS } from "./schema/log.ts";
import { METRIC_ROWS } from "./schema/metrics.ts";
import { NAUTILUS_ROWS } from "./schema/nautilus.ts";
import { PLUGIN_ROWS } from "./schema/plugins.ts";
import { SERVER_ROWS } from "./schema/server.ts";
import { SESSION_ROWS } from "./schema/sessions.ts";
import { WEB_UI_ROWS } from "./schema/web-ui.ts";
import { WEBHOOK_ROWS } from "./schema/webhooks.ts";

/** Types of vernemq.conf; values.ts has the reader of each. */
export type ValueType =
  | "integer"
  | "flag"
  | "enum"
  | "string"
  | "file"
  | "directory"
  | "ip"
  | "ip|domain_socket"
  | "bytesize"
  | "percent"
  | "duration"
  | "list";

/** How a list is written: its separator, brackets and kind of items. */
export type ListFormat =
  | "words" // a, b or [a, b]
  | "numbers" // 3,4 or [3, 4]
  | "erlang" // [a, b]
  | "sizes" // three numbers
  | "versions" // a,b without blanks
  | "ciphers" // a:b
  | "proxies" // a;b
  | "curves"; // a,b or [a, b], each a known curve

/** Checks of a value beyond its type. An empty file name passes the file checks. */
export type ValueCheck = "readable" | "pem" | "one character";

/** One setting of vernemq.conf. */
export interface SchemaRow {
  /** Segments that start with `$` are free names. */
  readonly key: string;
  readonly type: ValueType;
  /** Members of an enum; for other types literals accepted besides the type, such as `infinity`. */
  readonly values?: readonly string[];
  /** As it would be written in the file; absent = no default. */
  readonly default?: string;
  readonly unit?: "s" | "ms" | "bytes" | "days";
  readonly doc: string;
  /** Changeable while the broker runs (`vmq-admin set`); otherwise only with a restart. */
  readonly live?: true;
  /** A password or key: no command shows what somebody wrote. */
  readonly isSecret?: true;
  /** Not part of VerneMQ's generated file, but accepted. */
  readonly hidden?: true;
  /** The plugin that does not start without this file, once somebody has named it. */
  readonly neededBy?: string;
  readonly erlangOnly?: true;
  readonly min?: number;
  readonly max?: number;
  readonly checks?: readonly ValueCheck[];
  readonly list?: ListFormat;
  readonly since?: string;
  readonly example?: string;
}

/** Every setting, one row each, in the order of `config show`. */
export const SCHEMA: readonly SchemaRow[] = [
  ...SESSION_ROWS,
  ...CLUSTER_ROWS,
  ...CONNECTION_ROWS,
  ...METRIC_ROWS,
  ...SERVER_ROWS,
  ...NAUTILUS_ROWS,
  ...LISTENER_ROWS,
  ...PLUGIN_ROWS,
  ...ACCESS_FILE_ROWS,
  ...DIVERSITY_ROWS,
  ...WEBHOOK_ROWS,
  ...BRIDGE_ROWS,
  ...HTTP_PUB_ROWS,
  ...WEB_UI_ROWS,
  ...LOG_ROWS,
  ...ERLANG_ROWS,
];

/** Words of a key; an escaped dot (`\.`) does not split. */
export function keyWords(key: string): string[] {
  return key.split(/(?<!\\)\./);
}

/** Rows by key; one for VerneMQ's and our own settings, more where plugins bring settings of theirs. */
export class Schema {
  readonly rows: readonly SchemaRow[];
  readonly #exact = new Map<string, SchemaRow>();
  /** Rows with free names by their number of words. */
  readonly #free = new Map<number, { row: SchemaRow; words: readonly string[]; free: number }[]>();

  constructor(rows: readonly SchemaRow[]) {
    this.rows = rows;
    for (const row of rows) {
      if (!row.key.includes("$")) {
        this.#exact.set(row.key, row);
        continue;
      }
      const words = keyWords(row.key);
      const free = words.filter((word) => word.startsWith("$")).length;
      const others = this.#free.get(words.length) ?? [];
      others.push({ row, words, free });
      // The row with the fewest free names is the most specific one and is tried first.
      others.sort((a, b) => a.free - b.free);
      this.#free.set(words.length, others);
    }
  }

  /** The row of a written key; a fixed key wins over one with free names. Undefined = unknown key. */
  rowOf(key: string): SchemaRow | undefined {
    const exact = this.#exact.get(key);
    if (exact !== undefined) return exact;
    const words = keyWords(key);
    const candidates = this.#free.get(words.length) ?? [];
    return candidates.find((candidate) =>
      candidate.words.every((word, index) => word.startsWith("$") || word === words[index]),
    )?.row;
  }

  /** With the rows of plugins; they replace older ones of plugins, never the broker's. */
  with(rows: readonly SchemaRow[]): Schema {
    if (rows.length === 0) return this;
    const added = rows.filter(({ key }) => STANDARD_SCHEMA.#exact.get(key) === undefined);
    const keys = new Set(added.map(({ key }) => key));
    return new Schema([...this.rows.filter(({ key }) => !keys.has(key)), ...added]);
  }
}

export const STANDARD_SCHEMA = new Schema(SCHEMA);

/** The row of a key of the broker and its bundled plugins. */
export function rowOf(key: string): SchemaRow | undefined {
  return STANDARD_SCHEMA.rowOf(key);
}

/** The row's key with the free names of a written key (of as many words) put in. */
export function fillNames(rowKey: string, words: readonly string[]): string {
  return keyWords(rowKey)
    .map((word, index) => (word.startsWith("$") ? (words[index] ?? word) : word))
    .join(".");
}

/** A value for people to read, in the form of the file: without passwords and keys. */
export function shownText({ isSecret, default: fallback }: SchemaRow, text: string): string {
  // Everybody knows the default.
  if (isSecret === true && text !== "" && text !== fallback) return HIDDEN;
  return withoutPassword(text);
}

const HIDDEN = "***";

/** A URL without the password that may be in it; other texts as they are. */
export function withoutPassword(url: string): string {
  return url.replace(/^(\w+:\/\/[^/?#@:]*):[^/?#]*@/, `$1:${HIDDEN}@`);
}

/** What a row accepts, in words, for messages and `config describe`. */
export function allowedText(row: SchemaRow): string {
  const literals = row.values ?? [];
  switch (row.type) {
    case "flag":
      return (row.values ?? ["on", "off"]).join(", ");
    case "enum":
      return literals.join(", ");
    case "integer":
      return [rangeText("an integer", row), ...literals].join(" or ");
    case "bytesize":
      return [rangeText("bytes, or a number with KB, MB or GB", row), ...literals].join(" or ");
    case "percent":
      return "0% to 100%";
    case "duration":
      return [
        row.erlangOnly
          ? "a duration such as 1s500ms"
          : "a number with s, h, d, w, m (4 weeks) or y",
        ...literals,
      ].join(" or ");
    case "ip":
      return "ip:port (IPv6 without brackets)";
    case "ip|domain_socket":
      return "ip:port (IPv6 without brackets) or local:/path:0";
    case "list":
      return listText(row);
    case "file":
      return "a file";
    case "directory":
      return "a directory";
    case "string":
      return row.checks?.includes("one character") === true ? "one character" : "any text";
    default:
      return row.type satisfies never;
  }
}

function rangeText(what: string, row: SchemaRow): string {
  if (row.min === undefined) return what;
  return row.max === undefined
    ? `${what}, at least ${row.min}`
    : `${what} from ${row.min} to ${row.max}`;
}

function listText(row: SchemaRow): string {
  const members = row.values === undefined ? "" : ` of ${row.values.join(", ")}`;
  switch (row.list) {
    case "sizes":
      return "three integers separated by commas";
    case "versions":
      return `a list${members}, separated by commas without blanks`;
    case "ciphers":
      return "cipher names separated by colons";
    case "proxies":
      return "addresses or CIDR ranges separated by semicolons";
    case "curves":
      return "curve names separated by commas";
    case "erlang":
      return "names in brackets, separated by commas";
    case "numbers":
      return `a list${members}, separated by commas`;
    default:
      return `names${members} separated by commas`;
  }
}
