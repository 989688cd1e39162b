import { BadCommand, type Call, type Command, type Parameter, type TypedFlag } from "./command.ts";

/** What was typed, taken apart before it is known which command it is. */
export interface TypedLine {
  /** Leading words: neither `key=value` nor a flag. */
  readonly words: readonly string[];
  /** Everything behind them. */
  readonly rest: readonly string[];
}

export function splitLine(line: readonly string[]): TypedLine {
  const given = withoutTimeout(line.filter((word) => word !== ""));
  const end = given.findIndex((word) => word.startsWith("-") || word.includes("="));
  const at = end < 0 ? given.length : end;
  return { words: given.slice(0, at), rest: given.slice(at) };
}

/** VerneMQ's script takes `-rpctimeout <n>` anywhere; a command here has no such limit. */
function withoutTimeout(line: readonly string[]): string[] {
  const at = line.indexOf("-rpctimeout");
  return at < 0 ? [...line] : [...line.slice(0, at), ...line.slice(at + 2)];
}

/** Arguments and flags of one command; every one that it does not know is a fault. */
export function readParameters(
  command: Command,
  rest: readonly string[],
): Pick<Call, "args" | "flags"> & { format: string | undefined; wantsHelp: boolean } {
  const args = new Map<string, string>();
  const flags: TypedFlag[] = [];
  let format: string | undefined;
  let wantsHelp = false;
  for (let at = 0; at < rest.length; at++) {
    const word = rest[at] as string;
    if (!isFlag(word)) {
      readArgument(command, word, args);
      continue;
    }
    const { name, inline } = splitFlag(command, word);
    if (name === "help") {
      wantsHelp = true;
      continue;
    }
    const known = name === "format" ? FORMAT : knownFlag(command, name);
    let value = inline;
    const next = rest[at + 1];
    if (value === undefined && known.value !== undefined && next !== undefined && !isFlag(next)) {
      value = next;
      at++;
    }
    if (name === "format") format = value ?? "";
    else flags.push(checkedFlag(known, value));
  }
  return { args, flags, format, wantsHelp };
}

const FORMAT: Parameter = { name: "format", value: "human|json|csv", help: "shape of the answer" };

/** A negative number is a value. */
function isFlag(word: string): boolean {
  return word.startsWith("-") && !/^-\d+$/.test(word);
}

function splitFlag(command: Command, word: string): { name: string; inline: string | undefined } {
  if (word.startsWith("--")) {
    const at = word.indexOf("=");
    if (at < 0) return { name: word.slice(2), inline: undefined };
    const value = word.slice(at + 1);
    // An empty value is none: `--mountpoint=` asks for the column, as in VerneMQ.
    return { name: word.slice(2, at), inline: value === "" ? undefined : value };
  }
  const letter = word.slice(1, 2);
  const known = command.flags?.find(({ short }) => short === letter);
  if (known === undefined && letter === "h") return { name: "help", inline: undefined };
  const value = word.slice(2).replace(/^=/, "");
  return { name: known?.name ?? word.slice(1), inline: value === "" ? undefined : value };
}

function knownFlag(command: Command, name: string): Parameter {
  const known = command.flags?.find((flag) => flag.name === name);
  if (known !== undefined) return known;
  if ((command.flags ?? []).length === 0) throw new BadCommand(`Invalid Flags: ["${name}"]`);
  throw new BadCommand(`Invalid key: "${name}"`);
}

function checkedFlag(known: Parameter, value: string | undefined): TypedFlag {
  const { name } = known;
  if (value !== undefined && known.value === undefined) {
    throw new BadCommand(`Invalid value: ${JSON.stringify(value)} for flag: ${name}`);
  }
  if (value === undefined && known.value !== undefined && known.isValueOptional !== true) {
    if (name === "mountpoint") return { name, value };
    throw new BadCommand(`Invalid value: "" for flag: ${name}`);
  }
  if (value !== undefined && known.isValid?.(value) === false) {
    throw new BadCommand(`Invalid value: ${JSON.stringify(value)} for flag: ${name}`);
  }
  return { name, value };
}

function readArgument(command: Command, word: string, args: Map<string, string>): void {
  const at = word.indexOf("=");
  if (at < 0) throw new BadCommand(`Invalid arguments: ${word} `);
  const name = word.slice(0, at);
  const value = word.slice(at + 1);
  if (name === "" || value === "") throw new BadCommand(`Empty value in argument: "${word}"`);
  if (command.anyArgs === undefined) {
    const known = command.args?.find((argument) => argument.name === name);
    if (known === undefined) {
      const hasArgs = (command.args ?? []).length > 0;
      throw new BadCommand(hasArgs ? `Invalid key: "${name}"` : `Invalid arguments: ${word} `);
    }
    if (known.isValid?.(value) === false) throw new BadCommand(`Invalid arguments: ${word} `);
  }
  args.set(name, value);
}
