import { type LibraryFactory, LuaError, textOf } from "../worker/library.ts";

/**
 * `os.getenv`: the prelude puts it there. Of the broker's environment scripts see what the operator has
 * named. Another name is an error and not nil, which a script would take for "use your default".
 */
export const environment: LibraryFactory = (host) => {
  const names = String(host.settings.get("vmq_diversity.environment") ?? "").split(",");
  return {
    getenv: (_, value) => {
      const name = textOf(value, "os.getenv: name");
      if (names.includes(name)) return process.env[name];
      throw new LuaError(
        `os.getenv is not available to scripts for "${name}": name it in vmq_diversity.environment`,
      );
    },
  };
};
