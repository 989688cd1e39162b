import {
  FLAG_HAS_PROPERTIES,
  FLAG_PROPERTIES,
  FLAG_RETAIN,
  FLAG_USERNAME,
  getU16,
  getU32,
  HEAD_BYTES,
  PUBLISH_HEAD_BYTES,
  QOS_MASK,
} from "../wire.ts";
import {
  FIELDS,
  fieldNumber,
  type HookArguments,
  type HookFields,
  SMALL_BYTES_MAX,
  setOf,
} from "./fields.ts";
import type { LuaResult } from "./library.ts";
import type { Pointer } from "./lua-api.ts";
import { bigintOf } from "./marshal.ts";

const TOPIC = FIELDS.indexOf("topic");
const PAYLOAD = FIELDS.indexOf("payload");
const QOS = FIELDS.indexOf("qos");
const RETAIN = FIELDS.indexOf("retain");
const PROPERTIES = FIELDS.indexOf("properties");
const USERNAME_SET = setOf("username");
const PAYLOAD_SET = setOf("payload");
const QOS_SET = setOf("qos");
const RETAIN_SET = setOf("retain");
const PROPERTIES_SET = setOf("properties");
/** Fields that every publish has. */
const ALWAYS = setOf("mountpoint", "client_id", "topic", "payload", "qos", "retain");
/** Fields whose values are in the record, in its order. */
const STRINGS = setOf("username", "mountpoint", "client_id", "topic", "payload");

/** Bytes of a publish record behind its head at `at`. */
export function publishBytes(bytes: Uint8Array, at: number): number {
  const text =
    getU16(bytes, at + 10) +
    getU16(bytes, at + 12) +
    getU16(bytes, at + 14) +
    getU16(bytes, at + 16);
  return PUBLISH_HEAD_BYTES - HEAD_BYTES + text + getU32(bytes, at + 18);
}

/** Arguments of a publish hook: its record in a batch. */
export class PublishArguments implements HookArguments {
  readonly read: HookFields;
  private readonly bytes: Uint8Array;
  private readonly at: number;
  private readonly properties: LuaResult;

  /** `properties` are undefined where the record says that there are none. */
  constructor(read: HookFields, bytes: Uint8Array, at: number, properties: LuaResult) {
    this.read = read;
    this.bytes = bytes;
    this.at = at;
    this.properties = properties;
  }

  private get given(): number {
    const { flags } = this;
    let given = ALWAYS;
    if ((flags & FLAG_USERNAME) !== 0) given |= USERNAME_SET;
    if ((flags & FLAG_HAS_PROPERTIES) !== 0) given |= PROPERTIES_SET;
    return given;
  }

  leftOut(): number {
    let built = this.read.fields;
    if (lengthOf(this.bytes, this.at, PAYLOAD) > SMALL_BYTES_MAX) built &= ~PAYLOAD_SET;
    if ((this.flags & FLAG_PROPERTIES) !== 0) built &= ~PROPERTIES_SET;
    return this.given & ~built;
  }

  push(L: Pointer, leftOut: number): void {
    const built = this.given & ~leftOut;
    const { api, marshal, fieldNames } = this.read.tools;
    const { bytes, at } = this;
    api.lua_createtable(L, 0, countOf(built));
    if ((built & STRINGS) !== 0) {
      // Copied into Lua's memory together, then named in place.
      const last = (built & PAYLOAD_SET) !== 0 ? PAYLOAD : TOPIC;
      let from = marshal.place(this.bytesOf(0, last));
      for (let field = 0; field <= last; field++) {
        const length = lengthOf(bytes, at, field);
        if ((built & (1 << field)) !== 0) {
          api.lua_pushlstring(L, from, length);
          api.lua_setfield(L, -2, fieldNames[field] as Pointer);
        }
        from += length;
      }
    }
    if ((built & QOS_SET) !== 0) {
      api.lua_pushinteger(L, bigintOf(this.flags & QOS_MASK));
      api.lua_setfield(L, -2, fieldNames[QOS] as Pointer);
    }
    if ((built & RETAIN_SET) !== 0) {
      api.lua_pushboolean(L, (this.flags & FLAG_RETAIN) !== 0 ? 1 : 0);
      api.lua_setfield(L, -2, fieldNames[RETAIN] as Pointer);
    }
    if ((built & PROPERTIES_SET) !== 0) {
      api.lua_createtable(L, 0, 0);
      api.lua_setfield(L, -2, fieldNames[PROPERTIES] as Pointer);
    }
  }

  valueOf(field: number): LuaResult {
    if (field === QOS) return this.flags & QOS_MASK;
    if (field === RETAIN) return (this.flags & FLAG_RETAIN) !== 0;
    if (field === PROPERTIES) return this.properties ?? {};
    return this.bytesOf(field, field);
  }

  private get flags(): number {
    return this.bytes[this.at + 9] as number;
  }

  /** Of the strings `first` to `last`. */
  private bytesOf(first: number, last: number): Uint8Array {
    const { bytes, at } = this;
    let start = at + PUBLISH_HEAD_BYTES;
    let field = 0;
    while (field < first) start += lengthOf(bytes, at, field++);
    let end = start;
    while (field <= last) end += lengthOf(bytes, at, field++);
    return bytes.subarray(start, end);
  }
}

/** Arguments of any other hook: an object. */
export class ObjectArguments implements HookArguments {
  readonly read: HookFields;
  private readonly object: LuaResult;

  constructor(read: HookFields, object: LuaResult) {
    this.read = read;
    this.object = object;
  }

  leftOut(): number {
    let set = 0;
    for (const [name, value] of this.entries) {
      const field = fieldNumber(name);
      if (field === undefined || value === undefined || value === null) continue;
      if ((this.read.fields & (1 << field)) === 0 || isLarge(value)) set |= 1 << field;
    }
    return set;
  }

  push(L: Pointer, leftOut: number): void {
    const { api, marshal } = this.read.tools;
    const { entries } = this;
    api.lua_createtable(L, 0, entries.length);
    for (const [name, value] of entries) {
      const field = fieldNumber(name);
      if (field !== undefined && (leftOut & (1 << field)) !== 0) continue;
      marshal.push(L, name);
      marshal.push(L, value);
      api.lua_rawset(L, -3);
    }
  }

  private get entries(): [string, LuaResult][] {
    return Object.entries(this.object as Record<string, LuaResult>);
  }

  valueOf(field: number): LuaResult {
    return (this.object as Record<string, LuaResult>)[FIELDS[field] as string];
  }
}

function isLarge(value: LuaResult): boolean {
  if (typeof value === "string") return value.length > SMALL_BYTES_MAX;
  if (value instanceof Uint8Array) return value.length > SMALL_BYTES_MAX;
  return typeof value === "object";
}

/** Bytes of a string of the record at `at`. */
function lengthOf(bytes: Uint8Array, at: number, field: number): number {
  return field === PAYLOAD ? getU32(bytes, at + 18) : getU16(bytes, at + 10 + 2 * field);
}

function countOf(set: number): number {
  let count = 0;
  for (let rest = set; rest !== 0; rest &= rest - 1) count++;
  return count;
}
