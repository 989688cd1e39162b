// Child processes of the bench: started with many open files, ended by their own id.
import { type ChildProcess, spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { createServer } from "node:net";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

/** What is kept of a child's output for error messages. */
const OUTPUT_CHARS_MAX = 4000;
const STOP_MS = 5000;

// 65536 descriptors are enough for every row; without the right to raise it, take what is allowed
const WITH_OPEN_FILES =
  'ulimit -n 65536 2>/dev/null || ulimit -n "$(ulimit -Hn)" 2>/dev/null; exec "$0" "$@"';

const running = new Set<ChildProcess>();
process.on("exit", () => {
  for (const child of running) child.kill("SIGKILL");
});

/** A started process, its id and what it said last. */
export interface Child {
  readonly pid: number;
  readonly hasEnded: () => boolean;
  readonly output: () => string;
  /** SIGTERM, then SIGKILL after 5 s; resolves when it is gone. */
  stop(): Promise<void>;
}

/** Starts a program that runs until it is stopped. */
export function startChild(command: readonly string[]): Child {
  const child = spawn("sh", ["-c", WITH_OPEN_FILES, ...command], {
    stdio: ["ignore", "pipe", "pipe"],
  });
  running.add(child);
  let output = "";
  const keep = (chunk: Buffer) => {
    output = (output + chunk.toString()).slice(-OUTPUT_CHARS_MAX);
  };
  child.stdout.on("data", keep);
  child.stderr.on("data", keep);
  child.on("error", (error) => keep(Buffer.from(error.message)));
  const ended = new Promise<void>((resolve) => child.once("close", () => resolve()));
  child.once("close", () => running.delete(child));
  const hasEnded = () => child.exitCode !== null || child.signalCode !== null;
  const stop = async () => {
    if (!hasEnded()) child.kill("SIGTERM");
    const killer = setTimeout(() => child.kill("SIGKILL"), STOP_MS);
    await ended;
    clearTimeout(killer);
  };
  return { pid: child.pid ?? 0, hasEnded, output: () => output, stop };
}

/** What a finished program said. */
export interface Finished {
  readonly status: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs a program to its end, at most for `timeoutMs`; status -1 when it was killed. */
export async function runToEnd(command: readonly string[], timeoutMs: number): Promise<Finished> {
  const child = spawn("sh", ["-c", WITH_OPEN_FILES, ...command], {
    stdio: ["ignore", "pipe", "pipe"],
  });
  running.add(child);
  const killer = setTimeout(() => child.kill("SIGKILL"), timeoutMs);
  let stdout = "";
  let stderr = "";
  child.stdout.on("data", (chunk: Buffer) => {
    stdout = (stdout + chunk.toString()).slice(-OUTPUT_CHARS_MAX * 4);
  });
  child.stderr.on("data", (chunk: Buffer) => {
    stderr = (stderr + chunk.toString()).slice(-OUTPUT_CHARS_MAX);
  });
  const status = await new Promise<number>((resolve) => {
    child.once("error", () => resolve(-1));
    child.once("close", (code) => resolve(code ?? -1));
  });
  clearTimeout(killer);
  running.delete(child);
  return { status, stdout, stderr };
}

/** A TCP port of the loopback address that nobody listens on. */
export function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once("error", reject);
    server.listen(0, "127.0.0.1", () => {
      const address = server.address();
      server.close(() =>
        resolve(address !== null && typeof address === "object" ? address.port : 0),
      );
    });
  });
}

/** The repository: where package.json is, above the compiled or the source file. */
export function repositoryRoot(): string {
  let folder = dirname(fileURLToPath(import.meta.url));
  while (!existsSync(join(folder, "package.json")) && folder !== dirname(folder))
    folder = dirname(folder);
  return folder;
}
