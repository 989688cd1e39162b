import { existsSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { makeFolder } from "../folder.ts";
import { fileSyntax, readConfigFile } from "./parse.ts";

const HEAD = `## Written by \`vmq-admin set --persist\`, read after vernemq.conf.
## \`vmq-admin config reset\` removes a line.
`;

/** Where `vmq-admin set --persist` keeps settings: in the data directory, beside the store. */
export function savedSettingsFile(dataDir: string): string {
  return join(resolve(dataDir), "vmq-admin.conf");
}

/** Settings of that file by key; empty when there is none. */
export function savedSettings(dataDir: string): Map<string, string> {
  const file = savedSettingsFile(dataDir);
  if (!existsSync(file)) return new Map();
  const { entries } = readConfigFile(file, dirname(file));
  return new Map(entries.map(({ key, text }) => [key, text]));
}

/** Adds settings to the file, or with undefined removes them; the file is replaced as a whole. */
export function saveSettings(
  dataDir: string,
  changes: ReadonlyMap<string, string | undefined>,
): void {
  const settings = savedSettings(dataDir);
  for (const [key, text] of changes) {
    if (text === undefined) settings.delete(key);
    else settings.set(key, text);
  }
  const file = savedSettingsFile(dataDir);
  if (settings.size === 0) {
    rmSync(file, { force: true });
    return;
  }
  const lines = [...settings].map(([key, text]) => `${key} = ${fileSyntax(text)}\n`);
  makeFolder(dirname(file), 0o750);
  writeFileSync(`${file}.new`, HEAD + lines.join(""), { mode: 0o640 });
  renameSync(`${file}.new`, file);
}
