import type { Command, Parameter } from "./command.ts";

/** What could be typed next; each ends where the shell should end the word, or at its `=`. */
export function candidates(
  commands: readonly Command[],
  typed: readonly string[],
  settings: readonly string[],
): string[] {
  const before = typed.slice(0, -1);
  const last = typed.at(-1) ?? "";
  const words = before.filter((word) => !word.startsWith("-") && !word.includes("="));
  const isPast = words.length < before.length;
  const command = longest(commands, words);
  const found = new Set<string>();
  if (!isPast) {
    for (const { path } of commands) {
      const next = path[words.length];
      if (next !== undefined && words.every((word, at) => path[at] === word)) found.add(next);
    }
  }
  if (command !== undefined) {
    for (const parameter of command.args ?? []) addParameter(found, parameter, "", last);
    for (const parameter of [...(command.flags ?? []), FORMAT]) {
      if (last.startsWith("-")) addParameter(found, parameter, "--", last);
    }
    if (command.words?.includes("<variable>")) for (const key of settings) found.add(key);
    if (command.anyArgs !== undefined) for (const key of settings) found.add(`${key}=`);
  }
  return [...found].filter((word) => word.startsWith(last)).sort();
}

const FORMAT: Parameter = { name: "format", value: "human|json|csv", help: "" };

function longest(commands: readonly Command[], words: readonly string[]): Command | undefined {
  let found: Command | undefined;
  for (const command of commands) {
    const { path } = command;
    if (path.length > words.length || path.some((word, at) => words[at] !== word)) continue;
    if (found === undefined || path.length > found.path.length) found = command;
  }
  return found;
}

/** The name; behind its `=` the values, where they are a list of words. */
function addParameter(
  found: Set<string>,
  parameter: Parameter,
  dashes: string,
  last: string,
): void {
  const { name, value, isValueOptional } = parameter;
  const start = `${dashes}${name}=`;
  if (value !== undefined && last.startsWith(start)) {
    if (!/^[a-z\d_,|-]+$/.test(value) || !value.includes("|")) return;
    for (const word of value.split("|")) found.add(`${start}${word}`);
    return;
  }
  if (value === undefined || isValueOptional === true) found.add(`${dashes}${name}`);
  if (value !== undefined) found.add(start);
}

/** The words that ask a running broker what could come next. */
export const COMPLETE = ["completion", "words"] as const;

const BASH = `# bash: source <(vmq-admin completion bash)
_vmq_admin() {
  local line="\${COMP_LINE:0:COMP_POINT}" current="\${COMP_WORDS[COMP_CWORD]}" IFS=$'\\n'
  local -a typed
  IFS=$' \\t' read -r -a typed <<< "$line"
  [[ "$line" == *[[:space:]] ]] && typed+=("")
  # readline sees "=" as a word of its own: what stands in front of it is not replaced.
  local last="\${typed[-1]}" front=""
  [[ "$last" == *=* && "$COMP_WORDBREAKS" == *=* ]] && front="\${last%"\${last##*=}"}"
  COMPREPLY=($(vmq-admin completion words "\${typed[@]:1}" 2>/dev/null))
  COMPREPLY=("\${COMPREPLY[@]#"$front"}")
  [[ "\${#COMPREPLY[@]}" == 1 && "\${COMPREPLY[0]}" == *= ]] && compopt -o nospace
  return 0
}
complete -F _vmq_admin vmq-admin
`;

const ZSH = `#compdef vmq-admin
# zsh: source <(vmq-admin completion zsh)
_vmq_admin() {
  local -a found whole open
  found=(\${(f)"$(vmq-admin completion words "\${(@)words[2,CURRENT]}" 2>/dev/null)"})
  open=(\${(M)found:#*=})
  whole=(\${found:#*=})
  (( \${#whole} )) && compadd -- $whole
  (( \${#open} )) && compadd -S '' -- $open
}
compdef _vmq_admin vmq-admin
`;

/** A shell's script, which asks the broker for each word; undefined for other shells. */
export function completionScript(shell: string): string | undefined {
  return shell === "bash" ? BASH : shell === "zsh" ? ZSH : undefined;
}
