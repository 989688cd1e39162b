import { type ChildProcess, spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { freePort, tempDir } from "./broker.ts";
import { built } from "./build.ts";
import { atEnd, type Scope } from "./cleanup.ts";

/** A broker is up long before; a machine under load may take its time. */
const START_WAIT_MS = 20_000;
const STOP_WAIT_MS = 20_000;

export interface ProcessOptions {
  settings?: Readonly<Record<string, string>>;
  /** Default: a new folder that is removed at the end. */
  dataDir?: string;
  scope?: Scope;
  env?: NodeJS.ProcessEnv;
  /** Flags of node itself, such as `--max-old-space-size=256`. */
  nodeFlags?: string[];
}

/** `node dist/core/main.js console` as a child; the same object survives kill and restart. */
export class BrokerProcess {
  readonly port: number;
  readonly dataDir: string;
  /** What the broker wrote to stdout and stderr, over all its lives. */
  output = "";
  private readonly options: ProcessOptions;
  private readonly main: string;
  private child: ChildProcess | undefined;
  private ended: Promise<number | null> = Promise.resolve(null);

  constructor(options: ProcessOptions, main: string, port: number, dataDir: string) {
    this.options = options;
    this.main = main;
    this.port = port;
    this.dataDir = dataDir;
  }

  get pid(): number {
    const pid = this.child?.pid;
    if (pid === undefined) throw new Error("the broker does not run");
    return pid;
  }

  /** Resident memory of the broker in bytes. */
  rssBytes(): number {
    const found = /^VmRSS:\s+(\d+) kB/m.exec(readFileSync(`/proc/${this.pid}/status`, "utf8"));
    return Number(found?.[1] ?? 0) * 1024;
  }

  /** Starts it and waits until it says that it is ready. */
  async start(): Promise<void> {
    const settings = {
      "listener.tcp.default": `127.0.0.1:${this.port}`,
      allow_anonymous: "on",
      "log.console.level": "warning",
      ...this.options.settings,
    };
    const sets = Object.entries(settings).flatMap(([key, value]) => ["--set", `${key}=${value}`]);
    const child = spawn(
      process.execPath,
      [
        ...(this.options.nodeFlags ?? []),
        this.main,
        "console",
        "--data-dir",
        this.dataDir,
        ...sets,
      ],
      {
        stdio: ["ignore", "pipe", "pipe", "ipc"],
        cwd: this.dataDir,
        env: { ...process.env, ...this.options.env },
      },
    );
    this.child = child;
    for (const stream of [child.stdout, child.stderr]) {
      stream?.on("data", (data: Buffer) => {
        this.output += data.toString();
      });
    }
    this.ended = new Promise((resolve) => {
      child.once("error", () => resolve(null));
      child.once("exit", (code) => resolve(code));
    });
    await this.ready(child);
  }

  /** kill -9. */
  async kill(): Promise<void> {
    this.child?.kill("SIGKILL");
    await this.ended;
  }

  /** SIGTERM; gives the exit code. */
  async stop(): Promise<number | null> {
    this.child?.kill("SIGTERM");
    const timer = setTimeout(() => this.child?.kill("SIGKILL"), STOP_WAIT_MS);
    const code = await this.ended;
    clearTimeout(timer);
    return code;
  }

  private ready(child: ChildProcess): Promise<void> {
    return new Promise((resolve, reject) => {
      const timer = setTimeout(
        () => reject(new Error(`the broker is not ready after 20 s:\n${this.output}`)),
        START_WAIT_MS,
      );
      child.on("message", (message) => {
        if (message !== "ready") return;
        clearTimeout(timer);
        resolve();
      });
      void this.ended.then((code) => {
        clearTimeout(timer);
        reject(new Error(`the broker ended with ${code} before it was ready:\n${this.output}`));
      });
    });
  }
}

/** Builds if need be, starts the real broker process on a free port and stops it at the end. */
export async function startProcess(options: ProcessOptions = {}): Promise<BrokerProcess> {
  const main = await built();
  const dataDir = options.dataDir ?? tempDir(options.scope);
  const broker = new BrokerProcess(options, main, await freePort(), dataDir);
  atEnd(() => broker.kill(), options.scope);
  await broker.start();
  return broker;
}
