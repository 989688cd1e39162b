import { getCurves } from "node:crypto";
import { isIP } from "node:net";
import { nearest } from "./nearest.ts";
import { allowedText, type SchemaRow } from "./schema.ts";
import type { ConfigValue } from "./types.ts";

/** A typed value, or what is wrong with the text and what was probably meant. */
export type Reading =
  | { ok: true; value: ConfigValue }
  | { ok: false; wrong: string; meant?: string };

const KILO = 1024;
const SIZE_UNITS: Readonly<Record<string, number>> = {
  "": 1,
  KB: KILO,
  MB: KILO ** 2,
  GB: KILO ** 3,
};

/** Seconds of VerneMQ's own durations: m is four weeks, y twelve of those; there is no minute. */
const SECONDS: Readonly<Record<string, number>> = {
  s: 1,
  h: 3600,
  d: 86_400,
  w: 604_800,
  m: 2_419_200,
  y: 29_030_400,
};

/** Seconds of the durations of Erlang libraries. */
const LIBRARY_SECONDS: Readonly<Record<string, number>> = {
  f: 1_209_600,
  w: 604_800,
  d: 86_400,
  h: 3600,
  m: 60,
  s: 1,
  ms: 0.001,
};

/** Literals that stand for a number; all others stay text. `client` is VerneMQ's 4294967296: no cap. */
const LITERAL_NUMBERS: Readonly<Record<string, number>> = {
  infinity: Number.POSITIVE_INFINITY,
  never: 0,
  client: 4_294_967_296,
};

/** Curves that Erlang knows beside those of OpenSSL (which may leave out some). */
const ERLANG_CURVES = (
  "sect571r1 sect571k1 secp521r1 brainpoolP512r1 sect409k1 sect409r1 brainpoolP384r1 secp384r1 " +
  "sect283k1 sect283r1 brainpoolP256r1 secp256k1 secp256r1 sect239k1 sect233k1 sect233r1 " +
  "secp224k1 secp224r1 sect193r1 sect193r2 secp192k1 secp192r1 sect163k1 sect163r1 sect163r2 " +
  "secp160k1 secp160r1 secp160r2 x25519 x448"
).split(" ");

/** Reads a value of a row's type and range. Files are not looked at; see checks.ts. */
export function readValue(row: SchemaRow, text: string): Reading {
  // Two double quotes mean "no prefix"; double quotes are not special anywhere else.
  if (row.key === "prometheus_namespace" && text === '""') return { ok: true, value: "" };
  if (row.type !== "flag" && row.type !== "enum" && row.type !== "list") {
    if (row.values?.includes(text) === true) {
      return { ok: true, value: LITERAL_NUMBERS[text] ?? text };
    }
  }
  switch (row.type) {
    case "flag":
    case "enum":
      return readMember(row, text);
    case "integer":
      return /^-?\d+$/.test(text)
        ? inRange(row, Number(text), text)
        : wrong(text, `is not an integer${unitText(row)}`);
    case "bytesize":
      return readSize(row, text);
    case "percent":
      return readPercent(text);
    case "duration":
      return row.erlangOnly === true ? readLibraryDuration(text) : readDuration(text);
    case "ip":
    case "ip|domain_socket":
      return readAddress(row, text);
    case "list":
      return readList(row, text);
    case "string":
    case "file":
    case "directory":
      return { ok: true, value: text };
    default:
      return row.type satisfies never;
  }
}

/** What is wrong, what is allowed, and what was probably meant, as error lines end. */
export function complaint(row: SchemaRow, reading: { wrong: string; meant?: string }): string {
  const meant = reading.meant === undefined ? "" : `, did you mean ${reading.meant}?`;
  return `${reading.wrong}, allowed: ${allowedText(row)}${meant}`;
}

/** An address as `ip:port`, `local:<path>:<port>` or `unix:<path>:<port>`; undefined = neither. */
export function splitAddress(
  text: string,
): { address: string; port: number; unixSocket: boolean } | undefined {
  const socket = /^(?:local|unix):(.+):(\d+)$/.exec(text);
  if (socket?.[1] !== undefined) return { address: socket[1], port: 0, unixSocket: true };
  const colon = text.lastIndexOf(":");
  const port = text.slice(colon + 1);
  const address = text.slice(0, colon);
  if (colon < 0 || !/^\d{1,5}$/.test(port) || isIP(address) === 0) return undefined;
  return Number(port) > 65_535 ? undefined : { address, port: Number(port), unixSocket: false };
}

function wrong(text: string, what: string, meant?: string): Reading {
  const shown = text.length > 60 ? `${text.slice(0, 60)}…` : text;
  return { ok: false, wrong: `"${shown}" ${what}`, ...(meant === undefined ? {} : { meant }) };
}

function unitText(row: SchemaRow): string {
  switch (row.unit) {
    case undefined:
      return "";
    case "s":
      return " (seconds, without a unit)";
    case "ms":
      return " (milliseconds, without a unit)";
    case "bytes":
      return " (bytes, without a unit)";
    case "days":
      return " (days, without a unit)";
    default:
      return row.unit satisfies never;
  }
}

function inRange(row: SchemaRow, value: number, text: string): Reading {
  if (!Number.isSafeInteger(value)) return wrong(text, "is too large");
  if (row.min !== undefined && value < row.min) return wrong(text, "is too small");
  if (row.max !== undefined && value > row.max) return wrong(text, "is too large");
  return { ok: true, value };
}

function readMember(row: SchemaRow, text: string): Reading {
  const members = row.values ?? ["on", "off"];
  if (members.includes(text)) {
    if (row.type === "flag" && (text === "on" || text === "off")) {
      return { ok: true, value: text === "on" };
    }
    return { ok: true, value: text };
  }
  const lower = text.toLowerCase();
  const isTrue = lower === "true" || lower === "1" || lower === "yes";
  const isFalse = lower === "false" || lower === "0" || lower === "no";
  const switched = isTrue ? "on" : isFalse ? "off" : undefined;
  const meant =
    switched !== undefined && members.includes(switched)
      ? switched
      : (members.find((member) => member.toLowerCase() === lower) ?? nearest(text, members, 1)[0]);
  return wrong(text, "is not a valid value", meant);
}

function readSize(row: SchemaRow, text: string): Reading {
  const found = /^(\d+(?:\.\d+)?)(KB|kb|MB|mb|GB|gb)?$/.exec(text);
  const [, number = "", unit = ""] = found ?? [];
  if (found === null || (unit === "" && number.includes("."))) {
    const mixed = /^(\d+(?:\.\d+)?) ?([kmg]b?)$/i.exec(text);
    const [, amount = "", letters = ""] = mixed ?? [];
    const meant = mixed === null ? undefined : `${amount}${letters.slice(0, 1).toUpperCase()}B`;
    return wrong(text, "is not a size in bytes", meant);
  }
  const bytes = Math.ceil(Number(number) * (SIZE_UNITS[unit.toUpperCase()] ?? 1));
  return inRange(row, bytes, text);
}

/**
 * Differs from VerneMQ: it cuts the last character of a percentage without looking, so that `10`
 * means 1 %. Its own generated file writes 10 there; we read 10 % in both spellings.
 */
function readPercent(text: string): Reading {
  const found = /^(\d{1,3})%?$/.exec(text);
  const value = Number(found?.[1] ?? Number.NaN);
  return value <= 100 ? { ok: true, value } : wrong(text, "is not a percentage");
}

function readDuration(text: string): Reading {
  const found = /^(\d+)([shdwmy])$/.exec(text);
  const seconds = Number(found?.[1]) * (SECONDS[found?.[2] ?? ""] ?? Number.NaN);
  if (Number.isSafeInteger(seconds)) return { ok: true, value: seconds };
  return wrong(text, "is not a duration", /^\d+$/.test(text) ? `${text}s` : undefined);
}

function readLibraryDuration(text: string): Reading {
  if (!/^(?:\d+(?:\.\d+)?(?:ms|[fwdhms]))+$/i.test(text)) return wrong(text, "is not a duration");
  let seconds = 0;
  for (const [, number = "", unit = ""] of text.matchAll(/(\d+(?:\.\d+)?)(ms|[fwdhms])/gi)) {
    seconds += Number(number) * (LIBRARY_SECONDS[unit.toLowerCase()] ?? 0);
  }
  return { ok: true, value: Math.ceil(seconds) };
}

/** Differs from VerneMQ: a port above 65535 is refused here, not when the listener starts. */
function readAddress(row: SchemaRow, text: string): Reading {
  const parts = splitAddress(text);
  if (parts !== undefined && (!parts.unixSocket || row.type === "ip|domain_socket")) {
    return { ok: true, value: text };
  }
  if (/^(?:local|unix):/.test(text)) {
    return row.type === "ip"
      ? wrong(text, "is a Unix socket, which this listener cannot have")
      : wrong(text, "has no port after the path", `${text}:0`);
  }
  const brackets = /^\[(.*)\]:(\d+)$/.exec(text);
  if (brackets?.[1] !== undefined) {
    return wrong(text, "has brackets", `${brackets[1]}:${brackets[2]}`);
  }
  if (isIP(text) !== 0) return wrong(text, "has no port", `${text}:1883`);
  const host = text.slice(0, Math.max(0, text.lastIndexOf(":")));
  if (isIP(host) !== 0) return wrong(text, "has no valid port (0 to 65535)");
  const meant = host === "localhost" ? `127.0.0.1${text.slice(host.length)}` : undefined;
  return wrong(text, "is not an IP address and a port", meant);
}

function readList(row: SchemaRow, text: string): Reading {
  switch (row.list) {
    case "ciphers":
      return { ok: true, value: splitItems(text, ":") };
    case "proxies":
      return readProxies(splitItems(text, ";"));
    case "versions":
      if (/\s/.test(text)) return wrong(text, "has blanks", text.replace(/\s/g, ""));
      return readMembers(row, splitItems(text, ","));
    case "curves":
      return readCurves(splitItems(withoutBrackets(text), ","));
    case "sizes":
      return readSizes(text);
    case "numbers":
      return readNumbers(row, splitItems(withoutBrackets(text), ","));
    case "erlang":
      return /^\[.*\]$/s.test(text)
        ? { ok: true, value: splitItems(withoutBrackets(text), ",") }
        : wrong(text, "is not a list in brackets", `[${text}]`);
    default:
      return readMembers(row, splitItems(withoutBrackets(text), ","));
  }
}

function withoutBrackets(text: string): string {
  return /^\[.*\]$/s.test(text) ? text.slice(1, -1) : text;
}

function splitItems(text: string, separator: string): string[] {
  return text.trim() === "" ? [] : text.split(separator).map((item) => item.trim());
}

function readMembers(row: SchemaRow, items: string[]): Reading {
  const stranger = items.find((item) =>
    row.values === undefined ? !/^[\w.-]+$/.test(item) : !row.values.includes(item),
  );
  if (stranger === undefined) return { ok: true, value: items };
  return wrong(stranger, "is not a valid item", nearest(stranger, row.values ?? [], 1)[0]);
}

function readNumbers(row: SchemaRow, items: string[]): Reading {
  const reading = readMembers(row, items);
  if (!reading.ok) return reading;
  const stranger = items.find((item) => !/^-?\d+$/.test(item));
  return stranger === undefined
    ? { ok: true, value: items.map(Number) }
    : wrong(stranger, "is not an integer");
}

function readSizes(text: string): Reading {
  const items = splitItems(withoutBrackets(text), ",");
  return items.length === 3 && items.every((item) => /^\d+$/.test(item))
    ? { ok: true, value: items.map(Number) }
    : wrong(text, "is not three integers");
}

function readCurves(items: string[]): Reading {
  const known = [...ERLANG_CURVES, ...getCurves()];
  const strangers = items.filter((item) => !known.includes(item));
  if (strangers.length === 0) return { ok: true, value: items };
  const names = strangers.join(",");
  return wrong(names, "is no known elliptic curve", nearest(names, known, 1)[0]);
}

function readProxies(items: string[]): Reading {
  const stranger = items.find((item) => {
    const [address = "", prefix] = item.split("/");
    const version = isIP(address);
    if (version === 0) return true;
    if (prefix === undefined) return false;
    return !/^\d{1,3}$/.test(prefix) || Number(prefix) > (version === 4 ? 32 : 128);
  });
  return stranger === undefined
    ? { ok: true, value: items }
    : wrong(stranger, "is no IP address or CIDR range");
}
