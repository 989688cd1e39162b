import { mkdirSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { connectAsync, type IClientOptions, type MqttClient } from "mqtt";
import type { Plugin } from "../../core/hooks/types.ts";
import { type Broker, createBroker } from "../../core/index.ts";
import diversity from "../../plugins/vmq_diversity/index.ts";
import { tempDir } from "./broker.ts";
import { built } from "./build.ts";
import { atEnd, type Scope } from "./cleanup.ts";

export interface LuaOptions {
  /** Files of the script folder by name. */
  readonly scripts?: Readonly<Record<string, string>>;
  readonly settings?: Readonly<Record<string, string>>;
  /** Plugins beside vmq_diversity. */
  readonly plugins?: readonly Plugin[];
  readonly scope?: Scope;
}

export interface LuaBroker {
  readonly broker: Broker;
  readonly port: number;
  /** The script folder. */
  readonly folder: string;
  /** Writes a file below the script folder. */
  write(name: string, text: string): string;
  /** Connects; rejects when the broker refuses. */
  connect(options?: IClientOptions): Promise<MqttClient>;
  /** Answer of `vmq-admin script ...`. */
  script(
    command: string,
    ...args: string[]
  ): Promise<{ exit: number; stdout: string; stderr: string }>;
}

/** A broker in the test's process that runs Lua scripts, refusing what no script allows. */
export async function startLua(options: LuaOptions = {}): Promise<LuaBroker> {
  await built();
  const { scope = "test" } = options;
  const folder = tempDir(scope);
  const write = (name: string, text: string): string => {
    const path = join(folder, name);
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(path, text);
    return path;
  };
  for (const [name, text] of Object.entries(options.scripts ?? {})) write(name, text);
  const broker = await createBroker({
    logLevel: "silent",
    plugins: [diversity, ...(options.plugins ?? [])],
    settings: {
      "listener.tcp.default": "127.0.0.1:0",
      allow_anonymous: "off",
      systree_enabled: "off",
      "vmq_diversity.script_dir": folder,
      ...options.settings,
    },
  });
  atEnd(() => broker.close(), scope);
  const port = broker.port();
  return {
    broker,
    port,
    folder,
    write,
    connect: async (given = {}) => {
      const url = `mqtt://127.0.0.1:${port}`;
      const client = await connectAsync(url, { reconnectPeriod: 0, ...given }, false);
      client.on("error", () => undefined);
      atEnd(() => client.endAsync(true), scope);
      return client;
    },
    script: (command, ...args) => broker.control("script", [...command.split(" "), ...args]),
  };
}

/** The code with which the broker refused a connection. */
export async function refusalOf(connecting: Promise<unknown>): Promise<number> {
  try {
    await connecting;
  } catch (error) {
    return (error as { code: number }).code;
  }
  throw new Error("the client was accepted");
}
