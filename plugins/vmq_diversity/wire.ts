/**
 * What travels between the broker's thread and a worker. Calls go in batches, one message per
 * event-loop turn; those of the publish hooks as bytes, all others as structured clones.
 *
 * A record: id u32, script version u32, hook u8, flags u8. With FLAG_OBJECT the arguments are the next of
 * `objects`; else lengths of username, mountpoint, client id, topic u16 each and payload u32, then those
 * bytes, and with FLAG_PROPERTIES the properties are the next of `objects`. Numbers are little endian.
 */

/** Hooks that scripts may have, by number. */
export const LUA_HOOKS = [
  "auth_on_register",
  "auth_on_register_m5",
  "on_auth_m5",
  "on_register",
  "on_register_m5",
  "auth_on_publish",
  "auth_on_publish_m5",
  "on_publish",
  "on_publish_m5",
  "on_deliver",
  "on_deliver_m5",
  "auth_on_subscribe",
  "auth_on_subscribe_m5",
  "on_subscribe",
  "on_subscribe_m5",
  "on_unsubscribe",
  "on_unsubscribe_m5",
  "on_offline_message",
  "on_client_wakeup",
  "on_client_offline",
  "on_client_gone",
  "on_session_expired",
] as const;

export type LuaHook = (typeof LUA_HOOKS)[number];

export const QOS_MASK = 0x03;
export const FLAG_RETAIN = 0x04;
export const FLAG_USERNAME = 0x08;
/** The argument table has `properties`. */
export const FLAG_HAS_PROPERTIES = 0x10;
/** They are not empty, and the next of `objects`. */
export const FLAG_PROPERTIES = 0x20;
export const FLAG_OBJECT = 0x80;

export const HEAD_BYTES = 10;
export const PUBLISH_HEAD_BYTES = 22;

/** Calls on their way to a worker. */
export interface CallBatch {
  readonly type: "calls";
  readonly bytes: Uint8Array;
  readonly objects: readonly unknown[];
}

/** How a call ended: pairs of call id and outcome in `results`, details in `values` where there are some. */
export interface ResultBatch {
  readonly type: "results";
  readonly results: Int32Array;
  readonly values: readonly unknown[];
}

/** The script answered nil, or something that means next. */
export const RESULT_NEXT = 0;
export const RESULT_TRUE = 1;
export const RESULT_FALSE = 2;
/** A table: the next of `values`, a LuaTable. */
export const RESULT_TABLE = 3;
/** An error in the script: the next of `values`, a ScriptFailure. */
export const RESULT_ERROR = 4;
/** The call was ended by a limit: the next of `values`, a ScriptFailure. */
export const RESULT_KILLED = 5;

export interface ScriptFailure {
  /** With `file:line:` where Lua knows it. */
  readonly message: string;
  readonly traceback: string;
}

/** Arguments of a publish hook as they are written. */
export interface PublishFields {
  readonly username: string | undefined;
  readonly mountpoint: string;
  readonly clientId: string;
  readonly qos: number;
  readonly topic: string;
  readonly payload: Uint8Array;
  readonly retain: boolean;
  /** undefined: the hook has none. */
  readonly properties: object | undefined;
}

const FIRST_BYTES = 64 * 1024;
/** A buffer that grew beyond it for one large message is not kept. */
const KEPT_BYTES_MAX = 1024 * 1024;

/** Writes calls into one growing buffer. */
export class BatchWriter {
  private buffer = Buffer.allocUnsafeSlow(FIRST_BYTES);
  private length = 0;
  private objects: unknown[] = [];

  get isEmpty(): boolean {
    return this.length === 0;
  }

  object(id: number, version: number, hook: number, args: unknown): void {
    const at = this.reserve(HEAD_BYTES);
    this.head(at, id, version, hook, FLAG_OBJECT);
    this.length = at + HEAD_BYTES;
    this.objects.push(args);
  }

  publish(id: number, version: number, hook: number, fields: PublishFields): void {
    const { username = "", mountpoint, clientId, topic, payload, properties } = fields;
    // A character of a JavaScript string has at most three bytes.
    const text = username.length + mountpoint.length + clientId.length + topic.length;
    const at = this.reserve(PUBLISH_HEAD_BYTES + text * 3 + payload.length);
    let flags = fields.qos;
    if (fields.retain) flags |= FLAG_RETAIN;
    if (fields.username !== undefined) flags |= FLAG_USERNAME;
    if (properties !== undefined) {
      flags |= FLAG_HAS_PROPERTIES;
      if (!isEmpty(properties)) {
        flags |= FLAG_PROPERTIES;
        this.objects.push(properties);
      }
    }
    this.head(at, id, version, hook, flags);
    const { buffer } = this;
    let end = at + PUBLISH_HEAD_BYTES;
    let next = writeText(buffer, end, username);
    putU16(buffer, at + 10, next - end);
    end = writeText(buffer, next, mountpoint);
    putU16(buffer, at + 12, end - next);
    next = writeText(buffer, end, clientId);
    putU16(buffer, at + 14, next - end);
    end = writeText(buffer, next, topic);
    putU16(buffer, at + 16, end - next);
    putU32(buffer, at + 18, payload.length);
    buffer.set(payload, end);
    this.length = end + payload.length;
  }

  /** The batch so far; the writer starts a new one. */
  take(): CallBatch {
    const bytes = new Uint8Array(this.length);
    bytes.set(this.buffer.subarray(0, this.length));
    const batch: CallBatch = { type: "calls", bytes, objects: this.objects };
    this.objects = [];
    this.length = 0;
    if (this.buffer.length > KEPT_BYTES_MAX) this.buffer = Buffer.allocUnsafeSlow(FIRST_BYTES);
    return batch;
  }

  private head(at: number, id: number, version: number, hook: number, flags: number): void {
    putU32(this.buffer, at, id);
    putU32(this.buffer, at + 4, version);
    this.buffer[at + 8] = hook;
    this.buffer[at + 9] = flags;
  }

  private reserve(bytes: number): number {
    const needed = this.length + bytes;
    if (needed > this.buffer.length) {
      const grown = Buffer.allocUnsafeSlow(Math.max(needed, this.buffer.length * 2));
      grown.set(this.buffer.subarray(0, this.length));
      this.buffer = grown;
    }
    return this.length;
  }
}

function isEmpty(object: object): boolean {
  for (const _ in object) return false;
  return true;
}

/** Short ASCII text, which nearly all is, byte by byte: a call into Node would cost more. Gives the end. */
function writeText(buffer: Buffer, at: number, text: string): number {
  const { length } = text;
  if (length > 64) return at + buffer.write(text, at, "utf8");
  for (let i = 0; i < length; i++) {
    const code = text.charCodeAt(i);
    if (code > 0x7f) return at + buffer.write(text, at, "utf8");
    buffer[at + i] = code;
  }
  return at + length;
}

function putU16(buffer: Buffer, at: number, value: number): void {
  buffer[at] = value;
  buffer[at + 1] = value >>> 8;
}

function putU32(buffer: Buffer, at: number, value: number): void {
  buffer[at] = value;
  buffer[at + 1] = value >>> 8;
  buffer[at + 2] = value >>> 16;
  buffer[at + 3] = value >>> 24;
}

export function getU16(bytes: Uint8Array, at: number): number {
  return (bytes[at] as number) | ((bytes[at + 1] as number) << 8);
}

export function getU32(bytes: Uint8Array, at: number): number {
  return (getU16(bytes, at) | (getU16(bytes, at + 2) << 16)) >>> 0;
}
