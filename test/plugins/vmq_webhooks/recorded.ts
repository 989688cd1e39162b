import { readFileSync } from "node:fs";
import { join } from "node:path";

/** Lines of a recording of VerneMQ 2.2.0. */
export function recorded<T>(file: string): T[] {
  const text = readFileSync(join(import.meta.dirname, "golden", file), "utf8").trimEnd();
  return text.split("\n").map((line) => JSON.parse(line) as T);
}
