import type { Broker, SessionInfo } from "../broker-types.ts";
import { type AdminTarget, type Command, table, UsageError } from "./command.ts";
import { PLUGIN_COMMANDS } from "./plugin-commands.ts";

export interface Answer {
  readonly exit: number;
  readonly stdout: string;
  readonly stderr: string;
}

const COMMANDS: readonly Command[] = [
  {
    path: ["ping"],
    usage: "ping",
    help: "answers pong",
    run: () => "pong\n",
  },
  {
    path: ["session", "show"],
    usage: "session show [--limit=N] [--is_online=true|false] [--client_id=ID]",
    help: "clients and their queues",
    run: (target, args) => showSessions(target, args),
  },
  {
    path: ["session", "disconnect"],
    usage: "session disconnect client-id=ID [--mountpoint=MP] [--cleanup]",
    help: "ends a client's session; with --cleanup its state too",
    run: (target, args) => {
      const clientId = required(args, "client-id");
      const done = target.disconnectClient(clientId, {
        mountpoint: args.get("mountpoint") ?? "",
        cleanup: args.has("cleanup") || args.has("c"),
      });
      if (!done) throw new UsageError(`no session of client ${clientId}`);
      return "Done\n";
    },
  },
  {
    path: ["session", "reauthorize"],
    usage: "session reauthorize username=U client-id=ID [--mountpoint=MP]",
    help: "asks the subscribe hooks again for every subscription of a client",
    run: async (target, args) => {
      const { removed, added } = await target.reauthorize(required(args, "client-id"), {
        mountpoint: args.get("mountpoint") ?? "",
        ...(args.has("username") ? { username: args.get("username") ?? "" } : {}),
      });
      if (removed.length === 0 && added.length === 0) return "Unchanged\n";
      return `removed: ${removed.join(", ")}\nadded: ${added.join(", ")}\n`;
    },
  },
  {
    path: ["retain", "show"],
    usage: "retain show [--mountpoint=MP] [--limit=N]",
    help: "topics with a retained message",
    run: (target, args) => {
      const rows = target
        .retained(args.get("mountpoint") ?? "")
        .slice(0, limitOf(args))
        .map(({ topic, qos, payload }) => [topic, String(qos), String(payload.length)]);
      return table(["topic", "qos", "bytes"], rows);
    },
  },
  {
    path: ["retain", "delete"],
    usage: "retain delete --topic=TOPIC [--mountpoint=MP]",
    help: "deletes a retained message",
    run: (target, args) => {
      target.deleteRetained(required(args, "topic"), args.get("mountpoint") ?? "");
      return "Done\n";
    },
  },
  {
    path: ["listener", "show"],
    usage: "listener show",
    help: "listeners and their open connections",
    run: (target) =>
      table(
        ["type", "name", "address", "port", "open_conns"],
        target
          .listenerInfo()
          .map(({ kind, name, address, port, open }) => [
            kind,
            name,
            address,
            String(port),
            String(open),
          ]),
      ),
  },
  {
    path: ["metrics", "show"],
    usage: "metrics show",
    help: "counters, one a line",
    run: (target) =>
      Object.entries(target.metrics())
        .map(([name, value]) => `${isGauge(name) ? "gauge" : "counter"}.${name} = ${value}\n`)
        .join(""),
  },
  {
    path: ["set"],
    usage: "set key=value ...",
    help: "changes live settings until the next restart",
    run: (target, args) => {
      if (args.size === 0) throw new UsageError("set needs key=value");
      for (const [key, value] of args) target.set(key, value);
      return "Done\n";
    },
  },
];

/** Runs the commands of `vmq-admin`. */
export class Admin {
  private readonly target: AdminTarget;

  constructor(target: AdminTarget) {
    this.target = target;
  }

  private ofPlugins(): Command[] {
    return this.target.plugins
      .commands()
      .map((command) => ({ ...command, run: (_, args) => command.run(args) }));
  }

  async run(words: readonly string[]): Promise<Answer> {
    const given = words.filter((word) => word !== "");
    const commands = [...COMMANDS, ...PLUGIN_COMMANDS, ...this.ofPlugins()];
    const command = commands.find(({ path }) => path.every((word, i) => given[i] === word));
    if (command === undefined) return unknown(given, commands);
    const args = parseArguments(given.slice(command.path.length));
    if (args.has("help") || args.has("h")) {
      return {
        exit: 0,
        stdout: `Usage: vmq-admin ${command.usage}\n\n  ${command.help}\n`,
        stderr: "",
      };
    }
    try {
      checkNames(command, args);
      return { exit: 0, stdout: await command.run(this.target, args), stderr: "" };
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      return { exit: 1, stdout: "", stderr: `${reason}\nUsage: vmq-admin ${command.usage}\n` };
    }
  }
}

function unknown(
  given: readonly string[],
  commands: readonly { usage: string; help: string }[],
): Answer {
  const lines = commands.map(({ usage, help }) => `  ${usage}\n      ${help}\n`).join("");
  const text = `Usage: vmq-admin <command>\n\n${lines}`;
  if (given.length === 0 || given[0] === "--help") return { exit: 0, stdout: text, stderr: "" };
  return { exit: 1, stdout: "", stderr: `unknown command: ${given.join(" ")}\n${text}` };
}

const GAUGES = /^(active_|total_active_|router_(memory|subscriptions)$|retain_|queue_processes$)/;

function isGauge(name: string): boolean {
  return GAUGES.test(name);
}

/** A misspelt option must not be taken for no option. */
function checkNames(command: Command, args: ReadonlyMap<string, string>): void {
  if (command.path.at(-1) === "set") return;
  const known = new Set(
    [...command.usage.matchAll(/(?:--)?([a-z][\w-]*)(?==|\])/g)].map((m) => m[1]),
  );
  for (const name of args.keys()) {
    const isColumn = command.path[1] === "show" && COLUMNS.includes(name);
    if (!known.has(name) && !isColumn && !(name === "c" && known.has("cleanup"))) {
      throw new UsageError(`unknown option ${name}`);
    }
  }
}

/** Columns of `session show` that may be asked for by name. */
const COLUMNS: readonly string[] = [
  "client_id",
  "is_online",
  "mountpoint",
  "peer_host",
  "peer_port",
  "user",
  "queue_size",
  "inflight",
  "protocol",
  "clean_session",
];

function parseArguments(words: readonly string[]): Map<string, string> {
  const args = new Map<string, string>();
  for (const word of words) {
    const text = word.replace(/^--?/, "");
    const at = text.indexOf("=");
    if (at < 0) args.set(text, "");
    else args.set(text.slice(0, at), text.slice(at + 1));
  }
  return args;
}

function required(args: ReadonlyMap<string, string>, name: string): string {
  const value = args.get(name);
  if (value === undefined || value === "") throw new UsageError(`${name} is missing`);
  return value;
}

function limitOf(args: ReadonlyMap<string, string>): number {
  const limit = Number(args.get("limit") ?? "100");
  if (!Number.isInteger(limit) || limit < 1)
    throw new UsageError("limit is not a positive integer");
  return limit;
}

function showSessions(target: Broker, args: ReadonlyMap<string, string>): string {
  const columns: (keyof SessionInfo)[] = [
    "client_id",
    "is_online",
    "mountpoint",
    "peer_host",
    "peer_port",
    "user",
  ];
  for (const extra of ["queue_size", "inflight", "protocol", "clean_session"] as const) {
    if (args.has(extra)) columns.push(extra);
  }
  const online = args.get("is_online");
  const clientId = args.get("client_id");
  const rows = target
    .sessions()
    .filter((session) => online === undefined || String(session.is_online) === online)
    .filter((session) => !clientId || session.client_id === clientId)
    .slice(0, limitOf(args));
  return table(
    columns,
    rows.map((session) => columns.map((column) => String(session[column] ?? ""))),
  );
}
