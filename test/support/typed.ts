import { type ChildProcess, spawn } from "node:child_process";
import { expect } from "vitest";
import { waitFor } from "./broker.ts";
import { atEnd } from "./cleanup.ts";

/** Pages of the documentation, typed as they stand. */

/** The blocks of a Markdown text that are to be typed. */
export function shellBlocks(markdown: string): string[] {
  return [...markdown.matchAll(/```sh\n(.*?)```/gs)].map(([, block = ""]) => block);
}

export type Shell = ChildProcess & { output: string };

/** Runs a script until it ends or the test does. */
export function shell(script: string, folder: string): Shell {
  const child = spawn("bash", ["-e", "-c", script], { cwd: folder, detached: true });
  const all = Object.assign(child, { output: "" });
  for (const stream of [child.stdout, child.stderr]) {
    stream.on("data", (text: Buffer) => {
      all.output += text.toString();
    });
  }
  atEnd(() => {
    if (child.exitCode !== null || child.pid === undefined) return;
    process.kill(-child.pid, "SIGTERM");
  });
  return all;
}

/** Runs a script that must succeed; gives what it printed. */
export async function finished(script: string, folder: string): Promise<string> {
  const child = shell(script, folder);
  const status = await new Promise<number | null>((resolve) => child.once("close", resolve));
  expect([status, child.output]).toEqual([0, child.output]);
  return child.output;
}

/** Runs a script that starts a broker, and waits until that listens. */
export async function brokerShell(script: string, folder: string): Promise<Shell> {
  const running = shell(script, folder);
  const listens = (): boolean => {
    if (running.exitCode !== null) throw new Error(running.output);
    return running.output.includes("listener started");
  };
  await waitFor(`the broker runs: ${script}`, listens, 30_000);
  return running;
}
