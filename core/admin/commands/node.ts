import { type Command, isPositiveInt, type Parameter } from "../command.ts";
import { alert, DONE, table, text } from "../elements.ts";
import { isMqtt } from "../listener-control.ts";
import { aggregate, collectSeries } from "../metrics.ts";
import type { AdminTarget } from "../target.ts";

const ALONE = "this node is alone: clustering is not supported yet";

const LEAVE_FLAGS: readonly Parameter[] = [
  { name: "kill_sessions", short: "k", help: "ends sessions and moves their queues" },
  {
    name: "summary-interval",
    short: "i",
    value: "Seconds",
    help: "time between lines about the progress",
    isValid: isPositiveInt,
  },
  {
    name: "timeout",
    short: "t",
    value: "Seconds",
    help: "how long sessions may take to go",
    isValid: isPositiveInt,
  },
];

/** `vmq-admin ping`, `version`, `node ...` and `cluster ...` */
export function nodeCommands(target: AdminTarget): Command[] {
  const { core, listeners, version } = target;
  return [
    { path: ["ping"], help: "answers pong", run: () => [text("pong")] },
    { path: ["version"], help: "shows the version of the broker", run: () => [text(version)] },
    {
      path: ["node", "status"],
      help: "shows numbers of this node",
      run: () => [table(["Status", "Value"], statusRows(target))],
    },
    {
      path: ["node", "stop"],
      help: "ends all sessions and accepts no new ones; the process stays",
      run: async () => {
        for (const listener of listeners.all()) {
          if (isMqtt(listener.settings)) await listeners.stop(listener, false);
        }
        for (const session of [...core.manager.sessions()]) {
          session.end({ code: 0x8b, reason: "node_stopped", publishWill: true });
        }
        return DONE;
      },
    },
    {
      path: ["node", "start"],
      help: "accepts clients again after a stop",
      run: async () => {
        for (const listener of listeners.all()) await listeners.restart(listener);
        return DONE;
      },
    },
    {
      path: ["node", "history"],
      help: "tells of VerneMQ's metadata store, which this broker does not have",
      run: () => [text("not_swc")],
    },
    {
      path: ["node", "swc_sync_status"],
      help: "shows partitions of VerneMQ's metadata store: none here",
      run: () => [table(["SWC Partition", "InitSynced"], [])],
    },
    {
      path: ["node", "flag_as_init_synced"],
      help: "accepted, without effect: there is no metadata store to mark",
      run: () => DONE,
    },
    {
      path: ["node", "upgrade"],
      help: "says how this broker is upgraded",
      flags: [
        { name: "upgrade-now", help: "accepted, without effect" },
        { name: "instruction-file", value: "File", help: "accepted, without effect" },
      ],
      run: () => [
        text("Code is not replaced while it runs: install the new version and restart the broker."),
      ],
    },
    {
      path: ["cluster", "show"],
      help: "shows the nodes of the cluster",
      run: () => [
        table(
          ["Node", "Running"],
          core.cluster.members().map(({ name, running }) => [name, running]),
        ),
      ],
    },
    {
      path: ["cluster", "join"],
      help: "joins a cluster",
      args: [{ name: "discovery-node", value: "Node", help: "a member of the cluster" }],
      run: ({ args }) => [
        alert(
          args.has("discovery-node")
            ? ALONE
            : "You have to provide a discovery node (example discovery-node=vernemq1@127.0.0.1)",
        ),
      ],
    },
    {
      path: ["cluster", "leave"],
      help: "leaves the cluster",
      args: [{ name: "node", value: "Node", help: "the member that leaves" }],
      flags: LEAVE_FLAGS,
      run: ({ args }) => [alert(args.has("node") ? ALONE : "You have to provide a node")],
    },
  ];
}

function statusRows(target: AdminTarget): (readonly [string, number | string])[] {
  const metrics = aggregate(collectSeries(target.metricSources()));
  const of = (name: string): number => metrics.get(name) ?? 0;
  const online = of("total_active_connections");
  return [
    ["num_online", online],
    ["num_offline", of("queue_processes") - online],
    ["msg_in", of("mqtt_publish_received")],
    ["msg_out", of("mqtt_publish_sent")],
    ["queue_in", of("queue_message_in")],
    ["queue_out", of("queue_message_out")],
    ["queue_drop", of("queue_message_drop")],
    ["queue_unhandled", of("queue_message_unhandled")],
    ["num_subscriptions", of("router_subscriptions")],
    ["num_retained", of("retain_messages")],
    ["matches_local", of("router_matches_local")],
    ["matches_remote", of("router_matches_remote")],
    ["version", target.version],
  ];
}
