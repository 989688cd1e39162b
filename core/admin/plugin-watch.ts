import { readdirSync, statSync } from "node:fs";
import { join } from "node:path";
import { errorMessage } from "../errors.ts";
import type { PluginSource } from "../hooks/configured.ts";
import type { Logger } from "../logger.ts";

/** Fast enough for a person who saves a file; polling sees every kind of replacement on every disk. */
const LOOK_MS = 300;
/** More files than a plugin has: somebody watches the wrong folder. */
const FILES_MAX = 2000;

/** Reloads plugins whose files changed, for development; gives the function that ends it. */
export function watchPlugins(
  plugins: readonly PluginSource[],
  reload: (name: string) => Promise<void>,
  log: Logger,
): () => void {
  const watched = plugins.flatMap(({ definition: { name }, file }) =>
    file === undefined || file.isBundled
      ? []
      : [{ name, root: file.root, seen: fingerprint(file.root) }],
  );
  const timer = setInterval(() => {
    for (const each of watched) {
      const now = fingerprint(each.root);
      if (now === each.seen) continue;
      each.seen = now;
      reload(each.name).catch((error: unknown) => {
        log.error("plugin not reloaded, the old version stays", {
          plugin: each.name,
          cause: errorMessage(error),
        });
      });
    }
  }, LOOK_MS);
  timer.unref();
  for (const { name, root } of watched) log.info("plugin watched", { plugin: name, folder: root });
  return () => clearInterval(timer);
}

/** Changes when a file of a folder changes; packages that it uses do not count. */
function fingerprint(root: string): string {
  const seen: string[] = [];
  const look = (path: string): void => {
    const stat = statSync(path, { throwIfNoEntry: false });
    if (stat === undefined || seen.length >= FILES_MAX) return;
    if (!stat.isDirectory()) {
      seen.push(`${path}:${stat.mtimeMs}:${stat.size}:${stat.ino}`);
      return;
    }
    for (const name of readdirSync(path).sort()) {
      if (name !== "node_modules" && !name.startsWith(".")) look(join(path, name));
    }
  };
  look(root);
  return seen.join("\n");
}
