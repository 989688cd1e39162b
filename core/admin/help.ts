import type { Command, Parameter } from "./command.ts";

/** One line for each first word of the command line. */
const GROUPS: Readonly<Record<string, string>> = {
  "api-key": "keys of the HTTP interfaces",
  cluster: "the nodes of the cluster",
  completion: "completion of commands in a shell",
  config: "values behind the settings",
  listener: "where clients connect",
  log: "log files and levels",
  metrics: "counters and gauges",
  node: "this node",
  plugin: "plugins and the chains of hooks",
  queue: "messages that wait for clients",
  retain: "retained messages",
  script: "Lua scripts",
  session: "clients and their sessions",
  tls: "certificates of listeners",
  trace: "what one client and the broker say",
  bridge: "connections to other brokers",
  webhooks: "HTTP endpoints that hooks ask",
};

/** The line behind `Usage: `. */
export function usageLine(command: Command): string {
  const parts = ["vmq-admin", ...command.path];
  if (command.words !== undefined) parts.push(command.words);
  if (command.anyArgs !== undefined) parts.push(command.anyArgs);
  for (const { name, value = "value", isRequired } of command.args ?? []) {
    const typed = `${name}=<${value}>`;
    parts.push(isRequired === true ? typed : `[${typed}]`);
  }
  const flags = command.flags ?? [];
  if (flags.length > FLAGS_IN_LINE) parts.push("[flags]");
  else parts.push(...flags.map((flag) => `[${flagText(flag)}]`));
  return parts.join(" ");
}

const FLAGS_IN_LINE = 5;

/** The usage of a command with what its arguments and flags mean; no line end. */
export function usageText(command: Command): string {
  const lines = [
    usageLine(command),
    "",
    `  ${command.help[0]?.toUpperCase()}${command.help.slice(1)}.`,
  ];
  if (command.details !== undefined) {
    lines.push("", ...command.details.split("\n").map((line) => (line === "" ? "" : `  ${line}`)));
  }
  const args = (command.args ?? []).map(({ name, value, help }): [string, string] => [
    `${name}=<${value ?? "value"}>`,
    help,
  ]);
  const flags = (command.flags ?? []).map((flag): [string, string] => [flagText(flag), flag.help]);
  if (args.length > 0) lines.push("", "Arguments:", ...columns(args));
  const global: [string, string] = ["--format=human|json|csv", "shape of the answer"];
  lines.push("", "Flags:", ...columns([...flags, global]));
  return lines.join("\n");
}

function flagText({ name, short, value, isValueOptional }: Parameter): string {
  const long = value === undefined ? `--${name}` : `--${name}=<${value}>`;
  const typed = isValueOptional === true ? `--${name}[=<${value}>]` : long;
  return short === undefined ? typed : `-${short} | ${typed}`;
}

/** What may follow the words of a group: its commands, each with a line. No line end. */
export function groupText(prefix: readonly string[], commands: readonly Command[]): string {
  const below = new Map<string, string>();
  for (const { path, help } of commands) {
    if (path.length <= prefix.length || prefix.some((word, at) => path[at] !== word)) continue;
    const word = path[prefix.length] as string;
    const isWhole = path.length === prefix.length + 1;
    const line = isWhole ? help : (GROUPS[word] ?? `commands that begin with ${word}`);
    if (isWhole || !below.has(word)) below.set(word, line);
  }
  const rows = [...below].sort(([a], [b]) => (a < b ? -1 : 1));
  const usage = ["vmq-admin", ...prefix, "<sub-command>"].join(" ");
  return [usage, "", "Sub-commands:", ...columns(rows), "", "--help behind one tells more."].join(
    "\n",
  );
}

function columns(rows: readonly (readonly [string, string])[]): string[] {
  const width = Math.min(34, Math.max(0, ...rows.map(([name]) => name.length)));
  return rows.map(([name, help]) => `  ${name.padEnd(width)}  ${help}`.trimEnd());
}
