/** `log`: lines of scripts in the broker's log. */
import type { LibraryHost, LuaFunction, LuaLibrary } from "../worker/library.ts";
import { stringOf } from "./arguments.ts";

/** Longest line; what is behind it is cut. */
const LINE_CHARS_MAX = 8192;

/** Makes `log.info`, `log.warning`, `log.error` and `log.debug`. Their lines carry the script's name. */
export function logLibrary(host: LibraryHost): LuaLibrary {
  const writer =
    (level: "debug" | "info" | "warn" | "error", name: string): LuaFunction =>
    (call, message) => {
      const text = stringOf(message, `log.${name}: the message`);
      const cut = text.length - LINE_CHARS_MAX;
      const line = cut > 0 ? `${text.slice(0, LINE_CHARS_MAX)}... (${cut} more)` : text;
      host.log(level, line, undefined, call);
      return undefined;
    };
  return {
    debug: writer("debug", "debug"),
    info: writer("info", "info"),
    warning: writer("warn", "warning"),
    error: writer("error", "error"),
  };
}
