import type { Command } from "./command.ts";
import { usageLine, usageText } from "./help.ts";

/** The reference of commands in Markdown, as in COMMANDS.md. */
export function commandReference(commands: readonly Command[]): string {
  const groups = new Map<string, Command[]>();
  for (const command of [...commands].sort((a, b) => (nameOf(a) < nameOf(b) ? -1 : 1))) {
    const [first = ""] = command.path;
    groups.set(first, [...(groups.get(first) ?? []), command]);
  }
  const parts = [...groups].map(([name, members]) => {
    const texts = members.map(
      (command) => `\`${usageLine(command)}\`\n\n${indented(usageText(command))}`,
    );
    return `## ${name}\n\n${texts.join("\n\n")}`;
  });
  return `${HEAD}\n\n${parts.join("\n\n")}\n`;
}

const HEAD = [
  "# Commands of vmq-admin",
  "",
  "This page is made from the table of commands (`npx vitest run test/core/admin/reference.test.ts` says when it is old, with",
  "`UPDATE_REFERENCE=1` it writes it again). The same commands are served by the HTTP API:",
  "`/api/v1/<word>/<word>?key=value&--flag`. [README.md](README.md) says how a broker is reached.",
].join("\n");

function nameOf({ path }: Command): string {
  return path.join(" ");
}

function indented(text: string): string {
  const [, ...rest] = text.split("\n");
  return rest
    .join("\n")
    .trim()
    .split("\n")
    .map((line) => (line === "" ? "" : `    ${line.replace(/^ {2}(?=\S)/, "")}`))
    .join("\n");
}
