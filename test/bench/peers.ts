// The brokers that are compared: how each is started afresh, where it keeps its files, how it ends.
import { execFileSync } from "node:child_process";
import { existsSync, readFileSync, rmSync } from "node:fs";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { sleep } from "./load/clock.ts";
import { type Child, freePort, repositoryRoot, startChild } from "./process.ts";

/** How long a broker may take until its port accepts. */
const START_MS = 15_000;

/** Brokers that can be measured; `nautilus` is ours, `mosquitto` the reference. */
export const PEER_NAMES = ["nautilus", "mosquitto", "aedes"] as const;
export type PeerName = (typeof PEER_NAMES)[number];

/** A broker that runs now. */
export interface Peer {
  readonly name: PeerName;
  readonly pid: number;
  readonly port: number;
  /** The last lines it printed. */
  readonly output: () => string;
  /** Ends the process by its id and removes its folder. */
  stop(): Promise<void>;
}

interface Kind {
  /** Version, or why it cannot be run here. */
  probe(): { readonly version: string } | { readonly missing: string };
  /** The command to run. `isDurable`: sessions must survive a restart, where the broker can. */
  command(at: PlaceOf): Promise<string[]>;
}

/** Where a broker runs. */
interface PlaceOf {
  readonly port: number;
  readonly folder: string;
  readonly isDurable: boolean;
  /** More lines of the broker's configuration. */
  readonly settings: readonly string[];
}

const root = repositoryRoot();
const dist = join(root, "dist");

const KINDS: Readonly<Record<PeerName, Kind>> = {
  nautilus: {
    probe: () =>
      existsSync(join(dist, "core/main.js"))
        ? { version: packageVersion(join(root, "package.json")) }
        : { missing: "dist/core/main.js is not built" },
    command: nautilusCommand,
  },
  mosquitto: { probe: probeMosquitto, command: mosquittoCommand },
  aedes: {
    probe: () =>
      existsSync(join(root, "node_modules/aedes/package.json"))
        ? { version: packageVersion(join(root, "node_modules/aedes/package.json")) }
        : { missing: "the npm package aedes is not installed" },
    command: async ({ port }) => [
      process.execPath,
      join(dist, "test/bench/aedes-peer.js"),
      String(port),
    ],
  },
};

const folders = new Set<string>();
process.on("exit", () => {
  for (const folder of folders) rmSync(folder, { recursive: true, force: true });
});

/** The version of a broker, or why it is not there. */
export function probePeer(name: PeerName): ReturnType<Kind["probe"]> {
  return KINDS[name].probe();
}

/** Starts a broker on a free loopback port in a folder of its own; resolves when it accepts. */
export async function startPeer(
  name: PeerName,
  isDurable = false,
  settings: readonly string[] = [],
): Promise<Peer> {
  const folder = await mkdtemp(join(tmpdir(), `bench-${name}-`));
  folders.add(folder);
  const port = await freePort();
  const child = startChild(await KINDS[name].command({ port, folder, isDurable, settings }));
  const stop = async () => {
    await child.stop();
    await rm(folder, { recursive: true, force: true });
    folders.delete(folder);
  };
  try {
    await untilAccepting(port, child);
  } catch (error) {
    await stop();
    throw new Error(`${name} did not start: ${mainLine(child.output())}`, { cause: error });
  }
  return { name, pid: child.pid, port, output: child.output, stop };
}

async function untilAccepting(port: number, child: Child): Promise<void> {
  const end = Date.now() + START_MS;
  while (Date.now() < end && !child.hasEnded()) {
    if (await accepts(port)) return;
    await sleep(20);
  }
  throw new Error(child.hasEnded() ? "it ended" : `nothing accepts on port ${port}`);
}

/** The line that says most: the first with "error" in it, or the last. */
function mainLine(output: string): string {
  const lines = output.trim().split("\n");
  return (lines.find((line) => /error/i.test(line)) ?? lines.at(-1) ?? "").trim().slice(0, 300);
}

function accepts(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ port, host: "127.0.0.1" });
    socket.once("connect", () => resolve(true));
    socket.once("error", () => resolve(false));
    socket.once("connect", () => socket.destroy());
  });
}

async function nautilusCommand(at: PlaceOf): Promise<string[]> {
  const config = join(at.folder, "vernemq.conf");
  const lines = [
    "allow_anonymous = on",
    `listener.tcp.default = 127.0.0.1:${at.port}`,
    "listener.max_connections = infinity",
    "max_inflight_messages = 0",
    "max_online_messages = -1",
    "max_offline_messages = -1",
    ...at.settings,
  ];
  await writeFile(config, `${lines.join("\n")}\n`);
  const data = join(at.folder, "data");
  const main = join(dist, "core/main.js");
  return [process.execPath, main, "console", "--config", config, "--data-dir", data];
}

async function mosquittoCommand(at: PlaceOf): Promise<string[]> {
  const config = join(at.folder, "mosquitto.conf");
  const lines = [
    `listener ${at.port} 127.0.0.1`,
    "allow_anonymous true",
    "max_queued_messages 0",
    "max_inflight_messages 0",
    "set_tcp_nodelay true",
    "log_dest stderr",
    "log_type error",
    // root would give up its rights and then could not read the folder
    ...(process.getuid?.() === 0 ? ["user root"] : []),
    ...(at.isDurable ? ["persistence true", `persistence_location ${at.folder}/`] : []),
    ...at.settings,
  ];
  await writeFile(config, `${lines.join("\n")}\n`);
  return [mosquittoPath(), "-c", config];
}

/** Debian puts it where the PATH of users does not look. */
function mosquittoPath(): string {
  return existsSync("/usr/sbin/mosquitto") ? "/usr/sbin/mosquitto" : "mosquitto";
}

function probeMosquitto(): ReturnType<Kind["probe"]> {
  let help: string;
  try {
    // its help ends with status 3 up to 2.0
    help = execFileSync("sh", ["-c", '"$0" -h || true', mosquittoPath()], {
      encoding: "utf8",
      stdio: ["ignore", "pipe", "ignore"],
    });
  } catch {
    help = "";
  }
  const version = /mosquitto version (\S+)/.exec(help)?.[1];
  return version === undefined
    ? { missing: "the package mosquitto is not installed" }
    : { version };
}

function packageVersion(path: string): string {
  const { version } = JSON.parse(readFileSync(path, "utf8")) as { version: string };
  return version;
}
