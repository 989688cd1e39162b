#!/usr/bin/env node
/** The command `vmq-passwd`: edits password files. */
import { realpathSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { userFault, withHashes, withoutUser, withUser } from "./edit.ts";
import { createPasswordHash, ITERATIONS_DEFAULT, ITERATIONS_MAX } from "./hashes.ts";
import { askHidden } from "./prompt.ts";
import { changeFile, createFile, exists } from "./replace-file.ts";

const HELP = `vmq-passwd manages the password file of vmq_passwd (and of Mosquitto 2).

Usage: vmq-passwd [-c [-f]] [options] FILE USER            add a user or change the password
       vmq-passwd [-c [-f]] -b [options] FILE USER PASSWORD
       vmq-passwd -D FILE USER                             delete a user
       vmq-passwd -U [options] FILE                        hash the plain-text passwords of a file

 -c               create the file; refused if it exists
 -cf              create the file, overwriting an existing one
 -b               take the password from the command line, where other users of this machine see it
 --vernemq        write $6$ hashes (one round of SHA-512), which VerneMQ reads
 --iterations N   rounds of PBKDF2-SHA512 in new $7$ hashes, default ${ITERATIONS_DEFAULT}

Passwords are asked for twice, or read from standard input as two lines.
`;

/** What the command needs of its surroundings. */
export interface Terminal {
  /** A line typed without echo after each prompt; fewer if the input ends. */
  ask(prompts: readonly string[]): Promise<string[]>;
  out(text: string): void;
  error(text: string): void;
}

const OPTIONS = {
  create: { type: "boolean", short: "c" },
  force: { type: "boolean", short: "f" },
  delete: { type: "boolean", short: "D" },
  upgrade: { type: "boolean", short: "U" },
  batch: { type: "boolean", short: "b" },
  help: { type: "boolean", short: "h" },
  vernemq: { type: "boolean" },
  iterations: { type: "string" },
} as const;

interface Flags {
  create?: boolean;
  force?: boolean;
  delete?: boolean;
  upgrade?: boolean;
  batch?: boolean;
  help?: boolean;
  vernemq?: boolean;
  iterations?: string;
}

/** Runs the command; gives the exit code, 0 or 1. */
export async function runPasswd(argv: readonly string[], terminal: Terminal): Promise<number> {
  const parsed = readArguments(argv);
  if (parsed === undefined || parsed.flags.help === true) {
    terminal[parsed === undefined ? "error" : "out"](HELP);
    return parsed === undefined ? 1 : 0;
  }
  try {
    await runMode(parsed.flags, parsed.words, terminal);
    return 0;
  } catch (error) {
    if (!(error instanceof Error)) throw error;
    terminal.error(`Error: ${error.message}\n`);
    return 1;
  }
}

/** Undefined for anything that is none of the four forms. */
function readArguments(argv: readonly string[]): { flags: Flags; words: string[] } | undefined {
  try {
    const { values, positionals } = parseArgs({
      args: [...argv],
      options: OPTIONS,
      allowPositionals: true,
    });
    const flags: Flags = values;
    if (flags.help === true) return { flags, words: [] };
    const wanted = flags.upgrade === true ? 1 : flags.batch === true ? 3 : 2;
    const isMixed =
      [flags.delete, flags.upgrade, flags.create ?? flags.batch].filter(Boolean).length > 1;
    const isForceAlone = flags.force === true && flags.create !== true;
    if (isMixed || isForceAlone || positionals.length !== wanted) return undefined;
    return { flags, words: positionals };
  } catch {
    return undefined; // parseArgs throws for an unknown option
  }
}

async function runMode(flags: Flags, words: string[], terminal: Terminal): Promise<void> {
  const [file = "", user = "", given] = words;
  const createHash = hasher(flags);
  if (flags.upgrade === true) return upgrade(file, createHash, terminal);
  const fault = userFault(user);
  if (fault !== undefined) throw new Error(fault);
  const isThere = await exists(file);
  if (flags.create !== true && !isThere) {
    throw new Error(`Unable to open password file ${file}; use -c to create it.`);
  }
  if (flags.delete === true) return remove(file, user, terminal);
  if (flags.create === true && flags.force !== true && isThere) {
    throw new Error(`The file ${file} already exists; use -cf to overwrite it.`);
  }
  const hash = await createHash(given ?? (await askTwice(terminal)));
  if (flags.create === true) {
    await createFile(file, withUser("", user, hash), flags.force === true);
  } else await changeFile(file, async (text) => withUser(text, user, hash));
}

function hasher(flags: Flags): (password: string) => Promise<string> {
  const { vernemq = false, iterations = String(ITERATIONS_DEFAULT) } = flags;
  const count = /^\d{1,8}$/.test(iterations) ? Number(iterations) : 0;
  if (count < 1 || count > ITERATIONS_MAX) {
    throw new Error(`--iterations must be a number from 1 to ${ITERATIONS_MAX}.`);
  }
  return (password) => {
    if (password === "") throw new Error("Empty password.");
    return createPasswordHash(
      password,
      vernemq ? { form: "sha512" } : { form: "pbkdf2", iterations: count },
    );
  };
}

async function askTwice(terminal: Terminal): Promise<string> {
  const [password, again] = await terminal.ask(["Password: ", "Reenter password: "]);
  if (password === undefined || password === "") throw new Error("Empty password.");
  if (password !== again) throw new Error("Passwords do not match.");
  return password;
}

async function remove(file: string, user: string, terminal: Terminal): Promise<void> {
  await changeFile(file, async (text) => {
    const next = withoutUser(text, user);
    if (next === undefined) terminal.error(`Warning: User ${user} not found in password file.\n`);
    return next;
  });
}

async function upgrade(
  file: string,
  createHash: (password: string) => Promise<string>,
  terminal: Terminal,
): Promise<void> {
  if (!(await exists(file))) throw new Error(`Unable to open password file ${file}.`);
  await changeFile(file, async (text) => {
    const { text: next, hashed, kept } = await withHashes(text, createHash);
    if (kept > 0) terminal.error(`Warning: ${kept} lines already hold hashes and stay.\n`);
    return hashed === 0 ? undefined : next;
  });
}

const started = process.argv[1];
// npm links commands into node_modules/.bin, so that only the real path tells.
if (started !== undefined && realpathSync(started) === fileURLToPath(import.meta.url)) {
  process.exitCode = await runPasswd(process.argv.slice(2), {
    ask: (prompts) => askHidden(prompts, process.stdin, process.stdout),
    out: (text) => process.stdout.write(text),
    error: (text) => process.stderr.write(text),
  });
}
