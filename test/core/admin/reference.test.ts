import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, it } from "vitest";
import type { Command } from "../../../core/admin/command.ts";
import { commandRegistry } from "../../../core/admin/commands.ts";
import { commandReference } from "../../../core/admin/reference.ts";
import type { AdminTarget } from "../../../core/admin/target.ts";
import { startBroker, tempDir } from "../../support/broker.ts";

const FILE = new URL("../../../core/admin/COMMANDS.md", import.meta.url);

/** Every command, those of bundled plugins, too. */
async function allCommands(): Promise<Command[]> {
  const broker = await startBroker({
    "plugins.vmq_diversity": "on",
    "plugins.vmq_acl": "on",
    "plugins.vmq_webhooks": "on",
    "plugins.vmq_bridge": "on",
    "vmq_diversity.script_dir": tempDir(),
  });
  // The table is only read here, nothing of it runs.
  const anything: unknown = new Proxy(() => undefined, { get: () => anything });
  const target = new Proxy(
    { broker },
    { get: (own, name) => (name === "broker" ? own.broker : anything) },
  );
  return commandRegistry(target as unknown as AdminTarget).commands();
}

it("COMMANDS.md is what the table of commands says", async () => {
  const made = commandReference(await allCommands());
  if (process.env.UPDATE_REFERENCE === "1") writeFileSync(FILE, made);
  expect(readFileSync(FILE, "utf8")).toBe(made);
});

it("every command has a line of help, and names that can be typed", async () => {
  for (const { path, help, args = [], flags = [] } of await allCommands()) {
    expect(help, path.join(" ")).not.toBe("");
    for (const parameter of [...args, ...flags]) {
      expect(parameter.name, join(...path)).toMatch(/^[a-z][\w-]*$/);
    }
  }
});
