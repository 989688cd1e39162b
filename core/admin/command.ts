import type { Element } from "./elements.ts";

/** A `key=value` argument or a `--flag` of a command. */
export interface Parameter {
  readonly name: string;
  /** Flags only: one letter, `-n`. */
  readonly short?: string;
  /** What stands for its value in the help; undefined = a flag without a value. */
  readonly value?: string;
  /** A flag that may stand alone or have a value, such as the columns of `session show`. */
  readonly isValueOptional?: true;
  /** Arguments only: without it the command answers with its usage. */
  readonly isRequired?: true;
  readonly help: string;
  /** Says whether a value can be one; others are refused before the command runs. */
  readonly isValid?: (value: string) => boolean;
  /** A path that must exist. Looked at when the command runs: who may not run it learns nothing of files. */
  readonly isPath?: true;
}

/** A flag as it was typed; the same one may come several times. */
export interface TypedFlag {
  readonly name: string;
  /** Undefined = it stood alone. */
  readonly value: string | undefined;
}

/** What was typed, and the way back to whoever typed it. */
export interface Call {
  /** `key=value` arguments in the order typed. */
  readonly args: ReadonlyMap<string, string>;
  readonly flags: readonly TypedFlag[];
  /** Words behind the path, for commands that take some. */
  readonly words: readonly string[];
  /** Sends a text at once; for commands that go on until they are interrupted. */
  readonly say: (text: string) => void;
  /** Aborted when nobody waits for the answer any more. */
  readonly signal: AbortSignal;
}

/** One command: a row of the table that the command line, the HTTP API and the reference share. */
export interface Command {
  readonly path: readonly string[];
  /** One line. */
  readonly help: string;
  /** More lines for its own help page. */
  readonly details?: string;
  readonly args?: readonly Parameter[];
  readonly flags?: readonly Parameter[];
  /** Words that may follow the path, as the help names them: `<variable> ...`. */
  readonly words?: string;
  /** Any `key=value` is an argument, as in `set`; the help names them so. */
  readonly anyArgs?: string;
  /** Goes on until it is interrupted; not for the HTTP API. */
  readonly isEndless?: true;
  /** Throws BadCommand when what was typed can never work, before the command runs. */
  check?(call: Call): void;
  run(call: Call): readonly Element[] | Promise<readonly Element[]>;
}

/** What was typed is no command, or not one of its arguments; exit code 1, HTTP status 400. */
export class BadCommand extends Error {
  /** Told as an alert in JSON, otherwise as plain text. */
  readonly isAlert: boolean;

  constructor(message: string, isAlert = false) {
    super(message);
    this.isAlert = isAlert;
  }
}

/** The value of a flag, its last one if it came several times; undefined = absent or alone. */
export function flagValue({ flags }: Pick<Call, "flags">, name: string): string | undefined {
  return flags.findLast((flag) => flag.name === name && flag.value !== undefined)?.value;
}

/** True when a flag was typed, with a value or without. */
export function hasFlag({ flags }: Pick<Call, "flags">, name: string): boolean {
  return flags.some((flag) => flag.name === name);
}

/** The whole number of a flag; `fallback` when it was not typed. */
export function flagInt(call: Pick<Call, "flags">, name: string, fallback: number): number {
  const value = flagValue(call, name);
  return value === undefined ? fallback : Number(value);
}

/** Checks of values that several commands share. */
export const isPositiveInt = (value: string): boolean => /^[1-9]\d{0,9}$/.test(value);
export const isInt = (value: string): boolean => /^\d{1,10}$/.test(value);
export const isBoolean = (value: string): boolean => value === "true" || value === "false";

/** `--mountpoint`, the same everywhere. */
export const MOUNTPOINT: Parameter = {
  name: "mountpoint",
  short: "m",
  value: "Mountpoint",
  help: "the mountpoint of the client, by default the empty one",
};
