import {
  type LibraryFactory,
  type LuaCall,
  LuaError,
  type LuaValue,
  tableOf,
  textOf,
  typeNameOf,
} from "../worker/library.ts";
import { Obfuscator } from "./obf.ts";

/** Longest line of a script in the log; what is behind it is cut. */
const LINE_CHARS_MAX = 8192;

/** Lines to the broker's log with the script's name. */
export const log: LibraryFactory = (host) => {
  const at =
    (level: "debug" | "info" | "warn" | "error", name: string) =>
    (call: LuaCall, text: LuaValue): undefined => {
      if (!Buffer.isBuffer(text)) {
        throw new LuaError(`log.${name} takes one string, not ${typeNameOf(text)}`);
      }
      const line = text.toString("utf8");
      const cut = line.length - LINE_CHARS_MAX;
      const shown = cut > 0 ? `${line.slice(0, LINE_CHARS_MAX)}... (${cut} more)` : line;
      host.log(level, shown, {}, call);
    };
  return {
    info: at("info", "info"),
    warning: at("warn", "warning"),
    error: at("error", "error"),
    debug: at("debug", "debug"),
  };
};

/** Passwords of clients arrive encrypted, so that no script writes them somewhere by accident. */
export const obf: LibraryFactory = ({ secret }) => {
  const obfuscator = new Obfuscator(secret);
  return {
    encrypt: (_, text) => obfuscator.hide(stringOf(text, "obf.encrypt")),
    decrypt: (_, text) => {
      const clear = obfuscator.reveal(stringOf(text, "obf.decrypt"));
      if (clear !== undefined) return clear;
      throw new LuaError("obf.decrypt: this was not encrypted by this broker");
    },
  };
};

function stringOf(value: LuaValue, name: string): Buffer {
  if (Buffer.isBuffer(value)) return value;
  throw new LuaError(`${name} takes a string, not ${typeNameOf(value)}`);
}

export const vmqApi: LibraryFactory = (host) => {
  const idOf = (value: LuaValue, name: string): { mountpoint: string; clientId: string } => {
    const { hash } = tableOf(value, `${name}: subscriber id`);
    const field = (key: string): string => {
      const given = hash.get(key);
      if (given === undefined) throw new LuaError(`${name}: ${key} is missing`);
      return textOf(given, `${name}: ${key}`);
    };
    return { mountpoint: field("mountpoint"), clientId: field("client_id") };
  };
  return {
    disconnect_by_subscriber_id: async (call, id, options) => {
      const name = "vmq_api.disconnect_by_subscriber_id";
      const cleanup =
        options === undefined ? false : tableOf(options, `${name}: options`).hash.get("do_cleanup");
      const args = { ...idOf(id, name), cleanup: cleanup === true };
      return (await host.ask("vmq_api.disconnect", args, call)) as string;
    },
    reauthorize_subscriptions: async (call, username, id) => {
      const name = "vmq_api.reauthorize_subscriptions";
      const user =
        username === undefined ? {} : { username: textOf(username, `${name}: username`) };
      return (await host.ask(
        "vmq_api.reauthorize",
        { ...idOf(id, name), ...user },
        call,
      )) as string;
    },
  };
};
