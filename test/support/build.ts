import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { waitFor } from "./broker.ts";

/** Root of the repository. */
export const ROOT = resolve(dirname(fileURLToPath(import.meta.url)), "../..");
/** The broker as users start it. */
export const MAIN = join(ROOT, "dist/core/main.js");

const BUILD_WAIT_MS = 120_000;

/**
 * Compiles `dist/` once per test run, so that the process under test is what the sources say. Test
 * files run in several processes: the first builds, the others wait for it.
 */
export async function built(): Promise<string> {
  // All workers of one run have the same parent.
  const run = statSync(`/proc/${process.ppid}`, { throwIfNoEntry: false })?.ctimeMs ?? 0;
  const claim = join(tmpdir(), `nautilus-build-${process.ppid}-${Math.round(run)}`);
  const done = join(claim, "done");
  try {
    mkdirSync(claim);
  } catch {
    // Another test file builds or has built.
    await waitFor(`${done} exists`, () => existsSync(done), BUILD_WAIT_MS);
    return MAIN;
  }
  const result = spawnSync("npm", ["run", "-s", "build"], { cwd: ROOT, encoding: "utf8" });
  writeFileSync(done, result.stdout);
  // Files are written in spite of type errors; `npm run check` is there to report those.
  if (!existsSync(MAIN)) throw new Error(`no ${MAIN} after tsc:\n${result.stdout}`);
  if (result.status !== 0) console.warn(`tsc found errors, testing what it wrote anyway`);
  return MAIN;
}
