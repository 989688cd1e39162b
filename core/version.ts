import { readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

/** The version in package.json, which lies above the sources and above the built files. */
export function version(): string {
  for (
    let dir = dirname(fileURLToPath(import.meta.url));
    dir !== dirname(dir);
    dir = dirname(dir)
  ) {
    try {
      const found: unknown = JSON.parse(readFileSync(join(dir, "package.json"), "utf8"));
      if (typeof found === "object" && found !== null && "version" in found) {
        return String(found.version);
      }
    } catch {
      // Not here: look one folder up.
    }
  }
  return "unknown";
}
