import { existsSync } from "node:fs";
import { errorMessage } from "../errors.ts";
import { BadCommand, type Call, type Command, flagValue } from "./command.ts";
import { readParameters, splitLine } from "./command-line.ts";
import { COMPLETE, candidates } from "./completion.ts";
import { alert, type Element } from "./elements.ts";
import { groupText, usageText } from "./help.ts";
import { type Answer, render, renderLong } from "./render.ts";

/** How a command is run: by default it ends by itself and says nothing before that. */
export interface RunOptions {
  readonly say?: (text: string) => void;
  readonly signal?: AbortSignal;
  /** Headings without escape sequences. */
  readonly isPlain?: boolean;
}

interface Prepared {
  readonly command: Command;
  readonly call: Call;
  readonly format: string | undefined;
  readonly wantsHelp: boolean;
}

/** The table of all commands: finds one, checks what was typed, runs it. */
export class Registry {
  private readonly own: readonly Command[];
  private readonly ofPlugins: () => readonly Command[];
  /** Names of settings, for the completion of commands in a shell. */
  private readonly settings: () => readonly string[];

  constructor(
    own: readonly Command[],
    ofPlugins: () => readonly Command[] = () => [],
    settings: () => readonly string[] = () => [],
  ) {
    this.own = own;
    this.ofPlugins = ofPlugins;
    this.settings = settings;
  }

  /** Every command there is now; those of plugins come and go with them. */
  commands(): Command[] {
    return [...this.own, ...this.ofPlugins()];
  }

  /** Runs a line as typed behind `vmq-admin`. Never throws: what fails is in the answer. */
  async run(line: readonly string[], options: RunOptions = {}): Promise<Answer> {
    if (COMPLETE.every((word, at) => line[at] === word)) {
      const found = candidates(this.commands(), line.slice(COMPLETE.length), this.settings());
      return { exit: 0, stdout: found.map((word) => `${word}\n`).join(""), stderr: "" };
    }
    let prepared: Prepared;
    try {
      prepared = this.read(line, options);
    } catch (error) {
      return refusal(error, line, options);
    }
    const { command, call, format, wantsHelp } = prepared;
    if (wantsHelp) return { exit: 0, stdout: `Usage: ${usageText(command)}\n`, stderr: "" };
    try {
      const elements = await runChecked(command, format === "json" ? jsonLines(call) : call);
      return { exit: 0, ...(await renderLong(elements, format, options.isPlain)) };
    } catch (error) {
      return refusal(error, line, options);
    }
  }

  /**
   * For the HTTP API: undefined when there is no such command or argument; otherwise the function that
   * runs it and gives JSON. That rejects when the command fails, with BadCommand for what can never work.
   */
  prepare(line: readonly string[]): (() => Promise<string>) | undefined {
    try {
      const { command, call, wantsHelp } = this.read(line, {});
      if (command.isEndless === true || wantsHelp) return undefined;
      return async () => (await renderLong(await runChecked(command, call), "json")).stdout;
    } catch (error) {
      if (error instanceof BadCommand) return undefined;
      throw error;
    }
  }

  private read(line: readonly string[], options: RunOptions): Prepared {
    const { words, rest } = splitLine(line);
    const command = this.find(words);
    if (command === undefined) throw new BadCommand(`Usage: ${this.groupHelp(words)}`);
    const { args, flags, format, wantsHelp } = readParameters(command, rest);
    const call: Call = {
      args,
      flags,
      words: words.slice(command.path.length),
      say: options.say ?? (() => undefined),
      signal: options.signal ?? NEVER,
    };
    return { command, call, format, wantsHelp };
  }

  /** The command with the longest path; words behind it only where it takes some. */
  private find(words: readonly string[]): Command | undefined {
    let found: Command | undefined;
    for (const command of this.commands()) {
      const { path } = command;
      if (path.length > words.length || path.some((word, at) => words[at] !== word)) continue;
      if (path.length < words.length && command.words === undefined) continue;
      if (found === undefined || path.length > found.path.length) found = command;
    }
    return found;
  }

  /** The help of the longest known beginning. */
  private groupHelp(words: readonly string[]): string {
    const commands = this.commands();
    for (let end = words.length; end > 0; end--) {
      const prefix = words.slice(0, end);
      const isGroup = commands.some(
        ({ path }) => path.length > end && prefix.every((word, at) => path[at] === word),
      );
      if (isGroup) return groupText(prefix, commands);
    }
    return groupText([], commands);
  }
}

/** What an endless command says, as one object a line. */
function jsonLines(call: Call): Call {
  return {
    ...call,
    say: (content) => call.say(`${JSON.stringify({ type: "text", text: content.trimEnd() })}\n`),
  };
}

const NEVER = new AbortController().signal;

function missingArgument({ args = [] }: Command, call: Call): string | undefined {
  return args.find(({ name, isRequired }) => isRequired === true && !call.args.has(name))?.name;
}

async function runChecked(command: Command, call: Call): Promise<readonly Element[]> {
  // VerneMQ answers so, with exit code 0.
  if (missingArgument(command, call) !== undefined) return [alert(usageText(command))];
  const needsMore = command.flags?.some(({ name }) => name === "mountpoint") === true;
  if (needsMore && isMountpointAlone(command, call)) return [alert("Invalid mountpoint value")];
  for (const { name, isPath } of command.flags ?? []) {
    const path = isPath === true ? flagValue(call, name) : undefined;
    if (path !== undefined && !existsSync(path)) {
      throw new BadCommand(`Invalid value: ${JSON.stringify(path)} for flag: ${name}`);
    }
  }
  command.check?.(call);
  return command.run(call);
}

function isMountpointAlone({ flags = [] }: Command, call: Call): boolean {
  const known = flags.find(({ name }) => name === "mountpoint");
  if (known?.isValueOptional === true) return false;
  return call.flags.some(({ name, value }) => name === "mountpoint" && value === undefined);
}

/** What is wrong with what was typed goes where answers go, as in VerneMQ; failures do not. */
function refusal(error: unknown, line: readonly string[], options: RunOptions): Answer {
  const reason = errorMessage(error);
  if (!(error instanceof BadCommand)) return { exit: 1, stdout: "", stderr: `${reason}\n` };
  if (!error.isAlert) return { exit: 1, stdout: `${reason}\n`, stderr: "" };
  const typed = line.find((word) => word.startsWith("--format="));
  return { exit: 1, ...render([alert(reason)], typed?.slice("--format=".length), options.isPlain) };
}
