import { isUtf8 } from "node:buffer";

/**
 * UTF-8 Encoded Strings of MQTT 5.0, 1.5.4 (3.1.1: 1.5.3). Control characters, non-characters such as
 * U+FFFF and a BOM are let through: the standard asks only for well-formed text without NUL.
 */

/**
 * True if the bytes `start`..`end` are well-formed UTF-8 (no overlong form, no surrogate) without
 * U+0000. [MQTT-1.5.4-1] [MQTT-1.5.4-2]
 */
export function isMqttUtf8(buf: Buffer, start: number, end: number): boolean {
  for (let i = start; i < end; i++) {
    const byte = buf[i];
    if (byte === 0) return false;
    if (byte >= 0x80) {
      // Everything before was ASCII, so the rest starts at a character.
      const rest = buf.subarray(i, end);
      return isUtf8(rest) && !rest.includes(0);
    }
  }
  return true;
}

/**
 * The string in the bytes `start`..`end`, undefined if isMqttUtf8 refuses them. A BOM stays in the
 * string. MQTT 5.0, 1.5.4 [MQTT-1.5.4-3]
 */
export function decodeUtf8(buf: Buffer, start: number, end: number): string | undefined {
  for (let i = start; i < end; i++) {
    const byte = buf[i];
    if (byte === 0) return undefined;
    if (byte >= 0x80) return isMqttUtf8(buf, i, end) ? buf.toString("utf8", start, end) : undefined;
  }
  return buf.toString("latin1", start, end);
}

/** Longest UTF-8 Encoded String and Binary Data in bytes. MQTT 5.0, 1.5.4 and 1.5.6. */
export const STRING_BYTES_MAX = 65535;

/**
 * Why a string of our own world (a hook's answer, a command) cannot be sent as a UTF-8 Encoded String;
 * undefined if it can. MQTT 5.0, 1.5.4 [MQTT-1.5.4-1] [MQTT-1.5.4-2]
 */
export function stringFault(text: string): string | undefined {
  for (let i = 0; i < text.length; i++) {
    const unit = text.charCodeAt(i);
    if (unit === 0) return "contains NUL";
    if (unit < 0xd800 || unit > 0xdfff) continue;
    const next = i + 1 < text.length ? text.charCodeAt(i + 1) : 0;
    if (unit > 0xdbff || next < 0xdc00 || next > 0xdfff) return "contains half a surrogate pair";
    i++;
  }
  // A UTF-16 unit takes at most three bytes, so short strings need no count.
  if (text.length * 3 > STRING_BYTES_MAX && Buffer.byteLength(text) > STRING_BYTES_MAX) {
    return "is longer than 65535 bytes";
  }
  return undefined;
}
