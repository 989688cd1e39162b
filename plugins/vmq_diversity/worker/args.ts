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
import type { LuaResult } from "./library.ts";
import type { LuaApi, Pointer } from "./lua-api.ts";
import { bigintOf, type Marshal } from "./marshal.ts";

/** Bytes of a publish record behind its head at `at`. */
export function publishBytes(bytes: Uint8Array, at: number): number {
  const text =
    getU16(bytes, at + 10) +
    getU16(bytes, at + 12) +
    getU16(bytes, at + 14) +
    getU16(bytes, at + 16);
  return PUBLISH_HEAD_BYTES - HEAD_BYTES + text + getU32(bytes, at + 18);
}

/** Makes the argument tables of hooks on a Lua stack. */
export class ArgumentTables {
  private readonly api: LuaApi;
  private readonly marshal: Marshal;
  private readonly names: Readonly<
    Record<
      | "username"
      | "mountpoint"
      | "client_id"
      | "qos"
      | "topic"
      | "payload"
      | "retain"
      | "properties",
      Pointer
    >
  >;

  constructor(api: LuaApi, marshal: Marshal) {
    this.api = api;
    this.marshal = marshal;
    const name = (text: string): Pointer => marshal.name(text);
    this.names = {
      username: name("username"),
      mountpoint: name("mountpoint"),
      client_id: name("client_id"),
      qos: name("qos"),
      topic: name("topic"),
      payload: name("payload"),
      retain: name("retain"),
      properties: name("properties"),
    };
  }

  /** The table of a publish hook from its record: copied into Lua's memory once, then named in place. */
  publish(L: Pointer, bytes: Uint8Array, at: number, properties: LuaResult): void {
    const { api, names } = this;
    const flags = bytes[at + 9] as number;
    const body = at + PUBLISH_HEAD_BYTES;
    const userBytes = getU16(bytes, at + 10);
    const mountBytes = getU16(bytes, at + 12);
    const clientBytes = getU16(bytes, at + 14);
    const topicBytes = getU16(bytes, at + 16);
    const payloadBytes = getU32(bytes, at + 18);
    const textBytes = userBytes + mountBytes + clientBytes + topicBytes;
    let from = this.marshal.place(bytes.subarray(body, body + textBytes + payloadBytes));
    api.lua_createtable(L, 0, 8);
    if ((flags & FLAG_USERNAME) !== 0) {
      api.lua_pushlstring(L, from, userBytes);
      api.lua_setfield(L, -2, names.username);
    }
    from += userBytes;
    api.lua_pushlstring(L, from, mountBytes);
    api.lua_setfield(L, -2, names.mountpoint);
    from += mountBytes;
    api.lua_pushlstring(L, from, clientBytes);
    api.lua_setfield(L, -2, names.client_id);
    from += clientBytes;
    api.lua_pushlstring(L, from, topicBytes);
    api.lua_setfield(L, -2, names.topic);
    from += topicBytes;
    api.lua_pushlstring(L, from, payloadBytes);
    api.lua_setfield(L, -2, names.payload);
    api.lua_pushinteger(L, bigintOf(flags & QOS_MASK));
    api.lua_setfield(L, -2, names.qos);
    api.lua_pushboolean(L, (flags & FLAG_RETAIN) !== 0 ? 1 : 0);
    api.lua_setfield(L, -2, names.retain);
    if ((flags & FLAG_HAS_PROPERTIES) === 0) return;
    if ((flags & FLAG_PROPERTIES) !== 0) this.marshal.push(L, properties);
    else api.lua_createtable(L, 0, 0);
    api.lua_setfield(L, -2, names.properties);
  }
}
