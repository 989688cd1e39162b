/** `vmq-admin bridge ...` */
import type { PluginContext } from "../../core/plugin-api.ts";
import type { Bridge } from "./bridge.ts";
import type { Fleet } from "./fleet.ts";

type Args = ReadonlyMap<string, string>;

const HEAD = [
  "name",
  "endpoint",
  "buffer size",
  "buffer max",
  "buffer dropped msgs",
  "MQTT process mailbox len",
  "state",
  "unacknowledged",
  "round trip ms",
  "remark",
];

export function addCommands(context: PluginContext, fleet: Fleet): void {
  context.command({
    path: ["bridge", "show"],
    usage: "bridge show [--name=NAME]",
    help: "all bridges: where to, what waits, what was lost, how they are",
    run: (args) => ({ columns: HEAD, rows: chosen(fleet, args).map(rowOf) }),
  });
  context.command({
    path: ["bridge", "start"],
    usage: "bridge start [--name=NAME]",
    help: "starts a bridge that was stopped; without a name restarts all of them",
    run: (args) => {
      const bridges = chosen(fleet, args);
      if (!args.has("name")) return restart(bridges);
      for (const bridge of bridges) bridge.start();
      return "Done";
    },
  });
  context.command({
    path: ["bridge", "stop"],
    usage: "bridge stop [--name=NAME]",
    help: "disconnects; messages wait in the bridge's queue, as far as it may hold them",
    run: (args) => {
      for (const bridge of chosen(fleet, args)) bridge.stop();
      return "Done";
    },
  });
  context.command({
    path: ["bridge", "restart"],
    usage: "bridge restart [--name=NAME]",
    help: "disconnects and connects again",
    run: (args) => restart(chosen(fleet, args)),
  });
  context.command({
    path: ["bridge", "set"],
    usage: "bridge set tcp.NAME=HOST:PORT [tcp.NAME.KEY=VALUE ...]",
    args: [],
    anyArgs: "tcp.NAME=HOST:PORT tcp.NAME.KEY=VALUE ...",
    help: "adds or changes bridges until the next restart; only those restart that are changed",
    run: (args) => {
      if (args.size === 0)
        throw new Error("bridge set needs tcp.NAME=HOST:PORT or tcp.NAME.KEY=VALUE");
      fleet.change(new Map([...args].map(([key, text]) => [fullKey(key), text])));
      return "Done";
    },
  });
  context.command({
    path: ["bridge", "remove"],
    usage: "bridge remove --name=NAME",
    help: "disconnects a bridge and removes it with its queue, until the next restart",
    run: (args) => {
      if (!args.has("name")) throw new Error("bridge remove needs --name=NAME");
      const heads = chosen(fleet, args).map(
        ({ settings: { transport, name } }) => `vmq_bridge.${transport}.${name}`,
      );
      fleet.change(new Map(heads.map((head) => [head, undefined])));
      return "Done";
    },
  });
}

function restart(bridges: readonly Bridge[]): string {
  for (const bridge of bridges) {
    bridge.stop();
    bridge.start();
  }
  return "VerneMQ Bridges restarted.";
}

function chosen(fleet: Fleet, args: Args): Bridge[] {
  const name = args.get("name");
  if (name === undefined) return fleet.bridges();
  const found = fleet.find(name);
  if (found.length > 0) return found;
  const known = fleet.bridges().map(({ settings }) => settings.name);
  throw new Error(`there is no bridge ${name}, only: ${known.join(", ") || "none"}`);
}

function fullKey(key: string): string {
  const full = key.startsWith("vmq_bridge.") ? key : `vmq_bridge.${key}`;
  if (/^vmq_bridge\.(tcp|ssl)\.[^.]+/.test(full)) return full;
  throw new Error(`${key}: a bridge is tcp.NAME or ssl.NAME`);
}

/** VerneMQ's columns, then ours. A bridge that is stopped has no numbers. */
function rowOf(bridge: Bridge): (string | number)[] {
  const { settings, state, lastError, refused, roundTripMs } = bridge;
  const isStopped = state === "stopped";
  const number = (value: number): string | number => (isStopped ? "-" : value);
  const remarks = [
    ...(state === "connected" || isStopped ? [] : lastError === "" ? [] : [lastError]),
    ...(refused.length === 0 ? [] : [`refused: ${refused.join(" ")}`]),
    ...(settings.skipped.length === 0 ? [] : [`${settings.skipped.length} rules skipped`]),
  ];
  return [
    settings.name,
    settings.endpoint,
    number(bridge.queued),
    number(settings.bufferMax),
    number(bridge.dropped),
    // Erlang's mailbox: here nothing waits between the queue and the connection.
    number(0),
    state,
    number(bridge.inflight),
    roundTripMs === undefined || state !== "connected" ? "-" : roundTripMs.toFixed(1),
    remarks.join("; "),
  ];
}
