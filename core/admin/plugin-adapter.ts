import type { PluginCommand } from "../hooks/define-plugin.ts";
import { BadCommand, type Call, type Command, type Parameter } from "./command.ts";
import { elementsOf } from "./elements.ts";

/** A plugin's command as a row of the table. */
export function pluginCommand(command: PluginCommand): Command {
  const { path, help } = command;
  const args: readonly Parameter[] = command.args ?? argsOf(command.usage);
  const flags: readonly Parameter[] = command.flags ?? flagsOf(command.usage);
  return {
    path,
    help,
    args,
    ...(command.anyArgs === undefined ? {} : { anyArgs: command.anyArgs }),
    // A plugin that only has a usage line may be asked either way.
    flags: command.args === undefined ? [...flags, ...args.map(asFlag)] : flags,
    ...(command.words === undefined ? {} : { words: wordsText(command.words) }),
    run: async (call) => elementsOf(await command.run(valuesOf(call, command.words))),
  };
}

/** Everything that stands before a `=` and has no dashes. */
function argsOf(usage: string): Parameter[] {
  return [...usage.matchAll(/(?<![\w-])([a-z][\w-]*)=([^\]\s]+)/g)].map(
    ([, name = "", value = ""]) => ({
      name,
      value,
      help: "",
    }),
  );
}

function flagsOf(usage: string): Parameter[] {
  return [...usage.matchAll(/--([a-z][\w-]*)(?:=([^\]\s]+))?/g)].map(([, name = "", value]) => ({
    name,
    ...(value === undefined ? {} : { value }),
    help: "",
  }));
}

function asFlag(parameter: Parameter): Parameter {
  const { isRequired: _, ...flag } = parameter;
  return flag;
}

function wordsText(names: readonly string[]): string {
  return names.map((name) => `<${name}>`).join(" ");
}

function valuesOf(
  { args, flags, words }: Call,
  names: readonly string[] = [],
): Map<string, string> {
  const values = new Map(args);
  for (const [at, word] of words.entries()) {
    const name = names[at];
    if (name === undefined || values.has(name)) throw new BadCommand(`Invalid arguments: ${word} `);
    values.set(name, word);
  }
  for (const { name, value } of flags) values.set(name, value ?? "");
  return values;
}
