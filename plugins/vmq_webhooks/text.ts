import { isUtf8 } from "node:buffer";

/** What becomes of bytes that are no UTF-8 in a field of text. `vmq_webhooks.<name>.not_utf8` */
export type NotUtf8 = "replace" | "base64" | "deny";

/** A body that must not be written: `field` has bytes that are no UTF-8. */
export class NotText extends Error {
  readonly field: string;

  constructor(field: string) {
    super(`${field} is not UTF-8`);
    this.field = field;
  }
}

const REPLACEMENT = "\ufffd";

/** Bytes as text, with U+FFFD for each byte that belongs to no character, as in VerneMQ's bodies. */
export function replacingText(bytes: Buffer): string {
  if (isUtf8(bytes)) return bytes.toString("utf8");
  let text = "";
  let start = 0;
  for (let at = 0; at < bytes.length; ) {
    const length = sequenceLength(bytes[at] as number);
    const end = at + length;
    if (length > 0 && end <= bytes.length && isUtf8(bytes.subarray(at, end))) {
      at = end;
      continue;
    }
    text += bytes.toString("utf8", start, at) + REPLACEMENT;
    at++;
    start = at;
  }
  return text + bytes.toString("utf8", start);
}

/** Bytes that a first byte announces, 0 = it is none. */
function sequenceLength(byte: number): number {
  if (byte < 0x80) return 1;
  if (byte < 0xc2) return 0;
  if (byte < 0xe0) return 2;
  if (byte < 0xf0) return 3;
  return byte < 0xf5 ? 4 : 0;
}

/** Base64 with its padding, blanks between allowed; undefined for anything else. */
export function fromBase64(text: string): Buffer | undefined {
  const dense = /\s/.test(text) ? text.replace(/\s+/g, "") : text;
  if (dense.length % 4 !== 0 || !/^[A-Za-z0-9+/]*={0,2}$/.test(dense)) return undefined;
  return Buffer.from(dense, "base64");
}
