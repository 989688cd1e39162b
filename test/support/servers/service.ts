import { type ChildProcess, execFileSync, spawn, spawnSync } from "node:child_process";
import { chownSync, existsSync, mkdtempSync, readdirSync, rmSync } from "node:fs";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { freePort, waitFor } from "../broker.ts";
import { atEnd, type Scope } from "../cleanup.ts";
import { missing } from "../tools.ts";

const START_MS = 60_000;

/** A database server of a test: on a port of its own, with a folder of its own. */
export interface Service {
  readonly port: number;
  readonly folder: string;
  /** Ends the server at once, as a crash does. */
  stop(): Promise<void>;
  /** Lets the server hang: connections stay, nothing is answered. `stop` ends it all the same. */
  pause(): void;
  resume(): void;
  /** Starts it again on the same port with the same data. */
  start(): Promise<void>;
}

export interface ServiceOptions {
  /** Debian's package, or what else is needed. */
  readonly package: string;
  /** Where the command may be, beside PATH. */
  readonly command: string;
  /** Servers that refuse to run as root run as this user of Debian's. */
  readonly user?: string;
  readonly scope: Scope;
  /** Once, before the first start. */
  prepare?(folder: string, run: (command: string, args: readonly string[]) => void): void;
  arguments(port: number, folder: string): readonly string[];
}

const PLACES = ["/usr/sbin", "/usr/bin", "/usr/local/bin", ...postgresPlaces()];

function postgresPlaces(): string[] {
  const base = "/usr/lib/postgresql";
  if (!existsSync(base)) return [];
  return readdirSync(base).map((version) => join(base, version, "bin"));
}

/** Full path of a command; undefined when its package is not installed. */
export function commandPath(name: string): string | undefined {
  if (name.startsWith("/")) return existsSync(name) ? name : undefined;
  return PLACES.map((place) => join(place, name)).find((path) => existsSync(path));
}

/** True when a server can be started; else says which package has it (see tools.ts). */
export function hasCommand(name: string, debianPackage: string): boolean {
  return commandPath(name) !== undefined || missing(name, `apt-get install ${debianPackage}`);
}

/** Starts a server and waits until it accepts connections. */
export async function startService(options: ServiceOptions): Promise<Service> {
  const path = commandPath(options.command);
  if (path === undefined) throw new Error(`${options.command}: apt-get install ${options.package}`);
  const folder = mkdtempSync(join(tmpdir(), "nautilus-db-"));
  atEnd(() => rmSync(folder, { recursive: true, force: true, maxRetries: 10 }), options.scope);
  const isRoot = process.getuid?.() === 0;
  const who = isRoot && options.user !== undefined ? idsOf(options.user) : {};
  if (who.uid !== undefined) chownSync(folder, who.uid, who.gid ?? 0);
  options.prepare?.(folder, (command, args) => {
    const file = commandPath(command) ?? command;
    const { status, stderr, stdout } = spawnSync(file, args, {
      ...who,
      cwd: folder,
      encoding: "utf8",
    });
    if (status !== 0) throw new Error(`${command} ended with ${status}: ${stdout}${stderr}`);
  });
  const port = await freePort();
  let child: ChildProcess | undefined;
  const service: Service = {
    port,
    folder,
    start: async () => {
      const started = spawn(path, options.arguments(port, folder), {
        ...who,
        cwd: folder,
        stdio: ["pipe", "ignore", "pipe"],
      });
      child = started;
      let output = "";
      started.stderr.on("data", (text: Buffer) => {
        output = (output + text.toString()).slice(-4000);
      });
      const hasStarted = (): Promise<boolean> => {
        if (started.exitCode !== null) throw new Error(`${options.command} ended: ${output}`);
        return accepts(port);
      };
      await waitFor(`${options.command} accepts connections`, hasStarted, START_MS);
    },
    pause: () => void child?.kill("SIGSTOP"),
    resume: () => void child?.kill("SIGCONT"),
    stop: async () => {
      const running = child;
      child = undefined;
      if (running === undefined || running.exitCode !== null) return;
      const ended = new Promise((resolve) => running.once("exit", resolve));
      running.kill("SIGKILL");
      await ended;
    },
  };
  atEnd(() => service.stop(), options.scope);
  await service.start();
  return service;
}

function idsOf(user: string): { uid?: number; gid?: number } {
  const id = (flag: string): number =>
    Number(execFileSync("id", [flag, user], { encoding: "utf8" }).trim());
  return { uid: id("-u"), gid: id("-g") };
}

/** True when something listens on a loopback port. */
export function accepts(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, "127.0.0.1");
    socket.once("connect", () => {
      socket.destroy();
      resolve(true);
    });
    socket.once("error", () => resolve(false));
  });
}
