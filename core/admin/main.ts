#!/usr/bin/env node
import { realpathSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { NautilusError } from "../errors.ts";
import { type ControlAnswer, sendControl } from "./control.ts";

/** Command line of vmq-admin: everything but `--data-dir DIR` goes to the broker. */
export async function runAdmin(
  argv: readonly string[],
  env: NodeJS.ProcessEnv,
): Promise<ControlAnswer> {
  const words: string[] = [];
  let dataDir = env.NAUTILUS_DATA_DIR ?? "data";
  for (let index = 0; index < argv.length; index++) {
    const word = argv[index] ?? "";
    if (word === "--data-dir") {
      index += 1;
      dataDir = argv[index] ?? "";
      if (dataDir === "") return { exit: 1, stdout: "", stderr: "--data-dir needs a directory\n" };
    } else if (word.startsWith("--data-dir=")) {
      dataDir = word.slice("--data-dir=".length);
    } else words.push(word);
  }
  try {
    const [command = "", ...args] = words;
    return await sendControl(dataDir, { command, args });
  } catch (error) {
    if (!(error instanceof NautilusError)) throw error;
    return { exit: 1, stdout: "", stderr: `${error.message}. ${error.hint}\n` };
  }
}

const started = process.argv[1];
// npm links commands into node_modules/.bin, so that only the real path tells.
if (started !== undefined && realpathSync(started) === fileURLToPath(import.meta.url)) {
  const answer = await runAdmin(process.argv.slice(2), process.env);
  process.stdout.write(answer.stdout);
  process.stderr.write(answer.stderr);
  process.exitCode = answer.exit;
}
