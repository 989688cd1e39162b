import type { Command } from "../command.ts";
import { completionScript } from "../completion.ts";
import { text } from "../elements.ts";

/** `vmq-admin completion ...` */
export function completionCommands(): Command[] {
  return ["bash", "zsh"].map((shell) => ({
    path: ["completion", shell],
    help: `prints what completes commands in ${shell}`,
    details: `source <(vmq-admin completion ${shell})`,
    run: () => [text(completionScript(shell) ?? "")],
  }));
}
