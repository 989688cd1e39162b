#!/usr/bin/env node
import { readFileSync, realpathSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { errorMessage, NautilusError } from "../errors.ts";
import { COMPLETE, completionScript } from "./completion.ts";
import { type ControlAnswer, sendControl } from "./control.ts";
import { sendRemote } from "./remote.ts";

/** Which broker is meant; everything else of the command line goes there. */
interface Place {
  dataDir: string;
  socket: string | undefined;
  url: string | undefined;
  apiKey: string | undefined;
  apiKeyFile: string | undefined;
}

const OPTIONS: Readonly<Record<string, keyof Place>> = {
  "--data-dir": "dataDir",
  "--socket": "socket",
  "--url": "url",
  "--api-key": "apiKey",
  "--api-key-file": "apiKeyFile",
};

/** The command line of vmq-admin. Options that name the broker may stand anywhere. */
export async function runAdmin(
  argv: readonly string[],
  env: NodeJS.ProcessEnv,
  say?: (text: string) => void,
): Promise<ControlAnswer> {
  const place: Place = {
    dataDir: env.NAUTILUS_DATA_DIR ?? "data",
    socket: undefined,
    url: undefined,
    apiKey: env.NAUTILUS_API_KEY,
    apiKeyFile: undefined,
  };
  const words = [...argv];
  // Behind these words stands a line that somebody is still typing.
  const isTyping = COMPLETE.every((word, at) => words[at] === word);
  for (let at = 0; at < words.length && !isTyping; ) {
    const [option = "", ...inline] = (words[at] ?? "").split("=");
    const name = OPTIONS[option];
    if (name === undefined) {
      at++;
      continue;
    }
    const isInline = inline.length > 0;
    const value = isInline ? inline.join("=") : (words[at + 1] ?? "");
    if (value === "") return failed(`${option} needs a value`);
    place[name] = value;
    words.splice(at, isInline ? 1 : 2);
  }
  const [command = "", ...args] = words;
  const script =
    command === "completion" && args.length === 1 ? completionScript(args[0] ?? "") : undefined;
  if (script !== undefined) return { exit: 0, stdout: script, stderr: "" };
  try {
    if (place.url !== undefined) return await remotely(place.url, place, words);
    const socket = place.socket === undefined ? {} : { socket: place.socket };
    return await sendControl(
      place.dataDir,
      { command, args },
      { ...socket, ...(say === undefined ? {} : { say }) },
    );
  } catch (error) {
    if (!(error instanceof NautilusError)) throw error;
    return failed(`${error.message}. ${error.hint}`);
  }
}

function remotely(
  url: string,
  place: Place,
  words: readonly string[],
): Promise<ControlAnswer> | ControlAnswer {
  if (!/^https?:\/\//.test(url) || !URL.canParse(url)) {
    return failed(`--url ${url} is no http:// or https:// address`);
  }
  let { apiKey } = place;
  if (place.apiKeyFile !== undefined) {
    try {
      apiKey = readFileSync(place.apiKeyFile, "utf8").trim();
    } catch (error) {
      return failed(errorMessage(error));
    }
  }
  if (apiKey === undefined) {
    return failed("--url needs an API key of scope mgmt in NAUTILUS_API_KEY or --api-key-file");
  }
  return sendRemote({ url, apiKey }, words);
}

function failed(reason: string): ControlAnswer {
  return { exit: 1, stdout: "", stderr: `${reason}\n` };
}

const started = process.argv[1];
// npm links commands into node_modules/.bin, so that only the real path tells.
if (started !== undefined && realpathSync(started) === fileURLToPath(import.meta.url)) {
  // A reader that has seen enough, such as `head`, is no fault.
  process.stdout.on("error", () => process.exit(0));
  const answer = await runAdmin(process.argv.slice(2), process.env, (text) =>
    process.stdout.write(text),
  );
  process.stdout.write(answer.stdout);
  process.stderr.write(answer.stderr);
  process.exitCode = answer.exit;
}
