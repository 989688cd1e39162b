import { spawn } from "node:child_process";
import { closeSync, openSync, readFileSync, statSync } from "node:fs";
import { join, resolve } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { makeFolder } from "../folder.ts";
import type { ControlAnswer } from "./control.ts";
import { isAlive, runningPid } from "./pid-file.ts";

/** Sent over the IPC channel by a broker that is ready (what process managers wait for, too). */
export const READY = "ready";

/** VerneMQ waits as long, and lets WAIT_FOR_ERLANG (seconds) change it. */
const START_WAIT_S = 15;
/** A broker that is asked to stop flushes first; then it is reported as stuck. */
const STOP_WAIT_MS = 120_000;
const STOP_POLL_MS = 20;

/**
 * Starts `vernemq console` detached, with its lines in `<data-dir>/console.log`, and waits until it
 * is ready. Silent when that works; otherwise exit 1 with what the broker said.
 */
export async function startInBackground(
  dataDir: string,
  command: readonly string[],
  env: NodeJS.ProcessEnv,
): Promise<ControlAnswer> {
  const log = join(resolve(dataDir), "console.log");
  makeFolder(resolve(dataDir), 0o750);
  const offset = statSync(log, { throwIfNoEntry: false })?.size ?? 0;
  const output = openSync(log, "a", 0o640);
  const child = spawn(process.execPath, [...process.execArgv, ...command], {
    detached: true,
    stdio: ["ignore", output, output, "ipc"],
    env,
  });
  closeSync(output);
  const waitMs = 1000 * (Number(env.WAIT_FOR_ERLANG) || START_WAIT_S);
  const outcome = await new Promise<"ready" | "ended" | "slow">((done) => {
    const timer = setTimeout(() => done("slow"), waitMs);
    child.on("message", (message) => {
      if (message !== READY) return;
      clearTimeout(timer);
      done("ready");
    });
    child.once("error", () => done("ended"));
    child.once("exit", () => {
      clearTimeout(timer);
      done("ended");
    });
  });
  if (child.connected) child.disconnect();
  child.unref();
  if (outcome === "ready") return { exit: 0, stdout: "", stderr: "" };
  const said = readFileSync(log).subarray(offset).toString("utf8");
  const slow = `the broker did not get ready within ${waitMs / 1000} s, see ${log}\n`;
  return { exit: 1, stdout: "", stderr: outcome === "slow" ? `${said}${slow}` : said };
}

/** Asks the broker of a data directory to end and waits until it did. */
export async function stopBroker(dataDir: string): Promise<ControlAnswer> {
  const pid = runningPid(dataDir);
  if (pid === undefined) return { exit: 1, stdout: "", stderr: "Node is not running\n" };
  process.kill(pid, "SIGTERM");
  const deadline = Date.now() + STOP_WAIT_MS;
  while (isAlive(pid)) {
    if (Date.now() > deadline) {
      return { exit: 1, stdout: "", stderr: `process ${pid} does not end\n` };
    }
    await delay(STOP_POLL_MS);
  }
  return { exit: 0, stdout: "ok\n", stderr: "" };
}
