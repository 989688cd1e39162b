/** Pre-shared keys: the `pskfile` and the ciphers that use it. */

/** Ciphers that `psk_support = on` adds, in VerneMQ's order; all are of TLS 1.2 and older. */
export const PSK_CIPHERS = [
  "PSK-AES256-GCM-SHA384",
  "PSK-AES256-CBC-SHA",
  "PSK-AES128-GCM-SHA256",
  "PSK-AES128-CBC-SHA",
] as const;

/** Longest key OpenSSL takes (PSK_MAX_PSK_LEN). */
const KEY_BYTES_MAX = 512;

export interface PskFile {
  /** Identity to key; the key's text is the key. */
  readonly keys: ReadonlyMap<string, Buffer>;
  /** Numbers of lines (from 1) that are not `identity<separator>key`. */
  readonly badLines: readonly number[];
}

/** Parses `identity<separator>key` lines. Blank lines are skipped; the last of two equals wins. */
export function parsePskFile(text: string, separator: string): PskFile {
  const keys = new Map<string, Buffer>();
  const badLines: number[] = [];
  text.split(/\r?\n/).forEach((line, index) => {
    if (line.trim() === "") return;
    const at = line.indexOf(separator);
    const key = Buffer.from(line.slice(at + separator.length));
    if (at <= 0 || key.length === 0 || key.length > KEY_BYTES_MAX) badLines.push(index + 1);
    else keys.set(line.slice(0, at), key);
  });
  return { keys, badLines };
}

/** The cipher list with the PSK ciphers added; `ciphers` may forbid PSK, as Node's default does. */
export function withPskCiphers(ciphers: string): string {
  // `!PSK` could not be taken back; `-PSK` drops the other PSK ciphers that `HIGH` brings along.
  const allowed = ciphers.split(":").map((item) => (item === "!PSK" ? "-PSK" : item));
  return [...allowed, ...PSK_CIPHERS].join(":");
}
