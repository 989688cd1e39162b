import { spawnSync } from "node:child_process";

/** REQUIRE_SERVICES=1 (CI): a missing tool or service is a failure, not a skip. */
export const REQUIRE_SERVICES = process.env.REQUIRE_SERVICES === "1";

/**
 * True when a command can be run. Otherwise says loudly which Debian package has it, for
 * `describe.skipIf(!hasTool(...))`; with REQUIRE_SERVICES=1 it throws.
 */
export function requireTool(name: string, debianPackage: string, args = ["--help"]): boolean {
  const { error, status } = spawnSync(name, args, { stdio: "ignore" });
  // Some tools end `--help` with 1; a python module that is missing does as well, but with other args.
  if (error === undefined && (args[0] === "--help" || status === 0)) return true;
  return missing(`${name} ${args.join(" ")}`, `apt-get install ${debianPackage}`);
}

/** Says what is missing and how to get it; throws with REQUIRE_SERVICES=1; gives false. */
export function missing(what: string, remedy: string): false {
  const text = `SKIPPED: ${what} is missing: ${remedy}`;
  if (REQUIRE_SERVICES) throw new Error(text);
  console.warn(`\n*** ${text} ***\n`);
  return false;
}
